//! The places that sessions have, and how a session gives up its own.
//!
//! A server writes a line into its log when a client hangs up while it is busy with it. So what is given up, be it a
//! session without an answer or one that is only being made, keeps its place until it can leave politely, or until
//! the place is needed.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::Session;
use crate::probe::GOODBYE;

/// What leaves may take so long at most: of a host that has vanished no answer ever comes.
const LINGER: Duration = Duration::from_secs(30);

/// What was given up and whose place is needed is given this much longer. A server that is well ends by then what it
/// was asked, since each question brings its own time limit.
const HURRY: Duration = Duration::from_millis(200);

/// So many sessions there can be. Copies are the same places.
#[derive(Debug, Clone)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    all: u32,
    lingering: Arc<Mutex<Vec<Lingering>>>,
}

/// What leaves and has not left. Where nobody listens any more, it has.
#[derive(Debug)]
struct Lingering {
    /// Tells it how long it may still take.
    hurry: oneshot::Sender<Duration>,
    what: Leaver,
}

/// What leaves a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaver {
    /// A session that is only being made.
    Opening,
    /// A session whose question is not answered.
    Silent,
    /// A session that has nothing left to do: it is gone in a moment.
    Idle,
}

impl Leaver {
    /// How long it may still take when its place is needed.
    fn may_take(self) -> Duration {
        match self {
            Self::Opening | Self::Silent => HURRY,
            Self::Idle => GOODBYE,
        }
    }
}

/// One of them; free again when the last copy is dropped.
#[derive(Debug, Clone)]
pub(in crate::probe) struct Place {
    /// `None` where the places were closed, which nobody does.
    _permit: Option<Arc<OwnedSemaphorePermit>>,
    places: Places,
}

impl Places {
    /// At least one.
    pub(super) fn new(max: u32) -> Self {
        let all = max.max(1);
        let places = usize::try_from(all).unwrap_or(Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(places)), all, lingering: Arc::default() }
    }

    /// Takes one, as soon as there is one. Where there is none, what began to leave last has to hurry.
    pub(super) async fn take(&self) -> Place {
        if self.free.available_permits() == 0 {
            // Those that have left do not hear it.
            while self.pop().is_some_and(|last| last.hurry.send(last.what.may_take()).is_err()) {}
        }
        let permit = Arc::clone(&self.free).acquire_owned().await.ok().map(Arc::new);
        Place { _permit: permit, places: self.clone() }
    }

    /// Sessions that were given up and have not left.
    pub(super) fn given_up(&self) -> u32 {
        let lingering = self.lingering.lock().unwrap_or_else(PoisonError::into_inner);
        let here = lingering.iter().filter(|it| it.what == Leaver::Silent && !it.hurry.is_closed());
        u32::try_from(here.count()).unwrap_or(u32::MAX)
    }

    /// Ends when nobody has one, soon.
    pub(super) fn all_left(self) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            while let Some(last) = self.pop() {
                let _ = last.hurry.send(GOODBYE);
            }
            let _ = self.free.acquire_many(self.all).await;
        })
    }

    fn pop(&self) -> Option<Lingering> {
        self.lingering.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

impl Place {
    /// Work on what is to be a session in this place. Should nobody wait for it any more, it goes on without us,
    /// and `farewell` gets what comes of it.
    pub(in crate::probe) fn see_through<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
        farewell: fn(T) -> BoxFuture<'static, ()>,
    ) -> SeenThrough<T> {
        SeenThrough { work: Some(Box::pin(work)), farewell, place: self.clone() }
    }

    /// Has it leave in the background, in its own time unless the place is needed.
    fn linger(self, what: Leaver, leaving: impl Future<Output = ()> + Send + 'static) {
        let (hurry, hurried) = oneshot::channel();
        let mut lingering = self.places.lingering.lock().unwrap_or_else(PoisonError::into_inner);
        lingering.retain(|it| !it.hurry.is_closed());
        lingering.push(Lingering { hurry, what });
        drop(lingering);
        in_background(Some(self), LINGER, async move {
            let hurried = async {
                match hurried.await {
                    Ok(limit) => tokio::time::sleep(limit).await,
                    Err(_) => std::future::pending().await,
                }
            };
            tokio::select! {
                () = leaving => {}
                () = hurried => {}
            }
        });
    }
}

/// See [`Place::see_through`].
pub(in crate::probe) struct SeenThrough<T: Send + 'static> {
    /// `None` once it is done.
    work: Option<BoxFuture<'static, T>>,
    farewell: fn(T) -> BoxFuture<'static, ()>,
    place: Place,
}

impl<T: Send + 'static> Future for SeenThrough<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let this = self.get_mut();
        let Some(work) = &mut this.work else { return Poll::Pending };
        let done = ready!(work.as_mut().poll(cx));
        this.work = None;
        Poll::Ready(done)
    }
}

impl<T: Send + 'static> Drop for SeenThrough<T> {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            let farewell = self.farewell;
            self.place.clone().linger(Leaver::Opening, async move { farewell(work.await).await });
        }
    }
}

/// A session in its place. Where a check is ended from outside, it is dropped in the middle of a question, and says
/// goodbye all the same.
pub(in crate::probe) struct Seated<S: Session> {
    /// `None` once it is leaving.
    session: Option<S>,
    place: Option<Place>,
    address: Option<SocketAddr>,
}

impl<S: Session> Seated<S> {
    /// A session that leads to this address.
    pub(in crate::probe) fn new(session: S, place: Place, address: Option<SocketAddr>) -> Self {
        Self { session: Some(session), place: Some(place), address }
    }

    /// The address that it leads to.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The session.
    #[expect(clippy::expect_used, reason = "it is taken only by what consumes the whole")]
    pub(in crate::probe) fn session(&mut self) -> &mut S {
        self.session.as_mut().expect("a session in its place")
    }

    /// Ends it politely, in the background.
    pub(in crate::probe) fn leave(mut self) {
        if let (Some(session), Some(place)) = (self.session.take(), self.place.take()) {
            place.linger(Leaver::Idle, session.goodbye());
        }
    }

    /// The same for one that may have to hear an answer first.
    pub(super) fn give_up(mut self) {
        if let (Some(session), Some(place)) = (self.session.take(), self.place.take()) {
            place.linger(Leaver::Silent, session.goodbye());
        }
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
fn in_background(place: Option<Place>, limit: Duration, goodbye: impl Future<Output = ()> + Send + 'static) {
    // At the end of a process there may be no runtime left to be polite with.
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(async move {
            let _place = place;
            let _ = tokio::time::timeout(limit, goodbye).await;
        });
    }
}
