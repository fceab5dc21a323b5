//! `sslmode` against servers with and without TLS, certificates that are not good, and a man in the middle.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;

use super::{ca, plain, with_tls};
use crate::support::certs::certs;
use crate::support::config::{WELL, check, failure, on_postgres, phases, told};
use crate::support::http::acceptor;
use crate::support::postgres::Postgres;
use crate::support::tcp::Peer;

#[tokio::test(flavor = "multi_thread")]
async fn each_sslmode_against_a_server_without_tls() {
    let server = plain().await;
    let modes = ["disable", "prefer", "require", "verify-ca", "verify-full"];
    let seen = check(modes.map(|mode| on_postgres(mode, &server, json!({"sslmode": mode})))).await;
    for mode in ["disable", "prefer"] {
        assert_eq!((failure(&seen[mode]), &seen[mode]["status"]), (WELL, &json!("up")), "{seen:#}");
        assert_eq!(seen[mode]["details"]["tls"], Value::Null);
    }
    assert_eq!(phases(&seen["disable"]), ["connect", "auth", "query"]);
    assert_eq!(phases(&seen["prefer"]), ["connect", "tls", "auth", "query"], "it has asked");
    for mode in ["require", "verify-ca", "verify-full"] {
        assert_eq!(failure(&seen[mode]), ["tls", "tls_handshake", "-"], "{seen:#}");
        assert!(told(&seen[mode], "message").contains(&format!("sslmode is {mode}")), "{seen:#}");
        assert_eq!(phases(&seen[mode]), ["connect", "tls"], "not a word without TLS");
        assert_eq!(seen[mode]["last_check"]["attempts"], 1, "the server's answer would be the same again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_sslmode_against_a_server_with_tls() {
    let server = with_tls(&certs().good).await;
    let with = |name: &str, mode: &str, more: Value| {
        let mut dependency = on_postgres(name, &server, more);
        dependency["sslmode"] = json!(mode);
        dependency
    };
    let seen = check([
        with("disable", "disable", json!({})),
        with("prefer", "prefer", json!({})),
        with("require", "require", json!({})),
        with("verify-ca", "verify-ca", json!({"root_cert": ca()})),
        with("verify-full", "verify-full", json!({"root_cert": ca()})),
        with("by-name", "verify-full", json!({"root_cert": ca(), "host": "localhost"})),
        with("system", "verify-full", json!({})),
    ])
    .await;
    assert_eq!(seen["disable"]["details"]["tls"], Value::Null, "{seen:#}");
    for (name, verified) in
        [("prefer", false), ("require", false), ("verify-ca", true), ("verify-full", true), ("by-name", true)]
    {
        let dependency = &seen[name];
        assert_eq!((failure(dependency), &dependency["status"]), (WELL, &json!("up")), "{name}: {seen:#}");
        let tls = &dependency["details"]["tls"];
        assert_eq!((&tls["version"], &tls["verified"]), (&json!("TLSv1.3"), &json!(verified)), "{name}");
        let days = tls["expires_in_days"].as_f64().expect("a number");
        assert!((89.0..=90.0).contains(&days), "{name}: {tls}");
    }
    assert_eq!(phases(&seen["verify-full"]), ["connect", "tls", "auth", "query"]);
    assert_eq!(phases(&seen["by-name"]), ["dns", "connect", "tls", "auth", "query"]);
    assert_eq!(failure(&seen["system"]), ["tls", "tls_certificate", "-"], "nobody else trusts our authority");
    let encrypted = "SSL enabled (protocol=TLSv1.3";
    assert_eq!(server.log().matches(encrypted).count(), 5, "as the server sees it: {}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_not_good_is_told_by_its_fault() {
    let certs = certs();
    let (expired, other, stranger) =
        tokio::join!(with_tls(&certs.expired), with_tls(&certs.other_name), with_tls(&certs.stranger));
    let with = |name: &str, server: &Postgres, mode: &str| {
        on_postgres(name, server, json!({"sslmode": mode, "root_cert": ca()}))
    };
    let seen = check([
        with("expired", &expired, "verify-ca"),
        with("other-name", &other, "verify-full"),
        with("stranger", &stranger, "verify-ca"),
        with("expired-unverified", &expired, "require"),
        with("other-name-unverified", &other, "verify-ca"),
        with("stranger-unverified", &stranger, "require"),
    ])
    .await;
    for (name, hint) in [
        ("expired", "has ended"),
        ("other-name", "for another name"),
        ("stranger", "not signed by the authorities in"),
    ] {
        assert_eq!(failure(&seen[name]), ["tls", "tls_certificate", "-"], "{name}: {seen:#}");
        assert!(told(&seen[name], "hint").contains(hint), "{name}: {}", told(&seen[name], "hint"));
        assert_eq!(seen[name]["last_check"]["attempts"], 1, "{name}: it will not pass by itself");
        let unverified = &seen[&format!("{name}-unverified")];
        assert_eq!(failure(unverified), WELL, "{seen:#}");
        let warned = unverified["warnings"].to_string().contains("certificate ended");
        assert_eq!(warned, name == "expired", "its end is told even where it does not count: {seen:#}");
    }
}

/// A man in the middle, who ends the client's TLS and makes a session of his own with the server. No `sslmode`
/// but the verifying ones keeps him off the line; SCRAM's channel binding alone tells him.
async fn man_in_the_middle(server: &Postgres) -> Peer {
    const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
    let (port, acceptor) = (server.port(), acceptor(&certs().stranger));
    Peer::start(move |mut client| {
        let acceptor = acceptor.clone();
        async move {
            let mut connector = native_tls::TlsConnector::builder();
            connector.danger_accept_invalid_certs(true);
            let connector = tokio_native_tls::TlsConnector::from(connector.build().expect("TLS"));
            client.read_exact(&mut [0; 8]).await.expect("an SSLRequest");
            client.write_all(b"S").await.expect("a client");
            let Ok(mut client) = acceptor.accept(client).await else { return };
            let mut server = TcpStream::connect(("127.0.0.1", port)).await.expect("a server");
            server.write_all(&SSL_REQUEST).await.expect("a server");
            assert_eq!(server.read_u8().await.expect("an answer"), b'S');
            let mut server = connector.connect("localhost", server).await.expect("TLS");
            let _ = copy_bidirectional(&mut client, &mut server).await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn channel_binding_tells_a_man_in_the_middle_that_encryption_alone_does_not() {
    let server = with_tls(&certs().good).await;
    let middle = man_in_the_middle(&server).await;
    let through = json!({"port": middle.address().port(), "sslmode": "require"});
    let seen = check([
        on_postgres("direct", &server, json!({"sslmode": "require"})),
        on_postgres("through", &server, through),
    ])
    .await;
    assert_eq!(failure(&seen["direct"]), WELL, "{seen:#}");
    assert_eq!(failure(&seen["through"]), ["auth", "auth_failed", "28000"], "{seen:#}");
    assert!(told(&seen["through"], "hint").contains("ends the TLS session"), "{seen:#}");
    assert!(server.log().contains("channel binding check failed"), "{}", server.log());
    assert_eq!(seen["through"]["last_check"]["attempts"], 1);
}
