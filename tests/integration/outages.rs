//! Outages from end to end: what breaks, what the three answers say of it, and how it comes back.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::agent::{Agent, Env};
use crate::support::client::Response;
use crate::support::config::{Config, failure, on, on_postgres, on_redis, told};
use crate::support::http::{Answer, HttpServer};
use crate::support::postgres::{self, Postgres, PostgresOptions};
use crate::support::redis::{Redis, RedisOptions};
use crate::support::tcp::{self, Peer};

/// The compiled-in configuration with short times.
fn hurried() -> Env {
    Env::new()
        .set("HEALTH_CHECK_INTERVAL", "200ms")
        .set("HEALTH_CHECK_TIMEOUT", "9s")
        .set("CIRCUIT_RECOVERY_TIMEOUT", "500ms")
        .set("RETRY_INITIAL", "5ms")
        .set("RETRY_MAX", "10ms")
        .set("SICKBAY_DRAIN", "0s")
}

fn status(answer: &Response) -> String {
    answer.json()["status"].as_str().expect("a status").to_owned()
}

/// Code, status and reasons of a short answer: each reason as `dependency status failure_kind`.
async fn short(agent: &Agent, path: &str) -> (u16, String, Vec<String>) {
    let answer = agent.get(path).await;
    let body = answer.json();
    let reasons = body["reasons"].as_array().expect("reasons").iter().map(|reason| {
        let text = |field: &str| reason[field].as_str().unwrap_or("-").to_owned();
        [text("dependency"), text("status"), text("failure_kind")].join(" ")
    });
    (answer.status, status(&answer), reasons.collect())
}

fn is(code: u16, status: &str, reasons: &[&str]) -> (u16, String, Vec<String>) {
    (code, status.to_owned(), reasons.iter().map(|reason| (*reason).to_owned()).collect())
}

/// `from→to` of each transition of a circuit, oldest first.
async fn transitions(agent: &Agent, name: &str) -> Vec<String> {
    let circuit = agent.get(&format!("/circuits/{name}")).await.json();
    let all = circuit["transitions"].as_array().expect("transitions").iter();
    all.map(|it| format!("{}→{}", it["from"].as_str().unwrap_or("?"), it["to"].as_str().unwrap_or("?")))
        .collect()
}

async fn plain() -> Postgres {
    Postgres::start(PostgresOptions::default()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_stops_fails_readiness_but_not_the_load_balancer_and_comes_back() {
    let mut database = plain().await;
    let redis = Redis::start(RedisOptions::default()).await;
    let agent = Agent::start(&hurried().of(database.env()).of(redis.env())).await;
    agent.until("/health/ready", |it| status(it) == "up", "that all is well").await;
    for path in ["/health/ready", "/health/alb", "/health/live", "/health/startup"] {
        assert_eq!(short(&agent, path).await, is(200, "up", &[]), "{path}");
    }

    database.stop().await;
    agent.until("/health/ready", |it| it.status == 503, "the outage").await;
    assert_eq!(short(&agent, "/health/ready").await, is(503, "down", &["database down connect_refused"]));
    assert_eq!(short(&agent, "/health/alb").await, is(200, "degraded", &["database down connect_refused"]));
    assert_eq!(short(&agent, "/health/live").await, is(200, "up", &[]), "it looks at no dependency");
    assert_eq!(short(&agent, "/health/startup").await, is(200, "up", &[]), "it has come up once");
    let seen = agent.dependency("database").await;
    assert_eq!(failure(&seen), ["connect", "connect_refused", "ECONNREFUSED"], "{seen:#}");
    assert_eq!(transitions(&agent, "database").await[0], "closed→open");
    let opened = agent.get("/circuits/database").await.json();
    let reason = opened["transitions"][0]["reason"].as_str().unwrap_or_default();
    assert!(reason.contains('5'), "after five failed checks: {opened:#}");
    assert!(opened["failures_by_kind"]["connect_refused"].as_u64() >= Some(5), "{opened:#}");
    assert_eq!(opened["failure_threshold"], 5);

    database.restart().await;
    agent.until("/health/ready", |it| status(it) == "up", "the recovery").await;
    let closed = agent.get("/circuits/database").await.json();
    assert_eq!(closed["state"], "closed", "{closed:#}");
    assert!(closed["consecutive_successes"].as_u64() >= Some(3), "{closed:#}");
    let all = transitions(&agent, "database").await;
    assert_eq!(all[all.len() - 2..], ["open→half_open", "half_open→closed"], "{all:?}");
    let middle = &all[1..all.len() - 2];
    assert!(middle.iter().step_by(2).all(|it| it == "open→half_open"), "trials: {all:?}");
    assert!(middle.iter().skip(1).step_by(2).all(|it| it == "half_open→open"), "that failed: {all:?}");
    let last = closed["transitions"].as_array().and_then(|it| it.last()).expect("a transition");
    assert!(last["reason"].as_str().is_some_and(|reason| reason.contains('3')), "{last}");
    let seen = agent.dependency("database").await;
    assert_eq!(failure(&seen)[1], "connect_refused", "the last failure stays to be read: {seen:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_alone_only_degrades() {
    let database = plain().await;
    let mut redis = Redis::start(RedisOptions::default()).await;
    let agent = Agent::start(&hurried().of(database.env()).of(redis.env())).await;
    agent.until("/health/ready", |it| status(it) == "up", "that all is well").await;
    redis.stop().await;
    agent.until_dependency("redis", |it| it["circuit"]["state"] == "open", "an open circuit").await;
    assert_eq!(short(&agent, "/health/ready").await, is(200, "degraded", &["redis down connect_refused"]));
    assert_eq!(short(&agent, "/health/alb").await, is(200, "degraded", &["redis down connect_refused"]));
    redis.restart().await;
    agent.until("/health/ready", |it| status(it) == "up", "the recovery").await;
}

/// Runs statements in another database than `mlflow_db`, which can then be renamed.
async fn beside(server: &Postgres, statements: &[&str]) {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(server.port()).user(postgres::USER).password(server.password());
    let (client, connection) =
        config.dbname("postgres").connect(tokio_postgres::NoTls).await.expect("a session");
    tokio::spawn(connection);
    for statement in statements {
        client.simple_query(statement).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_database_name_is_this_tasks_fault_only_where_it_never_worked() {
    let server = plain().await;
    let wrong = Agent::start(&hurried().of(server.env()).set("DATABASE_NAME", "mlflow")).await;
    wrong.until("/health/ready", |it| status(it) == "down", "a first result").await;
    let reasons = ["database down database_missing"];
    assert_eq!(short(&wrong, "/health/ready").await, is(503, "down", &reasons));
    assert_eq!(short(&wrong, "/health/alb").await, is(503, "down", &reasons), "born broken");
    assert_eq!(short(&wrong, "/health/startup").await, is(503, "starting", &reasons));
    let seen = wrong.dependency("database").await;
    assert!(told(&seen, "message").contains("mlflow_db"), "{seen:#}");
    assert_eq!(seen["last_failure"]["attempts"], 1, "not retried: {seen:#}");
    assert_eq!(seen["circuit"]["state"], "closed", "before the first success: {seen:#}");

    let right = Agent::start(&hurried().of(server.env())).await;
    right.until("/health/ready", |it| status(it) == "up", "a success").await;
    beside(
        &server,
        &[
            "ALTER DATABASE mlflow_db ALLOW_CONNECTIONS false",
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = 'mlflow_db'",
            "ALTER DATABASE mlflow_db RENAME TO moved",
            "ALTER DATABASE moved ALLOW_CONNECTIONS true",
        ],
    )
    .await;
    let missing = |it: &Value| it["circuit"]["state"] == "open" && failure(it)[1] == "database_missing";
    right.until_dependency("database", missing, "the loss").await;
    assert_eq!(short(&right, "/health/ready").await.0, 503);
    assert_eq!(
        short(&right, "/health/alb").await,
        is(200, "degraded", &reasons),
        "the fleet's, not this task's"
    );

    beside(&server, &["ALTER DATABASE moved RENAME TO mlflow"]).await;
    wrong.until("/health/ready", |it| status(it) == "up", "the name to be right now").await;
    assert_eq!(short(&wrong, "/health/alb").await, is(200, "up", &[]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_fails_through_the_database_is_not_at_fault_and_one_that_fails_by_itself_is() {
    let mut database = plain().await;
    let api = HttpServer::start(Answer::status(200)).await;
    let config = Config::quick([
        on_postgres("database", &database, json!({})),
        on(
            "http",
            "beside",
            json!({"scope": "local", "url": api.url("/health"), "depends_on": ["database"]}),
        ),
    ]);
    let agent = config.agent().await;
    let well = |it: &Response| status(it) == "up";
    agent.until("/health/ready", well, "that all is well").await;

    // The API's answers go wrong first, as they do; the database's own check comes later.
    api.answer(Answer::status(503).body("no database"));
    database.stop().await;
    let open = |it: &Value| it["circuit"]["state"] == "open";
    agent.until_dependency("database", open, "the cause").await;
    let seen = agent.until_dependency("beside", open, "the effect").await;
    assert_eq!(failure(&seen), ["query", "unexpected_status", "503"], "{seen:#}");
    let (code, ..) = short(&agent, "/health/ready").await;
    assert_eq!(code, 503);
    let (code, status_, _) = short(&agent, "/health/alb").await;
    assert_eq!((code, status_.as_str()), (200, "degraded"), "the cause is shared");

    api.answer(Answer::status(200));
    database.restart().await;
    agent.until("/health/ready", well, "the recovery").await;

    // By itself: first by its status, beside a database that is well, then by dying.
    api.answer(Answer::status(500));
    agent.until("/health/alb", |it| it.status == 503, "the API's own fault").await;
    assert_eq!(short(&agent, "/health/alb").await, is(503, "down", &["beside down unexpected_status"]));
    api.answer(Answer::status(200));
    agent.until("/health/ready", well, "the recovery").await;
    drop(api);
    agent.until("/health/alb", |it| it.status == 503, "the API's death").await;
    assert_eq!(short(&agent, "/health/alb").await, is(503, "down", &["beside down connect_refused"]));
    assert_eq!(short(&agent, "/health/live").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_to_watch_is_up_and_told_once() {
    let agent = Agent::start(&Env::new()).await;
    for path in ["/health/ready", "/health/alb", "/health/startup", "/health/live"] {
        assert_eq!(short(&agent, path).await, is(200, "up", &[]), "{path}");
    }
    assert_eq!(agent.get("/health").await.json()["status"], "pass");
    let warned = |line: &&Value| line["level"] == "WARN" && line.to_string().contains("nothing is watched");
    assert_eq!(agent.logs().iter().filter(warned).count(), 1, "{}", agent.output());
    let detailed = agent.get("/health/detailed").await.json();
    for (name, dependency) in detailed["dependencies"].as_object().expect("dependencies") {
        assert_eq!(
            (&dependency["status"], &dependency["enabled"]),
            (&json!("disabled"), &json!(false)),
            "{name}"
        );
        assert!(dependency["disabled"].as_str().is_some_and(|why| why.contains("not set")), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_nothing_there_at_the_start_it_starts_answers_and_tells() {
    let refused = || tcp::refused_port();
    let nobody = SocketAddr::from(([127, 0, 0, 1], refused()));
    let at = |more: Value| {
        let mut base = json!({"host": "127.0.0.1", "port": refused()});
        base.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
        base
    };
    let config = Config::quick([
        on("postgres", "database", at(json!({"password": "x"}))),
        on("redis", "redis", at(json!({"impact": "degraded"}))),
        on("http", "mlflow", json!({"impact": "degraded", "url": format!("http://{nobody}/health")})),
        on(
            "dns",
            "dns",
            json!({"impact": "degraded", "query": "db.test", "nameservers": [nobody], "timeout": "500ms"}),
        ),
        on("tcp", "by-name", json!({"impact": "none", "host": "db.invalid", "port": 1, "timeout": "2s"})),
    ]);
    let agent = config.agent().await;
    for name in ["database", "redis", "mlflow"] {
        let seen = agent.until_dependency(name, |it| it["last_failure"].is_object(), "a failure").await;
        assert_eq!(failure(&seen), ["connect", "connect_refused", "ECONNREFUSED"], "{name}: {seen:#}");
        assert_eq!(seen["status"], "down", "{name}: never yet well");
    }
    for name in ["dns", "by-name"] {
        let seen = agent.until_dependency(name, |it| it["last_failure"].is_object(), "a failure").await;
        let [phase, kind, _] = failure(&seen);
        assert!(phase == "dns" && kind.starts_with("dns_"), "{name}: {seen:#}");
    }
    let (code, status_, reasons) = short(&agent, "/health/ready").await;
    assert_eq!((code, status_.as_str()), (503, "down"));
    assert!(reasons.contains(&"database down connect_refused".to_owned()), "{reasons:?}");
    assert!(!reasons.iter().any(|reason| reason.starts_with("by-name")), "only watched: {reasons:?}");
    assert_eq!(short(&agent, "/health/alb").await.0, 200, "an outage is not this task's fault");
    assert_eq!(short(&agent, "/health/startup").await.0, 503);
}

/// Every path that answers 200 whatever the dependencies do.
const CALM: [&str; 9] = [
    "/health/live",
    "/livez",
    "/health/alb",
    "/health/startup",
    "/health/detailed",
    "/health/dependencies/database",
    "/health/config",
    "/circuits",
    "/circuits/database",
];

#[tokio::test(flavor = "multi_thread")]
async fn while_a_database_hangs_every_endpoint_answers_and_every_other_check_goes_on() {
    let database = plain().await;
    let mute = tcp::mute().await;
    let fine = tcp::mute().await;
    // A check of these takes far longer than a test waits for an answer.
    let mut dependencies = vec![on_postgres("database", &database, json!({"timeout": "5m"}))];
    dependencies.extend((0..20).map(|n| {
        let more = json!({"impact": "degraded", "host": "127.0.0.1", "port": mute.address().port(),
                          "expect": "a word", "timeout": "5m"});
        on("tcp", &format!("mute-{n}"), more)
    }));
    dependencies.push(on("tcp", "fine", json!({"host": "127.0.0.1", "port": fine.address().port()})));
    let config = Config::quick(dependencies);
    let agent = config.agent().await;
    agent.until_dependency("database", |it| it["status"] == "up", "a success").await;
    database.hang().await;
    let waits = |it: &Value| it["last_check"]["age_seconds"].as_f64() > Some(1.0);
    let before = agent.until_dependency("database", waits, "a check that hangs").await;
    let successes = |it: &Value| it["circuit"]["successes"].as_u64().unwrap_or(0);
    let others = successes(&agent.dependency("fine").await);
    for _ in 0..20 {
        for path in CALM {
            let answer = agent.get(path).await;
            assert_eq!(answer.status, 200, "{path}: {answer}");
        }
        for path in ["/health", "/health/ready", "/readyz"] {
            agent.get(path).await;
        }
    }
    agent.until_dependency("fine", |it| successes(it) >= others + 5, "checks that go on").await;
    let during = agent.dependency("database").await;
    assert_eq!(during["last_check"]["check_id"], before["last_check"]["check_id"], "it hangs still");
    database.wake();
    let on = |it: &Value| it["status"] == "up" && successes(it) > successes(&before) + 1;
    agent.until_dependency("database", on, "the checks to go on").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_are_counted_logged_and_belong_to_their_check() {
    let port = tcp::refused_port();
    let more = json!({"host": "127.0.0.1", "port": port, "interval": "5m", "startup_interval": "5m",
                      "retry": {"attempts": 3}});
    let config = Config::quick([on("tcp", "refused", more)]);
    let agent = config.agent().await;
    let seen = agent.until_dependency("refused", |it| it["last_failure"].is_object(), "a failure").await;
    let id = &seen["last_failure"]["check_id"];
    assert_eq!(seen["last_failure"]["attempts"], 3, "{seen:#}");
    assert_eq!(&seen["last_check"]["check_id"], id);
    agent.until_logged(|line| line.to_string().contains("check failed"), "the failed check").await;
    let logs = agent.logs();
    // What changes by the check carries its identifier, too.
    let of_checks = |line: &&Value| &line["check_id"] == id && line["phase"].is_string();
    let lines: Vec<_> = logs.iter().filter(of_checks).collect();
    let attempts: Vec<_> = lines.iter().filter_map(|line| line["attempt"].as_u64()).collect();
    assert_eq!(attempts, [1, 2, 3], "{}", agent.output());
    for line in &lines {
        assert_eq!(line["dependency"], "refused");
        assert_eq!((&line["phase"], &line["failure_kind"]), (&json!("connect"), &json!("connect_refused")));
        assert_eq!(line["code"], "ECONNREFUSED");
        assert!(line["duration_ms"].is_number() && line["address"] == format!("127.0.0.1:{port}"), "{line}");
    }
    assert_eq!(lines.len(), 4, "three attempts and the check: {}", agent.output());
    assert_eq!(lines[3]["level"], "WARN");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stand_in_keeps_the_service_degraded_and_not_down() {
    let (primary, replica) = (tcp::mute().await, tcp::mute().await);
    let at = |name: &str, peer: &Peer, more: Value| {
        let mut base = json!({"host": "127.0.0.1", "port": peer.address().port()});
        base.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
        on("tcp", name, base)
    };
    let config = Config::quick([
        at("primary", &primary, json!({})),
        at("replica", &replica, json!({"fallback_of": "primary"})),
    ]);
    let agent = config.agent().await;
    agent.until("/health/ready", |it| status(it) == "up", "that all is well").await;
    drop(primary);
    let open = |it: &Value| it["circuit"]["state"] == "open";
    agent.until_dependency("primary", open, "an open circuit").await;
    assert_eq!(
        short(&agent, "/health/ready").await,
        is(200, "degraded", &["primary degraded connect_refused"])
    );
    drop(replica);
    agent.until("/health/ready", |it| it.status == 503, "both to be gone").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_is_degraded_although_it_succeeds() {
    let server = HttpServer::start(Answer::status(200).after(Duration::from_millis(50))).await;
    let config = Config::quick([on("http", "api", json!({"url": server.url("/"), "slow_after": "20ms"}))]);
    let agent = config.agent().await;
    let seen = agent.until_dependency("api", |it| it["last_check"].is_object(), "a check").await;
    assert_eq!((&seen["status"], &seen["last_check"]["ok"]), (&json!("degraded"), &json!(true)), "{seen:#}");
    assert!(seen["warnings"][0].as_str().is_some_and(|text| text.contains("slow")), "{seen:#}");
    assert_eq!(short(&agent, "/health/ready").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_hangs_beside_a_database_that_works_only_degrades() {
    let database = plain().await;
    let redis = Redis::start(RedisOptions::default()).await;
    let config = Config::quick([
        on_postgres("database", &database, json!({})),
        on_redis("redis", &redis, json!({"timeout": "500ms", "connect_timeout": "500ms"})),
    ]);
    let agent = config.agent().await;
    agent.until("/health/ready", |it| status(it) == "up", "that all is well").await;
    redis.hang().await;
    agent.until_dependency("redis", |it| it["circuit"]["state"] == "open", "an open circuit").await;
    let (code, status_, reasons) = short(&agent, "/health/ready").await;
    assert_eq!((code, status_.as_str(), reasons.len()), (200, "degraded", 1), "{reasons:?}");
    redis.wake();
    agent.until("/health/ready", |it| status(it) == "up", "the recovery").await;
}
