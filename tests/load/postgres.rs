//! A check of PostgreSQL over its kept connection beside the least that can be asked: `SELECT 1`.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;
use sickbay::clock::{Clock, Stopwatch};
use sickbay::config::{self, Env, Overrides, Sources};
use sickbay::health::circuit::Permit;
use sickbay::probe::check::{self, Loudness};
use sickbay::probe::{self};
use tokio_postgres::NoTls;

use super::report::{Row, Target, median};
use super::support::postgres::{self, Postgres, PostgresOptions};
use super::support::scratch::Folder;

/// Alternating, so that what else the machine does hits both alike.
const ASKED: usize = 3000;
/// Before anything is counted: caches fill, the server plans.
const WARM_UP: usize = 200;

/// The row.
pub async fn rows() -> Vec<Row> {
    let server = Postgres::start(PostgresOptions::default()).await;
    let mut settings = tokio_postgres::Config::new();
    settings.host("127.0.0.1").port(server.port()).user(postgres::USER).dbname(postgres::DATABASE);
    settings.password(server.password());
    let (bare, connection) = settings.connect(NoTls).await.expect("a session");
    let connection = tokio::spawn(connection);

    let folder = Folder::new("plan");
    let plan = plan(&folder, &server);
    let dependency =
        plan.dependencies().iter().find(|it| it.policy().name.as_str() == "measured").expect("it");
    let mut probe = probe::build(dependency, &probe::network(&plan)).expect("a probe").expect("enabled");
    let policy = Arc::clone(dependency.policy());
    let clock = Clock::start();

    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for number in 0..WARM_UP + ASKED {
        let watch = Stopwatch::start();
        bare.simple_query("SELECT 1").await.expect("an answer");
        let its = watch.elapsed();
        let watch = Stopwatch::start();
        let found =
            check::run(&mut *probe, &policy, Permit::Check, Loudness::News, check::new_id(), clock).await;
        let own = watch.elapsed();
        assert!(found.ok(), "{:?}", found.failure());
        // A check that makes a new connection is another matter.
        if number >= WARM_UP && !found.new_connection {
            theirs.push(its.as_secs_f64() * 1e6);
            ours.push(own.as_secs_f64() * 1e6);
        }
    }
    probe.close().await;
    drop(bare);
    let _ = connection.await;
    vec![Row {
        what: "a PostgreSQL check over its kept connection, median, µs".into(),
        ours: format!("{:.0}", median(&ours)),
        beside: format!("`SELECT 1` by tokio-postgres: {:.0}", median(&theirs)),
        ratio: median(&ours) / median(&theirs),
        target: Target::AtMost(1.5),
    }]
}

/// A plan with this server as a dependency, without TLS as the other connection is.
fn plan(folder: &Folder, server: &Postgres) -> config::Plan {
    let content = json!({"dependencies": [{
        "name": "measured", "kind": "postgres", "impact": "critical", "host": "127.0.0.1", "port": server.port(),
        "database": postgres::DATABASE, "user": postgres::USER, "password": server.password(),
        "sslmode": "disable",
    }]});
    let files: Vec<PathBuf> = vec![folder.write("plan.yaml", content.to_string().as_bytes())];
    let sources = Sources { files, env: Env::new(), overrides: Overrides::default() };
    config::load(&sources).unwrap_or_else(|errors| panic!("{errors}"))
}
