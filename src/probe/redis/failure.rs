//! What Redis says, as a failure. Its errors begin with a code in capitals; the rest is for people, differs
//! between versions, and decides only where `ERR` alone says nothing.

use redis::{ErrorKind, RedisError, ServerError};

use super::info::Info;
use crate::health::{Failure, FailureKind, Phase};
use crate::net::connect;
use crate::probe::first_words::FirstWords;

/// An error that the server answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: String,
    pub(super) text: String,
}

impl Refusal {
    /// The error on a line of the protocol, if that is what it is.
    fn of_line(line: &str) -> Option<Self> {
        let (code, text) = line.strip_prefix('-')?.split_once(' ')?;
        Some(Self { code: code.to_owned(), text: text.to_owned() })
    }

    /// Whether it is about the command and not about the server's state: the user may not run it, or a proxy, or
    /// a server that renamed it, does not know it.
    pub(super) fn is_for_good(&self) -> bool {
        matches!(self.code.as_str(), "NOPERM" | "ERR")
    }

    /// As a failure.
    pub(super) fn failure(&self, phase: Phase) -> Failure {
        let Self { code, text } = self;
        let (kind, hint) = match code.as_str() {
            "ERR" => return self.plain_error(phase),
            code => meaning(code),
        };
        let text = match code.as_str() {
            // A page of advice follows the first sentence.
            "DENIED" => text.split_inclusive(". ").next().unwrap_or_default(),
            _ => text,
        };
        Failure::new(phase, kind, format!("{code} {text}").trim_end()).with_code(code).with_hint(hint)
    }

    /// `ERR` stands before whatever has no code of its own.
    fn plain_error(&self, phase: Phase) -> Failure {
        let Self { code, text } = self;
        let (kind, hint) = match text.as_str() {
            // `… + cluster connections` in a cluster.
            text if text.starts_with("max number of clients") => (
                FailureKind::TooManyConnections,
                "the server has no connection left (`maxclients`): see who holds them by `CLIENT LIST`, lower the pools of the applications or raise the limit",
            ),
            _ if phase == Phase::Auth => return self.auth_error(),
            text if text.starts_with("unknown command") => (
                FailureKind::QueryFailed,
                "a proxy answers, or the server's PING was renamed: check what listens there, or check it by the kind `tcp`",
            ),
            _ => (FailureKind::QueryFailed, FailureKind::QueryFailed.hint()),
        };
        Failure::new(phase, kind, format!("{code} {text}").trim_end()).with_code(code).with_hint(hint)
    }

    /// What a server without codes says to `AUTH`. A server that does not know the command may repeat what it
    /// was sent: only words that are known to repeat nothing are told.
    fn auth_error(&self) -> Failure {
        let Self { code, text } = self;
        let (told, hint) = match text.as_str() {
            // Before Redis 6.
            "invalid password" => (
                "the server does not accept the password",
                "the password is wrong: compare it with the secret; it may have been rotated",
            ),
            text if text.starts_with("wrong number of arguments") => (
                "the server takes a password alone",
                "a server before Redis 6 knows no users: unset REDIS_USERNAME",
            ),
            // `AUTH <password> called without any password configured for the default user.`
            text if text.contains("no password is set") || text.contains("without any password") => (
                "the server has no password for the default user",
                "unset REDIS_PASSWORD, or set a password on the server; where it has ACL users, set REDIS_USERNAME",
            ),
            _ => (
                "the server does not take AUTH",
                "check what answers there: a proxy, or a server whose AUTH command is renamed",
            ),
        };
        Failure::new(Phase::Auth, FailureKind::AuthFailed, told).with_code(code).with_hint(hint)
    }
}

impl From<&ServerError> for Refusal {
    fn from(error: &ServerError) -> Self {
        Self { code: error.code().to_owned(), text: error.details().unwrap_or_default().to_owned() }
    }
}

/// What a code means, and what to do about it.
fn meaning(code: &str) -> (FailureKind, &'static str) {
    match code {
        "NOAUTH" => (
            FailureKind::AuthFailed,
            "the server wants a password and none is set: give REDIS_PASSWORD (and REDIS_USERNAME where it has ACL users)",
        ),
        "WRONGPASS" => (
            FailureKind::AuthFailed,
            "user or password is wrong, or the ACL user is off: compare them with the secret; it may have been rotated",
        ),
        "NOPERM" => (
            FailureKind::AccessDenied,
            "the user's ACL does not allow this command: `ACL SETUSER NAME +ping +info` is what is needed",
        ),
        "DENIED" => (
            FailureKind::AccessDenied,
            "protected mode: until it has a password or `protected-mode no`, the server takes only connections from its own host; give the default user a password",
        ),
        "LOADING" => (FailureKind::Loading, FailureKind::Loading.hint()),
        "READONLY" => (
            FailureKind::ReadOnly,
            "a replica answers where a write was tried: after a failover the name may still lead to the old primary",
        ),
        "MISCONF" => (
            FailureKind::ReadOnly,
            "the server refuses writes because it cannot save to its disk: free space or mend the permissions of its data folder; its log names the error",
        ),
        "OOM" => (
            FailureKind::ReadOnly,
            "the server refuses writes because its memory is full: free some, raise `maxmemory`, or choose a `maxmemory-policy` that evicts",
        ),
        "NOREPLICAS" => (
            FailureKind::ReadOnly,
            "the server refuses writes because too few replicas are connected (`min-replicas-to-write`): mend the replicas",
        ),
        "MASTERDOWN" => (
            FailureKind::ClusterDown,
            "this replica has lost its primary and may not serve old data (`replica-serve-stale-data no`): check the primary, and the way to it",
        ),
        "CLUSTERDOWN" => (
            FailureKind::ClusterDown,
            "the cluster has lost some of its slots, or its majority: check its nodes by `CLUSTER NODES`",
        ),
        "TRYAGAIN" => (
            FailureKind::ClusterDown,
            "the cluster is moving slots to another node: wait; if it lasts, look for a migration that was broken off",
        ),
        "MOVED" | "ASK" => (
            FailureKind::QueryFailed,
            "this is one node of a cluster, and the key is on another: clients have to speak cluster mode",
        ),
        "BUSY" | "UNKILLABLE" => (
            FailureKind::QueryFailed,
            "a script or a function occupies the server, and everybody waits for it: `SCRIPT KILL` or `FUNCTION KILL` ends it, unless it has written",
        ),
        "NOPROTO" => (FailureKind::Protocol, FailureKind::Protocol.hint()),
        _ => (FailureKind::QueryFailed, FailureKind::QueryFailed.hint()),
    }
}

/// With what `INFO` tells beside a refusal: how far the loading is, for how long the primary is gone.
pub(super) fn explained(failure: Failure, info: Option<&Info<'_>>) -> Failure {
    let more = match (failure.code.as_deref(), info) {
        (Some("LOADING"), Some(info)) => loading(info),
        (Some("MASTERDOWN"), Some(info)) => lost_primary(info),
        _ => None,
    };
    match more {
        Some(more) => {
            let message = format!("{}; {more}", failure.message.trim_end_matches('.'));
            Failure { message, ..failure }
        }
        None => failure,
    }
}

fn loading(info: &Info<'_>) -> Option<String> {
    let percent = info.text("loading_loaded_perc")?.parse::<f64>().ok()?;
    let left = info.seconds("loading_eta_seconds").map(|left| format!(", about {} s left", left.as_secs()));
    Some(format!("{percent:.0} % are loaded{}", left.unwrap_or_default()))
}

fn lost_primary(info: &Info<'_>) -> Option<String> {
    let link = match info.seconds("master_link_down_since_seconds") {
        Some(since) => format!("has been down for {} s", since.as_secs()),
        None => "was not up yet".to_owned(),
    };
    let syncing = match info.syncing() {
        Some(true) => ", and the whole data set is being received",
        _ => "",
    };
    Some(format!("the link to {} {link}{syncing}", info.primary()?))
}

/// The failure that an error of the client library means. A connection that was cut before it carried an answer
/// may have been cut with a word of why.
pub(super) fn failure(phase: Phase, error: &RedisError, words: &FirstWords, answered: bool) -> Failure {
    if let Some(code) = error.code() {
        let text = error.detail().unwrap_or_default().to_owned();
        return Refusal { code: code.to_owned(), text }.failure(phase);
    }
    if error.is_connection_dropped() || error.is_io_error() {
        if let Some(refusal) = Refusal::of_line(&words.line()).filter(|_| !answered) {
            return refusal.failure(phase);
        }
        return words.end(phase).unwrap_or_else(|| match connect::io_cause(error) {
            Some(io) => connect::failure(phase, io),
            None => Failure::new(phase, FailureKind::ConnectReset, "the peer closed or reset the connection"),
        });
    }
    if error.kind() == ErrorKind::Parse && words.was_closed() {
        let message = "the peer closed the connection in the middle of an answer";
        return Failure::new(phase, FailureKind::ConnectReset, message);
    }
    if error.kind() == ErrorKind::Parse {
        let message = format!("what answers does not speak the Redis protocol: {error}");
        return Failure::new(phase, FailureKind::Protocol, message);
    }
    Failure::new(phase, FailureKind::QueryFailed, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(phase: Phase, code: &str, text: &str) -> Failure {
        Refusal { code: code.into(), text: text.into() }.failure(phase)
    }

    /// What no server says to `PING` or `INFO`, but a proxy may, and what only old servers say. The rest is
    /// tested with real servers.
    #[test]
    fn every_code_has_its_kind() {
        for (code, kind) in [
            ("READONLY", FailureKind::ReadOnly),
            ("OOM", FailureKind::ReadOnly),
            ("NOREPLICAS", FailureKind::ReadOnly),
            ("TRYAGAIN", FailureKind::ClusterDown),
            ("CLUSTERDOWN", FailureKind::ClusterDown),
            ("MOVED", FailureKind::QueryFailed),
            ("ASK", FailureKind::QueryFailed),
            ("UNKILLABLE", FailureKind::QueryFailed),
            ("NOPROTO", FailureKind::Protocol),
            ("WHATEVER", FailureKind::QueryFailed),
        ] {
            let told = refused(Phase::Query, code, "some words.");
            assert_eq!((told.kind, told.code.as_deref()), (kind, Some(code)));
            assert_eq!(told.message, format!("{code} some words."));
        }
        let full = refused(Phase::Query, "ERR", "max number of clients + cluster connections reached");
        assert_eq!(full.kind, FailureKind::TooManyConnections);
        let full = refused(Phase::Auth, "ERR", "max number of clients reached");
        assert_eq!((full.kind, full.phase), (FailureKind::TooManyConnections, Phase::Auth));
        let proxy = refused(Phase::Query, "ERR", "unknown command 'PING'");
        assert!(proxy.hint.contains("proxy"), "{}", proxy.hint);
    }

    #[test]
    fn old_servers_are_understood_at_the_log_in_and_nothing_is_repeated() {
        for (text, hint) in [
            ("invalid password", "it may have been rotated"),
            ("wrong number of arguments for 'auth' command", "unset REDIS_USERNAME"),
            ("Client sent AUTH, but no password is set", "unset REDIS_PASSWORD"),
            ("unknown command `AUTH`, with args beginning with: `hunter2`, ", "renamed"),
        ] {
            let told = refused(Phase::Auth, "ERR", text);
            assert_eq!(told.kind, FailureKind::AuthFailed, "{text}");
            assert!(told.hint.contains(hint), "{text}: {}", told.hint);
            assert!(!told.message.contains("hunter2"), "{}", told.message);
        }
    }

    #[test]
    fn a_line_is_an_error_or_not() {
        let full = Refusal { code: "ERR".into(), text: "max number of clients reached".into() };
        assert_eq!(Refusal::of_line("-ERR max number of clients reached"), Some(full));
        assert_eq!(Refusal::of_line("+PONG"), None);
        assert_eq!(Refusal::of_line("-ERR"), None);
    }

    #[test]
    fn a_page_of_advice_is_cut_to_its_first_sentence() {
        let told = refused(Phase::Query, "DENIED", "Redis is in protected mode. Do this. Do that.");
        assert_eq!(told.message, "DENIED Redis is in protected mode.");
    }
}
