//! How the subject's name resolves: as a check would go by it, and at each name server by itself.
//!
//! Questions are few, and go through the resolver's budget of packets: a name costs two for each server, and one that
//! is missing at most a dozen more.

mod near;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future;
use hickory_resolver::proto::rr;

use super::super::evidence::{NameAnswer, Names, ServerAnswer, Subject};
use crate::clock::{Deadline, Stopwatch};
use crate::config::plan::{Nameserver, RecordType};
use crate::health::{Failure, FailureKind, Phase};
use crate::net::Network;
use crate::net::resolve::{Alone, Records, Resolver, ResolverSeen, is_dangling, was_not_asked};
use crate::probe::as_asked;

/// The answer that a check would go by is waited for this long (in that time every server of a usual host has been
/// asked twice), and no longer than leaves time to ask each server by itself: all that that takes, or half of what there is.
const ANSWER: Duration = Duration::from_secs(4);

/// One server by itself, which is asked again within that time; and each of the later questions.
const SERVER: Duration = Duration::from_millis(2_500);

/// Servers that are asked one by one: libc knows three.
const SERVERS_MAX: usize = 8;

/// Ancestors of a missing name that are looked for.
const ANCESTORS_MAX: usize = 4;

/// Near names that are told.
const NEAR_MAX: usize = 3;

/// Beside checks, which ask, too: guesses and ancestors that are looked for.
const SPARING: (usize, usize) = (3, 2);

/// How the subject's name resolves, here and at each server. Ends by the deadline; what was not seen by then is left
/// out.
pub(super) async fn look(network: &Network, subject: &Subject, deadline: Deadline) -> Names {
    let resolver = network.resolver();
    let name = subject.host.clone();
    let system = resolver.seen();
    let seen = asked(subject, system);
    let watch = Stopwatch::start();
    let (answer, took, by_server) = if asks_system(subject) {
        let left = deadline.remaining();
        let patience = ANSWER.min(left.saturating_sub(SERVER).max(left / 2));
        let answer = system_answer(resolver, subject, deadline.within(patience)).await;
        let took = watch.elapsed();
        let by_server = match name_for_servers(resolver, &name, &answer) {
            Some(name) => ask_each(resolver, &seen.servers, &name, subject.record, deadline).await,
            None => Vec::new(),
        };
        (answer, took, by_server)
    } else {
        let by_server = ask_each(resolver, &seen.servers, &name, subject.record, deadline).await;
        (of_servers(&name, &by_server), watch.elapsed(), by_server)
    };
    let Around { nearest_ancestor, near } = match &answer {
        Err(failure) if is_missing(failure) => around(resolver, subject, &by_server, deadline).await,
        _ => Around::default(),
    };
    let refused_too = match &answer {
        Err(_) => refused_too(resolver, subject, &by_server, deadline).await,
        Ok(_) => None,
    };
    Names {
        name,
        resolver: seen,
        answer,
        took,
        by_server,
        nearest_ancestor,
        near,
        refused_too,
        later: None,
        takes_turns: false,
    }
}

/// What a name came to at the end.
pub(super) struct Later {
    /// The answer.
    pub(super) answer: Result<NameAnswer, Failure>,
    /// Whether the first answer came again after it.
    pub(super) takes_turns: bool,
}

/// Asks again; the answer where it differs (as a set of addresses) from the first. Where it leads elsewhere altogether, a
/// third answer tells a name that moves from one whose answers take turns.
pub(super) async fn look_again(
    network: &Network,
    subject: &Subject,
    names: &Names,
    deadline: Deadline,
) -> Option<Later> {
    // Kind `dns` connects to nothing meanwhile; and what stands in a file does not move.
    if subject.record.is_some() || names.answer.as_ref().is_ok_and(|answer| answer.from_hosts_file) {
        return None;
    }
    let deadline = deadline.within(SERVER);
    let anew = async || {
        let anew = network.resolver().addresses_anew(&names.name);
        Some(tokio::time::timeout_at(deadline.instant(), anew).await.ok()?.map(told))
    };
    let answer = anew().await?;
    // That nobody could be asked says nothing of the name.
    let was_asked = answer.as_ref().err().is_none_or(|failure| !was_not_asked(failure));
    let (first, second) = (addresses(&names.answer), addresses(&answer));
    if !was_asked || first == second {
        return None;
    }
    let takes_turns = match (first, second) {
        (Some(first), Some(second)) if first.is_disjoint(&second) => {
            let third = anew().await.as_ref().and_then(addresses);
            third.is_some_and(|third| !third.is_disjoint(&first))
        }
        _ => false,
    };
    Some(Later { answer, takes_turns })
}

/// The addresses of an answer; `None` for no answer.
fn addresses(answer: &Result<NameAnswer, Failure>) -> Option<BTreeSet<std::net::IpAddr>> {
    Some(answer.as_ref().ok()?.addresses.iter().copied().collect())
}

/// Whether the answer of the system's servers is one that the subject goes by.
fn asks_system(subject: &Subject) -> bool {
    subject.nameservers.is_empty() || subject.nameservers.contains(&Nameserver::System)
}

/// By what the subject's name is resolved: kind `dns` may have servers of its own.
fn asked(subject: &Subject, system: ResolverSeen) -> ResolverSeen {
    let mut servers: Vec<SocketAddr> = Vec::new();
    let of = |server: &Nameserver| match server {
        Nameserver::System => system.servers.clone(),
        Nameserver::At(address) => vec![*address],
    };
    let wanted = match subject.nameservers.as_slice() {
        [] => system.servers.clone(),
        own => own.iter().flat_map(of).collect(),
    };
    for server in wanted {
        if !servers.contains(&server) {
            servers.push(server);
        }
    }
    servers.truncate(SERVERS_MAX);
    match asks_system(subject) {
        true => ResolverSeen { servers, ..system },
        // A server that is named is asked for the name as it is.
        false => {
            ResolverSeen { servers, from: "its own `nameservers`".to_owned(), ..ResolverSeen::default() }
        }
    }
}

async fn system_answer(
    resolver: &Resolver,
    subject: &Subject,
    deadline: Deadline,
) -> Result<NameAnswer, Failure> {
    let watch = Stopwatch::start();
    let name = &subject.host;
    let question = async {
        match subject.record {
            None => resolver.addresses(name).await,
            Some(record) => resolver.records(name, as_asked(record)).await,
        }
    };
    match tokio::time::timeout_at(deadline.instant(), question).await {
        Ok(answer) => answer.map(told),
        // It may have stood in line all the time, and nobody was asked.
        Err(_) if let Some(not_asked) = resolver.no_room() => Err(not_asked),
        Err(_) => {
            let message = format!("no name server answered for {name} within {:.1?}", watch.elapsed());
            Err(Failure::new(Phase::Dns, FailureKind::DnsTimeout, message))
        }
    }
}

/// The name that each server is asked for; `None` where none has to be asked.
fn name_for_servers(resolver: &Resolver, name: &str, answer: &Result<NameAnswer, Failure>) -> Option<String> {
    match answer {
        Ok(answer) if answer.from_hosts_file => None,
        Ok(answer) => Some(answer.found_as.clone()),
        // Short of a domain it is meant to get one from the search list.
        Err(_) if !name.contains('.') => resolver.first_candidate(name),
        Err(_) => Some(name.to_owned()),
    }
}

async fn ask_each(
    resolver: &Resolver,
    servers: &[SocketAddr],
    name: &str,
    record: Option<RecordType>,
    deadline: Deadline,
) -> Vec<ServerAnswer> {
    if deadline.remaining().is_zero() {
        return Vec::new();
    }
    let deadline = deadline.within(SERVER);
    let asking = servers.iter().map(|server| async move {
        let watch = Stopwatch::start();
        let alone = resolver.alone(*server);
        let answer = match record {
            None => alone.addresses(name, deadline).await,
            Some(record) => alone.records(name, as_asked(record), deadline).await,
        };
        ServerAnswer { server: *server, took: watch.elapsed(), answer: answer.map(told) }
    });
    future::join_all(asking).await
}

/// What servers that are asked one by one come to, as a check has it: the first that knows, else the failure that
/// says most about a server.
fn of_servers(name: &str, by_server: &[ServerAnswer]) -> Result<NameAnswer, Failure> {
    if let Some(answer) = by_server.iter().find_map(|said| said.answer.as_ref().ok()) {
        return Ok(answer.clone());
    }
    let failures = by_server.iter().filter_map(|said| said.answer.as_ref().err());
    let most = failures.min_by_key(|failure| failure.kind == FailureKind::DnsNotFound).cloned();
    let nobody =
        || Failure::new(Phase::Dns, FailureKind::DnsServerFailure, format!("nobody was asked for {name}"));
    Err(most.unwrap_or_else(nobody))
}

/// Whether there is nothing of this name, rather than something without an address.
fn is_missing(failure: &Failure) -> bool {
    failure.kind == FailureKind::DnsNotFound
        && failure.code.as_deref() == Some("NXDOMAIN")
        && !is_dangling(failure)
}

/// What is there around a name that is not.
#[derive(Default)]
struct Around {
    nearest_ancestor: Option<String>,
    near: Vec<String>,
}

/// Asks one server that has answered before.
async fn around(
    resolver: &Resolver,
    subject: &Subject,
    by_server: &[ServerAnswer],
    deadline: Deadline,
) -> Around {
    let knows = |said: &&ServerAnswer| match &said.answer {
        Ok(_) => true,
        Err(failure) => failure.kind == FailureKind::DnsNotFound,
    };
    let Some(said) = by_server.iter().find(knows) else { return Around::default() };
    let (server, deadline) = (resolver.alone(said.server), deadline.within(SERVER));
    let mut ancestors: Vec<&str> = ancestors(&subject.host).collect();
    let mut guesses = near::guesses(&subject.host, &subject.other_hosts);
    if resolver.is_in_spare_room() {
        guesses.truncate(SPARING.0);
        ancestors.truncate(SPARING.1);
    }
    let (ancestors_there, guesses_there) = future::join(
        future::join_all(ancestors.iter().map(|ancestor| server.exists(ancestor, deadline))),
        future::join_all(guesses.iter().map(|guess| leads_somewhere(&server, guess, deadline))),
    )
    .await;
    let nearest = ancestors.iter().zip(ancestors_there).find(|(_, there)| *there == Some(true));
    let near = guesses.iter().zip(guesses_there).filter(|(_, there)| *there);
    Around {
        nearest_ancestor: nearest.map(|(ancestor, _)| (*ancestor).to_owned()),
        near: near.map(|(guess, _)| guess.clone()).take(NEAR_MAX).collect(),
    }
}

/// Asks a server that refused the name for another one, in another domain where there is one: it may refuse this zone, or
/// whoever asks from here.
async fn refused_too(
    resolver: &Resolver,
    subject: &Subject,
    by_server: &[ServerAnswer],
    deadline: Deadline,
) -> Option<(String, bool)> {
    let refused = |answer: &Result<NameAnswer, Failure>| answer.as_ref().is_err_and(is_refused);
    let said = by_server.iter().find(|said| refused(&said.answer))?;
    let domain = |name: &str| name.trim_end_matches('.').split_once('.').map(|(_, domain)| domain.to_owned());
    let is_other = |name: &&String| !name.eq_ignore_ascii_case(&subject.host) && name.contains('.');
    let others = || subject.other_hosts.iter().filter(is_other);
    let other = others().find(|other| domain(other) != domain(&subject.host)).or_else(|| others().next())?;
    let deadline = deadline.within(SERVER);
    match resolver.alone(said.server).records(other, rr::RecordType::A, deadline).await {
        Ok(_) => Some((other.clone(), false)),
        Err(failure) if failure.kind == FailureKind::DnsNotFound => Some((other.clone(), false)),
        Err(failure) => is_refused(&failure).then(|| (other.clone(), true)),
    }
}

fn is_refused(failure: &Failure) -> bool {
    failure.code.as_deref() == Some("REFUSED")
}

/// Whether a name has an address. Most have one of IPv4, and so one question is enough for most.
async fn leads_somewhere(server: &Alone, name: &str, deadline: Deadline) -> bool {
    match server.records(name, rr::RecordType::A, deadline).await {
        Ok(_) => true,
        Err(failure) if failure.kind == FailureKind::DnsNotFound && !is_missing(&failure) => {
            server.records(name, rr::RecordType::AAAA, deadline).await.is_ok()
        }
        Err(_) => false,
    }
}

/// The domains that a name is in, nearest first.
fn ancestors(name: &str) -> impl Iterator<Item = &str> {
    let name = name.trim_end_matches('.');
    std::iter::successors(name.split_once('.'), |(_, rest)| rest.split_once('.'))
        .map(|(_, rest)| rest)
        .take(ANCESTORS_MAX)
}

fn told(records: Records) -> NameAnswer {
    let Records { data, addresses, ttl_seconds, aliases, found_as, from_hosts_file } = records;
    let records = if addresses.is_empty() { data } else { Vec::new() };
    let aliases = aliases.iter().map(|alias| alias.trim_end_matches('.').to_owned()).collect();
    NameAnswer { addresses, records, aliases, ttl_seconds, found_as, from_hosts_file }
}

#[cfg(test)]
mod tests;
