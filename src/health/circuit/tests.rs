mod model;
mod overrides;

use super::*;
use crate::health::test_support::{count, default_circuit, mono, now, secs};

const GIVE_UP: Duration = secs(11);

fn circuit() -> Circuit {
    Circuit::new(default_circuit(), now(Duration::ZERO))
}

/// A circuit that has succeeded once and then failed up to its threshold, the last time after 5 s.
fn opened() -> Circuit {
    let mut circuit = circuit();
    circuit.success(now(Duration::ZERO));
    for n in 1..=5 {
        circuit.failure(FailureKind::ConnectRefused, now(secs(n)), Fraction::HALF);
    }
    assert_eq!(circuit.state(), State::Open);
    circuit
}

/// The same, half open since 65 s, its first trial under way.
fn half_opened() -> Circuit {
    let mut circuit = opened();
    assert_eq!(circuit.admit(now(secs(65)), GIVE_UP), Some(Permit::Trial));
    circuit
}

fn last_reason(circuit: &Circuit) -> Reason {
    circuit.view().transitions.last().expect("a transition").reason.clone()
}

// Closed.

#[test]
fn a_new_circuit_is_closed_and_knows_nothing() {
    let view = circuit().view();
    assert_eq!((view.state, view.since), (State::Closed, now(Duration::ZERO)));
    assert_eq!((view.opens, view.successes, view.failures), (0, 0, 0));
    assert_eq!((view.lifetime().success_rate(), view.trial_at, view.transitions.len()), (None, None, 0));
}

#[test]
fn closed_lets_every_check_through_also_two_at_a_time() {
    let mut circuit = circuit();
    assert_eq!(circuit.admit(now(secs(1)), GIVE_UP), Some(Permit::Check));
    assert_eq!(circuit.admit(now(secs(1)), GIVE_UP), Some(Permit::Check));
}

#[test]
fn opens_at_the_threshold_and_not_before() {
    let mut circuit = circuit();
    circuit.success(now(Duration::ZERO));
    for n in 1..=4 {
        circuit.failure(FailureKind::ConnectRefused, now(secs(n)), Fraction::HALF);
        assert_eq!(circuit.state(), State::Closed, "after {n} failures");
    }
    circuit.failure(FailureKind::QueryTimeout, now(secs(5)), Fraction::HALF);
    assert_eq!(circuit.state(), State::Open);
    assert_eq!(circuit.trial_at(), Some(mono(secs(65))), "the middle of the spread is no deviation");
    assert_eq!(
        last_reason(&circuit),
        Reason::FailureThreshold { failures: 5, last: FailureKind::QueryTimeout }
    );
    assert_eq!(last_reason(&circuit).to_string(), "5 failed checks in a row, the last by query_timeout");
}

#[test]
fn a_success_in_between_starts_the_count_anew() {
    let mut circuit = circuit();
    circuit.success(now(Duration::ZERO));
    for round in 0..10 {
        for n in 0..4 {
            circuit.failure(FailureKind::Timeout, now(secs(round * 10 + n)), Fraction::HALF);
        }
        circuit.success(now(secs(round * 10 + 5)));
    }
    assert_eq!((circuit.state(), circuit.consecutive_failures()), (State::Closed, 0));
    assert_eq!(circuit.view().failures, 40);
}

#[test]
fn never_opens_before_the_first_success() {
    let mut circuit = circuit();
    for n in 0..10_000 {
        circuit.failure(FailureKind::DatabaseMissing, now(secs(n)), Fraction::HALF);
        assert_eq!(circuit.admit(now(secs(n)), GIVE_UP), Some(Permit::Check));
    }
    assert_eq!((circuit.state(), circuit.succeeded_once()), (State::Closed, false));
    assert_eq!((circuit.view().opens, circuit.consecutive_failures()), (0, 10_000));
}

#[test]
fn failures_from_before_the_first_success_do_not_count_after_it() {
    let mut circuit = circuit();
    for n in 0..4 {
        circuit.failure(FailureKind::StartingUp, now(secs(n)), Fraction::HALF);
    }
    circuit.success(now(secs(4)));
    circuit.failure(FailureKind::StartingUp, now(secs(5)), Fraction::HALF);
    assert_eq!(circuit.state(), State::Closed);
}

// Open.

#[test]
fn open_lets_nothing_through_until_the_recovery_timeout() {
    let mut circuit = opened();
    for at in [5, 6, 64] {
        assert_eq!(circuit.admit(now(secs(at)), GIVE_UP), None, "{at} s");
    }
    let just_before = mono(secs(65)).since_origin() - Duration::from_nanos(1);
    assert_eq!(circuit.admit(now(just_before), GIVE_UP), None);
    assert_eq!(circuit.state(), State::Open);
    assert_eq!(circuit.admit(now(secs(65)), GIVE_UP), Some(Permit::Trial));
    assert_eq!((circuit.state(), last_reason(&circuit)), (State::HalfOpen, Reason::RecoveryElapsed));
    assert_eq!(circuit.trial_at(), None, "nothing is waited for any more");
}

#[test]
fn the_recovery_timeout_is_spread_by_a_tenth_to_each_side() {
    let trial = |draw| {
        let mut circuit = circuit();
        circuit.success(now(Duration::ZERO));
        for _ in 0..5 {
            circuit.failure(FailureKind::Timeout, now(Duration::ZERO), Fraction::new(draw));
        }
        circuit.trial_at().expect("open").since_origin()
    };
    assert_eq!(trial(0.0), secs(54));
    let latest = trial(1.0);
    assert!(latest > Duration::from_millis(65_999) && latest <= secs(66), "{latest:?}");
    assert!(trial(0.3) < trial(0.7), "another draw, another moment");
}

#[test]
fn a_stale_report_while_open_counts_and_decides_nothing() {
    let mut circuit = opened();
    let before = circuit.view();
    circuit.success(now(secs(6)));
    circuit.success(now(secs(6)));
    circuit.success(now(secs(6)));
    circuit.failure(FailureKind::QueryTimeout, now(secs(7)), Fraction::new(0.9));
    let after = circuit.view();
    assert_eq!((after.state, after.trial_at, after.opens), (State::Open, before.trial_at, 1));
    assert_eq!((after.successes, after.failures), (before.successes + 3, before.failures + 1));
    assert!(after.transitions_since(&before).is_empty());
    // Nor do successes from before help the trials.
    circuit.success(now(secs(8)));
    circuit.success(now(secs(8)));
    assert_eq!(circuit.admit(now(secs(65)), GIVE_UP), Some(Permit::Trial));
    circuit.success(now(secs(65)));
    assert_eq!(circuit.state(), State::HalfOpen);
}

#[test]
fn can_be_hurried_only_while_open() {
    let mut closed = circuit();
    closed.hurry(Reason::Requested, now(secs(1)));
    assert_eq!((closed.state(), closed.view().transitions_total), (State::Closed, 0));

    let mut open = opened();
    open.hurry(Reason::AddressesChanged, now(secs(6)));
    assert_eq!((open.state(), last_reason(&open)), (State::HalfOpen, Reason::AddressesChanged));
    assert_eq!(open.admit(now(secs(6)), GIVE_UP), Some(Permit::Trial), "at once");

    let mut half = half_opened();
    let before = half.view().transitions_total;
    half.hurry(Reason::Requested, now(secs(66)));
    assert_eq!(half.view().transitions_total, before);
    assert_eq!(half.admit(now(secs(66)), GIVE_UP), None, "the trial under way stays the only one");
}

// Half open.

#[test]
fn one_trial_at_a_time() {
    let mut circuit = half_opened();
    assert_eq!(circuit.admit(now(secs(65)), GIVE_UP), None);
    assert_eq!(circuit.admit(now(secs(75)), GIVE_UP), None);
    circuit.success(now(secs(75)));
    assert_eq!(circuit.admit(now(secs(75)), GIVE_UP), Some(Permit::Trial), "it was reported");
    assert_eq!(circuit.admit(now(secs(75)), GIVE_UP), None);
}

#[test]
fn a_lost_trial_holds_the_circuit_no_longer_than_it_could_have_taken() {
    let mut circuit = half_opened();
    assert_eq!(circuit.admit(now(secs(76) - Duration::from_nanos(1)), GIVE_UP), None);
    assert_eq!(circuit.admit(now(secs(76)), GIVE_UP), Some(Permit::Trial));
    assert_eq!(circuit.admit(now(secs(77)), GIVE_UP), None, "which is again the only one");
}

#[test]
fn a_trial_that_is_known_to_be_lost_opens_it_again_and_is_no_failure() {
    let mut circuit = half_opened();
    let before = circuit.view();
    circuit.lost(now(secs(66)), Fraction::HALF);
    let after = circuit.view();
    assert_eq!((after.state, after.successes, after.failures), (State::Open, 1, before.failures));
    assert_eq!((after.opens, after.trial_at), (2, Some(mono(secs(126)))));
    assert_eq!(last_reason(&circuit), Reason::TrialLost);
    circuit.lost(now(secs(67)), Fraction::HALF);
    assert_eq!(circuit.view().opens, 2, "nothing was under way");
}

#[test]
fn closes_after_enough_successes_in_a_row_and_not_before() {
    let mut circuit = half_opened();
    for at in [65, 67] {
        circuit.success(now(secs(at)));
        assert_eq!(circuit.state(), State::HalfOpen);
        assert_eq!(circuit.admit(now(secs(at + 2)), GIVE_UP), Some(Permit::Trial));
    }
    circuit.success(now(secs(69)));
    assert_eq!(circuit.state(), State::Closed);
    assert_eq!(last_reason(&circuit), Reason::SuccessThreshold { successes: 3 });
    assert_eq!(circuit.admit(now(secs(69)), GIVE_UP), Some(Permit::Check));
}

#[test]
fn one_failed_trial_opens_it_again_and_the_successes_before_are_forgotten() {
    let mut circuit = half_opened();
    circuit.success(now(secs(65)));
    circuit.admit(now(secs(67)), GIVE_UP);
    circuit.success(now(secs(67)));
    circuit.admit(now(secs(69)), GIVE_UP);
    circuit.failure(FailureKind::ShuttingDown, now(secs(69)), Fraction::HALF);
    assert_eq!(circuit.state(), State::Open);
    assert_eq!(last_reason(&circuit), Reason::TrialFailed(FailureKind::ShuttingDown));
    assert_eq!((circuit.trial_at(), circuit.view().opens), (Some(mono(secs(129))), 2));
    assert_eq!(circuit.admit(now(secs(129)), GIVE_UP), Some(Permit::Trial));
    circuit.success(now(secs(129)));
    assert_eq!((circuit.state(), circuit.view().consecutive_successes), (State::HalfOpen, 1));
}

#[test]
fn is_closed_again_only_until_the_threshold_is_reached_again() {
    let mut circuit = half_opened();
    for _ in 0..3 {
        circuit.success(now(secs(70)));
    }
    for n in 0..4 {
        circuit.failure(FailureKind::Timeout, now(secs(71 + n)), Fraction::HALF);
        assert_eq!(circuit.state(), State::Closed);
    }
    circuit.failure(FailureKind::Timeout, now(secs(75)), Fraction::HALF);
    assert_eq!((circuit.state(), circuit.view().opens), (State::Open, 2));
}

// What is told of it.

#[test]
fn time_in_each_state_includes_the_current_stay() {
    let mut circuit = half_opened();
    let times =
        |c: &Circuit, at| State::ALL.iter().map(|s| c.view().time_in(*s, mono(secs(at))).as_secs()).collect();
    let seen: Vec<u64> = times(&circuit, 70);
    assert_eq!(seen, [5, 60, 5]);
    for _ in 0..3 {
        circuit.success(now(secs(70)));
    }
    let seen: Vec<u64> = times(&circuit, 100);
    assert_eq!(seen, [35, 60, 5]);
}

#[test]
fn failures_are_counted_by_kind() {
    let mut circuit = circuit();
    for kind in [FailureKind::Timeout, FailureKind::AuthFailed, FailureKind::Timeout, FailureKind::Internal] {
        circuit.failure(kind, now(Duration::ZERO), Fraction::HALF);
    }
    circuit.success(now(Duration::ZERO));
    let view = circuit.view();
    let seen: Vec<_> = view.failures_by_kind.iter().collect();
    assert_eq!(seen, [(FailureKind::AuthFailed, 1), (FailureKind::Timeout, 2), (FailureKind::Internal, 1)]);
    assert_eq!(view.lifetime().success_rate(), Some(0.2));
}

#[test]
fn the_newest_hundred_transitions_are_kept_and_all_are_counted() {
    let mut circuit = opened();
    let start = circuit.view();
    let mut at = 5;
    // Each round is open → half open → open.
    for _ in 0..75 {
        at += 60;
        circuit.admit(now(secs(at)), GIVE_UP).expect("a trial");
        circuit.failure(FailureKind::Timeout, now(secs(at)), Fraction::HALF);
    }
    let view = circuit.view();
    assert_eq!((view.transitions_total, view.transitions.len(), view.opens), (151, 100, 76));
    assert_eq!(view.transitions.last().expect("one").at, now(secs(at)), "the newest are kept");
    assert_eq!(view.transitions[0].at, now(secs(5 + 60 * 26)), "the oldest went first");
    assert!(
        view.transitions.windows(2).all(|two| two[0].at.mono <= two[1].at.mono && two[0].to == two[1].from)
    );
    assert_eq!(view.transitions_since(&start).len(), 100, "what is forgotten is left out");
    assert_eq!(view.transitions_since(&view).len(), 0);
    let before = circuit.view();
    circuit.hurry(Reason::Requested, now(secs(at + 1)));
    let after = circuit.view();
    let new: Vec<_> = after.transitions_since(&before).iter().map(|t| (t.from, t.to)).collect();
    assert_eq!(new, [(State::Open, State::HalfOpen)]);
    assert_eq!(before.transitions_since(&after).len(), 0, "the wrong way round is nothing, not a panic");
}
