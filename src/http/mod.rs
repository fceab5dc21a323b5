//! The endpoints. They read the snapshot and answer in constant time: no request makes a check, waits for one,
//! or does any other I/O.
//!
//! [`server`] accepts connections → [`routes`] knows paths and methods → [`answers`] gives the short answers,
//! whose bytes are made once per snapshot → [`wire`] gives JSON its shapes.

mod answers;
mod correlation;
mod routes;
mod server;
mod state;
mod wire;

pub use routes::Serves;
pub use server::{GRACE, connections_max, listeners, serve};
pub use state::{Pulses, State};
pub use wire::check_report;
