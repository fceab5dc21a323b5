//! Name, socket, session: the three in order, each timed and each within the check's deadline.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;

use super::follow::{Followed, Lead};
use super::{Network, Stream, Tls, Trace, connect};
use crate::clock::Deadline;
use crate::health::{Failure, Phase, TlsDetails};

/// Where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// A name, or an address as text, without brackets.
    host: String,
    /// The port.
    port: u16,
}

impl Target {
    /// A host, where an IPv6 address may stand in brackets as in a URL, and a port.
    pub fn new(host: &str, port: u16) -> Self {
        let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        Self { host: host.to_owned(), port }
    }

    /// The host, as it is verified in certificates.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The name that has to be resolved; `None` where the host is an address.
    pub fn name(&self) -> Option<&str> {
        self.address().is_none().then_some(self.host.as_str())
    }

    fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

/// How long things may take on the way, and how large they may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Each connection attempt.
    pub connect_timeout: Duration,
    /// Data that was sent may stay unacknowledged for this long (`TCP_USER_TIMEOUT`).
    pub user_timeout: Duration,
    /// The largest segment that either side sends, in bytes; `None`: what the way to the peer allows.
    pub segment: Option<u16>,
}

/// A connection that was made.
#[derive(Debug)]
pub struct Dialed {
    /// To speak over.
    pub stream: Stream,
    /// What is known of its TLS session, where there is one.
    pub tls: Option<TlsDetails>,
}

/// Makes the connections of one dependency.
#[derive(Clone)]
pub struct Dialer {
    network: Network,
    limits: Limits,
    followed: Followed,
}

impl Dialer {
    /// Over this network, within `limits`.
    pub fn new(network: Network, limits: Limits) -> Self {
        Self { network, limits, followed: Followed::default() }
    }

    /// Where the target's name leads, seen together with what is connected to; `None` for an address.
    pub fn lead(&self, target: &Target) -> Option<Lead> {
        let name = target.name()?;
        Some(Lead::new(name, self.network.clone(), self.followed.clone()))
    }

    /// Resolves and connects.
    pub async fn connect(
        &self,
        target: &Target,
        deadline: Deadline,
        trace: &mut Trace,
    ) -> Result<TcpStream, Failure> {
        trace.new_connection = true;
        let addresses = match target.address() {
            Some(address) => vec![address],
            None => {
                let lookup = self.network.resolver().addresses(&target.host);
                let found = trace.phase(Phase::Dns, deadline, lookup).await?;
                trace.resolved.clone_from(&found.addresses);
                self.followed.resolved(&found.addresses);
                found.addresses
            }
        };
        let addresses: Vec<SocketAddr> =
            addresses.into_iter().map(|address| SocketAddr::new(address, target.port)).collect();
        let mut tried = None;
        let attempt = connect::connect(&addresses, self.limits, deadline, &mut tried);
        let result = trace.phase(Phase::Connect, deadline, attempt).await;
        trace.address = tried;
        let stream = result?;
        // A second connection of the same attempt finds no move any more.
        let left_behind = tried.and_then(|reached| self.followed.reached(reached));
        trace.left_behind = left_behind.or(trace.left_behind.take());
        Ok(stream)
    }

    /// What all dialers share.
    pub(super) fn network(&self) -> &Network {
        &self.network
    }

    /// Makes a TLS session on a connection.
    pub async fn handshake(&self, tls: &Tls, host: &str, stream: TcpStream) -> Result<Dialed, Failure> {
        // A final dot is for the resolver; no certificate has one.
        let host = host.strip_suffix('.').unwrap_or(host);
        let (session, details) = tls.handshake(self.network.connectors(), host, stream).await?;
        Ok(Dialed { stream: Stream::tls(session), tls: Some(details) })
    }

    /// Resolves, connects and, where `tls` is given, makes a session.
    pub async fn dial(
        &self,
        target: &Target,
        tls: Option<&Tls>,
        deadline: Deadline,
        trace: &mut Trace,
    ) -> Result<Dialed, Failure> {
        let stream = self.connect(target, deadline, trace).await?;
        match tls {
            Some(tls) => {
                let handshake = self.handshake(tls, &target.host, stream);
                trace.phase(Phase::Tls, deadline, handshake).await
            }
            None => Ok(Dialed { stream: Stream::plain(stream), tls: None }),
        }
    }
}
