//! How names are asked for: with a search list, in both address families, and what the errors mean.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future;
use hickory_resolver::Resolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RecordType};

use super::budget::Budget;
use super::metered::{Course, Metered, refused, unless_refused};
use super::records::Records;
use super::{FAMILIES, ResolverSeen};
use crate::health::{Failure, FailureKind, Phase};

/// A query is repeated after this long without an answer, whatever `resolv.conf` says: its customary five
/// seconds would leave a check of ten no second try.
const RETRANSMIT: Duration = Duration::from_secs(2);

/// Where one family has an answer, the other is waited for this much longer: some resolvers drop questions for
/// IPv6.
const SECOND_FAMILY: Duration = Duration::from_millis(300);

/// What a name is asked for with.
pub(super) struct Lookups {
    resolver: Resolver<Metered>,
    budget: Arc<Budget>,
    servers: Vec<SocketAddr>,
    /// Servers that a question is sent to at once; others are asked where these cannot answer.
    at_once: usize,
    /// Suffixes that a short name is tried with.
    pub(super) search: Vec<Name>,
    /// A name with fewer dots than this is short.
    ndots: usize,
}

/// The name that was asked for in the end, and what was wrong with the answer.
struct Unanswered {
    name: Name,
    error: NetError,
    /// Packets that were not sent for it, because there was no room for them.
    withheld: u32,
}

impl Lookups {
    pub(super) fn new(
        config: ResolverConfig,
        options: ResolverOpts,
        budget: Arc<Budget>,
    ) -> Result<Self, Failure> {
        let sockets = Metered::new(Arc::clone(&budget));
        Self::over(sockets, config, options, budget)
    }

    /// Over sockets that are listened to closely.
    pub(super) fn closely(
        config: ResolverConfig,
        course: Arc<Course>,
        budget: Arc<Budget>,
    ) -> Result<Self, Failure> {
        let sockets = Metered::closely(Arc::clone(&budget), course);
        Self::over(sockets, config, ResolverOpts::default(), budget)
    }

    fn over(
        sockets: Metered,
        config: ResolverConfig,
        mut options: ResolverOpts,
        budget: Arc<Budget>,
    ) -> Result<Self, Failure> {
        // As libc has it, the host's own domain only stands in for a search list.
        let search = match config.search() {
            [] => config.domain().into_iter().cloned().collect(),
            search => search.to_vec(),
        };
        let ndots = options.ndots;
        let servers = config.name_servers().iter();
        // Each has the same port for UDP and TCP.
        let at = |server: &NameServerConfig| Some((server.ip, server.connections.first()?.port).into());
        let servers = servers.filter_map(at).collect();
        let at_once = config.name_servers().len().min(options.num_concurrent_reqs).max(1);
        options.cache_size = 0;
        options.timeout = options.timeout.min(RETRANSMIT);
        options.use_hosts_file = ResolveHosts::Never;
        // Some servers refuse it. What is too long without it comes over TCP.
        options.edns0 = false;
        let builder = Resolver::builder_with_config(config, sockets);
        let resolver = builder.with_options(options).build().map_err(|error| {
            Failure::new(Phase::Dns, FailureKind::Internal, format!("the resolver cannot be made: {error}"))
        })?;
        Ok(Self { resolver, budget, servers, at_once, search, ndots })
    }

    /// By what names are resolved, but for where that comes from.
    pub(super) fn seen(&self) -> ResolverSeen {
        let text = |suffix: &Name| suffix.to_string().trim_end_matches('.').to_owned();
        let search = self.search.iter().map(text).collect();
        ResolverSeen { servers: self.servers.clone(), search, ndots: self.ndots, ..ResolverSeen::default() }
    }

    /// The packets that so many questions, asked at the same time, begin with.
    pub(super) fn first_packets(&self, questions: usize) -> u32 {
        u32::try_from(questions * self.at_once).unwrap_or(u32::MAX)
    }

    /// The addresses of a name, found by the search list.
    pub(super) async fn addresses(&self, name: &str) -> Result<Records, Failure> {
        self.by_search(name, "address", FAMILIES.len(), |name| self.both_families(name)).await
    }

    /// The records of one type, found by the search list.
    pub(super) async fn records(&self, name: &str, record: RecordType) -> Result<Records, Failure> {
        self.by_search(name, &record.to_string(), 1, |name| self.records_of(name, record)).await
    }

    async fn lookup(&self, name: Name, record: RecordType) -> Result<Lookup, NetError> {
        unless_refused(self.resolver.lookup(name, record)).await
    }

    async fn records_of(&self, name: Name, record: RecordType) -> Result<Records, NetError> {
        let found = self.lookup(name, record).await?;
        Ok(Records::of(&found, |kind| kind == record))
    }

    /// Asks for a name and, where it does not exist, for the name with the suffixes of the search list, in the
    /// order of resolv.conf(5); each takes so many `questions`. A server's failure is remembered: where nothing
    /// is found after it, what is not known to be missing is not called missing.
    async fn by_search<F>(
        &self,
        name: &str,
        what: &str,
        questions: usize,
        ask: impl Fn(Name) -> F,
    ) -> Result<Records, Failure>
    where
        F: Future<Output = Result<Records, NetError>>,
    {
        let mut first: Option<Unanswered> = None;
        for candidate in self.candidates(name)? {
            let booking = self.budget.book(self.first_packets(questions)).await?;
            let error = match booking.asking(ask(candidate.clone())).await {
                Ok(found) if found.data.is_empty() => return Err(no_data(name, what)),
                Ok(found) => return Ok(Records { found_as: without_dot(name, &candidate), ..found }),
                Err(error) => error,
            };
            if let Some(refused) = refused(&error) {
                return Err(self.not_by_tcp(name, refused));
            }
            // What does not answer for one suffix does not for the next one either, and each takes seconds.
            let silent = matches!(error, NetError::Timeout);
            if booking.was_cut()
                && let Some(failure) = too_long(name, &error)
            {
                return Err(self.with_withheld(failure, booking.withheld()));
            }
            if first.as_ref().is_none_or(|first| rank(&error) > rank(&first.error)) {
                first = Some(Unanswered { name: candidate, error, withheld: booking.withheld() });
            }
            if silent {
                break;
            }
        }
        Err(match first {
            Some(Unanswered { name: asked, error, .. }) if rank(&error) == NO_DATA && what != ALIAS => {
                match self.alias(asked.clone()).await {
                    Some(target) => leads_nowhere(name, &target, what),
                    None => failure(name, &asked, what, &error),
                }
            }
            Some(Unanswered { name: asked, error: error @ NetError::Timeout, withheld }) => {
                self.with_withheld(failure(name, &asked, what, &error), withheld)
            }
            Some(Unanswered { name: asked, error, .. }) => failure(name, &asked, what, &error),
            None => Failure::new(Phase::Dns, FailureKind::Internal, format!("{name} was not asked for")),
        })
    }

    /// Adds what was not sent to what came of it.
    pub(super) fn with_withheld(&self, failure: Failure, withheld: u32) -> Failure {
        let not_sent = match withheld {
            0 => return failure,
            1 => "1 repetition was not sent".to_owned(),
            more => format!("{more} repetitions were not sent"),
        };
        let message = format!("{}; {not_sent}, because {}", failure.message, self.budget.allowed());
        Failure { message, ..failure }
    }

    /// What follows where the answer had no room in a packet, and there was no room to ask for it over TCP.
    fn not_by_tcp(&self, name: &str, refused: &Failure) -> Failure {
        let why = self.budget.allowed();
        let message =
            format!("the answer for {name} is too long for UDP, and was not asked for over TCP: {why}");
        Failure { message, ..refused.clone() }
    }

    /// What a name is an alias of, where that can be had.
    async fn alias(&self, name: Name) -> Option<Vec<String>> {
        let booking = self.budget.book(self.first_packets(1)).await.ok()?;
        let found = booking.asking(self.records_of(name, RecordType::CNAME)).await.ok()?;
        (!found.data.is_empty()).then_some(found.data)
    }

    /// What is asked for, in this order, until one exists: the name, and the name with the suffixes of the search
    /// list.
    pub(super) fn candidates(&self, name: &str) -> Result<Vec<Name>, Failure> {
        let parsed = Name::from_utf8(name).map_err(|error| {
            Failure::new(Phase::Dns, FailureKind::DnsNotFound, format!("{name} is no domain name: {error}"))
        })?;
        if parsed.is_fqdn() {
            return Ok(vec![parsed]);
        }
        let mut absolute = parsed.clone();
        absolute.set_fqdn(true);
        let mut names: Vec<Name> =
            self.search.iter().filter_map(|suffix| parsed.clone().append_domain(suffix).ok()).collect();
        let dots = usize::from(parsed.num_labels().saturating_sub(1));
        if dots >= self.ndots || parsed.is_localhost() {
            names.insert(0, absolute);
        } else {
            names.push(absolute);
        }
        Ok(names)
    }

    /// Both families at once. One that is there is enough, and the other is then not waited for long; where
    /// neither is, the worse error counts.
    async fn both_families(&self, name: Name) -> Result<Records, NetError> {
        let [v4, v6] = FAMILIES.map(|family| self.lookup(name.clone(), family));
        let (v4, v6) = (pin!(v4), pin!(v6));
        let (first, other) = future::select(v4, v6).await.factor_first();
        let found = match first {
            Ok(first) => {
                let second = tokio::time::timeout(SECOND_FAMILY, other).await.ok().and_then(Result::ok);
                vec![Some(first), second]
            }
            Err(first) => match other.await {
                Ok(second) => vec![Some(second)],
                Err(second) => return Err(if rank(&second) > rank(&first) { second } else { first }),
            },
        };
        let is_address = |kind| FAMILIES.contains(&kind);
        Ok(Records::addresses(found.iter().flatten().map(|found| Records::of(found, is_address))))
    }
}

/// A name that was asked for, as it was written where nothing was added to it.
pub(super) fn without_dot(written: &str, asked: &Name) -> String {
    let mut as_written = Name::from_utf8(written).unwrap_or_default();
    as_written.set_fqdn(true);
    if as_written == *asked {
        return written.to_owned();
    }
    let asked = asked.to_string();
    asked.strip_suffix('.').unwrap_or(&asked).to_owned()
}

/// Whether the name is there, as an alias of one that is not.
pub fn is_dangling(failure: &Failure) -> bool {
    failure.kind == FailureKind::DnsNotFound && failure.hint == DANGLING
}

/// Whether there is an answer that had no room in a packet, and that does not come over TCP.
pub fn is_too_long(failure: &Failure) -> bool {
    failure.phase == Phase::Dns && failure.hint == TOO_LONG
}

/// What to do about an answer that does not come over TCP.
const TOO_LONG: &str =
    "allow TCP, too, to port 53 of the name servers: security groups and network ACLs often allow only UDP";

/// What a record is called that makes a name an alias.
const ALIAS: &str = "CNAME";

/// The rank of a name that is there and lacks what was asked for.
const NO_DATA: u8 = 1;

/// How much an error says about the resolver rather than about the name. Of several, the highest is told: a
/// name is only called missing where every answer said so.
fn rank(error: &NetError) -> u8 {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain => 0,
            // It exists, with other records: nearer to what was meant than "does not exist".
            ResponseCode::NoError => NO_DATA,
            _ => 2,
        },
        NetError::Timeout => 3,
        error if refused(error).is_some() => 4,
        _ => 2,
    }
}

/// What an error means. `name` is what was wanted, `asked` what was asked for in the end.
fn failure(name: &str, asked: &Name, what: &str, error: &NetError) -> Failure {
    let fail = |kind, message: String| Failure::new(Phase::Dns, kind, message);
    match error {
        NetError::Timeout => fail(FailureKind::DnsTimeout, format!("no name server answered for {name}")),
        NetError::Dns(DnsError::NoRecordsFound(none)) => {
            let subject = subject(name, asked, none);
            match none.response_code {
                ResponseCode::NXDomain => {
                    let failure = fail(FailureKind::DnsNotFound, format!("{subject} does not exist"))
                        .with_code("NXDOMAIN");
                    match subject == name {
                        true => failure,
                        false => failure.with_hint(DANGLING),
                    }
                }
                ResponseCode::NoError => no_data(&subject, what),
                code => server_failure(name, code),
            }
        }
        NetError::Dns(DnsError::ResponseCode(code)) => server_failure(name, *code),
        NetError::NoConnections => fail(
            FailureKind::DnsServerFailure,
            format!("no name server can be asked for {name}: none is configured, or none can be reached"),
        ),
        NetError::Proto(error) => {
            fail(FailureKind::DnsServerFailure, format!("the answer for {name} cannot be read: {error}"))
                .with_hint("what answers there may be no name server: check its address and port")
        }
        NetError::Io(error) => fail(FailureKind::DnsServerFailure, format!("asking for {name}: {error}")),
        other => fail(FailureKind::DnsServerFailure, format!("asking for {name}: {other}")),
    }
}

/// What has no records: the name, or where its aliases lead.
fn subject(name: &str, asked: &Name, none: &NoRecords) -> String {
    let end = none.query.name();
    if end.is_root() || end == asked {
        return name.to_owned();
    }
    format!("{name} is an alias, and where it leads, {end},")
}

/// What to do about an alias whose end is missing.
const DANGLING: &str =
    "the alias is there and its target is not: it may have been deleted or renamed; correct the record";

fn no_data(subject: &str, what: &str) -> Failure {
    let message = format!("{subject} exists and has no {what} record");
    Failure::new(Phase::Dns, FailureKind::DnsNotFound, message).with_code("NODATA").with_hint(
        "the name is there with records of other types only: check the name, and the type asked for",
    )
}

/// An alias without what was asked for at its end, if it has one: aliases can go in a circle.
fn leads_nowhere(name: &str, target: &[String], what: &str) -> Failure {
    let target = target.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
    let message = format!(
        "{name} is an alias of {target}, and no {what} record is where that leads, if it ends at all"
    );
    Failure::new(Phase::Dns, FailureKind::DnsNotFound, message).with_code("NODATA").with_hint(DANGLING)
}

/// What follows from an answer that had no room in a packet, and did not come otherwise; `None` for what is no
/// consequence of that.
fn too_long(name: &str, error: &NetError) -> Option<Failure> {
    match error {
        NetError::Timeout | NetError::Truncated | NetError::Io(_) | NetError::NoConnections => {
            Some(too_long_for_udp(name, error))
        }
        _ => None,
    }
}

/// An answer that had no room in a packet, and did not come over TCP for this reason.
pub(super) fn too_long_for_udp(name: &str, error: &NetError) -> Failure {
    let kind = match error {
        NetError::Timeout => FailureKind::DnsTimeout,
        _ => FailureKind::DnsServerFailure,
    };
    let message =
        format!("the answer for {name} is too long for UDP, and over TCP it does not come: {error}");
    Failure::new(Phase::Dns, kind, message).with_hint(TOO_LONG)
}

fn server_failure(name: &str, code: ResponseCode) -> Failure {
    let message = format!("the name server answered {code} for {name}");
    Failure::new(Phase::Dns, FailureKind::DnsServerFailure, message).with_code(rcode(code))
}

/// The mnemonic of RFC 1035 and IANA's registry.
fn rcode(code: ResponseCode) -> String {
    match code {
        ResponseCode::ServFail => "SERVFAIL".into(),
        ResponseCode::Refused => "REFUSED".into(),
        ResponseCode::FormErr => "FORMERR".into(),
        ResponseCode::NotImp => "NOTIMP".into(),
        other => format!("RCODE{}", u16::from(other)),
    }
}
