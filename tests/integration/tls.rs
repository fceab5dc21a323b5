//! TLS, the same for all kinds that speak it: when a certificate ends is told as openssl sees it, warned of in
//! time, and what is not trusted is told by its fault.

use std::process::Command;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::certs::{Pair, certs};
use crate::support::config::{Config, WELL, check, failure, on, on_postgres, on_redis, told};
use crate::support::http::{Answer, HttpServer, acceptor};
use crate::support::postgres::{Postgres, PostgresOptions, PostgresTls};
use crate::support::redis::{Redis, RedisOptions};
use crate::support::scratch::Folder;
use crate::support::tcp::Peer;

const KINDS: [&str; 4] = ["tcp", "http", "postgres", "redis"];

/// A server of each kind with the same certificate.
struct Servers {
    port: Peer,
    web: HttpServer,
    database: Postgres,
    redis: Redis,
}

impl Servers {
    async fn with(pair: &Pair) -> Self {
        let tls = PostgresTls::Offered(pair.clone());
        let (port, web, database, redis) = tokio::join!(
            greeting(pair),
            HttpServer::start_tls(Answer::status(200), pair),
            Postgres::start(PostgresOptions { tls, ..Default::default() }),
            Redis::start(RedisOptions { tls: Some(pair.clone()), ..Default::default() }),
        );
        Self { port, web, database, redis }
    }

    /// A dependency of this kind, `KIND-NAME`, that verifies against our authority, or not at all.
    fn asked(&self, kind: &str, name: &str, verified: bool, more: &Value) -> Value {
        let ca = certs().ca.to_str().expect("UTF-8");
        let verify = if verified { json!({"root_cert": ca}) } else { json!({"verify": "none"}) };
        let name = format!("{kind}-{name}");
        let mut dependency = match kind {
            "tcp" => {
                let port = self.port.address().port();
                on("tcp", &name, json!({"host": "127.0.0.1", "port": port, "tls": verify, "expect": "hello"}))
            }
            "http" => on("http", &name, json!({"url": self.web.url("/"), "tls": verify})),
            "postgres" => {
                let mode = if verified { "verify-full" } else { "require" };
                let root = verified.then_some(ca);
                on_postgres(&name, &self.database, json!({"sslmode": mode, "root_cert": root}))
            }
            _ => on_redis(&name, &self.redis, json!({"port": self.redis.tls_port(), "tls": verify})),
        };
        dependency.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
        dependency
    }

    /// Where the server of this kind speaks TLS, and how openssl has it begin.
    fn reached(&self, kind: &str) -> (u16, &'static [&'static str]) {
        match kind {
            "tcp" => (self.port.address().port(), &[]),
            "http" => (self.web.address().port(), &[]),
            "postgres" => (self.database.port(), &["-starttls", "postgres"]),
            _ => (self.redis.tls_port(), &[]),
        }
    }
}

/// A port that says hello over TLS.
async fn greeting(pair: &Pair) -> Peer {
    let acceptor = acceptor(pair);
    Peer::start(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let _ = stream.write_all(b"hello").await;
            let _ = stream.read(&mut [0; 64]).await;
        }
    })
    .await
}

/// When the certificate that a server presents ends, as openssl sees it over a connection of its own.
fn as_openssl_sees_it(port: u16, begin: &[&str]) -> String {
    let script = "openssl s_client -connect \"127.0.0.1:$1\" \"${@:2}\" </dev/null 2>/dev/null \
                  | openssl x509 -noout -enddate -dateopt iso_8601";
    let output = Command::new("bash").args(["-c", script, "bash"]).arg(port.to_string()).args(begin).output();
    let output = output.expect("bash starts");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let end = text.trim().strip_prefix("notAfter=").unwrap_or_else(|| panic!("no certificate: {text}"));
    // `2027-02-21 18:19:29Z` is `2027-02-21T18:19:29.000Z` to us.
    end.replace(' ', "T").replace('Z', ".000Z")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_certificate_is_told_as_openssl_sees_it_and_warned_of_in_time() {
    let (good, ending) = tokio::join!(Servers::with(&certs().good), Servers::with(&certs().ending));
    let seen = check(KINDS.iter().flat_map(|kind| {
        [
            good.asked(kind, "good", true, &json!({})),
            good.asked(kind, "early", true, &json!({"certificate_warning": "91d"})),
            ending.asked(kind, "ending", true, &json!({})),
            ending.asked(kind, "late", true, &json!({"certificate_warning": "9d"})),
        ]
    }))
    .await;
    for kind in KINDS {
        for (name, server, days, warned) in [
            ("good", &good, 90.0, None),
            ("early", &good, 90.0, Some("the server's certificate ends in 90 days: renew it")),
            ("ending", &ending, 10.0, Some("the server's certificate ends in 10 days: renew it")),
            ("late", &ending, 10.0, None),
        ] {
            let it = &seen[format!("{kind}-{name}")];
            let status = if warned.is_some() { "degraded" } else { "up" };
            assert_eq!((failure(it), &it["status"]), (WELL, &json!(status)), "{kind} {name}: {it:#}");
            assert_eq!(it["warnings"], json!(warned.into_iter().collect::<Vec<_>>()), "{kind} {name}");
            let tls = &it["details"]["tls"];
            let (port, begin) = server.reached(kind);
            assert_eq!(tls["expires_at"], as_openssl_sees_it(port, begin), "{kind} {name}");
            let left = tls["expires_in_days"].as_f64().unwrap_or_default();
            assert!((days - 0.1..=days).contains(&left), "{kind} {name}: {tls}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_has_ended_or_that_nobody_trusts_is_told_by_its_fault() {
    let (ended, stranger) = tokio::join!(Servers::with(&certs().expired), Servers::with(&certs().stranger));
    let seen = check(KINDS.iter().flat_map(|kind| {
        [
            ended.asked(kind, "ended", true, &json!({})),
            ended.asked(kind, "ended-unverified", false, &json!({})),
            stranger.asked(kind, "stranger", true, &json!({})),
        ]
    }))
    .await;
    for kind in KINDS {
        for (name, hint) in [("ended", "renew it"), ("stranger", "is not signed by the authorities in")] {
            let it = &seen[format!("{kind}-{name}")];
            assert_eq!(failure(it), ["tls", "tls_certificate", "-"], "{kind} {name}: {it:#}");
            assert!(told(it, "hint").contains(hint), "{kind} {name}: {}", told(it, "hint"));
            assert_eq!(it["last_check"]["attempts"], 1, "{kind} {name}");
        }
        let unverified = &seen[format!("{kind}-ended-unverified")];
        assert_eq!((failure(unverified), &unverified["status"]), (WELL, &json!("degraded")), "{kind}");
        let warning = unverified["warnings"][0].as_str().unwrap_or_default();
        assert!(warning.starts_with("the server's certificate ended"), "{kind}: {warning}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_chain_the_servers_own_certificate_is_warned_of_and_the_rest_is_verified() {
    let (ending, ended, endless) = tokio::join!(
        greeting(&certs().below_ending),
        greeting(&certs().below_ended),
        greeting(&certs().endless)
    );
    let asked = |name: &str, server: &Peer| {
        let tls = json!({"root_cert": certs().ca});
        on(
            "tcp",
            name,
            json!({"host": "127.0.0.1", "port": server.address().port(), "tls": tls, "expect": "hello"}),
        )
    };
    let seen = check([asked("ending", &ending), asked("ended", &ended), asked("endless", &endless)]).await;
    assert_eq!((failure(&seen["ending"]), &seen["ending"]["status"]), (WELL, &json!("up")), "{seen:#}");
    let left = seen["ending"]["details"]["tls"]["expires_in_days"].as_f64().unwrap_or_default();
    assert!(left > 89.0, "its own end, not that of the authority in between: {seen:#}");
    assert_eq!(failure(&seen["ended"]), ["tls", "tls_certificate", "-"], "{seen:#}");
    assert_eq!((failure(&seen["endless"]), &seen["endless"]["status"]), (WELL, &json!("up")), "{seen:#}");
    assert_eq!(seen["endless"]["details"]["tls"]["expires_at"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_with_its_final_dot_is_the_name_in_the_certificate() {
    let server = greeting(&certs().good).await;
    let tls = json!({"root_cert": certs().ca});
    let dotted =
        json!({"host": "localhost.", "port": server.address().port(), "tls": tls, "expect": "hello"});
    let seen = check([on("tcp", "dotted", dotted)]).await;
    assert_eq!(failure(&seen["dotted"]), WELL, "{seen:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn authorities_that_are_replaced_under_a_running_agent_are_read_again() {
    let server = greeting(&certs().good).await;
    let folder = Folder::new("authorities");
    let ca = std::fs::read(&certs().ca).expect("the authority");
    let stranger = std::fs::read(&certs().stranger.cert).expect("a certificate");
    let file = folder.write("ca.pem", &stranger);
    let tls = json!({"root_cert": file});
    let port = json!({"host": "127.0.0.1", "port": server.address().port(), "tls": tls, "expect": "hello"});
    let config = Config::quick([on("tcp", "one", port.clone()), on("tcp", "two", port)]);
    let agent = config.agent().await;
    for name in ["one", "two"] {
        let refused = |it: &Value| failure(it)[1] == "tls_certificate";
        agent.until_dependency(name, refused, "a certificate that is not accepted").await;
    }
    folder.write("ca.pem", &ca);
    for name in ["one", "two"] {
        agent.until_dependency(name, |it| it["status"] == "up", "the new authority").await;
    }
}
