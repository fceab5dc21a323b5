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

mod imports;
mod support_works;
