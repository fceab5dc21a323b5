//! The thread that answers requests, with a runtime of its own.
//!
//! Checks run on the main thread. Whatever they are at there, a thousand TLS handshakes at once or a loop that never
//! ends, the load balancer is answered from here, out of the snapshot; and where nothing moves there any more, this
//! thread is the one that can still say so (`/health/live`, stale results).

use std::io;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// The thread. Dropped, it ends what still runs on it.
pub(super) struct Answering {
    handle: Handle,
    /// Never sent to: that it is gone is the word.
    _alive: oneshot::Sender<()>,
}

impl Answering {
    /// Starts it.
    pub(super) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(1).build()?;
        let handle = runtime.handle().clone();
        let (alive, gone) = oneshot::channel();
        thread::Builder::new().name("http".to_owned()).spawn(move || {
            let _ = runtime.block_on(gone);
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, _alive: alive })
    }

    /// Where to spawn what answers.
    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }
}
