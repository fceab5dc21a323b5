//! `sickbay wait`: blocks until dependencies have succeeded. For what must not start before its database is there:
//! a container of its own, on which the others depend.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use futures_util::future::join_all;
use tokio::sync::mpsc;

use super::check::{refuse_disabled, select, told};
use super::one_shot::{Ended, Visits};
use super::show::{Show, shown};
use super::{Exit, GOOD, WARN, duration, one_shot, tell_error};
use crate::clock::{self, Clock, Deadline};
use crate::config::plan::DependencyPlan;
use crate::config::{Overrides, Plan};
use crate::health::{Check, DependencyView, Failure, Impact, Policy, Record, Snapshot};
use crate::net::Network;
use crate::probe;
use crate::probe::check::{self, Loudness};

/// The live line of a terminal is drawn anew this often.
const REDRAW: Duration = Duration::from_secs(1);

/// How long after the timeout the last checks may still tell what they met.
const LAST_WORDS: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The dependencies to wait for [default: all critical ones]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// How long to wait at most
    #[arg(long, value_name = "DURATION", default_value = "90s", value_parser = duration)]
    timeout: Duration,
    /// What to do when that time has passed
    #[arg(long, value_enum, default_value_t = OnTimeout::Fail)]
    on_timeout: OnTimeout,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnTimeout {
    /// End with 1
    Fail,
    /// End with 0, as if all were up
    Continue,
}

pub(super) fn run(
    arguments: &Arguments,
    load: impl FnOnce(Overrides) -> Result<Plan, Exit>,
    log_wanted: bool,
) -> Exit {
    waited(arguments, load, log_wanted).unwrap_or_else(|exit| exit)
}

fn waited(
    arguments: &Arguments,
    load: impl FnOnce(Overrides) -> Result<Plan, Exit>,
    log_wanted: bool,
) -> Result<Exit, Exit> {
    let plan = one_shot::plan(load, log_wanted)?;
    let wanted = wanted(&plan, &arguments.names)?;
    if wanted.is_empty() {
        tell_error("nothing to wait for: no dependency is enabled and critical");
        return Ok(Exit::Fine);
    }
    let clock = Clock::start();
    let mut watched = Watched::new(&plan, &wanted, arguments.timeout, clock);
    let waited = one_shot::among_servers("waited for", async |visits: &Visits| {
        wait(&plan, &mut watched, clock, visits).await
    })?;
    watched.show.clear();
    Ok(match waited {
        Ended::Signalled(signal) => {
            watched.show.line(&format!("ended by signal {signal}; waiting for {}", names(watched.missing())));
            Exit::Signalled(signal)
        }
        Ended::Done(after) if watched.all_up() => {
            watched.show.line(&format!("{GOOD}✓{GOOD:#} up after {}", shown(after)));
            Exit::Fine
        }
        Ended::Done(_) => watched.timed_out(arguments.on_timeout),
    })
}

/// What is waited for: what was named, else all that is critical.
fn wanted<'a>(plan: &'a Plan, names: &[String]) -> Result<Vec<&'a Policy>, Exit> {
    let selected = select(plan, names)?;
    let policies = selected.iter().map(|plan| &**plan.policy());
    if names.is_empty() {
        return Ok(policies.filter(|it| it.enabled() && it.impact == Impact::Critical).collect());
    }
    refuse_disabled(&selected, "wait for")?;
    Ok(policies.collect())
}

/// Waits until all is up, or there is no time left; tells how long that was.
async fn wait(plan: &Plan, watched: &mut Watched, clock: Clock, visits: &Visits) -> Duration {
    let end = Deadline::after(watched.timeout);
    let (all, timeout) = (names(watched.missing()), shown(watched.timeout));
    watched.show.line(&format!("waiting for {all}, {timeout} at most"));
    let network = probe::network(plan);
    let (sender, mut seen) = mpsc::channel(16);
    let checking = watched.asked.clone().into_iter().map(|index| {
        until_success(index, &plan.dependencies()[index], &network, clock, end, visits, sender.clone())
    });
    let mut checking = std::pin::pin!(join_all(checking));
    drop(sender);
    let mut redraw = tokio::time::interval(REDRAW);
    let mut all_ended = false;
    loop {
        tokio::select! {
            biased;
            Some((index, view)) = seen.recv() => {
                watched.note(index, view);
                if watched.all_up() {
                    break;
                }
            }
            _ = &mut checking, if !all_ended => all_ended = true,
            // All of them have told what they had to tell.
            () = std::future::ready(()), if all_ended => break,
            () = tokio::time::sleep_until(end.later(LAST_WORDS).instant()) => break,
            _ = redraw.tick() => watched.draw(),
        }
    }
    watched.since()
}

/// Checks one dependency, as often as the agent would, until it has succeeded or there is no time left.
async fn until_success(
    index: usize,
    plan: &DependencyPlan,
    network: &Network,
    clock: Clock,
    end: Deadline,
    visits: &Visits,
    seen: mpsc::Sender<(usize, DependencyView)>,
) {
    let mut record = Record::new(Arc::clone(plan.policy()), clock.now(), clock::draw());
    let mut probe = match probe::build(plan, network) {
        Ok(Some(probe)) => probe,
        Ok(None) => return,
        Err(failure) => return tell_error(&format!("error: {}: {failure}", plan.policy().name)),
    };
    visits.add(probe.gone());
    loop {
        let due = clock.instant(record.due());
        if due >= end.instant() {
            tokio::time::sleep_until(end.instant()).await;
            break;
        }
        tokio::time::sleep_until(due).await;
        let now = clock.now();
        let Some(permit) = record.admit(now) else {
            record.lost(now, clock::draw());
            continue;
        };
        // The last check ends with the wait, so that there is something to tell.
        let timeout = plan.policy().timeout.min(end.remaining());
        let policy = Policy { timeout, ..(**plan.policy()).clone() };
        let loudness = if record.failing() { Loudness::Repeats } else { Loudness::News };
        let check = check::run(&mut *probe, &policy, permit, loudness, check::new_id(), clock).await;
        if !check.ok() && end.remaining().is_zero() && record.failing() {
            // It was cut short. What a whole check met says more.
            break;
        }
        let ok = check.ok();
        record.finish(check, clock::draw());
        // Nobody listens any more once all is up.
        let _ = seen.send((index, record.view(clock.mono()))).await;
        if ok {
            break;
        }
    }
    probe.close().await;
}

/// What is waited for, and what has been seen of it.
struct Watched {
    clock: Clock,
    timeout: Duration,
    snapshot: Snapshot,
    /// What has to be up, by its place in the snapshot.
    wanted: Vec<usize>,
    /// The same, and what could take its place.
    asked: Vec<usize>,
    show: Show,
}

impl Watched {
    fn new(plan: &Plan, wanted: &[&Policy], timeout: Duration, clock: Clock) -> Self {
        let now = clock.now();
        let view = |plan: &DependencyPlan| {
            let record = Record::new(Arc::clone(plan.policy()), now, clock::draw());
            Arc::new(record.view(now.mono))
        };
        let snapshot = Snapshot::new(now, plan.dependencies().iter().map(view).collect());
        let place = |policy: &Policy| Some(snapshot.get(policy.name.as_str())?.0);
        let wanted: Vec<usize> = wanted.iter().filter_map(|policy| place(policy)).collect();
        let asked = (0..snapshot.dependencies.len())
            .filter(|index| snapshot.dependencies[*index].policy.enabled())
            .filter(|index| {
                let mut partners = snapshot.partners(*index).filter_map(|partner| place(&partner.policy));
                wanted.contains(index) || partners.any(|partner| wanted.contains(&partner))
            })
            .collect();
        Self { clock, timeout, wanted, asked, show: Show::new(), snapshot }
    }

    fn since(&self) -> Duration {
        self.clock.mono().since(self.snapshot.started.mono)
    }

    fn all_up(&self) -> bool {
        self.missing().next().is_none()
    }

    /// What is waited for and has not succeeded, nor what could take its place.
    fn missing(&self) -> impl Iterator<Item = &Policy> {
        let missing = self.wanted.iter().filter(|index| !self.snapshot.has_come_up(**index));
        missing.map(|index| &*self.snapshot.dependencies[*index].policy)
    }

    /// Takes in what came of a check, and tells it where it is news.
    fn note(&mut self, index: usize, view: DependencyView) {
        let before = std::mem::replace(&mut self.snapshot.dependencies[index], Arc::new(view));
        let view = &self.snapshot.dependencies[index];
        let name = &view.policy.name;
        let failure = |view: &DependencyView| view.last_check.as_ref().and_then(|it| it.failure().cloned());
        let line = match failure(view) {
            None => {
                let stands_in = !self.wanted.contains(&index);
                let place = if stands_in { ", and takes the place of what is waited for" } else { "" };
                format!("{GOOD}✓{GOOD:#} {name}: up after {}{place}", shown(self.since()))
            }
            Some(now) if failure(&before).is_some_and(|before| same(&before, &now)) => return,
            Some(Failure { kind, code, message, .. }) => {
                let code = code.map(|code| format!(" ({code})")).unwrap_or_default();
                format!("{WARN}…{WARN:#} {name}: {kind}{code}: {message}")
            }
        };
        self.show.line(&line);
        self.draw();
    }

    /// The line that tells a terminal how far it is.
    fn draw(&mut self) {
        let mut line = format!("{} of {}, waiting for ", shown(self.since()), shown(self.timeout));
        for (n, policy) in self.missing().enumerate() {
            let view = self.snapshot.get(policy.name.as_str()).map(|(_, view)| view);
            let why = view.and_then(|view| view.failing_by()).map_or("no result yet", |kind| kind.as_str());
            // Writing to a string cannot fail.
            let _ = write!(line, "{}{} ({why})", if n == 0 { "" } else { ", " }, policy.name);
        }
        self.show.live(&line);
    }

    /// Tells what is missing, and why.
    fn timed_out(&self, on_timeout: OnTimeout) -> Exit {
        let missing = names(self.missing());
        let after = shown(self.since().min(self.timeout));
        match on_timeout {
            OnTimeout::Fail => tell_error(&format!("error: not up after {after}: {missing}")),
            OnTimeout::Continue => {
                tell_error(&format!(
                    "{WARN}warning{WARN:#}: going on without {missing}, not up after {after}"
                ));
            }
        }
        // What could have taken their place is told with them.
        let asked = self.asked.iter().filter(|index| !self.snapshot.has_come_up(**index));
        for view in asked.map(|index| &self.snapshot.dependencies[*index]) {
            let last: Option<&Check> = view.last_check.as_deref();
            match last.and_then(|check| Some((check, check.failure()?))) {
                Some((check, failure)) => tell_error(&told(&view.policy, check, failure)),
                None => tell_error(&format!(
                    "\n{}: no check of it has ended; wait longer than its timeout of {} (--timeout)",
                    view.policy.name,
                    shown(view.policy.timeout)
                )),
            }
        }
        match on_timeout {
            OnTimeout::Fail => Exit::NotWell,
            OnTimeout::Continue => Exit::Fine,
        }
    }
}

/// Whether a failure is no news after another one.
fn same(before: &Failure, now: &Failure) -> bool {
    (before.phase, before.kind, &before.code) == (now.phase, now.kind, &now.code)
}

fn names<'a>(policies: impl Iterator<Item = &'a Policy>) -> String {
    policies.map(|policy| policy.name.as_str()).collect::<Vec<_>>().join(", ")
}
