//! Passwords, access rules, databases: who may come in, and what is told to those who may not.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::plain;
use crate::support::certs::certs;
use crate::support::config::{Config, WELL, check, failure, on_postgres, told};
use crate::support::postgres::{DATABASE, Postgres, PostgresOptions, PostgresTls};
use crate::support::scratch::Folder;

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_are_wrong_or_missing_are_told_and_tried_once() {
    let hba = vec!["host all trusted 127.0.0.1/32 trust".to_owned()];
    let server = Postgres::start(PostgresOptions { hba, ..Default::default() }).await;
    server.sql("CREATE ROLE trusted LOGIN").await;
    let with = |name: &str, more: Value| on_postgres(name, &server, more);
    let seen = check([
        with("good", json!({})),
        with("trusted", json!({"user": "trusted", "password": null})),
        with("wrong-password", json!({"password": "wrong"})),
        with("wrong-user", json!({"user": "nobody-here"})),
        with("no-password", json!({"password": null})),
    ])
    .await;
    assert_eq!((failure(&seen["good"]), failure(&seen["trusted"])), (WELL, WELL), "{seen:#}");
    for (name, code, hint) in [
        ("wrong-password", "28P01", "user or password is wrong"),
        ("wrong-user", "28P01", "user or password is wrong"),
        ("no-password", "-", "set DATABASE_PASSWORD"),
    ] {
        assert_eq!(failure(&seen[name]), ["auth", "auth_failed", code], "{name}: {seen:#}");
        assert!(told(&seen[name], "hint").contains(hint), "{name}: {}", told(&seen[name], "hint"));
        assert_eq!(seen[name]["last_check"]["attempts"], 1, "{name}");
    }
    assert!(told(&seen["wrong-user"], "message").contains("nobody-here"), "who: {seen:#}");
    assert_eq!(server.log().matches("password authentication failed").count(), 2, "{}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_database_is_told_with_the_right_ones_and_tried_once() {
    let server = plain().await;
    // This one may connect to nothing where it could ask.
    server
        .sql(
            "CREATE ROLE blind LOGIN PASSWORD 'blind'; REVOKE CONNECT ON DATABASE postgres, template1 FROM PUBLIC",
        )
        .await;
    let seen = check([
        on_postgres("near", &server, json!({"database": "mlflow"})),
        on_postgres("far", &server, json!({"database": "accounts"})),
        on_postgres("blind", &server, json!({"database": "missing", "user": "blind", "password": "blind"})),
    ])
    .await;
    for (name, database) in [("near", "mlflow"), ("far", "accounts"), ("blind", "missing")] {
        assert_eq!(failure(&seen[name]), ["auth", "database_missing", "3D000"], "{name}: {seen:#}");
        assert_eq!(seen[name]["last_check"]["attempts"], 1, "{name}");
        let refusals = format!("FATAL:  database \"{database}\" does not exist");
        assert_eq!(server.log().matches(&refusals).count(), 1, "one attempt: {}", server.log());
    }
    assert!(told(&seen["near"], "message").contains(DATABASE), "{seen:#}");
    assert!(told(&seen["near"], "hint").contains("did you mean \"mlflow_db\"?"), "{seen:#}");
    assert!(told(&seen["near"], "hint").contains("DATABASE_NAME=mlflow_db"), "{seen:#}");
    assert!(told(&seen["far"], "message").contains(DATABASE), "{seen:#}");
    assert!(!told(&seen["far"], "hint").contains("did you mean"), "{seen:#}");
    assert!(!told(&seen["blind"], "message").contains(DATABASE), "it may not know: {seen:#}");
    assert!(!told(&seen["blind"], "hint").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn access_rules_are_told_from_credentials() {
    let tls = PostgresTls::Required(certs().good.clone());
    let hba = vec!["hostssl all intruder all reject".to_owned()];
    let server = Postgres::start(PostgresOptions { tls, hba, ..Default::default() }).await;
    let with = |name: &str, more: Value| on_postgres(name, &server, more);
    let seen = check([
        with("plain", json!({"sslmode": "disable"})),
        with("prefer", json!({"sslmode": "prefer"})),
        with("rejected", json!({"user": "intruder", "sslmode": "require"})),
    ])
    .await;
    assert_eq!(failure(&seen["plain"]), ["auth", "tls_required", "28000"], "{seen:#}");
    assert!(told(&seen["plain"], "hint").contains("DATABASE_SSLMODE"), "{seen:#}");
    assert_eq!(failure(&seen["prefer"]), WELL, "{seen:#}");
    assert_eq!(failure(&seen["rejected"]), ["auth", "access_denied", "28000"], "{seen:#}");
    assert!(told(&seen["rejected"], "hint").contains("pg_hba.conf"), "{seen:#}");
    for name in ["plain", "rejected"] {
        assert_eq!(seen[name]["last_check"]["attempts"], 1, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_was_rotated_in_its_file_is_read_again_and_no_check_fails() {
    let server = plain().await;
    server.sql("CREATE ROLE app LOGIN PASSWORD 'first-1'").await;
    let folder = Folder::new("rotated");
    let file = folder.write("password", b"first-1\n");
    let from_file = format!("${{file:{}}}", file.display());
    let app = json!({"user": "app", "password": from_file, "reconnect_every": 1, "retry": {"attempts": 1}});
    let config = Config::quick([on_postgres("database", &server, app)]);
    let agent = config.agent().await;
    let checks = |it: &Value| it["circuit"]["successes"].as_u64().unwrap_or(0);
    agent.until_dependency("database", |it| checks(it) >= 2, "checks").await;

    // The file first: who asks between the two is refused with the new one, too, and that is a failure like any.
    folder.write("password", b"second-2\n");
    server.sql("ALTER ROLE app PASSWORD 'second-2'").await;
    let refused = || server.log().matches("password authentication failed for user \"app\"").count();
    let seen = agent.until_dependency("database", |it| checks(it) >= 8, "more checks").await;
    assert_eq!((failure(&seen), &seen["status"]), (WELL, &json!("up")), "{seen:#}");
    assert_eq!(refused(), 1, "the old one was tried once, and forgotten: {}", server.log());

    // Now the server alone.
    server.sql("ALTER ROLE app PASSWORD 'third-3'").await;
    let failed = |it: &Value| it["last_failure"].is_object();
    let seen = agent.until_dependency("database", failed, "a failure").await;
    assert_eq!(failure(&seen), ["auth", "auth_failed", "28P01"], "{seen:#}");
    let still = format!("its file {}, read again, still holds what was refused", file.display());
    assert!(told(&seen, "hint").contains(&still), "{seen:#}");
    folder.write("password", b"third-3");
    agent.until_dependency("database", |it| it["status"] == "up", "the rotation's end").await;
    for password in ["first-1", "second-2", "third-3"] {
        assert!(!agent.output().contains(password), "{password} is in the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_whose_file_is_gone_is_told_with_the_refusal() {
    let server = plain().await;
    let folder = Folder::new("rotated");
    let (gone, wrong) = (folder.write("gone", b"wrong"), folder.write("wrong", b"wrong"));
    let with = |name: &str, file: &Path| {
        on_postgres(name, &server, json!({"password": format!("${{file:{}}}", file.display())}))
    };
    let config = Config::quick([with("gone", &gone), with("wrong", &wrong)]);
    let agent = config.agent().await;
    agent.until_dependency("gone", |it| it["last_failure"].is_object(), "a failure").await;
    fs::remove_file(&gone).expect("it is there");
    let hint = |it: &Value| told(it, "hint").to_owned();
    let cannot = format!("its file {} cannot be asked for a newer one: it does not exist", gone.display());
    agent.until_dependency("gone", |it| hint(it).contains(&cannot), "that its file is gone").await;
    folder.write("wrong", b"wrong as well");
    let as_well = "what it holds by now is refused as well";
    agent.until_dependency("wrong", |it| hint(it).contains(as_well), "the newer one's refusal").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_goes_out_in_clear_text_through_tls_only() {
    let hba = ["host all clear 127.0.0.1/32 password", "host all old 127.0.0.1/32 md5"];
    let hba: Vec<String> = hba.map(str::to_owned).into();
    let tls = PostgresTls::Offered(certs().good.clone());
    let server = Postgres::start(PostgresOptions { tls, hba, ..Default::default() }).await;
    server
        .sql(
            "CREATE ROLE clear LOGIN PASSWORD 'clear-1'; SET password_encryption = 'md5'; \
             CREATE ROLE old LOGIN PASSWORD 'old-1'",
        )
        .await;
    let with = |name: &str, user: &str, mode: &str| {
        on_postgres(name, &server, json!({"user": user, "password": format!("{user}-1"), "sslmode": mode}))
    };
    let seen = check([
        with("clear-plain", "clear", "disable"),
        with("clear-tls", "clear", "require"),
        with("md5-plain", "old", "disable"),
        with("md5-tls", "old", "require"),
    ])
    .await;
    assert_eq!(failure(&seen["clear-plain"]), ["auth", "tls_required", "-"], "{seen:#}");
    assert!(told(&seen["clear-plain"], "message").contains("it was not sent"), "{seen:#}");
    assert_eq!(seen["clear-plain"]["last_check"]["attempts"], 1);
    for name in ["clear-tls", "md5-plain", "md5-tls"] {
        assert_eq!((failure(&seen[name]), &seen[name]["status"]), (WELL, &json!("up")), "{name}: {seen:#}");
    }
}
