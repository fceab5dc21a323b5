//! The way to the address and the TCP handshake: what vanishes, what is turned back, and who says so.

use std::time::Duration;

use super::finding::{Finding, said};
use crate::diagnose::addresses::Reach;
use crate::diagnose::advice::Advice;
use crate::diagnose::evidence::{Evidence, Icmp, Path, Try};
use crate::diagnose::hops;
use crate::diagnose::reading::Ending;
use crate::diagnose::text;
use crate::health::{Confidence, FailureKind, HopKind, Phase};

/// A connection that took longer, where another one was quick, had its first packet repeated: the kernel does so after a
/// second.
const REPEATED: Duration = Duration::from_millis(950);

/// …quick being less than this.
const QUICK: Duration = Duration::from_millis(500);

/// The way that is judged, where no connection is made on it and the path ends for that.
fn blocked(evidence: &Evidence) -> Option<(&Path, Ending<'_>)> {
    evidence.ends_within(HopKind::Route..=HopKind::Connect).then_some(())?;
    let path = evidence.path()?;
    let ending = path.ending();
    (!matches!(ending, Ending::Connected | Ending::NotTried)).then_some((path, ending))
}

/// Where nothing of the way was seen, or it can be taken by now: what the check said of it.
fn only_said(evidence: &Evidence, kind: FailureKind) -> bool {
    let seen = evidence.path().map(Path::ending);
    evidence.ends_within(HopKind::Route..=HopKind::Connect)
        && matches!(seen, None | Some(Ending::Connected | Ending::NotTried))
        && evidence.fails_by(kind).is_some()
}

/// What every verdict on a way rests on: the tries, the contrast, the other addresses.
fn evidence_of(evidence: &Evidence, path: &Path) -> Vec<String> {
    let mut lines = vec![hops::tries(path)];
    if let Some(one) = &path.contrast {
        lines.push(hops::contrast(one));
    }
    let others = evidence.paths.iter().filter(|other| other.address != path.address).take(3);
    lines.extend(others.map(hops::tries));
    lines
}

/// What the check said, where the tries do not say the same.
fn unseen(evidence: &Evidence) -> Option<String> {
    let seen = blocked(evidence).is_some();
    evidence.failure().filter(|failure| !(seen && failure.phase <= Phase::Connect)).map(said)
}

/// That it can be taken by now, where it can.
fn passed(evidence: &Evidence) -> Option<String> {
    let path = evidence.path().filter(|path| path.connects())?;
    Some(format!("the check failed, and by now it can be reached: {}", hops::tries(path)))
}

/// The kernel's own word, before a packet is sent.
pub(super) fn no_route(evidence: &Evidence) -> Option<Finding> {
    let (path, ending) = blocked(evidence)?;
    if ending != Ending::NoWay {
        return None;
    }
    let address = path.address.ip();
    let us = evidence.us();
    let no_source = matches!(path.route.source, Some(Err(_)));
    let entry = path.route.entry.as_ref().filter(|entry| entry.forbids && no_source);
    let summary = match entry {
        Some(entry) => format!(
            "{us} forbids itself the way to {address}: its routing table has an entry against {}",
            entry.network
        ),
        None => format!("{us} has no route to {address}"),
    };
    let source = match &path.route.source {
        Some(Err(errno)) => Some(format!("the kernel has no source address for it: {errno}")),
        _ => None,
    };
    let v6 = address.is_ipv6().then(|| {
        "an IPv6 address needs a subnet with IPv6; have the name lead to an IPv4 address, too".to_owned()
    });
    let local = match entry {
        Some(_) => "look who made that entry: `ip route show table all`",
        None => "look at this network namespace's own routes: `ip route; ip -6 route`",
    };
    // Elsewhere the table above is all there is.
    let advice = Advice::on(evidence);
    let routes = if advice.on_aws() { advice.routes() } else { Vec::new() };
    let finding = Finding::certain(summary)
        .because(source)
        .because(unseen(evidence))
        .because(evidence_of(evidence, path))
        .advise(v6)
        .step(local)
        .advise(routes);
    Some(finding)
}

/// One of several addresses takes no connections: checks go on to the next one, and applications may not.
pub(super) fn one_address_dead(evidence: &Evidence) -> Option<Finding> {
    let alive: Vec<&Path> = evidence.paths.iter().filter(|path| path.connects()).collect();
    let dead: Vec<&Path> = evidence.paths.iter().filter(|path| counts_as_dead(evidence, path)).collect();
    let ends_there = evidence.works() || evidence.ends_within(HopKind::Connect..=HopKind::Connect);
    if alive.is_empty() || dead.is_empty() || !ends_there {
        return None;
    }
    let addresses: Vec<String> = dead.iter().map(|path| path.address.ip().to_string()).collect();
    let subject = &evidence.subject;
    let all = dead.len() + alive.len();
    // Of many addresses only the first are tried.
    let tried = match evidence.resolved().len() > evidence.paths.len() {
        true => " that were tried",
        false => "",
    };
    let summary = format!(
        "of the {} of {}{tried}, {} {} no connections to port {}",
        text::count(all, "address", "addresses"),
        text::name(&subject.host),
        text::first(&addresses, 3),
        if dead.len() == 1 { "takes" } else { "take" },
        subject.port
    );
    // Packets that are lost are silence, too, be there four of them.
    let silent = dead.iter().any(|path| path.tries.iter().all(Try::unanswered));
    let finding = match silent {
        true => Finding::likely(summary).on_silence(),
        false => Finding::certain(summary),
    };
    let other = silent.then_some("packets that are lost now and then, by chance only those to this address");
    let finding = finding
        .because(dead.iter().take(3).map(|path| hops::tries(path)))
        .because(alive.iter().take(3).map(|path| hops::tries(path)))
        .because(unseen(evidence))
        .or_else_if(other)
        .step(format!(
            "find out what should be at {}; take it out of the name's record where nothing should",
            text::first(&addresses, 3)
        ))
        .advise(Advice::on(evidence).state())
        .step("until then, whoever does not try the next address fails each time that this one comes first");
    Some(finding)
}

/// Not where a host has no IPv6, as most have none, nor where `localhost` is taken for both families.
fn counts_as_dead(evidence: &Evidence, path: &Path) -> bool {
    let ending = path.ending();
    let no_ipv6 = path.address.is_ipv6() && ending == Ending::NoWay;
    let loopback = Reach::of(path.address.ip()) == Reach::Loopback && evidence.names.is_some();
    !matches!(ending, Ending::Connected | Ending::NotTried) && !no_ipv6 && !loopback
}

/// The same connection is made at one time and not, or late, at another: a block would be one each time.
pub(super) fn packet_loss(evidence: &Evidence) -> Option<Finding> {
    let timed_out = only_said(evidence, FailureKind::ConnectTimeout);
    // What is lost later on is answered too late, or never.
    let late_answer = [FailureKind::Timeout, FailureKind::QueryTimeout]
        .into_iter()
        .any(|kind| evidence.fails_by(kind).is_some());
    if !evidence.works() && !timed_out && !late_answer {
        return None;
    }
    let path = evidence.path()?;
    // The check's own connection is one more, where it can have been made to no other address.
    let of_check = evidence.attempt.as_ref().filter(|_| evidence.works() && evidence.paths.len() == 1);
    let of_check = of_check.and_then(|attempt| attempt.phases.get(Phase::Connect));
    let connected = path.tries.iter().filter(|one| one.connected()).map(|one| one.took);
    let connected: Vec<Duration> = connected.chain(of_check).collect();
    let silent = path.tries.iter().filter(|one| one.unanswered()).count();
    let late = connected.iter().filter(|took| **took >= REPEATED).count();
    let quick = connected.iter().any(|took| *took < QUICK);
    // Where each takes its second, that is how long the way is.
    let lost = path.connects() && (silent > 0 || (late > 0 && quick));
    let of = connected.len() + silent;
    let address = path.address;
    // Nothing was lost just now; something was at the check.
    let passed = timed_out && path.connects();
    if !lost && !passed {
        return None;
    }
    let unanswered = (silent > 0).then(|| format!("{} had no answer", text::number(silent)));
    let repeated = (late > 0).then(|| format!("{} only after a repetition", text::number(late)));
    let lost_ones: Vec<String> = unanswered.into_iter().chain(repeated).collect();
    let summary = match lost {
        true => format!(
            "packets to {address} are lost now and then: of {}, {}",
            text::count(of, "connection", "connections"),
            text::all(&lost_ones)
        ),
        false => format!("{address} did not answer the check's connection, and a moment later it did"),
    };
    let confidence = if lost { Confidence::Likely } else { Confidence::Unclear };
    let finding = Finding::new(confidence, summary)
        .because(evidence_of(evidence, path))
        .because(of_check.map(|took| format!("the check's own connection was made in {}", text::time(took))))
        .because(unseen(evidence))
        .or_else("a server whose queue of new connections is full at times, which drops them in the same way")
        .advise(Advice::on(evidence).accept_queue())
        .step("see whether other targets lose packets, too: `sickbay diagnose --all`; then it is this host's own network, or its limits (on AWS `bw_in_allowance_exceeded`, `conntrack_allowance_exceeded` in `ethtool -S`)")
        .advise(Advice::on(evidence).state());
    Some(finding)
}

/// Somebody answers that this is not let through.
pub(super) fn rejected(evidence: &Evidence) -> Option<Finding> {
    let (path, ending) = blocked(evidence)?;
    match ending {
        Ending::KeptIn => Some(kept_in(evidence, path)),
        Ending::Rejected(icmp) if icmp.own => Some(rejected_here(evidence, path, icmp)),
        Ending::Rejected(icmp) => Some(rejected_by(evidence, path, icmp)),
        // Who cannot reach the host cannot have passed on its answer from another port.
        Ending::Unreachable(Some(icmp)) if !icmp.own && path.host_answers() => {
            Some(rejected_by(evidence, path, icmp))
        }
        _ => None,
    }
}

/// The kernel's own errno, without a message behind it.
fn kept_in(evidence: &Evidence, path: &Path) -> Finding {
    let (us, address) = (evidence.us(), path.address);
    // IPv6 has this errno for a message of a filter, too, which an older kernel does not show.
    let may_be_a_message = address.is_ipv6() && path.tries.iter().any(Try::is_denied);
    let finding = match may_be_a_message {
        true => Finding::likely(format!("{us} itself does not let packets to {address} out, as it seems")),
        false => Finding::certain(format!("{us} itself does not let packets to {address} out")),
    };
    let other = may_be_a_message
        .then_some("a filter on the way that answers \"administratively prohibited\": an older kernel keeps no more of that than EACCES");
    finding.because(evidence_of(evidence, path)).or_else_if(other).step(
        "look at the packet filter, the routing rules and the seccomp profile of this host: `nft list ruleset; ip route; ip rule`",
    )
}

/// A message that our own kernel made: no packet has left.
fn rejected_here(evidence: &Evidence, path: &Path, icmp: &Icmp) -> Finding {
    let (us, address, meaning) = (evidence.us(), path.address, &icmp.meaning);
    Finding::certain(format!(
        "{us} itself turns back packets to {address}: its own packet filter answers \"{meaning}\""
    ))
    .because(evidence_of(evidence, path))
    .step(format!(
        "look for the rule with `reject` among this host's own, those for output first, and let TCP port {} out: `nft list ruleset`",
        address.port()
    ))
}

/// A message of somebody else.
fn rejected_by(evidence: &Evidence, path: &Path, icmp: &Icmp) -> Finding {
    let (host, port) = (path.address.ip(), path.address.port());
    let (advice, meaning) = (Advice::on(evidence), &icmp.meaning);
    let router = icmp.from.filter(|by| *by != host);
    let summary = match icmp.from {
        // A router says so of a route that prohibits, too.
        Some(by) if router.is_some() && icmp.by_filter => {
            format!("{by} refuses to pass packets to port {port} of {host} on: it answers \"{meaning}\"")
        }
        Some(by) if router.is_some() => {
            format!("a filter turns back packets to port {port} of {host}: {by} answers \"{meaning}\"")
        }
        Some(by) => {
            format!("a filter turns back packets to port {port} of {host}: {by} itself answers \"{meaning}\"")
        }
        None => format!(
            "a filter turns back packets to port {port} of {host}: somebody on the way answers \"{meaning}\""
        ),
    };
    let on_aws = advice.on_aws().then(|| {
        "security groups and network ACLs do not answer, they drop: this is a firewall appliance, or a host's own filter".to_owned()
    });
    let other = match (icmp.by_filter, path.host_answers()) {
        (true, _) => None,
        (false, true) => {
            Some("a host that was lost for this moment: another port of it answered at the same time")
        }
        (false, false) => Some("a host with nothing on this port whose network answers so"),
    };
    let finding = match icmp.by_filter {
        true => Finding::certain(summary),
        false => Finding::likely(summary),
    };
    let whose = icmp.from.map_or_else(|| "on the way".to_owned(), |by| format!("of {by}"));
    let or_a_route = match router {
        Some(by) if icmp.by_filter => format!(" (or, where it has none, for a `prohibit` route at {by})"),
        _ => String::new(),
    };
    finding.because(evidence_of(evidence, path)).because(on_aws).or_else_if(other).step(format!(
        "look at the packet filter {whose}{or_a_route}: let TCP port {port} through from {}",
        from(evidence)
    ))
}

fn from(evidence: &Evidence) -> String {
    evidence.source().map_or_else(|| "here".to_owned(), |source| source.to_string())
}

/// A reset: the address answered, and nobody listens there; a firewall can answer in its name.
pub(super) fn refused(evidence: &Evidence) -> Option<Finding> {
    let said_only = only_said(evidence, FailureKind::ConnectRefused);
    let path = match blocked(evidence) {
        Some((path, Ending::Refused)) => Some(path),
        _ if said_only => None,
        _ => return None,
    };
    let place = evidence.place();
    let port = evidence.subject.port;
    let passed = passed(evidence);
    let summary = match &passed {
        Some(_) => format!(
            "{place} refused the check's connection and takes connections by now: it was being started, or restarted"
        ),
        None => format!("{place} refuses connections: nothing listens on port {port}"),
    };
    let advice = Advice::on(evidence);
    let not_ours = advice.on_aws().then(|| {
        "on AWS neither security groups nor network ACLs answer with a reset: it comes from the host, or from a balancer in front of it".to_owned()
    });
    // A port that is let through while another one is dropped is one that somebody means to use.
    let let_through = path.and_then(|path| path.contrast.as_ref()).filter(|one| one.unanswered()).map(|one| {
        format!("port {} of the same host is silent, so a filter lets port {port} through: it is the server that is not there", one.port)
    });
    let contrast = path.filter(|_| let_through.is_none()).and_then(|path| path.contrast.as_ref());
    let other = match passed {
        Some(_) => "a balancer that had no target at that moment",
        None => "a firewall that rejects with a reset, which looks the same",
    };
    let finding = Finding::likely(summary)
        .because(path.map(hops::tries))
        .because(let_through)
        .because(contrast.map(hops::contrast))
        .because(passed)
        .because(unseen(evidence))
        .because(not_ours)
        .or_else(other)
        .advise(advice.listening())
        .advise(advice.state())
        .step(format!("compare the port with the server's: {port} is configured here"));
    Some(finding)
}

/// There is a way, and no host at its end, or no next hop on it.
pub(super) fn unreachable(evidence: &Evidence) -> Option<Finding> {
    let said_only = only_said(evidence, FailureKind::ConnectUnreachable);
    let advice = Advice::on(evidence);
    let (path, icmp) = match blocked(evidence) {
        Some((path, Ending::Unreachable(icmp))) => (path, icmp),
        _ if said_only => {
            let failure = evidence.fails_by(FailureKind::ConnectUnreachable)?;
            let summary = format!("{} could not be reached at the check", evidence.place());
            let finding =
                Finding::unclear(summary).told_by(failure).because(passed(evidence)).advise(advice.routes());
            return Some(finding);
        }
        _ => return None,
    };
    let address = path.address.ip();
    let next = path.route.neighbour.as_ref().filter(|next| !next.answers);
    let router = icmp.filter(|icmp| !icmp.own).and_then(|icmp| Some((icmp.from?, &icmp.meaning)));
    let (confidence, summary) = match (next, router) {
        (Some(next), _) if next.address == address => (
            Confidence::Certain,
            format!("nobody answers for {address} on its own link: the host is down, or has another address"),
        ),
        (Some(next), _) => (
            Confidence::Certain,
            format!("the router {} on the way to {address} does not answer on the link", next.address),
        ),
        (None, Some((from, meaning))) => (
            Confidence::Certain,
            format!("{from} on the way answers that it cannot reach {address}: {meaning}"),
        ),
        // An older kernel, which tells the number alone; a filter can have it sent, too.
        (None, None) => {
            (Confidence::Likely, format!("{address} cannot be reached: no host, or no way, at its end"))
        }
    };
    let finding = Finding::new(confidence, summary).because(evidence_of(evidence, path));
    let finding = match confidence {
        Confidence::Certain => finding,
        _ => finding.or_else("a filter that answers in this way"),
    };
    let step = match next {
        Some(next) if next.address == address => {
            "see whether the host runs, and whether the address is still its own"
        }
        Some(_) => "correct the route: its next hop is not there",
        None if router.is_some_and(|(_, meaning)| is_of_host(meaning)) => {
            "see whether the host runs, and whether the address is still its own: the last router before it finds nobody there"
        }
        None => "follow the way: `traceroute -T` or `mtr --tcp` shows where it ends",
    };
    Some(finding.step(step).advise(advice.routes()).advise(advice.owner()))
}

/// Whether a message tells that the host, and not the way to it, is missing.
fn is_of_host(meaning: &str) -> bool {
    matches!(meaning, "host unreachable" | "address unreachable" | "host unknown")
}

/// The port is silent and the host is not: what is between them goes by ports. A server whose queue of new connections is
/// full is silent in the same way.
pub(super) fn port_dropped(evidence: &Evidence) -> Option<Finding> {
    let (path, ending) = blocked(evidence)?;
    if ending != Ending::Silent || !path.host_answers() {
        return None;
    }
    let (host, port) = (path.address.ip(), path.address.port());
    let advice = Advice::on(evidence);
    let acl = advice.on_aws().then(|| {
        "the host answers on another port, so the network ACLs, which seldom go by ports, let it through"
            .to_owned()
    });
    let finding = match evidence.is_here() {
        // On one and the same host filters are rare, and servers that hang are not.
        true => Finding::unclear(format!(
            "port {port} of {host} does not answer, while the host does on another port"
        ))
        .because(evidence_of(evidence, path))
        .since("either the server's queue of new connections is full, or a packet filter drops them")
        .advise(advice.accept_queue()),
        false => Finding::likely(format!(
            "packets to port {port} of {host} vanish on the way, while the host answers on another port"
        ))
        .because(evidence_of(evidence, path))
        .because(acl)
        .or_else("a server whose queue of new connections is full: it is silent in the same way"),
    };
    let finding = finding
        .on_silence()
        .advise(advice.let_the_port_in())
        .advise(advice.accept_queue())
        .advise(advice.network_acls());
    Some(finding)
}

/// The host is silent on either port. A security group drops whatever it does not allow, so on AWS this is also how a
/// port looks that nobody has opened.
pub(super) fn host_dropped(evidence: &Evidence) -> Option<Finding> {
    let said_only = only_said(evidence, FailureKind::ConnectTimeout);
    let path = match blocked(evidence) {
        Some((path, Ending::Silent)) => Some(path),
        _ if said_only => None,
        _ => return None,
    };
    let advice = Advice::on(evidence);
    let place = evidence.place();
    let contrast = path.and_then(|path| path.contrast.as_ref());
    let finding = match (path, contrast) {
        (Some(path), Some(contrast)) => {
            let (host, port) = (path.address.ip(), path.address.port());
            Finding::likely(format!(
                "packets to {host} vanish: neither port {port} nor port {} answers",
                contrast.port
            ))
        }
        _ => Finding::unclear(format!(
            "{place} does not answer, and whether the host does on another port was not seen"
        )),
    };
    let group = advice.on_aws().then(|| {
        "a security group drops whatever it does not allow: that another port is silent, too, does not acquit it".to_owned()
    });
    let finding = finding
        .on_silence()
        .because(path.into_iter().flat_map(|path| evidence_of(evidence, path)))
        .because(unseen(evidence))
        .because(group)
        .or_else("a host that is down, or an address that is nobody's any more")
        .advise(advice.let_the_port_in())
        .advise(advice.owner())
        .advise(advice.network_acls())
        .advise(advice.routes())
        .advise(advice.state());
    Some(finding)
}

/// The very exchange that hangs is answered where all its packets are small.
pub(super) fn mtu_black_hole(evidence: &Evidence) -> Option<Finding> {
    let seen = evidence.small_segments.as_ref()?;
    let hangs = [
        FailureKind::Timeout,
        FailureKind::QueryTimeout,
        FailureKind::ConnectReset,
        FailureKind::TlsHandshake,
    ];
    let failure = evidence.failure().filter(|failure| hangs.contains(&failure.kind))?;
    let told_apart = seen.large_silent > 0
        && seen.large_answered == 0
        && seen.small_answered > 0
        && seen.small_silent == 0;
    if !told_apart {
        return None;
    }
    let summary = format!(
        "large packets between {} and {} vanish: {} is answered with segments of {} bytes, and never with larger ones",
        from(evidence),
        evidence.place(),
        seen.what,
        seen.segment
    );
    let finding = Finding::likely(summary)
        .because([hops::segments(seen), said(failure)])
        .because(evidence.path().map(hops::tries))
        .or_else("a server that hung for the larger ones, by chance")
        .step(format!(
            "find the narrow link: `ping -M do -s 1472 {}` and smaller, where ping is answered; tunnels, VPNs and peerings take 1,400 or less, jumbo frames (9,001) stop at the VPC's border",
            evidence.address().map_or_else(|| "HOST".to_owned(), |address| address.ip().to_string())
        ))
        .step("let ICMP \"fragmentation needed\" (type 3 code 4) through every security group, ACL and firewall on the way: without it no host learns how large a packet may be")
        .step("or have both ends begin small: set the interface's MTU (`ip link set dev eth0 mtu 1400`), or clamp the MSS at the router");
    Some(finding)
}
