//! Sockets whose packets are counted: hickory decides by itself when to send a question again, and to whom. And it
//! tells of an answer that was too long for UDP only what became of it over TCP.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hickory_resolver::net::runtime::{DnsUdpSocket, RuntimeProvider, TokioRuntimeProvider};
use tokio::net::UdpSocket;

use super::budget::Budget;

/// A question over TCP: two packets to connect, the question, the receipt of the answer, the end.
const TCP_PACKETS: u32 = 5;

/// What tokio provides, with every packet counted.
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
    type Tcp = <TokioRuntimeProvider as RuntimeProvider>::Tcp;

    fn create_handle(&self) -> Self::Handle {
        self.tokio.create_handle()
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        local: Option<SocketAddr>,
        timeout: Option<Duration>,
    ) -> Opening<Self::Tcp> {
        self.budget.sent(TCP_PACKETS);
        self.tokio.connect_tcp(server, local, timeout)
    }

    fn bind_udp(&self, local: SocketAddr, server: SocketAddr) -> Opening<Self::Udp> {
        let socket = self.tokio.bind_udp(local, server);
        let (budget, cut) = (Arc::clone(&self.budget), self.cut.clone());
        Box::pin(async move { Ok(MeteredSocket { socket: socket.await?, budget, cut }) })
    }
}

/// A socket whose packets are counted.
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
        let sent = ready!(DnsUdpSocket::poll_send_to(&self.socket, cx, buf, target));
        self.budget.sent(1);
        Poll::Ready(sent)
    }
}
