//! One connection for evidence: what became of it, and the ICMP message behind that. It carries nothing, and is
//! closed at once.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpStream;

use super::connect::{errno_of, errno_text, failure, unanswered};
use super::icmp::{self, Icmp};
use crate::clock::{Deadline, Stopwatch};
use crate::health::{Failure, FailureKind, Phase};

/// What to do where a filter said that it lets nothing through.
const FILTERED: &str = "a firewall or a router on the way refuses this connection, and says so: look at its rules for this address and port";

/// One attempt to connect.
#[derive(Debug, Clone)]
pub struct Try {
    /// To this port.
    pub port: u16,
    /// Until it ended.
    pub took: Duration,
    /// How it ended.
    pub end: TryEnd,
}

/// How an attempt to connect ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TryEnd {
    /// Connected.
    Connected,
    /// No answer of any kind within the time.
    Silent,
    /// An answer, or the kernel's word that there will be none.
    Failed {
        /// The errno's name: `ECONNREFUSED`.
        errno: String,
        /// The ICMP message that it comes from, where the kernel tells: then who sent it is known.
        icmp: Option<Icmp>,
    },
}

impl Try {
    /// Tries to connect, for no longer than until the deadline.
    pub async fn make(address: SocketAddr, deadline: Deadline) -> Self {
        let watch = Stopwatch::start();
        let end = match tokio::time::timeout_at(deadline.instant(), connect(address)).await {
            Ok(end) => end,
            Err(_) => TryEnd::Silent,
        };
        Self { port: address.port(), took: watch.elapsed(), end }
    }

    /// Whether it connected.
    pub fn connected(&self) -> bool {
        self.end == TryEnd::Connected
    }

    /// Whether nobody answered.
    pub fn silent(&self) -> bool {
        self.end == TryEnd::Silent
    }

    /// The failure that a check would tell of it; `None` where it connected.
    pub fn failure(&self) -> Option<Failure> {
        match &self.end {
            TryEnd::Connected => None,
            TryEnd::Silent => Some(unanswered(self.took)),
            TryEnd::Failed { errno, icmp } => {
                let failure = match errno_of(errno) {
                    Some(number) => failure(Phase::Connect, &io::Error::from_raw_os_error(number)),
                    None => Failure::new(Phase::Connect, FailureKind::Protocol, errno.clone()),
                };
                match icmp {
                    // EACCES means this host itself where nobody else has said so.
                    Some(Icmp { own: false, by_filter: true, .. }) => Some(failure.with_hint(FILTERED)),
                    _ => Some(failure),
                }
            }
        }
    }
}

async fn connect(address: SocketAddr) -> TryEnd {
    let stream = match begin(address) {
        Ok(stream) => stream,
        Err(error) => return ended(&error, None),
    };
    match stream.writable().await.and_then(|()| stream.take_error()) {
        Ok(None) => TryEnd::Connected,
        Ok(Some(error)) | Err(error) => ended(&error, icmp::kept(&stream)),
    }
}

/// The beginning of a connection, on a socket that keeps the messages behind its errors.
fn begin(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // Where it cannot be had, the errno is told alone.
    let _ = icmp::keep(&socket, address.ip());
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::EINPROGRESS as i32) => return Err(error),
        _ => {}
    }
    TcpStream::from_std(socket.into())
}

fn ended(error: &io::Error, icmp: Option<Icmp>) -> TryEnd {
    match error.raw_os_error() {
        // The kernel's own patience ended before ours.
        Some(number) if number == Errno::ETIMEDOUT as i32 && icmp.is_none() => TryEnd::Silent,
        _ => TryEnd::Failed { errno: errno_text(error), icmp },
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;
    use crate::clock::Deadline;
    use crate::net::Limits;

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(10))
    }

    #[tokio::test]
    async fn a_connection_is_closed_without_a_reset() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let made = Try::make(address, soon()).await;
        assert!(made.connected() && made.port == address.port() && made.failure().is_none(), "{made:?}");
        let (mut peer, _) = listener.accept().await.unwrap();
        assert_eq!(peer.read(&mut [0; 1]).await.unwrap(), 0, "the end, and no error");
    }

    #[tokio::test]
    async fn a_refusal_is_told_as_a_check_tells_it_and_a_reset_is_no_icmp() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let made = Try::make(address, soon()).await;
        assert_eq!(made.end, TryEnd::Failed { errno: "ECONNREFUSED".into(), icmp: None });
        let mut tried = None;
        let span = Duration::from_secs(10);
        let limits = Limits { connect_timeout: span, user_timeout: span, segment: None };
        let check = super::super::connect::connect(&[address], limits, soon(), &mut tried).await;
        let (ours, checks) = (made.failure().unwrap(), check.unwrap_err());
        assert_eq!(checks.message, format!("{address}: {}", ours.message));
        assert_eq!(Failure { message: ours.message.clone(), ..checks }, ours);
    }

    /// A queue of accepted connections that is full: the kernel drops what more come.
    #[tokio::test]
    async fn silence_ends_at_the_deadline() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let _fills = std::net::TcpStream::connect(address).unwrap();
        let made = Try::make(address, Deadline::after(Duration::from_millis(300))).await;
        assert!(made.silent() && made.took >= Duration::from_millis(300), "{made:?}");
        let failure = made.failure().unwrap();
        assert_eq!(failure.kind, FailureKind::ConnectTimeout);
        assert!(failure.message.starts_with("no answer to the connection attempt within"), "{failure}");
    }

    #[test]
    fn every_end_is_told_as_a_check_tells_it() {
        let failed = |errno: &str| {
            let end = TryEnd::Failed { errno: errno.into(), icmp: None };
            Try { port: 1, took: Duration::ZERO, end }.failure().unwrap()
        };
        for (errno, kind) in [
            ("ENETUNREACH", FailureKind::ConnectUnreachable),
            ("EHOSTUNREACH", FailureKind::ConnectUnreachable),
            ("EHOSTDOWN", FailureKind::ConnectUnreachable),
            ("EACCES", FailureKind::ConnectUnreachable),
            ("ECONNRESET", FailureKind::ConnectReset),
            ("EMFILE", FailureKind::Internal),
        ] {
            let failure = failed(errno);
            assert_eq!((failure.kind, failure.code.as_deref()), (kind, Some(errno)));
        }
        let icmp = Icmp { meaning: String::new(), by_filter: true, from: None, own: false };
        let end = TryEnd::Failed { errno: "EACCES".into(), icmp: Some(icmp) };
        let failure = Try { port: 1, took: Duration::ZERO, end }.failure().unwrap();
        assert_eq!((failure.kind, failure.hint.as_str()), (FailureKind::ConnectUnreachable, FILTERED));
        assert_eq!(failed("errno 9999").kind, FailureKind::Protocol);
        assert_eq!(ended(&io::Error::from_raw_os_error(110), None), TryEnd::Silent);
    }
}
