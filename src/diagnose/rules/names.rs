//! Names that lead nowhere, as far as the servers say.

use super::finding::{Finding, said};
use crate::config::secret::REDACTED;
use crate::diagnose::advice::Advice;
use crate::diagnose::evidence::{Evidence, Names};
use crate::diagnose::{hops, text};
use crate::health::{Confidence, Failure, FailureKind, HopKind};
use crate::net::resolve::{is_dangling, was_not_asked};

/// Why the name could not be resolved: what was seen just now, or else what the check met. That nobody was asked just now
/// is nothing that was seen.
pub(super) fn unresolved(evidence: &Evidence) -> Option<&Failure> {
    let met = evidence.fails_at(HopKind::Dns)?;
    let now = evidence.names.as_ref().and_then(|names| names.answer.as_ref().err());
    Some(now.filter(|failure| !was_not_asked(failure)).unwrap_or(met))
}

/// What the check met itself, which stands in every verdict on a name: what was seen since may be something else.
pub(super) fn met(evidence: &Evidence) -> Option<String> {
    evidence.failure().map(said)
}

/// Where it can be resolved by now, nothing is certain any more of why it could not be before.
pub(super) fn unless_passed(evidence: &Evidence, confidence: Confidence) -> Confidence {
    if evidence.resolves() { Confidence::Unclear } else { confidence }
}

/// A line for a name that can be resolved by now.
pub(super) fn passed(evidence: &Evidence) -> Option<String> {
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
        .because(met(evidence))
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
        .because(met(evidence))
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
        .because(names.filter(|_| !is_hidden(evidence)).map(|_| around))
        .because(search)
        .because(met(evidence))
        .because(passed(evidence))
        .step(failure.hint.clone())
        .advise(own_zone)
        .advise(advice.endpoint().map(|_| advice.state()).unwrap_or_default())
        .step(advice.dig(None));
    Some(finding)
}

/// Whether the name must not be shown: then nothing of what is around it is told, either.
fn is_hidden(evidence: &Evidence) -> bool {
    evidence.subject.host == REDACTED
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
