//! What is done for operators, by others.

use futures_util::future::BoxFuture;

use crate::health::{DependencyName, Order};

/// Whoever carries orders out.
pub trait Operations: Send + Sync {
    /// Carries an order out. It is done, and the snapshot shows it, when the future ends: at once, but for a check, which
    /// takes as long as it takes. A future that is dropped takes nothing back.
    fn carry_out(&self, dependency: &DependencyName, order: Order)
    -> BoxFuture<'static, Result<(), NotDone>>;
}

/// Why an order was not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotDone {
    /// There is no dependency of this name, or not any more.
    Unknown,
    /// The dependency is disabled: nothing is ever done with it.
    Disabled,
    /// The circuit is held open, so that no check is made.
    HeldOpen,
    /// The check was lost: it panicked, or hung beyond its timeout. It is told in the log.
    CheckLost,
    /// A new configuration took effect meanwhile, with other settings for the dependency: what was under way was cut
    /// off.
    Replaced,
    /// Whoever watches the dependency panicked and is being brought back, and takes no more orders until then.
    Busy,
    /// The agent is being stopped.
    Stopping,
}
