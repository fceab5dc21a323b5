//! Redis: credentials, ACLs, TLS, roles, and a server that stops or hangs. Its states, the numbers that it tells
//! and the bounds on them, and peers that misbehave are in modules of their own.

mod bounds;
mod details;
mod peers;
mod states;

use serde_json::{Value, json};

use crate::support::agent::Signal;
use crate::support::certs::certs;
use crate::support::config::{Config, WELL, check, failure, impatient, on_redis, phases, told};
use crate::support::redis::{Redis, RedisOptions, field};
use crate::support::scratch::Folder;
use crate::support::wait::eventually;

/// Waits until a replica has its primary's data.
async fn until_linked(replica: &Redis) {
    eventually("the replica's link", || async {
        let status = field(&replica.command(&["INFO", "replication"]).await, "master_link_status");
        if status == "up" { Ok(()) } else { Err(status) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_and_rights_are_told_apart() {
    let password = Some("hunter2".to_owned());
    let locked = Redis::start(RedisOptions { password, ..Default::default() }).await;
    let open = Redis::plain().await;
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
async fn a_password_that_was_rotated_in_its_file_is_read_again_and_no_check_fails() {
    let users = ["app on >first-1 ~* +ping +info +client|setname"].map(str::to_owned).into();
    let server = Redis::start(RedisOptions { users, ..Default::default() }).await;
    let folder = Folder::new("rotated");
    let file = folder.write("password", b"first-1\n");
    let password = format!("${{file:{}}}", file.display());
    let app =
        json!({"username": "app", "password": password, "reconnect_every": 1, "retry": {"attempts": 1}});
    let config = Config::quick([on_redis("redis", &server, app)]);
    let agent = config.agent().await;
    let checks = |it: &Value| it["circuit"]["successes"].as_u64().unwrap_or(0);
    agent.until_dependency("redis", |it| checks(it) >= 2, "checks").await;

    folder.write("password", b"second-2\n");
    server.command(&["ACL", "SETUSER", "app", "resetpass", ">second-2"]).await;
    let seen = agent.until_dependency("redis", |it| checks(it) >= 8, "more checks").await;
    assert_eq!((failure(&seen), &seen["status"]), (WELL, &json!("up")), "{seen:#}");

    // Now the server alone.
    server.command(&["ACL", "SETUSER", "app", "resetpass", ">third-3"]).await;
    let failed = |it: &Value| it["last_failure"].is_object();
    let seen = agent.until_dependency("redis", failed, "a failure").await;
    assert_eq!(failure(&seen), ["auth", "auth_failed", "WRONGPASS"], "{seen:#}");
    let still = format!("its file {}, read again, still holds what was refused", file.display());
    assert!(told(&seen, "hint").contains(&still), "{seen:#}");
    folder.write("password", b"third-3");
    agent.until_dependency("redis", |it| it["status"] == "up", "the rotation's end").await;
    for password in ["first-1", "second-2", "third-3"] {
        assert!(!agent.output().contains(password), "{password} is in the log");
    }
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
    let mut primary = Redis::plain().await;
    let conf = vec![format!("replicaof 127.0.0.1 {}", primary.port())];
    let replica = Redis::start(RedisOptions { conf, ..Default::default() }).await;
    until_linked(&replica).await;
    let both = |name: &str, server: &Redis| {
        ["any", "primary", "replica"]
            .map(|role| on_redis(&format!("{name}-as-{role}"), server, json!({"role": role})))
    };
    let all = [both("primary", &primary), both("replica", &replica)].concat();
    let seen = check(all).await;
    let is_replica = format!("the server is a replica of 127.0.0.1:{}, expected a primary", primary.port());
    for (name, expected, message) in [
        ("primary-as-any", WELL, ""),
        ("primary-as-primary", WELL, ""),
        ("primary-as-replica", ["query", "wrong_role", "-"], "the server is a primary, expected a replica"),
        ("replica-as-any", WELL, ""),
        ("replica-as-primary", ["query", "wrong_role", "-"], &is_replica),
        ("replica-as-replica", WELL, ""),
    ] {
        assert_eq!(failure(&seen[name]), expected, "{name}: {:#}", seen[name]);
        assert_eq!(told(&seen[name], "message"), message, "{name}");
        let is = name.split("-as-").next().expect("a role");
        assert_eq!(seen[name]["details"]["role"], is, "{name}: {:#}", seen[name]);
    }

    primary.stop().await;
    let config = Config::quick([on_redis("redis", &replica, json!({"role": "replica"}))]);
    let agent = config.agent().await;
    let warned = |it: &Value| it["status"] == "degraded" && it["warnings"][0].as_str().is_some();
    let seen = agent.until_dependency("redis", warned, "a lost link").await;
    assert!(seen["warnings"][0].as_str().is_some_and(|text| text.contains("lost its link")), "{seen:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_stops_or_cuts_is_told_and_recovers() {
    let mut server = Redis::plain().await;
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
