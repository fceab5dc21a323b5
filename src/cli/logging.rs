//! Where log lines go, and how they look.

use std::io::IsTerminal;

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::{Exit, tell_error};
use crate::config::log_filter;
use crate::config::plan::LogFormat;

/// Log lines that may wait for standard output to take them; more are dropped and counted.
const WAITING: usize = 4096;

/// Keeps the agent's log going; dropped, it writes what still waits.
pub(super) struct AgentLog {
    _writer: WorkerGuard,
    dropped: ErrorCounter,
}

impl AgentLog {
    /// Counts the lines that were dropped.
    pub(super) fn dropped(&self) -> ErrorCounter {
        self.dropped.clone()
    }
}

/// Sets up the agent's log: standard output, which is what ECS collects.
///
/// A thread of its own writes it. A log driver that blocks, as `awslogs` does by default while CloudWatch
/// cannot be reached, fills the pipe; health answers and signals must not wait for that.
pub(super) fn for_agent(filter: &str, format: Option<LogFormat>) -> Result<AgentLog, Exit> {
    let terminal = std::io::stdout().is_terminal();
    let format = format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json });
    let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(WAITING);
    let (writer, guard) = builder.thread_name("log").finish(std::io::stdout());
    let dropped = writer.error_counter();
    start(filter, format, terminal, writer)?;
    Ok(AgentLog { _writer: guard, dropped })
}

/// Sets up the log of a command that prints its result on standard output: standard error, and only what went
/// wrong, unless a filter asks for more.
pub(super) fn for_command(filter: Option<&str>, format: Option<LogFormat>) -> Result<(), Exit> {
    let terminal = std::io::stderr().is_terminal();
    start(filter.unwrap_or("error"), format.unwrap_or(LogFormat::Text), terminal, std::io::stderr)
}

fn start<W>(filter: &str, format: LogFormat, colours: bool, writer: W) -> Result<(), Exit>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = log_filter::parse(filter).ok_or_else(|| {
        tell_error(&format!(
            "error: SICKBAY_LOG: \"{filter}\" is not a log filter; allowed are levels and targets, such as info or sickbay=debug,warn"
        ));
        Exit::Unusable
    })?;
    // All that the filter lets through.
    let log = tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_writer(writer);
    match format {
        LogFormat::Json => {
            let log = log.json().flatten_event(true).with_current_span(false).with_span_list(false);
            log.finish().with(filter).init();
        }
        LogFormat::Text => log.with_ansi(colours).with_target(false).finish().with(filter).init(),
    }
    Ok(())
}
