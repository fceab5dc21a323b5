//! How a dependency is checked: its own values over those of `defaults`, and the rules between them.

use std::num::NonZeroU32;
use std::time::Duration;

use super::cursor::Cursor;
use crate::config::duration::{HumanDuration, format_duration};
use crate::config::errors::ConfigError;
use crate::config::path::Path;
use crate::config::raw::{RawChecking, RawCircuit, RawRetry};
use crate::health::backoff::{Backoff, Jitter};
use crate::health::circuit;

/// A resolved `defaults`, or the same of one dependency.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::config) struct Checking {
    pub(in crate::config) interval: Duration,
    pub(in crate::config) startup_interval: Duration,
    pub(in crate::config) timeout: Duration,
    pub(in crate::config) connect_timeout: Duration,
    pub(in crate::config) slow_after: Duration,
    pub(in crate::config) certificate_warning: Duration,
    pub(in crate::config) diagnose_on_failure: bool,
    pub(in crate::config) attempts: NonZeroU32,
    pub(in crate::config) backoff: Backoff,
    pub(in crate::config) circuit: circuit::Settings,
}

/// Asked more often, a dependency would be loaded and not watched.
const LEAST_INTERVAL: Duration = Duration::from_millis(100);
const LEAST: Duration = Duration::from_millis(1);

/// Certificates are renewed in days, not in seconds; public ones last no longer than about a year.
const WARNING_LEAST: Duration = Duration::from_secs(3600);
const WARNING_MOST: Duration = Duration::from_secs(365 * 24 * 3600);

/// What is not said here, is as in `base`; without a base, everything has to be said.
pub(super) fn checking(raw: RawChecking, base: Option<&Checking>, at: &Cursor<'_>) -> Checking {
    let RawChecking {
        interval,
        startup_interval,
        timeout,
        connect_timeout,
        slow_after,
        certificate_warning,
        diagnose_on_failure,
        retry,
        circuit,
    } = raw;
    let RawRetry { attempts, initial, max, multiplier, jitter } = retry.unwrap_or_default();
    let RawCircuit {
        failure_threshold,
        recovery_timeout,
        recovery_timeout_max,
        success_threshold,
        half_open_interval,
    } = circuit.unwrap_or_default();

    let duration = |field: &str, raw: Option<HumanDuration>, least, base: Option<Duration>| {
        resolve(&at_path(at, field), raw, base, |at, raw| at.duration(raw, least))
    };
    let count = |field: &str, raw: Option<u64>, most, base: Option<NonZeroU32>| {
        resolve(&at_path(at, field), raw, base, |at, raw| at.number(raw, 1..=most))
    };
    let checking = Checking {
        interval: duration("interval", interval, LEAST_INTERVAL, base.map(|b| b.interval)),
        startup_interval: duration(
            "startup_interval",
            startup_interval,
            LEAST_INTERVAL,
            base.map(|b| b.startup_interval),
        ),
        timeout: duration("timeout", timeout, LEAST, base.map(|b| b.timeout)),
        connect_timeout: duration("connect_timeout", connect_timeout, LEAST, base.map(|b| b.connect_timeout)),
        slow_after: duration("slow_after", slow_after, LEAST, base.map(|b| b.slow_after)),
        certificate_warning: resolve(
            &at_path(at, "certificate_warning"),
            certificate_warning,
            base.map(|b| b.certificate_warning),
            |at, raw| at.duration_within(raw, WARNING_LEAST..=WARNING_MOST),
        ),
        diagnose_on_failure: resolve(
            &at_path(at, "diagnose_on_failure"),
            diagnose_on_failure,
            base.map(|b| b.diagnose_on_failure),
            |_, diagnose| diagnose,
        ),
        attempts: count("retry.attempts", attempts, 10, base.map(|b| b.attempts)),
        backoff: Backoff {
            initial: duration("retry.initial", initial, Duration::ZERO, base.map(|b| b.backoff.initial)),
            max: duration("retry.max", max, Duration::ZERO, base.map(|b| b.backoff.max)),
            multiplier: resolve(
                &at_path(at, "retry.multiplier"),
                multiplier,
                base.map(|b| b.backoff.multiplier),
                multiplier_in_range,
            ),
            jitter: resolve(
                &at_path(at, "retry.jitter"),
                jitter,
                base.map(|b| b.backoff.jitter),
                |_, jitter| jitter,
            ),
        },
        circuit: circuit::Settings {
            failure_threshold: count(
                "circuit.failure_threshold",
                failure_threshold,
                1000,
                base.map(|b| b.circuit.failure_threshold),
            ),
            recovery_timeout: duration(
                "circuit.recovery_timeout",
                recovery_timeout,
                LEAST_INTERVAL,
                base.map(|b| b.circuit.recovery_timeout),
            ),
            recovery_timeout_max: recovery_timeout_max
                .map(|raw| at_path(at, "circuit.recovery_timeout_max").duration(raw, LEAST_INTERVAL))
                .or_else(|| base.and_then(|b| b.circuit.recovery_timeout_max)),
            success_threshold: count(
                "circuit.success_threshold",
                success_threshold,
                1000,
                base.map(|b| b.circuit.success_threshold),
            ),
            half_open_interval: duration(
                "circuit.half_open_interval",
                half_open_interval,
                LEAST_INTERVAL,
                base.map(|b| b.circuit.half_open_interval),
            ),
        },
    };
    // What was not set for these gives way to them.
    let grown = |most: Duration| most.max(checking.circuit.recovery_timeout);
    let effective = Checking {
        connect_timeout: checking.connect_timeout.min(checking.timeout),
        circuit: circuit::Settings {
            recovery_timeout_max: checking.circuit.recovery_timeout_max.map(grown),
            ..checking.circuit
        },
        ..checking
    };
    // A dependency that inherits something wrong would be told that it does not fit its own.
    if base.is_none() || !at.errors().any_within(&Path::of("defaults")) {
        consistent(&checking, at);
    }
    effective
}

/// The rules between values.
fn consistent(checking: &Checking, at: &Cursor<'_>) {
    let Checking { timeout, connect_timeout, backoff, circuit, .. } = *checking;
    let connect = at.key("connect_timeout");
    if connect_timeout > timeout && connect.explicit() {
        let what = format!(
            "{} is longer than the timeout of the whole check, {}",
            connect.shown(&format_duration(connect_timeout)),
            at.key("timeout").shown(&format_duration(timeout)),
        );
        connect.refuse(
            ConfigError::new(what)
                .allowed("at most `timeout`")
                .advice("shorten `connect_timeout` or lengthen `timeout`"),
        );
    }
    let recovery = at.key("circuit");
    let most = recovery.key("recovery_timeout_max");
    if let Some(longest) = circuit.recovery_timeout_max
        && longest < circuit.recovery_timeout
        && most.explicit()
    {
        let what = format!(
            "the longest recovery timeout, {}, is shorter than the first, {}",
            most.shown(&format_duration(longest)),
            recovery.key("recovery_timeout").shown(&format_duration(circuit.recovery_timeout)),
        );
        most.refuse(
            ConfigError::new(what)
                .allowed("at least `recovery_timeout`")
                .advice("lengthen it, or shorten `recovery_timeout`"),
        );
    }
    let retry = at.key("retry");
    let (least, most) = (retry.key("initial"), retry.key("max"));
    // What a dependency inherits is judged where it stands.
    if backoff.max < backoff.initial && (least.explicit() || most.explicit()) {
        let what = format!(
            "the longest pause, {}, is shorter than the first, {}",
            most.shown(&format_duration(backoff.max)),
            least.shown(&format_duration(backoff.initial)),
        );
        let place = if most.explicit() { most } else { least };
        place.refuse(ConfigError::new(what).allowed("`max` of at least `initial`").advice("set both"));
    }
}

fn multiplier_in_range(at: &Cursor<'_>, value: f64) -> f64 {
    if !(1.0..=100.0).contains(&value) {
        at.refuse(ConfigError::new(format!("{} is out of range", at.found())).allowed("1 to 100"));
    }
    value
}

/// The value said here, else the one of the base. Where neither says one, an error and what stands for
/// nothing: no plan comes of it.
fn resolve<R, T: Placeholder>(
    at: &Cursor<'_>,
    raw: Option<R>,
    base: Option<T>,
    check: impl Fn(&Cursor<'_>, R) -> T,
) -> T {
    match (raw, base) {
        (Some(raw), _) => check(at, raw),
        (None, Some(base)) => base,
        (None, None) => {
            at.unset();
            T::PLACEHOLDER
        }
    }
}

fn at_path<'a>(at: &Cursor<'a>, path: &str) -> Cursor<'a> {
    path.split('.').fold(at.clone(), |at, key| at.key(key))
}

trait Placeholder {
    const PLACEHOLDER: Self;
}

impl Placeholder for Duration {
    const PLACEHOLDER: Self = Duration::from_secs(1);
}

impl Placeholder for NonZeroU32 {
    const PLACEHOLDER: Self = NonZeroU32::MIN;
}

impl Placeholder for bool {
    const PLACEHOLDER: Self = true;
}

impl Placeholder for f64 {
    const PLACEHOLDER: Self = 1.0;
}

impl Placeholder for Jitter {
    const PLACEHOLDER: Self = Jitter::Full;
}
