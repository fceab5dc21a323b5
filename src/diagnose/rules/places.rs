//! Names that lead somewhere, and to the wrong place: what is met there is then only a symptom.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::finding::{Finding, said};
use super::names::{name, servers};
use crate::config::plan::Role;
use crate::diagnose::addresses::{self, Reach};
use crate::diagnose::advice::Advice;
use crate::diagnose::evidence::{Evidence, NameAnswer, Names, ServerAnswer};
use crate::diagnose::{hops, text};
use crate::health::observation::{PostgresDetails, RedisDetails, RedisReplication};
use crate::health::{Details, FailureKind, HopKind, Kind};

/// A public address where a private one is expected: by the configuration, by another server's answer, or by the name
/// itself. That a zone has two views is the usual reason; a record that was changed is the other.
pub(super) fn split_horizon(evidence: &Evidence) -> Option<Finding> {
    let names = evidence.names.as_ref()?;
    let resolved = evidence.resolved();
    let public = resolved.iter().find(|address| Reach::of(**address) == Reach::Public)?;
    if resolved.iter().any(|address| Reach::of(*address).is_inside()) {
        return None;
    }
    // Otherwise a path that works, or ends for another reason, shows that the address is the right one.
    let unexpected = evidence.fails_by(FailureKind::DnsUnexpectedAnswer).is_some();
    if !unexpected && !evidence.ends_within(HopKind::Route..=HopKind::Connect) {
        return None;
    }
    let inside = |address: &IpAddr| Reach::of(*address).is_inside();
    let elsewhere =
        names.heard().find(|one| one.answer.as_ref().is_ok_and(|answer| answer.addresses.iter().any(inside)));
    let expected = &evidence.subject.expected_addresses;
    let by_config = !expected.is_empty() && expected.iter().all(|net| Reach::of(net.network()).is_inside());
    let advice = Advice::on(evidence);
    let in_vpc = advice.endpoint().is_some() && evidence.task.is_some();
    let why = if let Some(other) = elsewhere {
        format!("{} says: {}", text::server(other.server), hops::says(&other.answer))
    } else if by_config {
        let expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
        format!("the configuration expects {}", text::all(&expected))
    } else if in_vpc {
        "inside its own VPC, this endpoint's name leads to a private address".to_owned()
    } else if has_private_suffix(name(evidence)) {
        "names that end so are for private networks".to_owned()
    } else {
        return None;
    };
    let summary =
        format!("{} leads to {public}, a public address, where a private one is expected", name(evidence));
    let asked = format!("the answer is by {} ({})", servers(names), names.resolver.from);
    let finding = Finding::likely(summary)
        .because([why, asked])
        .because(evidence.failure().map(said))
        .or_else("a record that was changed, or a server that is meant to be public")
        .step("ask the resolver that has the private view of the zone: in a VPC that is its own, at 169.254.169.253 or at the network's address plus two")
        .advise(advice.private_zones())
        .advise(advice.vpc_names())
        .advise(advice.state());
    Some(finding)
}

/// Suffixes that no public zone has.
fn has_private_suffix(name: &str) -> bool {
    const PRIVATE: [&str; 7] = ["internal", "local", "lan", "corp", "intranet", "private", "home"];
    name.rsplit('.').next().is_some_and(|last| PRIVATE.contains(&last.to_ascii_lowercase().as_str()))
}

/// Addresses out of the networks that the configuration expects; the check judges by the very same list.
pub(super) fn unexpected_address(evidence: &Evidence) -> Option<Finding> {
    let failure = evidence.fails_by(FailureKind::DnsUnexpectedAnswer)?;
    let expected = &evidence.subject.expected_addresses;
    let outside: Vec<IpAddr> = evidence
        .resolved()
        .iter()
        .filter(|address| !expected.iter().any(|net| net.contains(*address)))
        .copied()
        .collect();
    if expected.is_empty() || outside.is_empty() {
        return None;
    }
    let told: Vec<String> = outside.iter().map(|address| addresses::told(*address)).collect();
    let nets: Vec<String> = expected.iter().map(ToString::to_string).collect();
    let summary = format!(
        "{} leads to {}, which is not in {}",
        name(evidence),
        text::first(&told, 3),
        text::all(&nets)
    );
    let finding = Finding::certain(summary)
        .since(said(failure))
        .because(evidence.names.iter().flat_map(hops::by_server))
        .step("compare the record with the server's real address: one of the record and `expect.addresses` is out of date")
        .advise(Advice::on(evidence).private_zones());
    Some(finding)
}

/// Servers that say different things, each by an answer: who is silent, or cannot answer, has no opinion. They explain a
/// name that is sometimes there, and an address that does not answer where others have another one. On a path that works
/// it is a flaw: the next check may go by the other answer.
pub(super) fn resolvers_disagree(evidence: &Evidence) -> Option<Finding> {
    let names = evidence.names.as_ref()?;
    if names.heard().count() < 2 || names.answer.as_ref().is_ok_and(|answer| answer.from_hosts_file) {
        return None;
    }
    let answers = || names.heard().filter_map(|one| one.answer.as_ref().ok());
    let without: Vec<String> =
        names.heard().filter(|one| says_nothing(one)).map(|one| text::server(one.server)).collect();
    let some_have_none = !without.is_empty() && answers().next().is_some();
    let sets: Vec<BTreeSet<IpAddr>> =
        answers().map(|answer| answer.addresses.iter().copied().collect()).collect();
    let differ = sets.iter().any(|one| sets.iter().any(|other| !one.is_empty() && one.is_disjoint(other)));
    if !some_have_none && !differ {
        return None;
    }
    let explains = match evidence.broken() {
        // Where all is well, other addresses of a public name are how such names spread their load.
        None => evidence.works() && (some_have_none || !takes_their_turns(evidence, &sets)),
        Some(HopKind::Dns) => true,
        Some(HopKind::Query) => evidence.subject.kind == Kind::Dns,
        // A missing answer explains nothing where another led on; another address may.
        Some(HopKind::Route | HopKind::Connect) => differ && !takes_their_turns(evidence, &sets),
        Some(_) => false,
    };
    if !explains {
        return None;
    }
    let name = name(evidence);
    let finding = match some_have_none {
        true => Finding::certain(format!(
            "of the name servers, {} {} no answer for {name}, and others have",
            text::first(&without, 3),
            if without.len() == 1 { "has" } else { "have" }
        )),
        false => Finding::likely(format!("the name servers lead {name} to different addresses")),
    };
    let finding = finding.because(hops::by_server(names)).because(evidence.failure().map(said));
    let finding = if some_have_none { finding } else { finding.or_else("a name whose answers take turns") };
    let finding = finding
        .step(
            "list no name servers side by side that have different zones: each question goes to any of them",
        )
        .advise(
            names.heard().find(|one| says_nothing(one)).map(|one| Advice::on(evidence).dig(Some(one.server))),
        )
        .advise(Advice::on(evidence).private_zones());
    Some(finding)
}

/// Whether a server answers that there is no such name, or nothing of this type.
fn says_nothing(one: &ServerAnswer) -> bool {
    one.answer.as_ref().is_err_and(|failure| failure.kind == FailureKind::DnsNotFound)
}

/// Whether different addresses are nothing to speak of: a public name, or an endpoint that stands for several servers.
fn takes_their_turns(evidence: &Evidence, sets: &[BTreeSet<IpAddr>]) -> bool {
    let public = sets.iter().flatten().all(|address| Reach::of(*address) == Reach::Public);
    let several = Advice::on(evidence).endpoint().is_some_and(|endpoint| endpoint.is.takes_turns());
    public || several
}

/// The addresses of an answer that is there.
fn set(answer: &NameAnswer) -> BTreeSet<IpAddr> {
    answer.addresses.iter().copied().collect()
}

/// Whether the name led to one place at first and later to another, as names do whose answers take turns.
fn is_turn(evidence: &Evidence, names: &Names) -> bool {
    let (Ok(first), Some(Ok(later))) = (&names.answer, &names.later) else { return false };
    names.takes_turns || takes_their_turns(evidence, &[set(first), set(later)])
}

/// A line for a path that does not work, whose name takes turns: other addresses may be well.
pub(super) fn takes_turns(evidence: &Evidence) -> Vec<String> {
    let Some(names) = evidence.names.as_ref().filter(|names| is_turn(evidence, names)) else {
        return Vec::new();
    };
    let (Some(failure), Some(later)) = (evidence.failure(), &names.later) else { return Vec::new() };
    let note = format!(
        "the answers for {} take turns, and this is of one of them; a moment later: {}",
        name(evidence),
        hops::says(later)
    );
    vec![said(failure), note]
}

/// The name led elsewhere while we looked: a failover is under way, and what was met at the old address is its end. A name
/// that has some of its addresses still, or whose answers take turns, does not move.
pub(super) fn name_moving(evidence: &Evidence) -> Option<Finding> {
    let names = evidence.names.as_ref()?;
    let (first, later) = (names.answer.as_ref().ok()?, names.later.as_ref()?);
    let explains = match evidence.failure() {
        None => evidence.works(),
        Some(failure) => failover_explains(failure.kind) && evidence.broken() != Some(HopKind::Dns),
    };
    let moves = match later {
        Ok(later) => set(first).is_disjoint(&set(later)) && !is_turn(evidence, names),
        // Of a server that cannot answer nothing follows for the name.
        Err(failure) => failure.kind == FailureKind::DnsNotFound,
    };
    if !explains || !moves {
        return None;
    }
    let was: Vec<String> = first.addresses.iter().map(ToString::to_string).collect();
    let name = name(evidence);
    let summary = match later {
        Ok(later) if !later.addresses.is_empty() => {
            let is: Vec<String> = later.addresses.iter().map(ToString::to_string).collect();
            format!(
                "{name} led to {} at first and leads to {} now: it is being moved",
                text::first(&was, 3),
                text::first(&is, 3)
            )
        }
        Ok(_) => format!("{name} led to {} at first and leads to no address now", text::first(&was, 3)),
        Err(_) => format!("{name} led to {} at first and cannot be resolved any more", text::first(&was, 3)),
    };
    let finding = Finding::likely(summary)
        .because([format!("at first: {}", hops::says(&names.answer)), format!("then: {}", hops::says(later))])
        .because(evidence.failure().map(said))
        .or_else("a name whose answers take turns")
        .step("wait until the move is over, and run this diagnosis again: what was met at the old address says little")
        .advise(Advice::on(evidence).events())
        .step("have the applications look the name up for each new connection, and keep no answer longer than its TTL");
    Some(finding)
}

/// What a failover does to those who go by the old address.
fn failover_explains(kind: FailureKind) -> bool {
    matches!(
        kind,
        FailureKind::ConnectTimeout
            | FailureKind::ConnectRefused
            | FailureKind::ConnectUnreachable
            | FailureKind::ConnectReset
            | FailureKind::Timeout
            | FailureKind::QueryTimeout
            | FailureKind::StartingUp
            | FailureKind::Loading
            | FailureKind::ShuttingDown
            | FailureKind::WrongRole
            | FailureKind::ReadOnly
            | FailureKind::ClusterDown
    )
}

/// A replica answers where the name should lead to the primary, and did: the record is behind the failover. Where nothing
/// says that the name ever led to a primary, it is only a wrong role.
pub(super) fn stale_dns(evidence: &Evidence) -> Option<Finding> {
    let names = evidence.names.as_ref()?;
    let failure = evidence.fails_by(FailureKind::WrongRole).or_else(|| {
        evidence.fails_by(FailureKind::ReadOnly).filter(|it| it.code.as_deref() == Some("READONLY"))
    })?;
    let told = is_replica(&evidence.attempt.as_ref()?.details);
    let replica =
        told.unwrap_or_else(|| failure.kind == FailureKind::ReadOnly || failure.message.contains("replica"));
    if evidence.subject.role == Role::Replica || !replica {
        return None;
    }
    let advice = Advice::on(evidence);
    let was_primary = evidence.before.as_ref().and_then(is_replica) == Some(false);
    let follows = advice.endpoint().is_some_and(|endpoint| endpoint.is.follows_the_primary());
    if !was_primary && !follows {
        return None;
    }
    let now = evidence.place();
    let ttl = names.answer.as_ref().ok().and_then(|answer| answer.ttl_seconds);
    let before = was_primary.then(|| "when it last worked, a primary answered under this name".to_owned());
    let endpoint =
        follows.then(|| "an endpoint of this form leads to the primary, once its record follows".to_owned());
    let summary = format!("{} still leads to {now}, which is a replica by now", name(evidence));
    let finding = Finding::likely(summary)
        .because([said(failure)])
        .because(before)
        .because(endpoint)
        .because(ttl.map(|ttl| format!("the record lives for {ttl} s (TTL)")))
        .or_else("a server that was made a replica for good, while the record was left as it was")
        .step(match ttl {
            Some(ttl) => format!("wait until the record has followed, {ttl} s and the failover itself; if it lasts, correct the record"),
            None => "the address comes from no record that follows by itself: correct it".to_owned(),
        })
        .advise(advice.state())
        .step("restart, or have reconnect, what holds connections to the old address: pools do not look names up again by themselves");
    Some(finding)
}

/// Whether a server told that it is a replica; `None` where it told nothing.
pub(super) fn is_replica(details: &Details) -> Option<bool> {
    match details {
        Details::Postgres(seen) => {
            let PostgresDetails { in_recovery, .. } = **seen;
            Some(in_recovery)
        }
        Details::Redis(seen) => {
            let RedisDetails { replication, .. } = &**seen;
            Some(matches!(replication.as_ref()?, RedisReplication::Replica { .. }))
        }
        Details::None | Details::Dns(_) | Details::Tcp(_) | Details::Http(_) => None,
    }
}
