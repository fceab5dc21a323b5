//! What a command that asks servers itself, without an agent, begins and ends with.

use std::cell::RefCell;

use futures_util::future::{BoxFuture, join_all};

use super::{Exit, WARN, logging, runtime, tell_error};
use crate::agent::Signals;
use crate::config::{Overrides, Plan};
use crate::probe::GOODBYE;

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

/// What has been opened at servers, and has to be left as they like it.
#[derive(Default)]
pub(super) struct Visits(RefCell<Vec<BoxFuture<'static, ()>>>);

impl Visits {
    /// What this ends with is waited for in the end, whatever becomes of who opened it.
    pub(super) fn add(&self, gone: BoxFuture<'static, ()>) {
        self.0.borrow_mut().push(gone);
    }

    /// Ends when all have left, soon.
    async fn over(self) {
        let _ = tokio::time::timeout(GOODBYE, join_all(self.0.into_inner())).await;
    }
}

/// How work among servers ended.
pub(super) enum Ended<T> {
    Done(T),
    /// By this signal, in the middle.
    Signalled(i32),
}

/// Does `work`, until it is done or a signal comes. Either way servers are said goodbye to before this returns, a
/// second later at most. `done` is what the work does to servers: `checked`, say.
pub(super) fn among_servers<T>(done: &str, work: impl AsyncFnOnce(&Visits) -> T) -> Result<Ended<T>, Exit> {
    let cannot = |what: &str, error: std::io::Error| {
        tell_error(&format!("error: {what}: {error}"));
        Exit::NotWell
    };
    let runtime = runtime().map_err(|error| cannot(&format!("nothing can be {done}"), error))?;
    let ended = runtime.block_on(async {
        // As the first process of a container, it would not even notice a signal that it does not listen for.
        let mut signals =
            Signals::listen_for_hangup_too().map_err(|error| cannot("cannot listen for signals", error))?;
        let visits = Visits::default();
        // What is not done by then is dropped here, and begins to leave.
        let ended = tokio::select! {
            biased;
            (_, signal) = signals.next() => Ended::Signalled(signal),
            done = work(&visits) => Ended::Done(done),
        };
        visits.over().await;
        Ok(ended)
    });
    // What hangs, such as a file that is being read, must not keep the command.
    runtime.shutdown_background();
    ended
}
