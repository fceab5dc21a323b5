//! The validated configuration. Every value is resolved, every rule has been checked; nothing past `config/`
//! sees anything else. Fields are private to `config/`: a plan cannot be made but by validation.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use url::Url;

use super::effective::{self, View};
use super::percent::Percent;
use super::rate::Rate;
use super::secret::Secret;
use super::token::{Digest, Verb};
use crate::files::Seen;
use crate::health::{Policy, closed_set};

/// Declares a struct whose fields only `config/` can set and everybody can read by a method of the same name.
macro_rules! plan {
    ($(#[$meta:meta])* $name:ident { $($(#[$fmeta:meta])* $field:ident: $type:ty,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name { $(pub(in crate::config) $field: $type,)+ }

        impl $name {
            $($(#[$fmeta])* pub fn $field(&self) -> &$type { &self.$field })+
        }
    };
}

/// The whole configuration.
#[derive(Debug, Clone)]
pub struct Plan {
    pub(in crate::config) service: ServicePlan,
    pub(in crate::config) server: ServerPlan,
    pub(in crate::config) log: LogPlan,
    pub(in crate::config) resolver: ResolverPlan,
    pub(in crate::config) dependencies: Vec<DependencyPlan>,
    pub(in crate::config) warnings: Vec<String>,
    pub(in crate::config) files: Vec<Seen>,
    pub(in crate::config) view: View,
}

impl Plan {
    /// What is called how.
    pub fn service(&self) -> &ServicePlan {
        &self.service
    }

    /// What listens where.
    pub fn server(&self) -> &ServerPlan {
        &self.server
    }

    /// What is logged.
    pub fn log(&self) -> &LogPlan {
        &self.log
    }

    /// How names are resolved.
    pub fn resolver(&self) -> &ResolverPlan {
        &self.resolver
    }

    /// What is watched, in the order of the configuration; names are unique.
    pub fn dependencies(&self) -> &[DependencyPlan] {
        &self.dependencies
    }

    /// What is allowed and probably not meant; to be told once at the start.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The files that it was read from, as they were then: those of the configuration, and those behind `${file:…}`.
    pub fn files(&self) -> &[Seen] {
        &self.files
    }

    /// The effective configuration in the shape of the YAML: every default resolved, durations as `10s`,
    /// secrets as `"***"` where there is one and null where there is none. It holds no secret.
    pub fn effective(&self) -> &serde_json::Value {
        &self.view.values
    }

    /// The same as the text of a configuration file, which means the same if it is read, but for the secrets.
    pub fn as_file(&self) -> String {
        effective::as_file(&self.view.values)
    }

    /// Calls `each` with every setting of [`Self::effective`], in order: its path, its value, and where it comes from, as
    /// [`Self::origins`] has it. A list is one setting, unless it is a list of maps.
    pub fn each_setting(&self, mut each: impl FnMut(String, &serde_json::Value, &str)) {
        effective::settings(&self.view.values, String::new(), &mut |path, value| {
            let origin = self.view.origins.get(&path).map(String::as_str).unwrap_or_default();
            each(path, value, origin);
        });
    }

    /// Where each setting of [`Self::effective`] comes from, by its path (`dependencies.database.port`):
    /// `default`, `file production.yaml`, `variable DATABASE_PORT`, `flag --listen`. Of a dependency that is
    /// disabled, `enabled` has the reason.
    pub fn origins(&self) -> &BTreeMap<String, String> {
        &self.view.origins
    }
}

plan! {
    /// What is called how.
    ServicePlan {
        /// The service's name in metrics, events and JSON.
        name: String,
        /// The environment's name in metrics, events and JSON.
        environment: String,
    }
}

plan! {
    /// What listens where.
    ServerPlan {
        /// The load balancer's listener.
        listen: SocketAddr,
        /// A second listener, to which the operators' endpoints move.
        operator_listen: Option<SocketAddr>,
        /// The token that may do everything, called [`ADMIN`](super::token::ADMIN).
        admin_token: Option<TokenPlan>,
        /// Others; names and tokens of all are unique.
        admin_tokens: Vec<TokenPlan>,
        /// Whether the operators' endpoints want a token that may [`read`](Verb::Read); then there is one.
        require_token_for_reads: bool,
        /// A folder in which overrides survive a restart; `None`: they end with the agent.
        state_dir: Option<PathBuf>,
        /// How long answers go on after SIGTERM.
        drain: Duration,
    }
}

impl ServerPlan {
    /// All tokens; without one, what changes something answers 401.
    pub fn tokens(&self) -> impl Iterator<Item = &TokenPlan> {
        self.admin_token.iter().chain(&self.admin_tokens)
    }
}

plan! {
    /// A bearer token.
    TokenPlan {
        /// Who has it.
        name: String,
        /// What it is known by.
        digest: Digest,
        /// Whether the configuration has its digest in its place.
        hashed: bool,
        /// What may be done with it; at least one thing.
        allow: Vec<Verb>,
    }
}

plan! {
    /// What is logged.
    LogPlan {
        /// A filter as [`log_filter`](super::log_filter) reads it: `info`, `sickbay=debug,warn`.
        filter: String,
        /// How; `None`: text on a terminal, else JSON.
        format: Option<LogFormat>,
    }
}

plan! {
    /// How names are resolved.
    ResolverPlan {
        /// The servers to ask; empty: those of `/etc/resolv.conf`.
        nameservers: Vec<SocketAddr>,
        /// Packets to name servers per second at most, over all dependencies.
        packets_per_second: NonZeroU32,
    }
}

closed_set! {
    /// How a log line looks.
    pub enum LogFormat {
        /// One JSON object a line.
        Json = "json",
        /// For people.
        Text = "text",
    }
}

plan! {
    /// One dependency.
    DependencyPlan {
        /// The rules that the core goes by.
        policy: Arc<Policy>,
        /// Each connection attempt; at most the check's timeout.
        connect_timeout: Duration,
        /// Whether the agent looks for why a check of it failed.
        diagnose_on_failure: bool,
        /// How it is asked; `None` for a disabled one whose target is not known.
        probe: Option<ProbePlan>,
        /// What of its settings was read from secret files, and so must not be shown whatever field it stands in.
        from_secret_files: Vec<Secret>,
    }
}

/// How a dependency is asked.
#[derive(Debug, Clone, PartialEq)]
pub enum ProbePlan {
    /// A PostgreSQL server.
    Postgres(PostgresPlan),
    /// A Redis server.
    Redis(RedisPlan),
    /// A name.
    Dns(DnsPlan),
    /// A port.
    Tcp(TcpPlan),
    /// An HTTP service.
    Http(HttpPlan),
}

closed_set! {
    /// `sslmode` as libpq has it, without `allow`.
    pub enum SslMode {
        /// Never TLS.
        Disable = "disable",
        /// TLS where there can be a session with it, and none otherwise; unverified, or what comes to the same.
        Prefer = "prefer",
        /// TLS; unverified, but for the chain where authorities are named.
        Require = "require",
        /// TLS; the chain is verified.
        VerifyCa = "verify-ca",
        /// TLS; chain and host name are verified.
        VerifyFull = "verify-full",
    }
}

closed_set! {
    /// The role a server should have.
    pub enum Role {
        /// Whichever.
        Any = "any",
        /// It takes writes.
        Primary = "primary",
        /// It follows a primary.
        Replica = "replica",
    }
}

closed_set! {
    /// What of a certificate is verified.
    pub enum Verify {
        /// Chain and host name.
        Full = "full",
        /// The chain alone.
        Ca = "ca",
        /// Nothing.
        None = "none",
    }
}

plan! {
    /// TLS towards a dependency.
    TlsPlan {
        /// What is verified.
        verify: Verify,
        /// A PEM file of the authorities to trust instead of the system's.
        root_cert: Option<PathBuf>,
    }
}

plan! {
    /// How a PostgreSQL server is asked.
    PostgresPlan {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
        /// Database.
        database: String,
        /// User.
        user: String,
        /// Password, where one is needed.
        password: Option<Secret>,
        /// TLS.
        sslmode: SslMode,
        /// A PEM file of the authorities to trust instead of the system's.
        root_cert: Option<PathBuf>,
        /// The expected role.
        role: Role,
        /// Never more connections than this.
        pool_max: NonZeroU32,
        /// Every so many checks a new connection is made; the others use the one that is open.
        reconnect_every: NonZeroU32,
        /// Bounds that make it `degraded`.
        warn: PostgresWarnPlan,
        /// Queries that are asked besides; their names differ.
        queries: Vec<QueryPlan>,
    }
}

impl PostgresPlan {
    /// What of the server's certificate is verified; `None` where TLS is never spoken.
    pub fn verify(&self) -> Option<Verify> {
        match (self.sslmode, &self.root_cert) {
            (SslMode::Disable, _) => None,
            (SslMode::Prefer | SslMode::Require, None) => Some(Verify::None),
            // As libpq does, "for backwards compatibility"; an application that uses it is refused otherwise, too.
            (SslMode::Prefer | SslMode::Require, Some(_)) | (SslMode::VerifyCa, _) => Some(Verify::Ca),
            (SslMode::VerifyFull, _) => Some(Verify::Full),
        }
    }
}

plan! {
    /// What is warned of at a PostgreSQL server; `None`: never.
    PostgresWarnPlan {
        /// More than this share of the connections that an ordinary role can have are in use.
        connections_used: Option<Percent>,
        /// A replica is further behind its primary.
        replication_lag: Option<Duration>,
        /// A transaction is open for longer.
        longest_transaction: Option<Duration>,
    }
}

closed_set! {
    /// What it means that a query is not answered as it should be.
    pub enum OnFailure {
        /// The check fails.
        Fail = "fail",
        /// The dependency is `degraded`.
        Warn = "warn",
    }
}

/// The value that a query should have.
#[derive(Debug, Clone, PartialEq)]
pub enum Expected {
    /// This number, however it is written.
    Number(f64),
    /// This text.
    Text(String),
}

plan! {
    /// A query, and what its value should be. It has an expected value or at least one bound; a lower bound is not
    /// above its upper one.
    QueryPlan {
        /// How it is called.
        name: String,
        /// One statement, without a semicolon at its end.
        sql: String,
        /// The value that it should have.
        expect: Option<Expected>,
        /// The least that it may be.
        min: Option<f64>,
        /// The most that it may be.
        max: Option<f64>,
        /// Less is warned of.
        warn_min: Option<f64>,
        /// More is warned of.
        warn_max: Option<f64>,
        /// What it means that it is another, or that there is none.
        on_failure: OnFailure,
    }
}

plan! {
    /// How a Redis server is asked.
    RedisPlan {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
        /// ACL user; `None`: the default user.
        username: Option<String>,
        /// Password, where one is needed.
        password: Option<Secret>,
        /// TLS, where it is spoken.
        tls: Option<TlsPlan>,
        /// The expected role.
        role: Role,
        /// Every so many checks a new connection is made; the others use the one that is open.
        reconnect_every: NonZeroU32,
        /// What is warned of.
        warn: RedisBounds,
    }
}

plan! {
    /// Beyond these, a Redis server is `degraded`; `None` where nothing is warned of.
    RedisBounds {
        /// Memory in use, of its limit.
        memory_used: Option<Percent>,
        /// Clients, of their limit.
        clients_used: Option<Percent>,
        /// Keys evicted between two checks.
        evictions: Option<Rate>,
        /// How long a replica and its primary have not heard of each other.
        replication_lag: Option<Duration>,
    }
}

closed_set! {
    /// The record type asked for.
    pub enum RecordType {
        /// IPv4 addresses.
        A = "A",
        /// IPv6 addresses.
        Aaaa = "AAAA",
        /// An alias.
        Cname = "CNAME",
        /// Services.
        Srv = "SRV",
        /// Texts.
        Txt = "TXT",
    }
}

/// A name server to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nameserver {
    /// Those of `/etc/resolv.conf`.
    System,
    /// This one.
    At(SocketAddr),
}

impl Nameserver {
    /// Its address; `None` for those of the system.
    pub fn address(self) -> Option<SocketAddr> {
        match self {
            Self::System => None,
            Self::At(address) => Some(address),
        }
    }
}

plan! {
    /// How a name is asked for.
    DnsPlan {
        /// The name.
        query: String,
        /// The record type.
        record: RecordType,
        /// The servers to ask; at least one.
        nameservers: Vec<Nameserver>,
        /// Networks in which every address of the answer must lie; empty: anywhere.
        expect_addresses: Vec<IpNet>,
        /// Records that the answer must have at least.
        expect_min: NonZeroU32,
    }
}

/// So much of an answer is looked at, in bytes; what is expected of it must come within them.
pub const RECEIVED_MAX: usize = 64 * 1024;

plan! {
    /// How a port is asked.
    TcpPlan {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
        /// TLS, where it is spoken.
        tls: Option<TlsPlan>,
        /// What to send after connecting; it may hold a password.
        send: Option<Secret>,
        /// What must be in what is received.
        expect: Option<String>,
    }
}

plan! {
    /// How an HTTP service is asked.
    HttpPlan {
        /// The address, without user info; scheme `http` or `https`, with a host.
        url: Url,
        /// The method, in upper case.
        method: String,
        /// Headers; `Authorization` is among them where the configured URL had user info.
        headers: Vec<(String, Secret)>,
        /// TLS; used for `https`.
        tls: TlsPlan,
        /// Status codes that are fine; at least one range.
        expect_status: Vec<RangeInclusive<u16>>,
        /// What the body must contain.
        expect_body: Option<String>,
    }
}

impl HttpPlan {
    /// The port: the scheme's own where the URL names none.
    pub fn port(&self) -> u16 {
        self.url.port_or_known_default().unwrap_or(80)
    }
}
