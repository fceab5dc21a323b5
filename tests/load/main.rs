//! `make bench`: speed and size, measured in one run on one machine, beside what they are compared with.
//!
//! - [`machine`]: who runs on which core. [`meter`]: what a process has used. [`report`]: the table.
//! - [`tested`]: the programs under test. [`five`], [`targets`]: what they check. [`wrk`]: load.
//! - [`ready`], [`crowd`], [`soak`], [`checks`], [`postgres`], [`bookkeeping`], [`commands`]: the rows.
//!
//! Nothing here fails for being slow: a target that is missed is told as missed, and the exit code is 0. It is
//! no test, and no test is timed.
//!
//! `BENCH_SOAK=10m` sets how long memory is watched; `BENCH_ROWS="ready start"` measures some rows only, and
//! leaves the page as it is; `BENCH_BINARY` is another `sickbay` than the release build beside this program.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it prints, and where it cannot measure it ends"
)]
#![allow(
    dead_code,
    unreachable_pub,
    reason = "`support` is a library to the tests: whole, and with public items"
)]

mod bookkeeping;
mod checks;
mod commands;
mod crowd;
mod five;
mod machine;
mod meter;
mod postgres;
mod ready;
mod report;
mod soak;
mod support;
mod targets;
mod tested;
mod wrk;

use std::path::Path;
use std::time::Duration;

use machine::Cores;
use report::Row;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sickbay::clock::{Clock, Stopwatch};
use sickbay::config::duration::parse_duration;

/// What is measured, in the order of the table.
const ROWS: [&str; 11] = [
    "ready",
    "crowd",
    "memory",
    "checks",
    "postgres",
    "number",
    "outcome",
    "publication",
    "healthcheck",
    "start",
    "diagnose",
];

/// How long memory is watched where nothing else is said.
const SOAK: Duration = Duration::from_secs(60);

fn main() {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = load.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(f64::NAN);
    let cores = Cores::choose();
    cores.leave_tested();
    raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let watch = Stopwatch::start();
    let chosen = chosen();
    let rows = runtime.block_on(measure(&cores, &chosen));
    let measured = page(&rows, load, &cores, watch.elapsed());
    println!("\n{measured}");
    if chosen.len() == ROWS.len() {
        write(&measured);
    }
}

async fn measure(cores: &Cores, chosen: &[String]) -> Vec<Row> {
    let mut rows = Vec::new();
    for name in chosen {
        eprintln!("measuring: {name}");
        let measured = match name.as_str() {
            "ready" => ready::rows(cores).await,
            "crowd" => crowd::rows(cores).await,
            "memory" => soak::rows(cores, soak_length()).await,
            "checks" => checks::beside_haproxy(cores).await,
            "postgres" => postgres::rows().await,
            "number" => checks::by_number(cores).await,
            "outcome" => bookkeeping::outcomes(),
            "publication" => bookkeeping::publication(),
            "healthcheck" => commands::healthcheck(cores).await,
            "start" => commands::start(cores).await,
            "diagnose" => commands::diagnose().await,
            other => panic!("BENCH_ROWS: there is no \"{other}\"; there are: {}", ROWS.join(" ")),
        };
        eprint!("{}", report::table(&measured));
        rows.extend(measured);
    }
    rows
}

fn chosen() -> Vec<String> {
    let given = std::env::var("BENCH_ROWS").unwrap_or_default();
    let given: Vec<String> = given.split_whitespace().map(str::to_owned).collect();
    if given.is_empty() { ROWS.map(str::to_owned).into() } else { given }
}

fn soak_length() -> Duration {
    match std::env::var("BENCH_SOAK").ok().filter(|text| !text.is_empty()) {
        Some(text) => {
            parse_duration(&text).unwrap_or_else(|| panic!("BENCH_SOAK: `{text}` is no duration such as 10m"))
        }
        None => SOAK,
    }
}

/// The part of the page that is measured.
fn page(rows: &[Row], load: f64, cores: &Cores, took: Duration) -> String {
    let missed = rows.iter().filter(|row| !row.reached()).count();
    let verdict = match missed {
        0 => "All targets were reached.".to_owned(),
        missed => format!("**{missed} of {} targets were not reached.**", rows.len()),
    };
    let alone = if cores.rest.contains(&cores.tested) {
        " There is only one core, so that who asks takes the time of who answers."
    } else {
        ""
    };
    let quiet = if load < 0.5 { "" } else { " The machine was not quiet: take the figures as rough ones." };
    format!(
        "{}\n{verdict}\n\nMeasured on {} with version {} ({}), in {:.0} s, on {}. The load average was {load:.1} before it began.{quiet}{alone}\n",
        report::table(rows),
        today(),
        sickbay::version::VERSION,
        sickbay::version::COMMIT,
        took.as_secs_f64(),
        machine::description(),
    )
}

fn today() -> String {
    let now = Clock::start().now().wall.unix_millis();
    let stamp = jiff::Timestamp::from_millisecond(now).expect("a date");
    stamp.strftime("%Y-%m-%d").to_string()
}

fn write(measured: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/performance.md");
    let page = std::fs::read_to_string(&path).expect("docs/performance.md");
    let page =
        report::replace(&page, measured).unwrap_or_else(|error| panic!("docs/performance.md: {error}"));
    std::fs::write(&path, page).expect("docs/performance.md can be written");
    println!("written to docs/performance.md");
}

/// Daemons live in sbin, which is not in every user's `PATH`.
fn path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

/// Thousands of connections are held.
fn raise_open_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
        .expect("the limit of open files can be raised");
}
