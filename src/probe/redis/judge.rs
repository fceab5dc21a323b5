//! Whether what a server tells of itself is what is expected of it: its role, its readiness for writes, and the
//! bounds of the warnings.

use std::time::Duration;

use super::failure::Refusal;
use super::info::{Info, Refusing};
use crate::config::percent::Percent;
use crate::config::plan::{RedisBounds, RedisPlan, Role};
use crate::health::observation::RedisReplication;
use crate::health::{Failure, FailureKind, Phase};

/// Keys evicted since the last check, and how long ago that was.
#[derive(Debug, Clone, Copy)]
pub(super) struct Evicted {
    pub(super) keys: u64,
    pub(super) within: Duration,
}

/// The failure that it is, whatever else is fine.
pub(super) fn expected(role: Role, info: &Info<'_>, cluster: Option<&Info<'_>>) -> Result<(), Failure> {
    if info.text("redis_mode") == Some("sentinel") {
        return Err(wrong_role("a Sentinel answers, and no server that holds data")
            .with_hint("configure the server itself, which listens on 6379 where nothing else was said"));
    }
    let is = match info.text("role") {
        Some("master") => Role::Primary,
        Some("slave") => Role::Replica,
        _ if role == Role::Any => role,
        _ => return Err(Failure::new(Phase::Query, FailureKind::Protocol, "INFO tells no role")),
    };
    if role != Role::Any && is != role {
        let primary = info.primary().map(|primary| format!(" of {primary}")).unwrap_or_default();
        return Err(wrong_role(format!("the server is a {is}{primary}, expected a {role}")));
    }
    if let Some(cluster) = cluster
        && cluster.text("cluster_state") == Some("fail")
    {
        let served = cluster.number("cluster_slots_ok").unwrap_or_default();
        let text = format!("the cluster is down: {served} of 16384 slots are served");
        return Err(Refusal { code: "CLUSTERDOWN".into(), text }.failure(Phase::Query));
    }
    match info.refusing() {
        // Who wants a primary wants to write.
        Some(refusing) if role == Role::Primary => Err(refusal(refusing).failure(Phase::Query)),
        _ => Ok(()),
    }
}

fn wrong_role(message: impl Into<String>) -> Failure {
    Failure::new(Phase::Query, FailureKind::WrongRole, message)
}

/// What the server would say to a write.
fn refusal(refusing: Refusing) -> Refusal {
    let (code, text) = match refusing {
        Refusing::Full => ("OOM", "memory is full and nothing may be evicted: writes are refused"),
        Refusing::Alone => ("NOREPLICAS", "too few replicas are connected: writes are refused"),
    };
    Refusal { code: code.into(), text: text.into() }
}

/// What works and is not as it should be.
pub(super) fn warnings(plan: &RedisPlan, info: &Info<'_>, evicted: Option<Evicted>) -> Vec<String> {
    let bounds = plan.warn();
    let refusing = info.refusing();
    let mut warnings: Vec<String> = refusing
        .map(|refusing| {
            let refusal = refusal(refusing);
            format!("{}: {}", refusal.code, refusal.failure(Phase::Query).hint)
        })
        .into_iter()
        .collect();
    if refusing != Some(Refusing::Full) {
        warnings.extend(memory(bounds, info));
    }
    warnings.extend(evictions(bounds, info, evicted));
    warnings.extend(clients(bounds, info));
    warnings.extend(replication(bounds, info));
    warnings
}

/// Memory near its limit, where that is a danger: a cache that may make room is meant to be full, and a replica
/// leaves it to its primary to make some (`replica-ignore-maxmemory`).
fn memory(bounds: &RedisBounds, info: &Info<'_>) -> Option<String> {
    let bound = (*bounds.memory_used())?;
    let limit = info.number("maxmemory").filter(|limit| *limit > 0)?;
    let used = info.number("used_memory")?;
    let share = passed(used, limit, bound).filter(|_| info.is_primary() && info.keeps_all())?;
    let policy = info.text("maxmemory_policy").unwrap_or("noeviction");
    Some(format!(
        "{share:.0} % of the memory is used, {} of {}; the bound is {bound}; at the limit writes are refused, because nothing may be evicted (`{policy}`)",
        bytes(used),
        bytes(limit)
    ))
}

fn evictions(bounds: &RedisBounds, info: &Info<'_>, evicted: Option<Evicted>) -> Option<String> {
    let bound = (*bounds.evictions())?;
    let Evicted { keys, within } = evicted?;
    bound.is_passed(keys, within).then(|| {
        let limit = info.number("maxmemory").map(|limit| format!(" of {}", bytes(limit))).unwrap_or_default();
        format!("{keys} keys were evicted within {within:.1?}, the bound is {bound}: the data outgrows `maxmemory`{limit}")
    })
}

/// Connections near their limit. The server counts replicas and other nodes, too.
fn clients(bounds: &RedisBounds, info: &Info<'_>) -> Option<String> {
    let bound = (*bounds.clients_used())?;
    let limit = info.number("maxclients").filter(|limit| *limit > 0)?;
    let others = ["connected_slaves", "cluster_connections"].map(|name| info.number(name).unwrap_or(0));
    let used = others.into_iter().fold(info.number("connected_clients")?, u64::saturating_add);
    let share = passed(used, limit, bound)?;
    Some(format!(
        "{share:.0} % of the connections are taken, {used} of {limit}; the bound is {bound}; beyond `maxclients` new ones are refused"
    ))
}

/// A lost link has no bound: a replica without its primary is none. The rest is silence that grows.
fn replication(bounds: &RedisBounds, info: &Info<'_>) -> Vec<String> {
    let bound = bounds.replication_lag().unwrap_or(Duration::MAX);
    match info.replication() {
        Some(RedisReplication::Replica { primary, link_up: Some(false), link_down_for, syncing, .. }) => {
            let primary = primary.map(|primary| format!(", {primary}")).unwrap_or_default();
            let link = match link_down_for {
                Some(since) => {
                    format!("has lost its link to the primary{primary}, for {} s", since.as_secs())
                }
                None => format!("has not reached its primary{primary}"),
            };
            let answers = match syncing {
                Some(true) => "it is receiving the whole data set",
                _ => "what it answers grows old",
            };
            vec![format!("the replica {link}; {answers}")]
        }
        Some(RedisReplication::Replica { primary, last_heard: Some(silent), .. }) if silent > bound => {
            let primary = primary.map(|primary| format!(" {primary}")).unwrap_or_default();
            vec![lagging(&format!("the primary{primary}"), silent, bound)]
        }
        Some(RedisReplication::Primary { replicas, .. }) => {
            let late = replicas.iter().filter_map(|replica| {
                let lag = replica.lag.filter(|lag| *lag > bound)?;
                (replica.state.as_deref() == Some("online"))
                    .then(|| lagging(&format!("the replica {}", replica.address), lag, bound))
            });
            late.take(LATE_TOLD).collect()
        }
        _ => Vec::new(),
    }
}

/// No more replicas are named in warnings; all are among the details.
const LATE_TOLD: usize = 3;

fn lagging(who: &str, silent: Duration, bound: Duration) -> String {
    let bound = crate::config::duration::format_duration(bound);
    format!("{who} was last heard of {} s ago, the bound is {bound}", silent.as_secs())
}

/// The share in percent, where it is more than the bound.
fn passed(used: u64, limit: u64, bound: Percent) -> Option<f64> {
    let share = used as f64 * 100.0 / limit as f64;
    (share > f64::from(bound.get())).then_some(share)
}

/// `512 KiB`, `1.5 GiB`
fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut size = count as f64;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    let text = format!("{size:.1}");
    format!("{} {}", text.trim_end_matches(".0"), UNITS[unit])
}
