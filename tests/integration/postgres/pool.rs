//! The connections that checks cost, as the server and its log see them.

use serde_json::{Value, json};

use super::{plain, with_tls};
use crate::support::agent::{Agent, Env, Running, Signal};
use crate::support::certs::certs;
use crate::support::config::{Config, WELL, failure, on_postgres};
use crate::support::postgres::{Postgres, PostgresOptions, PostgresTls};
use crate::support::wait::eventually;

/// The most sessions of `user` that the server had at a time, and how many in all, by its own log.
fn sessions(server: &Postgres, user: &str) -> (usize, usize) {
    let log = server.log();
    let (begun, ended) = (format!("connection authorized: user={user} "), format!(" user={user} "));
    let (mut now, mut most, mut all) = (0_usize, 0, 0);
    for line in log.lines() {
        if line.contains(&begun) {
            (now, all) = (now + 1, all + 1);
            most = most.max(now);
        } else if line.contains("disconnection: session time") && line.contains(&ended) {
            now -= 1;
        }
    }
    (most, all)
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_kept_renewed_and_never_more_than_the_pool_may_have() {
    let server = plain().await;
    server
        .sql(
            "CREATE ROLE kept LOGIN PASSWORD 'x'; CREATE ROLE renewed LOGIN PASSWORD 'x'; \
             CREATE ROLE single LOGIN PASSWORD 'x' CONNECTION LIMIT 1",
        )
        .await;
    let with = |name: &str, every: u32, max: u32| {
        let more = json!({"user": name, "password": "x", "reconnect_every": every, "pool": {"max": max},
                          "interval": "100ms", "retry": {"attempts": 1}});
        on_postgres(name, &server, more)
    };
    let config = Config::quick([with("kept", 10_000, 2), with("renewed", 3, 2), with("single", 1, 1)]);
    let mut agent = config.agent().await;
    let checks = |it: &Value| it["circuit"]["successes"].as_u64().unwrap_or(0);
    let mut seen = Vec::new();
    for name in ["kept", "renewed", "single"] {
        seen.push(agent.until_dependency(name, |it| checks(it) >= 12, "a dozen checks").await);
    }
    agent.signal(Signal::TERM);
    assert_eq!(agent.wait_exit().await.code(), Some(0));
    for (name, seen, max) in [("kept", &seen[0], 2), ("renewed", &seen[1], 2), ("single", &seen[2], 1)] {
        let pool = &seen["pool"];
        assert_eq!((failure(seen), &seen["circuit"]["failures"]), (WELL, &json!(0)), "{name}: {seen:#}");
        assert_eq!((&pool["max"], &pool["size"], &pool["errors"]), (&json!(max), &json!(1), &json!(0)));
        let number = |field: &str| pool[field].as_u64().expect("a number");
        assert_eq!(number("created") - number("closed"), number("size"), "{name}: {pool}");
        let expected = match name {
            "kept" => 1,
            "renewed" => checks(seen).div_ceil(3),
            _ => checks(seen),
        };
        assert_eq!(number("created"), expected, "{name}: {seen:#}");
        let (most, all) = sessions(&server, name);
        assert!(all as u64 >= expected, "{name}: the server saw {all}");
        assert!(most <= max, "{name}: the server saw {most} at a time\n{}", server.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_without_tls_is_tried_once_for_each_opening_and_in_its_place() {
    let tls = PostgresTls::Offered(certs().good.clone());
    let hba = vec!["hostssl all all all reject".to_owned()];
    let mut server = Postgres::start(PostgresOptions { tls, hba, ..Default::default() }).await;
    server.sql("CREATE ROLE single LOGIN PASSWORD 'x' CONNECTION LIMIT 1").await;
    let more = json!({"user": "single", "password": "x", "reconnect_every": 2, "pool": {"max": 1},
                      "retry": {"attempts": 1}});
    let config = Config::quick([on_postgres("database", &server, more)]);
    let mut agent = config.agent().await;
    let checks = |it: &Value| it["circuit"]["successes"].as_u64() >= Some(8);
    let seen = agent.until_dependency("database", checks, "checks").await;
    assert_eq!((failure(&seen), &seen["circuit"]["failures"]), (WELL, &json!(0)), "{seen:#}");
    agent.signal(Signal::TERM);
    assert_eq!(agent.wait_exit().await.code(), Some(0), "{}", agent.output());
    server.stop().await;
    let (log, (most, all)) = (server.log(), sessions(&server, "single"));
    assert_eq!((most, log.matches("FATAL:  pg_hba.conf rejects connection").count()), (1, all), "{log}");
    assert!(all >= 4, "{log}");
    for noise in NOISE {
        assert!(!log.contains(noise), "{noise}: {log}");
    }
}

/// `pool` as the agent tells it, once what it says agrees with the sessions of `user` that the server shows: `kept`
/// is idle there, and ours is idle here.
async fn agreed(agent: &Agent, server: &Postgres, user: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let rows = format!(
        "SELECT count(*), count(*) FILTER (WHERE state = 'idle') FROM pg_stat_activity \
         WHERE application_name = 'sickbay' AND usename = '{user}'"
    );
    eventually(&format!("the pool of {user} to be as the server shows it"), || async {
        // Whatever comes or goes in between is seen by one side alone: both are asked until neither moves.
        let before = agent.dependency(user).await["pool"].clone();
        let shown = server.sql(&rows).await;
        let pool = agent.dependency(user).await["pool"].clone();
        let told = ["size", "idle"].map(|field| pool[field].to_string());
        let number = |field: &str| pool[field].as_u64().unwrap_or_default();
        let adds_up = number("created") - number("closed") == number("size")
            && number("size") - number("idle") == number("in_use")
            && number("size") <= number("max");
        match before == pool && shown[0] == told && adds_up && wanted(&pool) {
            true => Ok(pool),
            false => Err(format!("{pool}, and the server shows {shown:?}")),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pools_numbers_are_those_of_the_server_whatever_happens_to_it() {
    let mut server = plain().await;
    server.sql("CREATE ROLE kept LOGIN PASSWORD 'x'; CREATE ROLE renewed LOGIN PASSWORD 'x'").await;
    let with = |name: &str, every: u32| {
        let more = json!({"user": name, "password": "x", "reconnect_every": every, "interval": "500ms",
                          "retry": {"attempts": 1}});
        on_postgres(name, &server, more)
    };
    let config = Config::quick([with("kept", 10_000), with("renewed", 2)]);
    let agent = config.agent().await;
    let number = |pool: &Value, field: &str| pool[field].as_u64().expect("a number");

    let steady = agreed(&agent, &server, "kept", |pool| pool["size"] == 1).await;
    assert_eq!([number(&steady, "created"), number(&steady, "closed")], [1, 0], "{steady}");
    let renewed = agreed(&agent, &server, "renewed", |pool| pool["created"].as_u64() >= Some(3)).await;
    assert_eq!([number(&renewed, "size"), number(&renewed, "errors")], [1, 0], "{renewed}");
    // In all that the server has seen.
    let (_, all) = sessions(&server, "renewed");
    assert!(all as u64 >= number(&renewed, "created"), "{all} and {renewed}");

    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'sickbay'";
    server.sql(cut).await;
    let again = agreed(&agent, &server, "kept", |pool| pool["created"] == 2).await;
    assert_eq!([number(&again, "closed"), number(&again, "errors")], [1, 1], "{again}");

    server.stop().await;
    let empty = |it: &Value| it["pool"]["size"] == 0 && it["status"] == "down";
    for name in ["kept", "renewed"] {
        let pool = agent.until_dependency(name, empty, "that none is left").await["pool"].clone();
        assert_eq!(pool["created"], pool["closed"], "{name}: {pool}");
    }
    server.restart().await;
    let back = agreed(&agent, &server, "kept", |pool| pool["size"] == 1).await;
    assert_eq!([number(&back, "created"), number(&back, "closed")], [3, 2], "{back}");
    agreed(&agent, &server, "renewed", |pool| pool["size"] == 1).await;
}

/// What a server says of a client that hung up on it.
const NOISE: &[&str] = &[
    "unexpected EOF",
    "could not receive data",
    "could not send data",
    "connection to client lost",
    "incomplete startup",
    "could not accept SSL",
    "SSL error",
    "reset by peer",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_for_a_while_has_nothing_to_complain_of_afterwards() {
    let mut server = with_tls(&certs().good).await;
    // With room for all that is given up meanwhile.
    let with = |mode: &str, every: u32| {
        // A diagnosis gives up handshakes that nobody answers, and the server tells of each when it wakes.
        let more = json!({"sslmode": mode, "reconnect_every": every, "pool": {"max": 5}, "interval": "1s",
                          "diagnose_on_failure": false,
                          "timeout": "1s", "connect_timeout": "300ms", "retry": {"attempts": 1},
                          "circuit": {"recovery_timeout": "2s"}});
        on_postgres(&format!("{mode}-{every}"), &server, more)
    };
    let all = ["require-1", "require-10", "disable-1", "disable-10"];
    let config =
        Config::quick([with("require", 1), with("require", 10), with("disable", 1), with("disable", 10)]);
    let mut agent = config.agent().await;
    for name in all {
        agent.until_dependency(name, |it| it["status"] == "up", "a check").await;
    }
    server.hang().await;
    for name in all {
        agent.until_dependency(name, |it| it["last_failure"].is_object(), "a failure").await;
    }
    server.wake();
    for name in all {
        let well = |it: &Value| it["status"] == "up" && it["pool"]["in_use"] == 0;
        agent.until_dependency(name, well, "the end of what was given up").await;
    }
    agent.signal(Signal::TERM);
    assert_eq!(agent.wait_exit().await.code(), Some(0), "{}", agent.output());
    server.stop().await;
    let log = server.log();
    for noise in NOISE {
        assert!(!log.contains(noise), "{noise}: {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_log_tells_nothing_of_us_but_that_we_came_and_went() {
    let mut server = with_tls(&certs().good).await;
    let every = |mode: &str, every: u32| {
        on_postgres(mode, &server, json!({"sslmode": mode, "reconnect_every": every}))
    };
    let config = Config::quick([every("require", 2), every("disable", 3), every("prefer", 1_000)]);
    let mut agent = config.agent().await;
    for name in ["require", "disable", "prefer"] {
        agent.until_dependency(name, |it| it["circuit"]["successes"].as_u64() >= Some(5), "checks").await;
    }
    agent.signal(Signal::TERM);
    assert_eq!(agent.wait_exit().await.code(), Some(0), "{}", agent.output());
    // One-shot, too; and a wrong password and a wrong name, which end before they have begun.
    let config = Config::quick([
        every("require", 1),
        on_postgres("wrong-password", &server, json!({"password": "wrong"})),
        on_postgres("wrong-name", &server, json!({"database": "wrong"})),
    ]);
    assert_eq!(config.run(&["check"]).await.code, Some(1));
    server.stop().await;
    let log = server.log();
    assert!(log.contains("application_name=sickbay"), "{log}");
    for noise in NOISE {
        assert!(!log.contains(noise), "{noise}: {log}");
    }
}

/// Never answered within a test.
fn endless(name: &str, server: &Postgres) -> Value {
    let sleep = json!({"name": "sleep", "sql": "SELECT count(*) FROM (SELECT pg_sleep(600)) AS x", "min": 0});
    on_postgres(name, server, json!({"queries": [sleep], "timeout": "10m", "connect_timeout": "10m"}))
}

async fn until_asked(server: &Postgres) {
    let active = "SELECT count(*) FROM pg_stat_activity \
                  WHERE application_name = 'sickbay' AND state = 'active' AND query LIKE '%pg_sleep%'";
    eventually("the query to run", || async {
        let rows = server.sql(active).await;
        if rows == [["1"]] { Ok(()) } else { Err(format!("{rows:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_ends_in_the_middle_of_a_question_says_goodbye_first() {
    let (mut server, well) = (plain().await, plain().await);
    let config = Config::quick([endless("database", &server)]);
    for (command, signal, code) in [
        (&["wait", "--timeout", "10m"][..], Signal::TERM, 143),
        (&["wait", "--timeout", "10m"], Signal::INT, 130),
        (&["check"], Signal::TERM, 143),
        (&["check"], Signal::INT, 130),
    ] {
        let running = Running::start(&[command, &["--config", config.path()]].concat(), &Env::new());
        until_asked(&server).await;
        running.signal(signal);
        let (status, printed) = running.ended().await;
        assert_eq!(status.code(), Some(code), "{command:?}: {printed}");
        assert!(printed.contains("ended by signal"), "{command:?}: {printed}");
        assert_eq!(server.connections_of("sickbay").await, 0, "{command:?}: it has left before it ended");
    }

    // And where what is waited for is up, while what could have taken its place still thinks.
    let mut replica = endless("replica", &server);
    replica["fallback_of"] = json!("database");
    let held = "ALTER ROLE app CONNECTION LIMIT 0";
    well.sql(&format!("CREATE ROLE app LOGIN PASSWORD 'x'; {held}")).await;
    let pair =
        Config::quick([on_postgres("database", &well, json!({"user": "app", "password": "x"})), replica]);
    let arguments = ["wait", "database", "--timeout", "10m", "--config", pair.path()];
    let waiting = Running::start(&arguments, &Env::new());
    until_asked(&server).await;
    well.sql("ALTER ROLE app CONNECTION LIMIT 5").await;
    let (status, printed) = waiting.ended().await;
    assert_eq!(status.code(), Some(0), "{printed}");
    assert_eq!(server.connections_of("sickbay").await, 0, "{printed}");

    server.stop().await;
    // The sessions that looked may still have been leaving themselves.
    let log: Vec<String> =
        server.log().lines().filter(|line| !line.contains("test support")).map(str::to_owned).collect();
    let log = log.join("\n");
    for noise in NOISE {
        assert!(!log.contains(noise), "{noise}: {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_the_server_cuts_is_made_anew_without_a_failure() {
    let server = plain().await;
    let config = Config::quick([on_postgres("database", &server, json!({"reconnect_every": 10_000}))]);
    let agent = config.agent().await;
    let created = |it: &Value| it["pool"]["created"].as_u64().unwrap_or(0);
    agent.until_dependency("database", |it| it["circuit"]["successes"].as_u64() >= Some(2), "checks").await;
    for cut in 1..=3 {
        let cutting =
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'sickbay'";
        assert_eq!(server.sql(cutting).await, [["t"]]);
        let seen = agent.until_dependency("database", |it| created(it) == cut + 1, "a new connection").await;
        assert_eq!((failure(&seen), &seen["status"]), (WELL, &json!("up")), "{seen:#}");
        assert_eq!((&seen["circuit"]["failures"], &seen["pool"]["errors"]), (&json!(0), &json!(cut)));
    }
}
