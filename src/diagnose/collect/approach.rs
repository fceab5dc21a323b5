//! How a subject is spoken to, without a log-in.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::super::evidence::{Heard, Speaks, Subject, TlsWanted};
use crate::clock::Deadline;
use crate::net::tls::inspect::{Inspection, Opening, Reply, SSL_REQUEST, Stay};
use crate::net::{Dialer, Limits, Network, Stream, Target, Tls, Verification, shown};
use crate::probe::verification;

/// How a subject is spoken to.
pub(super) struct Approach {
    network: Network,
    limits: Limits,
    /// Its name, as its certificate has it.
    pub(super) host: String,
    /// Its port, as a request to it names it.
    pub(super) port: u16,
    /// What it speaks, where that is known.
    pub(super) speaks: Option<Speaks>,
    /// How its TLS is verified; `None` where none is wanted.
    tls: Option<Tls>,
    /// As whom PostgreSQL is asked, and for which database.
    pub(super) session: Option<(String, String)>,
}

impl Approach {
    pub(super) fn of(subject: &Subject, network: &Network, limits: Limits) -> Self {
        let tls = match &subject.tls {
            TlsWanted::No => None,
            // Where it does not work, there is a session without it: nothing is refused.
            TlsWanted::IfOffered => Some(Tls::new(Verification::None, None)),
            TlsWanted::Yes { verify, root_cert } => Some(Tls::new(verification(*verify), root_cert.clone())),
        };
        Self {
            network: network.clone(),
            limits,
            host: subject.host.clone(),
            port: subject.port,
            speaks: subject.speaks,
            tls,
            session: subject.user.clone().zip(subject.database.clone()),
        }
    }

    /// A look at its TLS; `None` where none is wanted.
    pub(super) async fn inspect(
        &self,
        segment: Option<u16>,
        stay: Stay,
        at: SocketAddr,
        deadline: Deadline,
    ) -> Option<Inspection> {
        let tls = self.tls.as_ref()?;
        Some(self.dialer(segment).inspect(tls, &self.host, (self.opening(), stay), at, deadline).await)
    }

    /// The same of a port where none is known to be wanted.
    pub(super) async fn try_tls(&self, opening: Opening, at: SocketAddr, deadline: Deadline) -> Inspection {
        let nothing = Tls::new(Verification::None, None);
        self.dialer(None).inspect(&nothing, &self.host, (opening, Stay::No), at, deadline).await
    }

    /// Says something over a connection of its own, without TLS, and gives the first bytes of the answer.
    pub(super) async fn say(&self, what: &[u8], at: SocketAddr, deadline: Deadline) -> Answer {
        match self.connect(None, at, deadline).await {
            Ok(stream) => ask(Stream::plain(stream), what, deadline).await,
            Err(answer) => answer,
        }
    }

    /// The same where the protocol itself begins: over TLS, unverified, where TLS is wanted. Nothing secret is said.
    pub(super) async fn say_inside(
        &self,
        what: &[u8],
        segment: Option<u16>,
        at: SocketAddr,
        deadline: Deadline,
    ) -> Answer {
        let opened = tokio::time::timeout_at(deadline.instant(), self.open(segment, at, deadline)).await;
        match opened {
            Ok(Ok(stream)) => ask(stream, what, deadline).await,
            Ok(Err(answer)) => answer,
            Err(_) => Answer::silence(),
        }
    }

    async fn open(&self, segment: Option<u16>, at: SocketAddr, deadline: Deadline) -> Result<Stream, Answer> {
        let mut stream = self.connect(segment, at, deadline).await?;
        if self.tls.is_none() {
            return Ok(Stream::plain(stream));
        }
        if self.opening() == Opening::SslRequest {
            let mut answer = [0];
            let asked = async {
                stream.write_all(&SSL_REQUEST).await?;
                stream.read_exact(&mut answer).await
            };
            if asked.await.is_err() {
                return Err(Answer { heard: Heard::Cut, bytes: Vec::new() });
            }
            if answer != *b"S" {
                return Ok(Stream::plain(stream));
            }
        }
        let nothing = Tls::new(Verification::None, None);
        let dialed = self.dialer(segment).handshake(&nothing, &self.host, stream).await;
        dialed.map(|dialed| dialed.stream).map_err(|_| Answer { heard: Heard::Cut, bytes: Vec::new() })
    }

    async fn connect(
        &self,
        segment: Option<u16>,
        at: SocketAddr,
        deadline: Deadline,
    ) -> Result<TcpStream, Answer> {
        let target = Target::new(&at.ip().to_string(), at.port());
        let connected = self.dialer(segment).connect_for_a_question(&target, deadline).await;
        connected.map_err(|why| Answer { heard: Heard::NotAsked(why), bytes: Vec::new() })
    }

    fn dialer(&self, segment: Option<u16>) -> Dialer {
        Dialer::new(self.network.clone(), Limits { segment, ..self.limits })
    }

    fn opening(&self) -> Opening {
        match self.speaks {
            Some(Speaks::Postgres) => Opening::SslRequest,
            _ => Opening::AtOnce,
        }
    }
}

/// What came in answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) heard: Heard,
    /// Its first bytes.
    pub(super) bytes: Vec<u8>,
}

impl Answer {
    fn silence() -> Self {
        Self { heard: Heard::Nothing, bytes: Vec::new() }
    }
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        match reply {
            Reply::Bytes(bytes) => Self { heard: Heard::Said(first_line(&bytes)), bytes },
            Reply::Nothing => Self::silence(),
            Reply::Closed => Self { heard: Heard::Closed, bytes: Vec::new() },
            Reply::Cut => Self { heard: Heard::Cut, bytes: Vec::new() },
            Reply::NotAsked(why) => Self { heard: Heard::NotAsked(why), bytes: Vec::new() },
        }
    }
}

/// So much of an answer tells what it is.
const ANSWER_MAX: usize = 256;

/// What follows the first bytes of an answer, and belongs to its line, follows at once.
const REST: Duration = Duration::from_millis(50);

/// A polite end may take so long: nothing but our own socket could delay it.
const GOODBYE: Duration = Duration::from_millis(100);

/// Says it, hears the first line of the answer, and leaves.
async fn ask(mut stream: Stream, what: &[u8], deadline: Deadline) -> Answer {
    let mut bytes = Vec::new();
    let mut deadline = deadline;
    let said = async {
        stream.write_all(what).await?;
        stream.flush().await
    };
    // Who hangs up while it is spoken to may have said why before: so it is listened to in any case.
    let mut end = match tokio::time::timeout_at(deadline.instant(), said).await {
        Ok(Ok(())) | Err(_) => None,
        Ok(Err(_)) => Some(Heard::Cut),
    };
    while !bytes.contains(&b'\n') && bytes.len() < ANSWER_MAX {
        let mut buffer = [0; ANSWER_MAX];
        match tokio::time::timeout_at(deadline.instant(), stream.read(&mut buffer)).await {
            Ok(Ok(length @ 1..)) => bytes.extend_from_slice(&buffer[..length]),
            Ok(Ok(0)) => {
                end.get_or_insert(Heard::Closed);
                break;
            }
            Ok(Err(_)) => {
                end.get_or_insert(Heard::Cut);
                break;
            }
            Err(_) => break,
        }
        deadline = deadline.within(REST);
    }
    let _ = tokio::time::timeout(GOODBYE, stream.shutdown()).await;
    let heard = match (bytes.is_empty(), end) {
        (false, _) => Heard::Said(first_line(&bytes)),
        (true, Some(end)) => end,
        (true, None) => Heard::Nothing,
    };
    Answer { heard, bytes }
}

/// The first line of what was said, as it can be told.
fn first_line(bytes: &[u8]) -> String {
    let line = bytes.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    shown(if line.is_empty() { bytes } else { line })
}
