//! A stream that somebody listens to: what passes is heard on its way, by who needs to know more than the
//! library that speaks over it will tell.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Listens to what a stream receives, and what it sends.
pub trait Tap: Unpin {
    /// Whether it is to hear, too, what was received and not read when writing fails: who cuts a connection may have
    /// said why before. The reader of the stream, who does not get it any more, has to be one that gives up then.
    const LAST_WORDS: bool = false;

    /// These bytes were received. An error takes their place, and so ends the connection.
    fn hear(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// These bytes were sent.
    fn sent(&mut self, _bytes: &[u8]) {}

    /// The peer has ended the connection, and nothing more will be received.
    fn closed(&mut self) {}

    /// The user of the stream gets this error, whoever it comes from.
    fn ended(&mut self, _error: &io::Error) {}
}

/// So much is still heard of a peer that has cut the connection while it was written to.
const LAST_WORDS_MAX: usize = 1024;

/// A stream and who listens to it.
#[derive(Debug)]
pub struct Tapped<S, T> {
    stream: S,
    tap: T,
    /// Writing failed by this, and the last words are still to be heard.
    cut: Option<io::Error>,
}

impl<S, T> Tapped<S, T> {
    /// Has `tap` hear what `stream` receives.
    pub fn new(stream: S, tap: T) -> Self {
        Self { stream, tap, cut: None }
    }

    /// The stream.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// Who listens.
    pub fn tap(&self) -> &T {
        &self.tap
    }
}

impl<S: AsyncRead + Unpin, T: Tap> AsyncRead for Tapped<S, T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let (before, room) = (buf.filled().len(), buf.remaining());
        let result = ready!(Pin::new(&mut this.stream).poll_read(cx, buf)).and_then(|()| {
            match &buf.filled()[before..] {
                [] if room > 0 => {
                    this.tap.closed();
                    // The socket gives its error once, and writing has had it.
                    return this.cut.take().map_or(Ok(()), Err);
                }
                [] => {}
                bytes => this.tap.hear(bytes)?,
            }
            Ok(())
        });
        Poll::Ready(result.inspect_err(|error| this.tap.ended(error)))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, T: Tap> AsyncWrite for Tapped<S, T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let error = match this.cut.take() {
            Some(error) => error,
            None => match ready!(Pin::new(&mut this.stream).poll_write(cx, data)) {
                Ok(written) => {
                    this.tap.sent(&data[..written]);
                    return Poll::Ready(Ok(written));
                }
                Err(error) => error,
            },
        };
        if T::LAST_WORDS {
            let mut last = [0; LAST_WORDS_MAX];
            let mut last = ReadBuf::new(&mut last);
            match Pin::new(&mut this.stream).poll_read(cx, &mut last) {
                Poll::Ready(Ok(())) if last.filled().is_empty() => {}
                Poll::Ready(Ok(())) => {
                    let _ = this.tap.hear(last.filled());
                }
                // Such as the alert that ended a TLS session.
                Poll::Ready(Err(error)) => this.tap.ended(&error),
                // What cut the connection makes it readable; the runtime has only not noticed yet.
                Poll::Pending => {
                    this.cut = Some(error);
                    return Poll::Pending;
                }
            }
        }
        this.tap.ended(&error);
        Poll::Ready(Err(error))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Keeps all it hears, and takes offence at a word.
    #[derive(Default)]
    struct Ear {
        heard: Vec<u8>,
        told: Option<io::ErrorKind>,
        closed: bool,
    }

    impl Tap for Ear {
        const LAST_WORDS: bool = true;

        fn hear(&mut self, bytes: &[u8]) -> io::Result<()> {
            self.heard.extend_from_slice(bytes);
            match bytes.ends_with(b"no") {
                true => Err(io::ErrorKind::InvalidData.into()),
                false => Ok(()),
            }
        }

        fn closed(&mut self) {
            self.closed = true;
        }

        fn ended(&mut self, error: &io::Error) {
            self.told = Some(error.kind());
        }
    }

    #[tokio::test]
    async fn the_end_is_heard_and_so_are_last_words_that_nobody_read() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut tapped = Tapped::new(near, Ear::default());
        far.write_all(b"go away").await.unwrap();
        drop(far);
        assert_eq!(tapped.write(b"hello").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(tapped.tap().heard, b"go away");
        assert_eq!(tapped.tap().told, Some(io::ErrorKind::BrokenPipe));
        assert!(!tapped.tap().closed);
        assert_eq!(tapped.read(&mut [0]).await.unwrap(), 0);
        assert!(tapped.tap().closed);
    }

    /// Cut, and it takes the runtime so many looks to notice that there is something to read.
    struct Cut {
        looks: u32,
        words: &'static [u8],
    }

    impl AsyncRead for Cut {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if self.looks > 0 {
                self.looks -= 1;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            buf.put_slice(self.words);
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Cut {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn last_words_are_waited_for_until_they_can_be_read() {
        for looks in 0..3 {
            let mut tapped = Tapped::new(Cut { looks, words: b"go away" }, Ear::default());
            assert_eq!(tapped.write(b"hello").await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
            assert_eq!(tapped.tap().heard, b"go away", "after {looks}");
            assert_eq!(tapped.tap().told, Some(io::ErrorKind::ConnectionReset));
        }
    }

    #[tokio::test]
    async fn who_reads_after_the_cut_is_told_of_it_and_not_of_an_end() {
        let mut tapped = Tapped::new(Cut { looks: 1, words: b"go away" }, Ear::default());
        let write = futures_util::poll!(std::pin::pin!(tapped.write(b"hello")));
        assert!(write.is_pending(), "the last words are still to come");
        let mut words = [0; 7];
        assert_eq!(tapped.read(&mut words).await.unwrap(), 7);
        tapped.stream.words = b"";
        assert_eq!(tapped.read(&mut words).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(tapped.tap().told, Some(io::ErrorKind::ConnectionReset));
    }

    #[tokio::test]
    async fn what_passes_is_heard_once_and_an_offence_ends_it() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut tapped = Tapped::new(near, Ear::default());
        let mut buffer = [0; 5];
        far.write_all(b"hello").await.unwrap();
        tapped.read_exact(&mut buffer[..2]).await.unwrap();
        tapped.read_exact(&mut buffer[2..]).await.unwrap();
        assert_eq!((&buffer, tapped.tap().heard.as_slice()), (b"hello", b"hello".as_slice()));
        tapped.write_all(b"back").await.unwrap();
        far.read_exact(&mut buffer[..4]).await.unwrap();
        assert_eq!(
            (&buffer[..4], tapped.tap().heard.len()),
            (b"back".as_slice(), 5),
            "what is sent is not heard"
        );
        far.write_all(b"no").await.unwrap();
        assert_eq!(tapped.read(&mut buffer).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(tapped.tap().told, Some(io::ErrorKind::InvalidData));
    }
}
