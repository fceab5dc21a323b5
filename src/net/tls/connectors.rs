//! One connector for all dependencies with the same settings. It holds the authorities that it trusts: the
//! system's are some 140, which cost milliseconds to read and megabytes to keep.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use native_tls::{Certificate, TlsConnector};
use tokio::sync::{Mutex as AsyncMutex, OnceCell};

use super::{Tls, Verification};
use crate::clock::Stopwatch;
use crate::health::{Failure, FailureKind, Phase};

/// After a certificate was not accepted the authorities are read again, since their file may have been
/// replaced; but no sooner than this after the last time, however many dependencies fail.
const RELOAD_AFTER: Duration = Duration::from_secs(2);

type Connector = tokio_native_tls::TlsConnector;

/// The connectors of a process, by their settings. Copies share them.
#[derive(Debug, Clone, Default)]
pub struct Connectors(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    slots: Mutex<HashMap<Tls, Slot>>,
    /// Held while one is made: side by side, each would have memory of its own to parse in, and keep it.
    making: AsyncMutex<()>,
}

/// Filled by the first who needs it, while the others wait: at the start all of them do at once.
type Slot = Arc<OnceCell<Loaded>>;

#[derive(Debug)]
struct Loaded {
    connector: Connector,
    since: Stopwatch,
}

impl Connectors {
    /// The connector for these settings.
    pub(super) async fn get(&self, tls: &Tls) -> Result<Connector, Failure> {
        let slot = Arc::clone(self.slots().entry(tls.clone()).or_default());
        let load = || async {
            let settings = tls.clone();
            let _alone = self.0.making.lock().await;
            // Files are read and parsed: not on a thread that others wait for.
            let built = tokio::task::spawn_blocking(move || build(&settings)).await;
            let connector = built.unwrap_or_else(|error| Err(cannot_set_up(&error)))?;
            Ok(Loaded { connector, since: Stopwatch::start() })
        };
        slot.get_or_try_init(load).await.map(|loaded| loaded.connector.clone())
    }

    /// A peer's certificate was not accepted by these settings: the next who asks has the authorities read
    /// again.
    pub(super) fn doubt(&self, tls: &Tls) {
        let mut slots = self.slots();
        let loaded = slots.get(tls).and_then(|slot| slot.get());
        if loaded.is_some_and(|loaded| loaded.since.elapsed() >= RELOAD_AFTER) {
            slots.remove(tls);
        }
    }

    /// Held for no await.
    fn slots(&self) -> MutexGuard<'_, HashMap<Tls, Slot>> {
        self.0.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn build(tls: &Tls) -> Result<Connector, Failure> {
    let mut builder = TlsConnector::builder();
    match tls.verification {
        Verification::Full => {}
        Verification::Chain => {
            builder.danger_accept_invalid_hostnames(true);
        }
        Verification::None => {
            builder.danger_accept_invalid_certs(true);
            builder.danger_accept_invalid_hostnames(true);
            // Nobody asks for them.
            builder.disable_built_in_roots(true);
        }
    }
    if let Some(path) = &tls.root_cert {
        builder.disable_built_in_roots(true);
        for certificate in authorities(path).map_err(|why| unusable(path, &why))? {
            builder.add_root_certificate(certificate);
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

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// A certificate that signed itself.
    const PEM: &str = "\
-----BEGIN CERTIFICATE-----
MIIBfTCCASOgAwIBAgIUD0V1VpWMcmLj8ztAUKR2g23jpuwwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJdW5pdCB0ZXN0MB4XDTI2MTEyMzE5MTUwNloXDTM2MTEyMDE5
MTUwNlowFDESMBAGA1UEAwwJdW5pdCB0ZXN0MFkwEwYHKoZIzj0CAQYIKoZIzj0D
AQcDQgAEBxf3jHFMtqb4yJjr/jADUnNw+ho8Yz2EJ5qQ+tULEwzTUwcJ+cqAxrdE
mAAusvgin36WDWHm20ul5+tGGuQMF6NTMFEwHQYDVR0OBBYEFF2CX95ABSYRkKGz
iaVz+fEPEtgLMB8GA1UdIwQYMBaAFF2CX95ABSYRkKGziaVz+fEPEtgLMA8GA1Ud
EwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIhAO3iEBUrSfjnv9L0FoU0SKnU
25IOKyK293+Vyv6lH6LYAiBLTWileAo3tDGI99XpprRU+pdNFARmEmVwKMOLdsoz
fg==
-----END CERTIFICATE-----
";

    #[tokio::test]
    async fn those_with_the_same_settings_share_one_until_it_is_doubted() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(PEM.as_bytes()).unwrap();
        let settings = |verification| Tls::new(verification, Some(file.path().to_owned()));
        let connectors = Connectors::default();
        connectors.get(&settings(Verification::Full)).await.unwrap();
        // What is read again from now on is no certificate.
        std::fs::write(file.path(), "nothing").unwrap();
        connectors.get(&settings(Verification::Full)).await.unwrap();
        let other = connectors.get(&settings(Verification::Chain)).await.unwrap_err();
        assert_eq!(other.kind, FailureKind::TlsCertificate);
        assert!(other.message.contains("holds no certificate"), "{other}");

        connectors.doubt(&settings(Verification::Full));
        connectors.get(&settings(Verification::Full)).await.unwrap();
        tokio::time::pause();
        tokio::time::advance(RELOAD_AFTER).await;
        connectors.doubt(&settings(Verification::Full));
        tokio::time::resume();
        connectors.get(&settings(Verification::Full)).await.unwrap_err();
        // What could not be made is tried again by the next.
        std::fs::write(file.path(), PEM).unwrap();
        connectors.get(&settings(Verification::Full)).await.unwrap();
    }
}
