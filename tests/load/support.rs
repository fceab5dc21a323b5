//! The servers of the integration tests, and what they are made of. Not their agent: that is built for tests.

#[path = "../support/certs.rs"]
pub mod certs;
#[path = "../support/client.rs"]
pub mod client;
#[path = "../support/dns.rs"]
pub mod dns;
#[path = "../support/http.rs"]
pub mod http;
#[path = "../support/ports.rs"]
pub mod ports;
#[path = "../support/postgres.rs"]
pub mod postgres;
#[path = "../support/process.rs"]
pub mod process;
#[path = "../support/redis.rs"]
pub mod redis;
#[path = "../support/scratch.rs"]
pub mod scratch;
#[path = "../support/tcp.rs"]
pub mod tcp;
#[path = "../support/user.rs"]
pub mod user;
#[path = "../support/wait.rs"]
pub mod wait;
