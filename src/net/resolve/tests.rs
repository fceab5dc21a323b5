//! A resolver that is down must never look like a name that does not exist: that difference decides whether
//! `/health/alb` keeps a task. The name server here says to each question what the test wants.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA};
use hickory_resolver::proto::rr::{RData, Record};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

use super::*;
use crate::clock::Clock;
use crate::health::Monotonic;

/// What the server says to a question.
#[derive(Debug, Clone, Copy)]
enum Says {
    Address,
    Error(ResponseCode),
    NoData,
    /// More than there is room for in a packet.
    Cut,
    Nothing,
}

const MISSING: Says = Says::Error(ResponseCode::NXDomain);
const SERVFAIL: Says = Says::Error(ResponseCode::ServFail);

type Asked = Arc<Mutex<Vec<String>>>;

/// A server on the loopback interface; it answers by name and type.
async fn server(says: impl Fn(&str, RecordType) -> Says + Send + 'static) -> (SocketAddr, Asked) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    let asked = Asked::default();
    let noted = Arc::clone(&asked);
    tokio::spawn(async move {
        let mut buffer = [0; 1500];
        loop {
            let Ok((length, from)) = socket.recv_from(&mut buffer).await else { return };
            let Ok(question) = Message::from_vec(&buffer[..length]) else { continue };
            let query = question.queries[0].clone();
            let name = query.name().to_string();
            noted.lock().unwrap().push(format!("{name} {}", query.query_type()));
            let mut answer = Message::response(question.metadata.id, OpCode::Query);
            answer.queries.push(query.clone());
            match says(&name, query.query_type()) {
                Says::Nothing => continue,
                Says::NoData => {}
                Says::Cut => answer.metadata.truncation = true,
                Says::Error(code) => answer.metadata.response_code = code,
                Says::Address => {
                    let data = match query.query_type() {
                        RecordType::A => RData::A(A::new(10, 0, 0, 1)),
                        _ => RData::AAAA(AAAA::new(0xfd00, 0, 0, 0, 0, 0, 0, 1)),
                    };
                    answer.answers.push(Record::from_rdata(query.name().clone(), 7, data));
                }
            }
            let _ = socket.send_to(&answer.to_vec().unwrap(), from).await;
        }
    });
    (address, asked)
}

fn budget() -> Arc<Budget> {
    Arc::new(Budget::new(NonZeroU32::MAX))
}

/// Looks a name up as a host would whose resolv.conf has this server and these suffixes.
async fn look_up(name: &str, server: SocketAddr, search: &[&str]) -> Result<Records, Failure> {
    let mut udp = ConnectionConfig::udp();
    udp.port = server.port();
    let servers = vec![NameServerConfig::new(server.ip(), true, vec![udp])];
    let search = search.iter().map(|suffix| Name::from_utf8(suffix).unwrap()).collect();
    let mut options = ResolverOpts::default();
    options.timeout = Duration::from_millis(100);
    let config = ResolverConfig::from_parts(None, search, servers);
    Lookups::new(config, options, budget()).unwrap().addresses(name).await
}

/// What a look-up of `db.corp.example` fails by, with the search list of a VPC.
async fn fails_by(says: impl Fn(&str, RecordType) -> Says + Send + 'static) -> (FailureKind, Option<String>) {
    let (address, _) = server(says).await;
    let failure = look_up("db.corp.example", address, &["ec2.internal."]).await.unwrap_err();
    (failure.kind, failure.code)
}

fn is_wanted(name: &str) -> bool {
    name == "db.corp.example."
}

#[tokio::test]
async fn a_server_failure_is_not_called_missing_because_a_suffix_leads_nowhere() {
    let failed = fails_by(|name, _| if is_wanted(name) { SERVFAIL } else { MISSING }).await;
    assert_eq!(failed, (FailureKind::DnsServerFailure, Some("SERVFAIL".into())));
    let refused = Says::Error(ResponseCode::Refused);
    let failed = fails_by(move |name, _| if is_wanted(name) { refused } else { MISSING }).await;
    assert_eq!(failed, (FailureKind::DnsServerFailure, Some("REFUSED".into())));
}

#[tokio::test]
async fn a_silent_server_is_not_called_missing_because_a_suffix_leads_nowhere() {
    let failed = fails_by(|name, _| if is_wanted(name) { Says::Nothing } else { MISSING }).await;
    assert_eq!(failed.0, FailureKind::DnsTimeout);
}

#[tokio::test]
async fn one_family_that_fails_outweighs_the_other_that_has_no_data() {
    for (bad, good) in [(RecordType::A, RecordType::AAAA), (RecordType::AAAA, RecordType::A)] {
        let failed = fails_by(move |name, kind| match kind {
            kind if is_wanted(name) && kind == bad => SERVFAIL,
            kind if is_wanted(name) && kind == good => Says::NoData,
            _ => MISSING,
        });
        assert_eq!(failed.await.0, FailureKind::DnsServerFailure, "{bad} fails");
        let failed = fails_by(move |name, kind| match kind {
            kind if is_wanted(name) && kind == bad => Says::Nothing,
            kind if is_wanted(name) && kind == good => Says::NoData,
            _ => MISSING,
        });
        assert_eq!(failed.await.0, FailureKind::DnsTimeout, "{bad} is silent");
    }
}

#[tokio::test]
async fn missing_is_what_every_answer_calls_missing() {
    assert_eq!(fails_by(|_, _| MISSING).await, (FailureKind::DnsNotFound, Some("NXDOMAIN".into())));
    let other_records = |name: &str, _| if is_wanted(name) { Says::NoData } else { MISSING };
    assert_eq!(fails_by(other_records).await, (FailureKind::DnsNotFound, Some("NODATA".into())));
}

#[tokio::test]
async fn one_family_is_enough_and_ipv4_comes_first() {
    let (address, _) = server(|_, kind| if kind == RecordType::A { Says::Address } else { SERVFAIL }).await;
    let found = look_up("db.corp.example", address, &[]).await.unwrap();
    assert_eq!((found.data, found.ttl_seconds), (vec!["10.0.0.1".to_owned()], Some(7)));
    let (address, _) = server(|_, _| Says::Address).await;
    let found = look_up("db.corp.example", address, &[]).await.unwrap();
    assert_eq!(found.data, ["10.0.0.1", "fd00::1"]);
}

#[tokio::test]
async fn a_family_that_is_never_answered_does_not_keep_the_other_waiting_for_its_timeouts() {
    for silent in FAMILIES {
        let says = move |_: &str, kind| if kind == silent { Says::Nothing } else { Says::Address };
        let (address, _) = server(says).await;
        let found = look_up("db.corp.example", address, &[]).await.unwrap();
        assert_eq!(found.addresses.len(), 1, "{silent} is silent");
    }
}

#[test]
fn a_name_in_the_hosts_file_and_localhost_are_known_without_dns() {
    let mut hosts = Hosts::default();
    hosts.read_hosts_conf("10.1.2.3 mydb\nfd00::5 mydb\n10.9.9.9 odd.localhost".as_bytes()).unwrap();
    let known = |name| known_here(&hosts, name, &FAMILIES).map(|found| found.data);
    assert_eq!(known("mydb").unwrap(), ["10.1.2.3", "fd00::5"]);
    assert_eq!(known("localhost").unwrap(), ["127.0.0.1", "::1"]);
    assert_eq!(known("odd.localhost").unwrap(), ["10.9.9.9"], "the file has the first word");
    assert_eq!(known("db"), None);
    let v6 = known_here(&hosts, "localhost", &[RecordType::AAAA]).unwrap();
    assert_eq!((v6.data, v6.ttl_seconds), (vec!["::1".to_owned()], None));
    assert!(known_here(&hosts, "localhost", &[RecordType::TXT]).is_none());
}

#[test]
fn the_domain_of_the_host_only_stands_in_for_a_search_list() {
    let suffixes = |search: &[&str]| {
        let names = search.iter().map(|suffix| Name::from_utf8(suffix).unwrap()).collect();
        let domain = Some(Name::from_utf8("host.test.").unwrap());
        let config = ResolverConfig::from_parts(domain, names, Vec::new());
        let search = Lookups::new(config, ResolverOpts::default(), budget()).unwrap().search;
        search.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(suffixes(&["right.test."]), ["right.test."]);
    assert_eq!(suffixes(&[]), ["host.test."]);
}

#[tokio::test]
async fn suffixes_are_tried_in_the_order_of_resolv_conf() {
    let names = |asked: &Asked| {
        let mut names: Vec<String> =
            asked.lock().unwrap().iter().filter_map(|q| q.strip_suffix(" A").map(str::to_owned)).collect();
        names.dedup();
        names
    };
    let (address, asked) = server(|_, _| MISSING).await;
    let _ = look_up("db.corp", address, &["a.", "b."]).await;
    assert_eq!(names(&asked), ["db.corp.", "db.corp.a.", "db.corp.b."], "dots enough: as it is first");
    let (address, asked) = server(|_, _| MISSING).await;
    let _ = look_up("db", address, &["a.", "b."]).await;
    assert_eq!(names(&asked), ["db.a.", "db.b.", "db."], "too few dots: suffixes first");
    let (address, asked) = server(|_, _| MISSING).await;
    let _ = look_up("db.", address, &["a.", "b."]).await;
    assert_eq!(names(&asked), ["db."], "a final dot: as it is and nothing else");
}

/// A server that answers nobody, and when each packet reached it.
fn silent_server() -> (SocketAddr, Arc<Mutex<Vec<Monotonic>>>) {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    let (clock, came) = (Clock::start(), Arc::new(Mutex::new(Vec::new())));
    let noted = Arc::clone(&came);
    // A thread of its own, so that the times are those of the packets. It ends with the process.
    std::thread::spawn(move || {
        while socket.recv_from(&mut [0; 1500]).is_ok() {
            noted.lock().unwrap().push(clock.mono());
        }
    });
    (address, came)
}

#[tokio::test]
async fn sixty_names_and_a_silent_server_take_no_more_packets_than_allowed() {
    const RATE: usize = 10;
    let (address, came) = silent_server();
    let packets_per_second = NonZeroU32::new(RATE as u32).unwrap();
    let resolver = Resolver::system(Settings { nameservers: vec![address], packets_per_second });
    for n in 0..60 {
        let resolver = resolver.clone();
        tokio::spawn(async move {
            loop {
                let _ = resolver.addresses(&format!("name-{n}.test.")).await;
                // As soon as a check that failed is tried again.
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
    }
    while came.lock().unwrap().len() < 4 * RATE {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let came = came.lock().unwrap().clone();
    for (n, first) in came.iter().enumerate() {
        // What was sent within one second may arrive within a little less: one second's worth is allowed for that.
        for seconds in 1..=4 {
            let until = Duration::from_secs(seconds as u64);
            let within = came[n..].iter().take_while(|it| it.since(*first) < until).count();
            assert!(within <= RATE * (seconds + 1), "{within} packets within {seconds} s of packet {n}");
        }
    }
    let stats = resolver.stats();
    assert!(stats.packets as usize >= came.len() && stats.withheld > 0 && stats.waited > 0, "{stats:?}");
}

#[tokio::test]
async fn every_packet_is_counted_and_what_was_withheld_is_told() {
    let (address, came) = silent_server();
    let resolver =
        Resolver::system(Settings { nameservers: vec![address], packets_per_second: NonZeroU32::MIN });
    let failure = resolver.addresses("db.test.").await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::DnsTimeout);
    assert!(failure.message.starts_with("no name server answered for db.test."), "{failure}");
    assert!(failure.message.contains("were not sent, because the 1 DNS packets a second"), "{failure}");
    let came = came.lock().unwrap().len();
    assert_eq!(resolver.stats().packets as usize, came);
}

fn lookups(server: SocketAddr, budget: &Arc<Budget>) -> Arc<Lookups> {
    let mut options = ResolverOpts::default();
    options.timeout = Duration::from_millis(500);
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![name_server(server)]);
    Arc::new(Lookups::new(config, options, Arc::clone(budget)).unwrap())
}

#[tokio::test]
async fn the_cut_answer_for_one_name_is_not_told_of_another_that_gets_none() {
    let budget = Arc::new(Budget::new(NonZeroU32::new(20).unwrap()));
    let others = Arc::clone(&budget);
    let (address, asked) = server(move |name, _| match name {
        "long.test." => {
            others.use_up();
            Says::Cut
        }
        _ => Says::Nothing,
    })
    .await;
    let lookups = lookups(address, &budget);
    let long = tokio::spawn({
        let lookups = Arc::clone(&lookups);
        async move { lookups.records("long.test.", RecordType::A).await }
    });
    let failure = lookups.records("silent.test.", RecordType::A).await.unwrap_err();
    long.abort();
    assert!(asked.lock().unwrap().contains(&"long.test. A".to_owned()));
    assert_eq!(failure.kind, FailureKind::DnsTimeout);
    assert!(failure.message.starts_with("no name server answered for silent.test.; "), "{failure}");
    let withheld = "not sent, because the 20 DNS packets a second that Sickbay allows itself are used up";
    assert!(failure.message.ends_with(withheld), "{failure}");
}

/// A server whose answers fit in no packet: they come over TCP, as many as are asked for over a connection. How
/// many connections there were.
async fn server_by_tcp() -> (SocketAddr, Arc<AtomicU32>) {
    let (address, listener) = loop {
        let (address, _) = server(|_, _| Says::Cut).await;
        // The port may be taken for TCP.
        if let Ok(listener) = TcpListener::bind(address).await {
            break (address, listener);
        }
    };
    let connections = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                while let Ok(length) = stream.read_u16().await {
                    let mut question = vec![0; length.into()];
                    stream.read_exact(&mut question).await.unwrap();
                    let question = Message::from_vec(&question).unwrap();
                    let query = question.queries[0].clone();
                    let mut answer = Message::response(question.metadata.id, OpCode::Query);
                    let data = RData::A(A::new(10, 0, 0, 1));
                    answer.answers.push(Record::from_rdata(query.name().clone(), 7, data));
                    answer.queries.push(query);
                    let answer = answer.to_vec().unwrap();
                    stream.write_u16(answer.len().try_into().unwrap()).await.unwrap();
                    stream.write_all(&answer).await.unwrap();
                }
            });
        }
    });
    (address, connections)
}

/// A look-up over a kept connection of a name whose answer is long, with room for its first packet and no more,
/// until what is given back here is dropped.
async fn without_room_by_tcp()
-> (tokio::task::JoinHandle<Result<Records, Failure>>, Arc<budget::Booking>, Arc<Budget>, Arc<AtomicU32>) {
    let (address, connections) = server_by_tcp().await;
    let budget = Arc::new(Budget::new(NonZeroU32::new(20).unwrap()));
    let lookups = lookups(address, &budget);
    for _ in 0..2 {
        lookups.records("db.test.", RecordType::A).await.unwrap();
    }
    let others = budget.book(19).await.unwrap();
    let asked = tokio::spawn(async move { lookups.records("db.test.", RecordType::A).await });
    (asked, others, budget, connections)
}

#[tokio::test]
async fn a_question_without_room_on_a_kept_connection_waits_for_a_new_one() {
    let (asked, others, budget, connections) = without_room_by_tcp().await;
    assert_eq!(connections.load(Ordering::SeqCst), 1, "it is kept");
    while !budget.is_awaited() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(others);
    assert_eq!(asked.await.unwrap().unwrap().data, ["10.0.0.1"]);
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn packets_used_up_on_a_kept_connection_are_not_told_as_a_port_that_is_closed() {
    let (asked, _others, ..) = without_room_by_tcp().await;
    let failure = asked.await.unwrap().unwrap_err();
    assert_eq!(failure.kind, FailureKind::DnsTimeout);
    let message = "the answer for db.test. is too long for UDP, and was not asked for over TCP: the 20 DNS packets a second that Sickbay allows itself are used up";
    assert_eq!(failure.message, message);
    assert!(failure.hint.contains("packets_per_second"), "{failure:?}");
}

#[test]
fn repetitions_are_counted_as_one_says_it() {
    let lookups = lookups((Ipv4Addr::LOCALHOST, 53).into(), &budget());
    let told = |withheld| {
        let silent = Failure::new(Phase::Dns, FailureKind::DnsTimeout, "silence");
        lookups.with_withheld(silent, withheld).message
    };
    assert_eq!(told(0), "silence");
    assert!(told(1).starts_with("silence; 1 repetition was not sent, because "), "{}", told(1));
    assert!(told(2).starts_with("silence; 2 repetitions were not sent, because "), "{}", told(2));
}
