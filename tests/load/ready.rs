//! `/health/ready` against HAProxy's `monitor-uri`, each on one thread; and while every dependency hangs.

use std::time::Duration;

use serde_json::{Value, json};

use super::five::Five;
use super::machine::Cores;
use super::report::{Row, Target, median, range};
use super::tested::Tested;
use super::wrk::{self, Round};

const PATH: &str = "/health/ready";

/// Rounds, alternating: what else the machine does meanwhile hits both alike.
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(4);
const WARM_UP: Duration = Duration::from_secs(1);

/// The rows.
pub async fn rows(cores: &Cores) -> Vec<Row> {
    let five = Five::start().await;
    let haproxy = Tested::haproxy(cores, "").await;
    let sickbay = Tested::sickbay(cores, &restless(five.config("1s"))).await;
    sickbay.until_well(PATH).await;
    let (ours, theirs) = alternate(&sickbay, &haproxy).await;

    five.hang().await;
    sickbay.until_each_is("degraded").await;
    let (hung, _) = alternate(&sickbay, &haproxy).await;

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
            what: "the same while every dependency hangs".into(),
            ours: told(&hung),
            beside: "itself, all well".into(),
            ratio: ratio(&hung, &ours),
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

async fn alternate(sickbay: &Tested, haproxy: &Tested) -> (Vec<Round>, Vec<Round>) {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for tested in [sickbay, haproxy] {
        wrk::round(tested, PATH, WARM_UP).await;
    }
    for _ in 0..ROUNDS {
        theirs.push(wrk::round(haproxy, PATH, ROUND).await);
        ours.push(wrk::round(sickbay, PATH, ROUND).await);
    }
    (ours, theirs)
}

fn rates(rounds: &[Round]) -> Vec<f64> {
    rounds.iter().map(|round| round.rate).collect()
}

fn told(rounds: &[Round]) -> String {
    let cpu: Vec<f64> = rounds.iter().map(|round| round.cpu).collect();
    let rates = rates(rounds);
    format!("{:.0} ({}), {:.1} µs each", median(&rates), range(&rates, 0), median(&cpu))
}
