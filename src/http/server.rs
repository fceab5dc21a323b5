//! The accept loop and its limits.
//!
//! warp's own server waits for ever for a request that never comes; so its filters are served by a loop of
//! our own: a time limit for the head of a request, a limit for connections, and an end that comes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rustix::io::Errno;
use socket2::SockRef;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::audit;
use super::connections::{Connections, Watched};
use super::counts::Lately;
use super::routes::{Serves, routes};
use super::service::Front;
use super::state::State;
use crate::clock::Heartbeat;

/// Connections at a time, for each listener, where there are descriptors enough.
const CONNECTIONS_MAX: usize = 1024;

/// What is buffered of a request's head; one that is much longer is answered 431.
const HEAD_MAX: u16 = 16 * 1024;

/// Requests at a time on one connection, in HTTP/2.
const STREAMS_MAX: u32 = 16;

/// What may be sent of a request's body, in HTTP/2, of which none is read.
const BODY_WINDOW: u32 = 1024;

/// The same of all bodies on one connection. The protocol begins with this and cannot do with less.
const BODIES_WINDOW: u32 = 65_535;

/// What a peer does not take for this long is given up, also where its connection is closed already.
const UNREAD_MAX: Duration = Duration::from_secs(30);

/// After the stop, answers under way may take this long.
pub const GRACE: Duration = Duration::from_secs(2);

/// The loop goes round at least this often, also when nobody calls.
const TICK: Duration = Duration::from_secs(1);

/// From one attempt to accept to the next, where it fails.
const PAUSE: Duration = Duration::from_millis(10);

/// The listeners and what each serves. With one of their own, the operators' routes are not on the first.
pub fn listeners(
    first: TcpListener,
    operators: Option<TcpListener>,
) -> impl Iterator<Item = (TcpListener, Serves)> {
    let first_serves = if operators.is_some() { Serves::Everybody } else { Serves::Everything };
    std::iter::once((first, first_serves)).chain(operators.map(|own| (own, Serves::Everything)))
}

/// How many connections each of so many listeners may hold. At least half of the descriptors are left for
/// checks: clients must not be able to make a healthy task look ill.
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
    let counts = state.counts(serves);
    let mut lately = Lately::new(&listener, Arc::clone(&counts));
    let mut connections = Connections::new(state.clock(), connections_max, Arc::clone(&counts));
    let routed = TowerToHyperService::new(warp::service(routes(state.clone(), serves)));
    let front = Front::new(state.clone(), routed, counts);
    let http = protocols();
    let graceful = GracefulShutdown::new();
    let mut tick = tokio::time::interval(TICK);
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            _ = tick.tick() => {
                heartbeat.beat();
                connections.close_silent();
                lately.tell();
                audit::untold(state.throttle().untold());
                continue;
            }
            () = connections.ended() => continue,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if out_of_room(&error) {
                    lately.out_of_room = Some(error);
                    connections.close_oldest();
                } else {
                    tracing::debug!("a connection was gone before it was accepted: {error}");
                }
                // Trying again at once would only burn the processor.
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let socket = SockRef::from(&stream);
        // Small answers must not wait for the peer's acknowledgement of the last one.
        let set = socket.set_tcp_nodelay(true).and_then(|()| socket.set_tcp_user_timeout(Some(UNREAD_MAX)));
        if let Err(error) = set {
            tracing::debug!("an accepted socket: {error}");
        }
        let serve = |stream: Watched<_>| {
            // Who comes by IPv4 to a listener of both is told as what it is.
            let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
            let client = front.to(stream.written(), peer);
            let connection = http.serve_connection(TokioIo::new(stream), client).into_owned();
            let connection = graceful.watch(connection);
            async move {
                if let Err(error) = connection.await {
                    tracing::debug!("a connection ended: {error}");
                }
            }
        };
        connections.add(stream, serve).await;
    }
    drop(listener);
    if tokio::time::timeout(GRACE, graceful.shutdown()).await.is_err() {
        tracing::debug!("connections were still open at the end");
    }
}

/// Whether it is descriptors or memory that a connection cannot be accepted for, and not the connection itself.
fn out_of_room(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

/// HTTP/1, and HTTP/2 for clients that know of it beforehand, as a load balancer's target group of that version.
/// Neither has a time limit of its own: [`connections`](super::connections) has one for all that a client can
/// be slow with.
fn protocols() -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        // Whoever says that it has no more to ask (`printf … | nc -N`) still wants the answer.
        .half_close(true)
        .header_read_timeout(None)
        .max_buf_size(HEAD_MAX.into())
        // Copying a small body behind its head costs less than handing two pieces to the kernel.
        .writev(false);
    http.http2()
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_MAX.into())
        .initial_stream_window_size(BODY_WINDOW)
        .initial_connection_window_size(BODIES_WINDOW);
    http
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
