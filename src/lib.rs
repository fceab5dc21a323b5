//! Sickbay: a health and diagnostics sidecar for Amazon ECS.
//!
//! The modules in reading order:
//!
//! - [`health`]: the pure core. What a check found, what that does to a circuit, what may be answered.
//! - [`config`]: YAML and environment become a validated plan, or a list of all errors.
//! - [`net`]: the one road out. Names, sockets, TLS; every phase timed and bounded.
//! - [`probe`]: one file per kind of dependency, each speaking over a stream that `net` made.
//! - [`diagnose`]: the path report. Evidence hop by hop, and the rules that judge it.
//! - [`ecs`]: what ECS tells a task about itself.
//! - [`agent`]: a runner per dependency, the registry of what they found, supervision, shutdown.
//! - [`http`]: the endpoints. They read a snapshot and never probe.
//! - [`cli`]: one file per subcommand.
//! - [`clock`]: the only place that reads a clock or draws a random number; [`files`]: the one way to read a file
//!   that a configuration names; [`log`]: what stands in every line about a dependency; [`version`]: what this
//!   build is.
//!
//! Imports run one way only; `tests/integration/imports.rs` holds the table in `docs/architecture.md`.

#![allow(rustdoc::private_intra_doc_links, reason = "the docs are built for maintainers, with private items")]

pub mod agent;
pub mod cli;
pub mod clock;
pub mod config;
pub mod diagnose;
pub mod ecs;
pub mod files;
pub mod health;
pub mod http;
pub mod log;
pub mod net;
pub mod probe;
pub mod version;
