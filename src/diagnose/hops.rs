//! Evidence as the lines of a report.
//!
//! A report has at most one hop that fails: those before it can be taken, and what lies behind it is not known, although
//! something may have been seen of it.

mod connect;
mod names;
mod session;

use std::time::Duration;

use super::evidence::Evidence;
use crate::health::{Failure, Hop, HopKind, Kind};
use crate::net::resolve::was_not_asked;

pub(super) use connect::{contrast, tries};
pub(super) use names::{by_server, says};
pub(super) use session::{certificate, first_words, one_answer, problem, quoted, segments};

/// What was seen at one hop.
#[derive(Debug, Default)]
struct Seen {
    /// Whether it can be taken, as far as it was seen.
    ok: Option<bool>,
    took: Option<Duration>,
    lines: Vec<String>,
}

/// The hops that this kind of subject has, in order, with what was seen at each.
pub fn hops(evidence: &Evidence) -> Vec<Hop> {
    let broken = evidence.broken();
    let mut open = true;
    let hop = |kind: HopKind| {
        let mut seen = look(evidence, kind);
        // A route of which neither source nor entry is known has a line without words.
        seen.lines.retain(|line| !line.is_empty());
        let ok = match broken {
            Some(broken) if kind < broken => Some(true),
            Some(broken) if kind == broken => Some(false),
            Some(_) => None,
            None if evidence.works() => Some(true),
            // Being gathered: as far as it has come.
            None => seen.ok.filter(|_| open),
        };
        open &= ok == Some(true);
        if broken == Some(kind)
            && let Some(failure) = evidence.failure()
        {
            let told = !seen.lines.is_empty() && is_told(evidence, kind);
            seen.lines.extend((!told).then(|| of_check(failure)));
            seen.lines
                .extend(evidence.small_segments.as_ref().filter(|_| kind >= HopKind::Tls).map(segments));
        }
        let of_failure = || {
            let phase = evidence.failure().filter(|_| broken == Some(kind))?.phase;
            evidence.attempt.as_ref()?.phases.get(phase)
        };
        let took = ok.and_then(|_| seen.took.or_else(of_failure));
        Hop { kind, ok, took, evidence: seen.lines }
    };
    // PostgreSQL is asked for TLS in its own protocol: where that is not answered, there is no TLS to speak of.
    let before_tls = evidence.subject.kind == Kind::Postgres && broken == Some(HopKind::Protocol);
    let has = |kind: &HopKind| match *kind {
        HopKind::Tls if before_tls => false,
        kind => has(evidence, kind) || broken == Some(kind),
    };
    HopKind::ALL.iter().copied().filter(has).map(hop).collect()
}

/// Whether this kind of subject has such a hop.
fn has(evidence: &Evidence, hop: HopKind) -> bool {
    let subject = &evidence.subject;
    match hop {
        HopKind::Dns => true,
        HopKind::Route | HopKind::Connect => subject.kind != Kind::Dns,
        HopKind::Tls => subject.kind != Kind::Dns && evidence.wants_tls(),
        HopKind::Protocol => match subject.kind {
            Kind::Postgres | Kind::Redis | Kind::Http => true,
            Kind::Tcp => subject.speaks.is_some() || evidence.words.is_some(),
            Kind::Dns => false,
        },
        HopKind::Auth => matches!(subject.kind, Kind::Postgres | Kind::Redis),
        HopKind::Query => matches!(subject.kind, Kind::Postgres | Kind::Redis | Kind::Http | Kind::Dns),
    }
}

fn look(evidence: &Evidence, hop: HopKind) -> Seen {
    match hop {
        HopKind::Dns => names::dns(evidence),
        HopKind::Route => connect::route(evidence),
        HopKind::Connect => connect::connect(evidence),
        HopKind::Tls => session::tls(evidence),
        HopKind::Protocol => session::protocol(evidence),
        HopKind::Auth => session::auth(evidence),
        HopKind::Query => session::query(evidence),
    }
}

/// Whether the lines of the hop at which a path ends say why by themselves.
fn is_told(evidence: &Evidence, hop: HopKind) -> bool {
    match hop {
        HopKind::Dns => {
            let now = evidence.names.as_ref().and_then(|names| names.answer.as_ref().err());
            now.is_some_and(|failure| !was_not_asked(failure))
        }
        HopKind::Route | HopKind::Connect => {
            evidence.path().is_some_and(|path| !path.connects() && !path.tries.is_empty())
        }
        HopKind::Tls | HopKind::Protocol | HopKind::Auth | HopKind::Query => false,
    }
}

/// What the check said.
fn of_check(failure: &Failure) -> String {
    let code = failure.code.as_deref().filter(|code| !failure.message.contains(code));
    let code = code.map(|code| format!(" ({code})")).unwrap_or_default();
    format!("{}: {}{code}", failure.kind, failure.message)
}

#[cfg(test)]
mod tests;
