//! A fleet of a thousand tasks and one database that comes back: how many of them try it at once, with the recovery time
//! spread by chance and without.
//!
//! The worst beginning is taken: all tasks have checked in step, so all circuits opened within the same millisecond. The
//! database takes so many log-ins at once and refuses the others, as one does that has just started. Checks of circuits
//! that are closed go over kept connections, and cost it nothing here.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use super::circuit::{Permit, Settings, State};
use super::test_support::{Chance, failed, millis, now, policy, secs, succeeded};
use super::{Check, FailureKind, Fraction, Policy, Record};

const TASKS: usize = 1_000;
/// Log-ins that the database takes at once.
const CAPACITY: usize = 50;
const LOG_IN: Duration = millis(100);
/// The database is down in between; each task notices by its check at 10 s, and its circuit opens at 50 s.
const DOWN: std::ops::Range<Duration> = secs(5)..secs(100);

/// What became of the fleet.
#[derive(Debug, PartialEq)]
struct Recovery {
    /// Most trials under way at once, refused ones included.
    peak: usize,
    /// Trials that were refused because too many came at once.
    refused: usize,
    /// From the moment on which the database was back until every circuit was closed.
    closed_after: Duration,
}

struct Fleet {
    records: Vec<Record>,
    under_way: Vec<Option<(Permit, Check)>>,
    /// When each task has something to do next: its check ends, or begins.
    events: BinaryHeap<Reverse<(Duration, usize)>>,
    /// Trials under way, and those of them that were let in.
    trials: usize,
    let_in: usize,
}

impl Fleet {
    fn new(policy: Policy) -> Self {
        let policy = Arc::new(policy);
        let record = |_| Record::new(Arc::clone(&policy), now(Duration::ZERO), Fraction::ZERO);
        Self {
            records: (0..TASKS).map(record).collect(),
            under_way: (0..TASKS).map(|_| None).collect(),
            events: (0..TASKS).map(|task| Reverse((Duration::ZERO, task))).collect(),
            trials: 0,
            let_in: 0,
        }
    }

    /// Runs until every circuit has been open and is closed again. `draw` gives the chance of each check's end.
    fn recover(mut self, mut draw: impl FnMut() -> Fraction) -> Recovery {
        let (mut peak, mut refused) = (0, 0);
        let mut not_closed = 0;
        loop {
            let Reverse((at, task)) = self.events.pop().expect("each task has an event");
            assert!(at < DOWN.end + secs(24 * 3600), "{not_closed} circuits are not closed after a day");
            let before = self.records[task].state();
            match self.under_way[task].take() {
                Some((permit, check)) => {
                    if permit == Permit::Trial {
                        self.trials -= 1;
                        self.let_in -= usize::from(check.ok());
                    }
                    // In step until the circuits have opened.
                    let draw = if at < secs(50) { Fraction::ZERO } else { draw() };
                    self.records[task].finish(check, draw);
                }
                None => {
                    let permit = self.records[task].admit(now(at)).expect("a check that is due is permitted");
                    let check = self.answer(permit, at);
                    let too_many =
                        check.failure().is_some_and(|it| it.kind == FailureKind::TooManyConnections);
                    refused += usize::from(too_many);
                    peak = peak.max(self.trials);
                    self.under_way[task] = Some((permit, check));
                }
            }
            match (before, self.records[task].state()) {
                (State::Closed, State::Open) => not_closed += 1,
                (State::HalfOpen, State::Closed) => {
                    not_closed -= 1;
                    if not_closed == 0 {
                        return Recovery { peak, refused, closed_after: at - DOWN.end };
                    }
                    // What it does from now on is of no weight.
                    continue;
                }
                _ => {}
            }
            let next = match &self.under_way[task] {
                Some((_, check)) => check.ended(),
                None => self.records[task].due(),
            };
            self.events.push(Reverse((next.since_origin(), task)));
        }
    }

    fn answer(&mut self, permit: Permit, at: Duration) -> Check {
        let trial = permit == Permit::Trial;
        self.trials += usize::from(trial);
        if DOWN.contains(&at) {
            return failed(at, millis(1), FailureKind::ConnectRefused);
        }
        if trial && self.let_in == CAPACITY {
            return failed(at, millis(1), FailureKind::TooManyConnections);
        }
        self.let_in += usize::from(trial);
        succeeded(at, if trial { LOG_IN } else { millis(1) })
    }
}

fn with_jitter(seed: u64) -> Recovery {
    let mut chance = Chance::new(seed);
    Fleet::new(policy("database")).recover(move || chance.draw())
}

#[test]
fn a_fleet_whose_recovery_time_is_spread_does_not_try_at_one_instant() {
    let in_step = Fleet::new(policy("database")).recover(|| Fraction::HALF);
    assert_eq!(in_step.peak, TASKS, "without jitter all come at once");
    assert!(in_step.refused > 0, "most for nothing");

    let spread: Vec<Recovery> = (0..10).map(with_jitter).collect();
    for recovery in &spread {
        assert!(recovery.peak * 10 < in_step.peak, "{recovery:?} beside {in_step:?}");
        assert!(recovery.closed_after * 5 < in_step.closed_after, "{recovery:?} beside {in_step:?}");
    }
    let worst = spread.iter().map(|it| it.peak).max().expect("some");
    let last = spread.iter().map(|it| it.closed_after).max().expect("some");

    // What the documentation says of it.
    let row = |how: &str, peak: usize, refused: usize, after: Duration| {
        format!("| {how} | {peak} | {refused} | {} s |", after.as_secs())
    };
    let refused = spread.iter().map(|it| it.refused).max().expect("some");
    for row in [
        row("none", in_step.peak, in_step.refused, in_step.closed_after),
        row("±10 %, the worst of ten runs", worst, refused, last),
    ] {
        assert!(include_str!("../../docs/circuits.md").contains(&row), "docs/circuits.md has not: {row}");
    }
}

/// What grows must not keep a fleet away for ever, nor bring it back in step.
#[test]
fn a_recovery_time_that_grows_is_spread_as_well_and_every_circuit_closes() {
    let circuit = Settings { recovery_timeout_max: Some(secs(600)), ..policy("database").circuit };
    let growing = || Fleet::new(Policy { circuit, ..policy("database") });
    let mut chance = Chance::new(1);
    let spread = growing().recover(move || chance.draw());
    assert!(spread.peak * 10 < TASKS, "{spread:?}");
    assert!(spread.closed_after < secs(200), "{spread:?}");
}
