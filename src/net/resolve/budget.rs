//! No more packets than a name server has room for.
//!
//! A VPC's resolver drops what comes beyond 1,024 packets a second from one network interface, and all containers
//! of a task share one: what a sidecar sends too much, the API misses; and most is sent when nobody answers. So no
//! packet leaves without room for it, the repetitions that hickory decides on by itself included: within any second
//! as many are sent as are allowed, and no more.
//!
//! A question books room for the packets that it begins with, and waits in line until there is some. What it sends
//! beyond these, for want of an answer, is sent where there is room at that moment and nobody waits for it, and
//! withheld where not. What was booked and not sent is given back.
//!
//! What a diagnosis asks must never keep a check from asking: it has the spare room only ([`Budget::spare`]). It stands in
//! no line and never takes the last half of the rate; what finds no room is not asked.

use std::collections::VecDeque;
use std::future::Future;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as AsyncMutex, Notify};
use tokio::time::timeout;

use crate::clock::{Clock, Stopwatch};
use crate::health::{Failure, FailureKind, Monotonic, Phase, ResolverStats};

/// In what time so many packets are sent at most, wherever it begins.
const WINDOW: Duration = Duration::from_secs(1);

/// A question that would have to wait longer than this is not asked: the check would end without knowing why.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// How the message of a question begins that was not asked.
pub(super) const NOT_ASKED: &str = "not asked";

/// Whether no server was asked, for want of packets or of time: then nothing is known of them.
pub fn was_not_asked(failure: &Failure) -> bool {
    failure.kind == FailureKind::DnsTimeout && failure.message.starts_with(NOT_ASKED)
}

tokio::task_local! {
    /// What the question that is being asked has booked.
    static ASKING: Arc<Booking>;
}

/// The packets of all look-ups of a process.
#[derive(Debug)]
pub(super) struct Budget {
    common: Arc<Common>,
    /// Packets within [`WINDOW`].
    rate: NonZeroU32,
    /// How many of them may be on their way, or be waited for, when one of these is sent.
    room: NonZeroU32,
    /// Whether this is only what the others leave.
    spare: bool,
}

/// What all have in common who spend of one budget.
#[derive(Debug)]
struct Common {
    clock: Clock,
    state: Mutex<State>,
    /// Held by the first in line. It is fair: who came first goes first.
    line: AsyncMutex<()>,
    /// Something that was booked was not needed.
    given_back: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// When each packet of the last [`WINDOW`] was sent, oldest first.
    sent: VecDeque<Monotonic>,
    /// Packets that are booked and not sent yet.
    booked: u32,
    /// Packets of the questions that wait in line.
    waiting: u32,
    stats: ResolverStats,
}

impl State {
    /// How long until there is room for so many packets; `None` where there is.
    fn wait(&mut self, packets: u32, rate: NonZeroU32, now: Monotonic) -> Option<Duration> {
        while self.sent.front().is_some_and(|sent| now.since(*sent) >= WINDOW) {
            self.sent.pop_front();
        }
        let sent = u32::try_from(self.sent.len()).unwrap_or(u32::MAX);
        let taken = sent.saturating_add(self.booked).saturating_add(packets);
        let last_in_the_way = taken.checked_sub(rate.get()).filter(|beyond| *beyond > 0)? - 1;
        // What is only booked will be sent now or later, or given back, which is told.
        let last_in_the_way = self.sent.get(last_in_the_way as usize).copied().unwrap_or(now);
        Some((last_in_the_way + WINDOW).since(now))
    }

    fn send(&mut self, now: Monotonic) {
        self.sent.push_back(now);
        self.stats.packets += 1;
    }
}

impl Budget {
    /// So many packets per second.
    pub(super) fn new(rate: NonZeroU32) -> Self {
        let common = Common {
            clock: Clock::start(),
            state: Mutex::default(),
            line: AsyncMutex::default(),
            given_back: Notify::new(),
        };
        Self { common: Arc::new(common), rate, room: rate, spare: false }
    }

    /// The same budget for who may have only what is left of its first half, and waits for nothing.
    pub(super) fn spare(&self) -> Self {
        let half = NonZeroU32::new(self.rate.get() / 2).unwrap_or(NonZeroU32::MIN);
        Self { common: Arc::clone(&self.common), rate: self.rate, room: half, spare: true }
    }

    /// Whether it is only what the others leave.
    pub(super) fn is_spare(&self) -> bool {
        self.spare
    }

    /// Waits until so many packets may be sent, and books them. It is all that there is where more are wanted.
    pub(super) async fn book(self: &Arc<Self>, packets: u32) -> Result<Arc<Booking>, Failure> {
        let packets = packets.min(self.room.get());
        let place = {
            let mut state = self.state();
            if state.waiting == 0 && state.wait(packets, self.room, self.now()).is_none() {
                return Ok(self.booked(&mut state, packets));
            }
            if self.spare {
                return Err(self.refused(&mut state));
            }
            let served_in_time = u64::from(self.rate.get()) * WAIT_MAX.as_secs();
            if u64::from(state.waiting) + u64::from(packets) > served_in_time {
                return Err(self.refused(&mut state));
            }
            state.waiting += packets;
            Place { budget: self, packets, since: Stopwatch::start() }
        };
        let turn = async {
            let _first = self.common.line.lock().await;
            loop {
                let wait = {
                    let mut state = self.state();
                    match state.wait(packets, self.room, self.now()) {
                        None => return self.booked(&mut state, packets),
                        Some(wait) => wait,
                    }
                };
                // However it ends, it is looked again.
                let _ = timeout(wait, self.common.given_back.notified()).await;
            }
        };
        let booked = timeout(WAIT_MAX, turn).await;
        drop(place);
        booked.map_err(|_| self.not_asked())
    }

    /// Waits until so many packets may be sent, and counts them as sent.
    pub(super) async fn spend(self: Arc<Self>, packets: u32) -> Result<(), Failure> {
        let booking = self.book(packets).await?;
        while self.spend_one(&mut self.state(), &booking) {}
        Ok(())
    }

    /// Whether so many packets may be sent now; they are counted then.
    pub(super) fn spend_at_once(&self, packets: u32) -> bool {
        let (mut state, now) = (self.state(), self.now());
        let packets = packets.min(self.room.get());
        let may = state.waiting == 0 && state.wait(packets, self.room, now).is_none();
        if may {
            (0..packets).for_each(|_| state.send(now));
        }
        may
    }

    /// Whether a packet may be sent now; it is counted then. What the question that is being asked has booked goes
    /// first.
    pub(super) fn may_send(&self) -> bool {
        let asking = Booking::asked();
        let mut state = self.state();
        if asking.as_ref().is_some_and(|booking| self.spend_one(&mut state, booking)) {
            return true;
        }
        let now = self.now();
        let may = state.waiting == 0 && state.wait(1, self.room, now).is_none();
        if may {
            state.send(now);
        } else {
            state.stats.withheld += 1;
            asking.inspect(|booking| _ = booking.withheld.fetch_add(1, Ordering::Relaxed));
        }
        may
    }

    /// Whether a question of so many packets would have to wait now.
    pub(super) fn is_used_up(&self, packets: u32) -> bool {
        let mut state = self.state();
        state.waiting > 0 || state.wait(packets.min(self.room.get()), self.room, self.now()).is_some()
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

    /// What is allowed, for messages.
    pub(super) fn allowed(&self) -> String {
        let Self { rate, room, spare, .. } = self;
        match spare {
            true => {
                format!("the {room} of {rate} DNS packets a second that a diagnosis may take are used up")
            }
            false => format!("the {rate} DNS packets a second that Sickbay allows itself are used up"),
        }
    }

    /// The failure of a question that was given up before there was room for it.
    pub(super) fn not_asked(&self) -> Failure {
        self.refused(&mut self.state())
    }

    fn booked(self: &Arc<Self>, state: &mut State, packets: u32) -> Arc<Booking> {
        state.booked += packets;
        Arc::new(Booking {
            budget: Arc::clone(self),
            left: AtomicU32::new(packets),
            withheld: AtomicU32::new(0),
            cut: AtomicBool::new(false),
        })
    }

    /// Whether a packet was left in the booking; it is sent then.
    fn spend_one(&self, state: &mut State, booking: &Booking) -> bool {
        // Changed under the lock of the state only, so that the two agree.
        let left = booking.left.load(Ordering::Relaxed);
        let spends = left > 0;
        if spends {
            booking.left.store(left - 1, Ordering::Relaxed);
            state.booked -= 1;
            state.send(self.now());
        }
        spends
    }

    fn refused(&self, state: &mut State) -> Failure {
        // The counts are of questions that somebody needed.
        state.stats.refused += u64::from(!self.spare);
        Failure::new(Phase::Dns, FailureKind::DnsTimeout, format!("{NOT_ASKED}: {}", self.allowed()))
            .with_hint("check less often or fewer names, or raise `resolver.packets_per_second`; if name servers do not answer, repeated questions use it up")
    }

    /// Held for no await.
    fn state(&self) -> MutexGuard<'_, State> {
        self.common.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Monotonic {
        self.common.clock.mono()
    }
}

/// Room for packets of one question, and what became of that question. Dropped, it gives back what was not sent.
#[derive(Debug)]
pub(super) struct Booking {
    budget: Arc<Budget>,
    left: AtomicU32,
    withheld: AtomicU32,
    cut: AtomicBool,
}

impl Booking {
    /// That of the question that is being asked.
    pub(super) fn asked() -> Option<Arc<Self>> {
        ASKING.try_with(Arc::clone).ok()
    }

    /// Asks: what is sent meanwhile is what was booked.
    pub(super) async fn asking<F: Future>(self: &Arc<Self>, question: F) -> F::Output {
        ASKING.scope(Arc::clone(self), question).await
    }

    /// Packets of this question that were not sent, because there was no room for them.
    pub(super) fn withheld(&self) -> u32 {
        self.withheld.load(Ordering::Relaxed)
    }

    /// An answer to this question was too long for UDP.
    pub(super) fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }

    /// Whether one was.
    pub(super) fn was_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }
}

impl Drop for Booking {
    fn drop(&mut self) {
        let left = *self.left.get_mut();
        if left > 0 {
            self.budget.state().booked -= left;
            self.budget.common.given_back.notify_one();
        }
    }
}

/// A place in line. Dropped, whoever has it waits no longer, in one way or another.
struct Place<'a> {
    budget: &'a Budget,
    packets: u32,
    since: Stopwatch,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.budget.state();
        state.waiting -= self.packets;
        state.stats.waited += 1;
        state.stats.waited_for += self.since.elapsed();
    }
}

#[cfg(test)]
impl Budget {
    /// Sends whatever may be sent.
    pub(super) fn use_up(&self) {
        (0..self.rate.get()).for_each(|_| _ = self.may_send());
    }

    /// Whether anybody waits in line.
    pub(super) fn is_awaited(&self) -> bool {
        self.state().waiting > 0
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future;

    use super::*;

    fn budget(rate: u32) -> Arc<Budget> {
        Arc::new(Budget::new(NonZeroU32::new(rate).unwrap()))
    }

    /// Books a packet, sends it, and tells after how long that was.
    async fn question(budget: &Arc<Budget>, since: Stopwatch) -> u128 {
        Arc::clone(budget).spend(1).await.unwrap();
        since.elapsed().as_millis()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_allowed_goes_at_once_and_the_rest_waits_its_turn() {
        let budget = budget(50);
        let asked = |questions| {
            let since = Stopwatch::start();
            let budget = &budget;
            future::join_all((0..questions).map(move |_| question(budget, since)))
        };
        assert!(!budget.is_used_up(50) && !budget.is_used_up(1_000), "no question is too large for ever");
        let after = asked(120).await;
        assert!(after[..50].iter().all(|after| *after == 0), "{after:?}");
        assert!(after[50..100].iter().all(|after| (1_000..1_010).contains(after)), "{after:?}");
        assert!(after[100..].iter().all(|after| (2_000..2_020).contains(after)), "{after:?}");
        let stats = budget.stats();
        assert_eq!((stats.packets, stats.waited, stats.refused), (120, 70, 0));
        assert!((90.0..91.0).contains(&stats.waited_for.as_secs_f64()), "{stats:?}");
        assert!(budget.is_used_up(31) && !budget.is_used_up(30));

        tokio::time::advance(Duration::from_secs(60)).await;
        let after = asked(51).await;
        assert_eq!((after[49], after[50] >= 1_000), (0, true), "a pause earns one second and no more");
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_booked_is_sent_only_where_there_is_room() {
        let budget = budget(10);
        let booking = budget.book(2).await.unwrap();
        // Two that were booked, and eight repetitions; the rest has no room.
        let sent = booking.asking(async { (0..30).filter(|_| budget.may_send()).count() }).await;
        assert_eq!((sent, booking.withheld()), (10, 20));
        let stats = budget.stats();
        assert_eq!((stats.packets, stats.withheld), (10, 20));
        let since = Stopwatch::start();
        assert!(question(&budget, since).await >= 1_000, "the next waits until they are a second old");
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_that_waits_goes_before_a_repetition() {
        let budget = budget(10);
        budget.use_up();
        let since = Stopwatch::start();
        let repeats = async {
            loop {
                if budget.may_send() {
                    return since.elapsed().as_millis();
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let (asked, repeated) =
            tokio::join!(future::join_all((0..10).map(|_| question(&budget, since))), repeats);
        assert!(asked.iter().all(|after| (1_000..1_010).contains(after)), "{asked:?}");
        assert!(repeated >= 2_000, "{repeated}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_booked_and_not_sent_is_given_back_at_once() {
        let budget = budget(10);
        let booking = budget.book(10).await.unwrap();
        assert!(budget.is_used_up(1));
        let since = Stopwatch::start();
        let later = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(booking.asking(async { budget.may_send() }).await);
            drop(booking);
        };
        let (asked, ()) = tokio::join!(future::join_all((0..10).map(|_| question(&budget, since))), later);
        assert!(asked[..9].iter().all(|after| *after == 100), "{asked:?}");
        assert!(asked[9] >= 1_000, "nine were given back: {asked:?}");
        assert_eq!(budget.stats().packets, 11);
    }

    #[tokio::test(start_paused = true)]
    async fn what_would_wait_too_long_is_refused_and_takes_no_room() {
        let budget = budget(10);
        budget.use_up();
        let since = Stopwatch::start();
        let all = future::join_all((0..60).map(|_| Arc::clone(&budget).spend(1))).await;
        let refused: Vec<_> = all.into_iter().filter_map(Result::err).collect();
        assert_eq!(refused.len(), 10, "fifty have their turn within five seconds");
        assert_eq!(refused[0].kind, FailureKind::DnsTimeout);
        assert!(refused[0].message.contains("10 DNS packets a second"), "{}", refused[0]);
        assert!(since.elapsed() <= WAIT_MAX + Duration::from_millis(100));
        let stats = budget.stats();
        assert_eq!((stats.refused, stats.packets), (10, 60));

        // Who has booked all and sends nothing keeps the others waiting; and not for ever.
        tokio::time::advance(WINDOW).await;
        let _idle = budget.book(10).await.unwrap();
        let since = Stopwatch::start();
        budget.book(1).await.unwrap_err();
        assert_eq!(since.elapsed().as_secs(), WAIT_MAX.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_the_line_holds_up_nobody() {
        let budget = budget(10);
        budget.use_up();
        let since = Stopwatch::start();
        let gone = timeout(Duration::from_millis(500), budget.book(10));
        let (gone, after) = tokio::join!(gone, question(&budget, since));
        assert!(gone.is_err() && (1_000..1_010).contains(&after), "{after}");
        assert_eq!(budget.stats().waited, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_spare_stands_in_no_line_and_leaves_half_to_others() {
        let budget = budget(50);
        let spare = Arc::new(budget.spare());
        // Many diagnoses at once: thirty questions of four packets, none of them waited for.
        let since = Stopwatch::start();
        let diagnoses: Vec<_> = future::join_all((0..30).map(|_| spare.book(4))).await;
        assert!(since.elapsed().is_zero());
        let booked: Vec<_> = diagnoses.into_iter().filter_map(Result::ok).collect();
        assert_eq!(booked.len(), 6, "of the first half, 25");
        for booking in &booked {
            assert_eq!(booking.asking(async { (0..9).filter(|_| spare.may_send()).count() }).await.min(4), 4);
        }
        assert_eq!(budget.stats().packets, 25, "with the one repetition that there was room for");
        // A check of as many packets as are left goes at once.
        let check = question(&budget, since);
        assert_eq!(check.await, 0);
        assert!(budget.spend_at_once(24));

        // One that waits goes before any of a diagnosis, which is told so at once.
        let (check, diagnosis) = tokio::join!(question(&budget, since), async {
            while !budget.is_awaited() {
                tokio::task::yield_now().await;
            }
            (spare.book(1).await.map(drop), spare.may_send(), spare.spend_at_once(1), since.elapsed())
        });
        let (refused, repeated, by_tcp, after) = diagnosis;
        assert!(was_not_asked(&refused.unwrap_err()) && !repeated && !by_tcp && after.is_zero());
        assert!((1_000..1_010).contains(&check), "{check}");
        assert_eq!(budget.stats().refused, 0, "nobody who needs an answer was refused one");
    }

    #[tokio::test(start_paused = true)]
    async fn diagnoses_that_ask_all_the_time_keep_no_check_waiting() {
        let budget = budget(50);
        let spare = Arc::new(budget.spare());
        let since = Stopwatch::start();
        let diagnoses = future::join_all((0..20).map(|_| async {
            while since.elapsed() < Duration::from_secs(10) {
                drop(Arc::clone(&spare).spend(4).await);
                tokio::time::sleep(Duration::from_millis(7)).await;
            }
        }));
        // Four packets, six times a second: 24 of the 25 that are the checks' own.
        let checks = async {
            let mut waits = Vec::new();
            for _ in 0..60 {
                let before = since.elapsed();
                Arc::clone(&budget).spend(4).await.unwrap();
                waits.push((since.elapsed() - before).as_millis());
                tokio::time::sleep(Duration::from_millis(170)).await;
            }
            waits
        };
        let (_, waits) = tokio::join!(diagnoses, checks);
        assert!(waits.iter().all(|wait| *wait == 0), "{waits:?}");
    }

    #[test]
    fn the_smallest_rate_has_room_for_a_diagnosis_where_nobody_else_asks() {
        let spare = budget(1).spare();
        assert!(spare.spend_at_once(4) && !spare.spend_at_once(1));
    }
}
