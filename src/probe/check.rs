//! One check: attempts, with pauses between them, until one succeeds, the budget ends, or the failure is one
//! that does not pass by itself.

use std::time::Duration;

use tracing::Level;

use crate::clock::{self, Clock, Deadline, Stopwatch};
use crate::health::circuit::Permit;
use crate::health::time::millis;
use crate::health::{Check, CheckId, Failure, Policy};
use crate::log::about_check;
use crate::net::Trace;
use crate::probe::Probe;

/// How loudly failed attempts are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loudness {
    /// The dependency was well: each attempt is news (`info`).
    News,
    /// It was failing already (`debug`).
    Repeats,
}

/// An identifier for a check.
pub fn new_id() -> CheckId {
    CheckId::new(&clock::unique_id().to_string())
}

/// Makes one check. It takes no longer than the policy's timeout.
pub async fn run(
    probe: &mut dyn Probe,
    policy: &Policy,
    permit: Permit,
    loudness: Loudness,
    id: CheckId,
    clock: Clock,
) -> Check {
    let at = clock.now();
    let whole = Stopwatch::start();
    let deadline = Deadline::after(policy.timeout);
    let allowed = match permit {
        Permit::Check => policy.attempts.get(),
        Permit::Trial => 1,
    };
    let mut attempt = 1;
    let mut left_behind = None;
    loop {
        let mut trace = Trace::default();
        let watch = Stopwatch::start();
        let mut outcome = probe.attempt(deadline, &mut trace).await;
        if let Ok(seen) = &mut outcome {
            seen.warn_of_expiry(clock.now().wall, policy.certificate_warning);
        }
        let latency = watch.elapsed();
        if let Err(failure) = &outcome {
            log_attempt(policy, &id, attempt, allowed, failure, &trace, latency, loudness);
        }
        let pause = policy.backoff.pause(attempt, clock::draw());
        left_behind = trace.left_behind.take().or(left_behind);
        let again = outcome.as_ref().is_err_and(|failure| failure.may_pass)
            && attempt < allowed
            && pause < deadline.remaining();
        if !again {
            let left_behind = match left_behind {
                Some(knock) => knock.heard(deadline).await,
                None => None,
            };
            if let (Ok(seen), Some(left)) = (&mut outcome, &left_behind) {
                seen.warn_of_left_behind(left);
            }
            let Trace { phases, address, resolved, new_connection, seen, pool, .. } = trace;
            let duration = whole.elapsed();
            return Check {
                id,
                at,
                duration,
                latency,
                attempts: attempt,
                phases,
                address,
                resolved,
                left_behind,
                new_connection,
                outcome,
                seen_before_failing: seen,
                pool,
            };
        }
        tokio::time::sleep(pause).await;
        attempt += 1;
    }
}

#[expect(clippy::too_many_arguments, reason = "these are the fields of one log line")]
fn log_attempt(
    policy: &Policy,
    id: &CheckId,
    attempt: u32,
    allowed: u32,
    failure: &Failure,
    trace: &Trace,
    latency: Duration,
    loudness: Loudness,
) {
    let level = match loudness {
        Loudness::News => Level::INFO,
        Loudness::Repeats => Level::DEBUG,
    };
    about_check!(
        level,
        policy,
        id.as_str(),
        Some(failure),
        attempt,
        attempts_allowed = allowed,
        address = trace.address.map(tracing::field::display),
        duration_ms = millis(latency),
        "attempt failed: {}",
        failure.message
    );
}
