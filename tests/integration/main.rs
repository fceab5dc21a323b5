//! The integration tests: one binary, real servers, real sockets, real faults.
//!
//! Each test starts its own servers, so that they run in parallel and in any order.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test fails; clippy.toml allows it inside #[test] only, not in what tests share"
)]
#![allow(
    dead_code,
    unreachable_pub,
    reason = "`support` is a library to the tests: whole, and with public items"
)]

#[path = "../support/mod.rs"]
mod support;

mod agent;
mod background_diagnosis;
mod circuit_command;
mod circuit_life;
mod cli;
mod config_errors;
mod diagnose_command;
mod diagnoser;
mod diagnosis;
mod dns;
mod docs;
mod endpoints;
mod failure_kinds;
mod fallbacks;
mod history;
mod http_2;
mod http_probe;
mod imports;
mod inspection;
mod lab_works;
mod names;
mod openapi;
mod orders;
mod outages;
mod overrides;
mod postgres;
mod redis;
mod reload;
mod rude_clients;
mod secrets;
mod support_works;
mod tcp;
mod tls;
mod wait;
