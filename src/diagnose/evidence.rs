//! What was seen on the way: plain values, gathered by the modules beside this one and judged by
//! [`rules`](super::rules). Everything a rule may rest on stands here; nothing here does I/O.
//!
//! Texts of peers are in here as they may be told: short, printable, without secrets.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::config::plan::{Nameserver, RecordType, Role, Verify};
use crate::health::{Details, Failure, Kind, PhaseTimes, Task, WallTime, closed_set};
pub use crate::net::attempt::{Try, TryEnd};
pub use crate::net::icmp::Icmp;
pub use crate::net::resolve::ResolverSeen;
pub use crate::net::route::{Neighbour, Route, RouteEntry};
pub use crate::net::tls::{CertificateProblem, CertificateSeen, TlsSeen};

/// All that is known of one path.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// What was looked for.
    pub subject: Subject,
    /// How its name was resolved; `None` for an address.
    pub names: Option<Names>,
    /// The way to each of its addresses, in the order in which a check tries them. Empty for a name that leads
    /// nowhere, and for kind `dns`.
    pub paths: Vec<Path>,
    /// Its TLS; `None` where none is spoken, or it was not got that far.
    pub tls: Option<TlsSeen>,
    /// The first exchange without credentials; `None` where it was not got that far.
    pub words: Option<Words>,
    /// The exchange that went unanswered, repeated with small segments; `None` where there was no reason to.
    pub small_segments: Option<SmallSegments>,
    /// What a check, one attempt of it, came to. Where the path ends before one can be made, the failure of the hop at
    /// which it ends, as a check would tell it; so there is a failure wherever the path does not work. `None` only while
    /// the evidence is being gathered.
    pub attempt: Option<Attempt>,
    /// What the dependency told when it last worked; only an agent knows that.
    pub before: Option<Details>,
    /// Where this process runs, where ECS tells.
    pub task: Option<Task>,
    /// Whether the time was over before all was seen.
    pub cut_short: bool,
    /// When it was gathered; without it no days are counted.
    pub at: Option<WallTime>,
}

/// What was looked for.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Its name in the configuration; `None` for a target of the command line.
    pub dependency: Option<String>,
    /// What it is taken to be.
    pub kind: Kind,
    /// What it speaks, where the kind or the port tells; `None` for a port that could be anything's.
    pub speaks: Option<Speaks>,
    /// Name or address; for kind `dns` the name asked for.
    pub host: String,
    /// The port; 0 for kind `dns`.
    pub port: u16,
    /// For people: `db.internal:5432/mlflow_db`.
    pub target: String,
    /// Its user, where it has one that may be shown.
    pub user: Option<String>,
    /// Its database, where it has one that may be shown.
    pub database: Option<String>,
    /// How TLS is wanted.
    pub tls: TlsWanted,
    /// The role that is expected; `Any` where there are none.
    pub role: Role,
    /// Where its addresses are expected to be (`expect.addresses` of kind `dns`); empty: anywhere.
    pub expected_addresses: Vec<IpNet>,
    /// The hosts of other dependencies: what a misspelt name may have been meant to be.
    pub other_hosts: Vec<String>,
    /// How long one connection attempt may take.
    pub connect_timeout: Duration,
    /// The record type that kind `dns` asks for; `None` for addresses of both families, as all other kinds want.
    pub record: Option<RecordType>,
    /// The servers that kind `dns` asks; empty for all other kinds, which ask the system's.
    pub nameservers: Vec<Nameserver>,
}

closed_set! {
    /// Protocols that can be told apart by a first exchange.
    pub enum Speaks {
        /// PostgreSQL.
        Postgres = "PostgreSQL",
        /// Redis.
        Redis = "Redis",
        /// HTTP in clear text.
        Http = "HTTP",
        /// TLS, whatever is in it.
        Tls = "TLS",
        /// SSH.
        Ssh = "SSH",
        /// MySQL.
        Mysql = "MySQL",
        /// SMTP.
        Smtp = "SMTP",
    }
}

/// How TLS is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsWanted {
    /// Not at all.
    No,
    /// Where the server has it (`sslmode: prefer`).
    IfOffered,
    /// Always.
    Yes {
        /// What is verified.
        verify: Verify,
        /// The authorities, where they are not the system's.
        root_cert: Option<PathBuf>,
    },
}

/// How a name was resolved.
#[derive(Debug, Clone)]
pub struct Names {
    /// The name as configured.
    pub name: String,
    /// The configuration that it is resolved by.
    pub resolver: ResolverSeen,
    /// The answer that a check would go by; it may come from the hosts file.
    pub answer: Result<NameAnswer, Failure>,
    /// How long that took.
    pub took: Duration,
    /// What each name server said when it was asked alone, for the name as it was found in the end.
    pub by_server: Vec<ServerAnswer>,
    /// The nearest ancestor of a missing name that exists: `internal` for `db.internal`.
    pub nearest_ancestor: Option<String>,
    /// Names that are spelt nearly so, and that resolve.
    pub near: Vec<String>,
    /// Another name that a server which refused this one was asked for, and whether it refused that, too; `None` where
    /// none refused, or there was no other name, no room, or no answer.
    pub refused_too: Option<(String, bool)>,
    /// The answer at the end of the diagnosis, where it differs from the first one.
    pub later: Option<Result<NameAnswer, Failure>>,
    /// Whether the first answer came again after that.
    pub takes_turns: bool,
}

/// What a name leads to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NameAnswer {
    /// Its addresses (for another record type than an address none), IPv4 before IPv6.
    pub addresses: Vec<IpAddr>,
    /// The records as text, of a type that is no address.
    pub records: Vec<String>,
    /// The aliases on the way, in order.
    pub aliases: Vec<String>,
    /// The shortest time to live on the way.
    pub ttl_seconds: Option<u32>,
    /// The name that was found in the end: another one than asked for where a suffix of the search list was added.
    pub found_as: String,
    /// Whether it stands in the hosts file, so that no server was asked.
    pub from_hosts_file: bool,
}

/// What one name server said.
#[derive(Debug, Clone)]
pub struct ServerAnswer {
    /// The server.
    pub server: SocketAddr,
    /// How long it took.
    pub took: Duration,
    /// Its answer.
    pub answer: Result<NameAnswer, Failure>,
}

/// The way to one address.
#[derive(Debug, Clone)]
pub struct Path {
    /// Where to.
    pub address: SocketAddr,
    /// By which way.
    pub route: Route,
    /// The connections tried, in order; the first one is what a check would do.
    pub tries: Vec<Try>,
    /// One to another port of the same host, on which nobody is likely to listen.
    pub contrast: Option<Try>,
}

/// A first exchange without credentials.
#[derive(Debug, Clone)]
pub struct Words {
    /// What was asked first; `None` where it was only listened.
    pub asked: Option<Speaks>,
    /// What came.
    pub heard: Heard,
    /// How long that took.
    pub took: Duration,
    /// The same in other protocols, asked because the first answer was none of its own.
    pub others: Vec<(Speaks, Heard)>,
    /// What listens there, as far as its answers tell.
    pub is: Option<Speaks>,
}

/// What a peer said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Nothing, until the time was over.
    Nothing,
    /// It was not asked, for this reason: there was no connection in time. That tells nothing of what it would have said.
    NotAsked(String),
    /// It closed the connection, politely, without a word.
    Closed,
    /// It cut the connection (`ECONNRESET`).
    Cut,
    /// This, shortened: `HTTP/1.1 400 Bad Request`, `+PONG`, `-NOAUTH Authentication required.`, `S`.
    Said(String),
}

/// Whether what went unanswered is answered where all segments are small, as they are over any way: then the way, and not
/// the server, swallows large packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmallSegments {
    /// The largest segment that was allowed, in bytes.
    pub segment: u16,
    /// What was tried: `the TLS handshake`.
    pub what: String,
    /// Tries with large segments that went unanswered.
    pub large_silent: u32,
    /// Tries with large segments that were answered.
    pub large_answered: u32,
    /// Tries with small segments that were answered.
    pub small_answered: u32,
    /// Tries with small segments that went unanswered.
    pub small_silent: u32,
}

/// One attempt of a check.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// What it came to.
    pub result: Result<(), Failure>,
    /// How long each phase took.
    pub phases: PhaseTimes,
    /// The address that it was made to.
    pub address: Option<SocketAddr>,
    /// What the dependency told of itself, also where it failed after that.
    pub details: Details,
    /// What it warned of.
    pub warnings: Vec<String>,
    /// Whether it was not over when our own time was: its failure tells nothing of the peer.
    pub cut_short: bool,
}

impl Evidence {
    /// Of a subject of which nothing has been seen yet.
    pub fn nothing_yet(subject: Subject) -> Self {
        Self {
            subject,
            names: None,
            paths: Vec::new(),
            tls: None,
            words: None,
            small_segments: None,
            attempt: None,
            before: None,
            task: None,
            cut_short: false,
            at: None,
        }
    }

    /// Whether a check has gone the whole path. Not so while the evidence is being gathered, or where the time was over
    /// before a check was made.
    pub fn works(&self) -> bool {
        self.attempt.as_ref().is_some_and(|attempt| attempt.result.is_ok())
    }

    /// Why the check failed, where it did.
    pub fn failure(&self) -> Option<&Failure> {
        self.attempt.as_ref()?.result.as_ref().err()
    }
}
