//! Follows a name: notices when it leads elsewhere, and looks whether somebody still answers where it led before.
//!
//! After a failover the old server may live on, as a replica or cut off from the new one; and whoever keeps its
//! address still talks to it. That is seen from nowhere but here.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use super::Network;
use crate::clock::Deadline;
use crate::health::whereabouts::Whereabouts;
use crate::health::{Failure, LeftBehind};

/// How long an old address may take to answer. Whoever still serves there does so in milliseconds.
const KNOCK: Duration = Duration::from_secs(1);

/// What is known of one dependency's name. Copies share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Followed(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    whereabouts: Whereabouts,
    /// The address last connected to.
    reached: Option<SocketAddr>,
}

impl Followed {
    /// The name resolved to these.
    pub(super) fn resolved(&self, addresses: &[IpAddr]) {
        self.state().whereabouts.note(addresses);
    }

    /// A connection was made to one of them. Gives the address before, where the name has left it, at which
    /// somebody knocks meanwhile.
    pub(super) fn reached(&self, to: SocketAddr) -> Option<Knock> {
        let mut state = self.state();
        let from = state.reached.replace(to);
        let left = from.filter(|from| state.whereabouts.moved(from.ip(), to.ip()));
        state.whereabouts.settle();
        left.map(|from| Knock::at(from, to))
    }

    /// Whether the name may still lead to this address.
    pub(super) fn leads_to(&self, address: IpAddr) -> bool {
        self.state().whereabouts.leads_to(address)
    }

    /// Held for no await.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the name of a dependency leads, for who keeps a connection and does not make a new one each time.
#[derive(Clone)]
pub struct Lead {
    name: String,
    network: Network,
    followed: Followed,
}

impl Lead {
    pub(super) fn new(name: &str, network: Network, followed: Followed) -> Self {
        Self { name: name.to_owned(), network, followed }
    }

    /// What the name resolves to now.
    pub async fn look(&self) -> Result<Vec<IpAddr>, Failure> {
        let found = self.network.resolver().addresses(&self.name).await?;
        self.followed.resolved(&found.addresses);
        Ok(found.addresses)
    }

    /// Whether the name, by the last looks, may still lead to this address. One that takes turns among several
    /// leads to all of them.
    pub fn leads_to(&self, address: IpAddr) -> bool {
        self.followed.leads_to(address)
    }
}

/// A look whether an address that a name has left still takes connections. One, after each move.
#[derive(Debug)]
pub struct Knock {
    from: SocketAddr,
    to: SocketAddr,
    answers: AbortOnDropHandle<bool>,
}

impl Knock {
    fn at(from: SocketAddr, to: SocketAddr) -> Self {
        let knock = tokio::time::timeout(KNOCK, TcpStream::connect(from));
        let answers = tokio::spawn(async { matches!(knock.await, Ok(Ok(_))) });
        Self { from, to, answers: AbortOnDropHandle::new(answers) }
    }

    /// What came of it; `None` where there is no time left to wait for that.
    pub async fn heard(self, deadline: Deadline) -> Option<LeftBehind> {
        let Self { from, to, answers } = self;
        let answers = tokio::time::timeout_at(deadline.instant(), answers).await.ok()?.ok()?;
        Some(LeftBehind { from, to, answers })
    }
}
