//! Orders, as they come from outside: given to the runner that they are for, on its thread, and answered when everybody
//! can see what they came to.

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use super::keeper::Kept;
use super::runner::LAST_WORDS;
use super::runners::Asked;
use crate::health::{DependencyName, Order};
use crate::http::{NotDone, Operations};

/// An order to hold or to reset is given so often where runners end before they have answered.
const ATTEMPTS: usize = 3;

/// Gives orders to runners.
pub(super) struct Orders {
    runners: mpsc::Sender<Asked>,
    kept: Kept,
}

impl Orders {
    /// Gives them by this way; `kept` tells when an override is where it outlasts the agent.
    pub(super) fn new(runners: mpsc::Sender<Asked>, kept: Kept) -> Self {
        Self { runners, kept }
    }
}

impl Operations for Orders {
    fn carry_out(
        &self,
        dependency: &DependencyName,
        order: Order,
    ) -> BoxFuture<'static, Result<(), NotDone>> {
        let (dependency, runners, kept) = (dependency.clone(), self.runners.clone(), self.kept.clone());
        Box::pin(async move {
            let changes_the_override = order != Order::Check;
            let mut answer = give(&runners, &dependency, &order).await;
            for _ in 1..ATTEMPTS {
                // It was in the hands of a runner that is no more. What holds for the dependency is what the next one
                // says; a check is not made twice for one request.
                if !changes_the_override || !matches!(answer, Err(NotDone::Replaced | NotDone::CheckLost)) {
                    break;
                }
                answer = give(&runners, &dependency, &order).await;
            }
            match answer {
                // Each runner that took it panicked.
                Err(NotDone::CheckLost) if changes_the_override => return Err(NotDone::Busy),
                answer => answer?,
            }
            if changes_the_override {
                kept.until_kept().await;
            }
            Ok(())
        })
    }
}

/// Gives an order once; `CheckLost` where whoever had it panicked.
async fn give(
    runners: &mpsc::Sender<Asked>,
    dependency: &DependencyName,
    order: &Order,
) -> Result<(), NotDone> {
    let (reply, mut answer) = oneshot::channel();
    let asked = Asked { dependency: dependency.clone(), order: order.clone(), reply };
    runners.send(asked).await.map_err(|_| NotDone::Stopping)?;
    let answered = tokio::select! {
        biased;
        answered = &mut answer => answered.ok(),
        // The agent stops. What was carried out is answered still; what was not may lie where nobody looks any more.
        () = runners.closed() => tokio::time::timeout(LAST_WORDS, answer).await.ok().and_then(Result::ok),
    };
    match answered {
        Some(answer) => answer,
        None if runners.is_closed() => Err(NotDone::Stopping),
        None => Err(NotDone::CheckLost),
    }
}
