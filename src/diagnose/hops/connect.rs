//! The way to the address, and the TCP handshake.

use super::Seen;
use crate::diagnose::addresses;
use crate::diagnose::evidence::{Evidence, Icmp, Path, Route, Try, TryEnd};
use crate::diagnose::reading::Ending;
use crate::diagnose::text;
use crate::health::Phase;

/// Ways told; a name can have more addresses than anybody reads.
const TOLD: usize = 8;

pub(super) fn route(evidence: &Evidence) -> Seen {
    let known = |path: &&Path| path.route.source.is_some() || path.route.entry.is_some();
    let ways: Vec<&Path> = evidence.paths.iter().filter(known).collect();
    let mut lines: Vec<String> = Vec::new();
    for path in ways.iter().take(TOLD) {
        let mut line = way(&path.route);
        // One way for all of them is told once.
        if ways.len() > 1 && ways.iter().any(|other| way(&other.route) != line) {
            line = format!("{}: {line}", path.address.ip());
        }
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines.extend(subnet(evidence));
    let open = ways.iter().any(|path| path.ending() != Ending::NoWay);
    Seen { ok: (!ways.is_empty()).then_some(open), took: None, lines }
}

/// `from 10.0.1.23 by eth0 through 10.0.1.1`
fn way(route: &Route) -> String {
    let entry = route.entry.as_ref();
    // Without the kernel's word, the table's is what there is.
    let has_way = matches!(route.source, Some(Ok(_)));
    if let Some(entry) = entry.filter(|entry| entry.forbids && !has_way) {
        return format!("the routing table forbids {}", entry.network);
    }
    // Where the kernel has a way all the same, a table of its own leads there.
    let by = match entry.filter(|entry| !entry.forbids) {
        Some(entry) => match entry.gateway {
            Some(gateway) => format!(" by {} through {gateway}", entry.interface),
            None => format!(" by {}, directly", entry.interface),
        },
        None => String::new(),
    };
    let way = match &route.source {
        Some(Ok(source)) => format!("from {source}{by}"),
        Some(Err(errno)) => format!("no way there: {errno}"),
        None => by.trim_start().to_owned(),
    };
    match &route.neighbour {
        Some(next) if !next.answers => {
            format!("{way}; {} does not answer on the link (no hardware address)", next.address)
        }
        _ => way,
    }
}

/// Whether it is in the task's own subnet, where ECS tells.
fn subnet(evidence: &Evidence) -> Option<String> {
    let task = evidence.task.as_ref()?;
    let address = evidence.address()?.ip();
    if evidence.is_here() {
        return None;
    }
    if let Some(subnet) = addresses::subnet_of(task, address) {
        return Some(format!("{address} is in this task's subnet, {subnet}"));
    }
    let subnets: Vec<String> = addresses::subnets(task).map(|subnet| subnet.to_string()).collect();
    (!subnets.is_empty())
        .then(|| format!("{address} is outside of this task's subnet, {}", text::all(&subnets)))
}

pub(super) fn connect(evidence: &Evidence) -> Seen {
    let tried: Vec<&Path> = evidence.paths.iter().filter(|path| !path.tries.is_empty()).collect();
    let mut lines = Vec::new();
    for path in tried.iter().take(TOLD) {
        lines.push(tries(path));
        // Where the connection was made, what another port does is of no interest.
        if let Some(one) = path.contrast.as_ref().filter(|_| !path.connects()) {
            lines.push(contrast(one));
        }
    }
    if let more @ 1.. = tried.len().saturating_sub(TOLD) {
        lines.push(format!("and {}", text::count(more, "address more", "addresses more")));
    }
    let first =
        evidence.path().and_then(|path| path.tries.iter().find(|one| one.connected()).or(path.tries.first()));
    let of_check = || evidence.attempt.as_ref()?.phases.get(Phase::Connect);
    let took = first.map(|one| one.took).or_else(of_check);
    Seen { ok: (!tried.is_empty()).then(|| tried.iter().any(|path| path.connects())), took, lines }
}

/// `10.0.3.7:5432: no answer in 3.0 s, four tries`
pub(in crate::diagnose) fn tries(path: &Path) -> String {
    let at = path.address;
    let [first, rest @ ..] = path.tries.as_slice() else { return format!("{at}: not tried") };
    if rest.is_empty() {
        return format!("{at}: {}", end(first));
    }
    let number = path.tries.len();
    if path.tries.iter().all(|one| one.end == first.end) {
        return format!("{at}: {}, {}", together(first, &path.tries), text::count(number, "try", "tries"));
    }
    // In the order in which they were made, alike ones together.
    let mut told: Vec<String> = Vec::new();
    for (n, one) in path.tries.iter().enumerate() {
        if path.tries[..n].iter().any(|before| before.end == one.end) {
            continue;
        }
        let alike: Vec<Try> = path.tries.iter().filter(|other| other.end == one.end).cloned().collect();
        told.push(format!("{}× {}", alike.len(), together(one, &alike)));
    }
    format!("{at}: {}", told.join(", "))
}

/// Tries that ended alike.
fn together(one: &Try, alike: &[Try]) -> String {
    let longest = alike.iter().map(|one| one.took).max().unwrap_or_default();
    let shortest = alike.iter().map(|one| one.took).min().unwrap_or_default();
    let (from, to) = (text::time(shortest), text::time(longest));
    let spans = !one.unanswered() && from != to;
    let took = if spans { format!("{from} to {to}") } else { to };
    ended(one, &took)
}

/// `contrast: port 47 answered with a reset in 0.3 ms`
pub(in crate::diagnose) fn contrast(one: &Try) -> String {
    let port = one.port;
    match one.end {
        TryEnd::Connected => format!("contrast: port {port} takes connections ({})", text::time(one.took)),
        TryEnd::Silent => format!("contrast: port {port} gave no answer in {}", text::time(one.took)),
        TryEnd::Failed { .. } => format!("contrast: port {port} {}", end(one)),
    }
}

fn end(one: &Try) -> String {
    ended(one, &text::time(one.took))
}

fn ended(one: &Try, took: &str) -> String {
    match &one.end {
        TryEnd::Connected => format!("connected in {took}"),
        TryEnd::Silent => format!("no answer in {took}"),
        TryEnd::Failed { icmp: Some(icmp), errno } => format!("{} after {took} ({errno})", message(icmp)),
        TryEnd::Failed { icmp: None, errno } => match errno.as_str() {
            "ECONNREFUSED" => format!("answered with a reset in {took}"),
            errno => format!("{errno} after {took}"),
        },
    }
}

/// An ICMP message, with who sent it.
fn message(icmp: &Icmp) -> String {
    match icmp.from {
        _ if icmp.own => format!("this host itself gave up, \"{}\",", icmp.meaning),
        Some(from) => format!("{from} answered \"{}\"", icmp.meaning),
        None => format!("somebody on the way answered \"{}\"", icmp.meaning),
    }
}
