//! The lines of the log that are about a dependency.

/// Writes a line about a dependency, whose policy is given: `dependency` and `kind` stand in each, and a filter or a
/// query in CloudWatch finds all of them by these. What follows is as `tracing` has it.
///
/// The level can be a value: for `tracing` it is a constant, so each place would repeat its fields for each level.
macro_rules! about {
    ($level:expr, $policy:expr, $($rest:tt)+) => {{
        let policy: &$crate::health::Policy = $policy;
        let (dependency, kind) = (policy.name.as_str(), policy.kind.as_str());
        match $level {
            ::tracing::Level::ERROR => ::tracing::error!(dependency, kind, $($rest)+),
            ::tracing::Level::WARN => ::tracing::warn!(dependency, kind, $($rest)+),
            ::tracing::Level::INFO => ::tracing::info!(dependency, kind, $($rest)+),
            ::tracing::Level::DEBUG => ::tracing::debug!(dependency, kind, $($rest)+),
            ::tracing::Level::TRACE => ::tracing::trace!(dependency, kind, $($rest)+),
        }
    }};
}

/// Writes a line about a dependency's check, or an attempt of it: the same with `check_id`, and with `phase`,
/// `failure_kind` and `code` where it failed.
macro_rules! about_check {
    ($level:expr, $policy:expr, $id:expr, $failure:expr, $($rest:tt)+) => {{
        let failure: Option<&$crate::health::Failure> = $failure;
        $crate::log::about!(
            $level,
            $policy,
            check_id = $id,
            phase = failure.map(|failure| failure.phase.as_str()),
            failure_kind = failure.map(|failure| failure.kind.as_str()),
            code = failure.and_then(|failure| failure.code.as_deref()),
            $($rest)+
        )
    }};
}

pub(crate) use {about, about_check};
