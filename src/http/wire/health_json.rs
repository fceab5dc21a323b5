//! `/health`: the health+json format, draft-inadarei-api-health-check-06.
//!
//! Everybody may ask for it, so `output` holds failure kinds and no messages.

use schemars::JsonSchema;
use serde::Serialize;

use super::map::OrderedMap;
use super::{Timestamp, millis};
use crate::health::{DependencyView, Kind, Monotonic, ServiceStatus, Snapshot, Status, verdict};

#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::http) struct HealthJson<'a> {
    status: &'static str,
    version: &'static str,
    #[serde(rename = "serviceId")]
    service_id: &'a str,
    description: String,
    /// By `NAME:responseTime`.
    checks: OrderedMap<String, [Measurement; 1]>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Measurement {
    #[serde(rename = "componentType")]
    component_type: &'static str,
    status: &'static str,
    #[serde(rename = "observedValue", skip_serializing_if = "Option::is_none")]
    observed_value: Option<f64>,
    #[serde(rename = "observedUnit", skip_serializing_if = "Option::is_none")]
    observed_unit: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<&'static str>,
}

impl<'a> HealthJson<'a> {
    pub(in crate::http) fn new(snapshot: &Snapshot, service: &'a str, now: Monotonic) -> Self {
        let status = verdict::service(snapshot, now);
        let enabled = snapshot.dependencies.iter().enumerate().filter(|(_, view)| view.policy.enabled());
        let checks = enabled.map(|(index, view)| {
            let measured = Measurement::new(view, snapshot.status(index, now));
            (format!("{}:responseTime", view.policy.name), [measured])
        });
        Self {
            status: match status {
                ServiceStatus::Up => "pass",
                ServiceStatus::Degraded => "warn",
                ServiceStatus::Starting | ServiceStatus::Down | ServiceStatus::Draining => "fail",
            },
            version: crate::version::VERSION,
            service_id: service,
            description: format!("{service} is {status}"),
            checks: OrderedMap(checks.collect()),
        }
    }
}

impl Measurement {
    fn new(view: &DependencyView, status: Status) -> Self {
        let last = view.last_check.as_ref();
        let latency = last.filter(|check| check.ok()).map(|check| millis(check.latency));
        Self {
            component_type: match view.policy.kind {
                Kind::Postgres | Kind::Redis => "datastore",
                Kind::Dns | Kind::Tcp | Kind::Http => "component",
            },
            status: match status {
                Status::Up | Status::Disabled => "pass",
                Status::Degraded => "warn",
                Status::Down | Status::Unknown => "fail",
            },
            observed_value: latency,
            observed_unit: latency.map(|_| "ms"),
            time: last.map(|check| Timestamp(check.at.wall)),
            output: view.failing_by().map(|kind| kind.as_str()),
        }
    }
}
