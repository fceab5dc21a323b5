//! The short answers of `live`, `ready`, `alb` and `startup`. What a load balancer asks for thousands of times
//! is made once, and made anew when the snapshot changes or a result in it becomes stale.

use std::sync::Arc;

use bytes::Bytes;
use hyper::StatusCode;

use super::wire;
use crate::health::verdict::{self, Answer};
use crate::health::{Monotonic, Snapshot};

/// What has a short answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// Does the agent itself work?
    Live,
    /// Can this task serve?
    Ready,
    /// Should this task stay in the load balancer?
    Alb,
    /// Has every critical dependency succeeded once?
    Startup,
}

/// An answer as it goes out.
#[derive(Debug, Clone)]
pub(super) struct Short {
    pub(super) code: StatusCode,
    pub(super) body: Bytes,
}

impl Short {
    pub(super) fn new(answer: &Answer) -> Self {
        let code = if answer.pass { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        Self { code, body: wire::to_bytes(&wire::ShortBody::from(answer)) }
    }
}

/// The short answers that a snapshot leads to.
#[derive(Debug)]
pub(super) struct Rendered {
    snapshot: Arc<Snapshot>,
    true_until: Monotonic,
    pub(super) ready: Short,
    pub(super) alb: Short,
    pub(super) startup: Short,
}

impl Rendered {
    pub(super) fn new(snapshot: Arc<Snapshot>, now: Monotonic) -> Self {
        Self {
            true_until: snapshot.true_until(now),
            ready: Short::new(&verdict::ready(&snapshot, now)),
            alb: Short::new(&verdict::alb(&snapshot, now)),
            startup: Short::new(&verdict::startup(&snapshot)),
            snapshot,
        }
    }

    /// Whether these are still the answers that `snapshot` leads to at `now`.
    pub(super) fn holds(&self, snapshot: &Arc<Snapshot>, now: Monotonic) -> bool {
        Arc::ptr_eq(&self.snapshot, snapshot) && now <= self.true_until
    }
}
