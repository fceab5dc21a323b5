//! What a result costs once it is there: the pure core's part of a check, and the publication of a snapshot.
//!
//! Both are called in this process, as the agent calls them. A library for such figures would time the same calls by the
//! same clock; here they stand in one table with all others, beside the bound that they are held against.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use serde_json::json;
use sickbay::clock::{Clock, Heartbeat, Stopwatch};
use sickbay::config::{self, Env, Overrides, Plan, Sources};
use sickbay::health::circuit::State as CircuitState;
use sickbay::health::{
    Check, CheckId, DependencyName, Details, Failure, FailureKind, Fraction, Monotonic, Now, Observation,
    Order, Phase, PhaseTimes, Policy, Record, ResolverStats, Snapshot, WallTime, verdict,
};
use sickbay::http::{NotDone, Operations, Pulses, State};

use super::report::{Row, Target, median, range};
use super::support::scratch::Folder;

/// The wanted bound of an outcome, in nanoseconds.
const OUTCOME_BOUND: f64 = 1_000.0;
/// The wanted bound of a publication, in microseconds.
const PUBLICATION_BOUND: f64 = 1_000.0;

/// Outcomes that are timed together, as one would be lost in what it takes to read the clock, and how often that is done.
const BATCH: usize = 1_000;
const BATCHES: usize = 200;
/// Outcomes before any is timed: every list of the record is full then.
const FILL: usize = 2_000;

/// Dependencies of the snapshot that is published, and how often it is.
const MANY: usize = 1_000;
const PUBLICATIONS: usize = 2_000;

const A_CHECK_TAKES: Duration = Duration::from_millis(1);

/// A success and a failure handed to a record that is full.
pub fn outcomes() -> Vec<Row> {
    let folder = Folder::new("plan");
    let plan = plan(&folder, 1);
    let policy = &enabled(&plan)[0];
    [("a success", true), ("a failed trial, which opens the circuit again", false)]
        .map(|(what, ok)| {
            let took = outcome(policy, ok);
            Row {
                what: format!("{what}, recorded (circuit, rates, window, history, schedule), median, ns"),
                ours: format!("{:.0} ({})", median(&took), range(&took, 0)),
                beside: format!("{OUTCOME_BOUND} ns"),
                ratio: median(&took) / OUTCOME_BOUND,
                target: Target::AtMost(1.0),
            }
        })
        .into()
}

/// Nanoseconds that an outcome takes, batch by batch.
fn outcome(policy: &Arc<Policy>, ok: bool) -> Vec<f64> {
    let mut record = Record::new(Arc::clone(policy), at(Duration::ZERO), Fraction::ZERO);
    // What has once worked can break.
    record.finish(check(record.due().since_origin(), true), Fraction::HALF);
    fill(&mut record, FILL, ok);
    let took = (0..BATCHES).map(|_| {
        // A check every interval or, where it fails, whenever a trial may be made: the circuit is not jittered here.
        let first = record.due().since_origin();
        let apart = match ok {
            true => policy.interval,
            false => policy.circuit.recovery_timeout + A_CHECK_TAKES,
        };
        let checks: Vec<Check> =
            (0..BATCH).map(|n| check(first + apart * u32::try_from(n).expect("few"), ok)).collect();
        let watch = Stopwatch::start();
        for check in checks {
            record.admit(check.at);
            record.finish(check, Fraction::HALF);
        }
        watch.elapsed().as_secs_f64() * 1e9 / BATCH as f64
    });
    let took = took.collect();
    let circuit = record.view(record.due()).circuit;
    let counted = (FILL + BATCHES * BATCH) as u64;
    assert_eq!(if ok { circuit.successes - 1 } else { circuit.failures }, counted);
    // Each failure opened it, but those below the threshold of the first time.
    let below = u64::from(policy.circuit.failure_threshold.get()) - 1;
    assert_eq!(circuit.opens, if ok { 0 } else { counted - below }, "{:?}", circuit.state);
    took
}

/// One new view among a thousand: the snapshot copied, stored, its short answers made, what changed looked for.
pub fn publication() -> Vec<Row> {
    let folder = Folder::new("plan");
    let plan = plan(&folder, MANY);
    let clock = Clock::start();
    let record = |policy| Record::new(policy, clock.now(), Fraction::ZERO);
    let mut records: Vec<Record> = enabled(&plan).into_iter().map(record).collect();
    assert_eq!(records.len(), MANY);
    for (n, record) in records.iter_mut().enumerate() {
        // Every fifth is down, so that the answers have something to tell.
        let ok = n % 5 != 0;
        record.finish(check(clock.mono().since_origin(), true), Fraction::HALF);
        for _ in 0..if ok { 20 } else { 5 } {
            record.finish(check(clock.mono().since_origin(), ok), Fraction::HALF);
        }
    }
    let views = records.iter().map(|record| Arc::new(record.view(clock.mono()))).collect();
    let current = Arc::new(ArcSwap::from_pointee(Snapshot::new(clock.now(), views)));
    let pulses = Pulses {
        registry: Heartbeat::new(clock),
        http: vec![Heartbeat::new(clock)],
        runner_lost: Box::new(|| false),
    };
    let answers =
        State::new(&plan, clock, Arc::clone(&current), pulses, ResolverStats::default, Arc::new(Nobody));
    let took: Vec<f64> = (0..PUBLICATIONS)
        .map(|n| {
            let index = n * 7 % MANY;
            let now = clock.mono();
            let view = Arc::new(records[index].view(now));
            let watch = Stopwatch::start();
            let mut next = Snapshot::clone(&current.load());
            next.dependencies[index] = view;
            current.store(Arc::new(next));
            answers.renew();
            let published = current.load();
            let statuses = (0..MANY).map(|index| published.status(index, now) as usize).sum::<usize>();
            let codes = verdict::ready(&published, now).code() + verdict::alb(&published, now).code();
            std::hint::black_box((statuses, codes));
            watch.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    let open = current.load().dependencies.iter().filter(|it| it.circuit.state == CircuitState::Open).count();
    assert_eq!(open, MANY / 5);
    vec![Row {
        what: format!("a snapshot of {MANY} dependencies published for one new result, median, µs"),
        ours: format!("{:.0} ({})", median(&took), range(&took, 0)),
        beside: format!("{PUBLICATION_BOUND} µs"),
        ratio: median(&took) / PUBLICATION_BOUND,
        target: Target::AtMost(1.0),
    }]
}

/// Nobody orders anything here.
struct Nobody;

impl Operations for Nobody {
    fn carry_out(&self, _: &DependencyName, _: Order) -> BoxFuture<'static, Result<(), NotDone>> {
        Box::pin(std::future::ready(Err(NotDone::Stopping)))
    }
}

fn fill(record: &mut Record, times: usize, ok: bool) {
    for _ in 0..times {
        let due = record.due().since_origin();
        record.admit(at(due));
        record.finish(check(due, ok), Fraction::HALF);
    }
}

fn at(elapsed: Duration) -> Now {
    let wall = i64::try_from(elapsed.as_millis()).expect("not that long");
    Now { mono: Monotonic::after_origin(elapsed), wall: WallTime::from_unix_millis(wall) }
}

/// A check as a database's looks: with phases, an address, an identifier, and where it failed a message.
fn check(began: Duration, ok: bool) -> Check {
    let mut phases = PhaseTimes::default();
    phases.add(Phase::Connect, A_CHECK_TAKES / 2);
    phases.add(Phase::Query, A_CHECK_TAKES / 2);
    let refused = || {
        Failure::new(Phase::Connect, FailureKind::ConnectRefused, "10.0.0.5:5432 refused the connection")
            .with_code("ECONNREFUSED")
    };
    Check {
        id: CheckId::new("01890a5d-ac96-774b-bcce-b302099a8057"),
        at: at(began),
        duration: A_CHECK_TAKES,
        latency: A_CHECK_TAKES,
        attempts: 1,
        phases,
        address: Some(([10, 0, 0, 5], 5432).into()),
        resolved: vec![[10, 0, 0, 5].into()],
        left_behind: None,
        new_connection: false,
        outcome: if ok { Ok(Observation::default()) } else { Err(refused()) },
        seen_before_failing: Details::None,
        pool: None,
    }
}

/// What is checked: not what the compiled-in default has, which is disabled without its variables.
fn enabled(plan: &Plan) -> Vec<Arc<Policy>> {
    plan.dependencies().iter().map(|it| Arc::clone(it.policy())).filter(|policy| policy.enabled()).collect()
}

/// A plan of so many TCP dependencies with the usual settings.
fn plan(folder: &Folder, count: usize) -> Plan {
    let dependency = |number: usize| {
        json!({"name": format!("t{number}"), "kind": "tcp", "impact": "critical", "scope": "shared",
               "host": "127.0.0.1", "port": 9})
    };
    let content = json!({"dependencies": (0..count).map(dependency).collect::<Vec<_>>()});
    let files: Vec<PathBuf> = vec![folder.write("plan.yaml", content.to_string().as_bytes())];
    let sources = Sources { files, env: Env::new(), overrides: Overrides::default() };
    config::load(&sources).unwrap_or_else(|errors| panic!("{errors}"))
}
