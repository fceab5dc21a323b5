//! The running agent: a [`runner`] per dependency makes checks and moves its record on; the [`registry`]
//! gathers what they found into the snapshot that everybody reads; [`app`] builds, binds, spawns, and sees to
//! it that all of it ends well. [`runners`] gives them orders ([`operations`]) and replaces them where a new configuration
//! ([`reload`]) wants it; [`keeper`] keeps what operators hold beyond a restart, [`diagnosing`] finds
//! out why checks fail. Requests are answered on a thread of their own ([`answering`]).

mod answering;
pub mod app;
mod aside;
mod diagnosing;
mod keeper;
mod legacy;
mod limits;
mod operations;
mod registry;
mod reload;
mod runner;
mod runners;
mod shutdown;
mod supervisor;
mod task;
#[cfg(test)]
mod tests;

pub use app::{Ended, StartError};
pub(crate) use shutdown::Signals;
