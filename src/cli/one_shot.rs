//! What a command that asks servers itself, without an agent, begins with.

use tokio::runtime::Runtime;

use super::{Exit, WARN, logging, runtime, tell_error};
use crate::config::{Overrides, Plan};

/// The plan, its warnings told and its log set up. Log lines are for those who wanted them.
pub(super) fn plan(
    load: impl FnOnce(Overrides) -> Result<Plan, Exit>,
    log_wanted: bool,
) -> Result<Plan, Exit> {
    let plan = load(Overrides::default())?;
    let log = plan.log();
    logging::for_command(log_wanted.then_some(log.filter().as_str()), *log.format())?;
    for warning in plan.warnings() {
        tell_error(&format!("{WARN}warning{WARN:#}: {warning}"));
    }
    Ok(plan)
}

/// The runtime to do what is to be done: `checked`, say.
pub(super) fn runtime_to_have(done: &str) -> Result<Runtime, Exit> {
    runtime().map_err(|error| {
        tell_error(&format!("error: nothing can be {done}: {error}"));
        Exit::NotWell
    })
}
