//! What outlives a runner that panics: for the one that takes its place, and for those who look from outside.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard, mpsc};
use tokio_util::sync::CancellationToken;

use super::registry::Reply;
use crate::health::circuit::Override;
use crate::health::{Monotonic, Order};
use crate::http::NotDone;

/// After this many lost checks in a row a runner counts as lost itself, and liveness fails.
pub(super) const LOST_AFTER: u32 = 5;

/// Orders that may wait for a runner. It takes them at once, but for the second in which it is brought back.
const ORDERS_WAITING: usize = 16;

/// An order on its way to a runner.
#[derive(Debug)]
pub(super) struct Ordered {
    pub(super) order: Order,
    /// Who waits for it. Dropped without an answer only where the runner panics over it.
    pub(super) reply: Reply,
    /// Whether another runner of the same dependency has it, too, which tells it to the log.
    pub(super) is_echo: bool,
}

/// What outlives a runner that panics. Copies are of the same dependency.
#[derive(Debug, Clone)]
pub(super) struct Legacy(Arc<Left>);

#[derive(Debug)]
struct Left {
    /// Checks lost since the last one that ended.
    lost_in_a_row: AtomicU32,
    has_succeeded: AtomicBool,
    /// The last order to hold the circuit or to reset it. Set when it is given, so that no runner can take it to its
    /// grave.
    last_order: Mutex<Option<Order>>,
    /// Locked by a runner for its life.
    orders: AsyncMutex<mpsc::Receiver<Ordered>>,
    /// When a diagnosis last began.
    last_diagnosis: Mutex<Option<Monotonic>>,
    /// Cancelled when a check has ended, and can be seen.
    first_result: CancellationToken,
    /// What those are told whose orders the last runner leaves behind, where it is not the agent that ends.
    ended: OnceLock<NotDone>,
}

impl Legacy {
    /// Nothing yet, and the way to give orders.
    pub(super) fn new() -> (Self, mpsc::Sender<Ordered>) {
        let (sender, orders) = mpsc::channel(ORDERS_WAITING);
        let left = Left {
            lost_in_a_row: AtomicU32::default(),
            has_succeeded: AtomicBool::default(),
            last_order: Mutex::default(),
            orders: AsyncMutex::new(orders),
            last_diagnosis: Mutex::default(),
            first_result: CancellationToken::new(),
            ended: OnceLock::new(),
        };
        (Self(Arc::new(left)), sender)
    }

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
    pub(super) fn ended(&self, succeeded: bool) {
        self.0.lost_in_a_row.store(0, Ordering::Relaxed);
        self.0.has_succeeded.fetch_or(succeeded, Ordering::Relaxed);
        self.0.first_result.cancel();
    }

    /// When a diagnosis last began.
    pub(super) fn last_diagnosis(&self) -> Option<Monotonic> {
        *self.0.last_diagnosis.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A diagnosis begins.
    pub(super) fn diagnosis_begins(&self, now: Monotonic) {
        *self.0.last_diagnosis.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    /// Is over when the first check has ended, and can be seen.
    pub(super) fn first_result(&self) -> &CancellationToken {
        &self.0.first_result
    }

    /// The orders, for the runner of the moment.
    pub(super) async fn orders(&self) -> AsyncMutexGuard<'_, mpsc::Receiver<Ordered>> {
        self.0.orders.lock().await
    }

    /// An order is being given.
    pub(super) fn note(&self, order: &Order) {
        match order {
            Order::Hold(_) | Order::Reset(_) => *self.slot() = Some(order.clone()),
            Order::Check => {}
        }
    }

    /// The runner is about to be told to end, with this answer for those who still wait for it.
    pub(super) fn end_with(&self, answer: NotDone) {
        // Nobody ends one twice.
        let _ = self.0.ended.set(answer);
    }

    /// What those are told who still wait for a runner that ends.
    pub(super) fn last_answer(&self) -> NotDone {
        self.0.ended.get().copied().unwrap_or(NotDone::Stopping)
    }

    /// The override that the orders given so far come to.
    pub(super) fn held(&self, now: Monotonic) -> Option<Arc<Override>> {
        match &*self.slot() {
            Some(Order::Hold(over)) => Some(Arc::clone(over)).filter(|over| over.expires.mono > now),
            _ => None,
        }
    }

    fn slot(&self) -> MutexGuard<'_, Option<Order>> {
        self.0.last_order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
