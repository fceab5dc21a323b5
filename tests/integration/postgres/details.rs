//! What is told of a server that is well, compared with what it says of itself.

use serde_json::{Value, json};

use super::{plain, session};
use crate::support::config::{Config, WELL, check, failure, on_postgres};
use crate::support::postgres::{DATABASE, Postgres};
use crate::support::wait::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn the_details_are_the_servers_own() {
    let server = plain().await;
    let seen = check([on_postgres("database", &server, json!({}))]).await;
    let details = &seen["database"]["details"];
    let asked =
        server.sql("SELECT current_setting('server_version'), current_database(), current_user").await;
    let own = [&asked[0][0], &asked[0][1], &asked[0][2]].map(|text| json!(text));
    assert_eq!(
        [&details["server_version"], &details["database"], &details["user"]],
        [&own[0], &own[1], &own[2]]
    );
    assert_eq!([&details["role"], &details["read_only"]], [&json!("primary"), &json!(false)]);
    assert_eq!(seen["database"]["address"], format!("127.0.0.1:{}", server.port()));
    assert_eq!(seen["database"]["target"], format!("127.0.0.1:{}/{DATABASE}", server.port()));
    let check = &seen["database"]["last_check"];
    let sum: f64 = check["phases_ms"].as_object().expect("phases").values().filter_map(Value::as_f64).sum();
    let whole = check["duration_ms"].as_f64().expect("a number");
    assert!(sum > 0.0 && sum <= whole, "the phases are parts of the whole: {check}");
}

/// Sessions of the role `app` as an application called `api` has them: so many, of which one is in a transaction.
async fn sessions_of_the_api(server: &Postgres, count: usize) -> Vec<tokio_postgres::Client> {
    let mut held = Vec::new();
    for n in 0..count {
        let session = session(server).await.expect("a session");
        session.simple_query("SET application_name = 'api'").await.expect("a setting");
        if n == 0 {
            session.simple_query("BEGIN; SELECT 1").await.expect("a transaction");
        }
        held.push(session);
    }
    held
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_counted_as_the_server_counts_them() {
    let server = plain().await;
    server.sql("CREATE ROLE app LOGIN PASSWORD 'app'").await;
    let _held = sessions_of_the_api(&server, 3).await;
    // What the tests themselves ask is gone before we count.
    let alone =
        || async { if server.connections_of("test support").await == 1 { Ok(()) } else { Err("another") } };
    eventually("nobody else to be connected", alone).await;
    let seen = check([on_postgres("database", &server, json!({}))]).await;
    let details = &seen["database"]["details"];
    let limits = server
        .sql("SELECT current_setting('max_connections'), current_setting('superuser_reserved_connections')")
        .await;
    let limit = |n: usize| limits[0][n].parse::<u64>().expect("a number");
    let counts = &details["connections"];
    assert_eq!([&counts["max"], &counts["reserved"]], [&json!(limit(0)), &json!(limit(1))]);
    assert_eq!(counts["used"], 4, "three of the API's, and ours: {counts}");
    assert_eq!(counts["by_application"], json!({"api": 3, "sickbay": 1}));
    assert_eq!(counts["by_state"], json!({"idle": 2, "active": 1, "idle in transaction": 1}));
    assert_eq!((&counts["this_task"], &counts["this_task_by_state"]), (&json!(4), &counts["by_state"]));
    let percent = 100.0 * 4.0 / (limit(0) - limit(1)) as f64;
    assert_eq!(counts["used_percent"], json!((percent * 10.0).round() / 10.0));
    assert!(details["longest_transaction_seconds"].as_f64() > Some(0.0), "{details}");
    assert_eq!(details["hidden"], Value::Null);
    assert_eq!(seen["database"]["status"], "up", "{seen:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_see_them_other_sessions_are_not_told_and_it_is_said_why() {
    let server = plain().await;
    server.sql("CREATE ROLE app LOGIN PASSWORD 'app'").await;
    let app = || on_postgres("database", &server, json!({"user": "app", "password": "app"}));
    let seen = check([app()]).await;
    let details = &seen["database"]["details"];
    assert_eq!((failure(&seen["database"]), &seen["database"]["status"]), (WELL, &json!("up")), "{seen:#}");
    assert!(details["hidden"].as_str().is_some_and(|it| it.contains("GRANT pg_monitor")), "{details}");
    for hidden in ["used", "used_percent", "by_state", "by_application", "this_task"] {
        assert_eq!(details["connections"][hidden], Value::Null, "{hidden} would be wrong: {details}");
    }
    assert_eq!(details["connections"]["max"], 20, "what everybody may know is told");
    assert_eq!(details["longest_transaction_seconds"], Value::Null);

    server.sql("GRANT pg_monitor TO app").await;
    let seen = check([app()]).await;
    let details = &seen["database"]["details"];
    assert_eq!(
        (&details["connections"]["by_application"]["sickbay"], &details["hidden"]),
        (&json!(1), &Value::Null)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_its_bound_is_warned_of_unless_that_is_off() {
    let server = plain().await;
    server.sql("CREATE ROLE app LOGIN PASSWORD 'app'").await;
    let _held = sessions_of_the_api(&server, 3).await;
    let with = |name: &str, warn: Value| on_postgres(name, &server, json!({"warn": warn}));
    let config = Config::quick([
        with("strict", json!({"connections_used": "10%", "longest_transaction": "1s"})),
        with("off", json!({"connections_used": "off", "longest_transaction": "off"})),
        with("usual", json!({})),
    ]);
    let agent = config.agent().await;
    let warned = |it: &Value, of: &str| it["warnings"].to_string().contains(of);
    let both = |it: &Value| {
        warned(it, "connections that ordinary roles can have") && warned(it, "transaction has been open")
    };
    let strict = agent.until_dependency("strict", both, "two warnings").await;
    assert_eq!((failure(&strict), &strict["status"]), (WELL, &json!("degraded")), "{strict:#}");
    for name in ["off", "usual"] {
        let seen = agent.until_dependency(name, |it| it["last_check"].is_object(), "a check").await;
        assert_eq!((&seen["warnings"], &seen["status"]), (&json!([]), &json!("up")), "{name}: {seen:#}");
    }
}
