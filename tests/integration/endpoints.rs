//! The endpoints: shapes field by field, methods, headers, and what strangers are told.

use std::collections::BTreeSet;

use hyper::Method;
use serde_json::{Value, json};

use crate::support::agent::Agent;
use crate::support::client::Response;
use crate::support::config::{Config, on, on_postgres, on_redis};
use crate::support::dns::{self, Dns, Zone};
use crate::support::http::{Answer, HttpServer};
use crate::support::postgres::{Postgres, PostgresOptions, PostgresTls};
use crate::support::redis::{Redis, RedisOptions};
use crate::support::{certs, tcp};

/// Fails where `value` has another shape than `shape`: a map has exactly these keys, a list elements of this
/// shape, and a leaf is of the type that is named; with a `?`, it may be null.
fn assert_shape(value: &Value, shape: &Value, at: &str) {
    match (shape, value) {
        (Value::Object(shape), Value::Object(map)) => {
            let keys = |map: &serde_json::Map<String, Value>| map.keys().cloned().collect::<BTreeSet<_>>();
            assert_eq!(keys(map), keys(shape), "{at}: the keys of {value:#}");
            for (key, shape) in shape {
                assert_shape(&map[key], shape, &format!("{at}.{key}"));
            }
        }
        (Value::Array(shape), Value::Array(list)) => {
            for (n, element) in list.iter().enumerate() {
                assert_shape(element, &shape[0], &format!("{at}[{n}]"));
            }
        }
        (Value::String(name), value) => {
            let (name, optional) = name.strip_suffix('?').map_or((name.as_str(), false), |name| (name, true));
            let fits = match name {
                "string" => value.as_str().is_some_and(|text| !text.is_empty()),
                // RFC 3339 in UTC, with milliseconds.
                "time" => value.as_str().is_some_and(|text| {
                    text.len() == 24 && text.ends_with('Z') && text.parse::<jiff::Timestamp>().is_ok()
                }),
                "integer" => value.is_u64(),
                "number" => value.as_f64().is_some_and(|number| number >= 0.0),
                "boolean" => value.is_boolean(),
                "map" => value.is_object(),
                "null" => value.is_null(),
                other => panic!("{at}: no such type: {other}"),
            };
            assert!(fits || (optional && value.is_null()), "{at}: {value} is no {name}");
        }
        _ => panic!("{at}: {value} has not the shape {shape}"),
    }
}

fn circuit() -> Value {
    let rate = json!({"checks": "integer", "success_rate": "number?", "failure_rate": "number?"});
    json!({
        "state": "string", "since": "time", "override": "null",
        "failure_threshold": "integer", "recovery_timeout_seconds": "number",
        "recovery_timeout_max_seconds": "number?", "success_threshold": "integer",
        "consecutive_failures": "integer", "consecutive_successes": "integer", "next_trial_at": "time?",
        "opens": "integer", "successes": "integer", "failures": "integer", "success_rate": "number?",
        "failure_rate": "number?", "rates": {"1m": rate, "5m": rate, "15m": rate}, "failures_by_kind": "map",
        "time_in_state_seconds": {"closed": "number", "open": "number", "half_open": "number"},
        "transitions": [{"at": "time", "from": "string", "to": "string", "reason": "string"}],
    })
}

fn last_check(phases: &[&str]) -> Value {
    let phases: serde_json::Map<_, _> =
        phases.iter().map(|phase| ((*phase).to_owned(), json!("number"))).collect();
    json!({
        "check_id": "string", "at": "time", "age_seconds": "number", "ok": "boolean", "attempts": "integer",
        "new_connection": "boolean", "duration_ms": "number", "phases_ms": phases,
    })
}

fn dependency(last_check: &Value, last_failure: &Value, pool: &Value, details: &Value) -> Value {
    json!({
        "kind": "string", "impact": "string", "scope": "string", "enabled": "boolean", "status": "string",
        "warnings": ["string"], "target": "string", "address": "string", "stale": "boolean",
        "next_check_at": "time", "last_check": last_check, "last_failure": last_failure, "circuit": circuit(),
        "pool": pool, "details": details,
        "address_changes": [{"at": "time", "from": "string?", "to": "string?", "from_answers": "boolean?"}],
        "latency_ms": if *last_failure == json!("null") {
            json!({"count": "integer", "p50": "number", "p90": "number", "p99": "number", "max": "number"})
        } else {
            json!("null")
        },
    })
}

/// An agent with a dependency of every kind that is well, and `refused`, which is not. The rest is what they run on.
pub async fn agent_with_every_kind() -> (Agent, impl Sized) {
    let tls = PostgresTls::Offered(certs::certs().good.clone());
    let database = Postgres::start(PostgresOptions { tls, ..Default::default() }).await;
    let redis = Redis::start(RedisOptions::default()).await;
    let names = Dns::start(Zone::new([dns::address("db.test", "10.0.0.1")])).await;
    let api = HttpServer::start(Answer::status(200).body("fine")).await;
    let refused = tcp::refused_port();
    let config = Config::quick([
        // Once a minute, so that what is seen is the first check, on a new connection.
        on_postgres("database", &database, json!({"interval": "1m", "sslmode": "require"})),
        on_redis("redis", &redis, json!({"interval": "1m"})),
        on("http", "service", json!({"url": api.url("/"), "interval": "1m"})),
        on("tcp", "port", json!({"host": "127.0.0.1", "port": api.address().port(), "interval": "1m"})),
        on("tcp", "refused", json!({"impact": "degraded", "host": "127.0.0.1", "port": refused})),
        on("dns", "names", json!({"query": "db.test", "nameservers": [names.address()], "interval": "1m"})),
    ]);
    let agent = config.agent().await;
    agent.until("/health/ready", |it| it.json()["status"] == "degraded", "first results").await;
    for name in ["names", "redis", "refused"] {
        agent.until_dependency(name, |it| it["last_check"].is_object(), "a result").await;
    }
    let explained = |it: &Value| it["last_failure"]["diagnosis"].is_object();
    agent.until_dependency("refused", explained, "a diagnosis").await;
    (agent, (database, redis, names, api, config))
}

#[tokio::test(flavor = "multi_thread")]
async fn detailed_has_the_shape_of_the_contract_field_by_field() {
    let (agent, _servers) = agent_with_every_kind().await;
    let detailed = agent.get("/health/detailed").await.json();
    let group = json!({"status": "string", "code": "integer"});
    assert_shape(
        &detailed,
        &json!({
            "status": "string", "service": "string", "environment": "string",
            "version": {"sickbay": "string", "commit": "string", "rustc": "string"},
            "started_at": "time", "uptime_seconds": "number", "now": "time", "task": "null",
            "config": {
                "loaded_at": "time", "files": ["string"], "error": "null", "failed_at": "null", "needs_restart": [],
            },
            "groups": {"live": group, "ready": group, "alb": group, "startup": group},
            "resolver": {
                "packets": "integer", "shared": "integer", "waited": "integer", "waited_seconds": "number",
                "kept": "integer", "refused": "integer", "withheld": "integer",
            },
            "server": {
                "connections": "integer", "accepted": "integer", "silent": "integer", "displaced": "integer",
                "overloaded": "integer",
            },
            "dependencies": "map",
        }),
        "detailed",
    );
    assert_eq!(detailed["status"], "degraded");
    // The name server is asked by its number: that costs a packet as well.
    assert!(detailed["resolver"]["packets"].as_u64().is_some_and(|packets| packets >= 1), "{detailed:#}");
    assert_eq!(detailed["groups"]["ready"], json!({"status": "degraded", "code": 200}));
    let order: Vec<_> = detailed["dependencies"].as_object().expect("a map").keys().collect();
    assert_eq!(order, ["database", "redis", "api", "mlflow", "dns", "service", "port", "refused", "names"]);

    let tls = json!({"version": "string", "verified": "boolean", "expires_at": "time", "expires_in_days": "number"});
    let pool = json!({"max": "integer", "size": "integer", "idle": "integer", "in_use": "integer",
                      "waiting": "integer", "created": "integer", "closed": "integer", "errors": "integer"});
    let connections = json!({"used": "integer", "max": "integer", "reserved": "integer", "used_percent": "number",
                             "by_state": {"active": "integer"}, "by_application": {"sickbay": "integer"},
                             "this_task": "integer", "this_task_by_state": {"active": "integer"}});
    let (null, all) = (json!("null"), &["connect", "tls", "auth", "query"][..]);
    for (name, phases, pool, details) in [
        (
            "database",
            all,
            &pool,
            json!({"server_version": "string", "role": "string", "read_only": "boolean",
                   "replication_lag_seconds": "null", "database": "string", "user": "string",
                   "connections": connections, "longest_transaction_seconds": "number", "queries": {},
                   "hidden": "null", "tls": tls}),
        ),
        (
            "redis",
            &["connect", "query"],
            &pool,
            json!({"server_version": "string", "mode": "string", "uptime_seconds": "integer", "role": "string",
                   "read_only": "boolean", "connected_clients": "integer", "max_clients": "integer",
                   "rejected_connections": "integer", "blocked_clients": "integer",
                   "used_memory_bytes": "integer", "maxmemory_bytes": "integer", "maxmemory_policy": "string",
                   "evicted_keys": "integer", "loading": "boolean",
                   "replication": {"offset": "integer", "connected_replicas": "integer", "replicas": []},
                   "hidden": "null", "tls": "null"}),
        ),
        (
            "service",
            &["connect", "query"],
            &null,
            json!({"status_code": "integer", "body_bytes": "integer", "tls": "null"}),
        ),
        ("port", &["connect"], &null, json!({"peer": "string", "tls": "null"})),
    ] {
        let shape = dependency(&last_check(phases), &null, pool, &details);
        assert_shape(&detailed["dependencies"][name], &shape, name);
        assert_eq!(detailed["dependencies"][name]["status"], "up", "{name}");
        let alone = agent.get(&format!("/health/dependencies/{name}")).await.json();
        assert_shape(&alone, &shape, name);
    }
    let named = &detailed["dependencies"]["names"]["details"];
    assert_shape(
        named,
        &json!({"records": ["string"], "addresses": ["string"], "aliases": ["string"], "ttl_seconds": "integer", "by_nameserver": "map"}),
        "names",
    );
    let failed = json!({
        "check_id": "string", "at": "time", "phase": "string", "failure_kind": "string", "code": "string?",
        "message": "string", "hint": "string", "attempts": "integer", "duration_ms": "number",
        "phases_ms": {"connect": "number"},
        "diagnosis": {
            "target": "string", "ok": "boolean", "dependency": "string", "at": "time", "duration_ms": "number",
            "check_id": "string",
            "hops": [{"hop": "string", "ok": "boolean?", "duration_ms": "number?", "evidence": ["string"]}],
            "failure_kind": "string",
            "verdict": {
                "cause": "string", "confidence": "string", "summary": "string", "because": ["string"],
                "advice": ["string"],
            },
        },
    });
    let refused = &detailed["dependencies"]["refused"];
    assert_shape(refused, &dependency(&last_check(&["connect"]), &failed, &null, &json!({})), "refused");

    let circuits = agent.get("/circuits").await.json();
    let enabled =
        detailed["dependencies"].as_object().expect("a map").iter().filter(|(_, it)| it["enabled"] == true);
    let (has, wanted): (Vec<&String>, Vec<&String>) = (
        circuits["circuits"].as_object().expect("a map").keys().collect(),
        enabled.map(|(name, _)| name).collect(),
    );
    assert_eq!(has, wanted, "those that are checked, in their order");
    assert_shape(&circuits["circuits"]["refused"], &circuit(), "circuits");
    let mut named = circuit();
    named["dependency"] = json!("string");
    let one = agent.get("/circuits/refused").await.json();
    assert_shape(&one, &named, "circuit");
    assert_eq!(one["dependency"], "refused");
    assert!(one["failures_by_kind"]["connect_refused"].is_u64());
    let settings = [&one["failure_threshold"], &one["recovery_timeout_seconds"], &one["success_threshold"]];
    assert_eq!(settings, [&json!(3), &json!(0.5), &json!(3)]);

    let health = agent.get("/health").await.json();
    assert_shape(
        &health,
        &json!({"status": "string", "version": "string", "serviceId": "string", "description": "string",
                "checks": "map"}),
        "health",
    );
    let measured = &health["checks"]["database:responseTime"][0];
    assert_shape(
        measured,
        &json!({"componentType": "string", "status": "string", "observedValue": "number",
                "observedUnit": "string", "time": "time"}),
        "health",
    );
    assert_eq!(health["checks"]["refused:responseTime"][0]["output"], "connect_refused");
    assert_eq!(health["checks"].get("mlflow:responseTime"), None, "it is not enabled");
}

/// A service that is well, beside a dependency that is not.
async fn mixed() -> (tcp::Peer, Config, Agent) {
    let peer = tcp::mute().await;
    let at = |name: &str, host: &str, port: u16, impact: &str| {
        on("tcp", name, json!({"host": host, "port": port, "impact": impact, "timeout": "5s"}))
    };
    let config = Config::quick([
        at("port", "127.0.0.1", peer.address().port(), "critical"),
        at("refused", "127.0.0.1", tcp::refused_port(), "degraded"),
        at("lost", "secret-host.invalid", 5432, "degraded"),
    ]);
    let agent = config.agent().await;
    for name in ["port", "refused", "lost"] {
        agent.until_dependency(name, |it| it["last_check"].is_object(), "a result").await;
    }
    (peer, config, agent)
}

/// What is answered at once, also over HTTP/2.
pub const SHORT: [&str; 7] =
    ["/health/live", "/livez", "/health/ready", "/readyz", "/health/alb", "/health/startup", "/health"];
const OPERATORS: [&str; 7] = [
    "/health/detailed",
    "/health/dependencies/port",
    "/health/config",
    "/circuits",
    "/circuits/port",
    "/history",
    "/openapi.json",
];

fn header_names(answer: &Response) -> BTreeSet<String> {
    answer.headers.keys().map(ToString::to_string).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_headers_and_errors_are_as_promised() {
    let (_peer, _config, agent) = mixed().await;
    for path in [&SHORT[..], &OPERATORS].concat() {
        let answer = agent.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {answer}");
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
        let expected = if path == "/health" { "application/health+json" } else { "application/json" };
        assert_eq!(answer.header("content-type"), expected, "{path}");
        assert!(!answer.header("x-correlation-id").is_empty(), "{path}");
        assert!(answer.json().is_object(), "{path}");
        if path != "/history" {
            let answer = agent.get(&format!("{path}?verbose=1&x")).await;
            assert_eq!(answer.status, 200, "{path}: a query is ignored");
        }

        let head = agent.request(Method::HEAD, path, &[], "").await;
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
        assert_eq!(header_names(&head), header_names(&answer), "{path}");
        if SHORT.contains(&path) {
            assert_eq!(head.header("content-length"), answer.body.len().to_string(), "{path}");
        }

        for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS] {
            let answer = agent.request(method.clone(), path, &[], "{}").await;
            assert_eq!(answer.status, 405, "{method} {path}: {answer}");
            assert_eq!(answer.header("allow"), "GET, HEAD", "{method} {path}");
            assert_eq!(answer.json()["error"]["code"], "method_not_allowed", "{method} {path}");
            assert_eq!(answer.header("cache-control"), "no-store");
        }
    }
    for (path, code) in [
        ("/nothing", "not_found"),
        ("/health/", "not_found"),
        ("/health/ready/", "not_found"),
        ("/HEALTH", "not_found"),
        ("/health//live", "not_found"),
        ("/health/../health", "not_found"),
        ("/health/dependencies/", "not_found"),
        ("/health/dependencies/nobody", "unknown_dependency"),
        ("/circuits/nobody", "unknown_dependency"),
        ("/circuits/port/shut", "not_found"),
        ("/checks", "not_found"),
        ("/%2e%2e/etc/passwd", "not_found"),
    ] {
        let answer = agent.get(path).await;
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (404, &json!(code)), "{path}: {answer}");
        assert_shape(
            &answer.json(),
            &json!({"error": {"code": "string", "message": "string", "correlation_id": "string"}}),
            path,
        );
        assert_eq!(answer.header("content-type"), "application/json", "{path}");
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
    }
    let unknown = agent.get("/circuits/nobody").await.json();
    assert!(
        unknown["error"]["message"].as_str().is_some_and(|it| it.contains("port, refused, lost")),
        "{unknown}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn correlation_ids_are_echoed_where_they_are_harmless_and_else_made() {
    let (_peer, _config, agent) = mixed().await;
    let longest = "x".repeat(128);
    let send =
        async |id: &str, path: &str| agent.request(Method::GET, path, &[("x-correlation-id", id)], "").await;
    for id in ["abc-123", "{\"}", longest.as_str()] {
        assert_eq!(send(id, "/health/live").await.header("x-correlation-id"), id);
        let lost = send(id, "/nothing").await;
        assert_eq!(lost.header("x-correlation-id"), id);
        assert_eq!(lost.json()["error"]["correlation_id"], id);
    }
    for id in ["", "two words", "tab\there", &"x".repeat(129)] {
        let answer = send(id, "/nothing").await;
        let made = answer.header("x-correlation-id");
        assert!(made.len() == 36 && made != id, "{made}");
        assert_eq!(answer.json()["error"]["correlation_id"], made);
    }
    let (one, two) = (agent.get("/livez").await, agent.get("/livez").await);
    assert_ne!(one.header("x-correlation-id"), two.header("x-correlation-id"));
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_told_no_names_and_no_messages() {
    let (peer, _config, agent) = mixed().await;
    let port = peer.address().port().to_string();
    for path in SHORT {
        let answer = agent.get(path).await;
        for private in ["secret-host", "127.0.0.1", "invalid", &port, "connection", "message", "hint"] {
            assert!(!answer.body.contains(private), "{path} tells {private}: {answer}");
        }
    }
    for (path, alias) in [("/health/live", "/livez"), ("/health/ready", "/readyz")] {
        assert_eq!(agent.get(path).await.body, agent.get(alias).await.body);
    }
    let ready = agent.get("/health/ready").await.json();
    let reason = json!({"dependency": "string", "status": "string", "failure_kind": "string"});
    assert_shape(&ready, &json!({"status": "string", "reasons": [reason]}), "ready");
    assert_eq!(ready["reasons"].as_array().map(Vec::len), Some(2), "{ready}");
    assert_eq!(agent.get("/health/live").await.json(), json!({"status": "up", "reasons": []}));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_makes_a_check() {
    let peer = tcp::mute().await;
    let more = json!({"host": "127.0.0.1", "port": peer.address().port(), "interval": "1h"});
    let config = Config::quick([on("tcp", "port", more)]);
    let agent = config.agent().await;
    let first = agent.until_dependency("port", |it| it["last_check"].is_object(), "the first check").await;
    assert_eq!(peer.until_accepted(1).await, 1);
    let paths = [&SHORT[..], &OPERATORS].concat();
    for n in 0..1_000 {
        let path = paths[n % paths.len()];
        assert_eq!(agent.get(path).await.status, 200, "{path}");
    }
    assert_eq!(peer.accepted(), 1, "1,000 requests, and not one connection");
    let last = agent.dependency("port").await;
    assert_eq!(last["last_check"]["check_id"], first["last_check"]["check_id"]);
}
