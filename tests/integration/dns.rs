//! DNS: records of each type, names that do not exist, and servers that fail, are silent or disagree.

use std::net::{Ipv4Addr, SocketAddr};

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::{Name, Record as Answer};
use serde_json::{Value, json};
use tokio::net::UdpSocket;

use crate::support::config::{Config, WELL, check, failure, impatient, on, phases, told};
use crate::support::dns::{self, Asked, Dns, FailingDns, Rcode, Record, ScriptedDns, Zone};

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
    if ["silent", "nobody", "agent"].contains(&name) || name.starts_with("silent-") {
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

/// What a server makes of a question that has no room for its answer in a packet.
fn cut(asked: &Asked) -> Message {
    let mut answer = asked.answer([]);
    answer.metadata.truncation = true;
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_room_in_a_packet_comes_over_tcp() {
    let forty: Vec<_> = (1..=40).map(|n| dns::address("many.test", &format!("192.0.2.{n}"))).collect();
    let real = Dns::start(Zone::new(forty)).await;
    let enormous = |asked: &Asked| match asked.tcp {
        true => asked.answer((0..2_000_u32).map(|n| dns::data(&Ipv4Addr::from(0xc000_0200 + n).to_string()))),
        false => cut(asked),
    };
    let enormous = ScriptedDns::start(move |asked| Some(enormous(asked))).await;
    let wordy = ScriptedDns::start(|asked| match asked.tcp {
        true => Some(asked.answer([dns::text(&"x".repeat(60_000))])),
        false => Some(cut(asked)),
    })
    .await;
    let mute = ScriptedDns::start(|asked| (!asked.tcp).then(|| cut(asked))).await;
    let seen = check([
        asking("real", &[real.address()], "many.test", json!({"expect": {"min": 40}})),
        asking("enormous", &[enormous.address()], "db.test", json!({})),
        asking("wordy", &[wordy.address()], "db.test", json!({"record": "TXT"})),
        asking("mute", &[mute.address()], "db.test", json!({"timeout": "20s"})),
    ])
    .await;
    for (name, told, last) in
        [("real", 40, "192.0.2."), ("enormous", 51, "and 1950 more"), ("wordy", 1, "xxx")]
    {
        assert_eq!(failure(&seen[name]), WELL, "{name}: {:#}", seen[name]);
        let records = seen[name]["details"]["records"].as_array().cloned().unwrap_or_default();
        assert_eq!(records.len(), told, "{name}");
        let shown = records.last().and_then(Value::as_str).unwrap_or_default();
        assert!(shown.starts_with(last) && shown.chars().count() <= 1_001, "{name}: {shown}");
    }
    assert_eq!(failure(&seen["mute"])[1], "dns_timeout");
    assert!(
        told(&seen["mute"], "message").contains("too long for UDP"),
        "{}",
        told(&seen["mute"], "message")
    );
    assert!(told(&seen["mute"], "hint").contains("allow TCP"), "{}", told(&seen["mute"], "hint"));
}

#[tokio::test(flavor = "multi_thread")]
async fn aliases_are_followed_and_one_that_leads_nowhere_is_told() {
    let real = Dns::start(zone()).await;
    let chain = ScriptedDns::start(|asked| {
        let end = Name::from_ascii("writer-2.test.").expect("a name");
        let address = Answer::from_rdata(end, 1, dns::data("192.0.2.7"));
        Some(asked.records([
            dns::alias("db.test.", "cluster.test."),
            dns::alias("cluster.test.", "writer-2.test."),
            address,
        ]))
    })
    .await;
    let dangling = ScriptedDns::start(|asked| {
        let mut answer = match asked.name.as_str() {
            "db.test." => asked.records([dns::alias("db.test.", "gone.test.")]),
            _ => asked.answer([]),
        };
        answer.metadata.response_code = ResponseCode::NXDomain;
        Some(answer)
    })
    .await;
    let circle = ScriptedDns::start(|asked| {
        Some(asked.records([dns::alias("db.test.", "b.test."), dns::alias("b.test.", "db.test.")]))
    })
    .await;
    let endless = ScriptedDns::start(|asked| {
        Some(asked.records([dns::alias(&asked.name, &format!("x{}.test.", asked.earlier))]))
    })
    .await;
    let seen = check([
        asking("real", &[real.address()], "alias.test", json!({})),
        asking("chain", &[chain.address()], "db.test", json!({})),
        asking("dangling", &[dangling.address()], "db.test", json!({})),
        asking("circle", &[circle.address()], "db.test", json!({})),
        asking("endless", &[endless.address()], "db.test", json!({})),
    ])
    .await;
    assert_eq!(seen["real"]["details"]["aliases"], json!(["db.test."]), "{seen:#}");
    let details = &seen["chain"]["details"];
    assert_eq!(details["aliases"], json!(["cluster.test.", "writer-2.test."]), "{details:#}");
    assert_eq!((&details["records"], &details["ttl_seconds"]), (&json!(["192.0.2.7"]), &json!(1)));
    for (name, code, message) in [
        ("dangling", "NXDOMAIN", "db.test is an alias, and where it leads, gone.test., does not exist"),
        ("circle", "NODATA", "db.test is an alias of b.test."),
        ("endless", "NODATA", "db.test is an alias of x"),
    ] {
        assert_eq!(failure(&seen[name]), ["dns", "dns_not_found", code], "{name}: {:#}", seen[name]);
        let told = told(&seen[name], "message");
        assert!(told.contains(message), "{name}: {told}");
    }
    for server in [&circle, &endless] {
        assert!(server.asked().len() <= 10, "{} questions", server.asked().len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_answer_to_the_question_is_taken_for_none() {
    let wrong_id = ScriptedDns::start(|asked| {
        let mut answer = asked.answer([dns::data("192.0.2.66")]);
        answer.metadata.id ^= 1;
        Some(answer)
    })
    .await;
    let other_question = ScriptedDns::start(|asked| {
        let mut answer = asked.answer([dns::data("192.0.2.66")]);
        answer.queries[0].set_name(Name::from_ascii("other.test.").expect("a name"));
        Some(answer)
    })
    .await;
    let other_name = ScriptedDns::start(|asked| {
        let name = Name::from_ascii("other.test.").expect("a name");
        Some(asked.records([Answer::from_rdata(name, 5, dns::data("192.0.2.66"))]))
    })
    .await;
    let beside_it = ScriptedDns::start(|asked| {
        let mut answer = asked.answer([dns::data("192.0.2.66")]);
        answer.additionals = std::mem::take(&mut answer.answers);
        Some(answer)
    })
    .await;
    let garbage = ScriptedDns::raw(|asked| {
        Some([asked.message.metadata.id.to_be_bytes().as_slice(), b"\x81\x80rubbish"].concat())
    })
    .await;
    // Another socket answers, and faster: what it says counts for nothing.
    let stranger = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let asker = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let asked_at = asker.local_addr().expect("its address");
    let both = tokio::spawn(async move {
        let mut message = [0; 512];
        while let Ok((length, client)) = asker.recv_from(&mut message).await {
            let question = Message::from_vec(&message[..length]).expect("a question");
            let asked = Asked {
                name: String::new(),
                record: String::new(),
                tcp: false,
                earlier: 0,
                message: question,
            };
            let forged = asked.answer([dns::data("192.0.2.66")]).to_vec().expect("a message");
            stranger.send_to(&forged, client).expect("sent");
            let honest = asked.answer([dns::data("192.0.2.1")]).to_vec().expect("a message");
            asker.send_to(&honest, client).await.expect("sent");
        }
    });
    let refuses_edns = ScriptedDns::start(|asked| {
        let mut answer = asked.answer([dns::data("192.0.2.1")]);
        if asked.message.edns.is_some() {
            answer.metadata.response_code = ResponseCode::FormErr;
        }
        Some(answer)
    })
    .await;
    let seen = check([
        asking("silent-wrong-id", &[wrong_id.address()], "db.test", json!({"timeout": "2s"})),
        asking("silent-other-question", &[other_question.address()], "db.test", json!({"timeout": "2s"})),
        asking("other-name", &[other_name.address()], "db.test", json!({})),
        asking("beside-it", &[beside_it.address()], "db.test", json!({})),
        asking("garbage", &[garbage.address()], "db.test", json!({})),
        asking("forged", &[asked_at], "db.test", json!({})),
        asking("refuses-edns", &[refuses_edns.address()], "db.test", json!({})),
    ])
    .await;
    both.abort();
    for (name, expected) in [
        ("silent-wrong-id", ["dns", "dns_timeout", "-"]),
        ("silent-other-question", ["dns", "dns_timeout", "-"]),
        ("other-name", ["dns", "dns_not_found", "NODATA"]),
        ("beside-it", ["dns", "dns_not_found", "NODATA"]),
        ("garbage", ["dns", "dns_server_failure", "-"]),
        ("forged", WELL),
        ("refuses-edns", WELL),
    ] {
        assert_eq!(failure(&seen[name]), expected, "{name}: {:#}", seen[name]);
    }
    assert_eq!(seen["forged"]["details"]["records"], json!(["192.0.2.1"]));
    assert!(told(&seen["garbage"], "hint").contains("may be no name server"), "{seen:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_server_has_an_answer_each_is_told_and_missing_is_what_all_call_missing() {
    let missing = Dns::start(zone()).await;
    let (failing, refusing) =
        (FailingDns::start(Rcode::ServFail).await, FailingDns::start(Rcode::Refused).await);
    let (one, two, three) = (missing.address(), failing.address(), refusing.address());
    let other = Dns::start(zone()).await;
    let seen = check([
        asking("all-missing", &[one, other.address()], "nobody.test", json!({})),
        asking("one-missing", &[one, two, three], "nobody.test", json!({})),
        asking("expected-of-each", &[one, other.address()], "db.test", json!({"expect": {"min": 3}})),
    ])
    .await;
    assert_eq!(failure(&seen["all-missing"]), ["dns", "dns_not_found", "NXDOMAIN"], "{seen:#}");
    assert_eq!(failure(&seen["one-missing"]), ["dns", "dns_server_failure", "SERVFAIL"], "{seen:#}");
    let said = told(&seen["one-missing"], "message");
    for part in [format!("{one}: nobody.test does not exist"), format!("{two}: "), format!("{three}: ")] {
        assert!(said.contains(&part), "{part}: {said}");
    }
    assert!(told(&seen["one-missing"], "hint").contains("fail in different ways"), "{seen:#}");
    assert!(!told(&seen["all-missing"], "hint").contains("different"), "{seen:#}");
    assert!(told(&seen["expected-of-each"], "message").starts_with(&one.to_string()), "{seen:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_server_answers_against_expectation_is_a_failure_though_another_answers_well() {
    let good = Dns::start(zone()).await;
    let split = Dns::start(Zone::new([dns::address("db.test", "192.0.2.1")])).await;
    let (one, two) = (good.address(), split.address());
    let inside = json!({"expect": {"addresses": ["10.0.0.0/8"]}});
    let hung = Dns::start(zone()).await;
    hung.hang().await;
    let dead = hung.address();
    let seen = check([
        asking("split", &[one, two], "db.test", inside.clone()),
        asking("silent-too", &[two, dead], "db.test", inside),
    ])
    .await;
    let unexpected = format!("{two}: db.test resolves to 192.0.2.1, which is not in 10.0.0.0/8; ");
    for (name, other) in [
        ("split", format!("{two} answers otherwise: 192.0.2.1; and {one}: 10.0.0.1, 10.0.0.2")),
        ("silent-too", format!("{dead}: no answer for db.test within ")),
    ] {
        assert_eq!(failure(&seen[name]), ["dns", "dns_unexpected_answer", "-"], "{name}: {seen:#}");
        let said = told(&seen[name], "message");
        assert!(said.starts_with(&(unexpected.clone() + &other)), "{name}: {said}");
        let answers = &seen[name]["details"]["by_nameserver"];
        assert_eq!(answers[two.to_string()]["records"], json!(["192.0.2.1"]), "{name}: {seen:#}");
        assert_eq!(answers.as_object().map(|answers| answers.len()), Some(2), "{name}: {seen:#}");
    }
}

/// Gives one of three addresses, another one each time.
async fn in_turns() -> ScriptedDns {
    ScriptedDns::start(|asked| Some(asked.answer([dns::data(&format!("192.0.2.{}", asked.earlier % 3 + 1))])))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_give_one_of_several_addresses_in_turns_agree_and_never_move() {
    let (one, two) = (in_turns().await, in_turns().await);
    let config = Config::quick([asking("turns", &[one.address(), two.address()], "db.test", json!({}))]);
    let agent = config.agent().await;
    let many = |server: &ScriptedDns| server.asked().len() >= 15;
    let settled = |it: &Value| many(&one) && many(&two) && it["status"] == "up";
    let seen = agent.until_dependency("turns", settled, "agreement").await;
    let changes = seen["address_changes"].as_array().cloned().unwrap_or_default();
    assert!(changes.len() <= 6, "{changes:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_addresses_that_came_and_went_are_kept_with_their_time() {
    let mut server = Dns::start(Zone::new([dns::address("db.test", "10.0.0.1")])).await;
    let config = Config::quick([asking("agent", &[server.address()], "db.test", json!({"impact": "none"}))]);
    let agent = config.agent().await;
    agent.until_dependency("agent", |it| it["status"] == "up", "an answer").await;
    server
        .replace(Zone::new([dns::address("db.test", "10.0.0.2"), dns::address("db.test", "10.0.0.3")]))
        .await;
    let two = |it: &Value| it["details"]["records"].as_array().is_some_and(|all| all.len() == 2);
    let seen = agent.until_dependency("agent", two, "two addresses").await;
    let told = |seen: &Value| -> Vec<[Value; 2]> {
        let changes = seen["address_changes"].as_array().cloned().unwrap_or_default();
        assert!(changes.iter().all(|change| change["at"].is_string()), "{changes:#?}");
        changes.iter().map(|change| [change["from"].clone(), change["to"].clone()]).collect()
    };
    let moved = [[json!("10.0.0.1"), json!("10.0.0.2")], [Value::Null, json!("10.0.0.3")]];
    assert_eq!(told(&seen), moved);
    server.replace(Zone::new([dns::address("db.test", "10.0.0.3")])).await;
    let one = |it: &Value| it["details"]["records"].as_array().is_some_and(|all| all.len() == 1);
    let seen = agent.until_dependency("agent", one, "one address").await;
    assert_eq!(told(&seen)[2..], [[json!("10.0.0.2"), Value::Null]]);
}
