//! DNS: records of each type, names that do not exist, and servers that fail, are silent or disagree.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::support::config::{Config, WELL, check, failure, impatient, on, phases, told};
use crate::support::dns::{self, Dns, FailingDns, Rcode, Record, Zone};

fn zone() -> Zone {
    Zone::new([
        dns::address("db.test", "10.0.0.1"),
        dns::address("db.test", "10.0.0.2"),
        dns::address("six.test", "fd00::1"),
        dns::cname("alias.test", "db.test"),
        Record::Srv("_pg._tcp.db.test".into(), "db.test".into(), 5432, 1, 2),
        Record::Txt("db.test".into(), "it is me".into()),
    ])
}

fn asking(name: &str, servers: &[SocketAddr], query: &str, more: Value) -> Value {
    let mut base = json!({"query": query, "nameservers": servers, "retry": {"attempts": 1}});
    if ["silent", "nobody", "agent"].contains(&name) {
        base = impatient(base);
    }
    base.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
    on("dns", name, base)
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_each_type_are_seen_as_the_server_has_them() {
    let server = Dns::start(zone()).await;
    let at = [server.address()];
    let seen = check([
        asking("a", &at, "db.test", json!({})),
        asking("aaaa", &at, "six.test", json!({"record": "AAAA"})),
        asking("cname", &at, "alias.test", json!({"record": "CNAME"})),
        asking("alias", &at, "alias.test", json!({})),
        asking("srv", &at, "_pg._tcp.db.test", json!({"record": "SRV"})),
        asking("txt", &at, "db.test", json!({"record": "TXT"})),
    ])
    .await;
    for (name, records, addresses) in [
        ("a", json!(["10.0.0.1", "10.0.0.2"]), json!(["10.0.0.1", "10.0.0.2"])),
        ("aaaa", json!(["fd00::1"]), json!(["fd00::1"])),
        ("cname", json!(["db.test."]), json!([])),
        ("alias", json!(["10.0.0.1", "10.0.0.2"]), json!(["10.0.0.1", "10.0.0.2"])),
        ("srv", json!(["1 2 5432 db.test."]), json!([])),
        ("txt", json!(["it is me"]), json!([])),
    ] {
        assert_eq!((failure(&seen[name]), &seen[name]["status"]), (WELL, &json!("up")), "{name}: {seen:#}");
        assert_eq!(phases(&seen[name]), ["dns"]);
        let details = &seen[name]["details"];
        // A server may give several in any order.
        let sorted = |field: &str| {
            let mut list = details[field].as_array().cloned().unwrap_or_default();
            list.sort_by_key(Value::to_string);
            Value::Array(list)
        };
        assert_eq!((sorted("records"), sorted("addresses")), (records, addresses), "{name}: {details:#}");
        assert_eq!(details["ttl_seconds"], 5, "{name}: {details:#}");
        let answer = &details["by_nameserver"][at[0].to_string()];
        assert!(answer["duration_ms"].is_number() && answer["records"].is_array(), "{name}: {details:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_to_fail_has_its_kind_and_code() {
    let server = Dns::start(zone()).await;
    let hung = Dns::start(zone()).await;
    hung.hang().await;
    let (failing, refusing) =
        (FailingDns::start(Rcode::ServFail).await, FailingDns::start(Rcode::Refused).await);
    let nobody = SocketAddr::from(([127, 0, 0, 1], crate::support::tcp::refused_port()));
    let at = [server.address()];
    let seen = check([
        asking("nxdomain", &at, "nobody.test", json!({})),
        asking("nodata", &at, "six.test", json!({"retry": {"attempts": 3}})),
        asking("servfail", &[failing.address()], "db.test", json!({})),
        asking("refused", &[refusing.address()], "db.test", json!({})),
        asking("refused-zone", &at, "example.org", json!({"retry": {"attempts": 2}})),
        asking("silent", &[hung.address()], "db.test", json!({})),
        asking("nobody", &[nobody], "db.test", json!({})),
        asking(
            "outside",
            &at,
            "db.test",
            json!({"expect": {"addresses": ["10.0.0.1/32", "192.168.0.0/16"]}}),
        ),
        asking("inside", &at, "db.test", json!({"expect": {"addresses": ["10.0.0.0/8"]}})),
        asking("few", &at, "db.test", json!({"expect": {"min": 3}})),
        asking("enough", &at, "db.test", json!({"expect": {"min": 2}})),
    ])
    .await;
    for (name, expected, attempts) in [
        ("nxdomain", ["dns", "dns_not_found", "NXDOMAIN"], 1),
        ("nodata", ["dns", "dns_not_found", "NODATA"], 1),
        ("servfail", ["dns", "dns_server_failure", "SERVFAIL"], 1),
        ("refused", ["dns", "dns_server_failure", "REFUSED"], 1),
        ("refused-zone", ["dns", "dns_server_failure", "REFUSED"], 2),
        ("silent", ["dns", "dns_timeout", "-"], 1),
        ("outside", ["dns", "dns_unexpected_answer", "-"], 1),
        ("inside", WELL, 1),
        ("few", ["dns", "dns_unexpected_answer", "-"], 1),
        ("enough", WELL, 1),
    ] {
        assert_eq!(failure(&seen[name]), expected, "{name}: {:#}", seen[name]);
        assert_eq!(seen[name]["last_check"]["attempts"], attempts, "{name}: {:#}", seen[name]);
    }
    let [_, kind, _] = failure(&seen["nobody"]);
    assert!(["dns_server_failure", "dns_timeout"].contains(&kind), "{seen:#}");
    assert!(told(&seen["outside"], "message").contains("10.0.0.2, which is not in 10.0.0.1/32"), "{seen:#}");
    assert!(told(&seen["few"], "message").contains("expected at least 3"), "{seen:#}");
    assert!(told(&seen["nodata"], "message").contains("exists and has no A record"), "{seen:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_disagree_are_a_warning_and_one_that_answers_is_enough() {
    let server = Dns::start(zone()).await;
    let other = Dns::start(Zone::new([dns::address("db.test", "10.9.9.9")])).await;
    let hung = Dns::start(zone()).await;
    hung.hang().await;
    let failing = FailingDns::start(Rcode::ServFail).await;
    let (one, two) = (server.address(), other.address());
    let seen = check([
        asking("disagree", &[one, two], "db.test", json!({})),
        asking("failing", &[failing.address(), one], "db.test", json!({})),
        asking("silent", &[one, hung.address()], "db.test", json!({})),
        asking("unknown-to-one", &[one, two], "six.test", json!({"record": "AAAA"})),
    ])
    .await;
    for (name, warning) in [
        ("disagree", format!("{two} answers otherwise: 10.9.9.9")),
        ("failing", format!("{}: the name server answered", failing.address())),
        ("silent", format!("{}: no answer for db.test", hung.address())),
        ("unknown-to-one", format!("{two}: six.test does not exist")),
    ] {
        assert_eq!(
            (failure(&seen[name]), &seen[name]["status"]),
            (WELL, &json!("degraded")),
            "{name}: {seen:#}"
        );
        let told = seen[name]["warnings"][0].as_str().unwrap_or_default();
        assert!(told.contains(&warning), "{name}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_sees_a_record_change_and_a_server_hang_and_wake() {
    let mut server = Dns::start(zone()).await;
    let more = json!({"impact": "degraded", "expect": {"addresses": ["10.0.0.0/8"]}});
    let config = Config::quick([asking("agent", &[server.address()], "db.test", more)]);
    let agent = config.agent().await;
    agent.until_dependency("agent", |it| it["status"] == "up", "an answer").await;
    server.replace(Zone::new([dns::address("db.test", "192.0.2.1")])).await;
    let moved = |it: &Value| failure(it)[1] == "dns_unexpected_answer" && it["circuit"]["state"] == "open";
    let seen = agent.until_dependency("agent", moved, "the move").await;
    assert!(told(&seen, "message").contains("192.0.2.1"), "{seen:#}");
    server.replace(zone()).await;
    agent.until_dependency("agent", |it| it["status"] == "up", "the way back").await;
    server.hang().await;
    agent.until_dependency("agent", |it| failure(it)[1] == "dns_timeout", "a timeout").await;
    server.wake();
    agent.until_dependency("agent", |it| it["status"] == "up", "the answers again").await;
}
