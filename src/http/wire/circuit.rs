//! A circuit as JSON.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::map::OrderedMap;
use super::schema::Word;
use super::{Timestamp, seconds};
use crate::health::circuit::{CircuitView, State};
use crate::health::{DependencyView, FailureKind, Now, Snapshot};

/// `/circuits`.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::http) struct Circuits<'a> {
    circuits: OrderedMap<&'a str, Circuit>,
}

impl<'a> Circuits<'a> {
    pub(in crate::http) fn new(snapshot: &'a Snapshot, now: Now) -> Self {
        let circuits = snapshot
            .dependencies
            .iter()
            .filter(|view| view.policy.enabled())
            .map(|view| (view.policy.name.as_str(), Circuit::new(view, now)));
        Self { circuits: OrderedMap(circuits.collect()) }
    }
}

/// `/circuits/{name}`.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::http) struct NamedCircuit<'a> {
    dependency: &'a str,
    #[serde(flatten)]
    circuit: Circuit,
}

impl<'a> NamedCircuit<'a> {
    pub(in crate::http) fn new(view: &'a DependencyView, now: Now) -> Self {
        Self { dependency: view.policy.name.as_str(), circuit: Circuit::new(view, now) }
    }
}

/// A circuit: its state, its settings, its past.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Circuit {
    state: Word<State>,
    since: Timestamp,
    /// Always null: there are no manual overrides yet.
    r#override: Option<()>,
    failure_threshold: u32,
    recovery_timeout_seconds: f64,
    success_threshold: u32,
    consecutive_failures: u32,
    consecutive_successes: u32,
    next_trial_at: Option<Timestamp>,
    opens: u64,
    successes: u64,
    failures: u64,
    success_rate: Option<f64>,
    failures_by_kind: BTreeMap<Word<FailureKind>, u64>,
    time_in_state_seconds: OrderedMap<&'static str, f64>,
    transitions: Vec<Transition>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Transition {
    at: Timestamp,
    from: Word<State>,
    to: Word<State>,
    reason: String,
}

impl Circuit {
    pub(super) fn new(view: &DependencyView, now: Now) -> Self {
        let circuit: &CircuitView = &view.circuit;
        let transitions = circuit.transitions.iter().map(|transition| Transition {
            at: Timestamp(transition.at.wall),
            from: Word(transition.from),
            to: Word(transition.to),
            reason: transition.reason.to_string(),
        });
        let times =
            State::ALL.iter().map(|state| (state.as_str(), seconds(circuit.time_in(*state, now.mono))));
        Self {
            state: Word(circuit.state),
            since: Timestamp(circuit.since.wall),
            r#override: None,
            failure_threshold: circuit.settings.failure_threshold.get(),
            recovery_timeout_seconds: seconds(circuit.settings.recovery_timeout),
            success_threshold: circuit.settings.success_threshold.get(),
            consecutive_failures: circuit.consecutive_failures,
            consecutive_successes: circuit.consecutive_successes,
            next_trial_at: circuit.trial_at.map(|point| Timestamp(now.wall_at(point))),
            opens: circuit.opens,
            successes: circuit.successes,
            failures: circuit.failures,
            success_rate: circuit.lifetime().success_rate().map(|rate| (rate * 10_000.0).round() / 10_000.0),
            failures_by_kind: circuit.failures_by_kind.iter().map(|(kind, n)| (Word(kind), n)).collect(),
            time_in_state_seconds: OrderedMap(times.collect()),
            transitions: transitions.collect(),
        }
    }
}
