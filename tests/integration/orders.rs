//! Orders to the built agent: who may, from where, what is told of it, and what becomes of nonsense.
//!
//! How each refusal looks is tested beside the code (`src/http/orders/tests.rs`).

use std::net::{Ipv4Addr, SocketAddr};

use hyper::Method;
use serde_json::{Value, json};

use crate::support::agent::{Agent, Env};
use crate::support::client;
use crate::support::config::{Config, on, quick};
use crate::support::{ports, tcp};

mod fuzz;

/// A token that may do everything.
const ADMIN: &str = "admin-0123456789";
/// One that may open circuits.
const OPENER: &str = "opener-0123456789";
/// One that may read.
const READER: &str = "reader-0123456789";

/// A configuration with these tokens, and a port that is well, asked once an hour.
async fn config(operator: Value) -> (Config, tcp::Peer) {
    let peer = tcp::mute().await;
    let more = json!({"host": "127.0.0.1", "port": peer.address().port(), "interval": "1h"});
    let mut content = quick([on("tcp", "port", more)]);
    content["server"]["admin_token"] = json!(ADMIN);
    content["server"]["admin_tokens"] = json!([
        {"name": "opener", "token": OPENER, "allow": ["open"]},
        {"name": "reader", "token": READER, "allow": ["read"]},
    ]);
    content["server"]["operator"] = operator;
    (Config::of(&content), peer)
}

async fn start(config: &Config, env: &Env) -> Agent {
    let agent = Agent::start_with(&["--config", config.path()], env).await;
    agent.until("/health/ready", |it| it.status == 200, "a first result").await;
    agent
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// The paths of the document and the methods that it has for each, with `name` for the name.
fn described(document: &Value, name: &str) -> Vec<(String, Method)> {
    let paths = document["paths"].as_object().expect("a map");
    let methods = |path: &str, item: &Value| {
        let path = path.replace("{name}", name);
        let methods: Vec<_> = item.as_object().expect("a map").keys().cloned().collect();
        methods.into_iter().map(move |method| {
            (path.clone(), Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method"))
        })
    };
    paths.iter().flat_map(|(path, item)| methods(path, item)).collect()
}

/// Each answer shows what was ordered, and so does the next question, whatever that is.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_ordered_is_done_when_it_is_answered() {
    let (config, _peer) = config(json!({})).await;
    let agent = start(&config, &Env::new()).await;
    let order = async |path: &str, body: Value| {
        let headers = [
            ("authorization", &*bearer(ADMIN)),
            ("content-type", "application/json"),
            ("x-correlation-id", "of-the-order"),
        ];
        let answer = agent.request(Method::POST, path, &headers, &body.to_string()).await;
        assert_eq!(answer.status, 200, "{path}: {answer}");
        answer.json()
    };
    let open = json!({"reason": "moving house", "for": "30m", "readiness": "ignore"});
    let held = order("/circuits/port/open", open).await;
    let over = &held["override"];
    assert_eq!((&held["dependency"], &held["state"]), (&json!("port"), &json!("open")), "{held}");
    let said = ["mode", "reason", "actor", "readiness"].map(|field| over[field].as_str().unwrap_or_default());
    assert_eq!(said, ["forced_open", "moving house", "admin", "ignore"]);
    let moment = |value: &Value| value.as_str().expect("a time").parse::<jiff::Timestamp>().expect("a time");
    let lasts = moment(&over["expires_at"]).as_millisecond() - moment(&over["since"]).as_millisecond();
    assert_eq!(lasts, 30 * 60 * 1000);
    assert_eq!(agent.get("/circuits/port").await.json()["override"], *over);
    assert_eq!(agent.dependency("port").await["status"], "down");
    assert_eq!(agent.get("/health/ready").await.status, 200, "it gates nothing");

    order("/circuits/port/open", json!({"reason": "it counts"})).await;
    assert_eq!(agent.get("/health/ready").await.status, 503, "what is said later holds");
    let closed = order("/circuits/port/close", json!({"reason": "trust me", "for": "1h30m"})).await;
    assert_eq!((&closed["state"], &closed["override"]["mode"]), (&json!("closed"), &json!("forced_closed")));
    assert_eq!(agent.get("/health/ready").await.status, 200);

    let (first, second) = (order("/checks/port", json!({})).await, order("/checks/port", json!({})).await);
    let ids = [first, second, agent.dependency("port").await].map(|it| {
        assert_eq!(it["last_check"]["ok"], true, "{it}");
        it["last_check"]["check_id"].clone()
    });
    assert!(ids[0] != ids[1] && ids[1] == ids[2], "each order is a check of its own: {ids:?}");

    let reset = order("/circuits/port/reset", json!({})).await;
    assert_eq!(reset["override"], Value::Null);
    agent.until_dependency("port", |it| it["circuit"]["state"] == "closed", "that trials succeed").await;

    let told = |line: &Value| line["target"] == "audit" && line["action"] == "reset";
    agent.until_logged(told, "the last order").await;
    let audit: Vec<Value> = agent.logs().into_iter().filter(|line| line["target"] == "audit").collect();
    let fields = |line: &Value| {
        json!([line["level"], line["action"], line["dependency"], line["actor"], line["code"]])
    };
    let expected = ["open", "open", "close", "check", "check", "reset"];
    let expected = expected.map(|action| json!(["INFO", action, "port", "admin", 200]));
    assert_eq!(audit.iter().map(fields).collect::<Vec<_>>(), expected);
    assert!(audit.iter().all(|line| line["correlation_id"] == "of-the-order"), "{audit:?}");
    assert_eq!((&audit[0]["reason"], &audit[0]["for_seconds"]), (&json!("moving house"), &json!(1800.0)));
    assert!(!agent.output().contains(ADMIN));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_order_wants_a_token_and_is_taken_by_post_only() {
    let (config, _peer) = config(json!({})).await;
    // A filter that lets no more than warnings through does not silence the audit.
    let agent = start(&config, &Env::new().set("SICKBAY_LOG", "error")).await;
    let document = agent.get("/openapi.json").await.json();
    let orders: Vec<String> = described(&document, "port")
        .into_iter()
        .filter(|(_, method)| *method == Method::POST)
        .map(|(path, _)| path)
        .collect();
    assert_eq!(orders.len(), 4, "{orders:?}");
    let before = agent.get("/circuits/port").await.json();
    for path in &orders {
        let send = async |method: Method, headers: &[(&str, &str)], body: &str| {
            let answer = agent.request(method.clone(), path, headers, body).await;
            assert!(
                !answer.headers.keys().any(|name| name.as_str().starts_with("access-control")),
                "{method} {path}: {answer}"
            );
            answer
        };
        let (admin, opener, reader) = (bearer(ADMIN), bearer(OPENER), bearer(READER));
        for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS]
        {
            let headers = [("authorization", &*admin), ("content-type", "application/json")];
            let answer = send(method.clone(), &headers, "").await;
            assert_eq!((answer.status, answer.header("allow")), (405, "POST"), "{method} {path}");
        }
        let preflight = [("origin", "http://elsewhere.test"), ("access-control-request-method", "POST")];
        assert_eq!(send(Method::OPTIONS, &preflight, "").await.status, 405, "{path}");
        for (headers, code, error) in [
            (&[][..], 401, "token_required"),
            (&[("authorization", "Basic eDp4")], 401, "token_invalid"),
            (&[("authorization", "Bearer nonsense")], 401, "token_invalid"),
            (&[("authorization", &*reader)], 403, "forbidden"),
        ] {
            let answer = send(Method::POST, headers, r#"{"reason": "test"}"#).await;
            assert_eq!((answer.status, &answer.json()["error"]["code"]), (code, &json!(error)), "{path}");
            assert_eq!(answer.header("www-authenticate") == "Bearer", code == 401, "{path}");
        }
        let may = path.ends_with("/open");
        let answer = send(Method::POST, &[("authorization", &opener)], "x").await;
        assert_eq!(answer.status, if may { 415 } else { 403 }, "{path}: {answer}");
        let long = format!(r#"{{"reason": "{}"}}"#, "x".repeat(4096));
        let headers = [("authorization", &*admin), ("content-type", "application/json")];
        for (body, code) in [("[]", 400), (r#"{"why": "x"}"#, 400), (long.as_str(), 413)] {
            assert_eq!(send(Method::POST, &headers, body).await.status, code, "{path}");
        }
        assert_eq!(send(Method::POST, &headers[..1], "{}").await.status, 415, "{path}");
    }
    let after = agent.get("/circuits/port").await.json();
    let past = |circuit: &Value| {
        ["state", "since", "override", "opens", "successes", "failures", "transitions"]
            .map(|it| circuit[it].clone())
    };
    assert_eq!(past(&before), past(&after), "nothing of it did anything");

    let told = |line: &Value| line["target"] == "audit" && line["error"] == "payload_too_large";
    let line = agent.until_logged(told, "the audit").await;
    assert_eq!((&line["actor"], &line["dependency"]), (&json!("admin"), &json!("port")), "{line}");
    assert!(agent.logs().iter().all(|line| line["target"] == "audit"), "{}", agent.output());
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_tokens_are_throttled_and_nothing_else_is() {
    let (config, _peer) = config(json!({"require_token_for_reads": true})).await;
    let agent = start(&config, &Env::new()).await;
    let bad = bearer("nonsense");
    let read =
        async |token: &str| agent.request(Method::GET, "/circuits", &[("authorization", token)], "").await;
    for _ in 0..10 {
        assert_eq!(read(&bad).await.status, 401);
    }
    let throttled = read(&bad).await;
    assert_eq!(throttled.status, 429, "{throttled}");
    let wait: u64 = throttled.header("retry-after").parse().expect("seconds");
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(read(&bearer(READER)).await.status, 200);
    assert_eq!(read(&bearer(OPENER)).await.status, 403);
    assert_eq!(agent.get("/circuits").await.status, 401, "none at all is no guess");
    assert_eq!(agent.get("/health/ready").await.status, 200);
    // Far more than are told one by one.
    for _ in 0..30 {
        assert_eq!(read(&bad).await.status, 429);
    }
    let summed = |line: &Value| line["target"] == "audit" && line["attempts"].as_u64() > Some(0);
    agent.until_logged(summed, "how many were not told").await;
    let told = agent.logs().into_iter().filter(|line| line["error"] == "too_many_bad_tokens").count();
    assert!(told < 20, "{told}");
}

/// What the document lists is walked, so that no endpoint that comes later is forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn on_the_load_balancers_port_nothing_but_health_answers() {
    let operator = SocketAddr::from((Ipv4Addr::LOCALHOST, ports::spare()));
    let (config, _peer) = config(json!({"listen": operator.to_string()})).await;
    let agent = start(&config, &Env::new()).await;
    let document = client::get(operator, "/openapi.json").await.expect("an answer").json();
    let (token, reason) = (bearer(OPENER), r#"{"why": "no order"}"#);
    let headers = [("authorization", &*token), ("content-type", "application/json")];
    let nowhere = agent.request(Method::GET, "/nowhere", &headers, "").await;
    let (mut health, mut operators) = (0, 0);
    for (path, method) in described(&document, "port") {
        let body = if method == Method::POST { reason } else { "" };
        let first = agent.request(method.clone(), &path, &headers, body).await;
        let second =
            client::request(operator, method.clone(), &path, &headers, body).await.expect("an answer");
        assert_ne!(second.status, 404, "{method} {path}: {second}");
        let tags = &document["paths"][path.replace("port", "{name}")][method.as_str().to_lowercase()]["tags"];
        if *tags == json!(["everybody"]) {
            health += 1;
            assert_eq!(first.status, second.status, "{method} {path}");
            assert!(path.starts_with("/health") || path == "/livez" || path == "/readyz", "{path}");
        } else {
            operators += 1;
            assert_eq!(first.status, 404, "{method} {path}: {first}");
            if method != Method::HEAD {
                let message = |it: &client::Response| it.json()["error"]["message"].clone();
                assert_eq!(message(&first), message(&nowhere), "a stranger is told nothing of it");
            }
        }
        // No method gets round it, and no query.
        if *tags != json!(["everybody"]) {
            for method in [Method::GET, Method::POST, Method::PUT, Method::OPTIONS, Method::DELETE] {
                for path in [path.clone(), format!("{path}?x=/livez"), format!("{path}/"), format!("/{path}")]
                {
                    let answer = agent.request(method.clone(), &path, &headers, body).await;
                    assert_eq!(answer.status, 404, "{method} {path}: {answer}");
                }
            }
        }
    }
    assert_eq!((health, operators), (14, 18), "seven paths; seven more, and four orders");
    assert!(!agent.output().contains(OPENER));
}
