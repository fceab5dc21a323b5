//! PostgreSQL servers that are reached, and do not serve.

use std::fs;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::case::{Seen, dependency, target};
use crate::support::agent::Signal;
use crate::support::certs::certs;
use crate::support::config::{on, on_postgres};
use crate::support::dns::address;
use crate::support::lab::{Lab, RESOLVER};
use crate::support::postgres::{DATABASE, Postgres, PostgresOptions, PostgresTls};
use crate::support::process::signal;
use crate::support::tcp::{Peer, pass_on};
use crate::support::wait::eventually;

async fn plain() -> Postgres {
    Postgres::start(PostgresOptions::default()).await
}

async fn with_hba(tls: PostgresTls, hba: &str) -> Postgres {
    Postgres::start(PostgresOptions { tls, hba: vec![hba.to_owned()], ..Default::default() }).await
}

/// A session of this user, which is held.
async fn session(server: &Postgres, user: &str, password: &str) -> Result<tokio_postgres::Client, String> {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(server.port()).user(user).password(password).dbname(DATABASE);
    let connected = config.connect(tokio_postgres::NoTls).await;
    let (client, connection) = connected.map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    client.simple_query("SELECT 1").await.map_err(|error| error.to_string())?;
    Ok(client)
}

/// A server that follows another one, as far as anybody can see.
async fn standby(setting: Option<&str>) -> Postgres {
    let mut server = plain().await;
    server.stop().await;
    fs::write(server.folder().join("data/standby.signal"), "").expect("it can be written");
    match setting {
        Some(setting) => server.restart_refusing(setting).await,
        None => server.restart().await,
    }
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_well() {
    let server = plain().await;
    let seen = dependency(on_postgres("database", &server, json!({"role": "primary"}))).here().await;
    seen.is("postgres_well", "nothing: a PostgreSQL that serves", ["-", "-", "works", "certain"], "-");
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_well_as_host_and_port() {
    let server = plain().await;
    let seen = target(format!("127.0.0.1:{}", server.port())).here().await;
    seen.is(
        "postgres_well_as_host_and_port",
        "nothing: a port that connects, of which nothing else is known",
        ["-", "-", "works", "certain"],
        "-",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_well_as_url() {
    let server = plain().await;
    let url = format!("postgresql://postgres:{}@127.0.0.1:{}/mlflow_db", server.password(), server.port());
    let seen = target(url).here().await;
    seen.is("postgres_well_as_url", "nothing: a PostgreSQL by its URL", ["-", "-", "works", "certain"], "-");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_password() {
    let server = plain().await;
    let wrong = json!({"password": "not-this-one"});
    let seen = dependency(on_postgres("database", &server, wrong)).here().await;
    seen.is(
        "wrong_password",
        "the password is wrong",
        ["auth", "auth_failed", "password_wrong", "certain"],
        "rotated",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_user() {
    let server = plain().await;
    let seen = dependency(on_postgres("database", &server, json!({"user": "nobody-here"}))).here().await;
    seen.saying("nobody-here").is(
        "unknown_user",
        "the user does not exist, which the server keeps to itself",
        ["auth", "auth_failed", "password_wrong", "certain"],
        "user",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn user_missing() {
    let server = with_hba(PostgresTls::Off, "host all ghost 127.0.0.1/32 trust").await;
    let ghost = json!({"user": "ghost", "password": null});
    let seen = dependency(on_postgres("database", &server, ghost)).here().await;
    seen.saying("ghost").is(
        "user_missing",
        "the user does not exist, and the server says so",
        ["auth", "auth_failed", "user_missing", "certain"],
        "create the role",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn password_missing() {
    let server = plain().await;
    let seen = dependency(on_postgres("database", &server, json!({"password": null}))).here().await;
    seen.is(
        "password_missing",
        "no password is set",
        ["auth", "auth_failed", "password_missing", "certain"],
        "DATABASE_PASSWORD",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pg_hba_refuses_the_host() {
    let server =
        with_hba(PostgresTls::Offered(certs().good.clone()), "host all all 127.0.0.1/32 reject").await;
    let seen = dependency(on_postgres("database", &server, json!({"sslmode": "require"}))).here().await;
    seen.saying("pg_hba.conf").is(
        "pg_hba_refuses_the_host",
        "`pg_hba.conf` lets nobody in from this host",
        ["auth", "access_denied", "host_rules_refuse", "certain"],
        "pg_hba.conf",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pg_hba_wants_tls() {
    let tls = PostgresTls::Required(certs().good.clone());
    let server = Postgres::start(PostgresOptions { tls, ..Default::default() }).await;
    let seen = dependency(on_postgres("database", &server, json!({"sslmode": "disable"}))).here().await;
    seen.is(
        "pg_hba_wants_tls",
        "the server takes only TLS, as RDS does by `rds.force_ssl`",
        ["auth", "tls_required", "tls_required", "likely"],
        "DATABASE_SSLMODE",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn database_missing() {
    let server = plain().await;
    let seen = dependency(on_postgres("database", &server, json!({"database": "mlflow"}))).here().await;
    seen.saying("mlflow").is(
        "database_missing",
        "the server has no database of this name",
        ["auth", "database_missing", "database_missing", "certain"],
        "mlflow_db",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_connections() {
    let conf = vec!["max_connections = 6\nsuperuser_reserved_connections = 3".to_owned()];
    let server = Postgres::start(PostgresOptions { conf, ..Default::default() }).await;
    server.sql("CREATE ROLE app LOGIN PASSWORD 'app-app-app'").await;
    let mut held = Vec::new();
    while let Ok(session) = session(&server, "app", "app-app-app").await {
        held.push(session);
        assert!(held.len() < 6, "there is no limit");
    }
    let app = json!({"user": "app", "password": "app-app-app"});
    let seen = dependency(on_postgres("database", &server, app)).here().await;
    seen.is(
        "too_many_connections",
        "all connections of the server are taken",
        ["auth", "too_many_connections", "too_many_connections", "certain"],
        "pg_stat_activity",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn recovering() {
    // One that may not be read never gets beyond its recovery.
    let server = standby(Some("hot_standby=off")).await;
    let seen = dependency(on_postgres("database", &server, json!({}))).here().await;
    seen.is(
        "recovering",
        "the server recovers, and takes nobody in",
        ["auth", "starting_up", "recovering", "certain"],
        "log",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn shutting_down() {
    let server = plain().await;
    // A "smart" shutdown waits for sessions and takes no new ones.
    let held = session(&server, "postgres", server.password()).await.expect("a session");
    signal(server.pids()[0], Signal::TERM);
    eventually("the shutdown to begin", || {
        let log = server.log();
        std::future::ready(if log.contains("received smart shutdown") { Ok(()) } else { Err(log) })
    })
    .await;
    let seen = dependency(on_postgres("database", &server, json!({}))).here().await;
    seen.is(
        "shutting_down",
        "the server is being stopped",
        ["auth", "shutting_down", "shutting_down", "certain"],
        "wait for it",
    );
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn replica_at_an_address() {
    let server = standby(None).await;
    let seen = dependency(on_postgres("database", &server, json!({"role": "primary"}))).here().await;
    seen.saying("replica").is(
        "replica_at_an_address",
        "a replica answers where a primary is expected, at an address",
        ["query", "wrong_role", "wrong_role", "certain"],
        "an address, which does not follow a failover",
    );
}

/// A diagnosis of a standby to which this name leads, where a primary is expected.
async fn standby_behind(lab: &Lab, name: &str) -> Seen {
    let server = standby(None).await;
    let _resolver = lab.resolver(RESOLVER, [address(name, "10.77.2.10")]);
    lab.resolv_conf("nameserver 10.77.2.53\n");
    let port = server.port();
    let _host =
        Peer::on(lab.tcp("10.77.2.10:5432"), move |client| pass_on(client, ([127, 0, 0, 1], port).into()));
    let settings = json!({
        "host": name, "database": DATABASE, "user": "postgres", "password": server.password(), "role": "primary",
    });
    dependency(on("postgres", "database", settings)).within(lab).await
}

#[tokio::test(flavor = "multi_thread")]
async fn replica_behind_a_name() {
    let Some(lab) = Lab::new() else { return };
    standby_behind(&lab, "db.internal").await.saying("replica").is(
        "replica_behind_a_name",
        "a replica answers where a primary is expected, behind a name",
        ["query", "wrong_role", "wrong_role", "certain"],
        "may still point to the old address",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn replica_behind_the_writers_endpoint() {
    const ENDPOINT: &str = "mlflow.cluster-c1a2b3c4d5e6.eu-central-1.rds.amazonaws.com";
    let Some(lab) = Lab::new() else { return };
    standby_behind(&lab, ENDPOINT).await.saying(ENDPOINT).is(
        "replica_behind_the_writers_endpoint",
        "after a failover, the endpoint of an Aurora cluster's writer still leads to the old one",
        ["query", "wrong_role", "stale_dns", "likely"],
        "aws rds describe-",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn read_only() {
    let server = plain().await;
    server.sql("ALTER DATABASE mlflow_db SET default_transaction_read_only = on").await;
    let seen = dependency(on_postgres("database", &server, json!({"role": "primary"}))).here().await;
    seen.is(
        "read_only",
        "the primary takes no writes",
        ["query", "read_only", "read_only", "certain"],
        "pg_settings WHERE name LIKE '%read_only'",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn query_with_another_result() {
    let server = plain().await;
    let queries = json!([{"name": "answer", "sql": "SELECT 41", "expect": "42"}]);
    let seen = dependency(on_postgres("database", &server, json!({ "queries": queries }))).here().await;
    seen.saying("41").is(
        "query_with_another_result",
        "a query of one's own has another result than expected",
        ["query", "query_failed", "query_failed", "certain"],
        "answer",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn query_that_takes_too_long() {
    let server = plain().await;
    let queries = json!([{"name": "report", "sql": "SELECT 1 FROM pg_sleep(60)", "expect": "1"}]);
    let slow = json!({"queries": queries, "timeout": "2s"});
    let seen = dependency(on_postgres("database", &server, slow)).here().await;
    seen.saying("57014").is(
        "query_that_takes_too_long",
        "a query of one's own takes longer than the check may",
        ["query", "query_timeout", "query_timeout", "certain"],
        "pg_blocking_pids",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn database_that_takes_no_connections() {
    let server = plain().await;
    server.sql("CREATE DATABASE closed ALLOW_CONNECTIONS false").await;
    let seen = dependency(on_postgres("database", &server, json!({"database": "closed"}))).here().await;
    seen.saying("not currently accepting connections").is(
        "database_that_takes_no_connections",
        "the database is closed to connections",
        ["auth", "access_denied", "not_permitted", "certain"],
        "datallowconn",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn password_in_clear_text() {
    let server = with_hba(PostgresTls::Off, "host all all 127.0.0.1/32 password").await;
    let seen = dependency(on_postgres("database", &server, json!({"sslmode": "disable"}))).here().await;
    seen.is(
        "password_in_clear_text",
        "the server asks for the password in clear text, and has no TLS",
        ["auth", "tls_required", "tls_required", "certain"],
        "scram-sha-256",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn server_without_a_process_left() {
    let peer = Peer::start(|mut stream| async move {
        let _ = stream.read(&mut [0; 64]).await;
        let _ = stream.write_all(b"Ecould not fork new process for connection: Resource\n\0").await;
    })
    .await;
    let settings = json!({
        "host": "127.0.0.1", "port": peer.address().port(), "database": DATABASE, "user": "app",
        "password": "app-app-app", "sslmode": "require",
    });
    let seen = dependency(on("postgres", "database", settings)).here().await;
    seen.is(
        "server_without_a_process_left",
        "the server's host has no room for another process",
        ["tls", "too_many_connections", "too_many_connections", "certain"],
        "look at its host",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn hung_server() {
    let server = plain().await;
    server.hang().await;
    let seen = dependency(on_postgres("database", &server, json!({"timeout": "4s"}))).here().await;
    seen.is(
        "hung_server",
        "the server's host accepts connections, and its processes stand still",
        ["protocol", "timeout", "mute", "likely"],
        "hang",
    );
}
