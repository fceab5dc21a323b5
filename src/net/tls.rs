//! A socket becomes a TLS session, by native-tls.

mod connectors;
pub mod inspect;
mod seen;

use std::io;
use std::path::PathBuf;

use tokio::net::TcpStream;
use tokio_native_tls::TlsStream;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::hello::Hello;
use super::tap::Tapped;
use super::{connect, openssl};
use crate::health::{Failure, FailureKind, Phase, TlsDetails, WallTime};
pub use connectors::Connectors;
pub use seen::{CertificateProblem, CertificateSeen, TlsSeen};

/// What of the peer's certificate is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verification {
    /// Chain and host name.
    Full,
    /// The chain alone.
    Chain,
    /// Nothing.
    None,
}

/// A TLS session over a socket.
pub type Session = TlsStream<Tapped<TcpStream, Hello>>;

/// The TLS settings of one dependency. Those who have the same share a connector.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tls {
    verification: Verification,
    root_cert: Option<PathBuf>,
}

impl Tls {
    /// Verifies against the authorities in `root_cert` (PEM), or else against the system's.
    pub fn new(verification: Verification, root_cert: Option<PathBuf>) -> Self {
        Self { verification, root_cert }
    }

    /// The handshake, as a client of `host` (also sent as SNI).
    pub async fn handshake(
        &self,
        connectors: &Connectors,
        host: &str,
        stream: TcpStream,
    ) -> Result<(Session, TlsDetails), Failure> {
        let connector = connectors.get(self).await?;
        match connector.connect(host, Tapped::new(stream, Hello::default())).await {
            Ok(session) => {
                let details = self.describe(&session);
                Ok((session, details))
            }
            Err(error) => {
                let failure = self.failure(host, &error);
                if failure.kind == FailureKind::TlsCertificate {
                    connectors.doubt(self);
                }
                Err(failure)
            }
        }
    }

    fn describe(&self, session: &Session) -> TlsDetails {
        let certificate = session.get_ref().peer_certificate().ok().flatten();
        let expires_at = certificate.and_then(|certificate| expiry(&certificate.to_der().ok()?));
        let version = session.get_ref().get_ref().get_ref().tap().version();
        TlsDetails { version, verified: self.verification != Verification::None, expires_at }
    }

    fn failure(&self, host: &str, error: &native_tls::Error) -> Failure {
        if let Some(io) = connect::io_cause(error) {
            if io.kind() == io::ErrorKind::UnexpectedEof {
                return Failure::new(
                    Phase::Tls,
                    FailureKind::TlsHandshake,
                    "the peer closed the connection during the TLS handshake",
                );
            }
            return connect::failure(Phase::Tls, io);
        }
        let reason = openssl::readable(&error.to_string());
        if !reason.contains("certificate verify failed") {
            let fail = |message| Failure::new(Phase::Tls, FailureKind::TlsHandshake, message);
            return match reason.contains("wrong version number") {
                // An answer, not an accident: it would be the same in 100 ms.
                true => fail("what answers does not speak TLS".to_owned()).lasting(),
                false => fail(format!("the TLS handshake failed: {reason}")),
            };
        }
        let hint = if reason.contains("expired") {
            "the server's certificate, or one above it in the chain that it sends, has ended: renew it"
                .to_owned()
        } else if reason.contains("not yet valid") {
            "the server's certificate begins later than now: compare the clocks of both sides".to_owned()
        } else if reason.contains("hostname mismatch") || reason.contains("IP address mismatch") {
            "the certificate is for another name: configure the host by a name that it is for".to_owned()
        } else if reason.contains("issuer")
            || reason.contains("self-signed")
            || reason.contains("self signed")
        {
            let trusted = match &self.root_cert {
                Some(path) => format!("the authorities in {}", path.display()),
                None => "the system's authorities".to_owned(),
            };
            format!(
                "the certificate is not signed by {trusted}: set `root_cert` (for PostgreSQL also DATABASE_SSLROOTCERT) to the file of the authority; for RDS that is the bundle from truststore.pki.rds.amazonaws.com"
            )
        } else {
            FailureKind::TlsCertificate.hint().to_owned()
        };
        Failure::new(Phase::Tls, FailureKind::TlsCertificate, format!("{host}: {reason}")).with_hint(hint)
    }
}

/// When a certificate (DER) ends; `None` for one that never does.
///
/// Of the chain this is the server's own alone: native-tls shows no other. One above it that has ended fails the
/// handshake, where the chain is verified.
fn expiry(der: &[u8]) -> Option<WallTime> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    ends_at(&certificate)
}

fn ends_at(certificate: &X509Certificate<'_>) -> Option<WallTime> {
    /// 9999-12-31T23:59:59Z, which stands for no end (RFC 5280, 4.1.2.5).
    const NEVER: i64 = 253_402_300_799;
    let end = certificate.validity().not_after.timestamp();
    (end != NEVER).then(|| seen::seconds(end))
}
