//! Runners and registry together, over probes that do what a test wants: a panic or a hang in one touches no
//! other. Time is tokio's paused clock, so minutes pass at once.

mod diagnosing;
mod orders;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::diagnosing::{Explain, turns};
use super::legacy::{LOST_AFTER, Legacy, Ordered};
use super::registry::{Held, Registry, RunnerId, Update};
use super::runner::{Factory, Means, Shared};
use super::supervisor::keep_running;
use crate::clock::{self, Clock, Deadline, Heartbeat};
use crate::health::snapshot::Lifecycle;
use crate::health::test_support::policy;
use crate::health::{
    DependencyView, Failure, FailureKind, Observation, Outcome, Phase, Policy, Record, Snapshot, Status,
    verdict,
};
use crate::net::resolve::Settings;
use crate::net::{Network, Trace};
use crate::probe::Probe;

/// What a probe does when it is asked for the `n`th time; each probe counts over all its lives.
type Script = Arc<dyn Fn(usize) -> BoxFuture<'static, Outcome> + Send + Sync>;

struct Scripted {
    script: Script,
    asked: Arc<AtomicUsize>,
    closed: Arc<AtomicUsize>,
}

impl Probe for Scripted {
    fn attempt<'a>(&'a mut self, _: Deadline, _: &'a mut Trace) -> BoxFuture<'a, Outcome> {
        (self.script)(self.asked.fetch_add(1, Ordering::SeqCst))
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        self.closed.fetch_add(1, Ordering::SeqCst);
        Box::pin(std::future::ready(()))
    }
}

/// What can be counted of one dependency's probes.
#[derive(Clone, Default)]
struct Counts {
    made: Arc<AtomicUsize>,
    asked: Arc<AtomicUsize>,
    closed: Arc<AtomicUsize>,
}

struct Bench {
    clock: Clock,
    current: Arc<ArcSwap<Snapshot>>,
    counts: Vec<Counts>,
    legacies: Vec<Legacy>,
    orders: Vec<mpsc::Sender<Ordered>>,
    heartbeat: Heartbeat,
    stop: CancellationToken,
    updates: tokio::sync::mpsc::Sender<Update>,
    runners: tokio::task::JoinSet<()>,
}

impl Bench {
    fn start(dependencies: Vec<(Policy, Script)>) -> Self {
        Self::start_making(dependencies, |_| false)
    }

    /// Where the `n`th time that a probe is made panics, in its runner, if `bad_to_make` says so.
    fn start_making(dependencies: Vec<(Policy, Script)>, bad_to_make: fn(usize) -> bool) -> Self {
        Self::start_with(dependencies, bad_to_make, None)
    }

    /// Where failures are explained by this.
    fn start_explaining(dependencies: Vec<(Policy, Script)>, explain: &Explain) -> Self {
        Self::start_with(dependencies, |_| false, Some(explain))
    }

    fn start_with(
        dependencies: Vec<(Policy, Script)>,
        bad_to_make: fn(usize) -> bool,
        explain: Option<&Explain>,
    ) -> Self {
        let clock = Clock::start();
        let started = clock.now();
        let records: Vec<Record> = dependencies
            .iter()
            .map(|(policy, _)| Record::new(Arc::new(policy.clone()), started, clock::draw()))
            .collect();
        let views = records.iter().map(|record| Arc::new(record.view(started.mono))).collect();
        let current = Arc::new(ArcSwap::from_pointee(Snapshot::new(started, views)));
        let heartbeat = Heartbeat::new(clock);
        let ids = (0..).map(RunnerId).take(records.len());
        let (held, _) = watch::channel(Held::default());
        let (registry, updates) = Registry::new(clock, Arc::clone(&current), ids, held, heartbeat.clone());
        tokio::spawn(registry.run(|| {}));
        let (legacies, orders): (Vec<Legacy>, Vec<_>) = records.iter().map(|_| Legacy::new()).unzip();
        let stop = CancellationToken::new();
        let names = Settings { nameservers: Vec::new(), packets_per_second: NonZeroU32::MIN };
        let shared = Shared {
            clock,
            updates: updates.clone(),
            network: Network::new(names),
            turns: turns(),
            stop: stop.clone(),
        };
        let mut runners = tokio::task::JoinSet::new();
        let mut counts = Vec::new();
        for (index, ((_, script), record)) in dependencies.into_iter().zip(records).enumerate() {
            let count = Counts::default();
            counts.push(count.clone());
            let factory: Factory = Arc::new(move || {
                let made = count.made.fetch_add(1, Ordering::SeqCst);
                assert!(!bad_to_make(made), "this panic is part of the test");
                let Counts { asked, closed, .. } = count.clone();
                Ok(Box::new(Scripted { script: Arc::clone(&script), asked, closed }))
            });
            let legacy = legacies[index].clone();
            let id = RunnerId(index as u64);
            runners.spawn(keep_running(
                id,
                record,
                Means { factory, watched_name: None, explain: explain.cloned() },
                legacy,
                shared.clone(),
            ));
        }
        Self { clock, current, counts, legacies, orders, heartbeat, stop, updates, runners }
    }

    fn status(&self, index: usize) -> Status {
        self.current.load().status(index, self.clock.mono())
    }

    fn made(&self, index: usize) -> usize {
        self.counts[index].made.load(Ordering::SeqCst)
    }

    /// Lets time pass until something holds; the paused clock moves when everybody waits.
    async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let limit = Deadline::after(Duration::from_secs(3600));
        while !holds(self) {
            assert!(!limit.remaining().is_zero(), "an hour passed without: {what}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn well() -> Script {
    Arc::new(|_| Box::pin(async { Ok(Observation::default()) }))
}

fn hangs() -> Script {
    Arc::new(|_| Box::pin(std::future::pending()))
}

fn panics_while(bad: impl Fn(usize) -> bool + Send + Sync + 'static) -> Script {
    Arc::new(move |n| {
        let bad = bad(n);
        Box::pin(async move {
            assert!(!bad, "this panic is part of the test");
            Ok(Observation::default())
        })
    })
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_one_touches_no_other_and_shows_as_stale() {
    let bench = Bench::start(vec![(policy("bad"), panics_while(|n| n > 0)), (policy("good"), well())]);
    bench.until("both are up", |b| b.status(0) == Status::Up && b.status(1) == Status::Up).await;
    bench.until("the one that panics is stale", |b| b.status(0) == Status::Unknown).await;
    assert_eq!(bench.status(1), Status::Up, "the other goes on");
    assert!(bench.made(0) > 1, "its probe was made anew");
    assert_eq!(bench.made(1), 1);
    assert!(bench.current.load().dependencies[0].stale(bench.clock.mono()));
    assert!(bench.heartbeat.age() < Duration::from_secs(2), "the registry goes round");
}

#[tokio::test(start_paused = true)]
async fn a_hang_is_ended_and_the_probe_made_anew() {
    let bench = Bench::start(vec![(policy("bad"), hangs()), (policy("good"), well())]);
    bench.until("the hanging check was given up", |b| b.made(0) >= 2).await;
    assert_eq!(bench.status(0), Status::Unknown, "nothing was learnt of it");
    assert_eq!(bench.status(1), Status::Up);
}

#[tokio::test(start_paused = true)]
async fn a_runner_is_lost_after_repeated_losses_and_found_again_by_one_result() {
    let losses = LOST_AFTER as usize + 2;
    let bench = Bench::start(vec![(policy("bad"), panics_while(move |n| n < losses))]);
    bench.until("it counts as lost", |b| b.legacies[0].is_lost()).await;
    assert!(bench.made(0) >= LOST_AFTER as usize, "not before it was brought back {LOST_AFTER} times");
    bench.until("it is up", |b| b.status(0) == Status::Up).await;
    assert!(!bench.legacies[0].is_lost());
}

#[tokio::test(start_paused = true)]
async fn a_runner_that_panics_is_brought_back_and_forgets_no_success() {
    // Each check but the first of a life has its probe made anew, and the runner does not survive that one.
    let probes = panics_while(|n| n % 2 == 1);
    let bench = Bench::start_making(vec![(policy("database"), probes)], |n| n % 2 == 1);
    let startup = |b: &Bench| verdict::startup(&b.current.load()).pass;
    bench.until("it has come up", startup).await;
    let lost = |b: &Bench| b.made(0) >= 2 * LOST_AFTER as usize;
    bench
        .until("its runner has died again and again", |b| {
            assert!(startup(b), "it came up before");
            lost(b)
        })
        .await;
    assert!(bench.current.load().dependencies[0].succeeded_once);
}

#[tokio::test(start_paused = true)]
async fn a_runner_that_dies_over_and_over_counts_as_lost() {
    let bench = Bench::start_making(vec![(policy("database"), well())], |_| true);
    bench.until("it counts as lost", |b| b.legacies[0].is_lost()).await;
    assert_eq!(bench.made(0), LOST_AFTER as usize);
    assert!(!bench.legacies[0].has_succeeded());
}

#[tokio::test(start_paused = true)]
async fn losses_are_counted_for_each_dependency_by_itself() {
    let once = || panics_while(|n| n == 0);
    let mut dependencies: Vec<_> = (0..10).map(|n| (policy(&format!("once{n}")), once())).collect();
    dependencies.push((policy("always"), panics_while(|_| true)));
    let bench = Bench::start(dependencies);
    bench.until("the one that always panics is lost", |b| b.legacies[10].is_lost()).await;
    assert!(!bench.legacies[..10].iter().any(Legacy::is_lost), "the others lost one check each");
}

#[tokio::test(start_paused = true)]
async fn hundreds_of_dependencies_are_all_seen_at_once() {
    let many = (0..500).map(|n| (policy(&format!("d{n}")), well())).collect();
    let bench = Bench::start(many);
    let began = bench.clock.mono();
    bench.until("all are up", |b| (0..500).all(|n| b.status(n) == Status::Up)).await;
    assert!(bench.clock.mono().since(began) < Duration::from_secs(1), "first checks come at once");
}

/// Publications of many keep apart; the stop must not have to wait for more than one of them.
#[tokio::test(start_paused = true)]
async fn draining_is_seen_at_once_among_thousands() {
    let bench = Bench::start((0..2_000).map(|n| (policy(&format!("d{n}")), well())).collect());
    bench.until("the first is up", |b| b.status(0) == Status::Up).await;
    let began = bench.clock.mono();
    let (done, seen) = tokio::sync::oneshot::channel();
    assert!(bench.updates.send(Update::Drain(done)).await.is_ok());
    seen.await.unwrap();
    assert_eq!(bench.current.load().lifecycle, Lifecycle::Draining);
    let took = bench.clock.mono().since(began);
    assert!(took <= Duration::from_millis(60), "after {took:?}");
}

#[tokio::test(start_paused = true)]
async fn the_views_of_many_are_published_together_and_none_is_forgotten() {
    const COUNT: usize = 300;
    let often = |n| Policy { interval: Duration::from_secs(1), ..policy(&format!("d{n}")) };
    let bench = Bench::start((0..COUNT).map(|n| (often(n), well())).collect());
    let checks = || bench.counts.iter().map(|count| count.asked.load(Ordering::SeqCst)).sum::<usize>();
    let mut published = vec![bench.current.load_full()];
    while checks() < 3 * COUNT {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let current = bench.current.load_full();
        let delay = Duration::from_millis(50);
        let late = |view: &Arc<DependencyView>| view.next_due + delay < bench.clock.mono();
        assert!(!current.dependencies.iter().any(late), "a check ended and is not to be seen");
        if published.last().is_some_and(|last| !Arc::ptr_eq(last, &current)) {
            published.push(current);
        }
    }
    assert!(published.len() < 60, "{} publications of {} checks", published.len(), checks());
}

#[tokio::test(start_paused = true)]
async fn a_hanging_dependency_delays_no_other_by_a_single_check() {
    let mut dependencies: Vec<_> = (0..20).map(|n| (policy(&format!("bad{n}")), hangs())).collect();
    dependencies.push((policy("good"), well()));
    let bench = Bench::start(dependencies);
    tokio::time::sleep(Duration::from_secs(100)).await;
    let asked = bench.counts[20].asked.load(Ordering::SeqCst);
    assert!((10..=11).contains(&asked), "one check each ten seconds, there were {asked}");
}

#[tokio::test(start_paused = true)]
async fn the_circuit_opens_stops_the_checks_and_closes_again() {
    let fails = |n: usize| (1..=5).contains(&n);
    let script: Script = Arc::new(move |n| {
        Box::pin(async move {
            let refused = || Failure::new(Phase::Auth, FailureKind::AuthFailed, "no");
            if fails(n) { Err(refused()) } else { Ok(Observation::default()) }
        })
    });
    let bench = Bench::start(vec![(policy("database"), script)]);
    bench.until("it is down", |b| b.status(0) == Status::Down).await;
    let asked = bench.counts[0].asked.load(Ordering::SeqCst);
    assert_eq!(asked, 6, "one success, five failures that are not tried again");
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert_eq!(bench.counts[0].asked.load(Ordering::SeqCst), asked, "no checks while it is open");
    bench.until("it is up again", |b| b.status(0) == Status::Up).await;
    let view = Arc::clone(&bench.current.load().dependencies[0]);
    let states: Vec<&str> = view.circuit.transitions.iter().map(|t| t.to.as_str()).collect();
    assert_eq!(states, ["open", "half_open", "closed"]);
}

#[tokio::test(start_paused = true)]
async fn draining_is_seen_at_once_and_the_stop_ends_every_connection() {
    let mut bench = Bench::start(vec![(policy("database"), well()), (policy("other"), hangs())]);
    bench.until("it is up", |b| b.status(0) == Status::Up).await;
    let (done, seen) = tokio::sync::oneshot::channel();
    assert!(bench.updates.send(Update::Drain(done)).await.is_ok());
    seen.await.unwrap();
    let snapshot = bench.current.load_full();
    assert_eq!(snapshot.lifecycle, Lifecycle::Draining);
    let now = bench.clock.mono();
    assert!(!verdict::ready(&snapshot, now).pass && !verdict::alb(&snapshot, now).pass);

    bench.stop.cancel();
    let began = bench.clock.mono();
    while bench.runners.join_next().await.is_some() {}
    assert_eq!(bench.counts[0].closed.load(Ordering::SeqCst), 1, "its connection was ended politely");
    assert!(
        bench.clock.mono().since(began) <= Duration::from_secs(2),
        "a hanging check does not hold the stop"
    );
}
