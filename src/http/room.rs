//! Room for long answers: how much of them may wait in memory until their clients take them.
//!
//! A client can ask for all of the history, on each of a thousand connections, and take none of it. So an answer of the
//! routes counts until the last of it has gone to its connection; where too much waits already, whoever asks for
//! more of that is refused, before anything is made. The short answers have nothing to do with it: their bytes are
//! shared by all who ask.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// Bytes that may wait before the next is refused: more than a hundred of the usual long answers.
pub(super) const WAITING_MAX: usize = 4 * 1024 * 1024;

/// So much goes out at a time. The connection copies it; all at once it would copy a long answer whole.
const SLICE: usize = 16 * 1024;

/// The room of one listener. Copies are the same room.
#[derive(Debug, Clone, Default)]
pub(super) struct Room(Arc<AtomicUsize>);

impl Room {
    /// Whether too much waits already. An answer that is longer than all the room finds it empty sooner or later.
    pub(super) fn is_full(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= WAITING_MAX
    }

    /// The body of an answer, which takes room until the last of it has gone out.
    pub(super) fn hold(&self, body: Bytes) -> Outgoing {
        let bytes = body.len();
        self.0.fetch_add(bytes, Ordering::Relaxed);
        Outgoing { left: body, _taken: Some(Taken { room: self.clone(), bytes }) }
    }
}

/// Room that is taken.
#[derive(Debug)]
struct Taken {
    room: Room,
    bytes: usize,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.room.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The body of an answer on its way out, in slices.
#[derive(Debug)]
pub(super) struct Outgoing {
    left: Bytes,
    _taken: Option<Taken>,
}

/// A body that takes no room.
impl From<Bytes> for Outgoing {
    fn from(left: Bytes) -> Self {
        Self { left, _taken: None }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let length = self.left.len().min(SLICE);
        Poll::Ready((length > 0).then(|| Ok(Frame::data(self.left.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_body_goes_out_whole_in_slices_and_gives_its_room_back() {
        let room = Room::default();
        let sent: Bytes = (0..40_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let mut body = room.hold(sent.clone());
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(40_000), false));
        let mut came = Vec::new();
        let mut lengths = Vec::new();
        while let Some(Ok(frame)) = body.frame().await {
            assert_eq!(room.0.load(Ordering::Relaxed), 40_000, "the slices are parts of one piece of memory");
            let data = frame.into_data().unwrap();
            lengths.push(data.len());
            came.extend_from_slice(&data);
        }
        assert_eq!((lengths, came), (vec![SLICE, SLICE, 40_000 - 2 * SLICE], sent.to_vec()));
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(0), true));
        drop(body);
        assert_eq!(room.0.load(Ordering::Relaxed), 0, "all was taken");
    }

    #[test]
    fn it_is_full_until_somebody_leaves() {
        let room = Room::default();
        let long = Bytes::from(vec![0; WAITING_MAX / 2]);
        let first = room.hold(long.clone());
        assert!(!room.is_full());
        let second = room.clone().hold(long);
        assert!(room.is_full());
        drop(first);
        assert!(!room.is_full());
        drop(second);
        // One that is longer than all the room is no exception.
        let longest = room.hold(Bytes::from(vec![0; 2 * WAITING_MAX]));
        assert!(room.is_full());
        drop(longest);
        assert!(!room.is_full());
    }
}
