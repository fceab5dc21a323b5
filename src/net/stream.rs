//! A connection, with or without TLS, whose peer cannot make us keep more than we asked for.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::tls::Session;

/// So much may come in answer to what was sent last, where the protocol sets no lower bound. No answer to our
/// questions is nearly as long; and the drivers keep an answer until it is whole, so a peer that never ends one
/// would fill our memory.
const ANSWER_MAX: usize = 1024 * 1024;

/// A connection that [`net`](super) made.
#[derive(Debug)]
pub struct Stream {
    inner: Inner,
    /// Bytes received since something was sent.
    received: usize,
    /// As many may be.
    answer_max: usize,
}

#[derive(Debug)]
enum Inner {
    Plain(TcpStream),
    /// Boxed: it is several times the size of a socket.
    Tls(Box<Session>),
}

impl Stream {
    /// In plain text.
    pub fn plain(stream: TcpStream) -> Self {
        Self::of(Inner::Plain(stream))
    }

    /// Inside a TLS session.
    pub fn tls(session: Session) -> Self {
        Self::of(Inner::Tls(Box::new(session)))
    }

    fn of(inner: Inner) -> Self {
        Self { inner, received: 0, answer_max: ANSWER_MAX }
    }

    /// The same, for a protocol whose answers have no more than so many bytes.
    pub fn with_answers_up_to(self, bytes: usize) -> Self {
        Self { answer_max: bytes, ..self }
    }

    /// The address at our end; `None` where it is not known any more.
    pub fn local_address(&self) -> Option<SocketAddr> {
        let socket = match &self.inner {
            Inner::Plain(stream) => stream,
            Inner::Tls(session) => session.get_ref().get_ref().get_ref().stream(),
        };
        socket.local_addr().ok()
    }

    /// The session's `tls-server-end-point` channel binding (RFC 5929), where there is a session.
    pub fn channel_binding(&self) -> Option<Vec<u8>> {
        match &self.inner {
            Inner::Plain(_) => None,
            Inner::Tls(session) => session.get_ref().tls_server_end_point().ok().flatten(),
        }
    }
}

/// Calls the method of whichever stream it is.
macro_rules! either {
    ($self:expr, $method:ident($($arg:expr),*)) => {
        match &mut $self.inner {
            Inner::Plain(stream) => Pin::new(stream).$method($($arg),*),
            Inner::Tls(stream) => Pin::new(stream).$method($($arg),*),
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.received > this.answer_max {
            let what = format!("an answer of more than {} KiB", this.answer_max / 1024);
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, what)));
        }
        let before = buf.filled().len();
        let polled = either!(this, poll_read(cx, buf));
        this.received += buf.filled().len() - before;
        polled
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.received = 0;
        either!(this, poll_write(cx, data))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), poll_shutdown(cx))
    }
}
