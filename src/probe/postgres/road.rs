//! The way to a PostgreSQL server, up to where its protocol begins: a connection, and TLS as `sslmode` says.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::fallback::NoSession;
use super::wire::Wire;
use crate::clock::{Deadline, Stopwatch};
use crate::config::plan::{PostgresPlan, SslMode};
use crate::health::{Failure, FailureKind, Phase};
use crate::net::tls::inspect::SSL_REQUEST;
use crate::net::{Dialed, Dialer, Stream, Target, Tls, Trace, connect};
use crate::probe::pooled::Place;
use crate::probe::{shown, verification};

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
        Self {
            target: Target::new(plan.host(), *plan.port()),
            sslmode: *plan.sslmode(),
            tls: plan.verify().map(|verify| Tls::new(verification(verify), plan.root_cert().clone())),
            dialer,
        }
    }

    /// Whether a session is made without TLS where it could not be made with it.
    pub(super) fn falls_back(&self) -> bool {
        self.sslmode == SslMode::Prefer
    }

    /// A stream to the server, wherever its name leads by now, for a session in this place.
    pub(super) async fn go(
        self: &Arc<Self>,
        place: &Place,
        deadline: Deadline,
        trace: &mut Trace,
    ) -> Result<Dialed, NoSession> {
        let stream = self.dialer.connect(&self.target, deadline, trace).await?;
        if self.tls.is_none() {
            return Ok(plain(stream));
        }
        let (road, answered) = (Arc::clone(self), Arc::new(AtomicBool::new(false)));
        let note = Arc::clone(&answered);
        let secured = async move { road.secured(stream, &note).await };
        let secured = place.see_through(secured, |it| Box::pin(leave(it)));
        // A `Result` in a `Result`: the phase ends by the deadline, the inner one is what came of it before.
        let watch = Stopwatch::start();
        let phase = trace.phase(Phase::Tls, deadline, async { Ok(secured.await) }).await;
        phase.map_err(|failure| match answered.load(Ordering::Relaxed) {
            true => failure,
            // There is no handshake yet that could be unanswered, nor has anybody agreed to one.
            false => {
                let what = "connected, then no answer to the first message of PostgreSQL's protocol (whether it speaks TLS)";
                Failure { message: format!("{what} within {:.1?}", watch.elapsed()), ..failure }
            }
        })?
    }

    /// A stream without TLS to the server that was tried with it just now.
    pub(super) async fn go_plain(
        &self,
        to: SocketAddr,
        deadline: Deadline,
        trace: &mut Trace,
    ) -> Result<Dialed, Failure> {
        self.dialer.connect(&at(to), deadline, trace).await.map(plain)
    }

    /// A stream to the very server that a session was made with, and in the same way. It is no part of what a check
    /// went through.
    pub(super) async fn go_back(
        &self,
        to: SocketAddr,
        encrypted: bool,
        deadline: Deadline,
    ) -> Result<Dialed, Failure> {
        let mut aside = Trace::default();
        let stream = self.dialer.connect(&at(to), deadline, &mut aside).await?;
        if !encrypted {
            return Ok(plain(stream));
        }
        let answered = AtomicBool::new(false);
        let secured = async { self.secured(stream, &answered).await.map_err(|none| none.failure) };
        aside.phase(Phase::Tls, deadline, secured).await
    }

    /// Agrees on TLS, as `sslmode` says. `answered` tells whether the server has said anything at all.
    async fn secured(&self, mut stream: TcpStream, answered: &AtomicBool) -> Result<Dialed, NoSession> {
        let Some(tls) = &self.tls else { return Ok(plain(stream)) };
        let offered = request_tls(&mut stream).await;
        answered.store(true, Ordering::Relaxed);
        match (offered?, self.sslmode) {
            (true, _) => {
                // The certificate is for the name that was configured, whatever the address.
                let handshake = self.dialer.handshake(tls, self.target.host(), stream).await;
                handshake.map_err(NoSession::for_its_tls)
            }
            (false, SslMode::Prefer) => Ok(plain(stream)),
            (false, mode) => {
                let message = format!("the server does not offer TLS, and sslmode is {mode}");
                let hint =
                    "turn `ssl` on at the server; or, on a network that you trust, set sslmode to prefer";
                // A server's answer, not an accident: it would be the same in 100 ms.
                let failure = Failure::new(Phase::Tls, FailureKind::TlsHandshake, message).with_hint(hint);
                Err(failure.lasting().into())
            }
        }
    }
}

fn plain(stream: TcpStream) -> Dialed {
    Dialed { stream: Stream::plain(stream), tls: None }
}

fn at(address: SocketAddr) -> Target {
    Target::new(&address.ip().to_string(), address.port())
}

/// Leaves a server that waits for the start-up: it has nothing against that, unless bytes of its own stay unread.
async fn leave(reached: Result<Dialed, NoSession>) {
    if let Ok(Dialed { stream, tls }) = reached {
        let _ = Wire::new(stream, tls.as_ref()).shutdown().await;
    }
}

/// Asks the server, on a new connection, whether it speaks TLS: the protocol's `SSLRequest`.
///
/// Done here rather than by the driver, so that the TLS phase is timed by itself and a server that takes the
/// connection and then says nothing is told from one that hangs in the log-in.
async fn request_tls(stream: &mut TcpStream) -> Result<bool, Failure> {
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
