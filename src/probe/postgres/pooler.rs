//! 08P01: what PgBouncer answers with, in its own name or for the server behind it, whose words it passes on without
//! their code. Of a server itself it would mean that we do not speak its language.
//!
//! So only the text tells what is the matter: PgBouncer's own are as 1.18 said them, the server's as PostgreSQL 15 has
//! them.

use FailureKind::{
    AccessDenied, AuthFailed, ConnectRefused, DatabaseMissing, ShuttingDown, StartingUp, TlsRequired,
    TooManyConnections,
};

use crate::health::{Failure, FailureKind};

/// What is in a message, what it means, and what to do about it. The first that fits holds.
const SAID: &[(&str, FailureKind, &str)] = &[
    (
        "SSL required",
        TlsRequired,
        "the pooler in between takes only TLS: set DATABASE_SSLMODE to verify-full (or require)",
    ),
    (
        "no such database",
        DatabaseMissing,
        "the pooler in between has no database of this name in its [databases]",
    ),
    ("no more connections allowed", TooManyConnections, FULL),
    ("query_wait_timeout", TooManyConnections, WAITED),
    ("server login has been failing", ConnectRefused, CUT_OFF),
    ("server conn crashed", ShuttingDown, ShuttingDown.hint()),
    // From here on, most are the server's.
    ("authentication failed", AuthFailed, REFUSED),
    ("wrong password type", AuthFailed, REFUSED),
    (
        "pg_hba.conf",
        AccessDenied,
        "the server behind the pooler has no line in pg_hba.conf for the pooler's address: add one",
    ),
    (
        "too many connections for",
        TooManyConnections,
        "the server behind the pooler allows this role, or this database, no more: see CONNECTION LIMIT",
    ),
    ("too many clients", TooManyConnections, FULL),
    ("remaining connection slots", TooManyConnections, FULL),
    (
        "permission denied for database",
        AccessDenied,
        "at the server behind the pooler the role may not connect to this database: `GRANT CONNECT`",
    ),
    (
        "is not currently accepting connections",
        AccessDenied,
        "the database at the server behind the pooler takes no connections (`ALLOW_CONNECTIONS false`)",
    ),
    ("system is starting up", StartingUp, StartingUp.hint()),
    ("system is in recovery mode", StartingUp, StartingUp.hint()),
    ("system is not accepting connections", StartingUp, StartingUp.hint()),
    ("system is not yet accepting connections", StartingUp, StartingUp.hint()),
    ("system is shutting down", ShuttingDown, ShuttingDown.hint()),
    (
        "is not permitted to log in",
        AccessDenied,
        "at the server behind the pooler the role has no LOGIN: `ALTER ROLE … LOGIN`",
    ),
    (
        "is disabled",
        ShuttingDown,
        "somebody has taken the database out of service at the pooler in between (`DISABLE` on its console)",
    ),
    ("role \"", AuthFailed, "the server behind the pooler has no role of this name: create it"),
    ("database \"", DatabaseMissing, "the server behind the pooler has no database of this name"),
];

const REFUSED: &str = "user or password is wrong: compare the secret with the pooler's own list of users, and that with the server behind it";
const FULL: &str = "the pooler in between, or the server behind it, has no connection left: see `SHOW POOLS` for who holds them";
const WAITED: &str = "the pooler in between had no connection of the server's to give in time: see `SHOW POOLS` whether all are taken, or its log whether it cannot reach the server or log in there";
const CUT_OFF: &str =
    "the pooler in between works, and cannot reach the server behind it or log in there: read its log";

/// The failure that a message of 08P01 means.
pub(super) fn failure(fail: impl Fn(FailureKind) -> Failure, message: &str) -> Failure {
    match SAID.iter().find(|(text, ..)| message.contains(text)) {
        Some((_, kind, hint)) => fail(*kind).with_hint(*hint),
        None => fail(FailureKind::Protocol),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Phase;

    /// What a server says at the start of a session, by PostgreSQL 15's source.
    #[test]
    fn what_a_server_says_through_a_pooler_is_of_the_kind_it_would_be_of_without_one() {
        for (said, kind) in [
            ("the database system is starting up", StartingUp),
            ("the database system is in recovery mode", StartingUp),
            ("the database system is not accepting connections", StartingUp),
            ("the database system is not yet accepting connections", StartingUp),
            ("the database system is shutting down", ShuttingDown),
            ("sorry, too many clients already", TooManyConnections),
            ("too many connections for role \"app\"", TooManyConnections),
            ("too many connections for database \"app\"", TooManyConnections),
            (
                "remaining connection slots are reserved for non-replication superuser connections",
                TooManyConnections,
            ),
            ("role \"app\" does not exist", AuthFailed),
            ("role \"app\" is not permitted to log in", AccessDenied),
            ("database \"app\" does not exist", DatabaseMissing),
            ("permission denied for database \"app\"", AccessDenied),
            ("database \"app\" is not currently accepting connections", AccessDenied),
            ("password authentication failed for user \"app\"", AuthFailed),
            (
                "no pg_hba.conf entry for host \"10.0.0.1\", user \"app\", database \"app\", no encryption",
                AccessDenied,
            ),
            ("an unknown message", FailureKind::Protocol),
        ] {
            let told = failure(|kind| Failure::new(Phase::Auth, kind, said), said);
            assert_eq!(told.kind, kind, "{said}");
        }
    }
}
