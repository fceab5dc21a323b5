//! What a PostgreSQL server needs: its bounds, and the queries that are asked of it.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Asked, RECONNECT_EVERY, host_of, said};
use crate::config::bound::{Bound, resolved};
use crate::config::duration::HumanDuration;
use crate::config::errors::{ConfigError, Errors, quoted};
use crate::config::origin::Origin;
use crate::config::percent::Percent;
use crate::config::plan::{OnFailure, PostgresPlan, PostgresWarnPlan, ProbePlan, QueryPlan, Role, SslMode};
use crate::config::raw::{RawPostgres, RawPostgresWarn, RawQuery, RawQueryWarn};
use crate::config::tree::{Content, Map, Node};
use crate::config::validate::cursor::Cursor;
use crate::config::validate::tls::root_cert;
use crate::health::DependencyName;

/// They are asked one after the other, within the time of one check.
const QUERIES_MAX: usize = 20;

/// Time enough to find out who holds the connections before none is left.
const CONNECTIONS_USED: Percent = Percent::of(80);
const REPLICATION_LAG: Duration = Duration::from_secs(30);
const LONGEST_TRANSACTION: Duration = Duration::from_secs(300);

/// Less is measured too coarsely to be warned of.
const LEAST_BOUND: Duration = Duration::from_secs(1);

pub(super) fn postgres(raw: RawPostgres, used: bool, at: &Cursor<'_>) -> Asked {
    let mut missing = Vec::new();
    let host = host_of(raw.host, at, &mut missing);
    let plan = PostgresPlan {
        host: host.clone(),
        port: at.key("port").port(raw.port.unwrap_or(5432)),
        database: said(raw.database).unwrap_or_else(|| "postgres".to_owned()),
        user: said(raw.user).unwrap_or_else(|| "postgres".to_owned()),
        password: at.key("password").filled(raw.password),
        sslmode: raw.sslmode.unwrap_or(SslMode::Prefer),
        root_cert: root_cert(raw.root_cert, used, &at.key("root_cert")),
        role: raw.role.unwrap_or(Role::Any),
        pool_max: at.key("pool").key("max").number(raw.pool.and_then(|pool| pool.max).unwrap_or(2), 1..=100),
        reconnect_every: at
            .key("reconnect_every")
            .number(raw.reconnect_every.unwrap_or(RECONNECT_EVERY), 1..=10_000),
        warn: warn(raw.warn.unwrap_or_default(), &at.key("warn")),
        queries: queries(raw.queries.unwrap_or_default(), &at.key("queries")),
    };
    Asked { probe: ProbePlan::Postgres(plan), host: Some(host), missing }
}

fn warn(raw: RawPostgresWarn, at: &Cursor<'_>) -> PostgresWarnPlan {
    let RawPostgresWarn { connections_used, replication_lag, longest_transaction } = raw;
    let span = |field: &str, raw: Option<Bound<HumanDuration>>, default: Duration| match raw {
        Some(Bound::At(bound)) => Some(at.key(field).duration(bound, LEAST_BOUND)),
        raw => resolved(raw.map(|_| Bound::Off), Some(default)),
    };
    PostgresWarnPlan {
        connections_used: resolved(connections_used, Some(CONNECTIONS_USED)),
        replication_lag: span("replication_lag", replication_lag, REPLICATION_LAG),
        longest_transaction: span("longest_transaction", longest_transaction, LONGEST_TRANSACTION),
    }
}

fn queries(raw: Vec<RawQuery>, at: &Cursor<'_>) -> Vec<QueryPlan> {
    if raw.len() > QUERIES_MAX {
        let what = format!("there are {} queries", raw.len());
        at.refuse(ConfigError::new(what).allowed(format!("at most {QUERIES_MAX}")));
    }
    let mut names = BTreeSet::new();
    let queries = raw.into_iter().take(QUERIES_MAX).enumerate();
    queries.map(|(n, raw)| query(raw, &mut names, &at.index(n))).collect()
}

/// What holds of a query where nothing is said, and the fields that somebody has to say.
pub(in crate::config) fn granted_query() -> (QueryPlan, [&'static str; 2]) {
    let (nothing, errors) = (Node::new(Content::Map(Map::new()), &Origin::Default), Errors::default());
    let plan = query(RawQuery::default(), &mut BTreeSet::new(), &Cursor::new(&nothing, &errors));
    (plan, ["name", "sql"])
}

fn query(raw: RawQuery, names: &mut BTreeSet<String>, at: &Cursor<'_>) -> QueryPlan {
    let RawQuery { name, sql, expect, min, max, warn, on_failure } = raw;
    let RawQueryWarn { min: warn_min, max: warn_max } = warn.unwrap_or_default();
    let plan = QueryPlan {
        name: self::name(name, names, &at.key("name")),
        sql: statement(sql, &at.key("sql")),
        expect: expect.map(|expect| expect.0),
        min: finite(min, &at.key("min")),
        max: finite(max, &at.key("max")),
        warn_min: finite(warn_min, &at.key("warn").key("min")),
        warn_max: finite(warn_max, &at.key("warn").key("max")),
        on_failure: on_failure.unwrap_or(OnFailure::Fail),
    };
    let bounded = [min, max, warn_min, warn_max].iter().any(Option::is_some);
    if plan.expect.is_none() && !bounded && !at.errors().any_within(at.path()) {
        at.refuse(
            ConfigError::new("the query has nothing that its answer is held against")
                .allowed("at least one of `expect`, `min`, `max`, `warn.min` and `warn.max`")
                .advice("say what the value should be"),
        );
    } else if plan.expect.is_some() && bounded {
        let error = ConfigError::new("the query expects one value and has bounds besides");
        at.key("expect").refuse(error.advice("remove `expect` or the bounds"));
    }
    in_order(&plan, at);
    plan
}

fn name(raw: Option<String>, names: &mut BTreeSet<String>, at: &Cursor<'_>) -> String {
    let Some(name) = said(raw) else {
        at.required("give the query one");
        return String::new();
    };
    if at.secret() {
        let error = ConfigError::new("a name cannot come from a secret file");
        at.refuse(error.advice("write the name, it is shown everywhere"));
    } else if DependencyName::parse(&name).is_none() {
        let allowed = "1 to 63 lower-case letters, digits, `-` and `_`, beginning with a letter";
        at.refuse(ConfigError::new(format!("{} is no name of a query", at.shown(&name))).allowed(allowed));
    } else if !names.insert(name.clone()) {
        let error = ConfigError::new(format!("there are two queries called {}", quoted(&name)));
        at.refuse(error.advice("rename one of them"));
    }
    name
}

/// One statement, that can stand in brackets.
fn statement(raw: Option<String>, at: &Cursor<'_>) -> String {
    let sql = raw.unwrap_or_default();
    let sql = sql.trim_end_matches(|c: char| c == ';' || c.is_whitespace());
    if sql.trim_start().is_empty() {
        at.required("write the statement that is to be asked");
    }
    sql.to_owned()
}

fn finite(bound: Option<f64>, at: &Cursor<'_>) -> Option<f64> {
    if bound.is_some_and(|bound| !bound.is_finite()) {
        at.refuse(ConfigError::new(format!("{} is no bound", at.found())).allowed("a finite number"));
    }
    bound
}

/// Refuses bounds that no value could keep, and warnings that could never come.
fn in_order(plan: &QueryPlan, at: &Cursor<'_>) {
    let warn = at.key("warn");
    let above = |a: Option<f64>, b: Option<f64>| a.zip(b).is_some_and(|(a, b)| a > b);
    let refuse = |at: Cursor<'_>, allowed: &str| {
        at.refuse(ConfigError::new(format!("{} is out of range", at.found())).allowed(allowed));
    };
    if above(plan.min, plan.max) {
        refuse(at.key("max"), "at least `min`");
    }
    if above(plan.warn_min, plan.warn_max) {
        refuse(warn.key("max"), "at least `warn.min`");
    }
    // Beyond the bound that fails, nothing is left to be warned of.
    if above(plan.warn_max, plan.max) {
        refuse(warn.key("max"), "at most `max`");
    }
    if above(plan.min, plan.warn_min) {
        refuse(warn.key("min"), "at least `min`");
    }
}
