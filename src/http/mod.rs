//! The endpoints. They read the snapshot: no `GET` makes a check, waits for one, or does any other I/O.
//!
//! [`server`] accepts → [`connections`] bounds how many there are, and for how long → [`service`] answers health
//! questions at once, in constant time, from [`answers`], whose bytes are made when the snapshot changes → long answers
//! (over HTTP/1 only) are made in [`turns`], and [`room`] bounds how much of them waits for clients to take it →
//! [`routes`] knows paths and methods → [`wire`] gives JSON its shapes. [`counts`] tells who was sent away.
//!
//! What changes something comes by `POST`: [`orders`] judges it, [`auth`] says who may ([`throttle`] has those wait who
//! guess), [`operations`] is who does it, and [`audit`] tells the log of it.

mod answers;
mod audit;
mod auth;
mod connections;
mod correlation;
mod counts;
mod openapi;
mod operations;
mod orders;
mod query;
mod room;
mod routes;
mod server;
mod service;
mod state;
mod throttle;
mod turns;
mod wire;

pub use operations::{NotDone, Operations};
pub use routes::Serves;
pub use server::{GRACE, connections_max, listeners, serve};
pub use state::{ConfigStatus, Pulses, State};
pub use wire::{check_report, diagnosis_report};
