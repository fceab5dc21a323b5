//! What is gathered, and in which order, from peers that are made for it. What it comes to is the rules' business.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openssl::asn1::Asn1Time;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::ssl::{Ssl, SslContext, SslMethod};
use openssl::x509::{X509, X509Name};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::super::evidence::{Heard, SmallSegments, Speaks, TlsWanted};
use super::super::*;
use super::approach::Approach;
use super::{segments, words};
use crate::clock::Clock;
use crate::health::circuit::Permit;
use crate::health::{Failure, FailureKind, Phase};
use crate::net::tls::inspect::Stay;
use crate::probe;
use crate::probe::check::{self, Loudness};

/// Long enough for a busy machine; nothing waits this long unless broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// A peer that does the same on every connection, and remembers what it was told.
struct Peer {
    address: SocketAddr,
    met: Arc<Met>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Met {
    accepted: AtomicUsize,
    open: AtomicUsize,
    heard: Mutex<Vec<Vec<u8>>>,
}

impl Peer {
    /// `answers` to what it hears; `None`: nothing.
    async fn answering(answers: impl Fn(&Ear) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        let answers = Arc::new(answers);
        Self::start(move |stream, met| {
            let answers = Arc::clone(&answers);
            async move {
                let mss = SockRef::from(&stream).tcp_mss().unwrap();
                converse(stream, mss, &met, &*answers).await;
            }
        })
        .await
    }

    async fn start<F>(then: impl Fn(TcpStream, Arc<Met>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, met) = (listener.local_addr().unwrap(), Arc::new(Met::default()));
        let all = Arc::clone(&met);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                all.accepted.fetch_add(1, Ordering::Relaxed);
                all.open.fetch_add(1, Ordering::Relaxed);
                let (served, met) = (then(stream, Arc::clone(&all)), Arc::clone(&all));
                connections.spawn(async move {
                    served.await;
                    met.open.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        Self { address, met, task }
    }

    fn heard(&self) -> String {
        let heard = self.met.heard.lock().unwrap();
        String::from_utf8_lossy(&heard.concat()).into_owned()
    }

    fn accepted(&self) -> usize {
        self.met.accepted.load(Ordering::Relaxed)
    }

    /// Ends when all connections are closed.
    async fn left_alone(&self) {
        let all_closed = async {
            while self.met.open.load(Ordering::Relaxed) > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, all_closed).await.expect("everybody leaves");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a peer hears.
struct Ear<'a> {
    said: &'a [u8],
    /// Whether the segments of this connection are small.
    small: bool,
}

impl Ear<'_> {
    fn begins(&self, with: &str) -> bool {
        self.said.starts_with(with.as_bytes())
    }
}

async fn converse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    mss: u32,
    met: &Met,
    answers: &(dyn Fn(&Ear) -> Option<Vec<u8>> + Send + Sync),
) {
    let mut buffer = [0; 8_192];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        let said = &buffer[..length];
        met.heard.lock().unwrap().push(said.to_vec());
        if let Some(answer) = answers(&Ear { said, small: mss <= u32::from(segments::SMALL) })
            && stream.write_all(&answer).await.is_err()
        {
            return;
        }
    }
}

/// A peer that speaks TLS and inside of it answers so; `greets`: whether it answers to a handshake.
async fn secured(
    greets: fn(u32) -> bool,
    answers: impl Fn(&Ear) -> Option<Vec<u8>> + Send + Sync + 'static,
) -> Peer {
    let (context, answers) = (Arc::new(context()), Arc::new(answers));
    Peer::start(move |mut stream, met| {
        let (context, answers) = (Arc::clone(&context), Arc::clone(&answers));
        async move {
            let mss = SockRef::from(&stream).tcp_mss().unwrap();
            if !greets(mss) {
                while matches!(stream.read(&mut [0; 4_096]).await, Ok(1..)) {}
                return;
            }
            let ssl = Ssl::new(&context).unwrap();
            let mut session = tokio_openssl::SslStream::new(ssl, stream).unwrap();
            if Pin::new(&mut session).accept().await.is_ok() {
                converse(session, mss, &met, &*answers).await;
            }
        }
    })
    .await
}

/// With a certificate that signed itself and is for nobody.
fn context() -> SslContext {
    let group = openssl::ec::EcGroup::from_curve_name(openssl::nid::Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(openssl::ec::EcKey::generate(&group).unwrap()).unwrap();
    let mut subject = X509Name::builder().unwrap();
    subject.append_entry_by_text("CN", "nobody").unwrap();
    let subject = subject.build();
    let mut certificate = X509::builder().unwrap();
    certificate.set_version(2).unwrap();
    certificate.set_subject_name(&subject).unwrap();
    certificate.set_issuer_name(&subject).unwrap();
    certificate.set_pubkey(&key).unwrap();
    certificate.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    certificate.set_not_after(&Asn1Time::days_from_now(9).unwrap()).unwrap();
    certificate.sign(&key, MessageDigest::sha256()).unwrap();
    let mut context = SslContext::builder(SslMethod::tls_server()).unwrap();
    context.set_certificate(&certificate.build()).unwrap();
    context.set_private_key(&key).unwrap();
    context.build()
}

/// A dependency on a peer: its kind and settings, in which `PORT` stands for the peer's.
fn diagnoser(peer: &Peer, settings: &str, around: Surroundings) -> (Diagnoser, crate::config::Plan) {
    let settings = settings.replace("PORT", &peer.address.port().to_string());
    let file = tempfile::NamedTempFile::new().unwrap();
    let yaml = format!(
        "defaults: {{timeout: 1s, connect_timeout: 1s, retry: {{attempts: 1}}}}\n\
         dependencies: [{{name: x, impact: none, {settings}}}]"
    );
    std::fs::write(file.path(), yaml).unwrap();
    let sources = crate::config::Sources { files: vec![file.path().into()], ..Default::default() };
    let plan = crate::config::load(&sources).unwrap();
    let of_x = plan.dependencies().iter().find(|it| it.policy().name.as_str() == "x").unwrap();
    (Diagnoser::new(of_x, &probe::network(&plan), around).unwrap(), plan)
}

impl Diagnoser {
    /// The evidence of a whole walk, as it may be told.
    async fn seen(&self) -> Evidence {
        self.seen_with(Evidence::nothing_yet(self.subject.clone()), false).await
    }

    /// The evidence that a check is explained with.
    async fn seen_after(&self, check: &Check) -> Evidence {
        let mut evidence = Evidence::nothing_yet(self.subject.clone());
        evidence.attempt = Some(Attempt::of(check));
        self.seen_with(evidence, true).await
    }

    async fn seen_with(&self, evidence: Evidence, explains: bool) -> Evidence {
        let deadline = Deadline::after(PATIENCE);
        let course = Course { diagnoser: self, clock: Clock::start(), deadline, explains };
        let mut tell = |_: &Hop| {};
        let mut report = Report::new(evidence, &self.discretion, &mut tell);
        course.run(&mut report).await;
        hidden::look_through(report.evidence().clone(), &self.discretion)
    }

    /// A check of it.
    async fn check(&self) -> Check {
        let mut probe = probe::build(&self.plan, &self.network).unwrap().unwrap();
        let (id, clock) = (check::new_id(), Clock::start());
        let check =
            check::run(&mut *probe, self.plan.policy(), Permit::Trial, Loudness::Repeats, id, clock).await;
        probe.close().await;
        check
    }
}

fn web(ear: &Ear) -> Option<Vec<u8>> {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let bad = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    Some(if ear.begins("GET ") || ear.begins("HEAD ") { head } else { bad }.into())
}

/// Answers `PING` and `INFO`, to small ones at least.
fn redis(ear: &Ear) -> Option<Vec<u8>> {
    let said = String::from_utf8_lossy(ear.said);
    if ear.said.len() > 200 {
        return ear.small.then(|| b"+PONG\r\n".into());
    }
    let info = "redis_version:7.0.0\r\nrole:master\r\n";
    let mut answer = String::new();
    for command in ["PING", "INFO", "CLIENT", "AUTH"].iter().filter(|command| said.contains(**command)) {
        match *command {
            "PING" => answer.push_str("+PONG\r\n"),
            // Hundreds of lines, in truth.
            "INFO" if ear.small => answer.push_str(&format!("${}\r\n{info}\r\n", info.len())),
            "INFO" => {}
            _ => answer.push_str("+OK\r\n"),
        }
    }
    (!answer.is_empty()).then(|| answer.into())
}

fn said(what: &str) -> Heard {
    Heard::Said(what.to_owned())
}

#[tokio::test]
async fn what_works_is_looked_at_in_few_connections_and_each_hop_is_told() {
    let peer = Peer::answering(web).await;
    let (it, _plan) = diagnoser(&peer, "kind: http, url: 'http://127.0.0.1:PORT/'", Surroundings::default());
    let seen = it.seen().await;
    assert_eq!(seen.attempt.unwrap().result, Ok(()));
    let words = seen.words.unwrap();
    assert_eq!(
        (words.asked, words.heard, words.is),
        (Some(Speaks::Http), said("HTTP/1.1 200 OK"), Some(Speaks::Http))
    );
    assert_eq!((words.others, seen.small_segments, seen.tls.is_none()), (vec![], None, true));
    assert!(!seen.cut_short);
    assert!(peer.accepted() <= 3, "way, words, attempt: {}", peer.accepted());
    let diagnosis = it.diagnose(Clock::start(), Deadline::after(PATIENCE), &mut |_| {}).await;
    assert!(diagnosis.ok && diagnosis.failure_kind.is_none(), "{diagnosis:?}");
    peer.left_alone().await;
}

#[tokio::test]
async fn what_listens_in_the_place_of_a_server_is_found_out() {
    let (web, redis) = (Peer::answering(web).await, Peer::answering(redis).await);
    let greets = Peer::start(|mut stream, _| async move {
        let _ = stream.write_all(b"SSH-2.0-x\r\n").await;
        let _ = stream.read(&mut [0; 64]).await;
    })
    .await;
    let secured = secured(|_| true, self::web).await;
    let postgres = "kind: postgres, host: 127.0.0.1, port: PORT, user: u, database: d";
    let to_redis = "kind: redis, host: 127.0.0.1, port: PORT";
    let to_web = "kind: http, url: 'http://127.0.0.1:PORT/'";
    let to_port = "kind: tcp, host: 127.0.0.1, port: PORT, expect: ready";
    let cases = [
        (postgres, &web, Speaks::Http, 0),
        (postgres, &redis, Speaks::Redis, 2),
        (postgres, &greets, Speaks::Ssh, 0),
        (postgres, &secured, Speaks::Tls, 1),
        (to_redis, &web, Speaks::Http, 0),
        (to_redis, &secured, Speaks::Tls, 2),
        (to_web, &secured, Speaks::Tls, 2),
        (to_port, &redis, Speaks::Redis, 3),
    ];
    let looked_at = cases.map(async |(settings, peer, is, others)| {
        let (it, _plan) = diagnoser(peer, settings, Surroundings::default());
        let seen = it.seen().await;
        assert!(seen.failure().is_some(), "{settings}: {seen:#?}");
        let words = seen.words.expect("words");
        assert_eq!((words.is, words.others.len()), (Some(is), others), "{settings}: {words:?}");
    });
    futures_util::future::join_all(looked_at).await;
    for peer in [&web, &redis, &greets, &secured] {
        assert!(peer.accepted() <= 20, "two or three paths to each: {}", peer.accepted());
    }
    assert!(!redis.heard().contains("HTTP/"), "Redis takes it for an attack: {}", redis.heard());
}

#[tokio::test]
async fn a_port_of_the_command_line_is_held_to_what_its_number_says() {
    let bare = || Surroundings { is_bare: true, ..Surroundings::default() };
    let settings = "kind: tcp, host: 127.0.0.1, port: PORT";
    let (web, mute) = (Peer::answering(web).await, Peer::answering(|_| None).await);
    let cut = Peer::start(|mut stream, _| async move {
        let _ = stream.read(&mut [0; 64]).await;
    })
    .await;
    let seen = async |peer: &Peer, speaks| {
        let (mut it, _plan) = diagnoser(peer, settings, bare());
        assert_eq!((it.subject.dependency.as_deref(), it.subject.speaks), (None, None), "no number is known");
        it.subject.speaks = speaks;
        it.seen().await
    };
    for (peer, speaks, kind) in [
        (&web, Some(Speaks::Http), None),
        (&web, None, None),
        (&web, Some(Speaks::Postgres), Some(FailureKind::Protocol)),
        (&web, Some(Speaks::Redis), Some(FailureKind::Protocol)),
        (&mute, Some(Speaks::Redis), Some(FailureKind::Timeout)),
        (&mute, None, None),
        (&cut, Some(Speaks::Http), Some(FailureKind::ConnectReset)),
    ] {
        let seen = seen(peer, speaks).await;
        assert_eq!(seen.failure().map(|failure| failure.kind), kind, "{speaks:?}: {seen:#?}");
        assert_eq!((seen.attempt.is_some(), seen.small_segments), (true, None));
    }
    let unknown = seen(&web, None).await.words.unwrap();
    assert_eq!((unknown.asked, unknown.heard, unknown.is), (None, Heard::Nothing, Some(Speaks::Http)));
}

#[test]
fn the_number_of_a_port_tells_what_it_speaks() {
    let subject = |settings: &str, is_bare| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("dependencies: [{{name: x, impact: none, {settings}}}]"))
            .unwrap();
        let sources = crate::config::Sources { files: vec![file.path().into()], ..Default::default() };
        let plan = crate::config::load(&sources).unwrap();
        let plan = plan.dependencies().iter().find(|it| it.policy().name.as_str() == "x").unwrap().clone();
        let around = Surroundings { is_bare, ..Surroundings::default() };
        let subject = Subject::of(&plan, &around).unwrap();
        (subject.dependency.clone(), subject.speaks, subject.tls.clone())
    };
    let named = || Some("x".to_owned());
    let unverified = || TlsWanted::Yes { verify: crate::config::plan::Verify::None, root_cert: None };
    let full = || TlsWanted::Yes { verify: crate::config::plan::Verify::Full, root_cert: None };
    let port = |port: u16| format!("kind: tcp, host: h, port: {port}");
    assert_eq!(subject(&port(5432), true), (None, Some(Speaks::Postgres), TlsWanted::IfOffered));
    assert_eq!(subject(&port(443), true), (None, Some(Speaks::Http), unverified()));
    assert_eq!(subject(&port(9), true), (None, None, TlsWanted::No));
    assert_eq!(
        subject(&port(5432), false),
        (named(), None, TlsWanted::No),
        "a port that is configured is what it is"
    );
    let secured = "kind: tcp, host: h, port: 5432, tls: {verify: full}";
    assert_eq!(subject(secured, false), (named(), Some(Speaks::Tls), full()));
    let https = subject("kind: http, url: 'https://h/'", true);
    assert_eq!(https, (None, Some(Speaks::Http), full()), "a URL says what it speaks");
    let modes: HashMap<_, _> = ["disable", "prefer", "require", "verify-full"]
        .map(|mode| (mode, subject(&format!("kind: postgres, host: h, sslmode: {mode}"), false).2))
        .into();
    assert_eq!(modes["disable"], TlsWanted::No);
    assert_eq!(modes["prefer"], TlsWanted::IfOffered);
    assert_eq!((&modes["require"], &modes["verify-full"]), (&unverified(), &full()));
}

fn swallowed(what: &str) -> Option<SmallSegments> {
    let what = what.to_owned();
    let segment = segments::SMALL;
    Some(SmallSegments {
        segment,
        what,
        large_silent: 2,
        large_answered: 0,
        small_answered: 2,
        small_silent: 0,
    })
}

#[tokio::test]
async fn what_only_small_segments_get_an_answer_to_is_told() {
    let is_small = |mss: u32| mss <= u32::from(segments::SMALL);
    let tls = secured(is_small, web).await;
    let settings = "kind: http, url: 'https://127.0.0.1:PORT/', tls: {verify: none}";
    let (it, _plan) = diagnoser(&tls, settings, Surroundings::default());
    let seen = it.seen().await;
    assert_eq!(seen.small_segments, swallowed("the TLS handshake"), "{seen:#?}");
    assert_eq!(seen.words.unwrap().heard, Heard::Nothing);

    let redis = Peer::answering(redis).await;
    let settings = "kind: redis, host: 127.0.0.1, port: PORT, password: s3cret-word";
    let (it, _plan) = diagnoser(&redis, settings, Surroundings::default());
    let seen = it.seen().await;
    assert_eq!(
        seen.failure().map(|failure| (failure.kind, failure.phase)),
        Some((FailureKind::QueryTimeout, Phase::Query))
    );
    assert_eq!(seen.words.unwrap().heard, said("+PONG"));
    assert_eq!(seen.small_segments, swallowed("a check"));

    let check = it.check().await;
    assert!(check.failure().is_some());
    redis.left_alone().await;
    redis.met.heard.lock().unwrap().clear();
    let before = redis.accepted();
    let seen = it.seen_after(&check).await;
    assert_eq!(seen.small_segments, swallowed("a PING of 1,600 bytes"));
    let mut ended = check.clone();
    ended.outcome = Err(Failure::new(Phase::Query, FailureKind::QueryTimeout, "ended").with_code("57014"));
    let seen = it.seen_after(&ended).await;
    assert_eq!(seen.small_segments, None, "a server that says why it ended a query is not silent");
    assert!(!redis.heard().contains("AUTH"), "nobody logs in: {}", redis.heard());
    assert!(redis.accepted() - before <= 12, "{}", redis.accepted() - before);
    redis.left_alone().await;
}

/// A queue of accepted connections that is full: the kernel drops what more come.
#[tokio::test]
async fn what_could_not_be_asked_for_want_of_a_connection_is_not_told_as_silence() {
    let peer = Peer::answering(web).await;
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.listen(0).unwrap();
    let full = socket.local_addr().unwrap().as_socket().unwrap();
    let _fills = std::net::TcpStream::connect(full).unwrap();
    let soon = || Deadline::after(Duration::from_millis(300));
    for settings in [
        "kind: postgres, host: 127.0.0.1, port: PORT, user: u, database: d",
        "kind: redis, host: 127.0.0.1, port: PORT",
        "kind: http, url: 'https://127.0.0.1:PORT/', tls: {verify: none}",
    ] {
        let (it, _plan) = diagnoser(&peer, settings, Surroundings::default());
        let approach = Approach::of(&it.subject, &it.network, probe::limits(&it.plan, None));
        let words = words::exchange(&approach, None, full, soon()).await;
        assert!(matches!(words.heard, Heard::NotAsked(_)), "{settings}: {words:?}");
        let large = segments::Exchange::Large(it.subject.speaks.unwrap());
        let contrast = segments::contrast(&approach, large, full, soon()).await;
        assert_eq!((contrast.large_silent, contrast.small_silent), (0, 0), "{settings}");
        if let Some(looked) = approach.inspect(None, Stay::No, full, soon()).await {
            assert!(looked.seen.not_asked.is_some(), "{settings}: {looked:?}");
            assert_eq!((looked.seen.version, looked.seen.unanswered), (None, false));
        }
    }
    let gone = crate::net::Target::new("127.0.0.1", full.port());
    let (it, _plan) = diagnoser(&peer, "kind: redis, host: 127.0.0.1, port: PORT", Surroundings::default());
    let dialer = crate::net::Dialer::new(it.network.clone(), probe::limits(&it.plan, None));
    let why = dialer.connect_for_a_question(&gone, soon()).await.unwrap_err();
    assert_eq!(why, "no further connection in time");
}

#[tokio::test]
async fn who_answers_nothing_at_all_is_not_asked_in_small_segments() {
    let mute = Peer::answering(|_| None).await;
    let (it, _plan) = diagnoser(&mute, "kind: redis, host: 127.0.0.1, port: PORT", Surroundings::default());
    let check = it.check().await;
    mute.left_alone().await;
    let before = mute.accepted();
    let seen = it.seen_after(&check).await;
    let words = seen.words.unwrap();
    assert_eq!((words.heard, words.is, words.others.len()), (Heard::Nothing, None, 3));
    assert!(words.others.iter().all(|(_, heard)| *heard == Heard::Nothing), "{:?}", words.others);
    assert_eq!((seen.small_segments, seen.cut_short), (None, false));
    assert!(mute.accepted() - before <= 12, "{}", mute.accepted() - before);
}

#[tokio::test]
async fn whatever_hangs_a_diagnosis_ends_by_its_deadline_with_what_was_seen() {
    let mute = Peer::answering(|_| None).await;
    let settings = "kind: postgres, host: 127.0.0.1, port: PORT, user: u, database: d, timeout: 60s, connect_timeout: 60s";
    let (it, _plan) = diagnoser(&mute, settings, Surroundings::default());
    let mut told = Vec::new();
    let deadline = Deadline::after(Duration::from_secs(2));
    let mut tell = |hop: &Hop| told.push(hop.kind);
    let diagnose = it.diagnose(Clock::start(), deadline, &mut tell);
    let diagnosis = tokio::time::timeout(PATIENCE, diagnose).await.expect("an end");
    assert_eq!((diagnosis.ok, diagnosis.failure_kind), (false, Some(FailureKind::Timeout)), "{diagnosis:?}");
    mute.left_alone().await;
}

#[tokio::test]
async fn a_diagnosis_that_is_dropped_leaves_nothing_behind() {
    let mute = Peer::answering(|_| None).await;
    let settings = "kind: redis, host: 127.0.0.1, port: PORT, timeout: 60s, connect_timeout: 60s";
    let (it, _plan) = diagnoser(&mute, settings, Surroundings::default());
    // The way, the first words, the attempt.
    for connections in 1..=3 {
        let gone = it.gone();
        {
            let mut tell = |_: &Hop| {};
            let diagnose = it.diagnose(Clock::start(), Deadline::after(PATIENCE), &mut tell);
            let before = mute.accepted();
            let in_the_middle = async {
                while mute.accepted() < before + connections {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            tokio::select! {
                biased;
                () = in_the_middle => {}
                diagnosis = diagnose => panic!("over after {connections}: {diagnosis:?}"),
            }
        }
        tokio::time::timeout(PATIENCE, gone).await.expect("all have left");
        mute.left_alone().await;
    }
}

#[tokio::test]
async fn what_a_peer_repeats_of_our_secrets_is_hidden_wherever_it_stands() {
    let echo = Peer::answering(|ear| Some([b"SSH-pl4nted-secret ", ear.said].concat())).await;
    for settings in [
        "kind: tcp, host: 127.0.0.1, port: PORT, send: 'AUTH pl4nted-secret', expect: '+OK'",
        "kind: redis, host: 127.0.0.1, port: PORT, password: pl4nted-secret",
        "kind: redis, host: 127.0.0.1, port: PORT, password: pl4nted-secret, tls: {verify: none}",
        "kind: postgres, host: 127.0.0.1, port: PORT, user: u, database: d, password: pl4nted-secret",
        "kind: http, url: 'http://u:pl4nted-secret@127.0.0.1:PORT/?token=pl4nted-secret'",
    ] {
        let (it, _plan) = diagnoser(&echo, settings, Surroundings::default());
        let seen = format!("{:?}", it.seen().await);
        assert!(seen.contains("SSH-***"), "the peer is heard: {seen}");
        assert!(!seen.contains("pl4nted"), "{settings}: {seen}");
        let diagnosis = it.diagnose(Clock::start(), Deadline::after(PATIENCE), &mut |_| {}).await;
        assert!(!format!("{diagnosis:?}").contains("pl4nted"), "{settings}: {diagnosis:?}");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "127.0.0.1").unwrap();
    let settings = format!("kind: tcp, host: '${{file:{}}}', port: PORT", file.path().display());
    let (it, _plan) = diagnoser(&echo, &settings, Surroundings::default());
    let seen = it.seen().await;
    assert_eq!(
        (seen.subject.host.as_str(), seen.attempt.unwrap().result),
        ("***", Ok(())),
        "used, and not shown"
    );
}

#[tokio::test]
async fn of_a_hidden_host_nothing_is_told_that_is_spelt_nearly_so() {
    let nobody = Peer::answering(|_| None).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let from_file = format!("${{file:{}}}", file.path().display());
    for (written, host, url) in [
        ("cahce.corp.test", format!("kind: tcp, host: '{from_file}', port: PORT"), false),
        ("http://cahce.corp.test:1/", format!("kind: http, url: '{from_file}'"), true),
    ] {
        std::fs::write(file.path(), written).unwrap();
        let (it, _plan) = diagnoser(&nobody, &host, Surroundings::default());
        let mut evidence = test_support::unresolved(
            Failure::new(Phase::Dns, FailureKind::DnsNotFound, "it does not exist").with_code("NXDOMAIN"),
        );
        evidence.subject = it.subject.clone();
        let names = evidence.names.as_mut().unwrap();
        it.subject.host.clone_into(&mut names.name);
        names.near = vec!["cache.corp.test".to_owned()];
        names.nearest_ancestor = Some("corp.test".to_owned());
        let seen = hidden::look_through(evidence, &it.discretion);
        let told = format!("{:?} {:?}", hops::hops(&seen), rules::judge(&seen));
        assert!(!told.contains("corp.test"), "of a URL: {url}: {told}");
    }
}

#[test]
fn a_diagnosis_can_go_on_beside_others() {
    fn may_be_sent<T: Send>(_: &T) {}
    fn both<'a>(
        it: &'a Diagnoser,
        check: &'a Check,
        tell: &'a mut (dyn FnMut(&Hop) + Send),
        clock: Clock,
        deadline: Deadline,
    ) {
        let (explain, diagnose) =
            (it.explain(clock, check, None, deadline), it.diagnose(clock, deadline, tell));
        may_be_sent(&explain);
        may_be_sent(&diagnose);
    }
    let _ = both;
}

/// A port of the command line with TLS, as 443 is: nobody knows what is spoken inside.
#[tokio::test]
async fn a_secured_port_may_speak_what_it_likes_inside_and_must_speak_tls() {
    let (settings, bare) =
        ("kind: tcp, host: 127.0.0.1, port: PORT", Surroundings { is_bare: true, ..Default::default() });
    let (own, plain) = (secured(|_| true, |_| Some(b"what?\n".into())).await, Peer::answering(web).await);
    let unverified = || TlsWanted::Yes { verify: crate::config::plan::Verify::None, root_cert: None };
    for (peer, kind) in [(&own, None), (&plain, Some(FailureKind::TlsHandshake))] {
        let (mut it, _plan) = diagnoser(peer, settings, bare.clone());
        (it.subject.speaks, it.subject.tls) = (Some(Speaks::Http), unverified());
        let seen = it.seen().await;
        assert_eq!(seen.failure().map(|failure| failure.kind), kind, "{seen:#?}");
        assert_eq!(seen.tls.unwrap().version.is_some_and(|version| version.is_ok()), kind.is_none());
    }
}
