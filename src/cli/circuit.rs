//! `sickbay circuit`: what a running agent's circuits are like, and taking the wheel.

use std::io::{IsTerminal, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anstyle::Style;
use clap::{Args, Subcommand, ValueEnum};
use hyper::StatusCode;
use hyper::header::HeaderValue;
use serde_json::{Map, Value, json};

use super::ask::{Agent, Unanswered};
use super::table::{self, Cell};
use super::{BAD, Exit, FAINT, Format, GOOD, WARN, duration, reachable, runtime, tell, tell_error};
use crate::config::duration::format_duration;
use crate::config::{Env, Overrides, Plan};
use crate::files::read_text;

/// The variable that the token comes from: an argument would be seen by everybody who lists processes.
const TOKEN: &str = "SICKBAY_ADMIN_TOKEN";

/// A file that holds a token and nothing else is no longer, in bytes.
const TOKEN_FILE_MAX: u64 = 4096;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
    /// The agent's address [default: SICKBAY_OPERATOR_LISTEN, else SICKBAY_LISTEN, else what a --config says, else
    /// 127.0.0.1:8686]
    #[arg(long, global = true, value_name = "ADDRESS:PORT")]
    address: Option<SocketAddr>,
    /// A file that holds the token, in place of SICKBAY_ADMIN_TOKEN
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// How long the whole may take
    #[arg(long, global = true, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    timeout: Duration,
    /// How to print
    #[arg(long, global = true, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List all circuits
    #[command(after_help = "Example:\n  sickbay circuit list")]
    List,
    /// Show one circuit with its past
    ///
    /// The past is changes of state. Who ordered what is in the agent's log, in lines of the target `audit`.
    #[command(after_help = "Example:\n  sickbay circuit show database")]
    Show(Named),
    /// Hold a circuit open: no checks are made, and the dependency is down
    ///
    /// For maintenance. An override is this task's alone: other tasks have agents of their own. It takes the place of one that is
    /// in force, as a whole. When its time is over, trials decide: the dependency is down until so many have succeeded as the
    /// circuit's success_threshold says (four seconds with the defaults), and one that fails opens the circuit for its
    /// recovery_timeout.
    #[command(
        after_help = "Example:\n  sickbay circuit open database --reason 'upgrade to 16' --for 30m --readiness ignore"
    )]
    Open {
        #[command(flatten)]
        held: Held,
        /// Whether the task is ready meanwhile: `count` makes /health/ready answer 503 where the dependency is critical
        #[arg(long, value_enum, default_value_t = Readiness::Count)]
        readiness: Readiness,
    },
    /// Hold a circuit closed: checks go on, and the dependency is degraded at worst
    ///
    /// For when you know better than the checks do. It takes the place of an override that is in force. When its time is over a
    /// trial decides, for which checks that succeeded meanwhile count.
    #[command(
        after_help = "Example:\n  sickbay circuit close redis --reason 'probe user is being replaced' --for 10m"
    )]
    Close(#[command(flatten)] Held),
    /// End an override, forget failures in a row, and make a trial now
    #[command(after_help = "Example:\n  sickbay circuit reset database")]
    Reset(Named),
}

#[derive(Debug, Args)]
struct Named {
    /// The dependency
    #[arg(value_name = "NAME")]
    name: String,
}

#[derive(Debug, Args)]
struct Held {
    #[command(flatten)]
    named: Named,
    /// Why, for whoever finds it so; asked for on a terminal
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// How long; up to 24h [default: 1h]
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    span: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Readiness {
    /// The dependency is down, and gates what it gates
    Count,
    /// It gates nothing
    Ignore,
}

/// What is asked of the agent.
enum Request {
    Read(String),
    Change { path: String, body: Value },
}

pub(super) fn run(
    arguments: Arguments,
    environment: &Env,
    load: Option<impl FnOnce(Overrides) -> Result<Plan, Exit>>,
) -> Exit {
    asked(arguments, environment, load).unwrap_or_else(|exit| exit)
}

fn asked(
    arguments: Arguments,
    environment: &Env,
    load: Option<impl FnOnce(Overrides) -> Result<Plan, Exit>>,
) -> Result<Exit, Exit> {
    let Arguments { action, address, token_file, timeout, format } = arguments;
    let request = request(&action)?;
    let authorization = token(token_file.as_deref(), environment)?;
    if matches!(request, Request::Change { .. }) && authorization.is_none() {
        return Err(unusable(&format!(
            "{TOKEN} is not set, and there is no --token-file; give a token of the agent's `server.admin_token` or `server.admin_tokens`"
        )));
    }
    let address = where_it_listens(address, environment, load)?;
    let agent = Agent { address, timeout, authorization };
    let runtime = runtime().map_err(|error| {
        tell_error(&format!("error: nothing can be asked: {error}"));
        Exit::NotWell
    })?;
    let answer = runtime.block_on(async {
        match &request {
            Request::Read(path) => agent.get(path).await,
            Request::Change { path, body } => agent.post(path, body).await,
        }
    });
    let answer = answer.map_err(|error| refused(&error))?;
    Ok(match format {
        Format::Json => tell(&format!("{answer:#}")),
        Format::Table => tell(&match action {
            Action::List => list(&answer),
            Action::Show(_) => show(&answer),
            Action::Open { .. } | Action::Close(_) | Action::Reset(_) => done(&answer),
        }),
    })
}

fn request(action: &Action) -> Result<Request, Exit> {
    let change = |named: &Named, verb: &str, body| {
        Ok(Request::Change { path: format!("{}/{verb}", path(named)?), body })
    };
    match action {
        Action::List => Ok(Request::Read("/circuits".to_owned())),
        Action::Show(named) => Ok(Request::Read(path(named)?)),
        Action::Open { held, readiness } => {
            let mut body = held.body()?;
            if *readiness == Readiness::Ignore {
                body.insert("readiness".to_owned(), "ignore".into());
            }
            change(&held.named, "open", body.into())
        }
        Action::Close(held) => change(&held.named, "close", held.body()?.into()),
        Action::Reset(named) => change(named, "reset", json!({})),
    }
}

/// Names have no other characters than these; a slash in one would make another path of it.
fn path(Named { name }: &Named) -> Result<String, Exit> {
    if crate::health::DependencyName::parse(name).is_none() {
        let allowed = "1 to 63 lower-case letters, digits, `-` and `_`, beginning with a letter";
        return Err(unusable(&format!("\"{name}\" is no name of a dependency; allowed: {allowed}")));
    }
    Ok(format!("/circuits/{name}"))
}

impl Held {
    fn body(&self) -> Result<Map<String, Value>, Exit> {
        let reason = match self.reason.as_deref().map(str::trim) {
            None => ask_for_a_reason()?,
            Some("") => return Err(no_reason()),
            Some(reason) => reason.to_owned(),
        };
        let mut body = Map::from_iter([("reason".to_owned(), Value::from(reason))]);
        if let Some(span) = self.span {
            body.insert("for".to_owned(), format_duration(span).into());
        }
        Ok(body)
    }
}

/// Asks whoever sits at the terminal; a script is told what it left out.
fn ask_for_a_reason() -> Result<String, Exit> {
    let (mut stderr, stdin) = (std::io::stderr(), std::io::stdin());
    let mut reason = String::new();
    if stdin.is_terminal() && stderr.is_terminal() {
        let _ = write!(stderr, "Why? (others will read it) ").and_then(|()| stderr.flush());
        // What cannot be read is no reason.
        let _ = stdin.read_line(&mut reason);
    }
    match reason.trim() {
        "" => Err(no_reason()),
        reason => Ok(reason.to_owned()),
    }
}

fn no_reason() -> Exit {
    unusable("there is no reason; give one by --reason, for whoever finds the circuit like this")
}

fn token(file: Option<&Path>, environment: &Env) -> Result<Option<HeaderValue>, Exit> {
    let (token, whence) = match file {
        Some(file) => {
            let text = read_text(file, TOKEN_FILE_MAX);
            let text = text.map_err(|why| unusable(&format!("--token-file {} {why}", file.display())))?;
            (text.trim_end().to_owned(), format!("the token in {}", file.display()))
        }
        None => match environment.get(TOKEN).filter(|token| !token.is_empty()) {
            None => return Ok(None),
            Some(token) => (token.to_string_lossy().into_owned(), TOKEN.to_owned()),
        },
    };
    let header = HeaderValue::from_str(&format!("Bearer {token}")).ok().filter(|_| !token.is_empty());
    let mut header = header.ok_or_else(|| {
        unusable(&format!(
            "{whence} (not shown) cannot be sent in a header; allowed: visible ASCII characters"
        ))
    })?;
    header.set_sensitive(true);
    Ok(Some(header))
}

fn where_it_listens(
    given: Option<SocketAddr>,
    environment: &Env,
    load: Option<impl FnOnce(Overrides) -> Result<Plan, Exit>>,
) -> Result<SocketAddr, Exit> {
    const DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8686);
    if let Some(given) = given {
        return Ok(given);
    }
    for variable in ["SICKBAY_OPERATOR_LISTEN", "SICKBAY_LISTEN"] {
        if let Some(listen) = environment.get(variable).filter(|listen| !listen.is_empty()) {
            let listen = listen.to_string_lossy();
            return listen.parse().map(reachable).map_err(|_| {
                unusable(&format!(
                    "{variable}: \"{listen}\" is not an address and port, such as 0.0.0.0:8686"
                ))
            });
        }
    }
    let Some(load) = load else { return Ok(DEFAULT) };
    let plan = load(Overrides::default()).inspect_err(|_| {
        tell_error("error: where the agent listens cannot be told from this configuration; give --address");
    })?;
    Ok(reachable(plan.server().operator_listen().unwrap_or(*plan.server().listen())))
}

fn unusable(why: &str) -> Exit {
    tell_error(&format!("error: {why}"));
    Exit::Unusable
}

/// Tells why there is no answer, and what to do.
fn refused(error: &Unanswered) -> Exit {
    let (exit, advice) = match error {
        Unanswered::NoAgent(_) => (
            Exit::NotWell,
            "; is the agent running, and is this its address? (--address, SICKBAY_OPERATOR_LISTEN, SICKBAY_LISTEN, a --config)",
        ),
        // The listener of the load balancer knows nothing of circuits.
        Unanswered::Refused(StatusCode::NOT_FOUND, code, _) if code == "not_found" => (
            Exit::NotWell,
            "; if the operators have a listener of their own, ask that one (--address, SICKBAY_OPERATOR_LISTEN)",
        ),
        Unanswered::Refused(StatusCode::UNAUTHORIZED, code, _) if code != "no_token_configured" => {
            (Exit::NotWell, "; here the token comes from SICKBAY_ADMIN_TOKEN, or from a --token-file")
        }
        Unanswered::Refused(StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST, ..) => (Exit::Unusable, ""),
        Unanswered::Refused(..) => (Exit::NotWell, ""),
    };
    tell_error(&format!("error: {error}{advice}"));
    exit
}

fn list(answer: &Value) -> String {
    const HEAD: [&str; 8] =
        ["DEPENDENCY", "STATE", "SINCE", "FAILURES IN A ROW", "OPENS", "SUCCESS (15m)", "NEXT TRIAL", "HELD"];
    let none = Map::new();
    let circuits = answer["circuits"].as_object().unwrap_or(&none);
    if circuits.is_empty() {
        return "there are no circuits: no dependency is enabled".to_owned();
    }
    let row = |(name, circuit): (&String, &Value)| {
        vec![
            Cell::from(name.as_str()),
            state(circuit),
            Cell::from(text(&circuit["since"])),
            Cell::from(text(&circuit["consecutive_failures"])),
            Cell::from(text(&circuit["opens"])),
            Cell::from(percent(&circuit["rates"]["15m"]["success_rate"])),
            Cell::from(text(&circuit["next_trial_at"])),
            Cell::from(held(circuit).unwrap_or_default()),
        ]
    };
    table::render(&HEAD, &circuits.iter().map(row).collect::<Vec<_>>(), &[3, 4, 5])
}

fn show(circuit: &Value) -> String {
    let bold = Style::new().bold();
    let mut shown = format!("{}\n", headline(circuit));
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            shown.push_str(&format!("  {FAINT}{name:<22}{FAINT:#} {value}\n"));
        }
    };
    line("held", held(circuit).unwrap_or_default());
    line("next trial", text(&circuit["next_trial_at"]));
    let in_a_row = |of: &str| text(&circuit[format!("consecutive_{of}")]);
    line("in a row", format!("{} failures, {} successes", in_a_row("failures"), in_a_row("successes")));
    line(
        "opens after",
        format!(
            "{} failures in a row, for {} s; {} successful trials close it",
            text(&circuit["failure_threshold"]),
            text(&circuit["recovery_timeout_seconds"]),
            text(&circuit["success_threshold"])
        ),
    );
    let counts = ["successes", "failures", "opens"].map(|field| text(&circuit[field]));
    let [successes, failures, opens] = counts;
    line("since the start", format!("{successes} successes, {failures} failures; opened by them: {opens}"));
    if circuit["successes"] == 0 && circuit["failures"] != 0 {
        line(
            "",
            "it never succeeded: before that a circuit stays closed, and the dependency is down".to_owned(),
        );
    }
    let rate = |span: &str| match percent(&circuit["rates"][span]["success_rate"]) {
        rate if rate.is_empty() => format!("{span} no checks"),
        rate => format!("{span} {rate}"),
    };
    line("success rate", ["1m", "5m", "15m"].map(rate).join(", "));
    line("failures by kind", pairs(&circuit["failures_by_kind"], ""));
    line("time in state", pairs(&circuit["time_in_state_seconds"], " s"));
    let transitions = circuit["transitions"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !transitions.is_empty() {
        shown.push_str(&format!("\n{bold}Transitions{bold:#}, the newest first\n"));
    }
    for transition in transitions.iter().rev() {
        let [at, from, to, reason] = ["at", "from", "to", "reason"].map(|field| text(&transition[field]));
        shown.push_str(&format!("  {at}  {from:>9} → {to:<9}  {reason}\n"));
    }
    shown
}

/// What has been done, and how long it lasts.
fn done(circuit: &Value) -> String {
    let held = held(circuit).unwrap_or_else(|| match circuit["state"].as_str() {
        Some("closed") => "nothing holds it; a check is made now".to_owned(),
        _ => "nothing holds it; a trial decides now".to_owned(),
    });
    format!("{}: {held}{}", headline(circuit), consequence(circuit))
}

fn headline(circuit: &Value) -> String {
    let bold = Style::new().bold();
    let (name, state) = (text(&circuit["dependency"]), text(&circuit["state"]));
    let style = style(&state);
    format!("{bold}{name}{bold:#} is {style}{state}{style:#} since {}", text(&circuit["since"]))
}

fn held(circuit: &Value) -> Option<String> {
    let held = &circuit["override"];
    let mode = held["mode"].as_str()?.replace('_', " ");
    let [actor, reason, until] = ["actor", "reason", "expires_at"].map(|field| text(&held[field]));
    let ignored = if held["readiness"] == "ignore" { ", gates nothing" } else { "" };
    Some(format!("{mode} by {actor} until {until}{ignored}: {reason}"))
}

/// What follows for the task, where that may be more than was meant.
fn consequence(circuit: &Value) -> &'static str {
    let held = &circuit["override"];
    match (held["mode"].as_str(), held["readiness"].as_str()) {
        (Some("forced_open"), Some("count")) => {
            "\nIt gates: if the dependency is critical, /health/ready answers 503 until this is over. `--readiness ignore` prevents that."
        }
        (Some("forced_open"), _) => {
            "\nIt gates nothing until this is over and trials have decided. Another order takes the place of this one, `--readiness` included."
        }
        _ => "",
    }
}

fn state(circuit: &Value) -> Cell {
    let state = text(&circuit["state"]);
    let style = style(&state);
    Cell::styled(state, style)
}

fn style(state: &str) -> Style {
    match state {
        "closed" => GOOD,
        "half_open" => WARN,
        _ => BAD,
    }
}

/// A value as people write it: nothing for null.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        // Seconds, mostly whole ones.
        Value::Number(number) => number.to_string().trim_end_matches(".0").to_owned(),
        other => other.to_string(),
    }
}

fn percent(share: &Value) -> String {
    share.as_f64().map(|share| format!("{:.1} %", share * 100.0)).unwrap_or_default()
}

fn pairs(map: &Value, unit: &str) -> String {
    let pairs = map.as_object().into_iter().flatten();
    let pairs: Vec<String> = pairs.map(|(name, value)| format!("{name} {}{unit}", text(value))).collect();
    pairs.join(", ")
}
