//! A socket becomes a TLS session, by native-tls.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use native_tls::{Certificate, TlsConnector};
use tokio::net::TcpStream;
use tokio_native_tls::TlsStream;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::hello::Overheard;
use super::{connect, openssl};
use crate::health::{Failure, FailureKind, Phase, TlsDetails, WallTime};

/// What of the peer's certificate is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verification {
    /// Chain and host name.
    Full,
    /// The chain alone.
    Chain,
    /// Nothing.
    None,
}

/// A TLS session over a socket.
pub type Session = TlsStream<Overheard<TcpStream>>;

/// The TLS side of one dependency.
#[derive(Debug)]
pub struct Tls {
    verification: Verification,
    root_cert: Option<PathBuf>,
    /// Loading the authorities takes milliseconds, so it is done once, and again after the peer's certificate
    /// was not accepted: the file may have been replaced.
    connector: Mutex<Option<Arc<Connector>>>,
}

type Connector = tokio_native_tls::TlsConnector;

impl Tls {
    /// Verifies against the authorities in `root_cert` (PEM), or else against the system's.
    pub fn new(verification: Verification, root_cert: Option<PathBuf>) -> Self {
        Self { verification, root_cert, connector: Mutex::default() }
    }

    /// The handshake, as a client of `host` (also sent as SNI).
    pub async fn handshake(&self, host: &str, stream: TcpStream) -> Result<(Session, TlsDetails), Failure> {
        let connector = self.connector().await?;
        match connector.connect(host, Overheard::new(stream)).await {
            Ok(session) => {
                let details = self.describe(&session);
                Ok((session, details))
            }
            Err(error) => {
                let failure = self.failure(host, &error);
                if failure.kind == FailureKind::TlsCertificate {
                    *self.slot() = None;
                }
                Err(failure)
            }
        }
    }

    fn slot(&self) -> MutexGuard<'_, Option<Arc<Connector>>> {
        self.connector.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connector(&self) -> Result<Arc<Connector>, Failure> {
        if let Some(connector) = &*self.slot() {
            return Ok(Arc::clone(connector));
        }
        let (verification, root_cert) = (self.verification, self.root_cert.clone());
        // Files are read and parsed: not on a thread that others wait for.
        let built = tokio::task::spawn_blocking(move || build(verification, root_cert.as_deref())).await;
        let connector = Arc::new(built.unwrap_or_else(|error| Err(cannot_set_up(&error)))?);
        *self.slot() = Some(Arc::clone(&connector));
        Ok(connector)
    }

    fn describe(&self, session: &Session) -> TlsDetails {
        let certificate = session.get_ref().peer_certificate().ok().flatten();
        let expires_at = certificate.and_then(|certificate| expiry(&certificate.to_der().ok()?));
        let version = session.get_ref().get_ref().get_ref().version();
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
            let message = match reason.contains("wrong version number") {
                true => "what answers does not speak TLS".to_owned(),
                false => format!("the TLS handshake failed: {reason}"),
            };
            return Failure::new(Phase::Tls, FailureKind::TlsHandshake, message);
        }
        let hint = if reason.contains("expired") {
            "the server's certificate has ended: renew it".to_owned()
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

fn build(verification: Verification, root_cert: Option<&Path>) -> Result<Connector, Failure> {
    let mut builder = TlsConnector::builder();
    if let Some(path) = root_cert {
        builder.disable_built_in_roots(true);
        for certificate in authorities(path).map_err(|why| unusable(path, &why))? {
            builder.add_root_certificate(certificate);
        }
    }
    match verification {
        Verification::Full => {}
        Verification::Chain => {
            builder.danger_accept_invalid_hostnames(true);
        }
        Verification::None => {
            builder.danger_accept_invalid_certs(true);
            builder.danger_accept_invalid_hostnames(true);
        }
    }
    builder.build().map(Connector::from).map_err(|error| cannot_set_up(&error))
}

fn authorities(path: &Path) -> Result<Vec<Certificate>, String> {
    let pem = std::fs::read(path).map_err(|error| error.to_string())?;
    let certificates = Certificate::stack_from_pem(&pem).map_err(|error| error.to_string())?;
    if certificates.is_empty() { Err("it holds no certificate".to_owned()) } else { Ok(certificates) }
}

fn unusable(path: &Path, why: &str) -> Failure {
    let message = format!("the CA file {} cannot be used: {why}", path.display());
    Failure::new(Phase::Tls, FailureKind::TlsCertificate, message)
        .with_hint("check that the file is in the image or mounted, readable, and holds PEM certificates")
}

fn cannot_set_up(error: &dyn std::error::Error) -> Failure {
    Failure::new(Phase::Tls, FailureKind::Internal, format!("TLS could not be set up: {error}"))
}

/// When a certificate (DER) ends.
fn expiry(der: &[u8]) -> Option<WallTime> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(WallTime::from_unix_millis(certificate.validity().not_after.timestamp().saturating_mul(1000)))
}
