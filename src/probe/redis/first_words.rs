//! What a Redis server says before it is asked.
//!
//! One that is full, or in protected mode, writes its reason and closes the connection. The client library has
//! no request to give that answer to and drops it; what would be left to tell is a reset. So the first line
//! is heard on its way through, and so is the error that ends the connection, of which the library tells less.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use crate::health::{Failure, Phase};
use crate::net::connect;
use crate::net::tap::Tap;
use crate::probe::shown;

/// An error line is a sentence or two; Redis' longest, of the protected mode, has about 900 bytes.
const LINE_MAX: usize = 1024;

/// What was heard.
#[derive(Debug, Clone, Default)]
pub(super) struct FirstWords(Arc<Mutex<Words>>);

#[derive(Debug, Default)]
struct Words {
    /// The first line, as far as it has come.
    line: Vec<u8>,
    /// What ended the connection.
    end: Option<Failure>,
}

impl FirstWords {
    /// The error that the server began with: its code and its text.
    pub(super) fn error(&self) -> Option<(String, String)> {
        let words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let line = words.line.split(|byte| matches!(byte, b'\r' | b'\n')).next()?;
        let line = String::from_utf8_lossy(line.strip_prefix(b"-")?).into_owned();
        let (code, text) = line.split_once(' ')?;
        Some((code.to_owned(), text.to_owned()))
    }

    /// What ended the connection, where the socket told.
    pub(super) fn end(&self, phase: Phase) -> Option<Failure> {
        let words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        words.end.clone().map(|failure| Failure { phase, ..failure })
    }
}

impl Tap for FirstWords {
    /// An error where what begins here is not Redis.
    fn hear(&mut self, bytes: &[u8]) -> io::Result<()> {
        /// What an answer can begin with (the specification of RESP, versions 2 and 3).
        const TYPES: &[u8] = b"+-:$*_#,(!=%~>|";
        let line = &mut self.0.lock().unwrap_or_else(PoisonError::into_inner).line;
        if let (true, [first, ..]) = (line.is_empty(), bytes)
            && !TYPES.contains(first)
        {
            let what = format!("what answers is not Redis: it began with \"{}\"", shown(bytes));
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        if line.len() < LINE_MAX && !line.contains(&b'\n') {
            let room = LINE_MAX - line.len();
            line.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        Ok(())
    }

    fn ended(&mut self, error: &io::Error) {
        let mut words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        words.end.get_or_insert_with(|| connect::failure(Phase::Query, error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_kept_and_only_an_error_is_one() {
        let mut words = FirstWords::default();
        for piece in [b"-ERR max ".as_slice(), b"number of clients reached\r\n", b"-OTHER x\r\n"] {
            words.hear(piece).unwrap();
        }
        assert_eq!(words.error(), Some(("ERR".into(), "max number of clients reached".into())));
        let mut fine = FirstWords::default();
        fine.hear(b"+PONG\r\n").unwrap();
        assert_eq!(fine.error(), None);
        assert!(FirstWords::default().hear(b"HTTP/1.1 400 Bad Request\r\n").is_err());
        let mut endless = FirstWords::default();
        (0..1000).for_each(|_| endless.hear(b"-no line at all").unwrap());
        assert_eq!(endless.0.lock().unwrap().line.len(), LINE_MAX);
    }
}
