//! A password that may be rotated while we run: its secret file is read again when a server has refused it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Mutex as AsyncMutex;

use crate::config::Secret;
use crate::config::plan::ProbePlan;

/// A dependency's password. Copies are one and the same: the probe logs in with it, and what is told of a check is
/// looked through for it.
#[derive(Debug, Clone)]
pub(super) struct Password {
    secret: Arc<Mutex<Secret>>,
    /// Held while its file is read, by the thread that reads it: on a file system that is away it does so for as
    /// long as that lasts, and one thread is enough for that, however many checks end meanwhile.
    reading: Arc<AsyncMutex<()>>,
}

/// What came of reading a password's file again.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reread {
    /// It comes from no file.
    NoFile,
    /// The file says what it said.
    Same(PathBuf),
    /// The file says something else; that is the password from now on.
    Changed(PathBuf),
    /// The file cannot be read, and why.
    Unreadable(PathBuf, String),
}

impl Password {
    /// The password of a dependency that has one.
    pub(super) fn of(plan: &ProbePlan) -> Option<Self> {
        let password = match plan {
            ProbePlan::Postgres(plan) => plan.password(),
            ProbePlan::Redis(plan) => plan.password(),
            ProbePlan::Dns(_) | ProbePlan::Tcp(_) | ProbePlan::Http(_) => return None,
        };
        password.clone().map(Self::new)
    }

    fn new(secret: Secret) -> Self {
        Self { secret: Arc::new(Mutex::new(secret)), reading: Arc::default() }
    }

    /// As it was read last.
    pub(super) fn current(&self) -> Secret {
        self.slot().clone()
    }

    /// Reads its file again.
    pub(super) async fn reread(&self) -> Reread {
        let old = self.current();
        let Some(file) = old.file().map(PathBuf::from) else { return Reread::NoFile };
        let (reading, alone) = (old.clone(), Arc::clone(&self.reading).lock_owned().await);
        // Files are read: not on a thread that others wait for.
        let read = tokio::task::spawn_blocking(move || (reading.reread(), alone).0).await;
        match read.unwrap_or_else(|error| Err(format!("cannot be read: {error}"))) {
            // An empty file is one that is just being written.
            Ok(new) if new == old || new.expose().is_empty() => Reread::Same(file),
            Ok(new) => {
                *self.slot() = new;
                Reread::Changed(file)
            }
            Err(why) => Reread::Unreadable(file, why),
        }
    }

    fn slot(&self) -> MutexGuard<'_, Secret> {
        self.secret.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reread {
    /// What it adds to the hint of a password that was refused.
    pub(super) fn told(&self) -> Option<String> {
        match self {
            Self::NoFile => None,
            Self::Same(file) => {
                Some(format!("its file {}, read again, still holds what was refused", file.display()))
            }
            Self::Changed(file) => Some(format!(
                "its file {} was read again, and what it holds by now is refused as well",
                file.display()
            )),
            Self::Unreadable(file, why) => {
                Some(format!("its file {} cannot be asked for a newer one: it {why}", file.display()))
            }
        }
    }
}
