//! The question and its answer; and faults of our own.

use super::finding::{Finding, said};
use crate::diagnose::advice::Advice;
use crate::diagnose::evidence::Evidence;
use crate::diagnose::hops;
use crate::health::{Confidence, FailureKind, Kind};

/// Nothing of the path is to blame.
pub(super) fn internal(evidence: &Evidence) -> Option<Finding> {
    let failure = evidence.fails_by(FailureKind::Internal)?;
    let finding = Finding::certain("this program, or what it runs in, is at fault, not the dependency")
        .told_by(failure);
    Some(finding.step("see its limits: `ulimit -n`, and the memory of its container"))
}

/// The service's own word.
pub(super) fn unexpected_status(evidence: &Evidence) -> Option<Finding> {
    let failure = evidence.fails_by(FailureKind::UnexpectedStatus)?;
    let status = failure.code.as_deref().unwrap_or("another status");
    let summary =
        format!("{} answers {status}, which is not what the check expects", evidence.subject.target);
    let finding = Finding::certain(summary).told_by(failure);
    Some(finding.because(evidence.words.as_ref().map(hops::first_words)).step(format!(
        "read the log of the service at {}: it answered, and knows why it did so",
        evidence.place()
    )))
}

/// It answers, and with something else; of names, too few records are that.
pub(super) fn unexpected_content(evidence: &Evidence) -> Option<Finding> {
    let failure = evidence
        .fails_by(FailureKind::UnexpectedContent)
        .or_else(|| evidence.fails_by(FailureKind::DnsUnexpectedAnswer))?;
    let summary = format!("{} answers with something else than the check expects", evidence.subject.target);
    let step = "if this answer is right, correct what is expected of it in the configuration";
    Some(Finding::certain(summary).told_by(failure).step(step))
}

/// The server refused the question, or its answer was judged.
pub(super) fn query_failed(evidence: &Evidence) -> Option<Finding> {
    let failure = evidence.fails_by(FailureKind::QueryFailed)?;
    let finding = Finding::certain(format!(
        "{} refuses the question, or answers it otherwise than expected",
        evidence.place()
    ));
    let by_hand = match evidence.subject.kind {
        Kind::Redis => Advice::on(evidence).ask_redis("ask the same by hand", &["INFO", "server"]),
        Kind::Postgres => {
            Advice::on(evidence).ask_postgres("see what the server says by hand", "SELECT version()")
        }
        Kind::Dns | Kind::Tcp | Kind::Http => String::new(),
    };
    Some(finding.told_by(failure).step(by_hand))
}

/// It answered before, or it answers something else at the same time: the server is there, and slow.
pub(super) fn query_timeout(evidence: &Evidence) -> Option<Finding> {
    let cancelled = evidence.fails_by(FailureKind::QueryTimeout);
    let slow = evidence.fails_by(FailureKind::Timeout);
    let slow = slow.filter(|_| evidence.is_spoken() && !evidence.is_missed());
    let failure = cancelled.or(slow)?;
    // The server's own word that it ended the statement. The limit is that of the check, which sets it for each question.
    let by_server = failure.code.as_deref() == Some("57014");
    let by_limit = by_server && failure.message.contains("statement timeout");
    let place = evidence.place();
    let broke = "a connection that broke in between, or answers that are too large for the way";
    let (confidence, summary, other) = match (by_limit, by_server, slow.is_some()) {
        (true, ..) => (
            Confidence::Certain,
            format!("{place} did not finish the question in the time of the check, whose own limit ended it"),
            None,
        ),
        (false, true, _) => (
            Confidence::Likely,
            format!("{place} ended the question before it was answered"),
            Some("somebody who cancelled it (`pg_cancel_backend`)"),
        ),
        (false, false, true) => (
            Confidence::Likely,
            format!("{place} answers, and not in time in {}", failure.phase),
            Some(broke),
        ),
        (false, false, false) => (
            Confidence::Likely,
            format!("{place} had answered, and did not answer the question in time"),
            Some(broke),
        ),
    };
    let finding = Finding::new(confidence, summary)
        .since(said(failure))
        .because(evidence.words.as_ref().map(hops::first_words))
        .or_else_if(other);
    // That nobody ever answered, as the other kind's hint has it, is not so here.
    let hint = match failure.hint == FailureKind::Timeout.hint() {
        true => FailureKind::QueryTimeout.hint().to_owned(),
        false => failure.hint.clone(),
    };
    let look = match evidence.subject.kind {
        Kind::Postgres => Advice::on(evidence).ask_postgres(
            "see what runs, and who waits for whom",
            "SELECT pid, state, wait_event_type, now() - xact_start AS age, pg_blocking_pids(pid), left(query, 60) FROM pg_stat_activity WHERE state <> 'idle' ORDER BY age DESC NULLS LAST",
        ),
        Kind::Redis => Advice::on(evidence).ask_redis("see what took long", &["SLOWLOG", "GET", "10"]),
        Kind::Dns | Kind::Tcp | Kind::Http => String::new(),
    };
    Some(finding.step(hint).step(look).advise(Advice::on(evidence).state()))
}
