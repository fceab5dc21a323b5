//! Sockets that send what there is room for: hickory decides by itself when to send a question again, and to whom.
//! And it tells of an answer that was too long for UDP only what became of it over TCP, and of that not why: so a
//! cut answer, and a connection that there was no room for, are noted with the question.

use std::future::{self, Future};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::iocompat::AsyncIoTokioAsStd;
use hickory_resolver::net::runtime::{DnsUdpSocket, RuntimeProvider, TokioRuntimeProvider};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::SetOnce;

use super::budget::{Booking, Budget};
use crate::health::Failure;
use crate::net::icmp::{self, Icmp};

/// A first question over TCP: two packets to connect, the question, the receipt of the answer, the end.
const FIRST_BY_TCP: u32 = 5;

/// A further one over the same connection: its length may go before it.
const NEXT_BY_TCP: u32 = 3;

tokio::task_local! {
    /// Why the question that is being asked is not asked over TCP.
    static REFUSED: Arc<SetOnce<Failure>>;
}

/// Asks one question, which ends where there is no room for it over TCP: hickory would go on to ask the same again,
/// for seconds, and then not tell of it.
pub(super) async fn unless_refused<T>(
    question: impl Future<Output = Result<T, NetError>>,
) -> Result<T, NetError> {
    let refused = Arc::new(SetOnce::new());
    tokio::select! {
        biased;
        answer = REFUSED.scope(Arc::clone(&refused), question) => answer,
        refused = refused.wait() => Err(io::Error::other(refused.clone()).into()),
    }
}

/// Why a question was not asked over TCP, where that is the error.
pub(super) fn refused(error: &NetError) -> Option<&Failure> {
    let NetError::Io(error) = error else { return None };
    error.get_ref()?.downcast_ref()
}

/// What tokio provides, with room for every packet.
#[derive(Clone)]
pub(super) struct Metered {
    tokio: TokioRuntimeProvider,
    budget: Arc<Budget>,
    /// Where the sockets are listened to closely, what is heard.
    course: Option<Arc<Course>>,
}

impl Metered {
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        Self { tokio: TokioRuntimeProvider::default(), budget, course: None }
    }

    /// Sockets that are listened to closely: a closed port, or a router that cannot send on, is an error there. To
    /// others it is silence, as to libc.
    pub(super) fn closely(budget: Arc<Budget>, course: Arc<Course>) -> Self {
        Self { course: Some(course), ..Self::new(budget) }
    }
}

/// What passed over sockets that are listened to closely.
#[derive(Debug, Default)]
pub(super) struct Course {
    sent: AtomicU32,
    withheld: AtomicU32,
    heard: AtomicU32,
    cut: AtomicBool,
    error: OnceLock<(io::Error, Option<Icmp>)>,
}

impl Course {
    /// Packets that were sent over UDP.
    pub(super) fn sent(&self) -> u32 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Packets that were not, because there was no room for them.
    pub(super) fn withheld(&self) -> u32 {
        self.withheld.load(Ordering::Relaxed)
    }

    /// Packets that came.
    pub(super) fn heard(&self) -> u32 {
        self.heard.load(Ordering::Relaxed)
    }

    /// The first error of a socket, and the message behind it. Of those hickory does not tell.
    pub(super) fn error(&self) -> Option<&(io::Error, Option<Icmp>)> {
        self.error.get()
    }

    fn note(&self, error: &io::Error, icmp: Option<Icmp>) {
        // As good as the error itself; those of sockets have a number.
        let error = error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error);
        // The first is enough.
        let _ = self.error.set((error, icmp));
    }

    /// Whether an answer was too long for UDP.
    pub(super) fn was_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }
}

/// Whether this answer was cut.
fn is_cut(message: &[u8]) -> bool {
    /// In the third byte of a message (RFC 1035, 4.1.1).
    const TRUNCATED: u8 = 0x02;
    message.get(2).is_some_and(|flags| flags & TRUNCATED != 0)
}

type Opening<T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send>>;

impl RuntimeProvider for Metered {
    type Handle = <TokioRuntimeProvider as RuntimeProvider>::Handle;
    type Timer = <TokioRuntimeProvider as RuntimeProvider>::Timer;
    type Udp = MeteredSocket;
    type Tcp = AsyncIoTokioAsStd<MeteredStream>;

    fn create_handle(&self) -> Self::Handle {
        self.tokio.create_handle()
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        local: Option<SocketAddr>,
        timeout: Option<Duration>,
    ) -> Opening<Self::Tcp> {
        let (budget, tokio) = (Arc::clone(&self.budget), self.tokio.clone());
        Box::pin(async move {
            if let Err(refused) = Arc::clone(&budget).spend(FIRST_BY_TCP).await {
                // What another server's connection was refused by is as good.
                let _ = REFUSED.try_with(|why| why.set(refused.clone()));
                return Err(io::Error::other(refused));
            }
            let AsyncIoTokioAsStd(stream) = tokio.connect_tcp(server, local, timeout).await?;
            Ok(AsyncIoTokioAsStd(MeteredStream { stream, budget, has_room: true }))
        })
    }

    fn bind_udp(&self, local: SocketAddr, server: SocketAddr) -> Opening<Self::Udp> {
        let socket = self.tokio.bind_udp(local, server);
        let (budget, course) = (Arc::clone(&self.budget), self.course.clone());
        Box::pin(async move {
            let socket = Arc::new(socket.await?);
            let heard = match course {
                Some(course) => {
                    // Only a socket with a peer is told of the peer's errors. Linux lets it be sent from all the same
                    // with an address, as hickory does.
                    socket.connect(server).await.inspect_err(|error| course.note(error, None))?;
                    // Without it fewer errors are told.
                    let _ = icmp::keep(&socket, server.ip());
                    let broken = Mutex::new(Box::pin(broken(Arc::clone(&socket))) as Pin<Box<_>>);
                    Some(Heard { course, broken })
                }
                None => None,
            };
            Ok(MeteredSocket { socket, budget, heard })
        })
    }
}

/// A socket that sends what there is room for.
pub(super) struct MeteredSocket {
    socket: Arc<UdpSocket>,
    budget: Arc<Budget>,
    /// Where it is listened to closely.
    heard: Option<Heard>,
}

/// What is heard of a socket besides its answers.
struct Heard {
    course: Arc<Course>,
    /// Ends with the socket's error.
    broken: Mutex<Pin<Box<dyn Future<Output = io::Error> + Send>>>,
}

impl MeteredSocket {
    /// Notes an answer, and with the question that is being asked if it was cut.
    fn hear(&self, message: &[u8]) {
        let is_cut = is_cut(message);
        if let Some(Heard { course, .. }) = &self.heard {
            course.heard.fetch_add(1, Ordering::Relaxed);
            course.cut.fetch_or(is_cut, Ordering::Relaxed);
        }
        if is_cut && let Some(asked) = Booking::asked() {
            asked.cut();
        }
    }
}

/// Waits for an error of the socket: to tokio it is nothing that could be received.
async fn broken(socket: Arc<UdpSocket>) -> io::Error {
    match socket.ready(Interest::ERROR).await.and_then(|_| socket.take_error()) {
        Ok(Some(error)) | Err(error) => error,
        Ok(None) => future::pending().await,
    }
}

impl DnsUdpSocket for MeteredSocket {
    type Time = <UdpSocket as DnsUdpSocket>::Time;

    fn poll_recv_from(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        if let Poll::Ready(received) = DnsUdpSocket::poll_recv_from(&*self.socket, cx, buf) {
            match &received {
                Ok((length, _)) => self.hear(&buf[..*length]),
                Err(error) => {
                    self.heard.as_ref().inspect(|heard| heard.course.note(error, icmp::kept(&*self.socket)));
                }
            }
            return Poll::Ready(received);
        }
        let Some(Heard { broken, course }) = &self.heard else { return Poll::Pending };
        let error = ready!(broken.lock().unwrap_or_else(PoisonError::into_inner).as_mut().poll(cx));
        course.note(&error, icmp::kept(&*self.socket));
        Poll::Ready(Err(error))
    }

    fn poll_send_to(&self, cx: &mut Context<'_>, buf: &[u8], target: SocketAddr) -> Poll<io::Result<usize>> {
        // First, because what is counted should be sent.
        ready!(self.socket.poll_send_ready(cx))?;
        let may_send = self.budget.may_send();
        if let Some(Heard { course, .. }) = &self.heard {
            let count = if may_send { &course.sent } else { &course.withheld };
            count.fetch_add(1, Ordering::Relaxed);
        }
        if !may_send {
            // To hickory it is as if it were lost on the way: it goes on waiting, and repeats it.
            return Poll::Ready(Ok(buf.len()));
        }
        DnsUdpSocket::poll_send_to(&*self.socket, cx, buf, target)
    }
}

/// A connection that sends what there is room for.
pub(super) struct MeteredStream {
    stream: TcpStream,
    budget: Arc<Budget>,
    /// Whether there is room for the message that is written.
    has_room: bool,
}

impl MeteredStream {
    /// Nobody waits here: hickory's time for the answer runs already, and a wait of our own would pass for a server
    /// that is silent over TCP. Without room the connection ends as if the server had closed it. hickory then makes
    /// a new one, and that has its time for a wait.
    fn make_room(&mut self) -> io::Result<()> {
        self.has_room = self.has_room || self.budget.spend_at_once(NEXT_BY_TCP);
        if self.has_room { Ok(()) } else { Err(io::ErrorKind::ConnectionAborted.into()) }
    }
}

impl AsyncRead for MeteredStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for MeteredStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.make_room()?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.make_room()?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    /// After each message, and nowhere else.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.has_room = false;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
