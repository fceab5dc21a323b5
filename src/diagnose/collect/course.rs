//! The order of things: what is looked at after what, and for how long at most.
//!
//! Evidence is written as it is gathered, into a place outside of this: whatever hangs, what was seen until the
//! deadline is judged.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::join_all;

use super::super::Diagnoser;
use super::super::evidence::{
    Attempt, Evidence, Heard, Path, SmallSegments, Speaks, TlsSeen, TlsWanted, Try, Words,
};
use super::super::report::Report;
use super::approach::Approach;
use super::segments::{self, Exchange, SMALL};
use super::{names, path, words};
use crate::clock::{Clock, Deadline, Stopwatch};
use crate::config::plan::ProbePlan;
use crate::health::{Check, Failure, FailureKind, Kind, Phase};
use crate::net::tls::inspect::Stay;
use crate::net::{Network, Target, Trace};
use crate::probe;

/// The name, with each server asked alone and names that are nearly so: for the answer and for each server alone there is to
/// be the whole of their patience, since a shorter silence proves nothing.
const NAMES: Duration = Duration::from_secs(7);

/// Beyond the time of a connection attempt, for what is done beside it.
const BESIDE: Duration = Duration::from_millis(500);

/// TLS, and the first words, each. A server that answers later than this is as good as mute to whoever waits for it.
const PATIENCE: Duration = Duration::from_secs(3);

/// The same where connections are to be made in less.
const PATIENCE_MIN: Duration = Duration::from_secs(1);

/// Asking in other protocols.
const OTHERS: Duration = Duration::from_secs(2);

/// Saying it again in small segments.
const SEGMENTS: Duration = Duration::from_secs(3);

/// The name again.
const AGAIN: Duration = Duration::from_secs(1);

/// What the attempt leaves of a diagnosis for what comes after it; of a short one a quarter.
const AFTER_THE_ATTEMPT: Duration = Duration::from_secs(5);

/// A collector that outstays its time by so much is left.
const GRACE: Duration = Duration::from_millis(250);

/// One walk along the path.
pub(in crate::diagnose) struct Course<'a> {
    pub(in crate::diagnose) diagnoser: &'a Diagnoser,
    pub(in crate::diagnose) clock: Clock,
    pub(in crate::diagnose) deadline: Deadline,
    /// Whether a check has been made already, and is only to be explained: then nobody logs in.
    pub(in crate::diagnose) explains: bool,
}

impl Course<'_> {
    pub(in crate::diagnose) async fn run(&self, report: &mut Report<'_>) {
        let after = AFTER_THE_ATTEMPT.min(self.deadline.remaining() / 4);
        let addresses = self.names(report).await;
        self.path(report, &addresses).await;
        let at = self.reached(report.evidence());
        if let Some(at) = at {
            self.first_exchanges(report, at).await;
        }
        if !self.explains {
            self.attempt(report, at.is_some(), after).await;
        }
        if let Some(at) = at {
            if !self.explains {
                self.refusal(report, at).await;
            }
            self.what_listens(report, at).await;
            self.small_segments(report, at).await;
        }
        if let Some(names) = &report.evidence().names {
            let Diagnoser { subject, network, .. } = self.diagnoser;
            let network = self.network_for_names(network);
            let look = async |deadline| names::look_again(&network, subject, names, deadline).await;
            // There is no reason to call a report short for want of it.
            let later = self.share(AGAIN, look).await.flatten();
            if let Some(later) = later {
                report.note(|evidence| {
                    if let Some(names) = &mut evidence.names {
                        (names.later, names.takes_turns) = (Some(later.answer), later.takes_turns);
                    }
                });
            }
        }
    }

    /// What the name leads to.
    async fn names(&self, report: &mut Report<'_>) -> Vec<IpAddr> {
        let subject = &self.diagnoser.subject;
        let target = Target::new(&subject.host, subject.port);
        if subject.kind != Kind::Dns && target.name().is_none() {
            return subject.host.parse().into_iter().collect();
        }
        let network = self.network_for_names(&self.diagnoser.network);
        let look = async |deadline| names::look(&network, subject, deadline).await;
        let found = self.share(NAMES, look).await;
        report.note(|evidence| {
            evidence.cut_short |= found.is_none();
            evidence.names = found;
        });
        let evidence = report.evidence();
        match evidence.names.as_ref().map(|names| &names.answer) {
            Some(Ok(answer)) => answer.addresses.clone(),
            // The name may be gone with what it led to.
            Some(Err(failure)) if failure.kind == FailureKind::DnsNotFound => Vec::new(),
            // That it is not resolved now is no reason not to look at the place where the check came to.
            _ => evidence.attempt.iter().filter_map(|attempt| attempt.address).map(|at| at.ip()).collect(),
        }
    }

    /// Beside checks, which ask, too, there is only the room that these leave.
    fn network_for_names(&self, network: &Network) -> Network {
        if self.explains { network.in_spare_room() } else { network.clone() }
    }

    /// The way to each address.
    async fn path(&self, report: &mut Report<'_>, addresses: &[IpAddr]) {
        let subject = &self.diagnoser.subject;
        if subject.kind == Kind::Dns || addresses.is_empty() {
            return;
        }
        let addresses: Vec<_> = addresses.iter().map(|ip| SocketAddr::new(*ip, subject.port)).collect();
        let time = subject.connect_timeout + BESIDE;
        let walk = async |deadline| path::walk(&addresses, subject, deadline).await;
        let Some(mut paths) = self.share(time, walk).await else {
            return report.note(|evidence| evidence.cut_short = true);
        };
        report.note(|evidence| evidence.paths.clone_from(&paths));
        let repeat = async |deadline| path::repeat(&mut paths, subject, deadline).await;
        let repeated = self.share(time, repeat).await;
        report.note(|evidence| {
            evidence.cut_short |= repeated.is_none();
            evidence.paths = paths;
        });
    }

    /// The address that connections are made to: the one of the check that is explained, if it can be reached; or else, as for
    /// a check, the first that can.
    fn reached(&self, evidence: &Evidence) -> Option<SocketAddr> {
        let open = |path: &&Path| path.tries.iter().any(Try::connected);
        let mut open = evidence.paths.iter().filter(open).map(|path| path.address);
        let of_the_check = evidence.attempt.as_ref().and_then(|attempt| attempt.address);
        open.clone().find(|address| Some(*address) == of_the_check).or_else(|| open.next())
    }

    /// TLS, and the first words.
    async fn first_exchanges(&self, report: &mut Report<'_>, at: SocketAddr) {
        let approach = self.approach();
        let patience = self.patience();
        let mut looked = None;
        if self.diagnoser.subject.tls != TlsWanted::No {
            // What a check has been refused is found out about; what none was is not waited for.
            let stay = if self.explains { Stay::ForTheRefusal } else { Stay::No };
            let inspect = async |deadline| approach.inspect(None, stay, at, deadline).await;
            let inspected = self.exchange(patience, inspect).await;
            report.note(|evidence| evidence.cut_short |= inspected.is_none());
            looked = inspected.flatten();
            report.note(|evidence| evidence.tls = looked.as_ref().map(|looked| looked.seen.clone()));
        }
        // A port that could be anything's may wait for a question that is not known.
        if self.diagnoser.subject.speaks.is_none() && !self.diagnoser.subject.is_bare_port() {
            return;
        }
        let exchange = async |deadline| words::exchange(&approach, looked.as_ref(), at, deadline).await;
        let heard = self.exchange(patience, exchange).await;
        report.note(|evidence| {
            evidence.cut_short |= heard.is_none();
            evidence.words = heard;
        });
        self.other_protocols(report, at).await;
    }

    /// What it is that listens there, where its first words did not tell.
    async fn other_protocols(&self, report: &mut Report<'_>, at: SocketAddr) {
        let evidence = report.evidence();
        let is_open = |words: &Words| words.is.is_none() && !matches!(words.heard, Heard::NotAsked(_));
        let Some(mut heard) = evidence.words.clone().filter(is_open) else { return };
        let agreed = |tls: &TlsSeen| matches!(tls.version, Some(Ok(_)));
        let inside = heard.asked != Some(Speaks::Postgres) && evidence.tls.as_ref().is_some_and(agreed);
        let approach = self.approach();
        let others = async |deadline| words::try_others(&approach, &mut heard, inside, at, deadline).await;
        let asked = self.share(OTHERS, others).await;
        report.note(|evidence| {
            evidence.cut_short |= asked.is_none();
            evidence.words = Some(heard);
        });
    }

    /// One attempt of a check; where none can be made, the failure that it would meet.
    async fn attempt(&self, report: &mut Report<'_>, reachable: bool, after: Duration) {
        let attempt = match no_way(report.evidence(), reachable) {
            Some(failure) => Some(Attempt::failed(failure)),
            None => {
                let timeout = self.diagnoser.plan.policy().timeout;
                // What speaks another protocol needs no longer to show that it does not speak this one.
                let is_another = report.evidence().words.as_ref().is_some_and(Words::is_another);
                let timeout = if is_another { timeout.min(PATIENCE) } else { timeout };
                let time = timeout.min(self.deadline.remaining().saturating_sub(after));
                let made = self.share(time, async |deadline| self.make_attempt(None, deadline).await).await;
                // Silence for what our own time left of it is no answer.
                made.filter(|made| time >= timeout.min(PATIENCE) || !made.is_silence())
            }
        };
        report.note(|evidence| {
            evidence.cut_short |= attempt.is_none();
            evidence.attempt = attempt;
        });
    }

    /// One attempt, by the dependency's own probe.
    async fn make_attempt(&self, segment: Option<u16>, deadline: Deadline) -> Attempt {
        let Diagnoser { plan, network, .. } = self.diagnoser;
        let mut probe = match probe::build_with(plan, network, segment) {
            Ok(Some(probe)) => probe,
            Ok(None) => return Attempt::failed(internal("the dependency has no target")),
            Err(failure) => return Attempt::failed(failure),
        };
        self.diagnoser.visits.add(probe.gone());
        let mut trace = Trace::default();
        let watch = Stopwatch::start();
        let outcome = probe.attempt(deadline, &mut trace).await;
        // It begins to leave here, and is waited for in the end.
        drop(probe.close());
        let (result, seen) = match outcome {
            Ok(mut seen) => {
                seen.warn_of_expiry(self.clock.now().wall, plan.policy().certificate_warning);
                let (took, bound) = (watch.elapsed(), plan.policy().slow_after);
                if took > bound {
                    seen.warnings
                        .push(format!("slow: it took {took:.0?}, the bound is {bound:.0?} (`slow_after`)"));
                }
                (Ok(()), seen)
            }
            Err(failure) => (Err(failure), Default::default()),
        };
        let details = if result.is_ok() { seen.details } else { trace.seen };
        let (phases, address, warnings) = (trace.phases, trace.address, seen.warnings);
        Attempt { result, phases, address, details, warnings, cut_short: false }
    }

    /// Whether the server refuses a session without a certificate of ours, where a check failed and it asked for one.
    async fn refusal(&self, report: &mut Report<'_>, at: SocketAddr) {
        let evidence = report.evidence();
        let asked = |tls: &TlsSeen| tls.wants_client_certificate && matches!(tls.version, Some(Ok(_)));
        if evidence.failure().is_none() || !evidence.tls.as_ref().is_some_and(asked) {
            return;
        }
        let approach = self.approach();
        let again = async |deadline| approach.inspect(None, Stay::ForTheRefusal, at, deadline).await;
        let seen = self.exchange(self.patience(), again).await.flatten().map(|looked| looked.seen);
        if let Some(seen) = seen.filter(|seen| seen.not_asked.is_none()) {
            report.note(|evidence| evidence.tls = Some(seen));
        }
    }

    /// What listens there, where there was no reason to ask before; and, for a port of the command line, whether it is a
    /// failure that it speaks what it does.
    async fn what_listens(&self, report: &mut Report<'_>, at: SocketAddr) {
        let evidence = report.evidence();
        let failed = evidence.failure().is_some_and(|failure| failure.phase >= Phase::Tls);
        if failed && evidence.words.is_none() {
            let approach = self.approach();
            let exchange = async |deadline| words::exchange(&approach, None, at, deadline).await;
            let heard = self.exchange(self.patience(), exchange).await;
            report.note(|evidence| {
                evidence.cut_short |= heard.is_none();
                evidence.words = heard;
            });
            self.other_protocols(report, at).await;
        }
        if report.evidence().subject.is_bare_port()
            && let Some(failure) = not_as_its_number_says(report.evidence())
        {
            report.note(|evidence| {
                if let Some(Attempt { result: result @ Ok(()), .. }) = &mut evidence.attempt {
                    *result = Err(failure);
                }
            });
        }
    }

    /// What went unanswered, in small segments.
    async fn small_segments(&self, report: &mut Report<'_>, at: SocketAddr) {
        let evidence = report.evidence();
        // Who ends a query, and says so with a code, is not silent.
        let silent = |failure: &Failure| {
            matches!(failure.kind, FailureKind::Timeout | FailureKind::QueryTimeout)
                && failure.code.is_none()
                && failure.phase >= Phase::Tls
        };
        let handshake = evidence.tls.as_ref().is_some_and(|tls| tls.unanswered);
        let attempt = evidence.failure().filter(|failure| silent(failure));
        // Who answers nothing at all, however little was said, has not swallowed anything large.
        let answers = evidence.words.as_ref().is_some_and(|words| matches!(words.heard, Heard::Said(_)))
            || evidence.tls.as_ref().is_some_and(|tls| matches!(tls.version, Some(Ok(_))));
        let is_another = evidence.words.as_ref().is_some_and(Words::is_another);
        let exchange = match (handshake, attempt, evidence.subject.speaks) {
            _ if is_another => None,
            (true, _, _) => Some(Exchange::Handshake),
            (false, Some(_), _) if !answers || evidence.subject.is_bare_port() => None,
            (false, Some(_), _) if !self.explains && !self.has_own_queries() => {
                let again = async |deadline| self.attempt_again(deadline).await;
                let seen = self.share(SEGMENTS, again).await;
                return report.note(|evidence| {
                    evidence.cut_short |= seen.is_none();
                    evidence.small_segments = seen;
                });
            }
            (false, Some(failure), _) if failure.phase == Phase::Tls => Some(Exchange::Handshake),
            (false, Some(_), Some(speaks @ (Speaks::Postgres | Speaks::Redis | Speaks::Http))) => {
                Some(Exchange::Large(speaks))
            }
            (false, _, _) => None,
        };
        let Some(exchange) = exchange else { return };
        let approach = self.approach();
        let contrast = async |deadline| segments::contrast(&approach, exchange, at, deadline).await;
        let seen = self.share(self.patience(), contrast).await;
        report.note(|evidence| {
            evidence.cut_short |= seen.is_none();
            evidence.small_segments = seen;
        });
    }

    /// Whether the configuration has queries of its own asked. What one of them costs is not ours to spend again.
    fn has_own_queries(&self) -> bool {
        matches!(self.diagnoser.plan.probe(), Some(ProbePlan::Postgres(plan)) if !plan.queries().is_empty())
    }

    /// The attempt that went unanswered once more as it was, and twice in small segments, all at a time.
    async fn attempt_again(&self, deadline: Deadline) -> SmallSegments {
        let tries = [None, Some(SMALL), Some(SMALL)];
        let tries = tries.map(async |segment| (segment, self.make_attempt(segment, deadline).await.result));
        let mut seen = SmallSegments::of("a check");
        seen.count(None, false);
        for (segment, result) in join_all(tries).await {
            let silent = result.is_err_and(|failure| {
                matches!(
                    failure.kind,
                    FailureKind::Timeout | FailureKind::QueryTimeout | FailureKind::ConnectTimeout
                )
            });
            seen.count(segment, !silent);
        }
        seen
    }

    fn approach(&self) -> Approach {
        let Diagnoser { subject, network, plan, .. } = self.diagnoser;
        Approach::of(subject, network, probe::limits(plan, None))
    }

    fn patience(&self) -> Duration {
        self.diagnoser.subject.connect_timeout.clamp(PATIENCE_MIN, PATIENCE)
    }

    /// The same for a question: in less than half of its time, silence would tell nothing.
    async fn exchange<T, F: Future<Output = T>>(
        &self,
        share: Duration,
        work: impl FnOnce(Deadline) -> F,
    ) -> Option<T> {
        match self.deadline.remaining() < share / 2 {
            true => None,
            false => self.share(share, work).await,
        }
    }

    /// Gives some work a share of the time, and leaves it where it does not keep to that. `None` where there was no time,
    /// or not enough.
    async fn share<T, F: Future<Output = T>>(
        &self,
        share: Duration,
        work: impl FnOnce(Deadline) -> F,
    ) -> Option<T> {
        let deadline = self.deadline.within(share);
        if deadline.remaining().is_zero() {
            return None;
        }
        // Each on the heap, for as long as it takes: a walk would else be as large as all of them.
        tokio::time::timeout_at(deadline.later(GRACE).instant(), Box::pin(work(deadline))).await.ok()
    }
}

/// Why no attempt can be made, if none can: the failure that it would meet on its way.
pub(super) fn no_way(evidence: &Evidence, reachable: bool) -> Option<Failure> {
    if evidence.subject.kind == Kind::Dns || reachable {
        return None;
    }
    let by_name = evidence.names.as_ref().and_then(|names| names.answer.as_ref().err()).cloned();
    let nothing = || Failure::new(Phase::Dns, FailureKind::DnsNotFound, "the name has no address");
    let unseen = || Failure::new(Phase::Dns, FailureKind::DnsTimeout, "the name was not resolved in time");
    Some(by_name.or_else(|| path::failure(&evidence.paths)).unwrap_or_else(|| match &evidence.names {
        Some(names) if names.answer.as_ref().is_ok_and(|answer| answer.addresses.is_empty()) => nothing(),
        None if evidence.subject.host.parse::<IpAddr>().is_err() => unseen(),
        _ => {
            let what = "no connection was made before the diagnosis ended";
            Failure::new(Phase::Connect, FailureKind::ConnectTimeout, what)
        }
    }))
}

/// The failure of a port that takes connections and does not speak what ports of its number do.
fn not_as_its_number_says(evidence: &Evidence) -> Option<Failure> {
    let expected = evidence.subject.speaks?;
    let port = evidence.subject.port;
    let Words { heard, is, .. } = evidence.words.as_ref()?;
    let fail = |kind, message: String| Some(Failure::new(Phase::Query, kind, message));
    let inside = evidence.subject.tls != TlsWanted::No && expected != Speaks::Postgres;
    if let Some(TlsSeen { version, not_spoken, .. }) = evidence.tls.as_ref().filter(|_| inside) {
        let fail = |why: &str| Some(Failure::new(Phase::Tls, FailureKind::TlsHandshake, why));
        match (version, not_spoken) {
            (Some(Err(why)), _) => return fail(why),
            _ if evidence.tls.as_ref().is_some_and(|tls| tls.not_asked.is_some()) => return None,
            (_, Some(_)) => return fail("what answers does not speak TLS"),
            // What is spoken inside is not for everybody to know.
            (Some(Ok(_)), _) if is.is_none() => return None,
            _ => {}
        }
    }
    if *is == Some(expected) {
        return None;
    }
    match (is, heard) {
        (Some(other), _) => {
            let what = format!("port {port} is {expected}'s, and what answers there speaks {other}");
            fail(FailureKind::Protocol, what)
        }
        (None, Heard::Said(said)) => {
            let what = format!("port {port} is {expected}'s, and what answers there says: \"{said}\"");
            fail(FailureKind::Protocol, what)
        }
        (None, Heard::NotAsked(_)) => None,
        (None, Heard::Nothing) => {
            let what = format!("connected, then no answer to the first message of {expected}'s protocol");
            fail(FailureKind::Timeout, what)
        }
        (None, Heard::Closed | Heard::Cut) => {
            let what = format!("connected, then cut in answer to the first message of {expected}'s protocol");
            fail(FailureKind::ConnectReset, what)
        }
    }
}

fn internal(what: &str) -> Failure {
    Failure::new(Phase::Connect, FailureKind::Internal, what)
}

impl Words {
    /// Whether what was asked is not what is spoken there.
    fn is_another(&self) -> bool {
        self.asked.is_some() && self.is.is_some() && self.is != self.asked
    }
}

impl Attempt {
    /// Whether it failed for want of an answer.
    fn is_silence(&self) -> bool {
        let silent = |failure: &Failure| {
            let kinds = [
                FailureKind::Timeout,
                FailureKind::QueryTimeout,
                FailureKind::ConnectTimeout,
                FailureKind::DnsTimeout,
            ];
            failure.code.is_none() && kinds.contains(&failure.kind)
        };
        self.result.as_ref().err().is_some_and(silent)
    }

    /// The last one of a check.
    pub(in crate::diagnose) fn of(check: &Check) -> Self {
        Self {
            result: check.outcome.as_ref().map(|_| ()).map_err(Clone::clone),
            phases: check.phases,
            address: check.address,
            details: check.details().cloned().unwrap_or_default(),
            warnings: check.observation().map(|seen| seen.warnings.clone()).unwrap_or_default(),
            cut_short: false,
        }
    }

    /// One for which there was no time.
    pub(in crate::diagnose) fn missed(evidence: &Evidence) -> Self {
        let reached = evidence.paths.iter().any(|path| path.tries.iter().any(Try::connected));
        let late = || {
            let what = "connected, and no check was over before the diagnosis ended";
            Failure::new(Phase::Query, FailureKind::Timeout, what)
        };
        match no_way(evidence, reached) {
            Some(failure) => Self::failed(failure),
            None => Self { cut_short: true, ..Self::failed(late()) },
        }
    }

    /// One that failed, or would have.
    pub(super) fn failed(failure: Failure) -> Self {
        Self {
            result: Err(failure),
            phases: Default::default(),
            address: None,
            details: Default::default(),
            warnings: Vec::new(),
            cut_short: false,
        }
    }
}
