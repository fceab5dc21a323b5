//! The audit: a line of the log for each attempt to do what wants a token, whatever came of it; never the token.
//!
//! Its target is `audit`, which the log's filter lets through unless it names it.

use std::net::SocketAddr;
use std::time::Duration;

use hyper::StatusCode;

use super::throttle::{TOLD_MAX, WINDOW};
use crate::config::token::Verb;
use crate::health::circuit::Actor;

/// An attempt, as far as it is known.
#[derive(Debug)]
pub(super) struct Attempt<'a> {
    /// What was to be done.
    pub(super) action: Verb,
    /// With which dependency; `None` where what was sent is no name of one.
    pub(super) dependency: Option<&'a str>,
    /// By whom, from where.
    pub(super) client: SocketAddr,
    /// As in the answer.
    pub(super) correlation_id: &'a str,
    /// By whom, where the token told.
    pub(super) actor: Option<Actor>,
    /// Why, in their words.
    pub(super) reason: Option<String>,
    /// For how long.
    pub(super) lasts: Option<Duration>,
    /// Until when: RFC 3339.
    pub(super) expires_at: Option<String>,
}

impl Attempt<'_> {
    /// Tells that it was done.
    pub(super) fn accepted(&self) {
        let Self { action, dependency, client, correlation_id, actor, reason, lasts, expires_at } = self;
        let actor = actor.as_ref().map(Actor::as_str);
        match action {
            Verb::Open | Verb::Close | Verb::Reset | Verb::Check => tracing::info!(
                target: "audit",
                action = action.as_str(),
                dependency,
                actor,
                client = %client,
                code = StatusCode::OK.as_u16(),
                correlation_id,
                reason,
                for_seconds = lasts.map(|lasts| lasts.as_secs_f64()),
                expires_at,
                "audit: accepted"
            ),
            // Whoever watches asks every few seconds.
            Verb::Read => tracing::debug!(
                target: "audit",
                action = action.as_str(),
                actor,
                client = %client,
                correlation_id,
                "audit: accepted"
            ),
        }
    }

    /// Tells that it was refused, and by which answer.
    pub(super) fn refused(&self, code: StatusCode, error: &str) {
        let Self { action, dependency, client, correlation_id, actor, reason, lasts, expires_at } = self;
        tracing::warn!(
            target: "audit",
            action = action.as_str(),
            dependency,
            actor = actor.as_ref().map(Actor::as_str),
            client = %client,
            code = code.as_u16(),
            error,
            correlation_id,
            reason,
            for_seconds = lasts.map(|lasts| lasts.as_secs_f64()),
            expires_at,
            "audit: refused"
        );
    }
}

/// Tells how many attempts without a good token were refused that are not told of one by one.
pub(super) fn untold(attempts: u64) {
    if attempts > 0 {
        tracing::warn!(
            target: "audit",
            attempts,
            "audit: refused without a good token, beyond {TOLD_MAX} from one address in {} s",
            WINDOW.as_secs()
        );
    }
}
