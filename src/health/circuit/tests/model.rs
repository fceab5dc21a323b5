//! The circuit against a model that shares nothing with it: the model keeps a list of what happened and nothing else, and
//! tells the whole story again from the beginning whenever it is asked for a number.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::health::test_support::held;

/// What can happen to a circuit.
#[derive(Debug, Clone, PartialEq)]
enum Event {
    Success,
    /// With the draw that spreads the recovery time.
    Failure(FailureKind, f64),
    /// May a check be made, which takes no longer than this?
    Admit(Duration),
    Hurry(Reason),
    /// The report of the check under way never comes, and that is known.
    Lost(f64),
    /// An operator holds it, for so long.
    Hold(Mode, Duration),
    /// The runner looks whether an override is over.
    Expire,
    Reset,
}

#[derive(Debug, Clone)]
enum Step {
    Do(Event),
    Wait(Duration),
    /// To the end of time.
    EndOfTime,
}

type Story = [(Monotonic, Event)];

/// What has followed from a story: lists of places in it. Every number is counted from these and from the story.
struct Told<'a> {
    settings: Settings,
    story: &'a Story,
    /// Each stay: since when, in which state, and by which event, but for the first one.
    stays: Vec<(Monotonic, State, usize)>,
    held: Option<(Mode, Monotonic)>,
    /// Until when the trial under way keeps others out.
    busy: Option<Monotonic>,
    /// Events after which the successes in a row are counted anew.
    recounted: Vec<usize>,
    /// Events that opened it, held or not; those that would have; those that ended either; those that forgot.
    opened: Vec<usize>,
    would_have_opened: Vec<usize>,
    mended: Vec<usize>,
    forgot: Vec<usize>,
    permit: Option<Permit>,
}

impl<'a> Told<'a> {
    fn new(settings: Settings, story: &'a Story) -> Self {
        let mut told = Self {
            settings,
            story,
            stays: vec![(Monotonic::ZERO, State::Closed, 0)],
            held: None,
            busy: None,
            recounted: Vec::new(),
            opened: Vec::new(),
            would_have_opened: Vec::new(),
            mended: Vec::new(),
            forgot: Vec::new(),
            permit: None,
        };
        for (i, (at, event)) in story.iter().enumerate() {
            told.permit = None;
            told.follow(i, *at, event);
        }
        told
    }

    fn follow(&mut self, i: usize, at: Monotonic, event: &Event) {
        let (state, held) = (self.state(), self.held);
        match event {
            Event::Success => {
                self.busy = None;
                let enough = self.successes_in_a_row(i) >= u64::from(self.settings.success_threshold.get());
                if enough && (held.is_some() || state == State::HalfOpen) {
                    self.mended.push(i);
                }
                if enough && state == State::HalfOpen {
                    self.go(State::Closed, i);
                }
            }
            Event::Failure(..) => {
                self.busy = None;
                self.recounted.push(i);
                let ever = self.story[..i].iter().any(|(_, event)| *event == Event::Success);
                let enough = self.failures_in_a_row(i) >= u64::from(self.settings.failure_threshold.get());
                match (held, state) {
                    (Some(_), _) if ever && enough => self.would_have_opened.push(i),
                    (Some(_), _) | (None, State::Open) => {}
                    (None, State::Closed) if !(ever && enough) => {}
                    (None, State::Closed | State::HalfOpen) => self.open(i),
                }
            }
            Event::Lost(_) => {
                if self.busy.take().is_some() {
                    self.open(i);
                }
            }
            Event::Admit(takes) => {
                let permit = match state {
                    State::Closed => Some(Permit::Check),
                    State::Open if held.is_some() || self.trial_at().is_some_and(|trial| at < trial) => None,
                    State::HalfOpen if self.busy.is_some_and(|until| at < until) => None,
                    State::Open | State::HalfOpen => Some(Permit::Trial),
                };
                self.permit = permit;
                if permit == Some(Permit::Trial) {
                    if state == State::Open {
                        self.go(State::HalfOpen, i);
                    }
                    self.busy = Some(at + *takes);
                }
            }
            Event::Hurry(_) if state == State::Open && held.is_none() => self.go(State::HalfOpen, i),
            Event::Hurry(_) => {}
            Event::Hold(mode, span) => {
                self.held = Some((*mode, at + *span));
                let to = if *mode == Mode::ForcedOpen { State::Open } else { State::Closed };
                if to != state {
                    self.go(to, i);
                }
            }
            Event::Expire => {
                if let Some((mode, _)) = held.filter(|(_, until)| *until <= at) {
                    self.held = None;
                    self.go(State::HalfOpen, i);
                    if mode == Mode::ForcedClosed {
                        // What succeeded meanwhile counts for the trials.
                        self.recounted.pop();
                    }
                }
            }
            Event::Reset => {
                self.held = None;
                self.forgot.push(i);
                self.recounted.push(i);
                if held.is_some() || state == State::Open {
                    self.go(State::HalfOpen, i);
                }
            }
        }
    }

    fn go(&mut self, to: State, by: usize) {
        self.stays.push((self.story[by].0, to, by));
        self.busy = None;
        if to == State::HalfOpen {
            self.recounted.push(by);
        }
    }

    fn open(&mut self, by: usize) {
        self.opened.push(by);
        self.go(State::Open, by);
    }

    fn state(&self) -> State {
        self.stays[self.stays.len() - 1].1
    }

    /// Counts back from this event to the last one after which the count begins anew.
    fn successes_in_a_row(&self, upto: usize) -> u64 {
        let from = self.recounted.last().map_or(0, |by| by + 1);
        self.story[from..=upto].iter().filter(|(_, event)| *event == Event::Success).count() as u64
    }

    fn failures_in_a_row(&self, upto: usize) -> u64 {
        let row = self.story[..=upto].iter().rev();
        row.take_while(|(_, event)| !matches!(event, Event::Success | Event::Reset))
            .filter(|(_, event)| matches!(event, Event::Failure(..)))
            .count() as u64
    }

    fn last(places: &[usize]) -> Option<usize> {
        places.last().copied()
    }

    /// When an operator's order ends, or the recovery time after the last opening.
    fn trial_at(&self) -> Option<Monotonic> {
        match (self.held, self.state()) {
            (Some((Mode::ForcedOpen, until)), _) => return Some(until),
            (Some((Mode::ForcedClosed, _)), _) | (None, State::Closed | State::HalfOpen) => return None,
            (None, State::Open) => {}
        }
        let by = Self::last(&self.opened).expect("something opened it");
        let (at, draw) = match self.story[by] {
            (at, Event::Failure(_, draw) | Event::Lost(draw)) => (at, draw),
            ref other => panic!("{other:?} opens nothing"),
        };
        let anew = Self::last(&self.mended).max(Self::last(&self.forgot));
        let before = self.opened.iter().filter(|place| Some(**place) > anew).count() - 1;
        let mut wait = self.settings.recovery_timeout;
        for _ in 0..before {
            if let Some(most) = self.settings.recovery_timeout_max.filter(|most| *most > wait) {
                wait = (wait * 2).min(most);
            }
        }
        Some(at + wait.mul_f64(0.9 + 0.2 * draw))
    }

    fn is_broken(&self) -> bool {
        Self::last(&self.opened).max(Self::last(&self.would_have_opened)) > Self::last(&self.mended)
    }

    /// The last success that ended what had opened it, or would have.
    fn mended(&self) -> Option<Monotonic> {
        let broke = |place: &&usize| self.opened.contains(place) || self.would_have_opened.contains(place);
        let mut ended = None;
        let mut from = 0;
        for mended in &self.mended {
            if (from..*mended).any(|place| broke(&&place)) {
                ended = Some(self.story[*mended].0);
            }
            from = *mended;
        }
        ended
    }

    fn tally(&self, counts: impl Fn(Monotonic) -> bool) -> Tally {
        let count = |ok: bool| {
            let reports = self.story.iter().filter(|(at, event)| {
                counts(*at)
                    && match event {
                        Event::Success => ok,
                        Event::Failure(..) => !ok,
                        _ => false,
                    }
            });
            reports.count() as u64
        };
        Tally { successes: count(true), failures: count(false) }
    }
}

fn compare(circuit: &Circuit, settings: Settings, story: &Story, at: Monotonic) {
    let told = Told::new(settings, story);
    let view = circuit.view();
    let (since, state, _) = told.stays[told.stays.len() - 1];
    assert_eq!((view.state, view.since.mono), (state, since));
    assert_eq!(circuit.state(), state);
    assert_eq!(view.over.as_ref().map(|over| (over.mode, over.expires.mono)), told.held);

    // What was measured, and what is in force.
    assert_eq!((view.broken, view.mended), (told.is_broken(), told.mended()));
    if told.held.is_none() {
        assert!(state != State::Open || view.broken, "open by nothing");
        assert!(state != State::Closed || !view.broken, "closed though broken");
    }

    // In a row.
    if let Some(last) = story.len().checked_sub(1) {
        let in_a_row = (u64::from(view.consecutive_failures), u64::from(view.consecutive_successes));
        assert_eq!(in_a_row, (told.failures_in_a_row(last), told.successes_in_a_row(last)));
    }

    // In all, by kind, and of late.
    let mut by_kind = BTreeMap::new();
    for (_, event) in story {
        if let Event::Failure(kind, _) = event {
            *by_kind.entry(*kind).or_insert(0u64) += 1;
        }
    }
    let all = told.tally(|_| true);
    assert_eq!((view.successes, view.failures), (all.successes, all.failures));
    assert_eq!(view.lifetime(), all);
    assert_eq!(view.failures_by_kind.iter().collect::<BTreeMap<_, _>>(), by_kind);
    assert_eq!(circuit.succeeded_once(), all.successes > 0);
    assert_eq!(view.opens, told.opened.len() as u64);
    for minutes in [1, 5, 15] {
        let seen = view.recent.within(secs(60 * minutes), at);
        let slice = |at: Monotonic| at.since_origin().as_nanos() / 10_000_000_000;
        let oldest = (slice(at) + 1).saturating_sub(6 * u128::from(minutes));
        assert_eq!(seen, told.tally(|reported| slice(reported) >= oldest), "{minutes} min");
        // Whatever the slices are: no check that is older, and all that are clearly younger.
        let younger = |span: Duration| told.tally(|reported| at.since(reported) < span);
        let (least, most) = (younger(secs(60 * minutes - 10)), younger(secs(60 * minutes)));
        assert!(least.successes <= seen.successes && seen.successes <= most.successes, "{minutes} min");
        assert!(least.failures <= seen.failures && seen.failures <= most.failures, "{minutes} min");
    }

    // Time in each state, and all of it together.
    let ends = told.stays.iter().skip(1).map(|(began, ..)| *began).chain([at]);
    let mut spent = BTreeMap::new();
    for ((began, state, _), end) in told.stays.iter().zip(ends) {
        *spent.entry(*state).or_insert(Duration::ZERO) += end.since(*began);
    }
    let mut total = Duration::ZERO;
    for state in State::ALL {
        assert_eq!(view.time_in(*state, at), spent.get(state).copied().unwrap_or_default(), "{state}");
        total += view.time_in(*state, at);
    }
    assert_eq!(total, at.since_origin());

    // Transitions, each with its reason.
    let changes: Vec<_> = told
        .stays
        .windows(2)
        .map(|two| (two[1].0, two[0].1, two[1].1, reason(settings, story, two[0].0, two[1])))
        .collect();
    assert_eq!(view.transitions_total, changes.len() as u64);
    let kept: Vec<_> =
        view.transitions.iter().map(|t| (t.at.mono, t.from, t.to, t.reason.to_string())).collect();
    assert_eq!(kept, changes[changes.len().saturating_sub(TRANSITIONS_KEPT)..]);

    // The next trial.
    match (view.trial_at, told.trial_at()) {
        (Some(seen), Some(told)) => {
            // A nanosecond for the rounding of the product.
            let apart = seen.since(told).max(told.since(seen));
            assert!(apart <= Duration::from_nanos(1), "{seen:?}, not {told:?}");
        }
        (seen, told) => assert_eq!(seen, told),
    }
}

/// Why a stay began that followed one which had begun at `before`.
fn reason(
    settings: Settings,
    story: &Story,
    before: Monotonic,
    (_, to, by): (Monotonic, State, usize),
) -> String {
    let failures = settings.failure_threshold.get();
    match &story[by].1 {
        Event::Failure(kind, _) => {
            let told = Told::new(settings, &story[..by]);
            match (told.state(), told.failures_in_a_row(by - 1) + 1) {
                (State::HalfOpen, _) => format!("a trial failed by {kind}"),
                (_, 1) => format!("a check failed by {kind}"),
                (_, n) => {
                    assert!(n >= u64::from(failures), "since {before:?}");
                    format!("{n} failed checks in a row, the last by {kind}")
                }
            }
        }
        Event::Lost(_) => "a trial never ended".into(),
        Event::Success => match Told::new(settings, &story[..by]).successes_in_a_row(by - 1) + 1 {
            1 => "a trial succeeded".into(),
            n => format!("{n} checks in a row succeeded"),
        },
        Event::Admit(_) => "the recovery timeout has passed".into(),
        Event::Hurry(reason) => reason.to_string(),
        Event::Hold(mode, _) => {
            assert_eq!(*mode == Mode::ForcedOpen, to == State::Open);
            format!("{mode} by ann: by hand")
        }
        Event::Expire => {
            let mode = Told::new(settings, &story[..by]).held.expect("it was held").0;
            format!("the time of {mode} is over")
        }
        Event::Reset => "reset by bob".into(),
    }
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop::sample::select(FailureKind::ALL);
    let hurry = prop_oneof![Just(Reason::Requested), Just(Reason::AddressesChanged)];
    let hold = (prop::sample::select(Mode::ALL), prop_oneof![0u64..30_000, 0u64..2_000_000]);
    let event = prop_oneof![
        12 => Just(Event::Success),
        12 => (kind, 0.0..1.0).prop_map(|(kind, draw)| Event::Failure(kind, draw)),
        12 => (0u64..20_000).prop_map(|ms| Event::Admit(Duration::from_millis(ms))),
        2 => hurry.prop_map(Event::Hurry),
        2 => (0.0..1.0).prop_map(Event::Lost),
        3 => hold.prop_map(|(mode, ms)| Event::Hold(mode, Duration::from_millis(ms))),
        6 => Just(Event::Expire),
        1 => Just(Event::Reset),
    ];
    prop_oneof![
        24 => event.prop_map(Step::Do),
        8 => (0u64..15_000).prop_map(|ms| Step::Wait(Duration::from_millis(ms))),
        4 => (0u64..400_000).prop_map(|ms| Step::Wait(Duration::from_millis(ms))),
        1 => (0u64..100_000_000_000).prop_map(|ms| Step::Wait(Duration::from_millis(ms))),
    ]
}

fn carry_out(circuit: &mut Circuit, event: &Event, now: Now) -> Option<Permit> {
    match event {
        Event::Success => circuit.success(now),
        Event::Failure(kind, draw) => circuit.failure(*kind, now, Fraction::new(*draw)),
        Event::Admit(takes) => return circuit.admit(now, *takes),
        Event::Hurry(reason) => circuit.hurry(reason.clone(), now),
        Event::Lost(draw) => circuit.lost(now, Fraction::new(*draw)),
        Event::Hold(mode, span) => circuit.hold(held(*mode, now, *span), now),
        Event::Expire => {
            let was_over = circuit.held().is_some_and(|over| over.expires.mono <= now.mono);
            assert_eq!(circuit.expire(now), was_over);
        }
        Event::Reset => circuit.reset(Actor::new("bob"), now),
    }
    None
}

proptest! {
    #[test]
    fn is_what_the_whole_story_says(
        thresholds in (1u32..5, 1u32..4),
        recovery in prop_oneof![Just(0u64), 1u64..10_000],
        recovery_max in prop::option::of(0u64..100_000),
        steps in vec(step(), 1..200),
        ends in any::<bool>(),
        looked_at in any::<prop::sample::Index>(),
    ) {
        let settings = Settings {
            failure_threshold: count(thresholds.0),
            recovery_timeout: Duration::from_millis(recovery),
            recovery_timeout_max: recovery_max.map(Duration::from_millis),
            success_threshold: count(thresholds.1),
            half_open_interval: secs(2),
        };
        let mut circuit = Circuit::new(settings, now(Duration::ZERO));
        let mut story: Vec<(Monotonic, Event)> = Vec::new();
        let mut at = Monotonic::ZERO;
        let looked_at = looked_at.index(steps.len());
        let mut earlier = circuit.view();
        let steps = steps.into_iter().chain(ends.then_some(Step::EndOfTime)).chain([
            // Whatever happened: an hour later a trial or a check is permitted.
            Step::Do(Event::Lost(0.5)), Step::Wait(secs(3600)), Step::Do(Event::Expire), Step::Do(Event::Admit(GIVE_UP)),
        ]);
        let mut permit = None;
        for (n, step) in steps.enumerate() {
            match step {
                Step::Wait(span) => at = at + span,
                Step::EndOfTime => at = mono(Duration::MAX),
                Step::Do(event) => {
                    permit = carry_out(&mut circuit, &event, now(at.since_origin()));
                    story.push((at, event));
                    prop_assert_eq!(permit, Told::new(settings, &story).permit);
                }
            }
            compare(&circuit, settings, &story, at);
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
