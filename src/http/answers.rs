//! The answers to health questions. What a load balancer asks for thousands of times is made once, and made anew
//! when the snapshot changes or a result in it becomes stale. All who ask share the bytes.

use std::sync::{Arc, OnceLock};

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
    /// All of it, as health+json.
    Health,
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
    made: Monotonic,
    true_until: Monotonic,
    pub(super) ready: Short,
    pub(super) alb: Short,
    pub(super) startup: Short,
    /// Made when it is first asked for: it grows with the number of dependencies, and few ask for it.
    health: OnceLock<Short>,
}

impl Rendered {
    pub(super) fn new(snapshot: Arc<Snapshot>, now: Monotonic) -> Self {
        Self {
            made: now,
            true_until: snapshot.true_until(now),
            ready: Short::new(&verdict::ready(&snapshot, now)),
            alb: Short::new(&verdict::alb(&snapshot, now)),
            startup: Short::new(&verdict::startup(&snapshot)),
            health: OnceLock::new(),
            snapshot,
        }
    }

    /// The answer to [`Question::Health`].
    pub(super) fn health(&self, service: &str) -> Short {
        let make = || Short {
            code: self.ready.code,
            body: wire::to_bytes(&wire::HealthJson::new(&self.snapshot, service, self.made)),
        };
        self.health.get_or_init(make).clone()
    }

    /// Whether these are still the answers that `snapshot` leads to at `now`.
    pub(super) fn holds(&self, snapshot: &Arc<Snapshot>, now: Monotonic) -> bool {
        Arc::ptr_eq(&self.snapshot, snapshot) && now <= self.true_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::test_support::{mono, policy, secs, snapshot, view_after};

    #[test]
    fn health_says_the_same_as_ready_and_is_made_once_for_all_who_ask() {
        let all = Arc::new(snapshot(vec![view_after(policy("database"), &[Ok(())])]));
        for (at, code) in [(1, StatusCode::OK), (1_000, StatusCode::SERVICE_UNAVAILABLE)] {
            let rendered = Rendered::new(Arc::clone(&all), mono(secs(at)));
            let [first, second] = [(); 2].map(|()| rendered.health("api"));
            assert_eq!((first.code, rendered.ready.code), (code, code), "what is stale is not well");
            assert_eq!(first.body.as_ptr(), second.body.as_ptr());
        }
    }
}
