//! Redis, Valkey and ElastiCache: `AUTH`, `PING`, `INFO`.

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{AsyncConnectionConfig, ErrorKind, InfoDict, RedisConnectionInfo, RedisError, ServerErrorKind};
use tokio_util::task::AbortOnDropHandle;

use super::pooled::{Keep, Pooled, Protocol, Session, Trouble};
use super::tls;
use crate::clock::Deadline;
use crate::config::plan::{RedisPlan, Role};
use crate::health::observation::RedisDetails;
use crate::health::{Details, Failure, FailureKind, Observation, Phase, TlsDetails};
use crate::net::{Dialer, Target, Tls, Trace, connect};

/// The probe of a Redis server.
pub(super) fn probe(plan: RedisPlan, dialer: Dialer) -> Pooled<Redis> {
    let keep = Keep { max: 2, renew_every: plan.reconnect_every().get() };
    let target = Target { host: plan.host().clone(), port: *plan.port() };
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
        let (mut client, driver) = MultiplexedConnection::new_with_config(&settings, dialed.stream, config)
            .await
            .map_err(|error| failure(Phase::Auth, &error))?;
        let driver = AbortOnDropHandle::new(tokio::spawn(driver));
        let Some(password) = self.plan.password() else {
            return Ok(Connection { client, driver, tls: dialed.tls });
        };
        let mut auth = redis::cmd("AUTH");
        if let Some(user) = self.plan.username() {
            auth.arg(user);
        }
        auth.arg(password.expose());
        let log_in =
            async { auth.query_async::<()>(&mut client).await.map_err(|error| failure(Phase::Auth, &error)) };
        trace.phase(Phase::Auth, deadline, log_in).await?;
        Ok(Connection { client, driver, tls: dialed.tls })
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
            Ok(Err(error)) => {
                let failure = failure(Phase::Query, &error);
                let broken = error.is_connection_dropped() || error.is_io_error();
                return Err(if broken { Trouble::Broken(failure) } else { Trouble::Answered(failure) });
            }
            Err(failure) => {
                let kind = if trace.new_connection { failure.kind } else { FailureKind::QueryTimeout };
                return Err(Trouble::Silent(Failure { kind, hint: kind.hint().into(), ..failure }));
            }
        };
        self.judge(info, session.tls.clone()).map_err(Trouble::Answered)
    }
}

/// `PING`, then `INFO`; a user whose ACL does not allow `INFO` gets `None`.
async fn exchange(client: &mut (impl ConnectionLike + Send)) -> Result<Option<InfoDict>, RedisError> {
    redis::cmd("PING").query_async::<()>(client).await?;
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
            let message = format!("the server is a {role}, expected a {expected}");
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

fn failure(phase: Phase, error: &RedisError) -> Failure {
    let code = error.code();
    let detail = error.detail().unwrap_or_default();
    let kind = match (code, error.kind()) {
        (Some("NOAUTH" | "WRONGPASS"), _) | (_, ErrorKind::AuthenticationFailed) => FailureKind::AuthFailed,
        (Some("NOPERM" | "DENIED"), _) => FailureKind::AccessDenied,
        (_, ErrorKind::Server(ServerErrorKind::NoPerm)) => FailureKind::AccessDenied,
        (_, ErrorKind::Server(ServerErrorKind::BusyLoading)) => FailureKind::Loading,
        (_, ErrorKind::Server(ServerErrorKind::ReadOnly)) => FailureKind::ReadOnly,
        (_, ErrorKind::Server(ServerErrorKind::ClusterDown | ServerErrorKind::MasterDown)) => {
            FailureKind::ClusterDown
        }
        _ if detail.contains("max number of clients") => FailureKind::TooManyConnections,
        // `ERR … AUTH … called without any password configured`, and what older servers say.
        _ if phase == Phase::Auth && code == Some("ERR") => FailureKind::AuthFailed,
        (_, ErrorKind::Io) => return io_failure(phase, error),
        (_, ErrorKind::Parse) => FailureKind::Protocol,
        _ => FailureKind::QueryFailed,
    };
    let message = match (code, kind) {
        (_, FailureKind::Protocol) => format!("what answers does not speak the Redis protocol: {error}"),
        (Some(code), _) if !detail.is_empty() => format!("{code} {detail}"),
        _ => error.to_string(),
    };
    let failure = Failure::new(phase, kind, message).with_hint(hint(kind, code));
    match code {
        Some(code) => failure.with_code(code),
        None => failure,
    }
}

fn hint(kind: FailureKind, code: Option<&str>) -> &'static str {
    match code {
        Some("NOAUTH") => {
            "the server wants a password and none is set: give REDIS_PASSWORD (and REDIS_USERNAME where it has ACL users)"
        }
        Some("WRONGPASS") => {
            "user or password is wrong, or the ACL user is off: compare them with the secret; it may have been rotated"
        }
        Some("DENIED") => {
            "Redis is in protected mode: it takes only local connections until a password is set or `bind` is configured"
        }
        Some("ERR") if kind == FailureKind::AuthFailed => {
            "the server has no password for this user: unset REDIS_PASSWORD, or set one on the server"
        }
        _ => kind.hint(),
    }
}

/// What the socket said; redis wraps it, and sometimes keeps only its kind.
fn io_failure(phase: Phase, error: &RedisError) -> Failure {
    match connect::io_cause(error) {
        Some(io) => connect::failure(phase, io),
        None => Failure::new(phase, FailureKind::ConnectReset, "the peer closed or reset the connection"),
    }
}
