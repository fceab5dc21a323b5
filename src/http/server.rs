//! The accept loop and its limits.
//!
//! warp's own server waits for ever for a request that never comes; so its filters are served by a loop of
//! our own: a time limit for the head of a request, a limit for connections, and an end that comes.

use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::routes::routes;
use super::state::State;

/// A request's head must be complete after this long; it also ends idle kept-alive connections.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// Connections at a time, for each listener; the next ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 1024;

/// A request's head must fit, and so must an answer on its way.
const BUFFER_MAX: usize = 32 * 1024;

/// After the stop, answers under way may take this long.
pub const GRACE: Duration = Duration::from_secs(2);

/// The loop goes round at least this often, also when nobody calls.
const TICK: Duration = Duration::from_secs(1);

/// What a listener serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serves {
    /// All routes.
    Everything,
    /// Only what everybody may ask: the operators have a listener of their own.
    Everybody,
}

/// The listeners and what each serves. With one of their own, the operators' routes are not on the first.
pub fn listeners(
    first: TcpListener,
    operators: Option<TcpListener>,
) -> impl Iterator<Item = (TcpListener, Serves)> {
    let first_serves = if operators.is_some() { Serves::Everybody } else { Serves::Everything };
    std::iter::once((first, first_serves)).chain(operators.map(|own| (own, Serves::Everything)))
}

/// Serves until `stop`, then lets answers under way end, for as long as [`GRACE`].
pub async fn serve(listener: TcpListener, serves: Serves, state: State, stop: CancellationToken) {
    let service = TowerToHyperService::new(warp::service(routes(state.clone(), serves)));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(BUFFER_MAX);
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    let mut tick = tokio::time::interval(TICK);
    loop {
        let accepting = async {
            let permit = Arc::clone(&connections).acquire_owned().await;
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            () = stop.cancelled() => break,
            _ = tick.tick() => {
                state.heartbeat().beat();
                continue;
            }
            accepted = accepting => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, most likely: trying again at once would only burn the processor.
                tracing::warn!("a connection could not be accepted: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // Small answers must not wait for the peer's acknowledgement of the last one.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!("TCP_NODELAY: {error}");
        }
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service.clone()));
        tokio::spawn(async move {
            let _permit = permit;
            if let Err(error) = connection.await {
                tracing::debug!("a connection ended: {error}");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(GRACE, graceful.shutdown()).await.is_err() {
        tracing::debug!("connections were still open at the end");
    }
}
