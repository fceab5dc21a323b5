//! `/history`: what is remembered, in which order, and what may be asked.

use serde_json::{Value, json};

use crate::support::agent::Agent;
use crate::support::config::{Config, on};
use crate::support::http::{Answer, HttpServer};
use crate::support::tcp;

async fn checks(agent: &Agent, query: &str) -> Vec<Value> {
    let answer = agent.get(&format!("/history{query}")).await;
    assert_eq!(answer.status, 200, "{query}: {answer}");
    answer.json()["checks"].as_array().expect("a list").clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_are_told_newest_first_and_failures_are_kept_longest() {
    let service = HttpServer::start(Answer::status(500)).await;
    let peer = tcp::mute().await;
    let config = Config::quick([
        on(
            "http",
            "service",
            json!({"url": service.url("/"), "interval": "100ms", "retry": {"attempts": 1}}),
        ),
        on("tcp", "port", json!({"host": "127.0.0.1", "port": peer.address().port()})),
    ]);
    let agent = config.agent().await;
    let failed = agent.until_dependency("service", |it| it["circuit"]["failures"] != 0, "a failure").await;
    service.answer(Answer::status(200));
    let many = |it: &Value| it["circuit"]["successes"].as_u64() > Some(25);
    agent.until_dependency("service", many, "many successes").await;
    agent.until_dependency("port", |it| it["circuit"]["successes"] != 0, "a success").await;

    let of_service = checks(&agent, "?dependency=service").await;
    let (newest, oldest) = (&of_service[0], of_service.last().expect("checks"));
    assert!(of_service.iter().all(|check| check["dependency"] == "service"), "{of_service:?}");
    assert_eq!(
        (&newest["ok"], &newest["failure_kind"], &newest["hint"]),
        (&json!(true), &Value::Null, &Value::Null)
    );
    // More than 20 checks later the first failure is still there.
    assert_eq!((&oldest["ok"], &oldest["failure_kind"]), (&json!(false), &json!("unexpected_status")));
    assert_eq!(oldest["phase"], "query");
    assert!(oldest["message"].as_str().is_some_and(|it| it.contains("500")), "{oldest}");
    assert!(failed["last_failure"]["hint"] == oldest["hint"], "{oldest}");
    let succeeded = of_service.iter().filter(|check| check["ok"] == true).count();
    assert_eq!(succeeded, 20, "those that matter less are forgotten first");

    let all = checks(&agent, "").await;
    let ages: Vec<f64> = all.iter().filter_map(|check| check["age_seconds"].as_f64()).collect();
    assert!(ages.is_sorted() && ages.len() == all.len(), "{ages:?}");
    for name in ["service", "port"] {
        assert!(all.iter().any(|check| check["dependency"] == name), "{name}: {all:?}");
    }
    let few = checks(&agent, "?limit=3").await;
    assert_eq!(few.len(), 3);
    assert_eq!(checks(&agent, "?dependency=mlflow&limit=1000").await, Vec::<Value>::new(), "it is disabled");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_asked_is_told() {
    let config =
        Config::quick([on("tcp", "port", json!({"host": "127.0.0.1", "port": tcp::refused_port()}))]);
    let agent = config.agent().await;
    for (query, status, code, told) in [
        ("?limit=0", 400, "bad_request", "`limit` is \"0\"; a number from 1 to 1000 is allowed"),
        ("?limit=1001", 400, "bad_request", "from 1 to 1000"),
        ("?limit=many", 400, "bad_request", "from 1 to 1000"),
        ("?limit=1&limit=2", 400, "bad_request", "`limit` is there more than once"),
        ("?dependency=port&dependency=port", 400, "bad_request", "`dependency` is there more than once"),
        ("?name=port", 400, "bad_request", "there are `dependency` and `limit`"),
        (
            "?dependency=nobody",
            404,
            "unknown_dependency",
            "there are: database, redis, api, mlflow, dns, port",
        ),
        ("?dependency=", 404, "unknown_dependency", "there are: "),
        ("?dependency=nobody&limit=0", 400, "bad_request", "`limit`"),
    ] {
        let answer = agent.get(&format!("/history{query}")).await;
        let error = &answer.json()["error"];
        assert_eq!((answer.status, &error["code"]), (status, &json!(code)), "{query}: {answer}");
        assert!(error["message"].as_str().is_some_and(|it| it.contains(told)), "{query}: {answer}");
    }
    for query in ["?", "?limit=1000", "?limit=1", "?dependency=port", "?dependency=p%6Frt"] {
        checks(&agent, query).await;
    }
}
