//! `/health/ready` against HAProxy's `monitor-uri`, each on one thread; and while every dependency hangs.

use std::time::Duration;

use serde_json::{Value, json};

use super::five::Five;
use super::machine::Cores;
use super::report::{Row, Target, median, range};
use super::tested::Tested;
use super::wrk::{self, Round};

const PATH: &str = "/health/ready";

/// Rounds, alternating: what else the machine does meanwhile hits all alike.
const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_secs(3);
const WARM_UP: Duration = Duration::from_secs(1);

/// The rows.
pub async fn rows(cores: &Cores) -> Vec<Row> {
    let (well, hung) = (Five::start().await, Five::start().await);
    let haproxy = Tested::haproxy(cores, "").await;
    let all_well = Tested::sickbay(cores, &restless(well.config("1s"))).await;
    all_well.until_well(PATH).await;
    let all_hang = Tested::sickbay(cores, &restless(hung.config("1s"))).await;
    all_hang.until_well(PATH).await;
    hung.hang().await;
    all_hang.until_each_is("degraded").await;

    let [theirs, ours, hanging] = alternate([&haproxy, &all_well, &all_hang]).await;
    let ratio = |a: &[Round], b: &[Round]| median(&rates(a)) / median(&rates(b));
    vec![
        Row {
            what: "`/health/ready`, answers per second, one thread".into(),
            ours: told(&ours),
            beside: format!("HAProxy `monitor-uri`: {}", told(&theirs)),
            ratio: ratio(&ours, &theirs),
            target: Target::AtLeast(1.0),
        },
        Row {
            what: "the same while every dependency hangs, and the answer names each".into(),
            ours: told(&hanging),
            beside: "itself, all well".into(),
            ratio: ratio(&hanging, &ours),
            target: Target::AtLeast(0.9),
        },
    ]
}

/// With circuits that never open: while everything hangs there is always a check under way.
fn restless(mut config: Value) -> Value {
    config["defaults"]["timeout"] = "1s".into();
    config["defaults"]["connect_timeout"] = "1s".into();
    config["defaults"]["circuit"] = json!({"failure_threshold": 1000});
    config
}

async fn alternate<const COUNT: usize>(programs: [&Tested; COUNT]) -> [Vec<Round>; COUNT] {
    for tested in programs {
        wrk::round(tested, PATH, WARM_UP).await;
    }
    let mut rounds = [const { Vec::new() }; COUNT];
    for _ in 0..ROUNDS {
        for (tested, its) in programs.iter().zip(&mut rounds) {
            its.push(wrk::round(tested, PATH, ROUND).await);
        }
    }
    rounds
}

fn rates(rounds: &[Round]) -> Vec<f64> {
    rounds.iter().map(|round| round.rate).collect()
}

fn told(rounds: &[Round]) -> String {
    let cpu: Vec<f64> = rounds.iter().map(|round| round.cpu).collect();
    let rates = rates(rounds);
    format!("{:.0} ({}), {:.1} µs each", median(&rates), range(&rates, 0), median(&cpu))
}
