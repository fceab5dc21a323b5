//! The log-in: what the server says of who we are and what we may. Its own words are certain.

use super::finding::{Finding, said};
use crate::diagnose::advice::Advice;
use crate::diagnose::evidence::Evidence;
use crate::health::{Confidence, Failure, FailureKind, Kind};

/// The failure of a log-in or of a right, where it is of this kind.
fn refused(evidence: &Evidence, kind: FailureKind) -> Option<&Failure> {
    evidence.fails_by(kind)
}

fn code(failure: &Failure) -> &str {
    failure.code.as_deref().unwrap_or_default()
}

fn user(evidence: &Evidence) -> String {
    match &evidence.subject.user {
        Some(user) => format!("the user {user}"),
        None => "the user".to_owned(),
    }
}

fn database(evidence: &Evidence) -> &str {
    evidence.subject.database.as_deref().unwrap_or("of this name")
}

/// It asks for one, and we have none to give.
pub(super) fn password_missing(evidence: &Evidence) -> Option<Finding> {
    let failure = refused(evidence, FailureKind::AuthFailed)?;
    let asks = code(failure) == "NOAUTH" || failure.message.contains("asks for a password and none is set");
    asks.then(|| {
        Finding::certain(format!("{} asks for a password, and none is configured", evidence.place()))
            .told_by(failure)
            .step("if one is configured, see whether it arrives: `sickbay config show` has \"***\" where there is one")
    })
}

/// PostgreSQL says so only where no password would have been asked for.
pub(super) fn user_missing(evidence: &Evidence) -> Option<Finding> {
    let failure = refused(evidence, FailureKind::AuthFailed)?;
    let missing = failure.message.starts_with("role \"") && failure.message.contains("does not exist");
    missing.then(|| {
        Finding::certain(format!("{} has no role for {}", evidence.place(), user(evidence)))
            .told_by(failure)
            .step(Advice::on(evidence).ask_postgres_as_superuser("see which roles there are", "\\du"))
    })
}

/// User or password: the server does not tell which, and must not.
pub(super) fn password_wrong(evidence: &Evidence) -> Option<Finding> {
    let failure = refused(evidence, FailureKind::AuthFailed)?;
    let by_code = matches!(code(failure), "28P01" | "WRONGPASS");
    let by_words =
        ["password authentication failed", "does not accept the password", "invalid password", "auth failed"];
    let told = by_code || by_words.iter().any(|words| failure.message.contains(words));
    // What else a Redis says to AUTH is about the credentials, too, in words that differ by version.
    let about_auth = evidence.subject.kind == Kind::Redis && code(failure) == "ERR";
    let pooled = code(failure) == "08P01";
    if !told && !about_auth && !pooled {
        return None;
    }
    let confidence = if told { Confidence::Certain } else { Confidence::Likely };
    let place = evidence.place();
    let summary = match failure.message.as_str() {
        // Words of the Redis probe, in the place of the server's own.
        "the server has no password for the default user" => {
            format!("{place} has no password for its default user, and one is configured here")
        }
        "the server takes a password alone" => {
            format!("{place} knows no users, and one is configured here")
        }
        "the server does not take AUTH" => {
            format!("{place} does not take AUTH, and a password is configured here")
        }
        _ => format!("{place} does not accept {} with the password that is configured", user(evidence)),
    };
    let finding = Finding::new(confidence, summary).told_by(failure);
    let ecs = evidence.task.is_some().then(|| {
        "a secret is read when a task starts: after a rotation, deploy anew, `aws ecs update-service --force-new-deployment`; or have the password read from a file (`${file:…}`)".to_owned()
    });
    let iam =
        (evidence.subject.kind == Kind::Postgres && Advice::on(evidence).endpoint().is_some()).then(|| {
            "where IAM authentication is on for this user, the password is a token that lives 15 minutes"
                .to_owned()
        });
    let try_it = match evidence.subject.kind {
        Kind::Redis => Advice::on(evidence).ask_redis("try the same by hand", &["PING"]),
        _ => Advice::on(evidence).ask_postgres("try the same by hand", "SELECT 1"),
    };
    Some(finding.advise(ecs).advise(iam).step(try_it))
}

/// `pg_hba.conf`, by the server's own words.
pub(super) fn host_rules_refuse(evidence: &Evidence) -> Option<Finding> {
    let failure = refused(evidence, FailureKind::AccessDenied)?;
    failure.message.contains("pg_hba.conf").then(|| {
        let from = evidence.source().map(|source| format!(" from {source}")).unwrap_or_default();
        let (user, database) = (user(evidence), database(evidence));
        Finding::certain(format!("the server's pg_hba.conf does not let {user}{from} into the database {database}"))
            .told_by(failure)
            .step("see its lines, in order, the first that fits counts: `SELECT * FROM pg_hba_file_rules` as a superuser; `SELECT pg_reload_conf()` takes changes up")
    })
}

/// Redis without a password takes its own host alone.
pub(super) fn protected_mode(evidence: &Evidence) -> Option<Finding> {
    let failure = refused(evidence, FailureKind::AccessDenied)?;
    (code(failure) == "DENIED").then(|| {
        Finding::certain(format!("Redis at {} is in protected mode and takes only connections from its own host", evidence.place()))
            .told_by(failure)
            .step("with docker, the official image has no protected mode: this server was given a configuration of its own; see its `protected-mode`, `bind` and `requirepass`")
    })
}

/// The user is known, and may not.
pub(super) fn not_permitted(evidence: &Evidence) -> Option<Finding> {
    let failure = refused(evidence, FailureKind::AccessDenied)?;
    let closed = "is not currently accepting connections";
    if code(failure) == "55000" || failure.message.contains(closed) {
        return Some(takes_no_connections(evidence, failure));
    }
    // 28000 in another language than English may be any refusal.
    let known = code(failure) != "28000" || failure.message.contains("is not permitted to log in");
    let confidence = if known { Confidence::Certain } else { Confidence::Likely };
    let summary =
        format!("{} knows {} and does not permit what the check does", evidence.place(), user(evidence));
    let look = match evidence.subject.kind {
        Kind::Redis => {
            let user = evidence.subject.user.as_deref().unwrap_or("default");
            Advice::on(evidence).ask_redis("see what the user may", &["ACL", "GETUSER", user])
        }
        Kind::Postgres => Advice::on(evidence).ask_postgres_as_superuser("see what the role may", "\\du"),
        Kind::Dns | Kind::Tcp | Kind::Http => String::new(),
    };
    let finding = Finding::new(confidence, summary).told_by(failure).step(look);
    Some(if known {
        finding
    } else {
        finding.or_else("another refusal at the log-in, in words that are not known here")
    })
}

/// The database is there, and nobody may connect to it (`ALLOW_CONNECTIONS false`).
fn takes_no_connections(evidence: &Evidence, failure: &Failure) -> Finding {
    let summary = format!(
        "the database {} at {} takes no connections, whoever asks",
        database(evidence),
        evidence.place()
    );
    Finding::certain(summary)
        .since(said(failure))
        .step(Advice::on(evidence).ask_postgres_as_superuser(
            "see which databases take connections (datallowconn)",
            "SELECT datname, datallowconn FROM pg_database ORDER BY 1",
        ))
        .step("somebody turned it off, as for a migration or before a restore: ask who, or turn it on again (`ALTER DATABASE … ALLOW_CONNECTIONS true`, as its owner, connected to another database); `template0` is always so")
}

/// The server's own word.
pub(super) fn database_missing(evidence: &Evidence) -> Option<Finding> {
    let failure = refused(evidence, FailureKind::DatabaseMissing)?;
    let finding = Finding::certain(format!("the server at {} has no database {}", evidence.place(), database(evidence)))
        .told_by(failure)
        .step(Advice::on(evidence).ask_postgres_as_superuser("see which there are", "\\l"))
        .step("if it should be this server: was the name resolved to the right one, and have the migrations that create the database run?");
    Some(finding)
}
