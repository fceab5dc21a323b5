//! The closed enumeration of what can go wrong: the same strings in JSON, logs and metric dimensions.

use super::closed_set;

closed_set! {
    /// Why a check failed, independent of the dependency's kind.
    pub enum FailureKind {
        /// The name does not exist, or has no record of the type asked for.
        DnsNotFound = "dns_not_found",
        /// No name server answered in time.
        DnsTimeout = "dns_timeout",
        /// A name server answered with an error (SERVFAIL, REFUSED, …).
        DnsServerFailure = "dns_server_failure",
        /// The answer is not what the configuration expects.
        DnsUnexpectedAnswer = "dns_unexpected_answer",
        /// No answer to the TCP handshake.
        ConnectTimeout = "connect_timeout",
        /// The host answered: nothing listens there, or a filter rejects.
        ConnectRefused = "connect_refused",
        /// No route to the address.
        ConnectUnreachable = "connect_unreachable",
        /// The peer, or something between, cut the connection.
        ConnectReset = "connect_reset",
        /// The TLS handshake failed for a reason other than the certificate, or the peer speaks no TLS.
        TlsHandshake = "tls_handshake",
        /// The peer's certificate is expired, for another name, or of an unknown authority.
        TlsCertificate = "tls_certificate",
        /// The server takes only TLS connections and this one was not.
        TlsRequired = "tls_required",
        /// User or password is wrong or missing.
        AuthFailed = "auth_failed",
        /// The user is known but may not (`pg_hba.conf`, ACL, protected mode).
        AccessDenied = "access_denied",
        /// The server has no database of this name.
        DatabaseMissing = "database_missing",
        /// The server has no connection left for us.
        TooManyConnections = "too_many_connections",
        /// The server is there and not ready yet.
        StartingUp = "starting_up",
        /// The server is going away.
        ShuttingDown = "shutting_down",
        /// A primary was expected and a replica answered, or the other way round.
        WrongRole = "wrong_role",
        /// The server takes no writes.
        ReadOnly = "read_only",
        /// Redis is loading its data set.
        Loading = "loading",
        /// Redis has lost its master, or the cluster its slots.
        ClusterDown = "cluster_down",
        /// It had answered on this connection and now does not; or the server cancelled the statement (57014).
        QueryTimeout = "query_timeout",
        /// The query was refused or its result is not the expected one.
        QueryFailed = "query_failed",
        /// The HTTP status is not an expected one.
        UnexpectedStatus = "unexpected_status",
        /// The body, or the bytes received, are not the expected ones.
        UnexpectedContent = "unexpected_content",
        /// The peer does not speak the protocol.
        Protocol = "protocol",
        /// The check's budget ended in a phase that has no kind of its own.
        Timeout = "timeout",
        /// A fault of Sickbay itself.
        Internal = "internal",
    }
}

impl FailureKind {
    /// The page that has a section for each kind, called as the kind is; its path in the repository.
    pub const DOCS: &str = "docs/troubleshooting.md";

    /// Whether another attempt, a moment later, could succeed with nobody having done anything.
    ///
    /// What a person has to mend (a password, a missing database, a certificate) is not tried again: it
    /// would only fill the server's log and, with some servers, lock the account.
    pub const fn may_pass(self) -> bool {
        match self {
            Self::DnsTimeout
            | Self::DnsServerFailure
            | Self::ConnectTimeout
            | Self::ConnectRefused
            | Self::ConnectUnreachable
            | Self::ConnectReset
            | Self::TlsHandshake
            | Self::TooManyConnections
            | Self::StartingUp
            | Self::ShuttingDown
            | Self::Loading
            | Self::ClusterDown
            | Self::QueryTimeout
            | Self::UnexpectedStatus
            | Self::Timeout => true,
            Self::DnsNotFound
            | Self::DnsUnexpectedAnswer
            | Self::TlsCertificate
            | Self::TlsRequired
            | Self::AuthFailed
            | Self::AccessDenied
            | Self::DatabaseMissing
            | Self::WrongRole
            | Self::ReadOnly
            | Self::QueryFailed
            | Self::UnexpectedContent
            | Self::Protocol
            | Self::Internal => false,
        }
    }

    /// Whether a bad deployment of this task is the usual cause. Only these, and only before the first
    /// success, let a *shared* dependency fail `/health/alb`.
    pub const fn blames_the_deployment(self) -> bool {
        matches!(
            self,
            Self::DatabaseMissing
                | Self::AuthFailed
                | Self::AccessDenied
                | Self::TlsCertificate
                | Self::TlsRequired
                | Self::DnsNotFound
        )
    }

    /// What to look at first, where the probe knows nothing better.
    pub const fn hint(self) -> &'static str {
        match self {
            Self::DnsNotFound => {
                "the name does not exist for this resolver: compare it with the console, and check that the VPC's private hosted zone is associated"
            }
            Self::DnsTimeout => {
                "no name server answered: check the VPC's DNS settings and, for name servers of your own, the rules for port 53; a VPC's resolver drops what is over 1,024 packets/s per interface"
            }
            Self::DnsServerFailure => {
                "the name server answered with an error: check the zone and the forwarding rules of the resolver"
            }
            Self::DnsUnexpectedAnswer => {
                "the name resolves to something else than configured: check for split-horizon DNS or a record that was changed"
            }
            Self::ConnectTimeout => {
                "nothing answered at all, so packets are dropped on the way: check the target's security group (inbound from this task's group), network ACLs and routes"
            }
            Self::ConnectRefused => {
                "the host answered that nothing listens on this port: check that the server runs, and the port number"
            }
            Self::ConnectUnreachable => {
                "there is no route to this address: check the subnet's route table and the task's subnets"
            }
            Self::ConnectReset => {
                "the connection was cut: check whether the server restarts, a proxy sits between, or an idle limit ends connections"
            }
            Self::TlsHandshake => {
                "TLS could not be agreed on: check that this port speaks TLS, and the versions both sides allow"
            }
            Self::TlsCertificate => {
                "the server's certificate was not accepted: check its expiry, its names, and the CA file (for RDS the regional or global bundle)"
            }
            Self::TlsRequired => "the server takes only TLS: turn TLS on for this dependency",
            Self::AuthFailed => {
                "user or password is wrong: compare them with the secret; it may have been rotated"
            }
            Self::AccessDenied => {
                "the server knows us and refuses: check its access rules for this user and this address"
            }
            Self::DatabaseMissing => "the server has no database of this name: check the database setting",
            Self::TooManyConnections => {
                "the server has no connection left: see who holds them, lower the pools of the applications or raise the limit"
            }
            Self::StartingUp => "the server is starting or recovering: wait; if it lasts, read its log",
            Self::ShuttingDown => {
                "the server is shutting down or failing over: a new primary should answer soon"
            }
            Self::WrongRole => {
                "another role answered than configured: after a failover the name may still point to the old address"
            }
            Self::ReadOnly => {
                "the server takes no writes: check whether this is a replica, or its storage is full"
            }
            Self::Loading => "Redis is loading its data set: wait; if it recurs, look for restarts",
            Self::ClusterDown => {
                "Redis has lost its master or some of its slots: check the replication group's state"
            }
            Self::QueryTimeout => {
                "the server had answered and now does not: look at its load, locks and storage"
            }
            Self::QueryFailed => "the server refused the query or its result is unexpected: read the message",
            Self::UnexpectedStatus => "the service answers, with another status than expected: read its log",
            Self::UnexpectedContent => {
                "the service answers with other content than expected: check what serves this address"
            }
            Self::Protocol => "what answers does not speak this protocol: check host and port",
            Self::Timeout => {
                "it accepted the connection and then said nothing: the process may hang or be overloaded; or another service than configured has this port"
            }
            Self::Internal => "this is a fault of Sickbay: please report it with this message",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_one_spelling_and_a_hint() {
        for kind in FailureKind::ALL {
            assert_eq!(FailureKind::parse(kind.as_str()), Some(*kind));
            assert!(kind.hint().len() > 30, "{kind} has no hint that helps");
        }
        assert_eq!(FailureKind::ALL.len(), 28, "the contract lists 28 kinds");
    }

    #[test]
    fn what_a_person_must_mend_is_not_tried_again() {
        for kind in FailureKind::ALL.iter().filter(|k| k.blames_the_deployment()) {
            assert!(!kind.may_pass(), "{kind} would be retried");
        }
    }
}
