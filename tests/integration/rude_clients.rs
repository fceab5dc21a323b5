//! Clients that do not behave: each request is answered sanely or not at all, and nobody else notices.

use std::io;

use futures_util::future::join_all;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::support::agent::Agent;
use crate::support::config::{Config, on};
use crate::support::tcp;
use crate::support::wait::{PATIENCE, eventually};

/// An agent that watches a port that is well.
pub async fn agent() -> (Agent, impl Sized) {
    let peer = tcp::mute().await;
    let config =
        Config::quick([on("tcp", "port", json!({"host": "127.0.0.1", "port": peer.address().port()}))]);
    let agent = config.agent().await;
    agent.until("/health/ready", |it| it.status == 200, "a first result").await;
    (agent, (peer, config))
}

/// An agent that watches it a thousand times over: all that it has to tell is almost a megabyte.
pub async fn agent_with_long_answers() -> (Agent, impl Sized) {
    let peer = tcp::mute().await;
    let port = |n: usize| {
        let more = json!({"host": "127.0.0.1", "port": peer.address().port(), "interval": "1h"});
        on("tcp", &format!("port-{n}"), more)
    };
    let config = Config::quick((0..1_000).map(port));
    let agent = config.agent().await;
    agent.until("/health/ready", |it| it.status == 200, "first results").await;
    let all = agent.get("/health/detailed").await;
    assert!(all.body.len() > 900_000, "{}", all.body.len());
    (agent, (peer, config))
}

/// A connection, read answer by answer.
struct Client(BufReader<TcpStream>);

/// A head, without its last line, and a body.
struct Answer {
    code: u16,
    head: String,
    body: String,
}

impl Client {
    async fn connect(agent: &Agent) -> Self {
        Self(BufReader::new(TcpStream::connect(agent.address()).await.expect("it listens")))
    }

    /// Sends; the agent may hang up before it has taken all.
    async fn send(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes).await;
    }

    /// The next answer; `None` where the agent hung up instead.
    async fn answer(&mut self) -> Option<Answer> {
        tokio::time::timeout(PATIENCE, self.read()).await.expect("an answer, or an end").ok()
    }

    async fn read(&mut self) -> io::Result<Answer> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await?);
        }
        let head = String::from_utf8(head).expect("a head is ASCII").trim_end().to_lowercase();
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().expect("a number"))];
        self.0.read_exact(&mut body).await?;
        Ok(Answer { code, head, body: String::from_utf8(body).expect("UTF-8") })
    }
}

/// What becomes of a connection after the last answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Stays,
    Closes,
}
use Then::{Closes, Stays};

/// A head with these lines, for a path that everybody may ask.
fn get(lines: &str) -> Vec<u8> {
    format!("GET /health/live HTTP/1.1\r\nhost: a\r\n{lines}\r\n").into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_gets_a_sane_answer() {
    let (agent, _peer) = agent().await;
    let line = |line: &str| format!("{line} HTTP/1.1\r\nhost: a\r\n\r\n").into_bytes();
    let with_body = |lines: &str, body: &str| [get(lines), body.as_bytes().to_vec()].concat();
    let long = "x".repeat(20_000);
    let chunked = "transfer-encoding: chunked\r\n";
    let cases: Vec<(&str, Vec<u8>, &[u16], Then)> = vec![
        ("a plain one", get(""), &[200], Stays),
        ("HTTP/1.0", b"GET /health/live HTTP/1.0\r\n\r\n".to_vec(), &[200], Closes),
        (
            "HTTP/1.0 that stays",
            b"GET /health/live HTTP/1.0\r\nconnection: keep-alive\r\n\r\n".to_vec(),
            &[200],
            Stays,
        ),
        ("HTTP/0.9", b"GET /health/live\r\n".to_vec(), &[400], Closes),
        ("HTTP/3.0", b"GET /health/live HTTP/3.0\r\n\r\n".to_vec(), &[400], Closes),
        ("close", get("connection: close\r\n"), &[200], Closes),
        // No answer depends on the host; many who check health leave it out.
        ("no host", b"GET /health/live HTTP/1.1\r\n\r\n".to_vec(), &[200], Stays),
        ("empty lines before", [b"\r\n\r\n".to_vec(), get("")].concat(), &[200], Stays),
        ("line feeds alone", b"GET /health/live HTTP/1.1\nhost: a\n\n".to_vec(), &[200], Stays),
        ("two at once", [get(""), line("GET /nothing")].concat(), &[200, 404], Stays),
        ("the second is broken", [get(""), b"\0\r\n\r\n".to_vec()].concat(), &[200, 400], Closes),
        // Targets.
        ("absolute-form", line("GET http://elsewhere.test/health/live"), &[200], Stays),
        ("absolute-form with a query", line("GET http://elsewhere.test:1/health/live?x#y"), &[200], Stays),
        ("absolute-form without a path", line("GET http://elsewhere.test"), &[404], Stays),
        ("authority-form", line("GET elsewhere.test:80"), &[400], Stays),
        ("CONNECT", line("CONNECT elsewhere.test:443"), &[400], Stays),
        ("asterisk-form", line("OPTIONS *"), &[404], Stays),
        ("two slashes", line("GET //health/live"), &[404], Stays),
        ("dots", line("GET /health/../health/live"), &[404], Stays),
        ("an escaped letter", line("GET /health/%6cive"), &[404], Stays),
        ("an escaped NUL", line("GET /health/live%00"), &[404], Stays),
        ("a broken escape", line("GET /health/dependencies/%zz"), &[404], Stays),
        ("an escape that is no UTF-8", line("GET /health/dependencies/%ff%fe"), &[404], Stays),
        ("a query that is no UTF-8", line("GET /history?dependency=%ff"), &[404], Stays),
        ("a path that is no UTF-8", b"GET /\xff\xfe HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(), &[400], Closes),
        ("a NUL in the path", b"GET /\0 HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(), &[400], Closes),
        ("a blank in the path", line("GET /health/live x"), &[400], Closes),
        ("a long path", line(&format!("GET /{long}")), &[431], Closes),
        // Methods.
        ("TRACE", line("TRACE /health/live"), &[405], Stays),
        ("a method that nobody knows", line("BREW /health/live"), &[405], Stays),
        ("a method in small letters", line("get /health/live"), &[405], Stays),
        ("no method", b"NONSENSE\r\n\r\n".to_vec(), &[400], Closes),
        // Headers.
        ("a NUL in a header", get("x: a\0b\r\n"), &[400], Closes),
        ("a header without a name", get(": x\r\n"), &[400], Closes),
        ("a blank before the colon", get("x : y\r\n"), &[400], Closes),
        ("a folded header", get("x: y\r\n z\r\n"), &[400], Closes),
        ("a header that is no UTF-8", get("x: \u{ff}\r\n"), &[200], Stays),
        ("101 headers", get(&"x: y\r\n".repeat(101)), &[431], Closes),
        ("a long header", get(&format!("x: {long}\r\n")), &[431], Closes),
        ("two correlation ids", get("x-correlation-id: one\r\nx-correlation-id: two\r\n"), &[200], Stays),
        ("an upgrade to WebSocket", get("connection: upgrade\r\nupgrade: websocket\r\n"), &[200], Stays),
        (
            "an upgrade to HTTP/2",
            get(
                "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n",
            ),
            &[200],
            Stays,
        ),
        // Bodies.
        ("GET with a body", with_body("content-length: 5\r\n", "hello"), &[200], Stays),
        (
            "a request after a body",
            [with_body("content-length: 5\r\n", "hello"), get("")].concat(),
            &[200, 200],
            Stays,
        ),
        ("the longest body", with_body("content-length: 16384\r\n", &"x".repeat(16_384)), &[200], Stays),
        ("GET with a long body", with_body("content-length: 16385\r\n", ""), &[413], Closes),
        (
            "POST",
            b"POST /health/live HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}".to_vec(),
            &[405],
            Stays,
        ),
        (
            "POST with a long body",
            b"POST /health/live HTTP/1.1\r\nhost: a\r\ncontent-length: 999999999\r\n\r\n".to_vec(),
            &[413],
            Closes,
        ),
        ("a length beyond numbers", get("content-length: 99999999999999999999999\r\n"), &[400], Closes),
        ("a negative length", get("content-length: -1\r\n"), &[400], Closes),
        ("a length with a sign", get("content-length: +5\r\n"), &[400], Closes),
        (
            "the same length twice",
            with_body("content-length: 5\r\ncontent-length: 5\r\n", "hello"),
            &[200],
            Stays,
        ),
        ("two lengths", with_body("content-length: 5\r\ncontent-length: 6\r\n", "hello"), &[400], Closes),
        ("two lengths in one", with_body("content-length: 5, 6\r\n", "hello"), &[400], Closes),
        ("a chunked body", with_body(chunked, "5\r\nhello\r\n0\r\n\r\n"), &[200], Stays),
        (
            "chunked, and a request after it",
            [with_body(chunked, "5\r\nhello\r\n0\r\n\r\n"), get("")].concat(),
            &[200, 200],
            Stays,
        ),
        ("chunked with trailers", with_body(chunked, "0\r\nx: y\r\n\r\n"), &[200], Stays),
        // Two who read these differently could be made to see two different requests.
        (
            "chunked with a length",
            with_body(&format!("{chunked}content-length: 5\r\n"), "0\r\n\r\n"),
            &[200],
            Closes,
        ),
        (
            "chunked in HTTP/1.0",
            b"GET /livez HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
            &[400],
            Closes,
        ),
        ("not chunked in the end", get("transfer-encoding: chunked, identity\r\n"), &[400], Closes),
        ("an encoding that nobody knows", get("transfer-encoding: xchunked\r\n"), &[400], Closes),
        ("a chunk of no length", with_body(chunked, "zz\r\nhello\r\n0\r\n\r\n"), &[400], Closes),
        ("a chunk of a length beyond numbers", with_body(chunked, "fffffffffffffffff\r\nx"), &[400], Closes),
        (
            "a chunk that is longer than it says",
            with_body(chunked, "1\r\nhello\r\n0\r\n\r\n"),
            &[400],
            Closes,
        ),
        ("many small chunks", with_body(chunked, &"1\r\nx\r\n".repeat(16_385)), &[413], Closes),
        (
            "an expectation",
            with_body("expect: 100-continue\r\ncontent-length: 5\r\n", "hello"),
            &[100, 200],
            Stays,
        ),
        (
            "an expectation for too much",
            get("expect: 100-continue\r\ncontent-length: 999999\r\n"),
            &[413],
            Closes,
        ),
        (
            "an expectation that nobody knows",
            with_body("expect: miracles\r\ncontent-length: 5\r\n", "hello"),
            &[200],
            Stays,
        ),
        // Other protocols.
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), &[400], Closes),
        ("a PostgreSQL client", b"\0\0\0\x08\x04\xd2\x16\x2f\0\0\0\0\0\0\0\0".to_vec(), &[400], Closes),
        ("a Redis client", b"*1\r\n$4\r\nPING\r\n".to_vec(), &[400], Closes),
        (
            "a proxy header",
            [b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n".to_vec(), get("")].concat(),
            &[400],
            Closes,
        ),
    ];
    for (what, request, codes, then) in cases {
        let mut client = Client::connect(&agent).await;
        client.send(&request).await;
        for (n, code) in codes.iter().enumerate() {
            let answer = client.answer().await.unwrap_or_else(|| panic!("{what}: no answer {n}"));
            assert_eq!(answer.code, *code, "{what}: {} {}", answer.head, answer.body);
            // The protocol's own refusals have no body; all of ours are JSON.
            if !answer.body.is_empty() {
                let body: Value = serde_json::from_str(&answer.body).expect("JSON");
                assert_eq!(body["error"].is_object(), *code != 200, "{what}: {body}");
                for header in ["cache-control: no-store", "x-correlation-id: "] {
                    assert!(answer.head.contains(header), "{what}: {}", answer.head);
                }
            }
        }
        client.send(&get("")).await;
        let then_seen = if client.answer().await.is_some_and(|it| it.code == 200) { Stays } else { Closes };
        assert_eq!(then_seen, then, "{what}");
    }
    assert_eq!(agent.get("/health/ready").await.status, 200);
    assert!(!agent.output().contains("panicked"), "{}", agent.output());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_body_ends_with_413() {
    let (agent, _peer) = agent().await;
    for head in ["content-length: 1000000000000\r\n", "transfer-encoding: chunked\r\n"] {
        let stream = TcpStream::connect(agent.address()).await.expect("it listens");
        let (reading, mut writing) = stream.into_split();
        writing.write_all(&get(head)).await.expect("it reads");
        let sending = tokio::spawn(async move {
            let chunk = [b"1000\r\n".to_vec(), vec![b'x'; 4_096], b"\r\n".to_vec()].concat();
            while writing.write_all(&chunk).await.is_ok() {}
        });
        let mut answer = Vec::new();
        let _ = BufReader::new(reading).read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 413"), "{head}: {answer}");
        assert!(answer.contains("payload_too_large") && answer.contains("connection: close"), "{answer}");
        sending.await.expect("the agent hangs up, so the sender ends");
        agent.until_logged(|it| it["code"] == 413 && it["path"] == "/health/live", "the refusal").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_carries_many_requests_at_once() {
    let (agent, _peer) = agent().await;
    let mut client = Client::connect(&agent).await;
    client.send(&get("").repeat(500)).await;
    for n in 0..500 {
        assert_eq!(client.answer().await.map(|it| it.code), Some(200), "{n}");
    }
    // Whoever sends no more may still want the answer.
    client.send(&get("")).await;
    client.0.get_mut().shutdown().await.expect("a half-closed connection");
    assert_eq!(client.answer().await.map(|it| it.code), Some(200));
    assert!(client.answer().await.is_none());
}

/// Raises the limit of open files of this process: the tests hold thousands.
pub fn allow_open_files(wanted: u64) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|current| current < wanted) {
        let raised = Rlimit { current: Some(wanted), maximum };
        setrlimit(Resource::Nofile, raised).expect("the hard limit allows it");
    }
}

/// Connections of which one half says nothing and the other half a part of a request.
async fn hold(agent: &Agent, count: usize) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for n in 0..count {
        let mut stream = TcpStream::connect(agent.address()).await.expect("it listens");
        if n % 2 == 0 {
            stream.write_all(b"GET /health/ready HTTP/1.1\r\nhost: x\r\n").await.expect("it reads");
        }
        held.push(stream);
    }
    held
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_is_answered_while_thousands_sit_there() {
    allow_open_files(8_192);
    let (agent, _peer) = agent().await;
    // One that asks now and then keeps its place among those that do not.
    let mut polite = Client::connect(&agent).await;
    let mut held = Vec::new();
    for _ in 0..20 {
        held.extend(hold(&agent, 100).await);
        polite.send(&get("")).await;
        assert_eq!(polite.answer().await.map(|it| it.code), Some(200));
        for path in ["/health/alb", "/health/live", "/health/detailed"] {
            assert_eq!(agent.get(path).await.status, 200, "{path}");
        }
    }
    assert_eq!(held.len(), 2_000);
    let server = agent.get("/health/detailed").await.json()["server"].clone();
    let count = |name: &str| server[name].as_u64().expect("a number");
    assert!(count("accepted") > 2_000 && count("connections") <= 1_024, "{server}");
    assert!(count("displaced") > 900, "{server}");
    agent.until_logged(|it| it["level"] == "WARN" && it["closed"].is_u64(), "who is sent away").await;
    let before = agent.dependency("port").await["circuit"]["successes"].as_u64();
    agent.until_dependency("port", |it| it["circuit"]["successes"].as_u64() > before, "another check").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_of_few_descriptors_stay_for_checks() {
    allow_open_files(8_192);
    let peer = tcp::mute().await;
    let config =
        Config::quick([on("tcp", "port", json!({"host": "127.0.0.1", "port": peer.address().port()}))]);
    let agent = Agent::start_within("ulimit -n 64", &["--config", config.path()]).await;
    agent.until("/health/alb", |answer| answer.status == 200, "a first success").await;
    let held = hold(&agent, 500).await;
    for _ in 0..20 {
        assert_eq!(agent.get("/health/alb").await.status, 200);
    }
    let before = agent.dependency("port").await["circuit"]["successes"].as_u64();
    let after = agent.until_dependency(
        "port",
        |it| it["circuit"]["successes"].as_u64() >= before.map(|n| n + 5),
        "checks",
    );
    assert_eq!(after.await["circuit"]["failures"], 0);
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_and_unread_answers_end_a_connection() {
    let (agent, _peer) = agent().await;
    let long_answers = b"GET /openapi.json HTTP/1.1\r\nhost: a\r\n\r\n".repeat(1_000);
    let cases = [
        ("nothing was sent", Vec::new()),
        ("half a head", b"GET /health/live HTTP/1.1\r\nhost: a\r\n".to_vec()),
        ("half a body", b"POST /livez HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf".to_vec()),
        ("an answer, and then nothing", get("")),
        ("answers that nobody reads", long_answers),
    ];
    join_all(cases.map(|(what, sent)| until_hung_up(&agent, what, sent))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_nobody_takes_fill_no_memory_and_keep_no_health_question_waiting() {
    allow_open_files(8_192);
    let (agent, _peer) = agent_with_long_answers().await;
    let get = |path: &str, times: usize| format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").repeat(times);
    // The kernel keeps two megabytes for each; what comes then stays with the agent.
    let many = get("/openapi.json", 40) + &get("/health/detailed", 10);
    let before = agent.resident_kib();
    let mut greedy = Vec::new();
    for _ in 0..100 {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(2_048).expect("a size");
        let mut stream = socket.connect(agent.address()).await.expect("it listens");
        stream.write_all(many.as_bytes()).await.expect("it fits into the buffers of the kernel");
        greedy.push(stream);
    }
    let long = "/health/dependencies/port-1";
    let refused = agent.until(long, |answer| answer.status == 503, "a room that is full").await;
    assert_eq!(refused.json()["error"]["code"], "overloaded", "{refused}");
    for path in ["/health/alb", "/health"] {
        assert_eq!(agent.get(path).await.status, 200, "{path}");
    }
    let more = agent.resident_kib().saturating_sub(before);
    // One answer each would be 90 MiB and more.
    assert!(more < 32 * 1024, "{more} KiB more");
    agent.until_logged(|it| it["level"] == "WARN" && it["refused"].is_u64(), "who is refused").await;
    drop(greedy);
    agent.until(long, |answer| answer.status == 200, "room").await;
    let server = agent.get("/health/detailed").await.json()["server"].clone();
    assert!(server["overloaded"].as_u64().is_some_and(|refused| refused > 0), "{server}");
}

/// Sends this, and reads nothing until the agent has hung up although it may have more to say.
async fn until_hung_up(agent: &Agent, what: &str, sent: Vec<u8>) {
    let mut stream = TcpStream::connect(agent.address()).await.expect("it listens");
    stream.write_all(&sent).await.expect("it fits into the buffers of the kernel");
    let ours = format!(":{:04X}", stream.local_addr().expect("an address").port());
    eventually(&format!("the agent to hang up: {what}"), || {
        // Local address, remote address, state: 01 is ESTABLISHED.
        let sockets = std::fs::read_to_string("/proc/net/tcp").expect("/proc is mounted");
        let held = sockets.lines().any(|line| {
            let mut fields = line.split_whitespace().skip(2);
            fields.next().is_some_and(|remote| remote.ends_with(&ours)) && fields.next() == Some("01")
        });
        std::future::ready(if held { Err("it holds the connection") } else { Ok(()) })
    })
    .await;
}
