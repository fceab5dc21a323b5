//! Whole incidents, from the first check to the last, as tables: what is answered, and when.
//!
//! Real records, snapshots and verdicts are driven by a simulated clock, against worlds that are scripted: at
//! this time a check succeeds, or fails so and takes that long. Each table is held against many draws of
//! chance, the extreme ones included; a row gives the span in which the change has to fall.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::circuit::Permit;
use super::snapshot::Snapshot;
use super::test_support::{Chance, api_policy, failed, millis, mono, now, policy, secs, snapshot, succeeded};
use super::{Check, FailureKind, Fraction, Impact, Kind, Monotonic, Policy, Record, verdict};

/// What a check that begins at a time comes to: how long it takes, and how it fails.
type World = Box<dyn Fn(Beginning) -> (Duration, Result<(), FailureKind>)>;

/// The beginning of a check.
#[derive(Debug, Clone, Copy)]
struct Beginning {
    at: Duration,
    /// How many there were before it.
    before: u32,
}

struct Watched {
    record: Record,
    world: World,
    checks: u32,
    under_way: Option<Check>,
}

struct Simulation {
    watched: Vec<Watched>,
    snapshot: Snapshot,
    chance: Draws,
    log: Log,
}

/// How chance plays: not at all, always at its end, or as it comes.
enum Draws {
    Always(Fraction),
    Random(Chance),
}

impl Draws {
    fn next(&mut self) -> Fraction {
        match self {
            Self::Always(draw) => *draw,
            Self::Random(chance) => chance.draw(),
        }
    }

    fn of_seed(seed: u64) -> Self {
        match seed {
            0 => Self::Always(Fraction::ZERO),
            1 => Self::Always(Fraction::new(1.0)),
            2 => Self::Always(Fraction::HALF),
            _ => Self::Random(Chance::new(seed)),
        }
    }
}

/// What has been seen of each subject: its values, and since when.
#[derive(Debug, Default)]
struct Log(BTreeMap<String, Vec<(Monotonic, String)>>);

impl Log {
    fn note(&mut self, at: Monotonic, subject: &str, value: &str) {
        let seen = self.0.entry(subject.into()).or_default();
        if seen.last().is_none_or(|(_, last)| last != value) {
            seen.push((at, value.into()));
        }
    }
}

impl Simulation {
    fn new(dependencies: Vec<(Policy, World)>, mut chance: Draws) -> Self {
        let watched: Vec<Watched> = dependencies
            .into_iter()
            .map(|(policy, world)| {
                let record = Record::new(Arc::new(policy), now(Duration::ZERO), chance.next());
                Watched { record, world, checks: 0, under_way: None }
            })
            .collect();
        let views = watched.iter().map(|one| one.record.view(Monotonic::ZERO)).collect();
        Self { watched, snapshot: snapshot(views), chance, log: Log::default() }
    }

    /// Goes from event to event until `end`.
    fn run(mut self, end: Duration) -> Log {
        self.look(Monotonic::ZERO);
        let mut at = Monotonic::ZERO;
        loop {
            let next = self.watched.iter().map(|one| match &one.under_way {
                Some(check) => check.ended(),
                None => one.record.due(),
            });
            let next = next.min().expect("something is watched");
            // Between two events only the age of the results changes the answers.
            let stale = self.snapshot.true_until(at) + Duration::from_nanos(1);
            at = next.min(stale);
            if at > mono(end) {
                return self.log;
            }
            for index in 0..self.watched.len() {
                self.step(index, at);
            }
            self.look(at);
        }
    }

    fn step(&mut self, index: usize, at: Monotonic) {
        let draw = self.chance.next();
        let one = &mut self.watched[index];
        if one.under_way.as_ref().is_some_and(|check| check.ended() <= at) {
            one.record.finish(one.under_way.take().expect("just seen"), draw);
        } else if one.under_way.is_none() && one.record.due() <= at {
            let permit = one.record.admit(now(at.since_origin())).expect("a check that is due is permitted");
            let beginning = Beginning { at: at.since_origin(), before: one.checks };
            let (takes, outcome) = (one.world)(beginning);
            assert!(takes <= one.record.policy().timeout, "the world breaks the budget");
            one.checks += 1;
            one.under_way = Some(match outcome {
                Ok(()) => succeeded(beginning.at, takes),
                Err(kind) => {
                    let all = if permit == Permit::Check && kind.may_pass() {
                        one.record.policy().attempts.get()
                    } else {
                        1
                    };
                    Check { attempts: all, ..failed(beginning.at, takes, kind) }
                }
            });
        }
        // As the registry does: the other views stay the ones they were.
        self.snapshot.dependencies[index] = Arc::new(one.record.view(at));
    }

    fn look(&mut self, at: Monotonic) {
        let all = &self.snapshot;
        self.log.note(at, "service", verdict::service(all, at).as_str());
        self.log.note(at, "ready", &verdict::ready(all, at).code().to_string());
        self.log.note(at, "alb", &verdict::alb(all, at).code().to_string());
        self.log.note(at, "startup", &verdict::startup(all).code().to_string());
        for (index, view) in all.dependencies.iter().enumerate() {
            let called = view.policy.name.as_str();
            self.log.note(at, called, all.status(index, at).as_str());
            self.log.note(at, &format!("{called}.circuit"), view.circuit.state.as_str());
        }
    }
}

/// One line of a table: a span of seconds, who changes, and to what. `…` stands for any changes, also none.
struct Row {
    line: &'static str,
    from: Duration,
    to: Duration,
    value: &'static str,
}

/// The rows of a table, by subject.
fn rows(table: &'static str) -> BTreeMap<&'static str, Vec<Row>> {
    let mut rows: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let second = |text: &str| Duration::from_secs_f64(text.parse().expect("seconds"));
        let (subject, row) = match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["…", subject] => (subject, Row { line, from: Duration::ZERO, to: Duration::MAX, value: "…" }),
            [span, subject, value] => {
                let (from, to) = span.split_once("..").unwrap_or((span, span));
                (subject, Row { line, from: second(from), to: second(to), value })
            }
            _ => panic!("not a row: {line}"),
        };
        rows.entry(subject).or_default().push(row);
    }
    rows
}

/// Holds what was seen of one subject against its rows.
fn compare(subject: &str, rows: &[Row], seen: &[(Monotonic, String)]) -> Result<(), String> {
    let fits = |row: &Row, (at, value): &(Monotonic, String)| {
        row.value == value && (row.from..=row.to).contains(&at.since_origin())
    };
    let mut left = seen.iter().peekable();
    let mut anything = false;
    for row in rows {
        if row.value == "…" {
            anything = true;
            continue;
        }
        if anything {
            while left.next_if(|change| !fits(row, change)).is_some() {}
            anything = false;
        }
        if left.next_if(|change| fits(row, change)).is_none() {
            return Err(format!("{subject}: expected `{}`, saw {:?}", row.line, left.peek()));
        }
    }
    match left.next() {
        Some(more) if !anything => Err(format!("{subject}: nothing more was expected, saw {more:?}")),
        _ => Ok(()),
    }
}

const SEEDS: u64 = 100;

/// Runs the same incident with many draws of chance and holds each against the table, which has to have rows
/// for every subject.
fn expect(end: u64, table: &'static str, dependencies: impl Fn() -> Vec<(Policy, World)>) {
    let rows = rows(table);
    for seed in 0..SEEDS {
        let Log(seen) = Simulation::new(dependencies(), Draws::of_seed(seed)).run(secs(end));
        let subjects: Vec<&str> = seen.keys().map(String::as_str).collect();
        assert_eq!(
            rows.keys().copied().collect::<Vec<_>>(),
            subjects,
            "the table has rows for every subject"
        );
        for (subject, rows) in &rows {
            if let Err(problem) = compare(subject, rows, &seen[*subject]) {
                panic!("seed {seed}: {problem}\nall of it: {:#?}", seen[*subject]);
            }
        }
    }
}

/// A world that is well outside these spans of seconds and fails in them, taking so long.
fn broken(spans: &'static [(u64, u64)], kind: FailureKind, takes: Duration) -> World {
    Box::new(move |check| {
        let down = spans.iter().any(|(from, to)| (secs(*from)..secs(*to)).contains(&check.at));
        if down { (takes, Err(kind)) } else { (millis(5), Ok(())) }
    })
}

fn database(world: World) -> (Policy, World) {
    (policy("database"), world)
}

fn api(kind: Kind, world: World) -> (Policy, World) {
    (api_policy(kind), world)
}

const FOREVER: u64 = 1_000_000;

#[test]
fn all_is_well() {
    expect(
        600,
        "
        0           service           starting
        0..0.25     service           up
        0           ready             503
        0..0.25     ready             200
        0           alb               503
        0..0.25     alb               200
        0           startup           503
        0..0.25     startup           200
        0           database          unknown
        0..0.25     database          up
        0           database.circuit  closed
        0           api               unknown
        0..0.25     api               up
        0           api.circuit       closed
        ",
        || {
            let well = || broken(&[], FailureKind::Internal, Duration::ZERO);
            vec![database(well()), api(Kind::Tcp, well())]
        },
    );
}

/// The fifth check in a row that fails is the one at 150 s. Trials follow after 54 to 66 s each: the first two
/// fail, the third is after 285 s.
#[test]
fn database_down_for_three_minutes_and_refusing() {
    expect(
        600,
        "
        0             service           starting
        0..0.25       service           up
        110.3..111    service           degraded
        150.3..151    service           down
        316..355      service           up

        0             ready             503
        0..0.25       ready             200
        150.3..151    ready             503
        316..355      ready             200

        0             alb               503
        0..0.25       alb               200

        0             startup           503
        0..0.25       startup           200

        0             database          unknown
        0..0.25       database          up
        110.3..111    database          degraded
        150.3..151    database          down
        316..355      database          up

        0             database.circuit  closed
        150.3..151    database.circuit  open
        204..217.1    database.circuit  half_open
        204..217.5    database.circuit  open
        258..283.6    database.circuit  half_open
        258..284      database.circuit  open
        312..350.1    database.circuit  half_open
        316..355      database.circuit  closed
        ",
        || vec![database(broken(&[(105, 285)], FailureKind::ConnectRefused, millis(300)))],
    );
}

/// The same outage, seen as silence: each check takes its whole timeout, and so the next one follows at once.
#[test]
fn database_down_for_three_minutes_and_silent() {
    expect(
        600,
        "
        0             service           starting
        0..0.25       service           up
        120..120.7    service           degraded
        160..162.5    service           down
        289..370      service           up

        0             ready             503
        0..0.25       ready             200
        160..162.5    ready             503
        289..370      ready             200

        0             alb               503
        0..0.25       alb               200

        0             startup           503
        0..0.25       startup           200

        0             database          unknown
        0..0.25       database          up
        120..120.7    database          degraded
        160..162.5    database          down
        289..370      database          up

        0             database.circuit  closed
        160..162.5    database.circuit  open
        214..229      database.circuit  half_open
        224..239      database.circuit  open
        …             database.circuit
        289..370      database.circuit  closed
        ",
        || vec![database(broken(&[(105, 285)], FailureKind::ConnectTimeout, secs(10)))],
    );
}

#[test]
fn one_that_fails_every_other_check_is_degraded_and_never_opens() {
    expect(
        900,
        "
        0           service           starting
        0..0.25     service           up
        10..11      service           degraded
        20..21      service           up
        30..31      service           degraded
        40..41      service           up
        50..51      service           degraded

        0           ready             503
        0..0.25     ready             200
        0           alb               503
        0..0.25     alb               200
        0           startup           503
        0..0.25     startup           200

        0           database          unknown
        0..0.25     database          up
        10..11      database          degraded
        20..21      database          up
        30..31      database          degraded
        40..41      database          up
        50..51      database          degraded
        0           database.circuit  closed
        ",
        || {
            let flapping = |check: Beginning| match check.before % 2 {
                0 => (millis(5), Ok(())),
                _ => (millis(300), Err(FailureKind::ConnectReset)),
            };
            vec![database(Box::new(flapping))]
        },
    );
}

/// Checks come after 0, 1, 3, 7, 15, 25, 35, 45, 55 and 65 s; the database answers from 60 s on.
#[test]
fn an_agent_that_starts_during_an_outage() {
    expect(
        900,
        "
        0           service           starting
        0.3..0.5    service           down
        65..65.8    service           up

        0           ready             503
        65..65.8    ready             200

        0           alb               503
        0.3..0.5    alb               200

        0           startup           503
        65..65.8    startup           200

        0           database          unknown
        0.3..0.5    database          down
        65..65.8    database          up
        0           database.circuit  closed

        0           api               unknown
        0..0.25     api               up
        0           api.circuit       closed
        ",
        || {
            vec![
                database(broken(&[(0, 60)], FailureKind::ConnectRefused, millis(300))),
                api(Kind::Tcp, broken(&[], FailureKind::Internal, Duration::ZERO)),
            ]
        },
    );
}

/// It is created by hand after 100 s: a new target would pass then.
#[test]
fn a_wrong_database_name_at_the_first_start_takes_the_task_out() {
    expect(
        600,
        "
        0            service           starting
        0..0.25      service           down
        104..106     service           up
        0            ready             503
        104..106     ready             200
        0            alb               503
        104..106     alb               200
        0            startup           503
        104..106     startup           200
        0            database          unknown
        0..0.25      database          down
        104..106     database          up
        0            database.circuit  closed
        ",
        || vec![database(broken(&[(0, 100)], FailureKind::DatabaseMissing, millis(20)))],
    );
}

#[test]
fn a_database_that_goes_missing_after_a_good_start_takes_no_task_out() {
    expect(
        300,
        "
        0            service           starting
        0..0.25      service           up
        110..111     service           degraded
        150..151     service           down
        0            ready             503
        0..0.25      ready             200
        150..151     ready             503
        0            alb               503
        0..0.25      alb               200
        0            startup           503
        0..0.25      startup           200
        0            database          unknown
        0..0.25      database          up
        110..111     database          degraded
        150..151     database          down
        0            database.circuit  closed
        150..151     database.circuit  open
        …            database.circuit
        ",
        || vec![database(broken(&[(105, FOREVER)], FailureKind::DatabaseMissing, millis(20)))],
    );
}

/// Checks come after 0, 1, 3, 7, 12 … 57 and 62 s.
const API_UP_AFTER_A_MINUTE: &str = "
    0           service           starting
    0..0.6      service           down
    62..62.6    service           up
    0           ready             503
    62..62.6    ready             200
    0           alb               503
    62..62.6    alb               200
    0           startup           503
    62..62.6    startup           200
    0           api               unknown
    0..0.6      api               down
    62..62.6    api               up
    0           api.circuit       closed
    0           database          unknown
    0..0.25     database          up
    0           database.circuit  closed
";

#[test]
fn an_api_container_that_takes_a_minute_to_start() {
    for kind in [Kind::Tcp, Kind::Http] {
        expect(600, API_UP_AFTER_A_MINUTE, || {
            vec![
                database(broken(&[], FailureKind::Internal, Duration::ZERO)),
                api(kind, broken(&[(0, 60)], FailureKind::ConnectRefused, millis(1))),
            ]
        });
    }
}

/// One that listens from the start and answers 503 until it is ready. Its database works: no excuse, not even
/// for the moment that a new target needs to be called healthy.
#[test]
fn an_api_container_that_answers_wrongly_for_a_minute() {
    expect(600, API_UP_AFTER_A_MINUTE, || {
        vec![
            database(broken(&[], FailureKind::Internal, Duration::ZERO)),
            api(Kind::Http, broken(&[(0, 60)], FailureKind::UnexpectedStatus, millis(50))),
        ]
    });
}

#[test]
fn an_api_that_dies_takes_the_task_out_and_back_in_when_it_is_restarted() {
    for kind in [Kind::Tcp, Kind::Http] {
        expect(
            600,
            "
            0             service           starting
            0..0.25       service           up
            105..105.5    service           degraded
            110..110.5    service           down
            160..165.6    service           up

            0             ready             503
            0..0.25       ready             200
            110..110.5    ready             503
            160..165.6    ready             200

            0             alb               503
            0..0.25       alb               200
            110..110.5    alb               503
            160..165.6    alb               200

            0             startup           503
            0..0.25       startup           200

            0             api               unknown
            0..0.25       api               up
            105..105.5    api               degraded
            110..110.5    api               down
            160..165.6    api               up

            0             api.circuit       closed
            110..110.5    api.circuit       open
            114..116.1    api.circuit       half_open
            114..116.1    api.circuit       open
            …             api.circuit
            160..165.6    api.circuit       closed

            0             database          unknown
            0..0.25       database          up
            0             database.circuit  closed
            ",
            || {
                vec![
                    database(broken(&[], FailureKind::Internal, Duration::ZERO)),
                    api(kind, broken(&[(101, 160)], FailureKind::ConnectRefused, millis(1))),
                ]
            },
        );
    }
}

/// It hangs, or answers 500, by a fault of its own: its excuse ends with the database's next check.
#[test]
fn an_api_that_fails_beside_a_database_that_works_takes_the_task_out() {
    for (kind, takes) in [(FailureKind::Timeout, secs(2)), (FailureKind::UnexpectedStatus, millis(50))] {
        expect(
            600,
            "
            0             service           starting
            0..0.25       service           up
            105..107.5    service           degraded
            110..112.6    service           down
            0             ready             503
            0..0.25       ready             200
            110..112.6    ready             503
            0             alb               503
            0..0.25       alb               200
            110..112.6    alb               503
            0             startup           503
            0..0.25       startup           200
            0             api               unknown
            0..0.25       api               up
            105..107.5    api               degraded
            110..112.6    api               down
            0             api.circuit       closed
            110..112.6    api.circuit       open
            …             api.circuit
            0             database          unknown
            0..0.25       database          up
            0             database.circuit  closed
            ",
            || {
                vec![
                    database(broken(&[], FailureKind::Internal, Duration::ZERO)),
                    api(Kind::Http, broken(&[(101, FOREVER)], kind, takes)),
                ]
            },
        );
    }
}

/// The API's health path asks the database. The API's check notices first, and recovers first.
#[test]
fn a_database_that_fails_behind_the_health_path_of_the_api_takes_no_task_out() {
    expect(
        900,
        "
        0             service           starting
        0..0.25       service           up
        105..105.6    service           degraded
        110..110.6    service           down
        316..355      service           up

        0             ready             503
        0..0.25       ready             200
        110..110.6    ready             503
        316..355      ready             200

        0             alb               503
        0..0.25       alb               200

        0             startup           503
        0..0.25       startup           200

        0             api               unknown
        0..0.25       api               up
        105..105.6    api               degraded
        110..110.6    api               down
        285..290.7    api               up

        0             api.circuit       closed
        110..110.6    api.circuit       open
        …             api.circuit
        285..290.7    api.circuit       closed

        0             database          unknown
        0..0.25       database          up
        110.3..111    database          degraded
        150.3..151    database          down
        316..355      database          up

        0             database.circuit  closed
        150.3..151    database.circuit  open
        …             database.circuit
        316..355      database.circuit  closed
        ",
        || {
            vec![
                database(broken(&[(105, 285)], FailureKind::ConnectRefused, millis(300))),
                api(Kind::Http, broken(&[(105, 285)], FailureKind::UnexpectedStatus, millis(50))),
            ]
        },
    );
}

/// The same, but the API does not come back with its database. The database's circuit closes, its next check
/// an interval later succeeds, and the API has failed since.
#[test]
fn an_api_that_goes_on_failing_after_the_database_works_takes_the_task_out() {
    expect(
        900,
        "
        0             service           starting
        0..0.25       service           up
        105..105.6    service           degraded
        110..110.6    service           down
        0             ready             503
        0..0.25       ready             200
        110..110.6    ready             503
        0             alb               503
        0..0.25       alb               200
        326..366      alb               503
        0             startup           503
        0..0.25       startup           200
        0             api               unknown
        0..0.25       api               up
        105..105.6    api               degraded
        110..110.6    api               down
        0             api.circuit       closed
        110..110.6    api.circuit       open
        …             api.circuit
        0             database          unknown
        0..0.25       database          up
        110.3..111    database          degraded
        150.3..151    database          down
        316..355      database          up
        0             database.circuit  closed
        150.3..151    database.circuit  open
        …             database.circuit
        316..355      database.circuit  closed
        ",
        || {
            vec![
                database(broken(&[(105, 285)], FailureKind::ConnectRefused, millis(300))),
                api(Kind::Http, broken(&[(105, FOREVER)], FailureKind::UnexpectedStatus, millis(50))),
            ]
        },
    );
}

/// Whatever the length of the outage, and wherever it falls between the checks of the two: also where it is
/// too short to open the database's circuit, where it was there from the start, and where it comes twice.
///
/// Only one so short that it falls between two checks of the database, and yet lasts for two of the API's,
/// is taken for the API's own fault, until the API's next check.
#[test]
fn no_outage_of_the_database_takes_out_a_task_whose_api_fails_with_it() {
    /// The database's interval with its jitter, so that one of its checks falls into it.
    const LONG_ENOUGH: Duration = millis(10_501);
    let mut chance = Chance::new(7);
    for seed in 0..400 {
        let mut second = |upto: u64| chance.draw().of(secs(upto));
        let (begins, lasts) = (second(90).saturating_sub(secs(10)), LONG_ENOUGH + second(190));
        // One that was there from the start lets the API come up before it comes again: until it has, only a
        // database that is down excuses it.
        let pause = if begins.is_zero() { LONG_ENOUGH } else { Duration::ZERO } + second(40);
        let again = LONG_ENOUGH + second(110);
        let first = begins..begins + lasts;
        let then = first.end + pause..first.end + pause + again;
        let world = |kind: FailureKind, takes: Duration| -> World {
            let (first, then) = (first.clone(), then.clone());
            Box::new(move |check| match first.contains(&check.at) || then.contains(&check.at) {
                true => (takes, Err(kind)),
                false => (millis(5), Ok(())),
            })
        };
        let slow = seed % 3 == 0;
        let Log(seen) = Simulation::new(
            vec![
                database(match slow {
                    true => world(FailureKind::QueryTimeout, secs(10)),
                    false => world(FailureKind::ConnectRefused, millis(300)),
                }),
                api(
                    Kind::Http,
                    match seed % 2 {
                        0 => world(FailureKind::Timeout, secs(2)),
                        _ => world(FailureKind::UnexpectedStatus, millis(50)),
                    },
                ),
            ],
            Draws::of_seed(seed),
        )
        .run(secs(900));
        let alb: Vec<_> = seen["alb"].iter().map(|(_, code)| code.as_str()).collect();
        assert_eq!(alb, ["503", "200"], "seed {seed}: {first:?} and {then:?}: {seen:#?}");
        assert_eq!(seen["ready"].last().map(|(_, code)| code.as_str()), Some("200"));
    }
}

/// A runner that hangs: its last result was good, and is not believed for long. Nobody else is touched.
#[test]
fn a_result_that_is_not_renewed_turns_unknown_by_itself() {
    let world = broken(&[], FailureKind::Internal, Duration::ZERO);
    let mut simulation = Simulation::new(vec![database(world)], Draws::of_seed(0));
    simulation.step(0, Monotonic::ZERO);
    simulation.step(0, mono(millis(5)));
    for (at, service, alb) in [(1, "up", 200), (30, "up", 200), (31, "down", 200), (3_600, "down", 200)] {
        let at = mono(secs(at));
        assert_eq!(verdict::service(&simulation.snapshot, at).as_str(), service, "{at:?}");
        assert_eq!(verdict::alb(&simulation.snapshot, at).code(), alb, "{at:?}");
    }
}

/// One dependency that only degrades changes what is said, not what is answered.
#[test]
fn an_optional_one_that_is_down_leaves_the_service_degraded() {
    expect(
        200,
        "
        0             service         starting
        …             service
        0..0.25       service         up
        110..111      service         degraded
        0             ready           503
        0..0.25       ready           200
        0             alb             503
        0..0.25       alb             200
        0             startup         503
        0..0.25       startup         200
        0             database          unknown
        0..0.25       database          up
        0             database.circuit  closed
        0             redis           unknown
        0..0.25       redis           up
        110..111      redis           degraded
        150..151      redis           down
        0             redis.circuit   closed
        150..151      redis.circuit   open
        ",
        || {
            let redis = Policy { impact: Impact::Degraded, kind: Kind::Redis, ..policy("redis") };
            vec![
                database(broken(&[], FailureKind::Internal, Duration::ZERO)),
                (redis, broken(&[(105, FOREVER)], FailureKind::ConnectRefused, millis(100))),
            ]
        },
    );
}
