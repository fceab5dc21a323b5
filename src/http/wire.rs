//! The shapes of JSON. Serialisation stops here: nothing behind this module knows of it.

mod check;
mod circuit;
mod detailed;
mod health_json;

pub(super) use circuit::{Circuits, NamedCircuit};
pub(super) use detailed::{Dependency, Detailed};
pub(super) use health_json::HealthJson;

pub use check::check_report;

use std::time::Duration;

use bytes::Bytes;
use serde::{Serialize, Serializer};

use crate::health::verdict::Answer;
use crate::health::{WallTime, time};

/// JSON for one value. What we serialise has no maps with strange keys, so it cannot fail; if it did, an
/// empty object would tell so.
pub(super) fn to_bytes(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).map_or(Bytes::from_static(b"{}"), Bytes::from)
}

/// `{"status": …, "reasons": [{"dependency", "status", "failure_kind"}]}`: nothing that a stranger must not
/// know.
#[derive(Debug, Serialize)]
pub(super) struct ShortBody<'a> {
    status: &'static str,
    reasons: Vec<Reason<'a>>,
}

#[derive(Debug, Serialize)]
struct Reason<'a> {
    dependency: &'a str,
    status: &'static str,
    failure_kind: Option<&'static str>,
}

impl<'a> From<&'a Answer> for ShortBody<'a> {
    fn from(answer: &'a Answer) -> Self {
        let reasons = answer.reasons.iter().map(|reason| Reason {
            dependency: reason.dependency.as_str(),
            status: reason.status.as_str(),
            failure_kind: reason.failure_kind.map(|kind| kind.as_str()),
        });
        Self { status: answer.status.as_str(), reasons: reasons.collect() }
    }
}

/// `{"error": {"code", "message", "correlation_id"}}`.
#[derive(Debug, Serialize)]
pub(super) struct ErrorBody<'a> {
    error: Error<'a>,
}

#[derive(Debug, Serialize)]
struct Error<'a> {
    code: &'static str,
    message: &'a str,
    correlation_id: &'a str,
}

impl<'a> ErrorBody<'a> {
    pub(super) fn new(code: &'static str, message: &'a str, correlation_id: &'a str) -> Self {
        Self { error: Error { code, message, correlation_id } }
    }
}

/// A calendar time as RFC 3339 in UTC, with milliseconds.
#[derive(Debug, Clone, Copy)]
struct Timestamp(WallTime);

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match jiff::Timestamp::from_millisecond(self.0.unix_millis()) {
            Ok(timestamp) => serializer.collect_str(&format_args!("{timestamp:.3}")),
            Err(_) => serializer.serialize_none(),
        }
    }
}

/// A span in seconds, to the millisecond.
fn seconds(span: Duration) -> f64 {
    span.as_millis() as f64 / 1000.0
}

/// A span in milliseconds, to the microsecond.
fn millis(span: Duration) -> f64 {
    time::millis(span)
}
