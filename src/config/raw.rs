//! The YAML as it is written: every field optional, nothing resolved, nothing checked beyond its type.
//!
//! The docs of the fields are what the reference and the schema say of them. A dependency's fields are in
//! three structs (what it is, how it is checked, what its kind needs) and stand side by side in the YAML;
//! they are told apart by their names and not by serde's `flatten`, which would lose unknown keys.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize as Derive;
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, Visitor};

use super::Secret;
use super::bound::Bound;
use super::decode::SECRET;
use super::duration::HumanDuration;
use super::percent::Percent;
use super::plan::{Expected, LogFormat, OnFailure, RecordType, Role, SslMode, Verify};
use super::rate::Rate;
use super::schema::{Entry, NAME, one_of, or_switch};
use super::token::Verb;
use crate::health::backoff::Jitter;
use crate::health::{Impact, Kind, Scope};

/// The whole file.
#[derive(Debug, Default, Derive, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    /// What is called how.
    pub(super) service: Option<RawService>,
    /// What listens where.
    pub(super) server: Option<RawServer>,
    /// What is logged.
    pub(super) log: Option<RawLog>,
    /// How names are resolved.
    pub(super) resolver: Option<RawResolver>,
    /// How dependencies are checked that do not say otherwise.
    pub(super) defaults: Option<RawChecking>,
    /// What is watched.
    // Read entry by entry, because each has the fields of its kind.
    #[serde(rename = "dependencies")]
    #[schemars(with = "Option<Vec<Entry>>")]
    pub(super) _dependencies: Option<IgnoredAny>,
}

/// `service`
#[derive(Debug, Default, Derive, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawService {
    /// The service's name in metrics, events and JSON.
    pub(super) name: Option<String>,
    /// The environment's name in metrics, events and JSON.
    pub(super) environment: Option<String>,
}

/// `server`
#[derive(Debug, Default, Derive, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawServer {
    /// Address and port of the load balancer's listener.
    pub(super) listen: Option<String>,
    /// A second listener for operators.
    pub(super) operator: Option<RawOperator>,
    /// A bearer token that may do everything: the short form of one in `admin_tokens` that is called `admin`. At least 16
    /// visible ASCII characters. Without any token, what changes something answers 401. Secret.
    pub(super) admin_token: Option<Secret>,
    /// Bearer tokens, each with a name for the log, and what it may do; at most 100.
    #[schemars(length(max = 100))]
    pub(super) admin_tokens: Option<Vec<RawToken>>,
    /// A folder in which overrides of circuits survive a restart of the agent; unset: they end with it.
    pub(super) state_dir: Option<String>,
    /// How long answers go on after SIGTERM. The end comes a moment later, at worst eight seconds: `stopTimeout` of ECS
    /// has to leave them.
    pub(super) drain: Option<HumanDuration>,
}

/// `server.operator`
#[derive(Debug, Default, Derive, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawOperator {
    /// A second listener, to which the operators' endpoints move; another port than that of `listen`.
    pub(super) listen: Option<String>,
    /// Whether the operators' endpoints answer only who has a token that may `read`, on whichever listener they are.
    pub(super) require_token_for_reads: Option<bool>,
}

/// One of `admin_tokens`.
#[derive(Debug, Default, Derive, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawToken {
    /// Who has it: the `actor` of what is done with it. In the form of a dependency's name; unique.
    #[schemars(regex(pattern = NAME))]
    pub(super) name: Option<String>,
    /// At least 16 visible ASCII characters. Secret.
    pub(super) token: Option<Secret>,
    /// In its place the SHA-256 of it, as 64 hexadecimal digits: `printf %s "$TOKEN" | sha256sum`. Secret.
    pub(super) token_sha256: Option<Secret>,
    /// What may be done with it: `open`, `close` and `reset` circuits, `check` dependencies, `read` what operators may.
    #[schemars(length(min = 1))]
    pub(super) allow: Option<Vec<Verb>>,
}

/// `log`
#[derive(Debug, Default, Derive, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLog {
    /// A level, or levels by target: `sickbay=debug,warn`. The audit is told of whatever it says, unless it names it:
    /// `warn,audit=off`.
    pub(super) filter: Option<String>,
    /// How a line looks; unset: `text` on a terminal, else `json`.
    pub(super) format: Option<LogFormat>,
}

/// `resolver`
#[derive(Debug, Default, Derive, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawResolver {
    /// Servers that names are asked of: `system`, those of `/etc/resolv.conf`; or addresses, with or without a port,
    /// in their place. Its search list, and `/etc/hosts`, hold in either case.
    #[schemars(length(min = 1, max = 8))]
    pub(super) nameservers: Option<Vec<String>>,
    /// Packets that are sent to name servers, at most, over all dependencies. A VPC's resolver drops what comes over
    /// 1,024 a second from one task, the API's questions included.
    #[schemars(range(min = 10, max = 1024))]
    pub(super) packets_per_second: Option<u64>,
}

/// `defaults`, and the same fields in each dependency.
#[derive(Debug, Default, Derive, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawChecking {
    /// From one check to the next; at least `100ms`.
    pub(super) interval: Option<HumanDuration>,
    /// From one check to the next before the first success; doubles up to `interval`.
    pub(super) startup_interval: Option<HumanDuration>,
    /// The whole check, retries included.
    pub(super) timeout: Option<HumanDuration>,
    /// Each connection attempt. Longer than `timeout`, it is an error where it was set and shortened where it
    /// was not.
    pub(super) connect_timeout: Option<HumanDuration>,
    /// A successful check that took longer makes the dependency `degraded`.
    pub(super) slow_after: Option<HumanDuration>,
    /// A server's certificate that ends sooner than this makes the dependency `degraded`; `1h` to `365d`.
    pub(super) certificate_warning: Option<HumanDuration>,
    /// Whether the agent looks, in the background, for why a check failed: hop by hop, when an outage begins, when the
    /// circuit opens, and when checks fail in another way; at most once a minute. It connects a few times, to one other port of the host, too.
    pub(super) diagnose_on_failure: Option<bool>,
    /// Attempts within one check.
    pub(super) retry: Option<RawRetry>,
    /// When checks stop, and how they come back.
    pub(super) circuit: Option<RawCircuit>,
}

/// `retry`
#[derive(Debug, Default, Derive, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRetry {
    /// Attempts in one check, the first included.
    #[schemars(range(min = 1, max = 10))]
    pub(super) attempts: Option<u64>,
    /// The pause after the first attempt.
    pub(super) initial: Option<HumanDuration>,
    /// The longest pause; at least `initial`.
    pub(super) max: Option<HumanDuration>,
    /// Each pause is this many times the one before.
    #[schemars(range(min = 1, max = 100))]
    pub(super) multiplier: Option<f64>,
    /// `full` spreads each pause over its whole length, `none` keeps it.
    pub(super) jitter: Option<Jitter>,
}

/// `circuit`
#[derive(Debug, Default, Derive, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCircuit {
    /// So many failed checks in a row open the circuit.
    #[schemars(range(min = 1, max = 1000))]
    pub(super) failure_threshold: Option<u64>,
    /// How long it stays open, ±10 %.
    pub(super) recovery_timeout: Option<HumanDuration>,
    /// Each failed trial doubles that, up to this; at least `recovery_timeout`. Unset: it does not grow.
    pub(super) recovery_timeout_max: Option<HumanDuration>,
    /// So many successful trials in a row close it.
    #[schemars(range(min = 1, max = 1000))]
    pub(super) success_threshold: Option<u64>,
    /// From one trial to the next while half open; at most `interval`.
    pub(super) half_open_interval: Option<HumanDuration>,
}

/// What every dependency has.
#[derive(Debug, Default, Derive, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDependency {
    /// 1 to 63 lower-case letters, digits, `-` and `_`, beginning with a letter; unique.
    #[schemars(regex(pattern = NAME))]
    pub(super) name: Option<String>,
    /// What is spoken with it.
    pub(super) kind: Option<Kind>,
    /// What its failure does: `critical` (the service cannot serve), `degraded` (it serves less), `none` (it
    /// is only watched).
    pub(super) impact: Option<Impact>,
    /// `local` (belongs to this task) or `shared` (the whole fleet uses it); unset: `local` for loopback
    /// hosts, else `shared`.
    pub(super) scope: Option<Scope>,
    /// Whether it is checked; what is not need not have a target or a certificate.
    pub(super) enabled: Option<bool>,
    /// The names of dependencies through which this one can fail without being at fault.
    pub(super) depends_on: Option<Vec<String>>,
    /// The dependency whose place this one can take: while one of the two is up, the pair is degraded and not
    /// down. Only one of the two says it.
    pub(super) fallback_of: Option<String>,
}

/// What the kind `postgres` has.
#[derive(Debug, Default, Derive, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPostgres {
    /// Name or address; an IPv6 address with or without brackets.
    pub(super) host: Option<String>,
    /// Port.
    #[schemars(range(min = 1, max = 65535))]
    pub(super) port: Option<u64>,
    /// Database; that of the compiled-in `database` is `mlflow_db`.
    pub(super) database: Option<String>,
    /// User.
    pub(super) user: Option<String>,
    /// Password. Secret.
    pub(super) password: Option<Secret>,
    /// How TLS is used, in libpq's words and as libpq does.
    pub(super) sslmode: Option<SslMode>,
    /// A PEM file of the authorities to trust, by its path from the working directory; unset or `system`: the system's.
    /// With one, `require` is `verify-ca`.
    pub(super) root_cert: Option<String>,
    /// The role that the server has to have.
    pub(super) role: Option<Role>,
    /// The connections of the checks.
    pub(super) pool: Option<RawPool>,
    /// Every so many checks a new connection is made; the others use the one that is open.
    #[schemars(range(min = 1, max = 10000))]
    pub(super) reconnect_every: Option<u64>,
    /// What makes the dependency `degraded`.
    pub(super) warn: Option<RawPostgresWarn>,
    /// Queries of your own, at most 20, each with a value or bounds to hold its answer against.
    #[schemars(length(max = 20))]
    pub(super) queries: Option<Vec<RawQuery>>,
}

/// `warn` of the kind `postgres`.
#[derive(Debug, Default, Derive, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPostgresWarn {
    /// More than this share of the connections that a role without privileges can have are in use.
    pub(super) connections_used: Option<Bound<Percent>>,
    /// A replica is further behind its primary than this, or has lost its link to it.
    pub(super) replication_lag: Option<Bound<HumanDuration>>,
    /// A transaction of some client has been open for longer than this.
    pub(super) longest_transaction: Option<Bound<HumanDuration>>,
}

/// One of `queries`.
#[derive(Debug, Default, Derive, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawQuery {
    /// How it is called in `details`; in the form of a dependency's name.
    #[schemars(regex(pattern = NAME))]
    pub(super) name: Option<String>,
    /// One statement that gives one row; the first column is the value.
    pub(super) sql: Option<String>,
    /// The value that it should have: a text, a number, `true` or `false`.
    pub(super) expect: Option<RawExpected>,
    /// The least that the value may be.
    pub(super) min: Option<f64>,
    /// The most that the value may be.
    pub(super) max: Option<f64>,
    /// Bounds of a number beyond which the dependency is `degraded`.
    pub(super) warn: Option<RawQueryWarn>,
    /// What it means that the value is not as it should be, or that there is none: the check fails, or the
    /// dependency is `degraded`.
    pub(super) on_failure: Option<OnFailure>,
}

/// `warn` of one of `queries`.
#[derive(Debug, Default, Derive, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawQueryWarn {
    /// Less than this makes the dependency `degraded`.
    pub(super) min: Option<f64>,
    /// More than this makes the dependency `degraded`.
    pub(super) max: Option<f64>,
}

/// A value as it was written.
#[derive(Debug)]
pub(super) struct RawExpected(pub(super) Expected);

/// `pool`
#[derive(Debug, Default, Derive, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPool {
    /// Never more connections than this.
    #[schemars(range(min = 1, max = 100))]
    pub(super) max: Option<u64>,
}

/// What the kind `redis` has.
#[derive(Debug, Default, Derive, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRedis {
    /// Name or address; an IPv6 address with or without brackets.
    pub(super) host: Option<String>,
    /// Port.
    #[schemars(range(min = 1, max = 65535))]
    pub(super) port: Option<u64>,
    /// ACL user; unset: the default user.
    pub(super) username: Option<String>,
    /// Password. Secret.
    pub(super) password: Option<Secret>,
    /// Whether TLS is spoken, or how.
    pub(super) tls: Option<RawTls>,
    /// `standalone` is the only mode of this version.
    pub(super) mode: Option<String>,
    /// The role that the server has to have. Of a `primary` it is also expected that it takes writes.
    pub(super) role: Option<Role>,
    /// Every so many checks a new connection is made; the others use the one that is open.
    #[schemars(range(min = 1, max = 10000))]
    pub(super) reconnect_every: Option<u64>,
    /// What is warned of.
    pub(super) warn: Option<RawRedisWarn>,
}

/// `warn` of the kind `redis`.
#[derive(Debug, Default, Derive, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRedisWarn {
    /// Memory in use, of `maxmemory`. Judged where a full memory ends in refused writes: not without a limit, and
    /// not where the policy can make room (`allkeys-…`; `volatile-…` while any key expires), because a cache is
    /// meant to be full.
    pub(super) memory_used: Option<Bound<Percent>>,
    /// Connections taken, of `maxclients`.
    pub(super) clients_used: Option<Bound<Percent>>,
    /// Keys evicted from one check to the next, as a rate: `100/s`, `20/m`; `1/h` means any.
    pub(super) evictions: Option<Bound<Rate>>,
    /// Since a replica and its primary last heard of each other, seen from either; at least `1s`. An idle primary
    /// is heard of every 10 s, so a shorter bound warns in vain.
    pub(super) replication_lag: Option<Bound<HumanDuration>>,
}

/// What the kind `dns` has.
#[derive(Debug, Default, Derive, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDns {
    /// The name to ask for.
    pub(super) query: Option<String>,
    /// The type of the records to ask for.
    pub(super) record: Option<RecordType>,
    /// Servers to ask: `system`, as the dependencies' names are resolved; or addresses, with or without a port, which
    /// are asked for the name as it is.
    #[schemars(length(min = 1, max = 8))]
    pub(super) nameservers: Option<Vec<String>>,
    /// What the answer must hold.
    pub(super) expect: Option<RawDnsExpect>,
}

/// `expect` of the kind `dns`.
#[derive(Debug, Default, Derive, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDnsExpect {
    /// Networks, or single addresses, in which every address must lie that any of the servers gives; for `A` and
    /// `AAAA`.
    pub(super) addresses: Option<Vec<String>>,
    /// Records that each server's answer must have at least.
    #[schemars(range(min = 1, max = 100))]
    pub(super) min: Option<u64>,
}

/// What the kind `tcp` has.
#[derive(Debug, Default, Derive, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTcp {
    /// Name or address; an IPv6 address with or without brackets.
    pub(super) host: Option<String>,
    /// Port.
    #[schemars(range(min = 1, max = 65535))]
    pub(super) port: Option<u64>,
    /// Whether TLS is spoken, or how.
    pub(super) tls: Option<RawTls>,
    /// What to send after connecting. Secret.
    pub(super) send: Option<Secret>,
    /// A text that must be in the first 64 KiB of what is received.
    pub(super) expect: Option<String>,
}

/// What the kind `http` has.
#[derive(Debug, Default, Derive, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawHttp {
    /// `http://…` or `https://…`. User info becomes an `Authorization` header, is secret, and is not shown.
    pub(super) url: Option<String>,
    /// `GET`, `HEAD`, `OPTIONS` or `POST`.
    pub(super) method: Option<String>,
    /// Headers to send; the values are secret. One that the client would send itself (`Host`, `User-Agent`,
    /// `Accept`) is replaced; `Connection`, `Content-Length`, `Transfer-Encoding` and `Upgrade` cannot be
    /// set.
    pub(super) headers: Option<BTreeMap<String, Secret>>,
    /// How TLS is spoken with an `https` URL.
    pub(super) tls: Option<RawTls>,
    /// What the answer must be.
    pub(super) expect: Option<RawHttpExpect>,
}

/// `expect` of the kind `http`.
#[derive(Debug, Default, Derive, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawHttpExpect {
    /// Status codes, and ranges of them, that are fine.
    #[schemars(length(min = 1))]
    pub(super) status: Option<Vec<RawStatus>>,
    /// A text that the first 64 KiB of the body must contain; reading ends where it comes. Not with `HEAD`.
    pub(super) body: Option<String>,
}

/// `tls` of `redis`, `tcp` and `http`; in the YAML also `true` and `false`, which stand for `enabled`.
#[derive(Debug, Default, Derive, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = or_switch)]
pub(super) struct RawTls {
    /// Whether TLS is spoken.
    pub(super) enabled: Option<bool>,
    /// What of the certificate is verified: `full` (the chain and the host name), `ca` (the chain alone),
    /// `none`.
    pub(super) verify: Option<Verify>,
    /// A PEM file of the authorities to trust, by its path from the working directory; unset or `system`: the system's.
    pub(super) root_cert: Option<String>,
}

/// One status code, or a range of them: first and last.
#[derive(Debug, Clone, Copy)]
pub(super) struct RawStatus(pub(super) u16, pub(super) u16);

impl<'de> Deserialize<'de> for RawStatus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const ALLOWED: &str = "a status code from 100 to 599, or a range such as `200-299`";
        struct Status;

        impl Visitor<'_> for Status {
            type Value = RawStatus;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(ALLOWED)
            }

            fn visit_u64<E: de::Error>(self, code: u64) -> Result<RawStatus, E> {
                self.visit_str(&code.to_string())
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<RawStatus, E> {
                let (first, last) = text.split_once('-').unwrap_or((text, text));
                let code = |text: &str| text.parse().ok().filter(|code| (100..=599).contains(code));
                match (code(first), code(last)) {
                    (Some(first), Some(last)) if first <= last => Ok(RawStatus(first, last)),
                    _ => Err(E::custom(ALLOWED)),
                }
            }
        }

        deserializer.deserialize_any(Status)
    }
}

impl<'de> Deserialize<'de> for RawExpected {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Value;

        impl Visitor<'_> for Value {
            type Value = RawExpected;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number, a text, `true` or `false`")
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<RawExpected, E> {
                self.visit_str(if value { "true" } else { "false" })
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<RawExpected, E> {
                self.visit_f64(value as f64)
            }

            fn visit_i128<E: de::Error>(self, value: i128) -> Result<RawExpected, E> {
                self.visit_f64(value as f64)
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<RawExpected, E> {
                Ok(RawExpected(Expected::Number(value)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<RawExpected, E> {
                Ok(RawExpected(Expected::Text(text.to_owned())))
            }
        }

        deserializer.deserialize_any(Value)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Hidden;

        impl<'de> Visitor<'de> for Hidden {
            type Value = Secret;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text")
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Secret, D::Error> {
                String::deserialize(inner).map(Secret::new)
            }
        }

        deserializer.deserialize_newtype_struct(SECRET, Hidden)
    }
}

/// Reads members of closed sets by their one spelling, and tells the schema which there are. The core declares them
/// and knows no serde.
macro_rules! by_name {
    ($($name:ident),+) => { $(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Member(PhantomData, $name::parse, || {
                    super::errors::listed($name::ALL.iter().map(|member| member.as_str()))
                }))
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                one_of($name::ALL.iter().map(|member| member.as_str()))
            }
        }
    )+ };
}

by_name!(Kind, Impact, Scope, Jitter, LogFormat, SslMode, Role, Verify, RecordType, OnFailure, Verb);

struct Member<T>(PhantomData<T>, fn(&str) -> Option<T>, fn() -> String);

impl<T> Visitor<'_> for Member<T> {
    type Value = T;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&(self.2)())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.1)(text).ok_or_else(|| E::custom((self.2)()))
    }
}
