//! A primary and a standby that really follows it: roles, lag, a lost link, a promotion.

use serde_json::{Value, json};

use crate::support::config::{Config, WELL, failure, on_postgres, told};
use crate::support::postgres::{LETS_REPLICATE, Postgres, PostgresOptions};
use crate::support::wait::eventually;

async fn pair() -> (Postgres, Postgres) {
    let hba = vec![LETS_REPLICATE.to_owned()];
    let primary = Postgres::start(PostgresOptions { hba, ..Default::default() }).await;
    primary.sql("CREATE TABLE t (n int)").await;
    let standby = primary.standby(PostgresOptions::default()).await;
    let follows = || async {
        match &standby.try_sql("SELECT count(*) FROM pg_stat_wal_receiver").await {
            Ok(rows) if rows == &[["1"]] => Ok(()),
            other => Err(format!("{other:?}")),
        }
    };
    eventually("the standby to follow", follows).await;
    (primary, standby)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_told_with_its_lag_and_what_holds_it_up() {
    let (mut primary, standby) = pair().await;
    let config = Config::quick([
        on_postgres("replica", &standby, json!({"role": "replica", "warn": {"replication_lag": "1s"}})),
        on_postgres("wrong", &standby, json!({"role": "primary"})),
        on_postgres("primary", &primary, json!({"role": "primary"})),
    ]);
    let agent = config.agent().await;
    let lag = |it: &Value| it["details"]["replication_lag_seconds"].as_f64();
    // It has replayed all there is, however long ago that was.
    let well = agent.until_dependency("replica", |it| it["status"] == "up", "a replica that is well").await;
    assert_eq!((lag(&well), &well["details"]["role"]), (Some(0.0), &json!("replica")), "{well:#}");
    let wrong = agent.until_dependency("wrong", |it| it["last_failure"].is_object(), "a failure").await;
    assert_eq!(failure(&wrong), ["query", "wrong_role", "-"], "{wrong:#}");
    assert_eq!(wrong["details"]["role"], "replica", "what it said is told although it is wrong");
    let seen = agent.until_dependency("primary", |it| it["status"] == "up", "a primary that is well").await;
    assert_eq!((lag(&seen), &seen["details"]["role"]), (None, &json!("primary")));

    // A replay that is held up, with something to replay.
    standby.sql("SELECT pg_wal_replay_pause()").await;
    primary.sql("INSERT INTO t VALUES (1)").await;
    let warned = |it: &Value, of: &str| it["warnings"].to_string().contains(of);
    let behind = |it: &Value| warned(it, "behind its primary");
    let late = agent.until_dependency("replica", behind, "its lag").await;
    assert!(late["status"] == "degraded" && lag(&late) > Some(1.0), "{late:#}");
    standby.sql("SELECT pg_wal_replay_resume()").await;
    let well = agent.until_dependency("replica", |it| it["status"] == "up", "that it has caught up").await;
    assert_eq!(lag(&well), Some(0.0), "{well:#}");

    // A replica whose primary is gone does not know how far behind it is.
    primary.stop().await;
    let lost = |it: &Value| warned(it, "receives nothing from its primary");
    agent.until_dependency("replica", lost, "the lost link").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_is_noticed_over_a_kept_connection() {
    let (_primary, standby) = pair().await;
    let rarely = json!({"reconnect_every": 10_000});
    let config = Config::quick([
        on_postgres("any", &standby, rarely.clone()),
        on_postgres("was-replica", &standby, json!({"role": "replica", "reconnect_every": 10_000})),
    ]);
    let agent = config.agent().await;
    let created = |it: &Value| it["pool"]["created"].as_u64();
    agent.until_dependency("any", |it| it["details"]["role"] == "replica", "the replica").await;
    agent.until_dependency("was-replica", |it| it["status"] == "up", "the replica").await;
    assert_eq!(standby.sql("SELECT pg_promote()").await, [["t"]]);
    let promoted = |it: &Value| it["details"]["role"] == "primary" && it["status"] == "up";
    let seen = agent.until_dependency("any", promoted, "the primary").await;
    assert_eq!(failure(&seen), WELL, "{seen:#}");
    assert_eq!(created(&seen), Some(2), "what a new connection leads to is what counts: {seen:#}");
    let wrong = agent.until_dependency("was-replica", |it| it["last_failure"].is_object(), "a failure").await;
    assert_eq!(failure(&wrong), ["query", "wrong_role", "-"], "{wrong:#}");
    assert!(told(&wrong, "message").contains("expected a replica"), "{wrong:#}");
}
