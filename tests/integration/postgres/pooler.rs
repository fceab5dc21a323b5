//! Through PgBouncer, in transaction mode and with one session at the server: what works, and what it says where
//! something does not. It gives its own words, and the server's without their code.

use std::fs;
use std::future::ready;

use rustix::process::{Pid, kill_process};
use serde_json::{Value, json};

use crate::support::agent::Signal;
use crate::support::certs::certs;
use crate::support::config::{Config, WELL, check, failure, on_postgres, told};
use crate::support::pgbouncer::{AWAY, BY_SOCKET, LETS_IN, MISSING, PASSWORD, PgBouncer};
use crate::support::postgres::{Postgres, PostgresOptions};
use crate::support::wait::eventually;

/// A server that lets a pooler in, with these lines of `pg_hba.conf` before.
async fn server(before: &[&str]) -> Postgres {
    let hba = before.iter().chain(&[LETS_IN]).map(|line| (*line).to_owned()).collect();
    Postgres::start(PostgresOptions { hba, ..Default::default() }).await
}

/// One attempt each: a second one hears less, for a while, than the first.
fn through(name: &str, pooler: &PgBouncer, server: &Postgres, more: Value) -> Value {
    let mut dependency = on_postgres(name, server, json!({"retry": {"attempts": 1}, "password": PASSWORD}));
    dependency["port"] = json!(pooler.port());
    dependency.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
    dependency
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_share_one_session_of_the_server_and_leave_nothing_behind_in_it() {
    let server = server(&[]).await;
    let pooler = PgBouncer::start(&server, &[]).await;
    let counted = json!({"reconnect_every": 2, "queries": [{"name": "one", "sql": "SELECT 1", "expect": 1}]});
    let config = Config::quick([
        through("kept", &pooler, &server, json!({})),
        through("renewed", &pooler, &server, json!({"reconnect_every": 2})),
        through("asking", &pooler, &server, counted),
    ]);
    let agent = config.agent().await;
    for name in ["kept", "renewed", "asking"] {
        let enough = |it: &Value| it["circuit"]["successes"].as_u64() >= Some(6);
        let seen = agent.until_dependency(name, enough, "checks").await;
        assert_eq!((failure(&seen), &seen["circuit"]["failures"]), (WELL, &json!(0)), "{name}: {seen:#}");
        let (details, counts) = (&seen["details"], &seen["details"]["connections"]);
        assert_eq!((&details["role"], &details["database"]), (&json!("primary"), &json!("mlflow_db")));
        assert_eq!(counts["by_application"]["sickbay"], 1, "{name}: the server sees one: {counts}");
        assert!(details["longest_transaction_seconds"].is_f64(), "{details}");
    }
    let asked = agent.dependency("asking").await["details"]["queries"]["one"].clone();
    assert_eq!((&asked["value"], &asked["ok"]), (&json!(1), &json!(true)));

    let other = pooler.session().await;
    let settings = "SELECT current_setting('statement_timeout') || current_setting('transaction_read_only')";
    let rows = other.simple_query(settings).await.expect("an answer");
    let text = rows.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    assert_eq!(text.as_deref(), Some("0off"), "the same session, and none of our settings");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_connections_of_this_task_are_told_only_where_the_server_sees_its_address() {
    let server = server(&[]).await;
    let pooler = PgBouncer::start(&server, &[]).await;
    let seen = check([
        through("by-address", &pooler, &server, json!({})),
        through("by-socket", &pooler, &server, json!({"database": BY_SOCKET})),
    ])
    .await;
    let details = |name: &str| seen[name]["details"].clone();
    assert_eq!((failure(&seen["by-address"]), failure(&seen["by-socket"])), (WELL, WELL), "{seen:#}");
    assert_eq!(details("by-address")["hidden"], Value::Null, "the pooler is in this task: {seen:#}");
    assert!(details("by-address")["connections"]["this_task"].as_u64() >= Some(1), "{seen:#}");
    let counts = &details("by-socket")["connections"];
    assert_eq!(
        (&counts["this_task"], &counts["this_task_by_state"]),
        (&Value::Null, &Value::Null),
        "{counts}"
    );
    assert!(counts["used"].as_u64() >= Some(1), "the rest is told: {counts}");
    assert!(details("by-socket")["hidden"].as_str().is_some_and(|it| it.contains("pooler")), "{seen:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_poolers_own_refusals_are_told() {
    let server = server(&[]).await;
    let pooler = PgBouncer::start(&server, &[]).await;
    let tls = PgBouncer::start_with_tls(&server, &certs().good).await;
    let seen = check([
        through("wrong-password", &pooler, &server, json!({"password": "wrong"})),
        through("wrong-user", &pooler, &server, json!({"user": "nobody-here"})),
        through("wrong-database", &pooler, &server, json!({"database": "wrong"})),
        through("no-tls", &pooler, &server, json!({"sslmode": "require"})),
        through("plain", &tls, &server, json!({"sslmode": "disable"})),
        through("tls", &tls, &server, json!({"sslmode": "require"})),
        through("away", &pooler, &server, json!({"database": AWAY})),
    ])
    .await;
    for (name, expected, hint) in [
        ("wrong-password", ["auth", "auth_failed", "08P01"], "the pooler's own list of users"),
        ("wrong-user", ["auth", "auth_failed", "08P01"], "the pooler's own list of users"),
        ("wrong-database", ["auth", "database_missing", "08P01"], "[databases]"),
        ("no-tls", ["tls", "tls_handshake", "-"], "does not offer TLS"),
        ("plain", ["auth", "tls_required", "08P01"], "DATABASE_SSLMODE"),
        ("away", ["auth", "too_many_connections", "08P01"], "cannot reach the server"),
    ] {
        assert_eq!(failure(&seen[name]), expected, "{name}: {seen:#}");
        let told = format!("{} {}", told(&seen[name], "message"), told(&seen[name], "hint"));
        assert!(told.contains(hint), "{name}: {told}");
    }
    assert_eq!(failure(&seen["tls"]), WELL, "{seen:#}");
    pooler.admin("DISABLE mlflow_db").await;
    let seen = check([through("disabled", &pooler, &server, json!({}))]).await;
    assert_eq!(failure(&seen["disabled"]), ["auth", "shutting_down", "08P01"], "{seen:#}");
    assert!(told(&seen["disabled"], "hint").contains("DISABLE"), "{seen:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_behind_refuses_is_told_by_what_it_says() {
    let hba = ["host all refused 127.0.0.1/32 reject", "host all changed 127.0.0.1/32 scram-sha-256"];
    let server = server(&hba).await;
    server
        .sql(
            "CREATE ROLE refused LOGIN; CREATE ROLE changed LOGIN PASSWORD 'other'; CREATE ROLE shut NOLOGIN; \
             CREATE ROLE limited LOGIN CONNECTION LIMIT 0",
        )
        .await;
    let pooler = PgBouncer::start(&server, &["refused", "changed", "shut", "limited", "absent"]).await;
    let as_user = |user: &str| through(user, &pooler, &server, json!({"user": user}));
    let seen = check([
        as_user("refused"),
        as_user("changed"),
        as_user("shut"),
        as_user("limited"),
        as_user("absent"),
        through("missing", &pooler, &server, json!({"database": MISSING})),
    ])
    .await;
    for (name, kind, hint) in [
        ("refused", "access_denied", "pg_hba.conf"),
        ("changed", "auth_failed", "user or password is wrong"),
        ("shut", "access_denied", "no LOGIN"),
        ("limited", "too_many_connections", "CONNECTION LIMIT"),
        ("absent", "auth_failed", "no role of this name"),
        ("missing", "database_missing", "behind the pooler"),
    ] {
        assert_eq!(failure(&seen[name]), ["auth", kind, "08P01"], "{name}: {seen:#}");
        assert!(told(&seen[name], "hint").contains(hint), "{name}: {}", told(&seen[name], "hint"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_is_exhausted_is_told_and_passes() {
    let server = server(&[]).await;
    let pooler = PgBouncer::start(&server, &[]).await;
    let config = Config::quick([through("database", &pooler, &server, json!({}))]);
    let agent = config.agent().await;
    agent.until_dependency("database", |it| it["status"] == "up", "a check").await;
    let held = pooler.session().await;
    held.simple_query("BEGIN; SELECT 1").await.expect("a transaction");
    let full = |it: &Value| failure(it)[1] == "too_many_connections" && it["status"] == "down";
    let seen = agent.until_dependency("database", full, "that no connection is left").await;
    assert_eq!((failure(&seen)[2], told(&seen, "message")), ("08P01", "query_wait_timeout"), "{seen:#}");
    assert!(told(&seen, "hint").contains("SHOW POOLS"), "{seen:#}");
    held.simple_query("ROLLBACK").await.expect("the end of it");
    agent.until_dependency("database", |it| it["status"] == "up", "recovery").await;

    pooler.admin("SET max_client_conn = 1").await;
    let seen = check([through("full", &pooler, &server, json!({}))]).await;
    assert_eq!(failure(&seen["full"]), ["auth", "too_many_connections", "08P01"], "{seen:#}");
    assert!(told(&seen["full"], "message").contains("max_client_conn"), "{seen:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_slot_left_at_the_server_behind_is_told() {
    let conf = vec!["max_connections = 5\nsuperuser_reserved_connections = 3".to_owned()];
    let hba = vec![LETS_IN.to_owned()];
    let server = Postgres::start(PostgresOptions { conf, hba, ..Default::default() }).await;
    server.sql("CREATE ROLE app LOGIN PASSWORD 'app'; CREATE ROLE other LOGIN").await;
    let pooler = PgBouncer::start(&server, &["app", "other"]).await;
    let _held = (super::session(&server).await.expect("one"), super::session(&server).await.expect("two"));
    let as_app = |name: &str, user: &str| through(name, &pooler, &server, json!({"user": user}));
    let seen = check([as_app("reserved", "app")]).await;
    assert_eq!(failure(&seen["reserved"]), ["auth", "too_many_connections", "08P01"], "{seen:#}");
    assert!(told(&seen["reserved"], "message").contains("remaining connection slots"), "{seen:#}");
    let _rest = [pooler.session().await, pooler.session().await];
    let mut sessions = Vec::new();
    // Those of the superuser go past the pooler, as it holds one for all its clients.
    while let Ok(session) = superuser(&server).await {
        sessions.push(session);
    }
    let seen = check([as_app("full", "other")]).await;
    assert_eq!(failure(&seen["full"]), ["auth", "too_many_connections", "08P01"], "{seen:#}");
    assert!(told(&seen["full"], "message").contains("too many clients"), "{seen:#}");
}

/// A session of the superuser at the server itself.
async fn superuser(server: &Postgres) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(server.port()).user("postgres").dbname("mlflow_db");
    let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_behind_can_go_and_come_and_so_can_the_pooler() {
    let mut server = server(&[]).await;
    let mut pooler = PgBouncer::start(&server, &[]).await;
    let config = Config::quick([through("database", &pooler, &server, json!({}))]);
    let agent = config.agent().await;
    let up = |it: &Value| it["status"] == "up";
    agent.until_dependency("database", up, "a check").await;

    server.stop().await;
    let away = |it: &Value| failure(it)[1] == "connect_refused" && it["status"] == "down";
    let seen = agent.until_dependency("database", away, "that the server is away").await;
    assert_eq!(failure(&seen)[2], "08P01", "it is the pooler that says it: {seen:#}");
    assert!(told(&seen, "message").contains("server login has been failing"), "{seen:#}");
    assert!(told(&seen, "hint").contains("the pooler in between works"), "{seen:#}");
    server.restart().await;
    agent.until_dependency("database", up, "the server's return").await;

    pooler.stop().await;
    let refused = |it: &Value| failure(it) == ["connect", "connect_refused", "ECONNREFUSED"];
    agent.until_dependency("database", refused, "that the pooler is away").await;
    pooler.restart().await;
    agent.until_dependency("database", up, "the pooler's return").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_behind_that_starts_or_goes_away_says_so() {
    let mut server = server(&[]).await;
    server.sql("CREATE ROLE early LOGIN; CREATE ROLE late LOGIN").await;
    let pooler = PgBouncer::start(&server, &["early", "late"]).await;
    let held = superuser(&server).await.expect("a session");
    // A "smart" shutdown waits for sessions and takes no new ones.
    signal(server.pids()[0], Signal::TERM);
    eventually("the shutdown to begin", || {
        let log = server.log();
        ready(if log.contains("received smart shutdown") { Ok(()) } else { Err(log) })
    })
    .await;
    let seen = check([through("late", &pooler, &server, json!({"user": "late"}))]).await;
    assert_eq!(failure(&seen["late"]), ["auth", "shutting_down", "08P01"], "{seen:#}");
    drop(held);
    server.stop().await;
    // A standby that is not allowed to be read never gets beyond starting.
    fs::write(server.folder().join("data/standby.signal"), "").expect("it can be written");
    server.restart_refusing("hot_standby=off").await;
    let seen = check([through("early", &pooler, &server, json!({"user": "early"}))]).await;
    assert_eq!(failure(&seen["early"]), ["auth", "starting_up", "08P01"], "{seen:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_behind_that_ends_in_the_middle_of_a_question_is_told() {
    let server = server(&[]).await;
    let pooler = PgBouncer::start(&server, &[]).await;
    let sleeps = json!({"timeout": "30s", "queries": [
        {"name": "long", "sql": "SELECT count(*) FROM (SELECT pg_sleep(60)) AS x", "min": 0}
    ]});
    let asking =
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'sickbay' AND query LIKE '%pg_sleep%'";
    let pid = async || {
        eventually("the question to be asked", || async {
            let rows = server.sql(asking).await;
            rows.first().map(|row| row[0].parse::<u32>().expect("a number")).ok_or("nobody asks")
        })
        .await
    };
    let cut = async {
        let pid = pid().await;
        server.sql(&format!("SELECT pg_terminate_backend({pid})")).await;
    };
    let (seen, ()) = tokio::join!(check([through("ended", &pooler, &server, sleeps.clone())]), cut);
    assert_eq!(failure(&seen["ended"]), ["query", "shutting_down", "57P01"], "{seen:#}");
    let crash = async { signal(pid().await, Signal::KILL) };
    let (seen, ()) = tokio::join!(check([through("crashed", &pooler, &server, sleeps)]), crash);
    assert_eq!(failure(&seen["crashed"]), ["query", "shutting_down", "08P01"], "{seen:#}");
}

fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process number");
    kill_process(pid, signal).expect("it runs");
}
