//! The stream as the driver sees it, with manners at both ends of a session.
//!
//! At its beginning the server's first message is heard before the driver acts on it: bytes that are not
//! PostgreSQL's end the session, and so does the wish for a password in clear text without TLS. At its end the server
//! is let hang up first.

use std::convert::Infallible;
use std::fmt;
use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

use crate::health::TlsDetails;
use crate::net::Stream;
use crate::net::tap::{Tap, Tapped};
use crate::probe::shown;

/// The stream to a server.
pub(super) struct Wire(Tapped<Stream, FirstMessage>);

impl Wire {
    /// A stream whose TLS, where it has any, is agreed on, and what is known of that.
    pub(super) fn new(stream: Stream, tls: Option<&TlsDetails>) -> Self {
        Self(Tapped::new(stream, FirstMessage { heard: Vec::new(), encrypted: tls.is_some() }))
    }
}

/// Hands the driver a stream that is ready: its TLS, where it has any, is already agreed on. All that is left
/// for the driver to know is the channel binding, so that SCRAM-SHA-256-PLUS works as if it had done it.
pub(super) struct AgreedOn;

impl TlsConnect<Wire> for AgreedOn {
    type Stream = Wire;
    type Error = Infallible;
    type Future = Ready<Result<Wire, Infallible>>;

    fn connect(self, stream: Wire) -> Self::Future {
        ready(Ok(stream))
    }
}

impl TlsStream for Wire {
    fn channel_binding(&self) -> ChannelBinding {
        match self.0.stream().channel_binding() {
            Some(end_point) => ChannelBinding::tls_server_end_point(end_point),
            None => ChannelBinding::none(),
        }
    }
}

/// The server wants the password in clear text, where everybody on the way could read it.
#[derive(Debug)]
pub(super) struct ClearTextRefused;

impl fmt::Display for ClearTextRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the server asks for the password in clear text")
    }
}

impl std::error::Error for ClearTextRefused {}

/// Hears the server's first message.
struct FirstMessage {
    heard: Vec<u8>,
    /// Whether there is TLS.
    encrypted: bool,
}

/// `AuthenticationCleartextPassword`: `R`, length 8, method 3.
const CLEAR_TEXT: [u8; 9] = [b'R', 0, 0, 0, 8, 0, 0, 0, 3];

impl Tap for FirstMessage {
    fn hear(&mut self, bytes: &[u8]) -> io::Result<()> {
        /// Authentication, an error, a notice, another version of the protocol.
        const FIRST: &[u8] = b"RENv";
        let room = CLEAR_TEXT.len().saturating_sub(self.heard.len());
        if room == 0 {
            return Ok(());
        }
        // The four bytes after the first are a length; of other protocols' first words the driver would make one
        // beyond all measure, and wait for the rest.
        if let (true, [first, ..]) = (self.heard.is_empty(), bytes)
            && !FIRST.contains(first)
        {
            let what = format!("it began with \"{}\"", shown(bytes));
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        self.heard.extend_from_slice(&bytes[..bytes.len().min(room)]);
        // The driver answers a whole message: the last byte of this one it does not get.
        match self.heard == CLEAR_TEXT && !self.encrypted {
            true => Err(io::Error::new(io::ErrorKind::PermissionDenied, ClearTextRefused)),
            false => Ok(()),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, data)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    /// Ends when the server has hung up, too: only then it has the place of this session to give away.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = &mut self.get_mut().0;
        ready!(Pin::new(&mut *stream).poll_shutdown(cx))?;
        let mut rest = [0; 256];
        loop {
            let mut rest = ReadBuf::new(&mut rest);
            match ready!(Pin::new(&mut *stream).poll_read(cx, &mut rest)) {
                Ok(()) if !rest.filled().is_empty() => {}
                Ok(()) | Err(_) => return Poll::Ready(Ok(())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How a first message is taken that comes in these pieces: `None` where the driver gets it.
    fn taken(encrypted: bool, pieces: &[&[u8]]) -> Option<io::ErrorKind> {
        let mut tap = FirstMessage { heard: Vec::new(), encrypted };
        pieces.iter().find_map(|piece| tap.hear(piece).err()).map(|error| error.kind())
    }

    #[test]
    fn a_password_goes_in_clear_text_through_tls_only() {
        let one_by_one: Vec<&[u8]> = CLEAR_TEXT.chunks(1).collect();
        let refused = Some(io::ErrorKind::PermissionDenied);
        assert_eq!(taken(false, &[&CLEAR_TEXT]), refused);
        assert_eq!(taken(false, &one_by_one), refused);
        assert_eq!(taken(false, &[&CLEAR_TEXT[..4], &CLEAR_TEXT[4..], b"more"]), refused);
        assert_eq!(taken(true, &[&CLEAR_TEXT]), None);
        assert_eq!(taken(false, &[&CLEAR_TEXT[..8]]), None, "not yet");
        assert_eq!(taken(false, &[b"R\0\0\0\x0c\0\0\0\x05salt"]), None, "md5");
        assert_eq!(taken(false, &[b"R\0\0\0\x08\0\0\0\0", &CLEAR_TEXT]), None, "the first message only");
    }

    #[test]
    fn what_begins_otherwise_is_not_postgres() {
        let refused = Some(io::ErrorKind::InvalidData);
        assert_eq!(taken(true, &[b"HTTP/1.1 400 Bad Request"]), refused);
        assert_eq!(taken(true, &[b"E\0\0\0", b"HTTP"]), None);
    }
}
