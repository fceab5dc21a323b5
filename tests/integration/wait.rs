//! `sickbay wait`: what it waits for, what it says meanwhile, and how it ends.

use serde_json::{Value, json};

use crate::support::agent::{Env, Output, Running, Signal, run_cli};
use crate::support::config::{Config, on, on_postgres, on_redis};
use crate::support::http::{Answer, HttpServer};
use crate::support::postgres::{Postgres, PostgresOptions};
use crate::support::redis::{Redis, RedisOptions};
use crate::support::tcp;
use crate::support::wait::eventually;

fn port(name: &str, port: u16, impact: &str) -> Value {
    on("tcp", name, json!({"host": "127.0.0.1", "port": port, "impact": impact}))
}

/// No check is cut short by this, and no test waits for it.
const PATIENT: [&str; 3] = ["wait", "--timeout", "10m"];
/// For what is not awaited to its end by any test of what was met meanwhile.
const IMPATIENT: [&str; 3] = ["wait", "--timeout", "1s"];

/// Waits in vain, ever longer, until there was time enough for what is wanted: how long that takes is for the machine to
/// say. Gives what was printed, and how long the wait was.
async fn in_vain(
    config: &Config,
    more: &[&str],
    mut enough: impl FnMut(&Output) -> bool,
) -> (Output, String) {
    let mut last = None;
    for seconds in [1, 2, 4, 8, 16, 32] {
        let timeout = format!("{seconds}s");
        let output = config.run(&[&["wait", "--timeout", &timeout], more].concat()).await;
        if enough(&output) {
            return (output, timeout);
        }
        last = Some(output);
    }
    panic!("there is never time enough: {last:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_once_all_that_is_critical_has_succeeded() {
    let database = Postgres::start(PostgresOptions::default()).await;
    let service = HttpServer::start(Answer::status(503)).await;
    let config = Config::quick([
        on_postgres("database", &database, json!({})),
        on("http", "service", json!({"url": service.url("/"), "retry": {"attempts": 1}})),
        port("cache", tcp::refused_port(), "degraded"),
    ]);
    let waiting = Running::start(&[&PATIENT[..], &["--config", config.path()]].concat(), &Env::new());
    waiting.until_printed("service: unexpected_status (503)").await;
    waiting.until_printed("database: up after ").await;
    // It asks again and again, and says the same thing once.
    eventually("more checks", || {
        let asked = service.seen().len();
        std::future::ready(if asked > 4 { Ok(()) } else { Err(asked) })
    })
    .await;
    service.answer(Answer::status(200));
    let (status, printed) = waiting.ended().await;
    assert_eq!(status.code(), Some(0), "{printed}");
    assert!(printed.starts_with("waiting for database, service, 600s at most"), "{printed}");
    assert_eq!(printed.matches("unexpected_status").count(), 1, "{printed}");
    assert!(printed.contains("service: up after ") && !printed.contains("cache"), "{printed}");
    assert!(printed.lines().last().is_some_and(|line| line.contains("up after ")), "{printed}");
    assert!(!printed.contains('\x1b'), "no terminal, no cursor movements: {printed:?}");

    // What is named is waited for, whatever its impact.
    let named = config.run(&[&IMPATIENT[..], &["cache"]].concat()).await;
    assert_eq!(named.code, Some(1), "{named:?}");
    let named = config.run(&[&PATIENT[..], &["service"]].concat()).await;
    assert_eq!(named.code, Some(0), "{named:?}");
    assert!(named.stdout.is_empty() && named.stderr.starts_with("waiting for service, "), "{named:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_up_late_is_seen() {
    let mut redis = Redis::start(RedisOptions::default()).await;
    redis.stop().await;
    let config = Config::quick([on_redis("redis", &redis, json!({"impact": "critical"}))]);
    let waiting = Running::start(&[&PATIENT[..], &["--config", config.path()]].concat(), &Env::new());
    waiting.until_printed("redis: connect_refused (ECONNREFUSED): ").await;
    redis.restart().await;
    let (status, printed) = waiting.ended().await;
    assert_eq!(status.code(), Some(0), "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_timeout_it_says_what_is_missing_and_why() {
    let (fine, mute) = (tcp::mute().await, HttpServer::start(Answer::never()).await);
    let config = Config::quick([
        port("fine", fine.address().port(), "critical"),
        port("gone", tcp::refused_port(), "critical"),
        // Its one check is longer than the wait.
        on("http", "mute", json!({"url": mute.url("/"), "timeout": "10m", "connect_timeout": "10m"})),
    ]);
    // Both have been checked, and the third is being.
    let mut asked = 0;
    let mut met = |output: &Output| {
        let before = std::mem::replace(&mut asked, mute.seen().len());
        asked > before
            && ["fine: up after ", "gone: connect_refused"].iter().all(|it| output.stderr.contains(it))
    };
    let (output, timeout) = in_vain(&config, &[], &mut met).await;
    assert_eq!((output.code, output.stdout.as_str()), (Some(1), ""), "{output:?}");
    let (_, told) = output
        .stderr
        .split_once(&format!("error: not up after {timeout}: gone, mute"))
        .expect("what is missing");
    assert!(!told.contains("fine"), "{output:?}");
    for part in [
        "gone: connect_refused (ECONNREFUSED) in phase connect at 127.0.0.1:",
        "connection refused\n  → ",
        "mute: ",
        " in phase query at 127.0.0.1:",
    ] {
        assert!(told.contains(part), "{part}: {output:?}");
    }

    let (going_on, _) = in_vain(&config, &["--on-timeout", "continue"], &mut met).await;
    assert_eq!(going_on.code, Some(0), "{going_on:?}");
    assert!(going_on.stderr.contains("warning: going on without gone, mute"), "{going_on:?}");
    assert!(going_on.stderr.contains("in phase connect"), "{going_on:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_is_up_with_one_of_it() {
    let replica = Postgres::start(PostgresOptions::default()).await;
    let broken = json!({"port": tcp::refused_port()});
    let config = Config::quick([
        on_postgres("database", &replica, broken),
        on_postgres("replica", &replica, json!({"impact": "degraded", "fallback_of": "database"})),
    ]);
    for names in [&[][..], &["database"], &["replica"], &["database", "replica"]] {
        let output = config.run(&[&PATIENT[..], names].concat()).await;
        assert_eq!(output.code, Some(0), "{names:?}: {output:?}");
        assert!(output.stderr.contains("replica: up after "), "{names:?}: {output:?}");
    }
    let output = config.run(&PATIENT).await;
    assert!(
        output.stderr.contains("replica: up after") && output.stderr.contains("takes the place"),
        "{output:?}"
    );

    let neither = Config::quick([
        port("one", tcp::refused_port(), "critical"),
        on(
            "tcp",
            "other",
            json!({"host": "127.0.0.1", "port": tcp::refused_port(), "fallback_of": "one", "impact": "none"}),
        ),
    ]);
    let (output, timeout) = in_vain(&neither, &[], |output| {
        ["one: connect_refused", "other: connect_refused"].iter().all(|it| output.stderr.contains(it))
    })
    .await;
    assert_eq!(output.code, Some(1), "{output:?}");
    let missing = format!("error: not up after {timeout}: one\n");
    let (_, told) = output.stderr.split_once(&missing).expect("what is missing");
    assert!(told.contains("one: connect_refused") && told.contains("other: connect_refused"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_it_at_once() {
    let config = Config::quick([port("gone", tcp::refused_port(), "critical")]);
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let waiting = Running::start(&[&PATIENT[..], &["--config", config.path()]].concat(), &Env::new());
        waiting.until_printed("gone: connect_refused").await;
        waiting.signal(signal);
        let (status, printed) = waiting.ended().await;
        assert_eq!(status.code(), Some(code), "{printed}");
        assert!(printed.ends_with("waiting for gone"), "{printed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_waited_for_is_said_at_once() {
    let nothing = run_cli(&PATIENT, &Env::new()).await;
    assert_eq!(nothing.code, Some(0), "{nothing:?}");
    assert!(nothing.stderr.contains("nothing to wait for"), "{nothing:?}");
    let config = Config::quick([port("fine", tcp::refused_port(), "degraded")]);
    let uncritical = config.run(&PATIENT).await;
    assert_eq!(uncritical.code, Some(0), "{uncritical:?}");
    for (arguments, told) in [
        (&["nobody"][..], "error: there is no dependency \"nobody\"; there are: "),
        (&["fine", "mlflow"], "error: \"mlflow\" is disabled: MLFLOW_TRACKING_URI is not set; enable it"),
        (&["--timeout", "90"], "a duration with its unit is allowed, such as 500ms, 90s or 5m, up to 24h"),
        (&["--timeout", "0s"], "a duration with its unit"),
        (&["--timeout", "25h"], "up to 24h"),
        (&["--timeout"], "a value is required for '--timeout <DURATION>'"),
        (&["--on-timeout", "ignore"], "[possible values: fail, continue]"),
    ] {
        let output = config.run(&[&["wait"][..], arguments].concat()).await;
        assert_eq!((output.code, output.stdout.as_str()), (Some(2), ""), "{arguments:?}: {output:?}");
        assert!(output.stderr.contains(told), "{arguments:?}: {output:?}");
    }
}
