//! Where time and chance come from: the only file that reads a clock or draws a random number. And how calendar times
//! are written, outside of JSON that is answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;
use uuid::{Builder, Uuid};

use crate::health::{Fraction, Monotonic, Now, WallTime};

/// A reader of both clocks. Copies agree with each other: they share the origin.
///
/// The monotonic side is tokio's, so that a test can pause it.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock whose origin is now.
    #[expect(clippy::disallowed_methods, reason = "this is where the clock is read")]
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// One reading of both clocks.
    pub fn now(&self) -> Now {
        Now { mono: self.mono(), wall: wall() }
    }

    /// A reading of the monotonic clock alone.
    #[expect(clippy::disallowed_methods, reason = "this is where the clock is read")]
    pub fn mono(&self) -> Monotonic {
        Monotonic::after_origin(Instant::now().saturating_duration_since(self.origin))
    }

    /// A point of this clock, for tokio's timers.
    pub fn instant(&self, point: Monotonic) -> Instant {
        // Beyond what the timer can hold lies "never"; thirty years are that.
        let far = Duration::from_secs(30 * 365 * 24 * 3600);
        self.origin + point.since_origin().min(far)
    }
}

#[expect(clippy::disallowed_methods, reason = "this is where the clock is read")]
fn wall() -> WallTime {
    // A clock set before 1970 shows 1970: nothing is decided by it.
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime::from_unix_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}

/// As RFC 3339 in UTC, with milliseconds; empty for a time that no calendar has.
pub fn rfc3339(at: WallTime) -> String {
    let at = jiff::Timestamp::from_millisecond(at.unix_millis());
    at.map_or_else(|_| String::new(), |at| format!("{at:.3}"))
}

/// A calendar time from RFC 3339, to the millisecond.
pub fn from_rfc3339(text: &str) -> Option<WallTime> {
    let at: jiff::Timestamp = text.parse().ok()?;
    Some(WallTime::from_unix_millis(at.as_millisecond()))
}

/// A point in time after which an operation is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// This long from now.
    #[expect(clippy::disallowed_methods, reason = "this is where the clock is read")]
    pub fn after(span: Duration) -> Self {
        Self(Instant::now() + span)
    }

    /// The earlier of this one and `span` from now.
    pub fn within(self, span: Duration) -> Self {
        self.min(Self::after(span))
    }

    /// This much later.
    pub fn later(self, span: Duration) -> Self {
        Self(self.0 + span)
    }

    /// How long until then; zero where it has passed.
    #[expect(clippy::disallowed_methods, reason = "this is where the clock is read")]
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// For tokio's timers.
    pub fn instant(self) -> Instant {
        self.0
    }
}

/// Measures one span of time.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts measuring.
    #[expect(clippy::disallowed_methods, reason = "this is where the clock is read")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// How long ago it was started.
    #[expect(clippy::disallowed_methods, reason = "this is where the clock is read")]
    pub fn elapsed(&self) -> Duration {
        Instant::now().saturating_duration_since(self.0)
    }
}

/// A random number in `[0, 1)`, for jitter.
pub fn draw() -> Fraction {
    Fraction::new(fastrand::f64())
}

/// An identifier that nobody else has: a UUID of version 7, so that identifiers sort by time. Made from our own
/// reading of the calendar, which stands a clock set before 1970. Nothing is guarded by it, so its chance comes
/// from where jitter does: the kernel need not be asked for each request that is answered.
pub fn unique_id() -> Uuid {
    let millis = u64::try_from(wall().unix_millis()).unwrap_or_default();
    let mut chance = [0; 10];
    fastrand::fill(&mut chance);
    Builder::from_unix_timestamp_millis(millis, &chance).into_uuid()
}

/// The sign of life of a loop: the loop beats, others ask how long ago that was.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    clock: Clock,
    /// Milliseconds after the clock's origin.
    last: Arc<AtomicU64>,
}

impl Heartbeat {
    /// A heartbeat that beats now.
    pub fn new(clock: Clock) -> Self {
        let heartbeat = Self { clock, last: Arc::default() };
        heartbeat.beat();
        heartbeat
    }

    /// The loop went round.
    pub fn beat(&self) {
        self.last.store(self.millis(), Ordering::Relaxed);
    }

    /// How long ago the loop last went round.
    pub fn age(&self) -> Duration {
        Duration::from_millis(self.millis().saturating_sub(self.last.load(Ordering::Relaxed)))
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.clock.mono().since_origin().as_millis()).unwrap_or(u64::MAX)
    }
}
