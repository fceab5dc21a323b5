//! Diagnoses in the background, over a fake that finds out what a test wants.

use std::sync::Mutex;

use super::*;
use crate::agent::diagnosing::{APART, AT_A_TIME, Explain};
use crate::health::test_support::diagnosis;
use crate::health::{CheckId, Diagnosis, Unexplained};

const MINUTE: Duration = Duration::from_secs(60);

/// What is known of the fakes' lives.
#[derive(Clone, Default)]
struct Fakes(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    began: Vec<(CheckId, tokio::time::Instant)>,
    under_way: usize,
    most_at_a_time: usize,
}

/// One that is under way; dropped, it has ended.
struct UnderWay(Fakes);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.0.lock().unwrap().under_way -= 1;
    }
}

impl Fakes {
    /// Each does this, and then tells which one it was.
    fn explain(&self, work: impl Fn(usize) -> BoxFuture<'static, ()> + Send + Sync + 'static) -> Explain {
        let fakes = self.clone();
        Arc::new(move |Unexplained { check, .. }| {
            let number = fakes.begin(&check.id);
            let (work, under_way) = (work(number), UnderWay(fakes.clone()));
            Box::pin(async move {
                work.await;
                drop(under_way);
                let found = Arc::unwrap_or_clone(diagnosis(&format!("number {number}")));
                Some(Diagnosis { check: Some(check.id.clone()), ..found })
            })
        })
    }

    #[expect(clippy::disallowed_methods, reason = "tokio's paused clock, which is the test's own")]
    fn begin(&self, check: &CheckId) -> usize {
        let mut seen = self.0.lock().unwrap();
        seen.began.push((check.clone(), tokio::time::Instant::now()));
        seen.under_way += 1;
        seen.most_at_a_time = seen.most_at_a_time.max(seen.under_way);
        seen.began.len()
    }

    fn began(&self) -> usize {
        self.0.lock().unwrap().began.len()
    }

    fn under_way(&self) -> usize {
        self.0.lock().unwrap().under_way
    }
}

fn lasts(span: Duration) -> impl Fn(usize) -> BoxFuture<'static, ()> + Send + Sync + 'static {
    move |_| Box::pin(tokio::time::sleep(span))
}

fn refused() -> Outcome {
    // Of a kind that is not tried again.
    Err(Failure::new(Phase::Auth, FailureKind::AuthFailed, "no"))
}

/// The `n`th check fails where this says so.
fn failing(bad: impl Fn(usize) -> bool + Send + Sync + 'static) -> Script {
    Arc::new(move |n| {
        let outcome = if bad(n) { refused() } else { Ok(Observation::default()) };
        Box::pin(std::future::ready(outcome))
    })
}

fn told(bench: &Bench, index: usize) -> Option<String> {
    let view = Arc::clone(&bench.current.load().dependencies[index]);
    view.diagnosis.as_ref().map(|found| found.verdict.summary.clone())
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_explained_beside_its_checks_which_come_when_they_are_due() {
    let fakes = Fakes::default();
    let explain = fakes.explain(lasts(Duration::from_secs(15)));
    let often = Policy { interval: Duration::from_secs(1), ..policy("database") };
    let bench = Bench::start_explaining(vec![(often, failing(|n| (3..=6).contains(&n)))], &explain);
    bench.until("it is being explained", |_| fakes.began() == 1).await;
    let view = Arc::clone(&bench.current.load().dependencies[0]);
    let first = view.last_failure.clone().expect("the first failure");
    assert_eq!((view.circuit.failures, &view.diagnosis), (1, &None));
    let asked = bench.counts[0].asked.load(Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let more = bench.counts[0].asked.load(Ordering::SeqCst) - asked;
    assert!((9..=11).contains(&more), "a check a second, there were {more}");
    assert_eq!((fakes.under_way(), told(&bench, 0)), (1, None));

    bench.until("it shows", |b| told(b, 0).is_some()).await;
    let view = Arc::clone(&bench.current.load().dependencies[0]);
    let found = view.diagnosis.clone().expect("a diagnosis");
    assert_eq!(found.check.as_ref(), Some(&first.id), "it explains the first failure");
    assert_eq!(
        view.last_failure.as_ref().map(|last| last.id != first.id),
        Some(true),
        "and stays with later ones"
    );
    assert!(view.last_check.as_ref().is_some_and(|last| last.ok()), "though all is well by now");
    assert_eq!(view.circuit.failures, 4, "it is no check");
}

#[tokio::test(start_paused = true)]
async fn the_opening_is_explained_too_when_the_minute_after_the_first_is_over() {
    // The circuit opens seconds, 40 s and two minutes after the first failure.
    for interval in [1, 10, 30] {
        let fakes = Fakes::default();
        let explain = fakes.explain(lasts(Duration::from_secs(1)));
        let policy = Policy { interval: Duration::from_secs(interval), ..policy("database") };
        let bench = Bench::start_explaining(vec![(policy, failing(|n| n > 0))], &explain);
        bench.until("it is down", |b| b.status(0) == Status::Down).await;
        assert!(fakes.began() >= 1, "each {interval} s");
        bench.until("the opening is explained", |b| told(b, 0).as_deref() == Some("number 2")).await;
        let began = fakes.0.lock().unwrap().began.clone();
        let apart = began[1].1.duration_since(began[0].1);
        let latest = APART.max(4 * Duration::from_secs(interval)) + Duration::from_secs(2);
        assert!((APART..=latest).contains(&apart), "each {interval} s: {apart:?}");
        tokio::time::sleep(20 * MINUTE).await;
        assert_eq!(fakes.began(), 2, "failed trials are not explained: each {interval} s");
    }
}

#[tokio::test(start_paused = true)]
async fn what_works_again_before_the_minute_is_over_is_owed_no_second_one() {
    let fakes = Fakes::default();
    let explain = fakes.explain(lasts(Duration::from_secs(1)));
    let mut often = Policy { interval: Duration::from_secs(1), ..policy("database") };
    often.circuit.recovery_timeout = Duration::from_secs(20);
    // Down by its fifth failure, it is well again before the minute is over.
    let bench = Bench::start_explaining(vec![(often, failing(|n| (1..=5).contains(&n)))], &explain);
    bench.until("it is down", |b| b.status(0) == Status::Down).await;
    tokio::time::sleep(20 * MINUTE).await;
    assert!(bench.counts[0].asked.load(Ordering::SeqCst) > 100, "it works");
    assert_eq!(fakes.began(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_fails_in_another_way_is_explained_anew() {
    let fakes = Fakes::default();
    let explain = fakes.explain(lasts(Duration::from_secs(1)));
    let script: Script = Arc::new(|n| {
        let outcome = match n {
            1 => refused(),
            2.. => Err(Failure::new(Phase::Query, FailureKind::DatabaseMissing, "no such database")),
            _ => Ok(Observation::default()),
        };
        Box::pin(std::future::ready(outcome))
    });
    let slow = Policy { interval: 2 * MINUTE, ..policy("database") };
    let bench = Bench::start_explaining(vec![(slow, script)], &explain);
    bench.until("the first way is explained", |b| told(b, 0).as_deref() == Some("number 1")).await;
    bench.until("and so is the other", |b| told(b, 0).as_deref() == Some("number 2")).await;
    assert_ne!(bench.status(0), Status::Down, "long before the circuit opens");
}

#[tokio::test(start_paused = true)]
async fn however_often_it_breaks_it_is_explained_once_a_minute() {
    let fakes = Fakes::default();
    let explain = fakes.explain(lasts(Duration::from_millis(5)));
    let often = Policy { interval: Duration::from_secs(1), ..policy("database") };
    let bench = Bench::start_explaining(vec![(often, failing(|n| n % 2 == 1))], &explain);
    tokio::time::sleep(10 * MINUTE).await;
    assert!((9..=11).contains(&fakes.began()), "there were {}", fakes.began());
    let began = fakes.0.lock().unwrap().began.clone();
    let apart = |two: &[(CheckId, tokio::time::Instant)]| two[1].1.duration_since(two[0].1);
    assert!(began.windows(2).all(|two| apart(two) >= APART), "{began:?}");
    assert!(bench.counts[0].asked.load(Ordering::SeqCst) > 500);
}

#[tokio::test(start_paused = true)]
async fn few_are_explained_at_a_time_and_all_in_the_end() {
    let fakes = Fakes::default();
    let explain = fakes.explain(lasts(Duration::from_secs(5)));
    let many = (0..20).map(|n| (policy(&format!("d{n}")), failing(|_| true))).collect();
    let bench = Bench::start_explaining(many, &explain);
    bench.until("all are explained", |b| (0..20).all(|n| told(b, n).is_some())).await;
    assert_eq!(fakes.0.lock().unwrap().most_at_a_time, AT_A_TIME);
}

#[tokio::test(start_paused = true)]
async fn one_that_panics_or_hangs_is_told_and_touches_nothing_else() {
    let fakes = Fakes::default();
    let explain = fakes.explain(|n| match n {
        1 => Box::pin(async { panic!("this panic is part of the test") }),
        2 => Box::pin(std::future::pending()),
        _ => lasts(Duration::ZERO)(n),
    });
    let bench = Bench::start_explaining(vec![(policy("database"), failing(|n| n > 0))], &explain);
    bench.until("the second one hangs", |_| fakes.began() == 2).await;
    assert_eq!(told(&bench, 0), None, "the first one panicked");
    bench.until("it was ended", |_| fakes.under_way() == 0).await;
    bench.until("a later failure is explained", |b| told(b, 0).as_deref() == Some("number 3")).await;
    assert_eq!(bench.made(0), 1, "its checks had nothing to do with it");
    assert!(!bench.legacies[0].is_lost());
}

#[tokio::test(start_paused = true)]
async fn what_works_again_before_its_turn_is_not_explained() {
    let fakes = Fakes::default();
    let explain = fakes.explain(lasts(Duration::from_secs(15)));
    let mut dependencies: Vec<_> =
        (0..AT_A_TIME).map(|n| (policy(&format!("d{n}")), failing(|n| n == 1))).collect();
    // It fails once, a while after the others did, and so has to wait for them.
    let often = Policy { interval: Duration::from_secs(1), ..policy("hiccup") };
    dependencies.push((often, failing(|n| n == 11)));
    let bench = Bench::start_explaining(dependencies, &explain);
    bench.until("it has failed", |b| b.current.load().dependencies[AT_A_TIME].circuit.failures == 1).await;
    tokio::time::sleep(MINUTE).await;
    assert_eq!((fakes.began(), told(&bench, AT_A_TIME)), (AT_A_TIME, None));
}

#[tokio::test(start_paused = true)]
async fn a_runner_that_panics_leaves_none_behind_and_the_next_one_keeps_to_the_minute() {
    let fakes = Fakes::default();
    let explain = fakes.explain(|_| Box::pin(std::future::pending()));
    // The second check is lost, and the runner does not survive that its probe is made anew.
    let script: Script = Arc::new(|n| {
        Box::pin(async move {
            assert!(n != 1, "this panic is part of the test");
            refused()
        })
    });
    let bench = Bench::start_with(vec![(policy("database"), script)], |n| n == 1, Some(&explain));
    bench.until("it is being explained", |_| fakes.under_way() == 1).await;
    bench.until("the runner is gone, and its diagnosis", |b| b.made(0) == 2 && fakes.under_way() == 0).await;
    bench.until("the next one explains", |_| fakes.began() == 2).await;
    let began = fakes.0.lock().unwrap().began.clone();
    assert!(began[1].1.duration_since(began[0].1) >= APART, "{began:?}");
}

#[tokio::test(start_paused = true)]
async fn the_stop_ends_it() {
    let fakes = Fakes::default();
    let explain = fakes.explain(|_| Box::pin(std::future::pending()));
    let mut bench = Bench::start_explaining(vec![(policy("database"), failing(|_| true))], &explain);
    bench.until("it is being explained", |_| fakes.under_way() == 1).await;
    bench.stop.cancel();
    let began = bench.clock.mono();
    while bench.runners.join_next().await.is_some() {}
    bench.until("it has ended", |_| fakes.under_way() == 0).await;
    assert!(bench.clock.mono().since(began) < Duration::from_secs(1));
}
