//! `sslmode` against servers with and without TLS, certificates that are not good, and a man in the middle.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;

use super::{ca, plain, with_tls};
use crate::support::certs::certs;
use crate::support::config::{WELL, check, failure, on_postgres, phases, told};
use crate::support::http::acceptor;
use crate::support::postgres::{Postgres, PostgresOptions, PostgresTls};
use crate::support::tcp::{Peer, with_reset};

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
    let unverified = |name: &str, server: &Postgres| on_postgres(name, server, json!({"sslmode": "require"}));
    let seen = check([
        with("expired", &expired, "verify-ca"),
        with("other-name", &other, "verify-full"),
        with("stranger", &stranger, "verify-ca"),
        unverified("expired-unverified", &expired),
        with("other-name-unverified", &other, "verify-ca"),
        unverified("stranger-unverified", &stranger),
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

/// A server with TLS that lets nobody in through it.
async fn without_hostssl(more: &[&str]) -> Postgres {
    let mut hba: Vec<String> = more.iter().map(|line| (*line).to_owned()).collect();
    hba.push("hostssl all all all reject".to_owned());
    let tls = PostgresTls::Offered(certs().good.clone());
    Postgres::start(PostgresOptions { tls, hba, ..Default::default() }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_sslmode_gets_a_session_where_libpq_gets_one() {
    let required =
        PostgresOptions { tls: PostgresTls::Required(certs().stranger.clone()), ..Default::default() };
    let (good, stranger, nossl, required) = tokio::join!(
        with_tls(&certs().good),
        with_tls(&certs().stranger),
        without_hostssl(&[]),
        Postgres::start(required)
    );
    let servers = [("good", &good), ("stranger", &stranger), ("nossl", &nossl), ("required", &required)];
    let (mut dependencies, mut expected) = (Vec::new(), Vec::new());
    for (name, server) in servers {
        for mode in ["disable", "prefer", "require", "verify-ca", "verify-full"] {
            // What libpq has no authorities for it does not verify, or refuses to; the system's are another matter.
            let certs: &[bool] = if mode.starts_with("verify") { &[true] } else { &[false, true] };
            for root_cert in certs {
                let name = format!("{name}-{mode}{}", if *root_cert { "-root-cert" } else { "" });
                let mut dependency = on_postgres(&name, server, json!({"sslmode": mode, "pool": {"max": 1}}));
                let mut how = format!("sslmode={mode}");
                if *root_cert {
                    dependency["root_cert"] = json!(ca());
                    how += &format!(" sslrootcert={}", ca());
                }
                dependencies.push(dependency);
                expected.push((name, server.takes_psql(&how).await));
            }
        }
    }
    let seen = check(dependencies).await;
    let differs = expected.iter().filter(|(name, psql)| psql.is_ok() != (failure(&seen[name]) == WELL));
    let differs: Vec<String> =
        differs.map(|(name, psql)| format!("{name}: {psql:?}, here {:?}", failure(&seen[name]))).collect();
    assert!(differs.is_empty(), "{differs:#?}");
    let taken = |of: &str| expected.iter().any(|(name, psql)| name == of && psql.is_ok());
    // That it is the same is worth something only where it is not always the same.
    assert!(
        taken("nossl-prefer") && taken("stranger-prefer-root-cert") && !taken("stranger-require-root-cert")
    );

    for name in ["nossl-prefer", "stranger-prefer-root-cert"] {
        assert_eq!(seen[name]["details"]["tls"], Value::Null, "{name}: {seen:#}");
        assert_eq!(seen[name]["last_check"]["attempts"], 1, "{name}");
        assert_eq!(phases(&seen[name]), ["connect", "tls", "auth", "query"], "{name}: both connections");
    }
    assert_eq!(seen["good-prefer-root-cert"]["details"]["tls"]["verified"], true, "{seen:#}");
    assert_eq!(failure(&seen["nossl-require"]), ["auth", "access_denied", "28000"], "{seen:#}");
    let chain = &seen["stranger-require-root-cert"];
    assert_eq!(failure(chain), ["tls", "tls_certificate", "-"], "{seen:#}");
    // The server insists on TLS: what is wrong with that is what has to be mended.
    let both = &seen["required-prefer-root-cert"];
    assert_eq!(failure(both), ["tls", "tls_certificate", "-"], "{seen:#}");
    assert!(told(both, "hint").contains("not signed by the authorities in"), "{both:#}");
    assert!(told(both, "message").contains("; and without TLS: no pg_hba.conf entry"), "{both:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_met_without_tls_is_told_with_why_there_is_none() {
    let server = without_hostssl(&["hostnossl all clear all password", "hostnossl all out all reject"]).await;
    server.sql("CREATE ROLE clear LOGIN PASSWORD 'clear-1'; CREATE ROLE out LOGIN PASSWORD 'out-1'").await;
    let with = |name: &str, more: Value| on_postgres(name, &server, more);
    let seen = check([
        with("wrong", json!({"password": "wrong"})),
        with("missing", json!({"database": "mlflow"})),
        with("out", json!({"user": "out", "password": "out-1"})),
        with("clear", json!({"user": "clear", "password": "clear-1"})),
    ])
    .await;
    for (name, expected, message) in [
        (
            "wrong",
            ["auth", "auth_failed", "28P01"],
            "; this was without TLS, since with it: pg_hba.conf rejects",
        ),
        (
            "missing",
            ["auth", "database_missing", "3D000"],
            "; this was without TLS, since with it: pg_hba.conf",
        ),
        ("out", ["auth", "access_denied", "28000"], "; and without TLS: pg_hba.conf rejects"),
        ("clear", ["auth", "access_denied", "28000"], "the connection has no TLS: it was not sent"),
    ] {
        assert_eq!(failure(&seen[name]), expected, "{name}: {seen:#}");
        assert!(told(&seen[name], "message").contains(message), "{name}: {}", told(&seen[name], "message"));
        assert_eq!(seen[name]["last_check"]["attempts"], 1, "{name}");
    }
    assert_eq!(server.log().matches("password authentication failed").count(), 1, "{}", server.log());
}

/// Agrees to TLS and speaks none; who comes without asking for it gets to the server.
async fn broken_tls(server: &Postgres) -> Peer {
    let server = server.port();
    Peer::start(move |mut client| async move {
        let mut first = [0; 8];
        client.read_exact(&mut first).await.expect("a message");
        if first[4..] == SSL_REQUEST[4..] {
            client.write_all(b"S").await.expect("a client");
            let _ = client.read(&mut [0; 1024]).await;
            return with_reset(client);
        }
        let mut server = TcpStream::connect(("127.0.0.1", server)).await.expect("a server");
        server.write_all(&first).await.expect("a server");
        let _ = copy_bidirectional(&mut client, &mut server).await;
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_is_cut_is_no_failure_where_tls_is_only_preferred() {
    let server = plain().await;
    let broken = broken_tls(&server).await;
    let with = |mode: &str| {
        let through = json!({"port": broken.address().port(), "sslmode": mode, "retry": {"attempts": 1}});
        on_postgres(mode, &server, through)
    };
    let seen = check([with("prefer"), with("require")]).await;
    assert_eq!((failure(&seen["prefer"]), &seen["prefer"]["status"]), (WELL, &json!("up")), "{seen:#}");
    assert_eq!(failure(&seen["require"])[..2], ["tls", "connect_reset"], "{seen:#}");
    assert_eq!(broken.accepted(), 3, "two for the one, one for the other");
}

const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// A man in the middle, who ends the client's TLS and makes a session of his own with the server. No `sslmode`
/// but the verifying ones keeps him off the line; SCRAM's channel binding alone tells him.
async fn man_in_the_middle(server: &Postgres) -> Peer {
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
