//! `details`: what only a kind can tell, as JSON.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::map::OrderedMap;
use super::{Timestamp, millis, seconds};
use crate::health::{Now, observation as seen};

/// What the last check saw that came so far.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Details<'a> {
    #[schemars(title = "nothing seen yet", extend("maxProperties" = 0))]
    Nothing {},
    Postgres(PostgresDetails<'a>),
    Redis(RedisDetails<'a>),
    Dns(DnsDetails<'a>),
    Tcp(TcpDetails),
    Http(HttpDetails),
}

impl<'a> Details<'a> {
    pub(super) fn new(details: Option<&'a seen::Details>, now: Now) -> Self {
        match details {
            None | Some(seen::Details::None) => Self::Nothing {},
            Some(seen::Details::Postgres(seen)) => Self::Postgres(PostgresDetails::new(seen, now)),
            Some(seen::Details::Redis(seen)) => Self::Redis(RedisDetails::new(seen, now)),
            Some(seen::Details::Dns(seen)) => Self::Dns(DnsDetails::from(seen)),
            Some(seen::Details::Tcp(seen::TcpDetails { peer, tls })) => Self::Tcp(TcpDetails {
                peer: peer.map(|peer| peer.to_string()),
                tls: Tls::new(tls.as_ref(), now),
            }),
            Some(seen::Details::Http(seen::HttpDetails { status_code, body_bytes, tls })) => {
                let (status_code, body_bytes) = (*status_code, *body_bytes);
                Self::Http(HttpDetails { status_code, body_bytes, tls: Tls::new(tls.as_ref(), now) })
            }
        }
    }
}

/// A PostgreSQL server, as it describes itself. What this user may not see, or the server cannot tell, is null.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct PostgresDetails<'a> {
    server_version: &'a str,
    role: Role,
    /// Whether transactions are read-only unless they ask for more.
    read_only: bool,
    /// Of a replica.
    replication_lag_seconds: Option<f64>,
    database: &'a str,
    user: &'a str,
    connections: Connections<'a>,
    /// How long the oldest transaction of another client has been open; 0 where there is none.
    longest_transaction_seconds: Option<f64>,
    /// The configured queries.
    queries: OrderedMap<&'a str, Query<'a>>,
    /// Why some of this is not told, and what to do about it.
    hidden: Option<&'a str>,
    /// Null for plain text.
    tls: Option<Tls>,
}

/// Connections of clients, of the whole server.
#[derive(Debug, Serialize, JsonSchema)]
struct Connections<'a> {
    used: Option<u32>,
    max: Option<u32>,
    /// Of these, kept for privileged roles.
    reserved: Option<u32>,
    /// Of those that a role without privileges can get.
    used_percent: Option<f64>,
    by_state: Option<Counts<'a>>,
    by_application: Option<Counts<'a>>,
    /// From this task's address: the API's pool, too, as the server sees it.
    this_task: Option<u32>,
    this_task_by_state: Option<Counts<'a>>,
}

type Counts<'a> = OrderedMap<&'a str, u32>;

/// What a configured query came to.
#[derive(Debug, Serialize, JsonSchema)]
struct Query<'a> {
    ok: bool,
    value: Option<QueryValue<'a>>,
    problem: Option<&'a str>,
    duration_ms: f64,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
enum QueryValue<'a> {
    Integer(i64),
    Number(f64),
    Text(&'a str),
}

impl<'a> PostgresDetails<'a> {
    fn new(seen: &'a seen::PostgresDetails, now: Now) -> Self {
        Self {
            server_version: &seen.server_version,
            role: if seen.in_recovery { Role::Replica } else { Role::Primary },
            read_only: seen.read_only,
            replication_lag_seconds: seen.replication_lag.map(seconds),
            database: &seen.database,
            user: &seen.user,
            connections: (&seen.connections).into(),
            longest_transaction_seconds: seen.longest_transaction.map(seconds),
            queries: OrderedMap(seen.queries.iter().map(|it| (it.name.as_str(), it.into())).collect()),
            hidden: seen.hidden.as_deref(),
            tls: Tls::new(seen.tls.as_ref(), now),
        }
    }
}

impl<'a> From<&'a seen::Connections> for Connections<'a> {
    fn from(seen: &'a seen::Connections) -> Self {
        let counts = |counts: &'a Option<Vec<(String, u32)>>| {
            let counts = counts.as_deref()?.iter();
            Some(OrderedMap(counts.map(|(what, count)| (what.as_str(), *count)).collect()))
        };
        Self {
            used: seen.used,
            max: seen.max,
            reserved: seen.reserved,
            used_percent: seen.used_percent().map(to_a_tenth),
            by_state: counts(&seen.by_state),
            by_application: counts(&seen.by_application),
            this_task: seen.this_task,
            this_task_by_state: counts(&seen.this_task_by_state),
        }
    }
}

impl<'a> From<&'a seen::QueryResult> for Query<'a> {
    fn from(result: &'a seen::QueryResult) -> Self {
        let value = result.value.as_ref().map(|value| match value {
            seen::QueryValue::Integer(number) => QueryValue::Integer(*number),
            seen::QueryValue::Number(number) => QueryValue::Number(*number),
            seen::QueryValue::Text(text) => QueryValue::Text(text),
        });
        let problem = result.problem.as_deref();
        Self { ok: result.ok, value, problem, duration_ms: millis(result.duration) }
    }
}

/// A Redis server, as `INFO` describes it. What it does not tell is null.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct RedisDetails<'a> {
    server_version: Option<&'a str>,
    /// `standalone` or `cluster`.
    mode: Option<&'a str>,
    uptime_seconds: Option<u64>,
    role: Option<Role>,
    /// Whether a write would be refused, as far as can be told without one.
    read_only: Option<bool>,
    /// Replicas not counted.
    connected_clients: Option<u64>,
    max_clients: Option<u64>,
    /// For that limit, since the server started.
    rejected_connections: Option<u64>,
    blocked_clients: Option<u64>,
    used_memory_bytes: Option<u64>,
    /// 0 where there is no limit.
    maxmemory_bytes: Option<u64>,
    maxmemory_policy: Option<&'a str>,
    /// Since the server started.
    evicted_keys: Option<u64>,
    loading: Option<bool>,
    replication: Option<Replication<'a>>,
    /// Why some of this is not told, and what to do about it.
    hidden: Option<&'a str>,
    /// Null for plain text.
    tls: Option<Tls>,
}

#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Role {
    Primary,
    Replica,
}

/// How a Redis server stands to its replicas, or to its primary.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
enum Replication<'a> {
    #[schemars(title = "primary")]
    Primary {
        /// Bytes written to the replication stream.
        offset: Option<u64>,
        connected_replicas: Option<u64>,
        replicas: Vec<Replica<'a>>,
    },
    #[schemars(title = "replica")]
    Replica {
        /// `host:port`.
        primary: Option<&'a str>,
        link: Option<Link>,
        link_down_seconds: Option<u64>,
        /// Whether the whole data set is being received.
        syncing: Option<bool>,
        /// Since the primary was last heard of.
        last_heard_seconds: Option<u64>,
        /// Bytes of the replication stream received.
        offset: Option<u64>,
    },
}

#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Link {
    Up,
    Down,
}

/// A replica, as its primary sees it.
#[derive(Debug, Serialize, JsonSchema)]
struct Replica<'a> {
    /// `host:port`.
    address: &'a str,
    state: Option<&'a str>,
    lag_seconds: Option<u64>,
    /// Of the replication stream, not acknowledged.
    behind_bytes: Option<u64>,
}

impl<'a> RedisDetails<'a> {
    fn new(seen: &'a seen::RedisDetails, now: Now) -> Self {
        let role = seen.replication.as_ref().map(|replication| match replication {
            seen::RedisReplication::Primary { .. } => Role::Primary,
            seen::RedisReplication::Replica { .. } => Role::Replica,
        });
        Self {
            server_version: seen.server_version.as_deref(),
            mode: seen.mode.as_deref(),
            uptime_seconds: seen.uptime.map(whole_seconds),
            role,
            read_only: seen.read_only,
            connected_clients: seen.connected_clients,
            max_clients: seen.max_clients,
            rejected_connections: seen.rejected_connections,
            blocked_clients: seen.blocked_clients,
            used_memory_bytes: seen.used_memory_bytes,
            maxmemory_bytes: seen.maxmemory_bytes,
            maxmemory_policy: seen.maxmemory_policy.as_deref(),
            evicted_keys: seen.evicted_keys,
            loading: seen.loading,
            replication: seen.replication.as_ref().map(Replication::from),
            hidden: seen.hidden.as_deref(),
            tls: Tls::new(seen.tls.as_ref(), now),
        }
    }
}

impl<'a> From<&'a seen::RedisReplication> for Replication<'a> {
    fn from(replication: &'a seen::RedisReplication) -> Self {
        match replication {
            seen::RedisReplication::Primary { offset, connected_replicas, replicas } => Self::Primary {
                offset: *offset,
                connected_replicas: *connected_replicas,
                replicas: replicas.iter().map(Replica::from).collect(),
            },
            seen::RedisReplication::Replica {
                primary,
                link_up,
                link_down_for,
                syncing,
                last_heard,
                offset,
            } => Self::Replica {
                primary: primary.as_deref(),
                link: link_up.map(|up| if up { Link::Up } else { Link::Down }),
                link_down_seconds: link_down_for.map(whole_seconds),
                syncing: *syncing,
                last_heard_seconds: last_heard.map(whole_seconds),
                offset: *offset,
            },
        }
    }
}

impl<'a> From<&'a seen::RedisReplica> for Replica<'a> {
    fn from(replica: &'a seen::RedisReplica) -> Self {
        Self {
            address: &replica.address,
            state: replica.state.as_deref(),
            lag_seconds: replica.lag.map(whole_seconds),
            behind_bytes: replica.behind_bytes,
        }
    }
}

/// The answer for a name.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct DnsDetails<'a> {
    /// The records' data, as text.
    records: &'a [String],
    /// The addresses among them.
    addresses: Vec<String>,
    /// The names that the name is an alias of.
    aliases: &'a [String],
    /// The shortest in the answer.
    ttl_seconds: Option<u32>,
    /// Keys are addresses with ports; `system` stands for the servers of the system.
    by_nameserver: OrderedMap<String, NameserverAnswer<'a>>,
}

/// What one name server said.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
enum NameserverAnswer<'a> {
    #[schemars(title = "answered")]
    Answered { records: &'a [String], duration_ms: f64 },
    #[schemars(title = "failed")]
    Failed { error: &'a str, duration_ms: f64 },
}

impl<'a> From<&'a seen::DnsDetails> for DnsDetails<'a> {
    fn from(seen: &'a seen::DnsDetails) -> Self {
        let by_nameserver = seen.by_nameserver.iter().map(|answer| {
            let server = answer.server.map_or_else(|| "system".to_owned(), |server| server.to_string());
            let duration_ms = millis(answer.duration);
            let said = match &answer.records {
                Ok(records) => NameserverAnswer::Answered { records, duration_ms },
                Err(error) => NameserverAnswer::Failed { error, duration_ms },
            };
            (server, said)
        });
        Self {
            records: &seen.records,
            addresses: seen.addresses.iter().map(ToString::to_string).collect(),
            aliases: &seen.aliases,
            ttl_seconds: seen.ttl_seconds,
            by_nameserver: OrderedMap(by_nameserver.collect()),
        }
    }
}

/// The other end of a port.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct TcpDetails {
    /// The address connected to.
    peer: Option<String>,
    /// Null where it was not asked for.
    tls: Option<Tls>,
}

/// An HTTP answer.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct HttpDetails {
    status_code: u16,
    /// Those that were read.
    body_bytes: usize,
    /// Null for plain text.
    tls: Option<Tls>,
}

/// A TLS session.
#[derive(Debug, Serialize, JsonSchema)]
struct Tls {
    /// `TLSv1.2`, `TLSv1.3`; null where it could not be told.
    version: Option<&'static str>,
    /// Whether chain and name were verified.
    verified: bool,
    /// Of the server's own certificate.
    expires_at: Option<Timestamp>,
    /// Negative once it has ended.
    expires_in_days: Option<f64>,
}

impl Tls {
    fn new(tls: Option<&seen::TlsDetails>, now: Now) -> Option<Self> {
        const DAY: f64 = 24.0 * 3600.0 * 1000.0;
        let seen::TlsDetails { version, verified, expires_at } = tls?;
        let days = expires_at.map(|end| (end.unix_millis() - now.wall.unix_millis()) as f64 / DAY);
        Some(Self {
            version: *version,
            verified: *verified,
            expires_at: expires_at.map(Timestamp),
            expires_in_days: days.map(to_a_tenth),
        })
    }
}

/// What the server counts in whole seconds.
fn whole_seconds(span: Duration) -> u64 {
    span.as_secs()
}

fn to_a_tenth(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}
