//! A server that hangs, and peers that are none.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::plain;
use crate::support::config::{Config, WELL, check, failure, impatient, on, on_postgres, told};
use crate::support::postgres::USER;
use crate::support::tcp::{self, Peer};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_is_a_timeout_and_recovers() {
    let server = plain().await;
    let config = Config::quick([on_postgres("database", &server, impatient(json!({})))]);
    let agent = config.agent().await;
    agent.until_dependency("database", |it| it["circuit"]["successes"].as_u64() >= Some(2), "checks").await;
    server.hang().await;
    // The kept connection is given up after half of the time; a new one gets no further than TLS.
    let hung = |it: &Value| it["circuit"]["state"] == "open" && failure(it) == ["tls", "timeout", "-"];
    let seen = agent.until_dependency("database", hung, "an open circuit").await;
    assert_eq!(seen["status"], "down");
    assert!(told(&seen, "message").contains("the first message of PostgreSQL's protocol"), "{seen:#}");
    assert!(told(&seen, "message").contains("within"), "{seen:#}");
    server.wake();
    agent.until_dependency("database", |it| it["status"] == "up", "recovery").await;
}

/// Answers the question about TLS with this and then goes on as told.
async fn after_tls(answer: &'static [u8], then: &'static [u8], endless: bool) -> Peer {
    Peer::start(move |mut stream| async move {
        let mut received = [0; 1_024];
        let _ = stream.read(&mut received).await;
        let _ = stream.write_all(answer).await;
        let _ = stream.read(&mut received).await;
        let _ = stream.write_all(then).await;
        let junk = [0; 65_536];
        while endless && stream.write_all(&junk).await.is_ok() {}
        while matches!(stream.read(&mut received).await, Ok(1..)) {}
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_that_are_no_postgres_fail_in_the_phase_they_fail_in() {
    let no_tls = after_tls(b"N", b"", false).await;
    let no_handshake = after_tls(b"S", b"", false).await;
    let no_tls_after_all = after_tls(b"S", b"HTTP/1.1 400 Bad Request\r\n\r\n", false).await;
    let no_protocol = after_tls(b"N", b"HTTP/1.1 400 Bad Request\r\n\r\n", false).await;
    let endless = after_tls(b"N", b"R\x7f\xff\xff\xff", true).await;
    let full = "Ecould not fork new process for connection: Resource temporarily unavailable\n\0";
    let full = tcp::garbage(full.as_bytes()).await;
    let ssh = tcp::garbage(b"SSH-2.0-OpenSSH_9.2\r\n".as_slice()).await;
    let smtp = tcp::garbage(b"220 mail.test ESMTP\r\n".as_slice()).await;
    let (mute, reset, cut) =
        (tcp::mute().await, tcp::reset_after_request().await, tcp::garbage(b"".as_slice()).await);
    let silent = tcp::silent();
    let at = |name: &str, address: std::net::SocketAddr| {
        let more = json!({"host": "127.0.0.1", "port": address.port(), "password": "x"});
        let hangs = ["silent", "mute", "no-tls", "no-handshake"].contains(&name);
        on("postgres", name, if hangs { impatient(more) } else { more })
    };
    let seen = check([
        at("silent", silent.address()),
        at("mute", mute.address()),
        at("reset", reset.address()),
        at("cut", cut.address()),
        at("smtp", smtp.address()),
        at("ssh", ssh.address()),
        at("no-tls", no_tls.address()),
        at("no-handshake", no_handshake.address()),
        at("no-tls-after-all", no_tls_after_all.address()),
        at("no-protocol", no_protocol.address()),
        at("endless", endless.address()),
        at("full", full.address()),
    ])
    .await;
    for (name, expected) in [
        ("silent", ["connect", "connect_timeout", "-"]),
        ("mute", ["tls", "timeout", "-"]),
        ("reset", ["tls", "connect_reset", "ECONNRESET"]),
        ("cut", ["tls", "connect_reset", "-"]),
        ("smtp", ["tls", "protocol", "-"]),
        // It begins with an S, as the answer of a server that speaks TLS; it goes on otherwise, and is asked without.
        ("ssh", ["auth", "protocol", "-"]),
        ("no-tls", ["auth", "timeout", "-"]),
        ("no-handshake", ["tls", "timeout", "-"]),
        ("no-tls-after-all", ["auth", "protocol", "-"]),
        ("no-protocol", ["auth", "protocol", "-"]),
        ("endless", ["auth", "protocol", "-"]),
        ("full", ["tls", "too_many_connections", "-"]),
    ] {
        assert_eq!(failure(&seen[name]), expected, "{name}: {:#}", seen[name]);
        let (message, hint) = (told(&seen[name], "message"), told(&seen[name], "hint"));
        assert!(!message.is_empty() && !hint.is_empty(), "{name}: {message}; {hint}");
    }
    assert!(told(&seen["full"], "message").contains("could not fork new process"), "{seen:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_come_one_by_one_are_as_good() {
    let server = plain().await;
    let port = server.port();
    let dribble = Peer::start(move |client| async move {
        let server = TcpStream::connect(("127.0.0.1", port)).await.expect("a server");
        server.set_nodelay(true).expect("a socket");
        client.set_nodelay(true).expect("a socket");
        let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
            (client.into_split(), server.into_split());
        let down = async {
            while let Ok(byte) = from_server.read_u8().await {
                if to_client.write_u8(byte).await.is_err() {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        let up = async {
            let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
            let _ = to_server.shutdown().await;
        };
        tokio::join!(down, up);
    })
    .await;
    let seen = check([on_postgres("database", &server, json!({"port": dribble.address().port()}))]).await;
    assert_eq!(failure(&seen["database"]), WELL, "{seen:#}");
    assert_eq!(seen["database"]["details"]["user"], USER);
}
