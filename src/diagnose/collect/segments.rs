//! Whether what goes unanswered is answered where all segments are small.
//!
//! A way that swallows large packets, and the messages that say so (an MTU black hole), lets a connection be made and the
//! first words through, and hangs when the first full segment is sent: a certificate, a result. With a small segment agreed
//! on for both directions the same exchange passes.

use std::net::SocketAddr;

use futures_util::future::join_all;

use super::super::evidence::{Heard, SmallSegments, Speaks};
use super::approach::Approach;
use super::words::head;
use crate::clock::Deadline;
use crate::net::tls::inspect::Stay;

/// The largest segment of a try, in bytes: what every way of IPv4 takes (RFC 879), and enough below any tunnel's.
pub(super) const SMALL: u16 = 536;

/// More than a full segment of Ethernet, in bytes.
const LARGE: usize = 1_600;

/// What went unanswered, and is said again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exchange {
    /// The TLS handshake: the server sends its certificates.
    Handshake,
    /// A first message with so much in it that it needs a full segment.
    Large(Speaks),
}

impl Exchange {
    /// For people.
    fn what(self) -> &'static str {
        match self {
            Self::Handshake => "the TLS handshake",
            Self::Large(Speaks::Postgres) => "a start-up message of 1,600 bytes",
            Self::Large(Speaks::Redis) => "a PING of 1,600 bytes",
            Self::Large(_) => "a request of 1,600 bytes",
        }
    }
}

/// Says it twice as it is, and twice in small segments, all at a time.
pub(super) async fn contrast(
    approach: &Approach,
    exchange: Exchange,
    at: SocketAddr,
    deadline: Deadline,
) -> SmallSegments {
    let tries = [None, None, Some(SMALL), Some(SMALL)];
    let tries =
        tries.map(async |segment| (segment, answered(approach, exchange, segment, at, deadline).await));
    let mut seen = SmallSegments::of(exchange.what());
    for (segment, answered) in join_all(tries).await {
        answered.into_iter().for_each(|answered| seen.count(segment, answered));
    }
    seen
}

impl SmallSegments {
    /// Nothing was tried yet of this.
    pub(super) fn of(what: &str) -> Self {
        Self {
            segment: SMALL,
            what: what.to_owned(),
            large_silent: 0,
            large_answered: 0,
            small_answered: 0,
            small_silent: 0,
        }
    }

    /// One try more.
    pub(super) fn count(&mut self, segment: Option<u16>, answered: bool) {
        let count = match (segment, answered) {
            (None, true) => &mut self.large_answered,
            (None, false) => &mut self.large_silent,
            (Some(_), true) => &mut self.small_answered,
            (Some(_), false) => &mut self.small_silent,
        };
        *count += 1;
    }
}

/// `None` where nothing was said, for want of a connection.
async fn answered(
    approach: &Approach,
    exchange: Exchange,
    segment: Option<u16>,
    at: SocketAddr,
    deadline: Deadline,
) -> Option<bool> {
    match exchange {
        Exchange::Handshake => {
            let looked = approach.inspect(segment, Stay::No, at, deadline).await?;
            looked.seen.not_asked.is_none().then_some(!looked.seen.unanswered)
        }
        Exchange::Large(speaks) => {
            let message = large(approach, speaks);
            match approach.say_inside(&message, segment, at, deadline).await.heard {
                Heard::NotAsked(_) => None,
                heard => Some(heard != Heard::Nothing),
            }
        }
    }
}

/// A message that needs no credentials and has [`LARGE`] bytes and some more.
fn large(approach: &Approach, speaks: Speaks) -> Vec<u8> {
    let much = "x".repeat(LARGE);
    match speaks {
        Speaks::Postgres => {
            let (user, database) = approach.session.clone().unwrap_or_default();
            let (user, database) =
                if user.is_empty() { ("sickbay".into(), "postgres".into()) } else { (user, database) };
            let settings = [("user", &user), ("database", &database), ("application_name", &much)];
            let mut body = 196_608_u32.to_be_bytes().to_vec(); // version 3.0 of the protocol
            for (name, value) in settings {
                body.extend_from_slice(name.as_bytes());
                body.push(0);
                body.extend_from_slice(value.as_bytes());
                body.push(0);
            }
            body.push(0);
            let length = u32::try_from(body.len() + 4).unwrap_or_default();
            [length.to_be_bytes().as_slice(), &body].concat()
        }
        // It is sent back whole by a server that wants no password.
        Speaks::Redis => format!("*2\r\n$4\r\nPING\r\n${LARGE}\r\n{much}\r\n").into(),
        _ => head(approach, &format!("X-Sickbay: {much}\r\n")),
    }
}
