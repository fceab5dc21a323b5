//! Names become addresses, by hickory. A failover of RDS or ElastiCache is a change of a record, and must be
//! seen by the next new connection: so no answer is kept, but for who asks the same within a second
//! ([`shared`]), and no more is asked than a name server has room for ([`budget`]).
//!
//! The search list, the hosts file and the two address families are gone through here and in [`lookups`], not by
//! hickory: of several questions it tells the last error, and so a resolver that is down would look like a name
//! that does not exist. That difference decides whether a load balancer keeps a task.

mod alone;
mod budget;
mod lookups;
mod metered;
mod records;
mod shared;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, system_conf};

use crate::health::{Failure, FailureKind, Phase, ResolverStats};
pub use alone::{Alone, was_heard_of};
use budget::Budget;
pub use budget::was_not_asked;
use lookups::Lookups;
pub use lookups::{is_dangling, is_too_long};
pub use records::Records;
use shared::SharedAnswers;

/// What is consulted for the system's own resolution. Watched, since it may be replaced under a running agent.
const SYSTEM_FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// The families asked for an address. IPv4 comes first: it is what most VPCs route.
const FAMILIES: [RecordType; 2] = [RecordType::A, RecordType::AAAA];

/// How a process resolves names.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The servers to ask; empty: those of `/etc/resolv.conf`. Its search list and `/etc/hosts` hold in either case.
    pub nameservers: Vec<SocketAddr>,
    /// Packets sent to all of them within any second, at most.
    pub packets_per_second: NonZeroU32,
}

/// By what names are resolved here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolverSeen {
    /// The servers.
    pub servers: Vec<SocketAddr>,
    /// The search list.
    pub search: Vec<String>,
    /// A name with fewer dots is tried with the search list first.
    pub ndots: usize,
    /// Where the servers come from: `/etc/resolv.conf`, or `resolver.nameservers`.
    pub from: String,
}

/// Resolves names, by the system's configuration or by servers of its own. Copies share what they learn, and
/// the packets that they may send.
#[derive(Clone)]
pub struct Resolver {
    source: Source,
    budget: Arc<Budget>,
}

#[derive(Clone)]
enum Source {
    /// `/etc/hosts` and the servers of `/etc/resolv.conf`, read again whenever they change.
    System(Arc<System>),
    /// These servers and nothing else.
    Servers(Arc<Lookups>),
}

struct System {
    /// Asked in place of those in `/etc/resolv.conf`, where there are any.
    nameservers: Vec<SocketAddr>,
    loaded: Mutex<Option<Loaded>>,
    answers: Arc<SharedAnswers>,
}

/// What the system's files say.
#[derive(Clone)]
struct Loaded {
    files: Files,
    hosts: Arc<Hosts>,
    /// How to ask; or why nobody can be asked, which is no matter for a name in the hosts file.
    lookups: Result<Arc<Lookups>, Failure>,
}

/// What tells whether the files are still those that were read.
type Files = [Option<(SystemTime, u64)>; SYSTEM_FILES.len()];

impl Resolver {
    /// Resolves as the system does, but for what the settings say.
    pub fn system(settings: Settings) -> Self {
        let Settings { nameservers, packets_per_second } = settings;
        let system = System { nameservers, loaded: Mutex::default(), answers: Arc::default() };
        Self { source: Source::System(Arc::new(system)), budget: Arc::new(Budget::new(packets_per_second)) }
    }

    /// Asks one server, over UDP and, for long answers, TCP; within the budget of this resolver.
    pub fn asking(&self, server: SocketAddr) -> Result<Self, Failure> {
        // A named server is asked for what it says itself: no hosts file, no search list.
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![name_server(server)]);
        let lookups = Lookups::new(config, ResolverOpts::default(), Arc::clone(&self.budget))?;
        Ok(Self { source: Source::Servers(Arc::new(lookups)), budget: Arc::clone(&self.budget) })
    }

    /// The addresses of a name, IPv4 before IPv6. An answer may be up to a second old; up to half a minute where
    /// no more packets may be sent.
    pub async fn addresses(&self, name: &str) -> Result<Records, Failure> {
        let system = match &self.source {
            Source::Servers(lookups) => return lookups.addresses(name).await,
            Source::System(system) => system,
        };
        let loaded = self.load(system);
        if let Some(found) = known_here(&loaded.hosts, name, &FAMILIES) {
            return Ok(found);
        }
        let (lookups, asked) = (loaded.lookups?, name.to_owned());
        let packets = lookups.first_packets(FAMILIES.len());
        let ask = || async move { lookups.addresses(&asked).await };
        system.answers.answer(name, packets, &self.budget, ask).await
    }

    /// The same, from the name servers, whatever they answered a moment ago.
    pub async fn addresses_anew(&self, name: &str) -> Result<Records, Failure> {
        let system = match &self.source {
            Source::Servers(lookups) => return lookups.addresses(name).await,
            Source::System(system) => system,
        };
        let loaded = self.load(system);
        match known_here(&loaded.hosts, name, &FAMILIES) {
            Some(found) => Ok(found),
            None => loaded.lookups?.addresses(name).await,
        }
    }

    /// The records of one type: `A`, `AAAA`, `CNAME`, `SRV`, `TXT`. The answer is always a fresh one.
    pub async fn records(&self, name: &str, record: RecordType) -> Result<Records, Failure> {
        let system = match &self.source {
            Source::Servers(lookups) => return lookups.records(name, record).await,
            Source::System(system) => system,
        };
        let loaded = self.load(system);
        match known_here(&loaded.hosts, name, &[record]) {
            Some(found) => Ok(found),
            None => loaded.lookups?.records(name, record).await,
        }
    }

    /// One server, to be asked for what it says itself, and listened to closely; within the budget of this resolver.
    pub fn alone(&self, server: SocketAddr) -> Alone {
        Alone::new(server, Arc::clone(&self.budget))
    }

    /// The same for a diagnosis beside checks: its questions stand in no line, take no more than half of the packets that
    /// may be sent, and what finds no room is not asked ([`was_not_asked`]).
    pub fn in_spare_room(&self) -> Self {
        let budget = Arc::new(self.budget.spare());
        let source = match &self.source {
            // With answers of its own: a check must not come to wait for a question that had no room.
            Source::System(system) => Source::System(Arc::new(System {
                nameservers: system.nameservers.clone(),
                loaded: Mutex::default(),
                answers: Arc::default(),
            })),
            Source::Servers(lookups) => Source::Servers(Arc::clone(lookups)),
        };
        Self { source, budget }
    }

    /// Whether it has only the room that checks leave.
    pub fn is_in_spare_room(&self) -> bool {
        self.budget.is_spare()
    }

    /// The failure of a question that there is no room for now; `None` where there is.
    pub fn no_room(&self) -> Option<Failure> {
        self.budget.is_used_up(1).then(|| self.budget.not_asked())
    }

    /// By what names are resolved now; without servers where none can be asked.
    pub fn seen(&self) -> ResolverSeen {
        let (lookups, from) = match &self.source {
            Source::Servers(lookups) => (Ok(Arc::clone(lookups)), ""),
            Source::System(system) if system.nameservers.is_empty() => {
                (self.load(system).lookups, "/etc/resolv.conf")
            }
            Source::System(system) => (self.load(system).lookups, "resolver.nameservers"),
        };
        let seen = lookups.map(|lookups| lookups.seen()).unwrap_or_default();
        ResolverSeen { from: from.to_owned(), ..seen }
    }

    /// What is asked for first when a name is resolved: the name, or the name with the first suffix of the search
    /// list.
    pub fn first_candidate(&self, name: &str) -> Option<String> {
        let lookups = match &self.source {
            Source::Servers(lookups) => Arc::clone(lookups),
            Source::System(system) => self.load(system).lookups.ok()?,
        };
        let first = lookups.candidates(name).ok()?.into_iter().next()?;
        Some(lookups::without_dot(name, &first))
    }

    /// What all look-ups have cost.
    pub fn stats(&self) -> ResolverStats {
        self.budget.stats()
    }

    /// The system's files, read again where they have changed.
    fn load(&self, system: &System) -> Loaded {
        let files = SYSTEM_FILES.map(|path| {
            let meta = std::fs::metadata(path).ok()?;
            Some((meta.modified().ok()?, meta.len()))
        });
        // Held for no await; a panic while it was held leaves at worst old files behind.
        let mut slot = system.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(loaded) = slot.as_ref().filter(|loaded| loaded.files == files) {
            return loaded.clone();
        }
        let lookups = system.read_conf().and_then(|(config, options)| {
            Lookups::new(config, options, Arc::clone(&self.budget)).map(Arc::new)
        });
        // Without a hosts file names are asked for as if it were empty.
        let hosts = Arc::new(Hosts::from_system().unwrap_or_default());
        slot.insert(Loaded { files, hosts, lookups }).clone()
    }
}

impl System {
    fn read_conf(&self) -> Result<(ResolverConfig, ResolverOpts), Failure> {
        let read = system_conf::read_system_conf();
        if !self.nameservers.is_empty() {
            let (conf, options) = read.unwrap_or_default();
            let servers = self.nameservers.iter().copied().map(name_server).collect();
            let conf = ResolverConfig::from_parts(conf.domain().cloned(), conf.search().to_vec(), servers);
            return Ok((conf, options));
        }
        read.map_err(|error| {
            Failure::new(Phase::Dns, FailureKind::DnsServerFailure, format!("/etc/resolv.conf: {error}"))
                .with_hint("the container has no usable resolv.conf: check what mounts it")
        })
    }
}

/// A server by UDP and, for long answers, TCP.
fn name_server(at: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = at.port();
        connection
    });
    NameServerConfig::new(at.ip(), true, connections.into())
}

/// What the hosts file says of a name, as everybody else on this host is told without a question to DNS; and
/// `localhost`, which is this host whatever anybody says (RFC 6761).
fn known_here(hosts: &Hosts, name: &str, wanted: &[RecordType]) -> Option<Records> {
    let parsed = Name::from_utf8(name).ok()?;
    let found: Vec<Records> = wanted
        .iter()
        .filter_map(|family| hosts.lookup_static_host(&Query::query(parsed.clone(), *family)))
        // What stands in a file lives as long as the file.
        .map(|found| Records { ttl_seconds: None, ..Records::of(&found, |_| true) })
        .collect();
    let found = match found.is_empty() && parsed.is_localhost() {
        true => {
            let loopback = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
            let is_wanted = |address: &IpAddr| wanted.contains(&FAMILIES[usize::from(address.is_ipv6())]);
            let addresses = loopback.into_iter().filter(is_wanted).collect();
            vec![Records { addresses, ..Records::default() }]
        }
        false => found,
    };
    let found = Records { found_as: name.to_owned(), from_hosts_file: true, ..Records::addresses(found) };
    (!found.addresses.is_empty()).then_some(found)
}

#[cfg(test)]
mod tests;
