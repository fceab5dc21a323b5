//! Name servers that say nothing of a name, or not what was asked. Each is told by its own answer: what one of two says,
//! the other has not said.

use std::time::Duration;

use super::finding::{Finding, said};
use super::names::{met, name, passed, servers, unless_passed, unresolved};
use crate::diagnose::advice::Advice;
use crate::diagnose::evidence::{Evidence, Names, ServerAnswer};
use crate::diagnose::{hops, text};
use crate::health::{Confidence, Failure, FailureKind, HopKind, Phase};
use crate::net::resolve::{is_too_long, was_heard_of, was_not_asked};

/// In that time each question is sent twice. Who is silent for less may have been slow, or one packet was lost.
const FULL_PATIENCE: Duration = Duration::from_secs(2);

/// What a name server has for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says<'a> {
    /// An answer, be it that there is no such name.
    Answer,
    /// REFUSED.
    Refused,
    /// Its port refuses.
    Closed,
    /// Another code: SERVFAIL.
    Code(&'a str),
    /// An answer that is too long for UDP, and that does not come over TCP.
    TooLong,
    /// Something that is no answer, or it cannot be sent to.
    Odd,
    /// Nothing.
    Silence,
}

impl<'a> Says<'a> {
    fn of(answer: &'a ServerAnswer) -> Self {
        answer.answer.as_ref().err().map_or(Self::Answer, Self::by)
    }

    fn by(failure: &'a Failure) -> Self {
        match (failure.kind, failure.code.as_deref()) {
            (FailureKind::DnsNotFound, _) => Self::Answer,
            _ if is_too_long(failure) => Self::TooLong,
            (_, Some("REFUSED")) => Self::Refused,
            (_, Some("ECONNREFUSED")) => Self::Closed,
            _ if failure.message.to_ascii_lowercase().contains("connection refused") => Self::Closed,
            (_, Some(code)) if is_rcode(code) => Self::Code(code),
            (FailureKind::DnsTimeout, _) if !was_heard_of(failure) => Self::Silence,
            _ => Self::Odd,
        }
    }

    /// For sentences: the server stands before it.
    fn told(self) -> String {
        match self {
            Self::Answer => "answers".to_owned(),
            Self::Refused => "answers REFUSED".to_owned(),
            Self::Closed => "is not there (its port refuses)".to_owned(),
            Self::Code(code) => format!("answers {code}"),
            Self::TooLong => "gives its answer over TCP only, where nothing comes".to_owned(),
            Self::Odd => "gives no answer that can be used".to_owned(),
            Self::Silence => "does not answer".to_owned(),
        }
    }
}

/// Whether a code is one of an answer, and no error number.
fn is_rcode(code: &str) -> bool {
    matches!(code, "SERVFAIL" | "FORMERR" | "NOTIMP") || code.starts_with("RCODE")
}

/// The servers that have this for us.
fn who(names: Option<&Names>, wanted: impl Fn(Says<'_>) -> bool) -> Vec<&ServerAnswer> {
    names.into_iter().flat_map(Names::heard).filter(|one| wanted(Says::of(one))).collect()
}

fn list(of: &[&ServerAnswer]) -> String {
    text::first(&of.iter().map(|one| text::server(one.server)).collect::<Vec<_>>(), 4)
}

/// Each of these servers with what it has for us.
fn told(of: &[&ServerAnswer]) -> String {
    let each: Vec<String> =
        of.iter().map(|one| format!("{} {}", text::server(one.server), Says::of(one).told())).collect();
    text::first(&each, 3)
}

/// The end of a sentence on some servers: what the rest has for us.
fn rest(names: Option<&Names>, but: impl Fn(Says<'_>) -> bool) -> String {
    let rest = who(names, |says| !but(says));
    if rest.is_empty() { String::new() } else { format!("; {}", told(&rest)) }
}

/// Whether each server was asked by itself and has this for us.
fn all(names: Option<&Names>, wanted: impl Fn(Says<'_>) -> bool) -> bool {
    names.is_some_and(|names| {
        names.by_server.len() >= names.resolver.servers.len()
            && names.heard().count() == names.by_server.len()
            && !names.by_server.is_empty()
            && names.heard().all(|one| wanted(Says::of(one)))
    })
}

/// Whether a server was waited for so long that its silence means something.
fn is_long_silent(one: &ServerAnswer) -> bool {
    let was_asked_again = |failure: &Failure| !failure.message.contains("not sent, because");
    one.took >= FULL_PATIENCE && one.answer.as_ref().err().is_some_and(was_asked_again)
}

/// Where no server was asked by itself: one of those that there are.
fn one_of(names: Option<&Names>) -> String {
    match names {
        Some(names) if names.resolver.servers.len() == 1 => servers(names),
        Some(names) => format!("a name server (there are {})", servers(names)),
        None => "a name server".to_owned(),
    }
}

/// The name cannot be resolved, for want of a server that answers.
fn without_answer(evidence: &Evidence) -> Option<&Failure> {
    unresolved(evidence).filter(|failure| {
        matches!(failure.kind, FailureKind::DnsTimeout | FailureKind::DnsServerFailure)
            && !was_not_asked(failure)
    })
}

/// What every verdict here has for evidence; the server's own words first.
fn by_evidence(finding: Finding, evidence: &Evidence, own: Option<&&ServerAnswer>, now: &Failure) -> Finding {
    let names = evidence.names.as_ref();
    finding
        .because(own.and_then(|one| one.answer.as_ref().err()).map(said))
        .because(own.is_none().then(|| said(now)))
        .because(names.into_iter().flat_map(hops::by_server))
        .because(met(evidence))
        .because(passed(evidence))
}

/// Some servers answer, and some do not, or with an error: silence is no other opinion on the name. Whoever asks the dead
/// one first waits, and of two that are asked at once the error may be the first to come.
pub(super) fn one_resolver_dead(evidence: &Evidence) -> Option<Finding> {
    let names = evidence.names.as_ref()?;
    if names.answer.as_ref().is_ok_and(|answer| answer.from_hosts_file) {
        return None;
    }
    let good = who(Some(names), |says| says == Says::Answer);
    let bad = who(Some(names), |says| says != Says::Answer);
    let first = *bad.first()?;
    if good.is_empty() {
        return None;
    }
    let of_servers = |failure: &Failure| {
        failure.phase == Phase::Dns
            && matches!(
                failure.kind,
                FailureKind::DnsTimeout | FailureKind::DnsServerFailure | FailureKind::Timeout
            )
            && !was_not_asked(failure)
    };
    let breaks =
        evidence.failure().is_some_and(of_servers) && evidence.ends_within(HopKind::Dns..=HopKind::Query);
    if !evidence.works() && !breaks {
        return None;
    }
    let seen = bad.iter().all(|one| Says::of(one) != Says::Silence || is_long_silent(one));
    let confidence = match seen && !breaks {
        true => Confidence::Certain,
        false => Confidence::Likely,
    };
    let summary =
        format!("of the name servers, {}, while {} for {}", told(&bad), told(&good), name(evidence));
    let dead = list(&bad);
    let own = first.answer.as_ref().err().and_then(|failure| {
        // The server's own hint says more than that it is dead.
        (Says::by(failure) != Says::Silence).then(|| failure.hint.clone())
    });
    let finding = Finding::new(confidence, summary)
        .on_silence()
        .because(hops::by_server(names))
        .because(met(evidence))
        .step(format!(
            "take {dead} out of {}, or mend it: who asks it first waits seconds each time, or goes by its error",
            names.resolver.from
        ))
        .step(Advice::on(evidence).dig(Some(first.server)))
        .advise(own);
    Some(finding)
}

/// REFUSED, or a port that refuses: somebody is there and does not serve us.
pub(super) fn resolver_refuses(evidence: &Evidence) -> Option<Finding> {
    let failure = without_answer(evidence)?;
    let names = evidence.names.as_ref();
    let refused = who(names, |says| says == Says::Refused);
    let closed = who(names, |says| says == Says::Closed);
    // Asked together they are only waited for, since one of them may still answer; asked alone, each tells why it does not.
    // What the check met counts where nobody was asked alone, or all answer by now.
    let nobody = who(names, |says| says != Says::Answer).is_empty();
    match (refused.first(), closed.first(), Says::by(failure)) {
        (Some(_), _, _) => Some(answers_refused(evidence, failure, &refused)),
        (None, Some(_), _) => Some(port_refuses(evidence, failure, &closed)),
        (None, None, Says::Refused) if nobody => Some(answers_refused(evidence, failure, &[])),
        (None, None, Says::Closed) if nobody => Some(port_refuses(evidence, failure, &[])),
        _ => None,
    }
}

/// By REFUSED alone a server that serves nobody from here is not told from one that does not serve this zone.
fn answers_refused(evidence: &Evidence, failure: &Failure, by: &[&ServerAnswer]) -> Finding {
    let names = evidence.names.as_ref();
    let servers = if by.is_empty() { one_of(names) } else { list(by) };
    let other = names.and_then(|names| names.refused_too.as_ref());
    let name = name(evidence);
    let what = match other {
        Some((other, true)) => {
            format!(", and for {}: nothing is answered that is asked from here", text::name(other))
        }
        Some((other, false)) => format!(", and not for {}: this zone is not served there", text::name(other)),
        None => ": it is not resolved there for this client".to_owned(),
    };
    let summary = format!("{servers} answered REFUSED for {name}{what}");
    let is_refused = |says: Says<'_>| says == Says::Refused;
    let summary = format!("{summary}{}", rest(names, is_refused));
    let for_us = "let the server answer this client: its list of allowed networks (`allow-recursion`, `access-control`) must have this address";
    let for_zone = "see whether the name is right; if it is, ask a server that serves its zone, or have this one forward it there";
    let finding = by_evidence(Finding::likely(summary), evidence, by.first(), failure);
    let finding = match other {
        Some((_, true)) => finding.or_else("a server that serves neither zone").step(for_us).step(for_zone),
        Some((_, false)) => {
            finding.or_else("a list of clients for this zone alone").step(for_zone).step(for_us)
        }
        None => finding
            .or_else("a server that serves other names, and not this zone: is the name right?")
            .step(for_us)
            .step(for_zone),
    };
    let finding = finding.step(Advice::on(evidence).dig(first(names, by)));
    weaker(finding, evidence)
}

fn port_refuses(evidence: &Evidence, failure: &Failure, by: &[&ServerAnswer]) -> Finding {
    let names = evidence.names.as_ref();
    let servers = if by.is_empty() { one_of(names) } else { list(by) };
    let is_closed = |says: Says<'_>| says == Says::Closed;
    let summary = format!("nothing serves names at {servers}: the port refuses{}", rest(names, is_closed));
    let finding = by_evidence(Finding::likely(summary), evidence, by.first(), failure)
        .or_else("a filter that rejects, in the name of a server that is there")
        .step("check the address in /etc/resolv.conf (or `resolver.nameservers`), and that a name server runs there")
        .step(Advice::on(evidence).dig(first(names, by)));
    weaker(finding, evidence)
}

/// The server to ask by hand.
fn first(names: Option<&Names>, by: &[&ServerAnswer]) -> Option<std::net::SocketAddr> {
    let any = || names?.resolver.servers.first().copied();
    by.first().map(|one| one.server).or_else(any)
}

fn weaker(finding: Finding, evidence: &Evidence) -> Finding {
    if evidence.resolves() { finding.trusted(unless_passed(evidence, Confidence::Likely)) } else { finding }
}

/// Nobody answers. Whether the packets or the answers are lost, and where, silence does not tell; that there is no answer
/// is all that is claimed, and is only certain where each server was asked again by itself, and waited for.
pub(super) fn resolver_silent(evidence: &Evidence) -> Option<Finding> {
    let failure = without_answer(evidence).filter(|failure| Says::by(failure) == Says::Silence)?;
    let names = evidence.names.as_ref();
    let answers = |says: Says<'_>| says == Says::Answer;
    if !who(names, |says| !answers(says) && says != Says::Silence).is_empty() {
        return None;
    }
    let asked = names.map(servers).unwrap_or_else(|| "the name servers".to_owned());
    let silent = who(names, |says| says == Says::Silence);
    // By themselves they do answer, by now.
    let passed = !who(names, answers).is_empty();
    let all_silent = all(names, |says| says == Says::Silence) && silent.iter().all(|one| is_long_silent(one));
    let confidence = match (all_silent, passed) {
        (true, _) => Confidence::Certain,
        (false, true) => Confidence::Unclear,
        (false, false) => Confidence::Likely,
    };
    let waited = silent.iter().map(|one| one.took).min().or(names.map(|names| names.took));
    let in_time = evidence.resolves() || passed || waited.is_none_or(|waited| waited >= FULL_PATIENCE);
    let summary = match (names.map(|names| names.resolver.servers.len()), waited.filter(|_| !in_time)) {
        (_, Some(waited)) => {
            format!("the time was over before {asked} answered: it was waited for {}", text::time(waited))
        }
        (Some(1), None) => format!("the name server {asked} does not answer"),
        (_, None) => format!("no name server answers: {asked}"),
    };
    let finding = Finding::new(unless_passed(evidence, confidence), summary).on_silence();
    let slow = (!in_time)
        .then_some("give the diagnosis more time (`--timeout`), to tell a slow server from a silent one");
    let finding = by_evidence(finding, evidence, silent.first(), failure)
        .advise(slow.map(str::to_owned))
        .step(failure.hint.clone())
        .advise(Advice::on(evidence).vpc_names())
        .step(Advice::on(evidence).dig(names.and_then(|names| names.resolver.servers.first().copied())));
    Some(finding)
}

/// An answer that is none.
pub(super) fn resolver_fails(evidence: &Evidence) -> Option<Finding> {
    let failure = without_answer(evidence)?;
    let names = evidence.names.as_ref();
    let coded = who(names, |says| matches!(says, Says::Code(_)));
    let too_long = who(names, |says| says == Says::TooLong);
    let odd = who(names, |says| says == Says::Odd);
    let code = coded.first().map_or_else(|| Says::by(failure), |one| Says::of(one));
    if let Says::Code(code) = code {
        return Some(answers_code(evidence, failure, &coded, code));
    }
    if too_long.is_empty() && odd.is_empty() && Says::by(failure) == Says::Silence {
        return None;
    }
    let by = if too_long.is_empty() { odd } else { too_long };
    let asked = match (by.is_empty(), names) {
        (false, _) => list(&by),
        (true, Some(names)) => servers(names),
        (true, None) => "the name servers".to_owned(),
    };
    let own = by.first().and_then(|one| one.answer.as_ref().err()).unwrap_or(failure);
    let name = name(evidence);
    let summary = match Says::by(own) {
        Says::TooLong => format!(
            "{asked} answered that the answer for {name} is too long for UDP, and over TCP it does not come: TCP to port 53 is not let through, or not served"
        ),
        _ if was_heard_of(own) => format!("something comes from {asked}, and no answer for {name}"),
        _ => format!("{name} cannot be asked for at {asked}"),
    };
    let finding = Finding::new(unless_passed(evidence, Confidence::Likely), summary);
    let finding = by_evidence(finding, evidence, by.first(), failure)
        .step(own.hint.clone())
        .step(Advice::on(evidence).dig(first(names, &by)));
    Some(finding)
}

/// SERVFAIL and the like.
fn answers_code(evidence: &Evidence, failure: &Failure, by: &[&ServerAnswer], code: &str) -> Finding {
    let names = evidence.names.as_ref();
    let is_it = |says: Says<'_>| says == Says::Code(code);
    let by: Vec<&ServerAnswer> = by.iter().filter(|one| is_it(Says::of(one))).copied().collect();
    let servers = if by.is_empty() { one_of(names) } else { list(&by) };
    let is_only = by.is_empty() && names.is_some_and(|names| names.resolver.servers.len() == 1);
    let confidence = match all(names, is_it) || is_only {
        true => Confidence::Certain,
        false => Confidence::Likely,
    };
    let summary = format!(
        "{servers} answered {code} for {}: it cannot be resolved there{}",
        name(evidence),
        rest(names, is_it)
    );
    let forwards = "where the zone is forwarded, ask the servers that it is forwarded to: the one in between answers so while it cannot reach them";
    let finding = Finding::new(unless_passed(evidence, confidence), summary);
    let own = by.first().and_then(|one| one.answer.as_ref().err()).unwrap_or(failure);
    by_evidence(finding, evidence, by.first(), failure)
        .step(own.hint.clone())
        .step(forwards)
        .step(Advice::on(evidence).dig(first(names, &by)))
}
