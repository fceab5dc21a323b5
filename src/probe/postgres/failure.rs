//! SQLSTATE (PostgreSQL documentation, appendix A) and socket errors become failure kinds.

use std::error::Error as _;
use std::io;

use tokio_postgres::Error;
use tokio_postgres::error::{DbError, SqlState};

use crate::health::{Failure, FailureKind, Phase};
use crate::net::connect;

use super::pooler;
use super::wire::ClearTextRefused;

/// The failure that a driver's error means.
pub(super) fn classify(phase: Phase, error: &Error, encrypted: bool) -> Failure {
    if let Some(said) = error.as_db_error() {
        return of_server(phase, said, encrypted);
    }
    if let Some(io) = connect::io_cause(error) {
        if io.get_ref().is_some_and(|cause| cause.is::<ClearTextRefused>()) {
            return clear_text(phase);
        }
        // Bytes that are no messages of the protocol come as an I/O error, too.
        if matches!(io.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) {
            return Failure::new(
                phase,
                FailureKind::Protocol,
                format!("what answers is not PostgreSQL: {io}"),
            );
        }
        return connect::failure(phase, io);
    }
    if error.is_closed() {
        return Failure::new(phase, FailureKind::ConnectReset, "the server closed the connection");
    }
    let cause = error.source().map(ToString::to_string).unwrap_or_else(|| error.to_string());
    if cause == "password missing" {
        return Failure::new(
            phase,
            FailureKind::AuthFailed,
            "the server asks for a password and none is set",
        )
        .with_hint("set DATABASE_PASSWORD, or `password` in the configuration");
    }
    // What the driver calls unsupported is a method of authentication that it does not know. Anything else is
    // no answer of PostgreSQL; and it must not pass for a wrong password, which blames the deployment.
    if cause.starts_with("unsupported") {
        return Failure::new(phase, FailureKind::AuthFailed, format!("the server asks for an {cause}"))
            .with_hint("let this user log in by scram-sha-256: Kerberos, GSSAPI and SSPI are not supported");
    }
    Failure::new(phase, FailureKind::Protocol, cause)
}

/// Whether the server took the question for none, because it lacks something that was asked for, or does not let it
/// be asked: SQLSTATE classes 42 (syntax error or access rule violation) and 0A (feature not supported).
pub(super) fn not_understood(failure: &Failure) -> bool {
    failure.code.as_deref().is_some_and(|code| code.starts_with("42") || code.starts_with("0A"))
}

/// A password in clear text goes out through TLS, and no other way.
fn clear_text(phase: Phase) -> Failure {
    let message =
        "the server asks for the password in clear text, and the connection has no TLS: it was not sent";
    Failure::new(phase, FailureKind::TlsRequired, message).with_hint(
        "set DATABASE_SSLMODE to verify-full (and DATABASE_SSLROOTCERT to the file of its authority); or have the server ask by scram-sha-256",
    )
}

fn of_server(phase: Phase, said: &DbError, encrypted: bool) -> Failure {
    let code = said.code();
    let fail = |kind| Failure::new(phase, kind, said.message()).with_code(code.code());
    if *code == SqlState::INVALID_PASSWORD {
        return fail(FailureKind::AuthFailed).with_hint(
            "user or password is wrong (the server does not tell which): compare them with the secret; it may have been rotated",
        );
    }
    if *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION {
        return not_authorised(fail, said.message(), encrypted);
    }
    if *code == SqlState::CANNOT_CONNECT_NOW {
        // One code for both ends of a server's life; only the text tells them apart, and where it is in
        // another language, starting is the likelier one.
        return match said.message().contains("shutting down") {
            true => fail(FailureKind::ShuttingDown),
            false => fail(FailureKind::StartingUp),
        };
    }
    if *code == SqlState::PROTOCOL_VIOLATION {
        return pooler::failure(fail, said.message());
    }
    let failure = fail(match *code {
        // The database exists and takes no connections (`ALLOW_CONNECTIONS false`).
        SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE if phase == Phase::Auth => FailureKind::AccessDenied,
        SqlState::INVALID_CATALOG_NAME => FailureKind::DatabaseMissing,
        SqlState::TOO_MANY_CONNECTIONS => FailureKind::TooManyConnections,
        SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN => FailureKind::ShuttingDown,
        SqlState::QUERY_CANCELED => FailureKind::QueryTimeout,
        SqlState::READ_ONLY_SQL_TRANSACTION => FailureKind::ReadOnly,
        SqlState::INSUFFICIENT_PRIVILEGE => FailureKind::AccessDenied,
        _ => FailureKind::QueryFailed,
    });
    if passes(code) { failure.passing() } else { failure }
}

/// Whether what a server says with this code passes by itself, whatever its kind: a transaction that had to give way
/// to another one, or on a standby to what it replays (class 40); memory, disk or connections that there were not
/// enough of at the moment (class 53).
fn passes(code: &SqlState) -> bool {
    const GAVE_WAY: [SqlState; 2] = [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED];
    GAVE_WAY.contains(code) || code.code().starts_with("53")
}

/// 28000: `pg_hba.conf` refuses us, or the role does not exist or may not log in, or the server's end of the TLS
/// session is not ours.
fn not_authorised(fail: impl Fn(FailureKind) -> Failure, message: &str, encrypted: bool) -> Failure {
    if message.contains("is not permitted to log in") {
        return fail(FailureKind::AccessDenied)
            .with_hint("the role has no LOGIN: `ALTER ROLE … LOGIN`, or use another one");
    }
    if message.starts_with("role ") {
        return fail(FailureKind::AuthFailed)
            .with_hint("create the role, or set DATABASE_USER to one that exists");
    }
    if message.contains("channel binding") {
        return fail(FailureKind::AuthFailed).with_hint(
            "something on the way ends the TLS session and makes one of its own: a proxy, or an attacker, who has seen no password yet; find out which, and set DATABASE_SSLMODE to verify-full",
        );
    }
    if message.contains("client certificate") {
        return fail(FailureKind::AccessDenied).with_hint(
            "pg_hba.conf wants a client certificate from this user, which is not supported yet: give it a line with scram-sha-256",
        );
    }
    if !message.contains("pg_hba.conf") {
        return fail(FailureKind::AccessDenied);
    }
    let without_tls = message.contains("no encryption") || message.contains("SSL off");
    if without_tls && !encrypted {
        // What a plain connection is refused with may be a missing line for TLS ones, too; but RDS with
        // rds.force_ssl answers like this, and TLS is right in any case.
        return fail(FailureKind::TlsRequired).with_hint(
            "set DATABASE_SSLMODE to verify-full (or require): the server refuses this connection without encryption, as RDS does with rds.force_ssl",
        );
    }
    fail(FailureKind::AccessDenied).with_hint(
        "pg_hba.conf has no line for this user, database and address: add one (on RDS: check user and database name)",
    )
}
