//! Sockets that send what there is room for: hickory decides by itself when to send a question again, and to whom.
//! And it tells of an answer that was too long for UDP only what became of it over TCP.

use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hickory_resolver::net::runtime::iocompat::AsyncIoTokioAsStd;
use hickory_resolver::net::runtime::{DnsUdpSocket, RuntimeProvider, TokioRuntimeProvider};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UdpSocket};

use super::budget::Budget;
use crate::health::Failure;

/// A first question over TCP: two packets to connect, the question, the receipt of the answer, the end.
const FIRST_BY_TCP: u32 = 5;

/// A further one over the same connection: its length may go before it.
const NEXT_BY_TCP: u32 = 3;

/// What tokio provides, with room for every packet.
#[derive(Clone)]
pub(super) struct Metered {
    tokio: TokioRuntimeProvider,
    budget: Arc<Budget>,
    cut: CutAnswers,
}

/// How many answers were too long for UDP.
#[derive(Debug, Clone, Default)]
pub(super) struct CutAnswers(Arc<AtomicU64>);

impl CutAnswers {
    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn hear(&self, message: &[u8]) {
        /// In the third byte of a message (RFC 1035, 4.1.1).
        const TRUNCATED: u8 = 0x02;
        if message.get(2).is_some_and(|flags| flags & TRUNCATED != 0) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Metered {
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        Self { tokio: TokioRuntimeProvider::default(), budget, cut: CutAnswers::default() }
    }

    pub(super) fn cut_answers(&self) -> CutAnswers {
        self.cut.clone()
    }
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
            Arc::clone(&budget).spend(FIRST_BY_TCP).await.map_err(io::Error::other)?;
            let AsyncIoTokioAsStd(stream) = tokio.connect_tcp(server, local, timeout).await?;
            Ok(AsyncIoTokioAsStd(MeteredStream { stream, budget, room: Room::Made }))
        })
    }

    fn bind_udp(&self, local: SocketAddr, server: SocketAddr) -> Opening<Self::Udp> {
        let socket = self.tokio.bind_udp(local, server);
        let (budget, cut) = (Arc::clone(&self.budget), self.cut.clone());
        Box::pin(async move { Ok(MeteredSocket { socket: socket.await?, budget, cut }) })
    }
}

/// A socket that sends what there is room for.
pub(super) struct MeteredSocket {
    socket: UdpSocket,
    budget: Arc<Budget>,
    cut: CutAnswers,
}

impl DnsUdpSocket for MeteredSocket {
    type Time = <UdpSocket as DnsUdpSocket>::Time;

    fn poll_recv_from(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        let received = ready!(DnsUdpSocket::poll_recv_from(&self.socket, cx, buf));
        if let Ok((length, _)) = received {
            self.cut.hear(&buf[..length]);
        }
        Poll::Ready(received)
    }

    fn poll_send_to(&self, cx: &mut Context<'_>, buf: &[u8], target: SocketAddr) -> Poll<io::Result<usize>> {
        // First, because what is counted should be sent.
        ready!(self.socket.poll_send_ready(cx))?;
        if !self.budget.may_send() {
            // To hickory it is as if it were lost on the way: it goes on waiting, and repeats it.
            return Poll::Ready(Ok(buf.len()));
        }
        DnsUdpSocket::poll_send_to(&self.socket, cx, buf, target)
    }
}

/// A connection that sends what there is room for.
pub(super) struct MeteredStream {
    stream: TcpStream,
    budget: Arc<Budget>,
    room: Room,
}

/// Whether there is room for the message that is written.
enum Room {
    Made,
    Wanted,
    Awaited(Pin<Box<dyn Future<Output = Result<(), Failure>> + Send + Sync>>),
}

impl MeteredStream {
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if matches!(self.room, Room::Wanted) {
            self.room = Room::Awaited(Box::pin(Arc::clone(&self.budget).spend(NEXT_BY_TCP)));
        }
        if let Room::Awaited(turn) = &mut self.room {
            let turn = ready!(turn.as_mut().poll(cx));
            self.room = Room::Made;
            turn.map_err(io::Error::other)?;
        }
        Poll::Ready(Ok(()))
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
        ready!(self.poll_room(cx))?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_room(cx))?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    /// After each message, and nowhere else.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.room = Room::Wanted;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
