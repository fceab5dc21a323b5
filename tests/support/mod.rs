//! What the integration tests stand on: real servers that live as long as a value does, and faults.
//!
//! - [`postgres`], [`redis`], [`dns`]: throw-away servers on spare ports. Each can stop, start again on the
//!   same port, hang (as a server does whose host is stuck) and wake.
//! - [`pgbouncer`]: a pooler in front of a PostgreSQL.
//! - [`http`]: a scriptable HTTP server. [`tcp`]: peers that refuse, stay silent, stay mute, talk garbage, reset.
//! - [`fake_redis`]: a Redis that misbehaves at one command.
//! - [`certs`]: an authority of our own, and certificates that are good, expired, for another name, of a stranger.
//! - [`agent`]: the built binary, as the agent or as a one-shot command. [`client`]: asks it over HTTP.
//! - [`config`]: configuration files with short timings, and what a check of one comes to.
//! - [`lab`]: a network of three hosts of its own, to be broken.
//! - [`python`]: validators from PyPI that are not ours.
//! - [`wait`]: waits for a condition. No test sleeps to let something happen.
//! - [`hostile`]: configurations that are too large to be kept as files.
//! - [`ports`], [`process`], [`scratch`], [`user`]: what the servers are made of.
//!
//! Nothing outlives the test process, whatever way it ends: see [`scratch`].

pub mod agent;
pub mod certs;
pub mod client;
pub mod config;
pub mod dns;
pub mod fake_redis;
pub mod hostile;
pub mod http;
pub mod lab;
pub mod pgbouncer;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod python;
pub mod redis;
pub mod scratch;
pub mod tcp;
pub mod user;
pub mod wait;
