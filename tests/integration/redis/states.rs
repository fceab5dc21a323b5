//! States in which a server answers and does not serve: each is told by its kind, its code, and what to do.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::until_linked;
use crate::support::config::{Config, WELL, check, failure, on, on_redis, told};
use crate::support::fake_redis::{Act, fake_redis};
use crate::support::ports;
use crate::support::redis::{Redis, RedisOptions};
use crate::support::user::unprivileged;
use crate::support::wait::eventually;

/// Checks one server.
async fn seen(server: &Redis, more: Value) -> Value {
    check([on_redis("redis", server, more)]).await["redis"].clone()
}

/// Waits until a command is refused with this word.
async fn until_refused(server: &Redis, command: &[&str], word: &str) {
    eventually(&format!("{command:?} to be refused with {word}"), || async {
        match server.try_command(command).await {
            Err(error) if error.contains(word) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_loads_its_data_says_so_and_is_well_afterwards() {
    // Each key takes its time, and after each kilobyte the server answers whoever asks.
    let server = Redis::with_conf(&[
        "enable-debug-command yes",
        "key-load-delay 20000",
        "loading-process-events-interval-bytes 1024",
    ])
    .await;
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
    assert!(told(&seen, "message").contains(" % are loaded"), "how far it is: {seen:#}");
    agent.until_dependency("redis", |it| it["status"] == "up", "recovery").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_without_room_for_another_client_is_told() {
    let server = Redis::with_conf(&["maxclients 1"]).await;
    let held = server.hold_the_one_place().await;
    let seen = check([
        on_redis("redis", &server, json!({})),
        on_redis("with-password", &server, json!({"password": "secret"})),
    ])
    .await;
    assert_eq!(failure(&seen["redis"]), ["query", "too_many_connections", "ERR"], "{seen:#}");
    assert_eq!(failure(&seen["with-password"]), ["auth", "too_many_connections", "ERR"], "{seen:#}");
    assert_eq!(seen["redis"]["last_check"]["attempts"], 2, "it may pass");
    assert!(told(&seen["redis"], "hint").contains("CLIENT LIST"), "{seen:#}");
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_cannot_save_takes_no_writes() {
    // With somewhere to save to, and a time to do so that does not come in this test.
    let server = Redis::with_conf(&["save 3600 1"]).await;
    assert_eq!(failure(&seen(&server, json!({})).await), WELL);
    fs::set_permissions(server.folder(), Permissions::from_mode(0o500)).expect("chmod");
    server.command(&["SET", "a", "b"]).await;
    server.command(&["BGSAVE"]).await;
    until_refused(&server, &["SET", "a", "c"], "MISCONF").await;
    let it = seen(&server, json!({})).await;
    assert_eq!(failure(&it), ["query", "read_only", "MISCONF"], "{it:#}");
    assert!(told(&it, "hint").contains("cannot save to its disk"), "{it:#}");
    fs::set_permissions(server.folder(), Permissions::from_mode(0o700)).expect("chmod");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_whose_memory_is_full_takes_no_writes() {
    let server = Redis::with_conf(&["maxmemory-policy noeviction"]).await;
    server.command(&["SET", "big", &"x".repeat(1 << 20)]).await;
    server.command(&["CONFIG", "SET", "maxmemory", "1mb"]).await;
    until_refused(&server, &["SET", "a", "b"], "OOM").await;
    let it = seen(&server, json!({"role": "primary"})).await;
    assert_eq!(failure(&it), ["query", "read_only", "OOM"], "{it:#}");
    assert_eq!(it["details"]["maxmemory_bytes"], 1 << 20, "all that INFO told: {it:#}");
    assert!(told(&it, "hint").contains("raise `maxmemory`"), "{it:#}");
    // Whoever only reads is served.
    let it = seen(&server, json!({})).await;
    assert_eq!((failure(&it), &it["status"]), (WELL, &json!("degraded")), "{it:#}");
    assert_eq!(it["details"]["read_only"], true);
    let warnings = it["warnings"].as_array().expect("a list");
    assert_eq!(warnings.len(), 1, "once is enough: {it:#}");
    assert!(
        warnings[0]
            .as_str()
            .expect("a text")
            .starts_with("OOM: the server refuses writes because its memory is full"),
        "{it:#}"
    );

    server.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await;
    server.command(&["SET", "a", "b"]).await;
    assert_eq!(failure(&seen(&server, json!({"role": "primary"})).await), WELL, "room can be made");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_misses_its_replicas_takes_no_writes() {
    let server = Redis::with_conf(&["min-replicas-to-write 1"]).await;
    until_refused(&server, &["SET", "a", "b"], "NOREPLICAS").await;
    let it = seen(&server, json!({"role": "primary"})).await;
    assert_eq!(failure(&it), ["query", "read_only", "NOREPLICAS"], "{it:#}");
    assert_eq!(it["details"]["replication"]["connected_replicas"], 0, "{it:#}");
    assert!(told(&it, "hint").contains("min-replicas-to-write"), "{it:#}");
    let it = seen(&server, json!({})).await;
    assert_eq!((failure(&it), &it["status"]), (WELL, &json!("degraded")), "{it:#}");
    assert_eq!(it["details"]["read_only"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_shares_its_primarys_settings_is_well() {
    let primary = Redis::plain().await;
    primary.command(&["SET", "big", &"x".repeat(1 << 20)]).await;
    let follow = format!("replicaof 127.0.0.1 {}", primary.port());
    let full = ["maxmemory 1mb", "maxmemory-policy noeviction"];
    let replica = Redis::with_conf(&[&follow, "min-replicas-to-write 1", full[0], full[1]]).await;
    let near = Redis::with_conf(&[&follow, "maxmemory 64mb", full[1]]).await;
    until_linked(&replica).await;
    until_linked(&near).await;
    until_refused(&replica, &["SET", "a", "b"], "READONLY").await;
    let used =
        |it: &Value| it["details"]["used_memory_bytes"].as_u64() > it["details"]["maxmemory_bytes"].as_u64();
    for role in ["replica", "any"] {
        let it = seen(&replica, json!({"role": role, "warn": {"memory_used": "1%"}})).await;
        assert_eq!((failure(&it), &it["status"]), (WELL, &json!("up")), "{it:#}");
        assert!(used(&it) && it["details"]["read_only"] == true, "{it:#}");
    }
    let it = seen(&near, json!({"warn": {"memory_used": "1%"}})).await;
    assert_eq!((failure(&it), &it["status"]), (WELL, &json!("up")), "{it:#}");
    // What it is once it is the primary.
    replica.command(&["REPLICAOF", "NO", "ONE"]).await;
    let it = seen(&replica, json!({})).await;
    assert!(it["warnings"][0].as_str().is_some_and(|text| text.starts_with("OOM: ")), "{it:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_without_its_primary_serves_as_it_is_told_to() {
    let mut primary = Redis::plain().await;
    let follow = format!("replicaof 127.0.0.1 {}", primary.port());
    let strict = Redis::with_conf(&[&follow, "replica-serve-stale-data no"]).await;
    let lenient = Redis::with_conf(&[&follow]).await;
    until_linked(&strict).await;
    until_linked(&lenient).await;
    assert_eq!(failure(&seen(&strict, json!({})).await), WELL);
    primary.stop().await;
    until_refused(&strict, &["GET", "a"], "MASTERDOWN").await;
    let it = seen(&strict, json!({})).await;
    assert_eq!(failure(&it), ["query", "cluster_down", "MASTERDOWN"], "{it:#}");
    assert_eq!(it["last_check"]["attempts"], 2, "it may pass");
    assert_eq!(it["details"]["replication"]["link"], "down", "{it:#}");
    let message = told(&it, "message");
    assert!(
        message.contains(&format!("the link to 127.0.0.1:{} has been down for ", primary.port())),
        "{message}"
    );
    assert!(told(&it, "hint").contains("lost its primary"), "{it:#}");
    let lost = |it: &Value| it["details"]["replication"]["link"] == "down";
    let config = Config::quick([on_redis("redis", &lenient, json!({"role": "replica"}))]);
    let agent = config.agent().await;
    let it = agent.until_dependency("redis", lost, "the lost link").await;
    assert_eq!((failure(&it), &it["status"]), (WELL, &json!("degraded")), "{it:#}");
    let warning = it["warnings"][0].as_str().expect("a text");
    let expected =
        format!("the replica has lost its link to the primary, 127.0.0.1:{}, for ", primary.port());
    assert!(warning.starts_with(&expected), "{warning}");
    primary.restart().await;
    agent.until_dependency("redis", |it| it["status"] == "up", "the link").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_misses_slots_is_down() {
    let users = ["narrow on >secret ~* +ping +info +client|setname"].map(str::to_owned).into();
    // Its own second port would be the first one and 10,000, which may be none.
    let conf = vec!["cluster-enabled yes".to_owned(), format!("cluster-port {}", ports::spare())];
    let server = Redis::start(RedisOptions { users, conf, ..Default::default() }).await;
    assert!(server.try_command(&["GET", "a"]).await.expect_err("no slot").contains("CLUSTERDOWN"));
    let narrow = json!({"username": "narrow", "password": "secret"});
    let both = [on_redis("redis", &server, json!({})), on_redis("narrow", &server, narrow.clone())];
    let it = check(both).await;
    assert_eq!(failure(&it["redis"]), ["query", "cluster_down", "CLUSTERDOWN"], "{it:#}");
    let message = "CLUSTERDOWN the cluster is down: 0 of 16384 slots are served";
    assert_eq!(told(&it["redis"], "message"), message);
    assert_eq!(it["redis"]["details"]["mode"], "cluster", "{it:#}");
    assert_eq!(failure(&it["narrow"]), WELL, "it may not know");
    let hidden = it["narrow"]["details"]["hidden"].as_str().expect("a text");
    assert!(hidden.starts_with("the state of the cluster is not known"), "{hidden}");
    assert!(
        hidden.ends_with("`ACL SETUSER NAME +cluster|info` allows it; it is asked for once an hour"),
        "{hidden}"
    );

    let config = Config::quick([on_redis("redis", &server, json!({}))]);
    let agent = config.agent().await;
    agent.until_dependency("redis", |it| it["status"] == "down", "the failure").await;
    server.command(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await;
    let it = agent.until_dependency("redis", |it| it["status"] == "up", "the cluster").await;
    assert_eq!(it["details"]["mode"], "cluster");
    // Over the kept connection, too.
    server.command(&["CLUSTER", "DELSLOTS", "0"]).await;
    let down = |it: &Value| failure(it) == ["query", "cluster_down", "CLUSTERDOWN"] && it["status"] != "up";
    let it = agent.until_dependency("redis", down, "the slot that is missed").await;
    assert!(told(&it, "message").contains("16383 of 16384"), "{it:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_occupied_by_a_script_is_told() {
    let server = Redis::with_conf(&["busy-reply-threshold 100"]).await;
    let mut connection = server.connection().await;
    let script = tokio::spawn(async move {
        redis::cmd("EVAL").arg("while true do end").arg("0").query_async::<()>(&mut connection).await
    });
    until_refused(&server, &["PING"], "BUSY").await;
    let it = seen(&server, json!({})).await;
    assert_eq!(failure(&it), ["query", "query_failed", "BUSY"], "{it:#}");
    assert!(told(&it, "hint").contains("SCRIPT KILL"), "{it:#}");
    server.command(&["SCRIPT", "KILL"]).await;
    script.await.expect("it ends").expect_err("it was killed");
    assert_eq!(failure(&seen(&server, json!({})).await), WELL);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sentinel_is_no_server() {
    let sentinel = Redis::start(RedisOptions { sentinel: true, ..Default::default() }).await;
    let it = seen(&sentinel, json!({})).await;
    assert_eq!(failure(&it), ["query", "wrong_role", "-"], "{it:#}");
    assert!(told(&it, "message").contains("a Sentinel answers"), "{it:#}");
}

/// Protected mode refuses whoever is not on loopback. That takes a network with another address; where no
/// network of our own can be had (it takes root, or user namespaces), a server that says the same words stands in.
#[tokio::test(flavor = "multi_thread")]
async fn one_in_protected_mode_is_told() {
    let it = match protected().await {
        Ok(it) => it,
        Err(why) => {
            println!("no network of its own ({why}): the server is played");
            let peer = fake_redis("PING", Act::Close(DENIED)).await;
            let at = json!({"host": "127.0.0.1", "port": peer.address().port()});
            check([on("redis", "redis", at)]).await["redis"].clone()
        }
    };
    assert_eq!(failure(&it), ["query", "access_denied", "DENIED"], "{it:#}");
    assert_eq!(it["last_check"]["attempts"], 1, "it will not pass by itself");
    let message = told(&it, "message");
    assert!(
        message.starts_with("DENIED Redis is running in protected mode") && message.len() < 200,
        "{message}"
    );
    assert!(told(&it, "hint").contains("protected mode"), "{it:#}");
}

/// How Redis 7.0 begins its page.
const DENIED: &str = "-DENIED Redis is running in protected mode because protected mode is enabled and no password is \
                      set for the default user. In this mode connections are only accepted from the loopback \
                      interface. If you want to connect from external computers to Redis you may adopt one of the \
                      following solutions: 1) Just disable protected mode\r\n";

/// A check of a real server, by an address that is not loopback's, in a network that has nothing but its own
/// loopback device; or why there can be no such network here.
async fn protected() -> Result<Value, String> {
    /// Of the addresses for documentation (RFC 5737).
    const ADDRESS: &str = "192.0.2.1";
    const SCRIPT: &str = r#"
        ip link set lo up
        ip address add "$1/32" dev lo
        redis-server --port 6379 --bind 127.0.0.1 "$1" --save '' --dir / >/dev/null &
        until redis-cli ping >/dev/null 2>&1; do kill -0 $! || exit 9; sleep 0.05; done
        "$2" check --config "$3" --format json
        kill $!
        wait $!
    "#;
    in_own_network(&["ip", "link", "set", "lo", "up"]).await?;
    let config = Config::quick([on("redis", "redis", json!({"host": ADDRESS, "port": 6379}))]);
    let program = env!("CARGO_BIN_EXE_sickbay");
    let report = in_own_network(&["sh", "-c", SCRIPT, "sh", ADDRESS, program, config.path()]).await;
    let report = report.expect("the script runs where `ip` does");
    let report: Value = serde_json::from_str(&report).expect("a report");
    Ok(report["dependencies"]["redis"].clone())
}

/// Runs a command in a network namespace of its own; gives what it printed, or why it failed.
async fn in_own_network(command: &[&str]) -> Result<String, String> {
    let mut unshare = tokio::process::Command::new("unshare");
    if unprivileged().is_none() {
        // Who is not root may still be it in a user namespace.
        unshare.args(["--user", "--map-root-user"]);
    }
    unshare.args(["--net", "--fork", "--kill-child"]).args(command);
    let output = unshare.stdin(Stdio::null()).kill_on_drop(true).output().await;
    let output = output.map_err(|error| format!("unshare: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}
