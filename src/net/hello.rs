//! Which version of TLS was agreed on. native-tls does not tell, but the server says it in plain text, in the
//! first message that it sends: its `ServerHello` (RFC 8446, section 4.1.3) is read on its way through.

use std::io;

use super::tap::Tap;

/// A `ServerHello` fits; what has not shown it by then is not TLS.
const HELLO_MAX: usize = 1024;

/// Keeps the first bytes that are received until they tell the version.
#[derive(Debug, Default)]
pub struct Hello {
    heard: Vec<u8>,
    version: Option<&'static str>,
}

impl Hello {
    /// `TLSv1.2`, `TLSv1.3`, …, once the server's hello has passed.
    pub(super) fn version(&self) -> Option<&'static str> {
        self.version
    }
}

impl Tap for Hello {
    fn hear(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.version.is_none() && self.heard.len() < HELLO_MAX {
            let room = HELLO_MAX - self.heard.len();
            self.heard.extend_from_slice(&bytes[..bytes.len().min(room)]);
            self.version = version(&self.heard);
            if self.version.is_some() {
                self.heard = Vec::new();
            }
        }
        Ok(())
    }
}

/// The version in a `ServerHello`, as far as it has come.
fn version(heard: &[u8]) -> Option<&'static str> {
    const HANDSHAKE: u8 = 22;
    const SERVER_HELLO: u8 = 2;
    const SUPPORTED_VERSIONS: u16 = 43;
    let mut record = Cursor(heard);
    if record.u8()? != HANDSHAKE {
        return None;
    }
    record.skip(4)?; // the record's version and length
    if record.u8()? != SERVER_HELLO {
        return None;
    }
    let length = record.u24()?;
    let mut hello = Cursor(record.take(length)?);
    let legacy = hello.u16()?;
    hello.skip(32)?; // random
    let session = hello.u8()?;
    hello.skip(usize::from(session))?;
    hello.skip(3)?; // cipher suite and compression method
    // From 1.3 on the real version stands in an extension, and the old field says 1.2 for ever.
    let mut chosen = legacy;
    if let Some(length) = hello.u16() {
        let mut extensions = Cursor(hello.take(usize::from(length))?);
        while let (Some(kind), Some(length)) = (extensions.u16(), extensions.u16()) {
            let mut body = Cursor(extensions.take(usize::from(length))?);
            if kind == SUPPORTED_VERSIONS {
                chosen = body.u16()?;
            }
        }
    }
    match chosen {
        0x0301 => Some("TLSv1.0"),
        0x0302 => Some("TLSv1.1"),
        0x0303 => Some("TLSv1.2"),
        0x0304 => Some("TLSv1.3"),
        _ => None,
    }
}

/// Reads from the front; `None` where there is not enough.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(front)
    }

    fn skip(&mut self, length: usize) -> Option<()> {
        self.take(length).map(|_| ())
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn u24(&mut self) -> Option<usize> {
        self.take(3)
            .map(|bytes| usize::from(bytes[0]) << 16 | usize::from(bytes[1]) << 8 | usize::from(bytes[2]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A `ServerHello` with a session identifier and, where given, the extension `supported_versions` behind
    /// another one.
    fn hello(legacy: u16, supported: Option<u16>) -> Vec<u8> {
        let mut body = legacy.to_be_bytes().to_vec();
        body.extend([7; 32]);
        body.extend([3, 1, 2, 3]);
        body.extend([0x13, 0x01, 0]);
        if let Some(version) = supported {
            body.extend([0, 10, 0, 23, 0, 0, 0, 43, 0, 2]);
            body.extend(version.to_be_bytes());
        }
        let length = u8::try_from(body.len()).unwrap();
        let mut message = vec![22, 3, 3, 0, length + 4, 2, 0, 0, length];
        message.extend(body);
        message
    }

    #[test]
    fn the_extension_has_the_last_word() {
        assert_eq!(version(&hello(0x0303, Some(0x0304))), Some("TLSv1.3"));
        assert_eq!(version(&hello(0x0303, None)), Some("TLSv1.2"));
        assert_eq!(version(&hello(0x0301, None)), Some("TLSv1.0"));
    }

    #[test]
    fn nothing_is_told_before_all_of_it_has_come_nor_of_what_is_not_tls() {
        let whole = hello(0x0303, Some(0x0304));
        for cut in 0..whole.len() {
            assert_eq!(version(&whole[..cut]), None, "after {cut} bytes");
        }
        assert_eq!(version(b"HTTP/1.1 400 Bad Request\r\n\r\n"), None);
        assert_eq!(version(&[22; 300]), None);
    }

    #[test]
    fn what_comes_in_pieces_is_put_together_and_then_let_go() {
        let mut tap = Hello::default();
        for byte in hello(0x0303, Some(0x0304)) {
            tap.hear(&[byte]).unwrap();
        }
        assert_eq!(tap.version(), Some("TLSv1.3"));
        assert!(tap.heard.is_empty());
        let mut endless = Hello::default();
        for _ in 0..10_000 {
            endless.hear(b"not TLS at all ").unwrap();
        }
        assert!(endless.heard.len() <= HELLO_MAX);
    }
}
