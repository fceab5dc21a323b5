//! Takes up a new configuration while the agent runs: on SIGHUP, and when one of its files has changed.
//!
//! Names, tokens and the drain are in force as soon as it was read and is valid: who revokes a token must not wait for a
//! dependency that hangs. What is shown of dependencies, and the effective configuration with it, follows when the
//! runners are ready, one configuration at a time; of those that are read meanwhile the latest is next.
//!
//! Files are looked at every few seconds. No notification would do in place of it: inotify tells nothing of what
//! happens on network file systems, and where secrets are mounted a link is led elsewhere.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::aside::on_a_thread;
use super::diagnosing::Around;
use super::runners::{Changes, Reload};
use crate::clock::Clock;
use crate::config::plan::{DependencyPlan, LogPlan, ResolverPlan};
use crate::config::{self, Plan, Sources};
use crate::files::Seen;
use crate::health::{DependencyName, WallTime};
use crate::http::{ConfigStatus, State};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A file that changes is looked at again after this long, until it stands still: a half of it may well be valid.
const SETTLES_IN: Duration = Duration::from_secs(1);

/// One that never stands still is read all the same after so many looks.
const LOOKS_MAX: usize = 10;

/// Why a configuration that is valid is not taken up.
const EMPTIED: &str = "it enables no dependency, and the one in force does; if that is meant, start the agent anew, or else \
                       look whether a file was emptied";

/// What holds from the start of the agent to its end.
#[derive(Debug, Clone, PartialEq)]
struct Fixed {
    listen: SocketAddr,
    operator_listen: Option<SocketAddr>,
    state_dir: Option<PathBuf>,
    log: LogPlan,
    resolver: ResolverPlan,
}

impl Fixed {
    fn of(plan: &Plan) -> Self {
        let server = plan.server();
        Self {
            listen: *server.listen(),
            operator_listen: *server.operator_listen(),
            state_dir: server.state_dir().clone(),
            log: plan.log().clone(),
            resolver: plan.resolver().clone(),
        }
    }

    /// The settings that are others in a plan, by their paths.
    fn differs_from(&self, plan: &Plan) -> Vec<&'static str> {
        let Self { listen, operator_listen, state_dir, log, resolver } = Self::of(plan);
        [
            ("server.listen", self.listen != listen),
            ("server.operator.listen", self.operator_listen != operator_listen),
            ("server.state_dir", self.state_dir != state_dir),
            ("log", self.log != log),
            ("resolver", self.resolver != resolver),
        ]
        .into_iter()
        .filter_map(|(path, differs)| differs.then_some(path))
        .collect()
    }
}

/// Why the configuration is read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Hangup,
    FilesChanged,
}

impl Why {
    fn as_str(self) -> &'static str {
        match self {
            Self::Hangup => "SIGHUP",
            Self::FilesChanged => "a changed file",
        }
    }
}

/// A valid configuration.
struct Loaded {
    plan: Plan,
    why: Why,
    at: WallTime,
}

/// One that the runners are taking up.
struct Waiting {
    changes: oneshot::Receiver<Changes>,
    why: Why,
    /// How it was read, once it is in force.
    status: ConfigStatus,
}

/// Reads the configuration again.
pub(super) struct Reloader {
    sources: Arc<Sources>,
    clock: Clock,
    state: State,
    around: Arc<Around>,
    runners: mpsc::Sender<Reload>,
    /// How long the agent drains.
    drain: Arc<ArcSwap<Duration>>,
    /// The files, as they were when they were read last.
    files: Vec<Seen>,
    fixed: Fixed,
    warnings: Vec<String>,
    /// Whether the one that was accepted last watches anything.
    watches: bool,
    /// How the one in force was read, and what is wrong with a newer one.
    status: ConfigStatus,
    waiting: Option<Waiting>,
    /// To be taken up after that.
    next: Option<Loaded>,
}

impl Reloader {
    /// One that begins with the plan that the agent was started with.
    pub(super) fn new(
        sources: Sources,
        plan: &Plan,
        clock: Clock,
        state: State,
        around: Arc<Around>,
        runners: mpsc::Sender<Reload>,
        drain: Arc<ArcSwap<Duration>>,
    ) -> Self {
        let status = ConfigStatus {
            loaded_at: clock.now().wall,
            files: names(plan.files()),
            error: None,
            failed_at: None,
            needs_restart: Vec::new(),
        };
        state.tell_config(status.clone());
        Self {
            sources: Arc::new(sources),
            clock,
            state,
            around,
            runners,
            drain,
            files: plan.files().to_vec(),
            fixed: Fixed::of(plan),
            warnings: plan.warnings().to_vec(),
            watches: watches(plan),
            status,
            waiting: None,
            next: None,
        }
    }

    /// Runs until the agent is told to stop; from then on nothing changes any more, and a SIGHUP only is not to end it.
    pub(super) async fn run(mut self, mut hangup: Signal, draining: CancellationToken) {
        'reading: loop {
            // Of these files, until they are read again: what else happens meanwhile does not put the next look off.
            let files = self.files.clone();
            let changed = changed(&files);
            tokio::pin!(changed);
            let why = loop {
                tokio::select! {
                    biased;
                    () = draining.cancelled() => break 'reading,
                    Some(()) = hangup.recv() => break Why::Hangup,
                    taken_up = Waiting::is_over(&mut self.waiting) => self.taken_up(taken_up).await,
                    () = &mut changed => break Why::FilesChanged,
                }
            };
            self.reload(why).await;
        }
        self.next = None;
        loop {
            tokio::select! {
                Some(()) = hangup.recv() => tracing::info!("SIGHUP is ignored: the agent is being stopped"),
                taken_up = Waiting::is_over(&mut self.waiting) => self.taken_up(taken_up).await,
                else => break,
            }
        }
    }

    async fn reload(&mut self, why: Why) {
        let sources = Arc::clone(&self.sources);
        match on_a_thread("config", move || config::load(&sources)).await {
            // A file that was emptied, or is written anew and was read before its first byte, is as valid as one that
            // means it. Whoever means it starts the agent so.
            Ok(Ok(plan)) if self.watches && !watches(&plan) => {
                self.refuse(&[EMPTIED.to_owned()], plan.files(), why);
            }
            Ok(Ok(plan)) => self.accept(plan, why).await,
            Ok(Err(errors)) => {
                let told: Vec<String> = errors.errors().iter().map(ToString::to_string).collect();
                self.refuse(&told, errors.files(), why);
            }
            Err(error) => {
                tracing::error!(
                    "the configuration could not be read: {error}; the one before stays in force"
                );
            }
        }
    }

    fn refuse(&mut self, errors: &[String], files: &[Seen], why: Why) {
        self.files = files.to_vec();
        // As `config check` prints them.
        let text = errors.iter().map(|error| format!("error: {error}")).collect::<Vec<_>>().join("\n");
        let is_new = self.status.error.as_deref() != Some(&text);
        if is_new {
            for error in errors {
                tracing::error!("the new configuration cannot be used: {error}");
            }
        }
        tracing::error!(
            errors = errors.len(),
            trigger = why.as_str(),
            "the configuration that was loaded at {} stays in force{}; `config` in /health/detailed shows what is wrong",
            crate::clock::rfc3339(self.status.loaded_at),
            if is_new { "" } else { ": the new one is as wrong as before" }
        );
        self.set_error(Some((text, self.clock.now().wall)));
        self.state.tell_config(self.status.clone());
    }

    /// What is wrong with what was read last, also where an earlier one is being taken up.
    fn set_error(&mut self, error: Option<(String, WallTime)>) {
        let (error, failed_at) = error.unzip();
        let statuses = self.waiting.as_mut().map(|waiting| &mut waiting.status);
        for status in statuses.into_iter().chain([&mut self.status]) {
            status.error.clone_from(&error);
            status.failed_at = failed_at;
        }
    }

    /// Puts in force of a valid configuration what has to do with no dependency; the rest follows, now or later.
    async fn accept(&mut self, plan: Plan, why: Why) {
        self.files = plan.files().to_vec();
        self.watches = watches(&plan);
        self.drain.store(Arc::new(*plan.server().drain()));
        self.state.reconfigure(&plan);
        let loaded = Loaded { plan, why, at: self.clock.now().wall };
        if self.waiting.is_none() {
            self.take_up(loaded).await;
        } else {
            self.set_error(None);
            tracing::info!(
                trigger = why.as_str(),
                "the configuration was read: its names and tokens are in force; its dependencies follow those of the one \
                 read before"
            );
            self.next = Some(loaded);
        }
    }

    async fn take_up(&mut self, Loaded { plan, why, at }: Loaded) {
        let needs_restart = self.fixed.differs_from(&plan);
        let warnings = plan.warnings().to_vec();
        let status = ConfigStatus {
            loaded_at: at,
            files: names(plan.files()),
            error: None,
            failed_at: None,
            needs_restart: needs_restart.clone(),
        };
        let dependencies: Vec<Arc<DependencyPlan>> =
            plan.dependencies().iter().map(|dependency| Arc::new(dependency.clone())).collect();
        let (state, around, told) = (self.state.clone(), Arc::clone(&self.around), status.clone());
        let adopt = Box::new(move || {
            around.tell_dependencies(plan.dependencies());
            state.show_effective(&plan);
            state.tell_config(told);
        });
        let (done, changes) = oneshot::channel();
        if self.runners.send(Reload { dependencies, adopt, done }).await.is_err() {
            return;
        }
        for warning in warnings.iter().filter(|warning| !self.warnings.contains(warning)) {
            tracing::warn!("{warning}");
        }
        if !needs_restart.is_empty() && needs_restart != self.status.needs_restart {
            tracing::warn!(
                needs_restart = needs_restart.join(","),
                "these settings changed and take effect at the next start of the agent: {}",
                needs_restart.join(", ")
            );
        }
        self.warnings = warnings;
        self.waiting = Some(Waiting { changes, why, status });
    }

    /// What was waited for is in force. Nobody says so where the agent ends meanwhile.
    async fn taken_up(&mut self, changes: Option<Changes>) {
        if let (Some(Waiting { why, status, .. }), Some(changes)) = (self.waiting.take(), changes) {
            tell(&changes, why);
            // It may have been told at that moment without what was found to be wrong with a later one.
            self.status = status;
            self.state.tell_config(self.status.clone());
        }
        if let Some(next) = self.next.take() {
            self.take_up(next).await;
        }
    }
}

impl Waiting {
    /// Ends when what is waited for is in force, or never is to be; never, where nothing is.
    async fn is_over(waiting: &mut Option<Self>) -> Option<Changes> {
        match waiting {
            Some(waiting) => (&mut waiting.changes).await.ok(),
            None => std::future::pending().await,
        }
    }
}

fn tell(changes: &Changes, why: Why) {
    let list = |names: &[DependencyName]| {
        let names: Vec<&str> = names.iter().map(DependencyName::as_str).collect();
        (!names.is_empty()).then(|| names.join(","))
    };
    let Changes { added, changed, removed, unchanged } = changes;
    tracing::info!(
        trigger = why.as_str(),
        changed = list(changed),
        added = list(added),
        removed = list(removed),
        unchanged,
        "the configuration was loaded anew"
    );
}

fn watches(plan: &Plan) -> bool {
    plan.dependencies().iter().any(|dependency| dependency.policy().enabled())
}

fn names(files: &[Seen]) -> Vec<String> {
    files.iter().map(|seen| seen.path.display().to_string()).collect()
}

/// Waits until one of the files is another than it was, and all of them stand still.
async fn changed(files: &[Seen]) {
    if files.is_empty() {
        return std::future::pending().await;
    }
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(mut now) = other_than(files.to_vec()).await else { continue };
        for _ in 0..LOOKS_MAX {
            tokio::time::sleep(SETTLES_IN).await;
            match other_than(now.clone()).await {
                Some(later) => now = later,
                None => break,
            }
        }
        return;
    }
}

/// How the files are now; `None` where they are as they were.
async fn other_than(files: Vec<Seen>) -> Option<Vec<Seen>> {
    // A file system that is away must not hold checks up. The one thread that asks it waits.
    let looking = on_a_thread("config", move || {
        files
            .iter()
            .any(Seen::has_changed)
            .then(|| files.into_iter().map(|seen| Seen::now(seen.path)).collect())
    });
    looking.await.ok().flatten()
}
