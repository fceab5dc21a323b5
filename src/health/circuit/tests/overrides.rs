//! What an operator does by hand, in each state.

use super::*;
use crate::health::WallTime;
use crate::health::test_support::{held, millis};

const HOUR: Duration = secs(3600);

/// Each state that a circuit can be in by itself, at 70 s.
fn in_each_state() -> [(State, Circuit); 3] {
    let mut closed = circuit();
    closed.success(now(secs(1)));
    let open = opened();
    let mut half_open = half_opened();
    half_open.success(now(secs(66)));
    [(State::Closed, closed), (State::Open, open), (State::HalfOpen, half_open)]
}

fn hold(circuit: &mut Circuit, mode: Mode, from: u64, span: Duration) {
    circuit.hold(held(mode, now(secs(from)), span), now(secs(from)));
}

fn bob() -> Actor {
    Actor::new("bob")
}

fn fail(circuit: &mut Circuit, times: u64, from: u64) {
    for n in 0..times {
        circuit.failure(FailureKind::QueryTimeout, now(secs(from + n)), Fraction::HALF);
    }
}

fn succeed(circuit: &mut Circuit, times: u64, from: u64) {
    for n in 0..times {
        circuit.success(now(secs(from + n)));
    }
}

// Holding.

#[test]
fn holds_any_state_in_either_and_tells_who_and_why() {
    for (state, circuit) in in_each_state() {
        for mode in Mode::ALL {
            let mut circuit = circuit.clone();
            let before = circuit.view();
            hold(&mut circuit, *mode, 70, HOUR);
            let view = circuit.view();
            assert_eq!((view.state, view.is_held(*mode)), (mode.state(), true), "{state} {mode}");
            let over = view.over.as_ref().expect("held");
            assert_eq!((over.since, over.expires), (now(secs(70)).wall, now(secs(3670))));
            // What was measured stays as it was.
            assert_eq!((view.broken, view.opens), (before.broken, before.opens), "{state} {mode}");
            let told: Vec<_> = view.transitions_since(&before).iter().map(|t| t.reason.to_string()).collect();
            if state == mode.state() {
                assert!(told.is_empty() && view.since == before.since, "the state goes on");
            } else {
                assert_eq!(told, [format!("{mode} by ann: by hand")]);
                assert_eq!(view.since, now(secs(70)));
            }
        }
    }
}

#[test]
fn forced_open_permits_nothing_until_it_is_over() {
    for (state, mut circuit) in in_each_state() {
        hold(&mut circuit, Mode::ForcedOpen, 70, HOUR);
        assert_eq!(circuit.view().trial_at, Some(mono(secs(3670))), "{state}: the trial follows it");
        // Not by itself, after its own recovery timeout; nor because it is asked for, or led elsewhere.
        circuit.hurry(Reason::Requested, now(secs(71)));
        circuit.hurry(Reason::AddressesChanged, now(secs(71)));
        for at in [70, 71, 200, 3669] {
            assert!(!circuit.expire(now(secs(at))));
            assert_eq!(circuit.admit(now(secs(at)), GIVE_UP), None, "{state}, {at} s");
        }
        assert!(!circuit.expire(now(secs(3670) - Duration::from_nanos(1))));
        assert!(circuit.expire(now(secs(3670))));
        assert_eq!((circuit.state(), circuit.view().over), (State::HalfOpen, None));
        assert_eq!(last_reason(&circuit).to_string(), "the time of forced_open is over");
        assert_eq!(circuit.admit(now(secs(3670)), GIVE_UP), Some(Permit::Trial), "at once");
        assert!(!circuit.expire(now(secs(3671))), "it ends once");
    }
}

#[test]
fn forced_closed_stays_closed_whatever_is_measured() {
    for (state, mut circuit) in in_each_state() {
        let opens = circuit.view().opens;
        hold(&mut circuit, Mode::ForcedClosed, 70, HOUR);
        for n in 0..100 {
            assert_eq!(circuit.admit(now(secs(70 + n)), GIVE_UP), Some(Permit::Check), "{state}");
            fail(&mut circuit, 1, 70 + n);
            assert_eq!(circuit.state(), State::Closed, "{state}");
        }
        let view = circuit.view();
        assert!(view.broken && view.opens == opens, "{state}: that is measured, and no opening");
        assert_eq!((view.consecutive_failures >= 100, view.trial_at), (true, None));
        circuit.lost(now(secs(171)), Fraction::HALF);
        assert_eq!(circuit.state(), State::Closed, "{state}: nor what is lost");
    }
}

#[test]
fn what_is_measured_while_forced_closed_is_known() {
    let mut circuit = circuit();
    circuit.success(now(secs(0)));
    hold(&mut circuit, Mode::ForcedClosed, 1, HOUR);
    fail(&mut circuit, 4, 2);
    assert!(!circuit.view().broken, "below the threshold");
    fail(&mut circuit, 1, 6);
    assert_eq!((circuit.view().broken, circuit.view().mended), (true, None));
    succeed(&mut circuit, 2, 7);
    assert!(circuit.view().broken, "below that of successes");
    succeed(&mut circuit, 1, 9);
    assert_eq!((circuit.view().broken, circuit.view().mended), (false, Some(mono(secs(9)))));
    succeed(&mut circuit, 1, 10);
    assert_eq!(circuit.view().mended, Some(mono(secs(9))), "it is mended once");
    assert_eq!(circuit.view().opens, 0);
}

#[test]
fn one_override_takes_the_place_of_another() {
    for first in Mode::ALL {
        for second in Mode::ALL {
            let mut circuit = opened();
            hold(&mut circuit, *first, 70, secs(10));
            hold(&mut circuit, *second, 75, HOUR);
            assert_eq!(circuit.state(), second.state());
            assert!(!circuit.expire(now(secs(80))), "the end of the first one is no end");
            assert!(circuit.expire(now(secs(3675))));
            assert_eq!(last_reason(&circuit), Reason::OverrideExpired(*second));
        }
    }
}

#[test]
fn a_hold_takes_the_trial_under_way_away() {
    for mode in Mode::ALL {
        let mut circuit = half_opened();
        hold(&mut circuit, *mode, 66, secs(1));
        let opens = circuit.view().opens;
        circuit.lost(now(secs(66)), Fraction::HALF);
        assert_eq!((circuit.state(), circuit.view().opens), (mode.state(), opens), "it is lost to nobody");
        assert!(circuit.expire(now(secs(67))));
        assert_eq!(circuit.admit(now(secs(67)), GIVE_UP), Some(Permit::Trial), "and keeps none out");
    }
}

#[test]
fn a_check_under_way_when_it_is_forced_open_counts_and_decides_nothing() {
    let mut circuit = circuit();
    succeed(&mut circuit, 1, 0);
    fail(&mut circuit, 4, 1);
    circuit.admit(now(secs(5)), GIVE_UP);
    hold(&mut circuit, Mode::ForcedOpen, 6, HOUR);
    circuit.failure(FailureKind::Timeout, now(secs(7)), Fraction::HALF);
    let view = circuit.view();
    assert_eq!((view.failures, view.consecutive_failures, view.opens), (5, 5, 0));
    assert_eq!((view.state, view.broken), (State::Open, true), "though that was measured");
    assert_eq!(view.trial_at, Some(mono(secs(3606))));
}

// Its end.

#[test]
fn successes_while_forced_closed_count_for_the_trial_that_follows() {
    for (successes, trials) in [(0, 3), (1, 2), (2, 1), (3, 1), (50, 1)] {
        let mut circuit = opened();
        hold(&mut circuit, Mode::ForcedClosed, 10, secs(100));
        succeed(&mut circuit, successes, 11);
        assert!(circuit.expire(now(secs(110))));
        assert_eq!(circuit.state(), State::HalfOpen, "never straight to closed");
        for n in 0..trials {
            assert_eq!(circuit.state(), State::HalfOpen, "{successes} before, {n} trials");
            assert_eq!(circuit.admit(now(secs(110 + n)), GIVE_UP), Some(Permit::Trial));
            succeed(&mut circuit, 1, 110 + n);
        }
        assert_eq!(circuit.state(), State::Closed, "{successes} before");
    }
}

#[test]
fn successes_from_before_it_was_forced_open_count_for_nothing() {
    let mut circuit = circuit();
    succeed(&mut circuit, 50, 0);
    hold(&mut circuit, Mode::ForcedOpen, 50, secs(10));
    assert!(circuit.expire(now(secs(60))));
    succeed(&mut circuit, 2, 60);
    assert_eq!(circuit.state(), State::HalfOpen);
    succeed(&mut circuit, 1, 62);
    assert_eq!(circuit.state(), State::Closed);
}

#[test]
fn a_trial_that_fails_after_an_override_opens_it_and_that_counts() {
    for mode in Mode::ALL {
        let mut circuit = circuit();
        succeed(&mut circuit, 50, 0);
        hold(&mut circuit, *mode, 50, secs(10));
        assert!(circuit.expire(now(secs(60))));
        assert!(!circuit.view().broken, "{mode}: half open by order alone");
        circuit.admit(now(secs(60)), GIVE_UP);
        fail(&mut circuit, 1, 60);
        let view = circuit.view();
        assert_eq!((view.state, view.opens, view.broken), (State::Open, 1, true));
        assert_eq!(view.trial_at, Some(mono(secs(120))));
    }
}

#[test]
fn reset_forgets_what_happened_in_a_row_in_every_state() {
    for (state, mut circuit) in in_each_state() {
        let before = circuit.view();
        circuit.reset(bob(), now(secs(70)));
        let view = circuit.view();
        assert_eq!((view.consecutive_failures, view.consecutive_successes), (0, 0), "{state}");
        assert_eq!(
            (view.successes, view.failures, view.opens),
            (before.successes, before.failures, before.opens)
        );
        assert_eq!(view.broken, before.broken, "what was measured is not forgotten");
        let told: Vec<_> =
            view.transitions_since(&before).iter().map(|t| (t.to, t.reason.to_string())).collect();
        match state {
            State::Open => {
                assert_eq!(told, [(State::HalfOpen, "reset by bob".into())]);
                assert_eq!(circuit.admit(now(secs(70)), GIVE_UP), Some(Permit::Trial), "at once");
            }
            State::Closed | State::HalfOpen => assert_eq!((view.state, told), (state, vec![])),
        }
    }
}

#[test]
fn reset_ends_an_override_by_a_trial_whatever_was_measured() {
    for mode in Mode::ALL {
        for (state, mut circuit) in in_each_state() {
            hold(&mut circuit, *mode, 70, HOUR);
            succeed(&mut circuit, 20, 71);
            circuit.reset(bob(), now(secs(100)));
            assert_eq!((circuit.state(), circuit.view().over), (State::HalfOpen, None), "{state} {mode}");
            assert!(!circuit.expire(now(secs(10_000))));
            for n in 0..3 {
                assert_eq!(circuit.state(), State::HalfOpen, "the successes before are forgotten");
                assert_eq!(circuit.admit(now(secs(100 + n)), GIVE_UP), Some(Permit::Trial));
                succeed(&mut circuit, 1, 100 + n);
            }
            assert_eq!(circuit.state(), State::Closed, "{state} {mode}");
        }
    }
}

#[test]
fn a_reset_leaves_the_trial_under_way_the_only_one() {
    let mut circuit = half_opened();
    circuit.reset(bob(), now(secs(66)));
    assert_eq!(circuit.admit(now(secs(66)), GIVE_UP), None);
    circuit.lost(now(secs(67)), Fraction::HALF);
    assert_eq!(circuit.state(), State::Open, "and it can be lost");
}

// Before the first success, and before any check.

#[test]
fn before_the_first_success_it_can_be_held_and_is_tried_after_that() {
    for mode in Mode::ALL {
        let mut circuit = circuit();
        fail(&mut circuit, 10, 0);
        hold(&mut circuit, *mode, 10, secs(10));
        fail(&mut circuit, 1, 11);
        assert!(!circuit.view().broken, "nothing can break that never worked");
        assert!(circuit.expire(now(secs(20))));
        assert_eq!(circuit.admit(now(secs(20)), GIVE_UP), Some(Permit::Trial));
        // From here on it is a circuit like any other: an order has ended the time in which it cannot open.
        fail(&mut circuit, 1, 21);
        assert_eq!(
            (circuit.state(), circuit.view().opens, circuit.succeeded_once()),
            (State::Open, 1, false)
        );
        assert_eq!(circuit.admit(now(secs(81)), GIVE_UP), Some(Permit::Trial));
        succeed(&mut circuit, 3, 81);
        assert_eq!((circuit.state(), circuit.succeeded_once()), (State::Closed, true));
    }
}

#[test]
fn reset_before_the_first_success_changes_no_state() {
    let mut circuit = circuit();
    fail(&mut circuit, 10, 0);
    circuit.reset(bob(), now(secs(10)));
    assert_eq!((circuit.state(), circuit.view().transitions_total), (State::Closed, 0));
    assert_eq!(circuit.consecutive_failures(), 0);
}

#[test]
fn one_from_before_the_agent_began_keeps_its_beginning_and_its_end() {
    let began = WallTime::from_unix_millis(now(Duration::ZERO).wall.unix_millis() - 1_800_000);
    let rest = secs(1_800);
    for mode in Mode::ALL {
        let mut circuit = circuit();
        let over = Override { since: began, ..(*held(*mode, now(Duration::ZERO), rest)).clone() };
        circuit.hold(Arc::new(over), now(Duration::ZERO));
        let view = circuit.view();
        assert_eq!((view.state, view.over.expect("held").since), (mode.state(), began));
        assert!(!circuit.expire(now(rest - millis(1))));
        assert!(circuit.expire(now(rest)));
        assert_eq!(circuit.state(), State::HalfOpen);
    }
}

#[test]
fn one_whose_time_is_over_when_it_is_put_in_force_ends_at_the_first_look() {
    let mut circuit = circuit();
    circuit.hold(held(Mode::ForcedOpen, now(secs(0)), secs(5)), now(secs(9)));
    assert!(circuit.expire(now(secs(9))));
    assert_eq!(circuit.admit(now(secs(9)), GIVE_UP), Some(Permit::Trial));
}

// What is told of it.

#[test]
fn time_in_each_state_is_what_was_in_force_to_the_millisecond() {
    let mut circuit = circuit();
    let at = |ms| now(millis(ms));
    circuit.success(at(0));
    circuit.hold(held(Mode::ForcedOpen, at(1_001), secs(2)), at(1_001));
    assert!(circuit.expire(at(3_001)));
    circuit.hold(held(Mode::ForcedClosed, at(3_004), HOUR), at(3_004));
    for n in 0..5 {
        circuit.failure(FailureKind::Timeout, at(3_100 + n), Fraction::HALF);
    }
    circuit.hold(held(Mode::ForcedOpen, at(4_004), HOUR), at(4_004));
    circuit.hold(held(Mode::ForcedOpen, at(4_504), HOUR), at(4_504));
    circuit.reset(bob(), at(5_006));
    let view = circuit.view();
    let times = State::ALL.iter().map(|state| view.time_in(*state, at(5_013).mono).as_millis());
    assert_eq!(times.collect::<Vec<_>>(), [1_001 + 1_000, 2_000 + 1_002, 3 + 7]);
    assert_eq!(view.opens, 0, "forced ones are none");
    assert_eq!(view.time_in(State::HalfOpen, at(6_000_000).mono), millis(3 + 6_000_000 - 5_006));
}

// The growth of the recovery time.

#[test]
fn a_check_from_before_an_order_that_is_reported_after_it_counts_no_moment_twice() {
    let mut circuit = opened();
    circuit.reset(bob(), now(secs(10)));
    circuit.failure(FailureKind::Timeout, now(secs(9)), Fraction::HALF);
    let view = circuit.view();
    assert_eq!((view.state, view.since), (State::Open, now(secs(10))));
    let spent: Duration = State::ALL.iter().map(|state| view.time_in(*state, mono(secs(20)))).sum();
    assert_eq!(spent, secs(20));
}

/// One that works, held open and ignored from 100 s to 200 s.
fn ignored() -> Circuit {
    let mut circuit = circuit();
    succeed(&mut circuit, 3, 0);
    let over = Override {
        readiness: Readiness::Ignore,
        ..(*held(Mode::ForcedOpen, now(secs(100)), secs(100))).clone()
    };
    circuit.hold(Arc::new(over), now(secs(100)));
    assert!(circuit.view().is_ignored);
    circuit
}

#[test]
fn what_was_ignored_is_so_until_trials_have_decided() {
    let ends: [fn(&mut Circuit); 2] =
        [|it| assert!(it.expire(now(secs(200)))), |it| it.reset(bob(), now(secs(150)))];
    for end in ends {
        let mut circuit = ignored();
        end(&mut circuit);
        succeed(&mut circuit, 2, 201);
        assert_eq!((circuit.state(), circuit.view().is_ignored), (State::HalfOpen, true));
        let mut closed = circuit.clone();
        succeed(&mut closed, 1, 210);
        assert_eq!((closed.state(), closed.view().is_ignored), (State::Closed, false));
        fail(&mut circuit, 1, 210);
        assert_eq!((circuit.state(), circuit.view().is_ignored), (State::Open, false), "it is not well");
    }
    let mut circuit = ignored();
    hold(&mut circuit, Mode::ForcedOpen, 150, secs(10));
    assert!(!circuit.view().is_ignored, "the next order says for itself");
}

/// A circuit that opened at once, whose recovery time grows up to this, in seconds.
fn growing(max: Option<u64>) -> Circuit {
    let settings = Settings { recovery_timeout_max: max.map(secs), ..default_circuit() };
    let mut circuit = Circuit::new(settings, now(Duration::ZERO));
    succeed(&mut circuit, 1, 0);
    fail(&mut circuit, 5, 0);
    circuit
}

/// How long it waits for each of so many trials, in seconds, if each fails.
fn waits(circuit: &mut Circuit, trials: usize) -> Vec<u64> {
    (0..trials)
        .map(|_| {
            let opened = circuit.view().since.mono;
            let trial = circuit.trial_at().expect("open");
            let at = now(trial.since_origin());
            assert_eq!(circuit.admit(at, GIVE_UP), Some(Permit::Trial));
            circuit.failure(FailureKind::Timeout, at, Fraction::HALF);
            trial.since(opened).as_secs()
        })
        .collect()
}

#[test]
fn the_recovery_time_doubles_with_each_failed_trial_up_to_its_bound() {
    for (max, expected) in [
        (None, [60, 60, 60, 60, 60, 60]),
        (Some(60), [60, 60, 60, 60, 60, 60]),
        (Some(90), [60, 90, 90, 90, 90, 90]),
        (Some(480), [60, 120, 240, 480, 480, 480]),
        (Some(600), [60, 120, 240, 480, 600, 600]),
        // A bound below it bounds nothing.
        (Some(1), [60, 60, 60, 60, 60, 60]),
    ] {
        assert_eq!(waits(&mut growing(max), 6), expected, "{max:?}");
    }
    assert_eq!(waits(&mut growing(Some(86_400)), 200).last(), Some(&86_400), "nor does it overflow");
}

#[test]
fn a_lost_trial_grows_it_too_and_the_jitter_is_of_what_it_has_grown_to() {
    let mut circuit = growing(Some(600));
    let trial = circuit.trial_at().expect("open");
    circuit.admit(now(trial.since_origin()), GIVE_UP);
    circuit.lost(now(trial.since_origin()), Fraction::ZERO);
    assert_eq!(circuit.trial_at(), Some(trial + secs(108)), "120 s less a tenth");
}

#[test]
fn it_starts_anew_once_it_is_mended_or_reset() {
    let mut mended = growing(Some(600));
    waits(&mut mended, 3);
    let at = mended.trial_at().expect("open").since_origin();
    mended.admit(now(at), GIVE_UP);
    succeed(&mut mended, 3, at.as_secs());
    fail(&mut mended, 5, at.as_secs() + 10);
    assert_eq!(waits(&mut mended, 2), [60, 120]);

    let mut reset = growing(Some(600));
    waits(&mut reset, 3);
    let at = reset.view().since.mono.since_origin().as_secs() + 1;
    reset.reset(bob(), now(secs(at)));
    reset.admit(now(secs(at)), GIVE_UP);
    fail(&mut reset, 1, at);
    assert_eq!(waits(&mut reset, 2), [60, 120]);
}

#[test]
fn an_override_does_not_start_the_growth_anew_unless_it_is_mended_meanwhile() {
    for (successes, expected) in [(0, [480, 600]), (2, [480, 600]), (3, [60, 120])] {
        let mut circuit = growing(Some(600));
        waits(&mut circuit, 2);
        let at = circuit.view().since.mono.since_origin().as_secs() + 1;
        hold(&mut circuit, Mode::ForcedClosed, at, secs(100));
        succeed(&mut circuit, successes, at);
        assert!(circuit.expire(now(secs(at + 100))));
        circuit.admit(now(secs(at + 100)), GIVE_UP);
        fail(&mut circuit, 1, at + 100);
        assert_eq!(waits(&mut circuit, 2), expected, "{successes} successes");
    }
}

// Rates.

#[test]
fn rates_are_of_the_last_minutes_and_end() {
    let mut circuit = circuit();
    // A check every 10 s for an hour; the last twenty fail.
    for n in 0..360 {
        match n < 340 {
            true => circuit.success(now(secs(n * 10))),
            false => circuit.failure(FailureKind::Timeout, now(secs(n * 10)), Fraction::HALF),
        }
    }
    let view = circuit.view();
    let tally = |minutes: u64, at| view.recent.within(secs(60 * minutes), mono(secs(at)));
    let tallies = |at| [1, 5, 15].map(|minutes| tally(minutes, at)).map(|it| (it.successes, it.failures));
    assert_eq!(tallies(3_590), [(0, 6), (10, 20), (70, 20)]);
    assert_eq!(tallies(3_599), [(0, 6), (10, 20), (70, 20)], "the slice is not over yet");
    assert_eq!(tallies(3_600), [(0, 5), (9, 20), (69, 20)]);
    assert_eq!(tallies(3_590 + 59), [(0, 1), (5, 20), (65, 20)]);
    assert_eq!(tallies(3_590 + 60), [(0, 0), (4, 20), (64, 20)]);
    assert_eq!(tallies(3_590 + 900), [(0, 0); 3]);
    let five = tally(5, 3_590);
    assert_eq!((five.success_rate(), five.failure_rate()), (Some(1.0 / 3.0), Some(2.0 / 3.0)));
    assert_eq!((tally(1, 9_999).success_rate(), tally(1, 9_999).failure_rate()), (None, None));
    assert_eq!(view.lifetime(), Tally { successes: 340, failures: 20 });
}
