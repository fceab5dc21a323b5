//! Whole processes: `sickbay healthcheck` beside curl, `sickbay diagnose` beside `sickbay check`, and the agent from its
//! start to its first ready answer.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;
use sickbay::clock::{Deadline, Stopwatch};

use super::five::Five;
use super::machine::Cores;
use super::report::{Row, Target, median, quantile, range};
use super::support::client;
use super::support::scratch::Folder;
use super::tested::{self, Tested};

/// Alternating.
const RUNS: usize = 200;

/// `sickbay healthcheck` beside curl, both from fork to exit.
pub async fn healthcheck(cores: &Cores) -> Vec<Row> {
    // Without dependencies: the asked agent has nothing to do but to answer.
    let sickbay = Tested::sickbay(cores, &json!({"dependencies": []})).await;
    let address = sickbay.address.to_string();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let mut healthcheck = Command::new(tested::binary());
        // Set up as a container is: by its environment.
        healthcheck.arg("healthcheck").env_clear().env("SICKBAY_LISTEN", &address);
        ours.push(millis_of(healthcheck));
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--fail", "--output", "/dev/null"])
            .arg(format!("http://{address}/health/live"));
        theirs.push(millis_of(curl));
    }
    vec![Row {
        what: "`sickbay healthcheck`, the whole process, median, ms".into(),
        ours: format!("{:.2}", median(&ours)),
        beside: format!("curl: {:.2}", median(&theirs)),
        ratio: median(&ours) / median(&theirs),
        target: Target::AtMost(0.5),
    }]
}

fn millis_of(mut command: Command) -> f64 {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let watch = Stopwatch::start();
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let took = watch.elapsed();
    assert!(status.success(), "{command:?}: {status}");
    took.as_secs_f64() * 1000.0
}

/// Alternating.
const REPORTS: usize = 15;
/// How much longer than a check a report on what works may take, in milliseconds.
const ABOVE_A_CHECK: f64 = 250.0;

/// `sickbay diagnose` of a healthy PostgreSQL over TLS beside `sickbay check` of it, both from fork to exit.
pub async fn diagnose() -> Vec<Row> {
    let five = Five::start().await;
    let folder = Folder::new("diagnose");
    let files = tested::config_files(&folder, &five.config("10s"));
    let sickbay = |command: &str| {
        let mut sickbay = Command::new(tested::binary());
        sickbay.env_clear().args([command, "orders"]);
        for file in &files {
            sickbay.arg("--config").arg(file);
        }
        millis_of(sickbay)
    };
    let (checks, reports): (Vec<_>, Vec<_>) =
        (0..REPORTS).map(|_| (sickbay("check"), sickbay("diagnose"))).unzip();
    let above = median(&reports) - median(&checks);
    vec![Row {
        what: "`sickbay diagnose` of a healthy PostgreSQL over TLS, above `sickbay check` of it, median, ms"
            .into(),
        ours: format!("{above:.0} ({:.0} and {:.0})", median(&reports), median(&checks)),
        beside: format!("{ABOVE_A_CHECK} ms"),
        ratio: above / ABOVE_A_CHECK,
        target: Target::AtMost(1.0),
    }]
}

const STARTS: usize = 10;
/// The wanted bound, in milliseconds.
const BOUND: f64 = 300.0;
/// No start takes nearly as long.
const PATIENCE: Duration = Duration::from_secs(30);

/// From fork to the first 200 of `/health/ready`, with five healthy servers beside it.
pub async fn start(cores: &Cores) -> Vec<Row> {
    let five = Five::start().await;
    let config = five.config("10s");
    let mut took = Vec::new();
    for _ in 0..STARTS {
        let watch = Stopwatch::start();
        let sickbay = Tested::sickbay_unseen(cores, &config);
        let limit = Deadline::after(PATIENCE);
        while !matches!(client::get(sickbay.address, "/health/ready").await, Ok(answer) if answer.status == 200)
        {
            assert!(
                !limit.remaining().is_zero(),
                "not ready within {PATIENCE:?}; it printed:\n{}",
                sickbay.log()
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        took.push(watch.elapsed().as_secs_f64() * 1000.0);
    }
    let most = quantile(&took, 1.0);
    vec![Row {
        what: format!("start to the first ready answer, five dependencies over TLS, slowest of {STARTS}, ms"),
        ours: format!("{most:.0} ({})", range(&took, 0)),
        beside: format!("{BOUND} ms"),
        ratio: most / BOUND,
        target: Target::AtMost(1.0),
    }]
}
