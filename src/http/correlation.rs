//! `x-correlation-id`: what a caller sends is sent back, so that its logs and ours can be laid side by side.

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use uuid::Uuid;

use crate::clock;

/// The header's name.
pub(super) const HEADER: HeaderName = HeaderName::from_static("x-correlation-id");

/// An identifier that a caller chose may be this long.
const MAX_LEN: usize = 128;

/// The caller's identifier, where it is 1 to 128 visible ASCII characters; else a new one. What comes from a
/// stranger ends up in logs and answers, so nothing else is let through.
pub(super) fn id(headers: &HeaderMap) -> HeaderValue {
    let given = headers.get(HEADER).filter(|value| {
        let bytes = value.as_bytes();
        (1..=MAX_LEN).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
    });
    given.cloned().unwrap_or_else(|| {
        let mut made = Uuid::encode_buffer();
        let made = clock::unique_id().hyphenated().encode_lower(&mut made);
        HeaderValue::from_str(made).unwrap_or(HeaderValue::from_static("none"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(value: &[u8]) -> Option<HeaderValue> {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, HeaderValue::from_bytes(value).ok()?);
        Some(id(&headers))
    }

    #[test]
    fn visible_ascii_is_echoed_and_anything_else_replaced() {
        let longest = [b'x'; 128];
        for good in [b"abc-123".as_slice(), b"{}\"<>", &longest] {
            assert_eq!(given(good).unwrap().as_bytes(), good);
        }
        for bad in [b"".as_slice(), b"a b", b"a\tb", b"\xc3\xa4", &[b'x'; 129]] {
            let id = given(bad).unwrap();
            assert_ne!(id.as_bytes(), bad);
            assert_eq!(id.len(), 36, "a UUID instead of {bad:?}");
        }
        assert_eq!(id(&HeaderMap::new()).len(), 36);
    }
}
