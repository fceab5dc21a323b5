//! HTTP/2: health questions are answered, all else is refused, and no client holds more than it may.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2::SendRequest;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::endpoints::SHORT;
use crate::rude_clients::{agent, agent_with_long_answers, allow_open_files};
use crate::support::agent::{Agent, Signal};
use crate::support::wait::{PATIENCE, eventually};

async fn send(
    sender: &mut SendRequest<Empty<Bytes>>,
    agent: &Agent,
    method: &Method,
    path: &str,
) -> Response<Bytes> {
    let request = Request::builder().method(method).uri(format!("http://{}{path}", agent.address()));
    let request = request.header("x-correlation-id", "abc").body(Empty::new()).expect("a request");
    let answer =
        sender.send_request(request).await.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
    let (head, body) = answer.into_parts();
    let body = body.collect().await.unwrap_or_else(|error| panic!("{method} {path}: {error}")).to_bytes();
    assert_eq!(head.headers["x-correlation-id"], "abc", "{method} {path}");
    assert_eq!(head.headers["cache-control"], "no-store", "{method} {path}");
    Response::from_parts(head, body)
}

#[tokio::test(flavor = "multi_thread")]
async fn health_questions_are_answered_and_all_else_is_refused() {
    let (agent, _peer) = agent().await;
    let stream = TcpStream::connect(agent.address()).await.expect("it listens");
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("HTTP/2");
    let connection = tokio::spawn(connection);
    let (get, head) = (Method::GET, Method::HEAD);
    for path in SHORT {
        let answer = send(&mut sender, &agent, &get, path).await;
        let over_http_1 = agent.get(path).await;
        assert_eq!(answer.status(), over_http_1.status, "{path}");
        assert_eq!(answer.headers()["content-type"], over_http_1.header("content-type"), "{path}");
        let keys = |body: &[u8]| {
            let body: Value = serde_json::from_slice(body).expect("JSON");
            body.as_object().expect("a map").keys().cloned().collect::<Vec<_>>()
        };
        assert_eq!(keys(answer.body()), keys(over_http_1.body.as_bytes()), "{path}");
        // A body after a `HEAD` is an error of the protocol, and ends the request.
        let alone = send(&mut sender, &agent, &head, path).await;
        assert_eq!((alone.status().as_u16(), alone.body().len()), (200, 0), "{path}");
        let length: usize =
            alone.headers()["content-length"].to_str().expect("ASCII").parse().expect("a number");
        assert!(length.abs_diff(answer.body().len()) < 16, "{path}: {length}, {answer:?}");
    }
    for (method, path) in [
        (&get, "/health/detailed"),
        (&get, "/openapi.json"),
        (&get, "/nothing"),
        (&Method::POST, "/health/live"),
        (&Method::OPTIONS, "/health/live"),
    ] {
        let answer = send(&mut sender, &agent, method, path).await;
        assert_eq!(answer.status(), 505, "{method} {path}");
        let error = serde_json::from_slice::<Value>(answer.body()).expect("JSON")["error"].clone();
        assert_eq!(error["code"], "http_version_not_supported", "{method} {path}");
        assert_eq!(error["correlation_id"], "abc", "{method} {path}");
    }
    let refused = send(&mut sender, &agent, &head, "/health/detailed").await;
    assert_eq!((refused.status().as_u16(), refused.body().len()), (505, 0));
    // It does not keep the agent from ending.
    agent.signal(Signal::TERM);
    tokio::time::timeout(PATIENCE, connection)
        .await
        .expect("an end")
        .expect("no panic")
        .expect("a polite one");
}

/// A client that does what no library would.
struct Raw {
    stream: TcpStream,
    /// The number of its next request.
    next: u32,
}

const GET: u8 = 0x82;
const POST: u8 = 0x83;
/// `:method` by name, and the literal.
const HEAD: &[u8] = b"\x02\x04HEAD";

impl Raw {
    /// One that allows `window` bytes of each answer.
    async fn connect(agent: &Agent, window: u8) -> Self {
        let stream = TcpStream::connect(agent.address()).await.expect("it listens");
        let mut client = Self { stream, next: 1 };
        client.stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("it reads");
        // SETTINGS_INITIAL_WINDOW_SIZE.
        client.send(4, 0, 0, &[0, 4, 0, 0, 0, window]);
        client
    }

    /// A frame (RFC 9113, 4.1). The agent may be gone, or not read.
    fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u8::try_from(payload.len()).expect("a short frame");
        let frame = [&[0, 0, length, kind, flags], stream.to_be_bytes().as_slice(), payload].concat();
        let _ = self.stream.try_write(&frame);
    }

    /// A head without END_STREAM, or with it; gives the number of the request.
    fn ask(&mut self, method: &[u8], path: &str, end: bool) -> u32 {
        // http and the place of `:path` are in HPACK's static table; path and host are literals.
        let length = u8::try_from(path.len()).expect("a short path");
        let head = [method, &[0x86, 0x04, length], path.as_bytes(), &[0x01, 1, b'a']].concat();
        let number = self.next;
        self.next += 2;
        self.send(1, if end { 0x05 } else { 0x04 }, number, &head);
        number
    }

    fn ping(&mut self) {
        self.send(6, 0, 0, b"stay, ok");
    }

    /// Asks, and wants no answer any more.
    fn ask_and_reset(&mut self, method: &[u8]) {
        let number = self.ask(method, "/health/live", true);
        // CANCEL.
        self.send(3, 0, number, &[0, 0, 0, 8]);
    }

    /// Reads what is there; whether the agent is still there, too.
    fn stays(&self) -> bool {
        let mut buffer = [0; 64 * 1024];
        loop {
            match self.stream.try_read(&mut buffer) {
                Ok(0) => return false,
                Ok(_) => (),
                Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_takes_no_answers_leaves_whatever_else_it_sends() {
    let (agent, _peer) = agent().await;
    type Again = fn(&mut Raw);
    let mut clients: Vec<(&str, Raw, Again)> = Vec::new();
    clients.push(("only PINGs", Raw::connect(&agent, 255).await, Raw::ping));
    let mut half = Raw::connect(&agent, 255).await;
    let number = half.ask(&[POST], "/health/live", false);
    half.send(0, 0, number, b"half");
    clients.push(("half a body, and PINGs", half, Raw::ping));
    let mut asked = Raw::connect(&agent, 255).await;
    asked.ask(&[GET], "/health/live", true);
    clients.push(("an answer, and then PINGs", asked, Raw::ping));
    let again: [(&str, u8, Again); 4] = [
        ("a window of 0, and PINGs", 0, Raw::ping),
        ("a window of 0, and requests that are reset", 0, |it| it.ask_and_reset(&[GET])),
        ("a window of 1, and requests that are reset", 1, |it| it.ask_and_reset(&[GET])),
        ("a window of 0, and requests for heads", 0, |it| it.ask_and_reset(HEAD)),
    ];
    for (what, window, again) in again {
        let mut client = Raw::connect(&agent, window).await;
        for _ in 0..15 {
            client.ask(&[GET], "/health/live", true);
        }
        clients.push((what, client, again));
    }
    let count = clients.len() as u64;
    // One that takes its answers stays.
    let mut polite = Raw::connect(&agent, 255).await;
    let mut round = 0;
    while !clients.is_empty() {
        assert!(round < 3_000, "still there: {:?}", clients.iter().map(|it| it.0).collect::<Vec<_>>());
        assert_eq!(agent.get("/health/alb").await.status, 200);
        if round % 20 == 0 {
            polite.ask(&[GET], "/health/live", true);
            for (_, client, again) in &mut clients {
                again(client);
            }
        }
        assert!(polite.stays());
        clients.retain(|(_, client, _)| client.stays());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        round += 1;
    }
    let server = agent.get("/health/detailed").await.json()["server"].clone();
    assert_eq!(server["silent"], count, "that is what they left for: {server}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_takes_no_answers_fills_no_memory_and_keeps_nobody_from_long_ones() {
    allow_open_files(8_192);
    let (agent, _peer) = agent_with_long_answers().await;
    let before = agent.resident_kib();
    let mut greedy = Vec::new();
    for window in [0, 1].repeat(200) {
        // With a window of one byte the protocol takes more of an answer, and has it wait elsewhere.
        let mut client = Raw::connect(&agent, window).await;
        for path in ["/health", "/openapi.json", "/health/detailed", "/health/alb"].repeat(4) {
            client.ask(&[GET], path, true);
        }
        greedy.push(client);
    }
    for _ in 0..5 {
        for path in ["/health/alb", "/health", "/health/detailed", "/circuits"] {
            assert_eq!(agent.get(path).await.status, 200, "{path}");
        }
    }
    let more = agent.resident_kib().saturating_sub(before);
    assert!(greedy.iter().all(Raw::stays), "this is what they hold while they are there");
    // An answer for each of 6,400 requests would be a gigabyte and more.
    assert!(more < 96 * 1024, "{more} KiB more");
    eventually("those who take nothing to be gone", || {
        greedy.iter_mut().for_each(Raw::ping);
        let still = greedy.iter().filter(|client| client.stays()).count();
        std::future::ready(if still == 0 { Ok(()) } else { Err(format!("{still} are still there")) })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_fill_no_memory() {
    allow_open_files(8_192);
    let (agent, _peer) = agent().await;
    let before = agent.resident_kib();
    let mut held = Vec::new();
    for _ in 0..400 {
        let mut client = Raw::connect(&agent, 255).await;
        let requests: Vec<u32> = (0..16).map(|_| client.ask(&[GET], "/health/live", false)).collect();
        // 16,000 bytes of each body, and none of them ends.
        for number in requests.repeat(64) {
            client.send(0, 0, number, &[b'x'; 250]);
        }
        held.push(client);
    }
    assert_eq!(agent.get("/health/alb").await.status, 200);
    let more = agent.resident_kib().saturating_sub(before);
    // What was sent is 100 MiB.
    assert!(more < 64 * 1024, "{more} KiB more, of {} clients", held.len());
}
