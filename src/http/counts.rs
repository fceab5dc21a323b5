//! What is counted of a listener's connections: who came, and who was sent away. The log is told, too, but not of each:
//! thousands can come in a second.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::TcpListener;

use super::connections::SILENCE_MAX;

/// The counts of one listener since the start.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Connections that were taken in.
    pub(super) accepted: Count,
    /// Of these, the ones that have ended, however they did.
    pub(super) ended: Count,
    /// Of these, the ones that were closed because they had no answer for too long.
    pub(super) silent: Count,
    /// Of these, the ones that were closed to make room for others.
    pub(super) displaced: Count,
    /// Requests for long answers that were refused because too much of such answers was not taken.
    pub(super) overloaded: Count,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    /// One more.
    pub(super) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many.
    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What happened on a listener since the log was last told.
pub(super) struct Lately {
    listen: Option<SocketAddr>,
    counts: Arc<Counts>,
    /// Of the counts, what has been told.
    silent: u64,
    displaced: u64,
    overloaded: u64,
    /// Why no connection could be accepted.
    pub(super) out_of_room: Option<io::Error>,
}

impl Lately {
    /// Nothing yet.
    pub(super) fn new(listener: &TcpListener, counts: Arc<Counts>) -> Self {
        let listen = listener.local_addr().ok();
        Self { listen, counts, silent: 0, displaced: 0, overloaded: 0, out_of_room: None }
    }

    /// Tells the log, where there is anything to tell.
    pub(super) fn tell(&mut self) {
        let listen = self.listen.map(tracing::field::display);
        let since = |told: &mut u64, count: &Count| count.get() - std::mem::replace(told, count.get());
        let silent = since(&mut self.silent, &self.counts.silent);
        let displaced = since(&mut self.displaced, &self.counts.displaced);
        let overloaded = since(&mut self.overloaded, &self.counts.overloaded);
        // Clients that keep a connection between two questions are among them, and they are well.
        if silent > 0 {
            tracing::debug!(
                listen,
                closed = silent,
                "connections without an answer for {SILENCE_MAX:?} are closed"
            );
        }
        let advice =
            "look for a client that holds connections open, or opens one for each question without end";
        match self.out_of_room.take() {
            Some(error) => tracing::warn!(
                listen,
                closed = displaced,
                "connections cannot be accepted: {error}; those without an answer for longest are closed to make room: {advice}"
            ),
            None if displaced > 0 => tracing::warn!(
                listen,
                closed = displaced,
                "all places for connections are taken; those without an answer for longest are closed to make room: {advice}"
            ),
            None => (),
        }
        if overloaded > 0 {
            tracing::warn!(
                listen,
                refused = overloaded,
                "long answers are refused: too much of such waits for clients that do not take it; health questions are answered all the same"
            );
        }
    }
}
