//! `sickbay check`: each dependency once, now, side by side.

use anstyle::Style;
use clap::Args;
use futures_util::future::join_all;
use serde_json::{Map, Value, json};

use super::table::{self, Cell};
use super::{BAD, Exit, FAINT, Format, GOOD, WARN, logging, runtime, tell, tell_error};
use crate::clock::Clock;
use crate::config::plan::DependencyPlan;
use crate::config::{Overrides, Plan};
use crate::health::circuit::Permit;
use crate::health::time::millis;
use crate::health::{Check, Failure, Impact, Phase, Policy, Status};
use crate::http::check_report;
use crate::net::Network;
use crate::probe;
use crate::probe::check::{self, Loudness};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The dependencies to check [default: all]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// What came of one dependency.
struct Checked<'a> {
    policy: &'a Policy,
    status: Status,
    check: Option<Check>,
}

pub(super) fn run(
    arguments: &Arguments,
    load: impl FnOnce(Overrides) -> Result<Plan, Exit>,
    log_wanted: bool,
) -> Exit {
    checked(arguments, load, log_wanted).unwrap_or_else(|exit| exit)
}

fn checked(
    arguments: &Arguments,
    load: impl FnOnce(Overrides) -> Result<Plan, Exit>,
    log_wanted: bool,
) -> Result<Exit, Exit> {
    let plan = load(Overrides::default())?;
    let log = plan.log();
    logging::for_command(log_wanted.then_some(log.filter().as_str()), *log.format())?;
    for warning in plan.warnings() {
        tell_error(&format!("{WARN}warning{WARN:#}: {warning}"));
    }
    let wanted = select(&plan, &arguments.names)?;
    let runtime = runtime(1).map_err(|error| {
        tell_error(&format!("error: nothing can be checked: {error}"));
        Exit::NotWell
    })?;
    let clock = Clock::start();
    let network = Network::system();
    let results = runtime.block_on(join_all(wanted.iter().map(|plan| check_one(plan, &network, clock))));
    // Told once the goodbyes are said; what hangs then must not keep the command.
    runtime.shutdown_background();

    let named = !arguments.names.is_empty();
    let failed = |result: &Checked<'_>| match result.status {
        Status::Up | Status::Degraded => false,
        Status::Disabled => named,
        Status::Down | Status::Unknown => named || result.policy.impact == Impact::Critical,
    };
    let ok = !results.iter().any(failed);
    match arguments.format {
        Format::Json => tell(&json(&results, ok, clock)),
        Format::Table => tell(&text(&results)),
    }
    Ok(if ok { Exit::Fine } else { Exit::NotWell })
}

/// The dependencies with these names, or all of them.
fn select<'a>(plan: &'a Plan, names: &[String]) -> Result<Vec<&'a DependencyPlan>, Exit> {
    let all = plan.dependencies();
    let name = |plan: &DependencyPlan| plan.policy().name.as_str().to_owned();
    if let Some(unknown) = names.iter().find(|wanted| !all.iter().any(|plan| name(plan) == **wanted)) {
        let known: Vec<String> = all.iter().map(name).collect();
        tell_error(&format!("error: there is no dependency \"{unknown}\"; there are: {}", known.join(", ")));
        return Err(Exit::Unusable);
    }
    Ok(all.iter().filter(|plan| names.is_empty() || names.contains(&name(plan))).collect())
}

async fn check_one<'a>(plan: &'a DependencyPlan, network: &Network, clock: Clock) -> Checked<'a> {
    let policy = &**plan.policy();
    if !policy.enabled() {
        return Checked { policy, status: Status::Disabled, check: None };
    }
    let mut probe = match probe::build(plan, network) {
        Ok(Some(probe)) => probe,
        Ok(None) => return Checked { policy, status: Status::Unknown, check: None },
        Err(failure) => {
            tell_error(&format!("error: {}: {failure}", policy.name));
            return Checked { policy, status: Status::Unknown, check: None };
        }
    };
    let check = check::run(&mut *probe, policy, Permit::Check, Loudness::News, check::new_id(), clock).await;
    probe.close().await;
    let status = match check.observation() {
        None => Status::Down,
        Some(seen) if seen.warnings.is_empty() && check.latency <= policy.slow_after => Status::Up,
        Some(_) => Status::Degraded,
    };
    Checked { policy, status, check: Some(check) }
}

fn json(results: &[Checked<'_>], ok: bool, clock: Clock) -> String {
    let dependencies: Map<String, Value> = results
        .iter()
        .map(|Checked { policy, status, check }| {
            (policy.name.as_str().to_owned(), check_report(policy, *status, check.as_ref(), clock.now()))
        })
        .collect();
    let report = json!({ "ok": ok, "dependencies": dependencies });
    // The alternate form of a JSON value is the indented one.
    format!("{report:#}")
}

fn text(results: &[Checked<'_>]) -> String {
    const HEAD: [&str; 10] =
        ["DEPENDENCY", "KIND", "STATUS", "MS", "DNS", "CONNECT", "TLS", "AUTH", "QUERY", "TARGET"];
    let rows: Vec<Vec<Cell>> = results.iter().map(row).collect();
    let mut text = table::render(&HEAD, &rows, &[3, 4, 5, 6, 7, 8]);
    for Checked { policy, check, .. } in results {
        let Some(check) = check else { continue };
        if let Some(failure) = check.failure() {
            text.push_str(&told(policy, check, failure));
        }
        for warning in check.observation().map(|seen| seen.warnings.as_slice()).unwrap_or_default() {
            text.push_str(&format!("\n{WARN}!{WARN:#} {}: {warning}\n", policy.name));
        }
        if check.ok() && check.latency > policy.slow_after {
            let (took, bound) = (check.latency, policy.slow_after);
            text.push_str(&format!(
                "\n{WARN}!{WARN:#} {}: slow: {took:.0?}, the bound is {bound:.0?}\n",
                policy.name
            ));
        }
    }
    text
}

fn row(Checked { policy, status, check }: &Checked<'_>) -> Vec<Cell> {
    let style = match status {
        Status::Up => GOOD,
        Status::Degraded => WARN,
        Status::Down | Status::Unknown => BAD,
        Status::Disabled => FAINT,
    };
    let time = |span| format!("{:.1}", millis(span));
    let whole = check.as_ref().map(|check| time(check.duration));
    let mut row = vec![
        Cell::from(policy.name.as_str()),
        Cell::from(policy.kind.as_str()),
        Cell::styled(status.as_str(), style),
        Cell::from(whole.unwrap_or_default()),
    ];
    row.extend(Phase::ALL.iter().map(|phase| {
        Cell::from(check.as_ref().and_then(|check| check.phases.get(*phase)).map(time).unwrap_or_default())
    }));
    row.push(match &policy.disabled {
        Some(reason) => Cell::styled(reason.as_str(), FAINT),
        None => Cell::from(policy.target.as_str()),
    });
    row
}

/// A failure, for somebody who was woken by it.
fn told(policy: &Policy, check: &Check, failure: &Failure) -> String {
    let Failure { phase, kind, code, message, hint } = failure;
    let code = code.as_ref().map(|code| format!(" ({code})")).unwrap_or_default();
    let attempts = match check.attempts {
        1 => "1 attempt".to_owned(),
        n => format!("{n} attempts"),
    };
    let at = check.address.map(|address| format!(" at {address}")).unwrap_or_default();
    let bold = Style::new().bold();
    format!(
        "\n{BAD}✗{BAD:#} {bold}{}{bold:#}: {kind}{code} in phase {phase}{at}, {attempts}\n  {message}\n  → {hint}\n",
        policy.name
    )
}
