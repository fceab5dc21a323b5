//! A circuit as JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::map::OrderedMap;
use super::schema::Word;
use super::{Timestamp, seconds};
use crate::health::circuit::{self, CircuitView, Mode, Readiness, State, Tally};
use crate::health::{DependencyView, FailureKind, Now, Snapshot};

/// `/circuits`.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::http) struct Circuits<'a> {
    circuits: OrderedMap<&'a str, Circuit<'a>>,
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
    circuit: Circuit<'a>,
}

impl<'a> NamedCircuit<'a> {
    pub(in crate::http) fn new(view: &'a DependencyView, now: Now) -> Self {
        Self { dependency: view.policy.name.as_str(), circuit: Circuit::new(view, now) }
    }
}

/// A circuit: its state, its settings, its past.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Circuit<'a> {
    state: Word<State>,
    since: Timestamp,
    /// What an operator holds it by; null where nobody does.
    r#override: Option<Override<'a>>,
    failure_threshold: u32,
    recovery_timeout_seconds: f64,
    /// What each failed trial doubles that up to; null where it does not grow.
    recovery_timeout_max_seconds: Option<f64>,
    success_threshold: u32,
    consecutive_failures: u32,
    consecutive_successes: u32,
    /// While open; while forced open, when the override ends.
    next_trial_at: Option<Timestamp>,
    /// By what was measured, reopenings included.
    opens: u64,
    successes: u64,
    failures: u64,
    /// Null where there were no checks.
    success_rate: Option<f64>,
    failure_rate: Option<f64>,
    rates: Rates,
    failures_by_kind: BTreeMap<Word<FailureKind>, u64>,
    time_in_state_seconds: OrderedMap<&'static str, f64>,
    transitions: Vec<Transition>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Override<'a> {
    mode: Word<Mode>,
    /// The operator's words.
    reason: &'a str,
    /// The name of a token, or the address of a client.
    actor: &'a str,
    since: Timestamp,
    expires_at: Timestamp,
    /// Whether the dependency gates answers while it is forced open.
    readiness: Word<Readiness>,
}

impl<'a> From<&'a circuit::Override> for Override<'a> {
    fn from(over: &'a circuit::Override) -> Self {
        Self {
            mode: Word(over.mode),
            reason: &over.reason,
            actor: over.actor.as_str(),
            since: Timestamp(over.since),
            expires_at: Timestamp(over.expires.wall),
            readiness: Word(over.readiness),
        }
    }
}

/// The checks of the last minutes.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
struct Rates {
    #[serde(rename = "1m")]
    one_minute: Rate,
    #[serde(rename = "5m")]
    five_minutes: Rate,
    #[serde(rename = "15m")]
    quarter_of_an_hour: Rate,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Rate {
    checks: u64,
    /// Null where there were no checks.
    success_rate: Option<f64>,
    failure_rate: Option<f64>,
}

impl From<Tally> for Rate {
    fn from(tally: Tally) -> Self {
        Self {
            checks: tally.checks(),
            success_rate: tally.success_rate().map(rounded),
            failure_rate: tally.failure_rate().map(rounded),
        }
    }
}

/// A rate to four digits.
fn rounded(rate: f64) -> f64 {
    (rate * 10_000.0).round() / 10_000.0
}

#[derive(Debug, Serialize, JsonSchema)]
struct Transition {
    at: Timestamp,
    from: Word<State>,
    to: Word<State>,
    reason: String,
}

impl<'a> Circuit<'a> {
    pub(super) fn new(view: &'a DependencyView, now: Now) -> Self {
        let circuit: &CircuitView = &view.circuit;
        let lifetime = circuit.lifetime();
        let within = |minutes: u64| circuit.recent.within(Duration::from_secs(60 * minutes), now.mono).into();
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
            r#override: circuit.over.as_deref().map(Override::from),
            failure_threshold: circuit.settings.failure_threshold.get(),
            recovery_timeout_seconds: seconds(circuit.settings.recovery_timeout),
            recovery_timeout_max_seconds: circuit.settings.recovery_timeout_max.map(seconds),
            success_threshold: circuit.settings.success_threshold.get(),
            consecutive_failures: circuit.consecutive_failures,
            consecutive_successes: circuit.consecutive_successes,
            next_trial_at: match circuit.over.as_deref().filter(|over| over.mode == Mode::ForcedOpen) {
                // To the millisecond as the override tells it.
                Some(over) => Some(Timestamp(over.expires.wall)),
                None => circuit.trial_at.map(|point| Timestamp(now.wall_at(point))),
            },
            opens: circuit.opens,
            successes: circuit.successes,
            failures: circuit.failures,
            success_rate: lifetime.success_rate().map(rounded),
            failure_rate: lifetime.failure_rate().map(rounded),
            rates: Rates { one_minute: within(1), five_minutes: within(5), quarter_of_an_hour: within(15) },
            failures_by_kind: circuit.failures_by_kind.iter().map(|(kind, n)| (Word(kind), n)).collect(),
            time_in_state_seconds: OrderedMap(times.collect()),
            transitions: transitions.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::health::test_support::{held, mono, now, policy, record, run_many, secs};
    use crate::health::{Policy, circuit::Settings};

    fn json_of(record: &crate::health::Record, at: u64) -> serde_json::Value {
        let view = record.view(mono(secs(at)));
        serde_json::to_value(Circuit::new(&view, now(secs(at)))).expect("JSON")
    }

    #[test]
    fn tells_an_override_in_the_words_of_the_contract() {
        let mut record = record(policy("database"));
        run_many(&mut record, 1, Ok(()));
        assert_eq!(json_of(&record, 1)["override"], json!(null));
        let over = circuit::Override {
            reason: "vacuum".into(),
            readiness: Readiness::Ignore,
            ..(*held(Mode::ForcedOpen, now(secs(10)), secs(1_800))).clone()
        };
        record.hold(Arc::new(over), now(secs(10)));
        let told = json_of(&record, 20);
        assert_eq!(
            told["override"],
            json!({
                "mode": "forced_open", "reason": "vacuum", "actor": "ann", "since": "2026-01-01T00:00:10.000Z",
                "expires_at": "2026-01-01T00:30:10.000Z", "readiness": "ignore",
            })
        );
        assert_eq!(told["next_trial_at"], told["override"]["expires_at"]);
        assert_eq!((&told["state"], &told["opens"]), (&json!("open"), &json!(0)));
        assert_eq!(told["time_in_state_seconds"], json!({"closed": 10.0, "open": 10.0, "half_open": 0.0}));
        assert_eq!(told["transitions"][0]["reason"], "forced_open by ann: vacuum");
    }

    #[test]
    fn tells_rates_of_all_checks_and_of_the_last_minutes() {
        let growing = Settings { recovery_timeout_max: Some(secs(600)), ..policy("database").circuit };
        let mut record = record(Policy { circuit: growing, ..policy("database") });
        let nothing = json!({"checks": 0, "success_rate": null, "failure_rate": null});
        let told = json_of(&record, 0);
        assert_eq!((&told["success_rate"], &told["failure_rate"]), (&json!(null), &json!(null)));
        assert_eq!(told["rates"], json!({"1m": nothing, "5m": nothing, "15m": nothing}));

        // At 0 s, 10 s … 250 s, and then two that fail.
        run_many(&mut record, 26, Ok(()));
        run_many(&mut record, 2, Err(FailureKind::Timeout));
        let told = json_of(&record, 279);
        assert_eq!((&told["success_rate"], &told["failure_rate"]), (&json!(0.9286), &json!(0.0714)));
        assert_eq!(
            told["rates"],
            json!({
                "1m": {"checks": 6, "success_rate": 0.6667, "failure_rate": 0.3333},
                "5m": {"checks": 28, "success_rate": 0.9286, "failure_rate": 0.0714},
                "15m": {"checks": 28, "success_rate": 0.9286, "failure_rate": 0.0714},
            })
        );
        assert_eq!(told["recovery_timeout_max_seconds"], 600.0);
    }
}
