//! Takes up a new configuration while the agent runs: on SIGHUP, and when one of its files has changed.
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
use super::runners::{Changes, Reload};
use crate::clock::Clock;
use crate::config::plan::{DependencyPlan, LogPlan, ResolverPlan};
use crate::config::{self, ConfigErrors, Plan, Sources};
use crate::files::Seen;
use crate::health::DependencyName;
use crate::http::{ConfigStatus, State};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A file that changes is looked at again after this long, until it stands still: a half of it may well be valid.
const SETTLES_IN: Duration = Duration::from_secs(1);

/// One that never stands still is read all the same after so many looks.
const LOOKS_MAX: usize = 10;

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

/// Reads the configuration again.
pub(super) struct Reloader {
    sources: Arc<Sources>,
    clock: Clock,
    state: State,
    runners: mpsc::Sender<Reload>,
    /// How long the agent drains.
    drain: Arc<ArcSwap<Duration>>,
    /// The files, as they were when they were read last.
    files: Vec<Seen>,
    fixed: Fixed,
    warnings: Vec<String>,
    status: ConfigStatus,
}

impl Reloader {
    /// One that begins with the plan that the agent was started with.
    pub(super) fn new(
        sources: Sources,
        plan: &Plan,
        clock: Clock,
        state: State,
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
            runners,
            drain,
            files: plan.files().to_vec(),
            fixed: Fixed::of(plan),
            warnings: plan.warnings().to_vec(),
            status,
        }
    }

    /// Runs until the agent is told to stop; from then on nothing changes any more, and a SIGHUP only is not to end it.
    pub(super) async fn run(mut self, mut hangup: Signal, draining: CancellationToken) {
        loop {
            let why = tokio::select! {
                biased;
                () = draining.cancelled() => break,
                Some(()) = hangup.recv() => Why::Hangup,
                () = changed(&self.files) => Why::FilesChanged,
            };
            // A SIGHUP that comes meanwhile is taken up after it.
            self.reload(why).await;
        }
        while hangup.recv().await.is_some() {
            tracing::info!("SIGHUP is ignored: the agent is being stopped");
        }
    }

    async fn reload(&mut self, why: Why) {
        let sources = Arc::clone(&self.sources);
        match on_a_thread("config", move || config::load(&sources)).await {
            Ok(Ok(plan)) => self.take_up(plan, why).await,
            Ok(Err(errors)) => self.refuse(&errors, why),
            Err(error) => {
                tracing::error!(
                    "the configuration could not be read: {error}; the one before stays in force"
                );
            }
        }
    }

    fn refuse(&mut self, errors: &ConfigErrors, why: Why) {
        self.files = errors.files().to_vec();
        let text = errors.to_string();
        let is_new = self.status.error.as_deref() != Some(&text);
        if is_new {
            for error in errors.errors() {
                tracing::error!("the new configuration cannot be used: {error}");
            }
        }
        tracing::error!(
            errors = errors.errors().len(),
            trigger = why.as_str(),
            "the configuration that was loaded at {} stays in force{}; `config` in /health/detailed shows what is wrong",
            crate::clock::rfc3339(self.status.loaded_at),
            if is_new { "" } else { ": the new one is as wrong as before" }
        );
        self.status.error = Some(text);
        self.status.failed_at = Some(self.clock.now().wall);
        self.state.tell_config(self.status.clone());
    }

    async fn take_up(&mut self, plan: Plan, why: Why) {
        self.files = plan.files().to_vec();
        let needs_restart = self.fixed.differs_from(&plan);
        let warnings = plan.warnings().to_vec();
        let status = ConfigStatus {
            loaded_at: self.clock.now().wall,
            files: names(plan.files()),
            error: None,
            failed_at: None,
            needs_restart: needs_restart.clone(),
        };
        let dependencies: Vec<Arc<DependencyPlan>> =
            plan.dependencies().iter().map(|dependency| Arc::new(dependency.clone())).collect();
        let (state, told, drain) = (self.state.clone(), status.clone(), Arc::clone(&self.drain));
        let adopt = Box::new(move || {
            drain.store(Arc::new(*plan.server().drain()));
            state.reconfigure(&plan);
            state.tell_config(told);
        });
        let (done, changes) = oneshot::channel();
        if self.runners.send(Reload { dependencies, adopt, done }).await.is_err() {
            return;
        }
        // Nobody answers where the agent ends meanwhile.
        let Ok(changes) = changes.await else { return };
        tell(&changes, why);
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
        self.status = status;
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
