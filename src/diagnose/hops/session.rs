//! What is spoken over the connection: TLS, the protocol's first words, the log-in, the question.

use super::Seen;
use crate::diagnose::evidence::{
    CertificateProblem, CertificateSeen, Evidence, Heard, SmallSegments, Speaks, TlsSeen, TlsWanted, Words,
};
use crate::diagnose::text;
use crate::health::observation::{RedisDetails, RedisReplication};
use crate::health::{Details, Kind, Phase, WallTime};

/// Names of one certificate that are told.
const NAMES: usize = 4;

pub(super) fn tls(evidence: &Evidence) -> Seen {
    let took = evidence.attempt.as_ref().and_then(|attempt| attempt.phases.get(Phase::Tls));
    let Some(seen) = &evidence.tls else {
        return Seen { ok: None, took, lines: no_time(evidence).into_iter().collect() };
    };
    if let Some(why) = &seen.not_asked {
        return Seen { ok: None, took, lines: vec![format!("a look at it was not begun: {why}")] };
    }
    let mut lines = Vec::new();
    let if_offered = evidence.subject.tls == TlsWanted::IfOffered;
    if let Some(said) = &seen.not_spoken {
        let goes_on = if if_offered { ", so none is spoken" } else { "" };
        // In the form of old, which PostgreSQL has for what is wrong before it knows a client's version.
        let refuses =
            evidence.subject.kind == Kind::Postgres && evidence.is_spoken() && said.starts_with('E');
        lines.push(match refuses {
            true => format!("asked for TLS, the server answered an error: {}", quoted(&said[1..])),
            false => format!("the server speaks no TLS here: it answered {}{goes_on}", quoted(said)),
        });
    }
    lines.extend(session(seen, evidence.at));
    lines.extend(
        seen.chain
            .iter()
            .skip(1)
            .take(NAMES)
            .map(|above| format!("above it: {}", issuer(above, evidence.at))),
    );
    lines.extend(seen.problems.iter().map(|one| problem(one, seen, evidence.at)));
    if let Some(old) = &seen.only_speaks {
        lines.push(format!("the server does speak {old}, which is too old to be allowed here"));
    }
    if seen.wants_client_certificate {
        lines.push("the server asks for a certificate of ours, and there is none".to_owned());
    }
    let ok = match (&seen.version, &seen.not_spoken) {
        (_, Some(_)) => Some(if_offered),
        (Some(Ok(_)), None) => Some(seen.problems.is_empty()),
        (Some(Err(_)), None) => Some(false),
        (None, None) => None,
    };
    Seen { ok, took: Some(seen.took), lines }
}

/// What was said in place of an answer, as far as its first line goes.
pub(in crate::diagnose) fn quoted(said: &str) -> String {
    let line = said.split(['\r', '\n']).next().unwrap_or_default();
    // Control characters may have been made printable before.
    let line = line.split("\\r").next().unwrap_or_default().split("\\n").next().unwrap_or_default();
    format!("\"{}\"", line.trim_matches('"'))
}

/// `TLSv1.3; certificate of CN=db, by CN=ca, for db.internal, ends 2027-01-01 (in 38 days)`
fn session(seen: &TlsSeen, now: Option<WallTime>) -> Option<String> {
    let version = match seen.version.as_ref()? {
        Ok(version) => version.clone(),
        Err(why) => format!("no session: {why}"),
    };
    let certificate = seen.chain.first().map(|own| format!("; certificate of {}", certificate(own, now)));
    Some(format!("{version}{}", certificate.unwrap_or_default()))
}

/// Whose it is, by whom, for which names, until when.
pub(in crate::diagnose) fn certificate(own: &CertificateSeen, now: Option<WallTime>) -> String {
    let names = match own.names.is_empty() {
        true => String::new(),
        false => format!(", for {}", text::first(&own.names, NAMES)),
    };
    format!("{}, by {}{names}{}", own.subject, own.issuer, end(own, now))
}

fn issuer(above: &CertificateSeen, now: Option<WallTime>) -> String {
    format!("{}{}", above.subject, end(above, now))
}

fn end(certificate: &CertificateSeen, now: Option<WallTime>) -> String {
    let Some(end) = certificate.ends_at else { return String::new() };
    match now {
        Some(now) if end < now => format!(", ended {} ({})", text::day(end), text::from_now(end, now)),
        Some(now) => format!(", ends {} ({})", text::day(end), text::from_now(end, now)),
        None => format!(", ends {}", text::day(end)),
    }
}

/// What is wrong with a chain, in a sentence.
pub(in crate::diagnose) fn problem(
    problem: &CertificateProblem,
    seen: &TlsSeen,
    now: Option<WallTime>,
) -> String {
    let whose = |place: usize| match (place, seen.chain.get(place)) {
        (0, _) => "the server's certificate".to_owned(),
        (_, Some(above)) => format!("the certificate of {} above it", above.subject),
        (_, None) => "a certificate above it".to_owned(),
    };
    let when = |time: Option<WallTime>| match (time, now) {
        (Some(time), Some(now)) => format!(" on {} ({})", text::day(time), text::from_now(time, now)),
        (Some(time), None) => format!(" on {}", text::day(time)),
        (None, _) => String::new(),
    };
    let of = |place: usize| seen.chain.get(place);
    match problem {
        CertificateProblem::Expired(place) => {
            format!("{} ended{}", whose(*place), when(of(*place).and_then(|one| one.ends_at)))
        }
        CertificateProblem::NotYetValid(place) => {
            format!("{} begins{}", whose(*place), when(of(*place).and_then(|one| one.begins_at)))
        }
        CertificateProblem::OtherName => match of(0).map(|own| own.names.as_slice()) {
            Some(names @ [_, ..]) => format!("the certificate is for {}", text::first(names, NAMES)),
            _ => "the certificate is for no name at all".to_owned(),
        },
        CertificateProblem::SelfSigned => {
            "the certificate signed itself, and is not among the authorities".to_owned()
        }
        CertificateProblem::UnknownAuthority => match seen.chain.last() {
            Some(last) => {
                format!("its last issuer, {}, is not among the authorities", last.issuer)
            }
            None => "nobody who is trusted here signed the certificate".to_owned(),
        },
        CertificateProblem::AuthoritiesUnusable(why) => format!("the authorities cannot be used: {why}"),
        CertificateProblem::Other(why) => format!("the certificate is not accepted: {why}"),
    }
}

pub(super) fn protocol(evidence: &Evidence) -> Seen {
    let Some(words) = &evidence.words else {
        let lines = no_time(evidence).filter(|_| evidence.speaks().is_some()).into_iter().collect();
        return Seen { lines, ..Seen::default() };
    };
    if matches!(words.heard, Heard::NotAsked(_)) {
        return Seen { lines: vec![first_words(words)], ..Seen::default() };
    }
    let mut lines = vec![first_words(words)];
    lines.extend(words.others.iter().map(|(asked, heard)| one_answer(Some(*asked), heard)));
    if let Some(is) = words.is.filter(|is| evidence.speaks() != Some(*is)) {
        lines.push(format!("what listens there speaks {is}"));
    }
    let nothing_expected = evidence.speaks().is_none();
    Seen { ok: Some(nothing_expected || evidence.is_spoken()), took: Some(words.took), lines }
}

/// Said of a hop behind one that can be taken, where nothing was looked at before the time was over.
fn no_time(evidence: &Evidence) -> Option<String> {
    let reached = evidence.path().is_some_and(|path| path.connects());
    (evidence.cut_short && reached).then(|| "not asked: the time was over".to_owned())
}

/// `SSLRequest answered S`
pub(in crate::diagnose) fn first_words(words: &Words) -> String {
    let said = one_answer(words.asked, &words.heard);
    match words.heard {
        Heard::Nothing => format!("{said} within {}", text::time(words.took)),
        _ => said,
    }
}

/// What one question came to; without one, what was said unasked.
pub(in crate::diagnose) fn one_answer(asked: Option<Speaks>, heard: &Heard) -> String {
    let asked = match asked {
        Some(Speaks::Postgres) => "PostgreSQL's SSLRequest",
        Some(Speaks::Redis) => "PING",
        Some(Speaks::Http) => "HEAD /",
        Some(Speaks::Tls) => "a TLS hello",
        Some(Speaks::Ssh | Speaks::Mysql | Speaks::Smtp) | None => {
            return match heard {
                Heard::Said(text) => format!("it says by itself: \"{text}\""),
                Heard::Nothing => "it says nothing by itself".to_owned(),
                Heard::NotAsked(why) => format!("it was not listened to: {why}"),
                Heard::Closed => "it closes the connection by itself".to_owned(),
                Heard::Cut => "it cuts the connection by itself".to_owned(),
            };
        }
    };
    match heard {
        Heard::Said(text) => format!("{asked} is answered \"{text}\""),
        Heard::Nothing => format!("{asked} has no answer"),
        Heard::NotAsked(why) => format!("{asked} was not asked: {why}"),
        Heard::Closed => format!("at {asked} it closes the connection without a word"),
        Heard::Cut => format!("at {asked} it cuts the connection"),
    }
}

/// What small and large segments came to.
pub(in crate::diagnose) fn segments(seen: &SmallSegments) -> String {
    let SmallSegments { segment, what, large_silent, large_answered, small_answered, small_silent } = seen;
    format!(
        "{what}: answered {small_answered} of {} times with segments of {segment} bytes, {large_answered} of {} times \
         with large ones",
        small_answered.saturating_add(*small_silent),
        large_answered.saturating_add(*large_silent)
    )
}

pub(super) fn auth(evidence: &Evidence) -> Seen {
    let Some(attempt) = &evidence.attempt else { return Seen::default() };
    let took = attempt.phases.get(Phase::Auth);
    let through =
        attempt.result.is_ok() || evidence.broken().is_some_and(|hop| hop > crate::health::HopKind::Auth);
    let subject = &evidence.subject;
    let line = match (took, &subject.user, &subject.database) {
        (None, _, _) if subject.kind == Kind::Redis => {
            "no log-in is configured, and none was asked for".to_owned()
        }
        (_, Some(user), Some(database)) => format!("logged in as {user}, to the database {database}"),
        (_, Some(user), None) => format!("logged in as {user}"),
        _ => "logged in".to_owned(),
    };
    Seen { ok: None, took, lines: through.then_some(line).into_iter().collect() }
}

pub(super) fn query(evidence: &Evidence) -> Seen {
    let Some(attempt) = &evidence.attempt else { return Seen::default() };
    let took = attempt.phases.get(Phase::Query);
    let mut lines: Vec<String> = about(&attempt.details).into_iter().collect();
    if lines.is_empty() && attempt.result.is_ok() {
        lines.push("the answer is as expected".to_owned());
    }
    lines.extend(attempt.warnings.iter().map(|warning| format!("warning: {warning}")));
    Seen { ok: None, took, lines }
}

/// What the peer told of itself, in a line.
fn about(details: &Details) -> Option<String> {
    match details {
        Details::Postgres(seen) => {
            let role = if seen.in_recovery { "a replica" } else { "a primary" };
            let read_only = if seen.read_only && !seen.in_recovery { ", read-only" } else { "" };
            let used = match (seen.connections.used, seen.connections.available()) {
                (Some(used), Some(available)) => format!("; {used} of {available} connections in use"),
                _ => String::new(),
            };
            Some(format!("PostgreSQL {}, {role}{read_only}{used}", seen.server_version))
        }
        Details::Redis(seen) => Some(about_redis(seen)),
        Details::Http(seen) => Some(format!("status {}", seen.status_code)),
        Details::None | Details::Dns(_) | Details::Tcp(_) => None,
    }
}

fn about_redis(seen: &RedisDetails) -> String {
    let version = seen.server_version.as_deref().map(|version| format!(" {version}")).unwrap_or_default();
    let mode = seen.mode.as_deref().map(|mode| format!(", {mode}")).unwrap_or_default();
    let role = match &seen.replication {
        Some(RedisReplication::Primary { .. }) => ", a primary".to_owned(),
        Some(RedisReplication::Replica { primary: Some(primary), .. }) => format!(", a replica of {primary}"),
        Some(RedisReplication::Replica { .. }) => ", a replica".to_owned(),
        None => String::new(),
    };
    format!("Redis{version}{mode}{role}")
}
