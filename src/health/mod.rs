//! The pure core: what a check found, what that does to a circuit, and what the service may answer.
//!
//! Nothing in here does I/O, reads a clock, draws a random number, logs, or knows a serialisation format.
//! Time comes in as [`Now`], chance as [`Fraction`]; what goes out are plain values. So everything that
//! decides whether a load balancer keeps a task is tested without a socket and without waiting.
//!
//! In reading order: [`dependency`] (what is watched) → [`outcome`] (what one check found) → [`circuit`],
//! [`backoff`], [`schedule`], [`window`], [`history`], [`whereabouts`] (what is remembered of checks) → [`record`] (all of that
//! for one dependency) → [`snapshot`] (what readers see of all of them) → [`verdict`] (what is answered).
//! [`diagnosis`] is what was found out about a failure, [`outage`] which failures that explains, [`task`] where this
//! process runs.

pub mod backoff;
pub mod circuit;
pub mod dependency;
pub mod diagnosis;
pub mod failure_kind;
pub mod history;
pub mod observation;
pub mod order;
pub mod outage;
pub mod outcome;
pub mod record;
pub mod schedule;
pub mod snapshot;
#[cfg(test)]
mod stampede;
pub mod task;
#[cfg(test)]
pub(crate) mod test_support;
pub mod time;
#[cfg(test)]
mod timelines;
pub mod verdict;
pub mod whereabouts;
pub mod window;

pub use dependency::{DependencyName, Impact, Kind, Policy, Scope};
pub use diagnosis::{Cause, Confidence, Diagnosis, Hop, HopKind, Verdict};
pub use failure_kind::FailureKind;
pub use observation::{Details, Observation, PoolStats, ResolverStats, TlsDetails};
pub use order::Order;
pub use outage::{FailureId, OutageId, Unexplained};
pub use outcome::{Check, CheckId, Failure, LeftBehind, Outcome, Phase, PhaseTimes};
pub use record::Record;
pub use snapshot::{DependencyView, ServiceStatus, Snapshot, Status};
pub use task::{Task, TaskNetwork};
pub use time::{Fraction, Monotonic, Now, WallTime};

/// Declares a closed set of names: an enum, its members in order, and the one spelling each has everywhere
/// (YAML, JSON, logs, metrics).
macro_rules! closed_set {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$vmeta:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        $vis enum $name { $($(#[$vmeta])* $variant,)+ }

        impl $name {
            /// Every member, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The one spelling, as it stands in YAML, JSON, logs and metrics.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// The member with this spelling.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)+ _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}
pub(crate) use closed_set;
