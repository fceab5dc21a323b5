//! Bytes that are received until what is expected is among them.

use crate::config::plan::RECEIVED_MAX;

/// What was received so far, and whether what is expected was in it.
///
/// It remembers how far it has looked: a peer that sends byte by byte must not have all of them looked at again
/// for each.
#[derive(Debug)]
pub(super) struct Expecting<'a> {
    expected: Option<&'a [u8]>,
    received: Vec<u8>,
    looked: usize,
    found: bool,
}

impl<'a> Expecting<'a> {
    /// Expects this text; without one, anything.
    pub(super) fn new(expected: Option<&'a str>) -> Self {
        let expected = expected.map(str::as_bytes);
        Self { expected, received: Vec::new(), looked: 0, found: expected.is_none() }
    }

    /// Takes what came in, as far as there is room for it.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        let room = RECEIVED_MAX.saturating_sub(self.received.len());
        self.received.extend_from_slice(&bytes[..bytes.len().min(room)]);
        let Some(expected) = self.expected.filter(|_| !self.found) else { return };
        self.found = self.received[self.looked..].windows(expected.len()).any(|window| window == expected);
        // What was expected may have begun in the last bytes.
        self.looked = (self.received.len() + 1).saturating_sub(expected.len()).max(self.looked);
    }

    /// Whether it has come; at once where nothing is expected.
    pub(super) fn found(&self) -> bool {
        self.found
    }

    /// Whether no more will be taken.
    pub(super) fn full(&self) -> bool {
        self.received.len() >= RECEIVED_MAX
    }

    /// What was received.
    pub(super) fn received(&self) -> &[u8] {
        &self.received
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_found_wherever_it_is_cut() {
        for cut in 0..=11 {
            let mut expecting = Expecting::new(Some("lo wo"));
            let (front, rest) = b"hello world".split_at(cut);
            expecting.take(front);
            expecting.take(rest);
            assert!(expecting.found(), "cut after {cut}");
        }
        let mut bytewise = Expecting::new(Some("+PONG\r\n"));
        b"+PON+PONG\r\n".iter().for_each(|byte| bytewise.take(&[*byte]));
        assert!(bytewise.found());
        let mut long = Expecting::new(Some("+PONG\r\n"));
        (0..1000).for_each(|_| long.take(b"+"));
        assert_eq!(long.looked, 1000 + 1 - "+PONG\r\n".len(), "nothing is looked at twice");
        let mut other = Expecting::new(Some("abc"));
        other.take(b"ab");
        other.take(b"ac");
        assert!(!other.found());
    }

    #[test]
    fn no_more_is_kept_than_there_is_room_for() {
        let mut expecting = Expecting::new(Some("y"));
        (0..1000).for_each(|_| expecting.take(&[b'x'; 1000]));
        assert!(expecting.full() && !expecting.found());
        assert_eq!(expecting.received().len(), RECEIVED_MAX);
        expecting.take(b"y");
        assert!(!expecting.found(), "it came too late");
        assert!(Expecting::new(None).found());
    }
}
