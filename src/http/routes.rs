//! The routes: which path answers what, to whom, by which methods.
//!
//! | path | audience | answers |
//! | --- | --- | --- |
//! | `/health/live`, `/livez` | everybody | does the agent itself work |
//! | `/health/ready`, `/readyz` | everybody | can this task serve |
//! | `/health/alb` | everybody | should this task stay in the load balancer |
//! | `/health/startup` | everybody | has every critical dependency succeeded once |
//! | `/health` | everybody | health+json |
//! | `/health/detailed` | operators | everything |
//! | `/health/dependencies/{name}` | operators | one dependency of it |
//! | `/health/config` | operators | the effective configuration |
//! | `/circuits`, `/circuits/{name}` | operators | the circuits |

use bytes::Bytes;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, Method, Response, StatusCode};
use warp::Filter;

use super::answers::Short;
use super::state::State;
use super::{correlation, wire};
use crate::health::{Snapshot, verdict};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const HEALTH_JSON: HeaderValue = HeaderValue::from_static("application/health+json");

/// What a listener serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serves {
    /// All routes.
    Everything,
    /// Only what everybody may ask: the operators have a listener of their own.
    Everybody,
}

/// A path that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route<'a> {
    Live,
    Ready,
    Alb,
    Startup,
    Health,
    Detailed,
    Dependency(&'a str),
    Config,
    Circuits,
    Circuit(&'a str),
}

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Audience {
    /// The load balancer, and whoever reaches its port.
    Everybody,
    /// Those who reach the operators' port.
    Operators,
}

impl<'a> Route<'a> {
    fn parse(path: &'a str) -> Option<Self> {
        Some(match path {
            "/health/live" | "/livez" => Self::Live,
            "/health/ready" | "/readyz" => Self::Ready,
            "/health/alb" => Self::Alb,
            "/health/startup" => Self::Startup,
            "/health" => Self::Health,
            "/health/detailed" => Self::Detailed,
            "/health/config" => Self::Config,
            "/circuits" => Self::Circuits,
            _ => {
                let below = |prefix: &str| path.strip_prefix(prefix).filter(|name| is_segment(name));
                match (below("/health/dependencies/"), below("/circuits/")) {
                    (Some(name), _) => Self::Dependency(name),
                    (_, Some(name)) => Self::Circuit(name),
                    (None, None) => return None,
                }
            }
        })
    }

    fn audience(self) -> Audience {
        match self {
            Self::Live | Self::Ready | Self::Alb | Self::Startup | Self::Health => Audience::Everybody,
            Self::Detailed | Self::Dependency(_) | Self::Config | Self::Circuits | Self::Circuit(_) => {
                Audience::Operators
            }
        }
    }
}

fn is_segment(text: &str) -> bool {
    !text.is_empty() && !text.contains('/')
}

/// All routes that a listener serves.
pub(super) fn routes(
    state: State,
    serves: Serves,
) -> impl Filter<Extract = (Response<Bytes>,), Error = std::convert::Infallible> + Clone {
    warp::method().and(warp::path::full()).and(warp::header::headers_cloned()).map(
        move |method: Method, path: warp::path::FullPath, headers: HeaderMap| {
            let id = correlation::id(&headers);
            let response = answer(&state, serves, &method, path.as_str(), &id);
            tracing::debug!(
                correlation_id = id.to_str().unwrap_or_default(),
                method = method.as_str(),
                path = path.as_str(),
                code = response.status().as_u16(),
                "answered"
            );
            finished(response, id)
        },
    )
}

/// The answer to a request whose target is no path.
pub(super) fn not_a_path(headers: &HeaderMap) -> Response<Bytes> {
    let id = correlation::id(headers);
    let message = "the target of the request is a host; a path is what is answered here";
    finished(error(StatusCode::BAD_REQUEST, "bad_request", message, &id), id)
}

/// With the headers that every answer has.
fn finished(mut response: Response<Bytes>, id: HeaderValue) -> Response<Bytes> {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(correlation::HEADER, id);
    response
}

fn answer(state: &State, serves: Serves, method: &Method, path: &str, id: &HeaderValue) -> Response<Bytes> {
    let served = |route: &Route<'_>| match serves {
        Serves::Everything => true,
        Serves::Everybody => route.audience() == Audience::Everybody,
    };
    let Some(route) = Route::parse(path).filter(served) else {
        return error(StatusCode::NOT_FOUND, "not_found", "there is nothing at this path", id);
    };
    if !matches!(*method, Method::GET | Method::HEAD) {
        let message = "only GET and HEAD are answered here";
        let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message, id);
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match route {
        Route::Live => short(Short::new(&state.live())),
        Route::Ready => short(state.rendered().ready.clone()),
        Route::Alb => short(state.rendered().alb.clone()),
        Route::Startup => short(state.rendered().startup.clone()),
        Route::Health => {
            // Code and body from one snapshot: they must not contradict each other.
            let (snapshot, now) = (state.snapshot(), state.now());
            let body = wire::HealthJson::new(&snapshot, state.service(), now);
            let Short { code, .. } = Short::new(&verdict::ready(&snapshot, now.mono));
            respond(code, HEALTH_JSON, wire::to_bytes(&body))
        }
        Route::Detailed => {
            let snapshot = state.snapshot();
            let body = wire::Detailed::new(
                &snapshot,
                state.service(),
                state.environment(),
                &state.live(),
                state.now(),
            );
            ok(&body)
        }
        Route::Config => respond(StatusCode::OK, JSON, state.config()),
        Route::Circuits => ok(&wire::Circuits::new(&state.snapshot(), state.now())),
        Route::Dependency(name) => {
            let snapshot = state.snapshot();
            match snapshot.get(name) {
                Some((index, _)) => ok(&wire::Dependency::new(&snapshot, index, state.now())),
                None => unknown_dependency(&snapshot, id),
            }
        }
        Route::Circuit(name) => {
            let snapshot = state.snapshot();
            match snapshot.get(name) {
                Some((_, view)) => ok(&wire::NamedCircuit::new(view, state.now())),
                None => unknown_dependency(&snapshot, id),
            }
        }
    }
}

fn ok(body: &impl serde::Serialize) -> Response<Bytes> {
    respond(StatusCode::OK, JSON, wire::to_bytes(body))
}

fn short(answer: Short) -> Response<Bytes> {
    respond(answer.code, JSON, answer.body)
}

fn unknown_dependency(snapshot: &Snapshot, id: &HeaderValue) -> Response<Bytes> {
    let names: Vec<&str> = snapshot.dependencies.iter().map(|view| view.policy.name.as_str()).collect();
    let message = format!("there is no dependency of this name; there are: {}", names.join(", "));
    error(StatusCode::NOT_FOUND, "unknown_dependency", &message, id)
}

fn error(code: StatusCode, name: &'static str, message: &str, id: &HeaderValue) -> Response<Bytes> {
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
        assert_eq!(Route::parse("/livez"), Some(Route::Live));
        assert_eq!(Route::parse("/circuits/redis"), Some(Route::Circuit("redis")));
        assert_eq!(Route::parse("/health/dependencies/database"), Some(Route::Dependency("database")));
        for unknown in ["/", "", "/health/", "/health/ready/", "/HEALTH", "/circuits/", "/circuits/a/b", "/x"]
        {
            assert_eq!(Route::parse(unknown), None, "{unknown}");
        }
    }
}
