//! The agent finds out by itself why a check failed; and where it runs.

use serde_json::{Value, json};

use crate::support::agent::{Agent, Env};
use crate::support::config::{Config, failure, on, on_postgres, quick};
use crate::support::http::{Answer, HttpServer};
use crate::support::postgres::{Postgres, PostgresOptions};
use crate::support::tcp;

/// The lines of the log that tell of a diagnosis.
fn told(agent: &Agent) -> Vec<Value> {
    agent.logs().into_iter().filter(|line| !line["cause"].is_null()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_stops_is_explained_once_and_its_checks_go_on() {
    let mut database = Postgres::start(PostgresOptions::default()).await;
    let config = Config::quick([
        on_postgres("database", &database, json!({"circuit": {"failure_threshold": 1000}})),
        on(
            "tcp",
            "silenced",
            json!({
                "host": "127.0.0.1", "port": tcp::refused_port(), "diagnose_on_failure": false,
            }),
        ),
    ]);
    let agent = config.agent().await;
    let well = agent.until_dependency("database", |it| it["status"] == "up", "a success").await;
    assert_eq!(well["last_failure"], Value::Null);

    database.stop().await;
    let explained = |it: &Value| !it["last_failure"]["diagnosis"].is_null();
    let seen = agent.until_dependency("database", explained, "a diagnosis").await;
    let found = &seen["last_failure"]["diagnosis"];
    assert_eq!(failure(&seen)[1], "connect_refused", "{seen:#}");
    assert_eq!(found["verdict"]["cause"], "refused", "{found:#}");
    assert_eq!(found["verdict"]["confidence"], "likely", "a firewall could answer so, too: {found:#}");
    assert_eq!((&found["ok"], &found["dependency"]), (&json!(false), &json!("database")));
    let line = agent.until_logged(|line| !line["cause"].is_null(), "a diagnosis").await;
    assert_eq!((&line["level"], &line["dependency"]), (&json!("WARN"), &json!("database")), "{line}");
    assert_eq!((&line["cause"], &line["confidence"]), (&json!("refused"), &json!("likely")), "{line}");
    assert_eq!(line["check_id"], found["check_id"], "of the check that it explains");
    assert!(line["message"].as_str().is_some_and(|it| it.starts_with("diagnosis, likely: ")), "{line}");

    // It stays with the outage, whose checks go on and count as they would without it.
    let later = |it: &Value| it["circuit"]["consecutive_failures"].as_u64() >= Some(10);
    let seen = agent.until_dependency("database", later, "ten failures").await;
    assert_eq!(&seen["last_failure"]["diagnosis"], found);
    assert_ne!(seen["last_failure"]["check_id"], found["check_id"]);
    let circuit = &seen["circuit"];
    assert_eq!(circuit["failures"], circuit["consecutive_failures"], "it is no check: {circuit:#}");
    assert_eq!(told(&agent).len(), 1, "{}", agent.output());
    let silenced = agent.dependency("silenced").await;
    assert_eq!(silenced["last_failure"]["diagnosis"], Value::Null, "{silenced:#}");
    assert_eq!(failure(&silenced)[1], "connect_refused");

    database.restart().await;
    let seen = agent.until_dependency("database", |it| it["last_check"]["ok"] == true, "a success").await;
    assert_eq!(&seen["last_failure"]["diagnosis"], found, "it stays to be read");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_task_is_shown_once_its_metadata_can_be_read() {
    let metadata = HttpServer::start(Answer::status(503)).await;
    let sample = include_str!("../data/ecs-task-v4.json");
    let env = Env::new().set("ECS_CONTAINER_METADATA_URI_V4", metadata.url("/v4/2b88376f"));
    let config = Config::of(&quick([]));
    let agent = Agent::start_with(&["--config", config.path()], &env).await;
    let first = agent.get("/health/detailed").await.json();
    assert_eq!(first["task"], Value::Null, "it answers without waiting for them");
    metadata.answer_at("/v4/2b88376f/task", Answer::status(200).body(sample));
    let wanted = |it: &crate::support::client::Response| !it.json()["task"].is_null();
    let seen = agent.until("/health/detailed", wanted, "the task").await.json();
    let expected = json!({
        "cluster": "arn:aws:ecs:eu-central-1:111122223333:cluster/shop",
        "task_arn": "arn:aws:ecs:eu-central-1:111122223333:task/shop/2b88376f5a4e4a0d9f0c5d1c8a3b7e60",
        "family": "api", "revision": "42", "availability_zone": "eu-central-1a",
        "networks": [{
            "addresses": ["10.0.2.106"], "subnet": "10.0.2.0/24", "gateway": "10.0.2.1", "nameservers": ["10.0.0.2"],
        }],
    });
    assert_eq!(seen["task"], expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_that_are_none_are_told_and_nothing_waits_for_them() {
    for (answer, why) in [
        (Answer::status(200).body("x".repeat(65 * 1024)), "length limit exceeded"),
        (Answer::status(200).body("[".repeat(10_000)), "recursion limit exceeded"),
        (Answer::status(200).body("{}"), "no field of a task"),
        (Answer::never(), "no whole answer within 1s"),
    ] {
        let metadata = HttpServer::start(answer).await;
        let env = Env::new().set("ECS_CONTAINER_METADATA_URI_V4", metadata.url("/v4/x"));
        let agent = Agent::start(&env).await;
        let wanted = |line: &Value| {
            let message = line["message"].as_str().unwrap_or_default();
            message.starts_with("the task's metadata cannot be read yet") && message.contains(why)
        };
        agent.until_logged(wanted, why).await;
        assert_eq!(agent.get("/health/detailed").await.json()["task"], Value::Null);
    }
    let elsewhere = Env::new().set("ECS_CONTAINER_METADATA_URI_V4", "http://metadata.internal/v4/x");
    let agent = Agent::start(&elsewhere).await;
    let line = agent
        .until_logged(
            |line| {
                line["level"] == "WARN"
                    && line["message"].as_str().is_some_and(|it| it.contains("metadata are not read"))
            },
            "a refusal",
        )
        .await;
    assert!(line["message"].as_str().is_some_and(|it| it.contains("link-local")), "{line}");
}
