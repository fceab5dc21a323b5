//! The configured queries: what is expected of their answers, and what becomes of answers that are otherwise.

use serde_json::{Value, json};

use super::plain;
use crate::support::config::{WELL, check, failure, on_postgres, told};

fn asking(name: &str, server: &crate::support::postgres::Postgres, query: Value) -> Value {
    let mut query = query;
    query["name"] = json!("asked");
    on_postgres(name, server, json!({"queries": [query], "timeout": "3s"}))
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_held_against_what_is_expected() {
    let server = plain().await;
    server
        .sql("CREATE TABLE jobs (id int, note text); INSERT INTO jobs VALUES (1, 'hush'), (2, 'hush')")
        .await;
    let count = "SELECT count(*) FROM jobs";
    let with = |name: &str, query: Value| asking(name, &server, query);
    let seen = check([
        with("equal", json!({"sql": count, "expect": 2})),
        with("within", json!({"sql": count, "min": 1, "max": 2})),
        with("text", json!({"sql": "SELECT 'on'", "expect": "on"})),
        with("comment", json!({"sql": "SELECT 2 -- two", "expect": 2})),
        with("other", json!({"sql": count, "expect": 3})),
        with("above", json!({"sql": count, "max": 1})),
        with("mild", json!({"sql": count, "warn": {"max": 1}})),
        with("only-warns", json!({"sql": count, "expect": 3, "on_failure": "warn"})),
        with("no-row", json!({"sql": "SELECT 1 WHERE false", "expect": 1})),
        with("rows", json!({"sql": "SELECT id FROM jobs", "expect": 1})),
        with("null", json!({"sql": "SELECT null", "expect": 1})),
        with("no-number", json!({"sql": "SELECT note FROM jobs LIMIT 1", "max": 1})),
    ])
    .await;
    let asked = |name: &str| seen[name]["details"]["queries"]["asked"].clone();
    for name in ["equal", "within", "text", "comment"] {
        assert_eq!((failure(&seen[name]), &seen[name]["status"]), (WELL, &json!("up")), "{name}: {seen:#}");
        assert_eq!((&asked(name)["ok"], &asked(name)["problem"]), (&json!(true), &Value::Null), "{name}");
    }
    assert_eq!((&asked("equal")["value"], &asked("text")["value"]), (&json!(2), &json!("on")));
    for (name, message) in [
        ("other", "the query asked answered 2, expected 3"),
        ("above", "the query asked answered 2, more than 1"),
        ("no-row", "the query asked answered without a row"),
        ("rows", "the query asked answered with more than one row"),
        ("null", "the query asked answered null"),
        ("no-number", "the query asked answered something that is no number"),
    ] {
        assert_eq!(failure(&seen[name]), ["query", "query_failed", "-"], "{name}: {seen:#}");
        assert_eq!(told(&seen[name], "message"), message, "{name}");
        assert!(told(&seen[name], "hint").contains("`queries`"), "{name}: {}", told(&seen[name], "hint"));
        assert_eq!(asked(name)["ok"], false, "told also where the check fails: {name}");
        assert_eq!(seen[name]["details"]["role"], "primary", "and so is the rest: {name}");
    }
    for (name, warning) in [
        ("mild", "the query asked answered 2, more than 1"),
        ("only-warns", "the query asked answered 2, expected 3"),
    ] {
        assert_eq!(
            (failure(&seen[name]), &seen[name]["status"]),
            (WELL, &json!("degraded")),
            "{name}: {seen:#}"
        );
        assert_eq!(seen[name]["warnings"], json!([warning]));
    }
    assert!(!seen.to_string().contains("hush"), "what is in tables is not told: {seen:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_fails_hangs_or_writes_is_told_and_harms_nothing() {
    let server = plain().await;
    server.sql("CREATE TABLE jobs (id int); CREATE ROLE app LOGIN PASSWORD 'app'").await;
    let with = |name: &str, query: Value| asking(name, &server, query);
    let mut denied = with("denied", json!({"sql": "SELECT count(*) FROM jobs", "min": 0}));
    (denied["user"], denied["password"]) = (json!("app"), json!("app"));
    let seen = check([
        denied,
        with("missing", json!({"sql": "SELECT count(*) FROM nowhere", "min": 0})),
        with("deletes", json!({"sql": "DELETE FROM jobs RETURNING 1", "min": 0})),
        with("two", json!({"sql": "SELECT 1; DROP TABLE jobs", "min": 0})),
        with("closes", json!({"sql": "SELECT 1) AS x(y); DROP TABLE jobs; SELECT (1", "min": 0})),
        with("casts", json!({"sql": "SELECT 'secret-value'::int", "min": 0})),
        with("hangs", json!({"sql": "SELECT count(*) FROM (SELECT pg_sleep(60)) AS x", "min": 0})),
    ])
    .await;
    for (name, kind, code) in [
        ("denied", "query_failed", "42501"),
        ("missing", "query_failed", "42P01"),
        ("deletes", "query_failed", "42601"),
        ("two", "query_failed", "42601"),
        ("casts", "query_failed", "22P02"),
        ("hangs", "query_timeout", "57014"),
    ] {
        assert_eq!(failure(&seen[name]), ["query", kind, code], "{name}: {seen:#}");
        assert_eq!(seen[name]["details"]["queries"]["asked"]["ok"], false, "{name}");
        assert_eq!(seen[name]["details"]["database"], "mlflow_db", "{name}: the rest is told");
    }
    assert!(!seen["casts"].to_string().contains("secret-value"), "{:#}", seen["casts"]);
    assert_eq!(failure(&seen["closes"])[1], "query_failed", "{seen:#}");
    assert_eq!(server.sql("SELECT count(*) FROM jobs").await, [["0"]], "the table is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_had_to_give_way_is_asked_again() {
    let server = plain().await;
    server
        .sql(
            "CREATE FUNCTION says(code text) RETURNS int LANGUAGE plpgsql AS \
             $$ BEGIN RAISE EXCEPTION 'as told' USING ERRCODE = code; END $$",
        )
        .await;
    let with = |name: &str, code: &str| {
        asking(name, &server, json!({"sql": format!("SELECT says('{code}')"), "expect": 1}))
    };
    let seen = check([
        // What a standby says when it cancels a query to go on with its replay.
        with("recovery", "40001"),
        with("deadlock", "40P01"),
        with("disk-full", "53100"),
        with("memory", "53200"),
        with("completion", "40003"),
        with("division", "22012"),
    ])
    .await;
    for (name, code, attempts) in [
        ("recovery", "40001", 2),
        ("deadlock", "40P01", 2),
        ("disk-full", "53100", 2),
        ("memory", "53200", 2),
        ("completion", "40003", 1),
        ("division", "22012", 1),
    ] {
        assert_eq!(failure(&seen[name]), ["query", "query_failed", code], "{name}: {seen:#}");
        assert_eq!(seen[name]["last_check"]["attempts"], attempts, "{name}: {seen:#}");
    }
}
