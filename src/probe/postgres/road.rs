//! The way to a PostgreSQL server, up to where its protocol begins: a connection, and TLS as `sslmode` says.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::clock::Deadline;
use crate::config::plan::{PostgresPlan, SslMode};
use crate::health::{Failure, FailureKind, Phase};
use crate::net::{Dialed, Dialer, Stream, Target, Tls, Trace, Verification, connect};
use crate::probe::shown;

/// Where the server is, and how it is spoken to.
pub(super) struct Road {
    target: Target,
    sslmode: SslMode,
    /// `None` for `sslmode: disable`.
    tls: Option<Tls>,
    dialer: Dialer,
}

impl Road {
    pub(super) fn new(plan: &PostgresPlan, dialer: Dialer) -> Self {
        let verification = match plan.sslmode() {
            SslMode::Disable => None,
            SslMode::Prefer | SslMode::Require => Some(Verification::None),
            SslMode::VerifyCa => Some(Verification::Chain),
            SslMode::VerifyFull => Some(Verification::Full),
        };
        Self {
            target: Target::new(plan.host(), *plan.port()),
            sslmode: *plan.sslmode(),
            tls: verification.map(|verification| Tls::new(verification, plan.root_cert().clone())),
            dialer,
        }
    }

    /// A stream to the server, wherever its name leads by now.
    pub(super) async fn go(&self, deadline: Deadline, trace: &mut Trace) -> Result<Dialed, Failure> {
        self.go_to(&self.target, deadline, trace).await
    }

    /// A stream to the very server that a session was made with. It is no part of what a check went through.
    pub(super) async fn go_back(&self, to: SocketAddr, deadline: Deadline) -> Result<Dialed, Failure> {
        self.go_to(&Target::new(&to.ip().to_string(), to.port()), deadline, &mut Trace::default()).await
    }

    async fn go_to(&self, target: &Target, deadline: Deadline, trace: &mut Trace) -> Result<Dialed, Failure> {
        let mut stream = self.dialer.connect(target, deadline, trace).await?;
        let Some(tls) = &self.tls else { return Ok(Dialed { stream: Stream::plain(stream), tls: None }) };
        let offered = trace.phase(Phase::Tls, deadline, request_tls(&mut stream)).await?;
        match (offered, self.sslmode) {
            // The certificate is for the name that was configured, whatever the address.
            (true, _) => self.dialer.secure(tls, self.target.host(), stream, deadline, trace).await,
            (false, SslMode::Prefer) => Ok(Dialed { stream: Stream::plain(stream), tls: None }),
            (false, mode) => {
                let message = format!("the server does not offer TLS, and sslmode is {mode}");
                let hint =
                    "turn `ssl` on at the server; or, on a network that you trust, set sslmode to prefer";
                // A server's answer, not an accident: it would be the same in 100 ms.
                Err(Failure::new(Phase::Tls, FailureKind::TlsHandshake, message).with_hint(hint).lasting())
            }
        }
    }
}

/// Asks the server, on a new connection, whether it speaks TLS: the protocol's `SSLRequest`.
///
/// Done here rather than by the driver, so that the TLS phase is timed by itself and a server that takes the
/// connection and then says nothing is told from one that hangs in the log-in.
async fn request_tls(stream: &mut TcpStream) -> Result<bool, Failure> {
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
