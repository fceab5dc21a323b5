//! Bearer tokens: what they are known by, and what can be allowed.

use std::fmt;

use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::secret::REDACTED;
use crate::health::closed_set;

/// What the one token is called that has no name of its own.
pub const ADMIN: &str = "admin";

/// A token has at least so many characters. What can be found by trying must not open a circuit.
pub const TOKEN_MIN: usize = 16;

closed_set! {
    /// What a token can be allowed.
    pub enum Verb {
        /// Hold a circuit open.
        Open = "open",
        /// Hold a circuit closed.
        Close = "close",
        /// Reset a circuit.
        Reset = "reset",
        /// Have a check made.
        Check = "check",
        /// Read what operators may.
        Read = "read",
    }
}

/// The SHA-256 of a token. The token itself is not kept: who reads our memory or a core dump has nothing to send.
///
/// It needs no salt and no slow function: tokens are made by machines, and long.
#[derive(Clone, Copy)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of a token.
    pub fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// The digest that 64 hexadecimal digits write.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let mut bytes = [0; 32];
        if text.len() != 2 * bytes.len() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(bytes))
    }
}

impl ConstantTimeEq for Digest {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

/// In constant time, too: whoever compares what a stranger sent cannot do it wrongly.
impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        self.ct_eq(other).into()
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of FIPS 180-2, B.1.
    const OF_ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn is_sha_256_in_either_case() {
        assert_eq!(Digest::parse(OF_ABC), Some(Digest::of(b"abc")));
        assert_eq!(Digest::parse(&OF_ABC.to_uppercase()), Some(Digest::of(b"abc")));
        assert_ne!(Digest::of(b"abc"), Digest::of(b"abd"));
        for bad in ["", "ba", &OF_ABC[1..], &format!("{OF_ABC}0"), &OF_ABC.replace('b', "g"), &"ä".repeat(32)]
        {
            assert_eq!(Digest::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn does_not_print() {
        assert_eq!(format!("{:?}", Digest::of(b"abc")), "***");
    }
}
