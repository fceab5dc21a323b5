//! Checks of PostgreSQL over their kept connections beside the least that can be asked: `SELECT 1`.
//!
//! A check asks the server for all that it tells of itself, but not twice within a second; in between it asks for its
//! role. At the usual intervals every check is a full one, so both are measured.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sickbay::clock::{Clock, Stopwatch};
use sickbay::config::{self, Env, Overrides, Sources};
use sickbay::health::circuit::Permit;
use sickbay::health::dependency::Policy;
use sickbay::probe::check::{self, Loudness};
use sickbay::probe::{self, Probe};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::meter;
use super::report::{Row, Target, median};
use super::support::postgres::{self, Postgres, PostgresOptions};
use super::support::scratch::Folder;

/// The wanted bound, in times of `SELECT 1`.
const BOUND: f64 = 1.5;

/// Light checks in turn with `SELECT 1`, so that what else the machine does hits both alike.
const LIGHT: usize = 3000;
/// As many sessions are kept and checked in turn, so that each has been silent for long when its turn comes…
const SESSIONS: usize = 10;
/// …namely for longer than a full answer is told again.
const SILENT: Duration = Duration::from_millis(1100);
/// How often each is checked.
const TURNS: usize = 20;
/// Before anything is counted: caches fill, the server plans.
const WARM_UP: usize = 200;

/// The rows.
pub async fn rows() -> Vec<Row> {
    let server = Postgres::start(PostgresOptions::default()).await;
    let mut settings = tokio_postgres::Config::new();
    settings.host("127.0.0.1").port(server.port()).user(postgres::USER).dbname(postgres::DATABASE);
    settings.password(server.password());
    let (bare, connection) = settings.connect(NoTls).await.expect("a session");
    let connection = tokio::spawn(connection);

    let mut sessions = Sessions::open(&server).await;
    for _ in 0..WARM_UP {
        select_one(&bare).await;
        sessions.check(0).await;
    }
    let light = {
        let mut found = Found::begin(&bare).await;
        for _ in 0..LIGHT {
            found.add(select_one(&bare).await, sessions.check(0).await);
        }
        found.end(&bare).await
    };
    let full = {
        let mut found = Found::begin(&bare).await;
        for _ in 0..TURNS {
            tokio::time::sleep(SILENT).await;
            for session in 0..SESSIONS {
                // The one before is not counted: it finds caches that have gone cold meanwhile.
                select_one(&bare).await;
                found.add(select_one(&bare).await, sessions.check(session).await);
            }
        }
        found.end(&bare).await
    };
    sessions.close().await;
    drop(bare);
    let _ = connection.await;
    vec![
        light.row("a PostgreSQL check within a second of the last, which asks for the role, median, µs"),
        full.row("a full PostgreSQL check, as every one is at the default interval of 10 s, median, µs"),
    ]
}

/// What one `SELECT 1` takes.
async fn select_one(bare: &Client) -> Duration {
    let watch = Stopwatch::start();
    bare.simple_query("SELECT 1").await.expect("an answer");
    watch.elapsed()
}

/// Durations of both, in microseconds, and what the server has used.
struct Found {
    theirs: Vec<f64>,
    ours: Vec<f64>,
    /// The server's processor time for our sessions before and, at the end, since then.
    server: Duration,
}

impl Found {
    async fn begin(bare: &Client) -> Self {
        Self { theirs: Vec::new(), ours: Vec::new(), server: used_by_server(bare).await }
    }

    fn add(&mut self, its: Duration, own: Duration) {
        self.theirs.push(its.as_secs_f64() * 1e6);
        self.ours.push(own.as_secs_f64() * 1e6);
    }

    async fn end(self, bare: &Client) -> Self {
        Self { server: used_by_server(bare).await.saturating_sub(self.server), ..self }
    }

    fn row(&self, what: &str) -> Row {
        let server = self.server.as_secs_f64() * 1e6 / self.ours.len() as f64;
        Row {
            what: what.into(),
            ours: format!("{:.0}; {server:.0} of the server's processor time", median(&self.ours)),
            beside: format!("`SELECT 1` by tokio-postgres: {:.0}", median(&self.theirs)),
            ratio: median(&self.ours) / median(&self.theirs),
            target: Target::AtMost(BOUND),
        }
    }
}

/// Processor time that the server's processes for our sessions have used so far.
async fn used_by_server(bare: &Client) -> Duration {
    let question = "SELECT pid FROM pg_stat_activity WHERE application_name = 'sickbay'";
    let answer = bare.simple_query(question).await.expect("an answer");
    let numbers = answer.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
        _ => None,
    });
    numbers.map(meter::cpu).sum()
}

/// Probes of the same server, each with a session of its own.
struct Sessions {
    probes: Vec<Box<dyn Probe>>,
    policy: Arc<Policy>,
    clock: Clock,
}

impl Sessions {
    async fn open(server: &Postgres) -> Self {
        let folder = Folder::new("plan");
        let plan = plan(&folder, server);
        let named = |it: &&config::plan::DependencyPlan| it.policy().name.as_str() == "measured";
        let dependency = plan.dependencies().iter().find(named).expect("it");
        let network = probe::network(&plan);
        let probe = || probe::build(dependency, &network).expect("a probe").expect("enabled");
        let probes = (0..SESSIONS).map(|_| probe()).collect();
        let mut sessions = Self { probes, policy: Arc::clone(dependency.policy()), clock: Clock::start() };
        for session in 0..SESSIONS {
            sessions.check(session).await;
        }
        sessions
    }

    async fn check(&mut self, session: usize) -> Duration {
        let Self { probes, policy, clock } = self;
        let probe = &mut *probes[session];
        let watch = Stopwatch::start();
        let found = check::run(probe, policy, Permit::Check, Loudness::News, check::new_id(), *clock).await;
        let took = watch.elapsed();
        assert!(found.ok(), "{:?}", found.failure());
        took
    }

    async fn close(self) {
        for probe in self.probes {
            probe.close().await;
        }
    }
}

/// A plan with this server as a dependency, without TLS as the other connection is. A check that makes a new
/// connection is another matter, so there is none here but the first.
fn plan(folder: &Folder, server: &Postgres) -> config::Plan {
    let content = json!({"dependencies": [{
        "name": "measured", "kind": "postgres", "impact": "critical", "host": "127.0.0.1", "port": server.port(),
        "database": postgres::DATABASE, "user": postgres::USER, "password": server.password(),
        "sslmode": "disable", "reconnect_every": 10000,
    }]});
    let files: Vec<PathBuf> = vec![folder.write("plan.yaml", content.to_string().as_bytes())];
    let sources = Sources { files, env: Env::new(), overrides: Overrides::default() };
    config::load(&sources).unwrap_or_else(|errors| panic!("{errors}"))
}
