//! The kind `redis`: how it is reached, and the bounds of its warnings.

use std::time::Duration;

use super::super::cursor::Cursor;
use super::super::tls::tls;
use super::{Asked, RECONNECT_EVERY, host_of, said};
use crate::config::bound::resolved;
use crate::config::duration::HumanDuration;
use crate::config::errors::ConfigError;
use crate::config::percent::Percent;
use crate::config::plan::{ProbePlan, RedisBounds, RedisPlan, Role};
use crate::config::raw::{RawRedis, RawRedisWarn};

/// Where memory that fills up ends in refused writes, there is still time to do something.
const MEMORY_USED: Percent = Percent::of(90);

/// As for PostgreSQL's connections: what comes beyond the limit is turned away at the door.
const CLIENTS_USED: Percent = Percent::of(80);

/// Primary and replica hear of each other every ten seconds at the latest, and part after sixty
/// (`repl-ping-replica-period`, `repl-timeout`).
const REPLICATION_LAG: Duration = Duration::from_secs(30);

const LAG_LEAST: Duration = Duration::from_secs(1);

pub(super) fn redis(raw: RawRedis, used: bool, at: &Cursor<'_>) -> Asked {
    if let Some(mode) = raw.mode.filter(|mode| mode != "standalone") {
        let at = at.key("mode");
        let what = match mode.as_str() {
            "sentinel" | "cluster" => format!("the mode `{mode}` is not yet supported in this version"),
            _ => format!("{} is not valid", at.shown(&mode)),
        };
        at.refuse(ConfigError::new(what).allowed("`standalone`"));
    }
    let mut missing = Vec::new();
    let host = host_of(raw.host, at, &mut missing);
    let plan = RedisPlan {
        host: host.clone(),
        port: at.key("port").port(raw.port.unwrap_or(6379)),
        username: said(raw.username),
        password: at.key("password").filled(raw.password),
        tls: tls(raw.tls, used, &at.key("tls")),
        role: raw.role.unwrap_or(Role::Any),
        reconnect_every: at
            .key("reconnect_every")
            .number(raw.reconnect_every.unwrap_or(RECONNECT_EVERY), 1..=10_000),
        warn: bounds(raw.warn.unwrap_or_default(), &at.key("warn")),
    };
    Asked { probe: ProbePlan::Redis(plan), host: Some(host), missing }
}

fn bounds(raw: RawRedisWarn, at: &Cursor<'_>) -> RedisBounds {
    let RawRedisWarn { memory_used, clients_used, evictions, replication_lag } = raw;
    let lag = resolved(replication_lag, Some(HumanDuration(REPLICATION_LAG)));
    RedisBounds {
        memory_used: resolved(memory_used, Some(MEMORY_USED)),
        clients_used: resolved(clients_used, Some(CLIENTS_USED)),
        // A cache evicts: that is how it makes room. How much of it is too much, only its owner knows.
        evictions: resolved(evictions, None),
        replication_lag: lag.map(|lag| at.key("replication_lag").duration(lag, LAG_LEAST)),
    }
}
