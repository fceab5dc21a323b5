//! What a server tells of itself: one round trip, and no rights beyond those of any role.
//!
//! It holds for PostgreSQL 10 and later, RDS and Aurora, primaries and replicas. Who lacks `pg_monitor` (or
//! `pg_read_all_stats`) sees the sessions of its own role only; then what would be counted wrong is not told at all.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;
use tokio_postgres::SimpleQueryRow;

use super::session::text;
use crate::health::observation::{Connections, PostgresDetails};

/// Applications, or states, that are told one by one; the others are told together.
const TOLD_ONE_BY_ONE: usize = 20;

/// What any server that speaks the protocol can tell, and every check has to know.
pub(super) const FEW: &str = "SELECT current_setting('server_version'), pg_is_in_recovery(), \
                              current_setting('transaction_read_only'), current_database(), current_user";

/// Everything: a row about the server, which begins as [`FEW`], and then one for each group of sessions.
///
/// - A function that a server has not, or does not let be called (as Aurora those of replication), must not even be
///   evaluated: hence the `CASE`.
/// - Of sessions those of clients are counted: background workers and the senders of replication have places of their
///   own. The function is asked and not `pg_stat_activity`, which is a view of it joined with names that are not
///   needed, and five times as dear.
pub(super) const ALL: &str = "\
SELECT current_setting('server_version'), pg_is_in_recovery(), current_setting('transaction_read_only'), \
  current_database(), current_user, pg_has_role('pg_read_all_stats', 'USAGE'), \
  current_setting('max_connections'), current_setting('superuser_reserved_connections'), \
  current_setting('reserved_connections', true), \
  current_setting('rds.rds_superuser_reserved_connections', true), \
  CASE WHEN pg_is_in_recovery() AND to_regproc('aurora_version') IS NULL THEN json_build_object( \
    'receiving', (SELECT pid IS NOT NULL FROM pg_stat_get_wal_receiver()), \
    'has_received', pg_last_wal_receive_lsn() IS NOT NULL, \
    'caught_up', pg_last_wal_receive_lsn() <= pg_last_wal_replay_lsn(), \
    'behind', extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())) END, \
  host(inet_client_addr()); \
SELECT state, application_name, client_addr = inet_client_addr(), count(*), \
  extract(epoch FROM max(clock_timestamp() - xact_start) FILTER (WHERE pid <> pg_backend_pid())) \
FROM pg_stat_get_activity(NULL) WHERE backend_type = 'client backend' GROUP BY 1, 2, 3";

/// What a server told of itself.
#[derive(Debug, Clone, Default)]
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

/// Sessions that are alike.
#[derive(Debug)]
struct Group {
    state: String,
    application: String,
    /// From the address that we come from.
    own: bool,
    sessions: u32,
    /// How long the oldest transaction among them has been open.
    transaction: Option<Duration>,
}

impl Facts {
    /// From the answer to [`FEW`] or [`ALL`], heard by a session of ours that comes from `local`; `None` where it is
    /// neither's.
    pub(super) fn read(rows: &[SimpleQueryRow], local: Option<IpAddr>) -> Option<Self> {
        let (server, groups) = rows.split_first()?;
        let groups = groups.iter().filter_map(|row| Group::read(&columns(row)));
        Self::from(&columns(server), groups.collect(), local)
    }

    fn from(columns: &[Option<&str>], groups: Vec<Group>, local: Option<IpAddr>) -> Option<Self> {
        let column = |n: usize| columns.get(n).copied().flatten();
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
        let number = |n: usize| -> Option<u32> { column(n)?.parse().ok() };
        let reserved = [7, 8, 9].into_iter().filter_map(number).sum();
        let limits = Connections { max: number(6), reserved: Some(reserved), ..Connections::default() };
        if sees_all == "t" {
            details.connections = counted(&groups, limits);
            let oldest = groups.iter().filter_map(|group| group.transaction).max();
            details.longest_transaction = Some(oldest.unwrap_or_default());
            let seen = column(11);
            if !is_this_task(seen.and_then(|text| text.parse().ok()), local) {
                details.connections.this_task = None;
                details.connections.this_task_by_state = None;
                let seen = seen.unwrap_or("a socket of its own host");
                details.hidden = Some(format!(
                    "the connections of this task are not told: to the server they come from {seen}, through a pooler, \
                     a proxy or NAT"
                ));
            }
        } else {
            details.connections = limits;
            let why = "connections and the longest transaction are not told: this user sees its own sessions only; \
                       `GRANT pg_monitor` to it";
            details.hidden = Some(why.to_owned());
        }
        let replay = column(10).and_then(|text| serde_json::from_str(text).ok()).map(|it: Value| Replay {
            receiving: it["receiving"] == true,
            has_received: it["has_received"] == true,
            caught_up: it["caught_up"] == true,
            behind: it["behind"].as_f64().and_then(seconds),
        });
        Some(Self { details, replay })
    }

    /// What [`FEW`] told, with the rest as it was told a moment ago.
    pub(super) fn with_the_rest_of(self, before: Self) -> Self {
        let PostgresDetails { server_version, in_recovery, read_only, database, user, .. } = self.details;
        let replication_lag = before.details.replication_lag.filter(|_| in_recovery);
        let details = PostgresDetails {
            server_version,
            in_recovery,
            read_only,
            database,
            user,
            replication_lag,
            ..before.details
        };
        Self { details, replay: before.replay.filter(|_| in_recovery) }
    }
}

impl Group {
    fn read(columns: &[Option<&str>]) -> Option<Self> {
        let column = |n: usize| columns.get(n).copied().flatten();
        let named =
            |n: usize, unnamed: &str| column(n).filter(|name| !name.is_empty()).unwrap_or(unnamed).to_owned();
        Some(Self {
            // A session has none while it logs in.
            state: named(0, "starting"),
            application: named(1, "(none)"),
            own: column(2) == Some("t"),
            sessions: column(3)?.parse().ok()?,
            transaction: column(4).and_then(|text| seconds(text.parse().ok()?)),
        })
    }
}

/// Whether the address that the server sees is that of this task. Who is reached by loopback, such as a pooler in the
/// same task, goes on from there.
fn is_this_task(seen: Option<IpAddr>, local: Option<IpAddr>) -> bool {
    match (seen.map(|it| it.to_canonical()), local.map(|it| it.to_canonical())) {
        (Some(seen), Some(local)) => seen == local || local.is_loopback(),
        _ => false,
    }
}

fn columns(row: &SimpleQueryRow) -> Vec<Option<&str>> {
    (0..row.len()).map(|column| text(row, column)).collect()
}

fn counted(groups: &[Group], limits: Connections) -> Connections {
    let own = || groups.iter().filter(|group| group.own);
    let sum = |groups: &mut dyn Iterator<Item = &Group>| groups.map(|group| group.sessions).sum();
    Connections {
        used: Some(sum(&mut groups.iter())),
        by_state: Some(by(groups.iter().map(|group| (&group.state, group.sessions)))),
        by_application: Some(by(groups.iter().map(|group| (&group.application, group.sessions)))),
        this_task: Some(sum(&mut own())),
        this_task_by_state: Some(by(own().map(|group| (&group.state, group.sessions)))),
        ..limits
    }
}

/// The sums by name, the highest first; beyond a number of names, what is left as one.
fn by<'a>(counts: impl Iterator<Item = (&'a String, u32)>) -> Vec<(String, u32)> {
    let mut sums: BTreeMap<&str, u32> = BTreeMap::new();
    for (name, count) in counts {
        *sums.entry(name).or_default() += count;
    }
    let mut sums: Vec<(String, u32)> = sums.into_iter().map(|(name, sum)| (name.to_owned(), sum)).collect();
    sums.sort_by(|(a, n), (b, m)| m.cmp(n).then_with(|| a.cmp(b)));
    let others: u32 = sums.iter().skip(TOLD_ONE_BY_ONE).map(|(_, sum)| sum).sum();
    sums.truncate(TOLD_ONE_BY_ONE);
    if others > 0 {
        sums.push(("(others)".to_owned(), others));
    }
    sums
}

/// A span in seconds. The clocks of two servers differ a little: what lies ahead is now.
fn seconds(span: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(span.max(0.0)).ok()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const SERVER: [Option<&str>; 12] = [
        Some("16.4"),
        Some("t"),
        Some("on"),
        Some("mlflow_db"),
        Some("app"),
        Some("t"),
        Some("100"),
        Some("3"),
        Some("2"),
        None,
        Some(r#"{"receiving" : true, "has_received" : true, "caught_up" : false, "behind" : -0.25}"#),
        Some("10.0.1.5"),
    ];

    const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 1, 5));

    const GROUPS: [[Option<&str>; 5]; 4] = [
        [Some("idle"), Some("api"), Some("t"), Some("4"), None],
        [Some("idle"), Some("worker"), Some("f"), Some("3"), None],
        [Some("idle in transaction"), Some("api"), Some("t"), Some("2"), Some("61.5")],
        [None, Some(""), None, Some("1"), Some("-0.1")],
    ];

    fn groups() -> Vec<Group> {
        GROUPS.iter().filter_map(|columns| Group::read(columns)).collect()
    }

    fn with(changed: usize, text: Option<&'static str>) -> Facts {
        let mut columns = SERVER;
        columns[changed] = text;
        Facts::from(&columns, groups(), Some(LOCAL)).expect("facts")
    }

    fn pairs(of: &[(&str, u32)]) -> Option<Vec<(String, u32)>> {
        Some(of.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect())
    }

    #[test]
    fn all_that_a_server_tells_is_read() {
        let Facts { details, replay } = with(0, Some("16.4"));
        assert_eq!((details.in_recovery, details.read_only), (true, true));
        assert_eq!(
            details.connections,
            Connections {
                used: Some(10),
                max: Some(100),
                reserved: Some(5),
                by_state: pairs(&[("idle", 7), ("idle in transaction", 2), ("starting", 1)]),
                by_application: pairs(&[("api", 6), ("worker", 3), ("(none)", 1)]),
                this_task: Some(6),
                this_task_by_state: pairs(&[("idle", 4), ("idle in transaction", 2)]),
            }
        );
        assert_eq!(details.longest_transaction, Some(Duration::from_millis(61_500)));
        let behind = Some(Duration::ZERO);
        assert_eq!(replay, Some(Replay { receiving: true, has_received: true, caught_up: false, behind }));
        assert_eq!(details.hidden, None);
    }

    #[test]
    fn what_the_user_may_not_see_is_not_told_and_the_rest_is() {
        let Facts { details, .. } = with(5, Some("f"));
        let limits = Connections { max: Some(100), reserved: Some(5), ..Connections::default() };
        assert_eq!((&details.connections, details.longest_transaction), (&limits, None));
        assert!(details.hidden.is_some_and(|why| why.contains("GRANT pg_monitor")));
    }

    #[test]
    fn connections_of_this_task_are_told_only_where_its_address_is_seen() {
        for (seen, local, told) in [
            (Some("10.0.1.5"), "10.0.1.5", true),
            (Some("10.0.1.5"), "::ffff:10.0.1.5", true),
            (Some("10.0.1.5"), "127.0.0.1", true),
            (Some("10.0.1.5"), "10.0.1.6", false),
            (None, "10.0.1.5", false),
            (None, "127.0.0.1", false),
        ] {
            let mut columns = SERVER;
            columns[11] = seen;
            let facts = Facts::from(&columns, groups(), local.parse().ok()).expect("facts");
            let connections = &facts.details.connections;
            let shown = [connections.this_task.is_some(), connections.this_task_by_state.is_some()];
            assert_eq!(shown, [told; 2], "{seen:?} {local}");
            assert_eq!(
                (connections.used, facts.details.hidden.is_none()),
                (Some(10), told),
                "{seen:?} {local}"
            );
        }
    }

    #[test]
    fn few_facts_are_facts_and_less_is_none() {
        let few = Facts::from(&SERVER[..5], Vec::new(), Some(LOCAL)).expect("facts");
        assert_eq!((few.details.user.as_str(), few.replay), ("app", None));
        assert_eq!(few.details.connections, Connections::default());
        assert!(Facts::from(&SERVER[..4], Vec::new(), Some(LOCAL)).is_none());
        assert_eq!(with(10, None).replay, None, "a primary, or Aurora");
    }

    #[test]
    fn few_facts_go_with_the_rest_of_a_moment_ago() {
        let mut before = with(2, Some("off"));
        before.details.replication_lag = Some(Duration::from_secs(7));
        let few = Facts::from(&SERVER[..5], Vec::new(), Some(LOCAL)).expect("facts");
        let both = few.clone().with_the_rest_of(before.clone());
        assert_eq!(both.details.connections, before.details.connections);
        assert!(both.details.read_only && both.replay.is_some(), "what is newer holds");
        assert_eq!(both.details.replication_lag, before.details.replication_lag);
        let promoted = Facts { details: PostgresDetails { in_recovery: false, ..few.details }, replay: None };
        let promoted = promoted.with_the_rest_of(before);
        assert_eq!((promoted.replay, promoted.details.replication_lag), (None, None));
    }

    #[test]
    fn many_applications_are_told_in_part_and_add_up() {
        let alike = |n: u32| Group {
            state: "idle".into(),
            application: format!("app-{n}"),
            own: false,
            sessions: 2,
            transaction: None,
        };
        let groups: Vec<Group> = (0..30).map(alike).collect();
        let counted = counted(&groups, Connections::default());
        let told = counted.by_application.expect("counts");
        assert_eq!((told.len(), told.last()), (21, Some(&("(others)".to_owned(), 20))));
        assert_eq!(told.iter().map(|(_, n)| n).sum::<u32>(), counted.used.expect("a sum"));
    }
}
