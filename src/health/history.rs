//! The checks that are remembered. Failures outlive successes: after an hour of health, the evidence of the
//! outage before it is still there.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Check;

/// Checks kept whatever they came to.
pub const RECENT_KEPT: usize = 20;
/// Failed checks kept after they left the recent ones.
pub const FAILURES_KEPT: usize = 30;

/// The remembered checks of one dependency.
#[derive(Debug, Clone, Default)]
pub struct History {
    recent: VecDeque<Arc<Check>>,
    /// Failures older than everything in `recent`.
    failures: VecDeque<Arc<Check>>,
}

impl History {
    /// Remembers a check, and forgets the oldest where there are too many.
    pub fn push(&mut self, check: Arc<Check>) {
        self.recent.push_back(check);
        if self.recent.len() <= RECENT_KEPT {
            return;
        }
        let Some(evicted) = self.recent.pop_front().filter(|check| !check.ok()) else { return };
        self.failures.push_back(evicted);
        if self.failures.len() > FAILURES_KEPT {
            self.failures.pop_front();
        }
    }

    /// The remembered checks, newest first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Check>> {
        self.recent.iter().rev().chain(self.failures.iter().rev())
    }
}
