//! Where log lines go, and how they look.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::{Exit, tell_error};
use crate::config::plan::LogFormat;

/// Sets up the agent's log: standard output, which is what ECS collects.
pub(super) fn for_agent(filter: &str, format: Option<LogFormat>) -> Result<(), Exit> {
    let terminal = std::io::stdout().is_terminal();
    let format = format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json });
    start(filter, format, terminal, std::io::stdout)
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
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        tell_error(&format!(
            "error: SICKBAY_LOG: \"{filter}\" is not a log filter ({error}); allowed are levels and targets, such as info or sickbay=debug,warn"
        ));
        Exit::Unusable
    })?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    match format {
        LogFormat::Json => {
            log.json().flatten_event(true).with_current_span(false).with_span_list(false).init()
        }
        LogFormat::Text => log.with_ansi(colours).with_target(false).init(),
    }
    Ok(())
}
