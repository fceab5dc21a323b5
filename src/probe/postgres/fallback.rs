//! `sslmode: prefer`: where a session cannot be made with TLS, one without it is tried, as libpq does.
//!
//! What libpq gives TLS up for (`fe-connect.c`): a handshake that fails, an unaccepted certificate included, and any
//! error of the server before it has let the client in. Of the latter only a refusal by `pg_hba.conf` is taken up here:
//! its lines are for connections with TLS (`hostssl`) or without (`hostnossl`), and nothing else that a server refuses
//! for is. To log in twice with a password that is wrong would only count against the account.

use crate::health::{Failure, FailureKind};

/// Why there is no session.
#[derive(Debug)]
pub(super) struct NoSession {
    pub(super) failure: Failure,
    /// Whether there could be one without TLS.
    for_its_tls: bool,
}

impl NoSession {
    /// One that TLS may be the reason for.
    pub(super) fn for_its_tls(failure: Failure) -> Self {
        Self { failure, for_its_tls: true }
    }

    /// A log-in that failed.
    pub(super) fn at_log_in(failure: Failure) -> Self {
        let for_its_tls = refused_by_hba(&failure);
        Self { failure, for_its_tls }
    }

    /// The failure with TLS, where one without it is worth a try.
    pub(super) fn worth_another_try(self) -> Result<Failure, Failure> {
        if self.for_its_tls { Ok(self.failure) } else { Err(self.failure) }
    }
}

impl From<Failure> for NoSession {
    fn from(failure: Failure) -> Self {
        Self { failure, for_its_tls: false }
    }
}

/// 28000, but for a role that may not log in at all. A server in another language than English says the same in words
/// that are not known here.
fn refused_by_hba(failure: &Failure) -> bool {
    failure.kind == FailureKind::AccessDenied
        && failure.code.as_deref() == Some("28000")
        && !failure.message.contains("is not permitted to log in")
}

/// The failure of a server that was tried both ways. The way without TLS came last, and what it met counts; unless
/// that is the want of TLS: then what is wrong with TLS does. The other one is told with it.
pub(super) fn both(with_tls: Failure, without: Failure) -> Failure {
    if without.kind == FailureKind::TlsRequired {
        let message = format!("{}; and without TLS: {}", with_tls.message, without.message);
        return Failure { message, ..with_tls };
    }
    let message = format!("{}; this was without TLS, since with it: {}", without.message, with_tls.message);
    Failure { message, ..without }
}
