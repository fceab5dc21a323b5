//! HTTP: status, body, method, headers, TLS, and servers that are slow, cut, or talk without end.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::certs::certs;
use crate::support::config::{Config, WELL, check, failure, impatient, on, phases, told};
use crate::support::http::{Answer, HttpServer};
use crate::support::tcp::{self, Peer, with_reset};

fn at(name: &str, url: impl Into<String>, more: Value) -> Value {
    let mut base = json!({"url": url.into(), "retry": {"attempts": 1}});
    if ["slow", "never", "hung-head", "hung-body", "slow-head", "slow-body", "silent"].contains(&name) {
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
        let _ = say(stream, first, then).await;
    })
    .await
}

/// Says this before it is asked anything, and goes on as told.
async fn greeting(first: &'static str, then: Then) -> Peer {
    Peer::start(move |stream| async move {
        let _ = say(stream, first, then).await;
    })
    .await
}

async fn say(mut stream: TcpStream, text: &str, then: Then) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    match then {
        Then::OneByOne => {
            for byte in text.bytes() {
                stream.write_u8(byte).await?;
                tokio::task::yield_now().await;
            }
            return Ok(());
        }
        Then::Slowly => {
            for byte in text.bytes() {
                stream.write_u8(byte).await?;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            return Ok(());
        }
        _ => stream.write_all(text.as_bytes()).await?,
    }
    match then {
        Then::Endless => loop {
            stream.write_all(&[b'x'; 65_536]).await?;
        },
        Then::Again => loop {
            stream.write_all(text.as_bytes()).await?;
        },
        Then::Hang => while stream.read(&mut [0; 64]).await? > 0 {},
        Then::Reset => with_reset(stream),
        Then::Close | Then::OneByOne | Then::Slowly => {}
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Then {
    Close,
    Reset,
    OneByOne,
    /// A byte a second.
    Slowly,
    /// `x` for ever.
    Endless,
    /// The same for ever.
    Again,
    Hang,
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_misbehave_are_told_and_bounded() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n";
    let peers = [
        ("garbage", saying("SSH-2.0-OpenSSH\r\n", Then::Close).await, ["query", "protocol", "-"]),
        ("empty", saying("", Then::Close).await, ["query", "connect_reset", "-"]),
        ("slow-head", saying("HTTP/1.1 200 OK\r\n\r\n", Then::Slowly).await, ["query", "timeout", "-"]),
        (
            "slow-body",
            saying("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine", Then::Slowly).await,
            ["query", "timeout", "-"],
        ),
        ("reset-body", saying(HEAD, Then::Reset).await, ["query", "connect_reset", "ECONNRESET"]),
        ("interim", saying("HTTP/1.1 100 Continue\r\n\r\n", Then::Again).await, ["query", "protocol", "-"]),
        (
            "upgraded",
            saying(
                "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
                Then::Hang,
            )
            .await,
            ["query", "unexpected_status", "101"],
        ),
        ("http2", saying("\0\0\x12\x04\0\0\0\0\0", Then::Close).await, ["query", "protocol", "-"]),
        ("only-tls", saying("\x15\x03\x01\0\x02\x02\x46", Then::Close).await, ["query", "tls_required", "-"]),
        (
            "bad-chunks",
            saying("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", Then::Close).await,
            WELL,
        ),
        (
            "half-chunk",
            saying("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n8\r\nhalf", Then::Close).await,
            WELL,
        ),
        (
            "reset-chunk",
            saying("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n8\r\nhalf", Then::Reset).await,
            WELL,
        ),
        (
            "endless-chunk",
            saying("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffff\r\n", Then::Endless).await,
            WELL,
        ),
        (
            "bad-length",
            saying("HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", Then::Close).await,
            ["query", "protocol", "-"],
        ),
        ("bad-status", saying("HTTP/1.1 abc\r\n\r\n", Then::Close).await, ["query", "protocol", "-"]),
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

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_too_large_is_told_as_such() {
    let with = |headers: usize, length: usize| {
        let value = "x".repeat(length);
        let answer = Answer::status(200);
        (0..headers).fold(answer, |answer, n| answer.header(&format!("x-{n}"), &value))
    };
    let server = HttpServer::start(Answer::status(200)).await;
    server.answer_at("/some", with(200, 10));
    server.answer_at("/many", with(300, 10));
    // The limit is looked at between two reads, each of which may take a good deal.
    server.answer_at("/long", with(200, 10_000));
    let names = ["some", "many", "long"];
    let seen = check(names.map(|name| at(name, server.url(&format!("/{name}")), json!({})))).await;
    assert_eq!(failure(&seen["some"]), WELL, "{seen:#}");
    for name in ["many", "long"] {
        let it = &seen[name];
        assert_eq!(failure(it), ["query", "protocol", "-"], "{name}: {it:#}");
        let message = "the head of the answer is longer than 64 KiB or has more than 256 headers";
        assert_eq!(told(it, "message"), message, "{name}");
        assert!(told(it, "hint").contains("look at the headers with `curl --head`"), "{name}: {it:#}");
    }
}

/// What speaks first is told by what it says, however the connection ends: whether the answer or the end of the
/// connection is seen first is chance.
#[tokio::test(flavor = "multi_thread")]
async fn what_speaks_first_is_told_by_what_it_says() {
    const MAIL: &str = "220 mail.test ESMTP\r\n";
    const SHELL: &str = "SSH-2.0-OpenSSH_9.2\r\n";
    let peers = [
        ("mail-waits", greeting(MAIL, Then::Hang).await, MAIL),
        ("mail-closes", greeting(MAIL, Then::Close).await, MAIL),
        ("mail-resets", greeting(MAIL, Then::Reset).await, MAIL),
        ("shell-waits", greeting(SHELL, Then::Hang).await, SHELL),
        ("shell-closes", greeting(SHELL, Then::Close).await, SHELL),
        ("shell-resets", greeting(SHELL, Then::Reset).await, SHELL),
        ("mail-asked", saying("500 Error: bad syntax\r\n", Then::Reset).await, "500 Error: bad syntax\r\n"),
    ];
    for round in 0..10 {
        let dependencies =
            peers.iter().map(|(name, peer, _)| at(name, format!("http://{}/", peer.address()), json!({})));
        let seen = check(dependencies.collect::<Vec<_>>()).await;
        for (name, _, words) in &peers {
            let it = &seen[*name];
            // A reset that comes before the connection counts as made takes what was said with it.
            if failure(it)[..2] == ["connect", "connect_reset"] {
                continue;
            }
            assert_eq!(failure(it), ["query", "protocol", "-"], "{name} in round {round}: {it:#}");
            let expected =
                format!("what answers does not speak HTTP/1.1, it says: \"{}\"", words.escape_default());
            assert_eq!(told(it, "message"), expected, "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_body_is_looked_at_until_what_is_expected_comes() {
    const STREAM: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6\r\nready\n\r\n";
    const BROKEN: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nready\r\nzz\r\n";
    const BREAKS: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nrea";
    let stream = saying(STREAM, Then::Hang).await;
    let broken = saying(BROKEN, Then::Close).await;
    let breaks = saying(BREAKS, Then::Close).await;
    let late = HttpServer::start(Answer::status(200).body(format!("{}ready", "x".repeat(64 * 1024)))).await;
    let last =
        HttpServer::start(Answer::status(200).body(format!("{}ready", "x".repeat(64 * 1024 - 5)))).await;
    let ready = json!({"expect": {"body": "ready"}});
    let seen = check([
        at("stream", format!("http://{}/", stream.address()), ready.clone()),
        at("broken", format!("http://{}/", broken.address()), ready.clone()),
        at("breaks", format!("http://{}/", breaks.address()), ready.clone()),
        at("late", late.url("/"), ready.clone()),
        at("last", last.url("/"), ready),
    ])
    .await;
    assert_eq!(failure(&seen["stream"]), WELL, "a stream need not end: {seen:#}");
    assert_eq!(seen["stream"]["details"]["body_bytes"], 6);
    assert_eq!(failure(&seen["broken"]), WELL, "what was expected had come: {seen:#}");
    assert_eq!(failure(&seen["breaks"]), ["query", "connect_reset", "-"], "{seen:#}");
    assert_eq!(failure(&seen["last"]), WELL, "{seen:#}");
    assert_eq!(failure(&seen["late"]), ["query", "unexpected_content", "-"], "{seen:#}");
    let message = told(&seen["late"], "message");
    assert!(
        message.starts_with("expected \"ready\" in the first 64 KiB of the body, received \"xxx"),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirection_is_told_without_what_may_be_secret_in_it() {
    const MARK: &str = "hunter2";
    let server = HttpServer::start(Answer::status(404)).await;
    let moved = |status: u16, location: &str| Answer::status(status).header("location", location);
    let cases = [
        ("absolute", 301, "https://api.test/v2/health".to_owned(), "https://api.test/v2/health"),
        ("relative", 302, "../login?next=%2F&token=hunter2#hunter2".to_owned(), "/login"),
        ("user", 307, "https://hunter2:hunter2@api.test:8443/".to_owned(), "https://api.test:8443/"),
    ];
    for (name, status, location, _) in &cases {
        server.answer_at(&format!("/a/{name}"), moved(*status, location));
    }
    for (name, location) in [
        ("at-behind-host", "https://api.test/hunter2@x"),
        ("mail", "mailto:hunter2@x"),
        ("long", &format!("/{}", "hunter2".repeat(100))),
    ] {
        server.answer_at(&format!("/a/{name}"), moved(301, location));
    }
    server.answer_at("/a/none", Answer::status(304));
    let names = ["absolute", "relative", "user", "at-behind-host", "mail", "long", "none"];
    let seen = check(names.map(|name| at(name, server.url(&format!("/a/{name}")), json!({})))).await;
    for (name, status, _, expected) in &cases {
        let it = &seen[*name];
        assert_eq!(failure(it), ["query", "unexpected_status", status.to_string().as_str()], "{it:#}");
        let url = if expected.starts_with('/') { server.url(expected) } else { (*expected).to_owned() };
        let expected = format!("status {status}, expected 200-299; it redirects to \"{url}\"");
        assert_eq!(told(it, "message"), expected);
        assert!(told(it, "hint").starts_with("redirects are not followed"), "{it:#}");
    }
    for name in ["at-behind-host", "mail", "long", "none"] {
        assert!(told(&seen[name], "message").ends_with("expected 200-299"), "{:#}", seen[name]);
    }
    assert!(!seen.to_string().contains(MARK), "{seen:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_says_what_to_look_at() {
    let server = HttpServer::start(Answer::status(500)).await;
    let cases = [
        (400, "only HTTPS"),
        (401, "credentials"),
        (403, "refuses"),
        (404, "at this path"),
        (405, "set `method`"),
        (429, "lengthen `interval`"),
        (500, "read its log"),
        (503, "look behind it"),
    ];
    for (status, _) in cases {
        server.answer_at(&format!("/{status}"), Answer::status(status));
    }
    let seen = check(
        cases.map(|(status, _)| at(&format!("s{status}"), server.url(&format!("/{status}")), json!({}))),
    )
    .await;
    for (status, hint) in cases {
        let it = &seen[format!("s{status}")];
        assert_eq!(failure(it), ["query", "unexpected_status", status.to_string().as_str()]);
        assert!(told(it, "hint").contains(hint), "{it:#}");
    }
}
