//! The name becomes addresses.

use super::Seen;
use crate::diagnose::addresses;
use crate::diagnose::evidence::{Evidence, NameAnswer, Names, ServerAnswer};
use crate::diagnose::text;
use crate::health::{Failure, FailureKind, HopKind, Kind};
use crate::net::resolve::{is_too_long, was_heard_of, was_not_asked};

/// Addresses, records and aliases told of one answer.
const TOLD: usize = 5;

pub(super) fn dns(evidence: &Evidence) -> Seen {
    let Some(names) = &evidence.names else {
        // Whether the subject has a name at all is known before it is looked up.
        return match evidence.subject.host.parse::<std::net::IpAddr>() {
            Ok(address) => {
                let line = format!("{}: an address, nothing to resolve", addresses::told(address));
                Seen { ok: Some(true), took: None, lines: vec![line] }
            }
            Err(_) => Seen::default(),
        };
    };
    let mut lines = vec![match &names.answer {
        Ok(answer) => format!("{} → {}", text::name(&names.name), told(answer)),
        // The check came further.
        Err(failure) if evidence.broken().is_some_and(|broken| broken > HopKind::Dns) => {
            format!("asked again just now: {}", said(failure))
        }
        Err(failure) => said(failure),
    }];
    lines.extend(found_as(names));
    lines.extend(by_server(names));
    if evidence.subject.kind != Kind::Dns {
        lines.extend(unexpected(evidence));
    }
    lines.extend(around(names));
    if let Some(later) = &names.later {
        lines.push(format!("at the end of the diagnosis: {}", says(later)));
    }
    let not_asked = names.answer.as_ref().is_err_and(was_not_asked);
    Seen { ok: (!not_asked).then_some(names.answer.is_ok()), took: Some(names.took), lines }
}

/// An answer, or what there was instead of one.
pub(in crate::diagnose) fn says(answer: &Result<NameAnswer, Failure>) -> String {
    match answer {
        Ok(answer) => told(answer),
        Err(failure) => said(failure),
    }
}

/// `10.0.3.7 (private), TTL 5 s, alias of db.example`
fn told(answer: &NameAnswer) -> String {
    let data: Vec<String> = match answer.addresses.is_empty() {
        true => answer.records.iter().map(|record| format!("\"{record}\"")).collect(),
        false => answer.addresses.iter().map(|address| addresses::told(*address)).collect(),
    };
    let mut told = match data.is_empty() {
        true => "nothing".to_owned(),
        false => text::first(&data, TOLD),
    };
    if let Some(ttl) = answer.ttl_seconds {
        told.push_str(&format!(", TTL {ttl} s"));
    }
    if !answer.aliases.is_empty() {
        let aliases: Vec<&str> = answer.aliases.iter().take(TOLD).map(|alias| text::name(alias)).collect();
        told.push_str(&format!(", alias of {}", aliases.join(" → ")));
    }
    if answer.from_hosts_file {
        told.push_str(", from the hosts file");
    }
    told
}

fn said(failure: &Failure) -> String {
    match &failure.code {
        Some(code) if !failure.message.contains(code.as_str()) => format!("{} ({code})", failure.message),
        _ => failure.message.clone(),
    }
}

/// That a suffix was added, where one was.
fn found_as(names: &Names) -> Option<String> {
    let found = text::name(&names.answer.as_ref().ok()?.found_as);
    let added = !found.is_empty() && !found.eq_ignore_ascii_case(text::name(&names.name));
    added.then(|| {
        let search = names.resolver.search.iter().map(|suffix| text::name(suffix).to_owned());
        format!(
            "found as {found}: the search list ({}; ndots {}) comes before the name as it is written",
            text::first(&search.collect::<Vec<_>>(), TOLD),
            names.resolver.ndots
        )
    })
}

/// What each server that was asked alone said; in one line where they agree.
pub(in crate::diagnose) fn by_server(names: &Names) -> Vec<String> {
    let name = |one: &ServerAnswer| text::server(one.server);
    let time = |one: &ServerAnswer| text::time(one.took);
    match names.by_server.as_slice() {
        [] => {
            let servers: Vec<String> = names.resolver.servers.iter().copied().map(text::server).collect();
            let from = &names.resolver.from;
            match (servers.is_empty(), names.answer.is_err()) {
                (true, true) => vec![format!("{from} names no server")],
                (false, true) => vec![format!("servers by {from}: {}", text::first(&servers, TOLD))],
                _ => Vec::new(),
            }
        }
        [only] if names.agree() => {
            vec![format!("{}, asked alone, says the same ({})", name(only), time(only))]
        }
        several if names.agree() => {
            let servers: Vec<String> = several.iter().map(name).collect();
            let times: Vec<String> = several.iter().map(time).collect();
            vec![format!("{} agree ({})", text::first(&servers, TOLD), times.join(", "))]
        }
        several => several.iter().map(one_server).collect(),
    }
}

fn one_server(one: &ServerAnswer) -> String {
    let (server, took) = (text::server(one.server), text::time(one.took));
    match &one.answer {
        Err(failure)
            if failure.kind == FailureKind::DnsTimeout
                && !was_not_asked(failure)
                && !was_heard_of(failure)
                && !is_too_long(failure) =>
        {
            format!("{server}: no answer in {took}")
        }
        answer => format!("{server}: {} ({took})", says(answer)),
    }
}

/// Addresses out of where they are expected.
fn unexpected(evidence: &Evidence) -> Option<String> {
    let expected = &evidence.subject.expected_addresses;
    let outside =
        evidence.resolved().iter().find(|address| !expected.iter().any(|net| net.contains(*address)))?;
    let expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
    (!expected.is_empty()).then(|| format!("{outside} is not in {}", text::all(&expected)))
}

/// What there is in place of a name that is missing.
fn around(names: &Names) -> Vec<String> {
    if names.answer.is_ok() {
        return Vec::new();
    }
    let near: Vec<String> = names.near.iter().map(|near| text::name(near).to_owned()).collect();
    let near = (!near.is_empty()).then(|| format!("spelt nearly so, and there: {}", text::all(&near)));
    let ancestor = names.nearest_ancestor.as_deref();
    let ancestor =
        ancestor.map(|name| format!("the nearest name above it that exists is {}", text::name(name)));
    near.into_iter().chain(ancestor).collect()
}
