//! `sickbay diagnose`: what it takes, what it prints, how it ends.

use serde_json::{Value, json};

use crate::support::agent::{Env, Output, Running, Signal, run_cli};
use crate::support::certs::certs;
use crate::support::config::{Config, on, on_postgres, on_redis, quick};
use crate::support::http::{Answer, HttpServer};
use crate::support::postgres::{DATABASE, Postgres, PostgresOptions, PostgresTls, USER};
use crate::support::redis::{Redis, RedisOptions};
use crate::support::tcp;
use crate::support::wait::eventually;

fn port(name: &str, port: u16) -> Value {
    on("tcp", name, json!({"host": "127.0.0.1", "port": port}))
}

/// No colours, no cursor movements: what is piped is read by programs.
fn assert_plain(output: &Output) {
    assert!(!output.stdout.contains('\x1b') && !output.stderr.contains('\x1b'), "{output:?}");
}

/// The hops of a report with a mark each: `dns+ route+ connect-`, and one that was not reached `tls?`.
fn hops(report: &Value) -> String {
    let hop = |hop: &Value| {
        let mark = match hop["ok"].as_bool() {
            Some(true) => '+',
            Some(false) => '-',
            None => '?',
        };
        format!("{}{mark}", hop["hop"].as_str().expect("a hop"))
    };
    report["hops"].as_array().expect("a list").iter().map(hop).collect::<Vec<_>>().join(" ")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_target_is_refused_with_what_would_be_one() {
    let config =
        Config::quick([port("ledger", tcp::refused_port()), on("redis", "off", json!({"enabled": false}))]);
    for (arguments, told) in [
        (&["diagnose"][..], "<NAME|HOST:PORT|URL|--all>"),
        (&["diagnose", "ledger", "--all"], "cannot be used with"),
        (&["diagnose", "ledger", "--format", "xml"], "xml"),
        (&["diagnose", "ledger", "--timeout", "0s"], "a duration with its unit"),
        (&["diagnose", "ledgr"], "there is no dependency \"ledgr\"; there are: "),
        (&["diagnose", "ledgr"], "did you mean \"ledger\"?"),
        (&["diagnose", "db.internal"], "as host:port, such as db.internal:5432, or as a URL"),
        (&["diagnose", "off"], "\"off\" is disabled: "),
        (&["diagnose", "redis"], "\"redis\" is disabled: REDIS_HOST is not set"),
        (&["diagnose", "localhost:99999"], "`99999` is out of range, in the target; allowed: 1 to 65535"),
        (&["diagnose", "mysql://db/x"], "the URL's scheme `mysql` is not known"),
    ] {
        let output = config.run(arguments).await;
        assert_eq!((output.code, output.stdout.as_str()), (Some(2), ""), "{arguments:?}: {output:?}");
        assert!(output.stderr.contains(told), "{told}: {output:?}");
    }
    let invalid = Config::text("defaults: {interval: soon}\n");
    for arguments in [["diagnose", "database"], ["diagnose", "--all"]] {
        let output = invalid.run(&arguments).await;
        assert_eq!(output.code, Some(2), "{output:?}");
        assert!(output.stderr.contains("defaults.interval"), "{output:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_and_a_port_need_no_configuration_and_live_with_a_wrong_one() {
    let refused = format!("127.0.0.1:{}", tcp::refused_port());
    let alone = run_cli(&["diagnose", &refused], &Env::new()).await;
    assert_eq!((alone.code, alone.stderr.as_str()), (Some(1), ""), "{alone:?}");
    assert!(alone.stdout.starts_with(&format!("{refused}\n\n")), "{alone:?}");
    assert!(alone.stdout.contains("\n✗ refused (likely): "), "{alone:?}");

    let invalid = Config::text("defaults: {interval: soon, timeout: 5}\n");
    let beside = invalid.run(&["diagnose", &refused, "--format", "json"]).await;
    assert_eq!(beside.code, Some(1), "{beside:?}");
    assert!(beside.stderr.starts_with("warning: the configuration is passed over: 2 "), "{beside:?}");
    assert_eq!(beside.json()["verdict"]["cause"], "refused");
    let missing = ["diagnose", &refused, "--config", "/nowhere/sickbay.yaml"];
    let missing = run_cli(&missing, &Env::new()).await;
    assert_eq!(missing.code, Some(1), "{missing:?}");
    assert!(missing.stderr.contains("passed over"), "{missing:?}");

    let redis = Redis::start(RedisOptions::default()).await;
    let works = run_cli(&["diagnose", &format!("127.0.0.1:{}", redis.port())], &Env::new()).await;
    assert_eq!(works.code, Some(0), "{works:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_works_is_told_hop_by_hop_and_ends_with_0() {
    let tls = PostgresTls::Required(certs().good.clone());
    let mut database = Postgres::start(PostgresOptions { tls, ..PostgresOptions::default() }).await;
    let settings =
        json!({"host": "localhost", "sslmode": "verify-full", "root_cert": certs().ca, "impact": "none"});
    let config = Config::quick([on_postgres("orders", &database, settings)]);
    let output = config.run(&["diagnose", "orders"]).await;
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{output:?}");
    assert_plain(&output);
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines[0], format!("orders  localhost:{}/{DATABASE}", database.port()));
    for hop in ["dns", "route", "connect", "tls", "protocol", "auth", "query"] {
        let line = lines.iter().find(|line| line.starts_with(&format!("✓ {hop} ")));
        assert!(line.is_some(), "{hop}: {output:?}");
    }
    assert!(lines.iter().any(|line| line.starts_with("✓ works (certain): ")), "{output:?}");

    let report = config.run(&["diagnose", "orders", "--format", "json"]).await.json();
    assert_eq!(hops(&report), "dns+ route+ connect+ tls+ protocol+ auth+ query+", "{report:#}");
    assert_eq!(report["ok"], true);
    assert_eq!((&report["dependency"], &report["failure_kind"]), (&json!("orders"), &Value::Null));
    assert_eq!(report["verdict"]["cause"], "works");
    assert_eq!(report["check_id"], Value::Null, "somebody asked");
    database.stop().await;
    let log = database.log();
    for noise in ["unexpected EOF", "incomplete startup", "could not accept SSL", "reset by peer"] {
        assert!(!log.contains(noise), "{noise}: {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_is_logged_in_with_and_its_password_is_never_told() {
    let database = Postgres::start(PostgresOptions::default()).await;
    let service = HttpServer::start(Answer::status(503)).await;
    let env = Env::new().set("SICKBAY_LOG", "trace");
    let url = |password: &str| {
        let port = database.port();
        format!("postgresql+psycopg2://{USER}:{password}@127.0.0.1:{port}/{DATABASE}?sslmode=disable")
    };
    let right = run_cli(&["diagnose", &url(database.password()), "--format", "json"], &env).await;
    assert_eq!(right.code, Some(0), "{right:?}");
    assert!(hops(&right.json()).ends_with("auth+ query+"), "{right:?}");
    assert!(!right.stderr.contains(database.password()), "{right:?}");

    let wrong = run_cli(&["diagnose", &url("hunter2"), "--format", "json"], &env).await;
    assert_eq!(wrong.code, Some(1), "{wrong:?}");
    let report = wrong.json();
    assert_eq!((&report["failure_kind"], &report["dependency"]), (&json!("auth_failed"), &Value::Null));
    assert_eq!(report["verdict"]["cause"], "password_wrong", "{report:#}");
    assert!(wrong.stderr.contains("connection parameters"), "the log goes to standard error: {wrong:?}");
    let http = format!("{}?token=hunter2", service.url("/health")).replace("://", "://ann:hunter2@");
    let asked = run_cli(&["diagnose", &http], &env).await;
    assert_eq!(asked.code, Some(1), "{asked:?}");
    assert!(asked.stdout.contains("\n✗ unexpected_status ("), "{asked:?}");
    for output in [wrong, asked] {
        assert!(!output.stdout.contains("hunter2") && !output.stderr.contains("hunter2"), "{output:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_are_diagnosed_side_by_side_and_one_that_fails_decides() {
    let redis = Redis::start(RedisOptions::default()).await;
    let fine = tcp::mute().await;
    let mut content = quick([
        on_redis("sessions", &redis, json!({})),
        port("gone", tcp::refused_port()),
        port("fine", fine.address().port()),
        on("redis", "off", json!({"enabled": false})),
    ]);
    let config = Config::of(&content);
    let output = config.run(&["diagnose", "--all", "--format", "json"]).await;
    assert_eq!((output.code, output.stderr.as_str()), (Some(1), ""), "{output:?}");
    let report = output.json();
    assert_eq!(report["ok"], false);
    let targets = report["targets"].as_array().expect("a list");
    let seen: Vec<_> = targets.iter().map(|it| (it["dependency"].as_str(), it["ok"].as_bool())).collect();
    let expected = [("sessions", true), ("gone", false), ("fine", true)];
    assert_eq!(seen, expected.map(|(name, ok)| (Some(name), Some(ok))), "in the order of the configuration");
    let text = config.run(&["diagnose", "--all"]).await;
    assert_eq!(text.code, Some(1), "{text:?}");
    assert_plain(&text);
    for name in ["sessions", "gone", "fine"] {
        assert!(text.stdout.lines().any(|line| line.starts_with(&format!("{name}  127.0.0.1:"))), "{text:?}");
    }

    content["dependencies"].as_array_mut().expect("a list").remove(1);
    let all_well = Config::of(&content).run(&["diagnose", "--all", "--format", "json"]).await;
    assert_eq!((all_well.code, &all_well.json()["ok"]), (Some(0), &json!(true)), "{all_well:?}");
    let none = run_cli(&["diagnose", "--all", "--format", "json"], &Env::new()).await;
    assert_eq!((none.code, none.stdout.as_str()), (Some(2), ""), "{none:?}");
    assert!(none.stderr.contains("error: nothing to diagnose: no dependency is enabled"), "{none:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_it_and_the_code_says_which() {
    let mute = tcp::mute().await;
    let url = format!("postgresql://app@{}/x?sslmode=disable", mute.address());
    for (signal, number) in [(Signal::TERM, 15), (Signal::HUP, 1)] {
        let before = mute.accepted();
        let running = Running::start(&["diagnose", &url, "--timeout", "10m"], &Env::new());
        eventually("a connection", || {
            std::future::ready(if mute.accepted() > before { Ok(()) } else { Err("none came") })
        })
        .await;
        running.signal(signal);
        let (status, printed) = running.ended().await;
        assert_eq!(status.code(), Some(128 + number), "{printed}");
        let told = format!("ended by signal {number}, before the diagnosis had ended");
        assert!(printed.contains(&told), "{printed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_over_in_time_and_tells_what_it_did_not_get_to() {
    let mute = tcp::mute().await;
    let url = format!("postgresql://app@{}/x?sslmode=disable", mute.address());
    let output = run_cli(&["diagnose", &url, "--timeout", "1s", "--format", "json"], &Env::new()).await;
    assert_eq!(output.code, Some(1), "{output:?}");
    let report = output.json();
    assert_eq!(report["ok"], false);
    assert!(hops(&report).contains("connect+"), "{report:#}");
    assert!(report["verdict"]["confidence"] != "certain", "{report:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tasks_metadata_are_asked_for_and_missed_where_they_are_not_there() {
    let metadata =
        HttpServer::start(Answer::status(200).body(r#"{"Cluster": "shop", "Revision": "7"}"#)).await;
    let refused = format!("127.0.0.1:{}", tcp::refused_port());
    let run = async |uri: String| {
        run_cli(&["diagnose", &refused], &Env::new().set("ECS_CONTAINER_METADATA_URI_V4", uri)).await
    };
    let known = run(metadata.url("/v4/abc")).await;
    assert_eq!((known.code, known.stderr.as_str()), (Some(1), ""), "{known:?}");
    assert_eq!(metadata.seen().iter().map(|it| it.path.as_str()).collect::<Vec<_>>(), ["/v4/abc/task"]);
    metadata.answer(Answer::status(500));
    for uri in [metadata.url("/v4/abc"), format!("http://{refused}/v4/abc"), "http://10.0.0.1/v4".to_owned()]
    {
        let unknown = run(uri).await;
        assert_eq!(unknown.code, Some(1), "{unknown:?}");
        assert!(unknown.stderr.starts_with("warning: the task's metadata cannot be read: "), "{unknown:?}");
    }
}
