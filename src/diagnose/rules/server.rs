//! The state that the server says it is in: full, starting, stopping, of another role.

use super::finding::{Finding, said};
use super::places::is_replica;
use crate::diagnose::advice::Advice;
use crate::diagnose::evidence::Evidence;
use crate::diagnose::text;
use crate::health::{Details, FailureKind, HopKind, Kind};

/// Full, by its own words; who fills it, by what it told when it last worked.
pub(super) fn too_many_connections(evidence: &Evidence) -> Option<Finding> {
    let failure = evidence.fails_by(FailureKind::TooManyConnections)?;
    let place = evidence.place();
    // It says so without a code, before it knows who asks.
    let no_process = failure.message.contains("could not fork");
    let summary = match no_process {
        true => format!("{place} cannot make a process for another connection"),
        false => format!("{place} has no connection left for this client"),
    };
    let finding = Finding::certain(summary)
        .told_by(failure)
        .because(held(evidence))
        .step(Advice::on(evidence).who_holds_connections());
    let kind = evidence.subject.kind;
    let endpoint = Advice::on(evidence).endpoint().is_some();
    let pooler = (kind == Kind::Postgres).then(|| match endpoint {
        true => "have the applications share connections: smaller pools, or RDS Proxy; the limit itself is `max_connections` of the parameter group".to_owned(),
        false => "have the applications share connections: smaller pools, or PgBouncer; the limit itself is `max_connections`".to_owned(),
    });
    let idle = (kind == Kind::Postgres).then(|| {
        Advice::on(evidence).ask_postgres_as_superuser(
            "those that have been idle for long can be ended (pg_terminate_backend), once it is known whose they are and that no pool counts on them: see which there are",
            "SELECT pid, datname, usename, application_name, state, now() - state_change AS age FROM pg_stat_activity WHERE state LIKE 'idle%' AND state_change < now() - interval '10 min' ORDER BY age DESC",
        )
    });
    Some(finding.advise(pooler).advise(idle))
}

/// Who held the connections when the server last told.
fn held(evidence: &Evidence) -> Option<String> {
    const TOLD: usize = 3;
    match evidence.before.as_ref()? {
        Details::Postgres(seen) => {
            let connections = &seen.connections;
            let used = match (connections.used, connections.available()) {
                (Some(used), Some(available)) => format!("{used} of {available} were in use"),
                (Some(used), None) => format!("{used} were in use"),
                _ => return None,
            };
            let holders =
                connections.by_application.iter().flatten().take(TOLD).map(|(application, count)| {
                    let application = if application.is_empty() { "(no name)" } else { application.as_str() };
                    format!("{application} {count}")
                });
            let holders: Vec<String> = holders.collect();
            let by =
                if holders.is_empty() { String::new() } else { format!(", most by {}", text::all(&holders)) };
            let us = connections
                .this_task
                .map(|count| format!("; {count} from this task's address"))
                .unwrap_or_default();
            Some(format!("when it last worked, {used}{by}{us}"))
        }
        Details::Redis(seen) => match (seen.connected_clients, seen.max_clients) {
            (Some(clients), Some(max)) => {
                Some(format!("when it last worked, {clients} of {max} clients were connected"))
            }
            _ => None,
        },
        Details::None | Details::Dns(_) | Details::Tcp(_) | Details::Http(_) => None,
    }
}

/// 57P03 in its other words: it replays its log, after a crash or as a standby.
pub(super) fn recovering(evidence: &Evidence) -> Option<Finding> {
    let failure = evidence.fails_by(FailureKind::StartingUp)?;
    let words = ["recovery", "not yet accepting connections", "not accepting connections"];
    words.iter().any(|words| failure.message.contains(words)).then(|| {
        Finding::certain(format!("{} recovers: it replays its log and takes no connections yet", evidence.place()))
            .told_by(failure)
            .step("a standby that never gets further may have `hot_standby = off`, or miss log files: its own log says how far it is")
            .advise(Advice::on(evidence).state())
    })
}

/// It starts, or loads.
pub(super) fn starting_up(evidence: &Evidence) -> Option<Finding> {
    let failure =
        evidence.fails_by(FailureKind::StartingUp).or_else(|| evidence.fails_by(FailureKind::Loading))?;
    let what = match failure.kind {
        FailureKind::Loading => "loads its data and answers nothing else",
        _ => "is starting",
    };
    let finding = Finding::certain(format!("{} {what}", evidence.place())).told_by(failure);
    let recurs = "if it starts again and again, its log and its memory limit say why";
    Some(finding.step(recurs).advise(Advice::on(evidence).events()))
}

/// It is being stopped, or ended this one session.
pub(super) fn shutting_down(evidence: &Evidence) -> Option<Finding> {
    let failure = evidence.fails_by(FailureKind::ShuttingDown)?;
    let place = evidence.place();
    let state = Advice::on(evidence).state();
    let finding = match failure.code.as_deref() {
        Some("57P02") => Finding::likely(format!(
            "one of the processes of {place} crashed: it ended all sessions, and starts anew"
        ))
        .since(said(failure))
        .or_else("an immediate shutdown, which older servers tell by the same code"),
        // PgBouncer's own words, for the session that it had behind it…
        Some("08P01") if failure.message.contains("server conn crashed") => Finding::likely(format!(
            "the connection from the pooler at {place} to the server behind it broke"
        ))
        .since(said(failure))
        .or_else("a server that was restarted, or a way between the two that drops idle connections"),
        // …and for what was turned off on its console.
        Some("08P01") if failure.message.contains("is disabled") => {
            return Some(
                Finding::certain(format!("the pooler at {place} has this database taken out of service"))
                    .told_by(failure)
                    .step("turn it on again on the pooler's console: `ENABLE` with the database's name"),
            );
        }
        // This one also comes of `pg_terminate_backend`, which ends one session and not the server.
        Some("57P01") => Finding::likely(format!("{place} is being stopped"))
            .told_by(failure)
            .or_else("somebody who ended this one session (`pg_terminate_backend`)"),
        _ => Finding::certain(format!("{place} is being stopped")).told_by(failure),
    };
    let crashed = matches!(failure.code.as_deref(), Some("57P02" | "08P01"))
        && !failure.message.contains("shutting down");
    let finding = match crashed {
        true => finding
            .step("read the server's log: the line before says which process ended, and by which signal; signal 9 is most often the kernel's out-of-memory killer (`dmesg`), or the memory limit of its container")
            .advise(state),
        false => finding
            .advise(state)
            .step("in a failover, a new primary takes over under the same name: wait for it"),
    };
    Some(finding)
}

/// Redis' own word: the key is elsewhere.
pub(super) fn cluster_node(evidence: &Evidence) -> Option<Finding> {
    let failure = evidence.failure().filter(|it| matches!(it.code.as_deref(), Some("MOVED" | "ASK")))?;
    let finding = Finding::certain(format!(
        "{} is one node of a cluster, and sends its clients to another",
        evidence.place()
    ))
    .told_by(failure)
    .step("connect to the cluster's configuration endpoint with a client that speaks cluster mode")
    .advise(Advice::on(evidence).state());
    Some(finding)
}

/// Slots, or a primary, are missing.
pub(super) fn cluster_down(evidence: &Evidence) -> Option<Finding> {
    let failure = evidence.fails_by(FailureKind::ClusterDown)?;
    let what = match failure.code.as_deref() {
        Some("MASTERDOWN") => "has lost its primary and may not answer with old data",
        Some("TRYAGAIN") => "is moving slots to another node",
        _ => "belongs to a cluster that is down",
    };
    let question: &[&str] = match failure.code.as_deref() {
        Some("MASTERDOWN") => &["INFO", "replication"],
        _ => &["CLUSTER", "NODES"],
    };
    let finding = Finding::certain(format!("{} {what}", evidence.place()))
        .told_by(failure)
        .step(Advice::on(evidence).ask_redis("see how it stands to the others", question))
        .advise(Advice::on(evidence).state());
    Some(finding)
}

/// Another role, by the server's own word, and nothing says that a name is to blame.
pub(super) fn wrong_role(evidence: &Evidence) -> Option<Finding> {
    let failure = evidence.fails_by(FailureKind::WrongRole)?;
    let is = match evidence.attempt.as_ref().and_then(|attempt| is_replica(&attempt.details)) {
        Some(true) => "a replica",
        Some(false) => "a primary",
        None => "not what was expected",
    };
    let expected = evidence.subject.role;
    let finding =
        Finding::certain(format!("{} is {is}, and the role {expected} is expected", evidence.place()))
            .told_by(failure);
    // An address follows nobody.
    let address = evidence.names.is_none().then(|| {
        "the host is configured as an address, which does not follow a failover: configure the endpoint's name".to_owned()
    });
    Some(
        finding
            .advise(address)
            .step("if this is the server that is meant, correct `role` in the configuration")
            .advise(Advice::on(evidence).state()),
    )
}

/// No writes, by the server's own word.
pub(super) fn read_only(evidence: &Evidence) -> Option<Finding> {
    let failure =
        evidence.fails_by(FailureKind::ReadOnly).filter(|_| evidence.broken() >= Some(HopKind::Auth))?;
    let finding = Finding::certain(format!("{} takes no writes", evidence.place())).told_by(failure);
    let finding = match (evidence.subject.kind, failure.code.as_deref()) {
        (Kind::Postgres, _) => finding
            .step(Advice::on(evidence).ask_postgres(
                "see what makes sessions read-only",
                "SELECT name, setting, source FROM pg_settings WHERE name LIKE '%read_only'",
            ))
            .advise((!evidence.is_here()).then(|| {
                "RDS turns read-only where its storage is full: look at FreeStorageSpace in CloudWatch"
                    .to_owned()
            })),
        (_, Some("OOM")) => {
            finding.step(Advice::on(evidence).ask_redis("see what fills it", &["INFO", "memory"]))
        }
        (_, Some("MISCONF")) => finding
            .step(Advice::on(evidence).ask_redis("see what it could not save", &["INFO", "persistence"])),
        _ => finding.step(
            Advice::on(evidence).ask_redis("see how it stands to the others", &["INFO", "replication"]),
        ),
    };
    Some(finding.advise(Advice::on(evidence).state()))
}
