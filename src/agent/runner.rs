//! One dependency's runner: waits until a check is due, makes it, moves the record on, tells the registry.
//!
//! Each check runs in a task of its own. If that task panics, or hangs beyond the check's timeout, it is ended
//! and the probe is made anew; nothing is learnt from it, so that the dependency's last result grows stale
//! where readers can see it. The runner itself goes on, and so do all others.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::Level;

use super::registry::Update;
use crate::clock::{self, Clock};
use crate::health::circuit::Permit;
use crate::health::record::GRACE;
use crate::health::time::millis;
use crate::health::{Check, Failure, LeftBehind, Policy, Record};
use crate::log::{about, about_check};
use crate::net::resolve::Resolver;
use crate::net::{Network, Target};
use crate::probe::check::{self, Loudness};
use crate::probe::{GOODBYE, Probe};

/// After this many lost checks in a row a runner counts as lost itself, and liveness fails.
pub(super) const LOST_AFTER: u32 = 5;

/// How long a check under way at the stop may still take.
const LAST_CHECK: Duration = Duration::from_secs(1);

/// How long a runner takes to end at most: its check, and the goodbye to its server.
pub(super) const LAST_WORDS: Duration = LAST_CHECK.saturating_add(GOODBYE);

/// Makes a dependency's probe, at the start and whenever the last one was lost.
pub(super) type Factory = Arc<dyn Fn() -> Result<Box<dyn Probe>, Failure> + Send + Sync>;

/// What all runners share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) clock: Clock,
    pub(super) updates: mpsc::Sender<Update>,
    pub(super) network: Network,
    pub(super) stop: CancellationToken,
}

/// One dependency's runner.
pub(super) struct Runner {
    /// The dependency's place in the snapshot.
    index: usize,
    record: Record,
    factory: Factory,
    probe: Option<Box<dyn Probe>>,
    /// The name that is watched for new addresses while no checks run.
    watched_name: Option<Target>,
    legacy: Legacy,
    shared: Shared,
}

/// What outlives a runner that panics. Copies are of the same dependency.
#[derive(Debug, Clone, Default)]
pub(super) struct Legacy(Arc<Left>);

#[derive(Debug, Default)]
struct Left {
    /// Checks lost since the last one that ended.
    lost_in_a_row: AtomicU32,
    has_succeeded: AtomicBool,
}

impl Legacy {
    /// One more check was lost: so many in a row.
    pub(super) fn add_loss(&self) -> u32 {
        self.0.lost_in_a_row.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// Whether so many were lost in a row that the runner counts as lost.
    pub(super) fn is_lost(&self) -> bool {
        self.0.lost_in_a_row.load(Ordering::Relaxed) >= LOST_AFTER
    }

    /// Whether a check has ever succeeded, whichever runner made it.
    pub(super) fn has_succeeded(&self) -> bool {
        self.0.has_succeeded.load(Ordering::Relaxed)
    }

    /// A check ended, and all that follows from it was done.
    fn ended(&self, succeeded: bool) {
        self.0.lost_in_a_row.store(0, Ordering::Relaxed);
        self.0.has_succeeded.fetch_or(succeeded, Ordering::Relaxed);
    }
}

/// What became of a check.
enum Course {
    Ended(Box<dyn Probe>, Box<Check>),
    Lost(&'static str),
    Stopped(Option<Box<dyn Probe>>),
}

impl Runner {
    pub(super) fn new(
        index: usize,
        record: Record,
        factory: Factory,
        watched_name: Option<Target>,
        legacy: Legacy,
        shared: Shared,
    ) -> Self {
        Self { index, record, factory, probe: None, watched_name, legacy, shared }
    }

    /// Runs until it is told to stop; then ends its connections.
    pub(super) async fn run(mut self) {
        while self.wait_until_due().await {
            let now = self.shared.clock.now();
            let Some(permit) = self.record.admit(now) else {
                // Cannot be while one check is made at a time; if it is, waiting beats spinning.
                self.record.lost(now, clock::draw());
                continue;
            };
            if permit == Permit::Trial {
                // An open circuit may just have become half open.
                self.publish().await;
            }
            let Some(probe) = self.take_probe() else {
                self.note_lost("its probe could not be made").await;
                continue;
            };
            match self.check(probe, permit).await {
                Course::Ended(probe, check) => {
                    self.probe = Some(probe);
                    self.note_ended(*check).await;
                }
                Course::Lost(why) => self.note_lost(why).await,
                Course::Stopped(probe) => {
                    self.probe = probe;
                    break;
                }
            }
        }
        if let Some(probe) = self.probe.take() {
            probe.close().await;
        }
    }

    /// Waits for the next check; `false` when it is time to stop. While the circuit is open, looks from time
    /// to time whether the name leads elsewhere, as it does after a failover.
    async fn wait_until_due(&mut self) -> bool {
        loop {
            let due = self.shared.clock.instant(self.record.due());
            let watch = self.watched_name.clone().filter(|_| self.record.is_open());
            let look = self.record.policy().interval.max(Duration::from_secs(1));
            tokio::select! {
                biased;
                () = self.shared.stop.cancelled() => return false,
                () = tokio::time::sleep_until(due) => return true,
                found = resolve_after(look, self.shared.network.resolver(), watch.as_ref()), if watch.is_some() => {
                    self.record.resolved_while_open(&found, self.shared.clock.now());
                }
            }
        }
    }

    async fn check(&mut self, mut probe: Box<dyn Probe>, permit: Permit) -> Course {
        let policy = Arc::clone(self.record.policy());
        let give_up = policy.timeout + GRACE;
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
        let result = tokio::select! {
            result = tokio::time::timeout(give_up, &mut task) => result,
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
        };
        match result {
            Ok(Ok((probe, check))) => Course::Ended(probe, Box::new(check)),
            Ok(Err(_panicked)) => Course::Lost("its check panicked"),
            Err(_hangs) => Course::Lost("its check hung beyond its timeout and was ended"),
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
        self.publish().await;
        // Last, so that a runner which panics over what its checks come to is lost like one that has none.
        self.legacy.ended(ok);
    }

    async fn note_lost(&mut self, why: &'static str) {
        let lost_in_a_row = self.legacy.add_loss();
        about!(
            Level::ERROR,
            self.record.policy(),
            lost_in_a_row,
            "a check was lost: {why}; the probe is made anew, and until a check ends the last result grows stale"
        );
        self.record.lost(self.shared.clock.now(), clock::draw());
    }

    async fn publish(&mut self) {
        let view = Arc::new(self.record.view(self.shared.clock.mono()));
        // The registry is gone only when the agent is about to be.
        let _ = self.shared.updates.send(Update::View { index: self.index, view }).await;
    }
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
        (Some(Failure { message, hint, .. }), false) => {
            (Level::WARN, Cow::from(format!("check failed: {}; {hint}", message.trim_end_matches('.'))))
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
