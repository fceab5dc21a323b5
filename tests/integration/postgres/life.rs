//! Roles, limits, and the ends of a server's life.

use std::fs;

use serde_json::{Value, json};

use super::{plain, session};
use crate::support::agent::Signal;
use crate::support::config::{Config, WELL, check, failure, on_postgres};
use crate::support::postgres::{Postgres, PostgresOptions};
use crate::support::process::signal;
use crate::support::wait::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn exhausted_connection_slots_are_told_and_pass() {
    let conf = vec!["max_connections = 6\nsuperuser_reserved_connections = 3".to_owned()];
    let server = Postgres::start(PostgresOptions { conf, ..Default::default() }).await;
    server.sql("CREATE ROLE app LOGIN PASSWORD 'app'").await;
    let mut held = Vec::new();
    while let Ok(session) = session(&server).await {
        held.push(session);
        assert!(held.len() < 6, "there is no limit");
    }
    let app = || on_postgres("database", &server, json!({"user": "app", "password": "app"}));
    let seen = check([app()]).await;
    assert_eq!(failure(&seen["database"]), ["auth", "too_many_connections", "53300"], "{seen:#}");
    assert_eq!(seen["database"]["last_check"]["attempts"], 2, "it may pass");

    let config = Config::quick([app()]);
    let agent = config.agent().await;
    agent.until_dependency("database", |it| it["last_failure"].is_object(), "a failure").await;
    drop(held);
    agent.until_dependency("database", |it| it["status"] == "up", "recovery").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_is_not_the_expected_one_is_told() {
    let mut server = plain().await;
    let with = |server: &Postgres| {
        ["any", "primary", "replica"].map(|role| on_postgres(role, server, json!({"role": role})))
    };
    let seen = check(with(&server)).await;
    assert_eq!((failure(&seen["any"]), failure(&seen["primary"])), (WELL, WELL), "{seen:#}");
    assert_eq!(failure(&seen["replica"]), ["query", "wrong_role", "-"], "{seen:#}");
    assert_eq!(seen["replica"]["last_check"]["attempts"], 1);
    assert_eq!(seen["any"]["details"]["role"], "primary");

    server.sql("ALTER DATABASE mlflow_db SET default_transaction_read_only = on").await;
    let seen = check(with(&server)).await;
    assert_eq!(failure(&seen["primary"]), ["query", "read_only", "-"], "{seen:#}");
    assert_eq!(failure(&seen["any"]), WELL, "{seen:#}");
    assert_eq!(seen["any"]["details"]["read_only"], true);

    server
        .sql("BEGIN READ WRITE; ALTER DATABASE mlflow_db RESET default_transaction_read_only; COMMIT")
        .await;
    server.stop().await;
    fs::write(server.folder().join("data/standby.signal"), "").expect("it can be written");
    server.restart().await;
    let seen = check(with(&server)).await;
    assert_eq!(failure(&seen["primary"]), ["query", "wrong_role", "-"], "{seen:#}");
    assert_eq!((failure(&seen["any"]), failure(&seen["replica"])), (WELL, WELL), "{seen:#}");
    assert_eq!(seen["any"]["details"]["role"], "replica");
    assert_eq!(seen["any"]["details"]["read_only"], true);

    let config = Config::quick([on_postgres("database", &server, json!({"role": "primary"}))]);
    let agent = config.agent().await;
    let wrong = |it: &Value| failure(it)[1] == "wrong_role" && it["status"] == "down";
    agent.until_dependency("database", wrong, "a wrong role").await;
    server.sql("SELECT pg_promote()").await;
    let promoted = agent.until_dependency("database", |it| it["status"] == "up", "the promotion").await;
    assert_eq!(promoted["details"]["role"], "primary");
    assert_eq!(promoted["details"]["read_only"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_starts_or_goes_away_says_so() {
    let mut server = plain().await;
    server.sql("CREATE ROLE app LOGIN PASSWORD 'app'").await;
    // A "smart" shutdown waits for sessions and takes no new ones.
    let held = session(&server).await.expect("a session");
    let postmaster = server.pids()[0];
    signal(postmaster, Signal::TERM);
    eventually("the shutdown to begin", || {
        let log = server.log();
        std::future::ready(if log.contains("received smart shutdown") { Ok(()) } else { Err(log) })
    })
    .await;
    let seen = check([on_postgres("database", &server, json!({}))]).await;
    assert_eq!(failure(&seen["database"]), ["auth", "shutting_down", "57P03"], "{seen:#}");
    assert_eq!(seen["database"]["last_check"]["attempts"], 2, "it may pass");
    drop(held);

    server.stop().await;
    let seen = check([on_postgres("database", &server, json!({}))]).await;
    assert_eq!(failure(&seen["database"]), ["connect", "connect_refused", "ECONNREFUSED"], "{seen:#}");
    assert_eq!(seen["database"]["last_check"]["attempts"], 2);

    // A standby that is not allowed to be read never gets beyond starting.
    fs::write(server.folder().join("data/standby.signal"), "").expect("it can be written");
    server.restart_refusing("hot_standby=off").await;
    let seen = check([on_postgres("database", &server, json!({}))]).await;
    assert_eq!(failure(&seen["database"]), ["auth", "starting_up", "57P03"], "{seen:#}");
    assert_eq!(seen["database"]["last_check"]["attempts"], 2, "it may pass");
}
