//! What operators hold, and what becomes of it when the agent ends and starts again.

use std::fs;
use std::path::Path;

use hyper::Method;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::support::agent::{Agent, Env, Signal};
use crate::support::config::{Config, on, quick};
use crate::support::postgres::{Postgres, PostgresOptions};
use crate::support::scratch::Folder;
use crate::support::tcp;
use crate::support::wait::eventually;

/// The file, as docs/configuration.md has it.
fn stored(dependency: &str, mode: &str, readiness: &str, ends_in: SignedDuration) -> Value {
    let now = Timestamp::now();
    json!({
        "dependency": dependency, "mode": mode, "reason": "a planned failover", "actor": "deploy",
        "since": now.to_string(), "expires_at": (now + ends_in).to_string(), "readiness": readiness,
    })
}

fn write(folder: &Path, overrides: Value) {
    let text = json!({"version": 1, "overrides": overrides}).to_string();
    fs::write(folder.join("overrides.json"), text).expect("a folder");
}

/// The names of the dependencies that the file holds overrides of.
fn kept(folder: &Path) -> Result<Vec<String>, String> {
    let text = fs::read_to_string(folder.join("overrides.json")).map_err(|error| error.to_string())?;
    let stored: Value = serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
    let names = stored["overrides"].as_array().ok_or(text)?.iter();
    Ok(names.map(|it| it["dependency"].as_str().expect("a name").to_owned()).collect())
}

async fn until_kept(folder: &Path, wanted: &[&str]) {
    eventually(&format!("{wanted:?} in the file"), || {
        let kept = kept(folder);
        std::future::ready(
            if kept.as_deref() == Ok(&wanted.iter().map(ToString::to_string).collect::<Vec<_>>()) {
                Ok(())
            } else {
                Err(format!("{kept:?}"))
            },
        )
    })
    .await;
}

fn config(state: &Path, dependencies: impl IntoIterator<Item = Value>) -> Config {
    let mut content = quick(dependencies);
    content["server"]["state_dir"] = json!(state);
    content["server"]["admin_token"] = json!(TOKEN);
    Config::of(&content)
}

async fn codes(agent: &Agent) -> [u16; 2] {
    [agent.get("/health/ready").await.status, agent.get("/health/alb").await.status]
}

const TOKEN: &str = "0123456789abcdef";

/// Gives an order. What it answers is a promise: the process may be killed right after.
async fn order(agent: &Agent, path: &str, body: &Value) -> Value {
    let bearer = format!("Bearer {TOKEN}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let answer = agent.request(Method::POST, path, &headers, &body.to_string()).await;
    assert_eq!(answer.status, 200, "{path}: {answer}");
    answer.json()
}

const HOUR: SignedDuration = SignedDuration::from_hours(1);

#[tokio::test(flavor = "multi_thread")]
async fn an_override_survives_a_kill_and_a_restart() {
    let server = Postgres::start(PostgresOptions::default()).await;
    let folder = Folder::new("state");
    let on_server = |name: &str| crate::support::config::on_postgres(name, &server, json!({}));
    let config = config(folder.path(), ["open", "closed", "free"].map(on_server));
    let of = |name, mode| stored(name, mode, "count", HOUR);
    write(
        folder.path(),
        json!([of("open", "forced_open"), of("closed", "forced_closed"), of("unknown", "forced_open")]),
    );
    for _ in 0..2 {
        let agent = config.agent().await;
        agent.until_dependency("free", |it| it["status"] == "up", "that the other one is up").await;
        let open = agent.dependency("open").await;
        assert_eq!(
            (&open["status"], &open["circuit"]["state"], &open["last_check"]),
            (&json!("down"), &json!("open"), &Value::Null),
            "nothing is asked of it: {open:#}"
        );
        assert_eq!(codes(&agent).await, [503, 200], "it is shared: no reason to take the task out");
        let detailed = agent.get("/health/detailed").await.json();
        assert_eq!(detailed["status"], "down", "not `starting`: no result is to come");
        let closed = agent.until_dependency("closed", |it| it["status"] == "up", "checks").await;
        assert_eq!(closed["circuit"]["state"], "closed", "{closed:#}");
        let again = |line: &Value| {
            let told = line["message"].as_str().is_some_and(|it| it.contains("is in force again"));
            told && line["dependency"] == "open" && line["level"] == "WARN"
        };
        let line = agent.until_logged(again, "that it is in force again").await;
        assert_eq!(
            (&line["mode"], &line["actor"], &line["reason"]),
            (&json!("forced_open"), &json!("deploy"), &json!("a planned failover"))
        );
        assert!(line["expires_at"].is_string());
        until_kept(folder.path(), &["open", "closed"]).await;
        agent.signal(Signal::KILL);
    }
    // What is ordered is kept when it is answered.
    let agent = config.agent().await;
    let body = json!({"reason": "maintenance", "for": "30m"});
    let answer = order(&agent, "/circuits/free/open", &body).await;
    assert_eq!((&answer["state"], &answer["override"]["mode"]), (&json!("open"), &json!("forced_open")));
    agent.signal(Signal::KILL);
    assert_eq!(kept(folder.path()).as_deref(), Ok(&["open", "closed", "free"].map(str::to_owned)[..]));
    let agent = config.agent().await;
    let again = agent.dependency("free").await["circuit"]["override"].clone();
    assert_eq!(again, answer["override"], "to the millisecond");
    assert_eq!(again["reason"], "maintenance");
    for name in ["free", "closed", "open"] {
        let answer = order(&agent, &format!("/circuits/{name}/reset"), &json!({})).await;
        assert_eq!((&answer["override"], &answer["state"]), (&Value::Null, &json!("half_open")));
    }
    assert_eq!(kept(folder.path()), Ok(vec![]));
    agent.signal(Signal::KILL);
    let agent = config.agent().await;
    agent.until("/health/ready", |it| it.status == 200, "that nothing is held any more").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_a_new_configuration_has_no_place_for_is_told() {
    let peer = tcp::mute().await;
    let folder = Folder::new("state");
    let port = |name: &str, enabled: bool| {
        let port = json!({"host": "127.0.0.1", "port": peer.address().port(), "enabled": enabled});
        on("tcp", name, port)
    };
    let config = config(folder.path(), [port("goes", true), port("off", true), port("stays", true)]);
    let agent = config.agent().await;
    for name in ["goes", "off", "stays"] {
        order(&agent, &format!("/circuits/{name}/open"), &json!({"reason": "a planned failover"})).await;
    }
    until_kept(folder.path(), &["goes", "off", "stays"]).await;
    let mut next = quick([port("off", false), port("stays", true)]);
    next["server"]["state_dir"] = json!(folder.path());
    next["server"]["admin_token"] = json!(TOKEN);
    config.replace(&next);
    agent.signal(Signal::HUP);
    until_kept(folder.path(), &["stays"]).await;
    for (name, why) in [("goes", "no dependency of this name"), ("off", "disables the dependency")] {
        let dropped = |line: &Value| {
            let told =
                line["message"].as_str().is_some_and(|it| it.contains("is dropped") && it.contains(why));
            told && line["dependency"] == name && line["level"] == "WARN"
        };
        let line = agent.until_logged(dropped, "that it is dropped").await;
        assert_eq!((&line["mode"], &line["reason"]), (&json!("forced_open"), &json!("a planned failover")));
    }
    let stays = |line: &Value| {
        line["dependency"] == "stays" && line["message"].as_str().is_some_and(|it| it.contains("dropped"))
    };
    assert!(!agent.logs().iter().any(stays), "{}", agent.output());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_ignored_gates_nothing_and_ends_in_time() {
    let peer = crate::support::tcp::mute().await;
    let folder = Folder::new("state");
    let port = on("tcp", "port", json!({"host": "127.0.0.1", "port": peer.address().port()}));
    let config = config(folder.path(), [port]);
    let late = SignedDuration::from_hours(-1);
    write(folder.path(), json!([stored("port", "forced_open", "ignore", late)]));
    let agent = config.agent().await;
    agent.until("/health/ready", |it| it.status == 200, "that nothing is held").await;
    let ended =
        |line: &Value| line["message"].as_str().is_some_and(|it| it.contains("while the agent was away"));
    agent.until_logged(ended, "its end").await;
    until_kept(folder.path(), &[]).await;
    drop(agent);

    write(folder.path(), json!([stored("port", "forced_open", "ignore", SignedDuration::from_secs(5))]));
    let agent = config.agent().await;
    assert_eq!(codes(&agent).await, [200, 200]);
    assert_eq!(agent.dependency("port").await["status"], "down");
    let expired = |line: &Value| line["message"].as_str().is_some_and(|it| it.contains("is over"));
    let line = agent.until_logged(expired, "its end").await;
    assert_eq!((&line["level"], &line["mode"]), (&json!("INFO"), &json!("forced_open")));
    agent.until_dependency("port", |it| it["circuit"]["state"] == "closed", "that trials close it").await;
    until_kept(folder.path(), &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_set_aside_and_a_folder_that_takes_none_is_told() {
    let folder = Folder::new("state");
    let file = folder.path().join("overrides.json");
    fs::write(&file, "{\"version\": 1, \"overrides\": [{\"depend").expect("a folder");
    let agent = config(folder.path(), []).agent().await;
    let aside = |line: &Value| line["level"] == "WARN" && line["set_aside"].is_string();
    let line = agent.until_logged(aside, "that it is set aside").await;
    let aside = line["set_aside"].as_str().expect("a path");
    assert!(aside.contains("overrides.json.damaged-"), "{line}");
    assert!(fs::read_to_string(aside).expect("it is there").ends_with("depend"));
    assert_eq!(codes(&agent).await, [200, 200]);
    until_kept(folder.path(), &[]).await;
    drop(agent);

    let nowhere = folder.path().join("none");
    let agent = config(&nowhere, []).agent().await;
    let told = |line: &Value| line["level"] == "ERROR" && line["folder"] == json!(nowhere);
    let line = agent.until_logged(told, "that it cannot be written").await;
    assert!(line["message"].as_str().is_some_and(|it| it.contains("`server.state_dir`")), "{line}");
    assert_eq!(codes(&agent).await, [200, 200]);

    // Without one, nothing is written anywhere.
    let agent = Agent::start(&Env::new()).await;
    assert!(!agent.output().contains("state folder"), "{}", agent.output());
}
