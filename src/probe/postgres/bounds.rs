//! What is warned of although a server answers well: the configured bounds.

use std::time::Duration;

use super::facts::Replay;
use super::lag::link_lost;
use crate::config::plan::PostgresWarnPlan;
use crate::health::observation::PostgresDetails;

/// What a server's facts are warned of.
pub(super) fn warnings(
    seen: &PostgresDetails,
    replay: Option<Replay>,
    warn: &PostgresWarnPlan,
) -> Vec<String> {
    let mut warnings = Vec::new();
    let counts = &seen.connections;
    if let (Some(percent), Some(bound)) = (counts.used_percent(), warn.connections_used())
        && percent > f64::from(bound.get())
    {
        let (used, available) = (counts.used.unwrap_or_default(), counts.available().unwrap_or_default());
        warnings.push(format!(
            "{percent:.0} % of the connections that ordinary roles can have are in use ({used} of {available}), \
             the bound is {bound}: see in `details` who holds them"
        ));
    }
    if let Some(bound) = warn.replication_lag() {
        if replay.is_some_and(link_lost) {
            warnings.push(
                "the replica receives nothing from its primary any more: look at both servers' logs and the \
                 network between them"
                    .to_owned(),
            );
        }
        if let Some(lag) = seen.replication_lag.filter(|lag| lag > bound) {
            let (lag, bound) = (span(lag), span(*bound));
            warnings.push(format!(
                "the replica is {lag} behind its primary, the bound is {bound}: look for load on either, and for \
                 queries on the replica that hold the replay up"
            ));
        }
    }
    if let (Some(age), Some(bound)) = (seen.longest_transaction, warn.longest_transaction())
        && age > *bound
    {
        let (age, bound) = (span(age), span(*bound));
        warnings.push(format!(
            "a transaction has been open for {age}, the bound is {bound}: it keeps rows from being vacuumed and may \
             hold locks; find it in pg_stat_activity by xact_start"
        ));
    }
    warnings
}

/// A span in words, to the second.
fn span(span: Duration) -> String {
    match span.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}
