//! Targets of the command line.

use super::*;
use crate::config::plan::{ProbePlan, SslMode, Verify};
use crate::config::{ConfigErrors, load_target};

fn given(target: &str) -> Result<Plan, ConfigErrors> {
    load_target(target, &Sources::default())
}

fn probe(target: &str) -> ProbePlan {
    let plan = given(target).unwrap_or_else(|errors| panic!("{target}: {errors}"));
    assert_eq!(plan.dependencies().len(), 1, "nothing else is in the plan");
    let dependency = &plan.dependencies()[0];
    assert!(dependency.policy().enabled());
    dependency.probe().clone().expect("it has a target")
}

fn shown(target: &str) -> String {
    given(target).unwrap().dependencies()[0].policy().target.clone()
}

#[test]
fn a_host_and_a_port_are_asked_by_tcp() {
    for (target, host, port) in [
        ("db.internal:5432", "db.internal", 5432),
        ("10.0.3.7:6379", "10.0.3.7", 6379),
        ("[::1]:5432", "::1", 5432),
        ("redis:6379", "redis", 6379),
    ] {
        let ProbePlan::Tcp(plan) = probe(target) else { panic!("{target} is no port") };
        assert_eq!((plan.host().as_str(), *plan.port(), plan.tls()), (host, port, &None));
        assert_eq!(shown(target), target);
    }
}

#[test]
fn what_a_url_hides_in_per_cent_signs_does_not_reach_a_terminal() {
    let target = "postgresql://app@db.internal/a%1b%5b31m%0ab%E2%80%AEc";
    let ProbePlan::Postgres(plan) = probe(target) else { panic!("no PostgreSQL") };
    assert_eq!(plan.database(), "a\u{1b}[31m\nb\u{202e}c", "it is asked for as it is");
    assert_eq!(shown(target), "db.internal:5432/a\\u{1b}[31m\\u{a}b\\u{202e}c");
}

#[test]
fn a_url_says_what_is_spoken_and_with_what_it_begins() {
    for target in [
        "postgresql+psycopg2://app:p%40ss@db.internal:6432/shop?sslmode=verify-full",
        "postgres://app:p%40ss@db.internal:6432/shop?sslmode=verify-full",
    ] {
        let ProbePlan::Postgres(plan) = probe(target) else { panic!("{target}") };
        assert_eq!(
            (plan.host().as_str(), *plan.port(), plan.database().as_str()),
            ("db.internal", 6432, "shop")
        );
        assert_eq!((plan.user().as_str(), *plan.sslmode()), ("app", SslMode::VerifyFull));
        assert_eq!(
            plan.password().as_ref().map(|password| password.expose().to_owned()),
            Some("p@ss".to_owned())
        );
        assert_eq!(shown(target), "db.internal:6432/shop");
    }
    let ProbePlan::Redis(plan) = probe("rediss://:hunter2@cache.internal/0") else { panic!("no Redis") };
    assert_eq!((plan.host().as_str(), *plan.port(), plan.username()), ("cache.internal", 6379, &None));
    assert_eq!(plan.tls().as_ref().map(|tls| *tls.verify()), Some(Verify::Full));
    let ProbePlan::Redis(plan) = probe("redis://cache") else { panic!("no Redis") };
    assert_eq!((plan.tls(), plan.password().is_some()), (&None, false));
    let ProbePlan::Http(plan) = probe("https://api.internal/health?token=hunter2") else { panic!("no HTTP") };
    assert_eq!((plan.port(), plan.url().path()), (443, "/health"));
    assert_eq!(shown("https://api.internal/health?token=hunter2"), "https://api.internal/health");
}

#[test]
fn what_is_not_used_of_a_url_is_told_and_what_is_weak_too() {
    let warnings =
        given("postgresql://u:hunter2@db.internal/x?application_name=a").unwrap().warnings().to_vec();
    assert!(
        warnings[0].starts_with("the target: its parameter `application_name` is not used"),
        "{warnings:?}"
    );
    assert!(warnings[1].contains("is not verified"), "{warnings:?}");
    assert_eq!(warnings.len(), 2);
    assert_eq!(given("127.0.0.1:1").unwrap().warnings(), [] as [String; 0]);
}

/// Targets that are refused, and a part of what is told of each.
pub(super) const WRONG: &[(&str, &str)] = &[
    ("db.internal:99999", "`99999` is out of range, in the target; allowed: 1 to 65535"),
    ("db.internal:postgres", "in the target"),
    ("db.internal:", "in the target"),
    (":5432", "it is neither a host with a port nor a URL, in the target; allowed: `host:port`"),
    ("db.internal", "it names no port"),
    ("::1:5432", "without brackets"),
    ("fe80::1%eth0:5432", "brackets"),
    ("[fe80::1%eth0]:5432", "zone identifier"),
    ("10.0.0.300:5432", "no name ends in a number"),
    ("u:hunter2@db.internal:5432", "neither a host with a port nor a URL"),
    ("postgres:/u:hunter2@db:5432", "neither a host with a port nor a URL"),
    ("mysql://u:hunter2@db/x", "the URL's scheme `mysql` is not known"),
    ("postgresql://u:hunter2@/x", "the URL cannot be used"),
    ("postgresql:///x", "the URL names no host"),
    ("postgresql://u:12/hunter2@db/x", "percent-encode the password"),
    ("postgresql://u:hunter2@db/x?sslmode=hunter2", "in the target"),
    ("redis+sentinel://:hunter2@a", "Sentinel"),
    ("http://", "the URL cannot be read"),
    ("http://u:hunter2@h:0/", "the port of the URL is 0"),
];

#[test]
fn what_is_wrong_with_one_is_told_without_its_password() {
    for (target, told) in WRONG {
        let errors = given(target).expect_err(target).to_string();
        assert!(errors.contains(told), "{target}: {errors}");
        assert!(errors.starts_with("error: ") && errors.lines().count() == 1, "{target}: {errors}");
        assert!(!errors.contains("dependencies."), "a path that nobody wrote: {errors}");
        let secret = errors.contains("hunter2") && !target.contains("sslmode=hunter2");
        assert!(!secret, "{target}: {errors}");
    }
}

#[test]
fn the_rest_is_as_the_sources_have_it() {
    let env = [("HEALTH_CHECK_CONNECT_TIMEOUT", "7s"), ("DATABASE_HOST", "db.internal")];
    let env = env.map(|(name, value)| (name.to_owned(), value.into())).into_iter().collect();
    let plan = load_target("127.0.0.1:1", &Sources { env, ..Sources::default() }).unwrap();
    assert_eq!(plan.dependencies().len(), 1);
    assert_eq!(plan.dependencies()[0].connect_timeout().as_secs(), 7);
    assert_eq!(plan.warnings(), [] as [String; 0]);
}
