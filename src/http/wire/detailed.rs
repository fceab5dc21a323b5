//! `/health/detailed` and its dependencies.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use super::check::{LastCheck, LastFailure};
use super::circuit::Circuit;
use super::config::Config;
use super::details::Details;
use super::map::OrderedMap;
use super::schema::Word;
use super::task::Task;
use super::{Timestamp, millis, seconds};
use crate::health::verdict::{self, Answer};
use crate::health::window::Latency;
use crate::health::{
    self, Check, Impact, Kind, Now, PoolStats, ResolverStats, Scope, ServiceStatus, Snapshot, Status,
};
use crate::http::counts::Counts;

/// What is told of the configuration.
pub(in crate::http) struct Configuration<'a> {
    pub(in crate::http) service: &'a str,
    pub(in crate::http) environment: &'a str,
    pub(in crate::http) config: Option<Config<'a>>,
}

/// Everything.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::http) struct Detailed<'a> {
    status: Word<ServiceStatus>,
    service: &'a str,
    environment: &'a str,
    version: Version,
    started_at: Timestamp,
    uptime_seconds: f64,
    now: Timestamp,
    /// Null outside of ECS, and for a moment at the start.
    task: Option<Task<'a>>,
    /// Null for a moment at the start.
    config: Option<Config<'a>>,
    groups: Groups,
    resolver: Resolver,
    server: Server,
    dependencies: OrderedMap<&'a str, Dependency<'a>>,
}

/// What the look-ups of names have cost since the start.
#[derive(Debug, Serialize, JsonSchema)]
struct Resolver {
    packets: u64,
    shared: u64,
    waited: u64,
    waited_seconds: f64,
    kept: u64,
    refused: u64,
    withheld: u64,
}

impl From<ResolverStats> for Resolver {
    fn from(stats: ResolverStats) -> Self {
        let ResolverStats { packets, shared, waited, waited_for, kept, refused, withheld } = stats;
        Self { packets, shared, waited, waited_seconds: seconds(waited_for), kept, refused, withheld }
    }
}

/// Those who ask, on all listeners, since the start.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::http) struct Server {
    /// Open now.
    connections: u64,
    accepted: u64,
    /// Closed because they had no answer for too long.
    silent: u64,
    /// Closed to make room for others.
    displaced: u64,
    /// Requests that were answered `overloaded`.
    overloaded: u64,
}

impl Server {
    pub(in crate::http) fn new<'a>(listeners: impl IntoIterator<Item = &'a Counts>) -> Self {
        let mut all = Self { connections: 0, accepted: 0, silent: 0, displaced: 0, overloaded: 0 };
        for Counts { accepted, ended, silent, displaced, overloaded } in listeners {
            // Those that have ended first: there are never more of them than were accepted by then.
            let ended = ended.get();
            all.connections += accepted.get().saturating_sub(ended);
            all.accepted += accepted.get();
            all.silent += silent.get();
            all.displaced += displaced.get();
            all.overloaded += overloaded.get();
        }
        all
    }
}

#[derive(Debug, Serialize, JsonSchema)]
struct Version {
    sickbay: &'static str,
    commit: &'static str,
    rustc: &'static str,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Groups {
    live: Group,
    ready: Group,
    alb: Group,
    startup: Group,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Group {
    status: Word<ServiceStatus>,
    code: u16,
}

impl From<Answer> for Group {
    fn from(answer: Answer) -> Self {
        Self { status: Word(answer.status), code: answer.code() }
    }
}

impl<'a> Detailed<'a> {
    pub(in crate::http) fn new(
        snapshot: &'a Snapshot,
        Configuration { service, environment, config }: Configuration<'a>,
        task: Option<&'a health::Task>,
        live: &Answer,
        names: ResolverStats,
        server: Server,
        now: Now,
    ) -> Self {
        let dependencies = snapshot
            .dependencies
            .iter()
            .enumerate()
            .map(|(index, view)| (view.policy.name.as_str(), Dependency::new(snapshot, index, now)));
        Self {
            status: Word(verdict::service(snapshot, now.mono)),
            service,
            environment,
            version: Version {
                sickbay: crate::version::VERSION,
                commit: crate::version::COMMIT,
                rustc: crate::version::RUSTC,
            },
            started_at: Timestamp(snapshot.started.wall),
            uptime_seconds: seconds(now.mono.since(snapshot.started.mono)),
            now: Timestamp(now.wall),
            task: task.map(Task::from),
            config,
            groups: Groups {
                live: live.clone().into(),
                ready: verdict::ready(snapshot, now.mono).into(),
                alb: verdict::alb(snapshot, now.mono).into(),
                startup: verdict::startup(snapshot).into(),
            },
            resolver: names.into(),
            server,
            dependencies: OrderedMap(dependencies.collect()),
        }
    }
}

/// One dependency.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::http) struct Dependency<'a> {
    kind: Word<Kind>,
    impact: Word<Impact>,
    scope: Word<Scope>,
    enabled: bool,
    /// Why it is not checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled: Option<&'a str>,
    status: Word<Status>,
    warnings: Vec<String>,
    target: &'a str,
    address: Option<String>,
    stale: bool,
    next_check_at: Option<Timestamp>,
    last_check: Option<LastCheck<'a>>,
    last_failure: Option<LastFailure<'a>>,
    circuit: Circuit<'a>,
    pool: Option<Pool>,
    latency_ms: Option<LatencyMs>,
    address_changes: Vec<AddressChange>,
    details: Details<'a>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct AddressChange {
    at: Timestamp,
    from: Option<String>,
    to: Option<String>,
    /// Whether connections were still taken at `from` when the name had left it.
    from_answers: Option<bool>,
}

impl<'a> Dependency<'a> {
    pub(in crate::http) fn new(snapshot: &'a Snapshot, index: usize, now: Now) -> Self {
        let view = &snapshot.dependencies[index];
        let policy = &view.policy;
        let changes = view.address_changes.iter().map(|change| AddressChange {
            at: Timestamp(change.at),
            from: change.from.map(|address| address.to_string()),
            to: change.to.map(|address| address.to_string()),
            from_answers: change.from_answers,
        });
        // What was seen last stays told while checks fail: it is how the server was when it still answered.
        let told_by = |check: &'a Option<Arc<Check>>| check.as_deref().and_then(Check::details);
        let seen = told_by(&view.last_check).or_else(|| told_by(&view.last_seen));
        Self {
            kind: Word(policy.kind),
            impact: Word(policy.impact),
            scope: Word(policy.scope),
            enabled: policy.enabled(),
            disabled: policy.disabled.as_deref(),
            status: Word(snapshot.status(index, now.mono)),
            warnings: view.warnings(),
            target: &policy.target,
            address: view.address.map(|address| address.to_string()),
            stale: view.stale(now.mono),
            next_check_at: policy.enabled().then(|| Timestamp(now.wall_at(view.next_due))),
            last_check: view.last_check.as_deref().map(|check| LastCheck::new(check, now)),
            last_failure: view
                .last_failure
                .as_deref()
                .and_then(|check| LastFailure::new(policy, check, view.diagnosis.as_deref())),
            circuit: Circuit::new(view, now),
            pool: view.pool.map(Pool::from),
            latency_ms: view.latency.map(LatencyMs::from),
            address_changes: changes.collect(),
            details: Details::new(seen, now),
        }
    }
}

#[derive(Debug, Serialize, JsonSchema)]
struct Pool {
    max: u32,
    size: u32,
    idle: u32,
    in_use: u32,
    /// Always 0: a dependency is asked by one check at a time.
    waiting: u32,
    created: u64,
    closed: u64,
    errors: u64,
}

impl From<PoolStats> for Pool {
    fn from(stats: PoolStats) -> Self {
        let PoolStats { max, size, idle, created, closed, errors } = stats;
        Self { max, size, idle, in_use: size.saturating_sub(idle), waiting: 0, created, closed, errors }
    }
}

#[derive(Debug, Serialize, JsonSchema)]
struct LatencyMs {
    count: usize,
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
}

impl From<Latency> for LatencyMs {
    fn from(latency: Latency) -> Self {
        Self {
            count: latency.count,
            p50: millis(latency.p50),
            p90: millis(latency.p90),
            p99: millis(latency.p99),
            max: millis(latency.max),
        }
    }
}
