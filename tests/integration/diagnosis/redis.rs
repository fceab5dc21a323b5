//! Redis servers that are reached, and do not serve.

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::case::{dependency, target};
use crate::support::config::{on, on_redis};
use crate::support::fake_redis::{Act, fake_redis};
use crate::support::lab::Lab;
use crate::support::ports;
use crate::support::redis::{Redis, RedisOptions};
use crate::support::wait::eventually;

async fn with_password() -> Redis {
    let password = Some("the-right-one".to_owned());
    Redis::start(RedisOptions { password, ..Default::default() }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_well() {
    let server = Redis::plain().await;
    let seen = dependency(on_redis("cache", &server, json!({"role": "primary"}))).here().await;
    seen.is("redis_well", "nothing: a Redis that serves", ["-", "-", "works", "certain"], "-");
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_without_password() {
    let server = with_password().await;
    let seen = dependency(on_redis("cache", &server, json!({}))).here().await;
    seen.saying("NOAUTH").is(
        "redis_without_password",
        "the server wants a password, and none is set",
        ["auth", "auth_failed", "password_missing", "certain"],
        "`dependencies.cache.password`",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_with_wrong_password() {
    let server = with_password().await;
    let wrong = json!({"password": "not-this-one"});
    let seen = dependency(on_redis("cache", &server, wrong)).here().await;
    seen.saying("WRONGPASS").is(
        "redis_with_wrong_password",
        "the password is wrong",
        ["auth", "auth_failed", "password_wrong", "certain"],
        "rotated",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_url_with_wrong_password() {
    let server = with_password().await;
    let seen = target(format!("redis://:not-this-one@127.0.0.1:{}/", server.port())).here().await;
    seen.is(
        "redis_url_with_wrong_password",
        "the password of a URL is wrong",
        ["auth", "auth_failed", "password_wrong", "certain"],
        "rotated",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn acl_forbids() {
    let users = vec!["app on >app-app-app ~* +info -ping".to_owned()];
    let server = Redis::start(RedisOptions { users, ..Default::default() }).await;
    let app = json!({"username": "app", "password": "app-app-app"});
    let seen = dependency(on_redis("cache", &server, app)).here().await;
    seen.saying("NOPERM").is(
        "acl_forbids",
        "the ACL does not let the user ask `PING`",
        ["query", "access_denied", "not_permitted", "certain"],
        "+ping",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn protected_mode() {
    let Some(mut lab) = Lab::new() else { return };
    lab.start(
        "redis-server",
        &["--port", "6379", "--bind", "10.77.2.10", "127.0.0.1", "--save", "", "--dir", "/"],
    );
    lab.until_it_listens("10.77.2.10", 6379).await;
    let cache = on("redis", "cache", json!({"host": "10.77.2.10", "port": 6379}));
    let seen = dependency(cache).within(&lab).await;
    seen.saying("DENIED").is(
        "protected_mode",
        "Redis is in protected mode",
        ["query", "access_denied", "protected_mode", "certain"],
        "protected-mode no",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn loading() {
    // Each key takes its time, and after each kilobyte the server answers whoever asks.
    let server = Redis::with_conf(&[
        "enable-debug-command yes",
        "key-load-delay 20000",
        "loading-process-events-interval-bytes 1024",
    ])
    .await;
    server.command(&["DEBUG", "POPULATE", "2000", "key", "1000"]).await;
    let mut reload = TcpStream::connect(("127.0.0.1", server.port())).await.expect("it listens");
    reload.write_all(b"DEBUG RELOAD\r\n").await.expect("it reads");
    eventually("the loading", || async {
        let said = server.say("PING").await?.1;
        if said.starts_with("-LOADING") { Ok(()) } else { Err(said) }
    })
    .await;
    let seen = dependency(on_redis("cache", &server, json!({}))).here().await;
    seen.saying("LOADING").is(
        "loading",
        "Redis loads its data",
        ["query", "loading", "starting_up", "certain"],
        "wait",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn cluster_node() {
    let peer = fake_redis("PING", Act::Say("-MOVED 866 10.77.2.11:6379\r\n")).await;
    let cache = json!({"host": "127.0.0.1", "port": peer.address().port()});
    let seen = dependency(on("redis", "cache", cache)).here().await;
    seen.saying("MOVED").is(
        "cluster_node",
        "one node of a cluster answers, and sends to another one",
        ["query", "query_failed", "cluster_node", "certain"],
        "configuration endpoint",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn cluster_down() {
    // Its own second port would be the first one and 10,000, which may be none.
    let server =
        Redis::with_conf(&["cluster-enabled yes", &format!("cluster-port {}", ports::spare())]).await;
    let seen = dependency(on_redis("cache", &server, json!({}))).here().await;
    seen.saying("CLUSTERDOWN").is(
        "cluster_down",
        "the cluster misses slots",
        ["query", "cluster_down", "cluster_down", "certain"],
        "CLUSTER NODES",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_replica() {
    let primary = Redis::plain().await;
    let replica = Redis::with_conf(&[&format!("replicaof 127.0.0.1 {}", primary.port())]).await;
    let seen = dependency(on_redis("cache", &replica, json!({"role": "primary"}))).here().await;
    seen.saying("replica").is(
        "redis_replica",
        "a replica answers where a primary is expected",
        ["query", "wrong_role", "wrong_role", "certain"],
        "does not follow a failover",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_says_readonly() {
    let peer =
        fake_redis("PING", Act::Say("-READONLY You can't write against a read only replica.\r\n")).await;
    let cache = json!({"host": "127.0.0.1", "port": peer.address().port()});
    let seen = dependency(on("redis", "cache", cache)).here().await;
    seen.saying("READONLY").is(
        "redis_says_readonly",
        "what answers takes no writes, as a replica",
        ["query", "read_only", "read_only", "certain"],
        "replica",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_full() {
    let server = Redis::with_conf(&["maxmemory-policy noeviction"]).await;
    server.command(&["SET", "big", &"x".repeat(1 << 20)]).await;
    server.command(&["CONFIG", "SET", "maxmemory", "1mb"]).await;
    eventually("writes to be refused", || async {
        match server.try_command(&["SET", "a", "b"]).await {
            Err(error) if error.contains("OOM") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let seen = dependency(on_redis("cache", &server, json!({"role": "primary"}))).here().await;
    seen.saying("OOM").is(
        "memory_full",
        "Redis takes no writes, because its memory is full",
        ["query", "read_only", "read_only", "certain"],
        "maxmemory",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_full() {
    let server = Redis::with_conf(&["maxclients 1"]).await;
    let held = server.hold_the_one_place().await;
    let seen = dependency(on_redis("cache", &server, json!({}))).here().await;
    seen.is(
        "redis_full",
        "Redis takes no further client",
        ["query", "too_many_connections", "too_many_connections", "certain"],
        "CLIENT LIST",
    );
    drop(held);
}
