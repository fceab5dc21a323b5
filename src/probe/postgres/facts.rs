//! What a server tells of itself: one statement, one round trip, no rights beyond those of any role.
//!
//! It holds for PostgreSQL 10 and later, RDS and Aurora, primaries and replicas. Who lacks `pg_monitor` (or
//! `pg_read_all_stats`) sees the sessions of its own role only; then what would be counted wrong is not told at all.

use std::time::Duration;

use serde_json::Value;
use tokio_postgres::SimpleQueryRow;

use super::session::text;
use crate::health::observation::{Connections, PostgresDetails};

/// Applications that are told one by one; the others are told together.
const APPLICATIONS_TOLD: usize = 20;

/// Everything. The columns are those that [`Facts::read`] takes, in its order.
///
/// - Of connections those of clients are counted: background workers and the senders of replication have places
///   of their own.
/// - A function that a server has not, or does not let be called (as Aurora those of replication), must not even be
///   evaluated: hence the `CASE`.
pub(super) const ALL: &str = "
WITH clients AS (
  SELECT pid, client_addr, xact_start, coalesce(state, 'starting') AS state,
         coalesce(nullif(application_name, ''), '(none)') AS application
  FROM pg_stat_activity WHERE backend_type = 'client backend'
), own AS (
  SELECT state FROM clients WHERE client_addr = inet_client_addr()
)
SELECT current_setting('server_version'), pg_is_in_recovery(), current_setting('transaction_read_only'),
  current_database(), current_user,
  pg_has_role(current_user, 'pg_read_all_stats', 'USAGE'),
  current_setting('max_connections'),
  current_setting('superuser_reserved_connections')::int
    + coalesce(nullif(current_setting('reserved_connections', true), '')::int, 0)
    + coalesce(nullif(current_setting('rds.rds_superuser_reserved_connections', true), '')::int, 0),
  (SELECT count(*) FROM clients),
  (SELECT json_object_agg(state, n) FROM (SELECT state, count(*) AS n FROM clients GROUP BY 1) AS s),
  (SELECT json_object_agg(application, n) FROM
    (SELECT application, count(*) AS n FROM clients GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 20) AS a),
  (SELECT count(*) FROM own),
  (SELECT json_object_agg(state, n) FROM (SELECT state, count(*) AS n FROM own GROUP BY 1) AS s),
  (SELECT coalesce(extract(epoch FROM max(clock_timestamp() - xact_start)), 0)
    FROM clients WHERE pid <> pg_backend_pid()),
  CASE WHEN pg_is_in_recovery() AND NOT EXISTS (SELECT FROM pg_proc WHERE proname = 'aurora_version') THEN
    json_build_object(
      'receiving', EXISTS (SELECT FROM pg_stat_wal_receiver),
      'has_received', pg_last_wal_receive_lsn() IS NOT NULL,
      'caught_up', pg_last_wal_receive_lsn() <= pg_last_wal_replay_lsn(),
      'behind', extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()))
  END";

/// What any server that speaks the protocol can tell. Asked where it does not take [`ALL`].
pub(super) const FEW: &str = "SELECT current_setting('server_version'), pg_is_in_recovery(), \
                              current_setting('transaction_read_only'), current_database(), current_user";

/// What a server told of itself.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// All that is shown as it was told.
    pub(super) details: PostgresDetails,
    /// Of a replica, what its lag is judged by.
    pub(super) replay: Option<Replay>,
}

/// How far a replica has come.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Replay {
    /// Whether a primary sends to it.
    pub(super) receiving: bool,
    /// Whether one ever did, since the server started.
    pub(super) has_received: bool,
    /// Whether all that was received is replayed.
    pub(super) caught_up: bool,
    /// How long ago the last transaction that is replayed was committed.
    pub(super) behind: Option<Duration>,
}

impl Facts {
    /// From the answer to [`ALL`] or [`FEW`]; `None` where it is neither's.
    pub(super) fn read(row: &SimpleQueryRow) -> Option<Self> {
        Self::from(&|column| text(row, column))
    }

    fn from<'a>(column: &dyn Fn(usize) -> Option<&'a str>) -> Option<Self> {
        let mut details = PostgresDetails {
            server_version: column(0)?.to_owned(),
            in_recovery: column(1)? == "t",
            read_only: column(2)? == "on",
            database: column(3)?.to_owned(),
            user: column(4)?.to_owned(),
            ..PostgresDetails::default()
        };
        // Where nothing more was asked, nothing more is there.
        let Some(sees_all) = column(5) else { return Some(Self { details, replay: None }) };
        let number = |n: usize| column(n).and_then(|text| text.parse().ok());
        details.connections.max = number(6);
        details.connections.reserved = number(7);
        if sees_all == "t" {
            let used = number(8);
            details.connections = Connections {
                used,
                by_state: column(9).map(counts),
                by_application: column(10).map(counts).zip(used).map(|(told, used)| complete(told, used)),
                this_task: number(11),
                // From nowhere, as a session through a Unix socket is, there are none to count.
                this_task_by_state: Some(column(12).map(counts).unwrap_or_default()),
                ..details.connections
            };
            details.longest_transaction = column(13).and_then(|text| seconds(text.parse().ok()?));
        } else {
            let note = "connections and the longest transaction are not told: this user sees its own sessions \
                        only; `GRANT pg_monitor` to it";
            details.hidden = Some(note.to_owned());
        }
        let replay = column(14).and_then(|text| serde_json::from_str(text).ok()).map(|it: Value| Replay {
            receiving: it["receiving"] == true,
            has_received: it["has_received"] == true,
            caught_up: it["caught_up"] == true,
            behind: it["behind"].as_f64().and_then(seconds),
        });
        Some(Self { details, replay })
    }
}

/// A JSON object of counts, the highest first.
fn counts(text: &str) -> Vec<(String, u32)> {
    let Ok(Value::Object(map)) = serde_json::from_str(text) else { return Vec::new() };
    let number = |value: &Value| value.as_u64().and_then(|n| u32::try_from(n).ok());
    let mut counts: Vec<(String, u32)> =
        map.iter().filter_map(|(key, value)| Some((key.clone(), number(value)?))).collect();
    counts.sort_by(|(a, n), (b, m)| m.cmp(n).then_with(|| a.cmp(b)));
    counts
}

/// With those that were too many to be told one by one.
fn complete(mut told: Vec<(String, u32)>, used: u32) -> Vec<(String, u32)> {
    let others = used.saturating_sub(told.iter().map(|(_, n)| n).sum());
    if told.len() >= APPLICATIONS_TOLD && others > 0 {
        told.push(("(others)".to_owned(), others));
    }
    told
}

/// A span in seconds. The clocks of two servers differ a little: what lies ahead is now.
fn seconds(span: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(span.max(0.0)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: [Option<&str>; 15] = [
        Some("15.4"),
        Some("t"),
        Some("on"),
        Some("mlflow_db"),
        Some("app"),
        Some("t"),
        Some("100"),
        Some("5"),
        Some("12"),
        Some(r#"{ "idle" : 7, "active" : 5 }"#),
        Some(r#"{ "api" : 9, "(none)" : 3 }"#),
        Some("4"),
        Some(r#"{ "idle" : 4 }"#),
        Some("61.5"),
        Some(r#"{"receiving" : true, "has_received" : true, "caught_up" : false, "behind" : -0.25}"#),
    ];

    fn read(columns: &[Option<&'static str>]) -> Facts {
        Facts::from(&|n| columns.get(n).copied().flatten()).expect("facts")
    }

    fn with(column: usize, text: Option<&'static str>) -> Facts {
        let mut columns = WHOLE;
        columns[column] = text;
        read(&columns)
    }

    fn pairs(of: &[(&str, u32)]) -> Option<Vec<(String, u32)>> {
        Some(of.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect())
    }

    #[test]
    fn all_that_a_server_tells_is_read() {
        let Facts { details, replay } = read(&WHOLE);
        assert_eq!((details.in_recovery, details.read_only), (true, true));
        assert_eq!(
            details.connections,
            Connections {
                used: Some(12),
                max: Some(100),
                reserved: Some(5),
                by_state: pairs(&[("idle", 7), ("active", 5)]),
                by_application: pairs(&[("api", 9), ("(none)", 3)]),
                this_task: Some(4),
                this_task_by_state: pairs(&[("idle", 4)]),
            }
        );
        assert_eq!(details.longest_transaction, Some(Duration::from_millis(61_500)));
        let behind = Some(Duration::ZERO);
        assert_eq!(replay, Some(Replay { receiving: true, has_received: true, caught_up: false, behind }));
        assert!(details.hidden.is_none());
    }

    #[test]
    fn what_the_user_may_not_see_is_not_told_and_the_rest_is() {
        let Facts { details, .. } = with(5, Some("f"));
        let limits = Connections { max: Some(100), reserved: Some(5), ..Connections::default() };
        assert_eq!((&details.connections, details.longest_transaction), (&limits, None));
        assert!(details.hidden.is_some_and(|why| why.contains("GRANT pg_monitor")));
    }

    #[test]
    fn few_facts_are_facts_and_less_is_none() {
        let Facts { details, replay } = read(&WHOLE[..5]);
        assert_eq!(
            (details.user.as_str(), details.connections, replay),
            ("app", Connections::default(), None)
        );
        assert!(Facts::from(&|n| WHOLE[..4].get(n).copied().flatten()).is_none());
        assert_eq!(with(14, None).replay, None, "a primary, or Aurora");
    }

    #[test]
    fn many_applications_are_told_in_part_and_add_up() {
        let told: Vec<(String, u32)> = (0..20).map(|n| (n.to_string(), 2)).collect();
        let all = complete(told.clone(), 100);
        assert_eq!(all.last(), Some(&("(others)".to_owned(), 60)));
        assert_eq!(complete(told, 40).len(), 20);
    }
}
