//! HTTP: status, body, method, headers, TLS, and servers that are slow, cut, or talk without end.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::certs::certs;
use crate::support::config::{Config, WELL, check, failure, impatient, on, phases, told};
use crate::support::http::{Answer, HttpServer};
use crate::support::tcp::{self, Peer};

fn at(name: &str, url: impl Into<String>, more: Value) -> Value {
    let mut base = json!({"url": url.into(), "retry": {"attempts": 1}});
    if ["slow", "never", "hung-head", "hung-body", "silent"].contains(&name) {
        base = impatient(base);
    }
    base.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
    on("http", name, base)
}

#[tokio::test(flavor = "multi_thread")]
async fn status_and_body_are_judged() {
    let server = HttpServer::start(Answer::status(200).body("{\"status\": \"fine\"}")).await;
    server.answer_at("/broken", Answer::status(500).body("Traceback\x1b[31m (most recent call last)"));
    server.answer_at("/moved", Answer::status(301).header("location", "/"));
    server.answer_at("/empty", Answer::status(204));
    server.answer_at("/slow", Answer::status(200).after(Duration::from_secs(60)));
    server.answer_at("/never", Answer::never());
    let seen = check([
        at("fine", server.url("/"), json!({})),
        at("body", server.url("/"), json!({"expect": {"body": "\"fine\""}})),
        at("empty", server.url("/empty"), json!({})),
        at("as-expected", server.url("/broken"), json!({"expect": {"status": [200, "500-599"]}})),
        at("broken", server.url("/broken"), json!({"retry": {"attempts": 2}})),
        at("moved", server.url("/moved"), json!({})),
        at("other-body", server.url("/"), json!({"expect": {"body": "\"up\""}})),
        at("slow", server.url("/slow"), json!({})),
        at("never", server.url("/never"), json!({})),
    ])
    .await;
    for (name, expected) in [
        ("fine", WELL),
        ("body", WELL),
        ("empty", WELL),
        ("as-expected", WELL),
        ("broken", ["query", "unexpected_status", "500"]),
        ("moved", ["query", "unexpected_status", "301"]),
        ("other-body", ["query", "unexpected_content", "-"]),
        ("slow", ["query", "timeout", "-"]),
        ("never", ["query", "timeout", "-"]),
    ] {
        assert_eq!(failure(&seen[name]), expected, "{name}: {:#}", seen[name]);
    }
    assert_eq!(phases(&seen["fine"]), ["connect", "query"]);
    assert_eq!(seen["fine"]["details"], json!({"status_code": 200, "body_bytes": 18, "tls": null}));
    assert_eq!(seen["empty"]["details"]["body_bytes"], 0);
    let message = told(&seen["broken"], "message");
    assert!(message.contains("expected 200-299") && message.contains("Traceback"), "{message}");
    assert!(!message.contains('\x1b'), "a terminal must not be told what to do by a server: {message}");
    assert!(told(&seen["other-body"], "message").contains("fine"), "what came instead: {seen:#}");
    assert_eq!(seen["broken"]["last_check"]["attempts"], 2, "it may pass");
    assert_eq!(server.seen().iter().filter(|it| it.path == "/broken").count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn method_headers_and_credentials_are_sent_and_shown_nowhere() {
    const MARK: &str = "hunter2-hunter2";
    let server = HttpServer::start(Answer::status(200).body("fine")).await;
    server.answer_at("/broken", Answer::status(500));
    let with_user = |path: &str| server.url(path).replace("http://", &format!("http://us%40er:{MARK}@"));
    let config = Config::quick([
        at("head", server.url("/head"), json!({"method": "HEAD"})),
        at(
            "headers",
            server.url("/headers?a=1&b=%20"),
            json!({"headers": {"X-Token": MARK, "Host": "api.test"}}),
        ),
        at("user", with_user("/user"), json!({})),
        at("user-broken", with_user("/broken"), json!({})),
    ]);
    let agent = config.agent().await;
    for name in ["head", "headers", "user", "user-broken"] {
        agent.until_dependency(name, |it| it["last_check"].is_object(), "a check").await;
    }
    let seen = server.seen();
    let find = |path: &str| seen.iter().find(|it| it.path == path).unwrap_or_else(|| panic!("no {path}"));
    assert_eq!(find("/head").method, Method::HEAD);
    assert_eq!(agent.dependency("head").await["status"], "up");
    let headers = &find("/headers?a=1&b=%20").headers;
    assert_eq!(headers["x-token"], MARK);
    assert!(headers["user-agent"].to_str().is_ok_and(|it| it.starts_with("sickbay/")), "{headers:?}");
    let hosts: Vec<_> = headers.get_all("host").iter().collect();
    assert_eq!(hosts, ["api.test"], "one, and the one that was asked for");
    let basic = format!("Basic {}", STANDARD.encode(format!("us@er:{MARK}")));
    assert_eq!(find("/user").headers["authorization"], basic);
    assert_eq!(find("/user").headers["host"], server.address().to_string());

    let encoded = basic.trim_start_matches("Basic ");
    let mut shown = vec![agent.output()];
    for path in
        ["/health", "/health/detailed", "/health/config", "/circuits", "/health/dependencies/user-broken"]
    {
        shown.push(agent.get(path).await.body);
    }
    for arguments in
        [&["check"][..], &["check", "--format", "json"], &["config", "show"], &["config", "check"]]
    {
        let output = config.run(arguments).await;
        shown.extend([output.stdout, output.stderr]);
    }
    for text in shown {
        assert!(!text.contains(MARK) && !text.contains(encoded), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_verified() {
    let certs = certs();
    let start = |pair| HttpServer::start_tls(Answer::status(200).body("inside"), pair);
    let (good, other, expired, stranger) = (
        start(&certs.good).await,
        start(&certs.other_name).await,
        start(&certs.expired).await,
        start(&certs.stranger).await,
    );
    let verified = json!({"tls": {"root_cert": certs.ca}});
    let plain = HttpServer::start(Answer::status(200)).await;
    let seen = check([
        at("good", good.url("/"), verified.clone()),
        at("by-name", good.url("/").replace("127.0.0.1", "localhost"), verified.clone()),
        at("system", good.url("/"), json!({})),
        at("other", other.url("/"), verified.clone()),
        at("expired", expired.url("/"), verified.clone()),
        at("stranger", stranger.url("/"), verified.clone()),
        at("unverified", stranger.url("/"), json!({"tls": {"verify": "none"}})),
        at("plain", plain.url("/").replace("http:", "https:"), verified),
        at("plain-to-tls", good.url("/").replace("https:", "http:"), json!({})),
    ])
    .await;
    for name in ["good", "by-name", "unverified"] {
        assert_eq!(failure(&seen[name]), WELL, "{name}: {:#}", seen[name]);
        assert_eq!(seen[name]["details"]["tls"]["verified"], name != "unverified");
        assert_eq!(seen[name]["details"]["tls"]["version"], "TLSv1.2", "what the test's server speaks");
    }
    for name in ["system", "other", "expired", "stranger"] {
        assert_eq!(failure(&seen[name]), ["tls", "tls_certificate", "-"], "{name}: {:#}", seen[name]);
    }
    assert_eq!(failure(&seen["plain"]), ["tls", "tls_handshake", "-"], "{seen:#}");
    let [phase, kind, _] = failure(&seen["plain-to-tls"]);
    assert!(phase == "query" && ["protocol", "connect_reset"].contains(&kind), "{seen:#}");
}

/// Reads the request, says this, and goes on as told.
async fn saying(first: &'static str, then: Then) -> Peer {
    Peer::start(move |mut stream| async move {
        let _ = stream.read(&mut [0; 4_096]).await;
        match then {
            Then::Close => {
                let _ = stream.write_all(first.as_bytes()).await;
            }
            Then::OneByOne => {
                stream.set_nodelay(true).expect("a socket");
                for byte in first.bytes() {
                    let _ = stream.write_u8(byte).await;
                    tokio::task::yield_now().await;
                }
            }
            Then::Endless => {
                let _ = stream.write_all(first.as_bytes()).await;
                while stream.write_all(&[b'x'; 65_536]).await.is_ok() {}
            }
            Then::Hang => {
                let _ = stream.write_all(first.as_bytes()).await;
                while matches!(stream.read(&mut [0; 64]).await, Ok(1..)) {}
            }
        }
    })
    .await
}

#[derive(Clone, Copy)]
enum Then {
    Close,
    OneByOne,
    Endless,
    Hang,
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_misbehave_are_told_and_bounded() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n";
    let peers = [
        ("garbage", saying("SSH-2.0-OpenSSH\r\n", Then::Close).await, ["query", "protocol", "-"]),
        ("empty", saying("", Then::Close).await, ["query", "connect_reset", "-"]),
        ("half-head", saying("HTTP/1.1 200 OK\r\ncon", Then::Close).await, ["query", "connect_reset", "-"]),
        ("half-body", saying(HEAD, Then::Close).await, ["query", "connect_reset", "-"]),
        ("hung-head", saying("HTTP/1.1 200 OK\r\n", Then::Hang).await, ["query", "timeout", "-"]),
        ("hung-body", saying(HEAD, Then::Hang).await, ["query", "timeout", "-"]),
        ("endless-head", saying("HTTP/1.1 200 OK\r\nx: ", Then::Endless).await, ["query", "protocol", "-"]),
        ("endless-body", saying(HEAD, Then::Endless).await, WELL),
        ("until-closed", saying("HTTP/1.0 200 OK\r\n\r\nfine", Then::Close).await, WELL),
        (
            "one-by-one",
            saying("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine", Then::OneByOne).await,
            WELL,
        ),
    ];
    let reset = tcp::reset_after_request().await;
    let silent = tcp::silent();
    let url = |address: std::net::SocketAddr| format!("http://{address}/");
    let mut dependencies: Vec<_> =
        peers.iter().map(|(name, peer, _)| at(name, url(peer.address()), json!({}))).collect();
    dependencies.push(at("reset", url(reset.address()), json!({})));
    dependencies.push(at("silent", url(silent.address()), json!({})));
    let seen = check(dependencies).await;
    for (name, _, expected) in &peers {
        assert_eq!(failure(&seen[*name]), *expected, "{name}: {:#}", seen[*name]);
    }
    assert_eq!(failure(&seen["reset"]), ["query", "connect_reset", "ECONNRESET"], "{seen:#}");
    assert_eq!(failure(&seen["silent"]), ["connect", "connect_timeout", "-"], "{seen:#}");
    assert_eq!(seen["endless-body"]["details"]["body_bytes"], 64 * 1_024, "as much as was read");
    assert_eq!(seen["one-by-one"]["details"]["body_bytes"], 4);
}
