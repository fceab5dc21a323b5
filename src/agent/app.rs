//! Wires the agent: build, bind, spawn, supervise, drain.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::answering::Answering;
use super::diagnosing::{self, Around};
use super::keeper;
use super::legacy::Legacy;
use super::limits;
use super::operations::Orders;
use super::registry::{Held, Registry, Update};
use super::reload::Reloader;
use super::runner::{Factory, LAST_WORDS, Means, Shared};
use super::runners::{Make, Prepared, Restored, Runners};
use super::shutdown::{Signals, Stop};
use super::task;
use crate::clock::{Clock, Heartbeat};
use crate::config::plan::DependencyPlan;
use crate::config::{Plan, Sources};
use crate::health::{Failure, FailureKind, Phase, Snapshot, Task};
use crate::http::{self, Pulses, State};
use crate::net::Network;
use crate::probe;

/// How long runners may take to end: what they give themselves, and a moment.
const RUNNERS_END: Duration = LAST_WORDS.saturating_add(A_MOMENT);

/// How long the servers may take to end: what they give answers under way, and a moment.
const SERVERS_END: Duration = http::GRACE.saturating_add(A_MOMENT);

/// Whoever has a time limit of its own is let come to it. Also how long what was not done in time, and was ended, may
/// take to be gone; what is not gone by then is left behind.
const A_MOMENT: Duration = Duration::from_secs(1);

/// Connections that may wait to be accepted; the kernel lowers it to `net.core.somaxconn` (4096). Where a crowd that
/// was cut comes back all at once, whoever finds no room has to ask again a second later, a load balancer, too.
const BACKLOG: u32 = 4096;

/// Why the agent did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {error}; choose another by {setting}, or stop what listens there")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Where it is set.
        setting: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
    /// Signals cannot be received.
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
    /// There is no thread to be had.
    #[error(
        "the agent cannot start: the thread that answers cannot be had: {0}; raise the limit of processes (`pids`, `nproc`) or of open files (`nofile`), whichever that names"
    )]
    Thread(io::Error),
}

/// How the agent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was told to stop, and did all that was to be done.
    Drained,
    /// It was told twice, the second time by this signal.
    Forced(i32),
}

/// Runs the agent until it is told to stop. The plan was made of these sources, and they are read again while it runs.
pub async fn run(plan: Plan, sources: Sources) -> Result<Ended, StartError> {
    let clock = Clock::start();
    let server = plan.server();
    let mut signals = Signals::listen().map_err(StartError::Signals)?;
    let hangup = signal(SignalKind::hangup()).map_err(StartError::Signals)?;
    let answering = Answering::start().map_err(StartError::Thread)?;
    let listener = bind(&answering, *server.listen(), "SICKBAY_LISTEN").await?;
    let operator = match server.operator_listen() {
        Some(address) => Some(bind(&answering, *address, "SICKBAY_OPERATOR_LISTEN").await?),
        None => None,
    };
    let started = clock.now();
    let (restored, folder) = match server.state_dir() {
        Some(folder) => {
            let (restored, folder) = keeper::restore(folder, plan.dependencies(), started).await;
            (restored, Some(folder))
        }
        None => (Restored::new(), None),
    };
    let prepared = Prepared::all(plan.dependencies(), restored, started);
    let views = prepared.iter().map(|prepared| prepared.view(started)).collect();
    let current = Arc::new(ArcSwap::from_pointee(Snapshot::new(started, views)));
    let registry_beat = Heartbeat::new(clock);
    let (tell_held, held) = watch::channel(Held::default());
    let shown = prepared.iter().map(Prepared::id);
    let (registry, updates) =
        Registry::new(clock, Arc::clone(&current), shown, tell_held, registry_beat.clone());
    let (kept, keeping) = keeper::keep(folder, held);
    tokio::spawn(keeping);

    let http_stop = CancellationToken::new();
    log_start(&plan, &listener, operator.as_ref());
    let listeners: Vec<_> =
        http::listeners(listener, operator).map(|listener| (listener, Heartbeat::new(clock))).collect();
    let watched: Arc<ArcSwap<Vec<Legacy>>> = Arc::default();
    let lives = Arc::clone(&watched);
    let pulses = Pulses {
        registry: registry_beat,
        http: listeners.iter().map(|(_, heartbeat)| heartbeat.clone()).collect(),
        runner_lost: Box::new(move || lives.load().iter().any(Legacy::is_lost)),
    };
    let network = probe::network(&plan);
    let names = network.clone();
    let (give, asked) = Runners::orders();
    let operations = Arc::new(Orders::new(give, kept));
    let shown = Arc::clone(&current);
    let stats = move || names.resolver().stats();
    let state = State::new(&plan, clock, shown, pulses, stats, operations);
    let answers = state.clone();
    tokio::spawn(registry.run(move || answers.renew()));
    let connections = http::connections_max(limits::open_files(), listeners.len());
    let mut servers = JoinSet::new();
    for ((listener, serves), heartbeat) in listeners {
        let stop = http_stop.clone();
        let serving = http::serve(listener, serves, state.clone(), heartbeat, connections, stop);
        servers.spawn_on(serving, answering.handle());
    }

    let around = Arc::new(Around::default());
    around.tell_dependencies(plan.dependencies());
    let (env, told_to, shows_task) = (sources.env.clone(), Arc::clone(&around), state.clone());
    tokio::spawn(async move {
        let tell = |task: Arc<Task>| {
            told_to.tell_task(Arc::clone(&task));
            shows_task.tell_task(task);
        };
        task::tell(&env, tell).await;
    });
    let (turns, stop) = (diagnosing::turns(), CancellationToken::new());
    let shared = Shared { clock, updates: updates.clone(), network, turns, stop };
    let runners_stop = shared.stop.clone();
    let network = shared.network.clone();
    let known = Arc::clone(&around);
    let make: Make = Box::new(move |plan| Means {
        factory: factory(Arc::clone(plan), network.clone()),
        watched_name: plan.probe().as_ref().and_then(probe::named_target),
        explain: diagnosing::explainer(plan, &network, clock, &known),
    });
    let (reload, reloads) = mpsc::channel(1);
    let mut runners = JoinSet::new();
    runners.spawn(Runners::start(prepared, make, current, watched, shared).run(asked, reloads));
    let draining = CancellationToken::new();
    let drain_for = Arc::new(ArcSwap::from_pointee(*plan.server().drain()));
    let reloader = Reloader::new(sources, &plan, clock, state, around, reload, Arc::clone(&drain_for));
    tokio::spawn(reloader.run(hangup, draining.clone()));
    // Nobody reads it any more, and its printed form alone is some kilobytes for each dependency.
    drop(plan);

    let (stop, _) = signals.next().await;
    draining.cancel();
    let ending = async {
        drain(&updates, stop, **drain_for.load()).await;
        runners_stop.cancel();
        finish(&mut runners, RUNNERS_END).await;
        http_stop.cancel();
        finish(&mut servers, SERVERS_END).await;
        Ended::Drained
    };
    let ended = tokio::select! {
        ended = ending => ended,
        (_, signal) = signals.next() => Ended::Forced(signal),
    };
    tracing::info!("stopped");
    Ok(ended)
}

/// Listens, in the runtime that answers.
async fn bind(
    answering: &Answering,
    address: SocketAddr,
    setting: &'static str,
) -> Result<TcpListener, StartError> {
    let bound = answering.handle().spawn(async move { listen(address) }).await;
    let bound = bound.unwrap_or_else(|error| Err(io::Error::other(error)));
    bound.map_err(|error| StartError::Bind { address, setting, error })
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // The port of an agent that has just ended can be had at once.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Says `draining` at once, and goes on answering until the load balancer has had time to notice.
async fn drain(updates: &mpsc::Sender<Update>, stop: Stop, drain: Duration) {
    let (done, seen) = oneshot::channel();
    if updates.send(Update::Drain(done)).await.is_ok() {
        // An error would mean that the registry is gone; then there is nothing to wait for.
        let _ = seen.await;
    }
    match stop {
        Stop::Drain => {
            tracing::info!(
                drain_seconds = drain.as_secs_f64(),
                "draining: readiness and alb answer 503 from now on"
            );
            tokio::time::sleep(drain).await;
        }
        Stop::Now => tracing::info!("stopping without a drain: interrupted from a terminal"),
    }
}

/// Waits for all tasks; those that take too long are ended. It takes no longer than the limit and
/// [`A_MOMENT`], whatever they do.
async fn finish<T: 'static>(tasks: &mut JoinSet<T>, limit: Duration) {
    if !all_end(tasks, limit).await {
        tasks.abort_all();
        if !all_end(tasks, A_MOMENT).await {
            tracing::warn!(left = tasks.len(), "what does not end is left behind");
        }
    }
}

/// Whether all tasks end within so long.
async fn all_end<T: 'static>(tasks: &mut JoinSet<T>, limit: Duration) -> bool {
    let all = async { while tasks.join_next().await.is_some() {} };
    tokio::time::timeout(limit, all).await.is_ok()
}

fn factory(plan: Arc<DependencyPlan>, network: Network) -> Factory {
    Arc::new(move || {
        probe::build(&plan, &network)?.ok_or_else(|| {
            Failure::new(Phase::Dns, FailureKind::Internal, "an enabled dependency has no target")
        })
    })
}

fn log_start(plan: &Plan, listener: &TcpListener, operator: Option<&TcpListener>) {
    let address = |listener: &TcpListener| listener.local_addr().map(|address| address.to_string()).ok();
    let enabled: Vec<&str> = plan
        .dependencies()
        .iter()
        .filter(|dependency| dependency.policy().enabled())
        .map(|dependency| dependency.policy().name.as_str())
        .collect();
    tracing::info!(
        version = crate::version::VERSION,
        commit = crate::version::COMMIT,
        service = plan.service().name(),
        environment = plan.service().environment(),
        listen = address(listener),
        operator_listen = operator.and_then(address),
        dependencies = enabled.join(","),
        "sickbay starts"
    );
    for warning in plan.warnings() {
        tracing::warn!("{warning}");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::clock::Stopwatch;

    #[tokio::test(start_paused = true)]
    async fn the_end_comes_whatever_the_tasks_do() {
        let began = Stopwatch::start();
        let mut tasks = JoinSet::new();
        tasks.spawn(std::future::pending::<()>());
        finish(&mut tasks, SERVERS_END).await;
        assert_eq!((tasks.len(), began.elapsed()), (0, SERVERS_END), "one that waits is ended");

        // One that does not come back to its runtime cannot be.
        let answering = Answering::start().unwrap();
        let (go_on, stuck) = mpsc::channel::<()>();
        let (is_stuck, told) = oneshot::channel();
        tasks.spawn_on(
            async move {
                is_stuck.send(()).unwrap();
                let _ = stuck.recv();
            },
            answering.handle(),
        );
        told.await.unwrap();
        finish(&mut tasks, SERVERS_END).await;
        assert_eq!(tasks.len(), 1);
        drop(go_on);
    }
}
