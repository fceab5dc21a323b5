//! From evidence to a verdict: one rule a cause, and the first that fits is told.
//!
//! A rule looks at the evidence, says nothing where its cause does not explain it, and else says so in the names and
//! numbers of this case: what speaks for it, what else it could be, what to do. It is `certain` only where nothing else
//! explains the evidence: where the server or the kernel said so in words. That nobody answers can be certain, what it means
//! never is.

mod certificates;
mod finding;
mod login;
mod names;
mod path;
mod places;
mod protocol;
mod query;
mod resolvers;
mod server;
mod works;

use super::Evidence;
use crate::health::{Cause, Verdict};
use finding::Finding;

/// What one rule finds; `None` where its cause does not explain the evidence.
type Rule = fn(&Evidence) -> Option<Finding>;

/// The rules in the order in which they are tried: the nearest hop first, because behind a broken one nothing is known;
/// and a cause before the symptoms that it explains further on (a stale name before the wrong role that answers there).
///
/// A path that works can have a flaw. The rules for these fit it, too, and stand before [`Cause::Works`].
const RULES: &[(Cause, Rule)] = &[
    (Cause::Internal, query::internal),
    // The name.
    (Cause::ResolverUnusable, names::resolver_unusable),
    (Cause::PacketBudget, names::packet_budget),
    (Cause::SplitHorizon, places::split_horizon),
    (Cause::UnexpectedAddress, places::unexpected_address),
    (Cause::ResolversDisagree, places::resolvers_disagree),
    (Cause::OneResolverDead, resolvers::one_resolver_dead),
    (Cause::NameWithoutAddress, names::name_without_address),
    (Cause::NameMisspelt, names::name_misspelt),
    (Cause::NameMissing, names::name_missing),
    (Cause::ResolverRefuses, resolvers::resolver_refuses),
    (Cause::ResolverSilent, resolvers::resolver_silent),
    (Cause::ResolverFails, resolvers::resolver_fails),
    // A name that leads to the wrong place explains whatever is met there.
    (Cause::NameMoving, places::name_moving),
    (Cause::StaleDns, places::stale_dns),
    // The way, and the handshake.
    (Cause::NoRoute, path::no_route),
    (Cause::OneAddressDead, path::one_address_dead),
    (Cause::PacketLoss, path::packet_loss),
    (Cause::Rejected, path::rejected),
    (Cause::Refused, path::refused),
    (Cause::Unreachable, path::unreachable),
    (Cause::PortDropped, path::port_dropped),
    (Cause::HostDropped, path::host_dropped),
    // What swallows large packets looks like a server that hangs, wherever the first large one is.
    (Cause::MtuBlackHole, path::mtu_black_hole),
    // What listens there.
    (Cause::WrongProtocol, protocol::wrong_protocol),
    (Cause::TlsRequired, protocol::tls_required),
    (Cause::TlsNotSpoken, protocol::tls_not_spoken),
    // TLS: what the server wants of us, before what we want of it.
    (Cause::ClientCertificateRequired, certificates::client_certificate_required),
    (Cause::AuthoritiesUnusable, certificates::authorities_unusable),
    (Cause::CertificateExpired, certificates::expired),
    (Cause::CertificateNotYetValid, certificates::not_yet_valid),
    (Cause::CertificateOtherName, certificates::other_name),
    (Cause::CertificateUnknownAuthority, certificates::unknown_authority),
    (Cause::TlsVersion, protocol::tls_version),
    // The server's own words.
    (Cause::PasswordMissing, login::password_missing),
    (Cause::UserMissing, login::user_missing),
    (Cause::PasswordWrong, login::password_wrong),
    (Cause::HostRulesRefuse, login::host_rules_refuse),
    (Cause::ProtectedMode, login::protected_mode),
    (Cause::NotPermitted, login::not_permitted),
    (Cause::DatabaseMissing, login::database_missing),
    (Cause::TooManyConnections, server::too_many_connections),
    (Cause::Recovering, server::recovering),
    (Cause::StartingUp, server::starting_up),
    (Cause::ShuttingDown, server::shutting_down),
    (Cause::ClusterNode, server::cluster_node),
    (Cause::ClusterDown, server::cluster_down),
    (Cause::WrongRole, server::wrong_role),
    (Cause::ReadOnly, server::read_only),
    (Cause::UnexpectedStatus, query::unexpected_status),
    (Cause::UnexpectedContent, query::unexpected_content),
    (Cause::QueryFailed, query::query_failed),
    // Without words: silence, and ends.
    (Cause::QueryTimeout, query::query_timeout),
    (Cause::Mute, protocol::mute),
    (Cause::Cut, protocol::cut),
    (Cause::TlsFails, protocol::tls_fails),
    (Cause::Works, works::works),
];

/// What the evidence comes to.
pub fn judge(evidence: &Evidence) -> Verdict {
    let found = RULES.iter().find_map(|(cause, rule)| Some((*cause, rule(evidence)?)));
    let (cause, finding) = found.unwrap_or_else(|| (Cause::Unexplained, works::unexplained(evidence)));
    finding.because(places::takes_turns(evidence)).verdict(cause, evidence)
}

#[cfg(test)]
mod tests;
