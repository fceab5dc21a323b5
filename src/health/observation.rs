//! What a successful check saw. Plain data: JSON names are given at the edge, in `http/wire`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{LeftBehind, WallTime};

/// What a successful check saw.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Observation {
    /// Bounds that were passed although the check succeeded; each makes the dependency `degraded`.
    pub warnings: Vec<String>,
    /// What only this kind can tell.
    pub details: Details,
}

impl Observation {
    /// The TLS session, for the kinds and settings that have one.
    pub fn tls(&self) -> Option<&TlsDetails> {
        match &self.details {
            Details::Postgres(seen) => seen.tls.as_ref(),
            Details::Redis(seen) => seen.tls.as_ref(),
            Details::Tcp(seen) => seen.tls.as_ref(),
            Details::Http(seen) => seen.tls.as_ref(),
            Details::None | Details::Dns(_) => None,
        }
    }

    /// Adds a warning if the server's certificate ends within `warning` from `now` on. It is the one thing
    /// that goes by the calendar: a certificate knows no other time.
    pub fn warn_of_expiry(&mut self, now: WallTime, warning: Duration) {
        let Some(end) = self.tls().and_then(|tls| tls.expires_at) else { return };
        let left = end.unix_millis().saturating_sub(now.unix_millis());
        let hours = (left as f64 / HOUR_MILLIS).abs();
        let span =
            if hours < 48.0 { format!("{hours:.0} hours") } else { format!("{:.0} days", hours / 24.0) };
        if left <= 0 {
            self.warnings.push(format!("the server's certificate ended {span} ago: renew it"));
        } else if u128::from(left.unsigned_abs()) < warning.as_millis() {
            self.warnings.push(format!("the server's certificate ends in {span}: renew it"));
        }
    }

    /// Adds a warning if connections are still taken where the name led before.
    pub fn warn_of_left_behind(&mut self, left: &LeftBehind) {
        let LeftBehind { from, to, answers } = left;
        if *answers {
            self.warnings.push(format!(
                "the name leads to {} now and led to {} before, and {from} still takes connections: who keeps the \
                 old address, in a pool or a DNS cache, still talks to the old server",
                to.ip(),
                from.ip()
            ));
        }
    }
}

/// Milliseconds of an hour.
const HOUR_MILLIS: f64 = 3600.0 * 1000.0;

/// What only one kind can tell.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Details {
    /// Nothing was told.
    #[default]
    None,
    /// Of a PostgreSQL server.
    Postgres(Box<PostgresDetails>),
    /// Of a Redis server.
    Redis(Box<RedisDetails>),
    /// Of a name.
    Dns(DnsDetails),
    /// Of a port.
    Tcp(TcpDetails),
    /// Of an HTTP service.
    Http(HttpDetails),
}

/// A PostgreSQL server, as it describes itself. What the user may not see is `None`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PostgresDetails {
    /// `server_version`.
    pub server_version: String,
    /// `true` while the server is in recovery, that is, a replica.
    pub in_recovery: bool,
    /// Whether a session may not write unless it asks to.
    pub read_only: bool,
    /// How far a replica is behind its primary; `None` for a primary, and where it cannot be told.
    pub replication_lag: Option<Duration>,
    /// The database connected to.
    pub database: String,
    /// The user connected as.
    pub user: String,
    /// The connections of the whole server.
    pub connections: Connections,
    /// How long the oldest transaction of another client has been open; zero where there is none.
    pub longest_transaction: Option<Duration>,
    /// The configured queries, in their order.
    pub queries: Vec<QueryResult>,
    /// Why some of this is not known, and what to do about it.
    pub hidden: Option<String>,
    /// The session's TLS; `None` for plain text.
    pub tls: Option<TlsDetails>,
}

/// The connections of a PostgreSQL server. Counted are those of clients, as the server counts them for its limit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Connections {
    /// In use, ours included.
    pub used: Option<u32>,
    /// The server's limit.
    pub max: Option<u32>,
    /// Of these, kept for superusers and other privileged roles.
    pub reserved: Option<u32>,
    /// By what they are doing; the most frequent first.
    pub by_state: Option<Vec<(String, u32)>>,
    /// By `application_name`; the most frequent first.
    pub by_application: Option<Vec<(String, u32)>>,
    /// From this task's own address, where the server sees that.
    pub this_task: Option<u32>,
    /// Of these, by what they are doing.
    pub this_task_by_state: Option<Vec<(String, u32)>>,
}

impl Connections {
    /// The limit for a role without privileges: beyond it the server answers 53300.
    pub fn available(&self) -> Option<u32> {
        Some(self.max?.saturating_sub(self.reserved.unwrap_or_default()))
    }

    /// The share in use of what a role without privileges can get, in percent. More than 100 where privileged
    /// ones use what is reserved.
    pub fn used_percent(&self) -> Option<f64> {
        let (used, available) = (self.used?, self.available()?);
        Some(100.0 * f64::from(used) / f64::from(available.max(1)))
    }
}

/// What a configured query came to.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryResult {
    /// Its name.
    pub name: String,
    /// The value, where there was one and it may be shown.
    pub value: Option<QueryValue>,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What is wrong with it.
    pub problem: Option<String>,
    /// How long it took.
    pub duration: Duration,
}

/// A value that a query answered with.
#[derive(Debug, Clone, PartialEq)]
pub enum QueryValue {
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Number(f64),
    /// Anything else.
    Text(String),
}

impl fmt::Display for QueryValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(number) => number.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => write!(f, "\"{text}\""),
        }
    }
}

/// A Redis server, as `INFO` describes it. What it does not tell us is `None`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RedisDetails {
    /// `redis_version`.
    pub server_version: Option<String>,
    /// `standalone` or `cluster`.
    pub mode: Option<String>,
    /// How long the server has been running.
    pub uptime: Option<Duration>,
    /// Whether a write would be refused, as far as can be told without one.
    pub read_only: Option<bool>,
    /// Clients connected, replicas not counted.
    pub connected_clients: Option<u64>,
    /// So many connections, of clients, replicas and other nodes, are taken.
    pub max_clients: Option<u64>,
    /// Connections refused for that limit since the server started.
    pub rejected_connections: Option<u64>,
    /// Clients that wait in a blocking command.
    pub blocked_clients: Option<u64>,
    /// Memory in use, in bytes.
    pub used_memory_bytes: Option<u64>,
    /// Its limit, in bytes; 0 where there is none.
    pub maxmemory_bytes: Option<u64>,
    /// What happens at the limit: `noeviction`, `allkeys-lru`, …
    pub maxmemory_policy: Option<String>,
    /// Keys evicted since the server started.
    pub evicted_keys: Option<u64>,
    /// Whether the data set is still being loaded.
    pub loading: Option<bool>,
    /// The server's role, and how it stands to the others.
    pub replication: Option<RedisReplication>,
    /// Why some of this is not known, and what to do about it.
    pub hidden: Option<String>,
    /// The connection's TLS; `None` for plain text.
    pub tls: Option<TlsDetails>,
}

/// How a Redis server stands to its primary or to its replicas.
#[derive(Debug, Clone, PartialEq)]
pub enum RedisReplication {
    /// It takes writes.
    Primary {
        /// Bytes written to the replication stream.
        offset: Option<u64>,
        /// Replicas connected.
        connected_replicas: Option<u64>,
        /// Each of them.
        replicas: Vec<RedisReplica>,
    },
    /// It follows a primary.
    Replica {
        /// `host:port` of the primary.
        primary: Option<String>,
        /// Whether it is connected to it.
        link_up: Option<bool>,
        /// How long it has not been.
        link_down_for: Option<Duration>,
        /// Whether it is receiving the whole data set.
        syncing: Option<bool>,
        /// Since the primary was last heard of.
        last_heard: Option<Duration>,
        /// Bytes of the replication stream that it has.
        offset: Option<u64>,
    },
}

/// A replica, as its primary sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct RedisReplica {
    /// `host:port`.
    pub address: String,
    /// `online`, or how far its first synchronisation is.
    pub state: Option<String>,
    /// Since it last acknowledged.
    pub lag: Option<Duration>,
    /// Bytes of the replication stream that it has not acknowledged.
    pub behind_bytes: Option<u64>,
}

/// The answer for a name.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DnsDetails {
    /// The records' data, as text, in the order of the answer.
    pub records: Vec<String>,
    /// The addresses among them.
    pub addresses: Vec<IpAddr>,
    /// The names that the name is an alias of, in the order of the answer.
    pub aliases: Vec<String>,
    /// The shortest time to live in the answer, in seconds.
    pub ttl_seconds: Option<u32>,
    /// What each server answered, in the order of the configuration.
    pub by_nameserver: Vec<NameserverAnswer>,
}

/// One name server's answer.
#[derive(Debug, Clone, PartialEq)]
pub struct NameserverAnswer {
    /// The server asked; `None`: those of the system.
    pub server: Option<SocketAddr>,
    /// Its records, or why there are none.
    pub records: Result<Vec<String>, String>,
    /// How long it took.
    pub duration: Duration,
}

/// The other end of a port.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TcpDetails {
    /// The address connected to.
    pub peer: Option<SocketAddr>,
    /// The connection's TLS, where it was asked for.
    pub tls: Option<TlsDetails>,
}

/// An HTTP answer.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpDetails {
    /// The status code.
    pub status_code: u16,
    /// Bytes of the body that were read.
    pub body_bytes: usize,
    /// The connection's TLS, for `https`.
    pub tls: Option<TlsDetails>,
}

/// A TLS session.
#[derive(Debug, Clone, PartialEq)]
pub struct TlsDetails {
    /// `TLSv1.2`, `TLSv1.3`; `None` where it could not be told.
    pub version: Option<&'static str>,
    /// Whether chain and name were verified.
    pub verified: bool,
    /// When the server's certificate ends.
    pub expires_at: Option<WallTime>,
}

/// The connections that a probe holds to its dependency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolStats {
    /// Never more than this.
    pub max: u32,
    /// Open now: the one that is kept, and those that were given up and have not left.
    pub size: u32,
    /// Of those, kept for the next check.
    pub idle: u32,
    /// Made since the start.
    pub created: u64,
    /// Ended since the start, for whatever reason.
    pub closed: u64,
    /// Of those, ended because they were broken.
    pub errors: u64,
}

/// What all look-ups of names have cost since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ResolverStats {
    /// Packets sent to name servers.
    pub packets: u64,
    /// Look-ups answered by what somebody else had asked at the same time, or up to a second before.
    pub shared: u64,
    /// Look-ups that waited because the packets allowed were used up…
    pub waited: u64,
    /// …and for how long, all together.
    pub waited_for: Duration,
    /// Look-ups answered by an answer of the last half a minute, because the packets were used up.
    pub kept: u64,
    /// Look-ups refused because they would have waited too long.
    pub refused: u64,
    /// Packets not sent because there was no room for them: repetitions of what was not answered.
    pub withheld: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is warned of where a certificate ends so many hours from now, the bound being 14 days.
    fn warned(hours: i64) -> Vec<String> {
        const HOUR: i64 = 3_600_000;
        let now = WallTime::from_unix_millis(1_000 * HOUR);
        let end = WallTime::from_unix_millis((1_000 + hours) * HOUR);
        let tls = TlsDetails { version: None, verified: true, expires_at: Some(end) };
        let details = Details::Tcp(TcpDetails { peer: None, tls: Some(tls) });
        let mut seen = Observation { warnings: Vec::new(), details };
        seen.warn_of_expiry(now, Duration::from_secs(14 * 24 * 3600));
        seen.warnings
    }

    #[test]
    fn a_certificate_is_warned_of_from_the_bound_on_and_after_its_end() {
        assert!(warned(14 * 24).is_empty(), "not before it is nearer than the bound");
        assert_eq!(warned(14 * 24 - 1), ["the server's certificate ends in 14 days: renew it"]);
        assert_eq!(warned(72), ["the server's certificate ends in 3 days: renew it"]);
        assert_eq!(warned(5), ["the server's certificate ends in 5 hours: renew it"]);
        assert_eq!(warned(-48), ["the server's certificate ended 2 days ago: renew it"]);
    }

    #[test]
    fn the_share_of_connections_is_of_those_that_an_ordinary_role_can_get() {
        let counts = |used, max, reserved| Connections { used, max, reserved, ..Connections::default() };
        assert_eq!(counts(Some(10), Some(43), Some(3)).used_percent(), Some(25.0));
        assert_eq!(counts(Some(42), Some(43), Some(3)).used_percent(), Some(105.0), "a superuser's");
        assert_eq!(counts(Some(1), Some(3), Some(5)).used_percent(), Some(100.0), "nothing is left at all");
        assert_eq!(counts(None, Some(43), Some(3)).used_percent(), None);
    }

    #[test]
    fn without_a_certificate_nothing_is_warned_of() {
        let mut seen = Observation::default();
        seen.warn_of_expiry(WallTime::default(), Duration::MAX);
        assert!(seen.warnings.is_empty());
    }
}
