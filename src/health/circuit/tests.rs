use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

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

// Against a model that shares nothing with it: the whole story, told again from the beginning each time.

#[derive(Debug, Clone)]
enum Step {
    Success,
    Failure(FailureKind, f64),
    Admit(Duration),
    Hurry,
    /// The report of the check under way never comes, and that is known.
    Lost,
    Wait(Duration),
    /// To the end of time.
    EndOfTime,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Event {
    Success,
    Failure(FailureKind),
    /// With what it may take.
    Admit(Duration),
    Hurry,
    Lost,
}

/// One event, when it happened, and when the circuit then said its next trial would be.
type Story = [(Monotonic, Event, Option<Monotonic>)];

/// What a circuit has to be after a story.
#[derive(Debug)]
struct Told {
    state: State,
    permit: Option<Permit>,
    /// When each stay began, and in which state.
    stays: Vec<(Monotonic, State)>,
    /// Failures since the last success; successes since the last failure or since it became half open.
    in_a_row: (u64, u64),
}

fn tell(settings: Settings, story: &Story) -> Told {
    let mut stays = vec![(Monotonic::ZERO, State::Closed)];
    let mut permit = None;
    // Since the half-open state was entered: reports, and trials under way with their end.
    let mut wins = 0;
    let mut busy_until: Option<Monotonic> = None;
    let mut half_open_from = 0;
    for (i, (at, event, _)) in story.iter().enumerate() {
        let (since, state) = stays[stays.len() - 1];
        let said = story[..i].iter().rev().find_map(|(_, event, trial)| match event {
            Event::Failure(_) | Event::Lost => *trial,
            _ => None,
        });
        permit = None;
        let next = match (state, event) {
            (State::Closed, Event::Admit(_)) => {
                permit = Some(Permit::Check);
                None
            }
            (State::Closed, Event::Failure(_)) => {
                let ever = story[..i].iter().any(|(_, e, _)| *e == Event::Success);
                let (failures, _) = in_a_row(&story[..=i]);
                (ever && failures >= u64::from(settings.failure_threshold.get())).then_some(State::Open)
            }
            (State::Open, Event::Hurry) => Some(State::HalfOpen),
            (State::Open, Event::Admit(_)) if said.is_some_and(|trial| trial <= *at) => {
                permit = Some(Permit::Trial);
                Some(State::HalfOpen)
            }
            (State::HalfOpen, Event::Admit(takes)) if busy_until.is_none_or(|end| end <= *at) => {
                permit = Some(Permit::Trial);
                busy_until = Some(*at + *takes);
                None
            }
            (State::HalfOpen, Event::Success) => {
                wins += 1;
                busy_until = None;
                (wins >= settings.success_threshold.get()).then_some(State::Closed)
            }
            (State::HalfOpen, Event::Failure(_)) => Some(State::Open),
            (State::HalfOpen, Event::Lost) => busy_until.map(|_| State::Open),
            _ => None,
        };
        if let Some(next) = next {
            assert!(since <= *at);
            stays.push((*at, next));
            wins = 0;
            if next == State::HalfOpen {
                half_open_from = i;
            }
            busy_until = match event {
                Event::Admit(takes) => Some(*at + *takes),
                _ => None,
            };
        }
    }
    let in_a_row = (in_a_row(story).0, in_a_row(&story[half_open_from..]).1);
    Told { state: stays[stays.len() - 1].1, permit, stays, in_a_row }
}

/// Failures, and successes, at the end of the story.
fn in_a_row(story: &Story) -> (u64, u64) {
    let reports = || {
        story.iter().rev().filter_map(|(_, event, _)| match event {
            Event::Success => Some(true),
            Event::Failure(_) => Some(false),
            _ => None,
        })
    };
    let run = |ok| reports().take_while(|report| *report == ok).count() as u64;
    (run(false), run(true))
}

fn check_against_the_story(circuit: &Circuit, settings: Settings, story: &Story, at: Monotonic) {
    let told = tell(settings, story);
    let view = circuit.view();
    assert_eq!(view.state, told.state);
    let in_a_row = (u64::from(view.consecutive_failures), u64::from(view.consecutive_successes));
    assert_eq!(in_a_row, told.in_a_row);

    let successes = story.iter().filter(|(_, event, _)| *event == Event::Success).count() as u64;
    let mut by_kind = BTreeMap::new();
    for (_, event, _) in story {
        if let Event::Failure(kind) = event {
            *by_kind.entry(*kind).or_insert(0u64) += 1;
        }
    }
    assert_eq!((view.successes, view.failures), (successes, by_kind.values().sum()));
    assert_eq!(view.failures_by_kind.iter().collect::<BTreeMap<_, _>>(), by_kind);
    assert_eq!(circuit.succeeded_once(), successes > 0);
    let openings = told.stays.iter().filter(|(_, state)| *state == State::Open).count() as u64;
    assert_eq!(view.opens, openings);

    // Time in each state, and all of it together.
    let ends = told.stays.iter().skip(1).map(|(began, _)| *began).chain([at]);
    let mut spent = BTreeMap::new();
    for ((began, state), end) in told.stays.iter().zip(ends) {
        *spent.entry(*state).or_insert(Duration::ZERO) += end.since(*began);
    }
    let mut total = Duration::ZERO;
    for state in State::ALL {
        assert_eq!(view.time_in(*state, at), spent.get(state).copied().unwrap_or_default(), "{state}");
        total += view.time_in(*state, at);
    }
    assert_eq!(total, at.since_origin());

    // Transitions.
    let changes: Vec<_> = told.stays.windows(2).map(|two| (two[1].0, two[0].1, two[1].1)).collect();
    assert_eq!(view.transitions_total, changes.len() as u64);
    let kept: Vec<_> = view.transitions.iter().map(|t| (t.at.mono, t.from, t.to)).collect();
    assert_eq!(kept, changes[changes.len().saturating_sub(TRANSITIONS_KEPT)..]);
    assert_eq!(view.since.mono, told.stays[told.stays.len() - 1].0);
    for (n, transition) in view.transitions.iter().enumerate() {
        let fits = match (transition.from, transition.to, &transition.reason) {
            (State::Closed, State::Open, Reason::FailureThreshold { failures, .. }) => {
                *failures >= settings.failure_threshold.get()
            }
            (State::Open, State::HalfOpen, Reason::RecoveryElapsed | Reason::Requested) => true,
            (State::HalfOpen, State::Open, Reason::TrialFailed(_) | Reason::TrialLost) => true,
            (State::HalfOpen, State::Closed, Reason::SuccessThreshold { successes }) => {
                *successes == settings.success_threshold.get()
            }
            _ => false,
        };
        assert!(fits, "transition {n}: {transition:?}");
    }

    // The next trial.
    assert_eq!(view.trial_at.is_some(), told.state == State::Open);
    if let Some(trial) = view.trial_at {
        let since = view.since.mono;
        // A nanosecond for the rounding of the product.
        let earliest = since + (settings.recovery_timeout * 9 / 10).saturating_sub(Duration::from_nanos(1));
        let latest = since + settings.recovery_timeout * 11 / 10 + Duration::from_nanos(1);
        assert!(earliest <= trial && trial <= latest, "{earliest:?} <= {trial:?} <= {latest:?}");
    }
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop::sample::select(FailureKind::ALL);
    prop_oneof![
        6 => Just(Step::Success),
        8 => (kind, 0.0..1.0).prop_map(|(kind, draw)| Step::Failure(kind, draw)),
        8 => (0u64..20_000).prop_map(|ms| Step::Admit(Duration::from_millis(ms))),
        1 => Just(Step::Hurry),
        1 => Just(Step::Lost),
        2 => Just(Step::Wait(Duration::ZERO)),
        6 => (0u64..15_000).prop_map(|ms| Step::Wait(Duration::from_millis(ms))),
        2 => (0u64..100_000_000_000).prop_map(|ms| Step::Wait(Duration::from_millis(ms))),
    ]
}

proptest! {
    #[test]
    fn is_what_the_whole_story_says(
        thresholds in (1u32..5, 1u32..4),
        recovery in prop_oneof![Just(0u64), 1u64..10_000],
        steps in vec(step(), 1..250),
        ends in any::<bool>(),
        looked_at in any::<prop::sample::Index>(),
    ) {
        let settings = Settings {
            failure_threshold: count(thresholds.0),
            recovery_timeout: Duration::from_millis(recovery),
            recovery_timeout_max: None,
            success_threshold: count(thresholds.1),
            half_open_interval: secs(2),
        };
        let mut circuit = Circuit::new(settings, now(Duration::ZERO));
        let mut story: Vec<(Monotonic, Event, Option<Monotonic>)> = Vec::new();
        let mut at = Monotonic::ZERO;
        let looked_at = looked_at.index(steps.len());
        let mut earlier = circuit.view();
        let steps = steps.into_iter().chain(ends.then_some(Step::EndOfTime)).chain([
            // Whatever happened: an hour later a trial or a check is permitted.
            Step::Lost, Step::Wait(secs(3600)), Step::Admit(GIVE_UP),
        ]);
        let mut permit = None;
        for (n, step) in steps.enumerate() {
            let time = now(at.since_origin());
            let event = match step {
                Step::Wait(span) => {
                    at = at + span;
                    None
                }
                Step::EndOfTime => {
                    at = mono(Duration::MAX);
                    None
                }
                Step::Success => {
                    circuit.success(time);
                    Some(Event::Success)
                }
                Step::Failure(kind, draw) => {
                    circuit.failure(kind, time, Fraction::new(draw));
                    Some(Event::Failure(kind))
                }
                Step::Admit(takes) => {
                    permit = circuit.admit(time, takes);
                    Some(Event::Admit(takes))
                }
                Step::Hurry => {
                    circuit.hurry(Reason::Requested, time);
                    Some(Event::Hurry)
                }
                Step::Lost => {
                    circuit.lost(time, Fraction::HALF);
                    Some(Event::Lost)
                }
            };
            if let Some(event) = event {
                story.push((at, event, circuit.trial_at()));
                if let Event::Admit(_) = event {
                    prop_assert_eq!(permit, tell(settings, &story).permit);
                }
            }
            check_against_the_story(&circuit, settings, &story, at);
            if n == looked_at {
                earlier = circuit.view();
            }
        }
        prop_assert!(permit.is_some(), "stuck in {}", circuit.state());
        let view = circuit.view();
        let new = usize::try_from(view.transitions_total - earlier.transitions_total).expect("few");
        let since = view.transitions_since(&earlier);
        prop_assert_eq!(since, &view.transitions[view.transitions.len() - new.min(TRANSITIONS_KEPT)..]);
    }
}
