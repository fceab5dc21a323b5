//! `sickbay diagnose`: the path to a dependency, hop by hop, and what is the matter with it.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anstyle::Style;
use clap::{ArgGroup, Args};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::check::{no_such, refuse_disabled};
use super::one_shot::{Ended, Visits};
use super::show::{Show, shown};
use super::{BAD, Exit, FAINT, Format, GOOD, WARN, duration, one_shot, tell, tell_error};
use crate::clock::{Clock, Deadline, Stopwatch};
use crate::config::plan::DependencyPlan;
use crate::config::{self, Env, Plan, Sources};
use crate::diagnose::{Diagnoser, Surroundings, TaskToCome};
use crate::ecs::metadata::{Endpoint, VARIABLE};
use crate::health::{Cause, Diagnosis, Hop};
use crate::http::diagnosis_report;
use crate::net::Network;
use crate::probe;

/// The line that tells a terminal how far it is is drawn anew this often.
const REDRAW: Duration = Duration::from_secs(1);

/// So many at a time: each has some ten sockets open, and a process often has no more than 1,024 descriptors.
const AT_A_TIME: usize = 32;

/// How much longer than its time a diagnosis may take before it is given up as hung.
const GRACE: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").required(true)))]
pub(super) struct Arguments {
    /// A dependency, or a target that needs none: host:port, or a URL (http, https, postgresql, redis, rediss)
    #[arg(value_name = "NAME|HOST:PORT|URL", group = "what")]
    target: Option<String>,
    /// All dependencies that are enabled, 32 at a time
    #[arg(long, group = "what")]
    all: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// How long each may take at most; what was not looked at by then is told. Servers are said goodbye to within it, or
    /// else in one second more
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = duration)]
    timeout: Duration,
}

/// What is to be diagnosed.
struct Asked {
    plan: Plan,
    /// Names of hosts that a misspelt one may have been meant to be.
    hosts: Vec<String>,
    what: What,
}

/// Which of the plan's dependencies.
enum What {
    /// All that are enabled.
    All,
    /// The one of this name.
    Named(String),
    /// The only one, which stands for a target of the command line.
    Bare,
}

/// One of them.
struct Wanted<'a> {
    plan: &'a DependencyPlan,
    /// `None` for a target of the command line.
    name: Option<&'a str>,
}

pub(super) fn run(arguments: &Arguments, sources: &Sources, log_wanted: bool) -> Exit {
    diagnosed(arguments, sources, log_wanted).unwrap_or_else(|exit| exit)
}

fn diagnosed(arguments: &Arguments, sources: &Sources, log_wanted: bool) -> Result<Exit, Exit> {
    let Arguments { target, format, timeout, .. } = arguments;
    let asked = match target {
        // No dependency has a colon in its name.
        Some(target) if target.contains(':') => bare(target, sources, log_wanted)?,
        target => {
            let plan = one_shot::plan(|_| super::load(sources), log_wanted)?;
            let what = target.clone().map_or(What::All, What::Named);
            Asked { hosts: hosts(&plan), plan, what }
        }
    };
    let wanted = asked.wanted()?;
    if wanted.is_empty() {
        tell_error(
            "error: nothing to diagnose: no dependency is enabled; `sickbay check` tells what each one misses, and a target that needs none is given as host:port or as a URL",
        );
        return Err(Exit::Unusable);
    }
    let clock = Clock::start();
    let network = probe::network(&asked.plan);
    let progress = Arc::new(Mutex::new(Progress::new(&wanted, *timeout, *format)));
    let ended = one_shot::among_servers("diagnosed", async |visits: &Visits| {
        let walk = Walk {
            network: &network,
            clock,
            timeout: *timeout,
            progress: &progress,
            visits,
            turns: Semaphore::new(AT_A_TIME),
        };
        let task = task(&sources.env, &progress);
        let all = wanted
            .iter()
            .enumerate()
            .map(|(index, one)| walk.diagnose(index, one, asked.around(one, task.clone())));
        let mut all = std::pin::pin!(join_all(all));
        let mut redraw = tokio::time::interval(REDRAW);
        loop {
            tokio::select! {
                biased;
                found = &mut all => break found,
                _ = redraw.tick() => with(&progress, Progress::draw),
            }
        }
    });
    with(&progress, |progress| progress.show.clear());
    let found = match ended? {
        Ended::Done(found) => found,
        Ended::Signalled(signal) => {
            tell_error(&format!("ended by signal {signal}, before the diagnosis had ended"));
            return Ok(Exit::Signalled(signal));
        }
    };
    let reports: Vec<_> =
        wanted.iter().zip(&found).filter_map(|(one, found)| Some((one.name, found.as_ref()?))).collect();
    let ok = reports.len() == wanted.len() && reports.iter().all(|(_, found)| found.ok);
    let told = match (format, &asked.what) {
        (Format::Json, What::All) => {
            let targets: Vec<Value> =
                reports.iter().map(|(name, found)| diagnosis_report(found, *name)).collect();
            tell(&format!("{:#}", json!({"ok": ok, "targets": targets})))
        }
        (Format::Json, What::Named(_) | What::Bare) => match reports.first() {
            Some((name, found)) => tell(&format!("{:#}", diagnosis_report(found, *name))),
            None => Exit::NotWell,
        },
        (Format::Table, _) if reports.is_empty() => Exit::Fine,
        (Format::Table, _) => {
            let texts: Vec<String> = reports.iter().map(|(name, found)| text(*name, found)).collect();
            tell(&texts.join("\n\n"))
        }
    };
    Ok(if ok { told } else { Exit::NotWell })
}

/// The target of the command line. It needs no configuration, and lives with one that is invalid.
fn bare(target: &str, sources: &Sources, log_wanted: bool) -> Result<Asked, Exit> {
    let (sources, hosts) = match config::load(sources) {
        Ok(beside) => (sources.clone(), hosts(&beside)),
        Err(errors) => {
            let count = errors.errors().len();
            tell_error(&format!(
                "{WARN}warning{WARN:#}: the configuration is passed over: {count} of its settings {} wrong, which `sickbay config check` names; what holds is the compiled-in default",
                if count == 1 { "is" } else { "are" }
            ));
            let of_the_log = |name: &str| ["SICKBAY_LOG", "SICKBAY_LOG_FORMAT"].contains(&name);
            let env = sources.env.iter().filter(|(name, _)| of_the_log(name));
            let env: Env = env.map(|(name, value)| (name.clone(), value.clone())).collect();
            (Sources { env, ..Sources::default() }, Vec::new())
        }
    };
    let load = |_| {
        config::load_target(target, &sources).map_err(|errors| {
            tell_error(&errors.to_string());
            Exit::Unusable
        })
    };
    Ok(Asked { plan: one_shot::plan(load, log_wanted)?, hosts, what: What::Bare })
}

fn hosts(plan: &Plan) -> Vec<String> {
    probe::named_hosts(plan.dependencies()).map(|(_, host)| host).collect()
}

impl Asked {
    fn wanted(&self) -> Result<Vec<Wanted<'_>>, Exit> {
        let all = self.plan.dependencies();
        let named = |plan| Wanted { plan, name: Some(plan.policy().name.as_str()) };
        match &self.what {
            What::All => Ok(all.iter().filter(|plan| plan.policy().enabled()).map(named).collect()),
            What::Bare => Ok(all.iter().map(|plan| Wanted { plan, name: None }).collect()),
            What::Named(name) => match all.iter().find(|plan| plan.policy().name.as_str() == name) {
                Some(plan) => {
                    refuse_disabled(&[plan], "diagnose")?;
                    Ok(vec![named(plan)])
                }
                None => {
                    tell_error(&format!(
                        "error: {}; a target that is no dependency is given as host:port, such as {name}:5432, or as a URL (http, https, postgresql, redis, rediss)",
                        no_such(&self.plan, name)
                    ));
                    Err(Exit::Unusable)
                }
            },
        }
    }

    fn around(&self, wanted: &Wanted<'_>, task: TaskToCome) -> Surroundings {
        let own = wanted.plan.probe().as_ref().and_then(probe::named_target);
        let other = |host: &&String| own.as_ref().is_none_or(|own| own.host() != host.as_str());
        Surroundings {
            other_hosts: self.hosts.iter().filter(other).cloned().collect(),
            task,
            is_bare: wanted.name.is_none(),
        }
    }
}

/// Where this process runs: asked for from now on, beside the diagnoses. That it cannot be read makes the report poorer, and
/// nothing worse.
fn task(env: &Env, progress: &Arc<Mutex<Progress>>) -> TaskToCome {
    let Some(uri) = env.get(VARIABLE).filter(|uri| !uri.is_empty()) else { return TaskToCome::known(None) };
    let (uri, progress) = (uri.to_string_lossy().into_owned(), Arc::clone(progress));
    let read = async move {
        let read = match Endpoint::parse(&uri) {
            Ok(endpoint) => endpoint.task().await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let cannot = |error| {
            let text = format!(
                "{WARN}warning{WARN:#}: the task's metadata cannot be read: {error}; the report does not know the task's subnet"
            );
            with(&progress, |progress| progress.show.line(&text));
        };
        read.map_err(cannot).ok().map(Arc::new)
    };
    TaskToCome::begin(read)
}

/// What all diagnoses of a run have in common.
struct Walk<'a> {
    network: &'a Network,
    clock: Clock,
    timeout: Duration,
    progress: &'a Mutex<Progress>,
    visits: &'a Visits,
    turns: Semaphore,
}

impl Walk<'_> {
    /// Diagnoses the one at this place; `None` where that failed by a fault of ours, which was told.
    async fn diagnose(&self, index: usize, wanted: &Wanted<'_>, around: Surroundings) -> Option<Diagnosis> {
        let Self { network, clock, timeout, progress, visits, turns } = self;
        // Nobody closes it.
        let _turn = turns.acquire().await.ok();
        let name = &wanted.plan.policy().name;
        let fault = |what: &str| {
            let text = format!("error: {name}: {what}, which is a fault of Sickbay's own");
            with(progress, |progress| progress.show.line(&text));
            None
        };
        let Some(diagnoser) = Diagnoser::new(wanted.plan, network, around) else {
            return fault("an enabled dependency has no target");
        };
        visits.add(diagnoser.gone());
        let mut tell = |hop: &Hop| with(progress, |progress| progress.note(index, hop));
        let found = diagnoser.diagnose(*clock, Deadline::after(*timeout), &mut tell);
        let found = tokio::time::timeout(*timeout + GRACE, found).await;
        with(progress, |progress| progress.done(index));
        found.map_or_else(|_| fault(&format!("its diagnosis did not end within {}", shown(*timeout))), Some)
    }
}

fn with(progress: &Mutex<Progress>, change: impl FnOnce(&mut Progress)) {
    change(&mut progress.lock().unwrap_or_else(PoisonError::into_inner));
}

/// How far it is, for a terminal.
struct Progress {
    watch: Stopwatch,
    timeout: Duration,
    /// Nobody looks at it where a program reads the result.
    is_shown: bool,
    show: Show,
    left: Vec<Left>,
}

/// One that may have some way to go.
struct Left {
    name: String,
    hops: Vec<Hop>,
    done: bool,
}

impl Progress {
    fn new(wanted: &[Wanted<'_>], timeout: Duration, format: Format) -> Self {
        let left = |one: &Wanted<'_>| Left {
            name: one.name.unwrap_or(&one.plan.policy().target).to_owned(),
            hops: Vec::new(),
            done: false,
        };
        Self {
            watch: Stopwatch::start(),
            timeout,
            is_shown: format == Format::Table,
            show: Show::new(),
            left: wanted.iter().map(left).collect(),
        }
    }

    /// A hop is over, or more was seen at it.
    fn note(&mut self, index: usize, hop: &Hop) {
        let hops = &mut self.left[index].hops;
        match hops.iter_mut().find(|known| known.kind == hop.kind) {
            Some(known) => *known = hop.clone(),
            None => hops.push(hop.clone()),
        }
        self.draw();
    }

    fn done(&mut self, index: usize) {
        self.left[index].done = true;
        self.draw();
    }

    fn draw(&mut self) {
        if !self.is_shown {
            return;
        }
        let mut line = format!("{} of {}", shown(self.watch.elapsed()), shown(self.timeout));
        for Left { name, hops, .. } in self.left.iter().filter(|left| !left.done) {
            // Writing to a string cannot fail.
            let _ = write!(line, "  {name}");
            for hop in hops {
                let _ = write!(line, " {} {}", mark(hop.ok), hop.kind);
            }
        }
        self.show.live(&line);
    }
}

fn mark(ok: Option<bool>) -> &'static str {
    match ok {
        Some(true) => "✓",
        Some(false) => "✗",
        None => "…",
    }
}

/// A report, for somebody who was woken by what it is about.
fn text(name: Option<&str>, found: &Diagnosis) -> String {
    let bold = Style::new().bold();
    let mut text = match name {
        Some(name) => format!("{bold}{name}{bold:#}  {}\n\n", found.target),
        None => format!("{bold}{}{bold:#}\n\n", found.target),
    };
    for hop in &found.hops {
        text.push_str(&line(hop));
    }
    let verdict = &found.verdict;
    let (style, mark) = match (found.ok, verdict.cause) {
        (true, Cause::Works) => (GOOD, "✓"),
        (true, _) => (WARN, "!"),
        (false, _) => (BAD, "✗"),
    };
    let (cause, confidence) = (verdict.cause, verdict.confidence);
    // Writing to a string cannot fail, here and below.
    let _ = writeln!(text, "\n{style}{mark} {cause}{style:#} ({confidence}): {}", verdict.summary);
    if !verdict.because.is_empty() {
        text.push_str("  because\n");
    }
    for because in &verdict.because {
        let _ = writeln!(text, "    {}", below(because, 4));
    }
    for step in &verdict.advice {
        let _ = writeln!(text, "  → {}", with_its_command(step));
    }
    text.truncate(text.trim_end().len());
    text
}

/// A hop: what was seen first beside it, the rest below that.
fn line(hop: &Hop) -> String {
    let style = match hop.ok {
        Some(true) => GOOD,
        Some(false) => BAD,
        None => FAINT,
    };
    let mark = mark(hop.ok);
    let took = hop.took.map(took).unwrap_or_default();
    let mut evidence = hop.evidence.iter().map(|evidence| below(evidence, 23));
    let first = evidence.next().or_else(|| hop.ok.is_none().then(|| "not reached".to_owned()));
    let mut text = format!("{style}{mark}{style:#} {:<8} {took:>9}  ", hop.kind);
    match (hop.ok, first.unwrap_or_default()) {
        (None, first) => text.push_str(&format!("{FAINT}{first}{FAINT:#}")),
        (Some(_), first) => text.push_str(&first),
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    for evidence in evidence {
        let _ = writeln!(text, "{:22}{evidence}", "");
    }
    text
}

/// A step. A command at its end stands on a line of its own, to be copied.
fn with_its_command(step: &str) -> String {
    let command = step.strip_suffix('`').and_then(|step| step.split_once(": `"));
    match command.filter(|(_, command)| !command.contains('`')) {
        Some((what, command)) => format!("{what}:\n      {command}"),
        None => below(step, 4),
    }
}

/// Lines after the first one stand below it.
fn below(text: &str, column: usize) -> String {
    text.replace('\n', &format!("\n{:column$}", ""))
}

/// A span in three digits or so.
fn took(span: Duration) -> String {
    let millis = span.as_secs_f64() * 1000.0;
    if millis < 1000.0 { format!("{millis:.1} ms") } else { format!("{:.2} s", millis / 1000.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::health::{Confidence, FailureKind, HopKind, Verdict};

    fn found() -> Diagnosis {
        let hop = |kind, ok, took: Option<u64>, evidence: &[&str]| Hop {
            kind,
            ok,
            took: took.map(Duration::from_micros),
            evidence: evidence.iter().map(|fact| (*fact).to_owned()).collect(),
        };
        let hops = vec![
            hop(HopKind::Dns, Some(true), Some(1_234), &["db.internal is 10.0.3.7, private", "TTL 5 s"]),
            hop(HopKind::Route, Some(true), None, &["from 10.0.1.5 out of eth1"]),
            hop(HopKind::Connect, Some(false), Some(3_004_000), &["no answer"]),
            hop(HopKind::Protocol, None, None, &[]),
        ];
        let verdict = Verdict {
            cause: Cause::PortDropped,
            confidence: Confidence::Likely,
            summary: "packets to port 5432 vanish".into(),
            because: vec!["nobody answered".into(), "port 1 was refused at once".into()],
            advice: vec![
                "look at the security group: `aws ec2 describe-security-groups`".into(),
                "compare: `a` and `b`".into(),
            ],
        };
        Diagnosis {
            at: Clock::start().now(),
            took: Duration::from_secs(4),
            check: None,
            target: "db.internal:5432".into(),
            ok: false,
            hops,
            failure_kind: Some(FailureKind::ConnectTimeout),
            verdict,
        }
    }

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn a_report_is_a_line_a_hop_and_then_what_it_comes_to() {
        let expected = "\
database  db.internal:5432

✓ dns         1.2 ms  db.internal is 10.0.3.7, private
                      TTL 5 s
✓ route               from 10.0.1.5 out of eth1
✗ connect     3.00 s  no answer
… protocol            not reached

✗ port_dropped (likely): packets to port 5432 vanish
  because
    nobody answered
    port 1 was refused at once
  → look at the security group:
      aws ec2 describe-security-groups
  → compare: `a` and `b`";
        assert_eq!(plain(&text(Some("database"), &found())), expected);
        assert!(plain(&text(None, &found())).starts_with("db.internal:5432\n\n"));
    }

    #[test]
    fn what_works_with_something_to_say_is_no_plain_yes() {
        let of = |ok, cause| {
            let found = found();
            let verdict = Verdict { cause, ..found.verdict.clone() };
            plain(&text(None, &Diagnosis { ok, verdict, ..found }))
        };
        assert!(of(true, Cause::Works).contains("\n✓ works (likely): "));
        assert!(of(true, Cause::ResolversDisagree).contains("\n! resolvers_disagree (likely): "));
        assert!(of(false, Cause::Unexplained).contains("\n✗ unexplained (likely): "));
    }
}
