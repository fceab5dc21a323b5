//! A check as JSON: `last_check`, `last_failure`, `details`, and the report of `sickbay check`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::circuit::OrderedMap;
use super::schema::Word;
use super::{Timestamp, millis, seconds};
use crate::health::observation::{
    Connections, DnsDetails, HttpDetails, PostgresDetails, QueryResult, QueryValue, RedisDetails,
    RedisReplication, TcpDetails, TlsDetails,
};
use crate::health::{Check, Details, FailureKind, Now, Phase, Policy, Status};

/// The last check.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct LastCheck<'a> {
    /// The same as in the log.
    check_id: &'a str,
    /// When it began.
    at: Timestamp,
    /// How long ago it ended.
    age_seconds: f64,
    ok: bool,
    /// All but the last one failed.
    attempts: u32,
    /// Whether the last attempt made a connection of its own.
    new_connection: bool,
    /// With the pauses between attempts.
    duration_ms: f64,
    /// The phases of the last attempt; those that ran.
    phases_ms: OrderedMap<'static, f64>,
}

impl<'a> LastCheck<'a> {
    pub(super) fn new(check: &'a Check, now: Now) -> Self {
        Self {
            check_id: check.id.as_str(),
            at: Timestamp(check.at.wall),
            age_seconds: super::seconds(now.mono.since(check.ended())),
            ok: check.ok(),
            attempts: check.attempts,
            new_connection: check.new_connection,
            duration_ms: millis(check.duration),
            phases_ms: phases(check),
        }
    }
}

/// The last check that failed.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct LastFailure<'a> {
    check_id: &'a str,
    at: Timestamp,
    phase: Word<Phase>,
    failure_kind: Word<FailureKind>,
    /// SQLSTATE, Redis error prefix, errno, DNS response code.
    code: Option<&'a str>,
    /// What was seen.
    message: &'a str,
    /// What to do about it.
    hint: &'a str,
    attempts: u32,
    duration_ms: f64,
    phases_ms: OrderedMap<'static, f64>,
}

impl<'a> LastFailure<'a> {
    /// `None` for a check that succeeded.
    pub(super) fn new(check: &'a Check) -> Option<Self> {
        let failure = check.failure()?;
        Some(Self {
            check_id: check.id.as_str(),
            at: Timestamp(check.at.wall),
            phase: Word(failure.phase),
            failure_kind: Word(failure.kind),
            code: failure.code.as_deref(),
            message: &failure.message,
            hint: &failure.hint,
            attempts: check.attempts,
            duration_ms: millis(check.duration),
            phases_ms: phases(check),
        })
    }
}

fn phases(check: &Check) -> OrderedMap<'static, f64> {
    OrderedMap(check.phases.iter().map(|(phase, span)| (phase.as_str(), millis(span))).collect())
}

/// What only the kind can tell; an empty object where nothing was seen.
pub(super) fn details(details: Option<&Details>, now: Now) -> Value {
    match details {
        None | Some(Details::None) => json!({}),
        Some(Details::Postgres(seen)) => postgres(seen, now),
        Some(Details::Redis(seen)) => redis(seen, now),
        Some(Details::Dns(seen)) => dns(seen),
        Some(Details::Tcp(TcpDetails { peer, tls })) => json!({
            "peer": peer.map(|peer| peer.to_string()),
            "tls": tls_details(tls.as_ref(), now),
        }),
        Some(Details::Http(HttpDetails { status_code, body_bytes, tls })) => json!({
            "status_code": status_code,
            "body_bytes": body_bytes,
            "tls": tls_details(tls.as_ref(), now),
        }),
    }
}

fn postgres(seen: &PostgresDetails, now: Now) -> Value {
    json!({
        "server_version": seen.server_version,
        "role": if seen.in_recovery { "replica" } else { "primary" },
        "read_only": seen.read_only,
        "replication_lag_seconds": seen.replication_lag.map(seconds),
        "database": seen.database,
        "user": seen.user,
        "connections": connections(&seen.connections),
        "longest_transaction_seconds": seen.longest_transaction.map(seconds),
        "queries": seen.queries.iter().map(query).collect::<Map<_, _>>(),
        "hidden": seen.hidden,
        "tls": tls_details(seen.tls.as_ref(), now),
    })
}

fn connections(seen: &Connections) -> Value {
    let counts = |counts: &Vec<(String, u32)>| -> Map<String, Value> {
        counts.iter().map(|(what, count)| (what.clone(), json!(count))).collect()
    };
    json!({
        "used": seen.used,
        "max": seen.max,
        "reserved": seen.reserved,
        "used_percent": seen.used_percent().map(|percent| (percent * 10.0).round() / 10.0),
        "by_state": seen.by_state.as_ref().map(counts),
        "by_application": seen.by_application.as_ref().map(counts),
        "this_task": seen.this_task,
        "this_task_by_state": seen.this_task_by_state.as_ref().map(counts),
    })
}

fn query(result: &QueryResult) -> (String, Value) {
    let value = result.value.as_ref().map(|value| match value {
        QueryValue::Integer(number) => json!(number),
        QueryValue::Number(number) => json!(number),
        QueryValue::Text(text) => json!(text),
    });
    let told = json!({
        "ok": result.ok,
        "value": value,
        "problem": result.problem,
        "duration_ms": millis(result.duration),
    });
    (result.name.clone(), told)
}

fn redis(seen: &RedisDetails, now: Now) -> Value {
    let role = seen.replication.as_ref().map(|replication| match replication {
        RedisReplication::Primary { .. } => "primary",
        RedisReplication::Replica { .. } => "replica",
    });
    json!({
        "server_version": seen.server_version,
        "mode": seen.mode,
        "uptime_seconds": whole_seconds(seen.uptime),
        "role": role,
        "read_only": seen.read_only,
        "connected_clients": seen.connected_clients,
        "max_clients": seen.max_clients,
        "rejected_connections": seen.rejected_connections,
        "blocked_clients": seen.blocked_clients,
        "used_memory_bytes": seen.used_memory_bytes,
        "maxmemory_bytes": seen.maxmemory_bytes,
        "maxmemory_policy": seen.maxmemory_policy,
        "evicted_keys": seen.evicted_keys,
        "loading": seen.loading,
        "replication": seen.replication.as_ref().map(replication),
        "hidden": seen.hidden,
        "tls": tls_details(seen.tls.as_ref(), now),
    })
}

fn replication(replication: &RedisReplication) -> Value {
    match replication {
        RedisReplication::Primary { offset, connected_replicas, replicas } => {
            let replicas = replicas.iter().map(|replica| {
                json!({
                    "address": replica.address,
                    "state": replica.state,
                    "lag_seconds": whole_seconds(replica.lag),
                    "behind_bytes": replica.behind_bytes,
                })
            });
            json!({
                "offset": offset,
                "connected_replicas": connected_replicas,
                "replicas": replicas.collect::<Vec<_>>(),
            })
        }
        RedisReplication::Replica { primary, link_up, link_down_for, syncing, last_heard, offset } => json!({
            "primary": primary,
            "link": link_up.map(|up| if up { "up" } else { "down" }),
            "link_down_seconds": whole_seconds(*link_down_for),
            "syncing": syncing,
            "last_heard_seconds": whole_seconds(*last_heard),
            "offset": offset,
        }),
    }
}

/// What the server counts in whole seconds.
fn whole_seconds(span: Option<Duration>) -> Option<u64> {
    span.map(|span| span.as_secs())
}

fn dns(seen: &DnsDetails) -> Value {
    let by_nameserver = seen.by_nameserver.iter().map(|answer| {
        let said = match &answer.records {
            Ok(records) => json!({ "records": records, "duration_ms": millis(answer.duration) }),
            Err(error) => json!({ "error": error, "duration_ms": millis(answer.duration) }),
        };
        (answer.server.map_or_else(|| "system".to_owned(), |server| server.to_string()), said)
    });
    json!({
        "records": seen.records,
        "addresses": seen.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "aliases": seen.aliases,
        "ttl_seconds": seen.ttl_seconds,
        "by_nameserver": by_nameserver.collect::<Map<_, _>>(),
    })
}

fn tls_details(tls: Option<&TlsDetails>, now: Now) -> Value {
    let Some(tls) = tls else { return Value::Null };
    let days = tls.expires_at.map(|end| {
        const DAY: f64 = 24.0 * 3600.0 * 1000.0;
        let left = (end.unix_millis() - now.wall.unix_millis()) as f64 / DAY;
        (left * 10.0).round() / 10.0
    });
    json!({
        "version": tls.version,
        "verified": tls.verified,
        "expires_at": tls.expires_at.map(Timestamp),
        "expires_in_days": days,
    })
}

/// One dependency of `sickbay check --format json`.
pub fn check_report(policy: &Policy, status: Status, check: Option<&Check>, now: Now) -> Value {
    let observation = check.and_then(Check::observation);
    json!({
        "kind": policy.kind.as_str(),
        "impact": policy.impact.as_str(),
        "scope": policy.scope.as_str(),
        "target": policy.target,
        "address": check.and_then(|check| check.address).map(|address| address.to_string()),
        "status": status.as_str(),
        "disabled": policy.disabled,
        "warnings": observation.map(|seen| seen.warnings.clone()).unwrap_or_default(),
        "last_check": check.map(|check| LastCheck::new(check, now)),
        "last_failure": check.and_then(LastFailure::new),
        "details": details(check.and_then(Check::details), now),
    })
}
