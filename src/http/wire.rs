//! The shapes of JSON. Serialisation stops here: nothing behind this module knows of it.

mod check;
mod circuit;
mod config;
mod detailed;
mod details;
mod diagnosis;
mod health_json;
mod history;
mod map;
mod order;
mod schema;
mod task;

pub(super) use circuit::{Circuits, NamedCircuit};
pub(super) use config::Config;
pub(super) use detailed::{Configuration, Dependency, Detailed, Server};
pub(super) use health_json::HealthJson;
pub(super) use history::History;
pub(super) use order::{Said, schema as order_schema};

pub(super) use check::Report;

pub use check::check_report;
pub use diagnosis::diagnosis_report;

use std::time::Duration;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use self::schema::Word;
use crate::health::verdict::Answer;
use crate::health::{FailureKind, ServiceStatus, Status, WallTime, time};

/// JSON for one value. What we serialise has no maps with strange keys, so it cannot fail; if it did, an
/// empty object would tell so.
pub(super) fn to_bytes(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).map_or(Bytes::from_static(b"{}"), Bytes::from)
}

/// `{"status": …, "reasons": [{"dependency", "status", "failure_kind"}]}`: nothing that a stranger must not
/// know.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Short")]
pub(super) struct ShortBody<'a> {
    status: Word<ServiceStatus>,
    /// What is not well: in a 200 what degrades the service, in an `alb` of 503 what this task is at fault for.
    reasons: Vec<Reason<'a>>,
}

/// A dependency that is not well.
#[derive(Debug, Serialize, JsonSchema)]
struct Reason<'a> {
    dependency: &'a str,
    status: Word<Status>,
    /// Null where no check failed.
    failure_kind: Option<Word<FailureKind>>,
}

impl<'a> From<&'a Answer> for ShortBody<'a> {
    fn from(answer: &'a Answer) -> Self {
        let reasons = answer.reasons.iter().map(|reason| Reason {
            dependency: reason.dependency.as_str(),
            status: Word(reason.status),
            failure_kind: reason.failure_kind.map(Word),
        });
        Self { status: Word(answer.status), reasons: reasons.collect() }
    }
}

/// `{"error": {"code", "message", "correlation_id"}}`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Error")]
pub(super) struct ErrorBody<'a> {
    error: Error<'a>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
struct Error<'a> {
    /// For programs: `bad_request`, `not_found`, `unknown_dependency`, `method_not_allowed`, `payload_too_large`,
    /// `overloaded`, `http_version_not_supported`; of what wants a token also `no_token_configured`, `token_required`,
    /// `token_invalid`, `forbidden`, `too_many_bad_tokens`, `unsupported_media_type`, `dependency_disabled`, `held_open`,
    /// `replaced`, `check_lost`, `busy`, `stopping`.
    code: &'static str,
    /// For people.
    message: &'a str,
    /// As in the header `x-correlation-id`.
    correlation_id: &'a str,
}

impl<'a> ErrorBody<'a> {
    pub(super) fn new(code: &'static str, message: &'a str, correlation_id: &'a str) -> Self {
        Self { error: Error { code, message, correlation_id } }
    }
}

/// A calendar time as RFC 3339 in UTC, with milliseconds.
#[derive(Debug, Clone, Copy, JsonSchema)]
#[schemars(inline)]
struct Timestamp(#[schemars(with = "String", extend("format" = "date-time"))] WallTime);

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match jiff::Timestamp::from_millisecond(self.0.unix_millis()) {
            Ok(timestamp) => serializer.collect_str(&format_args!("{timestamp:.3}")),
            Err(_) => serializer.serialize_none(),
        }
    }
}

/// The same for the log.
pub(super) fn time(time: WallTime) -> String {
    jiff::Timestamp::from_millisecond(time.unix_millis()).map(|it| format!("{it:.3}")).unwrap_or_default()
}

/// A span in seconds, to the millisecond.
fn seconds(span: Duration) -> f64 {
    span.as_millis() as f64 / 1000.0
}

/// A span in milliseconds, to the microsecond.
fn millis(span: Duration) -> f64 {
    time::millis(span)
}
