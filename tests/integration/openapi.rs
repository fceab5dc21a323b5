//! `/openapi.json` is valid, complete, and true: every answer of a running agent is held against it.

use std::sync::LazyLock;

use hyper::Method;
use serde_json::{Value, json};

use crate::endpoints::agent_with_every_kind;
use crate::support::agent::Agent;
use crate::support::config::{Config, on, on_postgres, quick};
use crate::support::postgres::{Postgres, PostgresOptions};
use crate::support::scratch::Folder;
use crate::support::{python, tcp};

/// What the agent answers to each path that the document has, by each method that it has for it. The names stand in for
/// `{name}`.
async fn ask(agent: &Agent, names: &[&str], answers: &mut Vec<Value>) -> Value {
    let document = agent.get("/openapi.json").await.json();
    for (pattern, item) in document["paths"].as_object().expect("a map") {
        let mut targets: Vec<String> = names.iter().map(|name| pattern.replace("{name}", name)).collect();
        targets.dedup();
        if pattern == "/history" {
            targets.extend(names.iter().map(|name| format!("/history?dependency={name}&limit=1000")));
            targets.push("/history?limit=0".to_owned());
        }
        for (method, target) in
            item.as_object().expect("a map").keys().flat_map(|it| targets.iter().map(move |to| (it, to)))
        {
            let requests: &[(&[(&str, &str)], &str)] =
                if method == "post" { &orders() } else { &[(&[], "")] };
            for (headers, body) in requests {
                answers.push(answer(agent, pattern, method, target, headers, body).await);
            }
        }
    }
    document
}

/// Answers of an agent whose operators want a token for reads: to none, to one that is not for that, and to many bad ones.
async fn ask_without_a_right(agent: &Agent, document: &Value, answers: &mut Vec<Value>) {
    let (opener, reader) = ("Bearer opener-0123456789", "Bearer reader-0123456789");
    let bad = &[("authorization", "Bearer nonsense")][..];
    for _ in 0..10 {
        agent.request(Method::GET, "/circuits", bad, "").await;
    }
    for (pattern, item) in document["paths"].as_object().expect("a map") {
        for method in item.as_object().expect("a map").keys() {
            let target = pattern.replace("{name}", "port");
            let lacking = &[("authorization", if method == "post" { reader } else { opener })][..];
            for headers in [&[][..], lacking, bad] {
                // Anybody may ask for these.
                if item[method]["tags"] == json!(["operators"]) {
                    answers.push(answer(agent, pattern, method, &target, headers, "").await);
                }
            }
        }
    }
}

const ADMIN: (&str, &str) = ("authorization", "Bearer admin-0123456789");
const JSON: (&str, &str) = ("content-type", "application/json");

/// What to send by `POST`: what is right, and what is wrong in each way.
fn orders() -> [(&'static [(&'static str, &'static str)], &'static str); 5] {
    static LONG: LazyLock<String> = LazyLock::new(|| "x".repeat(5_000));
    [
        (&[ADMIN, JSON], r#"{"reason": "a test"}"#),
        (&[ADMIN, JSON], r#"{"reason": 1}"#),
        (&[ADMIN, JSON], &LONG),
        (&[ADMIN], "{}"),
        (&[], ""),
    ]
}

async fn answer(
    agent: &Agent,
    pattern: &str,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Value {
    let by = Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method");
    let answer = agent.request(by, target, headers, body).await;
    json!({
        "path": pattern, "method": method, "code": answer.status, "type": answer.header("content-type"),
        "body": answer.body,
    })
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
    let mut content = quick([
        on_postgres("database", &database, json!({"password": "wrong", "interval": "1m"})),
        on("tcp", "port", json!({"host": "127.0.0.1", "port": peer.address().port()})),
    ]);
    content["server"]["admin_token"] = json!("admin-0123456789");
    let config = Config::of(&content);
    let agent = config.agent().await;
    agent.until("/health/alb", |it| it.json()["status"] == "down", "a fault of this task").await;
    agent.until_dependency("port", |it| it["status"] == "up", "a success").await;
    drop(peer);
    agent.until_dependency("port", |it| it["circuit"]["opens"] != 0, "an open circuit").await;
    assert_eq!(ask(&agent, &["database", "port", "nobody"], &mut answers).await, document);

    for path in ["/circuits/{name}/open", "/checks/{name}"] {
        let target = path.replace("{name}", "port");
        let held = answer(&agent, path, "post", &target, &[ADMIN, JSON], r#"{"reason": "a test"}"#).await;
        assert_eq!(held["code"], if path.starts_with("/checks") { 409 } else { 200 }, "{held}");
        answers.push(held);
    }

    content["server"]["operator"] = json!({"require_token_for_reads": true});
    content["server"]["admin_tokens"] = json!([
        {"name": "opener", "token": "opener-0123456789", "allow": ["open"]},
        {"name": "reader", "token": "reader-0123456789", "allow": ["read"]},
    ]);
    let config = Config::of(&content);
    let agent = config.agent().await;
    ask_without_a_right(&agent, &document, &mut answers).await;

    let told = python::run("openapi.py", &json!({"document": document, "answers": answers}).to_string());
    let told: Vec<&str> = told.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(
        told,
        [
            // No check and no runner panics, and orders come to an agent that is not being stopped.
            "unseen post /checks/{name} 500",
            "unseen post /checks/{name} 503",
            "unseen post /circuits/{name}/close 503",
            "unseen post /circuits/{name}/open 503",
            "unseen post /circuits/{name}/reset 503",
            // The agent's own loops do not hang while they answer.
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
    assert!(told.contains("is a required property"), "{told}");
}

/// Requests that somebody else's program makes of the document, right ones and wrong ones: none is answered by a
/// server error, by a code or a type that the document does not have, or by an order that wants no token.
#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_nothing_undocumented() {
    let peer = tcp::mute().await;
    let port = json!({"host": "127.0.0.1", "port": peer.address().port(), "interval": "1h"});
    let mut content = quick([on("tcp", "port", port)]);
    content["server"]["admin_token"] = json!("admin-0123456789");
    let config = Config::of(&content);
    let agent = config.agent().await;
    agent.until("/health/ready", |it| it.status == 200, "a first result").await;
    // Names of its own, of which none is known; and one that is.
    for (name, seconds) in [(None, "15"), (Some("port"), "15")] {
        let folder = Folder::new("schemathesis");
        let name = name.map(|name| format!("[parameters]\n\"path.name\" = \"{name}\"\n"));
        // What it does not take for a refusal by itself is 413.
        let refusals =
            "[checks]\nnegative_data_rejection.expected-statuses = [400, 401, 403, 404, 405, 413, 415]\n";
        let settings = name.unwrap_or_default() + refusals;
        folder.write("schemathesis.toml", settings.as_bytes());
        let mut command = python::program("schemathesis");
        command.args(["--config-file", "schemathesis.toml", "run"]);
        command.arg(format!("http://{}/openapi.json", agent.address()));
        command.args(["--header", "Authorization: Bearer admin-0123456789"]);
        // Whether a duration is at most a day, or not zero, the document says in words only; so a value that it takes for
        // right may be refused.
        command.args(["--checks", "all", "--exclude-checks", "positive_data_acceptance"]);
        command.args([
            "--phases",
            "examples,coverage,fuzzing",
            "--max-examples",
            "50",
            "--max-time",
            seconds,
        ]);
        command.args(["--seed", "1", "--generation-database", "none", "--warnings", "off", "--no-color"]);
        command.current_dir(folder.path()).env("NO_PROXY", "*").env("PYTHONDONTWRITEBYTECODE", "1");
        let run = tokio::task::spawn_blocking(move || command.output().expect("it starts"));
        let output = run.await.expect("it ends");
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
        assert!(told.contains("No issues found"), "{told}");
    }
    assert_eq!(agent.get("/livez").await.status, 200);
}
