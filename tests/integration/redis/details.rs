//! What is told of a server is what the server tells of itself.

use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};

use super::until_linked;
use crate::support::agent::{Agent, Signal};
use crate::support::certs::certs;
use crate::support::config::{Config, WELL, check, failure, on_redis, phases};
use crate::support::redis::{Redis, RedisOptions, field};
use crate::support::scratch::Folder;
use crate::support::wait::eventually;

/// Over a connection that is held, so that it counts as a client whenever clients are counted.
async fn ask(connection: &mut MultiplexedConnection, words: &[&str]) -> redis::Value {
    let (name, arguments) = words.split_first().expect("a command");
    redis::cmd(name).arg(arguments).query_async(connection).await.expect("an answer")
}

async fn number(connection: &mut MultiplexedConnection, name: &str) -> u64 {
    field(&ask(connection, &["INFO"]).await, name).parse().expect("a number")
}

/// Our connections, as the server's `CLIENT LIST` has them.
async fn ours(connection: &mut MultiplexedConnection) -> u64 {
    let list: String = redis::from_redis_value(ask(connection, &["CLIENT", "LIST"]).await).expect("a text");
    list.lines().filter(|line| line.contains(" name=sickbay ")).count() as u64
}

/// Waits until what the agent tells and what the server tells are the same.
async fn until_same(agent: &Agent, connection: &MultiplexedConnection, pairs: &[(&str, &str)]) -> Value {
    eventually("the agent to tell what the server tells", || {
        let mut connection = connection.clone();
        async move {
            let details = agent.dependency("redis").await["details"].clone();
            for (pointer, name) in pairs {
                let (told, own) = (details.pointer(pointer), number(&mut connection, name).await);
                if told != Some(&json!(own)) {
                    return Err(format!("{pointer} is {told:?}, and {name} is {own}"));
                }
            }
            Ok(details)
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_details_are_the_servers_own() {
    let server = Redis::with_conf(&["maxmemory 64mb", "maxmemory-policy allkeys-lru", "maxclients 4"]).await;
    let mut held = server.connection().await;
    // Large enough that what a client's buffers need for a moment is nothing beside it.
    ask(&mut held, &["SET", "big", &"x".repeat(20 << 20)]).await;
    let config =
        Config::quick([on_redis("redis", &server, json!({"role": "primary", "reconnect_every": 10_000}))]);
    let agent = config.agent().await;
    agent.until_dependency("redis", |it| it["status"] == "up", "a success").await;

    let mut blocked = server.connection().await;
    let waiting = tokio::spawn(async move { ask(&mut blocked, &["BLPOP", "nothing", "0"]).await });
    // Two are held by the test, one by the agent: the fourth is the last, and the fifth is one too many.
    let fourth = server.connection().await;
    server.try_command(&["PING"]).await.expect_err("the server is full");
    let details = until_same(
        &agent,
        &held,
        &[
            ("/connected_clients", "connected_clients"),
            ("/max_clients", "maxclients"),
            ("/rejected_connections", "rejected_connections"),
            ("/blocked_clients", "blocked_clients"),
            ("/maxmemory_bytes", "maxmemory"),
            ("/evicted_keys", "evicted_keys"),
            ("/replication/offset", "master_repl_offset"),
            ("/replication/connected_replicas", "connected_slaves"),
        ],
    )
    .await;
    assert_eq!((&details["connected_clients"], &details["blocked_clients"]), (&json!(4), &json!(1)));
    assert_ne!(details["rejected_connections"], 0);
    let own = ask(&mut held, &["INFO"]).await;
    for (name, own_name) in [
        ("server_version", "redis_version"),
        ("mode", "redis_mode"),
        ("maxmemory_policy", "maxmemory_policy"),
    ] {
        assert_eq!(details[name], field(&own, own_name), "{name}");
    }
    let used = number(&mut held, "used_memory").await as f64;
    let told = details["used_memory_bytes"].as_f64().expect("a number");
    assert!((told - used).abs() < used / 100.0, "used memory: told {told}, own {used}");
    let uptime = number(&mut held, "uptime_in_seconds").await;
    let told = details["uptime_seconds"].as_u64().expect("a number");
    assert!(told <= uptime && uptime - told < 60, "uptime: told {told}, own {uptime}");
    assert_eq!((&details["role"], &details["read_only"]), (&json!("primary"), &json!(false)));
    assert_eq!((&details["loading"], &details["hidden"]), (&json!(false), &Value::Null));
    assert_eq!(details["tls"], Value::Null);

    drop(fourth);
    // Less room than is used already: the next write makes some.
    ask(&mut held, &["CONFIG", "SET", "maxmemory", "10mb"]).await;
    ask(&mut held, &["SET", "small", "x"]).await;
    assert_eq!(number(&mut held, "evicted_keys").await, 1);
    until_same(&agent, &held, &[("/evicted_keys", "evicted_keys"), ("/maxmemory_bytes", "maxmemory")]).await;
    waiting.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn primary_and_replica_are_told_from_either_side() {
    let primary = Redis::with_conf(&["repl-ping-replica-period 1"]).await;
    let replica = Redis::with_conf(&[&format!("replicaof 127.0.0.1 {}", primary.port())]).await;
    let writable =
        Redis::with_conf(&[&format!("replicaof 127.0.0.1 {}", primary.port()), "replica-read-only no"]).await;
    until_linked(&replica).await;
    until_linked(&writable).await;
    // A replica is linked a moment before its primary has heard so.
    eventually("both replicas online", || async {
        let own = primary.command(&["INFO", "replication"]).await;
        let replicas = ["slave0", "slave1"].map(|it| field(&own, it));
        if replicas.iter().all(|it| it.contains("state=online")) { Ok(()) } else { Err(replicas.join("; ")) }
    })
    .await;
    let seen = check([
        on_redis("primary", &primary, json!({})),
        on_redis("replica", &replica, json!({"role": "replica"})),
        on_redis("writable", &writable, json!({})),
    ])
    .await;
    for name in ["primary", "replica", "writable"] {
        assert_eq!((failure(&seen[name]), &seen[name]["status"]), (WELL, &json!("up")), "{seen:#}");
    }
    let of = |name: &str| seen[name]["details"]["replication"].clone();
    let told = of("primary");
    assert_eq!(told["connected_replicas"], 2);
    let own = primary.command(&["INFO", "replication"]).await;
    let ports: Vec<String> = [&replica, &writable].map(|it| format!("127.0.0.1:{}", it.port())).into();
    let replicas = told["replicas"].as_array().expect("a list");
    for (n, replica) in replicas.iter().enumerate() {
        assert!(ports.contains(&replica["address"].as_str().expect("a text").to_owned()), "{told:#}");
        let line = field(&own, &format!("slave{n}"));
        let (host, port) = replica["address"].as_str().and_then(|it| it.split_once(':')).expect("an address");
        assert!(line.starts_with(&format!("ip={host},port={port},state=online,")), "{line}: {replica}");
        let behind = replica["behind_bytes"].as_u64().expect("a number");
        assert!(behind < 1_000 && replica["lag_seconds"].as_u64() <= Some(60), "{replica}");
    }
    assert_eq!(replicas.len(), 2);
    let told = of("replica");
    assert_eq!(told["primary"], format!("127.0.0.1:{}", primary.port()));
    assert_eq!((&told["link"], &told["syncing"]), (&json!("up"), &json!(false)));
    assert_eq!(told["link_down_seconds"], Value::Null);
    assert!(told["last_heard_seconds"].as_u64() <= Some(60) && told["offset"].is_u64(), "{told:#}");
    assert_eq!(seen["replica"]["details"]["read_only"], true, "a write is refused");
    assert_eq!(seen["writable"]["details"]["read_only"], false, "a write is taken, and lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pool_is_what_the_server_sees_of_it() {
    let server = Redis::plain().await;
    let mut held = server.connection().await;
    let config = Config::quick([on_redis("redis", &server, json!({"reconnect_every": 10_000}))]);
    let mut agent = config.agent().await;
    let seen = agent.until_dependency("redis", |it| it["status"] == "up", "a success").await;
    assert_eq!(seen["pool"]["max"], 2);
    assert_eq!((&seen["pool"]["size"], ours(&mut held).await), (&json!(1), 1));
    // What the test itself connected: to see that the server was ready, and the connection that it holds.
    let mut own = 0;
    for created in 1..=3 {
        let seen =
            agent.until_dependency("redis", |it| it["pool"]["created"] == created, "a connection").await;
        let received = number(&mut held, "total_connections_received").await;
        if created == 1 {
            own = received - created;
        }
        assert_eq!(received - own, created, "{seen:#}");
        assert_eq!((&seen["pool"]["size"], &seen["pool"]["idle"]), (&json!(1), &json!(1)), "{seen:#}");
        assert_eq!(
            (&seen["pool"]["closed"], &seen["pool"]["errors"]),
            (&json!(created - 1), &json!(created - 1))
        );
        assert_eq!(ours(&mut held).await, 1);
        let killed = ask(&mut held, &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
        assert_eq!(killed, redis::Value::Int(1));
    }
    agent.signal(Signal::TERM);
    assert_eq!(agent.wait_exit().await.code(), Some(0));
    assert_eq!(ours(&mut held).await, 0, "none is left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_renewed_one_at_a_time_and_leave_no_trace_in_the_log() {
    // The test holds one, the agent has one and opens the next beside it: a third would be refused.
    let conf = ["loglevel verbose", "maxclients 3"].map(str::to_owned).into();
    let tls = Some(certs().good.clone());
    let server = Redis::start(RedisOptions { conf, tls, ..Default::default() }).await;
    let mut held = server.connection().await;
    let renews = json!({
        "port": server.tls_port(), "reconnect_every": 1, "tls": {"root_cert": certs().ca},
        "interval": "100ms",
    });
    let config = Config::quick([on_redis("redis", &server, renews)]);
    let mut agent = config.agent().await;
    let seen =
        agent.until_dependency("redis", |it| it["pool"]["created"].as_u64() >= Some(20), "20 renewals").await;
    assert_eq!((&seen["pool"]["errors"], &seen["circuit"]["failures"]), (&json!(0), &json!(0)), "{seen:#}");
    agent.signal(Signal::TERM);
    assert_eq!(agent.wait_exit().await.code(), Some(0));
    assert_eq!(number(&mut held, "rejected_connections").await, 0);
    // At this level the server tells of everybody who comes and goes. Redis 7 words the end of a TLS session as
    // an error without a reason; who goes without ending it is an unexpected end of file.
    let log = server.log();
    assert!(log.matches("Accepted 127.0.0.1").count() > 20, "{log}");
    assert!(!log.contains("eof"), "{log}");
    let rude = |line: &&str| line.contains("Reading from client") && !line.contains("error:00000000");
    assert_eq!(log.lines().find(rude), None, "{log}");
}

/// Who may not name connections, or not tell of itself, is asked no more than it takes.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_acl_hides_is_said_and_not_asked_for_again_and_again() {
    let users = |name: &str| vec![format!("{name} on >secret ~* +ping")];
    let server = Redis::start(RedisOptions { users: users("blind"), ..Default::default() }).await;
    let other = Redis::start(RedisOptions { users: users("judged"), ..Default::default() }).await;
    let folder = Folder::new("blind");
    let file = folder.write("password", b"secret");
    let password = format!("${{file:{}}}", file.display());
    let blind = json!({"username": "blind", "password": password, "reconnect_every": 2});
    // One of which a role is expected fails for want of `INFO`; it must know as soon as that is allowed.
    let judged = json!({"username": "judged", "password": "secret", "role": "primary"});
    let config = Config::quick([on_redis("redis", &server, blind), on_redis("judged", &other, judged)]);
    let agent = config.agent().await;
    let seen =
        agent.until_dependency("redis", |it| it["pool"]["created"].as_u64() >= Some(4), "renewals").await;
    assert_eq!((failure(&seen), &seen["status"]), (WELL, &json!("up")), "{seen:#}");
    assert_eq!(phases(&seen), ["connect", "auth", "query"]);
    let mut details = seen["details"].as_object().expect("a map").clone();
    let hidden = details.remove("hidden").expect("it is there");
    let expected = "all that INFO tells is not known, because the server says: NOPERM this user has no permissions \
                    to run the 'info' command; `ACL SETUSER NAME +info` allows it; it is asked for once an hour";
    assert_eq!(hidden, expected);
    assert!(details.values().all(Value::is_null), "{details:?}");
    // One entry for INFO, and one for the name of the first connection.
    let log: Vec<std::collections::BTreeMap<String, redis::Value>> =
        redis::from_redis_value(server.command(&["ACL", "LOG"]).await).expect("a log");
    let mut refused: Vec<(String, u64)> = log
        .iter()
        .map(|entry| {
            let text = redis::from_redis_value(entry["object"].clone()).expect("a text");
            (text, redis::from_redis_value(entry["count"].clone()).expect("a number"))
        })
        .collect();
    refused.sort();
    assert_eq!(refused, [("client|setname".to_owned(), 1), ("info".to_owned(), 1)]);

    // With another password there may be other rights.
    folder.write("password", b"other");
    server.command(&["ACL", "SETUSER", "blind", "resetpass", ">other", "+info"]).await;
    let told = |it: &Value| it["details"]["role"] == "primary" && it["details"]["hidden"].is_null();
    agent.until_dependency("redis", told, "what INFO tells").await;

    agent.until_dependency("judged", |it| it["last_failure"]["failure_kind"] == "access_denied", "it").await;
    other.command(&["ACL", "SETUSER", "judged", "+info"]).await;
    agent.until_dependency("judged", |it| it["status"] == "up", "the role").await;
}
