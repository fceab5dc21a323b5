//! What a peer says first, heard on its way to the library that speaks the protocol.
//!
//! A peer that is full, or forbids us, or is something else altogether, often says so before it is asked, and
//! closes the connection. A library has no request to give that answer to and drops it; what would be left to
//! tell is a reset, or by chance something else. So the first line is kept, and so is the error that ends the
//! connection, of which a library tells less.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::shown;
use crate::health::{Failure, FailureKind, Phase};
use crate::net::tap::{Tap, Tapped};
use crate::net::{Stream, connect};

/// A line of this kind is a sentence or two; Redis' longest, of the protected mode, has about 960 bytes.
const LINE_MAX: usize = 1024;

/// Begins a record by which TLS says that it was not spoken to in TLS (RFC 8446, section 5.1).
const TLS_ALERT: u8 = 21;

/// A stream whose first line is kept.
pub(super) type Heard = Tapped<Stream, FirstWords>;

/// How a protocol's answers begin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tongue {
    /// What it is called.
    pub(super) name: &'static str,
    /// Whether an answer can begin with these bytes, of which there is at least one.
    pub(super) begins: fn(&[u8]) -> bool,
}

/// What was heard.
#[derive(Debug, Clone)]
pub(super) struct FirstWords(Arc<Mutex<Words>>);

#[derive(Debug)]
struct Words {
    tongue: Tongue,
    /// The first line, as far as it has come.
    line: Vec<u8>,
    /// What ended the connection.
    end: Option<Failure>,
    /// Whether the peer ended it.
    closed: bool,
}

impl FirstWords {
    /// Listens to a stream.
    pub(super) fn of(tongue: Tongue, stream: Stream) -> (Heard, Self) {
        let words = Self::new(tongue);
        (Tapped::new(stream, words.clone()), words)
    }

    fn new(tongue: Tongue) -> Self {
        Self(Arc::new(Mutex::new(Words { tongue, line: Vec::new(), end: None, closed: false })))
    }

    /// The first line, without its end.
    pub(super) fn line(&self) -> String {
        let words = self.words();
        let line = words.line.split(|byte| matches!(byte, b'\r' | b'\n')).next();
        String::from_utf8_lossy(line.unwrap_or_default()).into_owned()
    }

    /// Whether anything was said at all.
    pub(super) fn begun(&self) -> bool {
        !self.words().line.is_empty()
    }

    /// Whether the peer has closed the connection, in the middle of an answer or not.
    pub(super) fn was_closed(&self) -> bool {
        self.words().closed
    }

    /// What ended the connection: an answer in another tongue, or what the socket told.
    pub(super) fn end(&self, phase: Phase) -> Option<Failure> {
        self.words().end.clone().map(|failure| Failure { phase, ..failure })
    }

    fn words(&self) -> MutexGuard<'_, Words> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tap for FirstWords {
    const LAST_WORDS: bool = true;

    /// An error where what begins here is something else.
    fn hear(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut words = self.words();
        if words.line.len() >= LINE_MAX || words.line.contains(&b'\n') {
            return Ok(());
        }
        let room = LINE_MAX - words.line.len();
        words.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if (words.tongue.begins)(&words.line) {
            return Ok(());
        }
        let failure = words.foreign();
        let error = io::Error::new(io::ErrorKind::InvalidData, failure.message.clone());
        words.end.get_or_insert(failure);
        Err(error)
    }

    fn closed(&mut self) {
        self.words().closed = true;
    }

    fn ended(&mut self, error: &io::Error) {
        self.words().end.get_or_insert_with(|| connect::failure(Phase::Query, error));
    }
}

impl Words {
    fn foreign(&self) -> Failure {
        let name = self.tongue.name;
        if self.line.first() == Some(&TLS_ALERT) {
            let message = format!("the server takes only TLS: it answered plain {name} with a TLS alert");
            return Failure::new(Phase::Query, FailureKind::TlsRequired, message);
        }
        let message = format!("what answers does not speak {name}, it says: \"{}\"", shown(&self.line));
        Failure::new(Phase::Query, FailureKind::Protocol, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> FirstWords {
        FirstWords::new(Tongue {
            name: "X",
            begins: |bytes| b"X/1".starts_with(&bytes[..bytes.len().min(3)]),
        })
    }

    #[test]
    fn the_first_line_is_kept_and_no_more() {
        let mut heard = words();
        assert!(!heard.begun());
        for piece in [b"X/".as_slice(), b"1 hel", b"lo\r\nand", b" more"] {
            heard.hear(piece).unwrap();
        }
        assert_eq!(
            (heard.line().as_str(), heard.begun(), heard.end(Phase::Query)),
            ("X/1 hello", true, None)
        );
        let mut endless = words();
        endless.hear(b"X/1").unwrap();
        (0..1000).for_each(|_| endless.hear(b"no line at all").unwrap());
        assert_eq!(endless.words().line.len(), LINE_MAX);
    }

    #[test]
    fn another_tongue_ends_the_connection_and_is_told() {
        let mut heard = words();
        heard.hear(b"X").unwrap();
        let error = heard.hear(b"220 mail").unwrap_err();
        heard.ended(&error);
        let end = heard.end(Phase::Auth).unwrap();
        assert_eq!((end.kind, end.phase), (FailureKind::Protocol, Phase::Auth));
        assert_eq!(end.message, "what answers does not speak X, it says: \"X220 mail\"");
        let mut tls = words();
        tls.hear(&[TLS_ALERT, 3, 1, 0, 2, 2, 70]).unwrap_err();
        assert_eq!(tls.end(Phase::Query).unwrap().kind, FailureKind::TlsRequired);
    }
}
