//! The routes: which path answers what, to whom. [`PATHS`] is the table; `GET` and `HEAD` read, and `POST` is for orders.

use std::mem;

use bytes::Bytes;
use hyper::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use warp::Filter;

use super::answers::{Question, Short};
use super::orders::{Action, Caller};
use super::query::HistoryQuery;
use super::room::WAITING_MAX;
use super::service::BODY_MAX;
use super::state::{Configured, State};
use super::{correlation, openapi, orders, wire};
use crate::health::Snapshot;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const HEALTH_JSON: HeaderValue = HeaderValue::from_static("application/health+json");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// What a listener serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serves {
    /// All routes.
    Everything,
    /// Only what everybody may ask: the operators have a listener of their own.
    Everybody,
}

/// What is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// A health question.
    Short(Question),
    /// Everything.
    Detailed,
    /// One dependency of it.
    Dependency,
    /// The effective configuration.
    Config,
    /// All circuits.
    Circuits,
    /// One of them.
    Circuit,
    /// The checks that are remembered.
    History,
    /// What describes all of this.
    OpenApi,
    /// Something that is to be done.
    Order(Action),
}

/// The place in a path where a dependency's name stands.
pub(super) const NAME: &str = "{name}";

/// Every path and what is there. What is asked for thousands of times is found first.
pub(super) const PATHS: &[(&str, Endpoint)] = &[
    ("/health/alb", Endpoint::Short(Question::Alb)),
    ("/health/ready", Endpoint::Short(Question::Ready)),
    ("/health/live", Endpoint::Short(Question::Live)),
    ("/health/startup", Endpoint::Short(Question::Startup)),
    ("/readyz", Endpoint::Short(Question::Ready)),
    ("/livez", Endpoint::Short(Question::Live)),
    ("/health", Endpoint::Short(Question::Health)),
    ("/health/detailed", Endpoint::Detailed),
    ("/health/dependencies/{name}", Endpoint::Dependency),
    ("/health/config", Endpoint::Config),
    ("/circuits", Endpoint::Circuits),
    ("/circuits/{name}", Endpoint::Circuit),
    ("/circuits/{name}/open", Endpoint::Order(Action::Open)),
    ("/circuits/{name}/close", Endpoint::Order(Action::Close)),
    ("/circuits/{name}/reset", Endpoint::Order(Action::Reset)),
    ("/checks/{name}", Endpoint::Order(Action::Check)),
    ("/history", Endpoint::History),
    ("/openapi.json", Endpoint::OpenApi),
];

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Audience {
    /// The load balancer, and whoever reaches its port.
    Everybody,
    /// Those who reach the operators' port.
    Operators,
}

impl Endpoint {
    pub(super) fn audience(self) -> Audience {
        match self {
            Self::Short(_) => Audience::Everybody,
            Self::Detailed
            | Self::Dependency
            | Self::Config
            | Self::Circuits
            | Self::Circuit
            | Self::History
            | Self::OpenApi
            | Self::Order(_) => Audience::Operators,
        }
    }

    /// Whether it answers this method; else which it does, and why no other.
    fn takes(self, method: &Method) -> Result<(), (&'static str, &'static str)> {
        match self {
            Self::Order(_) if *method == Method::POST => Ok(()),
            Self::Order(_) => Err(("POST", "only POST is answered here; nothing else changes anything")),
            _ if is_read(method) => Ok(()),
            _ => Err(("GET, HEAD", "only GET and HEAD are answered here")),
        }
    }
}

/// What is at a path, with the name in it; the name is empty where the path has none.
fn find(path: &str) -> Option<(Endpoint, &str)> {
    PATHS.iter().find_map(|(pattern, endpoint)| {
        let name = match pattern.split_once(NAME) {
            None => (path == *pattern).then_some("")?,
            Some((before, after)) => {
                path.strip_prefix(before)?.strip_suffix(after).filter(|name| is_segment(name))?
            }
        };
        Some((*endpoint, name))
    })
}

fn is_segment(text: &str) -> bool {
    !text.is_empty() && !text.contains('/')
}

/// All routes that a listener serves.
pub(super) fn routes(
    state: State,
    serves: Serves,
) -> impl Filter<Extract = (Response<Bytes>,), Error = std::convert::Infallible> + Clone {
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    let request = warp::method().and(warp::path::full()).and(query).and(warp::header::headers_cloned());
    request.and(warp::ext::optional()).then(
        move |method: Method,
              path: warp::path::FullPath,
              query: String,
              headers: HeaderMap,
              caller: Option<Caller>| {
            let state = state.clone();
            async move {
                let id = correlation::id(&headers);
                let path = path.as_str();
                let response = match &caller {
                    Some(caller) => {
                        let (method, headers) = (&method, &headers);
                        let asked = Asked { method, path, query: &query, headers, caller, id: &id };
                        answer(&state, serves, &asked).await
                    }
                    // warp cannot know that every request comes by a connection.
                    None => error(StatusCode::BAD_REQUEST, "bad_request", "nobody asks", &id),
                };
                log(&method, path, response.status(), &id);
                finished(response, id)
            }
        },
    )
}

/// A request, as far as an answer depends on it.
pub(super) struct Asked<'a> {
    method: &'a Method,
    path: &'a str,
    query: &'a str,
    pub(super) headers: &'a HeaderMap,
    pub(super) caller: &'a Caller,
    pub(super) id: &'a HeaderValue,
}

/// The health question that this asks, where it is one. It has an answer on every listener.
pub(super) fn question(method: &Method, path: &str) -> Option<Question> {
    match find(path) {
        Some((Endpoint::Short(question), _)) if is_read(method) => Some(question),
        _ => None,
    }
}

/// Whether the answer at this path may be long: it grows with the number of dependencies, and is made for whoever asks.
pub(super) fn may_be_long(path: &str) -> bool {
    !matches!(find(path), None | Some((Endpoint::Short(_) | Endpoint::Order(_), _)))
}

/// Whether this is an order. Its body is looked at.
pub(super) fn is_order(method: &Method, path: &str) -> bool {
    matches!(find(path), Some((endpoint @ Endpoint::Order(_), _)) if endpoint.takes(method).is_ok())
}

/// A short answer, made in the memory of the request's headers.
pub(super) fn answer_short(
    state: &State,
    question: Question,
    request: &mut Request<impl Sized>,
) -> Response<Bytes> {
    let mut headers = mem::take(request.headers_mut());
    let id = correlation::id(&headers);
    let Short { code, body } = state.short(question);
    log(request.method(), request.uri().path(), code, &id);
    headers.clear();
    headers.insert(CONTENT_TYPE, content_type(question));
    let mut response = Response::new(body);
    *response.status_mut() = code;
    *response.headers_mut() = headers;
    finished(response, id)
}

fn content_type(question: Question) -> HeaderValue {
    match question {
        Question::Live | Question::Ready | Question::Alb | Question::Startup => JSON,
        Question::Health => HEALTH_JSON,
    }
}

fn log(method: &Method, path: &str, code: StatusCode, id: &HeaderValue) {
    tracing::debug!(
        correlation_id = id.to_str().unwrap_or_default(),
        method = method.as_str(),
        path,
        code = code.as_u16(),
        "answered"
    );
}

/// Why a request does not get as far as the routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Its target is no path.
    NoPath,
    /// Its body is longer than any that is of use here.
    BodyTooLong,
    /// Its body is not what its head says.
    BodyBroken,
    /// Too much of long answers waits to be taken.
    NoRoom,
    /// It comes by HTTP/2, and asks for something else than health.
    OnlyHealth,
}

/// The answer to a request that does not get as far as the routes. The rest of a body that was not read could
/// be taken for the next request, so it ends the connection.
pub(super) fn refuse(refusal: Refusal, method: &Method, path: &str, headers: &HeaderMap) -> Response<Bytes> {
    let id = correlation::id(headers);
    let (code, name, message) = match refusal {
        Refusal::NoPath => (
            StatusCode::BAD_REQUEST,
            "bad_request",
            "the target of the request is a host; a path is what is answered here".to_owned(),
        ),
        Refusal::BodyTooLong => (
            StatusCode::PAYLOAD_TOO_LARGE,
            "payload_too_large",
            format!("the body of the request is longer than {} KiB", BODY_MAX / 1024),
        ),
        Refusal::BodyBroken => (
            StatusCode::BAD_REQUEST,
            "bad_request",
            "the body of the request is not what its head says".to_owned(),
        ),
        Refusal::NoRoom => (
            StatusCode::SERVICE_UNAVAILABLE,
            "overloaded",
            format!(
                "clients have asked for {} MiB of answers and do not take them; ask again in a few seconds",
                WAITING_MAX / 1024 / 1024
            ),
        ),
        // RFC 9110, 15.6.6.
        Refusal::OnlyHealth => (
            StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            "http_version_not_supported",
            "HTTP/2 is spoken for GET and HEAD of the health paths only; ask for this by HTTP/1.1".to_owned(),
        ),
    };
    log(method, path, code, &id);
    let mut response = error(code, name, &message, &id);
    if matches!(refusal, Refusal::BodyTooLong | Refusal::BodyBroken) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    finished(response, id)
}

/// With the headers that every answer has.
fn finished(mut response: Response<Bytes>, id: HeaderValue) -> Response<Bytes> {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, NO_STORE);
    headers.insert(correlation::HEADER, id);
    response
}

/// The methods that only read.
fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

async fn answer(state: &State, serves: Serves, asked: &Asked<'_>) -> Response<Bytes> {
    let served = |(endpoint, _): &(Endpoint, &str)| match serves {
        Serves::Everything => true,
        Serves::Everybody => endpoint.audience() == Audience::Everybody,
    };
    let Some((endpoint, name)) = find(asked.path).filter(served) else {
        let message = match serves {
            Serves::Everything => "there is nothing at this path; /openapi.json describes all that there is",
            // Strangers need not know what there is elsewhere.
            Serves::Everybody => "there is nothing at this path",
        };
        return error(StatusCode::NOT_FOUND, "not_found", message, asked.id);
    };
    if let Err((allowed, message)) = endpoint.takes(asked.method) {
        let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message, asked.id);
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
        return response;
    }
    let configured = state.configured();
    let reads_of_operators =
        endpoint.audience() == Audience::Operators && !matches!(endpoint, Endpoint::Order(_));
    if reads_of_operators && let Some(refused) = orders::read_refused(state, &configured, asked) {
        return refused;
    }
    // One snapshot and one moment for all of an answer: its parts must not contradict each other.
    let (snapshot, now) = (state.snapshot(), state.now());
    let unknown = || {
        let (code, message) = unknown_dependency(&snapshot);
        error(StatusCode::NOT_FOUND, code, &message, asked.id)
    };
    let one = |answer: &dyn Fn(usize) -> Response<Bytes>| match snapshot.get(name) {
        Some((index, _)) => answer(index),
        None => unknown(),
    };
    match endpoint {
        Endpoint::Short(question) => {
            let Short { code, body } = state.short(question);
            respond(code, content_type(question), body)
        }
        Endpoint::Detailed => {
            let Configured { service, environment, .. } = &*configured;
            let (live, names, server) = (state.live(), state.names(), wire::Server::new(state.all_counts()));
            let status = state.config_status();
            let config = status.as_deref().map(wire::Config::new);
            let configuration = wire::Configuration { service, environment, config };
            let task = state.task();
            ok(&wire::Detailed::new(&snapshot, configuration, task.as_deref(), &live, names, server, now))
        }
        Endpoint::Dependency => one(&|index| ok(&wire::Dependency::new(&snapshot, index, now))),
        Endpoint::Config => respond(StatusCode::OK, JSON, state.effective()),
        Endpoint::Circuits => ok(&wire::Circuits::new(&snapshot, now)),
        Endpoint::Circuit => one(&|index| {
            let view = &snapshot.dependencies[index];
            match &view.policy.disabled {
                // As `/circuits` has none of it: closed would pass for healthy.
                Some(why) => {
                    let (code, message) = orders::disabled(why);
                    error(StatusCode::NOT_FOUND, code, &message, asked.id)
                }
                None => ok(&wire::NamedCircuit::new(view, now)),
            }
        }),
        Endpoint::History => match HistoryQuery::parse(asked.query) {
            Err(message) => error(StatusCode::BAD_REQUEST, "bad_request", &message, asked.id),
            Ok(query) => match query.dependency.as_deref().map(|name| snapshot.get(name)) {
                Some(None) => unknown(),
                Some(Some((index, _))) => ok(&wire::History::new(&snapshot, Some(index), query.limit, now)),
                None => ok(&wire::History::new(&snapshot, None, query.limit, now)),
            },
        },
        Endpoint::OpenApi => respond(StatusCode::OK, JSON, openapi::document()),
        Endpoint::Order(action) => orders::answer(state, action, name, asked).await,
    }
}

pub(super) fn ok(body: &impl serde::Serialize) -> Response<Bytes> {
    respond(StatusCode::OK, JSON, wire::to_bytes(body))
}

/// What is told of a name that is none: a code and a message.
pub(super) fn unknown_dependency(snapshot: &Snapshot) -> (&'static str, String) {
    let names: Vec<&str> = snapshot.dependencies.iter().map(|view| view.policy.name.as_str()).collect();
    let message = format!("there is no dependency of this name; there are: {}", names.join(", "));
    ("unknown_dependency", message)
}

pub(super) fn error(
    code: StatusCode,
    name: &'static str,
    message: &str,
    id: &HeaderValue,
) -> Response<Bytes> {
    let correlation_id = id.to_str().unwrap_or_default();
    respond(code, JSON, wire::to_bytes(&wire::ErrorBody::new(name, message, correlation_id)))
}

fn respond(code: StatusCode, content_type: HeaderValue, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_exact_and_names_are_one_segment() {
        assert_eq!(find("/livez"), Some((Endpoint::Short(Question::Live), "")));
        assert_eq!(find("/circuits"), Some((Endpoint::Circuits, "")));
        assert_eq!(find("/circuits/redis"), Some((Endpoint::Circuit, "redis")));
        assert_eq!(find("/health/dependencies/database"), Some((Endpoint::Dependency, "database")));
        for unknown in ["/", "", "/health/", "/health/ready/", "/HEALTH", "/circuits/", "/circuits/a/b", "/x"]
        {
            assert_eq!(find(unknown), None, "{unknown}");
        }
    }
}
