//! Peers that are no Redis, or cut, stall and garble at one step of the protocol.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::support::config::{WELL, check, failure, impatient, on, phases, told};
use crate::support::fake_redis::{Act, fake_redis};
use crate::support::tcp::{self, Peer};

fn at(name: &str, address: SocketAddr, more: Value) -> Value {
    let mut base = json!({"host": "127.0.0.1", "port": address.port()});
    base.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
    on("redis", name, base)
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_that_are_no_redis_fail_in_the_phase_they_fail_in() {
    let (mute, reset) = (tcp::mute().await, tcp::reset().await);
    let http = tcp::garbage(b"HTTP/1.1 400 Bad Request\r\n\r\n".as_slice()).await;
    let mail = tcp::garbage(b"220 mail.test ESMTP\r\n".as_slice()).await;
    let alert = tcp::garbage([21, 3, 1, 0, 2, 2, 70].as_slice()).await;
    let cut = tcp::garbage(b"".as_slice()).await;
    let silent = tcp::silent();
    let seen = check([
        at("silent", silent.address(), impatient(json!({}))),
        at("mute", mute.address(), impatient(json!({}))),
        at("mute-tls", mute.address(), impatient(json!({"tls": true}))),
        at("reset", reset.address(), json!({})),
        at("cut", cut.address(), json!({})),
        at("http", http.address(), json!({})),
        at("mail", mail.address(), json!({})),
        at("only-tls", alert.address(), json!({})),
    ])
    .await;
    for (name, expected) in [
        ("silent", ["connect", "connect_timeout", "-"]),
        ("mute", ["query", "timeout", "-"]),
        ("mute-tls", ["tls", "timeout", "-"]),
        ("cut", ["query", "connect_reset", "-"]),
        ("http", ["query", "protocol", "-"]),
        ("mail", ["query", "protocol", "-"]),
        ("only-tls", ["query", "tls_required", "-"]),
    ] {
        assert_eq!(failure(&seen[name]), expected, "{name}: {:#}", seen[name]);
        let (message, hint) = (told(&seen[name], "message"), told(&seen[name], "hint"));
        assert!(!message.is_empty() && !hint.is_empty(), "{name}: {message}; {hint}");
    }
    // It may come before the connection counts as made, or after.
    assert_eq!(failure(&seen["reset"])[1..], ["connect_reset", "ECONNRESET"], "{seen:#}");
    let message = "what answers does not speak Redis, it says: \"220 mail.test ESMTP\\r\\n\"";
    assert_eq!(told(&seen["mail"], "message"), message);
    assert!(told(&seen["mute-tls"], "hint").contains("REDIS_TLS=false"), "{seen:#}");
    assert!(told(&seen["cut"], "hint").contains("REDIS_TLS=true"), "{seen:#}");
}

/// At `AUTH`, at `PING` and at `INFO`: each that misbehaves there, and what it comes to.
#[tokio::test(flavor = "multi_thread")]
async fn every_step_can_be_cut_stall_or_be_garbled() {
    const LONG: &str = "$2000000000\r\n";
    let acts = [
        ("reset", Act::Reset, ["connect_reset", "ECONNRESET"]),
        ("closed", Act::Close(""), ["connect_reset", "-"]),
        ("truncated", Act::Close("$100\r\nrole:mas"), ["connect_reset", "-"]),
        ("truncated-waits", Act::Hang("$100\r\nrole:mas"), ["timeout", "-"]),
        ("silent", Act::Hang(""), ["timeout", "-"]),
        ("slow", Act::Slowly("+PONG\r\n"), ["timeout", "-"]),
        ("garbled", Act::Say("$ten\r\n"), ["protocol", "-"]),
        ("no-text", Act::Say("*1\r\n:1\r\n"), ["protocol", "-"]),
        ("endless-line", Act::Endless("+"), ["protocol", "-"]),
        ("endless-bulk", Act::Endless(LONG), ["protocol", "-"]),
    ];
    for (command, phase) in [("AUTH", "auth"), ("PING", "query"), ("INFO", "query")] {
        let mut peers: Vec<(&str, Peer, [&str; 2])> = Vec::new();
        for (name, act, expected) in acts {
            peers.push((name, fake_redis(command, act).await, expected));
        }
        let password = if command == "AUTH" { json!("secret") } else { Value::Null };
        let patience =
            |expected: &[&str; 2]| if expected[0] == "timeout" { impatient(json!({})) } else { json!({}) };
        let dependencies = peers.iter().map(|(name, peer, expected)| {
            let mut more = patience(expected);
            more["password"] = password.clone();
            let mut dependency = at(name, peer.address(), more);
            dependency.as_object_mut().expect("a map").retain(|_, value| !value.is_null());
            dependency
        });
        let seen = check(dependencies).await;
        for (name, _, [kind, code]) in &peers {
            // What answers `AUTH` with something else than a refusal has taken it.
            if (command, *name) == ("AUTH", "no-text") {
                continue;
            }
            let told = &seen[*name];
            assert_eq!(failure(told), [phase, kind, code], "{command} {name}: {told:#}");
        }
        let message = told(&seen["truncated-waits"], "message");
        assert!(message.ends_with("though one had begun"), "{command}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_odd_are_judged_by_what_they_say() {
    let odd = fake_redis("PING", Act::Say("+HELLO\r\n")).await;
    let proxy = fake_redis("INFO", Act::Say("-ERR unknown command 'INFO'\r\n")).await;
    let empty = fake_redis("INFO", Act::Say("$0\r\n\r\n")).await;
    let nonsense = fake_redis("INFO", Act::Say("$12\r\nused_memory:\r\n")).await;
    let loading = fake_redis("INFO", Act::Say("-LOADING Redis is loading\r\n")).await;
    let moved = fake_redis("PING", Act::Say("-MOVED 1 10.0.0.5:6379\r\n")).await;
    let nameless = fake_redis("CLIENT", Act::Say("-ERR unknown command 'CLIENT'\r\n")).await;
    let seen = check([
        at("odd", odd.address(), json!({})),
        at("proxy", proxy.address(), json!({})),
        at("proxy-role", proxy.address(), json!({"role": "primary"})),
        at("empty", empty.address(), json!({})),
        at("empty-role", empty.address(), json!({"role": "primary"})),
        at("nonsense", nonsense.address(), json!({})),
        at("loading", loading.address(), json!({})),
        at("moved", moved.address(), json!({})),
        at("nameless", nameless.address(), json!({})),
    ])
    .await;
    for (name, expected) in [
        ("odd", ["query", "protocol", "-"]),
        ("proxy", WELL),
        ("proxy-role", ["query", "access_denied", "ERR"]),
        ("empty", WELL),
        ("empty-role", ["query", "protocol", "-"]),
        ("nonsense", WELL),
        ("loading", ["query", "loading", "LOADING"]),
        ("moved", ["query", "query_failed", "MOVED"]),
        ("nameless", WELL),
    ] {
        assert_eq!(failure(&seen[name]), expected, "{name}: {:#}", seen[name]);
    }
    let hidden = "all that INFO tells is not known, because the server says: ERR unknown command 'INFO'; \
                  it is asked for once an hour";
    assert_eq!(seen["proxy"]["details"]["hidden"], hidden);
    assert_eq!(phases(&seen["odd"]), ["connect", "query"]);
}
