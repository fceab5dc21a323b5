//! Name servers here say what the tests want; all of them are on loopback, and so is what they answer with.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, CNAME, TXT};
use hickory_resolver::proto::rr::{Name, RData, Record};
use tokio::net::UdpSocket;

use super::super::super::test_support;
use super::*;
use crate::health::Kind;
use crate::net::resolve::Settings;

/// What a server has for a name; of other names it says that they do not exist.
#[derive(Clone)]
enum Has {
    Address([u8; 4]),
    Alias(&'static str, [u8; 4]),
    Text(&'static str),
    /// One address after the other.
    Turns(Arc<std::sync::atomic::AtomicU8>),
    Nothing,
    Error(ResponseCode),
}

/// A server and what it has, which a test may change.
struct Server {
    address: SocketAddr,
    zone: Arc<Mutex<HashMap<String, Has>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(zone: &[(&str, Has)]) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        let zone = zone.iter().map(|(name, has)| (format!("{name}."), has.clone())).collect();
        let server = Self { address, zone: Arc::new(Mutex::new(zone)), asked: Arc::default() };
        let (zone, asked) = (Arc::clone(&server.zone), Arc::clone(&server.asked));
        tokio::spawn(async move {
            let mut buffer = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let question = Message::from_vec(&buffer[..length]).unwrap();
                let has = zone.lock().unwrap().get(&question.queries[0].name().to_string()).cloned();
                asked.lock().unwrap().push(question.queries[0].name().to_string());
                let _ = socket.send_to(&answer(&question, has).to_vec().unwrap(), from).await;
            }
        });
        server
    }

    fn now_has(&self, name: &str, has: Has) {
        self.zone.lock().unwrap().insert(format!("{name}."), has);
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

fn answer(question: &Message, has: Option<Has>) -> Message {
    let query = question.queries[0].clone();
    let mut answer = Message::response(question.metadata.id, OpCode::Query);
    answer.queries.push(query.clone());
    let name = query.name().clone();
    let mut add = |name: &Name, ttl, data| answer.answers.push(Record::from_rdata(name.clone(), ttl, data));
    let address = |bytes: [u8; 4]| RData::A(A::from(Ipv4Addr::from(bytes)));
    match (has, query.query_type()) {
        (Some(Has::Address(bytes)), rr::RecordType::A) => add(&name, 5, address(bytes)),
        (Some(Has::Alias(target, bytes)), rr::RecordType::A) => {
            let target = Name::from_utf8(target).unwrap();
            add(&name, 60, RData::CNAME(CNAME(target.clone())));
            add(&target, 30, address(bytes));
        }
        (Some(Has::Turns(turn)), rr::RecordType::A) => {
            let turn = turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            add(&name, 5, address([127, 0, 0, 1 + turn % 2]));
        }
        (Some(Has::Text(text)), rr::RecordType::TXT) => {
            add(&name, 5, RData::TXT(TXT::new(vec![text.to_owned()])));
        }
        (Some(Has::Error(code)), _) => answer.metadata.response_code = code,
        (Some(_), _) => {}
        (None, _) => answer.metadata.response_code = ResponseCode::NXDomain,
    }
    answer
}

fn network(servers: &[&Server], packets: u32) -> Network {
    let nameservers = servers.iter().map(|server| server.address).collect();
    Network::new(Settings { nameservers, packets_per_second: NonZeroU32::new(packets).unwrap() })
}

fn subject(host: &str, others: &[&str]) -> Subject {
    let other_hosts = others.iter().map(|it| (*it).to_owned()).collect();
    Subject { other_hosts, ..test_support::subject(Kind::Postgres, host, 5432) }
}

fn long() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

/// What each server said: addresses, or the code or kind of its failure.
fn said(names: &Names) -> Vec<String> {
    said_by(&names.by_server)
}

fn said_by(servers: &[ServerAnswer]) -> Vec<String> {
    let text = |said: &ServerAnswer| match &said.answer {
        Ok(answer) => answer.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        Err(failure) => failure.code.clone().unwrap_or_else(|| failure.kind.to_string()),
    };
    servers.iter().map(text).collect()
}

#[tokio::test]
async fn a_name_is_told_with_its_aliases_and_each_servers_answer() {
    let zone = [("db.test", Has::Alias("real.test.", [127, 0, 0, 1]))];
    let (one, two) = (Server::start(&zone).await, Server::start(&zone).await);
    let network = network(&[&one, &two], 50);
    let names = look(&network, &subject("db.test", &[]), long()).await;
    let answer = names.answer.as_ref().unwrap();
    assert_eq!(answer.addresses, [IpAddr::from([127, 0, 0, 1])]);
    assert_eq!(
        (answer.aliases.as_slice(), answer.ttl_seconds),
        (["real.test".to_owned()].as_slice(), Some(30))
    );
    assert_eq!((answer.found_as.as_str(), answer.from_hosts_file), ("db.test", false));
    assert!(answer.records.is_empty());
    assert_eq!(said(&names), ["127.0.0.1", "127.0.0.1"]);
    assert_eq!(names.resolver.servers, [one.address, two.address]);
    assert_eq!(names.resolver.from, "resolver.nameservers");
    assert!(names.near.is_empty() && names.nearest_ancestor.is_none() && names.later.is_none());
    // Two questions by both, and two to each.
    assert!(one.asked() + two.asked() <= 8, "{} {}", one.asked(), two.asked());
}

#[tokio::test]
async fn servers_that_disagree_are_told_one_by_one() {
    let one = Server::start(&[("db.test", Has::Address([127, 0, 0, 1]))]).await;
    let two = Server::start(&[("db.test", Has::Address([127, 0, 0, 2]))]).await;
    let three = Server::start(&[("db.test", Has::Error(ResponseCode::Refused))]).await;
    let network = network(&[&one, &two, &three], 50);
    let names = look(&network, &subject("db.test", &[]), long()).await;
    assert_eq!(said(&names), ["127.0.0.1", "127.0.0.2", "REFUSED"]);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_as_such_and_keeps_nobody_waiting() {
    let one = Server::start(&[("db.test", Has::Address([127, 0, 0, 1]))]).await;
    let gone = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    let packets_per_second = NonZeroU32::new(50).unwrap();
    let network = Network::new(Settings { nameservers: vec![one.address, gone], packets_per_second });
    let names = look(&network, &subject("db.test", &[]), long()).await;
    assert!(names.answer.is_ok());
    assert_eq!(said(&names), ["127.0.0.1", "ECONNREFUSED"]);
}

/// The clock is paused: it jumps to whatever is waited for.
#[tokio::test(start_paused = true)]
async fn silence_takes_its_time_and_no_more() {
    let mute = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let nameservers = vec![mute.local_addr().unwrap()];
    let packets_per_second = NonZeroU32::new(50).unwrap();
    let network = Network::new(Settings { nameservers, packets_per_second });
    let watch = Stopwatch::start();
    let names = look(&network, &subject("db.test", &[]), long()).await;
    let failure = names.answer.unwrap_err();
    assert_eq!(failure.kind, FailureKind::DnsTimeout);
    assert_eq!(failure.message, "no name server answered for db.test within 4.0s");
    assert_eq!(said_by(&names.by_server), ["dns_timeout"]);
    assert_eq!((names.took.as_millis() / 100, watch.elapsed().as_millis() / 100), (40, 65));

    let watch = Stopwatch::start();
    let names = look(&network, &subject("db.test", &[]), Deadline::after(Duration::from_secs(2))).await;
    assert!(names.answer.is_err() && names.by_server.len() == 1);
    assert_eq!(watch.elapsed().as_millis() / 100, 20);
    let names = look(&network, &subject("db.test", &[]), Deadline::after(Duration::ZERO)).await;
    assert!(names.answer.is_err() && names.by_server.is_empty());
}

#[tokio::test]
async fn around_a_missing_name_its_ancestor_and_near_names_are_found() {
    let zone = [
        ("corp.test", Has::Nothing),
        ("cache.corp.test", Has::Address([127, 0, 0, 1])),
        ("postgres.corp.test", Has::Address([127, 0, 0, 1])),
    ];
    let server = Server::start(&zone).await;
    let network = network(&[&server], 50);
    let others = ["cache.corp.test", "postgres.corp.test", "127.0.0.1"];
    let names = look(&network, &subject("postgers.corp.test", &others), long()).await;
    assert_eq!(names.answer.unwrap_err().code.as_deref(), Some("NXDOMAIN"));
    assert_eq!(names.nearest_ancestor.as_deref(), Some("corp.test"));
    assert_eq!(names.near, ["postgres.corp.test"]);
    assert!(server.asked() <= 16, "{}", server.asked());
}

#[tokio::test]
async fn a_name_without_an_address_is_no_missing_one() {
    let server =
        Server::start(&[("db.test", Has::Nothing), ("dbs.test", Has::Address([127, 0, 0, 1]))]).await;
    let names = look(&network(&[&server], 50), &subject("db.test", &["dbs.test"]), long()).await;
    assert_eq!(names.answer.unwrap_err().code.as_deref(), Some("NODATA"));
    assert!(names.near.is_empty() && names.nearest_ancestor.is_none());
}

#[tokio::test]
async fn what_leads_elsewhere_later_is_told_and_nothing_else() {
    let server = Server::start(&[("db.test", Has::Address([127, 0, 0, 1]))]).await;
    let (network, subject) = (network(&[&server], 100), subject("db.test", &[]));
    let names = look(&network, &subject, long()).await;
    assert!(look_again(&network, &subject, &names, long()).await.is_none());
    server.now_has("db.test", Has::Address([127, 0, 0, 2]));
    let later = look_again(&network, &subject, &names, long()).await.unwrap();
    assert_eq!(later.answer.unwrap().addresses, [IpAddr::from([127, 0, 0, 2])]);
    assert!(!later.takes_turns);
    server.now_has("db.test", Has::Error(ResponseCode::ServFail));
    assert!(look_again(&network, &subject, &names, long()).await.unwrap().answer.is_err());
}

#[tokio::test]
async fn a_third_answer_tells_turns_from_a_move() {
    let server = Server::start(&[("db.test", Has::Turns(Arc::default()))]).await;
    let (network, subject) = (network(&[&server], 100), subject("db.test", &[]));
    let mut names = look(&network, &subject, long()).await;
    // Whichever it was.
    names.answer.as_mut().unwrap().addresses = vec![[127, 0, 0, 1].into()];
    let mut seen = look_again(&network, &subject, &names, long()).await;
    if seen.is_none() {
        // It was the turn of the same.
        seen = look_again(&network, &subject, &names, long()).await;
    }
    assert!(seen.unwrap().takes_turns);
}

#[tokio::test]
async fn a_server_that_refuses_is_asked_for_another_name() {
    let zone = [("db.test", Has::Error(ResponseCode::Refused)), ("api.corp", Has::Address([127, 0, 0, 1]))];
    let server = Server::start(&zone).await;
    let network = network(&[&server], 100);
    let refused =
        async |others: &[&str]| look(&network, &subject("db.test", others), long()).await.refused_too;
    assert_eq!(refused(&[]).await, None);
    assert_eq!(refused(&["cache.test", "api.corp"]).await, Some(("api.corp".to_owned(), false)));
    server.now_has("api.corp", Has::Error(ResponseCode::Refused));
    assert_eq!(refused(&["cache.test", "api.corp"]).await, Some(("api.corp".to_owned(), true)));
}

#[tokio::test]
async fn beside_checks_little_is_asked_and_nothing_is_waited_for() {
    let server = Server::start(&[("corp.test", Has::Nothing)]).await;
    let all = network(&[&server], 50);
    let spare = all.in_spare_room();
    let others: Vec<String> = ('a'..='z').map(|x| format!("warehouse{x}.corp.test")).collect();
    let others: Vec<&str> = others.iter().map(String::as_str).collect();
    let missing = subject("warehouse.corp.test", &others);
    let names = look(&spare, &missing, long()).await;
    assert_eq!(names.answer.unwrap_err().code.as_deref(), Some("NXDOMAIN"));
    // And that the ancestor is no alias.
    assert!(server.asked() <= 4 + SPARING.0 + SPARING.1 + 1, "{}", server.asked());

    // Half of what may be sent is gone: the rest is for checks.
    let watch = Stopwatch::start();
    while let Ok(_) | Err(Failure { kind: FailureKind::DnsNotFound, .. }) =
        spare.resolver().alone(server.address).addresses("x.test", long()).await
    {}
    let names = look(&spare, &missing, long()).await;
    assert!(watch.elapsed() < WAITED);
    let failure = names.answer.unwrap_err();
    assert!(was_not_asked(&failure) && failure.message.contains("a diagnosis may take"), "{failure}");
    assert!(names.by_server.iter().all(|said| was_not_asked(said.answer.as_ref().unwrap_err())));
    assert_eq!(all.resolver().addresses("y.test").await.unwrap_err().kind, FailureKind::DnsNotFound);
}

/// In that time the budget has room again.
const WAITED: Duration = Duration::from_millis(900);

#[tokio::test]
async fn kind_dns_is_asked_for_its_record_and_by_its_servers() {
    let one = Server::start(&[("db.test", Has::Text("first"))]).await;
    let two = Server::start(&[("db.test", Has::Text("second"))]).await;
    let other = Server::start(&[]).await;
    let nameservers = [&one, &two].map(|server| Nameserver::At(server.address)).to_vec();
    let subject =
        Subject { kind: Kind::Dns, record: Some(RecordType::Txt), nameservers, ..subject("db.test", &[]) };
    let network = network(&[&other], 50);
    let names = look(&network, &subject, long()).await;
    assert_eq!(names.answer.as_ref().unwrap().records, ["first"]);
    assert_eq!(names.by_server[1].answer.as_ref().unwrap().records, ["second"]);
    assert_eq!((names.resolver.servers.len(), other.asked()), (2, 0));
    one.now_has("db.test", Has::Text("third"));
    assert!(look_again(&network, &subject, &names, long()).await.is_none());
}

#[tokio::test]
async fn what_stands_in_the_hosts_file_is_asked_of_nobody() {
    let server = Server::start(&[]).await;
    let names = look(&network(&[&server], 50), &subject("localhost", &[]), long()).await;
    let answer = names.answer.as_ref().unwrap();
    assert!(answer.from_hosts_file && answer.addresses.contains(&IpAddr::from([127, 0, 0, 1])), "{answer:?}");
    assert_eq!((names.by_server.len(), server.asked()), (0, 0));
}

#[test]
fn ancestors_are_those_above_the_name() {
    let of = |name| ancestors(name).collect::<Vec<_>>();
    assert_eq!(of("a.b.c"), ["b.c", "c"]);
    assert_eq!(of("a.b."), ["b"]);
    assert!(of("a").is_empty() && of("").is_empty());
    assert_eq!(of("a.b.c.d.e.f.g").len(), ANCESTORS_MAX);
}
