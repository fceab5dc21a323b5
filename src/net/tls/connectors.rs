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
use crate::files::{AUTHORITIES_MAX, read_text};
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
    slots: Mutex<HashMap<Tls, Arc<Slot>>>,
}

#[derive(Debug, Default)]
struct Slot {
    /// Filled by the first who needs it, while the others wait: at the start all of them do at once.
    loaded: OnceCell<Loaded>,
    /// Held while the file of authorities is read, by the thread that reads it. On a file system that is away it
    /// does so for as long as that lasts, and whoever wanted to know goes at the end of the check: the next must
    /// not send another thread after it. Nobody but those with the same settings waits for it.
    reading: Arc<AsyncMutex<()>>,
}

#[derive(Debug)]
struct Loaded {
    connector: Connector,
    since: Stopwatch,
}

impl Connectors {
    /// The connector for these settings.
    pub(super) async fn get(&self, tls: &Tls) -> Result<Connector, Failure> {
        // As at the start, where the file was found to be one; but it may have been replaced.
        self.get_by(tls, |path| read_text(path, AUTHORITIES_MAX)).await
    }

    async fn get_by(
        &self,
        tls: &Tls,
        read: fn(&Path) -> Result<String, String>,
    ) -> Result<Connector, Failure> {
        let slot = self.slot(tls);
        let load = || async {
            let own = slot.read(tls, read).await?;
            // Some milliseconds, and not aside: there glibc has a heap for each thread, and what parsing leaves free in
            // that, nobody could use.
            let connector = build(tls, own.as_deref())?;
            Ok(Loaded { connector, since: Stopwatch::start() })
        };
        slot.loaded.get_or_try_init(load).await.map(|loaded| loaded.connector.clone())
    }

    /// What the file of authorities holds by now, where these settings name one.
    pub(super) async fn authorities(&self, tls: &Tls) -> Result<Option<String>, Failure> {
        self.slot(tls).read(tls, |path| read_text(path, AUTHORITIES_MAX)).await
    }

    fn slot(&self, tls: &Tls) -> Arc<Slot> {
        Arc::clone(self.slots().entry(tls.clone()).or_default())
    }

    /// A peer's certificate was not accepted by these settings: the next who asks has the authorities read
    /// again.
    pub(super) fn doubt(&self, tls: &Tls) {
        let mut slots = self.slots();
        let loaded = slots.get(tls).and_then(|slot| slot.loaded.get());
        if loaded.is_some_and(|loaded| loaded.since.elapsed() >= RELOAD_AFTER) {
            slots.remove(tls);
        }
    }

    /// Held for no await.
    fn slots(&self) -> MutexGuard<'_, HashMap<Tls, Arc<Slot>>> {
        self.0.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    async fn read(
        &self,
        tls: &Tls,
        read: fn(&Path) -> Result<String, String>,
    ) -> Result<Option<String>, Failure> {
        let Some(path) = tls.root_cert.clone() else { return Ok(None) };
        let alone = Arc::clone(&self.reading).lock_owned().await;
        let read = move || read(&path).map_err(|why| unusable(&path, &format!("it {why}")));
        aside(move || (read(), alone).0).await.map(Some)
    }
}

/// What takes its time, on a thread that others do not wait for.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(cannot_set_up(&error)))
}

/// The connector for these settings, and what their file holds where they name one.
fn build(tls: &Tls, own: Option<&str>) -> Result<Connector, Failure> {
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
    if let (Some(path), Some(pem)) = (&tls.root_cert, own) {
        builder.disable_built_in_roots(true);
        for certificate in authorities(pem).map_err(|why| unusable(path, &why))? {
            builder.add_root_certificate(certificate);
        }
    }
    builder.build().map(Connector::from).map_err(|error| cannot_set_up(&error))
}

fn authorities(pem: &str) -> Result<Vec<Certificate>, String> {
    let certificates = Certificate::stack_from_pem(pem.as_bytes()).map_err(|error| error.to_string())?;
    if certificates.is_empty() { Err("it holds no certificate".to_owned()) } else { Ok(certificates) }
}

pub(super) fn unusable(path: &Path, why: &str) -> Failure {
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

    use futures_util::FutureExt;

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

    #[tokio::test]
    async fn a_file_that_was_replaced_is_no_pipe_and_not_huge() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let settings = Tls::new(Verification::Full, Some(path.clone()));
        let connectors = Connectors::default();
        let refused = async |what: &str| {
            let got = tokio::time::timeout(Duration::from_secs(10), connectors.get(&settings)).await;
            // What waits for a pipe would keep the runtime from ending.
            if got.is_err() {
                std::fs::write(&path, "").unwrap();
            }
            let failure = got.expect("an answer at once").unwrap_err();
            assert_eq!(failure.kind, FailureKind::TlsCertificate);
            assert!(failure.message.ends_with(what), "{failure}");
        };
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        refused("cannot be used: it is not a regular file").await;
        std::fs::remove_file(&path).unwrap();
        std::fs::File::create(&path).unwrap().set_len(2 * AUTHORITIES_MAX).unwrap();
        refused("cannot be used: it is larger than 1024 KiB").await;
        std::fs::write(&path, PEM).unwrap();
        connectors.get(&settings).await.unwrap();
    }

    /// A pipe that nobody writes to, read as if it were a file, stands for one on a file system that is away.
    #[tokio::test]
    async fn a_file_that_cannot_be_read_now_keeps_no_others_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let (pipe, file) = (folder.path().join("pipe"), folder.path().join("file"));
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        std::fs::write(&file, PEM).unwrap();
        let [away, here] = [&pipe, &file].map(|path| Tls::new(Verification::Full, Some(path.clone())));
        let as_a_file = |path: &Path| std::fs::read_to_string(path).map_err(|error| error.to_string());
        let connectors = Connectors::default();
        let mut others = Vec::new();
        // Those who want it give up, one after the other, and have one thread wait for all of them.
        for _ in 0..3 {
            let mut wanted = Box::pin(connectors.get_by(&away, as_a_file));
            assert!(wanted.as_mut().now_or_never().is_none());
            others.push(tokio::time::timeout(Duration::from_secs(10), connectors.get(&here)).await);
        }
        let slot = Arc::clone(&connectors.slots()[&away]);
        let still_read = slot.reading.try_lock().is_err();
        let readers = Arc::strong_count(&slot.reading) - 1;
        // It comes back; the runtime would wait for the thread.
        std::fs::write(&pipe, PEM).unwrap();
        let _read = slot.reading.lock().await;
        assert!(others.iter().all(|other| matches!(other, Ok(Ok(_)))), "others wait: {others:?}");
        assert_eq!((still_read, readers), (true, 1), "one thread reads");
    }
}
