//! The first exchange without credentials: whether what listens there speaks what it should, and if not, what it does
//! speak.

use std::net::SocketAddr;
use std::time::Duration;

use super::super::evidence::{Heard, Speaks, Words};
use super::approach::{Answer, Approach};
use crate::clock::{Deadline, Stopwatch};
use crate::net::tls::inspect::{Inspection, Opening};

/// Who speaks first does so within this.
const GREETING: Duration = Duration::from_millis(200);

/// A question in a protocol that is only tried is answered within this, from another continent, too.
const TRIED: Duration = Duration::from_millis(500);

/// What is tried where the answer was none of the expected protocol's, in this order. A question in one protocol must
/// mean no harm in another, nor fill a log: Redis takes HTTP for an attack and says so in its log, so HTTP comes last, after
/// `PING` was not answered.
const TRIED_IN_ORDER: [Speaks; 4] = [Speaks::Postgres, Speaks::Tls, Speaks::Redis, Speaks::Http];

/// The same inside of TLS.
const TRIED_INSIDE: [Speaks; 2] = [Speaks::Redis, Speaks::Http];

/// The first exchange in the protocol that is expected; where none is, what the other side says by itself. `looked` is
/// what a look at TLS came to, where there was one.
pub(super) async fn exchange(
    approach: &Approach,
    looked: Option<&Inspection>,
    at: SocketAddr,
    deadline: Deadline,
) -> Words {
    let words = |asked, (heard, is), took| Words { asked, heard, took, others: Vec::new(), is };
    if approach.speaks == Some(Speaks::Postgres) {
        // Who asks whether TLS is spoken has to go on with it where it is: a server complains of one that leaves then.
        let own = match looked {
            Some(_) => None,
            None => Some(approach.try_tls(Opening::SslRequest, at, deadline).await),
        };
        let looked = looked.or(own.as_ref());
        let answer = looked.map(|looked| (answer_to(Speaks::Postgres, looked), looked.replied_in));
        let (answer, took) = answer.unwrap_or(((Heard::Nothing, None), Duration::ZERO));
        return words(Some(Speaks::Postgres), answer, took);
    }
    if let Some(looked) = looked
        && (approach.speaks == Some(Speaks::Tls) || !matches!(looked.seen.version, Some(Ok(_))))
    {
        // There is nothing known inside, or no way to it.
        return words(Some(Speaks::Tls), answer_to(Speaks::Tls, looked), looked.replied_in);
    }
    let watch = Stopwatch::start();
    let asked = approach.speaks.filter(|speaks| !speaks_first(*speaks));
    let question = asked.map(|speaks| question(approach, speaks)).unwrap_or_default();
    let deadline = match approach.speaks {
        Some(_) => deadline,
        None => deadline.within(GREETING),
    };
    let Answer { heard, bytes } = approach.say_inside(&question, None, at, deadline).await;
    words(asked, (heard, recognise(asked, &bytes)), watch.elapsed())
}

/// Asks in other protocols, one after the other, until one is answered as only its own speakers do. At most five
/// connections. `inside`: TLS is spoken, and what there is inside of it is asked for.
pub(super) async fn try_others(
    approach: &Approach,
    words: &mut Words,
    inside: bool,
    at: SocketAddr,
    deadline: Deadline,
) {
    let tried: &[Speaks] = if inside { &TRIED_INSIDE } else { &TRIED_IN_ORDER };
    for speaks in tried.iter().copied().filter(|speaks| words.asked != Some(*speaks)) {
        if words.is.is_some() || deadline.remaining().is_zero() {
            return;
        }
        let deadline = deadline.within(TRIED);
        let (heard, is) = match speaks {
            Speaks::Tls => answer_to(speaks, &approach.try_tls(Opening::AtOnce, at, deadline).await),
            Speaks::Postgres => answer_to(speaks, &approach.try_tls(Opening::SslRequest, at, deadline).await),
            _ => {
                let question = question(approach, speaks);
                let Answer { heard, bytes } = match inside {
                    true => approach.say_inside(&question, None, at, deadline).await,
                    false => approach.say(&question, at, deadline).await,
                };
                (heard, recognise(Some(speaks), &bytes))
            }
        };
        words.others.push((speaks, heard));
        words.is = is;
    }
}

/// Whether one waits for its greeting.
fn speaks_first(speaks: Speaks) -> bool {
    matches!(speaks, Speaks::Ssh | Speaks::Mysql | Speaks::Smtp)
}

/// What is said first.
fn question(approach: &Approach, speaks: Speaks) -> Vec<u8> {
    match speaks {
        Speaks::Redis => b"*1\r\n$4\r\nPING\r\n".into(),
        Speaks::Http => head(approach, ""),
        // Asked by a look at its TLS, or not at all.
        Speaks::Postgres | Speaks::Tls | Speaks::Ssh | Speaks::Mysql | Speaks::Smtp => Vec::new(),
    }
}

/// A request for nothing but the head of an answer, with further lines of its own.
pub(super) fn head(approach: &Approach, lines: &str) -> Vec<u8> {
    let host = &approach.host;
    let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let (port, version) = (approach.port, env!("CARGO_PKG_VERSION"));
    format!(
        "HEAD / HTTP/1.1\r\nHost: {host}:{port}\r\nUser-Agent: sickbay/{version}\r\n{lines}Connection: close\r\n\r\n"
    )
    .into()
}

/// What a look at TLS tells in the place of words.
fn answer_to(asked: Speaks, looked: &Inspection) -> (Heard, Option<Speaks>) {
    let Answer { heard, bytes } = looked.reply.clone().into();
    let is = recognise(Some(asked), &bytes);
    match (is, &looked.seen.version) {
        // Bytes of a handshake say nothing to anybody.
        (Some(Speaks::Tls), Some(Ok(told) | Err(told))) => (Heard::Said(told.clone()), is),
        _ => (heard, is),
    }
}

/// What says this, in answer to a question in this protocol.
fn recognise(asked: Option<Speaks>, said: &[u8]) -> Option<Speaks> {
    /// An error of Redis: its code in capitals.
    fn is_refusal(said: &[u8]) -> bool {
        let code = said.strip_prefix(b"-").and_then(|rest| rest.split(|byte| *byte == b' ').next());
        code.is_some_and(|code| code.len() >= 2 && code.iter().all(u8::is_ascii_uppercase))
    }
    let begins = |with: &[u8]| said.get(..with.len()).is_some_and(|said| said.eq_ignore_ascii_case(with));
    let smtp = || said.windows(4).any(|word| word == b"SMTP");
    match said {
        // An old server leaves out the head where it makes nothing of the request.
        _ if begins(b"HTTP/") || begins(b"<html") || begins(b"<!doctype") => Some(Speaks::Http),
        _ if begins(b"SSH-") => Some(Speaks::Ssh),
        _ if begins(b"220") && smtp() => Some(Speaks::Smtp),
        // A record of TLS: an alert, or a handshake that begins with the server's hello, version 3 (RFC 8446, sections 4
        // and 5.1). A client's hello is our own, sent back.
        [21, 3, ..] | [22, 3, _, _, _, 2, ..] => Some(Speaks::Tls),
        // MySQL's greeting, or its refusal: length, number 0, protocol 10 or 255 for an error.
        [_, _, 0, 0, 10 | 255, ..] => Some(Speaks::Mysql),
        // Whether it has TLS; and in the form of old, a text that ends with zero.
        b"S" | b"N" if asked == Some(Speaks::Postgres) => Some(Speaks::Postgres),
        [b'E', rest @ ..] if asked == Some(Speaks::Postgres) && rest.contains(&0) => Some(Speaks::Postgres),
        _ if begins(b"+PONG\r\n") || is_refusal(said) => Some(Speaks::Redis),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tls::TlsSeen;
    use crate::net::tls::inspect::Reply;

    #[test]
    fn a_speaker_is_known_by_its_words() {
        let postgres = Some(Speaks::Postgres);
        for (asked, said, is) in [
            (postgres, b"S".as_slice(), postgres),
            (postgres, b"N", postgres),
            (postgres, b"Ecould not fork new process for connection: Resource\n\0", postgres),
            (postgres, b"ERROR\r\n", None),
            (None, b"S", None),
            (postgres, b"HTTP/1.1 400 Bad Request\r\n", Some(Speaks::Http)),
            (postgres, b"<!DOCTYPE HTML>\n", Some(Speaks::Http)),
            (Some(Speaks::Redis), b"+PONG\r\n", Some(Speaks::Redis)),
            (Some(Speaks::Redis), b"-NOAUTH Authentication required.\r\n", Some(Speaks::Redis)),
            (None, b"-DENIED Redis is running in protected mode\r\n", Some(Speaks::Redis)),
            (Some(Speaks::Redis), b"- no\r\n", None),
            (None, b"SSH-2.0-OpenSSH_9.6\r\n", Some(Speaks::Ssh)),
            (None, b"220 mail ESMTP\r\n", Some(Speaks::Smtp)),
            (None, b"220 files\r\n", None),
            (None, b"J\0\0\0\x0a8.0.36\0", Some(Speaks::Mysql)),
            (None, b"E\0\0\0\xff\x6a\x04Host", Some(Speaks::Mysql)),
            (Some(Speaks::Http), &[21, 3, 1, 0, 2, 2, 70], Some(Speaks::Tls)),
            (Some(Speaks::Tls), &[22, 3, 3, 0, 80, 2, 0], Some(Speaks::Tls)),
            (Some(Speaks::Tls), &[22, 3, 1, 0, 80, 1, 0], None),
            (Some(Speaks::Http), b"", None),
        ] {
            assert_eq!(recognise(asked, said), is, "{:?}", String::from_utf8_lossy(said));
        }
    }

    #[test]
    fn a_look_at_tls_tells_what_answered_it() {
        let looked = |reply, version: Option<Result<&str, &str>>| {
            let version = version.map(|it| it.map(str::to_owned).map_err(str::to_owned));
            let seen = TlsSeen { version, ..TlsSeen::default() };
            Inspection { seen, reply, replied_in: Duration::ZERO }
        };
        let said = |what: &str| Heard::Said(what.to_owned());
        let bytes = |what: &[u8]| Reply::Bytes(what.to_vec());
        for (asked, looked, heard, is) in [
            (
                Speaks::Tls,
                looked(bytes(&[22, 3, 3, 0, 80, 2]), Some(Ok("TLSv1.3"))),
                said("TLSv1.3"),
                Some(Speaks::Tls),
            ),
            (
                Speaks::Tls,
                looked(bytes(&[21, 3, 3, 0]), Some(Err("alert 40"))),
                said("alert 40"),
                Some(Speaks::Tls),
            ),
            (
                Speaks::Tls,
                looked(bytes(b"HTTP/1.1 400 No\r\n"), None),
                said("HTTP/1.1 400 No"),
                Some(Speaks::Http),
            ),
            (Speaks::Tls, looked(Reply::Nothing, Some(Err("no answer"))), Heard::Nothing, None),
            (Speaks::Postgres, looked(bytes(b"S"), Some(Ok("TLSv1.3"))), said("S"), Some(Speaks::Postgres)),
            (Speaks::Postgres, looked(bytes(b"N"), None), said("N"), Some(Speaks::Postgres)),
            (Speaks::Postgres, looked(bytes(&[21, 3, 1]), None), said("\\x15\\x03\\x01"), Some(Speaks::Tls)),
            (Speaks::Postgres, looked(Reply::Closed, Some(Err("closed"))), Heard::Closed, None),
            (Speaks::Postgres, looked(Reply::Cut, Some(Err("cut"))), Heard::Cut, None),
        ] {
            assert_eq!(answer_to(asked, &looked), (heard, is), "{looked:?}");
        }
    }
}
