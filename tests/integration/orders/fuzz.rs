//! Ten thousand orders that are almost right: each is answered, none does anything, and nothing is left of them.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use fastrand::Rng;
use futures_util::StreamExt;
use futures_util::stream::iter;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{ADMIN, OPENER, READER, config, start};
use crate::support::agent::Env;
use crate::support::wait::PATIENCE;

const REQUESTS: u64 = 10_000;
/// After so many, the agent has all the memory that it needs for the next.
const WARM: u64 = 2_000;
const AT_A_TIME: usize = 16;

/// What 8,000 requests may leave in memory, in KiB: half a kibibyte of each would be as much.
const GROWTH_MAX: u64 = 4 * 1024;

/// Headers that have surprised servers.
const HEADERS: [&str; 16] = [
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: gzip, chunked",
    "Content-Length: 0",
    "Content-Length: -1",
    "Content-Length: 99999999999999999999",
    "Content-Type: text/plain",
    "Content-Type: application/json; charset=utf-16",
    "Content-Encoding: gzip",
    "Authorization: Bearer",
    "Authorization: Bearer \u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}",
    "Authorization: Basic Og==",
    "Expect: 100-continue",
    "Upgrade: h2c",
    "X-Correlation-Id: \u{7f}",
    "Host:",
    ": nothing",
];

/// Bodies that have surprised parsers. None gives a reason.
fn bodies() -> Vec<Vec<u8>> {
    let text = |text: &str| text.as_bytes().to_vec();
    vec![
        text(""),
        text("null"),
        text("[]"),
        text("{"),
        text("{}}"),
        text("{\"for\": 1e999}"),
        text("{\"for\": \"9999999999999999999999d\"}"),
        text("{\"for\": \"-1s\"}"),
        text("{\"readiness\": true}"),
        text("{\"reason\": \"\"}"),
        text("{\"reason\": \"\\ud800\"}"),
        text("{\"reason\": \"a\\u0000b\"}"),
        text("{\"reason\": null, \"reason\": null}"),
        text("\u{feff}{}"),
        b"{\"reason\": \"\xff\xfe\"}".to_vec(),
        b"\0\0\0\0".to_vec(),
        text(&"[".repeat(4_000)),
        text(&"{\"a\":".repeat(800)),
        text(&format!("{{\"reason\": \"{}\"}}", "x".repeat(201))),
        text(&"x".repeat(4_097)),
        text(&"x".repeat(17_000)),
    ]
}

/// An order that is refused as it is: for its dependency, for its token, or for its body.
fn almost_right(rng: &mut Rng) -> Vec<u8> {
    let action = ["open", "close", "reset"][rng.usize(..3)];
    let reason = r#"{"reason": "fuzz", "for": "30m", "readiness": "ignore"}"#;
    let (path, token, body) = match rng.u8(..4) {
        0 => (format!("/circuits/nobody/{action}"), ADMIN, reason),
        1 => (format!("/circuits/port/{action}"), READER, reason),
        2 => ("/checks/port".to_owned(), OPENER, ""),
        _ => (format!("/circuits/port/{}", ["open", "close"][rng.usize(..2)]), ADMIN, r#"{"for": "30m"}"#),
    };
    let body = if body.is_empty() || rng.bool() { body.as_bytes().to_vec() } else { nasty(rng) };
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    [head.into_bytes(), body].concat()
}

fn nasty(rng: &mut Rng) -> Vec<u8> {
    let mut bodies = bodies();
    bodies.swap_remove(rng.usize(..bodies.len()))
}

/// Changes a request in one to three places.
fn mutate(request: &mut Vec<u8>, rng: &mut Rng) {
    for _ in 0..rng.usize(1..=3) {
        let at = rng.usize(..request.len());
        match rng.u8(..7) {
            0 => request[at] = rng.u8(..),
            1 => request[at] ^= 1 << rng.u8(..8),
            2 => drop(request.drain(at..(at + rng.usize(1..=8)).min(request.len()))),
            3 => drop(request.splice(at..at, (0..rng.usize(1..=8)).map(|_| rng.u8(..)).collect::<Vec<_>>())),
            4 => {
                let line = request.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
                let header = [HEADERS[rng.usize(..HEADERS.len())].as_bytes(), b"\r\n"].concat();
                drop(request.splice(line..line, header));
            }
            5 => {
                // Something said twice.
                let end = (at + rng.usize(1..=64)).min(request.len());
                let part = request[at..end].to_vec();
                drop(request.splice(at..at, part));
            }
            _ => request.truncate(at.max(1)),
        }
        if request.is_empty() {
            request.push(0);
        }
    }
}

/// Sends it, says that nothing more comes, and gives all that is answered.
async fn exchange(agent: SocketAddr, request: &[u8]) -> Vec<u8> {
    let exchange = async {
        let mut stream = TcpStream::connect(agent).await.expect("it listens");
        // It may have heard enough before all is sent.
        let _ = stream.write_all(request).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        answer
    };
    tokio::time::timeout(PATIENCE, exchange).await.expect("an answer, or an end")
}

/// The code of an answer, `-` of none that nothing has to be said to; or what is wrong with it.
fn judge(request: &[u8], answer: &[u8]) -> Result<String, String> {
    let answer = String::from_utf8_lossy(answer).into_owned();
    let last = answer.strip_prefix("HTTP/1.1 100 Continue\r\n\r\n").unwrap_or(&answer);
    let code = last.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).unwrap_or("-");
    let whole = request.windows(4).any(|window| window == b"\r\n\r\n");
    let fine = match code {
        // Whoever breaks off in the middle of a head has asked for nothing.
        "-" => answer.is_empty() && !whole,
        code => code.starts_with('4'),
    };
    if fine {
        Ok(code.to_owned())
    } else {
        Err(format!("{}\n→ {answer}", String::from_utf8_lossy(request)))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_mutated_orders_do_nothing() {
    let (config, _peer) = config(json!({})).await;
    let agent = start(&config, &Env::new().set("SICKBAY_LOG", "info")).await;
    let past = async || {
        let circuit = agent.get("/circuits/port").await.json();
        ["state", "since", "override", "opens", "successes", "failures", "transitions"]
            .map(|field| circuit[field].clone())
    };
    let (before, mut warm) = (past().await, 0);
    let mut rng = Rng::with_seed(20_260_101);
    let (mut wrong, mut codes) = (Vec::new(), BTreeMap::<_, u32>::new());
    for (from, to) in [(0, WARM), (WARM, REQUESTS)] {
        let requests: Vec<Vec<u8>> = (from..to)
            .map(|_| {
                let mut request = almost_right(&mut rng);
                mutate(&mut request, &mut rng);
                request
            })
            .collect();
        let address = agent.address();
        let judged = iter(requests)
            .map(|request| async move { judge(&request, &exchange(address, &request).await) })
            .buffer_unordered(AT_A_TIME);
        for judged in judged.collect::<Vec<_>>().await {
            match judged {
                Ok(code) => *codes.entry(code).or_default() += 1,
                Err(told) => wrong.push(told),
            }
        }
        if from == 0 {
            warm = agent.resident_kib();
        }
    }
    let count = wrong.len();
    assert!(wrong.is_empty(), "{count} of {REQUESTS}:\n{}", wrong[..count.min(5)].join("\n\n"));
    // They got as far as each of the doors.
    for code in ["-", "400", "401", "403", "404", "405", "413", "415", "429"] {
        assert!(codes.get(code).is_some_and(|count| *count >= 10), "{code}: {codes:?}");
    }
    assert_eq!(agent.get("/livez").await.status, 200);
    assert_eq!(past().await, before, "the circuit is as it was");
    let grown = agent.resident_kib().saturating_sub(warm);
    assert!(grown < GROWTH_MAX, "{grown} KiB more than after {WARM} requests");
    let panicked = agent.logs().into_iter().find(|line: &Value| line["level"] == "ERROR");
    assert_eq!(panicked, None);
    let output = agent.output();
    assert!(![ADMIN, OPENER, READER].iter().any(|token| output.contains(token)), "a token is in the log");
}
