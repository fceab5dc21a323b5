//! PostgreSQL, RDS and Aurora: TLS as `sslmode` says, authentication, and one question to the server about
//! itself.

mod failure;
mod session;

use std::time::Duration;

use crate::clock::Deadline;
use crate::config::plan::{PostgresPlan, Role, SslMode};
use crate::health::observation::PostgresDetails;
use crate::health::{Details, Failure, FailureKind, Observation, Phase};
use crate::net::{Dialed, Dialer, Stream, Target, Tls, Trace, Verification};
use crate::probe::password::Password;
use crate::probe::pooled::{Keep, Pooled, Protocol, Session, Trouble};
use failure::classify;
use session::Connection;

/// Asked on every check, in one round trip: by the simple protocol, which needs no prepared statement and so
/// also passes through a pooler such as PgBouncer.
const QUESTION: &str = "SELECT pg_is_in_recovery(), current_setting('transaction_read_only'), \
                        current_setting('server_version'), current_database(), current_user";

/// Databases named in a message; a server can have thousands.
const DATABASES_TOLD: usize = 10;

/// The probe of a PostgreSQL server.
pub(super) fn probe(
    plan: PostgresPlan,
    password: Option<Password>,
    patience: Duration,
    dialer: Dialer,
) -> Pooled<Postgres> {
    let keep = Keep { max: plan.pool_max().get(), renew_every: plan.reconnect_every().get(), patience };
    let target = Target::new(plan.host(), *plan.port());
    let verification = match plan.sslmode() {
        SslMode::Disable => None,
        SslMode::Prefer | SslMode::Require => Some(Verification::None),
        SslMode::VerifyCa => Some(Verification::Chain),
        SslMode::VerifyFull => Some(Verification::Full),
    };
    let tls = verification.map(|verification| Tls::new(verification, plan.root_cert().clone()));
    let lead = dialer.lead(&target);
    let asks = Postgres { plan, password: password.clone(), target, tls, dialer };
    Pooled::new(asks, keep).with_password(password).following(lead)
}

pub(super) struct Postgres {
    plan: PostgresPlan,
    password: Option<Password>,
    target: Target,
    /// `None` for `sslmode: disable`.
    tls: Option<Tls>,
    dialer: Dialer,
}

impl Protocol for Postgres {
    type Session = Connection;

    async fn open(&mut self, deadline: Deadline, trace: &mut Trace) -> Result<Connection, Failure> {
        let result = self.open_database(self.plan.database(), deadline, trace).await;
        let Err(missing) = result else { return result };
        if missing.kind != FailureKind::DatabaseMissing {
            return Err(missing);
        }
        let there = self.databases(deadline).await;
        Err(database_missing(missing, self.plan.database(), there))
    }

    async fn ask(
        &mut self,
        session: &mut Connection,
        deadline: Deadline,
        trace: &mut Trace,
    ) -> Result<Observation, Trouble> {
        // A `Result` in a `Result`: the phase ends by the deadline, the inner one is the server's word.
        let exchange = async { Ok(session.rows(QUESTION).await) };
        let rows = match trace.phase(Phase::Query, deadline, exchange).await {
            Ok(Ok(rows)) => rows,
            Ok(Err(error)) => {
                let failure = classify(Phase::Query, &error, session.tls().is_some());
                return Err(match session.ended_by(&error) {
                    true => Trouble::Broken(failure),
                    false => Trouble::Answered(failure),
                });
            }
            Err(failure) => {
                let kind = FailureKind::QueryTimeout;
                return Err(Trouble::Broken(Failure { kind, hint: kind.hint().into(), ..failure }));
            }
        };
        let seen = rows.first().and_then(|row| {
            Some(PostgresDetails {
                in_recovery: session::text(row, 0)? == "t",
                read_only: session::text(row, 1)? == "on",
                server_version: session::text(row, 2)?.to_owned(),
                database: session::text(row, 3)?.to_owned(),
                user: session::text(row, 4)?.to_owned(),
                tls: session.tls().cloned(),
            })
        });
        let Some(seen) = seen else {
            let message = "the server's answer about itself has not the expected columns";
            return Err(Trouble::Answered(Failure::new(Phase::Query, FailureKind::Protocol, message)));
        };
        self.judge(&seen).map_err(Trouble::Answered)?;
        Ok(Observation { details: Details::Postgres(seen), warnings: Vec::new() })
    }
}

impl Postgres {
    async fn open_database(
        &self,
        database: &str,
        deadline: Deadline,
        trace: &mut Trace,
    ) -> Result<Connection, Failure> {
        let stream = self.dialer.connect(&self.target, deadline, trace).await?;
        let Dialed { stream, tls } = match &self.tls {
            None => Dialed { stream: Stream::plain(stream), tls: None },
            Some(tls) => {
                let mut stream = stream;
                let offered = trace.phase(Phase::Tls, deadline, session::request_tls(&mut stream)).await?;
                match (offered, self.plan.sslmode()) {
                    (true, _) => self.dialer.secure(tls, self.target.host(), stream, deadline, trace).await?,
                    (false, SslMode::Prefer) => Dialed { stream: Stream::plain(stream), tls: None },
                    (false, mode) => {
                        let message = format!("the server does not offer TLS, and sslmode is {mode}");
                        return Err(Failure::new(Phase::Tls, FailureKind::TlsHandshake, message).with_hint(
                            "turn `ssl` on at the server; or, on a network that you trust, set sslmode to prefer",
                        ));
                    }
                }
            }
        };
        let encrypted = tls.is_some();
        let password = self.password.as_ref().map(Password::current);
        let log_in = async {
            Connection::log_in(self.plan.user(), password.as_ref(), database, stream, tls)
                .await
                .map_err(|error| classify(Phase::Auth, &error, encrypted))
        };
        trace.phase(Phase::Auth, deadline, log_in).await
    }

    /// The databases that this role could connect to, asked for over a database that every server has.
    async fn databases(&self, deadline: Deadline) -> Result<Vec<String>, Failure> {
        let mut failure = None;
        for common in ["postgres", "template1"] {
            // The failed attempt's own phases must not grow by what is asked on the side.
            let mut aside = Trace::default();
            match self.open_database(common, deadline, &mut aside).await {
                Ok(connection) => {
                    let listed = tokio::time::timeout_at(deadline.instant(), connection.databases()).await;
                    let _ = tokio::time::timeout_at(deadline.instant(), connection.goodbye()).await;
                    return match listed {
                        Ok(Ok(names)) => Ok(names),
                        Ok(Err(error)) => Err(classify(Phase::Query, &error, true)),
                        Err(_) => {
                            Err(Failure::new(Phase::Query, FailureKind::QueryTimeout, "no answer in time"))
                        }
                    };
                }
                Err(failed) => failure = failure.or(Some(failed)),
            }
        }
        Err(failure.unwrap_or_else(|| Failure::new(Phase::Auth, FailureKind::Internal, "nothing was tried")))
    }

    fn judge(&self, seen: &PostgresDetails) -> Result<(), Failure> {
        let wrong = |kind, message| Err(Failure::new(Phase::Query, kind, message));
        match (self.plan.role(), seen.in_recovery) {
            (Role::Primary, true) => {
                wrong(FailureKind::WrongRole, "the server is a replica (in recovery), expected a primary")
            }
            (Role::Replica, false) => {
                wrong(FailureKind::WrongRole, "the server is a primary, expected a replica")
            }
            (Role::Primary, false) if seen.read_only => {
                wrong(FailureKind::ReadOnly, "the server is a primary and its transactions are read-only")
            }
            (Role::Any | Role::Primary | Role::Replica, _) => Ok(()),
        }
    }
}

/// Tells a wrong name together with the right ones.
fn database_missing(missing: Failure, wanted: &str, there: Result<Vec<String>, Failure>) -> Failure {
    let Ok(there) = there else { return missing };
    let nearest = there
        .iter()
        .map(|name| (strsim::jaro_winkler(name, wanted), name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name);
    let mut told = there.iter().take(DATABASES_TOLD).cloned().collect::<Vec<_>>().join(", ");
    if there.len() > DATABASES_TOLD {
        told.push_str(&format!(" and {} more", there.len() - DATABASES_TOLD));
    }
    let hint = match nearest {
        Some(name) => format!(
            "did you mean \"{name}\"? set DATABASE_NAME={name}, or `database: {name}` in the configuration"
        ),
        None => {
            "set DATABASE_NAME, or `database` in the configuration, to one of these; or create it".to_owned()
        }
    };
    Failure { message: format!("{}; this server has: {told}", missing.message), hint, ..missing }
}
