//! One name server, asked alone: for a diagnosis, which wants to know of each what it says, and if it says nothing,
//! in which way.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::ResolverConfig;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::RecordType;

use super::budget::{Budget, NOT_ASKED};
use super::lookups::{Lookups, too_long_for_udp};
use super::metered::Course;
use super::name_server;
use super::records::Records;
use crate::clock::{Deadline, Stopwatch};
use crate::health::{Failure, FailureKind, Phase};
use crate::net::connect::errno_text;
use crate::net::icmp::Icmp;

/// A name server that is asked for what it says itself, without search list and hosts file. Other than to a
/// [`Resolver`](super::Resolver), a closed port is not silence to it.
pub struct Alone {
    server: SocketAddr,
    budget: Arc<Budget>,
}

impl Alone {
    pub(super) fn new(server: SocketAddr, budget: Arc<Budget>) -> Self {
        Self { server, budget }
    }

    /// The addresses of a name, IPv4 before IPv6.
    pub async fn addresses(&self, name: &str, deadline: Deadline) -> Result<Records, Failure> {
        self.ask(name, deadline, async |lookups| lookups.addresses(name).await).await
    }

    /// The records of one type.
    pub async fn records(
        &self,
        name: &str,
        record: RecordType,
        deadline: Deadline,
    ) -> Result<Records, Failure> {
        self.ask(name, deadline, async |lookups| lookups.records(name, record).await).await
    }

    /// Whether a name is there, with whatever records; `None` where the server does not tell.
    pub async fn exists(&self, name: &str, deadline: Deadline) -> Option<bool> {
        match self.records(name, RecordType::A, deadline).await {
            Ok(_) => Some(true),
            Err(failure) if failure.kind == FailureKind::DnsNotFound => {
                Some(failure.code.as_deref() != Some("NXDOMAIN"))
            }
            Err(_) => None,
        }
    }

    /// Asks, and says at the deadline how far that came.
    async fn ask(
        &self,
        name: &str,
        deadline: Deadline,
        ask: impl AsyncFnOnce(&Lookups) -> Result<Records, Failure>,
    ) -> Result<Records, Failure> {
        let course = Arc::<Course>::default();
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![name_server(self.server)]);
        let lookups = Lookups::closely(config, Arc::clone(&course), Arc::clone(&self.budget))?;
        let watch = Stopwatch::start();
        match tokio::time::timeout_at(deadline.instant(), ask(&lookups)).await {
            Ok(answer) => answer.map_err(|failure| match course.error() {
                Some((error, icmp)) if course.heard() == 0 => self.broken(error, icmp.as_ref()),
                _ => failure,
            }),
            Err(_) => Err(self.silent(name, watch.elapsed(), &lookups, &course)),
        }
    }

    /// What the kernel, or somebody on the way, says instead of an answer.
    fn broken(&self, error: &io::Error, icmp: Option<&Icmp>) -> Failure {
        let server = self.server;
        let (what, hint) = match error.kind() {
            io::ErrorKind::ConnectionRefused => (
                format!("no name server listens at {server}"),
                "compare the address with the name servers of this network, and check that the server runs",
            ),
            _ => (
                format!("{server} cannot be asked: {error}"),
                "it is the way to the name server that is broken: check routes and packet filters",
            ),
        };
        let message = match icmp {
            Some(Icmp { meaning, from: Some(from), .. }) => format!("{what} (ICMP from {from}: {meaning})"),
            _ => what,
        };
        Failure::new(Phase::Dns, FailureKind::DnsServerFailure, message)
            .with_code(errno_text(error))
            .with_hint(hint)
    }

    /// Why there is no answer after this long.
    fn silent(&self, name: &str, waited: Duration, lookups: &Lookups, course: &Course) -> Failure {
        let silence = |message| Failure::new(Phase::Dns, FailureKind::DnsTimeout, message);
        if let Some((error, icmp)) = course.error()
            && course.heard() == 0
        {
            return self.broken(error, icmp.as_ref());
        }
        match course.sent() {
            0 if self.budget.is_used_up(1) => return self.budget.not_asked(),
            0 => return silence(format!("{NOT_ASKED}: the time was over")),
            _ => {}
        }
        if course.was_cut() {
            return too_long_for_udp(name, &NetError::Timeout);
        }
        let failure = match course.heard() {
            0 => silence(format!("no answer for {name} within {waited:.1?}")),
            _ => silence(format!(
                "something came, and not an answer to all questions for {name} within {waited:.1?}"
            ))
            .with_hint(HEARD_OF),
        };
        lookups.with_withheld(failure, course.withheld())
    }
}

/// Whether packets came from a server that did not answer in time: then it is not silent.
pub fn was_heard_of(failure: &Failure) -> bool {
    failure.phase == Phase::Dns && failure.hint == HEARD_OF
}

/// What to do about packets that are no answers.
const HEARD_OF: &str = "look at what comes from there (`tcpdump -n port 53`): answers to other questions, or to one of two only, count for nothing";

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::num::NonZeroU32;

    use super::super::{Resolver, Settings, was_not_asked};
    use super::*;

    fn resolver(packets: u32) -> Resolver {
        let packets_per_second = NonZeroU32::new(packets).unwrap();
        Resolver::system(Settings { nameservers: Vec::new(), packets_per_second })
    }

    /// Somebody who takes questions and says nothing.
    fn mute() -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    }

    fn within(millis: u64) -> Deadline {
        Deadline::after(Duration::from_millis(millis))
    }

    #[tokio::test]
    async fn a_closed_port_is_no_silence() {
        let (socket, address) = mute();
        drop(socket);
        let alone = resolver(50).alone(address);
        let failure = alone.addresses("db.test", within(10_000)).await.unwrap_err();
        let told = (failure.kind, failure.code.as_deref());
        assert_eq!(told, (FailureKind::DnsServerFailure, Some("ECONNREFUSED")), "{failure}");
        let because = "(ICMP from 127.0.0.1: port unreachable)";
        assert_eq!(failure.message, format!("no name server listens at {address} {because}"));
        // To who resolves names for a check it is, as to libc.
        let asking = resolver(50).asking(address).unwrap();
        let answer = tokio::time::timeout(Duration::from_millis(500), asking.addresses("db.test")).await;
        assert!(answer.is_err(), "{answer:?}");
    }

    #[tokio::test]
    async fn what_answers_something_else_is_not_silent() {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let answering = tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                // The question itself, as an answer to another one.
                buffer[0] ^= 0xff;
                buffer[2] |= 0x80;
                let _ = socket.send_to(&buffer[..length], from).await;
            }
        });
        let alone = resolver(50).alone(address);
        let failure = alone.addresses("db.test", within(300)).await.unwrap_err();
        answering.abort();
        assert!(was_heard_of(&failure), "{failure}");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_told_from_what_was_not_even_asked() {
        let (_socket, address) = mute();
        let resolver = resolver(10);
        let alone = resolver.alone(address);
        let failure = alone.addresses("db.test", within(300)).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::DnsTimeout);
        assert!(failure.message.starts_with("no answer for db.test within 300.0ms"), "{failure}");
        assert!(!was_not_asked(&failure));

        resolver.budget.use_up();
        let failure = alone.addresses("db.test", within(300)).await.unwrap_err();
        assert!(was_not_asked(&failure), "{failure}");
        assert_eq!((failure.kind, resolver.stats().refused), (FailureKind::DnsTimeout, 1));
        assert_eq!(alone.exists("db.test", within(10)).await, None);

        tokio::time::advance(Duration::from_secs(2)).await;
        let failure = alone.addresses("db.test", within(0)).await.unwrap_err();
        assert!(was_not_asked(&failure) && failure.message.ends_with("the time was over"), "{failure}");
    }
}
