//! TLS settings, and the files of authorities that they name.

use std::path::PathBuf;

use super::cursor::Cursor;
use crate::config::errors::ConfigError;
use crate::config::plan::{TlsPlan, Verify};
use crate::config::raw::RawTls;
use crate::files::{AUTHORITIES_MAX, read_text};

/// The system's authorities, in libpq's word.
const SYSTEM: &str = "system";

/// The settings, or `None` where TLS is not spoken. `used` is false where nothing will connect: then its file
/// need not exist, so that a dependency can be switched off where its certificate is missing.
pub(super) fn tls(raw: Option<RawTls>, used: bool, at: &Cursor<'_>) -> Option<TlsPlan> {
    let RawTls { enabled, verify, root_cert } = raw?;
    let plan = TlsPlan {
        verify: verify.unwrap_or(Verify::Full),
        root_cert: self::root_cert(root_cert, used, &at.key("root_cert")),
    };
    enabled.unwrap_or(true).then_some(plan)
}

/// A file of authorities that can be read and holds certificates.
pub(super) fn root_cert(raw: Option<String>, used: bool, at: &Cursor<'_>) -> Option<PathBuf> {
    let raw = raw.filter(|path| path != SYSTEM && !path.is_empty())?;
    if used {
        let problem = match read_text(raw.as_ref(), AUTHORITIES_MAX) {
            Ok(text) if text.contains("-----BEGIN CERTIFICATE-----") => None,
            Ok(_) => Some("holds no certificate".to_owned()),
            Err(reason) => Some(reason),
        };
        if let Some(problem) = problem {
            at.refuse(
                ConfigError::new(format!("the file {} {problem}", at.shown(&raw)))
                    .allowed("a readable PEM file of certificates, or `system`")
                    .advice("check the path in this container"),
            );
        }
    }
    Some(raw.into())
}
