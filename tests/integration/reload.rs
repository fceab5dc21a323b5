//! A new configuration for a running agent: on SIGHUP, and when a file changes.

use std::fs;
use std::os::unix::fs::symlink;

use hyper::Method;
use serde_json::{Value, json};

use crate::support::agent::{Agent, Signal};
use crate::support::config::{self, Config, WELL, failure, on_postgres};
use crate::support::ports;
use crate::support::postgres::{Postgres, PostgresOptions};
use crate::support::scratch::Folder;
use crate::support::tcp;

/// The one field of `/health/detailed` that tells how the configuration was read.
async fn until_config(agent: &Agent, wanted: impl Fn(&Value) -> bool, what: &str) -> Value {
    let wanted = |it: &crate::support::client::Response| wanted(&it.json()["config"]);
    agent.until("/health/detailed", wanted, what).await.json()["config"].clone()
}

fn successes(dependency: &Value) -> u64 {
    dependency["circuit"]["successes"].as_u64().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_restarts_what_was_changed_and_nothing_else() {
    let server = Postgres::start(PostgresOptions::default()).await;
    // Kept connections stay, so that a new one is one of a new runner.
    let kept = |more: Value| {
        let mut base = json!({"reconnect_every": 10_000});
        base.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
        base
    };
    let one = || on_postgres("one", &server, kept(json!({})));
    let two = |threshold: u32| {
        on_postgres("two", &server, kept(json!({"circuit": {"failure_threshold": threshold}})))
    };
    let gone = on_postgres("gone", &server, kept(json!({})));
    let config = Config::quick([one(), two(3), gone]);
    let agent = config.agent().await;
    for name in ["one", "two", "gone"] {
        agent.until_dependency(name, |it| successes(it) >= 5, "checks").await;
    }
    let before = agent.dependency("one").await;
    assert_eq!(before["pool"]["created"], 1, "{before:#}");
    let started = agent.get("/health/detailed").await.json()["started_at"].clone();

    let added = on_postgres("added", &server, kept(json!({})));
    let mut next = config::quick([added, two(7), one()]);
    next["service"] = json!({"name": "shop"});
    config.replace(&next);
    agent.signal(Signal::HUP);
    let wanted = |it: &Value| it["dependencies"]["added"].is_object();
    let answer = agent
        .until(
            "/health/detailed",
            |it| {
                let it = it.json();
                let ready = &it["groups"]["ready"];
                assert_eq!(ready["code"], 200, "it never was unready: {it:#}");
                wanted(&it)
            },
            "the new configuration",
        )
        .await
        .json();
    assert_eq!((&answer["started_at"], &answer["service"]), (&started, &json!("shop")), "the same process");
    // All of it at the same moment: nothing of the former is to be seen.
    let names: Vec<&String> = answer["dependencies"].as_object().expect("a map").keys().collect();
    let names: Vec<_> =
        names.into_iter().filter(|name| ["one", "two", "gone", "added"].contains(&name.as_str())).collect();
    assert_eq!(names, ["added", "two", "one"], "in the order of the new file");
    let [one, two, added] = ["one", "two", "added"].map(|name| &answer["dependencies"][name]);
    assert!(successes(one) >= successes(&before), "it keeps its counts: {one:#}");
    assert_eq!(one["pool"]["created"], 1, "and its connection: {one:#}");
    assert_eq!(one["circuit"]["since"], before["circuit"]["since"], "and its circuit: {one:#}");
    assert_eq!((two["circuit"]["failure_threshold"].as_u64(), &two["status"]), (Some(7), &json!("up")));
    assert!(successes(two) < 5, "it began anew: {two:#}");
    assert_eq!(added["status"], "up", "it has a result when it is shown: {added:#}");
    let effective = agent.get("/health/config").await.json();
    assert_eq!(effective["service"]["name"], "shop");
    assert_eq!(agent.get("/health/dependencies/gone").await.status, 404);

    let line = agent.until_logged(|line| line["trigger"] == "SIGHUP", "what was changed").await;
    assert_eq!(
        (&line["changed"], &line["added"], &line["removed"]),
        (&json!("two"), &json!("added"), &json!("gone"))
    );
    // The replaced and the removed one said goodbye.
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'sickbay'";
    let count = || async {
        let count = server.sql(sessions).await[0][0].clone();
        if count == "3" { Ok(()) } else { Err(count) }
    };
    crate::support::wait::eventually("three sessions", count).await;
    assert!(!server.log().contains("unexpected EOF"), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_file_is_kept_out_and_told() {
    let peer = tcp::mute().await;
    let watched = |more: Value| {
        let mut base = json!({"port": peer.address().port(), "host": "127.0.0.1"});
        base.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
        config::on("tcp", "port", base)
    };
    let config = Config::quick([watched(json!({}))]);
    let agent = config.agent().await;
    agent.until_dependency("port", |it| it["status"] == "up", "that it is up").await;
    let first = until_config(&agent, |it| it["error"].is_null(), "no error").await;
    assert_eq!(first["files"], json!([config.path()]));

    let bad = config::quick([watched(json!({"timeout": 10, "send": "hunter2", "sent": "hunter2"}))]);
    config.replace(&bad);
    // Nobody says so: the file is looked at.
    let seen = until_config(&agent, |it| it["error"].is_string(), "the errors").await;
    let said = config.run(&["config", "check"]).await;
    assert_eq!(said.code, Some(2));
    assert_eq!(seen["error"].as_str(), Some(said.stderr.trim_end()), "as `config check` says it");
    assert_eq!(seen["loaded_at"], first["loaded_at"]);
    assert!(seen["failed_at"].is_string(), "{seen:#}");
    let error = |line: &Value| line["message"].as_str().is_some_and(|it| it.contains("cannot be used: "));
    let errors = || agent.logs().into_iter().filter(|line| line["level"] == "ERROR" && error(line)).count();
    assert_eq!(errors(), said.stderr.trim_end().lines().count(), "{}", agent.output());
    agent.signal(Signal::HUP);
    let again = |line: &Value| line["level"] == "ERROR" && line["trigger"] == "SIGHUP";
    agent.until_logged(again, "that it is no better").await;
    assert_eq!(errors(), said.stderr.trim_end().lines().count(), "each was told once");
    let now = agent.dependency("port").await;
    agent.until_dependency("port", |it| successes(it) > successes(&now), "that checks go on").await;
    assert!(!agent.output().contains("hunter2"), "{}", agent.output());

    // What half of an editor's work leaves behind: nothing is no configuration that anybody wants.
    config.replace_text("");
    let emptied =
        |it: &Value| it["error"].as_str().is_some_and(|it| it.starts_with("error: it enables no dependency"));
    until_config(&agent, emptied, "that nothing would be watched").await;
    agent.until_dependency("port", |it| it["enabled"] == true, "that it is watched").await;

    config.replace(&config::quick([watched(json!({"timeout": "9s"}))]));
    let seen = until_config(&agent, |it| it["error"].is_null(), "that it is well again").await;
    assert!(seen["failed_at"].is_null() && seen["loaded_at"] != first["loaded_at"], "{seen:#}");
    agent.until("/health/config", |it| it.body.contains("\"timeout\":\"9s\""), "the new one").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_secret_file_is_taken_up_by_itself() {
    let server = Postgres::start(PostgresOptions::default()).await;
    server.sql("CREATE ROLE app LOGIN PASSWORD 'first-1'").await;
    let folder = Folder::new("rotated");
    let link = folder.path().join("password");
    symlink(folder.write("v1", b"first-1\n"), &link).expect("a link");
    let app = json!({"user": "app", "password": format!("${{file:{}}}", link.display()), "reconnect_every": 10_000});
    let config = Config::quick([on_postgres("database", &server, app)]);
    let agent = config.agent().await;
    agent.until_dependency("database", |it| it["status"] == "up", "that it is up").await;
    let first = until_config(&agent, |it| it["loaded_at"].is_string(), "the first").await;
    assert_eq!(first["files"], json!([config.path(), link.to_str()]));

    // As mounted secrets are rotated: a link is led elsewhere.
    server.sql("ALTER ROLE app PASSWORD 'second-2'").await;
    let next = folder.path().join("next");
    symlink(folder.write("v2", b"second-2\n"), &next).expect("a link");
    fs::rename(&next, &link).expect("a rename");
    until_config(&agent, |it| it["loaded_at"] != first["loaded_at"], "the new one").await;
    let seen = agent.dependency("database").await;
    assert_eq!((failure(&seen), &seen["status"]), (WELL, &json!("up")), "{seen:#}");
    assert_eq!(seen["pool"]["created"], 1, "by a connection of its own: {seen:#}");
    let line = agent.until_logged(|line| line["trigger"] == "a changed file", "why").await;
    assert_eq!(line["changed"], "database");
    assert!(!server.log().contains("password authentication failed"), "{}", server.log());
    for password in ["first-1", "second-2"] {
        assert!(!agent.output().contains(password), "{password} is in the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_token_is_taken_up_and_the_old_one_is_good_for_nothing() {
    let peer = tcp::mute().await;
    let folder = Folder::new("rotated");
    let file = folder.write("token", b"the-first-token-1\n");
    let port = json!({"host": "127.0.0.1", "port": peer.address().port()});
    let mut content = config::quick([config::on("tcp", "port", port)]);
    content["server"]["admin_token"] = json!(format!("${{file:{}}}", file.display()));
    let config = Config::of(&content);
    let agent = config.agent().await;
    let reset = async |token: &str| {
        let bearer = format!("Bearer {token}");
        let answer =
            agent.request(Method::POST, "/circuits/port/reset", &[("authorization", &bearer)], "").await;
        answer.status
    };
    assert_eq!(reset("the-first-token-1").await, 200);
    let before = agent.until_dependency("port", |it| successes(it) >= 3, "checks").await;
    folder.write("token", b"the-second-token-2\n");
    agent.signal(Signal::HUP);
    let taken_up = |line: &Value| line["trigger"] == "SIGHUP" && line["level"] == "INFO";
    agent.until_logged(taken_up, "that it is taken up").await;
    assert_eq!((reset("the-first-token-1").await, reset("the-second-token-2").await), (401, 200));
    let after = agent.dependency("port").await;
    assert!(successes(&after) >= successes(&before), "no dependency has anything to do with it: {after:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_waits_for_no_dependency() {
    let peer = tcp::mute().await;
    let at = peer.address();
    let port = || config::on("tcp", "port", json!({"host": "127.0.0.1", "port": at.port()}));
    let hangs = |timeout: &str| {
        let url = format!("http://{at}/");
        config::on("http", "hangs", json!({"url": url, "timeout": timeout, "retry": {"attempts": 1}}))
    };
    let with = |token: &str, dependencies: Vec<Value>| {
        let mut content = config::quick(dependencies);
        content["server"]["admin_token"] = json!(token);
        content
    };
    let config = Config::of(&with("the-first-token-1", vec![port()]));
    let agent = config.agent().await;
    agent.until_dependency("port", |it| it["status"] == "up", "that it is up").await;
    let reset = async |token: &str| {
        let bearer = format!("Bearer {token}");
        let answer =
            agent.request(Method::POST, "/circuits/port/reset", &[("authorization", &bearer)], "").await;
        answer.status
    };
    let has = |name: &'static str| {
        let agent = &agent;
        async move { agent.get(&format!("/health/dependencies/{name}")).await.status == 200 }
    };
    config.replace(&with("the-second-token-2", vec![port(), hangs("50s")]));
    agent.signal(Signal::HUP);
    let line = agent.until_logged(|line| line["waits_for"] == "hangs", "for whom it waits").await;
    assert_eq!(line["within_seconds"], 52.0, "{line:#}");
    assert_eq!((reset("the-first-token-1").await, reset("the-second-token-2").await), (401, 200));
    assert!(!has("hangs").await && !agent.get("/health/config").await.body.contains("hangs"));

    // Nor for a configuration that still waits for one.
    config.replace(&with("the-third-token-3", vec![port(), hangs("49s")]));
    agent.signal(Signal::HUP);
    let read = |line: &Value| line["message"].as_str().is_some_and(|it| it.contains("are in force; its"));
    agent.until_logged(read, "that it is read").await;
    assert_eq!((reset("the-second-token-2").await, reset("the-third-token-3").await), (401, 200));
    assert!(!has("hangs").await);

    // What is wrong with a later one is to be seen meanwhile.
    config.replace(&json!({"server": {"drain": "never"}}));
    agent.signal(Signal::HUP);
    until_config(&agent, |it| it["error"].is_string(), "the error").await;
    assert_eq!(reset("the-third-token-3").await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_change_while_it_runs_waits_for_the_next_start() {
    let config = Config::of(&json!({"server": {"drain": "0s"}}));
    let agent = config.agent().await;
    config.replace(&json!({
        "server": {"drain": "1s", "operator": {"listen": format!("127.0.0.1:{}", ports::spare())}, "state_dir": "/nowhere"},
        "resolver": {"packets_per_second": 70},
        "service": {"environment": "elsewhere"},
    }));
    agent.signal(Signal::HUP);
    let waits = |it: &Value| it["needs_restart"].as_array().is_some_and(|it| !it.is_empty());
    let seen = until_config(&agent, waits, "what waits").await;
    assert_eq!(seen["needs_restart"], json!(["server.operator.listen", "server.state_dir", "resolver"]));
    assert_eq!(
        agent.get("/health/detailed").await.json()["environment"],
        "elsewhere",
        "the rest is in force"
    );
    let warned = |line: &Value| line["level"] == "WARN" && line["needs_restart"].is_string();
    agent.until_logged(warned, "a warning").await;
    config.replace(&json!({"server": {"drain": "0s"}}));
    agent.signal(Signal::HUP);
    until_config(&agent, |it| it["needs_restart"] == json!([]), "that nothing waits any more").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_ends_nobody_also_while_it_drains() {
    let config = Config::of(&json!({"server": {"drain": "60s"}}));
    let mut agent = config.agent().await;
    agent.signal(Signal::HUP);
    agent.until_logged(|line| line["trigger"] == "SIGHUP", "that it is taken up").await;
    // The drain is the new configuration's.
    config.replace(&json!({"server": {"drain": "59s"}, "service": {"name": "other"}}));
    agent.signal(Signal::HUP);
    agent.until("/health/detailed", |it| it.json()["service"] == "other", "the new one").await;
    agent.signal(Signal::TERM);
    let line = agent.until_logged(|line| line["drain_seconds"].is_number(), "the drain").await;
    assert_eq!(line["drain_seconds"], 59.0);
    agent.signal(Signal::HUP);
    let ignored =
        |line: &Value| line["message"].as_str().is_some_and(|it| it.starts_with("SIGHUP is ignored"));
    agent.until_logged(ignored, "that it is ignored").await;
    assert_eq!(agent.get("/health/live").await.status, 200);
    agent.signal(Signal::TERM);
    assert_eq!(agent.wait_exit().await.code(), Some(128 + 15));
}
