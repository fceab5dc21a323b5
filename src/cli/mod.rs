//! The command line: one file per subcommand.

mod ask;
mod check;
mod circuit;
mod config;
mod diagnose;
mod healthcheck;
mod logging;
mod man;
mod one_shot;
mod panics;
mod run;
mod show;
mod table;
mod wait;

use std::ffi::OsString;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use clap::{CommandFactory, Parser, Subcommand, ValueEnum};

use crate::config::duration::parse_duration;
use crate::config::{Env, Overrides, Plan, Sources};

/// What a command ends with; the numbers are part of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    /// It did what was asked, and what was asked about is well.
    Fine,
    /// What was asked about is not well.
    NotWell,
    /// The configuration or the arguments are not usable.
    Unusable,
    /// The agent cannot start: an address cannot be listened on, or the machine has no room for it.
    CannotStart,
    /// It was ended by a signal, whose number this is; the agent by a second one.
    Signalled(i32),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Fine => 0,
            Exit::NotWell => 1,
            Exit::Unusable => 2,
            Exit::CannotStart => 3,
            // What a shell reports of a process that a signal ended.
            Exit::Signalled(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        })
    }
}

/// A health and diagnostics sidecar for Amazon ECS.
///
/// Sickbay checks what an API depends on (PostgreSQL, Redis, DNS, TCP, HTTP), keeps a circuit breaker per
/// dependency, and answers the load balancer and ECS. Without a configuration file it is set up by
/// environment variables alone: DATABASE_HOST, REDIS_HOST, API_PORT, MLFLOW_TRACKING_URI.
#[derive(Debug, Parser)]
#[command(
    name = "sickbay",
    version = concat!(env!("CARGO_PKG_VERSION"), " (", env!("SICKBAY_COMMIT"), ")"),
    propagate_version = true,
    arg_required_else_help = true,
    after_help = "Example:\n  DATABASE_HOST=db.internal DATABASE_PASSWORD=… sickbay check"
)]
struct Arguments {
    /// A YAML file; may be repeated, the later wins
    #[arg(long, global = true, value_name = "FILE")]
    config: Vec<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent until SIGTERM or SIGINT
    ///
    /// Exit codes: 0 drained; 2 the configuration is not usable; 3 an address cannot be listened on, or the machine
    /// has no room for the agent; 128 + n ended by a second signal n.
    #[command(after_help = "Example:\n  sickbay run --config /etc/sickbay/production.yaml")]
    Run(run::Arguments),
    /// Check each dependency once, now; needs no running agent
    ///
    /// Exit codes: 0 all is well; 1 a critical dependency failed, or any that was named; 2 the configuration is
    /// not usable, or a name is unknown or disabled; 128 + n ended by signal n.
    #[command(after_help = "Example:\n  sickbay check database --format json")]
    Check(check::Arguments),
    /// Tell which hop to a dependency breaks, why, and what to do about it
    ///
    /// Needs no running agent. Walks the path hop by hop: name, route, connection, TLS, the protocol's first words, log-in,
    /// question. Then it says what the evidence comes to, how far that can be trusted, and what to do. It connects a few
    /// times, to one other port of the host, too.
    ///
    /// Exit codes: 0 the path works; 1 it does not; 2 the configuration is not usable, or there is no such target, or it
    /// is disabled; 128 + n ended by signal n.
    #[command(
        after_help = "Examples:\n  sickbay diagnose database\n  sickbay diagnose db.internal:5432\n  sickbay diagnose 'postgresql://app@db.internal/shop?sslmode=require'\n  sickbay diagnose --all --format json"
    )]
    Diagnose(diagnose::Arguments),
    /// Block until dependencies have succeeded; needs no running agent
    ///
    /// For a container of its own, on which the others depend. A dependency whose fallback succeeds counts as up.
    ///
    /// Exit codes: 0 they are up, or --on-timeout continue; 1 the time has passed; 2 the configuration is not
    /// usable, or a name is unknown or disabled; 128 + n ended by signal n.
    #[command(after_help = "Example:\n  sickbay wait database redis --timeout 5m")]
    Wait(wait::Arguments),
    /// Ask a running agent whether it is well: for the container health check of ECS
    ///
    /// Exit codes: 0 it answered 2xx; 1 anything else.
    #[command(
        after_help = "Example, in a task definition:\n  \"healthCheck\": {\"command\": [\"CMD\", \"/sickbay\", \"healthcheck\"]}"
    )]
    Healthcheck(healthcheck::Arguments),
    /// Look at the circuits of a running agent, and hold them by hand
    ///
    /// Changing something takes a token, in SICKBAY_ADMIN_TOKEN or a --token-file; looking does where the agent is set up so.
    ///
    /// Exit codes: 0 done; 1 the agent refused, or cannot be asked; 2 the arguments are not usable, or the name is unknown.
    #[command(
        after_help = "Example:\n  sickbay circuit open database --reason 'upgrade to 16' --for 30m --readiness ignore"
    )]
    Circuit(circuit::Arguments),
    /// Look at the configuration
    #[command(after_help = "Example:\n  sickbay config check --config production.yaml")]
    Config(config::Arguments),
    /// Print completions for a shell
    #[command(after_help = "Example:\n  sickbay completions bash > /etc/bash_completion.d/sickbay")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, of one command where it is named
    #[command(after_help = "Example:\n  sickbay man config check | man -l -")]
    Man(man::Arguments),
}

/// How a command prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Table,
    /// One JSON document on standard output, and nothing else
    Json,
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    panics::tell_on_stderr();
    let Arguments { config, command } = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    let environment = environment();
    let a_file_is_given =
        !config.is_empty() || environment.get("SICKBAY_CONFIG").is_some_and(|file| !file.is_empty());
    let sources = |overrides| Sources { files: config.clone(), env: environment.clone(), overrides };
    let load = |overrides| load(&sources(overrides));
    let exit = match command {
        Command::Run(arguments) => run::run(arguments, sources),
        Command::Check(arguments) => check::run(&arguments, load, environment.contains_key("SICKBAY_LOG")),
        Command::Diagnose(arguments) => {
            diagnose::run(&arguments, &sources(Overrides::default()), environment.contains_key("SICKBAY_LOG"))
        }
        Command::Healthcheck(arguments) => {
            healthcheck::run(&arguments, &environment, a_file_is_given.then_some(load))
        }
        Command::Circuit(arguments) => {
            let load = |overrides| {
                let mut sources = sources(overrides);
                // Whose token stands there asks; the agent's own may be another, and is of no weight here.
                if let Some(token) = sources.env.get_mut("SICKBAY_ADMIN_TOKEN") {
                    *token = "0".repeat(64).into();
                }
                self::load(&sources)
            };
            circuit::run(arguments, &environment, a_file_is_given.then_some(load))
        }
        Command::Config(arguments) => config::run(&arguments, load),
        Command::Wait(arguments) => wait::run(&arguments, load, environment.contains_key("SICKBAY_LOG")),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "sickbay", &mut script);
            tell(&String::from_utf8_lossy(&script))
        }
        Command::Man(arguments) => man::run(&arguments, Arguments::command()),
    };
    exit.into()
}

/// Help and version go to standard output with 0, errors to standard error with 2; but for the health check, to
/// which Docker and ECS allow no other failure than 1.
fn usage(error: &clap::Error) -> ExitCode {
    let printed = error.print().and_then(|()| std::io::stdout().flush());
    let exit = match (error.exit_code(), is_healthcheck(std::env::args_os().skip(1))) {
        (0, _) => written(printed),
        (_, true) => Exit::NotWell,
        (_, false) => Exit::Unusable,
    };
    exit.into()
}

/// Whether these arguments, which could not be read, are the health check's: the first of them that is no option and no
/// option's value is the command.
fn is_healthcheck(mut arguments: impl Iterator<Item = OsString>) -> bool {
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            // The one option of all commands.
            Some("--config") => drop(arguments.next()),
            Some(option) if option.starts_with('-') => {}
            word => return word == Some("healthcheck"),
        }
    }
    false
}

/// The environment. A variable whose name is not UTF-8 cannot be ours; one whose value is not may well be.
fn environment() -> Env {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value))).collect()
}

/// The plan; or, after all errors have been told, the exit.
fn load(sources: &Sources) -> Result<Plan, Exit> {
    crate::config::load(sources).map_err(|errors| {
        tell_error(&errors.to_string());
        Exit::Unusable
    })
}

/// Prints to standard error. A closed one is no reason to fail.
fn tell_error(text: &str) {
    let _ = writeln!(anstream::stderr(), "{}", text.trim_end());
}

/// Prints a result to standard output.
fn tell(text: &str) -> Exit {
    written(print(text))
}

fn print(text: &str) -> std::io::Result<()> {
    let mut stdout = anstream::stdout();
    writeln!(stdout, "{}", text.trim_end())?;
    stdout.flush()
}

/// What a command ends with whose result was printed, or was not. A reader that has gone (`| head`) has all that it
/// wanted; whoever has anything else in the way must not take what is there for the whole.
fn written(printed: std::io::Result<()>) -> Exit {
    match printed {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            tell_error(&format!("error: the result cannot be written to standard output: {error}"));
            Exit::NotWell
        }
        _ => Exit::Fine,
    }
}

/// A duration on the command line.
fn duration(text: &str) -> Result<Duration, String> {
    const LONGEST: Duration = Duration::from_secs(24 * 3600);
    parse_duration(text)
        .filter(|span| !span.is_zero() && *span <= LONGEST)
        .ok_or_else(|| "a duration with its unit is allowed, such as 500ms, 90s or 5m, up to 24h".to_owned())
}

const GOOD: Style = AnsiColor::Green.on_default();
const WARN: Style = AnsiColor::Yellow.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();
const FAINT: Style = Style::new().dimmed();

/// Threads that may read files and set TLS up at a time: one that is stuck, as on a network file system that is
/// away, must not hold the others up. Each has a heap of its own in glibc, so more would only cost memory.
const BLOCKING_THREADS: usize = 4;

/// The runtime of what speaks with servers: one thread, which is this one.
///
/// A check waits nearly all of its time; what remains, microseconds, would not keep a second thread busy. One costs
/// less: nothing is handed from thread to thread, none is woken to look for work that another has, and there is one
/// heap.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(BLOCKING_THREADS).build()
}

/// An address to listen on, as one to connect to: "any" becomes the loopback address.
fn reachable(listen: SocketAddr) -> SocketAddr {
    use std::net::{Ipv4Addr, Ipv6Addr};
    let ip = match listen.ip() {
        ip if !ip.is_unspecified() => ip,
        std::net::IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        std::net::IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, listen.port())
}
