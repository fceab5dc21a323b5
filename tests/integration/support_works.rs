//! The support itself: each server starts, answers, stops, hangs, wakes, and is gone when dropped.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::certs::certs;
use crate::support::client;
use crate::support::dns::{self, Dns, FailingDns, Rcode, Record, Zone};
use crate::support::http::{Answer, HttpServer};
use crate::support::postgres::{self, Postgres, PostgresOptions, PostgresTls};
use crate::support::process::is_alive;
use crate::support::redis::{Redis, RedisOptions};
use crate::support::wait::eventually;
use crate::support::{scratch, tcp};

/// Long enough for an answer on this machine, short enough to wait for one that must not come.
const MOMENT: Duration = Duration::from_millis(500);

async fn connect(port: u16) -> std::io::Result<TcpStream> {
    TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).await
}

/// A client that says who it is by TCP, as the program under test does.
async fn login(server: &Postgres, password: &str) -> Result<tokio_postgres::Client, String> {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(server.port()).user(postgres::USER).password(password);
    config.dbname(postgres::DATABASE).application_name("login");
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.map_err(code)?;
    tokio::spawn(connection);
    client.simple_query("SELECT 1").await.map_err(code)?;
    Ok(client)
}

fn code(error: tokio_postgres::Error) -> String {
    error.code().map_or_else(|| error.to_string(), |code| code.code().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_answers_stops_starts_again_and_keeps_its_data() {
    let mut server = Postgres::start(PostgresOptions::default()).await;
    let client = login(&server, server.password()).await.expect("the password is right");
    assert_eq!(login(&server, "wrong").await.err().as_deref(), Some("28P01"));
    assert_eq!(server.connections_of("login").await, 1);
    assert_eq!(server.connections_of("nobody").await, 0);
    drop(client);
    server.sql("CREATE TABLE kept AS SELECT 42 AS answer").await;

    server.stop().await;
    let refused = connect(server.port()).await.expect_err("it is stopped");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);

    server.restart().await;
    assert_eq!(server.sql("SELECT answer FROM kept").await, [["42"]]);
    assert!(server.log().contains("shut down"), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_hangs_and_wakes() {
    let server = Postgres::start(PostgresOptions::default()).await;
    server.hang().await;
    let mut stream = connect(server.port()).await.expect("the kernel accepts for it");
    // An SSLRequest: a server that lives answers it with one byte.
    stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).await.expect("the kernel takes it");
    assert!(timeout(MOMENT, stream.read_u8()).await.is_err(), "it hangs");
    server.wake();
    assert_eq!(stream.read_u8().await.expect("an answer"), b'N');
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_speaks_tls_and_can_insist_on_it() {
    let tls = PostgresTls::Required(certs().good.clone());
    let conf = vec!["max_connections = 7".to_owned()];
    let hba = vec!["host all intruder all reject".to_owned()];
    let server = Postgres::start(PostgresOptions { tls, hba, conf }).await;
    let mut stream = connect(server.port()).await.expect("it listens");
    stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).await.expect("an SSLRequest");
    assert_eq!(stream.read_u8().await.expect("an answer"), b'S');
    let stream = tls_client().connect("localhost", stream).await.expect("a certificate that is good");
    drop(stream);
    assert_eq!(login(&server, server.password()).await.err().as_deref(), Some("28000"), "no TLS, no entry");
    assert_eq!(server.sql("SHOW max_connections").await, [["7"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_answers_stops_hangs_and_wakes() {
    let mut server = Redis::start(RedisOptions::default()).await;
    assert_eq!(server.command(&["PING"]).await, redis::Value::SimpleString("PONG".to_owned()));
    server.stop().await;
    assert!(connect(server.port()).await.is_err());
    server.restart().await;

    server.hang().await;
    let mut stream = connect(server.port()).await.expect("the kernel accepts for it");
    stream.write_all(b"PING\r\n").await.expect("the kernel takes it");
    assert!(timeout(MOMENT, stream.read_u8()).await.is_err(), "it hangs");
    server.wake();
    assert_eq!(stream.read_u8().await.expect("an answer"), b'+');
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_wants_a_password_knows_users_and_speaks_tls() {
    let ask = async |server: &Redis, words: &str| {
        let mut stream = connect(server.port()).await.expect("it listens");
        stream.write_all(words.as_bytes()).await.expect("it reads");
        let mut answer = vec![0; 256];
        let length = stream.read(&mut answer).await.expect("an answer");
        String::from_utf8_lossy(&answer[..length]).into_owned()
    };
    let password = Some("hunter2".to_owned());
    let server = Redis::start(RedisOptions { password: password.clone(), ..Default::default() }).await;
    assert!(ask(&server, "PING\r\n").await.starts_with("-NOAUTH"));
    assert!(ask(&server, "AUTH hunter2\r\n").await.starts_with("+OK"));

    let users = vec!["app on >secret ~* +ping".to_owned()];
    let tls = Some(certs().good.clone());
    let server = Redis::start(RedisOptions { password, users, tls, ..Default::default() }).await;
    assert!(ask(&server, "AUTH app wrong\r\n").await.starts_with("-WRONGPASS"));
    assert!(ask(&server, "AUTH app secret\r\nINFO\r\n").await.contains("-NOPERM"));
    let stream = connect(server.tls_port()).await.expect("it listens");
    let mut stream = tls_client().connect("localhost", stream).await.expect("TLS");
    stream.write_all(b"AUTH app secret\r\n").await.expect("it reads");
    assert_eq!(stream.read_u8().await.expect("an answer"), b'+');
}

#[tokio::test(flavor = "multi_thread")]
async fn dns_answers_its_records_and_fails_as_it_should() {
    const A: u16 = 1;
    const TXT: u16 = 16;
    const AAAA: u16 = 28;
    const SRV: u16 = 33;
    let records = [
        dns::address("db.test", "127.0.0.1"),
        dns::address("db.test", "127.0.0.2"),
        dns::address("six.test", "::1"),
        dns::cname("alias.test", "db.test"),
        Record::Srv("_pg._tcp.db.test".into(), "db.test".into(), 5432, 1, 2),
        Record::Txt("db.test".into(), "it is me".into()),
    ];
    let mut server = Dns::start(Zone::new(records)).await;
    let at = server.address();
    let ask =
        async |name: &str, kind: u16| Summary::of(&dns::query(at, name, kind).await.expect("an answer"));
    let good = |answers| Summary { rcode: 0, answers };
    assert_eq!(ask("db.test", A).await, good(2));
    assert_eq!(ask("six.test", AAAA).await, good(1));
    assert_eq!(ask("six.test", A).await, good(0), "no data");
    assert_eq!(ask("alias.test", A).await, good(3), "the alias and its addresses");
    assert_eq!(ask("_pg._tcp.db.test", SRV).await, good(1));
    assert_eq!(ask("db.test", TXT).await, good(1));
    assert_eq!(ask("nobody.test", A).await, Summary { rcode: 3, answers: 0 }, "NXDOMAIN");
    assert_eq!(ask("example.org", A).await, Summary { rcode: 5, answers: 0 }, "REFUSED");
    assert_eq!(server.queries_for("alias.test"), 1, "{}", server.log());

    server.replace(Zone { records: vec![dns::address("db.test", "127.0.0.3")], ttl: 77 }).await;
    let answer = dns::query(at, "db.test", A).await.expect("an answer");
    assert_eq!(answer[answer.len() - 4..], [127, 0, 0, 3], "the new address");
    assert_eq!(answer[answer.len() - 10..answer.len() - 6], [0, 0, 0, 77], "the new time to live");

    server.hang().await;
    assert!(dns::query(at, "db.test", A).await.is_err(), "it hangs");
    server.wake();
    assert!(dns::query(at, "db.test", A).await.is_ok());

    let failing = FailingDns::start(Rcode::ServFail).await;
    let answer = dns::query(failing.address(), "db.test", A).await.expect("an answer");
    assert_eq!(Summary::of(&answer), Summary { rcode: 2, answers: 0 });
}

/// RFC 1035, 4.1.1: the code is in the fourth byte, the number of answers in the seventh and eighth.
#[derive(Debug, PartialEq)]
struct Summary {
    rcode: u8,
    answers: u16,
}

impl Summary {
    fn of(message: &[u8]) -> Self {
        Self { rcode: message[3] & 15, answers: u16::from_be_bytes([message[6], message[7]]) }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_peers_misbehave_as_promised() {
    let refused = connect(tcp::refused_port()).await.expect_err("nobody listens");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);

    let silent = tcp::silent();
    assert!(timeout(MOMENT, TcpStream::connect(silent.address())).await.is_err(), "no answer to the SYN");

    let mute = tcp::mute().await;
    let mut stream = TcpStream::connect(mute.address()).await.expect("it accepts");
    stream.write_all(b"hello").await.expect("it takes that");
    assert!(timeout(MOMENT, stream.read_u8()).await.is_err(), "not a word");
    assert_eq!(mute.until_accepted(1).await, 1);

    let garbage = tcp::garbage(b"!\0?").await;
    let mut stream = TcpStream::connect(garbage.address()).await.expect("it accepts");
    stream.write_all(b"hello").await.expect("it takes that");
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.expect("a clean end");
    assert_eq!(all, b"!\0?");

    let reset = tcp::reset_after_request().await;
    let mut stream = TcpStream::connect(reset.address()).await.expect("it accepts");
    stream.write_all(b"hello").await.expect("it takes that");
    let error = stream.read_u8().await.expect_err("a reset");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);

    let reset = tcp::reset().await;
    // The reset may come before the client has looked at its new connection, or after.
    let connected = TcpStream::connect(reset.address()).await;
    let error = match connected {
        Ok(mut stream) => stream.read_u8().await.expect_err("a reset"),
        Err(error) => error,
    };
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test(flavor = "multi_thread")]
async fn http_answers_as_told() {
    let server = HttpServer::start(Answer::status(200).body("fine")).await;
    server.answer_at("/moved", Answer::status(302).header("location", "/elsewhere"));
    let answer = client::get(server.address(), "/?q=1").await.expect("an answer");
    assert_eq!((answer.status, answer.body.as_str()), (200, "fine"));
    let answer = client::get(server.address(), "/moved").await.expect("an answer");
    assert_eq!((answer.status, answer.header("location")), (302, "/elsewhere"));
    server.answer(Answer::status(503).after(MOMENT));
    let answer = client::get(server.address(), "/").await.expect("an answer");
    assert!(answer.status == 503 && answer.took >= MOMENT, "{answer:?}");
    server.answer(Answer::never());
    assert!(timeout(MOMENT, client::get(server.address(), "/")).await.is_err(), "it hangs");
    let paths: Vec<_> = server.seen().into_iter().map(|request| request.path).collect();
    assert_eq!(paths, ["/?q=1", "/moved", "/", "/"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_what_they_are_called() {
    let certs = certs();
    let expectations = [
        (&certs.good, None),
        (&certs.expired, Some("expired")),
        (&certs.other_name, Some("mismatch")),
        (&certs.stranger, Some("issuer")),
    ];
    for (pair, complaint) in expectations {
        let server = HttpServer::start_tls(Answer::status(200), pair).await;
        let stream = TcpStream::connect(server.address()).await.expect("it accepts");
        match (tls_client().connect("localhost", stream).await, complaint) {
            (Ok(_), None) => {}
            (Err(error), Some(complaint)) => assert!(error.to_string().contains(complaint), "{error}"),
            (result, expected) => panic!("{pair:?}: expected {expected:?}, got {result:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dropped_is_gone_even_where_it_hung() {
    let server = Postgres::start(PostgresOptions::default()).await;
    let redis = Redis::start(RedisOptions::default()).await;
    server.hang().await;
    redis.hang().await;
    let (folder, pids) = (server.folder().to_owned(), server.pids());
    assert!(pids.len() > 1, "the server and its children");
    let redis_port = redis.port();
    drop((server, redis));
    assert!(!folder.exists());
    assert!(pids.iter().all(|pid| !is_alive(*pid)));
    assert!(connect(redis_port).await.is_err());
}

/// Set in the process that the next test starts in order to kill it.
const VICTIM: &str = "SICKBAY_TEST_VICTIM";

#[tokio::test(flavor = "multi_thread")]
async fn a_test_process_that_is_killed_leaves_nothing_behind() {
    if std::env::var_os(VICTIM).is_some() {
        let server = Postgres::start(PostgresOptions::default()).await;
        server.hang().await;
        let pids: Vec<_> = server.pids().iter().map(ToString::to_string).collect();
        println!("victim: {} {}", scratch::root().display(), pids.join(" "));
        return std::future::pending().await;
    }
    let mut command = tokio::process::Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "--nocapture"]).env(VICTIM, "1").kill_on_drop(true);
    command.arg("support_works::a_test_process_that_is_killed_leaves_nothing_behind");
    let mut victim = command.stdout(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(victim.stdout.take().expect("a pipe")).lines();
    let mut told = None;
    while told.is_none() {
        let line = lines.next_line().await.expect("text").expect("it tells before it ends");
        // The test's own name may stand before it on the line.
        told = line.split_once("victim: ").map(|(_, told)| told.to_owned());
    }
    let told = told.expect("what the loop waited for");
    let (root, pids) = told.split_once(' ').expect("a folder and processes");
    let pids: Vec<u32> = pids.split(' ').map(|pid| pid.parse().expect("a number")).collect();
    assert!(pids.iter().all(|pid| is_alive(*pid)), "{pids:?}");

    victim.kill().await.expect("SIGKILL");
    eventually("the reaper to have done its work", || {
        let alive: Vec<_> = pids.iter().filter(|pid| is_alive(**pid)).collect();
        let folder = Path::new(root).exists();
        let left = format!("alive: {alive:?}, folder there: {folder}");
        std::future::ready(if alive.is_empty() && !folder { Ok(()) } else { Err(left) })
    })
    .await;
}

fn tls_client() -> tokio_native_tls::TlsConnector {
    let ca = std::fs::read(&certs().ca).expect("the authority");
    let ca = native_tls::Certificate::from_pem(&ca).expect("PEM");
    native_tls::TlsConnector::builder().add_root_certificate(ca).build().expect("TLS").into()
}
