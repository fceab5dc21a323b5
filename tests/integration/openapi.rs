//! `/openapi.json` is valid, complete, and true: every answer of a running agent is held against it.

use hyper::Method;
use serde_json::{Value, json};

use crate::endpoints::agent_with_every_kind;
use crate::support::agent::Agent;
use crate::support::config::{Config, on, on_postgres};
use crate::support::postgres::{Postgres, PostgresOptions};
use crate::support::{python, tcp};

/// What the agent answers to each path that the document has, by `GET` and `HEAD`. The names stand in for
/// `{name}`.
async fn ask(agent: &Agent, names: &[&str], answers: &mut Vec<Value>) -> Value {
    let document = agent.get("/openapi.json").await.json();
    let paths: Vec<String> = document["paths"].as_object().expect("a map").keys().cloned().collect();
    for pattern in &paths {
        let mut targets: Vec<String> = names.iter().map(|name| pattern.replace("{name}", name)).collect();
        targets.dedup();
        if pattern == "/history" {
            targets.extend(names.iter().map(|name| format!("/history?dependency={name}&limit=1000")));
            targets.push("/history?limit=0".to_owned());
        }
        for (target, method) in targets.iter().flat_map(|it| [(it, Method::GET), (it, Method::HEAD)]) {
            let answer = agent.request(method.clone(), target, &[], "").await;
            answers.push(json!({
                "path": pattern, "method": method.as_str().to_lowercase(), "code": answer.status,
                "type": answer.header("content-type"), "body": answer.body,
            }));
        }
    }
    document
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_valid_and_every_answer_is_as_it_says() {
    let mut answers = Vec::new();
    // All that is well, one that is not, one that is disabled, one that nobody knows.
    let (agent, _servers) = agent_with_every_kind().await;
    let names = ["database", "redis", "service", "port", "names", "refused", "mlflow", "nobody"];
    let document = ask(&agent, &names, &mut answers).await;
    let refused = agent.request(Method::POST, "/health/alb", &[], "{}").await;
    answers.push(json!({
        "path": "/health/alb", "method": "get", "code": refused.status, "type": refused.header("content-type"),
        "body": refused.body,
    }));

    // A task that was born broken, and one dependency that is down after it was up.
    let database = Postgres::start(PostgresOptions::default()).await;
    let peer = tcp::mute().await;
    let config = Config::quick([
        on_postgres("database", &database, json!({"password": "wrong", "interval": "1m"})),
        on("tcp", "port", json!({"host": "127.0.0.1", "port": peer.address().port()})),
    ]);
    let agent = config.agent().await;
    agent.until("/health/alb", |it| it.json()["status"] == "down", "a fault of this task").await;
    agent.until_dependency("port", |it| it["status"] == "up", "a success").await;
    drop(peer);
    agent.until_dependency("port", |it| it["circuit"]["opens"] != 0, "an open circuit").await;
    assert_eq!(ask(&agent, &["database", "port"], &mut answers).await, document);

    let told = python::run("openapi.py", &json!({"document": document, "answers": answers}).to_string());
    let told: Vec<&str> = told.lines().filter(|line| !line.is_empty()).collect();
    // The agent's own loops do not hang while they answer.
    assert_eq!(
        told,
        [
            "unseen get /health/live 503",
            "unseen head /health/live 503",
            "unseen get /livez 503",
            "unseen head /livez 503",
        ]
    );
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn the_validator_finds_what_it_should() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]});
    let response = json!({"description": "x", "content": {"application/json": {"schema": schema}}});
    let document = json!({
        "openapi": "3.1.0", "info": {"title": "x", "version": "1"},
        "paths": {"/a": {"get": {"responses": {"200": response}}}},
    });
    let found = |document: &Value, path: &str, code: u16, kind: &str, body: Value| {
        let answer =
            json!({"path": path, "method": "get", "code": code, "type": kind, "body": body.to_string()});
        let told = python::run("openapi.py", &json!({"document": document, "answers": [answer]}).to_string());
        told.trim().to_owned()
    };
    let json = "application/json";
    assert_eq!(found(&document, "/a", 200, json, json!({"a": "x"})), "");
    for (path, code, kind, body, expected) in [
        ("/a", 200, json, json!({"a": 1}), "1 is not of type 'string' at /a"),
        ("/a", 200, json, json!({}), "'a' is a required property"),
        ("/a", 200, json, json!({"a": "x", "b": 1}), "'b' was unexpected"),
        ("/a", 200, "text/plain", json!({"a": "x"}), "does not have the type text/plain"),
        ("/a", 500, json, json!({"a": "x"}), "get /a 500: the document does not have it\nunseen get /a 200"),
        ("/b", 200, json, json!({"a": "x"}), "get /b 200: the document does not have it\nunseen get /a 200"),
    ] {
        let told = found(&document, path, code, kind, body);
        assert!(told.contains(expected), "{expected}: {told}");
    }
    let mut broken = document;
    broken["paths"]["/a"]["get"]["responses"]["200"].as_object_mut().expect("a map").remove("description");
    let told = found(&broken, "/a", 200, json, json!({"a": "x"}));
    assert!(told.contains("'description' is a required property"), "{told}");
}
