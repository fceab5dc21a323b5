//! What one attempt went through: written while it goes on, so that a failure leaves behind how far it came.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::Knock;
use crate::clock::{Deadline, Stopwatch};
use crate::health::{Details, Failure, FailureKind, Phase, PhaseTimes, PoolStats};

/// The course of one attempt.
#[derive(Debug, Default)]
pub struct Trace {
    /// How long each phase took, the one that failed included.
    pub phases: PhaseTimes,
    /// The address connected to, or the one last tried.
    pub address: Option<SocketAddr>,
    /// What the name resolved to.
    pub resolved: Vec<IpAddr>,
    /// Where the name led before, if this attempt found that it leads elsewhere.
    pub left_behind: Option<Knock>,
    /// Whether a connection was made.
    pub new_connection: bool,
    /// What the peer told of itself, where the attempt failed for all that.
    pub seen: Details,
    /// The connections that the probe holds after the attempt, where it keeps any.
    pub pool: Option<PoolStats>,
}

impl Trace {
    /// Runs one phase: times it, and ends it at the deadline.
    pub async fn phase<T>(
        &mut self,
        phase: Phase,
        deadline: Deadline,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let watch = Stopwatch::start();
        let result = tokio::time::timeout_at(deadline.instant(), work).await;
        let elapsed = watch.elapsed();
        self.phases.add(phase, elapsed);
        result.unwrap_or_else(|_| Err(out_of_time(phase, elapsed)))
    }
}

/// The failure of a phase that the deadline ended.
fn out_of_time(phase: Phase, waited: Duration) -> Failure {
    let (kind, what) = match phase {
        Phase::Dns => (FailureKind::DnsTimeout, "the name was not resolved"),
        Phase::Connect => (FailureKind::ConnectTimeout, "no answer to the connection attempt"),
        Phase::Tls => (FailureKind::Timeout, "connected, then no answer to the TLS handshake"),
        Phase::Auth => (FailureKind::Timeout, "connected, then no answer to the log-in"),
        Phase::Query => (FailureKind::Timeout, "connected, then no answer to the query"),
    };
    Failure::new(phase, kind, format!("{what} within {waited:.1?}"))
}
