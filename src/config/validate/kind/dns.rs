//! The kind `dns`: the name, the servers to ask, and what has to be in the answer.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::super::cursor::Cursor;
use super::{Asked, RawDns, said, take};
use crate::config::errors::ConfigError;
use crate::config::host;
use crate::config::plan::{DnsPlan, Nameserver, ProbePlan, RecordType};

/// All are asked in each check, from one budget of packets.
const NAMESERVERS_MAX: usize = 8;

pub(super) fn dns(raw: RawDns, at: &Cursor<'_>) -> Asked {
    let mut missing = Vec::new();
    let query = said(raw.query).map(|query| name(query, &at.key("query")));
    let record = raw.record.unwrap_or(RecordType::A);
    let expect = raw.expect.unwrap_or_default();
    let plan = DnsPlan {
        query: take(query, "query", &mut missing),
        record,
        nameservers: match raw.nameservers {
            Some(raw) => nameservers(raw, &at.key("nameservers")),
            None => vec![Nameserver::System],
        },
        expect_addresses: networks(
            expect.addresses.unwrap_or_default(),
            record,
            &at.key("expect").key("addresses"),
        ),
        expect_min: at.key("expect").key("min").number(expect.min.unwrap_or(1), 1..=100),
    };
    Asked { probe: ProbePlan::Dns(plan), host: None, missing }
}

fn name(query: String, at: &Cursor<'_>) -> String {
    if host::address(&query).is_some() {
        let what = format!("{} is an address and no name", at.shown(&query));
        at.refuse(ConfigError::new(what).allowed("a name to resolve"));
        return query;
    }
    at.host(query)
}

/// The name servers in a list, which must have one.
pub(in crate::config::validate) fn nameservers(raw: Vec<String>, at: &Cursor<'_>) -> Vec<Nameserver> {
    if at.empty_list() {
        at.refuse(ConfigError::new("the list is empty").allowed("at least one of `system` or an address"));
    }
    if raw.len() > NAMESERVERS_MAX {
        let what = format!("{} name servers are too many", raw.len());
        at.refuse(ConfigError::new(what).allowed(format!("at most {NAMESERVERS_MAX}")));
    }
    let mut servers = Vec::new();
    for (at, text) in at.elements(raw) {
        match nameserver(&text, &at) {
            Some(server) if servers.contains(&server) => {
                let what = format!("{} is named twice", at.shown_address(&text));
                at.refuse(ConfigError::new(what).advice("remove one of them"));
            }
            Some(server) => servers.push(server),
            None => {}
        }
    }
    servers
}

fn nameserver(text: &str, at: &Cursor<'_>) -> Option<Nameserver> {
    let server = match text {
        "system" => Some(Nameserver::System),
        _ => text
            .parse::<SocketAddr>()
            .ok()
            .or_else(|| text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 53)))
            .filter(|server| {
                server.port() != 0 && !server.ip().is_unspecified() && !server.ip().is_multicast()
            })
            .map(Nameserver::At),
    };
    if server.is_none() {
        let what = format!("{} is no name server", at.shown_address(text));
        let error = ConfigError::new(what).allowed("`system`, or an IP address with or without a port");
        at.refuse(if host::has_a_zone(text) { error.advice(host::NO_ZONES) } else { error });
    }
    server
}

fn networks(raw: Vec<String>, record: RecordType, at: &Cursor<'_>) -> Vec<IpNet> {
    let v6 = match record {
        RecordType::A => false,
        RecordType::Aaaa => true,
        RecordType::Cname | RecordType::Srv | RecordType::Txt => {
            if !raw.is_empty() {
                let what = format!("a record of type {record} has no addresses");
                at.refuse(ConfigError::new(what).advice("ask for `A` or `AAAA`, or remove the networks"));
            }
            return Vec::new();
        }
    };
    at.elements(raw)
        .filter_map(|(at, text)| {
            let network = network(&text, &at)?;
            if matches!(network, IpNet::V6(_)) != v6 {
                let what = format!("{} holds no address that a record of type {record} has", at.shown(&text));
                at.refuse(ConfigError::new(what).advice("remove it, or ask for the other type"));
            }
            Some(network)
        })
        .collect()
}

/// A network, or one address as a network of itself.
fn network(text: &str, at: &Cursor<'_>) -> Option<IpNet> {
    let network = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    if network.is_none() {
        let what = format!("{} is no network", at.shown(text));
        at.refuse(ConfigError::new(what).allowed("a network such as `10.0.0.0/8`, or an address"));
    }
    network
}
