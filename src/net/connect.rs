//! An address becomes a socket. Addresses are tried in the order of the answer, each for its own time, all
//! within the deadline of the check.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::net::{TcpSocket, TcpStream};

use super::{Limits, openssl};
use crate::clock::{Deadline, Stopwatch};
use crate::health::{Failure, FailureKind, Phase};

/// An idle connection is probed by the kernel after this long…
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);
/// …then this often…
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
/// …and is dead after this many probes without an answer: a minute after the last word.
const KEEPALIVE_PROBES: u32 = 3;

/// Addresses of one name that are tried. A service has a handful; a name with thousands is a mistake or worse.
const TRIED_MAX: usize = 16;

/// Connects to the first address that answers. `tried` is the address last tried.
pub async fn connect(
    addresses: &[SocketAddr],
    limits: Limits,
    deadline: Deadline,
    tried: &mut Option<SocketAddr>,
) -> Result<TcpStream, Failure> {
    let mut failures: Vec<(SocketAddr, Failure)> = Vec::new();
    for address in addresses.iter().take(TRIED_MAX) {
        *tried = Some(*address);
        let watch = Stopwatch::start();
        let each = deadline.within(limits.connect_timeout);
        let failure = match tokio::time::timeout_at(each.instant(), one(*address, limits)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failure(Phase::Connect, &error),
            Err(_) => unanswered(watch.elapsed()),
        };
        failures.push((*address, failure));
        if deadline.remaining().is_zero() {
            break;
        }
    }
    Err(combine(addresses.len(), failures))
}

/// An attempt that nobody answered within this time.
pub(super) fn unanswered(waited: Duration) -> Failure {
    let message = format!("no answer to the connection attempt within {waited:.1?}");
    Failure::new(Phase::Connect, FailureKind::ConnectTimeout, message)
}

async fn one(address: SocketAddr, limits: Limits) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY);
    socket.set_tcp_keepalive(&keepalive.with_retries(KEEPALIVE_PROBES))?;
    // What was sent and is not acknowledged for this long ends the connection: without it, a peer that
    // vanished holds a pooled connection for the kernel's quarter of an hour.
    socket.set_tcp_user_timeout(Some(limits.user_timeout))?;
    if let Some(segment) = limits.segment {
        // Also announced to the peer, so that its segments are no larger.
        socket.set_tcp_mss(segment.into())?;
    }
    TcpSocket::from_std_stream(socket.into()).connect(address).await
}

/// The failure that an I/O error means, in whichever phase it occurred.
pub fn failure(phase: Phase, error: &io::Error) -> Failure {
    if let Some(session) = error.get_ref().filter(|_| error.raw_os_error().is_none())
        && let Some(reason) = openssl::library_error(&session.to_string())
    {
        // In TLS 1.3 the server judges the client's certificate after the client thinks that all is agreed on.
        return Failure::new(
            phase,
            FailureKind::TlsHandshake,
            format!("the TLS session was ended: {reason}"),
        )
        .with_hint("the server may require a client certificate, which is not supported yet");
    }
    let code = error.raw_os_error().and_then(errno_name);
    let fail = |kind, message: String| {
        let failure = Failure::new(phase, kind, message);
        match code {
            Some(code) => failure.with_code(code),
            None => failure,
        }
    };
    match error.kind() {
        io::ErrorKind::ConnectionRefused => fail(FailureKind::ConnectRefused, "connection refused".into()),
        io::ErrorKind::TimedOut => fail(FailureKind::ConnectTimeout, error.to_string()),
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::NotConnected
        | io::ErrorKind::UnexpectedEof => {
            fail(FailureKind::ConnectReset, "the peer closed or reset the connection".into())
        }
        // EADDRNOTAVAIL: no local address fits, as for IPv6 on a host without it.
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::AddrNotAvailable => fail(FailureKind::ConnectUnreachable, error.to_string()),
        io::ErrorKind::PermissionDenied => fail(FailureKind::ConnectUnreachable, error.to_string())
            .with_hint("this host itself refuses to send there: check its packet filter and seccomp profile"),
        // What the kernel makes of rarer ICMP messages (icmp(7)).
        _ if matches!(code, Some("EHOSTDOWN" | "ENETDOWN" | "ENONET" | "ENOPROTOOPT")) => {
            fail(FailureKind::ConnectUnreachable, error.to_string())
        }
        // An address that is none would have been refused before; what is left is a `blackhole` of the routing table.
        _ if phase == Phase::Connect && code == Some("EINVAL") => {
            fail(FailureKind::ConnectUnreachable, error.to_string()).with_hint(
                "the routing table of this host forbids the way there: look for a `blackhole` in `ip route`",
            )
        }
        _ if matches!(code, Some("EMFILE" | "ENFILE" | "ENOBUFS" | "ENOMEM")) => {
            fail(FailureKind::Internal, error.to_string())
                .with_hint("this container has run out of file descriptors or memory: raise its limits")
        }
        _ => fail(FailureKind::Protocol, error.to_string()),
    }
}

/// The I/O error beneath a driver's or a library's error, where there is one.
pub fn io_cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a io::Error> {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            return Some(io);
        }
        cause = inner.source();
    }
    None
}

/// The error numbers that connections end with, on Linux, and their names.
const ERRNOS: &[(i32, &str)] = &[
    (1, "EPERM"),
    (12, "ENOMEM"),
    (13, "EACCES"),
    (22, "EINVAL"),
    (23, "ENFILE"),
    (24, "EMFILE"),
    (32, "EPIPE"),
    (64, "ENONET"),
    (90, "EMSGSIZE"),
    (92, "ENOPROTOOPT"),
    (95, "EOPNOTSUPP"),
    (97, "EAFNOSUPPORT"),
    (99, "EADDRNOTAVAIL"),
    (100, "ENETDOWN"),
    (101, "ENETUNREACH"),
    (103, "ECONNABORTED"),
    (104, "ECONNRESET"),
    (105, "ENOBUFS"),
    (110, "ETIMEDOUT"),
    (111, "ECONNREFUSED"),
    (112, "EHOSTDOWN"),
    (113, "EHOSTUNREACH"),
];

/// An I/O error by its errno's name, where it has one.
pub(super) fn errno_text(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => errno_name(number).map_or_else(|| format!("errno {number}"), str::to_owned),
        None => error.to_string(),
    }
}

/// The name of an error number that connections end with.
fn errno_name(errno: i32) -> Option<&'static str> {
    ERRNOS.iter().find(|(number, _)| *number == errno).map(|(_, name)| *name)
}

/// The error number of this name.
pub(super) fn errno_of(name: &str) -> Option<i32> {
    ERRNOS.iter().find(|(_, known)| *known == name).map(|(number, _)| *number)
}

/// One failure for so many addresses, of which these were tried: the kind of the one that came nearest to an answer, and what each said.
pub fn combine(addresses: usize, failures: Vec<(SocketAddr, Failure)>) -> Failure {
    let mut said: Vec<String> =
        failures.iter().map(|(at, failure)| format!("{at}: {}", failure.message)).collect();
    match addresses.saturating_sub(failures.len()) {
        0 => {}
        1 => said.push("one more address was not tried".to_owned()),
        left => said.push(format!("{left} more addresses were not tried")),
    }
    let nearest = failures.into_iter().map(|(_, failure)| failure).max_by_key(|failure| match failure.kind {
        FailureKind::ConnectRefused | FailureKind::ConnectReset => 3,
        FailureKind::ConnectTimeout => 2,
        FailureKind::ConnectUnreachable => 1,
        _ => 0,
    });
    match nearest {
        Some(failure) => Failure { message: said.join("; "), ..failure },
        None => Failure::new(Phase::Connect, FailureKind::Internal, "there is no address to connect to"),
    }
}
