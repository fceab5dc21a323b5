//! A look at a server's TLS that lets everything pass, and notes what a verification would have refused.
//!
//! native-tls ends a handshake at the first thing that is wrong with a certificate, and shows no more of a chain than
//! its first one. So OpenSSL, which is beneath it, is asked itself, with the same authorities and the same limits as
//! for a check: it is told to go on whatever it finds, and what it finds is noted. Nothing is ever sent over such a session.

use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;
use std::{io, net::SocketAddr};

use openssl::error::ErrorStack;
use openssl::ssl::{self, Ssl, SslConnector, SslMethod, SslVerifyMode, SslVersion};
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::{X509, X509StoreContextRef, X509VerifyResult};
use openssl_probe::ProbeResult;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

use super::connectors::unusable;
use super::{CertificateProblem, CertificateSeen, Tls, TlsSeen, Verification};
use crate::clock::{Deadline, Stopwatch};
use crate::health::FailureKind;
use crate::net::tap::{Tap, Tapped};
use crate::net::{Dialer, Target, Trace, openssl as said, shown};

/// How a server is brought to speak TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// The handshake is the first that it hears.
    AtOnce,
    /// PostgreSQL's `SSLRequest` is, which it answers first.
    SslRequest,
}

/// How long to stay after a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stay {
    /// Not at all.
    No,
    /// Until a server that asked for a certificate has had the time to end the session for want of it.
    ForTheRefusal,
}

/// What a look came to.
#[derive(Debug)]
pub struct Inspection {
    /// What was seen of TLS.
    pub seen: TlsSeen,
    /// What came in answer to the first that was said: to `SSLRequest`, or to the client's hello.
    pub reply: Reply,
    /// How long that took.
    pub replied_in: Duration,
}

/// What came in answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// It begins so.
    Bytes(Vec<u8>),
    /// Nothing, until the time was over.
    Nothing,
    /// The connection was closed, politely.
    Closed,
    /// The connection was cut.
    Cut,
    /// Nothing was asked, for this reason: there was no connection in time.
    NotAsked(String),
}

/// PostgreSQL's `SSLRequest`: length 8, then the code 80877103 (PostgreSQL documentation, "Message Formats").
pub const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Where the system keeps its authorities, as native-tls looks for them.
static SYSTEM: LazyLock<ProbeResult> = LazyLock::new(openssl_probe::probe);

/// No chain that is told has more certificates. Those of public services have three or four.
const CHAIN_MAX: usize = 10;

/// A server that asked for a certificate may end the session for want of it after the handshake; it does so at once.
const REFUSAL: Duration = Duration::from_millis(300);

/// A polite end may take so long, and what has come already: nothing but our own socket could delay them.
const GOODBYE: Duration = Duration::from_millis(100);

impl Dialer {
    /// A connection to ask something over, by this deadline. One that has taken the half of the time, or more, is as good
    /// as none: that the answer does not come in the rest would tell nothing of the server. `Err` tells why there is none.
    pub async fn connect_for_a_question(&self, at: &Target, deadline: Deadline) -> Result<TcpStream, String> {
        let least = deadline.remaining() / 2;
        let stream = self.connect(at, deadline, &mut Trace::default()).await;
        let stream = stream.map_err(|failure| match failure.kind {
            FailureKind::ConnectTimeout => "no further connection in time".to_owned(),
            _ => format!("no further connection: {}", failure.message),
        })?;
        match deadline.remaining() < least {
            true => Err("the further connection took the time that there was for it".to_owned()),
            false => Ok(stream),
        }
    }

    /// Looks at the TLS of who listens at `address`, as a client of `host` that verifies as `tls` says. A server that
    /// speaks no version which a check allows is asked a second time, whether it speaks an older one.
    pub async fn inspect(
        &self,
        tls: &Tls,
        host: &str,
        (opening, stay): (Opening, Stay),
        address: SocketAddr,
        deadline: Deadline,
    ) -> Inspection {
        // As for a check: the final dot is for the resolver.
        let host = host.strip_suffix('.').unwrap_or(host);
        let inspector = Inspector { dialer: self, host, opening, stay, address, deadline };
        let mut found =
            Inspection { seen: TlsSeen::default(), reply: Reply::Nothing, replied_in: Duration::ZERO };
        inspector.look(tls, &mut found).await;
        found
    }
}

struct Inspector<'a> {
    dialer: &'a Dialer,
    host: &'a str,
    opening: Opening,
    stay: Stay,
    address: SocketAddr,
    deadline: Deadline,
}

/// What a handshake came to.
enum Shaken {
    /// Agreed on this version.
    Agreed(String),
    /// Nothing but silence.
    Unanswered,
    /// It answered with this, which is no TLS.
    NotSpoken(String),
    /// It failed, for this reason.
    Failed(String),
    /// It did not come to one, for this reason.
    NotBegun(String),
    /// The server was not even asked for one, for this reason.
    NotAsked(String),
}

impl Inspector<'_> {
    async fn look(&self, tls: &Tls, found: &mut Inspection) {
        let connector = match self.connector(tls, &mut found.seen).await {
            Ok(connector) => connector,
            Err(error) => {
                let why = said::readable(&error.to_string());
                let why = format!("TLS could not be set up: {why}");
                found.seen.version = Some(Err(why.clone()));
                found.reply = Reply::NotAsked(why);
                return;
            }
        };
        let shaken = self.shake(&connector, tls.verification, found).await;
        let seen = &mut found.seen;
        let may_be_old = matches!(shaken, Shaken::Failed(_)) && seen.chain.is_empty();
        match shaken {
            Shaken::Agreed(version) => seen.version = Some(Ok(version)),
            Shaken::NotSpoken(answer) => seen.not_spoken = Some(answer),
            Shaken::Failed(why) => seen.version = Some(Err(why)),
            Shaken::NotBegun(why) => seen.version = Some(Err(why)),
            Shaken::NotAsked(why) => {
                found.reply = Reply::NotAsked(why.clone());
                seen.not_asked = Some(why);
            }
            Shaken::Unanswered => {
                let why = format!("no answer to the TLS handshake within {:.1?}", seen.took);
                (seen.version, seen.unanswered) = (Some(Err(why)), true);
            }
        }
        if may_be_old {
            let mut second =
                Inspection { seen: TlsSeen::default(), reply: Reply::Nothing, replied_in: Duration::ZERO };
            if let Ok(lenient) = lenient()
                && let Shaken::Agreed(version) = self.shake(&lenient, Verification::None, &mut second).await
                && !matches!(version.as_str(), "TLSv1.2" | "TLSv1.3")
            {
                seen.only_speaks = Some(version);
                seen.chain = second.seen.chain;
            }
        }
    }

    /// As native-tls makes it for a check. Authorities that cannot be used are a problem of the chain, and no reason not
    /// to look at it.
    async fn connector(&self, tls: &Tls, seen: &mut TlsSeen) -> Result<SslConnector, ErrorStack> {
        let mut builder = SslConnector::builder(SslMethod::tls_client())?;
        builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
        let connectors = self.dialer.network().connectors();
        let authorities = tokio::time::timeout_at(self.deadline.instant(), connectors.authorities(tls)).await;
        let own = match (authorities, &tls.root_cert) {
            (_, None) => None,
            (Ok(Ok(pem)), Some(path)) => match X509::stack_from_pem(pem.unwrap_or_default().as_bytes()) {
                Ok(own) if own.is_empty() => Some(Err(unusable(path, "it holds no certificate"))),
                Ok(own) => Some(Ok(own)),
                Err(error) => Some(Err(unusable(path, &said::readable(&error.to_string())))),
            },
            (Ok(Err(failure)), Some(_)) => Some(Err(failure)),
            (Err(_), Some(path)) => Some(Err(unusable(path, "it could not be read in time"))),
        };
        match own {
            None if tls.verification != Verification::None => {
                // One that cannot be read must not keep the others from being used.
                if let Some(file) = &SYSTEM.cert_file {
                    let _ = builder.load_verify_locations(Some(file), None);
                }
                for folder in &SYSTEM.cert_dir {
                    let _ = builder.load_verify_locations(None, Some(folder));
                }
            }
            None => {}
            Some(own) => {
                let mut store = X509StoreBuilder::new()?;
                match own {
                    // A certificate that is in the file twice is no matter.
                    Ok(own) => own.into_iter().for_each(|own| drop(store.add_cert(own))),
                    Err(failure) => {
                        seen.problems.push(CertificateProblem::AuthoritiesUnusable(failure.message));
                    }
                }
                builder.set_cert_store(store.build());
            }
        }
        Ok(builder.build())
    }

    /// One connection and one handshake; what is seen of the server on the way is noted, however it ends.
    async fn shake(
        &self,
        connector: &SslConnector,
        verification: Verification,
        found: &mut Inspection,
    ) -> Shaken {
        let at = Target::new(&self.address.ip().to_string(), self.address.port());
        let connected = self.dialer.connect_for_a_question(&at, self.deadline).await;
        let mut stream = match connected {
            Ok(stream) => stream,
            Err(why) => return Shaken::NotAsked(why),
        };
        let watch = Stopwatch::start();
        let offered = match self.opening {
            Opening::AtOnce => Ok(()),
            Opening::SslRequest => self.ask_for_tls(&mut stream, &mut found.reply).await,
        };
        found.replied_in = watch.elapsed();
        found.seen.took = found.replied_in;
        let shaken = match offered {
            Ok(()) => self.handshake(connector, verification, stream, found).await,
            Err(instead) => instead,
        };
        if self.opening == Opening::AtOnce {
            found.replied_in = found.seen.took;
        }
        shaken
    }

    /// PostgreSQL's question for TLS. `Err` where it is not offered.
    async fn ask_for_tls(&self, stream: &mut TcpStream, reply: &mut Reply) -> Result<(), Shaken> {
        let mut answer = [0; 64];
        let exchange = async {
            stream.write_all(&SSL_REQUEST).await?;
            stream.read(&mut answer).await
        };
        *reply = match tokio::time::timeout_at(self.deadline.instant(), exchange).await {
            Err(_) => Reply::Nothing,
            Ok(Err(_)) => Reply::Cut,
            Ok(Ok(0)) => Reply::Closed,
            Ok(Ok(length)) => Reply::Bytes(answer[..length].to_vec()),
        };
        let none =
            |why: &str| Err(Shaken::NotBegun(format!("asked whether it speaks TLS, the server {why}")));
        match reply {
            Reply::Bytes(bytes) if bytes == b"S" => Ok(()),
            Reply::Bytes(bytes) => Err(Shaken::NotSpoken(shown(bytes))),
            Reply::Nothing => none("did not answer"),
            Reply::Closed => none("closed the connection"),
            Reply::Cut => none("cut the connection"),
            Reply::NotAsked(why) => Err(Shaken::NotAsked(why.clone())),
        }
    }

    async fn handshake(
        &self,
        connector: &SslConnector,
        verification: Verification,
        stream: TcpStream,
        found: &mut Inspection,
    ) -> Shaken {
        let wrong = Arc::default();
        let session = session(connector, verification, self.host, &wrong);
        let session = session.and_then(|ssl| SslStream::new(ssl, Tapped::new(stream, Overheard::default())));
        let mut session = match session {
            Ok(session) => session,
            Err(error) => return Shaken::NotBegun(said::readable(&error.to_string())),
        };
        let watch = Stopwatch::start();
        let connected =
            tokio::time::timeout_at(self.deadline.instant(), Pin::new(&mut session).connect()).await;
        // What is waited for after that is no part of the handshake.
        found.seen.took += watch.elapsed();
        let sent = session.ssl().peer_cert_chain();
        let mut chain: Vec<Vec<u8>> = sent.into_iter().flatten().filter_map(|it| it.to_der().ok()).collect();
        // The last one says who is to be trusted; what is left out is in between.
        if chain.len() > CHAIN_MAX {
            chain.drain(CHAIN_MAX - 1..chain.len() - 1);
        }
        let seen = &mut found.seen;
        seen.chain = chain.iter().map(|der| CertificateSeen::read(der)).collect();
        let wrong = std::mem::take(&mut *wrong.lock().unwrap_or_else(PoisonError::into_inner));
        // Without authorities none of them can be known: that is told already.
        if seen.problems.is_empty() {
            seen.problems = problems(&wrong, &chain);
        }
        if session.get_ref().tap().instead_of_tls().is_some() {
            // OpenSSL read no further than it had to; the tap hears the rest of what has come.
            let _ =
                tokio::time::timeout(GOODBYE, session.get_mut().read(&mut [0; Overheard::RECEIVED])).await;
        }
        let overheard = session.get_ref().tap();
        if self.opening == Opening::AtOnce {
            found.reply = match (overheard.received.as_slice(), &connected) {
                ([], Err(_)) => Reply::Nothing,
                ([], Ok(Err(error))) if is_end(error) => Reply::Closed,
                ([], Ok(_)) => Reply::Cut,
                (bytes, _) => Reply::Bytes(bytes.to_vec()),
            };
        }
        seen.wants_client_certificate = overheard.certificate_was_sent();
        match connected {
            Ok(Ok(())) => {
                let version = session.ssl().version_str().to_owned();
                let refused = match (seen.wants_client_certificate, self.stay) {
                    (true, Stay::ForTheRefusal) => refused(&mut session, self.deadline).await,
                    _ => None,
                };
                let _ = tokio::time::timeout(GOODBYE, session.shutdown()).await;
                refused.map_or(Shaken::Agreed(version), Shaken::Failed)
            }
            Ok(Err(error)) => {
                overheard.instead_of_tls().map_or_else(|| Shaken::Failed(why(&error)), Shaken::NotSpoken)
            }
            Err(_) => overheard.instead_of_tls().map_or(Shaken::Unanswered, Shaken::NotSpoken),
        }
    }
}

/// One that speaks what nobody should any more. Nothing is verified by it, and nothing sent.
fn lenient() -> Result<SslConnector, ErrorStack> {
    let mut builder = SslConnector::builder(SslMethod::tls_client())?;
    builder.set_security_level(0);
    builder.set_cipher_list("ALL")?;
    builder.set_min_proto_version(Some(SslVersion::TLS1))?;
    Ok(builder.build())
}

/// What OpenSSL found wrong, and with which certificate (DER).
type Wrong = Arc<Mutex<Vec<(X509VerifyResult, Option<Vec<u8>>)>>>;

/// A session of a client of `host` that notes what is wrong with a certificate, and goes on.
fn session(
    connector: &SslConnector,
    verification: Verification,
    host: &str,
    wrong: &Wrong,
) -> Result<Ssl, ErrorStack> {
    let configuration = connector.configure()?.verify_hostname(verification == Verification::Full);
    let mut session = configuration.into_ssl(host)?;
    match verification {
        Verification::None => session.set_verify(SslVerifyMode::NONE),
        Verification::Full | Verification::Chain => {
            let wrong = Arc::clone(wrong);
            let note = move |fine: bool, context: &mut X509StoreContextRef| {
                if !fine {
                    let whose = context.current_cert().and_then(|certificate| certificate.to_der().ok());
                    let mut wrong = wrong.lock().unwrap_or_else(PoisonError::into_inner);
                    wrong.push((context.error(), whose));
                }
                true
            };
            session.set_verify_callback(SslVerifyMode::PEER, note);
        }
    }
    Ok(session)
}

/// What OpenSSL found, as problems, each once. It tells of an unknown authority in two or three ways.
fn problems(wrong: &[(X509VerifyResult, Option<Vec<u8>>)], chain: &[Vec<u8>]) -> Vec<CertificateProblem> {
    let mut problems = Vec::new();
    for (result, whose) in wrong {
        let place = chain.iter().position(|sent| Some(sent) == whose.as_ref());
        // X509_V_ERR_… in OpenSSL's x509_vfy.h.
        let problem = match (result.as_raw(), place) {
            (9, Some(place)) => CertificateProblem::NotYetValid(place),
            (10, Some(place)) => CertificateProblem::Expired(place),
            (62 | 64, _) => CertificateProblem::OtherName,
            (18, _) => CertificateProblem::SelfSigned,
            (2 | 19 | 20 | 21, _) => CertificateProblem::UnknownAuthority,
            // Of one that the server did not send, because it is among the authorities; or that is left out of a long chain.
            (_, None) if whose.is_some() => {
                let whose = CertificateSeen::read(whose.as_deref().unwrap_or_default()).subject;
                let place = if chain.len() < CHAIN_MAX { "among the authorities" } else { "further up" };
                CertificateProblem::Other(format!("{} ({whose}, {place})", result.error_string()))
            }
            _ => CertificateProblem::Other(result.error_string().to_owned()),
        };
        // One that signed itself is followed by "the first certificate cannot be verified", which says the same.
        let said = problems.contains(&problem)
            || problem == CertificateProblem::UnknownAuthority
                && problems.contains(&CertificateProblem::SelfSigned);
        if !said {
            problems.push(problem);
        }
    }
    problems
}

/// Whether the server ends the session for want of a certificate of ours, and in which words. In TLS 1.3 it judges
/// that after the client thinks that all is agreed on.
async fn refused(
    session: &mut SslStream<Tapped<TcpStream, Overheard>>,
    deadline: Deadline,
) -> Option<String> {
    let mut nothing = [0];
    let read = session.read(&mut nothing);
    let error = tokio::time::timeout_at(deadline.within(REFUSAL).instant(), read).await.ok()?.err()?;
    let why = said::library_error(&error.to_string())?;
    Some(format!("the server ended the session after the handshake: {why}"))
}

/// Why a handshake failed.
fn why(error: &ssl::Error) -> String {
    if is_end(error) {
        return "the peer closed the connection during the TLS handshake".to_owned();
    }
    match error.io_error() {
        Some(io) => format!("the TLS handshake failed: {io}"),
        None => format!("the TLS handshake failed: {}", said::readable(&error.to_string())),
    }
}

/// Whether it is that the peer closed the connection.
fn is_end(error: &ssl::Error) -> bool {
    match error.io_error() {
        Some(io) => io.kind() == io::ErrorKind::UnexpectedEof,
        None => error.to_string().to_lowercase().contains("unexpected eof"),
    }
}

/// What passed during a handshake.
#[derive(Debug, Default)]
struct Overheard {
    /// The first that was received.
    received: Vec<u8>,
    /// What was sent, as far as it tells whether a certificate was.
    sent: Vec<u8>,
}

impl Overheard {
    /// So much tells whether it is TLS, and else what it is.
    const RECEIVED: usize = 64;
    /// All that a client says in a handshake fits, but for a certificate, which we have none of.
    const SENT: usize = 8 * 1024;

    /// What was received, where it is no TLS.
    fn instead_of_tls(&self) -> Option<String> {
        /// How records of TLS begin (RFC 8446, section 5.1): change of cipher, alert, handshake, data; version 3.
        const RECORDS: std::ops::RangeInclusive<u8> = 20..=23;
        match self.received.as_slice() {
            [] => None,
            [kind] if RECORDS.contains(kind) => None,
            [kind, 3, ..] if RECORDS.contains(kind) => None,
            other => Some(shown(other)),
        }
    }

    /// Whether the client sent a certificate, which it does if it is asked for one, were it none at all.
    ///
    /// That the server asks is in an encrypted message of TLS 1.3, and OpenSSL's binding does not tell. What it is answered
    /// by passes here: up to TLS 1.2 in the clear, in TLS 1.3 as one encrypted record before the one that ends the
    /// handshake.
    fn certificate_was_sent(&self) -> bool {
        const CHANGE_OF_CIPHER: u8 = 20;
        const HANDSHAKE: u8 = 22;
        const DATA: u8 = 23;
        const CERTIFICATE: u8 = 11;
        let (mut in_the_clear, mut encrypted, mut rest) = (true, 0, self.sent.as_slice());
        while let [kind, _, _, high, low, body @ ..] = rest {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            match *kind {
                CHANGE_OF_CIPHER => in_the_clear = false,
                HANDSHAKE if in_the_clear && body.first() == Some(&CERTIFICATE) => return true,
                DATA => encrypted += 1,
                _ => {}
            }
            rest = body.get(length..).unwrap_or_default();
        }
        encrypted > 1
    }
}

impl Tap for Overheard {
    fn hear(&mut self, bytes: &[u8]) -> io::Result<()> {
        let room = Self::RECEIVED.saturating_sub(self.received.len());
        self.received.extend_from_slice(&bytes[..bytes.len().min(room)]);
        Ok(())
    }

    fn sent(&mut self, bytes: &[u8]) {
        let room = Self::SENT.saturating_sub(self.sent.len());
        self.sent.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}
