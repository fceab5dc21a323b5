//! Names that lead nowhere: missing ones, and servers that say nothing of them.

use super::finding::{Finding, said};
use crate::diagnose::advice::Advice;
use crate::diagnose::evidence::{Evidence, Names};
use crate::diagnose::{hops, text};
use crate::health::{Confidence, Failure, FailureKind, HopKind};
use crate::net::resolve::{is_dangling, was_not_asked};

/// Why the name could not be resolved: what was seen just now, or else what the check met.
fn unresolved(evidence: &Evidence) -> Option<&Failure> {
    let met = evidence.fails_at(HopKind::Dns)?;
    let now = evidence.names.as_ref().and_then(|names| names.answer.as_ref().err());
    Some(now.unwrap_or(met))
}

/// Where it can be resolved by now, nothing is certain any more of why it could not be before.
fn unless_passed(evidence: &Evidence, confidence: Confidence) -> Confidence {
    if evidence.resolves() { Confidence::Unclear } else { confidence }
}

/// A line for a name that can be resolved by now.
fn passed(evidence: &Evidence) -> Option<String> {
    let names = evidence.names.as_ref()?;
    let answer = names.answer.as_ref().ok()?;
    let told = hops::says(&Ok(answer.clone()));
    Some(format!("by now it can be resolved: {told}, after {}", text::time(names.took)))
}

pub(super) fn servers(names: &Names) -> String {
    let servers: Vec<String> = names.resolver.servers.iter().copied().map(text::server).collect();
    if servers.is_empty() { "the name servers".to_owned() } else { text::first(&servers, 4) }
}

pub(super) fn name(evidence: &Evidence) -> &str {
    text::name(&evidence.subject.host)
}

/// What is no name, or nobody to ask: no packet was sent, so nothing of the network is to blame.
pub(super) fn resolver_unusable(evidence: &Evidence) -> Option<Finding> {
    let failure = unresolved(evidence)?;
    let names = evidence.names.as_ref()?;
    // A name that a server does not know comes with the server's code.
    if failure.kind == FailureKind::DnsNotFound && failure.code.is_none() {
        let summary = format!("{} is no domain name", name(evidence));
        return Some(
            Finding::certain(summary).told_by(failure).step("correct the name in the configuration"),
        );
    }
    let nobody = names.resolver.servers.is_empty() && failure.kind == FailureKind::DnsServerFailure;
    nobody.then(|| {
        let summary = format!(
            "there is no name server to ask for {}: {} names none",
            name(evidence),
            names.resolver.from
        );
        Finding::certain(summary).told_by(failure).step(
            "see what the container has been given: `cat /etc/resolv.conf`; or set `resolver.nameservers`",
        )
    })
}

/// Our own limit, which must not pass for a resolver that does not answer.
pub(super) fn packet_budget(evidence: &Evidence) -> Option<Finding> {
    // Nor for want of time, which is nobody's fault.
    let of_packets = |failure: &&Failure| was_not_asked(failure) && failure.message.contains("packets");
    let failure = unresolved(evidence).filter(of_packets)?;
    let summary = format!(
        "{} was not asked for: this program has used up the packets that it may send",
        name(evidence)
    );
    Some(
        Finding::certain(summary)
            .told_by(failure)
            .step("see what uses them: `resolver` in /health/detailed counts packets, waits and refusals"),
    )
}

/// The name is there, and leads nowhere.
pub(super) fn name_without_address(evidence: &Evidence) -> Option<Finding> {
    let failure = unresolved(evidence).filter(|failure| failure.kind == FailureKind::DnsNotFound)?;
    let dangling = is_dangling(failure);
    if failure.code.as_deref() != Some("NODATA") && !dangling {
        return None;
    }
    let summary = match dangling {
        true => format!("{} is an alias of a name that is not there", name(evidence)),
        false => format!("{} exists and has no record of the type that is asked for", name(evidence)),
    };
    let names = evidence.names.as_ref();
    let finding = Finding::new(unless_passed(evidence, said_by_all(names)), summary)
        .told_by(failure)
        .because(names.into_iter().flat_map(hops::by_server))
        .because(passed(evidence))
        .step(Advice::on(evidence).dig(None));
    Some(finding)
}

/// A name that does not exist, beside one that does.
pub(super) fn name_misspelt(evidence: &Evidence) -> Option<Finding> {
    let failure = missing(evidence)?;
    let names = evidence.names.as_ref()?;
    let near: Vec<String> = names.near.iter().map(|near| text::name(near).to_owned()).collect();
    let nearest = near.first()?;
    let summary = format!("{} does not exist; {nearest} does, and is spelt nearly so", name(evidence));
    let finding = Finding::likely(summary)
        .because([said(failure)])
        .since(format!("{} can be resolved", text::all(&near)))
        .because(passed(evidence))
        .or_else("a name that is right, and was deleted")
        .step(format!("if {nearest} is meant, correct the host in the configuration"))
        .advise(Advice::on(evidence).state());
    Some(finding)
}

/// A name that does not exist, as far as the servers that are asked here know.
pub(super) fn name_missing(evidence: &Evidence) -> Option<Finding> {
    let failure = missing(evidence)?;
    let names = evidence.names.as_ref();
    let asked = names.map(servers).unwrap_or_else(|| "the name servers".to_owned());
    let summary = format!("{} does not exist for {asked}", name(evidence));
    let ancestor = names.and_then(|names| names.nearest_ancestor.as_deref()).map(text::name);
    let around = match ancestor {
        Some(ancestor) => format!(
            "the nearest name above it that exists is {ancestor}: its zone is known here, the name is not in it"
        ),
        None => "no name above it is known here either".to_owned(),
    };
    let advice = Advice::on(evidence);
    let search = names.filter(|names| !names.resolver.search.is_empty()).map(|names| {
        let suffixes: Vec<String> =
            names.resolver.search.iter().map(|it| text::name(it).to_owned()).collect();
        format!("it was tried as it is, and with the search list ({})", text::first(&suffixes, 4))
    });
    let own_zone = advice.endpoint().is_none().then(|| advice.private_zones()).flatten();
    let finding = Finding::new(unless_passed(evidence, said_by_all(names)), summary)
        .because([said(failure)])
        .because(names.into_iter().flat_map(hops::by_server))
        .because(names.map(|_| around))
        .because(search)
        .because(passed(evidence))
        .step(failure.hint.clone())
        .advise(own_zone)
        .advise(advice.endpoint().map(|_| advice.state()).unwrap_or_default())
        .step(advice.dig(None));
    Some(finding)
}

fn missing(evidence: &Evidence) -> Option<&Failure> {
    unresolved(evidence).filter(|failure| failure.kind == FailureKind::DnsNotFound)
}

/// A word of the servers, where each that was asked alone repeats it.
fn said_by_all(names: Option<&Names>) -> Confidence {
    match names.is_some_and(|names| !names.by_server.is_empty() && names.agree()) {
        true => Confidence::Certain,
        false => Confidence::Likely,
    }
}

/// REFUSED, or a port that refuses: somebody is there and does not serve us.
pub(super) fn resolver_refuses(evidence: &Evidence) -> Option<Finding> {
    let met = unresolved(evidence)?;
    let refuses = |failure: &Failure| {
        matches!(failure.code.as_deref(), Some("REFUSED" | "ECONNREFUSED"))
            || failure.message.to_ascii_lowercase().contains("connection refused")
    };
    let names = evidence.names.as_ref();
    // Asked together they are only waited for, since one of them may still answer; asked alone, each tells why it does not.
    let each = names.and_then(|names| {
        let mut refusals =
            names.heard().map(|one| one.answer.as_ref().err().filter(|failure| refuses(failure)));
        let first = refusals.next()??;
        refusals.all(|refusal| refusal.is_some()).then_some(first)
    });
    let unanswered = met.kind == FailureKind::DnsTimeout;
    let failure = Some(met).filter(|failure| refuses(failure)).or(each.filter(|_| unanswered))?;
    let asked = names.map(servers).unwrap_or_else(|| "the name server".to_owned());
    let by_answer = failure.code.as_deref() == Some("REFUSED");
    let summary = match by_answer {
        true => format!("{asked} answered REFUSED: names are not resolved for this client"),
        false => format!("nothing serves names at {asked}: the port refuses"),
    };
    let step = match by_answer {
        true => {
            "let the server answer this client: its list of allowed networks (`allow-recursion`, `access-control`) must have this address"
        }
        false => {
            "check the address in /etc/resolv.conf (or `resolver.nameservers`), and that a name server runs there"
        }
    };
    let finding = Finding::new(unless_passed(evidence, Confidence::Certain), summary)
        .because([said(failure)])
        .because(names.into_iter().flat_map(hops::by_server))
        .because(passed(evidence))
        .step(step)
        .step(Advice::on(evidence).dig(names.and_then(|names| names.resolver.servers.first().copied())));
    Some(finding)
}

/// Nobody answers. Whether the packets or the answers are lost, and where, silence does not tell; that there is no answer
/// is all that is claimed, and is only certain where each server was asked again by itself.
pub(super) fn resolver_silent(evidence: &Evidence) -> Option<Finding> {
    let unanswered = |failure: &&Failure| failure.kind == FailureKind::DnsTimeout && !was_not_asked(failure);
    let failure = unresolved(evidence).filter(unanswered)?;
    let names = evidence.names.as_ref();
    let asked = names.map(servers).unwrap_or_else(|| "the name servers".to_owned());
    let silent = |names: &&Names| {
        let timed_out =
            |failure: &Failure| failure.kind == FailureKind::DnsTimeout && !was_not_asked(failure);
        !names.by_server.is_empty()
            && names.by_server.iter().all(|one| one.answer.as_ref().is_err_and(timed_out))
    };
    let confidence = match names.filter(silent) {
        Some(_) => Confidence::Certain,
        None => Confidence::Likely,
    };
    let summary = match names.map(|names| names.resolver.servers.len()) {
        Some(1) => format!("the name server {asked} does not answer"),
        _ => format!("no name server answers: {asked}"),
    };
    let finding = Finding::new(unless_passed(evidence, confidence), summary)
        .on_silence()
        .because([said(failure)])
        .because(names.into_iter().flat_map(hops::by_server))
        .because(passed(evidence))
        .step(failure.hint.clone())
        .advise(Advice::on(evidence).vpc_names())
        .step(Advice::on(evidence).dig(names.and_then(|names| names.resolver.servers.first().copied())));
    Some(finding)
}

/// An answer that is none.
pub(super) fn resolver_fails(evidence: &Evidence) -> Option<Finding> {
    let failure = unresolved(evidence).filter(|failure| failure.kind == FailureKind::DnsServerFailure)?;
    let names = evidence.names.as_ref();
    let asked = names.map(servers).unwrap_or_else(|| "the name servers".to_owned());
    let (confidence, summary) = match &failure.code {
        Some(code) => (
            Confidence::Certain,
            format!("{asked} answered {code} for {}: it cannot be resolved there", name(evidence)),
        ),
        None => (Confidence::Likely, format!("{} cannot be asked for at {asked}", name(evidence))),
    };
    let forwards = "where the zone is forwarded, ask the servers that it is forwarded to: the one in between answers so while it cannot reach them";
    let finding = Finding::new(unless_passed(evidence, confidence), summary)
        .told_by(failure)
        .because(names.into_iter().flat_map(hops::by_server))
        .because(passed(evidence))
        .step(forwards)
        .step(Advice::on(evidence).dig(names.and_then(|names| names.resolver.servers.first().copied())));
    Some(finding)
}
