//! What works and is not as it should be: the bounds of `warn`.

use serde_json::{Value, json};

use super::until_linked;
use crate::support::config::{Config, WELL, check, failure, on_redis};
use crate::support::redis::{Redis, field};

fn bound(name: &str, server: &Redis, warn: Value) -> Value {
    on_redis(name, server, json!({"warn": warn}))
}

fn warnings(dependency: &Value) -> Vec<&str> {
    dependency["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// The one warning that there is.
fn warning(dependency: &Value) -> &str {
    assert_eq!((failure(dependency), &dependency["status"]), (WELL, &json!("degraded")), "{dependency:#}");
    match warnings(dependency)[..] {
        [only] => only,
        _ => panic!("one warning is expected: {dependency:#}"),
    }
}

fn fine(dependency: &Value) {
    assert_eq!((failure(dependency), &dependency["status"]), (WELL, &json!("up")), "{dependency:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_near_its_limit_is_told_where_that_is_a_danger() {
    let fill = async |policy: &str| {
        let server = Redis::with_conf(&["maxmemory 64mb", &format!("maxmemory-policy {policy}")]).await;
        // In small pieces: what is on its way takes memory, too.
        for key in 'a'..='t' {
            server.command(&["SET", &key.to_string(), &"x".repeat(2 << 20)]).await;
        }
        server
    };
    let (strict, partly, expiring, cache) =
        tokio::join!(fill("noeviction"), fill("volatile-lru"), fill("volatile-lru"), fill("allkeys-lru"));
    expiring.command(&["EXPIRE", "a", "3600"]).await;
    let boundless = Redis::with_conf(&["maxmemory 0"]).await;
    let half = json!({"memory_used": "50%"});
    let seen = check([
        bound("strict", &strict, half.clone()),
        bound("partly", &partly, half.clone()),
        bound("expiring", &expiring, half.clone()),
        bound("cache", &cache, half.clone()),
        bound("boundless", &boundless, half),
        bound("default", &strict, json!({})),
        bound("off", &strict, json!({"memory_used": "off"})),
    ])
    .await;
    let told = warning(&seen["strict"]);
    let share = told.split(" % of the memory is used, ").next().and_then(|share| share.parse::<f64>().ok());
    let own: f64 = field(&strict.command(&["INFO"]).await, "used_memory").parse().expect("a number");
    let off = share.expect("a share") - own * 100.0 / f64::from(64 << 20);
    assert!(off.abs() < 3.0, "{told}; the server's own: {own}");
    assert!(
        told.ends_with(" MiB of 64 MiB; the bound is 50%; at the limit writes are refused, because nothing may be evicted (`noeviction`)"),
        "{told}"
    );
    assert!(warning(&seen["partly"]).contains("(`volatile-lru`)"), "no key expires: {seen:#}");
    for name in ["expiring", "cache", "boundless", "default", "off"] {
        fine(&seen[name]);
    }
    assert_eq!(seen["boundless"]["details"]["maxmemory_bytes"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn evictions_are_told_while_they_happen() {
    let server = Redis::with_conf(&["maxmemory 8mb", "maxmemory-policy allkeys-lru"]).await;
    let any = on_redis("any", &server, json!({"warn": {"evictions": "1/h"}}));
    let many = on_redis("many", &server, json!({"warn": {"evictions": "4000000/s"}}));
    let config = Config::quick([any, many, on_redis("off", &server, json!({}))]);
    let agent = config.agent().await;
    for name in ["any", "many", "off"] {
        agent.until_dependency(name, |it| it["status"] == "up", "a success").await;
    }
    // One more megabyte than there is room for each time; the agent looks between two of them, sooner or later.
    let write = async {
        loop {
            for key in 0..8 {
                server.command(&["SET", &format!("key{key}"), &"x".repeat(1 << 20)]).await;
            }
        }
    };
    let warned = |it: &Value| warnings(it).iter().any(|text| text.contains(" keys were evicted within "));
    let seen = tokio::select! {
        never = write => never,
        seen = agent.until_dependency("any", warned, "evictions") => seen,
    };
    let told = warning(&seen);
    assert!(told.contains("the bound is 1/h: the data outgrows `maxmemory` of 8 MiB"), "{told}");
    for name in ["many", "off"] {
        fine(&agent.dependency(name).await);
    }
    // What is over is not told for ever.
    let seen = agent.until_dependency("any", |it| it["status"] == "up", "no more evictions").await;
    assert_ne!(seen["details"]["evicted_keys"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_near_their_limit_are_told() {
    let server = Redis::with_conf(&["maxclients 10"]).await;
    let mut held = Vec::new();
    for _ in 0..6 {
        held.push(server.connection().await);
    }
    // With ours, seven.
    let config = Config::quick([bound("redis", &server, json!({"clients_used": "69%"}))]);
    let agent = config.agent().await;
    let told =
        |it: &Value| warnings(it).iter().any(|text| text.starts_with("70 % of the connections are taken"));
    let seen = agent.until_dependency("redis", told, "the bound").await;
    let expected = "70 % of the connections are taken, 7 of 10; the bound is 69%; beyond `maxclients` new ones are refused";
    assert_eq!(warning(&seen), expected);
    held.pop();
    agent.until_dependency("redis", |it| it["status"] == "up", "room").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_not_been_heard_of_is_told_from_either_side() {
    let often = "repl-ping-replica-period 1";
    let primary = Redis::with_conf(&[often]).await;
    let replica = Redis::with_conf(&[&format!("replicaof 127.0.0.1 {}", primary.port())]).await;
    until_linked(&replica).await;
    let lag = json!({"replication_lag": "2s"});
    let config = Config::quick([
        bound("primary", &primary, lag.clone()),
        bound("replica", &replica, lag),
        bound("off", &primary, json!({"replication_lag": "off"})),
    ]);
    let agent = config.agent().await;
    let silent = |it: &Value| warnings(it).iter().any(|text| text.contains(" was last heard of "));

    replica.hang().await;
    let seen = agent.until_dependency("primary", silent, "the replica's silence").await;
    let told = warning(&seen);
    assert!(
        told.starts_with(&format!("the replica 127.0.0.1:{} was last heard of ", replica.port())),
        "{told}"
    );
    assert!(told.ends_with(" s ago, the bound is 2s"), "{told}");
    fine(&agent.dependency("off").await);
    replica.wake();
    agent.until_dependency("primary", |it| it["status"] == "up", "the replica's word").await;
    agent.until_dependency("replica", |it| it["status"] == "up", "the replica").await;

    primary.hang().await;
    let seen = agent.until_dependency("replica", silent, "the primary's silence").await;
    let told = warning(&seen);
    assert!(
        told.starts_with(&format!("the primary 127.0.0.1:{} was last heard of ", primary.port())),
        "{told}"
    );
    primary.wake();
    agent.until_dependency("replica", |it| it["status"] == "up", "the primary's word").await;
}
