//! Work on files that may hang, where what they are on is mounted from elsewhere and away.
//!
//! The threads that the runtime has for such work are few, and checks want them for files of authorities and of
//! passwords. The state folder and the files of the configuration take none of those: each piece of work has a thread
//! of its own, and whoever wants it waits for it before the next, so one that hangs delays only them.

use std::io;
use std::thread;

use tokio::sync::oneshot;

/// Does it on a thread of its own, which goes on where nobody waits any more.
///
/// # Errors
/// No thread is to be had, or the work panicked, which has been told.
pub(super) async fn on_a_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (done, result) = oneshot::channel();
    let work = move || {
        // Whoever wanted it may have given up.
        let _ = done.send(work());
    };
    thread::Builder::new().name(name.to_owned()).spawn(work)?;
    result.await.map_err(|_| io::Error::other("a fault of ours, which was logged"))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn what_hangs_or_panics_leaves_others_their_way() {
        let (go_on, stuck) = mpsc::channel::<()>();
        let hangs = tokio::spawn(on_a_thread("files", move || stuck.recv().is_err()));
        let panics = on_a_thread::<()>("files", || panic!("this panic is part of the test"));
        assert!(panics.await.is_err());
        assert_eq!(on_a_thread("files", || 1).await.unwrap(), 1);
        assert!(!hangs.is_finished());
        drop(go_on);
        assert!(hangs.await.unwrap().unwrap());
    }
}
