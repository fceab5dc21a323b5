//! What a check costs: a thousand of them a second beside HAProxy's, and whether the cost grows with their number.

use std::time::Duration;

use sickbay::clock::Stopwatch;

use super::machine::Cores;
use super::meter;
use super::report::{Row, Target, median, range};
use super::support::wait::eventually;
use super::targets::Targets;
use super::tested::Tested;

/// Dependencies that are compared with as many servers of HAProxy.
const MANY: usize = 1000;
const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_secs(8);
/// First checks come all at once, and are left out.
const WARM_UP: Duration = Duration::from_secs(3);

/// A thousand TCP dependencies at one second.
pub async fn beside_haproxy(cores: &Cores) -> Vec<Row> {
    let targets = Targets::listen();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    // One at a time: they would disturb each other, on one core.
    for _ in 0..ROUNDS {
        let haproxy = Tested::haproxy(cores, &targets.haproxy(MANY)).await;
        // HAProxy resets a connection before it is established, so that nobody sees it to count it: but it is
        // known to make a check of each server every second.
        let watch = Stopwatch::start();
        let nominal = || MANY as f64 * watch.elapsed().as_secs_f64();
        theirs.push(cost(&haproxy, nominal).await);
        drop(haproxy);
        let sickbay = Tested::sickbay(cores, &targets.sickbay(MANY)).await;
        ours.push(cost(&sickbay, || targets.accepted() as f64).await);
    }
    vec![Row {
        what: format!("{MANY} TCP dependencies at 1 s, processor time of a check, µs"),
        ours: format!("{:.1} ({})", median(&ours), range(&ours, 1)),
        beside: format!("HAProxy: {:.1} ({})", median(&theirs), range(&theirs, 1)),
        ratio: median(&ours) / median(&theirs),
        target: Target::AtMost(2.0),
    }]
}

/// Numbers of dependencies whose costs are compared. Ten make so few checks that the agent's own housekeeping
/// shows; it is told, and not compared.
const NUMBERS: [usize; 4] = [10, 100, 1000, 10_000];
/// Checks of each dependency before anything is judged: its history is full by then.
const FILL: u64 = 25;
/// What may be added from one number to the next before it counts as growth.
const FLAT: f64 = 1.25;

/// Ten to ten thousand dependencies at one second.
pub async fn by_number(cores: &Cores) -> Vec<Row> {
    let targets = Targets::listen();
    let mut costs = Vec::new();
    let mut memories = Vec::new();
    for number in NUMBERS {
        let before = targets.accepted();
        let sickbay = Tested::sickbay(cores, &targets.sickbay(number)).await;
        let enough = before + FILL * number as u64;
        eventually(&format!("{FILL} checks of {number} dependencies each"), || {
            let made = targets.accepted();
            std::future::ready(if made >= enough { Ok(()) } else { Err(format!("{}", made - before)) })
        })
        .await;
        costs.push(cost(&sickbay, || targets.accepted() as f64).await);
        memories.push(meter::memory(sickbay.pid()).resident * 1024.0);
    }
    // What there is without any dependency falls out of the difference.
    let each =
        |from: usize, to: usize| (memories[to] - memories[from]) / (NUMBERS[to] - NUMBERS[from]) as f64;
    let listed =
        |values: &[f64]| values.iter().map(|value| format!("{value:.1}")).collect::<Vec<_>>().join(", ");
    vec![
        Row {
            what: "10, 100, 1,000, 10,000 TCP dependencies at 1 s: processor time of a check, µs".into(),
            ours: listed(&costs),
            beside: "10,000 beside 100".into(),
            ratio: costs[3] / costs[1],
            target: Target::AtMost(FLAT),
        },
        Row {
            what: "the same: resident memory of a dependency, KiB".into(),
            ours: format!("{:.1} from 10 to 1,000, {:.1} from 1,000 to 10,000", each(0, 2), each(2, 3)),
            beside: "10,000 beside 1,000".into(),
            ratio: each(2, 3) / each(0, 2),
            target: Target::AtMost(FLAT),
        },
    ]
}

/// Processor time of a check, in microseconds; `checks` tells how many there were so far.
async fn cost(tested: &Tested, checks: impl Fn() -> f64) -> f64 {
    tokio::time::sleep(WARM_UP).await;
    let (cpu, before) = (meter::cpu(tested.pid()), checks());
    tokio::time::sleep(ROUND).await;
    let used = meter::cpu(tested.pid()).saturating_sub(cpu);
    used.as_secs_f64() * 1e6 / (checks() - before)
}
