//! A probe that keeps one connection open between checks, for protocols with sessions.
//!
//! A kept connection shows what the application's own pool would meet, at the cost of one round trip. Every
//! so many checks a new one is made in its place, since a server can go on answering old sessions and take
//! no new ones. Once that failed, every check makes a new one until it works again: otherwise the kept
//! connection would hide, most of the time, that nobody can log in.
//!
//! Nothing that goes wrong over a kept connection counts by itself. An idle limit may have cut it, its host may
//! have vanished in a failover, or become a replica, while the name leads to a healthy primary by now: so the
//! question is asked again over a new connection, within the same attempt, and that answer counts.
//!
//! And a kept connection can hide that everybody else is led elsewhere by now: so the name is looked up with
//! each check, and where it has moved, a new connection takes the place of the old one.
//!
//! Every session has one of the [`Places`], from before it is made until it has left, however it leaves: so there
//! are never more at the server than there are places.

mod places;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::password::{Password, Reread};
use super::{GOODBYE, Probe};
use crate::clock::{Deadline, Stopwatch};
use crate::health::{Failure, FailureKind, Observation, Outcome, Phase, PoolStats};
use crate::net::{Lead, Trace};
pub(super) use places::{Place, Seated};

use places::Places;

/// What a protocol with sessions can do.
pub(super) trait Protocol: Send + 'static {
    /// A session.
    type Session: Session;

    /// Makes a session in this place: the phases up to and including `auth`.
    fn open(
        &mut self,
        place: &Place,
        deadline: Deadline,
        trace: &mut Trace,
    ) -> impl Future<Output = Result<Self::Session, Failure>> + Send;

    /// Asks over a session: the phase `query`.
    fn ask(
        &mut self,
        session: &mut Self::Session,
        deadline: Deadline,
        trace: &mut Trace,
    ) -> impl Future<Output = Result<Observation, Trouble>> + Send;

    /// Asks further over a session that has just answered: what may take as long as the check has time. `seen` is
    /// what it answered.
    fn ask_more(
        &mut self,
        _session: &mut Self::Session,
        seen: Observation,
        _deadline: Deadline,
        _trace: &mut Trace,
    ) -> impl Future<Output = Result<Observation, Trouble>> + Send {
        std::future::ready(Ok(seen))
    }
}

/// An open connection. Dropped without [`goodbye`](Session::goodbye), it is cut.
pub(super) trait Session: Send + 'static {
    /// Ends it as the protocol wants it.
    fn goodbye(self) -> impl Future<Output = ()> + Send;

    /// Ends it in the middle of a question, nobody waiting for the answer any more.
    fn abandon(self) -> impl Future<Output = ()> + Send
    where
        Self: Sized,
    {
        self.goodbye()
    }
}

/// What went wrong over a session.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The session is of no more use: it was cut, or its peer is silent.
    Broken(Failure),
    /// The peer answered, with an error, or as another server than the one that was connected to. The session could
    /// go on; whether the failure counts, a new one says.
    Answered(Failure),
    /// The peer answered well, and what it said is not as it should be: no other session would hear anything else.
    Judged(Failure),
}

/// How many sessions are kept, and for how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keep {
    /// Never more than this at a time; at least 1.
    pub(super) max: u32,
    /// Every so many checks a new one is made; at least 1.
    pub(super) renew_every: u32,
    /// A kept session that does not answer for this long is given up while there is time for a new one.
    pub(super) patience: Duration,
}

/// A look-up beside a kept session that answers is waited for this long; it goes on for the next check.
const LOOK: Duration = Duration::from_millis(500);

/// So many look-ups in a row that came late are told. One packet is lost now and then.
const LATE_TOLD: u32 = 2;

/// A probe over a protocol with sessions.
pub(super) struct Pooled<P: Protocol> {
    protocol: P,
    keep: Keep,
    /// Where the name leads that the kept session was reached by, if it was one.
    lead: Option<Lead>,
    /// Look-ups in a row that came late.
    late: u32,
    /// The session between two checks.
    kept: Option<Seated<P::Session>>,
    /// Checks made over the kept session.
    uses: u32,
    /// What sessions log in with, where its file may be asked for a newer one.
    password: Option<Password>,
    places: Places,
    /// `max`, and what is counted up: `created` and `errors`.
    stats: PoolStats,
}

impl<P: Protocol> Pooled<P> {
    pub(super) fn new(protocol: P, keep: Keep) -> Self {
        let stats = PoolStats { max: keep.max, ..PoolStats::default() };
        Self {
            protocol,
            keep,
            lead: None,
            late: 0,
            kept: None,
            uses: 0,
            password: None,
            places: Places::new(keep.max),
            stats,
        }
    }

    /// With a password that is read again when it is refused: it may have been rotated.
    pub(super) fn with_password(self, password: Option<Password>) -> Self {
        Self { password, ..self }
    }

    /// With a name that is looked up each time.
    pub(super) fn following(self, lead: Option<Lead>) -> Self {
        Self { lead, ..self }
    }

    async fn check(&mut self, deadline: Deadline, trace: &mut Trace) -> Outcome {
        self.uses = self.uses.saturating_add(1);
        let mut old = self.kept.take();
        let mut before = None;
        if self.uses < self.keep.renew_every
            && let Some(mut kept) = old.take()
        {
            trace.address = kept.address();
            let patience = deadline.within(self.keep.patience);
            let look = look(self.lead.as_ref(), deadline.within(LOOK));
            let (asked, found) = tokio::join!(self.protocol.ask(kept.session(), patience, trace), look);
            let lead = self.lead.as_ref().zip(kept.address());
            let moved = found.note(trace) && lead.is_some_and(|(lead, at)| !lead.leads_to(at.ip()));
            let asked = match asked {
                Ok(seen) if !moved => self.protocol.ask_more(kept.session(), seen, deadline, trace).await,
                asked => asked,
            };
            match asked {
                Ok(_) if moved => old = Some(kept),
                Ok(mut seen) => {
                    self.late = if matches!(found, Found::Late) { self.late.saturating_add(1) } else { 0 };
                    seen.warnings.extend(found.warning(self.late));
                    self.kept = Some(kept);
                    return Ok(seen);
                }
                Err(Trouble::Judged(failure)) => {
                    self.kept = Some(kept);
                    return Err(failure);
                }
                Err(Trouble::Answered(_)) => old = Some(kept),
                Err(Trouble::Broken(failure)) => {
                    self.give_up(kept);
                    if deadline.remaining().is_zero() {
                        return Err(failure);
                    }
                    before = Some(failure);
                }
            }
        }
        if self.keep.max == 1 {
            // There is room for one: the old one has to be gone before the new one comes.
            Self::dismiss(old.take());
        }
        let result = self.renew(deadline, trace).await;
        Self::dismiss(old);
        result.map_err(|failure| match before {
            // Both together tell more than either: the server went silent, and takes no new connection.
            Some(before) if before.kind == FailureKind::QueryTimeout => {
                let message =
                    format!("{}; before that, the kept connection had gone silent", failure.message);
                Failure { message, ..failure }
            }
            _ => failure,
        })
    }

    /// Makes a new session and asks over it; it is kept where that works.
    async fn renew(&mut self, deadline: Deadline, trace: &mut Trace) -> Outcome {
        // As a rule there is one: those that are leaving do so within moments, or are cut.
        let Ok(place) = tokio::time::timeout_at(deadline.instant(), self.places.take()).await else {
            let what = "the connections of earlier checks have not left yet, and there may be no more";
            return Err(Failure::new(Phase::Connect, FailureKind::Timeout, what));
        };
        let session = self.open(&place, deadline, trace).await?;
        let mut session = Seated::new(session, place, trace.address);
        self.stats.created += 1;
        let asked = match self.protocol.ask(session.session(), deadline, trace).await {
            Ok(seen) => self.protocol.ask_more(session.session(), seen, deadline, trace).await,
            asked => asked,
        };
        match asked {
            Ok(seen) => {
                self.keep(session);
                Ok(seen)
            }
            Err(Trouble::Judged(failure)) => {
                self.keep(session);
                Err(failure)
            }
            Err(Trouble::Answered(failure)) => {
                Self::dismiss(Some(session));
                Err(failure)
            }
            Err(Trouble::Broken(failure)) => {
                self.give_up(session);
                Err(failure)
            }
        }
    }

    /// Opens a session; where the password is refused and its file holds another one by now, with that.
    async fn open(
        &mut self,
        place: &Place,
        deadline: Deadline,
        trace: &mut Trace,
    ) -> Result<P::Session, Failure> {
        let refused = match self.protocol.open(place, deadline, trace).await {
            Err(failure) if failure.kind == FailureKind::AuthFailed => failure,
            opened => return opened,
        };
        let Some(password) = &self.password else { return Err(refused) };
        // Its file may be on a file system that is away: the refusal is told in time all the same.
        let reread = tokio::time::timeout_at(deadline.instant(), password.reread()).await;
        let Ok(reread) = reread else { return Err(refused) };
        let refused = match reread {
            Reread::Changed(_) => match self.protocol.open(place, deadline, trace).await {
                Err(failure) if failure.kind == FailureKind::AuthFailed => failure,
                opened => return opened,
            },
            Reread::NoFile | Reread::Same(_) | Reread::Unreadable(..) => refused,
        };
        Err(match reread.told() {
            Some(told) => Failure { hint: format!("{}; {told}", refused.hint), ..refused },
            None => refused,
        })
    }

    fn keep(&mut self, session: Seated<P::Session>) {
        self.kept = Some(session);
        self.uses = 0;
    }

    /// Ends a session politely, without making the check wait for it: only the next new one does.
    fn dismiss(session: Option<Seated<P::Session>>) {
        if let Some(session) = session {
            session.leave();
        }
    }

    /// Ends a session that is of no more use.
    fn give_up(&mut self, session: Seated<P::Session>) {
        self.stats.errors += 1;
        session.give_up();
    }

    /// The connections as they are now. One that says goodbye is as good as gone; one that was given up is not.
    fn stats(&self) -> PoolStats {
        let idle = u32::from(self.kept.is_some());
        let size = idle + self.places.given_up();
        PoolStats { size, idle, closed: self.stats.created.saturating_sub(size.into()), ..self.stats }
    }
}

/// What came of looking up the name beside a kept session.
enum Found {
    /// There is no name.
    Nothing,
    /// Nothing in time.
    Late,
    /// These addresses, after so long.
    Addresses(Vec<IpAddr>, Duration),
    /// The name does not resolve.
    Failure(Failure, Duration),
}

/// Looks the name up.
async fn look(lead: Option<&Lead>, deadline: Deadline) -> Found {
    let Some(lead) = lead else { return Found::Nothing };
    let watch = Stopwatch::start();
    match tokio::time::timeout_at(deadline.instant(), lead.look()).await {
        Ok(Ok(addresses)) => Found::Addresses(addresses, watch.elapsed()),
        Ok(Err(failure)) => Found::Failure(failure, watch.elapsed()),
        Err(_) => Found::Late,
    }
}

impl Found {
    /// Writes it into the trace; `true` where it has addresses.
    fn note(&self, trace: &mut Trace) -> bool {
        let (Self::Addresses(_, took) | Self::Failure(_, took)) = self else { return false };
        trace.phases.add(Phase::Dns, *took);
        let Self::Addresses(addresses, _) = self else { return false };
        trace.resolved.clone_from(addresses);
        true
    }

    /// What to tell of it beside an answer that came over the kept session.
    fn warning(&self, late: u32) -> Option<String> {
        let what = match self {
            Self::Failure(failure, _) => failure.message.clone(),
            Self::Late if late >= LATE_TOLD => {
                format!("{late} times in a row the name was not resolved within {LOOK:.1?}")
            }
            Self::Late | Self::Nothing | Self::Addresses(..) => return None,
        };
        Some(format!("{what}; the kept connection works, a new one would depend on it"))
    }
}

impl<P: Protocol> Probe for Pooled<P> {
    fn attempt<'a>(&'a mut self, deadline: Deadline, trace: &'a mut Trace) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let outcome = self.check(deadline, trace).await;
            trace.pool = Some(self.stats());
            outcome
        })
    }

    fn close(mut self: Box<Self>) -> BoxFuture<'static, ()> {
        let kept = self.kept.take();
        Self::dismiss(kept);
        let gone = self.gone();
        Box::pin(async move {
            let _ = tokio::time::timeout(GOODBYE, gone).await;
        })
    }

    fn gone(&self) -> BoxFuture<'static, ()> {
        self.places.clone().all_left()
    }
}
