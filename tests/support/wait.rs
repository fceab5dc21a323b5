//! Waiting for a condition. What is not a condition is not waited for: no test sleeps.

use std::time::Duration;

use sickbay::clock::Deadline;

/// Long enough for a machine whose two cores are busy with a build; nothing waits this long unless broken.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often a condition is looked at. Short against every interval a test configures.
const POLL: Duration = Duration::from_millis(20);

/// Looks at a condition until it gives a value.
///
/// # Panics
/// After [`PATIENCE`], telling what was awaited and what the condition said last: `Err` carries that.
pub async fn eventually<T, E, F>(what: &str, mut condition: impl FnMut() -> F) -> T
where
    E: std::fmt::Display,
    F: Future<Output = Result<T, E>>,
{
    eventually_within(PATIENCE, what, &mut condition).await
}

/// [`eventually`] with a deadline of its own, for what is slow by configuration.
pub async fn eventually_within<T, E, F>(patience: Duration, what: &str, mut condition: impl FnMut() -> F) -> T
where
    E: std::fmt::Display,
    F: Future<Output = Result<T, E>>,
{
    let deadline = Deadline::after(patience);
    let mut last = String::from("nothing yet");
    loop {
        // The condition itself may hang; it is then reported as the last thing that was seen.
        match tokio::time::timeout_at(deadline.instant(), condition()).await {
            Ok(Ok(value)) => return value,
            Ok(Err(seen)) => last = seen.to_string(),
            Err(_) => {
                panic!("waited {patience:?} for {what}; the last look did not return, before it: {last}")
            }
        }
        assert!(!deadline.remaining().is_zero(), "waited {patience:?} for {what}; last seen: {last}");
        tokio::time::sleep(POLL).await;
    }
}
