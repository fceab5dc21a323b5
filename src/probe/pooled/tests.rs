//! How sessions come and go, with a protocol that does what it is told.

use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::*;
use crate::health::Phase;

/// What a session does when it is asked.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Answer {
    Well,
    Judged,
    Answered,
    Broken,
    /// Never answers.
    Silent,
}

/// The peer, as it sees us.
#[derive(Debug, Clone, Copy)]
struct Peer {
    answer: Answer,
    /// Whether a goodbye is answered.
    lets_go: bool,
    here: u32,
    most: u32,
    opened: u32,
    goodbyes: u32,
    abandoned: u32,
}

type Shared = Arc<(Mutex<Peer>, Notify)>;

struct Fake(Shared);

/// Drops its place at the peer when it is gone.
struct Guest(Shared);

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.0.lock().unwrap().here -= 1;
    }
}

impl Session for Guest {
    async fn goodbye(self) {
        let let_go = self.0.0.lock().unwrap().lets_go;
        if !let_go {
            // Until it is cut.
            std::future::pending::<()>().await;
        }
        self.0.0.lock().unwrap().goodbyes += 1;
    }

    async fn abandon(self) {
        self.0.0.lock().unwrap().abandoned += 1;
        self.goodbye().await;
    }
}

impl Protocol for Fake {
    type Session = Guest;

    async fn open(&mut self, _: &Place, _: Deadline, trace: &mut Trace) -> Result<Guest, Failure> {
        trace.new_connection = true;
        let mut peer = self.0.0.lock().unwrap();
        peer.here += 1;
        peer.opened += 1;
        peer.most = peer.most.max(peer.here);
        Ok(Guest(Arc::clone(&self.0)))
    }

    async fn ask(
        &mut self,
        _: &mut Guest,
        deadline: Deadline,
        trace: &mut Trace,
    ) -> Result<Observation, Trouble> {
        let answer = self.0.0.lock().unwrap().answer;
        let failure = || Failure::new(Phase::Query, FailureKind::QueryFailed, format!("{answer:?}"));
        match answer {
            Answer::Well => Ok(Observation::default()),
            Answer::Judged => Err(Trouble::Judged(failure())),
            Answer::Answered => Err(Trouble::Answered(failure())),
            Answer::Broken => Err(Trouble::Broken(failure())),
            Answer::Silent => {
                self.0.1.notify_one();
                let silence = std::future::pending::<Result<Observation, Failure>>();
                trace.phase(Phase::Query, deadline, silence).await.map_err(Trouble::Broken)
            }
        }
    }
}

fn pooled(max: u32, renew_every: u32) -> (Pooled<Fake>, Shared) {
    let peer =
        Peer { answer: Answer::Well, lets_go: true, here: 0, most: 0, opened: 0, goodbyes: 0, abandoned: 0 };
    let shared: Shared = Arc::new((Mutex::new(peer), Notify::new()));
    let keep = Keep { max, renew_every, patience: Duration::from_secs(3) };
    (Pooled::new(Fake(Arc::clone(&shared)), keep), shared)
}

/// One attempt, within ten seconds.
async fn attempt(pooled: &mut Pooled<Fake>) -> (Outcome, PoolStats) {
    let mut trace = Trace::default();
    let outcome = pooled.attempt(Deadline::after(Duration::from_secs(10)), &mut trace).await;
    (outcome, trace.pool.expect("it keeps connections"))
}

/// Lets what goes on in the background go on until it waits.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

/// As it is now.
fn peer(shared: &Shared) -> Peer {
    *shared.0.lock().unwrap()
}

fn answers(shared: &Shared, answer: Answer) {
    shared.0.lock().unwrap().answer = answer;
}

#[tokio::test(start_paused = true)]
async fn a_session_is_kept_and_renewed_every_so_many_checks() {
    let (mut pooled, shared) = pooled(2, 3);
    for check in 1..=9 {
        let (outcome, stats) = attempt(&mut pooled).await;
        assert!(outcome.is_ok());
        // The first, then every third after it.
        let opened: u32 = 1 + (check - 1) / 3;
        assert_eq!((peer(&shared).opened, stats.size), (opened, 1), "check {check}");
    }
    settle().await;
    assert_eq!((peer(&shared).here, peer(&shared).goodbyes), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_judgement_counts_at_once_and_the_session_is_kept() {
    let (mut pooled, shared) = pooled(2, 100);
    attempt(&mut pooled).await.0.expect("well");
    answers(&shared, Answer::Judged);
    for _ in 0..3 {
        let (outcome, stats) = attempt(&mut pooled).await;
        assert_eq!(outcome.unwrap_err().message, "Judged");
        assert_eq!((stats.size, stats.errors), (1, 0));
    }
    assert_eq!(peer(&shared).opened, 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_over_a_kept_session_counts_when_a_new_one_hears_it_too() {
    let (mut pooled, shared) = pooled(2, 100);
    attempt(&mut pooled).await.0.expect("well");
    answers(&shared, Answer::Answered);
    let (outcome, stats) = attempt(&mut pooled).await;
    assert!(outcome.is_err());
    settle().await;
    assert_eq!((peer(&shared).opened, peer(&shared).goodbyes), (2, 2), "both leave politely");
    assert_eq!((stats.size, stats.errors, peer(&shared).here), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn there_are_never_more_sessions_than_places_however_slowly_they_leave() {
    for max in [1, 2, 3] {
        let (mut pooled, shared) = pooled(max, 1);
        shared.0.lock().unwrap().lets_go = false;
        for answer in [Answer::Well, Answer::Broken, Answer::Answered, Answer::Silent].repeat(4) {
            answers(&shared, answer);
            let _ = attempt(&mut pooled).await;
        }
        assert!(peer(&shared).opened > 8, "it goes on nevertheless");
        assert_eq!(peer(&shared).most, max);
        pooled.gone().await;
        let kept = u32::from(pooled.kept.is_some());
        assert_eq!(peer(&shared).here, kept);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_given_up_leaves_in_its_own_time_and_counts_until_then() {
    let (mut pooled, shared) = pooled(3, 100);
    attempt(&mut pooled).await.0.expect("well");
    answers(&shared, Answer::Silent);
    shared.0.lock().unwrap().lets_go = false;
    let (outcome, stats) = attempt(&mut pooled).await;
    assert!(outcome.is_err());
    assert_eq!(
        (stats.errors, stats.size, stats.idle, stats.closed),
        (2, 2, 0, 0),
        "the kept one and the new one"
    );
    // There is room for one more; when that needs its place, the last that was given up hurries.
    for created in [3, 4] {
        let (_, stats) = attempt(&mut pooled).await;
        assert_eq!((u64::from(stats.size), stats.created, stats.closed), (3, created, created - 3));
        assert_eq!(peer(&shared).here, 3);
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(
        (peer(&shared).here, pooled.stats().size),
        (0, 0),
        "of a host that has vanished no answer comes"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_given_up_has_to_hurry_when_all_ends() {
    let (mut pooled, shared) = pooled(2, 100);
    answers(&shared, Answer::Silent);
    shared.0.lock().unwrap().lets_go = false;
    let _ = attempt(&mut pooled).await;
    let waited = crate::clock::Stopwatch::start();
    pooled.gone().await;
    assert_eq!((peer(&shared).here, peer(&shared).goodbyes), (0, 0), "it was waited for, and in vain");
    assert!(waited.elapsed() <= GOODBYE + Duration::from_millis(10));
}

#[tokio::test(start_paused = true)]
async fn an_opening_that_nobody_waits_for_is_seen_through_in_its_place() {
    let places = Places::new(1);
    let (sender, done) = tokio::sync::oneshot::channel();
    let place = places.take().await;
    let opening =
        place.see_through(async move { sender.send(()).ok() }, |_| Box::pin(std::future::ready(())));
    drop((opening, place));
    // The next one gets the place when it is over.
    let (next, done) = tokio::join!(places.take(), done);
    done.expect("it went on");
    drop(next);

    let place = places.take().await;
    let never = place.see_through(std::future::pending::<()>(), |()| Box::pin(std::future::ready(())));
    drop((never, place));
    let waited = crate::clock::Stopwatch::start();
    drop(places.take().await);
    assert!(waited.elapsed() < GOODBYE, "its place was needed");
}

#[tokio::test(start_paused = true)]
async fn a_check_that_is_ended_in_the_middle_of_a_question_says_goodbye_all_the_same() {
    let (pooled, shared) = pooled(2, 100);
    answers(&shared, Answer::Silent);
    let probe: Box<dyn Probe> = Box::new(pooled);
    let gone = probe.gone();
    let task = tokio::spawn(async move {
        let mut probe = probe;
        let mut trace = Trace::default();
        let _ = probe.attempt(Deadline::after(Duration::from_secs(10)), &mut trace).await;
    });
    shared.1.notified().await;
    task.abort();
    gone.await;
    assert_eq!((peer(&shared).abandoned, peer(&shared).goodbyes, peer(&shared).here), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn closing_waits_for_the_goodbyes_and_not_for_ever() {
    for lets_go in [true, false] {
        let (mut pooled, shared) = pooled(2, 100);
        attempt(&mut pooled).await.0.expect("well");
        shared.0.lock().unwrap().lets_go = lets_go;
        let boxed: Box<dyn Probe> = Box::new(pooled);
        boxed.close().await;
        assert_eq!(peer(&shared).goodbyes, u32::from(lets_go));
    }
}
