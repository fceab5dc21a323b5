//! PostgreSQL: TLS, authentication, roles, limits, and a server that stops, hangs or cuts a connection.

use std::fs;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;

use crate::support::agent::Signal;
use crate::support::certs::{Pair, certs};
use crate::support::config::{Config, WELL, check, failure, impatient, on, on_postgres, phases, told};
use crate::support::http::acceptor;
use crate::support::postgres::{DATABASE, Postgres, PostgresOptions, PostgresTls, USER};
use crate::support::tcp::{self, Peer};
use crate::support::wait::eventually;

async fn plain() -> Postgres {
    Postgres::start(PostgresOptions::default()).await
}

async fn with_tls(pair: &Pair) -> Postgres {
    let tls = PostgresTls::Offered(pair.clone());
    Postgres::start(PostgresOptions { tls, ..Default::default() }).await
}

fn ca() -> &'static str {
    certs().ca.to_str().expect("UTF-8")
}

// TLS.

#[tokio::test(flavor = "multi_thread")]
async fn each_sslmode_against_a_server_without_tls() {
    let server = plain().await;
    let modes = ["disable", "prefer", "require", "verify-ca", "verify-full"];
    let seen = check(modes.map(|mode| on_postgres(mode, &server, json!({"sslmode": mode})))).await;
    for mode in ["disable", "prefer"] {
        assert_eq!((failure(&seen[mode]), &seen[mode]["status"]), (WELL, &json!("up")), "{seen:#}");
        assert_eq!(seen[mode]["details"]["tls"], Value::Null);
    }
    assert_eq!(phases(&seen["disable"]), ["connect", "auth", "query"]);
    assert_eq!(phases(&seen["prefer"]), ["connect", "tls", "auth", "query"], "it has asked");
    for mode in ["require", "verify-ca", "verify-full"] {
        assert_eq!(failure(&seen[mode]), ["tls", "tls_handshake", "-"], "{seen:#}");
        assert!(told(&seen[mode], "message").contains(&format!("sslmode is {mode}")), "{seen:#}");
        assert_eq!(phases(&seen[mode]), ["connect", "tls"], "not a word without TLS");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_sslmode_against_a_server_with_tls() {
    let server = with_tls(&certs().good).await;
    let with = |name: &str, mode: &str, more: Value| {
        let mut dependency = on_postgres(name, &server, more);
        dependency["sslmode"] = json!(mode);
        dependency
    };
    let seen = check([
        with("disable", "disable", json!({})),
        with("prefer", "prefer", json!({})),
        with("require", "require", json!({})),
        with("verify-ca", "verify-ca", json!({"root_cert": ca()})),
        with("verify-full", "verify-full", json!({"root_cert": ca()})),
        with("by-name", "verify-full", json!({"root_cert": ca(), "host": "localhost"})),
        with("system", "verify-full", json!({})),
    ])
    .await;
    assert_eq!(seen["disable"]["details"]["tls"], Value::Null, "{seen:#}");
    for (name, verified) in
        [("prefer", false), ("require", false), ("verify-ca", true), ("verify-full", true), ("by-name", true)]
    {
        let dependency = &seen[name];
        assert_eq!((failure(dependency), &dependency["status"]), (WELL, &json!("up")), "{name}: {seen:#}");
        let tls = &dependency["details"]["tls"];
        assert_eq!((&tls["version"], &tls["verified"]), (&json!("TLSv1.3"), &json!(verified)), "{name}");
        let days = tls["expires_in_days"].as_f64().expect("a number");
        assert!((89.0..=90.0).contains(&days), "{name}: {tls}");
    }
    assert_eq!(phases(&seen["verify-full"]), ["connect", "tls", "auth", "query"]);
    assert_eq!(phases(&seen["by-name"]), ["dns", "connect", "tls", "auth", "query"]);
    assert_eq!(failure(&seen["system"]), ["tls", "tls_certificate", "-"], "nobody else trusts our authority");
    let encrypted = "SSL enabled (protocol=TLSv1.3";
    assert_eq!(server.log().matches(encrypted).count(), 5, "as the server sees it: {}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_not_good_is_told_by_its_fault() {
    let certs = certs();
    let (expired, other, stranger) =
        tokio::join!(with_tls(&certs.expired), with_tls(&certs.other_name), with_tls(&certs.stranger));
    let with = |name: &str, server: &Postgres, mode: &str| {
        on_postgres(name, server, json!({"sslmode": mode, "root_cert": ca()}))
    };
    let seen = check([
        with("expired", &expired, "verify-ca"),
        with("other-name", &other, "verify-full"),
        with("stranger", &stranger, "verify-ca"),
        with("expired-unverified", &expired, "require"),
        with("other-name-unverified", &other, "verify-ca"),
        with("stranger-unverified", &stranger, "require"),
    ])
    .await;
    for (name, hint) in [
        ("expired", "has ended"),
        ("other-name", "for another name"),
        ("stranger", "not signed by the authorities in"),
    ] {
        assert_eq!(failure(&seen[name]), ["tls", "tls_certificate", "-"], "{name}: {seen:#}");
        assert!(told(&seen[name], "hint").contains(hint), "{name}: {}", told(&seen[name], "hint"));
        assert_eq!(seen[name]["last_check"]["attempts"], 1, "{name}: it will not pass by itself");
        assert_eq!(seen[&format!("{name}-unverified")]["status"], "up", "{seen:#}");
    }
}

/// A man in the middle, who ends the client's TLS and makes a session of his own with the server. No `sslmode`
/// but the verifying ones keeps him off the line; SCRAM's channel binding alone tells him.
async fn man_in_the_middle(server: &Postgres) -> Peer {
    const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
    let (port, acceptor) = (server.port(), acceptor(&certs().stranger));
    Peer::start(move |mut client| {
        let acceptor = acceptor.clone();
        async move {
            let mut connector = native_tls::TlsConnector::builder();
            connector.danger_accept_invalid_certs(true);
            let connector = tokio_native_tls::TlsConnector::from(connector.build().expect("TLS"));
            client.read_exact(&mut [0; 8]).await.expect("an SSLRequest");
            client.write_all(b"S").await.expect("a client");
            let Ok(mut client) = acceptor.accept(client).await else { return };
            let mut server = TcpStream::connect(("127.0.0.1", port)).await.expect("a server");
            server.write_all(&SSL_REQUEST).await.expect("a server");
            assert_eq!(server.read_u8().await.expect("an answer"), b'S');
            let mut server = connector.connect("localhost", server).await.expect("TLS");
            let _ = copy_bidirectional(&mut client, &mut server).await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn channel_binding_tells_a_man_in_the_middle_that_encryption_alone_does_not() {
    let server = with_tls(&certs().good).await;
    let middle = man_in_the_middle(&server).await;
    let through = json!({"port": middle.address().port(), "sslmode": "require"});
    let seen = check([
        on_postgres("direct", &server, json!({"sslmode": "require"})),
        on_postgres("through", &server, through),
    ])
    .await;
    assert_eq!(failure(&seen["direct"]), WELL, "{seen:#}");
    assert_eq!(failure(&seen["through"]), ["auth", "auth_failed", "28000"], "{seen:#}");
    assert!(told(&seen["through"], "hint").contains("ends the TLS session"), "{seen:#}");
    assert!(server.log().contains("channel binding check failed"), "{}", server.log());
    assert_eq!(seen["through"]["last_check"]["attempts"], 1);
}

// Authentication and access.

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_are_wrong_or_missing_are_told_and_tried_once() {
    let hba = vec!["host all trusted 127.0.0.1/32 trust".to_owned()];
    let server = Postgres::start(PostgresOptions { hba, ..Default::default() }).await;
    server.sql("CREATE ROLE trusted LOGIN").await;
    let with = |name: &str, more: Value| on_postgres(name, &server, more);
    let seen = check([
        with("good", json!({})),
        with("trusted", json!({"user": "trusted", "password": null})),
        with("wrong-password", json!({"password": "wrong"})),
        with("wrong-user", json!({"user": "nobody-here"})),
        with("no-password", json!({"password": null})),
    ])
    .await;
    assert_eq!((failure(&seen["good"]), failure(&seen["trusted"])), (WELL, WELL), "{seen:#}");
    for (name, code, hint) in [
        ("wrong-password", "28P01", "user or password is wrong"),
        ("wrong-user", "28P01", "user or password is wrong"),
        ("no-password", "-", "set DATABASE_PASSWORD"),
    ] {
        assert_eq!(failure(&seen[name]), ["auth", "auth_failed", code], "{name}: {seen:#}");
        assert!(told(&seen[name], "hint").contains(hint), "{name}: {}", told(&seen[name], "hint"));
        assert_eq!(seen[name]["last_check"]["attempts"], 1, "{name}");
    }
    assert!(told(&seen["wrong-user"], "message").contains("nobody-here"), "who: {seen:#}");
    assert_eq!(server.log().matches("password authentication failed").count(), 2, "{}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_database_is_told_with_the_right_ones_and_tried_once() {
    let server = plain().await;
    // This one may connect to nothing where it could ask.
    server
        .sql(
            "CREATE ROLE blind LOGIN PASSWORD 'blind'; REVOKE CONNECT ON DATABASE postgres, template1 FROM PUBLIC",
        )
        .await;
    let seen = check([
        on_postgres("near", &server, json!({"database": "mlflow"})),
        on_postgres("far", &server, json!({"database": "accounts"})),
        on_postgres("blind", &server, json!({"database": "missing", "user": "blind", "password": "blind"})),
    ])
    .await;
    for (name, database) in [("near", "mlflow"), ("far", "accounts"), ("blind", "missing")] {
        assert_eq!(failure(&seen[name]), ["auth", "database_missing", "3D000"], "{name}: {seen:#}");
        assert_eq!(seen[name]["last_check"]["attempts"], 1, "{name}");
        let refusals = format!("FATAL:  database \"{database}\" does not exist");
        assert_eq!(server.log().matches(&refusals).count(), 1, "one attempt: {}", server.log());
    }
    assert!(told(&seen["near"], "message").contains(DATABASE), "{seen:#}");
    assert!(told(&seen["near"], "hint").contains("did you mean \"mlflow_db\"?"), "{seen:#}");
    assert!(told(&seen["near"], "hint").contains("DATABASE_NAME=mlflow_db"), "{seen:#}");
    assert!(told(&seen["far"], "message").contains(DATABASE), "{seen:#}");
    assert!(!told(&seen["far"], "hint").contains("did you mean"), "{seen:#}");
    assert!(!told(&seen["blind"], "message").contains(DATABASE), "it may not know: {seen:#}");
    assert!(!told(&seen["blind"], "hint").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn access_rules_are_told_from_credentials() {
    let tls = PostgresTls::Required(certs().good.clone());
    let hba = vec!["hostssl all intruder all reject".to_owned()];
    let server = Postgres::start(PostgresOptions { tls, hba, ..Default::default() }).await;
    let with = |name: &str, more: Value| on_postgres(name, &server, more);
    let seen = check([
        with("plain", json!({"sslmode": "disable"})),
        with("prefer", json!({"sslmode": "prefer"})),
        with("rejected", json!({"user": "intruder", "sslmode": "require"})),
    ])
    .await;
    assert_eq!(failure(&seen["plain"]), ["auth", "tls_required", "28000"], "{seen:#}");
    assert!(told(&seen["plain"], "hint").contains("DATABASE_SSLMODE"), "{seen:#}");
    assert_eq!(failure(&seen["prefer"]), WELL, "{seen:#}");
    assert_eq!(failure(&seen["rejected"]), ["auth", "access_denied", "28000"], "{seen:#}");
    assert!(told(&seen["rejected"], "hint").contains("pg_hba.conf"), "{seen:#}");
    for name in ["plain", "rejected"] {
        assert_eq!(seen[name]["last_check"]["attempts"], 1, "{name}");
    }
}

/// A session of `app` that is held, or why there is none.
async fn session(server: &Postgres) -> Result<tokio_postgres::Client, String> {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(server.port()).user("app").password("app").dbname(DATABASE);
    let (client, connection) =
        config.connect(tokio_postgres::NoTls).await.map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    client.simple_query("SELECT 1").await.map_err(|error| error.to_string())?;
    Ok(client)
}

#[tokio::test(flavor = "multi_thread")]
async fn exhausted_connection_slots_are_told_and_pass() {
    let conf = vec!["max_connections = 6\nsuperuser_reserved_connections = 3".to_owned()];
    let server = Postgres::start(PostgresOptions { conf, ..Default::default() }).await;
    server.sql("CREATE ROLE app LOGIN PASSWORD 'app'").await;
    let mut held = Vec::new();
    while let Ok(session) = session(&server).await {
        held.push(session);
        assert!(held.len() < 6, "there is no limit");
    }
    let app = || on_postgres("database", &server, json!({"user": "app", "password": "app"}));
    let seen = check([app()]).await;
    assert_eq!(failure(&seen["database"]), ["auth", "too_many_connections", "53300"], "{seen:#}");
    assert_eq!(seen["database"]["last_check"]["attempts"], 2, "it may pass");

    let config = Config::quick([app()]);
    let agent = config.agent().await;
    agent.until_dependency("database", |it| it["last_failure"].is_object(), "a failure").await;
    drop(held);
    agent.until_dependency("database", |it| it["status"] == "up", "recovery").await;
}

// Roles, and the ends of a server's life.

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_is_not_the_expected_one_is_told() {
    let mut server = plain().await;
    let with = |server: &Postgres| {
        ["any", "primary", "replica"].map(|role| on_postgres(role, server, json!({"role": role})))
    };
    let seen = check(with(&server)).await;
    assert_eq!((failure(&seen["any"]), failure(&seen["primary"])), (WELL, WELL), "{seen:#}");
    assert_eq!(failure(&seen["replica"]), ["query", "wrong_role", "-"], "{seen:#}");
    assert_eq!(seen["replica"]["last_check"]["attempts"], 1);
    assert_eq!(seen["any"]["details"]["role"], "primary");

    server.sql("ALTER DATABASE mlflow_db SET default_transaction_read_only = on").await;
    let seen = check(with(&server)).await;
    assert_eq!(failure(&seen["primary"]), ["query", "read_only", "-"], "{seen:#}");
    assert_eq!(failure(&seen["any"]), WELL, "{seen:#}");
    assert_eq!(seen["any"]["details"]["read_only"], true);

    server
        .sql("BEGIN READ WRITE; ALTER DATABASE mlflow_db RESET default_transaction_read_only; COMMIT")
        .await;
    server.stop().await;
    fs::write(server.folder().join("data/standby.signal"), "").expect("it can be written");
    server.restart().await;
    let seen = check(with(&server)).await;
    assert_eq!(failure(&seen["primary"]), ["query", "wrong_role", "-"], "{seen:#}");
    assert_eq!((failure(&seen["any"]), failure(&seen["replica"])), (WELL, WELL), "{seen:#}");
    assert_eq!(seen["any"]["details"]["role"], "replica");
    assert_eq!(seen["any"]["details"]["read_only"], true);

    let config = Config::quick([on_postgres("database", &server, json!({"role": "primary"}))]);
    let agent = config.agent().await;
    let wrong = |it: &Value| failure(it)[1] == "wrong_role" && it["status"] == "down";
    agent.until_dependency("database", wrong, "a wrong role").await;
    server.sql("SELECT pg_promote()").await;
    let promoted = agent.until_dependency("database", |it| it["status"] == "up", "the promotion").await;
    assert_eq!(promoted["details"]["role"], "primary");
    assert_eq!(promoted["details"]["read_only"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_starts_or_goes_away_says_so() {
    let mut server = plain().await;
    server.sql("CREATE ROLE app LOGIN PASSWORD 'app'").await;
    // A "smart" shutdown waits for sessions and takes no new ones.
    let held = session(&server).await.expect("a session");
    let postmaster = server.pids()[0];
    signal(postmaster, Signal::TERM);
    eventually("the shutdown to begin", || {
        let log = server.log();
        std::future::ready(if log.contains("received smart shutdown") { Ok(()) } else { Err(log) })
    })
    .await;
    let seen = check([on_postgres("database", &server, json!({}))]).await;
    assert_eq!(failure(&seen["database"]), ["auth", "shutting_down", "57P03"], "{seen:#}");
    assert_eq!(seen["database"]["last_check"]["attempts"], 2, "it may pass");
    drop(held);

    server.stop().await;
    let seen = check([on_postgres("database", &server, json!({}))]).await;
    assert_eq!(failure(&seen["database"]), ["connect", "connect_refused", "ECONNREFUSED"], "{seen:#}");
    assert_eq!(seen["database"]["last_check"]["attempts"], 2);

    // A standby that is not allowed to be read never gets beyond starting.
    fs::write(server.folder().join("data/standby.signal"), "").expect("it can be written");
    server.restart_refusing("hot_standby=off").await;
    let seen = check([on_postgres("database", &server, json!({}))]).await;
    assert_eq!(failure(&seen["database"]), ["auth", "starting_up", "57P03"], "{seen:#}");
    assert_eq!(seen["database"]["last_check"]["attempts"], 2, "it may pass");
}

fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).expect("a process number");
    rustix::process::kill_process(pid, signal).expect("it runs");
}

// What is seen of a server that is well, and the connections it costs.

#[tokio::test(flavor = "multi_thread")]
async fn the_details_are_the_servers_own() {
    let server = plain().await;
    let seen = check([on_postgres("database", &server, json!({}))]).await;
    let details = &seen["database"]["details"];
    let asked =
        server.sql("SELECT current_setting('server_version'), current_database(), current_user").await;
    let own = [&asked[0][0], &asked[0][1], &asked[0][2]].map(|text| json!(text));
    assert_eq!(
        [&details["server_version"], &details["database"], &details["user"]],
        [&own[0], &own[1], &own[2]]
    );
    assert_eq!([&details["role"], &details["read_only"]], [&json!("primary"), &json!(false)]);
    assert_eq!(seen["database"]["address"], format!("127.0.0.1:{}", server.port()));
    assert_eq!(seen["database"]["target"], format!("127.0.0.1:{}/{DATABASE}", server.port()));
    let check = &seen["database"]["last_check"];
    let sum: f64 = check["phases_ms"].as_object().expect("phases").values().filter_map(Value::as_f64).sum();
    let whole = check["duration_ms"].as_f64().expect("a number");
    assert!(sum > 0.0 && sum <= whole, "the phases are parts of the whole: {check}");
}

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
    for noise in [
        "unexpected EOF",
        "could not receive data",
        "incomplete startup",
        "could not accept SSL",
        "reset by peer",
    ] {
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

// A server that hangs, and peers that are none.

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
        // It begins with an S, as the answer of a server that speaks TLS.
        ("ssh", ["tls", "tls_handshake", "-"]),
        ("no-tls", ["auth", "timeout", "-"]),
        ("no-handshake", ["tls", "timeout", "-"]),
        ("no-tls-after-all", ["tls", "tls_handshake", "-"]),
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
