//! Names become addresses, by hickory. Nothing is cached: a failover of RDS or ElastiCache is a change of a
//! record, and must be seen by the next new connection.
//!
//! The search list, the hosts file and the two address families are gone through here, not by hickory: of
//! several questions it tells the last error, and so a resolver that is down would look like a name that does
//! not exist. That difference decides whether a load balancer keeps a task.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

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

struct Loaded {
    files: Files,
    lookups: Arc<Lookups>,
}

/// What a name is looked up with.
struct Lookups {
    resolver: TokioResolver,
    hosts: Hosts,
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
        let lookups = Lookups::new(config, ResolverOpts::default(), Hosts::default())?;
        Ok(Self { source: Source::Servers(Arc::new(lookups)) })
    }

    /// The addresses of a name, IPv4 before IPv6.
    pub async fn addresses(&self, name: &str) -> Result<Records, Failure> {
        let lookups = self.current()?;
        lookups.by_search(name, "address", |name| lookups.addresses(name)).await
    }

    /// The records of one type: `A`, `AAAA`, `CNAME`, `SRV`, `TXT`.
    pub async fn records(&self, name: &str, record: RecordType) -> Result<Records, Failure> {
        let lookups = self.current()?;
        lookups.by_search(name, &record.to_string(), |name| lookups.records(name, record)).await
    }

    fn current(&self) -> Result<Arc<Lookups>, Failure> {
        let slot = match &self.source {
            Source::Servers(lookups) => return Ok(Arc::clone(lookups)),
            Source::System(slot) => slot,
        };
        let files = SYSTEM_FILES.map(|path| {
            let meta = std::fs::metadata(path).ok()?;
            Some((meta.modified().ok()?, meta.len()))
        });
        // Held for no await; a panic while it was held leaves at worst an old resolver behind.
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(loaded) = slot.as_ref().filter(|loaded| loaded.files == files) {
            return Ok(Arc::clone(&loaded.lookups));
        }
        let (config, options) = system_conf::read_system_conf().map_err(|error| {
            Failure::new(Phase::Dns, FailureKind::DnsServerFailure, format!("/etc/resolv.conf: {error}"))
                .with_hint("the container has no usable resolv.conf: check what mounts it")
        })?;
        // Without a hosts file names are asked for as if it were empty.
        let hosts = Hosts::from_system().unwrap_or_default();
        let lookups = Arc::new(Lookups::new(config, options, hosts)?);
        *slot = Some(Loaded { files, lookups: Arc::clone(&lookups) });
        Ok(lookups)
    }
}

impl Lookups {
    fn new(config: ResolverConfig, mut options: ResolverOpts, hosts: Hosts) -> Result<Self, Failure> {
        let search = config.domain().into_iter().chain(config.search()).cloned().collect();
        let ndots = options.ndots;
        options.cache_size = 0;
        options.timeout = options.timeout.min(RETRANSMIT);
        options.use_hosts_file = ResolveHosts::Never;
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let resolver = builder.with_options(options).build().map_err(|error| {
            Failure::new(Phase::Dns, FailureKind::Internal, format!("the resolver cannot be made: {error}"))
        })?;
        Ok(Self { resolver, hosts, search, ndots })
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

    /// Both families at once. One that is there is enough; where neither is, the worse error counts.
    async fn addresses(&self, name: Name) -> Result<Records, NetError> {
        let in_hosts =
            FAMILIES.map(|family| self.hosts.lookup_static_host(&Query::query(name.clone(), family)));
        if in_hosts.iter().any(Option::is_some) {
            // As for everybody else on this host: a name that is in the file is not asked for.
            return Ok(Records::joined(in_hosts.into_iter().flatten().map(|found| Records::all(&found))));
        }
        let [v4, v6] = FAMILIES.map(|family| self.resolver.lookup(name.clone(), family));
        match tokio::join!(v4, v6) {
            (Err(v4), Err(v6)) => Err(if rank(&v6) > rank(&v4) { v6 } else { v4 }),
            (v4, v6) => {
                Ok(Records::joined([v4, v6].into_iter().flatten().map(|found| Records::addresses(&found))))
            }
        }
    }

    async fn records(&self, name: Name, record: RecordType) -> Result<Records, NetError> {
        if let Some(found) = self.hosts.lookup_static_host(&Query::query(name.clone(), record)) {
            return Ok(Records::all(&found));
        }
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

    fn addresses(lookup: &Lookup) -> Self {
        Self::of(lookup, |kind| FAMILIES.contains(&kind))
    }

    /// What stands in the hosts file lives as long as the file.
    fn all(lookup: &Lookup) -> Self {
        Self { ttl_seconds: None, ..Self::of(lookup, |_| true) }
    }

    fn joined(parts: impl Iterator<Item = Self>) -> Self {
        parts.fold(Self { data: Vec::new(), addresses: Vec::new(), ttl_seconds: None }, |mut joined, part| {
            joined.data.extend(part.data);
            joined.addresses.extend(part.addresses);
            joined.ttl_seconds = joined.ttl_seconds.into_iter().chain(part.ttl_seconds).min();
            joined
        })
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
        // An ICMP "port unreachable" shows as a refused read: nothing listens at that server.
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
