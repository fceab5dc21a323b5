//! The accept loop and its limits.
//!
//! warp's own server waits for ever for a request that never comes; so its filters are served by a loop of
//! our own: a time limit for the head of a request, a limit for connections, and an end that comes.

use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use warp::Reply;

use super::routes::{Serves, not_a_path, routes};
use super::state::State;
use crate::clock::Heartbeat;

/// A request's head must be complete after this long; it also ends idle kept-alive connections.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections at a time, for each listener, where there are descriptors enough.
const CONNECTIONS_MAX: usize = 1024;

/// What is buffered of a request's head; one that is much longer is answered 431.
const BUFFER_MAX: usize = 32 * 1024;

/// An answer that the peer does not take for this long ends the connection: without it, clients that ask and
/// never read would hold every place there is.
const UNREAD_MAX: Duration = Duration::from_secs(30);

/// After the stop, answers under way may take this long.
pub const GRACE: Duration = Duration::from_secs(2);

/// The loop goes round at least this often, also when nobody calls.
const TICK: Duration = Duration::from_secs(1);

/// The listeners and what each serves. With one of their own, the operators' routes are not on the first.
pub fn listeners(
    first: TcpListener,
    operators: Option<TcpListener>,
) -> impl Iterator<Item = (TcpListener, Serves)> {
    let first_serves = if operators.is_some() { Serves::Everybody } else { Serves::Everything };
    std::iter::once((first, first_serves)).chain(operators.map(|own| (own, Serves::Everything)))
}

/// How many connections each of so many listeners may hold; the next ones wait in the kernel's queue. At least
/// half of the descriptors are left for checks: clients must not be able to make a healthy task look ill.
pub fn connections_max(open_files: u64, listeners: usize) -> usize {
    let half = usize::try_from(open_files / 2).unwrap_or(CONNECTIONS_MAX);
    (half / listeners.max(1)).clamp(1, CONNECTIONS_MAX)
}

/// Serves until `stop`, then lets answers under way end, for as long as [`GRACE`].
pub async fn serve(
    listener: TcpListener,
    serves: Serves,
    state: State,
    heartbeat: Heartbeat,
    connections_max: usize,
    stop: CancellationToken,
) {
    let routed = TowerToHyperService::new(warp::service(routes(state, serves)));
    let service = service_fn(move |request: Request<Incoming>| {
        // A target that is a host (`CONNECT x:80`, but also `GET x:80`) has no path, which warp's filters
        // cannot stand.
        let refused = request.uri().path_and_query().is_none().then(|| not_a_path(request.headers()));
        let routed = routed.clone();
        async move {
            match refused {
                Some(response) => Ok(response.into_response()),
                None => routed.call(request).await,
            }
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(BUFFER_MAX);
    let connections = Arc::new(Semaphore::new(connections_max));
    let graceful = GracefulShutdown::new();
    let mut tick = tokio::time::interval(TICK);
    let mut failing = false;
    loop {
        let accepting = async {
            let permit = Arc::clone(&connections).acquire_owned().await;
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            () = stop.cancelled() => break,
            _ = tick.tick() => {
                heartbeat.beat();
                continue;
            }
            accepted = accepting => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!("connections cannot be accepted: {error}");
                }
                // Out of file descriptors, most likely: trying again at once would only burn the processor.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        failing = false;
        let socket = SockRef::from(&stream);
        // Small answers must not wait for the peer's acknowledgement of the last one.
        let set = socket.set_tcp_nodelay(true).and_then(|()| socket.set_tcp_user_timeout(Some(UNREAD_MAX)));
        if let Err(error) = set {
            tracing::debug!("an accepted socket: {error}");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_descriptors_are_left_for_checks() {
        assert_eq!(connections_max(65_536, 1), 1024);
        assert_eq!(connections_max(1024, 1), 512);
        assert_eq!(connections_max(1024, 2), 256);
        assert_eq!(connections_max(1, 2), 1, "one is answered whatever the limit");
    }
}
