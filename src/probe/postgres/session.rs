//! One PostgreSQL session over the dialer's stream.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_postgres::config::{SslMode, SslNegotiation};
use tokio_postgres::error::{DbError, Severity};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_postgres::{Client, Config, Error, SimpleQueryMessage, SimpleQueryRow};
use tokio_util::task::AbortOnDropHandle;

use crate::config::Secret;
use crate::health::{Failure, FailureKind, Phase, TlsDetails};
use crate::net::{Stream, connect};
use crate::probe::pooled::Session;
use crate::probe::shown;

/// An open session, and the task that moves its bytes.
pub(in crate::probe) struct Connection {
    client: Client,
    /// Ended with the session: left alone, it would wait for the answer of a server that hangs.
    driver: AbortOnDropHandle<()>,
    tls: Option<TlsDetails>,
}

/// Asks the server, on a new connection, whether it speaks TLS: the protocol's `SSLRequest`.
///
/// Done here rather than by the driver, so that the TLS phase is timed by itself and a server that takes the
/// connection and then says nothing is told from one that hangs in the log-in.
pub(super) async fn request_tls(stream: &mut TcpStream) -> Result<bool, Failure> {
    /// Length 8, then the code 80877103 (PostgreSQL documentation, "Message Formats").
    const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
    let io = |error| connect::failure(Phase::Tls, &error);
    stream.write_all(&SSL_REQUEST).await.map_err(io)?;
    let mut answer = [0];
    stream.read_exact(&mut answer).await.map_err(io)?;
    match answer[0] {
        b'S' => Ok(true),
        b'N' => Ok(false),
        b'E' => Err(refused_outright(stream).await),
        other => {
            let message = format!("what answers is not PostgreSQL: it began with \"{}\"", shown(&[other]));
            Err(Failure::new(Phase::Tls, FailureKind::Protocol, message))
        }
    }
}

/// A server that cannot even make a process for the connection says so in the form of old: `E`, a text, zero.
async fn refused_outright(stream: &mut TcpStream) -> Failure {
    const TEXT_MAX: u64 = 512;
    let mut text = Vec::new();
    // Whatever ends it, what came until then is told.
    let _ = stream.take(TEXT_MAX).read_to_end(&mut text).await;
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    let message = format!("the server refuses the connection: {}", String::from_utf8_lossy(text).trim());
    Failure::new(Phase::Tls, FailureKind::TooManyConnections, message)
        .with_hint("the server has no memory or no process left for another connection: look at its host")
}

/// Hands the driver a stream that is ready: its TLS, where it has any, is already agreed on. All that is left
/// for the driver to know is the channel binding, so that SCRAM-SHA-256-PLUS works as if it had done it.
struct AgreedOn;

impl TlsConnect<Wire> for AgreedOn {
    type Stream = Wire;
    type Error = Infallible;
    type Future = Ready<Result<Wire, Infallible>>;

    fn connect(self, stream: Wire) -> Self::Future {
        ready(Ok(stream))
    }
}

impl TlsStream for Wire {
    fn channel_binding(&self) -> ChannelBinding {
        match self.stream.channel_binding() {
            Some(end_point) => ChannelBinding::tls_server_end_point(end_point),
            None => ChannelBinding::none(),
        }
    }
}

/// The stream as the driver sees it, with manners at both ends of a session.
struct Wire {
    stream: Stream,
    /// Whether the server has begun to speak.
    begun: bool,
}

impl AsyncRead for Wire {
    /// Looks at the first byte. The four after it are a length; of other protocols' first words the driver
    /// would make one beyond all measure, and wait for the rest.
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        /// Authentication, an error, a notice, another version of the protocol.
        const FIRST: &[u8] = b"RENv";
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        if let (false, [first, ..]) = (this.begun, &buf.filled()[before..]) {
            this.begun = true;
            if !FIRST.contains(first) {
                let what = format!("it began with \"{}\"", shown(&buf.filled()[before..]));
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, what)));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, data)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    /// Ends when the server has hung up, too: only then it has the place of this session to give away.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        let mut rest = [0; 256];
        loop {
            let mut rest = ReadBuf::new(&mut rest);
            match ready!(Pin::new(&mut this.stream).poll_read(cx, &mut rest)) {
                Ok(()) if !rest.filled().is_empty() => {}
                Ok(()) | Err(_) => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl Connection {
    /// Start-up and authentication.
    pub(super) async fn log_in(
        user: &str,
        password: Option<&Secret>,
        database: &str,
        stream: Stream,
        tls: Option<TlsDetails>,
    ) -> Result<Self, Error> {
        let mut config = Config::new();
        config
            .user(user)
            .dbname(database)
            .application_name("sickbay")
            // "Require" and "direct" make the driver take the stream from `AgreedOn` without a word of its own.
            .ssl_mode(SslMode::Require)
            .ssl_negotiation(SslNegotiation::Direct);
        if let Some(password) = password {
            config.password(password.expose());
        }
        let (client, connection) = config.connect_raw(Wire { stream, begun: false }, AgreedOn).await?;
        let driver = tokio::spawn(async move {
            // What ends the connection is told to whoever waits for an answer on it.
            let _ = connection.await;
        });
        Ok(Self { client, driver: AbortOnDropHandle::new(driver), tls })
    }

    /// The session's TLS.
    pub(super) fn tls(&self) -> Option<&TlsDetails> {
        self.tls.as_ref()
    }

    /// Whether this error was the end of the session: the server says so by its severity before it closes.
    pub(super) fn ended_by(&self, error: &Error) -> bool {
        let fatal =
            |said: &DbError| matches!(said.parsed_severity(), Some(Severity::Fatal | Severity::Panic));
        error.as_db_error().is_none_or(fatal) || self.client.is_closed()
    }

    /// The rows of the answer to `question`, by the simple protocol: every value is text.
    pub(super) async fn rows(&self, question: &str) -> Result<Vec<SimpleQueryRow>, Error> {
        let messages = self.client.simple_query(question).await?;
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        Ok(rows.collect())
    }

    /// The databases that this role can connect to, by name.
    pub(super) async fn databases(&self) -> Result<Vec<String>, Error> {
        let question = "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate \
                        AND has_database_privilege(datname, 'CONNECT') ORDER BY datname";
        let rows = self.rows(question).await?;
        Ok(rows.iter().filter_map(|row| Some(text(row, 0)?.to_owned())).collect())
    }
}

/// A column as text; `None` where there is no such column, it is null, or it is no UTF-8. (`get` would panic.)
pub(super) fn text(row: &SimpleQueryRow, column: usize) -> Option<&str> {
    row.try_get(column).ok().flatten()
}

impl Session for Connection {
    /// Sends `Terminate` and waits until it is sent.
    async fn goodbye(self) {
        let Self { client, driver, .. } = self;
        drop(client);
        let _ = driver.await;
    }
}
