//! Fallbacks: while one of a pair is up, the pair is degraded and not down, in every answer.

use serde_json::{Value, json};

use crate::support::agent::Agent;
use crate::support::config::{Config, on_postgres};
use crate::support::postgres::{Postgres, PostgresOptions};

/// Status and code of everything that tells of `database`.
async fn answers(agent: &Agent) -> Value {
    let get = async |path: &str| {
        let answer = agent.get(path).await;
        (answer.status, answer.json())
    };
    let (ready, body) = get("/health/ready").await;
    let (alb, _) = get("/health/alb").await;
    let (startup, _) = get("/health/startup").await;
    let (health, health_body) = get("/health").await;
    let (_, detailed) = get("/health/detailed").await;
    let (_, database) = get("/health/dependencies/database").await;
    let reason =
        body["reasons"].as_array().and_then(|all| all.iter().find(|it| it["dependency"] == "database"));
    let groups = ["ready", "alb", "startup"].map(|group| &detailed["groups"][group]["code"]);
    json!({
        "codes": [ready, alb, startup, health],
        "groups": groups,
        "status": [&body["status"], &detailed["status"], &health_body["status"]],
        "database": [
            reason.map_or(&Value::Null, |reason| &reason["status"]),
            &detailed["dependencies"]["database"]["status"],
            &database["status"],
            &health_body["checks"]["database:responseTime"][0]["status"],
        ],
    })
}

fn degraded() -> Value {
    json!({
        "codes": [200, 200, 200, 200], "groups": [200, 200, 200],
        "status": ["degraded", "degraded", "warn"],
        "database": ["degraded", "degraded", "degraded", "warn"],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_is_degraded_in_every_answer_while_one_of_it_is_up() {
    let mut database = Postgres::start(PostgresOptions::default()).await;
    let mut replica = Postgres::start(PostgresOptions::default()).await;
    // Before anything: one that never came up, and by what only a bad deployment causes.
    let right = json!({});
    let wrong = json!({"password": "wrong"});
    let pair = |database: &Postgres, replica: &Postgres, more: &Value| {
        Config::quick([
            on_postgres("database", database, more.clone()),
            on_postgres("replica", replica, json!({"impact": "degraded", "fallback_of": "database"})),
        ])
    };
    let born_broken = pair(&database, &replica, &wrong);
    {
        let agent = born_broken.agent().await;
        agent.until("/health/ready", |it| it.json()["status"] == "degraded", "the replica").await;
        agent.until_dependency("database", |it| it["last_failure"].is_object(), "a failure").await;
        assert_eq!(answers(&agent).await, degraded());
    }
    let checked = born_broken.run(&["check", "--format", "json"]).await;
    assert_eq!(checked.code, Some(0), "{checked:?}");
    let report = checked.json();
    assert_eq!(
        (&report["ok"], &report["dependencies"]["database"]["status"]),
        (&json!(true), &json!("degraded"))
    );
    assert_eq!(report["dependencies"]["database"]["last_failure"]["failure_kind"], "auth_failed");
    let table = born_broken.run(&["check"]).await;
    assert!(
        table.stdout.contains("auth_failed") && table.stdout.contains("the pair is degraded"),
        "{table:?}"
    );
    // By its name it is asked for itself.
    assert_eq!(born_broken.run(&["check", "database"]).await.code, Some(1));
    assert_eq!(born_broken.run(&["check", "database", "replica"]).await.code, Some(1));
    assert_eq!(born_broken.run(&["wait", "--timeout", "10m"]).await.code, Some(0));

    // An outage of the one, and then of the other.
    let config = pair(&database, &replica, &right);
    let agent = config.agent().await;
    agent.until("/health/ready", |it| it.json()["status"] == "up", "both").await;
    database.stop().await;
    agent.until_dependency("database", |it| it["circuit"]["state"] == "open", "an open circuit").await;
    assert_eq!(answers(&agent).await, degraded());

    replica.stop().await;
    agent.until("/health/ready", |it| it.json()["status"] == "down", "that both are down").await;
    agent.until_dependency("database", |it| it["status"] == "down", "that it is down").await;
    let down = json!({
        // A shared outage: taking this task out would help nobody.
        "codes": [503, 200, 200, 503], "groups": [503, 200, 200],
        "status": ["down", "down", "fail"],
        "database": ["down", "down", "down", "fail"],
    });
    assert_eq!(answers(&agent).await, down);
    let checked = config.run(&["check"]).await;
    assert_eq!(checked.code, Some(1), "{checked:?}");
    assert!(!checked.stdout.contains("the pair is degraded"), "{checked:?}");

    replica.restart().await;
    agent.until_dependency("replica", |it| it["status"] == "up", "that it is back").await;
    assert_eq!(answers(&agent).await, degraded());

    // The other way round: the replica is down, and the database does without.
    replica.stop().await;
    database.restart().await;
    agent.until_dependency("database", |it| it["status"] == "up", "that it is back").await;
    agent.until_dependency("replica", |it| it["circuit"]["state"] == "open", "an open circuit").await;
    let without_replica = answers(&agent).await;
    assert_eq!(without_replica["codes"], json!([200, 200, 200, 200]));
    assert_eq!(without_replica["database"], json!([null, "up", "up", "pass"]));
    assert_eq!(agent.dependency("replica").await["status"], "degraded");
}
