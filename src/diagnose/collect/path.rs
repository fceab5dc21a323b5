//! The way to each address: the route, a first connection, and beside it one to a port on which nobody is likely to
//! listen. What answers there, while the wanted port is silent, shows that the host is there and the port is not let
//! through.
//!
//! Connections carry nothing and are few: at most twelve for one walk with its repetitions.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{self, Either};

use super::super::evidence::{Path, Route, Subject, Try, TryEnd};
use crate::clock::Deadline;
use crate::health::Failure;
use crate::net::connect;

/// Addresses that are looked at. A check tries more, one after the other; what is wrong with many is wrong with these.
pub(super) const ADDRESSES_MAX: usize = 4;

/// Repetitions for one address…
const REPEATS_EACH: usize = 3;

/// …and for all of them together: four addresses have had eight connections before.
const REPEATS_MAX: usize = 4;

/// No more connections are made, contrasts and repetitions included.
#[cfg(test)]
const CONNECTIONS_MAX: usize = 2 * ADDRESSES_MAX + REPEATS_MAX;

/// A host that is there answers within that time, or the answer is of no use.
const CONTRAST: Duration = Duration::from_secs(1);

/// Where the first connection stands, the contrast is waited for no longer than this: there is nothing to explain.
const CONTRAST_BESIDE_SUCCESS: Duration = Duration::from_millis(150);

/// A connection that takes this long was asked for twice: the kernel repeats a SYN after a second, and few ways around
/// the world are longer than half of one.
const SLOW: Duration = Duration::from_millis(500);

/// Ports that IANA has assigned to nobody. They are below 1024, so that nobody listens there by chance, and no
/// connection of ours starts there.
const NOBODYS_PORTS: [u16; 8] = [4, 6, 8, 10, 12, 14, 16, 26];

/// The way to each of the first addresses, side by side. Ends by the deadline.
pub(super) async fn walk(addresses: &[SocketAddr], subject: &Subject, deadline: Deadline) -> Vec<Path> {
    let walking = addresses.iter().take(ADDRESSES_MAX).map(|address| walk_to(*address, subject, deadline));
    future::join_all(walking).await
}

async fn walk_to(address: SocketAddr, subject: &Subject, deadline: Deadline) -> Path {
    let mut path = Path { address, route: Route::to(address), tries: Vec::new(), contrast: None };
    if deadline.remaining().is_zero() {
        return path;
    }
    let first = pin!(Try::make(address, deadline.within(subject.connect_timeout)));
    let patience = CONTRAST.min(subject.connect_timeout);
    let contrast = pin!(Try::make(contrasting(address), deadline.within(patience)));
    match future::select(first, contrast).await {
        Either::Left((first, contrast)) => {
            let until = match first.connected() {
                true => deadline.within(CONTRAST_BESIDE_SUCCESS),
                false => deadline,
            };
            path.tries.push(first);
            path.contrast = tokio::time::timeout_at(until.instant(), contrast).await.ok();
        }
        Either::Right((contrast, first)) => {
            path.contrast = Some(contrast);
            path.tries.push(first.await);
        }
    }
    path.route.look_at_neighbour(address.ip());
    path
}

/// The same host on a port that has nothing to do with the wanted one; always the same.
fn contrasting(address: SocketAddr) -> SocketAddr {
    let first = usize::from(address.port()) % NOBODYS_PORTS.len();
    let ports = NOBODYS_PORTS.iter().cycle().skip(first);
    let port = ports.copied().find(|port| *port != address.port()).unwrap_or(NOBODYS_PORTS[first]);
    SocketAddr::new(address.ip(), port)
}

/// Tries again, side by side, where the first was silent, slow, or told something that may pass. What comes of it is
/// added to the tries.
pub(super) async fn repeat(paths: &mut [Path], subject: &Subject, deadline: Deadline) {
    if deadline.remaining().is_zero() {
        return;
    }
    let deadline = deadline.within(subject.connect_timeout);
    let in_doubt: Vec<&mut Path> = paths.iter_mut().filter(|path| is_in_doubt(path)).collect();
    let each = (REPEATS_MAX / in_doubt.len().max(1)).clamp(1, REPEATS_EACH);
    let repeating = in_doubt.into_iter().map(|path| async move {
        let again = (0..each).map(|_| Try::make(path.address, deadline));
        path.tries.extend(future::join_all(again).await);
        path.route.look_at_neighbour(path.address.ip());
    });
    future::join_all(repeating).await;
}

/// Whether another try could end otherwise.
fn is_in_doubt(path: &Path) -> bool {
    let Some(first) = path.tries.first() else { return false };
    match &first.end {
        TryEnd::Connected => first.took >= SLOW,
        TryEnd::Silent => true,
        // Without a way the kernel sends nothing, and says the same each time.
        TryEnd::Failed { .. } if matches!(path.route.source, Some(Err(_))) => false,
        TryEnd::Failed { .. } => first.failure().is_some_and(|failure| failure.may_pass),
    }
}

/// The failure that a check would tell of this path, where no address connected; `None` also where none was tried.
pub(super) fn failure(paths: &[Path]) -> Option<Failure> {
    if paths.iter().flat_map(|path| &path.tries).any(Try::connected) {
        return None;
    }
    let first = |path: &Path| Some((path.address, path.tries.first()?.failure()?));
    let failures: Vec<(SocketAddr, Failure)> = paths.iter().filter_map(first).collect();
    (!failures.is_empty()).then(|| connect::combine(failures.len(), failures))
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, TcpListener};

    use socket2::{Domain, Socket, Type};

    use super::super::super::test_support;
    use super::*;
    use crate::health::{FailureKind, Kind};

    fn subject(connect_timeout: Duration) -> Subject {
        Subject { connect_timeout, ..test_support::subject(Kind::Tcp, "127.0.0.1", 0) }
    }

    fn long() -> Deadline {
        Deadline::after(Duration::from_secs(30))
    }

    /// A listener whose queue is full, and what fills it: who comes next is not answered.
    fn full(ip: &str) -> (Socket, std::net::TcpStream, SocketAddr) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(ip.parse().unwrap(), 0).into()).unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let fills = std::net::TcpStream::connect(address).unwrap();
        (socket, fills, address)
    }

    fn closed(ip: &str) -> SocketAddr {
        TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap()
    }

    #[tokio::test]
    async fn a_path_that_works_has_one_try_and_a_contrast_that_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let subject = subject(Duration::from_secs(3));
        let mut paths = walk(&[address], &subject, long()).await;
        repeat(&mut paths, &subject, long()).await;
        let [path] = paths.as_slice() else { panic!("{paths:?}") };
        assert!(path.tries.len() == 1 && path.tries[0].connected(), "{path:?}");
        let contrast = path.contrast.as_ref().unwrap();
        assert!(contrast.port != address.port());
        assert_eq!(contrast.end, TryEnd::Failed { errno: "ECONNREFUSED".into(), icmp: None });
        let source = path.route.source.as_ref().unwrap();
        assert_eq!(source.as_ref().unwrap(), &IpAddr::from([127, 0, 0, 1]));
        assert!(failure(&paths).is_none());
    }

    #[tokio::test]
    async fn silence_is_repeated_and_a_second_address_is_walked_at_the_same_time() {
        let (_socket, _fills, silent) = full("127.0.0.1");
        let refused = closed("127.0.0.2");
        let subject = subject(Duration::from_millis(300));
        let mut paths = walk(&[silent, refused], &subject, long()).await;
        repeat(&mut paths, &subject, long()).await;
        let [first, second] = paths.as_slice() else { panic!("{paths:?}") };
        assert_eq!((first.address, second.address), (silent, refused));
        assert!(first.tries.len() == 3 && first.tries.iter().all(Try::silent), "{first:?}");
        assert!(first.contrast.as_ref().is_some_and(|contrast| !contrast.silent()), "{first:?}");
        assert!(second.tries.len() == 3 && !second.tries.iter().any(Try::silent), "{second:?}");
        let failure = failure(&paths).unwrap();
        // As a check has it: what came nearest to an answer, and what each said.
        assert_eq!(failure.kind, FailureKind::ConnectRefused);
        assert!(failure.message.starts_with(&format!("{silent}: no answer to the connection")), "{failure}");
        assert!(failure.message.ends_with(&format!("{refused}: connection refused")), "{failure}");
    }

    #[tokio::test]
    async fn one_address_that_connects_is_a_path() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let good = listener.local_addr().unwrap();
        let subject = subject(Duration::from_secs(3));
        let paths = walk(&[closed("127.0.0.2"), good], &subject, long()).await;
        assert!(failure(&paths).is_none() && failure(&paths[..1]).is_some(), "{paths:?}");
    }

    #[tokio::test]
    async fn connections_are_few_whatever_a_name_leads_to() {
        let addresses: Vec<SocketAddr> = (1..=20).map(|n| closed(&format!("127.0.1.{n}"))).collect();
        let subject = subject(Duration::from_secs(3));
        let mut paths = walk(&addresses, &subject, long()).await;
        repeat(&mut paths, &subject, long()).await;
        let made: usize =
            paths.iter().map(|path| path.tries.len() + usize::from(path.contrast.is_some())).sum();
        assert_eq!((paths.len(), made), (ADDRESSES_MAX, CONNECTIONS_MAX));
    }

    #[tokio::test]
    async fn nothing_is_tried_when_the_time_is_over() {
        let subject = subject(Duration::from_secs(3));
        let over = Deadline::after(Duration::ZERO);
        let mut paths = walk(&[closed("127.0.0.1")], &subject, over).await;
        repeat(&mut paths, &subject, over).await;
        assert!(paths[0].tries.is_empty() && paths[0].contrast.is_none() && paths[0].route.source.is_some());
        assert!(failure(&paths).is_none());
    }

    #[test]
    fn the_contrast_is_another_port_and_the_same_each_time() {
        for port in 0..=u16::MAX {
            let address = SocketAddr::new(IpAddr::from([10, 0, 0, 1]), port);
            let contrast = contrasting(address);
            assert!(contrast.port() != port && contrast == contrasting(address) && contrast.port() < 1024);
        }
    }
}
