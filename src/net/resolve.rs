//! Names become addresses, by hickory. Nothing is cached: a failover of RDS or ElastiCache is a change of a
//! record, and must be seen by the next new connection.
//!
//! The search list, the hosts file and the two address families are gone through here, not by hickory: of
//! several questions it tells the last error, and so a resolver that is down would look like a name that does
//! not exist. That difference decides whether a load balancer keeps a task.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::future;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, TokioResolver, system_conf};

use crate::health::{Failure, FailureKind, Phase};

/// A query is repeated after this long without an answer, whatever `resolv.conf` says: its customary five
/// seconds would leave a check of ten no second try.
const RETRANSMIT: Duration = Duration::from_secs(2);

/// What is consulted for the system's own resolution. Watched, since it may be replaced under a running agent.
const SYSTEM_FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// Where one family has an answer, the other is waited for this much longer: some resolvers drop questions for
/// IPv6.
const SECOND_FAMILY: Duration = Duration::from_millis(300);

/// The families asked for an address. IPv4 comes first: it is what most VPCs route.
const FAMILIES: [RecordType; 2] = [RecordType::A, RecordType::AAAA];

/// An answer to a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Records {
    /// The data of the records of the type asked for, as text, in the order of the answer.
    pub data: Vec<String>,
    /// The addresses among them.
    pub addresses: Vec<IpAddr>,
    /// The shortest time to live in the answer, in seconds.
    pub ttl_seconds: Option<u32>,
}

/// Resolves names, by the system's configuration or by servers of its own.
#[derive(Clone)]
pub struct Resolver {
    source: Source,
}

#[derive(Clone)]
enum Source {
    /// `/etc/hosts` and the servers of `/etc/resolv.conf`, read again whenever they change.
    System(Arc<Mutex<Option<Loaded>>>),
    /// These servers and nothing else.
    Servers(Arc<Lookups>),
}

/// What the system's files say.
#[derive(Clone)]
struct Loaded {
    files: Files,
    hosts: Arc<Hosts>,
    /// How to ask; or why nobody can be asked, which is no matter for a name in the hosts file.
    lookups: Result<Arc<Lookups>, Failure>,
}

/// What a name is asked for with.
struct Lookups {
    resolver: TokioResolver,
    /// Suffixes that a short name is tried with.
    search: Vec<Name>,
    /// A name with fewer dots than this is short.
    ndots: usize,
}

/// What tells whether the files are still those that were read.
type Files = [Option<(SystemTime, u64)>; SYSTEM_FILES.len()];

impl Resolver {
    /// Resolves as the system does.
    pub fn system() -> Self {
        Self { source: Source::System(Arc::default()) }
    }

    /// Asks these servers, over UDP and, for long answers, TCP.
    pub fn servers(servers: &[SocketAddr]) -> Result<Self, Failure> {
        let servers = servers.iter().map(|server| {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                connection.port = server.port();
                connection
            });
            NameServerConfig::new(server.ip(), true, connections.into())
        });
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
        // A named server is asked for what it says itself: no hosts file, no search list.
        let lookups = Lookups::new(config, ResolverOpts::default())?;
        Ok(Self { source: Source::Servers(Arc::new(lookups)) })
    }

    /// The addresses of a name, IPv4 before IPv6.
    pub async fn addresses(&self, name: &str) -> Result<Records, Failure> {
        let (in_hosts, lookups) = self.current(name, &FAMILIES);
        match in_hosts {
            Some(found) => Ok(found),
            None => {
                let lookups = lookups?;
                lookups.by_search(name, "address", |name| lookups.addresses(name)).await
            }
        }
    }

    /// The records of one type: `A`, `AAAA`, `CNAME`, `SRV`, `TXT`.
    pub async fn records(&self, name: &str, record: RecordType) -> Result<Records, Failure> {
        let (in_hosts, lookups) = self.current(name, &[record]);
        match in_hosts {
            Some(found) => Ok(found),
            None => {
                let lookups = lookups?;
                lookups.by_search(name, &record.to_string(), |name| lookups.records(name, record)).await
            }
        }
    }

    /// What the host itself knows of a name, as everybody else on it is told without a question to DNS; and how
    /// to ask for any other.
    fn current(&self, name: &str, wanted: &[RecordType]) -> (Option<Records>, Result<Arc<Lookups>, Failure>) {
        match &self.source {
            Source::Servers(lookups) => (None, Ok(Arc::clone(lookups))),
            Source::System(slot) => {
                let loaded = load(slot);
                (known_here(&loaded.hosts, name, wanted), loaded.lookups)
            }
        }
    }
}

/// The system's files, read again where they have changed.
fn load(slot: &Mutex<Option<Loaded>>) -> Loaded {
    let files = SYSTEM_FILES.map(|path| {
        let meta = std::fs::metadata(path).ok()?;
        Some((meta.modified().ok()?, meta.len()))
    });
    // Held for no await; a panic while it was held leaves at worst old files behind.
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(loaded) = slot.as_ref().filter(|loaded| loaded.files == files) {
        return loaded.clone();
    }
    let lookups = system_conf::read_system_conf()
        .map_err(|error| {
            Failure::new(Phase::Dns, FailureKind::DnsServerFailure, format!("/etc/resolv.conf: {error}"))
                .with_hint("the container has no usable resolv.conf: check what mounts it")
        })
        .and_then(|(config, options)| Lookups::new(config, options).map(Arc::new));
    // Without a hosts file names are asked for as if it were empty.
    let hosts = Arc::new(Hosts::from_system().unwrap_or_default());
    slot.insert(Loaded { files, hosts, lookups }).clone()
}

/// What the hosts file says of a name; and `localhost`, which is this host whatever anybody says (RFC 6761).
fn known_here(hosts: &Hosts, name: &str, wanted: &[RecordType]) -> Option<Records> {
    let parsed = Name::from_utf8(name).ok()?;
    let found: Vec<Records> = wanted
        .iter()
        .filter_map(|family| hosts.lookup_static_host(&Query::query(parsed.clone(), *family)))
        .map(|found| Records::of(&found, |_| true))
        .collect();
    let addresses: Vec<IpAddr> = match found.is_empty() && parsed.is_localhost() {
        true => {
            let loopback = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
            let is_wanted = |address: &IpAddr| wanted.contains(&FAMILIES[usize::from(address.is_ipv6())]);
            loopback.into_iter().filter(is_wanted).collect()
        }
        false => found.into_iter().flat_map(|found| found.addresses).collect(),
    };
    // What stands in a file lives as long as the file.
    (!addresses.is_empty()).then(|| Records::addresses(addresses, None))
}

impl Lookups {
    fn new(config: ResolverConfig, mut options: ResolverOpts) -> Result<Self, Failure> {
        // As libc has it, the host's own domain only stands in for a search list.
        let search = match config.search() {
            [] => config.domain().into_iter().cloned().collect(),
            search => search.to_vec(),
        };
        let ndots = options.ndots;
        options.cache_size = 0;
        options.timeout = options.timeout.min(RETRANSMIT);
        options.use_hosts_file = ResolveHosts::Never;
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let resolver = builder.with_options(options).build().map_err(|error| {
            Failure::new(Phase::Dns, FailureKind::Internal, format!("the resolver cannot be made: {error}"))
        })?;
        Ok(Self { resolver, search, ndots })
    }

    /// Asks for a name and, where it does not exist, for the name with the suffixes of the search list, in the
    /// order of resolv.conf(5). A server's failure is remembered: where nothing is found after it, what is not
    /// known to be missing is not called missing.
    async fn by_search<F>(&self, name: &str, what: &str, ask: impl Fn(Name) -> F) -> Result<Records, Failure>
    where
        F: Future<Output = Result<Records, NetError>>,
    {
        let mut first: Option<NetError> = None;
        for candidate in self.candidates(name)? {
            let error = match ask(candidate).await {
                Ok(found) => return Ok(found),
                Err(error) => error,
            };
            // What does not answer for one suffix does not for the next one either, and each takes seconds.
            let silent = matches!(error, NetError::Timeout);
            if first.as_ref().is_none_or(|first| rank(&error) > rank(first)) {
                first = Some(error);
            }
            if silent {
                break;
            }
        }
        Err(failure(name, what, &first.unwrap_or(NetError::NoConnections)))
    }

    fn candidates(&self, name: &str) -> Result<Vec<Name>, Failure> {
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
    async fn addresses(&self, name: Name) -> Result<Records, NetError> {
        let [v4, v6] = FAMILIES.map(|family| self.resolver.lookup(name.clone(), family));
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
        let parts: Vec<Records> = found
            .into_iter()
            .flatten()
            .map(|found| Records::of(&found, |kind| FAMILIES.contains(&kind)))
            .collect();
        let ttl_seconds = parts.iter().filter_map(|part| part.ttl_seconds).min();
        Ok(Records::addresses(parts.into_iter().flat_map(|part| part.addresses).collect(), ttl_seconds))
    }

    async fn records(&self, name: Name, record: RecordType) -> Result<Records, NetError> {
        let found = self.resolver.lookup(name, record).await?;
        Ok(Records::of(&found, |kind| kind == record))
    }
}

impl Records {
    /// The records whose type is wanted. An alias on the way shortens the life of the whole answer, so its
    /// TTL counts; its data is only shown where aliases were asked for.
    fn of(lookup: &Lookup, wanted: impl Fn(RecordType) -> bool) -> Self {
        let answers = lookup.answers();
        let matching = || answers.iter().filter(|record| wanted(record.record_type()));
        Self {
            data: matching().map(|record| record.data.to_string()).collect(),
            addresses: matching().filter_map(|record| record.data.ip_addr()).collect(),
            ttl_seconds: answers.iter().map(|record| record.ttl).min(),
        }
    }

    /// Addresses, IPv4 before IPv6, each family in the order of its answer.
    fn addresses(mut addresses: Vec<IpAddr>, ttl_seconds: Option<u32>) -> Self {
        addresses.sort_by_key(IpAddr::is_ipv6);
        Self { data: addresses.iter().map(ToString::to_string).collect(), addresses, ttl_seconds }
    }
}

/// How much an error says about the resolver rather than about the name. Of several, the highest is told: a
/// name is only called missing where every answer said so.
fn rank(error: &NetError) -> u8 {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain => 0,
            // It exists, with other records: nearer to what was meant than "does not exist".
            ResponseCode::NoError => 1,
            _ => 2,
        },
        NetError::Timeout => 3,
        _ => 2,
    }
}

fn failure(name: &str, what: &str, error: &NetError) -> Failure {
    let fail = |kind, message: String| Failure::new(Phase::Dns, kind, message);
    match error {
        NetError::Timeout => fail(FailureKind::DnsTimeout, format!("no name server answered for {name}")),
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain => {
                fail(FailureKind::DnsNotFound, format!("{name} does not exist")).with_code("NXDOMAIN")
            }
            ResponseCode::NoError => {
                fail(FailureKind::DnsNotFound, format!("{name} exists and has no {what} record"))
                    .with_code("NODATA")
            }
            code => server_failure(name, code),
        },
        NetError::Dns(DnsError::ResponseCode(code)) => server_failure(name, *code),
        NetError::NoConnections => fail(
            FailureKind::DnsServerFailure,
            format!("no name server can be asked for {name}: none is configured, or none can be reached"),
        ),
        NetError::Io(error) => fail(FailureKind::DnsServerFailure, format!("asking for {name}: {error}")),
        other => fail(FailureKind::DnsServerFailure, format!("asking for {name}: {other}")),
    }
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

#[cfg(test)]
mod tests;
