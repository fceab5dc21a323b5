//! One dependency's runner: waits until a check is due, makes it, moves the record on, tells the registry.
//!
//! Each check runs in a task of its own. If that task panics, or hangs beyond the check's timeout, it is ended
//! and the probe is made anew; nothing is learnt from it, so that the dependency's last result grows stale
//! where readers can see it. The runner itself goes on, and so do all others.
//!
//! Orders come through a channel of the runner's own, and are carried out at once, also while a check is under way.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::Level;

use super::diagnosing::{Diagnosing, Explain};
use super::legacy::{Legacy, Ordered};
use super::registry::{Reply, RunnerId, Update};
use crate::clock::{self, Clock};
use crate::health::circuit::{Actor, Mode, Override, Permit};
use crate::health::record::GRACE;
use crate::health::time::millis;
use crate::health::{Check, Diagnosis, Failure, FailureId, LeftBehind, Order, Policy, Record};
use crate::http::NotDone;
use crate::log::{about, about_check};
use crate::net::resolve::Resolver;
use crate::net::{Network, Target};
use crate::probe::check::{self, Loudness};
use crate::probe::{GOODBYE, Probe};

/// How long a check under way at the stop may still take.
const LAST_CHECK: Duration = Duration::from_secs(1);

/// How long a runner takes to end at most: its check, and the goodbye to its server.
pub(super) const LAST_WORDS: Duration = LAST_CHECK.saturating_add(GOODBYE);

/// Makes a dependency's probe, at the start and whenever the last one was lost.
pub(super) type Factory = Arc<dyn Fn() -> Result<Box<dyn Probe>, Failure> + Send + Sync>;

/// What a runner works with.
#[derive(Clone)]
pub(super) struct Means {
    pub(super) factory: Factory,
    /// The name that is watched for new addresses while no checks run.
    pub(super) watched_name: Option<Target>,
    /// Finds out why a check failed, where that is wanted.
    pub(super) explain: Option<Explain>,
}

/// What all runners share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) clock: Clock,
    pub(super) updates: mpsc::Sender<Update>,
    pub(super) network: Network,
    /// Who may look for why a check failed.
    pub(super) turns: Arc<Semaphore>,
    pub(super) stop: CancellationToken,
}

/// One dependency's runner.
pub(super) struct Runner {
    id: RunnerId,
    record: Record,
    factory: Factory,
    probe: Option<Box<dyn Probe>>,
    watched_name: Option<Target>,
    diagnosing: Diagnosing,
    legacy: Legacy,
    shared: Shared,
    /// Who waits for the next check to end, or for the one under way. No more than there are requests, which the
    /// listeners bound: who gives up is forgotten.
    askers: Vec<Reply>,
}

/// Whether a check is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Checking {
    No,
    Yes,
}

/// What became of a check.
enum Course {
    Ended(Box<dyn Probe>, Box<Check>),
    Lost(&'static str),
    Stopped(Option<Box<dyn Probe>>),
}

impl Runner {
    pub(super) fn new(
        id: RunnerId,
        record: Record,
        Means { factory, watched_name, explain }: Means,
        legacy: Legacy,
        shared: Shared,
    ) -> Self {
        let diagnosing = Diagnosing::new(explain, Arc::clone(&shared.turns), legacy.clone(), shared.clock);
        let askers = Vec::new();
        Self { id, record, factory, probe: None, watched_name, diagnosing, legacy, shared, askers }
    }

    /// Runs until it is told to stop; then ends its connections.
    pub(super) async fn run(mut self) {
        let legacy = self.legacy.clone();
        let mut orders = legacy.orders().await;
        if self.record.held().is_some() {
            // One that took another's place, or came back: it holds what that one held.
            self.publish(Vec::new()).await;
        }
        while self.wait_until_due(&mut orders).await {
            let now = self.shared.clock.now();
            let Some(permit) = self.record.admit(now) else {
                // Cannot be while one check is made at a time; if it is, waiting beats spinning.
                self.record.lost(now, clock::draw());
                continue;
            };
            if permit == Permit::Trial {
                // An open circuit may just have become half open.
                self.publish(Vec::new()).await;
            }
            let Some(probe) = self.take_probe() else {
                self.note_lost("its probe could not be made");
                continue;
            };
            match self.check(probe, permit, &mut orders).await {
                Course::Ended(probe, check) => {
                    self.probe = Some(probe);
                    self.note_ended(*check).await;
                }
                Course::Lost(why) => self.note_lost(why),
                Course::Stopped(probe) => {
                    self.probe = probe;
                    break;
                }
            }
        }
        self.diagnosing.end();
        // Whoever still waits is told why, and before the goodbyes.
        let why = Err(legacy.last_answer());
        self.answer_askers(why);
        orders.close();
        while let Ok(Ordered { reply, .. }) = orders.try_recv() {
            let _ = reply.send(why);
        }
        if let Some(probe) = self.probe.take() {
            probe.close().await;
        }
    }

    /// Waits for the next check; `false` when it is time to stop. While the circuit is open, looks from time
    /// to time whether the name leads elsewhere, as it does after a failover, and makes the diagnosis that is owed.
    async fn wait_until_due(&mut self, orders: &mut mpsc::Receiver<Ordered>) -> bool {
        let policy = Arc::clone(self.record.policy());
        loop {
            let due = self.shared.clock.instant(self.record.due());
            let watch = self.watched_name.clone().filter(|_| self.record.is_open());
            let look = self.record.policy().interval.max(Duration::from_secs(1));
            let explain_at = self.explain_at();
            tokio::select! {
                biased;
                () = self.shared.stop.cancelled() => return false,
                Some(ordered) = orders.recv() => self.carry_out(ordered, Checking::No).await,
                found = self.diagnosing.ended(&policy) => self.take_up(found).await,
                () = tokio::time::sleep_until(due) => {
                    if !self.expire().await {
                        return true;
                    }
                }
                () = passed(explain_at) => self.explain(),
                found = resolve_after(look, self.shared.network.resolver(), watch.as_ref()), if watch.is_some() => {
                    self.record.resolved_while_open(&found, self.shared.clock.now());
                }
            }
        }
    }

    async fn check(
        &mut self,
        mut probe: Box<dyn Probe>,
        permit: Permit,
        orders: &mut mpsc::Receiver<Ordered>,
    ) -> Course {
        let policy = Arc::clone(self.record.policy());
        let watched = Arc::clone(&policy);
        let give_up = tokio::time::sleep(policy.timeout + GRACE);
        tokio::pin!(give_up);
        let loudness = match self.record.failing() {
            false => Loudness::News,
            true => Loudness::Repeats,
        };
        let clock = self.shared.clock;
        let gone = probe.gone();
        let mut task = AbortOnDropHandle::new(tokio::spawn(async move {
            let check = check::run(&mut *probe, &policy, permit, loudness, check::new_id(), clock).await;
            (probe, check)
        }));
        loop {
            let expires = self.record.held().map(|over| clock.instant(over.expires.mono));
            tokio::select! {
                biased;
                () = self.shared.stop.cancelled() => {
                    let last = tokio::time::timeout(LAST_CHECK, &mut task).await;
                    let probe = last.ok().and_then(Result::ok).map(|(probe, _)| probe);
                    if probe.is_none() {
                        // It is ended in the middle. What it had open is let say goodbye before the process ends.
                        drop(task);
                        let _ = tokio::time::timeout(GOODBYE, gone).await;
                    }
                    return Course::Stopped(probe);
                }
                Some(ordered) = orders.recv() => self.carry_out(ordered, Checking::Yes).await,
                found = self.diagnosing.ended(&watched) => self.take_up(found).await,
                () = passed(expires) => {
                    self.expire().await;
                }
                ended = &mut task => return match ended {
                    Ok((probe, check)) => Course::Ended(probe, Box::new(check)),
                    Err(_panicked) => Course::Lost("its check panicked"),
                },
                () = &mut give_up => {
                    return Course::Lost("its check hung beyond its timeout and was ended");
                }
            }
        }
    }

    /// Does what an operator ordered.
    async fn carry_out(&mut self, Ordered { order, reply, is_echo }: Ordered, checking: Checking) {
        let now = self.shared.clock.now();
        match order {
            Order::Hold(over) => {
                if !is_echo {
                    log_held(self.record.policy(), &over, self.record.held());
                }
                let no_more_checks = over.mode == Mode::ForcedOpen && checking == Checking::No;
                self.record.hold(over, now);
                if no_more_checks {
                    self.answer_askers(Err(NotDone::HeldOpen));
                }
                self.publish(vec![reply]).await;
            }
            Order::Reset(actor) => {
                if !is_echo {
                    log_reset(self.record.policy(), &actor, self.record.held());
                }
                self.record.reset(actor, now);
                self.publish(vec![reply]).await;
            }
            Order::Check if self.record.held().is_some_and(|over| over.mode == Mode::ForcedOpen) => {
                // Whoever asked may have given up, here and below.
                let _ = reply.send(Err(NotDone::HeldOpen));
            }
            Order::Check => {
                if checking == Checking::No {
                    self.record.request(now);
                }
                self.askers.retain(|asker| !asker.is_closed());
                self.askers.push(reply);
            }
        }
    }

    /// Ends the override where its time has come; whether it did.
    async fn expire(&mut self) -> bool {
        let before = self.record.held().cloned();
        let expired = self.record.expire(self.shared.clock.now());
        if let Some(over) = before.filter(|_| expired) {
            log_expired(self.record.policy(), &over);
            self.publish(Vec::new()).await;
        }
        expired
    }

    fn answer_askers(&mut self, answer: Result<(), NotDone>) {
        for asker in self.askers.drain(..) {
            let _ = asker.send(answer);
        }
    }

    fn take_probe(&mut self) -> Option<Box<dyn Probe>> {
        if let Some(probe) = self.probe.take() {
            return Some(probe);
        }
        match (self.factory)() {
            Ok(probe) => Some(probe),
            Err(failure) => {
                about!(
                    Level::ERROR,
                    self.record.policy(),
                    failure_kind = failure.kind.as_str(),
                    "the probe cannot be made: {}",
                    failure.message
                );
                None
            }
        }
    }

    async fn note_ended(&mut self, check: Check) {
        let (was_failing, ok) = (self.record.failing(), check.ok());
        log_check(self.record.policy(), &check, was_failing);
        if let Some(left) = &check.left_behind {
            log_move(self.record.policy(), left);
        }
        self.record.finish(check, clock::draw());
        let askers = std::mem::take(&mut self.askers);
        self.publish(askers).await;
        if ok {
            self.diagnosing.works_again();
        }
        self.explain();
        // Last, so that a runner which panics over what its checks come to is lost like one that has none.
        self.legacy.ended(ok);
    }

    /// When to look for why the last check failed, where that is owed and no check comes first: the circuit is open.
    fn explain_at(&self) -> Option<Instant> {
        let owed = self.record.is_open() && self.record.unexplained().is_some();
        let from = self.diagnosing.may_begin().filter(|_| owed)?;
        Some(self.shared.clock.instant(from))
    }

    /// Looks for why the last check failed, where that is owed and may be done by now.
    fn explain(&mut self) {
        if let Some(unexplained) = self.record.unexplained() {
            self.diagnosing.begin(unexplained);
        }
    }

    /// Keeps what was found out about an outage.
    async fn take_up(&mut self, found: Option<(FailureId, Arc<Diagnosis>)>) {
        if let Some((failure, diagnosis)) = found {
            self.record.explain(failure, diagnosis);
            self.publish(Vec::new()).await;
        }
    }

    fn note_lost(&mut self, why: &'static str) {
        let lost_in_a_row = self.legacy.add_loss();
        about!(
            Level::ERROR,
            self.record.policy(),
            lost_in_a_row,
            "a check was lost: {why}; the probe is made anew, and until a check ends the last result grows stale"
        );
        self.record.lost(self.shared.clock.now(), clock::draw());
        self.answer_askers(Err(NotDone::CheckLost));
    }

    /// Shows what is known by now, and answers those who wait for it to be seen.
    async fn publish(&mut self, replies: Vec<Reply>) {
        let view = Arc::new(self.record.view(self.shared.clock.mono()));
        // The registry is gone only when the agent is about to be.
        let _ = self.shared.updates.send(Update::View { runner: self.id, view, replies }).await;
    }
}

/// Never ends without a moment to wait for.
async fn passed(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// What an operator holds is told as loudly as an outage: by its end somebody has to know of it.
pub(super) fn log_held(policy: &Policy, over: &Override, before: Option<&Override>) {
    let before = before.map(|before| format!(", in place of {} by {}", before.mode, before.actor));
    about!(
        Level::WARN,
        policy,
        mode = over.mode.as_str(),
        actor = over.actor.as_str(),
        reason = over.reason.as_str(),
        readiness = over.readiness.as_str(),
        expires_at = clock::rfc3339(over.expires.wall),
        "{} by {}{}: {}",
        over.mode,
        over.actor,
        before.unwrap_or_default(),
        over.reason
    );
}

fn log_expired(policy: &Policy, over: &Override) {
    about!(
        Level::INFO,
        policy,
        mode = over.mode.as_str(),
        actor = over.actor.as_str(),
        reason = over.reason.as_str(),
        expires_at = clock::rfc3339(over.expires.wall),
        "the time of {} by {} is over: a trial follows",
        over.mode,
        over.actor
    );
}

fn log_reset(policy: &Policy, actor: &Actor, held: Option<&Override>) {
    let ended = held.map(|over| format!(", which ends {} by {}", over.mode, over.actor));
    about!(
        Level::INFO,
        policy,
        mode = held.map(|over| over.mode.as_str()),
        actor = actor.as_str(),
        reason = held.map(|over| over.reason.as_str()),
        expires_at = held.map(|over| clock::rfc3339(over.expires.wall)),
        "reset by {actor}{}: a check follows",
        ended.unwrap_or_default()
    );
}

/// Waits, then resolves the name; an empty answer where it does not resolve. Never ends without a name.
async fn resolve_after(wait: Duration, resolver: &Resolver, name: Option<&Target>) -> Vec<IpAddr> {
    let Some(target) = name else { return std::future::pending().await };
    tokio::time::sleep(wait).await;
    let found = tokio::time::timeout(wait, resolver.addresses(target.host())).await;
    found.ok().and_then(Result::ok).map(|records| records.addresses).unwrap_or_default()
}

/// A name that leads elsewhere is news, and that somebody answers where it led before is a danger.
fn log_move(policy: &Policy, left: &LeftBehind) {
    let LeftBehind { from, to, answers } = left;
    let (level, message) = match answers {
        true => {
            (Level::WARN, "the name leads elsewhere, and connections are still taken where it led before")
        }
        false => (Level::INFO, "the name leads elsewhere; nobody answers where it led before"),
    };
    about!(level, policy, address = %to, address_before = %from, "{message}");
}

/// The first failure of a row and the first success after it are news; the rest is not.
fn log_check(policy: &Policy, check: &Check, was_failing: bool) {
    let (level, said) = match (check.failure(), was_failing) {
        (Some(failure), false) => {
            let message = failure.message.trim_end_matches('.');
            (Level::WARN, Cow::from(format!("check failed: {message}; {}", failure.help())))
        }
        (Some(failure), true) => {
            (Level::DEBUG, Cow::from(format!("check failed again: {}", failure.message)))
        }
        (None, true) => (Level::INFO, Cow::from("check succeeded again")),
        (None, false) => (Level::DEBUG, Cow::from("check succeeded")),
    };
    about_check!(
        level,
        policy,
        check.id.as_str(),
        check.failure(),
        attempts = check.attempts,
        duration_ms = millis(check.duration),
        address = check.address.map(tracing::field::display),
        "{said}"
    );
}
