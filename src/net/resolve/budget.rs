//! No more packets than a name server has room for.
//!
//! A VPC's resolver drops what comes beyond 1,024 packets a second from one network interface, and all containers
//! of a task share one: what a sidecar sends too much, the API misses. So questions wait for their turn, and every
//! packet is counted: the second address family, the second server, what is sent again for want of an answer.

use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Clock;
use crate::health::{Failure, FailureKind, Monotonic, Phase, ResolverStats};

/// What was not used lately may be used at once, up to this long of the rate.
const BURST: Duration = Duration::from_secs(1);

/// A question that would have to wait longer than this is not asked: the check would end without knowing why.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// The packets of all look-ups of a process.
#[derive(Debug)]
pub(super) struct Budget {
    clock: Clock,
    /// Packets per second.
    rate: NonZeroU32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Questions that were let through; each is one packet at least.
    questions: Bucket,
    /// Packets that were sent.
    packets: Bucket,
    stats: ResolverStats,
}

/// Lets a steady rate through, and after a pause a burst.
#[derive(Debug, Default)]
struct Bucket {
    /// Until when the rate is used up; at most [`BURST`] in the past.
    used_until: Monotonic,
}

impl Bucket {
    fn wait(&self, now: Monotonic) -> Duration {
        self.used_until.since(now)
    }

    fn take(&mut self, span: Duration, now: Monotonic) {
        let earliest = Monotonic::after_origin(now.since_origin().saturating_sub(BURST));
        self.used_until = self.used_until.max(earliest) + span;
    }
}

impl Budget {
    /// So many packets per second.
    pub(super) fn new(rate: NonZeroU32) -> Self {
        Self { clock: Clock::start(), rate, state: Mutex::default() }
    }

    /// Waits until so many questions may be asked.
    pub(super) async fn admit(&self, questions: u32) -> Result<(), Failure> {
        let wait = self.reserve(questions)?;
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }

    /// How long so many questions have to wait, for whom room is made.
    fn reserve(&self, questions: u32) -> Result<Duration, Failure> {
        let now = self.now();
        let mut state = self.state();
        let wait = state.questions.wait(now).max(state.packets.wait(now));
        if wait > WAIT_MAX {
            state.stats.refused += 1;
            let rate = self.rate;
            let message =
                format!("not asked: the {rate} DNS packets a second that Sickbay allows itself are used up");
            return Err(Failure::new(Phase::Dns, FailureKind::DnsTimeout, message)
                .with_hint("check less often or fewer names, or raise `resolver.packets_per_second`; if name servers do not answer, repeated questions use it up"));
        }
        state.questions.take(self.span(questions), now);
        if !wait.is_zero() {
            state.stats.waited += 1;
            state.stats.waited_for += wait;
        }
        Ok(wait)
    }

    /// Packets were sent.
    pub(super) fn sent(&self, packets: u32) {
        let now = self.now();
        let mut state = self.state();
        state.packets.take(self.span(packets), now);
        state.stats.packets += u64::from(packets);
    }

    /// Whether a question would have to wait now.
    pub(super) fn is_used_up(&self) -> bool {
        let now = self.now();
        let state = self.state();
        !(state.questions.wait(now).is_zero() && state.packets.wait(now).is_zero())
    }

    /// An answer was used again: while it was fresh, or for want of packets.
    pub(super) fn shared(&self, for_want: bool) {
        let mut state = self.state();
        let count = if for_want { &mut state.stats.kept } else { &mut state.stats.shared };
        *count += 1;
    }

    /// The counts so far.
    pub(super) fn stats(&self) -> ResolverStats {
        self.state().stats
    }

    /// A reading of the clock that begins with a burst to be used: all dependencies are checked at the start.
    fn now(&self) -> Monotonic {
        self.clock.mono() + BURST
    }

    /// How long it takes to earn so many packets.
    fn span(&self, packets: u32) -> Duration {
        Duration::from_secs(1) * packets / self.rate.get()
    }

    /// Held for no await.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(rate: u32) -> Budget {
        Budget::new(NonZeroU32::new(rate).unwrap())
    }

    fn millis(wait: Result<Duration, Failure>) -> u128 {
        wait.unwrap().as_millis()
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_of_the_rate_goes_at_once_and_the_rest_waits_its_turn() {
        let budget = budget(50);
        for n in 0..51 {
            assert!(!budget.is_used_up());
            assert_eq!(millis(budget.reserve(1)), 0, "question {n}");
        }
        assert!(budget.is_used_up());
        assert_eq!([(); 3].map(|()| millis(budget.reserve(1))), [20, 40, 60]);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!((0..51).map(|_| millis(budget.reserve(1))).max(), Some(0));
        assert_eq!(millis(budget.reserve(1)), 20);
        let stats = budget.stats();
        assert_eq!((stats.waited, stats.waited_for, stats.packets), (4, Duration::from_millis(140), 0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_sent_beyond_the_questions_is_waited_for_by_the_next() {
        let budget = budget(10);
        assert_eq!(millis(budget.reserve(1)), 0);
        // One question, and sent again and again.
        budget.sent(30);
        assert_eq!(millis(budget.reserve(1)), 2_000);
        assert_eq!(budget.stats().packets, 30);
    }

    #[tokio::test(start_paused = true)]
    async fn what_would_wait_too_long_is_refused_and_takes_no_room() {
        let budget = budget(10);
        budget.sent(100);
        let refused = budget.reserve(1).unwrap_err();
        assert_eq!(refused.kind, FailureKind::DnsTimeout);
        assert!(refused.message.contains("10 DNS packets a second"), "{refused}");
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(millis(budget.reserve(1)), 0);
        assert_eq!(budget.stats().refused, 1);
    }
}
