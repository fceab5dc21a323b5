//! The connections of a listener: how many there may be, and who leaves where there are too many.
//!
//! A client that connects and says nothing, sends half a request, or does not take its answer holds a place and
//! a descriptor. One measure serves for all of them: how long ago something was last written to it. Beyond
//! [`SILENCE_MAX`] its connection is closed; and where all places are taken, the connection that has been
//! without an answer for longest leaves for the new one. So whoever calls is let in, however many others only
//! sit there, and a health question is answered long before it could become the oldest.
//!
//! What an operator ordered can take longer than that. While we owe the answer to a request that was authorised, its
//! connection counts as one that was just answered; it leaves for another only where all others are such, too.
//!
//! In HTTP/2 a client can have us write whenever it likes, by a `PING` or one more request, and take nothing of what
//! it asked for before. So there the measure is when last all of its answers were taken.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

use super::counts::Counts;
use crate::clock::Clock;

/// How long a connection may go without an answer: while it is idle, while it sends its request, while it does
/// not take what it asked for.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Bytes that are read of one connection before others have their turn. Requests are a hundredth of it; a flood of
/// `PING`s is read for as long as there is more of it.
const READ_PER_TURN: usize = 32 * 1024;

/// What an HTTP/2 connection begins with (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The connections of one listener. Owned by its accept loop.
#[derive(Debug)]
pub(super) struct Connections {
    clock: Clock,
    max: usize,
    counts: Arc<Counts>,
    tasks: JoinSet<()>,
    /// Of these tasks, those that have not been told to end.
    places: HashMap<Id, Place>,
}

#[derive(Debug)]
struct Place {
    written: Written,
    task: AbortHandle,
}

impl Connections {
    /// None yet, and never more than `max`; what becomes of them is counted.
    pub(super) fn new(clock: Clock, max: usize, counts: Arc<Counts>) -> Self {
        Self { clock, max, counts, tasks: JoinSet::new(), places: HashMap::new() }
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
            if self.places.len() == self.tasks.len() {
                self.close_oldest();
            }
            // It is gone, with its descriptor, the next time its task is looked at.
            self.ended().await;
        }
        let written = Written::now(self.clock);
        let task = self.tasks.spawn(serve(Watched::new(stream, written.clone())));
        self.places.insert(task.id(), Place { written, task });
        self.counts.accepted.add();
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
        self.places.remove(&id);
        self.counts.ended.add();
    }

    /// Closes those that have been without an answer for too long.
    pub(super) fn close_silent(&mut self) {
        let counts = &self.counts;
        self.places.retain(|_, place| {
            let silent = !place.written.owes() && place.written.ago() > SILENCE_MAX;
            if silent {
                place.task.abort();
                counts.silent.add();
            }
            !silent
        });
    }

    /// Closes the one that has been without an answer for longest, of those to which none is owed as long as there are
    /// such; `false` where there is none.
    pub(super) fn close_oldest(&mut self) -> bool {
        let oldest =
            self.places.iter().min_by_key(|(_, place)| (place.written.owes(), place.written.micros()));
        let Some(oldest) = oldest.map(|(id, _)| *id).and_then(|id| self.places.remove(&id)) else {
            return false;
        };
        oldest.task.abort();
        self.counts.displaced.add();
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
    /// Whether answers count, and not all that is written.
    http_2: AtomicBool,
    /// Answers of HTTP/2 of which there is still something here.
    untaken: AtomicUsize,
    /// Answers that take as long as they take.
    owed: AtomicUsize,
}

/// As long as it is there, an answer is owed to the connection. When it goes is a moment that counts.
#[derive(Debug)]
pub(super) struct Owed(Written);

impl Drop for Owed {
    fn drop(&mut self) {
        self.0.note();
        self.0.moment.owed.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Written {
    /// Now is the moment.
    pub(super) fn now(clock: Clock) -> Self {
        let written = Self { clock, moment: Arc::default() };
        written.note();
        written
    }

    /// The body of an answer over HTTP/2. Once nothing of it is left here, and of no other, either, is a moment that
    /// counts. Slices of it keep it: the protocol takes a slice when there is room for a byte of it, and has the rest
    /// of it wait.
    pub(super) fn answer(&self, body: Bytes) -> Bytes {
        self.moment.untaken.fetch_add(1, Ordering::Relaxed);
        Bytes::from_owner(Untaken { body, written: self.clone() })
    }

    /// An answer is on its way, and is not waited for in vain.
    pub(super) fn owe(&self) -> Owed {
        self.moment.owed.fetch_add(1, Ordering::Relaxed);
        Owed(self.clone())
    }

    fn owes(&self) -> bool {
        self.moment.owed.load(Ordering::Relaxed) > 0
    }

    /// Bytes were written, whatever they are.
    fn bytes(&self) {
        if !self.moment.http_2.load(Ordering::Relaxed) {
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

/// An answer over HTTP/2.
struct Untaken {
    body: Bytes,
    written: Written,
}

impl AsRef<[u8]> for Untaken {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

impl Drop for Untaken {
    fn drop(&mut self) {
        if self.written.moment.untaken.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.written.note();
        }
    }
}

/// A stream that notes when something is written to it, and does not keep its reader for ever.
#[derive(Debug)]
pub(super) struct Watched<T> {
    stream: T,
    written: Written,
    /// What is to come yet of HTTP/2's preface; `None` once it is known which protocol is spoken.
    preface: Option<&'static [u8]>,
    /// Bytes read since others last had their turn.
    read: usize,
}

impl<T> Watched<T> {
    fn new(stream: T, written: Written) -> Self {
        Self { stream, written, preface: Some(PREFACE), read: 0 }
    }

    /// For who knows what is written.
    pub(super) fn written(&self) -> Written {
        self.written.clone()
    }

    /// Tells the protocol by the first bytes that come. By an answer would be too late: there may never be one.
    fn recognise(&mut self, came: &[u8]) {
        let Some(expected) = self.preface else { return };
        self.preface = expected.strip_prefix(came);
        if came.starts_with(expected) {
            self.preface = None;
            self.written.moment.http_2.store(true, Ordering::Relaxed);
        }
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
        if self.read >= READ_PER_TURN {
            self.read = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        match result {
            Poll::Ready(_) => {
                let came = &buf.filled()[before..];
                self.read += came.len();
                self.recognise(came);
            }
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

    fn at_most(max: usize) -> Connections {
        Connections::new(Clock::start(), max, Arc::default())
    }

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
        let mut connections = at_most(3);
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
        let mut connections = at_most(3);
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
        let mut connections = at_most(100);
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
        let mut connections = at_most(10);
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
        assert_eq!((connections.tasks.len(), connections.places.len()), (1, 1));
        drop(asking);
        connections.ended().await;
        assert_eq!((connections.tasks.len(), connections.places.len()), (0, 0));
        assert!(!connections.close_oldest());
    }

    /// A stream that a client has sent this on, in pieces, and an answer has been written to a second later.
    async fn began_with(pieces: &[&[u8]]) -> Watched<DuplexStream> {
        let (mut ours, theirs) = duplex(64);
        let mut stream = Watched::new(theirs, Written::now(Clock::start()));
        for piece in pieces {
            ours.write_all(piece).await.unwrap();
            let mut came = [0; 64];
            assert_eq!(stream.read(&mut came).await.unwrap(), piece.len());
        }
        pass(Duration::from_secs(1)).await;
        stream.write_all(b"an answer, or that of a PING").await.unwrap();
        stream
    }

    #[tokio::test(start_paused = true)]
    async fn in_http_2_what_is_written_does_not_count() {
        let (first, rest) = PREFACE.split_at(5);
        let with_more = [PREFACE, b"\0\0\0\x04"].concat();
        for http_2 in [&[PREFACE][..], &[first, rest], &[&with_more]] {
            assert_eq!(began_with(http_2).await.written.ago(), Duration::from_secs(1), "{http_2:?}");
        }
        let get = b"GET / HTTP/1.1\r\n".as_slice();
        for http_1 in [&[get][..], &[b"P", b"OST"], &[first, b"HTTP/1.1\r\n"], &[get, PREFACE], &[first]] {
            assert_eq!(began_with(http_1).await.written.ago(), Duration::ZERO, "{http_1:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn in_http_2_it_counts_when_all_answers_are_taken() {
        let written = Written::now(Clock::start());
        let second = Duration::from_secs(1);
        pass(second).await;
        let mut first = written.answer(Bytes::from_static(b"first"));
        drop(written.answer(Bytes::from_static(b"second")));
        assert_eq!(written.ago(), second, "the first is not taken");
        let slice = first.split_to(1);
        drop(first);
        assert_eq!((written.ago(), &*slice), (second, b"f".as_slice()), "some of it waits");
        drop(slice);
        assert_eq!(written.ago(), Duration::ZERO);
        pass(second).await;
        // The answer to a `HEAD`.
        drop(written.answer(Bytes::new()));
        assert_eq!(written.ago(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_comes_and_leaves_is_counted() {
        let mut connections = at_most(2);
        let counted = |connections: &Connections| {
            let Counts { accepted, ended, silent, displaced, .. } = &*connections.counts;
            [accepted, ended, silent, displaced].map(super::super::counts::Count::get)
        };
        let mut clients = vec![client(&mut connections).await, client(&mut connections).await];
        assert_eq!(counted(&connections), [2, 0, 0, 0]);
        clients.push(client(&mut connections).await);
        assert_eq!(counted(&connections), [3, 1, 0, 1], "one was displaced");
        drop(clients.pop());
        connections.ended().await;
        assert_eq!(counted(&connections), [3, 2, 0, 1], "one has left by itself");
        pass(2 * SILENCE_MAX).await;
        connections.close_silent();
        connections.ended().await;
        assert_eq!(counted(&connections), [3, 3, 1, 1], "one was silent");
    }

    #[tokio::test]
    async fn who_sends_without_end_does_not_keep_others_from_their_turn() {
        let written = Written::now(Clock::start());
        let mut stream = Watched::new(tokio::io::repeat(b'x'), written);
        let read = AtomicUsize::new(0);
        let mut reading = Box::pin(async {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                read.fetch_add(count, Ordering::Relaxed);
            }
        });
        for turn in 1..=3 {
            assert!(reading.as_mut().now_or_never().is_none());
            assert_eq!(read.load(Ordering::Relaxed), turn * READ_PER_TURN);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn to_whom_an_answer_is_owed_stays_and_is_silent_only_from_then_on() {
        let mut connections = at_most(2);
        let (owing, owed) = tokio::sync::oneshot::channel();
        let (_ours, theirs) = duplex(16);
        let serve = |stream: Watched<DuplexStream>| {
            owing.send(stream.written().owe()).unwrap();
            std::future::pending()
        };
        connections.add(theirs, serve).await;
        let owed = owed.await.unwrap();
        pass(2 * SILENCE_MAX).await;
        connections.close_silent();
        let mut second = client(&mut connections).await;
        let _third = client(&mut connections).await;
        assert!(ask(&mut second).await.is_err(), "the second is younger, and leaves");
        assert_eq!(connections.places.len(), 2);
        drop(owed);
        pass(SILENCE_MAX).await;
        connections.close_silent();
        assert_eq!(connections.places.len(), 2, "it was answered just then");
        pass(Duration::from_millis(1)).await;
        connections.close_silent();
        assert_eq!(connections.places.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn one_leaves_also_where_an_answer_is_owed_to_all() {
        let mut connections = at_most(1);
        let (_ours, theirs) = duplex(16);
        connections
            .add(theirs, |stream: Watched<DuplexStream>| async move {
                let _owed = stream.written().owe();
                std::future::pending().await
            })
            .await;
        tokio::task::yield_now().await;
        let mut next = client(&mut connections).await;
        assert_eq!(ask(&mut next).await.unwrap(), b'?');
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_frees_its_place() {
        let mut connections = at_most(1);
        let (_ours, theirs) = duplex(16);
        connections.add(theirs, async |_stream| panic!("on purpose")).await;
        connections.ended().await;
        let mut next = client(&mut connections).await;
        assert_eq!(ask(&mut next).await.unwrap(), b'?');
    }
}
