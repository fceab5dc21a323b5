//! `sickbay check`: each dependency once, now, side by side.

use std::collections::HashMap;
use std::sync::Arc;

use anstyle::Style;
use clap::Args;
use futures_util::future::join_all;
use serde_json::{Map, Value, json};

use super::one_shot::{Ended, Visits};
use super::table::{self, Cell};
use super::{BAD, Exit, FAINT, Format, GOOD, WARN, one_shot, tell, tell_error};
use crate::clock::{self, Clock};
use crate::config::plan::DependencyPlan;
use crate::config::{Overrides, Plan, similar};
use crate::health::circuit::Permit;
use crate::health::time::millis;
use crate::health::{Check, DependencyName, Failure, Impact, Phase, Policy, Record, Snapshot, Status};
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
    /// As the agent would tell it: a pair of which one works is not down.
    status: Status,
    check: Option<Arc<Check>>,
}

impl Checked<'_> {
    /// Why it failed, where it did.
    fn failure(&self) -> Option<&Failure> {
        self.check.as_ref()?.failure()
    }
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
    let plan = one_shot::plan(load, log_wanted)?;
    let mut wanted = select(&plan, &arguments.names)?;
    if !arguments.names.is_empty() {
        refuse_disabled(&wanted, "check")?;
    }
    // What is not checked comes last.
    wanted.sort_by_key(|plan| !plan.policy().enabled());
    let clock = Clock::start();
    let network = probe::network(&plan);
    let checks = one_shot::among_servers("checked", async |visits: &Visits| {
        join_all(wanted.iter().map(|plan| check_one(plan, &network, clock, visits))).await
    })?;
    let checks = match checks {
        Ended::Done(checks) => checks,
        Ended::Signalled(signal) => {
            tell_error(&format!("ended by signal {signal}, before all checks had ended"));
            return Ok(Exit::Signalled(signal));
        }
    };

    let results = statuses(&plan, &wanted, checks, clock);
    // What is named is asked for by itself: that another one could take its place does not make it work.
    let failed = |result: &Checked<'_>| match (arguments.names.is_empty(), result.status) {
        (false, _) => result.check.as_ref().is_none_or(|check| !check.ok()),
        (true, Status::Down | Status::Unknown) => result.policy.impact == Impact::Critical,
        (true, Status::Up | Status::Degraded | Status::Disabled) => false,
    };
    let ok = !results.iter().any(failed);
    let told = match arguments.format {
        Format::Json => tell(&json(&results, ok, clock)),
        Format::Table => tell(&text(&results)),
    };
    Ok(if ok { told } else { Exit::NotWell })
}

/// The dependencies with these names, or all of them.
pub(super) fn select<'a>(plan: &'a Plan, names: &[String]) -> Result<Vec<&'a DependencyPlan>, Exit> {
    let all = plan.dependencies();
    let name = |plan: &DependencyPlan| plan.policy().name.as_str().to_owned();
    if let Some(unknown) = names.iter().find(|wanted| !all.iter().any(|plan| name(plan) == **wanted)) {
        tell_error(&format!("error: {}", no_such(plan, unknown)));
        return Err(Exit::Unusable);
    }
    Ok(all.iter().filter(|plan| names.is_empty() || names.contains(&name(plan))).collect())
}

/// That a configuration has no dependency of this name, which ones it has, and which of these may be meant.
pub(super) fn no_such(plan: &Plan, name: &str) -> String {
    let known = || plan.dependencies().iter().map(|plan| plan.policy().name.as_str());
    let meant = similar(name, known()).map(|meant| format!("; did you mean \"{meant}\"?"));
    let known = known().collect::<Vec<_>>().join(", ");
    format!("there is no dependency \"{name}\"; there are: {known}{}", meant.unwrap_or_default())
}

/// Tells those that are disabled, and so cannot be asked to do this with.
pub(super) fn refuse_disabled(named: &[&DependencyPlan], verb: &str) -> Result<(), Exit> {
    let disabled = named.iter().filter_map(|plan| {
        let policy = plan.policy();
        let why = policy.disabled.as_ref()?;
        Some(format!("error: \"{}\" is disabled: {why}; enable it, or do not {verb} it", policy.name))
    });
    let disabled: Vec<String> = disabled.collect();
    if disabled.is_empty() {
        return Ok(());
    }
    tell_error(&disabled.join("\n"));
    Err(Exit::Unusable)
}

/// One check; `None` where there is nothing to check, or no way to.
async fn check_one(plan: &DependencyPlan, network: &Network, clock: Clock, visits: &Visits) -> Option<Check> {
    let policy = &**plan.policy();
    if !policy.enabled() {
        return None;
    }
    let mut probe = match probe::build(plan, network) {
        Ok(probe) => probe?,
        Err(failure) => {
            tell_error(&format!("error: {}: {failure}", policy.name));
            return None;
        }
    };
    visits.add(probe.gone());
    let check = check::run(&mut *probe, policy, Permit::Check, Loudness::News, check::new_id(), clock).await;
    probe.close().await;
    Some(check)
}

/// What the agent would say after these checks, each of one that was wanted.
fn statuses<'a>(
    plan: &'a Plan,
    wanted: &[&'a DependencyPlan],
    checks: Vec<Option<Check>>,
    clock: Clock,
) -> Vec<Checked<'a>> {
    let now = clock.now();
    let mut checks: HashMap<&DependencyName, Check> =
        wanted.iter().zip(checks).filter_map(|(plan, check)| Some((&plan.policy().name, check?))).collect();
    let views = plan.dependencies().iter().map(|plan| {
        let mut record = Record::new(Arc::clone(plan.policy()), now, clock::draw());
        if let Some(check) = checks.remove(&plan.policy().name) {
            record.finish(check, clock::draw());
        }
        Arc::new(record.view(now.mono))
    });
    let snapshot = Snapshot::new(now, views.collect());
    let result = |plan: &&'a DependencyPlan| {
        let policy = &**plan.policy();
        let (index, view) = snapshot.get(policy.name.as_str())?;
        let status = snapshot.status(index, now.mono);
        Some(Checked { policy, status, check: view.last_check.clone() })
    };
    wanted.iter().filter_map(result).collect()
}

fn json(results: &[Checked<'_>], ok: bool, clock: Clock) -> String {
    let dependencies: Map<String, Value> = results
        .iter()
        .map(|Checked { policy, status, check }| {
            (policy.name.as_str().to_owned(), check_report(policy, *status, check.as_deref(), clock.now()))
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
    for result in results {
        let Checked { policy, status, check } = result;
        let Some(check) = check else { continue };
        if let Some(failure) = result.failure() {
            text.push_str(&told(policy, check, failure));
            if *status == Status::Degraded {
                text.push_str("  another one takes its place: the pair is degraded, and not down\n");
            }
        }
        let mut warnings = check.observation().map(|seen| seen.warnings.clone()).unwrap_or_default();
        if check.ok() && check.latency > policy.slow_after {
            let (took, bound) = (check.latency, policy.slow_after);
            warnings.push(format!("slow: {took:.0?}, the bound is {bound:.0?}"));
        }
        if !warnings.is_empty() {
            text.push('\n');
        }
        for warning in warnings {
            text.push_str(&format!("{WARN}!{WARN:#} {}: {warning}\n", policy.name));
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
pub(super) fn told(policy: &Policy, check: &Check, failure: &Failure) -> String {
    let Failure { phase, kind, code, message, .. } = failure;
    let code = code.as_ref().map(|code| format!(" ({code})")).unwrap_or_default();
    let attempts = match check.attempts {
        1 => "1 attempt".to_owned(),
        n => format!("{n} attempts"),
    };
    let at = check.address.map(|address| format!(" at {address}")).unwrap_or_default();
    let bold = Style::new().bold();
    format!(
        "\n{BAD}✗{BAD:#} {bold}{}{bold:#}: {kind}{code} in phase {phase}{at}, {attempts}\n  {message}\n  → {}\n",
        policy.name,
        failure.help()
    )
}
