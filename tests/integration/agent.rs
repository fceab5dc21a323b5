//! The agent's own life: start, listeners, logs, many dependencies, and its end.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use serde_json::{Value, json};

use crate::support::agent::{Agent, Env, Signal, run_cli};
use crate::support::client;
use crate::support::config::{Config, on, quick};
use crate::support::wait::eventually;
use crate::support::{ports, tcp};

fn watched(name: &str, peer: &tcp::Peer, more: Value) -> Value {
    let mut base = json!({"host": "127.0.0.1", "port": peer.address().port()});
    base.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
    on("tcp", name, base)
}

async fn drained_after(drain: &str, peer: &tcp::Peer) -> (Config, Agent) {
    let mut config = quick([watched("port", peer, json!({}))]);
    config["server"]["drain"] = json!(drain);
    let config = Config::of(&config);
    let agent = config.agent().await;
    agent.until("/health/ready", |it| it.status == 200, "that all is well").await;
    (config, agent)
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_drains_it_says_so_and_a_second_signal_ends_it() {
    let peer = tcp::mute().await;
    let (_config, mut agent) = drained_after("5m", &peer).await;
    agent.signal(Signal::TERM);
    agent.until("/health/ready", |it| it.status == 503, "the drain").await;
    for path in ["/health/ready", "/health/alb"] {
        let answer = agent.get(path).await;
        assert_eq!((answer.status, &answer.json()["status"]), (503, &json!("draining")), "{path}: {answer}");
    }
    assert_eq!(agent.get("/health").await.status, 503);
    assert_eq!(agent.get("/health/live").await.status, 200, "ECS must not kill it meanwhile");
    let detailed = agent.get("/health/detailed").await.json();
    assert_eq!(detailed["status"], "draining");
    assert_eq!(detailed["groups"]["alb"], json!({"status": "draining", "code": 503}));
    let before = peer.accepted();
    eventually("checks to go on while it drains", || {
        let accepted = peer.accepted();
        std::future::ready(if accepted > before + 2 { Ok(()) } else { Err(accepted) })
    })
    .await;
    agent.signal(Signal::TERM);
    assert_eq!(agent.wait_exit().await.code(), Some(143), "{}", agent.output());
}

#[tokio::test(flavor = "multi_thread")]
async fn drained_it_ends_well_on_either_signal() {
    let peer = tcp::mute().await;
    for signal in [Signal::TERM, Signal::INT] {
        let (_config, mut agent) = drained_after("200ms", &peer).await;
        agent.signal(signal);
        assert_eq!(agent.wait_exit().await.code(), Some(0), "{}", agent.output());
        assert!(agent.output().contains("draining"), "{}", agent.output());
        assert!(client::get(agent.address(), "/health/live").await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_a_check_that_hangs_nor_a_client_that_stalls_holds_up_the_end() {
    use tokio::io::AsyncWriteExt;
    let mute = tcp::mute().await;
    let config = Config::quick([watched("mute", &mute, json!({"expect": "a word", "timeout": "5m"}))]);
    let mut agent = config.agent().await;
    mute.until_accepted(1).await;
    let mut stalled = tokio::net::TcpStream::connect(agent.address()).await.expect("it listens");
    stalled.write_all(b"GET /health/li").await.expect("it reads");
    agent.signal(Signal::TERM);
    assert_eq!(agent.wait_exit().await.code(), Some(0), "{}", agent.output());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_taken_is_told_with_the_setting_that_chooses_it() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = taken.local_addr().expect("its address");
    let spare = SocketAddr::from((Ipv4Addr::LOCALHOST, ports::spare()));
    for (setting, first, second) in
        [("SICKBAY_LISTEN", address, spare), ("SICKBAY_OPERATOR_LISTEN", spare, address)]
    {
        let env = Env::new().set("SICKBAY_LISTEN", first).set("SICKBAY_OPERATOR_LISTEN", second);
        let output = run_cli(&["run"], &env).await;
        assert_eq!(output.code, Some(3), "{output:?}");
        for part in ["error: cannot listen on", &address.to_string(), setting] {
            assert!(output.stderr.contains(part), "{part}: {output:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_configuration_is_told_whole_and_starts_nothing() {
    let peer = tcp::mute().await;
    let config = Config::of(&json!({
        "server": {"drian": "1s"},
        "dependencies": [
            watched("fine", &peer, json!({})),
            {"name": "Bad Name", "kind": "tcp", "impact": "critical", "host": "h", "port": 70000},
            {"name": "no-impact", "kind": "redis", "host": "h"},
            {"name": "odd", "kind": "postgres", "impact": "fatal", "host": "h", "interval": 10},
        ],
    }));
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, ports::spare()));
    let env = Env::new().set("SICKBAY_LISTEN", address);
    let output = run_cli(&["run", "--config", config.path()], &env).await;
    assert_eq!(output.code, Some(2), "{output:?}");
    let errors: Vec<_> = output.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    for part in ["drian", "Bad Name", "70000", "no-impact", "fatal", "interval"] {
        assert!(errors.iter().any(|line| line.contains(part)), "{part}: {output:?}");
    }
    let located = |line: &&str| line.contains(", line ") || line.contains("is required, at ");
    assert!(errors.iter().all(located), "where: {output:?}");
    assert_eq!(output.stdout, "", "nothing was logged, because nothing started");
    assert_eq!(peer.accepted(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_can_have_a_listener_of_their_own() {
    let peer = tcp::mute().await;
    let config = Config::quick([watched("port", &peer, json!({}))]);
    let operator = SocketAddr::from((Ipv4Addr::LOCALHOST, ports::spare()));
    let env = Env::new().set("SICKBAY_OPERATOR_LISTEN", operator);
    let agent = Agent::start_with(&["--config", config.path()], &env).await;
    agent.until("/health/ready", |it| it.status == 200, "that all is well").await;
    let theirs =
        ["/health/detailed", "/health/dependencies/port", "/health/config", "/circuits", "/circuits/port"];
    for path in theirs {
        let first = agent.get(path).await;
        assert_eq!((first.status, &first.json()["error"]["code"]), (404, &json!("not_found")), "{path}");
        assert!(!first.body.contains("operator"), "a stranger is told nothing of it: {first}");
        let second = client::get(operator, path).await.expect("an answer");
        assert_eq!(second.status, 200, "{path}: {second}");
    }
    for path in
        ["/health", "/health/live", "/health/ready", "/health/alb", "/health/startup", "/livez", "/readyz"]
    {
        assert_eq!(agent.get(path).await.status, 200, "{path}");
        assert_eq!(client::get(operator, path).await.expect("an answer").status, 200, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_dependencies_are_checked_on_and_on() {
    const MANY: usize = 300;
    let peer = tcp::mute().await;
    let name = |n: usize| format!("port-{n}");
    let config = Config::quick((0..MANY).map(|n| watched(&name(n), &peer, json!({"interval": "1s"}))));
    let agent = config.agent().await;
    agent.until("/health/ready", |it| it.json()["status"] == "up", "that all are well").await;
    eventually("each to be checked three times", || async {
        let all = agent.get("/circuits").await.json();
        let late = (0..MANY).find(|n| all["circuits"][name(*n)]["successes"].as_u64() < Some(3));
        late.map_or(Ok(()), |n| Err(all["circuits"][name(n)].to_string()))
    })
    .await;
    let detailed = agent.get("/health/detailed").await.json();
    for n in 0..MANY {
        let dependency = &detailed["dependencies"][name(n)];
        assert_eq!(
            (&dependency["status"], &dependency["stale"]),
            (&json!("up"), &json!(false)),
            "{dependency:#}"
        );
        assert_eq!(dependency["circuit"]["failures"], 0);
    }
    peer.until_accepted(3 * MANY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_json_or_text_and_tells_changes() {
    let peer = tcp::mute().await;
    let port = peer.address().port();
    let config = Config::quick([watched("port", &peer, json!({"send": "hunter2-hunter2"}))]);
    let agent = config.agent().await;
    agent.until("/health/ready", |it| it.status == 200, "that all is well").await;
    let start = agent.until_logged(|line| line["message"] == "sickbay starts", "the start").await;
    for field in
        ["timestamp", "level", "target", "version", "service", "environment", "listen", "dependencies"]
    {
        assert!(start[field].as_str().is_some_and(|it| !it.is_empty()), "{field}: {start}");
    }
    let parameters = |line: &Value| line.to_string().contains("connection parameters");
    let line = agent.until_logged(parameters, "the connection parameters").await;
    assert_eq!((&line["level"], &line["dependency"]), (&json!("DEBUG"), &json!("port")), "{line}");
    assert_eq!(line["destination"], format!("127.0.0.1:{port}"));
    let up = |line: &Value| line["dependency"] == "port" && line["status_to"] == "up";
    agent.until_logged(up, "the first success").await;
    drop(peer);
    let opened = |line: &Value| line["circuit_to"] == "open" && line["level"] == "WARN";
    let line = agent.until_logged(opened, "the circuit's opening").await;
    assert_eq!((&line["dependency"], &line["kind"]), (&json!("port"), &json!("tcp")), "{line}");
    assert_eq!(line["circuit_from"], "closed");
    for line in agent.output().lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "not JSON: {line}");
        assert!(!line.contains("hunter2"), "{line}");
    }

    let env = Env::new().set("SICKBAY_LOG_FORMAT", "text").set("SICKBAY_LOG", "info");
    let agent = Agent::start_with(&["--config", config.path()], &env).await;
    agent.until("/health/ready", |it| it.status == 503, "a failure").await;
    let output = agent.output();
    assert!(agent.logs().is_empty() && output.contains("sickbay starts"), "{output}");
    assert!(!output.contains('\x1b') && !output.contains("DEBUG"), "{output}");
}
