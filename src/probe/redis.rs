//! Redis, Valkey and ElastiCache: `AUTH`, `PING`, `INFO`.

mod first_words;

use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{AsyncConnectionConfig, ErrorKind, InfoDict, RedisConnectionInfo, RedisError};
use tokio_util::task::AbortOnDropHandle;

use first_words::FirstWords;

use super::pooled::{Keep, Pooled, Protocol, Session, Trouble};
use super::{cut_before_an_answer, tls};
use crate::clock::Deadline;
use crate::config::plan::{RedisPlan, Role};
use crate::health::observation::RedisDetails;
use crate::health::{Details, Failure, FailureKind, Observation, Phase, TlsDetails};
use crate::net::tap::Tapped;
use crate::net::{Dialer, Target, Tls, Trace, connect};

/// The probe of a Redis server.
pub(super) fn probe(plan: RedisPlan, patience: Duration, dialer: Dialer) -> Pooled<Redis> {
    let keep = Keep { max: 2, renew_every: plan.reconnect_every().get(), patience };
    let target = Target::new(plan.host(), *plan.port());
    let tls = plan.tls().as_ref().map(tls);
    Pooled::new(Redis { plan, target, tls, dialer }, keep)
}

pub(super) struct Redis {
    plan: RedisPlan,
    target: Target,
    tls: Option<Tls>,
    dialer: Dialer,
}

/// An open connection and the task that reads from it.
pub(super) struct Connection {
    client: MultiplexedConnection,
    driver: AbortOnDropHandle<()>,
    tls: Option<TlsDetails>,
    words: FirstWords,
    /// Whether the server has answered anything yet.
    answered: bool,
}

impl Session for Connection {
    /// Closes the socket; Redis knows no other goodbye that it would not call deprecated.
    async fn goodbye(self) {
        let Self { client, driver, .. } = self;
        drop(client);
        let _ = driver.await;
    }
}

impl Protocol for Redis {
    type Session = Connection;

    async fn open(&mut self, deadline: Deadline, trace: &mut Trace) -> Result<Connection, Failure> {
        let dialed = self.dialer.dial(&self.target, self.tls.as_ref(), deadline, trace).await?;
        // Without credentials and names nothing is sent here: `AUTH` goes by itself, so that it can be timed
        // and its error has the server's own code.
        let settings = RedisConnectionInfo::default().set_skip_set_lib_name();
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let words = FirstWords::default();
        let stream = Tapped::new(dialed.stream, words.clone());
        let (mut client, driver) = MultiplexedConnection::new_with_config(&settings, stream, config)
            .await
            .map_err(|error| failure(Phase::Auth, &error))?;
        let driver = AbortOnDropHandle::new(tokio::spawn(driver));
        let mut answered = false;
        if let Some(password) = self.plan.password() {
            let mut auth = redis::cmd("AUTH");
            if let Some(user) = self.plan.username() {
                auth.arg(user);
            }
            auth.arg(password.expose());
            let log_in = async {
                let result = auth.query_async::<()>(&mut client).await;
                result.map_err(|error| {
                    let failure = failure_or_first_words(Phase::Auth, &error, &words);
                    cut_before_an_answer(failure, dialed.tls.is_some())
                })
            };
            trace.phase(Phase::Auth, deadline, log_in).await?;
            answered = true;
        }
        Ok(Connection { client, driver, tls: dialed.tls, words, answered })
    }

    async fn ask(
        &mut self,
        session: &mut Connection,
        deadline: Deadline,
        trace: &mut Trace,
    ) -> Result<Observation, Trouble> {
        // A `Result` in a `Result`: the phase ends by the deadline, the inner one is the server's word.
        let exchange = async { Ok(exchange(&mut session.client).await) };
        let info = match trace.phase(Phase::Query, deadline, exchange).await {
            Ok(Ok(info)) => info,
            Ok(Err(error)) if error.is_connection_dropped() || error.is_io_error() => {
                let said = failure_or_first_words(Phase::Query, &error, &session.words);
                let said = match session.answered {
                    true => said,
                    false => cut_before_an_answer(said, session.tls.is_some()),
                };
                return Err(Trouble::Broken(said));
            }
            Ok(Err(error)) => return Err(Trouble::Answered(failure(Phase::Query, &error))),
            Err(silent) => {
                let kind = if session.answered { FailureKind::QueryTimeout } else { silent.kind };
                return Err(Trouble::Broken(Failure { kind, hint: kind.hint().into(), ..silent }));
            }
        };
        session.answered = true;
        self.judge(info, session.tls.clone()).map_err(Trouble::Answered)
    }
}

/// `PING`, then `INFO`; a user whose ACL does not allow `INFO` gets `None`.
async fn exchange(client: &mut (impl ConnectionLike + Send)) -> Result<Option<InfoDict>, RedisError> {
    let pong: String = redis::cmd("PING").query_async(client).await?;
    if pong != "PONG" {
        return Err((ErrorKind::Parse, "PING was not answered by PONG").into());
    }
    match redis::cmd("INFO").query_async(client).await {
        Ok(info) => Ok(Some(info)),
        Err(error) if error.code() == Some("NOPERM") => Ok(None),
        Err(error) => Err(error),
    }
}

impl Redis {
    fn judge(&self, info: Option<InfoDict>, tls: Option<TlsDetails>) -> Result<Observation, Failure> {
        let Some(info) = info else {
            return match self.plan.role() {
                Role::Any => {
                    let details = RedisDetails { tls, ..RedisDetails::default() };
                    Ok(Observation { details: Details::Redis(details), warnings: Vec::new() })
                }
                Role::Primary | Role::Replica => Err(Failure::new(
                    Phase::Query,
                    FailureKind::AccessDenied,
                    "the user may not run INFO, so the role cannot be told",
                )
                .with_code("NOPERM")
                .with_hint("allow it by `ACL SETUSER … +info`, or configure `role: any`")),
            };
        };
        let role: Option<String> = info.get("role");
        let expected = match self.plan.role() {
            Role::Any => None,
            Role::Primary => Some("master"),
            Role::Replica => Some("slave"),
        };
        if let (Some(expected), Some(role)) = (expected, role.as_deref())
            && role != expected
        {
            let word = |role: &str| if role == "master" { "primary" } else { "replica" };
            let message = format!("the server is a {}, expected a {}", word(role), word(expected));
            return Err(Failure::new(Phase::Query, FailureKind::WrongRole, message));
        }
        let mut warnings = Vec::new();
        if info.get::<String>("master_link_status").as_deref() == Some("down") {
            warnings.push("the replica has lost its link to the master".to_owned());
        }
        let details = RedisDetails {
            server_version: info.get("redis_version"),
            role,
            connected_clients: info.get("connected_clients"),
            used_memory_bytes: info.get("used_memory"),
            maxmemory_bytes: info.get("maxmemory"),
            evicted_keys: info.get("evicted_keys"),
            loading: info.get::<u8>("loading") == Some(1),
            tls,
        };
        Ok(Observation { details: Details::Redis(details), warnings })
    }
}

/// The failure that an error means. A connection that was dropped may have been so with a word of why.
fn failure_or_first_words(phase: Phase, error: &RedisError, words: &FirstWords) -> Failure {
    if !error.is_connection_dropped() && !error.is_io_error() {
        return failure(phase, error);
    }
    match words.error() {
        Some((code, text)) => server_failure(phase, &code, &text),
        None => words.end(phase).unwrap_or_else(|| failure(phase, error)),
    }
}

fn failure(phase: Phase, error: &RedisError) -> Failure {
    match (error.code(), error.kind()) {
        (Some(code), _) => server_failure(phase, code, error.detail().unwrap_or_default()),
        (None, ErrorKind::Io) => io_failure(phase, error),
        (None, ErrorKind::Parse) => {
            let message = format!("what answers does not speak the Redis protocol: {error}");
            Failure::new(phase, FailureKind::Protocol, message)
        }
        (None, ErrorKind::AuthenticationFailed) => {
            Failure::new(phase, FailureKind::AuthFailed, error.to_string())
        }
        (None, _) => Failure::new(phase, FailureKind::QueryFailed, error.to_string()),
    }
}

/// What the server itself said: an error begins with a code in capitals.
fn server_failure(phase: Phase, code: &str, text: &str) -> Failure {
    let (kind, hint) = match code {
        "NOAUTH" => (
            FailureKind::AuthFailed,
            "the server wants a password and none is set: give REDIS_PASSWORD (and REDIS_USERNAME where it has ACL users)",
        ),
        "WRONGPASS" => (
            FailureKind::AuthFailed,
            "user or password is wrong, or the ACL user is off: compare them with the secret; it may have been rotated",
        ),
        "NOPERM" => (
            FailureKind::AccessDenied,
            "the user's ACL does not allow this command: `ACL SETUSER NAME +ping +info` is what is needed",
        ),
        "DENIED" => (
            FailureKind::AccessDenied,
            "Redis is in protected mode: it takes only local connections until a password is set or `bind` is configured",
        ),
        "LOADING" => (FailureKind::Loading, FailureKind::Loading.hint()),
        "READONLY" => (FailureKind::ReadOnly, FailureKind::ReadOnly.hint()),
        "CLUSTERDOWN" | "MASTERDOWN" => (FailureKind::ClusterDown, FailureKind::ClusterDown.hint()),
        "ERR" if text.contains("max number of clients") => {
            (FailureKind::TooManyConnections, FailureKind::TooManyConnections.hint())
        }
        // `ERR AUTH <password> called without any password configured`, and what older servers say.
        "ERR" if phase == Phase::Auth && text.contains("password") => (
            FailureKind::AuthFailed,
            "the server has no password for this user: unset REDIS_PASSWORD, or set one on the server",
        ),
        "ERR" if phase == Phase::Auth => {
            // It may repeat what it was sent; so its words are not told at all.
            return Failure::new(phase, FailureKind::AuthFailed, "the server does not take AUTH")
                .with_code(code)
                .with_hint("check what answers there: a proxy, or a server whose AUTH command is renamed");
        }
        _ => (FailureKind::QueryFailed, FailureKind::QueryFailed.hint()),
    };
    Failure::new(phase, kind, format!("{code} {text}").trim_end()).with_code(code).with_hint(hint)
}

/// What the socket said; redis wraps it, and sometimes keeps only its kind.
fn io_failure(phase: Phase, error: &RedisError) -> Failure {
    match connect::io_cause(error) {
        Some(io) => connect::failure(phase, io),
        None => Failure::new(phase, FailureKind::ConnectReset, "the peer closed or reset the connection"),
    }
}
