//! A port: it takes connections and, where that is configured, speaks TLS and answers as expected.

use futures_util::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::expecting::Expecting;
use super::{Probe, cut_before_an_answer, shown, tls};
use crate::clock::Deadline;
use crate::config::plan::TcpPlan;
use crate::health::observation::TcpDetails;
use crate::health::{Details, Failure, FailureKind, Observation, Outcome, Phase};
use crate::net::{Dialer, Stream, Target, Tls, Trace, connect};

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
            let mut answer = Expecting::new(self.plan.expect().as_deref());
            let talk = self.talk(dialed.stream, &mut answer);
            let result = trace.phase(Phase::Query, deadline, talk).await;
            result.map_err(|failure| match failure.kind {
                // It did answer, only otherwise: what it said tells more than that there was no more of it.
                FailureKind::Timeout | FailureKind::ConnectReset if !answer.received().is_empty() => {
                    self.unexpected(answer.received())
                }
                _ => cut_before_an_answer(failure, dialed.tls.is_some()),
            })?;
        }
        let details = Details::Tcp(TcpDetails { peer: trace.address, tls: dialed.tls });
        Ok(Observation { details, warnings: Vec::new() })
    }

    async fn talk(&self, mut stream: Stream, answer: &mut Expecting<'_>) -> Result<(), Failure> {
        let io = |error| connect::failure(Phase::Query, &error);
        let sent = self.send(&mut stream).await.map_err(io);
        if answer.found() {
            return sent;
        }
        let mut buffer = [0; 4096];
        loop {
            let count = match (stream.read(&mut buffer).await, &sent) {
                (Ok(count), _) => count,
                // Who cut the connection while we spoke may have said why before: that was to be read first.
                (Err(_), Err(failure)) => return Err(failure.clone()),
                (Err(error), Ok(())) => return Err(io(error)),
            };
            answer.take(&buffer[..count]);
            if answer.found() {
                return Ok(());
            }
            if count == 0 && answer.received().is_empty() {
                return Err(io(std::io::ErrorKind::UnexpectedEof.into()));
            }
            if count == 0 || answer.full() {
                return Err(self.unexpected(answer.received()));
            }
        }
    }

    async fn send(&self, stream: &mut Stream) -> std::io::Result<()> {
        if let Some(send) = self.plan.send() {
            stream.write_all(send.expose().as_bytes()).await?;
            stream.flush().await?;
        }
        Ok(())
    }

    fn unexpected(&self, received: &[u8]) -> Failure {
        let expected = self.plan.expect().as_deref().unwrap_or_default();
        let message = format!("expected {expected:?}, received \"{}\"", shown(received));
        Failure::new(Phase::Query, FailureKind::UnexpectedContent, message)
    }
}

impl Probe for Tcp {
    fn attempt<'a>(&'a mut self, deadline: Deadline, trace: &'a mut Trace) -> BoxFuture<'a, Outcome> {
        Box::pin(self.ask(deadline, trace))
    }
}
