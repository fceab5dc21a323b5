//! What is answered: can this task serve, and would taking it out help?
//!
//! These are two questions. A shared database that is down makes every task unable to serve, and replacing
//! every task would help none of them; so [`ready`] says no and [`alb`] says keep it. Only what belongs to
//! this task, or what a bad deployment of this task causes, makes [`alb`] fail.

use std::time::Duration;

use super::circuit::Mode;
use super::snapshot::{DependencyView, Lifecycle, ServiceStatus, Snapshot, Status};
use super::{DependencyName, FailureKind, Impact, Kind, Monotonic, Phase, Scope};

/// An answer to one question about health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status in words.
    pub status: ServiceStatus,
    /// Yes (200) or no (503).
    pub pass: bool,
    /// What the answer comes from; empty where all is well.
    pub reasons: Vec<Reason>,
}

/// A dependency that is not well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// Its name.
    pub dependency: DependencyName,
    /// Its status.
    pub status: Status,
    /// Why, where a check failed.
    pub failure_kind: Option<FailureKind>,
}

impl Answer {
    /// The HTTP status code.
    pub const fn code(&self) -> u16 {
        if self.pass { 200 } else { 503 }
    }
}

/// The status of the service. Impact `none` has no influence on it: those are only watched.
pub fn service(snapshot: &Snapshot, now: Monotonic) -> ServiceStatus {
    if snapshot.lifecycle == Lifecycle::Draining {
        return ServiceStatus::Draining;
    }
    if snapshot.is_starting(now) {
        return ServiceStatus::Starting;
    }
    let mut statuses = snapshot.gating(Impact::Critical, now).map(|(i, _)| snapshot.status(i, now));
    if statuses.any(|status| matches!(status, Status::Down | Status::Unknown)) {
        return ServiceStatus::Down;
    }
    let mut telling = snapshot.enabled(Impact::Critical).chain(snapshot.enabled(Impact::Degraded));
    match telling.all(|(i, _)| snapshot.status(i, now) == Status::Up) {
        true => ServiceStatus::Up,
        false => ServiceStatus::Degraded,
    }
}

/// Can this task serve now?
pub fn ready(snapshot: &Snapshot, now: Monotonic) -> Answer {
    let status = service(snapshot, now);
    let pass = matches!(status, ServiceStatus::Up | ServiceStatus::Degraded);
    Answer { status, pass, reasons: reasons(snapshot, now) }
}

/// Has every critical dependency succeeded once, or what can take its place?
pub fn startup(snapshot: &Snapshot) -> Answer {
    let waiting: Vec<Reason> = snapshot
        .enabled(Impact::Critical)
        .filter(|(index, view)| {
            !snapshot.past.came_up && !view.circuit.is_ignored && !snapshot.has_come_up(*index)
        })
        .map(|(_, view)| {
            let seen = view.last_check.is_some() || view.known_down();
            reason(view, if seen { Status::Down } else { Status::Unknown })
        })
        .collect();
    let pass = waiting.is_empty();
    let status = if pass { ServiceStatus::Up } else { ServiceStatus::Starting };
    Answer { status, pass, reasons: waiting }
}

/// Would the service gain by taking this task out of the load balancer? 503 where it would.
pub fn alb(snapshot: &Snapshot, now: Monotonic) -> Answer {
    let service = service(snapshot, now);
    if matches!(service, ServiceStatus::Draining | ServiceStatus::Starting) {
        return Answer { status: service, pass: false, reasons: reasons(snapshot, now) };
    }
    let at_fault: Vec<Reason> = snapshot
        .enabled(Impact::Critical)
        .filter(|(index, _)| !snapshot.had_stand_in(*index, down))
        .filter(|(index, view)| match view.policy.scope {
            Scope::Local => !view.is_ignored(now) && counts_as_down(snapshot, *index, view),
            Scope::Shared => born_broken(snapshot, view),
        })
        .map(|(_, view)| reason(view, Status::Down))
        .collect();
    if at_fault.is_empty() {
        // A shared outage is told as `degraded`: this target is as good as any other.
        let status = if service == ServiceStatus::Up { ServiceStatus::Up } else { ServiceStatus::Degraded };
        return Answer { status, pass: true, reasons: reasons(snapshot, now) };
    }
    Answer { status: ServiceStatus::Down, pass: false, reasons: at_fault }
}

/// Whether it is down, for the load balancer. What an operator does to the circuit of a shared dependency is this
/// task's alone and no reason to take it out, nor to keep it.
fn down(view: &DependencyView) -> bool {
    match view.policy.scope {
        Scope::Local => view.known_down(),
        Scope::Shared => view.measured_down(),
    }
}

/// A local dependency that is down by a fault of its own, or by an operator's order, which nothing excuses. Staleness
/// alone is no evidence: what is known is the last result.
fn counts_as_down(snapshot: &Snapshot, index: usize, view: &DependencyView) -> bool {
    let by_order = view.circuit.is_held(Mode::ForcedOpen);
    by_order || (down(view) && !fails_through_a_shared(snapshot, index, view))
}

/// A shared dependency that this process never reached, for a reason that a bad deployment causes. Not once the service
/// has come up: what is broken by a reload after that is no bad deployment of this task. All tasks read the same new
/// settings, and a load balancer would replace the whole fleet.
fn born_broken(snapshot: &Snapshot, view: &DependencyView) -> bool {
    let never_up = !snapshot.past.came_up && !view.succeeded_once;
    never_up && view.failing_by().is_some_and(FailureKind::blames_the_deployment)
}

/// An API whose health path asks the database fails with the database. Its failure counts as such while it
/// still takes connections, answers wrongly or too late, and something that it depends on may be the cause; not
/// where that is down because of how this task was deployed, since then the cause is no more shared than the API.
fn fails_through_a_shared(snapshot: &Snapshot, index: usize, view: &DependencyView) -> bool {
    let by_status_or_timeout =
        view.last_failure.as_ref().and_then(|check| check.failure()).is_some_and(|f| {
            f.phase > Phase::Connect
                && matches!(
                    f.kind,
                    FailureKind::UnexpectedStatus | FailureKind::Timeout | FailureKind::QueryTimeout
                )
        });
    view.policy.kind == Kind::Http
        && by_status_or_timeout
        && snapshot
            .depends_on(index)
            .filter(|shared| shared.policy.enabled() && shared.policy.scope == Scope::Shared)
            .filter(|shared| !born_broken(snapshot, shared))
            .any(|shared| may_be_the_cause(shared, view))
}

/// Whether a shared dependency can be why this one fails. The checks of the two are not simultaneous, and
/// taking a task out can wait for the next one, so it can:
///
/// - while it is down, or fails below its threshold;
/// - until a check of it has succeeded that began after this one's first failure: it may not have noticed yet;
/// - after it has recovered, until it has been seen working again and this one has failed a check that began
///   later: this one may not have had the chance to recover.
///
/// For one that never came up it can only while it is down, and after that: beside a healthy database a start
/// must not pass for one moment, since that is all that a new target needs.
fn may_be_the_cause(shared: &DependencyView, failing: &DependencyView) -> bool {
    let recovered = shared.working_since.filter(|_| shared.last_failure.is_some());
    // What was measured, again: that an operator's order ended makes nothing just recovered.
    let mended = shared.circuit.mended.unwrap_or_default();
    let just_recovered = recovered.map(|since| since.max(mended)).is_some_and(|since| {
        let seen_again = shared.last_success().is_some_and(|ok| ok > since);
        let failed_since = failing.last_failure.as_ref().is_some_and(|check| check.at.mono >= since);
        !(seen_again && failed_since)
    });
    let may_not_have_noticed =
        failing.failing_since.is_some_and(|since| shared.last_success_began().is_none_or(|ok| ok < since));
    let fails = shared.failing_since.is_some();
    down(shared) || just_recovered || (failing.succeeded_once && (fails || may_not_have_noticed))
}

/// What liveness is judged by. Dependencies are not among it.
#[derive(Debug, Clone, Copy)]
pub struct Pulse {
    /// Since the registry last went round its loop.
    pub registry: Duration,
    /// Since the HTTP server last went round its loop.
    pub http: Duration,
    /// Whether a runner could not be brought back although it was respawned again and again.
    pub runner_lost: bool,
}

/// A loop that has not gone round for this long hangs: each goes round at least once a second.
pub const PULSE_LOST_AFTER: Duration = Duration::from_secs(10);

/// Does the agent itself work?
pub fn live(pulse: Pulse) -> Answer {
    let pass = pulse.registry < PULSE_LOST_AFTER && pulse.http < PULSE_LOST_AFTER && !pulse.runner_lost;
    let status = if pass { ServiceStatus::Up } else { ServiceStatus::Down };
    Answer { status, pass, reasons: Vec::new() }
}

/// All that is not well, the worst impact first.
fn reasons(snapshot: &Snapshot, now: Monotonic) -> Vec<Reason> {
    let gating = snapshot.enabled(Impact::Critical).chain(snapshot.enabled(Impact::Degraded));
    gating
        .map(|(index, view)| (view, snapshot.status(index, now)))
        .filter(|(_, status)| *status != Status::Up)
        .map(|(view, status)| reason(view, status))
        .collect()
}

fn reason(view: &DependencyView, status: Status) -> Reason {
    Reason { dependency: view.policy.name.clone(), status, failure_kind: view.failing_by() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::health::circuit::{Actor, Override, Readiness, Settings, State};
    use crate::health::test_support::{
        api_policy, count, failed, held, mono, name, now, phase_of, policy, record, run_many, run_next, secs,
        snapshot, succeeded, view_after,
    };
    use crate::health::{Check, Failure, Fraction, Policy, Record};

    type Outcome = Result<(), FailureKind>;
    const OK: Outcome = Ok(());
    const REFUSED: Outcome = Err(FailureKind::ConnectRefused);
    const NEVER_CHECKED: &[Outcome] = &[];

    /// When all answers here are asked for. Every result is fresh then, unless a test makes it stale.
    const AT: Monotonic = mono(secs(1_000));

    fn seen(policy: Policy, outcomes: &[Outcome]) -> DependencyView {
        DependencyView { next_due: AT, ..view_after(policy, outcomes) }
    }

    fn stale(view: DependencyView) -> DependencyView {
        let view = DependencyView { next_due: mono(secs(900)), ..view };
        assert!(view.stale(AT));
        view
    }

    /// The contract's words for what becomes of a dependency.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum As {
        NeverChecked,
        NeverUp(FailureKind),
        Up,
        /// Failing, below the threshold.
        Failing,
        Down(FailureKind),
        Stale,
        DownAndStale,
        Disabled,
    }

    fn view(policy: Policy, what: As) -> DependencyView {
        let threshold = policy.circuit.failure_threshold.get() as usize;
        let broken = |kind| [vec![OK], vec![Err(kind); threshold]].concat();
        match what {
            As::NeverChecked => seen(policy, NEVER_CHECKED),
            As::NeverUp(kind) => seen(policy, &[Err(kind)]),
            As::Up => seen(policy, &[OK]),
            As::Failing => seen(policy, &[OK, REFUSED]),
            As::Down(kind) => seen(policy, &broken(kind)),
            As::Stale => stale(seen(policy, &[OK])),
            As::DownAndStale => stale(seen(policy, &broken(FailureKind::ConnectRefused))),
            As::Disabled => seen(Policy { disabled: Some("no host".into()), ..policy }, NEVER_CHECKED),
        }
    }

    const NEVER_UP: As = As::NeverUp(FailureKind::ConnectRefused);
    const DOWN: As = As::Down(FailureKind::ConnectRefused);
    const ALL: [As; 8] =
        [As::NeverChecked, NEVER_UP, As::Up, As::Failing, DOWN, As::Stale, As::DownAndStale, As::Disabled];

    fn with(impact: Impact, what: As) -> DependencyView {
        view(Policy { impact, ..policy("database") }, what)
    }

    fn local(what: As) -> DependencyView {
        view(api_policy(Kind::Tcp), what)
    }

    fn names(answer: &Answer) -> Vec<&str> {
        answer.reasons.iter().map(|reason| reason.dependency.as_str()).collect()
    }

    // The status of the service, and readiness.

    #[test]
    fn a_critical_dependency_gates() {
        for what in ALL {
            let expected = match what {
                As::NeverChecked => ServiceStatus::Starting,
                As::NeverUp(_) | As::Down(_) | As::Stale | As::DownAndStale => ServiceStatus::Down,
                As::Failing => ServiceStatus::Degraded,
                As::Up | As::Disabled => ServiceStatus::Up,
            };
            let all = snapshot(vec![with(Impact::Critical, what)]);
            let answer = ready(&all, AT);
            assert_eq!((service(&all, AT), answer.status), (expected, expected), "{what:?}");
            let code = match expected {
                ServiceStatus::Up | ServiceStatus::Degraded => 200,
                ServiceStatus::Starting | ServiceStatus::Down | ServiceStatus::Draining => 503,
            };
            assert_eq!(answer.code(), code, "{what:?}");
        }
    }

    #[test]
    fn one_that_only_degrades_never_gates() {
        for what in ALL {
            let expected = match what {
                As::Up | As::Disabled => ServiceStatus::Up,
                _ => ServiceStatus::Degraded,
            };
            let all = snapshot(vec![view(policy("api"), As::Up), with(Impact::Degraded, what)]);
            assert_eq!(service(&all, AT), expected, "{what:?}");
            assert_eq!((ready(&all, AT).code(), alb(&all, AT).code()), (200, 200), "{what:?}");
        }
    }

    #[test]
    fn one_that_is_only_watched_has_no_influence_at_all() {
        for what in ALL {
            for scope in [Scope::Local, Scope::Shared] {
                let watched = view(Policy { impact: Impact::None, scope, ..policy("watched") }, what);
                let all = snapshot(vec![view(policy("database"), As::Up), watched]);
                for answer in [ready(&all, AT), alb(&all, AT), startup(&all)] {
                    let (status, code) = (answer.status, answer.code());
                    assert_eq!((status, code, names(&answer)), (ServiceStatus::Up, 200, vec![]), "{what:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_added_later_starts_nothing_anew() {
        let new = || Arc::new(view(policy("new"), As::NeverChecked));
        for (before, expected) in [(As::NeverChecked, ServiceStatus::Starting), (As::Up, ServiceStatus::Down)]
        {
            let all = snapshot(vec![with(Impact::Critical, before)]);
            let next = all.with(vec![new()], AT);
            let codes = (alb(&next, AT).code(), startup(&next).code(), ready(&next, AT).code());
            let rest = if before == As::Up { (200, 200, 503) } else { (503, 503, 503) };
            assert_eq!((service(&next, AT), codes), (expected, rest), "{before:?}");
            let last = next.with(vec![new()], AT);
            assert_eq!(service(&last, AT), expected, "nor after the next one");
        }
        // It had started, and had never come up.
        let next = snapshot(vec![with(Impact::Critical, NEVER_UP)]).with(vec![new()], AT);
        assert_eq!((service(&next, AT), startup(&next).code()), (ServiceStatus::Down, 503));
    }

    #[test]
    fn what_a_reload_breaks_is_no_bad_deployment() {
        for kind in FailureKind::ALL {
            let broken =
                || Arc::new(view(Policy { name: name("new"), ..policy("database") }, As::NeverUp(*kind)));
            let codes = |before| {
                let next = snapshot(vec![with(Impact::Critical, before)]).with(vec![broken()], AT);
                [alb(&next, AT).code(), ready(&next, AT).code()]
            };
            assert_eq!(codes(As::Up), [200, 503], "{kind}: the whole fleet has these settings now");
            let code = if kind.blames_the_deployment() { 503 } else { 200 };
            assert_eq!(codes(NEVER_UP), [code, 503], "{kind}: it had not come up");
        }
        // Nor does an order make it one that has come up.
        let ignored = forced(As::NeverUp(FailureKind::AuthFailed), Mode::ForcedOpen, Readiness::Ignore);
        assert!(!snapshot(vec![ignored]).past_at(AT).came_up);
    }

    #[test]
    fn the_worst_of_several_decides() {
        let critical = |called, what| view(policy(called), what);
        let degraded = |called, what| view(Policy { impact: Impact::Degraded, ..policy(called) }, what);
        for (views, expected) in [
            (vec![], ServiceStatus::Up),
            (vec![critical("a", As::Disabled), degraded("b", As::Disabled)], ServiceStatus::Up),
            (vec![critical("a", As::Up), critical("b", As::Up), degraded("c", As::Up)], ServiceStatus::Up),
            (vec![critical("a", As::Up), critical("b", As::Failing)], ServiceStatus::Degraded),
            (vec![critical("a", As::Up), degraded("b", DOWN)], ServiceStatus::Degraded),
            (vec![critical("a", As::Failing), critical("b", DOWN)], ServiceStatus::Down),
            (vec![critical("a", DOWN), critical("b", As::NeverChecked)], ServiceStatus::Starting),
            (vec![critical("a", As::Up), degraded("b", As::NeverChecked)], ServiceStatus::Degraded),
        ] {
            assert_eq!(service(&snapshot(views), AT), expected);
        }
    }

    #[test]
    fn half_open_is_still_down() {
        let mut record = record(policy("database"));
        run_next(&mut record, OK);
        run_many(&mut record, 5, REFUSED);
        run_many(&mut record, 2, OK);
        let view = DependencyView { next_due: AT, ..record.view(AT) };
        assert_eq!(view.circuit.state, State::HalfOpen);
        assert_eq!(service(&snapshot(vec![view]), AT), ServiceStatus::Down);
    }

    #[test]
    fn a_fallback_keeps_the_service_degraded_instead_of_down() {
        let replica = |what| {
            view(
                Policy { impact: Impact::Degraded, fallback_of: Some(name("database")), ..policy("replica") },
                what,
            )
        };
        let all = snapshot(vec![with(Impact::Critical, DOWN), replica(As::Up)]);
        assert_eq!((service(&all, AT), ready(&all, AT).code()), (ServiceStatus::Degraded, 200));
        let all = snapshot(vec![with(Impact::Critical, DOWN), replica(DOWN)]);
        assert_eq!((service(&all, AT), ready(&all, AT).code()), (ServiceStatus::Down, 503));
    }

    /// A replica that can take the place of `database`.
    fn replica(what: As) -> DependencyView {
        let policy =
            Policy { impact: Impact::Degraded, fallback_of: Some(name("database")), ..policy("replica") };
        view(policy, what)
    }

    #[test]
    fn a_pair_of_which_one_works_is_degraded_in_every_answer() {
        let broken = As::NeverUp(FailureKind::AuthFailed);
        // The status of the service, and the codes of ready, alb and startup.
        for (database, stand_in, status, codes) in [
            (DOWN, As::Up, ServiceStatus::Degraded, [200, 200, 200]),
            (DOWN, As::Failing, ServiceStatus::Degraded, [200, 200, 200]),
            (NEVER_UP, As::Up, ServiceStatus::Degraded, [200, 200, 200]),
            (broken, As::Up, ServiceStatus::Degraded, [200, 200, 200]),
            (As::Stale, As::Up, ServiceStatus::Degraded, [200, 200, 200]),
            (As::Up, DOWN, ServiceStatus::Degraded, [200, 200, 200]),
            // Both are down: one that worked once is an outage, one that never did is a bad deployment.
            (DOWN, DOWN, ServiceStatus::Down, [503, 200, 200]),
            (broken, NEVER_UP, ServiceStatus::Down, [503, 503, 503]),
            (broken, DOWN, ServiceStatus::Down, [503, 503, 200]),
            // A stand-in whose results are old may still stand in: a stalled agent is no reason to leave.
            (broken, As::Stale, ServiceStatus::Down, [503, 200, 200]),
            (broken, As::Disabled, ServiceStatus::Down, [503, 503, 503]),
        ] {
            let all = snapshot(vec![with(Impact::Critical, database), replica(stand_in)]);
            let answers = [ready(&all, AT), alb(&all, AT), startup(&all)];
            let seen = (service(&all, AT), answers.each_ref().map(Answer::code));
            assert_eq!(seen, (status, codes), "{database:?} with {stand_in:?}");
            let told = answers[0].reasons.iter().find(|reason| reason.dependency == name("database"));
            let told = told.map(|reason| reason.status);
            let expected = match (database, status) {
                (As::Up, _) => None,
                (_, ServiceStatus::Degraded) => Some(Status::Degraded),
                _ => Some(Status::Down),
            };
            assert_eq!(told, expected, "{database:?} with {stand_in:?}");
        }
    }

    #[test]
    fn draining_goes_before_everything_and_live_stays() {
        for what in ALL {
            let mut all = snapshot(vec![with(Impact::Critical, what)]);
            all.lifecycle = Lifecycle::Draining;
            assert_eq!(service(&all, AT), ServiceStatus::Draining, "{what:?}");
            for answer in [ready(&all, AT), alb(&all, AT)] {
                assert_eq!((answer.status, answer.code()), (ServiceStatus::Draining, 503), "{what:?}");
            }
        }
        assert_eq!(live(Pulse { registry: secs(0), http: secs(0), runner_lost: false }).code(), 200);
    }

    #[test]
    fn the_reasons_are_what_is_not_up_the_critical_ones_first() {
        let all = snapshot(vec![
            view(Policy { impact: Impact::Degraded, ..policy("redis") }, DOWN),
            view(Policy { impact: Impact::None, ..policy("watched") }, DOWN),
            view(policy("database"), As::Down(FailureKind::QueryTimeout)),
            view(policy("fine"), As::Up),
            view(policy("queue"), As::Stale),
            view(policy("off"), As::Disabled),
        ]);
        let reasons = ready(&all, AT).reasons;
        let seen: Vec<_> =
            reasons.iter().map(|r| (r.dependency.as_str(), r.status, r.failure_kind)).collect();
        assert_eq!(
            seen,
            [
                ("database", Status::Down, Some(FailureKind::QueryTimeout)),
                ("queue", Status::Unknown, None),
                ("redis", Status::Down, Some(FailureKind::ConnectRefused)),
            ]
        );
    }

    // Startup.

    #[test]
    fn startup_waits_for_every_critical_success_and_never_takes_it_back() {
        for what in ALL {
            let pass = match what {
                As::NeverChecked | As::NeverUp(_) => false,
                As::Up | As::Failing | As::Down(_) | As::Stale | As::DownAndStale | As::Disabled => true,
            };
            let answer =
                startup(&snapshot(vec![view(policy("other"), As::Up), with(Impact::Critical, what)]));
            assert_eq!(answer.pass, pass, "{what:?}");
            assert_eq!(answer.status == ServiceStatus::Up, pass);
            assert_eq!(names(&answer), if pass { vec![] } else { vec!["database"] });
            assert!(startup(&snapshot(vec![with(Impact::Degraded, what)])).pass, "{what:?}");
        }
        assert!(startup(&snapshot(vec![])).pass);
    }

    // The load balancer.

    #[test]
    fn alb_fails_while_starting() {
        let all = snapshot(vec![with(Impact::Critical, As::NeverChecked), local(As::Up)]);
        let answer = alb(&all, AT);
        assert_eq!((answer.status, answer.code()), (ServiceStatus::Starting, 503));
        assert_eq!(names(&answer), ["database"]);
    }

    #[test]
    fn alb_fails_while_a_local_one_is_down_or_has_not_yet_succeeded() {
        for what in ALL {
            let pass = match what {
                As::NeverChecked | As::NeverUp(_) | As::Down(_) | As::DownAndStale => false,
                As::Up | As::Failing | As::Disabled => true,
                // Its last result was good: that it is old is the sidecar's fault.
                As::Stale => true,
            };
            let answer = alb(&snapshot(vec![local(what), with(Impact::Critical, As::Up)]), AT);
            assert_eq!(answer.pass, pass, "{what:?}");
            if !pass && what != As::NeverChecked {
                assert_eq!((answer.status, names(&answer)), (ServiceStatus::Down, vec!["api"]));
            }
        }
    }

    #[test]
    fn alb_passes_in_a_shared_outage_and_says_degraded() {
        for what in [DOWN, As::DownAndStale, As::Stale, As::Failing, NEVER_UP] {
            let all = snapshot(vec![with(Impact::Critical, what), local(As::Up)]);
            let answer = alb(&all, AT);
            assert_eq!((answer.status, answer.code()), (ServiceStatus::Degraded, 200), "{what:?}");
            assert_eq!(names(&answer), ["database"], "and tells why");
        }
    }

    #[test]
    fn alb_fails_for_a_shared_one_that_never_worked_only_where_the_deployment_is_to_blame() {
        use FailureKind as K;
        let blamed = [
            K::DatabaseMissing,
            K::AuthFailed,
            K::AccessDenied,
            K::TlsCertificate,
            K::TlsRequired,
            K::DnsNotFound,
        ];
        for kind in K::ALL {
            let never_up = with(Impact::Critical, As::NeverUp(*kind));
            let answer = alb(&snapshot(vec![local(As::Up), never_up.clone()]), AT);
            assert_eq!(answer.pass, !blamed.contains(kind), "{kind}");
            if !answer.pass {
                assert_eq!(answer.reasons[0].failure_kind, Some(*kind));
                assert_eq!((answer.status, names(&answer)), (ServiceStatus::Down, vec!["database"]));
            }
            // Not being looked at for a while makes it no better and no worse.
            assert_eq!(alb(&snapshot(vec![stale(never_up)]), AT).pass, answer.pass, "{kind}");

            let once_up = with(Impact::Critical, As::Down(*kind));
            assert!(alb(&snapshot(vec![local(As::Up), once_up]), AT).pass, "{kind} after a success");
            let optional = with(Impact::Degraded, As::NeverUp(*kind));
            assert!(alb(&snapshot(vec![local(As::Up), optional]), AT).pass, "{kind} of an optional one");
        }
    }

    #[test]
    fn alb_goes_by_the_last_failure_of_one_that_never_worked() {
        let missing = Err(FailureKind::DatabaseMissing);
        let all = snapshot(vec![seen(policy("database"), &[missing, REFUSED])]);
        assert!(alb(&all, AT).pass);
        let all = snapshot(vec![seen(policy("database"), &[REFUSED, missing])]);
        assert!(!alb(&all, AT).pass);
    }

    #[test]
    fn a_stand_in_excuses_a_local_outage() {
        let spare = |what| {
            view(
                Policy {
                    name: name("spare"),
                    fallback_of: Some(name("api")),
                    impact: Impact::Degraded,
                    ..api_policy(Kind::Tcp)
                },
                what,
            )
        };
        for (api, other, pass) in [
            (DOWN, As::Up, true),
            (DOWN, As::Failing, true),
            (DOWN, DOWN, false),
            (DOWN, As::Stale, true),
            (DOWN, As::Disabled, false),
            (NEVER_UP, As::Up, true),
            (NEVER_UP, DOWN, false),
        ] {
            let answer = alb(&snapshot(vec![local(api), spare(other)]), AT);
            assert_eq!(answer.pass, pass, "{api:?} with {other:?}");
        }
    }

    // An API whose health path fails with what it depends on.

    /// An API that is down by this failure, seen in this phase.
    fn failing_api(kind: Kind, by: FailureKind, phase: Phase) -> DependencyView {
        let mut view = view(api_policy(kind), As::Down(by));
        let check = view.last_failure.as_ref().expect("it failed");
        let failure = Failure::new(phase, by, "scripted");
        view.last_failure = Some(Arc::new(Check { outcome: Err(failure), ..(**check).clone() }));
        view
    }

    fn alb_passes(api: DependencyView, database: As) -> bool {
        alb(&snapshot(vec![api, with(Impact::Critical, database)]), AT).pass
    }

    #[test]
    fn a_local_http_is_excused_by_status_or_timeout_while_the_shared_one_is_down() {
        for by in FailureKind::ALL {
            let excused = matches!(
                by,
                FailureKind::UnexpectedStatus | FailureKind::Timeout | FailureKind::QueryTimeout
            );
            let phase = phase_of(*by);
            assert_eq!(alb_passes(failing_api(Kind::Http, *by, phase), DOWN), excused, "{by}");
            assert_eq!(alb_passes(failing_api(Kind::Http, *by, phase), As::DownAndStale), excused, "{by}");
            assert!(!alb_passes(failing_api(Kind::Tcp, *by, phase), DOWN), "tcp, {by}");
        }
    }

    #[test]
    fn a_timeout_excuses_only_after_tcp_has_connected() {
        for phase in Phase::ALL {
            let connected = !matches!(phase, Phase::Dns | Phase::Connect);
            let api = failing_api(Kind::Http, FailureKind::Timeout, *phase);
            assert_eq!(alb_passes(api, DOWN), connected, "{phase}");
        }
    }

    #[test]
    fn what_excuses_has_to_be_named_shared_and_enabled() {
        let by = FailureKind::UnexpectedStatus;
        let api = |depends_on: &[&str]| {
            let depends_on = depends_on.iter().map(|other| name(other)).collect();
            view(Policy { depends_on, ..api_policy(Kind::Http) }, As::Down(by))
        };
        let passes = |api, others: Vec<DependencyView>| alb(&snapshot([vec![api], others].concat()), AT).pass;
        let down = |policy| view(policy, DOWN);
        assert!(passes(api(&["database"]), vec![down(policy("database"))]));
        assert!(!passes(api(&[]), vec![down(policy("database"))]), "not named");
        assert!(!passes(api(&["redis"]), vec![down(policy("database"))]), "another one named");
        assert!(!passes(api(&["database"]), vec![with(Impact::Critical, As::Disabled)]), "disabled");
        let neighbour = Policy { scope: Scope::Local, ..policy("database") };
        assert!(!passes(api(&["database"]), vec![down(neighbour)]), "local");
        let optional = Policy { impact: Impact::Degraded, ..policy("database") };
        assert!(passes(api(&["database"]), vec![down(optional)]), "its impact does not matter");
        let both = api(&["database", "redis"]);
        assert!(passes(both, vec![view(policy("database"), As::Up), down(policy("redis"))]), "one of two");
    }

    #[test]
    fn nothing_is_excused_by_what_this_deployment_broke() {
        for api in [As::Down(FailureKind::UnexpectedStatus), As::NeverUp(FailureKind::UnexpectedStatus)] {
            for by in FailureKind::ALL {
                for born in [true, false] {
                    let store = with(Impact::Degraded, if born { As::NeverUp(*by) } else { As::Down(*by) });
                    let answer = alb(&snapshot(vec![view(api_policy(Kind::Http), api), store]), AT);
                    let broken = born && by.blames_the_deployment();
                    assert_eq!(answer.pass, !broken, "{api:?}, {by}, born broken: {born}");
                }
            }
        }
    }

    #[test]
    fn an_api_that_never_came_up_is_excused_while_the_shared_one_is_down_too() {
        let api = || view(api_policy(Kind::Http), As::NeverUp(FailureKind::UnexpectedStatus));
        assert!(alb_passes(api(), DOWN));
        assert!(alb_passes(api(), NEVER_UP));
        let refused = view(api_policy(Kind::Http), NEVER_UP);
        assert!(!alb_passes(refused, DOWN), "nothing listens: that is its own fault");
    }

    /// An API that fails from 100 s on, every 5 s, last at 130 s, and a database whose checks went like this:
    /// (began, succeeded); each takes a second. Operators do something to the database's circuit before its first check,
    /// and after its last one.
    fn excused_with(database: &[(u64, bool)], before: fn(&mut Record), after: fn(&mut Record)) -> bool {
        let failing = |at| {
            let kind = FailureKind::UnexpectedStatus;
            failed(secs(at), secs(1), kind)
        };
        let working = |at| succeeded(secs(at), secs(1));
        let mut api = record(api_policy(Kind::Http));
        api.finish(working(95), Fraction::ZERO);
        for at in (100..=130).step_by(5) {
            api.finish(failing(at), Fraction::ZERO);
        }
        let quick_to_close = Policy {
            circuit: Settings {
                failure_threshold: count(3),
                success_threshold: count(1),
                ..policy("database").circuit
            },
            ..policy("database")
        };
        let mut shared = record(quick_to_close);
        before(&mut shared);
        for (at, ok) in database {
            shared.admit(now(secs(*at)));
            shared.finish(if *ok { working(*at) } else { failing(*at) }, Fraction::ZERO);
        }
        after(&mut shared);
        let fresh = |view| DependencyView { next_due: AT, ..view };
        alb(&snapshot(vec![fresh(api.view(AT)), fresh(shared.view(AT))]), AT).pass
    }

    /// Something that an operator does.
    type Deed = fn(&mut Record);

    /// What an operator can do to a circuit without keeping its checks from being made: before them, and after.
    const ORDERS: [(&str, Deed, Deed); 7] = [
        ("none", nothing, nothing),
        ("forced closed all the time", |it| force(it, Mode::ForcedClosed, 0), nothing),
        ("forced closed and reset", |it| force(it, Mode::ForcedClosed, 0), reset),
        (
            "forced closed until just now",
            |it| force(it, Mode::ForcedClosed, 0),
            |it| {
                assert!(it.expire(now(secs(10_000))));
            },
        ),
        ("forced open in the end", nothing, |it| force(it, Mode::ForcedOpen, 999)),
        ("forced closed in the end", nothing, |it| force(it, Mode::ForcedClosed, 999)),
        ("reset in the end", nothing, reset),
    ];

    fn nothing(_: &mut Record) {}

    fn force(record: &mut Record, mode: Mode, from: u64) {
        record.hold(held(mode, now(secs(from)), secs(7_200)), now(secs(from)));
    }

    fn reset(record: &mut Record) {
        record.reset(Actor::new("bob"), now(secs(999)));
    }

    #[test]
    fn an_api_is_excused_until_it_has_been_seen_failing_with_the_shared_one_working() {
        let (ok, fails) = (true, false);
        for (database, excused, why) in [
            (&[(90, ok)][..], true, "not seen working since the API began to fail"),
            (&[(90, ok), (100, ok)], true, "that check began before the API's first failure was known"),
            (&[(90, ok), (101, ok)], false, "it works and the API fails"),
            (&[(90, ok), (100, fails), (110, fails)], true, "it fails too, though it is not yet down"),
            (&[(90, ok), (100, fails), (110, fails), (120, fails)], true, "down"),
            (&[(90, ok), (105, fails), (115, ok)], true, "seen working only once"),
            (&[(90, ok), (105, fails), (115, ok), (125, ok)], false, "and the API has failed since"),
            (&[(90, ok), (105, fails), (128, ok), (138, ok)], false, "at 130 s, too"),
            (&[(90, ok), (105, fails), (130, ok), (140, ok)], true, "the API's next check will tell"),
            (&[(90, ok), (110, ok), (120, fails)], true, "it may be both"),
            (&[(50, fails), (90, ok), (101, ok)], false, "a failure long ago excuses nothing"),
            (
                &[(90, ok), (91, fails), (92, fails), (93, fails), (160, ok), (170, ok)],
                true,
                "closed at 161 s",
            ),
            (&[(50, ok), (51, fails), (52, fails), (53, fails), (110, ok), (120, ok)], false, "at 111 s"),
            (&[(50, ok), (51, fails), (52, fails), (53, fails), (110, ok)], true, "seen once since then"),
        ] {
            for (order, before, after) in ORDERS {
                let seen = excused_with(database, before, after);
                assert_eq!(seen, excused, "{database:?}: {why}; orders: {order}");
            }
        }
    }

    #[test]
    fn an_api_that_has_not_come_up_yet_is_not_excused_beside_a_database_that_works() {
        let starting = |at| {
            let mut api = record(api_policy(Kind::Http));
            api.finish(failed(secs(at), secs(1), FailureKind::UnexpectedStatus), Fraction::ZERO);
            DependencyView { next_due: AT, ..api.view(AT) }
        };
        for (began, what) in [(0, As::Up), (0, As::Stale), (50, As::Failing)] {
            assert!(!alb_passes(starting(began), what), "{what:?}");
        }
        // But the outage that it started in may have ended a moment ago.
        let recovered = || seen(policy("database"), &[REFUSED, OK]);
        assert!(alb(&snapshot(vec![starting(0), recovered()]), AT).pass);
        let longer = || seen(policy("database"), &[REFUSED, OK, OK]);
        assert!(alb(&snapshot(vec![starting(0), longer()]), AT).pass, "not tried since");
        assert!(!alb(&snapshot(vec![starting(2), longer()]), AT).pass, "tried since");
    }

    #[test]
    fn half_open_after_a_success_the_api_keeps_its_excuse() {
        let slow_to_close = Policy { circuit: policy("api").circuit, ..api_policy(Kind::Http) };
        let mut api = record(slow_to_close);
        run_next(&mut api, OK);
        run_many(&mut api, 5, Err(FailureKind::UnexpectedStatus));
        run_next(&mut api, OK);
        let api = DependencyView { next_due: AT, ..api.view(AT) };
        assert_eq!(api.circuit.state, State::HalfOpen);
        let mut database = seen(policy("database"), &[OK, REFUSED, OK, OK]);
        assert!(!alb(&snapshot(vec![api.clone(), database.clone()]), AT).pass, "it failed with it working");
        database.working_since = Some(AT);
        assert!(alb(&snapshot(vec![api, database]), AT).pass, "it has not failed since");
    }

    // What operators do by hand.

    /// The same dependency, held since a while.
    fn by_hand(view: &DependencyView, mode: Mode, readiness: Readiness) -> DependencyView {
        let over = Override { readiness, ..(*held(mode, now(secs(900)), secs(3_600))).clone() };
        let mut held = view.clone();
        held.circuit.state = mode.state();
        held.circuit.trial_at = None;
        held.circuit.is_ignored = over.is_ignored();
        held.circuit.over = Some(Arc::new(over));
        held
    }

    fn forced(what: As, mode: Mode, readiness: Readiness) -> DependencyView {
        by_hand(&with(Impact::Critical, what), mode, readiness)
    }

    #[test]
    fn forced_open_the_task_is_not_ready_unless_that_is_ignored() {
        for what in ALL {
            let all = |readiness| {
                snapshot(vec![view(policy("other"), As::Up), forced(what, Mode::ForcedOpen, readiness)])
            };
            let disabled = what == As::Disabled;
            let counted = all(Readiness::Count);
            let (status, code) = match disabled {
                true => (ServiceStatus::Up, 200),
                false => (ServiceStatus::Down, 503),
            };
            assert_eq!((service(&counted, AT), ready(&counted, AT).code()), (status, code), "{what:?}");

            // It gates nothing, and is told.
            let ignored = all(Readiness::Ignore);
            let answer = ready(&ignored, AT);
            let (status, told) = match disabled {
                true => (ServiceStatus::Up, vec![]),
                false => (ServiceStatus::Degraded, vec!["database"]),
            };
            assert_eq!((answer.status, answer.code(), names(&answer)), (status, 200, told), "{what:?}");
            assert!(startup(&ignored).pass, "{what:?}");
            assert_eq!(startup(&counted).pass, startup(&snapshot(vec![with(Impact::Critical, what)])).pass);
        }
    }

    #[test]
    fn forced_closed_the_task_is_ready_whatever_is_measured_once_there_is_a_result() {
        for what in ALL {
            for readiness in Readiness::ALL {
                let all = snapshot(vec![forced(what, Mode::ForcedClosed, *readiness)]);
                let expected = match what {
                    As::NeverChecked => ServiceStatus::Starting,
                    As::Up | As::Disabled => ServiceStatus::Up,
                    As::NeverUp(_) | As::Failing | As::Down(_) | As::Stale | As::DownAndStale => {
                        ServiceStatus::Degraded
                    }
                };
                assert_eq!(service(&all, AT), expected, "{what:?}");
                let never_up = matches!(what, As::NeverChecked | As::NeverUp(_));
                assert_eq!(startup(&all).pass, !never_up, "{what:?}: it has to have succeeded");
            }
        }
    }

    /// The answers of the load balancer's path with a database, as it is and as operators have it.
    fn same_for_alb(database: &DependencyView, others: &[DependencyView], but: impl Fn(Mode) -> bool) {
        let code = |database: &DependencyView| {
            let all = [vec![database.clone()], others.to_vec()].concat();
            alb(&snapshot(all), AT).code()
        };
        let as_it_is = code(database);
        for mode in Mode::ALL {
            for readiness in Readiness::ALL {
                let held = by_hand(database, *mode, *readiness);
                if !but(*mode) {
                    assert_eq!(code(&held), as_it_is, "{mode} {readiness}: {database:#?}");
                }
                // And after that, before its trial has come to anything.
                let mut over = held;
                over.circuit.over = None;
                over.circuit.state = State::HalfOpen;
                if database.last_check.is_some() {
                    assert_eq!(code(&over), as_it_is, "after {mode}: {database:#?}");
                }
            }
        }
    }

    #[test]
    fn what_is_done_to_a_shared_one_never_reaches_the_load_balancer() {
        let blamed = As::NeverUp(FailureKind::AuthFailed);
        let api = |kind, by| failing_api(kind, by, phase_of(by));
        for what in ALL.into_iter().chain([blamed]) {
            // Held open from before its first check: it would be starting until the end of that.
            let but = |mode| what == As::NeverChecked && mode == Mode::ForcedOpen;
            for other in ALL {
                same_for_alb(&with(Impact::Critical, what), &[local(other)], but);
            }
            for other in [
                api(Kind::Http, FailureKind::UnexpectedStatus),
                api(Kind::Http, FailureKind::Timeout),
                api(Kind::Http, FailureKind::ConnectRefused),
                api(Kind::Tcp, FailureKind::Timeout),
            ] {
                same_for_alb(&with(Impact::Critical, what), std::slice::from_ref(&other), but);
            }
            // Nor as one of a pair.
            for other in ALL.into_iter().chain([blamed]) {
                same_for_alb(&with(Impact::Critical, what), &[replica(other)], but);
                same_for_alb(&replica(what), &[with(Impact::Critical, other)], |_| false);
            }
        }
        let held = forced(As::NeverChecked, Mode::ForcedOpen, Readiness::Count);
        assert_eq!(alb(&snapshot(vec![held]), AT).code(), 200, "no task is taken out by an order");
        let held = forced(As::NeverChecked, Mode::ForcedClosed, Readiness::Count);
        assert_eq!(alb(&snapshot(vec![held]), AT).code(), 503, "nor kept in: it is starting");
    }

    #[test]
    fn forced_open_from_before_the_first_check_leaves_no_task_starting_afterwards() {
        let mut record = record(policy("database"));
        force(&mut record, Mode::ForcedOpen, 0);
        assert!(record.expire(now(secs(7_200))));
        let at = mono(secs(7_200));
        let all = snapshot(vec![record.view(at)]);
        assert_eq!((service(&all, at), alb(&all, at).code()), (ServiceStatus::Down, 200));
    }

    #[test]
    fn an_api_that_fails_while_its_database_is_forced_open_is_excused_where_nobody_has_looked_since() {
        let excused = |forced_at: u64| {
            let mut api = record(api_policy(Kind::Http));
            api.finish(succeeded(secs(95), secs(1)), Fraction::ZERO);
            for at in [100, 105, 110] {
                api.finish(failed(secs(at), secs(1), FailureKind::UnexpectedStatus), Fraction::ZERO);
            }
            let mut database = record(policy("database"));
            for at in [90, 102] {
                if at < forced_at {
                    database.finish(succeeded(secs(at), secs(1)), Fraction::ZERO);
                }
            }
            force(&mut database, Mode::ForcedOpen, forced_at);
            let fresh = |view| DependencyView { next_due: AT, ..view };
            alb(&snapshot(vec![fresh(api.view(AT)), fresh(database.view(AT))]), AT).pass
        };
        assert!(excused(99), "it may be down, as it is in a maintenance");
        assert!(!excused(104), "it was seen working while the API failed");
    }

    #[test]
    fn what_is_done_to_a_local_one_reaches_the_load_balancer() {
        for what in ALL {
            let code = |mode, readiness| {
                let all = vec![by_hand(&local(what), mode, readiness), with(Impact::Critical, As::Up)];
                alb(&snapshot(all), AT).code()
            };
            let disabled = what == As::Disabled;
            let down = if disabled { 200 } else { 503 };
            assert_eq!(code(Mode::ForcedOpen, Readiness::Count), down, "{what:?}");
            assert_eq!(code(Mode::ForcedOpen, Readiness::Ignore), 200, "{what:?}");
            let starting = if what == As::NeverChecked { 503 } else { 200 };
            assert_eq!(code(Mode::ForcedClosed, Readiness::Count), starting, "{what:?}");
        }
    }

    #[test]
    fn nothing_excuses_a_local_one_that_is_forced_open_but_what_takes_its_place() {
        let api = || failing_api(Kind::Http, FailureKind::UnexpectedStatus, Phase::Query);
        let code = |api| alb(&snapshot(vec![api, with(Impact::Critical, DOWN)]), AT).code();
        assert_eq!(code(api()), 200, "it fails through its database");
        assert_eq!(code(by_hand(&api(), Mode::ForcedOpen, Readiness::Count)), 503);

        let spare = view(
            Policy { name: name("spare"), fallback_of: Some(name("api")), ..api_policy(Kind::Tcp) },
            As::Up,
        );
        let open = || by_hand(&local(As::Up), Mode::ForcedOpen, Readiness::Count);
        let code = |spare: DependencyView| alb(&snapshot(vec![open(), spare]), AT).code();
        assert_eq!(code(spare.clone()), 200);
        assert_eq!(code(by_hand(&spare, Mode::ForcedOpen, Readiness::Count)), 503, "nor that");
    }

    // Liveness.

    #[test]
    fn live_looks_at_heartbeats_only() {
        let pulse = |registry, http, runner_lost| {
            live(Pulse { registry: secs(registry), http: secs(http), runner_lost })
        };
        for (registry, http, runner_lost, pass) in [
            (0, 0, false, true),
            (9, 9, false, true),
            (10, 0, false, false),
            (0, 10, false, false),
            (0, 0, true, false),
        ] {
            let answer = pulse(registry, http, runner_lost);
            assert_eq!(answer.pass, pass, "{registry} {http} {runner_lost}");
            let status = if pass { ServiceStatus::Up } else { ServiceStatus::Down };
            assert_eq!((answer.status, answer.reasons), (status, vec![]));
        }
    }
}
