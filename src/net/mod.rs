//! The one road out. Every probe reaches its dependency through here, so that phases are timed and bounded in
//! one way, the address in use is always known, and failures are told apart the same way for every kind.
//!
//! [`resolve`] (a name becomes addresses) → [`connect`] (an address becomes a socket) → [`tls`] (a socket
//! becomes a session); [`dial`] does the three in order. [`trace`] is where the times go, [`network`] what all
//! dialers of a process share; by a [`tap`] what passes through a stream is heard. For a diagnosis there is more than
//! a connection needs: [`attempt`] and [`icmp`] (how exactly connecting fails), [`route`] (by which way).

pub mod attempt;
pub mod connect;
pub mod dial;
mod follow;
mod hello;
pub mod icmp;
pub mod network;
mod openssl;
pub mod resolve;
pub mod route;
pub mod stream;
pub mod tap;
pub mod tls;
pub mod trace;

pub use dial::{Dialed, Dialer, Limits, Target};
pub use follow::{Knock, Lead};
pub use network::Network;
pub use stream::Stream;
pub use tls::{Tls, Verification};
pub use trace::Trace;

/// What a peer sent, as it can be shown in a message: short, printable, on one line.
pub fn shown(bytes: &[u8]) -> String {
    const SHOWN: usize = 60;
    let text: String = bytes
        .iter()
        .take(SHOWN)
        // It is shown in double quotes, so the single ones need no escape.
        .flat_map(|byte| {
            match byte {
                b'\'' => "'".to_owned(),
                byte => byte.escape_ascii().to_string(),
            }
            .into_bytes()
        })
        .map(char::from)
        .collect();
    if bytes.len() > SHOWN { format!("{text}…") } else { text }
}
