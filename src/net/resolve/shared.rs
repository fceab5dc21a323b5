//! One question for all who ask the same at the same time: ten dependencies on one host need one answer.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::SetOnce;

use super::budget::Budget;
use super::records::Records;
use crate::clock::Stopwatch;
use crate::health::Failure;

/// An answer is used again for this long, and no longer than its time to live.
const SHARED_FOR: Duration = Duration::from_secs(1);

/// And for this long where there are no packets left to ask again: later than that a failover of RDS must not be
/// seen.
const KEPT_FOR: Duration = Duration::from_secs(30);

/// A question that was not answered by now, nor given up, never will be: its task is gone.
const LOST_AFTER: Duration = Duration::from_secs(30);

/// Answers by name; there are no more names than the configuration has.
#[derive(Default)]
pub(super) struct SharedAnswers(Mutex<HashMap<String, Slot>>);

#[derive(Default)]
struct Slot {
    question: Option<Arc<Question>>,
    /// The newest answer that had addresses, and its age.
    good: Option<(Records, Stopwatch)>,
}

struct Question {
    asked: Stopwatch,
    /// What came of it, and how long ago.
    answer: SetOnce<(Result<Records, Failure>, Stopwatch)>,
}

impl Question {
    /// Whether who asks now is served by it. A failure serves nobody but those who waited for it: who tries
    /// again wants to know anew.
    fn serves(&self) -> bool {
        match self.answer.get() {
            None => self.asked.elapsed() < LOST_AFTER,
            Some((Ok(found), since)) => {
                let lives = found.ttl_seconds.map_or(SHARED_FOR, |ttl| Duration::from_secs(ttl.into()));
                since.elapsed() < SHARED_FOR.min(lives)
            }
            Some((Err(_), _)) => false,
        }
    }
}

impl SharedAnswers {
    /// The answer for a name: one that is there, one that is under way, or what comes of `ask`, which begins with
    /// so many `packets`. The question goes on when who asked it has no time left, for those who come after.
    pub(super) async fn answer<F>(
        self: &Arc<Self>,
        name: &str,
        packets: u32,
        budget: &Budget,
        ask: impl FnOnce() -> F,
    ) -> Result<Records, Failure>
    where
        F: Future<Output = Result<Records, Failure>> + Send + 'static,
    {
        let question = {
            // Held for no await.
            let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let slot = slots.entry(name.to_owned()).or_default();
            if let Some(question) = slot.question.as_ref().filter(|question| question.serves()) {
                budget.shared(false);
                Arc::clone(question)
            } else if let Some((found, since)) = &slot.good
                && since.elapsed() < KEPT_FOR
                && budget.is_used_up(packets)
            {
                budget.shared(true);
                return Ok(found.clone());
            } else {
                let question = Arc::new(Question { asked: Stopwatch::start(), answer: SetOnce::new() });
                slot.question = Some(Arc::clone(&question));
                tokio::spawn(Arc::clone(self).settle(name.to_owned(), Arc::clone(&question), ask()));
                question
            }
        };
        question.answer.wait().await.0.clone()
    }

    async fn settle(
        self: Arc<Self>,
        name: String,
        question: Arc<Question>,
        ask: impl Future<Output = Result<Records, Failure>> + Send,
    ) {
        let answer = ask.await;
        let since = Stopwatch::start();
        if let Ok(found) = &answer {
            let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            slots.entry(name).or_default().good = Some((found.clone(), since));
        }
        // It is set here and nowhere else.
        let _ = question.answer.set((answer, since));
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::health::{FailureKind, Phase};

    struct Bench {
        answers: Arc<SharedAnswers>,
        budget: Budget,
        asked: Arc<AtomicU32>,
    }

    impl Bench {
        fn new() -> Self {
            let budget = Budget::new(NonZeroU32::new(10).unwrap());
            Self { answers: Arc::default(), budget, asked: Arc::default() }
        }

        /// Asks for a name; a server would need half a second for the answer.
        async fn ask(&self, name: &str, ttl: Option<u32>) -> Result<Records, Failure> {
            let asked = Arc::clone(&self.asked);
            let answer = async move {
                asked.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(500)).await;
                match ttl {
                    Some(ttl) => Ok(Records { ttl_seconds: Some(ttl), ..Records::default() }),
                    None => Err(Failure::new(Phase::Dns, FailureKind::DnsNotFound, "there is none")),
                }
            };
            self.answers.answer(name, 1, &self.budget, || answer).await
        }

        fn asked(&self) -> u32 {
            self.asked.load(Ordering::SeqCst)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_together_or_within_a_second_shares_an_answer() {
        let bench = Bench::new();
        let (one, two, other) =
            tokio::join!(bench.ask("a", Some(60)), bench.ask("a", Some(60)), bench.ask("b", Some(60)));
        assert!(one.is_ok() && two.is_ok() && other.is_ok());
        assert_eq!(bench.asked(), 2);
        tokio::time::advance(Duration::from_millis(900)).await;
        bench.ask("a", Some(60)).await.unwrap();
        assert_eq!(bench.asked(), 2);
        tokio::time::advance(Duration::from_millis(200)).await;
        bench.ask("a", Some(60)).await.unwrap();
        assert_eq!((bench.asked(), bench.budget.stats().shared), (3, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn what_must_not_be_kept_is_shared_only_with_those_who_waited() {
        let bench = Bench::new();
        let (one, two) = tokio::join!(bench.ask("a", Some(0)), bench.ask("a", Some(0)));
        assert!(one.is_ok() && two.is_ok());
        bench.ask("a", Some(0)).await.unwrap();
        assert_eq!(bench.asked(), 2, "its time to live is over at once");
        let (one, two) = tokio::join!(bench.ask("b", None), bench.ask("b", None));
        assert!(one.is_err() && two.is_err());
        bench.ask("b", None).await.unwrap_err();
        assert_eq!(bench.asked(), 4, "a failure is asked about again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_goes_on_without_who_asked_it() {
        let bench = Bench::new();
        let given_up = tokio::time::timeout(Duration::from_millis(100), bench.ask("a", Some(60))).await;
        assert!(given_up.is_err());
        bench.ask("a", Some(60)).await.unwrap();
        assert_eq!(bench.asked(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn for_want_of_packets_an_answer_is_kept_for_half_a_minute_and_no_longer() {
        let bench = Bench::new();
        bench.ask("a", Some(1)).await.unwrap();
        for _ in 0..2 {
            tokio::time::advance(Duration::from_secs(14)).await;
            bench.budget.use_up();
            bench.ask("a", Some(1)).await.unwrap();
        }
        assert_eq!((bench.asked(), bench.budget.stats().kept), (1, 2));
        tokio::time::advance(Duration::from_secs(3)).await;
        bench.ask("a", Some(1)).await.unwrap();
        assert_eq!(bench.asked(), 2);
    }
}
