//! `sickbay run`: the agent.

use std::io;
use std::sync::{Arc, RwLock};
use std::thread;
use std::time::Duration;

use clap::Args;
use tracing_appender::non_blocking::ErrorCounter;

use super::{Exit, logging, panics, runtime, tell_error};
use crate::agent::app::{self, Ended};
use crate::config::{Overrides, Sources};

/// Threads beside the first: the one that answers, and the one that writes the log.
const THREADS: usize = 2;

/// How often the count of dropped log lines is looked at.
const LOOK_FOR_DROPPED: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Where to listen; over SICKBAY_LISTEN and the configuration
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// What to log, such as info or sickbay=debug,warn; over SICKBAY_LOG
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// How to log: json or text; over SICKBAY_LOG_FORMAT
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

pub(super) fn run(arguments: Arguments, sources: impl FnOnce(Overrides) -> Sources) -> Exit {
    agent(arguments, sources).unwrap_or_else(|exit| exit)
}

fn agent(arguments: Arguments, sources: impl FnOnce(Overrides) -> Sources) -> Result<Exit, Exit> {
    let Arguments { listen, log, log_format } = arguments;
    let sources = sources(Overrides { listen, log, log_format });
    let plan = super::load(&sources)?;
    threads_can_be_had().map_err(|error| {
        tell_error(&format!(
            "error: the agent cannot start: no thread can be had: {error}; it needs {THREADS} beside its first: raise the limit of memory (`ulimit -v`, the container's) or of processes (`ulimit -u`, `pids`)"
        ));
        Exit::CannotStart
    })?;
    let log = logging::for_agent(plan.log().filter(), *plan.log().format())?;
    panics::tell_in_the_log();
    let runtime = runtime().map_err(|error| {
        tell_error(&format!("error: the agent cannot start: {error}"));
        Exit::CannotStart
    })?;
    runtime.spawn(tell_dropped_lines(log.dropped()));
    let ended = runtime.block_on(app::run(plan, sources));
    // Blocked threads must not keep a stopped agent alive.
    runtime.shutdown_background();
    match ended {
        Ok(Ended::Drained) => Ok(Exit::Fine),
        Ok(Ended::Forced(signal)) => Ok(Exit::Signalled(signal)),
        Err(error) => {
            tell_error(&format!("error: {error}"));
            Err(Exit::CannotStart)
        }
    }
}

/// Starts as many threads as the agent begins with, all at a time, and ends them again. Where one is refused, now is
/// when that can be told: what writes the log would panic, and nobody would write that down.
fn threads_can_be_had() -> io::Result<()> {
    let all_there = Arc::new(RwLock::new(()));
    let waiting = all_there.write();
    let started: io::Result<Vec<_>> = (0..THREADS)
        .map(|_| {
            let all_there = Arc::clone(&all_there);
            thread::Builder::new().spawn(move || drop(all_there.read()))
        })
        .collect();
    drop(waiting);
    for thread in started? {
        // It does nothing that could panic.
        let _ = thread.join();
    }
    Ok(())
}

/// Says, once standard output takes lines again, how many were dropped meanwhile.
async fn tell_dropped_lines(counter: ErrorCounter) {
    let mut told = 0;
    loop {
        tokio::time::sleep(LOOK_FOR_DROPPED).await;
        let dropped = counter.dropped_lines();
        if dropped > told {
            let queue = "log";
            tracing::warn!(
                queue,
                dropped = dropped - told,
                "log lines were dropped: standard output did not take them"
            );
            // This line may be the next that is dropped; then it is told again.
            if counter.dropped_lines() == dropped {
                told = dropped;
            }
        }
    }
}
