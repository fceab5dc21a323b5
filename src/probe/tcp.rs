//! A port: it takes connections and, where that is configured, speaks TLS and answers as expected.

use futures_util::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Probe, cut_before_an_answer, shown, tls};
use crate::clock::Deadline;
use crate::config::plan::TcpPlan;
use crate::health::observation::TcpDetails;
use crate::health::{Details, Failure, FailureKind, Observation, Outcome, Phase};
use crate::net::{Dialer, Stream, Target, Tls, Trace, connect};

/// What is expected must come within this many bytes.
const RECEIVED_MAX: usize = 64 * 1024;

pub(super) struct Tcp {
    plan: TcpPlan,
    target: Target,
    tls: Option<Tls>,
    dialer: Dialer,
}

impl Tcp {
    pub(super) fn new(plan: TcpPlan, dialer: Dialer) -> Self {
        let target = Target::new(plan.host(), *plan.port());
        let tls = plan.tls().as_ref().map(tls);
        Self { plan, target, tls, dialer }
    }

    async fn ask(&self, deadline: Deadline, trace: &mut Trace) -> Outcome {
        let dialed = self.dialer.dial(&self.target, self.tls.as_ref(), deadline, trace).await?;
        if self.plan.send().is_some() || self.plan.expect().is_some() {
            let mut received = Vec::new();
            let talk = self.talk(dialed.stream, &mut received);
            let result = trace.phase(Phase::Query, deadline, talk).await;
            result.map_err(|failure| match (failure.kind, self.plan.expect()) {
                // It did answer, only otherwise: what it said tells more than that there was no more of it.
                (FailureKind::Timeout, Some(expected)) if !received.is_empty() => {
                    unexpected(expected, &received)
                }
                _ => cut_before_an_answer(failure, dialed.tls.is_some()),
            })?;
        }
        let details = Details::Tcp(TcpDetails { peer: trace.address, tls: dialed.tls });
        Ok(Observation { details, warnings: Vec::new() })
    }

    async fn talk(&self, mut stream: Stream, received: &mut Vec<u8>) -> Result<(), Failure> {
        let io = |error| connect::failure(Phase::Query, &error);
        if let Some(send) = self.plan.send() {
            stream.write_all(send.expose().as_bytes()).await.map_err(io)?;
            stream.flush().await.map_err(io)?;
        }
        let Some(expected) = self.plan.expect() else { return Ok(()) };
        loop {
            let ended = stream.read_buf(received).await.map_err(io)? == 0;
            if received.windows(expected.len()).any(|window| window == expected.as_bytes()) {
                return Ok(());
            }
            if ended && received.is_empty() {
                return Err(io(std::io::ErrorKind::UnexpectedEof.into()));
            }
            if ended || received.len() > RECEIVED_MAX {
                return Err(unexpected(expected, received));
            }
        }
    }
}

fn unexpected(expected: &str, received: &[u8]) -> Failure {
    let message = format!("expected {expected:?}, received \"{}\"", shown(received));
    Failure::new(Phase::Query, FailureKind::UnexpectedContent, message)
}

impl Probe for Tcp {
    fn attempt<'a>(&'a mut self, deadline: Deadline, trace: &'a mut Trace) -> BoxFuture<'a, Outcome> {
        Box::pin(self.ask(deadline, trace))
    }
}
