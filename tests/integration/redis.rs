//! Redis: credentials, ACLs, TLS, roles, loading, and a server that stops or hangs.

use std::net::SocketAddr;

use redis::Value as Reply;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::agent::Signal;
use crate::support::certs::certs;
use crate::support::config::{Config, WELL, check, failure, impatient, on, on_redis, phases, told};
use crate::support::redis::{Redis, RedisOptions};
use crate::support::tcp::{self, Peer};
use crate::support::wait::eventually;

async fn plain() -> Redis {
    Redis::start(RedisOptions::default()).await
}

fn info(text: &Reply, field: &str) -> String {
    let text: String = redis::from_redis_value(text.clone()).expect("a text");
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {field} in {text}")).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_details_are_the_servers_own() {
    let conf = vec!["maxmemory 64mb".to_owned()];
    let server = Redis::start(RedisOptions { conf, ..Default::default() }).await;
    let seen = check([on_redis("redis", &server, json!({"role": "primary"}))]).await;
    let dependency = &seen["redis"];
    assert_eq!((failure(dependency), &dependency["status"]), (WELL, &json!("up")), "{seen:#}");
    assert_eq!(phases(dependency), ["connect", "query"]);
    let details = &dependency["details"];
    let own = server.command(&["INFO"]).await;
    assert_eq!(details["server_version"], info(&own, "redis_version"));
    assert_eq!(details["maxmemory_bytes"], 64 * 1024 * 1024);
    assert_eq!((&details["role"], &details["loading"]), (&json!("primary"), &json!(false)));
    assert_eq!(details["evicted_keys"], 0);
    assert_eq!(details["tls"], Value::Null);
    assert!(details["connected_clients"].as_u64() >= Some(1) && details["used_memory_bytes"].is_u64());
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_and_rights_are_told_apart() {
    let password = Some("hunter2".to_owned());
    let locked = Redis::start(RedisOptions { password, ..Default::default() }).await;
    let open = plain().await;
    let users = [
        "app on >secret ~* +ping +info",
        "mute on >secret ~* +info -ping",
        "blind on >secret ~* +ping -info",
        "off off >secret ~* +@all",
    ];
    let users = users.map(str::to_owned).into();
    // What managed services block, we must not need.
    let conf = ["CONFIG", "DEBUG", "CLIENT"].map(|name| format!("rename-command {name} \"\"")).into();
    let acl = Redis::start(RedisOptions { users, conf, ..Default::default() }).await;
    let user = |name: &str, more: Value| {
        let mut dependency = on_redis(name, &acl, json!({"username": name, "password": "secret"}));
        dependency.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
        dependency
    };
    let seen = check([
        on_redis("open", &open, json!({})),
        on_redis("needless", &open, json!({"password": "hunter2"})),
        on_redis("locked", &locked, json!({"password": "hunter2"})),
        on_redis("wrong", &locked, json!({"password": "hunter3"})),
        on_redis("none", &locked, json!({})),
        user("app", json!({})),
        user("app-wrong", json!({"username": "app", "password": "wrong"})),
        user("nobody", json!({})),
        user("off", json!({})),
        user("mute", json!({})),
        user("blind", json!({})),
        user("blind-role", json!({"username": "blind", "role": "primary"})),
    ])
    .await;
    for (name, expected, hint) in [
        ("open", WELL, ""),
        ("needless", ["auth", "auth_failed", "ERR"], "unset REDIS_PASSWORD"),
        ("locked", WELL, ""),
        ("wrong", ["auth", "auth_failed", "WRONGPASS"], "rotated"),
        ("none", ["query", "auth_failed", "NOAUTH"], "give REDIS_PASSWORD"),
        ("app", WELL, ""),
        ("app-wrong", ["auth", "auth_failed", "WRONGPASS"], "user or password is wrong"),
        ("nobody", ["auth", "auth_failed", "WRONGPASS"], "user or password is wrong"),
        ("off", ["auth", "auth_failed", "WRONGPASS"], "the ACL user is off"),
        ("mute", ["query", "access_denied", "NOPERM"], "+ping +info"),
        ("blind", WELL, ""),
        ("blind-role", ["query", "access_denied", "NOPERM"], "+info"),
    ] {
        assert_eq!(failure(&seen[name]), expected, "{name}: {:#}", seen[name]);
        assert!(told(&seen[name], "hint").contains(hint), "{name}: {}", told(&seen[name], "hint"));
        assert_eq!(seen[name]["last_check"]["attempts"], 1, "{name}: it will not pass by itself");
    }
    assert_eq!(phases(&seen["app"]), ["connect", "auth", "query"]);
    assert_eq!(seen["blind"]["status"], "up");
    assert_eq!(seen["blind"]["details"]["role"], Value::Null, "it may not know");
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_verified_as_configured() {
    let start = |tls| Redis::start(RedisOptions { tls: Some(tls), ..Default::default() });
    let certs = certs();
    let (good, stranger, expired) =
        tokio::join!(start(certs.good.clone()), start(certs.stranger.clone()), start(certs.expired.clone()));
    let ca = certs.ca.to_str().expect("UTF-8");
    let with = |name: &str, server: &Redis, tls: Value| {
        on_redis(name, server, json!({"port": server.tls_port(), "tls": tls}))
    };
    let seen = check([
        with("full", &good, json!({"root_cert": ca})),
        with("ca", &good, json!({"root_cert": ca, "verify": "ca"})),
        with("none", &stranger, json!({"verify": "none"})),
        with("system", &good, json!(true)),
        with("stranger", &stranger, json!({"root_cert": ca})),
        with("expired", &expired, json!({"root_cert": ca})),
        with("plain-to-tls", &good, json!(false)),
        on_redis("tls-to-plain", &good, impatient(json!({"tls": {"root_cert": ca}}))),
    ])
    .await;
    for (name, verified) in [("full", true), ("ca", true), ("none", false)] {
        assert_eq!(failure(&seen[name]), WELL, "{name}: {:#}", seen[name]);
        assert_eq!(phases(&seen[name]), ["connect", "tls", "query"]);
        let tls = &seen[name]["details"]["tls"];
        assert_eq!((&tls["version"], &tls["verified"]), (&json!("TLSv1.3"), &json!(verified)), "{name}");
    }
    for name in ["system", "stranger", "expired"] {
        assert_eq!(failure(&seen[name]), ["tls", "tls_certificate", "-"], "{name}: {:#}", seen[name]);
    }
    // It takes the client's hello for the beginning of a command, and waits for its end.
    assert_eq!(failure(&seen["tls-to-plain"]), ["tls", "timeout", "-"], "{seen:#}");
    let [phase, kind, _] = failure(&seen["plain-to-tls"]);
    assert!(phase == "query" && ["connect_reset", "protocol"].contains(&kind), "{seen:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_is_not_the_expected_one_is_told() {
    let mut primary = plain().await;
    let conf = vec![format!("replicaof 127.0.0.1 {}", primary.port())];
    let replica = Redis::start(RedisOptions { conf, ..Default::default() }).await;
    eventually("the replica's link", || async {
        let info_text = replica.command(&["INFO", "replication"]).await;
        let status = info(&info_text, "master_link_status");
        if status == "up" { Ok(()) } else { Err(status) }
    })
    .await;
    let both = |name: &str, server: &Redis| {
        ["any", "primary", "replica"]
            .map(|role| on_redis(&format!("{name}-as-{role}"), server, json!({"role": role})))
    };
    let all = [both("primary", &primary), both("replica", &replica)].concat();
    let seen = check(all).await;
    for (name, expected, message) in [
        ("primary-as-any", WELL, ""),
        ("primary-as-primary", WELL, ""),
        ("primary-as-replica", ["query", "wrong_role", "-"], "the server is a primary, expected a replica"),
        ("replica-as-any", WELL, ""),
        ("replica-as-primary", ["query", "wrong_role", "-"], "the server is a replica, expected a primary"),
        ("replica-as-replica", WELL, ""),
    ] {
        assert_eq!(failure(&seen[name]), expected, "{name}: {:#}", seen[name]);
        assert_eq!(told(&seen[name], "message"), message, "{name}");
    }
    assert_eq!(seen["replica-as-any"]["details"]["role"], "replica");

    primary.stop().await;
    let config = Config::quick([on_redis("redis", &replica, json!({"role": "replica"}))]);
    let agent = config.agent().await;
    let warned = |it: &Value| it["status"] == "degraded" && it["warnings"][0].as_str().is_some();
    let seen = agent.until_dependency("redis", warned, "a lost link").await;
    assert!(seen["warnings"][0].as_str().is_some_and(|text| text.contains("lost its link")), "{seen:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_loads_its_data_says_so_and_is_well_afterwards() {
    // Each key takes its time, and after each kilobyte the server answers whoever asks.
    let conf =
        ["enable-debug-command yes", "key-load-delay 20000", "loading-process-events-interval-bytes 1024"];
    let conf = conf.map(str::to_owned).into();
    let server = Redis::start(RedisOptions { conf, ..Default::default() }).await;
    server.command(&["DEBUG", "POPULATE", "100", "key", "1000"]).await;
    let dependency = on_redis("redis", &server, json!({"impact": "critical"}));
    let config = Config::quick([dependency]);
    let agent = config.agent().await;
    agent.until_dependency("redis", |it| it["status"] == "up", "a success").await;
    let reload = async {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port())).await.expect("it listens");
        stream.write_all(b"DEBUG RELOAD\r\n").await.expect("it reads");
        assert_eq!(stream.read_u8().await.expect("an answer"), b'+');
    };
    let watch = async {
        let loading = |it: &Value| failure(it) == ["query", "loading", "LOADING"];
        agent.until_dependency("redis", loading, "the loading").await
    };
    let ((), seen) = tokio::join!(reload, watch);
    assert!(told(&seen, "hint").contains("loading"), "{seen:#}");
    agent.until_dependency("redis", |it| it["status"] == "up", "recovery").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_room_for_another_client_is_told() {
    let conf = vec!["maxclients 1".to_owned()];
    let server = Redis::start(RedisOptions { conf, ..Default::default() }).await;
    // The client that waited for the server's start may not be gone yet.
    let held = eventually("the one place", || async {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port())).await.map_err(|e| e.to_string())?;
        stream.write_all(b"PING\r\n").await.map_err(|e| e.to_string())?;
        match stream.read_u8().await {
            Ok(b'+') => Ok(stream),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let seen = check([on_redis("redis", &server, json!({}))]).await;
    assert_eq!(failure(&seen["redis"]), ["query", "too_many_connections", "ERR"], "{seen:#}");
    assert_eq!(seen["redis"]["last_check"]["attempts"], 2, "it may pass");
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_stops_or_cuts_is_told_and_recovers() {
    let mut server = plain().await;
    let config = Config::quick([on_redis("redis", &server, impatient(json!({"reconnect_every": 10_000})))]);
    let mut agent = config.agent().await;
    let well = |it: &Value| it["status"] == "up" && it["circuit"]["state"] == "closed";
    agent.until_dependency("redis", well, "a success").await;

    // One that is only cut is made anew.
    server.command(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    let seen = agent.until_dependency("redis", |it| it["pool"]["created"] == 2, "a new connection").await;
    assert_eq!((failure(&seen), &seen["circuit"]["failures"]), (WELL, &json!(0)), "{seen:#}");

    server.hang().await;
    let hung = |it: &Value| it["circuit"]["state"] == "open" && failure(it) == ["query", "timeout", "-"];
    agent.until_dependency("redis", hung, "an open circuit").await;
    server.wake();
    agent.until_dependency("redis", well, "recovery").await;

    server.stop().await;
    let refused = |it: &Value| {
        it["circuit"]["state"] == "open" && failure(it) == ["connect", "connect_refused", "ECONNREFUSED"]
    };
    agent.until_dependency("redis", refused, "an open circuit").await;
    server.restart().await;
    let seen = agent.until_dependency("redis", well, "recovery").await;
    assert!(seen["circuit"]["opens"].as_u64() >= Some(2), "{seen:#}");
    assert_eq!(seen["pool"]["size"], 1, "{seen:#}");

    agent.signal(Signal::TERM);
    assert_eq!(agent.wait_exit().await.code(), Some(0));
}

/// Sends this as soon as something was asked, then goes on for ever.
async fn endless(first: &'static [u8]) -> Peer {
    Peer::start(move |mut stream| async move {
        let _ = stream.read(&mut [0; 1_024]).await;
        let _ = stream.write_all(first).await;
        let junk = [b'x'; 65_536];
        while stream.write_all(&junk).await.is_ok() {}
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_that_are_no_redis_fail_in_the_phase_they_fail_in() {
    let (mute, reset) = (tcp::mute().await, tcp::reset_after_request().await);
    let http = tcp::garbage(b"HTTP/1.1 400 Bad Request\r\n\r\n".as_slice()).await;
    let cut = tcp::garbage(b"".as_slice()).await;
    let (line, bulk) = (endless(b"+").await, endless(b"$2000000000\r\n").await);
    let silent = tcp::silent();
    let at = |name: &str, address: SocketAddr| {
        let more = json!({"host": "127.0.0.1", "port": address.port()});
        let hangs = ["silent", "mute"].contains(&name);
        on("redis", name, if hangs { impatient(more) } else { more })
    };
    let seen = check([
        at("silent", silent.address()),
        at("mute", mute.address()),
        at("reset", reset.address()),
        at("cut", cut.address()),
        at("http", http.address()),
        at("endless-line", line.address()),
        at("endless-bulk", bulk.address()),
    ])
    .await;
    for (name, expected) in [
        ("silent", ["connect", "connect_timeout", "-"]),
        ("mute", ["query", "timeout", "-"]),
        ("reset", ["query", "connect_reset", "ECONNRESET"]),
        ("cut", ["query", "connect_reset", "-"]),
        ("http", ["query", "protocol", "-"]),
        ("endless-line", ["query", "protocol", "-"]),
        ("endless-bulk", ["query", "protocol", "-"]),
    ] {
        assert_eq!(failure(&seen[name]), expected, "{name}: {:#}", seen[name]);
        let (message, hint) = (told(&seen[name], "message"), told(&seen[name], "hint"));
        assert!(!message.is_empty() && !hint.is_empty(), "{name}: {message}; {hint}");
    }
}
