//! TCP: a port that refuses, is silent, mute, cuts, speaks TLS, or answers as expected or otherwise.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::certs::certs;
use crate::support::config::{WELL, check, failure, impatient, on, phases, told};
use crate::support::http::acceptor;
use crate::support::tcp::{self, Peer};

fn at(name: &str, address: SocketAddr, more: Value) -> Value {
    let mut base = json!({"host": "127.0.0.1", "port": address.port()});
    if ["silent", "mute", "wrong-and-waits", "repeats"].contains(&name) {
        base = impatient(base);
    }
    base.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
    on("tcp", name, base)
}

/// Answers the first bytes with what they were, one byte at a time.
async fn echo() -> Peer {
    Peer::start(|mut stream| async move {
        stream.set_nodelay(true).expect("a socket");
        while let Ok(byte) = stream.read_u8().await {
            if stream.write_u8(byte).await.is_err() {
                return;
            }
        }
    })
    .await
}

/// Never ends its answer.
async fn endless() -> Peer {
    Peer::start(|mut stream| async move { while stream.write_all(&[b'x'; 65_536]).await.is_ok() {} }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_is_told_by_what_it_does() {
    let (mute, reset, cut) =
        (tcp::mute().await, tcp::reset_after_request().await, tcp::garbage(b"".as_slice()).await);
    let (echo, endless, silent) = (echo().await, endless().await, tcp::silent());
    let banner = tcp::garbage(b"220 mail.test ESMTP\r\n".as_slice()).await;
    let waits = Peer::start(|mut stream| async move {
        let _ = stream.write_all(b"-ERR").await;
        let _ = stream.read(&mut [0; 64]).await;
    })
    .await;
    let refused = SocketAddr::from(([127, 0, 0, 1], tcp::refused_port()));
    let seen = check([
        at("accepts", mute.address(), json!({})),
        at("by-name", mute.address(), json!({"host": "localhost"})),
        at("banner", banner.address(), json!({"expect": "ESMTP"})),
        at("echo", echo.address(), json!({"send": "PING\r\n", "expect": "PING"})),
        at("sent", mute.address(), json!({"send": "PING\r\n"})),
        at("refused", refused, json!({})),
        at("silent", silent.address(), json!({})),
        at("mute", mute.address(), json!({"send": "PING\r\n", "expect": "PONG"})),
        at("other", banner.address(), json!({"expect": "SSH-2.0"})),
        at("wrong-and-waits", waits.address(), json!({"expect": "+OK"})),
        at("repeats", echo.address(), json!({"send": "AUTH hunter2", "expect": "+OK"})),
        at("cut", cut.address(), json!({"expect": "SSH-2.0"})),
        at("reset", reset.address(), json!({"send": "PING\r\n", "expect": "PONG"})),
        at("endless", endless.address(), json!({"expect": "PONG"})),
    ])
    .await;
    for (name, expected) in [
        ("accepts", WELL),
        ("by-name", WELL),
        ("banner", WELL),
        ("echo", WELL),
        ("sent", WELL),
        ("refused", ["connect", "connect_refused", "ECONNREFUSED"]),
        ("silent", ["connect", "connect_timeout", "-"]),
        ("mute", ["query", "timeout", "-"]),
        ("other", ["query", "unexpected_content", "-"]),
        ("wrong-and-waits", ["query", "unexpected_content", "-"]),
        ("repeats", ["query", "unexpected_content", "-"]),
        ("cut", ["query", "connect_reset", "-"]),
        ("reset", ["query", "connect_reset", "ECONNRESET"]),
        ("endless", ["query", "unexpected_content", "-"]),
    ] {
        assert_eq!(failure(&seen[name]), expected, "{name}: {:#}", seen[name]);
    }
    assert_eq!(phases(&seen["accepts"]), ["connect"]);
    assert_eq!(phases(&seen["by-name"]), ["dns", "connect"]);
    assert_eq!(phases(&seen["echo"]), ["connect", "query"]);
    assert_eq!(seen["accepts"]["details"], json!({"peer": mute.address(), "tls": null}));
    assert_eq!(seen["accepts"]["address"], mute.address().to_string());
    assert!(told(&seen["other"], "message").contains("220 mail.test"), "what came instead: {seen:#}");
    assert!(!told(&seen["repeats"], "message").contains("hunter2"), "{seen:#}");
    assert!(told(&seen["wrong-and-waits"], "message").contains("received \"-ERR\""), "{seen:#}");
    assert_eq!(seen["refused"]["last_check"]["attempts"], 2);
    assert_eq!(seen["other"]["last_check"]["attempts"], 1);
    assert!(told(&seen["silent"], "hint").contains("security group"), "{seen:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_speaks_tls_is_verified() {
    let start = |pair| {
        let acceptor = acceptor(pair);
        Peer::start(move |stream| {
            let acceptor = acceptor.clone();
            async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let _ = stream.write_all(b"hello inside").await;
                let _ = stream.read(&mut [0; 64]).await;
            }
        })
    };
    let (good, other) = (start(&certs().good).await, start(&certs().other_name).await);
    let banner = tcp::garbage(b"220 mail.test ESMTP\r\n".as_slice()).await;
    let (mute, cut) = (tcp::mute().await, tcp::garbage(b"".as_slice()).await);
    let verified = json!({"root_cert": certs().ca});
    let seen = check([
        at("good", good.address(), json!({"tls": verified, "expect": "hello inside"})),
        at("other-name", other.address(), json!({"tls": verified})),
        at("unverified", other.address(), json!({"tls": {"verify": "none"}})),
        at("plain", banner.address(), json!({"tls": verified})),
        at("mute", mute.address(), json!({"tls": verified})),
        at("cut", cut.address(), json!({"tls": verified})),
    ])
    .await;
    for (name, expected) in [
        ("good", WELL),
        ("other-name", ["tls", "tls_certificate", "-"]),
        ("unverified", WELL),
        ("plain", ["tls", "tls_handshake", "-"]),
        ("mute", ["tls", "timeout", "-"]),
        ("cut", ["tls", "tls_handshake", "-"]),
    ] {
        assert_eq!(failure(&seen[name]), expected, "{name}: {:#}", seen[name]);
    }
    assert_eq!(phases(&seen["good"]), ["connect", "tls", "query"]);
    assert_eq!(seen["good"]["details"]["tls"]["verified"], true);
    assert!(told(&seen["plain"], "message").contains("does not speak TLS"), "{seen:#}");
    assert_eq!(seen["plain"]["last_check"]["attempts"], 1, "it will not pass by itself");
}

/// Each bound, with a peer that would pass it.
#[tokio::test(flavor = "multi_thread")]
async fn no_peer_can_make_a_check_wait_keep_or_work_without_end() {
    let bytewise = Peer::start(|mut stream| async move {
        stream.set_nodelay(true).expect("a socket");
        while stream.write_u8(b'x').await.is_ok() {}
    })
    .await;
    let slow = Peer::start(|mut stream| async move {
        while stream.write_u8(b'x').await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    })
    .await;
    let deaf = Peer::start(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let rude = Peer::start(|mut stream| async move {
        let _ = stream.write_all(b"554 go away\r\n").await;
        tcp::with_reset(stream);
    })
    .await;
    let much = "x".repeat(512 * 1024);
    let seen = check([
        at("bytewise", bytewise.address(), json!({"expect": "y".repeat(100)})),
        at("slow", slow.address(), impatient(json!({"expect": "y"}))),
        at("deaf", deaf.address(), impatient(json!({"send": much, "expect": "y"}))),
        at("rude", rude.address(), json!({"send": "HELO me\r\n", "expect": "250"})),
    ])
    .await;
    for (name, expected) in [
        ("bytewise", ["query", "unexpected_content", "-"]),
        ("slow", ["query", "unexpected_content", "-"]),
        ("deaf", ["query", "timeout", "-"]),
    ] {
        assert_eq!(failure(&seen[name]), expected, "{name}: {:#}", seen[name]);
    }
    assert!(told(&seen["slow"], "message").starts_with("expected \"y\", received \"x"), "{seen:#}");
    // Its words, unless the reset overtook them.
    let rude = failure(&seen["rude"]);
    let words = told(&seen["rude"], "message").contains("554 go away");
    assert!(words == (rude[1] == "unexpected_content") && (words || rude[0] == "connect"), "{seen:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_sent_and_looked_for_as_they_are_written() {
    let echo = echo().await;
    let binary = "\0\u{1}\r\n\t\u{1b}end";
    let seen = check([
        at("binary", echo.address(), json!({"send": binary, "expect": binary})),
        at("utf-8", echo.address(), json!({"send": "gr\u{fc}n", "expect": "gr\u{fc}n"})),
        at("other", echo.address(), impatient(json!({"send": "\0\u{1}", "expect": "\0\u{2}"}))),
    ])
    .await;
    for (name, expected) in
        [("binary", WELL), ("utf-8", WELL), ("other", ["query", "unexpected_content", "-"])]
    {
        assert_eq!(failure(&seen[name]), expected, "{name}: {:#}", seen[name]);
    }
    assert_eq!(
        told(&seen["other"], "message"),
        "expected \"\\0\\u{2}\", received \"***\"",
        "what is sent is secret"
    );
}
