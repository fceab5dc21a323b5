//! The places that sessions have, and how a session gives up its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Session;
use crate::probe::GOODBYE;

/// So many sessions there can be. Copies are the same places.
#[derive(Debug, Clone)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    all: u32,
}

/// One of them; free again when this is dropped. `None` where the places were closed, which nobody does.
pub(super) type Place = Option<OwnedSemaphorePermit>;

impl Places {
    /// At least one.
    pub(super) fn new(max: u32) -> Self {
        let all = max.max(1);
        let places = usize::try_from(all).unwrap_or(Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(places)), all }
    }

    /// Takes one, as soon as there is one.
    pub(super) async fn take(&self) -> Place {
        Arc::clone(&self.free).acquire_owned().await.ok()
    }

    /// Whether there is one that nobody has.
    pub(super) fn any_left(&self) -> bool {
        self.free.available_permits() > 0
    }

    /// Ends when nobody has one. Each goodbye has a time limit of its own.
    pub(super) fn all_left(self) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let _ = self.free.acquire_many(self.all).await;
        })
    }
}

/// A session in its place. Where a check is ended from outside, it is dropped in the middle of a question, and says
/// goodbye all the same.
pub(super) struct Seated<S: Session> {
    /// `None` once it is leaving.
    session: Option<S>,
    place: Place,
    address: Option<SocketAddr>,
}

impl<S: Session> Seated<S> {
    /// A session that leads to this address.
    pub(super) fn new(session: S, place: Place, address: Option<SocketAddr>) -> Self {
        Self { session: Some(session), place, address }
    }

    /// The address that it leads to.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The session.
    #[expect(clippy::expect_used, reason = "it is taken only by what consumes the whole")]
    pub(super) fn session(&mut self) -> &mut S {
        self.session.as_mut().expect("a session in its place")
    }

    /// Ends it politely, in the background.
    pub(super) fn leave(self) {
        self.leave_within(GOODBYE);
    }

    /// The same for one that may have to hear an answer first.
    pub(super) fn leave_within(mut self, limit: Duration) {
        if let Some(session) = self.session.take() {
            in_background(self.place.take(), limit, session.goodbye());
        }
    }

    /// Ends it at once, whatever its peer thinks of it.
    pub(super) fn cut(mut self) {
        self.session = None;
    }
}

impl<S: Session> Drop for Seated<S> {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            in_background(self.place.take(), GOODBYE, session.abandon());
        }
    }
}

/// Says goodbye, and gives the place back when that is done, whether it was done politely or not.
fn in_background(place: Place, limit: Duration, goodbye: impl Future<Output = ()> + Send + 'static) {
    // At the end of a process there may be no runtime left to be polite with.
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(async move {
            let _place = place;
            let _ = tokio::time::timeout(limit, goodbye).await;
        });
    }
}
