//! Brings a runner back that panicked.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tracing::Level;

use super::legacy::Legacy;
use super::registry::RunnerId;
use super::runner::{Means, Runner, Shared};
use crate::clock;
use crate::health::Record;
use crate::log::about;

/// A runner that panicked comes back after this long.
pub(super) const RESPAWN_AFTER: Duration = Duration::from_secs(1);

/// Keeps a dependency's runner running. It ends by itself only when told to; if it panics, another one takes its
/// place. That one has all to learn but whether the dependency has ever come up: `/health/startup` must not
/// take back what it said, nor `/health/alb` blame the deployment for what comes later. And what an operator ordered
/// holds on.
pub(super) async fn keep_running(id: RunnerId, record: Record, means: Means, legacy: Legacy, shared: Shared) {
    let policy = Arc::clone(record.policy());
    let mut record = record;
    loop {
        let runner = Runner::new(id, record, means.clone(), legacy.clone(), shared.clone());
        // A set ends what is in it when it is dropped: who ends the supervisor ends the runner.
        let mut task = JoinSet::new();
        task.spawn(runner.run());
        let Some(Err(error)) = task.join_next().await else { return };
        if !error.is_panic() {
            return;
        }
        let lost_in_a_row = legacy.add_loss();
        about!(Level::ERROR, &policy, lost_in_a_row, "the runner panicked and is respawned");
        tokio::time::sleep(RESPAWN_AFTER).await;
        let (policy, now) = (Arc::clone(&policy), shared.clock.now());
        record = match legacy.has_succeeded() {
            true => Record::that_succeeded_before(policy, now, clock::draw()),
            false => Record::new(policy, now, clock::draw()),
        };
        if let Some(over) = legacy.held(now.mono) {
            record.hold(over, now);
        }
    }
}
