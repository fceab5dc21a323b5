//! What a diagnosis came to: the path hop by hop, and a verdict on it.
//!
//! These are values for readers. How the evidence is gathered and by which rules it is judged is
//! [`diagnose`](crate::diagnose)'s.

use std::time::Duration;

use super::{CheckId, FailureKind, Now, closed_set};

closed_set! {
    /// The hops of a path, in the order in which they are taken.
    pub enum HopKind {
        /// The name becomes addresses.
        Dns = "dns",
        /// The kernel has a way to the address, and a source address to go with.
        Route = "route",
        /// The TCP handshake.
        Connect = "connect",
        /// The TLS handshake.
        Tls = "tls",
        /// The protocol's first exchange, without credentials.
        Protocol = "protocol",
        /// The log-in.
        Auth = "auth",
        /// The question and its answer.
        Query = "query",
    }
}

closed_set! {
    /// How far a verdict can be trusted.
    pub enum Confidence {
        /// Nothing else explains the evidence.
        Certain = "certain",
        /// It is the usual explanation, and another one is left: the advice tells them apart.
        Likely = "likely",
        /// The evidence does not tell.
        Unclear = "unclear",
    }
}

closed_set! {
    /// What a verdict says is the matter: one rule each, in `diagnose/rules`.
    pub enum Cause {
        /// Nothing: the path works to its end.
        Works = "works",

        /// The name does not exist.
        NameMissing = "name_missing",
        /// The name does not exist, and one that is spelt nearly so does.
        NameMisspelt = "name_misspelt",
        /// The name is there without an address, or an alias of one that is not there.
        NameWithoutAddress = "name_without_address",
        /// The name is no domain name, or no name server is configured.
        ResolverUnusable = "resolver_unusable",
        /// Sickbay itself has used up the packets to name servers that it may send.
        PacketBudget = "packet_budget",
        /// No name server answers.
        ResolverSilent = "resolver_silent",
        /// The name servers refuse to answer (REFUSED), or their port does.
        ResolverRefuses = "resolver_refuses",
        /// The name servers answer that they cannot (SERVFAIL and the like).
        ResolverFails = "resolver_fails",
        /// Of several name servers some say something else of the name than others.
        ResolversDisagree = "resolvers_disagree",
        /// Of several name servers some answer, and others do not, or with an error.
        OneResolverDead = "one_resolver_dead",
        /// A public address where a private one is expected: the public view of a split zone.
        SplitHorizon = "split_horizon",
        /// The name leads to addresses that the configuration does not expect.
        UnexpectedAddress = "unexpected_address",
        /// The name led elsewhere in the middle of the diagnosis.
        NameMoving = "name_moving",
        /// The name still leads to what was the primary before a failover.
        StaleDns = "stale_dns",

        /// Packets to this port vanish, while the host answers on another one.
        PortDropped = "port_dropped",
        /// Packets to the host vanish, whatever the port.
        HostDropped = "host_dropped",
        /// Of several addresses, some are dead.
        OneAddressDead = "one_address_dead",
        /// Some packets arrive and some do not.
        PacketLoss = "packet_loss",
        /// A router or a firewall answered that it does not let this through.
        Rejected = "rejected",
        /// The address answered with a reset: nothing listens on this port, or a firewall rejects in its name.
        Refused = "refused",
        /// This host has no route to the address.
        NoRoute = "no_route",
        /// The next hop, or a router behind it, cannot reach the address.
        Unreachable = "unreachable",
        /// Small packets pass and large ones vanish.
        MtuBlackHole = "mtu_black_hole",
        /// Connections are taken, and then nothing is said.
        Mute = "mute",
        /// Connections are taken, and then cut.
        Cut = "cut",

        /// The server takes only TLS.
        TlsRequired = "tls_required",
        /// The server speaks no TLS.
        TlsNotSpoken = "tls_not_spoken",
        /// No version or cipher that both sides allow.
        TlsVersion = "tls_version",
        /// The server wants a certificate of ours.
        ClientCertificateRequired = "client_certificate_required",
        /// The handshake fails for another reason.
        TlsFails = "tls_fails",
        /// The certificate, or one above it, has ended.
        CertificateExpired = "certificate_expired",
        /// The certificate begins later than now.
        CertificateNotYetValid = "certificate_not_yet_valid",
        /// The certificate is for another name.
        CertificateOtherName = "certificate_other_name",
        /// The certificate is not signed by an authority that is trusted here.
        CertificateUnknownAuthority = "certificate_unknown_authority",
        /// The file of authorities cannot be used.
        AuthoritiesUnusable = "authorities_unusable",

        /// Something else than configured listens on this port.
        WrongProtocol = "wrong_protocol",

        /// The server asks for a password and none is set.
        PasswordMissing = "password_missing",
        /// User or password is wrong; the server does not tell which.
        PasswordWrong = "password_wrong",
        /// The server does not know the user.
        UserMissing = "user_missing",
        /// The server's rules for hosts have no place for this user from this address (`pg_hba.conf`).
        HostRulesRefuse = "host_rules_refuse",
        /// The user may not do what the check does (ACL, privileges).
        NotPermitted = "not_permitted",
        /// Redis takes only connections from its own host.
        ProtectedMode = "protected_mode",
        /// The server has no database of this name.
        DatabaseMissing = "database_missing",
        /// The server has no connection left.
        TooManyConnections = "too_many_connections",
        /// The server starts, or loads its data.
        StartingUp = "starting_up",
        /// The server recovers and takes no connections yet.
        Recovering = "recovering",
        /// The server is being stopped.
        ShuttingDown = "shutting_down",
        /// Another role answers than configured.
        WrongRole = "wrong_role",
        /// The server takes no writes.
        ReadOnly = "read_only",
        /// One node of a cluster answers, which wants to be asked through the cluster's endpoint.
        ClusterNode = "cluster_node",
        /// The cluster or the replication is broken.
        ClusterDown = "cluster_down",

        /// The question was not answered in time, by a server that had answered before.
        QueryTimeout = "query_timeout",
        /// The question was refused, or its answer is not the expected one.
        QueryFailed = "query_failed",
        /// The HTTP status is not an expected one.
        UnexpectedStatus = "unexpected_status",
        /// The content is not the expected one.
        UnexpectedContent = "unexpected_content",

        /// A fault of Sickbay itself.
        Internal = "internal",
        /// The evidence fits no rule.
        Unexplained = "unexplained",
    }
}

/// One hop and what was seen at it.
#[derive(Debug, Clone, PartialEq)]
pub struct Hop {
    /// Which one.
    pub kind: HopKind,
    /// Whether it can be taken; `None` where the path ended before it.
    pub ok: Option<bool>,
    /// How long it took, contrast tests left out; `None` where nothing was timed.
    pub took: Option<Duration>,
    /// What was seen, one fact a line, for operators. Holds no secret.
    pub evidence: Vec<String>,
}

/// What the evidence comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What is the matter.
    pub cause: Cause,
    /// How far that can be trusted.
    pub confidence: Confidence,
    /// The cause in a sentence, with the names and numbers of this case.
    pub summary: String,
    /// The evidence that it rests on, strongest first; where it is not certain, also what speaks for something else.
    pub because: Vec<String>,
    /// What to do, first things first; commands are filled in.
    pub advice: Vec<String>,
}

/// One diagnosis.
#[derive(Debug, Clone, PartialEq)]
pub struct Diagnosis {
    /// When it began.
    pub at: Now,
    /// How long it took.
    pub took: Duration,
    /// The failed check that it explains; `None` where somebody asked.
    pub check: Option<CheckId>,
    /// What was diagnosed, for people: `db.internal:5432/mlflow_db`. Never holds a secret.
    pub target: String,
    /// Whether the path works to its end.
    pub ok: bool,
    /// The hops that this kind of target has, in order.
    pub hops: Vec<Hop>,
    /// Why it does not work, in the words of a check; `None` where it does.
    pub failure_kind: Option<FailureKind>,
    /// What it comes to.
    pub verdict: Verdict,
}
