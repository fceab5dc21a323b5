//! PostgreSQL, RDS and Aurora: TLS as `sslmode` says, authentication, one question to the server about itself, and
//! the configured queries.
//!
//! `road` leads to the server, `fallback` is for where it is closed with TLS, and `wire` is what the driver gets of
//! it; `session` logs in and asks. What the server tells is read by `facts`, its replication lag by `lag`, and held
//! against `bounds`; `queries` are asked after it. `failure` turns errors into failure kinds, with `pooler` for those
//! of poolers; `databases` helps where a name is wrong.

mod bounds;
mod databases;
mod facts;
mod failure;
mod fallback;
mod lag;
mod pooler;
mod queries;
mod road;
mod session;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Deadline, Stopwatch};
use crate::config::plan::{PostgresPlan, Role};
use crate::health::observation::PostgresDetails;
use crate::health::{Details, Failure, FailureKind, Observation, Phase};
use crate::net::{Dialed, Dialer, Target, Trace};
use crate::probe::GOODBYE;
use crate::probe::password::Password;
use crate::probe::pooled::{Keep, Place, Pooled, Protocol, Seated, Session, Trouble};
use facts::Facts;
use failure::classify;
use fallback::NoSession;
use lag::Lag;
use road::Road;
use session::Connection;

/// A server that did not take the whole question is asked it again after this long: it writes a line into its log
/// each time, but rights may be granted meanwhile.
const ASK_AGAIN: Duration = Duration::from_secs(3600);

/// To look through its sessions costs a server more than any other answer here. However often it is checked, they are
/// looked through no more often than this; checks in between tell what the last one saw.
const ALL_EVERY: Duration = Duration::from_secs(1);

/// The probe of a PostgreSQL server.
pub(super) fn probe(
    plan: PostgresPlan,
    password: Option<Password>,
    patience: Duration,
    dialer: Dialer,
) -> Pooled<Postgres> {
    let keep = Keep { max: plan.pool_max().get(), renew_every: plan.reconnect_every().get(), patience };
    let lead = dialer.lead(&Target::new(plan.host(), *plan.port()));
    let road = Arc::new(Road::new(&plan, dialer));
    let password_too = password.clone();
    let asks = Postgres { plan, password, road, lag: Lag::default(), told: None, refused_all: None };
    Pooled::new(asks, keep).with_password(password_too).following(lead)
}

pub(super) struct Postgres {
    plan: PostgresPlan,
    password: Option<Password>,
    road: Arc<Road>,
    lag: Lag,
    /// When the server told all of itself over the session that is kept, and what.
    told: Option<(Stopwatch, Facts)>,
    refused_all: Option<Refusal>,
}

/// That a server did not take the whole question.
struct Refusal {
    when: Stopwatch,
    /// At this address: another server may take it.
    by: Option<SocketAddr>,
    why: String,
}

impl Protocol for Postgres {
    type Session = Connection;

    async fn open(
        &mut self,
        place: &Place,
        deadline: Deadline,
        trace: &mut Trace,
    ) -> Result<Connection, Failure> {
        // Another session may lead to another server.
        self.told = None;
        let result = self.open_database(self.plan.database(), place, deadline, trace).await;
        let Err(missing) = result else { return result };
        if missing.kind != FailureKind::DatabaseMissing {
            return Err(missing);
        }
        let there = self.databases(place, deadline).await;
        Err(databases::told(missing, self.plan.database(), there.as_deref()))
    }

    async fn ask(
        &mut self,
        session: &mut Connection,
        deadline: Deadline,
        trace: &mut Trace,
    ) -> Result<Observation, Trouble> {
        let Facts { details, replay } = self.facts(session, deadline, trace).await?;
        let verdict = match session.role_changed(details.in_recovery) {
            // What counts is what the name leads to by now.
            true => Err(has_become(details.in_recovery)),
            false => self.judge(&details),
        };
        if let Err(failure) = verdict {
            trace.seen = Details::Postgres(Box::new(details));
            return Err(Trouble::Answered(failure));
        }
        let warnings = bounds::warnings(&details, replay, self.plan.warn());
        Ok(Observation { details: Details::Postgres(Box::new(details)), warnings })
    }

    async fn ask_more(
        &mut self,
        session: &mut Connection,
        mut seen: Observation,
        deadline: Deadline,
        trace: &mut Trace,
    ) -> Result<Observation, Trouble> {
        let plans = self.plan.queries();
        if plans.is_empty() {
            return Ok(seen);
        }
        let asking = queries::ask_all(plans, session, deadline);
        // Each ends by the deadline, and says which it was.
        let limit = deadline.later(GOODBYE);
        let failure = match trace.phase(Phase::Query, limit, asking).await {
            Ok(answers) => {
                if let Details::Postgres(details) = &mut seen.details {
                    details.queries = answers.results;
                }
                seen.warnings.extend(answers.warnings);
                answers.failure.map(Trouble::Judged)
            }
            Err(failure) => Some(Trouble::Broken(failure)),
        };
        let Some(failure) = failure else { return Ok(seen) };
        trace.seen = seen.details;
        Err(failure)
    }
}

impl Postgres {
    async fn open_database(
        &self,
        database: &str,
        place: &Place,
        deadline: Deadline,
        trace: &mut Trace,
    ) -> Result<Connection, Failure> {
        let failed = match self.open_as_configured(database, place, deadline, trace).await {
            Ok(connection) => return Ok(connection),
            Err(failed) => failed,
        };
        let with_tls = failed.worth_another_try()?;
        let Some(address) = trace.address.filter(|_| self.road.falls_back()) else { return Err(with_tls) };
        // Not in the server's words: they are looked through for secrets where the outcome is told.
        let (failure_kind, code) = (with_tls.kind.as_str(), with_tls.code.as_deref());
        tracing::debug!(%address, failure_kind, code, "there is no session with TLS, one without it is tried");
        match self.open_plain(address, database, place, deadline, trace).await {
            Ok(connection) => Ok(connection),
            Err(without) => Err(fallback::both(with_tls, without)),
        }
    }

    async fn open_as_configured(
        &self,
        database: &str,
        place: &Place,
        deadline: Deadline,
        trace: &mut Trace,
    ) -> Result<Connection, NoSession> {
        let dialed = self.road.go(place, deadline, trace).await?;
        let encrypted = dialed.tls.is_some();
        let log_in = self.log_in(dialed, database, place, deadline, trace).await;
        log_in.map_err(|failure| match encrypted {
            true => NoSession::at_log_in(failure),
            false => failure.into(),
        })
    }

    async fn open_plain(
        &self,
        address: SocketAddr,
        database: &str,
        place: &Place,
        deadline: Deadline,
        trace: &mut Trace,
    ) -> Result<Connection, Failure> {
        let dialed = self.road.go_plain(address, deadline, trace).await?;
        self.log_in(dialed, database, place, deadline, trace).await
    }

    async fn log_in(
        &self,
        dialed: Dialed,
        database: &str,
        place: &Place,
        deadline: Deadline,
        trace: &mut Trace,
    ) -> Result<Connection, Failure> {
        let encrypted = dialed.tls.is_some();
        let password = self.password.as_ref().map(Password::current);
        let (address, road) = (trace.address, Arc::clone(&self.road));
        let log_in = Connection::log_in(self.plan.user(), password.as_ref(), database, dialed, address, road);
        let log_in = place.see_through(log_in, |result| {
            Box::pin(async {
                if let Ok(connection) = result {
                    connection.goodbye().await;
                }
            })
        });
        let log_in = async { log_in.await.map_err(|error| classify(Phase::Auth, &error, encrypted)) };
        trace.phase(Phase::Auth, deadline, log_in).await
    }

    /// What the server tells of itself: all of it, or what it takes the question for.
    async fn facts(
        &mut self,
        session: &mut Connection,
        deadline: Deadline,
        trace: &mut Trace,
    ) -> Result<Facts, Trouble> {
        let recently = self.told.as_ref().filter(|(when, _)| when.elapsed() < ALL_EVERY);
        if let Some((_, before)) = recently.cloned() {
            let few = self.answer(facts::FEW, session, deadline, trace).await?;
            return Ok(few.with_the_rest_of(before));
        }
        let stands = |refusal: &Refusal| refusal.when.elapsed() < ASK_AGAIN && refusal.by == trace.address;
        self.refused_all = self.refused_all.take().filter(stands);
        if self.refused_all.is_none() {
            match self.answer(facts::ALL, session, deadline, trace).await {
                Err(Trouble::Answered(failure)) if failure::not_understood(&failure) => {
                    tracing::debug!(code = failure.code, "not every fact can be asked for");
                    let (when, by) = (Stopwatch::start(), trace.address);
                    self.refused_all = Some(Refusal { when, by, why: failure.message });
                }
                Ok(mut facts) => {
                    facts.details.replication_lag =
                        facts.replay.and_then(|replay| self.lag.of(replay, trace.address));
                    self.told = Some((Stopwatch::start(), facts.clone()));
                    return Ok(facts);
                }
                trouble => return trouble,
            }
        }
        let mut facts = self.answer(facts::FEW, session, deadline, trace).await?;
        facts.details.hidden = self.refused_all.as_ref().map(|Refusal { why, .. }| {
            format!("connections, transactions and replication are not told: the server says: {why}")
        });
        Ok(facts)
    }

    async fn answer(
        &self,
        question: &str,
        session: &mut Connection,
        deadline: Deadline,
        trace: &mut Trace,
    ) -> Result<Facts, Trouble> {
        // A `Result` in a `Result`: the phase ends by the deadline, the inner one is the server's word.
        let exchange = async { Ok(session.rows(question, deadline).await) };
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
        let Some(mut facts) = Facts::read(&rows, session.local()) else {
            let message = "the server's answer about itself has not the expected columns";
            return Err(Trouble::Answered(Failure::new(Phase::Query, FailureKind::Protocol, message)));
        };
        facts.details.tls = session.tls().cloned();
        Ok(facts)
    }

    /// The databases that this role could connect to, asked for over a database that every server has.
    async fn databases(&self, place: &Place, deadline: Deadline) -> Option<Vec<String>> {
        for common in databases::COMMON {
            // The failed attempt's own phases must not grow by what is asked on the side.
            let mut aside = Trace::default();
            if let Ok(connection) = self.open_database(common, place, deadline, &mut aside).await {
                let session = Seated::new(connection, place.clone(), aside.address);
                return databases::list(session, deadline).await;
            }
        }
        None
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

/// The failure of a server that is not what it was when the connection to it was made.
fn has_become(replica: bool) -> Failure {
    let now = if replica { "a replica" } else { "a primary" };
    let message = format!("the server has become {now} since the connection was made");
    Failure::new(Phase::Query, FailureKind::WrongRole, message)
}
