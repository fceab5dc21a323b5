//! What the evidence says: the questions that the rules, the hops and the advice ask of it.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use super::addresses::Reach;
use super::evidence::{
    Evidence, Heard, Icmp, NameAnswer, Names, Path, ServerAnswer, Speaks, TlsWanted, Try, TryEnd,
};
use crate::health::{Failure, FailureKind, HopKind, Kind, Phase};
use crate::net::resolve::was_not_asked;

/// How the connections to one address ended, all tries together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending<'a> {
    /// At least one was made.
    Connected,
    /// A reset, from the address itself.
    Refused,
    /// Cut in the middle of the handshake.
    Cut,
    /// A filter said so, by this message.
    Rejected(&'a Icmp),
    /// This host did not let it out: its own filter.
    KeptIn,
    /// No answer of any kind.
    Silent,
    /// There was a way, and no host at its end.
    Unreachable(Option<&'a Icmp>),
    /// This host has no way there.
    NoWay,
    /// An error number that says nothing of the network.
    Other,
    /// Nobody has tried yet.
    NotTried,
}

impl Ending<'_> {
    /// How near to an answer it came: of several addresses the nearest is judged, as a check does it.
    fn distance(self) -> u8 {
        match self {
            Self::Connected => 0,
            Self::Refused | Self::Cut => 1,
            Self::Rejected(_) => 2,
            Self::Silent => 3,
            Self::KeptIn | Self::Unreachable(_) | Self::Other => 4,
            Self::NoWay => 5,
            Self::NotTried => 6,
        }
    }
}

impl Evidence {
    /// The hop at which the path ends; `None` where it does not, or where that is not known yet.
    ///
    /// A check's failure tells. What was seen after it counts where it explains the failure: a connection that was cut,
    /// and now nobody takes a new one.
    pub(super) fn broken(&self) -> Option<HopKind> {
        let failure = self.failure()?;
        let told = self.hop_of(failure);
        let seen = self.seen_broken(failure).filter(|_| lost_on_the_way(failure.kind));
        Some(seen.map_or(told, |seen| seen.min(told)))
    }

    /// The hop at which the evidence itself ends, so far as it explains what a check says. A check that came further than
    /// the name did not fail because name servers do not answer now; that the name is gone may tell that all of it is.
    fn seen_broken(&self, failure: &Failure) -> Option<HopKind> {
        let now = self.names.as_ref().and_then(|names| names.answer.as_ref().err());
        let explains = |now: &&Failure| {
            !was_not_asked(now) && (failure.phase == Phase::Dns || now.kind == FailureKind::DnsNotFound)
        };
        if now.filter(explains).is_some() {
            return Some(HopKind::Dns);
        }
        match self.path()?.ending() {
            Ending::Connected | Ending::NotTried => None,
            Ending::NoWay => Some(HopKind::Route),
            _ => Some(HopKind::Connect),
        }
    }

    fn hop_of(&self, failure: &Failure) -> HopKind {
        if self.is_missed() {
            return self.first_unseen(failure);
        }
        let asked = self.words.as_ref().is_some_and(|words| !matches!(words.heard, Heard::NotAsked(_)));
        let foreign = failure.kind == FailureKind::Protocol || (asked && !self.is_spoken());
        match failure.phase {
            // The name is there, and its records are not what the check wants.
            Phase::Dns if self.subject.kind == Kind::Dns && self.resolves() => HopKind::Query,
            Phase::Dns => HopKind::Dns,
            Phase::Connect => match self.path().map(Path::ending) {
                Some(Ending::NoWay) => HopKind::Route,
                _ => HopKind::Connect,
            },
            // PostgreSQL is asked for TLS in its own protocol, which comes before the handshake.
            Phase::Tls if self.subject.kind == Kind::Postgres && foreign => HopKind::Protocol,
            Phase::Tls => HopKind::Tls,
            Phase::Auth | Phase::Query if failure.kind == FailureKind::AuthFailed => HopKind::Auth,
            Phase::Auth | Phase::Query if foreign && !is_word_of_the_server(failure) => HopKind::Protocol,
            Phase::Auth => HopKind::Auth,
            // What a port says is all that is asked of it.
            Phase::Query if self.subject.kind == Kind::Tcp => HopKind::Protocol,
            Phase::Query => HopKind::Query,
        }
    }

    /// Whether our own time was over before the check was: its failure tells nothing of the peer.
    pub(super) fn is_missed(&self) -> bool {
        self.attempt.as_ref().is_some_and(|attempt| attempt.cut_short)
    }

    /// The first hop of which nothing is known, or nothing good, where no check was over in time.
    fn first_unseen(&self, failure: &Failure) -> HopKind {
        let agreed = self.tls.as_ref().is_some_and(|tls| matches!(tls.version, Some(Ok(_))));
        let in_clear_text = self.subject.tls == TlsWanted::IfOffered && self.is_spoken();
        match self.subject.kind {
            _ if self.seen_broken(failure).is_some() || !self.path().is_some_and(Path::connects) => {
                self.seen_broken(failure).unwrap_or(HopKind::Connect)
            }
            // It is asked for TLS in its own protocol.
            Kind::Postgres if !self.is_spoken() => HopKind::Protocol,
            _ if self.wants_tls() && !agreed && !in_clear_text => HopKind::Tls,
            Kind::Postgres | Kind::Redis if self.is_spoken() => HopKind::Auth,
            Kind::Http if self.is_spoken() => HopKind::Query,
            _ => HopKind::Protocol,
        }
    }

    /// The way that is judged: the one that the check went, where it got through, else the one that came nearest to an
    /// answer.
    pub(super) fn path(&self) -> Option<&Path> {
        let gone = self.attempt.as_ref().and_then(|attempt| attempt.address);
        let gone = self.paths.iter().find(|path| Some(path.address) == gone && path.connects());
        // The first of several that are equally near: so they are tried.
        gone.or_else(|| self.paths.iter().min_by_key(|path| path.ending().distance()))
    }

    /// Where to: the address of the way that is judged, or of the attempt, or the one that is configured.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        let configured = || Some(SocketAddr::new(self.subject.host.parse().ok()?, self.subject.port));
        let attempted = || self.attempt.as_ref()?.address;
        self.path().map(|path| path.address).or_else(attempted).or_else(configured)
    }

    /// The address that packets to it come from.
    pub(super) fn source(&self) -> Option<IpAddr> {
        let route = |path: &Path| path.route.source.as_ref()?.as_ref().ok().copied();
        let task = || self.task.as_ref()?.networks.iter().flat_map(|network| &network.addresses).next();
        self.path().and_then(route).or_else(|| task().copied())
    }

    /// Whether it is on this very host, or in this very task.
    pub(super) fn is_here(&self) -> bool {
        let loopback = |address: IpAddr| Reach::of(address) == Reach::Loopback;
        self.address().is_some_and(|address| loopback(address.ip())) || self.subject.host == "localhost"
    }

    /// What this program runs in, for sentences.
    pub(super) fn us(&self) -> &'static str {
        if self.task.is_some() { "this task" } else { "this host" }
    }

    /// Where it is, for sentences: address and port where the address is known, else as configured.
    pub(super) fn place(&self) -> String {
        match self.address() {
            Some(address) => address.to_string(),
            None => format!("{}:{}", self.subject.host, self.subject.port),
        }
    }

    /// What its name leads to; nothing for an address.
    pub(super) fn resolved(&self) -> &[IpAddr] {
        let answer = self.names.as_ref().and_then(|names| names.answer.as_ref().ok());
        answer.map_or(&[], |answer| &answer.addresses)
    }

    /// Whether its name leads somewhere.
    pub(super) fn resolves(&self) -> bool {
        self.names.as_ref().is_some_and(|names| names.answer.is_ok())
    }

    /// The failure, where it is of this kind.
    pub(super) fn fails_by(&self, kind: FailureKind) -> Option<&Failure> {
        self.failure().filter(|failure| failure.kind == kind)
    }

    /// The failure, where the path ends at this hop.
    pub(super) fn fails_at(&self, hop: HopKind) -> Option<&Failure> {
        self.failure().filter(|_| self.broken() == Some(hop))
    }

    /// Whether the path ends at one of these hops.
    pub(super) fn ends_within(&self, hops: std::ops::RangeInclusive<HopKind>) -> bool {
        self.broken().is_some_and(|hop| hops.contains(&hop))
    }

    /// Whether what listens there was heard to speak what it should.
    pub(super) fn is_spoken(&self) -> bool {
        self.speaks().is_some_and(|speaks| self.is() == Some(speaks))
    }

    /// What was recognised there.
    pub(super) fn is(&self) -> Option<Speaks> {
        self.words.as_ref().and_then(|words| words.is)
    }

    /// What should be spoken there.
    pub(super) fn speaks(&self) -> Option<Speaks> {
        self.subject.speaks.or(match self.subject.kind {
            Kind::Postgres => Some(Speaks::Postgres),
            Kind::Redis => Some(Speaks::Redis),
            Kind::Http => Some(Speaks::Http),
            Kind::Dns | Kind::Tcp => None,
        })
    }

    /// Whether TLS is wanted, be it only where the server has it.
    pub(super) fn wants_tls(&self) -> bool {
        self.subject.tls != TlsWanted::No
    }

    /// The name that was found instead of the one that was meant: a suffix of the search list was added to a name that
    /// has dots, and so hardly wants one.
    pub(super) fn found_by_search(&self) -> Option<(&str, &str)> {
        let names = self.names.as_ref()?;
        let found = super::text::name(&names.answer.as_ref().ok()?.found_as);
        let name = super::text::name(&names.name);
        let meant = found.is_empty() || found.eq_ignore_ascii_case(name) || !name.contains('.');
        (!meant).then_some((name, found))
    }
}

/// Failures that a path which is gone by now explains. What a server has said is not among them.
fn lost_on_the_way(kind: FailureKind) -> bool {
    matches!(
        kind,
        FailureKind::DnsTimeout
            | FailureKind::DnsServerFailure
            | FailureKind::DnsNotFound
            | FailureKind::ConnectTimeout
            | FailureKind::ConnectRefused
            | FailureKind::ConnectUnreachable
            | FailureKind::ConnectReset
            | FailureKind::QueryTimeout
            | FailureKind::Timeout
    )
}

/// Whether a failure tells what a server of the right kind answered.
fn is_word_of_the_server(failure: &Failure) -> bool {
    let accident = matches!(
        failure.kind,
        FailureKind::Protocol
            | FailureKind::Timeout
            | FailureKind::ConnectReset
            | FailureKind::ConnectTimeout
            | FailureKind::TlsRequired
    );
    !accident || (failure.kind == FailureKind::TlsRequired && failure.code.is_some())
}

impl Names {
    /// What the servers said that were really asked: a question that was not sent, for want of packets, tells nothing of
    /// them.
    pub(super) fn heard(&self) -> impl Iterator<Item = &ServerAnswer> {
        let sent =
            |one: &&ServerAnswer| one.answer.as_ref().err().is_none_or(|failure| !was_not_asked(failure));
        self.by_server.iter().filter(sent)
    }

    /// Whether all servers say the same, and what a check goes by.
    pub(super) fn agree(&self) -> bool {
        let same = |one: &ServerAnswer| match (&one.answer, &self.answer) {
            (Ok(one), Ok(other)) => is_same(one, other),
            (Err(one), Err(other)) => {
                one.kind == FailureKind::DnsNotFound && (one.kind, &one.code) == (other.kind, &other.code)
            }
            _ => false,
        };
        self.by_server.iter().all(same)
    }
}

/// Whether two answers hold the same, in whichever order.
fn is_same(one: &NameAnswer, other: &NameAnswer) -> bool {
    let set = |answer: &NameAnswer| {
        let addresses: BTreeSet<_> = answer.addresses.iter().copied().collect();
        let records: BTreeSet<_> = answer.records.iter().cloned().collect();
        (addresses, records)
    };
    set(one) == set(other)
}

impl Path {
    /// Whether a connection was made.
    pub(super) fn connects(&self) -> bool {
        self.tries.iter().any(Try::connected)
    }

    /// How the tries ended.
    pub(super) fn ending(&self) -> Ending<'_> {
        if self.connects() {
            return Ending::Connected;
        }
        // The main table's word alone is none: rules can have another table asked before it. And an answer has found a way.
        let answered = self.tries.iter().chain(&self.contrast).any(Try::answered);
        if matches!(self.route.source, Some(Err(_))) && !answered {
            return Ending::NoWay;
        }
        let answers = self.tries.iter().filter(|one| !one.unanswered());
        match answers.map(|one| one.ending(self.address.ip())).min_by_key(|ending| ending.distance()) {
            Some(ending) => ending,
            None if self.tries.is_empty() => Ending::NotTried,
            // Who does not answer on the link was never sent anything.
            None if self.route.neighbour.as_ref().is_some_and(|next| !next.answers) => {
                Ending::Unreachable(None)
            }
            None => Ending::Silent,
        }
    }

    /// Whether the host itself answered on the other port, be it with a reset.
    pub(super) fn host_answers(&self) -> bool {
        self.contrast
            .as_ref()
            .is_some_and(|one| one.connected() || one.ending(self.address.ip()) == Ending::Refused)
    }
}

impl Try {
    /// Whether nobody answered: the time was over, be it ours or the kernel's.
    pub(super) fn unanswered(&self) -> bool {
        match &self.end {
            TryEnd::Silent => true,
            TryEnd::Failed { errno, .. } => errno == "ETIMEDOUT",
            TryEnd::Connected => false,
        }
    }

    /// Whether it ended by "permission denied", with no message to say whose.
    pub(super) fn is_denied(&self) -> bool {
        matches!(&self.end, TryEnd::Failed { errno, icmp: None } if errno == "EACCES")
    }

    /// Whether somebody else than this host answered, in whatever way.
    fn answered(&self) -> bool {
        match &self.end {
            TryEnd::Connected => true,
            TryEnd::Silent => false,
            TryEnd::Failed { icmp: Some(icmp), .. } => !icmp.own,
            TryEnd::Failed { errno, icmp: None } => {
                matches!(errno.as_str(), "ECONNREFUSED" | "ECONNRESET" | "ECONNABORTED")
            }
        }
    }

    fn ending(&self, target: IpAddr) -> Ending<'_> {
        let TryEnd::Failed { errno, icmp } = &self.end else {
            return if self.connected() { Ending::Connected } else { Ending::Silent };
        };
        match (errno.as_str(), icmp.as_ref()) {
            ("EPERM" | "EACCES", None) => Ending::KeptIn,
            (_, Some(icmp)) if icmp.by_filter => Ending::Rejected(icmp),
            // A host says that nobody listens by a reset; by ICMP only a filter says so.
            ("ECONNREFUSED", Some(icmp)) => Ending::Rejected(icmp),
            // And no host says of itself that it cannot be reached.
            ("EHOSTUNREACH" | "ENETUNREACH", Some(icmp)) if !icmp.own && icmp.from == Some(target) => {
                Ending::Rejected(icmp)
            }
            ("ECONNREFUSED", None) => Ending::Refused,
            ("ECONNRESET" | "ECONNABORTED", _) => Ending::Cut,
            ("ETIMEDOUT", _) => Ending::Silent,
            ("EHOSTUNREACH" | "ENETUNREACH" | "EHOSTDOWN" | "ENETDOWN" | "ENONET" | "ENOPROTOOPT", icmp) => {
                Ending::Unreachable(icmp)
            }
            // No address of ours fits, no such family, a `blackhole` of the routing table.
            ("EADDRNOTAVAIL" | "EAFNOSUPPORT" | "EINVAL", _) => Ending::NoWay,
            _ => Ending::Other,
        }
    }
}
