//! What a Redis server says before it is asked.
//!
//! One that is full, or in protected mode, writes its reason and closes the connection. The client library has
//! no request to give that answer to and drops it; what would be left to tell is a reset. So the first line
//! is heard on its way through.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::Stream;

/// An error line is a sentence or two; Redis' longest, of the protected mode, has about 900 bytes.
const LINE_MAX: usize = 1024;

/// A stream whose first line is kept.
pub(super) struct Heard {
    inner: Stream,
    words: FirstWords,
}

/// The first line, as far as it has come.
#[derive(Debug, Clone, Default)]
pub(super) struct FirstWords(Arc<Mutex<Vec<u8>>>);

impl FirstWords {
    /// The error that the server began with: its code and its text.
    pub(super) fn error(&self) -> Option<(String, String)> {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let line = heard.split(|byte| matches!(byte, b'\r' | b'\n')).next()?;
        let line = String::from_utf8_lossy(line.strip_prefix(b"-")?).into_owned();
        let (code, text) = line.split_once(' ')?;
        Some((code.to_owned(), text.to_owned()))
    }

    fn hear(&self, bytes: &[u8]) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if heard.len() < LINE_MAX && !heard.contains(&b'\n') {
            let room = LINE_MAX - heard.len();
            heard.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    }
}

impl Heard {
    pub(super) fn new(inner: Stream) -> (Self, FirstWords) {
        let words = FirstWords::default();
        (Self { inner, words: words.clone() }, words)
    }
}

impl AsyncRead for Heard {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.inner).poll_read(cx, buf);
        this.words.hear(&buf.filled()[before..]);
        polled
    }
}

impl AsyncWrite for Heard {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, data)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_kept_and_only_an_error_is_one() {
        let words = FirstWords::default();
        for piece in [b"-ERR max ".as_slice(), b"number of clients reached\r\n", b"-OTHER x\r\n"] {
            words.hear(piece);
        }
        assert_eq!(words.error(), Some(("ERR".into(), "max number of clients reached".into())));
        let fine = FirstWords::default();
        fine.hear(b"+PONG\r\n");
        assert_eq!(fine.error(), None);
        let endless = FirstWords::default();
        (0..1000).for_each(|_| endless.hear(b"-no line at all"));
        assert_eq!(endless.0.lock().unwrap().len(), LINE_MAX);
    }
}
