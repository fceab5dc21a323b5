//! Something else than configured behind a port, and web services that answer otherwise than expected.

use serde_json::{Value, json};

use super::case::{dependency, target};
use crate::support::certs::certs;
use crate::support::config::{on, on_redis};
use crate::support::http::{Answer, HttpServer};
use crate::support::lab::Lab;
use crate::support::postgres::{Postgres, PostgresOptions};
use crate::support::redis::{Redis, RedisOptions};
use crate::support::tcp::{self, Peer, pass_on};

/// A PostgreSQL by these settings, where something else may be.
fn postgres_at(port: u16, more: Value) -> Value {
    let mut it =
        on("postgres", "database", json!({"host": "127.0.0.1", "port": port, "password": "hunter2-hunter2"}));
    it.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
    it
}

#[tokio::test(flavor = "multi_thread")]
async fn web_server_on_the_postgres_port() {
    let web = HttpServer::start(Answer::status(200)).await;
    let seen = dependency(postgres_at(web.address().port(), json!({"sslmode": "disable"}))).here().await;
    seen.saying("HTTP").is(
        "web_server_on_the_postgres_port",
        "a web server listens where PostgreSQL is configured",
        ["protocol", "protocol", "wrong_protocol", "certain"],
        "port",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn echo_on_the_redis_port() {
    let echo = Peer::start(|mut stream| async move {
        let (mut from, mut to) = stream.split();
        let _ = tokio::io::copy(&mut from, &mut to).await;
    })
    .await;
    let redis = json!({"host": "127.0.0.1", "port": echo.address().port()});
    let seen = dependency(on("redis", "redis", redis)).here().await;
    seen.is(
        "echo_on_the_redis_port",
        "what listens sends back whatever it hears",
        ["protocol", "protocol", "wrong_protocol", "likely"],
        "port",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn port_that_closes_every_connection() {
    let closes = Peer::start(|stream| async move { drop(stream) }).await;
    let seen = target(closes.address().to_string()).here().await;
    seen.is(
        "port_that_closes_every_connection",
        "a port takes connections and closes each one",
        ["-", "-", "cut", "likely"],
        "log",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn web_server_on_port_5432() {
    let Some(lab) = Lab::new() else { return };
    let _web = HttpServer::on(lab.tcp("10.77.2.10:5432"), Answer::status(200));
    let seen = target("10.77.2.10:5432").within(&lab).await;
    seen.saying("HTTP").is(
        "web_server_on_port_5432",
        "a web server listens on PostgreSQL's port",
        ["protocol", "protocol", "wrong_protocol", "certain"],
        "5432",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_on_the_web_port() {
    let server = Postgres::start(PostgresOptions::default()).await;
    let url = format!("http://127.0.0.1:{}/", server.port());
    let seen = dependency(on("http", "web", json!({ "url": url }))).here().await;
    seen.saying("PostgreSQL").is(
        "postgres_on_the_web_port",
        "PostgreSQL listens where a web service is configured",
        ["protocol", "connect_reset", "wrong_protocol", "certain"],
        "port",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_on_the_postgres_port() {
    let server = Redis::start(RedisOptions::default()).await;
    let seen = dependency(postgres_at(server.port(), json!({"sslmode": "disable"}))).here().await;
    seen.saying("Redis").is(
        "redis_on_the_postgres_port",
        "Redis listens where PostgreSQL is configured",
        ["protocol", "timeout", "wrong_protocol", "certain"],
        "port",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_on_port_6379() {
    let Some(lab) = Lab::new() else { return };
    let server = Postgres::start(PostgresOptions::default()).await;
    let port = server.port();
    let _passing =
        Peer::on(lab.tcp("10.77.2.10:6379"), move |client| pass_on(client, ([127, 0, 0, 1], port).into()));
    let seen = target("10.77.2.10:6379").within(&lab).await;
    seen.saying("PostgreSQL").is(
        "postgres_on_port_6379",
        "PostgreSQL listens on the port of Redis",
        ["protocol", "protocol", "wrong_protocol", "certain"],
        "6379",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_that_speaks_tls_only() {
    let tls = Some(certs().good.clone());
    let server = Redis::start(RedisOptions { tls, ..Default::default() }).await;
    let seen = dependency(on_redis("cache", &server, json!({"port": server.tls_port()}))).here().await;
    seen.saying("TLS").is(
        "redis_that_speaks_tls_only",
        "the port of Redis speaks TLS, and TLS is not configured",
        ["protocol", "connect_reset", "tls_required", "certain"],
        "tls",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ssh_on_the_postgres_port() {
    let peer = tcp::garbage("SSH-2.0-OpenSSH_9.6\r\n").await;
    let seen = dependency(postgres_at(peer.address().port(), json!({}))).here().await;
    seen.saying("SSH").is(
        "ssh_on_the_postgres_port",
        "SSH listens where PostgreSQL is configured",
        ["protocol", "protocol", "wrong_protocol", "certain"],
        "port",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_on_this_host() {
    let server =
        on("tcp", "api", json!({"host": "127.0.0.1", "port": tcp::refused_port(), "scope": "local"}));
    let seen = dependency(server).here().await;
    seen.is(
        "refused_on_this_host",
        "nothing listens on the API's port in this task",
        ["connect", "connect_refused", "refused", "likely"],
        "ss -ltn",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn status_503() {
    let web = HttpServer::start(Answer::status(503)).await;
    let seen = dependency(on("http", "web", json!({"url": web.url("/health")}))).here().await;
    seen.saying("503").is(
        "status_503",
        "the web service answers 503",
        ["query", "unexpected_status", "unexpected_status", "certain"],
        "look behind it",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn status_404_of_a_url() {
    let web = HttpServer::start(Answer::status(404)).await;
    let seen = target(web.url("/health")).here().await;
    seen.saying("404").is(
        "status_404_of_a_url",
        "the web service knows no such path",
        ["query", "unexpected_status", "unexpected_status", "certain"],
        "path",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn other_content() {
    let web = HttpServer::start(Answer::status(200).body("a page of a proxy")).await;
    let settings = json!({"url": web.url("/"), "expect": {"body": "MLflow"}});
    let seen = dependency(on("http", "web", settings)).here().await;
    seen.is(
        "other_content",
        "the web service answers with another page than expected",
        ["query", "unexpected_content", "unexpected_content", "certain"],
        "what serves",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn web_well() {
    let web = HttpServer::start(Answer::status(200)).await;
    let seen = target(web.url("/")).here().await;
    seen.is("web_well", "nothing: a web service by its URL", ["-", "-", "works", "certain"], "-");
}
