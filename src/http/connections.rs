//! The connections of a listener: how many there may be, and who leaves where there are too many.
//!
//! A client that connects and says nothing, sends half a request, or does not take its answer holds a place and
//! a descriptor. One measure serves for all of them: how long ago something was last written to it. Beyond
//! [`SILENCE_MAX`] its connection is closed; and where all places are taken, the connection that has been
//! without an answer for longest leaves for the new one. So whoever calls is let in, however many others only
//! sit there, and a health question is answered long before it could become the oldest.
//!
//! In HTTP/2 a client can have us write whenever it likes, by a `PING`, and take nothing of what it asked for. So
//! there answers alone count, and what is taken of them.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Version;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

use crate::clock::Clock;

/// How long a connection may go without an answer: while it is idle, while it sends its request, while it does
/// not take what it asked for.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Bytes that are read of one connection before others have their turn. Requests are a hundredth of it; a flood of
/// `PING`s is read for as long as there is more of it.
const GO: usize = 32 * 1024;

/// The connections of one listener. Owned by its accept loop.
#[derive(Debug)]
pub(super) struct Connections {
    clock: Clock,
    max: usize,
    tasks: JoinSet<()>,
    held: HashMap<Id, Held>,
}

#[derive(Debug)]
struct Held {
    written: Written,
    task: AbortHandle,
}

impl Connections {
    /// None yet, and never more than `max`.
    pub(super) fn new(clock: Clock, max: usize) -> Self {
        Self { clock, max, tasks: JoinSet::new(), held: HashMap::new() }
    }

    /// Takes a connection in, which `serve` serves to its end.
    pub(super) async fn add<T, F>(&mut self, stream: T, serve: impl FnOnce(Watched<T>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.forget(ended);
        }
        while self.tasks.len() >= self.max {
            // One that is leaving already makes room enough.
            if self.held.len() == self.tasks.len() {
                self.close_oldest();
            }
            // It is gone, with its descriptor, the next time its task is looked at.
            self.ended().await;
        }
        let written = Written::now(self.clock);
        let task = self.tasks.spawn(serve(Watched { stream, written: written.clone(), read: 0 }));
        self.held.insert(task.id(), Held { written, task });
    }

    /// Waits until a connection has ended; for ever where there is none.
    pub(super) async fn ended(&mut self) {
        match self.tasks.join_next_with_id().await {
            Some(ended) => self.forget(ended),
            None => std::future::pending().await,
        }
    }

    fn forget(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            // Closed by us; or it panicked, which took nobody else along.
            Err(error) => error.id(),
        };
        self.held.remove(&id);
    }

    /// Closes those that have been without an answer for too long.
    pub(super) fn close_silent(&mut self) {
        self.held.retain(|_, held| {
            let silent = held.written.ago() > SILENCE_MAX;
            if silent {
                held.task.abort();
            }
            !silent
        });
    }

    /// Closes the one that has been without an answer for longest; `false` where there is none.
    pub(super) fn close_oldest(&mut self) -> bool {
        let oldest = self.held.iter().min_by_key(|(_, held)| held.written.micros());
        let Some(oldest) = oldest.map(|(id, _)| *id).and_then(|id| self.held.remove(&id)) else {
            return false;
        };
        oldest.task.abort();
        true
    }
}

/// When something was last written to a connection, or when it was accepted. Copies are the same moment.
#[derive(Debug, Clone)]
pub(super) struct Written {
    clock: Clock,
    moment: Arc<Moment>,
}

#[derive(Debug, Default)]
struct Moment {
    /// Microseconds after the clock's origin.
    at: AtomicU64,
    /// Whether it is answers that count, and not all that is written.
    of_answers: AtomicBool,
}

impl Written {
    /// Now is the moment.
    pub(super) fn now(clock: Clock) -> Self {
        let written = Self { clock, moment: Arc::default() };
        written.note();
        written
    }

    /// A request of this version was answered.
    pub(super) fn answered(&self, version: Version) {
        if version == Version::HTTP_2 {
            self.moment.of_answers.store(true, Ordering::Relaxed);
            self.note();
        }
    }

    /// The client took a part of an answer.
    pub(super) fn taken(&self) {
        if self.moment.of_answers.load(Ordering::Relaxed) {
            self.note();
        }
    }

    /// Bytes were written, whatever they are.
    fn bytes(&self) {
        if !self.moment.of_answers.load(Ordering::Relaxed) {
            self.note();
        }
    }

    fn note(&self) {
        let now = self.clock.mono().since_origin().as_micros();
        self.moment.at.store(u64::try_from(now).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn micros(&self) -> u64 {
        self.moment.at.load(Ordering::Relaxed)
    }

    fn ago(&self) -> Duration {
        self.clock.mono().since_origin().saturating_sub(Duration::from_micros(self.micros()))
    }
}

/// A stream that notes when something is written to it, and does not keep its reader for ever.
#[derive(Debug)]
pub(super) struct Watched<T> {
    stream: T,
    written: Written,
    /// Bytes read since others last had their turn.
    read: usize,
}

impl<T> Watched<T> {
    /// For who knows what is written.
    pub(super) fn written(&self) -> Written {
        self.written.clone()
    }

    fn noted(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(result, Poll::Ready(Ok(1..))) {
            self.written.bytes();
        }
        result
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read >= GO {
            self.read = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        match result {
            Poll::Ready(_) => self.read += buf.filled().len() - before,
            Poll::Pending => self.read = 0,
        }
        result
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.noted(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.noted(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use futures_util::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    /// Answers each byte with a byte, until the client hangs up.
    async fn echo(mut stream: Watched<DuplexStream>) {
        let mut byte = [0];
        while let Ok(1) = stream.read(&mut byte).await {
            if stream.write_all(&byte).await.is_err() {
                return;
            }
        }
    }

    async fn client(connections: &mut Connections) -> DuplexStream {
        let (ours, theirs) = duplex(16);
        connections.add(theirs, echo).await;
        ours
    }

    async fn ask(client: &mut DuplexStream) -> io::Result<u8> {
        client.write_u8(b'?').await?;
        client.read_u8().await
    }

    async fn pass(span: Duration) {
        tokio::time::advance(span).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_one_without_an_answer_for_longest_leaves_for_the_new_one() {
        let mut connections = Connections::new(Clock::start(), 3);
        let mut clients = Vec::new();
        for _ in 0..3 {
            clients.push(client(&mut connections).await);
            pass(Duration::from_millis(1)).await;
        }
        // The first is asked again, so the second is the oldest; sending alone does not count.
        ask(&mut clients[0]).await.unwrap();
        pass(Duration::from_millis(1)).await;
        clients.push(client(&mut connections).await);
        assert!(ask(&mut clients[1]).await.is_err());
        for served in [0, 2, 3] {
            assert_eq!(ask(&mut clients[served]).await.unwrap(), b'?', "{served}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_leaves_where_somebody_has_left() {
        let mut connections = Connections::new(Clock::start(), 3);
        let mut clients = Vec::new();
        for _ in 0..3 {
            clients.push(client(&mut connections).await);
            pass(Duration::from_millis(1)).await;
        }
        // One hangs up by itself, and one is closed for its silence.
        drop(clients.pop());
        tokio::task::yield_now().await;
        clients.push(client(&mut connections).await);
        pass(SILENCE_MAX / 2).await;
        for served in [1, 2] {
            ask(&mut clients[served]).await.unwrap();
        }
        pass(SILENCE_MAX / 2 + Duration::from_millis(10)).await;
        connections.close_silent();
        clients.push(client(&mut connections).await);
        for served in [1, 2, 3] {
            assert_eq!(ask(&mut clients[served]).await.unwrap(), b'?', "{served}");
        }
        assert!(ask(&mut clients[0]).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_calls_is_served_while_thousands_are_silent() {
        let mut connections = Connections::new(Clock::start(), 100);
        let mut silent = Vec::new();
        for _ in 0..2_000 {
            silent.push(client(&mut connections).await);
            assert!(connections.tasks.len() <= 100, "descriptors are bounded, too");
        }
        let mut caller = client(&mut connections).await;
        assert_eq!(ask(&mut caller).await.unwrap(), b'?');
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_a_connection_and_answers_keep_it() {
        let mut connections = Connections::new(Clock::start(), 10);
        let mut silent = client(&mut connections).await;
        let mut asking = client(&mut connections).await;
        for _ in 0..10 {
            pass(SILENCE_MAX / 5).await;
            ask(&mut asking).await.unwrap();
            connections.close_silent();
        }
        assert_eq!(ask(&mut asking).await.unwrap(), b'?');
        assert!(ask(&mut silent).await.is_err());
        connections.ended().await;
        assert_eq!((connections.tasks.len(), connections.held.len()), (1, 1));
        drop(asking);
        connections.ended().await;
        assert_eq!((connections.tasks.len(), connections.held.len()), (0, 0));
        assert!(!connections.close_oldest());
    }

    #[tokio::test(start_paused = true)]
    async fn in_http_2_answers_count_and_what_is_taken_of_them() {
        let written = Written::now(Clock::start());
        let after = |pause: Duration, what: fn(&Written)| {
            let written = written.clone();
            async move {
                pass(pause).await;
                what(&written);
                written.ago()
            }
        };
        let second = Duration::from_secs(1);
        assert_eq!(after(second, |it| it.taken()).await, second, "HTTP/1 is judged by what is written");
        assert_eq!(after(second, |it| it.answered(Version::HTTP_11)).await, 2 * second);
        assert_eq!(after(second, |it| it.bytes()).await, Duration::ZERO);
        assert_eq!(after(second, |it| it.answered(Version::HTTP_2)).await, Duration::ZERO);
        assert_eq!(after(second, |it| it.bytes()).await, second, "a PING's answer, say");
        assert_eq!(after(second, |it| it.taken()).await, Duration::ZERO);
    }

    #[tokio::test]
    async fn who_sends_without_end_does_not_keep_others_from_their_turn() {
        let written = Written::now(Clock::start());
        let mut stream = Watched { stream: tokio::io::repeat(b'x'), written, read: 0 };
        let read = AtomicUsize::new(0);
        let mut reading = Box::pin(async {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                read.fetch_add(count, Ordering::Relaxed);
            }
        });
        for turn in 1..=3 {
            assert!(reading.as_mut().now_or_never().is_none());
            assert_eq!(read.load(Ordering::Relaxed), turn * GO);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_frees_its_place() {
        let mut connections = Connections::new(Clock::start(), 1);
        let (_ours, theirs) = duplex(16);
        connections.add(theirs, async |_stream| panic!("on purpose")).await;
        connections.ended().await;
        let mut next = client(&mut connections).await;
        assert_eq!(ask(&mut next).await.unwrap(), b'?');
    }
}
