//! Orders, as they come from outside: given to the runner that they are for, on its thread, and answered when everybody
//! can see what they came to.

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use super::keeper::Kept;
use super::runners::Asked;
use crate::health::{DependencyName, Order};
use crate::http::{NotDone, Operations};

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
            let (reply, answer) = oneshot::channel();
            let asked = Asked { dependency, order, reply };
            runners.send(asked).await.map_err(|_| NotDone::Stopping)?;
            match answer.await {
                Ok(answer) => answer?,
                // The runner has ended, and with it the check.
                Err(_) if runners.is_closed() || changes_the_override => return Err(NotDone::Stopping),
                Err(_) => return Err(NotDone::CheckLost),
            }
            if changes_the_override {
                kept.until_kept().await;
            }
            Ok(())
        })
    }
}
