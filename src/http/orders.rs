//! Orders: what operators have done by `POST`, and who may.
//!
//! Judged in this order, and refused for the first that is wrong: the token, the type of the body, its length, what it
//! says, the dependency. Only then is the order carried out. Every attempt ends in one line of the [audit](super::audit).

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{HeaderMap, Response, StatusCode};

use super::audit::Attempt;
use super::auth::Denied;
use super::connections::Written;
use super::operations::NotDone;
use super::routes::{Asked, error, ok, unknown_dependency};
use super::state::{Configured, ORDERS_MAX, State};
use super::throttle::{BAD_MAX, WINDOW};
use super::wire::{self, Said};
use crate::config::token::{TOKEN_MIN, Verb};
use crate::health::circuit::{Actor, Mode, Override};
use crate::health::{DependencyName, Now, Order, Snapshot};

/// The body of an order is no longer than this.
pub(super) const BODY_MAX: usize = 4 * 1024;

/// What can be ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Hold a circuit open.
    Open,
    /// Hold a circuit closed.
    Close,
    /// Reset a circuit.
    Reset,
    /// Make a check.
    Check,
}

impl Action {
    /// What a token has to allow for it.
    pub(super) fn verb(self) -> Verb {
        match self {
            Self::Open => Verb::Open,
            Self::Close => Verb::Close,
            Self::Reset => Verb::Reset,
            Self::Check => Verb::Check,
        }
    }

    /// Whether a circuit is held by it: why has to be said, and for how long can be.
    pub(super) fn holds(self) -> bool {
        matches!(self, Self::Open | Self::Close)
    }
}

/// Whose request it is, and what came with it.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// Where the connection comes from.
    pub(super) peer: SocketAddr,
    /// The connection.
    pub(super) written: Written,
    /// The body; empty of a request that none is looked at of.
    pub(super) body: Result<Bytes, BodyFault>,
}

/// Why there is no body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyFault {
    /// It is longer than any that is of use.
    TooLong,
    /// It is not what its head says.
    Broken,
}

/// An answer other than 200.
struct Refused {
    code: StatusCode,
    error: &'static str,
    message: String,
    header: Option<(HeaderName, HeaderValue)>,
    /// Whether the log is told.
    is_told: bool,
}

impl Refused {
    fn new(code: StatusCode, error: &'static str, message: impl Into<String>) -> Self {
        Self { code, error, message: message.into(), header: None, is_told: true }
    }

    fn with(self, name: HeaderName, value: HeaderValue) -> Self {
        Self { header: Some((name, value)), ..self }
    }

    /// The answer, of which the log is told.
    fn told(self, attempt: &Attempt<'_>, id: &HeaderValue) -> Response<Bytes> {
        if self.is_told {
            attempt.refused(self.code, self.error);
        }
        let mut response = error(self.code, self.error, &self.message, id);
        response.headers_mut().extend(self.header);
        response
    }
}

/// Does what is asked for, if it is right and allowed.
pub(super) async fn answer(state: &State, action: Action, name: &str, asked: &Asked<'_>) -> Response<Bytes> {
    let mut attempt = attempt(action.verb(), DependencyName::parse(name).and(Some(name)), asked);
    match carried_out(state, action, name, asked, &mut attempt).await {
        Ok(response) => {
            attempt.accepted();
            response
        }
        Err(refused) => refused.told(&attempt, asked.id),
    }
}

/// What whoever asks is answered who may not read what operators may.
pub(super) fn read_refused(
    state: &State,
    configured: &Configured,
    asked: &Asked<'_>,
) -> Option<Response<Bytes>> {
    if !configured.tokens.for_reads() {
        return None;
    }
    let mut attempt = attempt(Verb::Read, None, asked);
    match authorise(state, configured, Verb::Read, asked, &mut attempt) {
        Ok(_) => {
            attempt.accepted();
            None
        }
        Err(refused) => Some(refused.told(&attempt, asked.id)),
    }
}

fn attempt<'a>(action: Verb, dependency: Option<&'a str>, asked: &Asked<'a>) -> Attempt<'a> {
    Attempt {
        action,
        dependency,
        client: asked.caller.peer,
        correlation_id: asked.id.to_str().unwrap_or_default(),
        actor: None,
        reason: None,
        lasts: None,
        expires_at: None,
    }
}

async fn carried_out(
    state: &State,
    action: Action,
    name: &str,
    asked: &Asked<'_>,
    attempt: &mut Attempt<'_>,
) -> Result<Response<Bytes>, Refused> {
    let actor = authorise(state, &state.configured(), action.verb(), asked, attempt)?;
    let _place = state.place_for_an_order().ok_or_else(|| {
        let message = format!(
            "{ORDERS_MAX} orders are being carried out already, and no more at a time; ask again in a second"
        );
        Refused::new(StatusCode::TOO_MANY_REQUESTS, "too_many_orders", message)
            .with(RETRY_AFTER, HeaderValue::from_static("1"))
    })?;
    // From here on it may take as long as it takes.
    let _owed = asked.caller.written.owe();
    let said = said(action, asked)?;
    attempt.reason.clone_from(&said.reason);

    let name = known(&state.snapshot(), name)?;
    let order = match action {
        Action::Open => Order::Hold(hold(Mode::ForcedOpen, said, actor, state.now(), attempt)),
        Action::Close => Order::Hold(hold(Mode::ForcedClosed, said, actor, state.now(), attempt)),
        Action::Reset => Order::Reset(actor),
        Action::Check => Order::Check,
    };
    let done = state.operations().carry_out(&name, order).await;

    let (snapshot, now) = (state.snapshot(), state.now());
    let name = name.as_str();
    done.map_err(|why| not_done(why, &snapshot, name))?;
    let (index, view) = snapshot.get(name).ok_or_else(|| unknown(&snapshot))?;
    Ok(match action {
        Action::Open | Action::Close | Action::Reset => ok(&wire::NamedCircuit::new(view, now)),
        Action::Check => {
            let status = snapshot.status(index, now.mono);
            let (last, found) = (view.last_check.as_deref(), view.diagnosis.as_deref());
            ok(&wire::Report::new(&view.policy, status, last, found, now))
        }
    })
}

/// The override that is ordered.
fn hold(mode: Mode, said: Said, actor: Actor, now: Now, attempt: &mut Attempt<'_>) -> Arc<Override> {
    let Said { reason, lasts, readiness } = said;
    let mono = now.mono + lasts;
    let expires = Now { mono, wall: now.wall_at(mono) };
    attempt.lasts = Some(lasts);
    attempt.expires_at = Some(wire::time(expires.wall));
    // There is a reason: it is required.
    Arc::new(Override {
        mode,
        reason: reason.unwrap_or_default(),
        actor,
        since: now.wall,
        expires,
        readiness,
    })
}

fn authorise(
    state: &State,
    configured: &Configured,
    verb: Verb,
    asked: &Asked<'_>,
    attempt: &mut Attempt<'_>,
) -> Result<Actor, Refused> {
    let (client, now, throttle) = (asked.caller.peer.ip(), state.now().mono, state.throttle());
    let denied = match configured.tokens.authorise(verb, asked.headers, throttle, client, now) {
        Ok(actor) => {
            attempt.actor = Some(actor.clone());
            return Ok(actor);
        }
        Err(denied) => denied,
    };
    let unauthorised = |error, message: String| {
        Refused::new(StatusCode::UNAUTHORIZED, error, message)
            .with(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    };
    let refused = match denied {
        Denied::Lacks(actor) => {
            let message = format!(
                "the token of `{actor}` may not `{verb}`: its `allow` in `server.admin_tokens` says what it may"
            );
            attempt.actor = Some(actor);
            return Err(Refused::new(StatusCode::FORBIDDEN, "forbidden", message));
        }
        Denied::NoTokens => unauthorised(
            "no_token_configured",
            format!(
                "no token is configured, so this is closed to all: set SICKBAY_ADMIN_TOKEN (at least {TOKEN_MIN} \
                 characters), or `server.admin_tokens` in a configuration file"
            ),
        ),
        Denied::Missing => unauthorised(
            "token_required",
            "this wants a token: send it in the header `Authorization: Bearer TOKEN`".to_owned(),
        ),
        Denied::Bad => {
            unauthorised("token_invalid", "what was sent is no token that is known here".to_owned())
        }
        Denied::Throttled(rest) => {
            let seconds = rest.as_millis().div_ceil(1000);
            let message = format!(
                "more than {BAD_MAX} bad tokens came from your address within {} s; a good one is let in at once, for \
                 another bad one wait {seconds} s",
                WINDOW.as_secs()
            );
            let refused = Refused::new(StatusCode::TOO_MANY_REQUESTS, "too_many_bad_tokens", message);
            match HeaderValue::try_from(seconds.to_string()) {
                Ok(seconds) => refused.with(RETRY_AFTER, seconds),
                Err(_) => refused,
            }
        }
    };
    Err(Refused { is_told: throttle.tells(client, now), ..refused })
}

/// What the body says.
fn said(action: Action, asked: &Asked<'_>) -> Result<Said, Refused> {
    let body = &asked.caller.body;
    if action.holds() || !body.as_ref().is_ok_and(Bytes::is_empty) {
        json(asked.headers)?;
    }
    let body = body.as_ref().map_err(|fault| match fault {
        BodyFault::TooLong => too_long(),
        BodyFault::Broken => bad_request("the body of the request is not what its head says"),
    })?;
    if body.len() > BODY_MAX {
        return Err(too_long());
    }
    Said::read(action, body).map_err(bad_request)
}

fn too_long() -> Refused {
    let message = format!("the body of the request is longer than {} KiB", BODY_MAX / 1024);
    Refused::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", message)
}

fn bad_request(message: impl Into<String>) -> Refused {
    Refused::new(StatusCode::BAD_REQUEST, "bad_request", message)
}

/// Whether the body is said to be JSON, as it is. What a page of another site can have a browser send without asking
/// first is never said to be (Fetch, "CORS-safelisted request-header").
fn json(headers: &HeaderMap) -> Result<(), Refused> {
    let refused =
        |message| Refused::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message);
    let essence = |value: &HeaderValue| {
        let essence = value.to_str().ok()?.split(';').next()?.trim();
        Some(essence.eq_ignore_ascii_case("application/json"))
    };
    let mut types = headers.get_all(CONTENT_TYPE).iter().map(essence);
    if (types.next(), types.next()) != (Some(Some(true)), None) {
        return Err(refused("the body has to be JSON, and be said to: `Content-Type: application/json`"));
    }
    if headers.get_all(CONTENT_ENCODING).iter().any(|value| value != "identity") {
        return Err(refused("the body has to be as it is, without a `Content-Encoding`"));
    }
    Ok(())
}

/// The name of a dependency that something can be done with.
fn known(snapshot: &Snapshot, name: &str) -> Result<DependencyName, Refused> {
    let (_, view) = snapshot.get(name).ok_or_else(|| unknown(snapshot))?;
    match &view.policy.disabled {
        Some(why) => Err(refused_disabled(why)),
        None => Ok(view.policy.name.clone()),
    }
}

fn unknown(snapshot: &Snapshot) -> Refused {
    let (error, message) = unknown_dependency(snapshot);
    Refused::new(StatusCode::NOT_FOUND, error, message)
}

/// What is told of a dependency that is disabled: the code, and the message.
pub(super) fn disabled(why: &str) -> (&'static str, String) {
    ("dependency_disabled", format!("the dependency is disabled, so it has no circuit and no checks: {why}"))
}

fn refused_disabled(why: &str) -> Refused {
    let (error, message) = disabled(why);
    Refused::new(StatusCode::NOT_FOUND, error, message)
}

fn not_done(why: NotDone, snapshot: &Snapshot, name: &str) -> Refused {
    match why {
        NotDone::Unknown => unknown(snapshot),
        NotDone::Disabled => {
            let view = snapshot.get(name);
            refused_disabled(
                view.and_then(|(_, view)| view.policy.disabled.as_deref()).unwrap_or("by configuration"),
            )
        }
        NotDone::HeldOpen => Refused::new(
            StatusCode::CONFLICT,
            "held_open",
            format!("the circuit is held open, so no check is made; `POST /circuits/{name}/reset` ends that"),
        ),
        NotDone::CheckLost => Refused::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "check_lost",
            "the check panicked, or hung beyond its timeout: the log says which; ask again",
        ),
        NotDone::Replaced => Refused::new(
            StatusCode::CONFLICT,
            "replaced",
            "the configuration was loaded anew meanwhile, with other settings for this dependency, which cut the check \
             off: ask again",
        ),
        NotDone::Busy => Refused::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "busy",
            format!(
                "what watches this dependency panicked (the log says over what), and is being brought back: ask again in \
                 a second; `GET /circuits/{name}` shows what is in force"
            ),
        )
        .with(RETRY_AFTER, HeaderValue::from_static("1")),
        NotDone::Stopping => Refused::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "stopping",
            "the agent is being stopped, and does nothing more",
        ),
    }
}

#[cfg(test)]
mod tests;
