//! What an operator does to a circuit by hand.

use std::fmt;
use std::time::Duration;

use super::State;
use crate::health::{Monotonic, Now, WallTime, closed_set};

/// An override ends after this long where nothing else is said.
pub const FOR_BY_DEFAULT: Duration = Duration::from_secs(3600);

/// An override ends after this long at most: what somebody forgot must not last.
pub const FOR_AT_MOST: Duration = Duration::from_secs(24 * 3600);

closed_set! {
    /// How a circuit is held.
    pub enum Mode {
        /// Open: no checks are made, and the dependency is `down`.
        ForcedOpen = "forced_open",
        /// Closed: checks go on, and the dependency is `degraded` at worst.
        ForcedClosed = "forced_closed",
    }
}

impl Mode {
    /// The state that it is held in.
    pub const fn state(self) -> State {
        match self {
            Self::ForcedOpen => State::Open,
            Self::ForcedClosed => State::Closed,
        }
    }
}

closed_set! {
    /// Whether a dependency that is forced open counts for the answers that it would gate.
    pub enum Readiness {
        /// It does: the task is not ready.
        Count = "count",
        /// It gates nothing.
        Ignore = "ignore",
    }
}

/// Who did it: the name of a token, or the address of a client.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Actor(std::sync::Arc<str>);

impl Actor {
    /// One of this name.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An operator holds a circuit in a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// In which.
    pub mode: Mode,
    /// Why, in the operator's words.
    pub reason: String,
    /// Who.
    pub actor: Actor,
    /// Since when; it may have been before this process began.
    pub since: WallTime,
    /// Until when.
    pub expires: Now,
    /// Whether the dependency counts for readiness while it is forced open; one that is forced closed always does.
    pub readiness: Readiness,
}

impl Override {
    /// Whether its dependency is held open and gates nothing meanwhile.
    pub fn is_ignored(&self) -> bool {
        self.mode == Mode::ForcedOpen && self.readiness == Readiness::Ignore
    }

    /// Whether its time is over: from the very moment that it expires at.
    pub fn is_over(&self, now: Monotonic) -> bool {
        self.expires.mono <= now
    }
}
