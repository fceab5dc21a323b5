//! Dependencies that are reached by name: the name moves, takes turns, vanishes, and is asked for by many.
//!
//! Every address that is connected to is on the loopback network, where a test can have more than one host.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::{Value, json};
use sickbay::clock::Stopwatch;

use crate::support::agent::Agent;
use crate::support::config::{self, Config, on, on_postgres};
use crate::support::dns::{self, Dns, ScriptedDns, Zone};
use crate::support::postgres::{Postgres, PostgresOptions};
use crate::support::tcp::{self, Peer};

/// An agent whose names are asked of this server.
async fn agent(server: SocketAddr, dependencies: impl IntoIterator<Item = Value>) -> Agent {
    let mut config = config::quick(dependencies);
    config["resolver"] = json!({"nameservers": [server]});
    Config::of(&config).agent().await
}

/// `db.test` at these addresses.
fn at(addresses: &[&str]) -> Zone {
    Zone::new(addresses.iter().map(|ip| dns::address("db.test", ip)).collect::<Vec<_>>())
}

/// A database behind two addresses, and what checks it by its name over a connection that is kept for good.
async fn database() -> (Postgres, [Peer; 2], Value) {
    let server = Postgres::start(PostgresOptions::default()).await;
    let hosts = tcp::two_hosts(SocketAddr::from((Ipv4Addr::LOCALHOST, server.port()))).await;
    let kept = json!({"host": "db.test", "port": hosts[0].address().port(), "reconnect_every": 10_000});
    let dependency = on_postgres("database", &server, kept);
    (server, hosts, dependency)
}

/// Waits for a check over the kept connection, to the host with this address.
async fn until_kept(agent: &Agent, host: &str) -> Value {
    let kept = |it: &Value| {
        let at = it["address"].as_str().is_some_and(|address| address.starts_with(host));
        at && it["status"] == "up" && it["last_check"]["new_connection"] == false
    };
    agent.until_dependency("database", kept, &format!("a connection that is kept to {host}")).await
}

fn changes(dependency: &Value) -> Vec<[Value; 3]> {
    let changes = dependency["address_changes"].as_array().cloned().unwrap_or_default();
    changes.iter().map(|change| ["from", "to", "from_answers"].map(|field| change[field].clone())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_follows_its_name_and_who_still_answers_behind_it_is_told() {
    let (_server, [first, second], dependency) = database().await;
    let mut names = Dns::start(at(&["127.0.0.2"])).await;
    let agent = agent(names.address(), [dependency]).await;
    let seen = until_kept(&agent, "127.0.0.2").await;
    assert_eq!(config::phases(&seen), ["dns", "query"], "the name is looked up beside the kept connection");

    names.replace(at(&["127.0.0.3"])).await;
    let moved = until_kept(&agent, "127.0.0.3").await;
    let there = [json!("127.0.0.2"), json!("127.0.0.3"), json!(true)];
    assert_eq!(changes(&moved), std::slice::from_ref(&there));
    let told = |line: &Value| {
        line["level"] == "WARN" && line["message"].as_str().is_some_and(|text| text.contains("still taken"))
    };
    let line = agent.until_logged(told, "the move").await;
    let before = first.address().to_string();
    assert_eq!((&line["dependency"], &line["address_before"]), (&json!("database"), &json!(before)));

    // Back again; and now the host that is left dies.
    drop(second);
    names.replace(at(&["127.0.0.2"])).await;
    let back = until_kept(&agent, "127.0.0.2").await;
    assert_eq!(changes(&back), [there, [json!("127.0.0.3"), json!("127.0.0.2"), json!(false)]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_takes_turns_neither_moves_for_ever_nor_ends_kept_connections() {
    let (_server, _hosts, dependency) = database().await;
    let names = ScriptedDns::start(|asked| {
        let turn = asked.earlier / 2 % 2 + 2;
        let mut answer = asked.answer((asked.record == "A").then(|| dns::data(&format!("127.0.0.{turn}"))));
        // Used for this one check.
        answer.answers.iter_mut().for_each(|record| record.ttl = 0);
        Some(answer)
    })
    .await;
    let agent = agent(names.address(), [dependency]).await;
    // After so many checks each answer has been given often; since it began to be kept, no connection was made.
    let many = |it: &Value| it["circuit"]["successes"].as_u64().is_some_and(|checks| checks >= 40);
    let seen = agent.until_dependency("database", many, "40 checks").await;
    assert!(seen["pool"]["created"].as_u64().is_some_and(|made| made <= 5), "{seen:#}");
    assert!(changes(&seen).len() <= 5, "{seen:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_no_longer_resolves_is_told_while_the_kept_connection_works() {
    let (_server, _hosts, dependency) = database().await;
    let mut names = Dns::start(at(&["127.0.0.2"])).await;
    let agent = agent(names.address(), [dependency]).await;
    until_kept(&agent, "127.0.0.2").await;
    let warned = |what: &'static str| {
        move |it: &Value| {
            let warning = it["warnings"][0].as_str().unwrap_or_default();
            it["status"] == "degraded"
                && warning.contains(what)
                && warning.contains("the kept connection works")
        }
    };
    names.replace(Zone::new([dns::address("other.test", "127.0.0.2")])).await;
    agent.until_dependency("database", warned("db.test does not exist"), "the missing name").await;
    names.replace(at(&["127.0.0.2"])).await;
    until_kept(&agent, "127.0.0.2").await;
    names.hang().await;
    agent.until_dependency("database", warned("was not resolved within"), "the silent server").await;
    names.wake();
    until_kept(&agent, "127.0.0.2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_by_name_tells_its_moves_too_and_several_addresses_are_none() {
    let web = tcp::mute().await;
    let [first, second] = tcp::two_hosts(web.address()).await;
    let mut names = Dns::start(at(&["127.0.0.2", "127.0.0.3"])).await;
    let port = json!({"host": "db.test", "port": first.address().port()});
    let agent = agent(names.address(), [on("tcp", "port", port)]).await;
    let many = |it: &Value| it["circuit"]["successes"].as_u64().is_some_and(|checks| checks >= 20);
    let seen = agent.until_dependency("port", many, "20 checks").await;
    assert_eq!(changes(&seen), Vec::<[Value; 3]>::new(), "the server gives both, in any order");
    drop(first);
    names.replace(at(&["127.0.0.3"])).await;
    let at_the_second = |it: &Value| it["address"] == second.address().to_string();
    agent.until_dependency("port", at_the_second, "the second host").await;
    names.replace(at(&["127.0.0.1"])).await;
    let refused = |it: &Value| config::failure(it)[1] == "connect_refused";
    agent.until_dependency("port", refused, "nobody at the third address").await;
    names.replace(at(&["127.0.0.2", "127.0.0.3"])).await;
    let well = |it: &Value| it["status"] == "up";
    let seen = agent.until_dependency("port", well, "the way back").await;
    let tried_only = |change: &[Value; 3]| change.iter().any(|address| address == "127.0.0.1");
    assert!(!changes(&seen).iter().any(tried_only), "what was only tried is no change: {seen:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_very_many_addresses_some_are_tried_and_the_rest_is_counted() {
    let names = ScriptedDns::start(|asked| {
        let all = (0..1_000_u32).map(|n| dns::data(&Ipv4Addr::from(0x7f01_0000 + n).to_string()));
        let mut answer = asked.answer(all.filter(|_| asked.tcp && asked.record == "A"));
        answer.metadata.truncation = !asked.tcp;
        Some(answer)
    })
    .await;
    let port = json!({"host": "many.test", "port": tcp::refused_port()});
    let agent = agent(names.address(), [on("tcp", "port", port)]).await;
    let refused = |it: &Value| config::failure(it)[1] == "connect_refused";
    let seen = agent.until_dependency("port", refused, "a refusal by all").await;
    let said = config::told(&seen, "message");
    assert!(said.starts_with("127.1.0.0:") && said.len() < 1_100, "{said}");
    assert!(said.ends_with("984 more addresses were not tried"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_dependencies_on_one_host_share_their_questions() {
    let web = tcp::mute().await;
    let names = ScriptedDns::start(|asked| {
        // Slow enough that others want to know meanwhile.
        std::thread::sleep(Duration::from_millis(50));
        Some(asked.answer((asked.record == "A").then(|| dns::data("127.0.0.1"))))
    })
    .await;
    let port = web.address().port();
    let ten: Vec<String> = (0..10).map(|n| format!("port-{n}")).collect();
    let watch = Stopwatch::start();
    let agent = agent(
        names.address(),
        ten.iter().map(|name| on("tcp", name, json!({"host": "db.test", "port": port}))),
    )
    .await;
    let mut checks = 0;
    for name in &ten {
        let many = |it: &Value| it["circuit"]["successes"].as_u64().is_some_and(|checks| checks >= 20);
        let seen = agent.until_dependency(name, many, "20 checks").await;
        checks += seen["circuit"]["successes"].as_u64().unwrap_or_default();
    }
    let detailed = agent.get("/health/detailed").await.json();
    let shared = detailed["resolver"]["shared"].as_u64().unwrap_or_default();
    let asked = names.asked();
    // What was sent again for want of an answer has the same number.
    let questions = |record: &str| {
        let of_type = asked.iter().filter(|asked| asked.record == record);
        of_type.map(|asked| asked.message.metadata.id).collect::<BTreeSet<_>>().len() as u64
    };
    let (v4, v6) = (questions("A"), questions("AAAA"));
    assert!(checks >= 200 && v4 >= 2, "{checks} checks, {v4} questions");
    // An answer serves for a second after it came, and those who wait for it.
    let most = watch.elapsed().as_secs() + 1;
    assert!(v4 <= most && v6 <= most, "{v4} and {v6} questions within {:?}", watch.elapsed());
    assert!(shared >= checks - v4, "{checks} checks, {v4} questions, {shared} shared");
}
