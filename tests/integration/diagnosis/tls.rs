//! Certificates that are not good, versions that are too old, and TLS where it is not, or has to be.

use std::process::Command;

use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::case::{Seen, dependency};
use crate::support::agent::Signal;
use crate::support::certs::{Pair, certs};
use crate::support::config::{on, on_postgres};
use crate::support::http::{Answer, HttpServer};
use crate::support::ports;
use crate::support::postgres::{Postgres, PostgresOptions, PostgresTls};
use crate::support::process::{Daemon, until_ready};
use crate::support::scratch::Folder;

fn ca() -> &'static str {
    certs().ca.to_str().expect("UTF-8")
}

/// A diagnosis of a web server with this certificate.
async fn web_with(pair: &Pair) -> Seen {
    let web = HttpServer::start_tls(Answer::status(200), pair).await;
    dependency(on("http", "web", json!({"url": web.url("/"), "tls": {"root_cert": ca()}}))).here().await
}

/// The same of a PostgreSQL that is asked in this `sslmode`.
async fn postgres_with(pair: &Pair, mode: &str) -> Seen {
    let tls = PostgresTls::Offered(pair.clone());
    let server = Postgres::start(PostgresOptions { tls, ..Default::default() }).await;
    let settings = json!({"sslmode": mode, "root_cert": ca()});
    dependency(on_postgres("database", &server, settings)).here().await
}

/// The same of a server by openssl, which can be told to misbehave.
async fn openssl_with(arguments: &[&str]) -> Seen {
    let (folder, port) = (Folder::new("openssl"), ports::spare());
    let mut command = Command::new("openssl");
    command.args(["s_server", "-quiet", "-www", "-accept", &format!("127.0.0.1:{port}")]);
    command.arg("-cert").arg(&certs().good.cert).arg("-key").arg(&certs().good.key).args(arguments);
    let mut server = Daemon::spawn(command, &folder.path().join("log"), Signal::KILL);
    let listens = || async move {
        TcpStream::connect(("127.0.0.1", port)).await.map(drop).map_err(|error| error.to_string())
    };
    until_ready(&mut server, "openssl", listens).await.expect("it starts");
    let url = format!("https://127.0.0.1:{port}/");
    dependency(on("http", "web", json!({"url": url, "tls": {"root_cert": ca()}}))).here().await
}

#[tokio::test(flavor = "multi_thread")]
async fn certificate_expired() {
    web_with(&certs().expired).await.saying("2020-02-01").is(
        "certificate_expired",
        "the server's certificate has ended",
        ["tls", "tls_certificate", "certificate_expired", "certain"],
        "renew",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn certificate_above_expired() {
    postgres_with(&certs().below_ended, "verify-full").await.saying("2020-02-01").is(
        "certificate_above_expired",
        "the certificate of the authority in between has ended",
        ["tls", "tls_certificate", "certificate_expired", "certain"],
        "the chain of today",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn certificate_not_yet_valid() {
    web_with(&certs().future).await.saying("2090-01-01").is(
        "certificate_not_yet_valid",
        "the server's certificate begins in the future",
        ["tls", "tls_certificate", "certificate_not_yet_valid", "certain"],
        "clock",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn certificate_for_another_name() {
    postgres_with(&certs().other_name, "verify-full").await.saying("elsewhere.test").is(
        "certificate_for_another_name",
        "the server's certificate is for another name",
        ["tls", "tls_certificate", "certificate_other_name", "certain"],
        "elsewhere.test",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn certificate_of_a_stranger() {
    postgres_with(&certs().stranger, "verify-ca").await.saying("strange-ca").is(
        "certificate_of_a_stranger",
        "an authority signed that is not trusted",
        ["tls", "tls_certificate", "certificate_unknown_authority", "certain"],
        "truststore.pki.rds.amazonaws.com",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_too_old() {
    openssl_with(&["-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0"]).await.saying("TLSv1.1").is(
        "tls_too_old",
        "the server speaks TLS 1.1 and nothing newer",
        ["tls", "tls_handshake", "tls_version", "certain"],
        "TLS 1.2",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn client_certificate_required() {
    openssl_with(&["-Verify", "1", "-verify_return_error", "-tls1_2"]).await.is(
        "client_certificate_required",
        "the server wants a certificate of the client",
        ["tls", "tls_handshake", "client_certificate_required", "likely"],
        "let this client in without one",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_without_tls() {
    let server = Postgres::start(PostgresOptions::default()).await;
    let seen = dependency(on_postgres("database", &server, json!({"sslmode": "require"}))).here().await;
    seen.is(
        "postgres_without_tls",
        "`sslmode` is `require`, and the PostgreSQL has no TLS",
        ["tls", "tls_handshake", "tls_not_spoken", "certain"],
        "sslmode",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn web_server_without_tls() {
    let web = HttpServer::start(Answer::status(200)).await;
    let url = web.url("/").replace("http://", "https://");
    let seen = dependency(on("http", "web", json!({"url": url}))).here().await;
    seen.saying("HTTP").is(
        "web_server_without_tls",
        "`https` is asked of a port that speaks `http`",
        ["tls", "tls_handshake", "tls_not_spoken", "certain"],
        "http://",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn good_certificate() {
    let web = HttpServer::start_tls(Answer::status(200), &certs().good).await;
    let it: Value = on("http", "web", json!({"url": web.url("/"), "tls": {"root_cert": ca()}}));
    dependency(it).here().await.is(
        "good_certificate",
        "nothing: a web server with a good certificate",
        ["-", "-", "works", "certain"],
        "-",
    );
}
