//! TCP: a port that refuses, is silent, mute, cuts, speaks TLS, or answers as expected or otherwise.

use std::net::SocketAddr;

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
}
