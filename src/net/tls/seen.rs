//! What was seen of a server's TLS: plain values.

use std::time::Duration;

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::ends_at;
use crate::health::WallTime;

/// What was seen of TLS, with nothing verified; and what a verification would say.
#[derive(Debug, Clone, Default)]
pub struct TlsSeen {
    /// The version agreed on: `TLSv1.3`; what went wrong otherwise. `None` where it did not come to a handshake.
    pub version: Option<Result<String, String>>,
    /// How long the handshake took.
    pub took: Duration,
    /// Why none was begun, and the server not even asked for one: there was no connection in time.
    pub not_asked: Option<String>,
    /// Whether the server said before that it has no TLS (PostgreSQL's `N`), or answered with something else.
    pub not_spoken: Option<String>,
    /// Whether the handshake was begun and not ended in time, the server having said nothing against it.
    pub unanswered: bool,
    /// An older version that the server does speak, where no newer one was agreed on.
    pub only_speaks: Option<String>,
    /// Whether the server asked for a certificate of ours.
    pub wants_client_certificate: bool,
    /// The certificates that the server sent, its own first.
    pub chain: Vec<CertificateSeen>,
    /// All that is wrong with them, by what the configuration verifies; empty where nothing is, or nothing is verified.
    pub problems: Vec<CertificateProblem>,
}

/// One certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CertificateSeen {
    /// Whose.
    pub subject: String,
    /// By whom.
    pub issuer: String,
    /// The names and addresses that it is for.
    pub names: Vec<String>,
    /// From when on.
    pub begins_at: Option<WallTime>,
    /// Until when; `None` for one that never ends.
    pub ends_at: Option<WallTime>,
}

/// What is wrong with a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateProblem {
    /// The certificate at this place of the chain has ended (0 is the server's own).
    Expired(usize),
    /// …begins later.
    NotYetValid(usize),
    /// The server's own is for other names.
    OtherName,
    /// It signed itself, and is not among the authorities.
    SelfSigned,
    /// Nobody who is trusted here signed it.
    UnknownAuthority,
    /// The file of the authorities cannot be used, for this reason.
    AuthoritiesUnusable(String),
    /// Something else, in OpenSSL's words.
    Other(String),
}

impl CertificateSeen {
    /// From its DER form. One that cannot be read has only a subject, which says so.
    pub(super) fn read(der: &[u8]) -> Self {
        let Ok((_, certificate)) = X509Certificate::from_der(der) else {
            return Self { subject: "a certificate that cannot be read".to_owned(), ..Self::default() };
        };
        let alternatives = certificate.subject_alternative_name().ok().flatten();
        let names = alternatives.map(|found| found.value.general_names.iter().filter_map(name).collect());
        Self {
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            names: names.unwrap_or_default(),
            begins_at: Some(seconds(certificate.validity().not_before.timestamp())),
            ends_at: ends_at(&certificate),
        }
    }
}

/// A name or an address that a host is verified against.
fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let four = <[u8; 4]>::try_from(*bytes).map(|four| std::net::IpAddr::from(four).to_string());
            four.or_else(|_| <[u8; 16]>::try_from(*bytes).map(|six| std::net::IpAddr::from(six).to_string()))
                .ok()
        }
        _ => None,
    }
}

/// A calendar time, from seconds after 1970.
pub(super) fn seconds(seconds: i64) -> WallTime {
    WallTime::from_unix_millis(seconds.saturating_mul(1000))
}
