//! What each kind of dependency needs, and what holds where it is not said.
//!
//! A target that is not named is no error here: its fields are listed as missing, and the dependency decides
//! whether that disables it. What stands in the plan for them meanwhile is never used.

mod dns;
mod http;
mod postgres;
mod redis;

pub(super) use dns::nameservers;
pub(in crate::config) use postgres::granted_query;

use super::cursor::Cursor;
use super::tls::tls;
use crate::config::errors::{ConfigError, Errors};
use crate::config::origin::Origin;
use crate::config::plan::{ProbePlan, RECEIVED_MAX, TcpPlan};
use crate::config::raw::{RawDns, RawHttp, RawPostgres, RawRedis, RawTcp};
use crate::config::tree::{Content, Map, Node};
use crate::health::Kind;

/// The fields of a kind, as they were written.
#[derive(Debug)]
pub(super) enum RawKind {
    Postgres(RawPostgres),
    Redis(RawRedis),
    Dns(RawDns),
    Tcp(RawTcp),
    Http(RawHttp),
}

/// A kind's part of a plan.
#[derive(Debug)]
pub(in crate::config) struct Asked {
    pub(in crate::config) probe: ProbePlan,
    /// The host that decides about the scope; `None` where there is no such thing.
    pub(in crate::config) host: Option<String>,
    /// Required fields that nobody set.
    pub(in crate::config) missing: Vec<&'static str>,
}

/// Every so many checks a new connection is made: once a minute by default.
const RECONNECT_EVERY: u64 = 6;

/// Resolves and validates the fields of a kind.
pub(super) fn asked(raw: RawKind, used: bool, at: &Cursor<'_>, warnings: &mut Vec<String>) -> Asked {
    match raw {
        RawKind::Postgres(raw) => postgres::postgres(raw, used, at),
        RawKind::Redis(raw) => redis::redis(raw, used, at),
        RawKind::Dns(raw) => dns::dns(raw, at),
        RawKind::Tcp(raw) => tcp(raw, used, at),
        RawKind::Http(raw) => http::http(raw, used, at, warnings),
    }
}

/// What holds of a kind where nothing is said.
pub(in crate::config) fn granted(kind: Kind) -> Asked {
    let (nothing, errors) = (Node::new(Content::Map(Map::new()), &Origin::Default), Errors::default());
    let raw = match kind {
        Kind::Postgres => RawKind::Postgres(RawPostgres::default()),
        Kind::Redis => RawKind::Redis(RawRedis::default()),
        Kind::Dns => RawKind::Dns(RawDns::default()),
        Kind::Tcp => RawKind::Tcp(RawTcp::default()),
        Kind::Http => RawKind::Http(RawHttp::default()),
    };
    asked(raw, false, &Cursor::new(&nothing, &errors), &mut Vec::new())
}

/// Takes a required value, or notes that it is missing.
fn take<T: Default>(value: Option<T>, field: &'static str, missing: &mut Vec<&'static str>) -> T {
    value.unwrap_or_else(|| {
        missing.push(field);
        T::default()
    })
}

fn host_of(value: Option<String>, at: &Cursor<'_>, missing: &mut Vec<&'static str>) -> String {
    let value = said(value).map(|host| at.key("host").host(host));
    take(value, "host", missing)
}

/// A text, unless it is empty: none of these can be, and templates write "nothing" like that.
fn said(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn tcp(raw: RawTcp, used: bool, at: &Cursor<'_>) -> Asked {
    let mut missing = Vec::new();
    let host = host_of(raw.host, at, &mut missing);
    let plan = TcpPlan {
        host: host.clone(),
        port: take(raw.port.map(|port| at.key("port").port(port)), "port", &mut missing),
        tls: tls(raw.tls, used, &at.key("tls")),
        send: at.key("send").filled(raw.send),
        expect: expected(raw.expect, &at.key("expect")),
    };
    Asked { probe: ProbePlan::Tcp(plan), host: Some(host), missing }
}

/// What is expected in an answer: as a whole, it has to fit into what is looked at of one.
fn expected(raw: Option<String>, at: &Cursor<'_>) -> Option<String> {
    let expected = said(raw)?;
    if expected.len() > RECEIVED_MAX {
        let most = format!("at most {} KiB", RECEIVED_MAX / 1024);
        at.refuse(ConfigError::new("the text is longer than what is looked at of an answer").allowed(most));
    }
    Some(expected)
}
