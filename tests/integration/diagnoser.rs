//! A diagnosis of real servers: it tells what a check tells, and their logs do not tell of it.

use std::sync::Mutex;

use serde_json::{Value, json};
use sickbay::clock::{Clock, Deadline};
use sickbay::config::{self, Plan, Sources};
use sickbay::diagnose::{Diagnoser, Surroundings};
use sickbay::health::circuit::Permit;
use sickbay::health::{Check, Diagnosis, FailureKind, HopKind};
use sickbay::net::Network;
use sickbay::probe;
use sickbay::probe::check::{self, Loudness};

use crate::support::certs::certs;
use crate::support::config::{Config, on_postgres, on_redis};
use crate::support::http::{Answer, HttpServer};
use crate::support::postgres::{Postgres, PostgresOptions, PostgresTls};
use crate::support::redis::{Redis, RedisOptions};
use crate::support::wait::PATIENCE;

struct Diagnosed {
    plan: Plan,
    network: Network,
    diagnoser: Diagnoser,
}

impl Diagnosed {
    /// The only dependency of this configuration.
    fn of(dependency: Value) -> Self {
        let name = dependency["name"].as_str().expect("a name").to_owned();
        let config = Config::quick([dependency]);
        let sources = Sources { files: vec![config.path().into()], ..Default::default() };
        let plan = config::load(&sources).unwrap_or_else(|errors| panic!("{errors:?}"));
        let network = probe::network(&plan);
        let of = plan.dependencies().iter().find(|of| of.policy().name.as_str() == name).expect("it");
        let diagnoser = Diagnoser::new(of, &network, Surroundings::default()).expect("a target");
        Self { diagnoser, network, plan }
    }

    async fn diagnose(&self) -> Diagnosis {
        let told = Mutex::new(Vec::new());
        let mut tell = |hop: &sickbay::health::Hop| told.lock().expect("whole").push(hop.kind);
        let diagnosis = self.diagnoser.diagnose(Clock::start(), Deadline::after(PATIENCE), &mut tell).await;
        let told: Vec<HopKind> = told.into_inner().expect("whole");
        let reached = diagnosis.hops.iter().filter(|hop| hop.ok.is_some());
        for hop in reached {
            assert!(told.contains(&hop.kind), "{} is told while it goes on: {told:?}", hop.kind);
        }
        diagnosis
    }

    async fn check(&self) -> Check {
        let of = self.plan.dependencies().iter().find(|of| of.policy().enabled()).expect("it");
        let mut probe = probe::build(of, &self.network).expect("a probe").expect("a target");
        let (id, clock) = (check::new_id(), Clock::start());
        let check = check::run(&mut *probe, of.policy(), Permit::Check, Loudness::Repeats, id, clock).await;
        probe.close().await;
        check
    }

    async fn explain(&self, check: &Check) -> Diagnosis {
        self.diagnoser.explain(Clock::start(), check, None, Deadline::after(PATIENCE)).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_diagnosis_comes_to_what_a_check_comes_to_and_no_server_complains_of_it() {
    let (good, ca) = (certs().good.clone(), &certs().ca);
    let offered = || PostgresTls::Offered(good.clone());
    let (plain, secured, expired, redis, locked, tls_redis, web) = tokio::join!(
        Postgres::start(PostgresOptions::default()),
        Postgres::start(PostgresOptions { tls: offered(), ..Default::default() }),
        Postgres::start(PostgresOptions {
            tls: PostgresTls::Offered(certs().expired.clone()),
            ..Default::default()
        }),
        Redis::start(RedisOptions::default()),
        Redis::start(RedisOptions { password: Some("right-1".into()), ..Default::default() }),
        Redis::start(RedisOptions { tls: Some(good.clone()), ..Default::default() }),
        HttpServer::start(Answer::status(503)),
    );
    let verified = |more: Value| {
        let mut verified = json!({"sslmode": "verify-full", "root_cert": ca});
        verified.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
        verified
    };
    let tls = json!({"port": tls_redis.tls_port(), "tls": {"root_cert": ca}});
    let url = web.url("/");
    use FailureKind::{
        AuthFailed, DatabaseMissing, Protocol, TlsCertificate, TlsHandshake, UnexpectedStatus,
    };
    let cases = [
        ("plain", on_postgres("x", &plain, json!({})), None),
        ("secured", on_postgres("x", &secured, verified(json!({}))), None),
        ("expired", on_postgres("x", &expired, verified(json!({}))), Some(TlsCertificate)),
        ("no-tls", on_postgres("x", &plain, verified(json!({}))), Some(TlsHandshake)),
        (
            "database",
            on_postgres("x", &secured, verified(json!({"database": "nowhere"}))),
            Some(DatabaseMissing),
        ),
        ("password", on_postgres("x", &secured, json!({"password": "wrong-1"})), Some(AuthFailed)),
        ("redis", on_redis("x", &redis, json!({})), None),
        ("redis-tls", on_redis("x", &tls_redis, tls), None),
        ("redis-locked", on_redis("x", &locked, json!({})), Some(AuthFailed)),
        ("redis-password", on_redis("x", &locked, json!({"password": "wrong-1"})), Some(AuthFailed)),
        ("web", json!({"name": "x", "kind": "http", "impact": "none", "url": url}), Some(UnexpectedStatus)),
        ("other", on_postgres("x", &plain, json!({"port": web.address().port()})), Some(Protocol)),
    ];
    for (name, dependency, kind) in cases {
        let it = Diagnosed::of(dependency);
        let diagnosis = it.diagnose().await;
        assert_eq!((diagnosis.failure_kind, diagnosis.ok), (kind, kind.is_none()), "{name}: {diagnosis:#?}");
        let check = it.check().await;
        assert_eq!(check.failure().map(|failure| failure.kind), kind, "{name}: {check:#?}");
        let explained = it.explain(&check).await;
        assert_eq!((explained.failure_kind, explained.check), (kind, Some(check.id)), "{name}");
    }
    // Log-ins that fail are the check's, and so are certificates that it does not accept; nothing else is complained of.
    for (name, log) in [("plain", plain.log()), ("secured", secured.log())] {
        for complaint in ["startup packet", "unexpected EOF", "could not", "reset by peer", "unsupported"] {
            let line = log.lines().find(|line| line.contains(complaint));
            assert_eq!(line, None, "{name} complains");
        }
    }
    for log in [redis.log(), locked.log(), tls_redis.log()] {
        // With TLS, Redis has a line for each connection that ends without a handshake: the one that shows the way is such.
        let complaint = log.lines().find(|line| {
            line.contains("ATTACK") || line.contains("Error") && !line.contains("unexpected eof")
        });
        assert_eq!(complaint, None);
    }
}
