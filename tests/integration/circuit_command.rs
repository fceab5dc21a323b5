//! `sickbay circuit`: what it shows of a running agent, what it has done, and how it ends.

use serde_json::{Value, json};

use crate::support::agent::{Agent, Env, Output, run_cli};
use crate::support::config::{Config, on, quick};
use crate::support::http::{Answer, HttpServer};
use crate::support::ports;
use crate::support::scratch::Folder;
use crate::support::tcp::{self, Peer};

const TOKEN: &str = "a-token-of-the-tests";

/// An agent that watches a port where somebody listens and one where nobody does.
async fn agent(operators: Option<u16>) -> (Agent, Config, Peer) {
    let peer = tcp::mute().await;
    let port = |name: &str, port: u16| on("tcp", name, json!({"host": "127.0.0.1", "port": port}));
    let mut content = quick([port("there", peer.address().port()), port("gone", tcp::refused_port())]);
    content["server"]["admin_token"] = TOKEN.into();
    content["server"]["operator"] = json!({"listen": operators.map(|port| format!("127.0.0.1:{port}")), "require_token_for_reads": false});
    let config = Config::of(&content);
    let agent = Agent::start_with(&["--config", config.path()], &Env::new()).await;
    agent
        .until(
            "/health/startup",
            |answer| answer.body.contains("gone") && !answer.body.contains("there"),
            "up",
        )
        .await;
    (agent, config, peer)
}

async fn circuit(agent: &Agent, arguments: &[&str]) -> Output {
    let address = agent.address().to_string();
    let env = Env::new().set("SICKBAY_ADMIN_TOKEN", TOKEN);
    run_cli(&[&["circuit"], arguments, &["--address", &address]].concat(), &env).await
}

#[tokio::test(flavor = "multi_thread")]
async fn it_shows_circuits_and_takes_the_wheel() {
    let (agent, _config, _peer) = agent(None).await;
    let listed = circuit(&agent, &["list"]).await;
    assert_eq!(listed.code, Some(0), "{listed:?}");
    assert!(listed.stdout.starts_with("DEPENDENCY  STATE"), "{listed:?}");
    let line = |name: &str| listed.stdout.lines().find(|line| line.starts_with(name)).map(str::to_owned);
    assert!(line("there").is_some_and(|line| line.contains("closed")), "{listed:?}");

    let opened = circuit(&agent, &["open", "there", "--reason", "a new switch", "--for", "30m"]).await;
    assert_eq!(opened.code, Some(0), "{opened:?}");
    assert!(opened.stdout.contains("there is open since "), "{opened:?}");
    assert!(
        opened.stdout.contains("forced open by admin until ") && opened.stdout.contains(": a new switch")
    );
    let shown = circuit(&agent, &["show", "there"]).await;
    assert!(shown.stdout.contains("forced_open by admin: a new switch"), "{shown:?}");

    let json = circuit(&agent, &["close", "there", "--reason", "it works", "--format", "json"]).await.json();
    let held = &json["override"];
    assert_eq!((&held["mode"], &held["reason"]), (&json!("forced_closed"), &json!("it works")), "{json:#}");
    assert_eq!(json["state"], "closed");
    assert_eq!(agent.get("/circuits/there").await.json()["override"], *held);

    let reset = circuit(&agent, &["reset", "there"]).await;
    assert!(reset.code == Some(0) && reset.stdout.contains("nothing holds it"), "{reset:?}");
    assert_eq!(agent.get("/circuits/there").await.json()["override"], Value::Null);

    let all = circuit(&agent, &["list", "--format", "json"]).await.json();
    assert_eq!(all["circuits"].as_object().expect("a map").len(), 2, "{all:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_told_and_what_is_wrong_is_told_apart_from_it() {
    let (agent, _config, _peer) = agent(None).await;
    let address = agent.address().to_string();
    let refused = |output: &Output, code: i32, words: &str| {
        assert_eq!(output.code, Some(code), "{output:?}");
        assert!(output.stderr.starts_with("error: ") && output.stderr.contains(words), "{words}: {output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
    };
    refused(&circuit(&agent, &["show", "nobody"]).await, 2, "there is no dependency of this name");
    refused(&circuit(&agent, &["show", "a/../b"]).await, 2, "is no name of a dependency");
    refused(&circuit(&agent, &["open", "there"]).await, 2, "--reason");
    refused(&circuit(&agent, &["open", "there", "--reason", " "]).await, 2, "--reason");
    refused(&circuit(&agent, &["open", "there", "--reason", "x", "--for", "25h"]).await, 2, "24h");
    let open = ["circuit", "open", "there", "--reason", "x", "--address", &address];
    refused(&run_cli(&open, &Env::new()).await, 2, "SICKBAY_ADMIN_TOKEN is not set");
    let wrong = Env::new().set("SICKBAY_ADMIN_TOKEN", "not-the-token-at-all");
    refused(&run_cli(&open, &wrong).await, 1, "401");
    let nowhere = format!("127.0.0.1:{}", tcp::refused_port());
    refused(
        &run_cli(&["circuit", "list", "--address", &nowhere], &Env::new()).await,
        1,
        "is the agent running",
    );
    let mute = tcp::mute().await;
    let mute = ["circuit", "list", "--timeout", "200ms", "--address", &mute.address().to_string()];
    refused(&run_cli(&mute, &Env::new()).await, 1, "no whole answer within 200ms");
    let other = HttpServer::start(Answer::status(200).body("hello")).await;
    let other = ["circuit", "list", "--address", &other.address().to_string()];
    refused(&run_cli(&other, &Env::new()).await, 1, "is no Sickbay agent");
    assert_eq!(agent.get("/circuits/there").await.json()["override"], Value::Null, "nothing was done");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_finds_the_operators_listener() {
    let port = ports::spare();
    let (agent, config, _peer) = agent(Some(port)).await;
    let (public, operators) = (agent.address().to_string(), format!("127.0.0.1:{port}"));
    let list = ["circuit", "list"];
    let by = |variables: &[(&str, &str)]| {
        variables.iter().fold(Env::new(), |env, (name, value)| env.set(name, value))
    };
    for env in [
        by(&[("SICKBAY_OPERATOR_LISTEN", &operators)]),
        by(&[("SICKBAY_OPERATOR_LISTEN", &operators), ("SICKBAY_LISTEN", &public)]),
        by(&[("SICKBAY_CONFIG", config.path())]),
    ] {
        let listed = run_cli(&list, &env).await;
        assert!(listed.code == Some(0) && listed.stdout.contains("there"), "{listed:?}");
    }
    let listed = run_cli(&list, &by(&[("SICKBAY_LISTEN", &public)])).await;
    assert_eq!(listed.code, Some(1), "{listed:?}");
    assert!(listed.stderr.contains("SICKBAY_OPERATOR_LISTEN"), "{listed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_may_be_anybodys_and_may_be_in_a_file() {
    let (_, config, _peer) = agent(None).await;
    let mut content: Value =
        serde_json::from_str(&std::fs::read_to_string(config.path()).expect("a file")).expect("JSON");
    let port = ports::spare();
    content["server"]["listen"] = format!("127.0.0.1:{port}").into();
    content["server"]["admin_tokens"] = json!([{"name": "on-call", "token": "on-call-0123456789"}]);
    config.replace(&content);
    let agent = Agent::start_with(
        &["--config", config.path()],
        &Env::new().set("SICKBAY_LISTEN", format!("127.0.0.1:{port}")),
    )
    .await;
    agent.until("/health/startup", |answer| !answer.body.contains("there"), "up").await;
    let hold = ["circuit", "close", "there", "--reason", "x", "--config", config.path()];
    // The variable is who asks, not a setting of the agent's.
    let held = run_cli(&hold, &Env::new().set("SICKBAY_ADMIN_TOKEN", "on-call-0123456789")).await;
    assert!(held.code == Some(0) && held.stdout.contains("forced closed by on-call"), "{held:?}");
    let folder = Folder::new("token");
    let file = folder.write("token", b"on-call-0123456789\n");
    let from_file = [&hold[..], &["--token-file", file.to_str().expect("UTF-8")]].concat();
    let held = run_cli(&from_file, &Env::new().set("SICKBAY_ADMIN_TOKEN", "not-the-token-at-all")).await;
    assert!(held.code == Some(0) && held.stdout.contains("forced closed by on-call"), "{held:?}");
    let none = run_cli(&[&hold[..], &["--token-file", "/nonexistent"]].concat(), &Env::new()).await;
    assert!(
        none.code == Some(2) && none.stderr.contains("--token-file /nonexistent does not exist"),
        "{none:?}"
    );
}
