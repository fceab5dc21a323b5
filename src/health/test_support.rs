//! Short constructors for the tests of the core.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::backoff::{Backoff, Jitter};
use super::circuit::{Actor, Mode, Override, Readiness, Settings};
use super::snapshot::{DependencyView, Snapshot};
use super::{
    Cause, Check, CheckId, Confidence, DependencyName, Details, Diagnosis, Failure, FailureKind, Fraction,
    Impact, Kind, Monotonic, Now, Observation, Phase, PhaseTimes, Policy, Record, Scope, Verdict, WallTime,
};

/// When the simulated machines were started, by the calendar.
pub(crate) const EPOCH: WallTime = WallTime::from_unix_millis(1_767_225_600_000);

pub(crate) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The moment this long after the origin.
pub(crate) const fn mono(elapsed: Duration) -> Monotonic {
    Monotonic::after_origin(elapsed)
}

/// Both clocks, this long after the origin.
pub(crate) fn now(elapsed: Duration) -> Now {
    let origin = Now { mono: Monotonic::ZERO, wall: EPOCH };
    Now { mono: mono(elapsed), wall: origin.wall_at(mono(elapsed)) }
}

pub(crate) fn count(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).expect("a count from 1")
}

pub(crate) fn name(text: &str) -> DependencyName {
    DependencyName::parse(text).expect("a valid name")
}

/// The circuit of the contract's `defaults`.
pub(crate) fn default_circuit() -> Settings {
    Settings {
        failure_threshold: count(5),
        recovery_timeout: secs(60),
        recovery_timeout_max: None,
        success_threshold: count(3),
        half_open_interval: secs(2),
    }
}

/// An override by ann, from now on and for so long; it counts for readiness.
pub(crate) fn held(mode: Mode, from: Now, span: Duration) -> Arc<Override> {
    let until = from.mono + span;
    Arc::new(Override {
        mode,
        reason: "by hand".into(),
        actor: Actor::new("ann"),
        since: from.wall,
        expires: Now { mono: until, wall: from.wall_at(until) },
        readiness: Readiness::Count,
    })
}

/// A critical, shared PostgreSQL with the contract's `defaults`.
pub(crate) fn policy(called: &str) -> Policy {
    Policy {
        name: name(called),
        kind: Kind::Postgres,
        impact: Impact::Critical,
        scope: Scope::Shared,
        disabled: None,
        target: format!("{called}.internal:5432"),
        interval: secs(10),
        startup_interval: secs(1),
        timeout: secs(10),
        slow_after: secs(1),
        certificate_warning: secs(14 * 24 * 3600),
        attempts: count(3),
        backoff: Backoff { initial: millis(100), max: secs(2), multiplier: 2.0, jitter: Jitter::Full },
        circuit: default_circuit(),
        depends_on: Vec::new(),
        fallback_of: None,
    }
}

/// The API as the compiled-in default watches it.
pub(crate) fn api_policy(kind: Kind) -> Policy {
    Policy {
        kind,
        scope: Scope::Local,
        target: "127.0.0.1:8000".into(),
        interval: secs(5),
        timeout: secs(2),
        attempts: count(1),
        circuit: Settings {
            failure_threshold: count(2),
            recovery_timeout: secs(5),
            recovery_timeout_max: None,
            success_threshold: count(1),
            half_open_interval: secs(2),
        },
        depends_on: vec![name("database")],
        ..policy("api")
    }
}

/// Where a failure of this kind is usually seen.
pub(crate) fn phase_of(kind: FailureKind) -> Phase {
    use FailureKind as K;
    match kind {
        K::DnsNotFound | K::DnsTimeout | K::DnsServerFailure | K::DnsUnexpectedAnswer => Phase::Dns,
        K::ConnectTimeout | K::ConnectRefused | K::ConnectUnreachable | K::ConnectReset => Phase::Connect,
        K::TlsHandshake | K::TlsCertificate | K::TlsRequired => Phase::Tls,
        K::AuthFailed
        | K::AccessDenied
        | K::DatabaseMissing
        | K::TooManyConnections
        | K::StartingUp
        | K::ShuttingDown => Phase::Auth,
        K::WrongRole
        | K::ReadOnly
        | K::Loading
        | K::ClusterDown
        | K::QueryTimeout
        | K::QueryFailed
        | K::UnexpectedStatus
        | K::UnexpectedContent
        | K::Protocol
        | K::Timeout
        | K::Internal => Phase::Query,
    }
}

/// A check that began `at` and succeeded with its first attempt.
pub(crate) fn succeeded(at: Duration, takes: Duration) -> Check {
    Check {
        id: CheckId::new("00000000"),
        at: now(at),
        duration: takes,
        latency: takes,
        attempts: 1,
        phases: PhaseTimes::default(),
        address: None,
        resolved: Vec::new(),
        left_behind: None,
        new_connection: false,
        outcome: Ok(Observation::default()),
        seen_before_failing: Details::None,
        pool: None,
    }
}

/// A check that began `at` and failed with its only attempt.
pub(crate) fn failed(at: Duration, takes: Duration, kind: FailureKind) -> Check {
    Check { outcome: Err(Failure::new(phase_of(kind), kind, "scripted")), ..succeeded(at, takes) }
}

/// A diagnosis that says so.
pub(crate) fn diagnosis(summary: &str) -> Arc<Diagnosis> {
    let verdict = Verdict {
        cause: Cause::Refused,
        confidence: Confidence::Likely,
        summary: summary.to_owned(),
        because: Vec::new(),
        advice: Vec::new(),
    };
    Arc::new(Diagnosis {
        at: now(Duration::ZERO),
        took: millis(1),
        check: None,
        target: "database.internal:5432".to_owned(),
        ok: false,
        hops: Vec::new(),
        failure_kind: Some(FailureKind::ConnectRefused),
        verdict,
    })
}

/// A record made at the origin, its first check due at once.
pub(crate) fn record(policy: Policy) -> Record {
    Record::new(Arc::new(policy), now(Duration::ZERO), Fraction::ZERO)
}

/// Makes the next check when it is due, without jitter; it takes a millisecond. Returns when it began.
pub(crate) fn run_next(record: &mut Record, outcome: Result<(), FailureKind>) -> Monotonic {
    let due = record.due();
    let began = due.since_origin();
    record.admit(now(began)).expect("a check that is due is permitted");
    let check = match outcome {
        Ok(()) => succeeded(began, millis(1)),
        Err(kind) => failed(began, millis(1), kind),
    };
    record.finish(check, Fraction::ZERO);
    due
}

/// Makes that many checks, each when it is due.
pub(crate) fn run_many(record: &mut Record, times: usize, outcome: Result<(), FailureKind>) {
    for _ in 0..times {
        run_next(record, outcome);
    }
}

/// What readers see of a dependency after these checks, and when the last of them ended.
pub(crate) fn view_after(policy: Policy, outcomes: &[Result<(), FailureKind>]) -> DependencyView {
    let mut record = record(policy);
    let mut ended = Monotonic::ZERO;
    for outcome in outcomes {
        ended = run_next(&mut record, *outcome) + millis(1);
    }
    record.view(ended)
}

/// A snapshot of these.
pub(crate) fn snapshot(views: Vec<DependencyView>) -> Snapshot {
    Snapshot::new(now(Duration::ZERO), views.into_iter().map(Arc::new).collect())
}

/// Numbers that look random and are the same each time (splitmix64).
#[derive(Debug, Clone)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn draw(&mut self) -> Fraction {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        // 53 bits: all that an f64 below 1 can hold.
        Fraction::new((z >> 11) as f64 / (1u64 << 53) as f64)
    }
}
