//! What a look at a server's TLS tells: all that is wrong with a certificate, and nothing that a check would accept.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{Ssl, SslContext, SslContextBuilder, SslFiletype, SslMethod, SslVerifyMode, SslVersion};
use openssl::x509::extension::SubjectAlternativeName;
use openssl::x509::{X509, X509Name};
use serde_json::json;
use sickbay::clock::Deadline;
use sickbay::net::resolve::Settings;
use sickbay::net::tls::inspect::{Opening, Stay};
use sickbay::net::tls::{CertificateProblem, TlsSeen};
use sickbay::net::{Dialer, Limits, Network, Tls, Verification};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::certs::{Pair, certs};
use crate::support::config::{WELL, check, failure, on};
use crate::support::postgres::{Postgres, PostgresOptions, PostgresTls};
use crate::support::scratch::Folder;
use crate::support::tcp::{self, Peer};
use crate::support::wait::PATIENCE;

fn dialer() -> Dialer {
    let settings = Settings { nameservers: Vec::new(), packets_per_second: 100.try_into().expect("not 0") };
    let limits = Limits { connect_timeout: PATIENCE, user_timeout: PATIENCE, segment: None };
    Dialer::new(Network::new(settings), limits)
}

async fn inspect(tls: &Tls, host: &str, opening: Opening, address: SocketAddr) -> TlsSeen {
    dialer().inspect(tls, host, (opening, Stay::ForTheRefusal), address, Deadline::after(PATIENCE)).await.seen
}

/// A server that makes sessions by this context, says hello, and waits for the client to leave.
async fn server(context: SslContext) -> Peer {
    let context = Arc::new(context);
    Peer::start(move |stream| {
        let context = Arc::clone(&context);
        async move {
            let ssl = Ssl::new(&context).expect("a session");
            let Ok(mut session) = tokio_openssl::SslStream::new(ssl, stream) else { return };
            if Pin::new(&mut session).accept().await.is_ok() {
                let _ = session.write_all(b"hello").await;
                let _ = session.read(&mut [0; 64]).await;
            }
        }
    })
    .await
}

fn context(pair: &Pair) -> SslContextBuilder {
    let mut context = SslContext::builder(SslMethod::tls_server()).expect("a context");
    context.set_certificate_chain_file(&pair.cert).expect("certificates");
    context.set_private_key_file(&pair.key, SslFiletype::PEM).expect("a key");
    context
}

/// A certificate that signed itself, for 127.0.0.1, good from so many days from now on.
fn own(folder: &Folder, name: &str, from_day: u32) -> Pair {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).expect("a curve");
    let key: PKey<Private> = PKey::from_ec_key(EcKey::generate(&group).expect("a key")).expect("a key");
    let mut subject = X509Name::builder().expect("a name");
    subject.append_entry_by_text("CN", name).expect("a name");
    let subject = subject.build();
    let mut builder = X509::builder().expect("a certificate");
    builder.set_version(2).expect("version 3");
    let serial = BigNum::from_u32(from_day + 1).expect("a number").to_asn1_integer().expect("a number");
    builder.set_serial_number(&serial).expect("a number");
    builder.set_subject_name(&subject).expect("a name");
    builder.set_issuer_name(&subject).expect("a name");
    builder.set_pubkey(&key).expect("a key");
    let day = |n| Asn1Time::days_from_now(n).expect("a day");
    builder.set_not_before(&day(from_day)).expect("a day");
    builder.set_not_after(&day(from_day + 90)).expect("a day");
    let names = SubjectAlternativeName::new().ip("127.0.0.1").build(&builder.x509v3_context(None, None));
    builder.append_extension(names.expect("names")).expect("names");
    builder.sign(&key, MessageDigest::sha256()).expect("signed");
    let cert = folder.write(&format!("{name}.pem"), &builder.build().to_pem().expect("PEM"));
    let key = folder.write(&format!("{name}.key"), &key.private_key_to_pem_pkcs8().expect("PEM"));
    Pair { cert, key }
}

/// For each certificate and each way to verify it, an inspection finds something exactly where a check fails.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_certificate_is_found_where_a_check_finds_it() {
    use CertificateProblem::{
        AuthoritiesUnusable, Expired, NotYetValid, OtherName, SelfSigned, UnknownAuthority,
    };
    let (certs, folder) = (certs(), Folder::new("inspection"));
    let (self_signed, future) = (own(&folder, "self-signed", 0), own(&folder, "future", 10));
    let (ca, nowhere, nothing) =
        (certs.ca.clone(), folder.path().join("no-such-file"), folder.path().join("emptied"));
    // A check refuses to begin with a file that cannot be used; one can become so later.
    let unusable = |file: &Path, why: &str| {
        AuthoritiesUnusable(format!("the CA file {} cannot be used: {why}", file.display()))
    };
    fs::write(&nothing, "").expect("a file");
    let cases = [
        ("good", &certs.good, &ca, vec![]),
        ("expired", &certs.expired, &ca, vec![Expired(0)]),
        ("below-ended", &certs.below_ended, &ca, vec![Expired(1)]),
        ("below-ending", &certs.below_ending, &ca, vec![]),
        ("other-name", &certs.other_name, &ca, vec![OtherName]),
        ("stranger", &certs.stranger, &ca, vec![UnknownAuthority]),
        ("self-signed", &self_signed, &ca, vec![SelfSigned]),
        ("self-signed-trusted", &self_signed, &self_signed.cert, vec![]),
        ("future", &future, &future.cert, vec![NotYetValid(0)]),
        ("future-unknown", &future, &ca, vec![SelfSigned, NotYetValid(0)]),
    ];
    let mut asked = Vec::new();
    let mut servers = Vec::new();
    for (name, pair, root, _) in &cases {
        let server = server(context(pair).build()).await;
        for verify in ["full", "ca", "none"] {
            let tls = json!({"verify": verify, "root_cert": root});
            let port = server.address().port();
            let settings = json!({"host": "127.0.0.1", "port": port, "tls": tls, "expect": "hello"});
            asked.push(on("tcp", &format!("{name}-{verify}"), settings));
        }
        servers.push(server);
    }
    let checked = check(asked).await;
    for ((name, _, root, problems), server) in cases.iter().zip(&servers) {
        for (verify, verification) in
            [("full", Verification::Full), ("ca", Verification::Chain), ("none", Verification::None)]
        {
            let tls = Tls::new(verification, Some(root.to_path_buf()));
            let seen = inspect(&tls, "127.0.0.1", Opening::AtOnce, server.address()).await;
            let expected: Vec<CertificateProblem> = match verify {
                "none" => Vec::new(),
                "ca" => problems.iter().filter(|problem| **problem != OtherName).cloned().collect(),
                _ => problems.clone(),
            };
            assert_eq!(seen.problems, expected, "{name} {verify}: {seen:#?}");
            let check = &checked[format!("{name}-{verify}")];
            let fails = if expected.is_empty() { WELL } else { ["tls", "tls_certificate", "-"] };
            assert_eq!(failure(check), fails, "{name} {verify}: {check:#}");
            assert_eq!(seen.version, Some(Ok("TLSv1.3".to_owned())), "{name} {verify}: {seen:#?}");
            assert_eq!(
                (seen.wants_client_certificate, &seen.not_spoken),
                (false, &None),
                "{name}: {seen:#?}"
            );
        }
    }
    let good = servers[0].address();
    for (file, why) in [(&nowhere, "it does not exist"), (&nothing, "it holds no certificate")] {
        let tls = Tls::new(Verification::Full, Some(file.clone()));
        let seen = inspect(&tls, "127.0.0.1", Opening::AtOnce, good).await;
        assert_eq!(seen.problems, [unusable(file, why)], "{seen:#?}");
        assert_eq!(seen.chain.len(), 1, "it is looked at all the same: {seen:#?}");
    }
    // Against the authorities of the system, as against any.
    let seen = inspect(&Tls::new(Verification::Full, None), "db.test.", Opening::AtOnce, good).await;
    assert_eq!(seen.problems, [UnknownAuthority], "{seen:#?}");
    assert_eq!(seen.chain[0].subject, "CN=sickbay test good");
    assert!(seen.chain[0].issuer.starts_with("CN=sickbay tests ca"), "{seen:#?}");
    assert_eq!(seen.chain[0].names, ["localhost", "db.test", "redis.test", "api.test", "127.0.0.1"]);
    let [begins, ends] =
        [seen.chain[0].begins_at, seen.chain[0].ends_at].map(|at| at.expect("a time").unix_millis());
    assert_eq!(ends - begins, 90 * 24 * 3_600_000);
    let chained =
        inspect(&Tls::new(Verification::None, None), "db.test", Opening::AtOnce, servers[2].address()).await;
    assert_eq!(chained.chain.len(), 2, "all that the server sends: {chained:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_speaks_only_old_versions_is_told_by_the_version() {
    let mut old = context(&certs().good);
    old.set_security_level(0);
    old.set_min_proto_version(Some(SslVersion::TLS1)).expect("a version");
    old.set_max_proto_version(Some(SslVersion::TLS1_1)).expect("a version");
    old.set_cipher_list("ALL").expect("ciphers");
    let server = server(old.build()).await;
    let tls = Tls::new(Verification::Full, Some(certs().ca.clone()));
    let seen = inspect(&tls, "127.0.0.1", Opening::AtOnce, server.address()).await;
    assert_eq!(seen.only_speaks.as_deref(), Some("TLSv1.1"), "{seen:#?}");
    let why = seen.version.clone().expect("a handshake").expect_err("none agreed on");
    assert!(why.contains("protocol"), "{why}");
    assert_eq!(seen.chain.len(), 1, "{seen:#?}");
    let settings =
        json!({"host": "127.0.0.1", "port": server.address().port(), "tls": {"root_cert": certs().ca}});
    let checked = check([on("tcp", "old", settings)]).await;
    assert_eq!(failure(&checked["old"]), ["tls", "tls_handshake", "-"], "{checked:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_asks_for_a_certificate_is_told_apart_from_one_that_does_not() {
    let tls = Tls::new(Verification::Full, Some(certs().ca.clone()));
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        for (how, asks, refuses) in [
            (SslVerifyMode::NONE, false, false),
            (SslVerifyMode::PEER, true, false),
            (SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT, true, true),
        ] {
            let mut context = context(&certs().good);
            context.set_min_proto_version(Some(version)).expect("a version");
            context.set_max_proto_version(Some(version)).expect("a version");
            context.set_verify(how);
            let server = server(context.build()).await;
            let seen = inspect(&tls, "127.0.0.1", Opening::AtOnce, server.address()).await;
            assert_eq!(seen.wants_client_certificate, asks, "{version:?} {how:?}: {seen:#?}");
            let refused = seen.version.as_ref().expect("a handshake").is_err();
            assert_eq!(refused, refuses, "{version:?} {how:?}: {seen:#?}");
            assert_eq!(
                (&seen.only_speaks, seen.problems.len()),
                (&None, 0),
                "{version:?} {how:?}: {seen:#?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_is_asked_in_its_own_way_and_says_whether_it_has_tls() {
    let tls = Tls::new(Verification::Full, Some(certs().ca.clone()));
    let offered = PostgresTls::Offered(certs().good.clone());
    let (with, without) = tokio::join!(
        Postgres::start(PostgresOptions { tls: offered, ..Default::default() }),
        Postgres::start(PostgresOptions::default()),
    );
    let at = |server: &Postgres| SocketAddr::from(([127, 0, 0, 1], server.port()));
    let seen = inspect(&tls, "localhost", Opening::SslRequest, at(&with)).await;
    assert_eq!((seen.version, seen.not_spoken, seen.problems), (Some(Ok("TLSv1.3".into())), None, vec![]));
    let log = with.log();
    assert!(!log.contains("SSL") && !log.contains("startup"), "the server has nothing to complain of: {log}");
    let seen = inspect(&tls, "localhost", Opening::SslRequest, at(&without)).await;
    assert_eq!((seen.version, seen.not_spoken.as_deref()), (None, Some("N")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_speaks_no_tls_is_told_by_what_it_says_and_silence_as_such() {
    let tls = Tls::new(Verification::Full, None);
    let web = tcp::garbage("HTTP/1.1 400 Bad Request\r\n\r\n").await;
    for opening in [Opening::AtOnce, Opening::SslRequest] {
        let seen = inspect(&tls, "x.test", opening, web.address()).await;
        let said = seen.not_spoken.clone().unwrap_or_default();
        assert!(said.starts_with("HTTP/1.1 400 Bad Request"), "{opening:?}: {seen:#?}");
        assert_eq!((seen.version.is_none(), seen.unanswered), (true, false), "{opening:?}: {seen:#?}");
    }
    let (mute, cut) = (tcp::mute().await, tcp::reset_after_request().await);
    let soon = Deadline::after(Duration::from_millis(300));
    let seen = dialer().inspect(&tls, "x.test", (Opening::AtOnce, Stay::No), mute.address(), soon).await.seen;
    let why = seen.version.expect("a handshake").expect_err("silence");
    assert!(seen.unanswered && why.starts_with("no answer to the TLS handshake within "), "{why}");
    let seen = inspect(&tls, "x.test", Opening::AtOnce, cut.address()).await;
    assert!(!seen.unanswered && seen.not_spoken.is_none(), "{seen:#?}");
    let why = seen.version.expect("a handshake").expect_err("cut");
    assert!(why.contains("reset"), "{why}");
}
