//! What operators order, beside the schedule.

use std::sync::Arc;

use super::circuit::{Actor, Override};

/// What is to be done with one dependency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Hold its circuit.
    Hold(Arc<Override>),
    /// Forget an override, and what happened in a row; see [`Circuit::reset`](super::circuit::Circuit::reset).
    Reset(Actor),
    /// Make a check now; where one is under way, that is the one.
    Check,
}
