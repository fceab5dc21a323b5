//! Resident memory with five dependencies over TLS, and whether it stays where it is.

use std::time::Duration;

use sickbay::clock::Deadline;

use super::five::Five;
use super::machine::Cores;
use super::meter::{self, Memory};
use super::report::{Row, Target, median, quantile};
use super::support::client;
use super::tested::Tested;

/// The wanted bound with CloudWatch off, in MiB.
const BOUND: f64 = 14.0;

/// Histories and buffers fill before anything is judged.
const SETTLE: Duration = Duration::from_secs(20);

/// Growth beyond this, in MiB, is no noise: it is less than a leak of 50 bytes a check comes to in an hour.
const FLAT: f64 = 0.5;

/// The rows. `soak` is how long memory is watched.
pub async fn rows(cores: &Cores, soak: Duration) -> Vec<Row> {
    let five = Five::start().await;
    let sickbay = Tested::sickbay(cores, &five.config("1s")).await;
    sickbay.until_well("/health/ready").await;
    watch(&sickbay, SETTLE).await;
    let seen = watch(&sickbay, soak).await;
    let (first, last) = (third(&seen, 0), third(&seen, 2));
    let most = quantile(&resident(&seen), 1.0);
    let heap = seen.last().map_or(f64::NAN, |last| last.anonymous);
    let grew = (last - first).max(0.0);
    let minutes = soak.as_secs_f64() / 60.0;
    vec![
        Row {
            what: "resident memory, five dependencies over TLS checked each second, CloudWatch not built yet, MiB".into(),
            ours: format!("{most:.1}, of that {heap:.1} heap and stacks"),
            beside: format!("{BOUND} MiB"),
            ratio: most / BOUND,
            target: Target::AtMost(1.0),
        },
        Row {
            what: format!("its growth over {minutes:.0} min, last third against the first, MiB"),
            ours: format!("{grew:.2} ({first:.2} to {last:.2})"),
            beside: format!("{FLAT} MiB"),
            ratio: grew / FLAT,
            target: Target::AtMost(1.0),
        },
    ]
}

/// Looks each half second, while load balancer and operator ask as they do.
async fn watch(sickbay: &Tested, length: Duration) -> Vec<Memory> {
    let until = Deadline::after(length);
    let mut seen = Vec::new();
    while !until.remaining().is_zero() {
        for path in ["/health/alb", "/health/ready", "/health/detailed"] {
            client::get(sickbay.address, path).await.unwrap_or_else(|error| panic!("{path}: {error}"));
        }
        seen.push(meter::memory(sickbay.pid()));
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    seen
}

fn resident(seen: &[Memory]) -> Vec<f64> {
    seen.iter().map(|memory| memory.resident).collect()
}

/// The median of one third of what was seen.
fn third(seen: &[Memory], which: usize) -> f64 {
    let length = seen.len() / 3;
    median(&resident(&seen[which * length..(which + 1) * length]))
}
