//! A check as JSON: `last_check`, `last_failure`, and the report of `sickbay check`.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::details::Details;
use super::diagnosis::Diagnosis;
use super::map::OrderedMap;
use super::schema::Word;
use super::{Timestamp, millis};
use crate::health::{self, Check, FailureKind, Impact, Kind, Now, Phase, Policy, Scope, Status};

/// The last check.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct LastCheck<'a> {
    /// The same as in the log.
    check_id: &'a str,
    /// When it began.
    at: Timestamp,
    /// How long ago it ended.
    age_seconds: f64,
    ok: bool,
    /// All but the last one failed.
    attempts: u32,
    /// Whether the last attempt made a connection of its own.
    new_connection: bool,
    /// With the pauses between attempts.
    duration_ms: f64,
    /// The phases of the last attempt; those that ran.
    phases_ms: OrderedMap<&'static str, f64>,
}

impl<'a> LastCheck<'a> {
    pub(super) fn new(check: &'a Check, now: Now) -> Self {
        Self {
            check_id: check.id.as_str(),
            at: Timestamp(check.at.wall),
            age_seconds: super::seconds(now.mono.since(check.ended())),
            ok: check.ok(),
            attempts: check.attempts,
            new_connection: check.new_connection,
            duration_ms: millis(check.duration),
            phases_ms: phases(check),
        }
    }
}

/// The last check that failed.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct LastFailure<'a> {
    check_id: &'a str,
    at: Timestamp,
    phase: Word<Phase>,
    failure_kind: Word<FailureKind>,
    /// SQLSTATE, Redis error prefix, errno, DNS response code.
    code: Option<&'a str>,
    /// What was seen.
    message: &'a str,
    /// What to do about it, and the section of the docs that tells more.
    hint: String,
    attempts: u32,
    duration_ms: f64,
    phases_ms: OrderedMap<&'static str, f64>,
    /// What was found out about the outage that it is of: at its first failed check, and when the circuit opened. Null until
    /// something was.
    diagnosis: Option<Diagnosis<'a>>,
}

impl<'a> LastFailure<'a> {
    /// Of the dependency that this is the policy of; `None` for a check that succeeded.
    pub(super) fn new(
        policy: &'a Policy,
        check: &'a Check,
        diagnosis: Option<&'a health::Diagnosis>,
    ) -> Option<Self> {
        let failure = check.failure()?;
        Some(Self {
            check_id: check.id.as_str(),
            at: Timestamp(check.at.wall),
            phase: Word(failure.phase),
            failure_kind: Word(failure.kind),
            code: failure.code.as_deref(),
            message: &failure.message,
            hint: failure.help(),
            attempts: check.attempts,
            duration_ms: millis(check.duration),
            phases_ms: phases(check),
            diagnosis: diagnosis.map(|found| Diagnosis::new(found, Some(policy.name.as_str()))),
        })
    }
}

fn phases(check: &Check) -> OrderedMap<&'static str, f64> {
    OrderedMap(check.phases.iter().map(|(phase, span)| (phase.as_str(), millis(span))).collect())
}

/// One dependency of `sickbay check --format json`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "CheckReport")]
pub(in crate::http) struct Report<'a> {
    kind: Word<Kind>,
    impact: Word<Impact>,
    scope: Word<Scope>,
    target: &'a str,
    address: Option<String>,
    status: Word<Status>,
    /// Why it is not checked; null where it is.
    disabled: Option<&'a str>,
    warnings: Vec<String>,
    last_check: Option<LastCheck<'a>>,
    /// The same check, where it failed.
    last_failure: Option<LastFailure<'a>>,
    details: Details<'a>,
}

impl<'a> Report<'a> {
    pub(in crate::http) fn new(
        policy: &'a Policy,
        status: Status,
        check: Option<&'a Check>,
        diagnosis: Option<&'a health::Diagnosis>,
        now: Now,
    ) -> Self {
        let observation = check.and_then(Check::observation);
        Self {
            kind: Word(policy.kind),
            impact: Word(policy.impact),
            scope: Word(policy.scope),
            target: &policy.target,
            address: check.and_then(|check| check.address).map(|address| address.to_string()),
            status: Word(status),
            disabled: policy.disabled.as_deref(),
            warnings: observation.map(|seen| seen.warnings.clone()).unwrap_or_default(),
            last_check: check.map(|check| LastCheck::new(check, now)),
            last_failure: check.and_then(|check| LastFailure::new(policy, check, diagnosis)),
            details: Details::new(check.and_then(Check::details), now),
        }
    }
}

/// The same for whoever puts several into one document.
pub fn check_report(policy: &Policy, status: Status, check: Option<&Check>, now: Now) -> Value {
    // As in `to_bytes`: it cannot fail.
    serde_json::to_value(Report::new(policy, status, check, None, now)).unwrap_or_default()
}
