//! Asks, once and beside everything else, where this process runs.

use std::sync::Arc;
use std::time::Duration;

use crate::config::Env;
use crate::ecs::metadata::{Endpoint, VARIABLE};
use crate::health::Task;

/// Pauses before it is asked again: the endpoint may come up after its containers, or be busy with them.
const PAUSES: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(16),
];

/// Reads the task's metadata, where there are any, and tells them.
pub(super) async fn tell(env: &Env, told: impl FnOnce(Arc<Task>)) {
    let Some(uri) = env.get(VARIABLE).filter(|uri| !uri.is_empty()) else { return };
    let endpoint = match Endpoint::parse(&uri.to_string_lossy()) {
        Ok(endpoint) => endpoint,
        Err(error) => return tracing::warn!("the task's metadata are not read: {error}"),
    };
    let mut pauses = PAUSES.into_iter();
    loop {
        match (endpoint.task().await, pauses.next()) {
            (Ok(task), _) => return told(Arc::new(task)),
            (Err(error), Some(pause)) => {
                tracing::debug!("the task's metadata cannot be read yet: {error}");
                tokio::time::sleep(pause).await;
            }
            (Err(error), None) => {
                return tracing::warn!(
                    "the task's metadata cannot be read from {VARIABLE}: {error}; `task` in /health/detailed stays null, \
                     and no diagnosis knows the task's subnet"
                );
            }
        }
    }
}
