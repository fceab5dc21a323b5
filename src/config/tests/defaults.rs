//! What holds where nobody says anything: the numbers of the contract, spelled out once more on purpose.

use std::time::Duration;

use super::*;
use crate::config::env::{Sets, VARIABLES};
use crate::config::plan::{RecordType, Role, SslMode, Verify};
use crate::health::backoff::Jitter;
use crate::health::{Impact, Kind, Scope};

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn without_anything() {
    let plan = plan(&[], &[]);
    assert_eq!(
        (plan.service().name().as_str(), plan.service().environment().as_str()),
        ("api", "development")
    );
    let server = plan.server();
    assert_eq!(server.listen().to_string(), "0.0.0.0:8686");
    assert_eq!((server.operator_listen(), server.admin_token(), *server.drain()), (&None, &None, s(20)));
    assert_eq!((plan.log().filter().as_str(), *plan.log().format()), ("info", None));
    assert_eq!(plan.warnings(), [NOTHING]);

    let reasons: Vec<_> = plan
        .dependencies()
        .iter()
        .map(|d| (d.policy().name.to_string(), d.policy().disabled.clone().unwrap(), d.probe().is_none()))
        .collect();
    let expected = [
        ("database", "DATABASE_HOST is not set"),
        ("redis", "REDIS_HOST is not set"),
        ("api", "API_PORT is not set"),
        ("mlflow", "MLFLOW_TRACKING_URI is not set"),
        ("dns", "DNS_NAME is not set"),
    ];
    assert_eq!(reasons, expected.map(|(name, reason)| (name.to_owned(), reason.to_owned(), true)));
}

#[test]
fn how_dependencies_are_checked() {
    let plan = plan(&[], &[]);
    let database = dependency(&plan, "database");
    let policy = database.policy();
    assert_eq!((policy.kind, policy.impact, policy.scope), (Kind::Postgres, Impact::Critical, Scope::Shared));
    assert_eq!((policy.interval, policy.startup_interval, policy.timeout), (s(10), s(1), s(10)));
    assert_eq!((*database.connect_timeout(), policy.slow_after, policy.attempts.get()), (s(3), s(1), 3));
    let backoff = policy.backoff;
    assert_eq!((backoff.initial, backoff.max), (Duration::from_millis(100), s(2)));
    assert_eq!((backoff.multiplier, backoff.jitter), (2.0, Jitter::Full));
    let circuit = policy.circuit;
    assert_eq!((circuit.failure_threshold.get(), circuit.success_threshold.get()), (5, 3));
    assert_eq!((circuit.recovery_timeout, circuit.half_open_interval), (s(60), s(2)));

    for (name, kind, impact) in [
        ("redis", Kind::Redis, Impact::Degraded),
        ("mlflow", Kind::Http, Impact::Degraded),
        ("dns", Kind::Dns, Impact::Degraded),
    ] {
        let other = dependency(&plan, name).policy();
        assert_eq!((other.kind, other.impact, other.scope), (kind, impact, Scope::Shared), "{name}");
        assert_eq!((other.interval, other.timeout, other.circuit), (s(10), s(10), circuit), "{name}");
    }
}

#[test]
fn the_api_is_judged_sooner() {
    let plan = plan(&[], &[("API_PORT", "8000")]);
    let api = dependency(&plan, "api");
    let policy = api.policy();
    assert_eq!((policy.kind, policy.impact, policy.scope), (Kind::Tcp, Impact::Critical, Scope::Local));
    assert_eq!((policy.interval, policy.timeout, policy.attempts.get()), (s(5), s(2), 1));
    assert_eq!(*api.connect_timeout(), s(2), "no longer than the check");
    assert_eq!((policy.circuit.failure_threshold.get(), policy.circuit.success_threshold.get()), (2, 1));
    assert_eq!((policy.circuit.recovery_timeout, policy.circuit.half_open_interval), (s(5), s(2)));
    assert_eq!(policy.depends_on.iter().map(ToString::to_string).collect::<Vec<_>>(), ["database"]);
    assert_eq!((policy.target.as_str(), policy.enabled()), ("127.0.0.1:8000", true));
}

#[test]
fn what_each_kind_takes_for_granted() {
    let plan = plan(
        &["dependencies:
  - {name: p, kind: postgres, impact: none, host: h}
  - {name: r, kind: redis, impact: none, host: h, tls: true}
  - {name: d, kind: dns, impact: none, query: h}
  - {name: t, kind: tcp, impact: none, host: h, port: 1}
  - {name: h, kind: http, impact: none, url: 'http://h/x'}"],
        &[],
    );
    let p = postgres(&plan, "p");
    assert_eq!((*p.port(), p.database().as_str(), p.user().as_str()), (5432, "postgres", "postgres"));
    assert_eq!(
        (*p.sslmode(), p.password(), p.root_cert(), *p.role()),
        (SslMode::Prefer, &None, &None, Role::Any)
    );
    assert_eq!((p.pool_max().get(), p.reconnect_every().get()), (2, 6));
    let r = redis(&plan, "r");
    assert_eq!((*r.port(), r.username(), r.tls().as_ref().unwrap().verify()), (6379, &None, &Verify::Full));
    let warn = r.warn();
    assert_eq!((warn.memory_used().unwrap().get(), warn.clients_used().unwrap().get()), (90, 80));
    assert_eq!((*warn.evictions(), *warn.replication_lag()), (None, Some(s(30))));
    let Some(ProbePlan::Dns(d)) = dependency(&plan, "d").probe() else { panic!() };
    assert_eq!((*d.record(), d.nameservers().len(), d.expect_min().get()), (RecordType::A, 1, 1));
    let h = http(&plan, "h");
    assert_eq!((h.method().as_str(), h.expect_status().as_slice(), h.port()), ("GET", &[200..=299][..], 80));
}

/// The table says what holds without a variable; so does the plan.
#[test]
fn the_table_of_variables_tells_the_truth() {
    let plan = plan(&[], &[]);
    for variable in VARIABLES {
        let Some(path) = variable.sets.path() else { continue };
        let mut value = plan.effective();
        for key in path.split('.') {
            value = match value {
                serde_json::Value::Array(list) => list.iter().find(|entry| entry["name"] == key).unwrap(),
                map => map.get(key).unwrap_or_else(|| panic!("{path} is in the effective configuration")),
            };
        }
        let shown = match value {
            serde_json::Value::Null => None,
            // What is not named is off, whatever the switch says.
            _ if path.ends_with("redis.enabled") => Some("true".to_owned()),
            serde_json::Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        };
        assert_eq!(shown.as_deref(), variable.default, "{}", variable.name);
    }
    assert!(VARIABLES.iter().any(|variable| matches!(variable.sets, Sets::NotYet { .. })));
}
