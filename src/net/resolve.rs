//! Names become addresses, by hickory. Nothing is cached: a failover of RDS or ElastiCache is a change of a
//! record, and must be seen by the next new connection.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RecordType;
use hickory_resolver::{TokioResolver, system_conf};

use crate::health::{Failure, FailureKind, Phase};

/// A query is repeated after this long without an answer, whatever `resolv.conf` says: its customary five
/// seconds would leave a check of ten no second try.
const RETRANSMIT: Duration = Duration::from_secs(2);

/// What is consulted for the system's own resolution. Watched, since it may be replaced under a running agent.
const SYSTEM_FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

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
    Servers(Arc<TokioResolver>),
}

struct Loaded {
    files: Files,
    resolver: Arc<TokioResolver>,
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
        let mut options = ResolverOpts::default();
        // A named server is asked for what it says itself.
        options.use_hosts_file = ResolveHosts::Never;
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
        Ok(Self { source: Source::Servers(build(config, options)?) })
    }

    /// The addresses of a name, IPv4 and IPv6.
    pub async fn addresses(&self, name: &str) -> Result<Records, Failure> {
        let resolver = self.current()?;
        match resolver.lookup_ip(name).await {
            Ok(found) => Ok(records(found.as_lookup(), None)),
            Err(error) => Err(failure(name, "address", &error)),
        }
    }

    /// The records of one type: `A`, `AAAA`, `CNAME`, `SRV`, `TXT`.
    pub async fn records(&self, name: &str, record: RecordType) -> Result<Records, Failure> {
        let resolver = self.current()?;
        match resolver.lookup(name, record).await {
            Ok(found) => Ok(records(&found, Some(record))),
            Err(error) => Err(failure(name, &record.to_string(), &error)),
        }
    }

    fn current(&self) -> Result<Arc<TokioResolver>, Failure> {
        let slot = match &self.source {
            Source::Servers(resolver) => return Ok(Arc::clone(resolver)),
            Source::System(slot) => slot,
        };
        let files = SYSTEM_FILES.map(|path| {
            let meta = std::fs::metadata(path).ok()?;
            Some((meta.modified().ok()?, meta.len()))
        });
        // Held for no await; a panic while it was held leaves at worst an old resolver behind.
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(loaded) = slot.as_ref().filter(|loaded| loaded.files == files) {
            return Ok(Arc::clone(&loaded.resolver));
        }
        let (config, options) = system_conf::read_system_conf().map_err(|error| {
            Failure::new(Phase::Dns, FailureKind::DnsServerFailure, format!("/etc/resolv.conf: {error}"))
                .with_hint("the container has no usable resolv.conf: check what mounts it")
        })?;
        let resolver = build(config, options)?;
        *slot = Some(Loaded { files, resolver: Arc::clone(&resolver) });
        Ok(resolver)
    }
}

fn build(config: ResolverConfig, mut options: ResolverOpts) -> Result<Arc<TokioResolver>, Failure> {
    options.cache_size = 0;
    options.timeout = options.timeout.min(RETRANSMIT);
    let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    match builder.with_options(options).build() {
        Ok(resolver) => Ok(Arc::new(resolver)),
        Err(error) => Err(Failure::new(Phase::Dns, FailureKind::Internal, format!("resolver: {error}"))),
    }
}

fn records(lookup: &Lookup, wanted: Option<RecordType>) -> Records {
    let answers = lookup.answers();
    // An alias on the way to an address shortens the life of the whole answer, so its TTL counts; its data is
    // only shown where aliases were asked for.
    let matching = answers.iter().filter(|record| match wanted {
        Some(wanted) => record.record_type() == wanted,
        None => record.data.ip_addr().is_some(),
    });
    let data: Vec<String> = matching.clone().map(|record| record.data.to_string()).collect();
    let addresses = matching.filter_map(|record| record.data.ip_addr()).collect();
    Records { data, addresses, ttl_seconds: answers.iter().map(|record| record.ttl).min() }
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
