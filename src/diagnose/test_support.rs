//! Evidence by hand, for tests: a path that works, to be broken where a test wants it.

use std::net::SocketAddr;
use std::time::Duration;

use super::evidence::*;
use crate::config::plan::{Role, Verify};
use crate::health::task::TaskNetwork;
use crate::health::{Details, Failure, FailureKind, Kind, Phase, PhaseTimes, Task, WallTime};

/// 2026-11-24.
pub(super) const NOW: WallTime = WallTime::from_unix_millis(1_795_478_400_000);
pub(super) const DAY: i64 = 86_400_000;

pub(super) fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(super) fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

/// PostgreSQL at `db.internal`, 10.0.3.7: all is well.
pub(super) fn postgres() -> Evidence {
    let subject = subject(Kind::Postgres, "db.internal", 5432);
    Evidence {
        names: Some(names("db.internal", &["10.0.3.7"])),
        paths: vec![path("10.0.3.7:5432", vec![connected(5432)], Some(refused(47)))],
        words: Some(words(Speaks::Postgres, "N", Some(Speaks::Postgres))),
        attempt: Some(attempt(Ok(()))),
        at: Some(NOW),
        ..Evidence::nothing_yet(Subject {
            user: Some("app".into()),
            database: Some("orders".into()),
            role: Role::Primary,
            ..subject
        })
    }
}

/// Redis at `cache.internal`, 10.0.3.9: all is well.
pub(super) fn redis() -> Evidence {
    Evidence {
        names: Some(names("cache.internal", &["10.0.3.9"])),
        paths: vec![path("10.0.3.9:6379", vec![connected(6379)], Some(refused(47)))],
        words: Some(words(Speaks::Redis, "+PONG", Some(Speaks::Redis))),
        attempt: Some(attempt(Ok(()))),
        at: Some(NOW),
        ..Evidence::nothing_yet(subject(Kind::Redis, "cache.internal", 6379))
    }
}

/// HTTP at `api.internal`, 10.0.3.8: all is well.
pub(super) fn http() -> Evidence {
    Evidence {
        names: Some(names("api.internal", &["10.0.3.8"])),
        paths: vec![path("10.0.3.8:80", vec![connected(80)], Some(refused(47)))],
        words: Some(words(Speaks::Http, "HTTP/1.1 200 OK", Some(Speaks::Http))),
        attempt: Some(attempt(Ok(()))),
        at: Some(NOW),
        ..Evidence::nothing_yet(subject(Kind::Http, "api.internal", 80))
    }
}

/// A name that is looked up and nothing more.
pub(super) fn dns(addresses: &[&str]) -> Evidence {
    Evidence {
        names: Some(names("db.internal", addresses)),
        attempt: Some(attempt(Ok(()))),
        at: Some(NOW),
        ..Evidence::nothing_yet(subject(Kind::Dns, "db.internal", 0))
    }
}

pub(super) fn subject(kind: Kind, host: &str, port: u16) -> Subject {
    Subject {
        dependency: Some("it".into()),
        kind,
        speaks: match kind {
            Kind::Postgres => Some(Speaks::Postgres),
            Kind::Redis => Some(Speaks::Redis),
            Kind::Http => Some(Speaks::Http),
            Kind::Dns | Kind::Tcp => None,
        },
        host: host.into(),
        port,
        target: format!("{host}:{port}"),
        user: None,
        database: None,
        tls: TlsWanted::No,
        role: Role::Any,
        expected_addresses: Vec::new(),
        other_hosts: Vec::new(),
        connect_timeout: millis(3000),
        record: None,
        nameservers: Vec::new(),
    }
}

pub(super) fn verified() -> TlsWanted {
    TlsWanted::Yes { verify: Verify::Full, root_cert: None }
}

/// A name that the servers 10.0.0.2 and 10.0.0.3 have.
pub(super) fn names(name: &str, addresses: &[&str]) -> Names {
    let answer = answer(name, addresses);
    Names {
        name: name.into(),
        resolver: ResolverSeen {
            servers: vec![at("10.0.0.2:53"), at("10.0.0.3:53")],
            search: Vec::new(),
            ndots: 1,
            from: "/etc/resolv.conf".into(),
        },
        by_server: vec![server("10.0.0.2:53", Ok(answer.clone())), server("10.0.0.3:53", Ok(answer.clone()))],
        answer: Ok(answer),
        took: millis(1),
        nearest_ancestor: None,
        near: Vec::new(),
        refused_too: None,
        later: None,
        takes_turns: false,
    }
}

pub(super) fn answer(name: &str, addresses: &[&str]) -> NameAnswer {
    NameAnswer {
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        ttl_seconds: Some(5),
        found_as: name.into(),
        ..NameAnswer::default()
    }
}

pub(super) fn server(at: &str, answer: Result<NameAnswer, Failure>) -> ServerAnswer {
    ServerAnswer { server: self::at(at), took: took(&answer), answer }
}

/// Silence takes as long as it is waited for.
fn took(answer: &Result<NameAnswer, Failure>) -> Duration {
    match answer {
        Err(failure) if failure.kind == FailureKind::DnsTimeout => millis(2500),
        _ => Duration::from_micros(400),
    }
}

/// A name that nobody has an answer for.
pub(super) fn unresolved(failure: Failure) -> Evidence {
    let mut evidence = postgres();
    evidence.paths.clear();
    evidence.words = None;
    let names = evidence.names.as_mut().unwrap();
    names.took = took(&Err(failure.clone()));
    names.answer = Err(failure.clone());
    names.by_server.iter_mut().for_each(|one| *one = server(&one.server.to_string(), Err(failure.clone())));
    evidence.attempt = Some(attempt(Err(failure)));
    evidence
}

pub(super) fn path(address: &str, tries: Vec<Try>, contrast: Option<Try>) -> Path {
    let route = Route {
        source: Some(Ok("10.0.1.23".parse().unwrap())),
        entry: Some(RouteEntry {
            network: "0.0.0.0/0".parse().unwrap(),
            gateway: Some("10.0.1.1".parse().unwrap()),
            interface: "eth0".into(),
            forbids: false,
        }),
        neighbour: Some(Neighbour { address: "10.0.1.1".parse().unwrap(), answers: true }),
    };
    Path { address: at(address), route, tries, contrast }
}

pub(super) fn connected(port: u16) -> Try {
    Try { port, took: Duration::from_micros(300), end: TryEnd::Connected }
}

pub(super) fn silent(port: u16) -> Try {
    Try { port, took: millis(3000), end: TryEnd::Silent }
}

pub(super) fn refused(port: u16) -> Try {
    errno(port, "ECONNREFUSED", None)
}

pub(super) fn errno(port: u16, errno: &str, icmp: Option<Icmp>) -> Try {
    Try { port, took: Duration::from_micros(300), end: TryEnd::Failed { errno: errno.into(), icmp } }
}

pub(super) fn prohibited(from: &str) -> Icmp {
    Icmp {
        meaning: "administratively prohibited".into(),
        by_filter: true,
        from: Some(from.parse().unwrap()),
        own: false,
    }
}

/// Where nobody takes connections: the tries to the first address, and what a check says of them.
pub(super) fn unconnected(tries: Vec<Try>, contrast: Option<Try>, kind: FailureKind) -> Evidence {
    let mut evidence = postgres();
    evidence.paths[0].tries = tries;
    evidence.paths[0].contrast = contrast;
    evidence.words = None;
    evidence.attempt = Some(attempt(Err(failure(Phase::Connect, kind, "as it was"))));
    evidence
}

/// The same path, and an attempt that failed.
pub(super) fn failing(mut evidence: Evidence, failure: Failure) -> Evidence {
    let address = evidence.paths.first().map(|path| path.address);
    evidence.attempt = Some(Attempt { address, ..attempt(Err(failure)) });
    evidence
}

pub(super) fn failure(phase: Phase, kind: FailureKind, message: &str) -> Failure {
    Failure::new(phase, kind, message)
}

pub(super) fn attempt(result: Result<(), Failure>) -> Attempt {
    let mut phases = PhaseTimes::default();
    phases.add(Phase::Connect, Duration::from_micros(300));
    phases.add(Phase::Query, millis(2));
    Attempt { result, phases, address: None, details: Details::None, warnings: Vec::new(), cut_short: false }
}

pub(super) fn words(asked: Speaks, heard: &str, is: Option<Speaks>) -> Words {
    Words {
        asked: Some(asked),
        heard: Heard::Said(heard.into()),
        took: Duration::from_micros(500),
        others: Vec::new(),
        is,
    }
}

/// A session, with a certificate that ends in 38 days.
pub(super) fn tls() -> TlsSeen {
    TlsSeen {
        version: Some(Ok("TLSv1.3".into())),
        took: millis(4),
        chain: vec![certificate("CN=db.internal", "db.internal", 38)],
        ..TlsSeen::default()
    }
}

pub(super) fn certificate(subject: &str, name: &str, ends_in_days: i64) -> CertificateSeen {
    CertificateSeen {
        subject: subject.into(),
        issuer: "CN=Test Authority".into(),
        names: vec![name.into()],
        begins_at: Some(WallTime::from_unix_millis(NOW.unix_millis() - 100 * DAY)),
        ends_at: Some(WallTime::from_unix_millis(NOW.unix_millis() + ends_in_days * DAY)),
    }
}

/// A task in eu-central-1.
pub(super) fn task() -> Task {
    Task {
        arn: Some("arn:aws:ecs:eu-central-1:111122223333:task/c/0123".into()),
        networks: vec![TaskNetwork {
            addresses: vec!["10.0.1.23".parse().unwrap()],
            subnet: Some("10.0.1.0/24".into()),
            ..TaskNetwork::default()
        }],
        ..Task::default()
    }
}
