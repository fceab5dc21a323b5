//! The effective configuration as it may be shown: every default resolved, every secret `***`, and where each
//! value comes from.
//!
//! It is made from the plan and not from the files, so that it cannot show anything but what is used. It has
//! the shape of the YAML. Secrets are not in it because they are written as `***` where it is made; what comes
//! from a secret file is found by the tree and covered afterwards, in whatever field it stands.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::bound::OFF;
use super::duration::format_duration;
use super::origin::Origin;
use super::path::{Path, Step};
use super::plan::{
    Expected, HttpPlan, LogPlan, Nameserver, PostgresPlan, PostgresWarnPlan, ProbePlan, QueryPlan, RedisPlan,
    ResolverPlan, ServerPlan, ServicePlan, TlsPlan, TokenPlan,
};
use super::secret::{REDACTED, Secret};
use super::tree::Node;
use super::user_info;
use super::validate::{Checking, Resolved};
use crate::health::Policy;

/// The values as the text of a configuration file. There a `$` is doubled, because one that stands alone
/// could begin a substitution.
pub(super) fn as_file(values: &Value) -> String {
    fn doubled(value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(text.replace('$', "$$")),
            Value::Array(list) => list.iter().map(doubled).collect(),
            Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), doubled(value))).collect(),
            other => other.clone(),
        }
    }
    // What came from JSON can be written as YAML.
    serde_yaml::to_string(&doubled(values)).unwrap_or_else(|error| error.to_string())
}

/// What may be shown of a configuration.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct View {
    /// The values, in the shape of the YAML.
    pub(super) values: Value,
    /// Where each setting comes from, by its path.
    pub(super) origins: BTreeMap<String, String>,
}

/// Calls `each` with the path and the value of every setting, in order. Dependencies go by their names. A list is one
/// setting, unless it is a list of maps.
pub(super) fn settings<'a>(value: &'a Value, path: String, each: &mut impl FnMut(String, &'a Value)) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            map.iter().for_each(|(key, value)| settings(value, below(&path, key), each));
        }
        Value::Array(entries) if path == DEPENDENCIES => {
            let name = |entry: &'a Value| entry["name"].as_str().unwrap_or_default();
            entries.iter().for_each(|entry| settings(entry, below(&path, name(entry)), each));
        }
        Value::Array(list) if of_maps(list) => {
            list.iter().enumerate().for_each(|(n, value)| settings(value, format!("{path}[{n}]"), each));
        }
        setting => each(path, setting),
    }
}

const DEPENDENCIES: &str = "dependencies";

fn below(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn of_maps(list: &[Value]) -> bool {
    list.iter().any(Value::is_object)
}

/// The view of a plan in the making. `tree` is what its values came from.
pub(super) fn view(
    service: &ServicePlan,
    server: &ServerPlan,
    log: &LogPlan,
    resolver: &ResolverPlan,
    defaults: &Checking,
    dependencies: &[Resolved],
    tree: &Node,
) -> View {
    let mut values = json!({
        "service": {"name": service.name, "environment": service.environment},
        "server": {
            "listen": server.listen.to_string(),
            "operator": {
                "listen": server.operator_listen.map(|listen| listen.to_string()),
                "require_token_for_reads": server.require_token_for_reads,
            },
            "admin_token": server.admin_token.as_ref().map(|_| REDACTED),
            "admin_tokens": server.admin_tokens.iter().map(token).collect::<Vec<_>>(),
            "drain": format_duration(server.drain),
            "state_dir": server.state_dir,
        },
        "log": {"filter": log.filter, "format": log.format.map(|format| format.as_str())},
        "resolver": {
            "nameservers": match resolver.nameservers.as_slice() {
                [] => json!(["system"]),
                servers => json!(servers.iter().map(ToString::to_string).collect::<Vec<_>>()),
            },
            "packets_per_second": resolver.packets_per_second,
        },
        "defaults": checking(defaults),
        "dependencies": dependencies.iter().map(dependency).collect::<Vec<_>>(),
    });
    let mut cover = Cover { tree, origins: BTreeMap::new() };
    if let Value::Object(sections) = &mut values {
        for (section, value) in sections {
            match value {
                Value::Array(entries) => {
                    for (resolved, entry) in dependencies.iter().zip(entries) {
                        let name = resolved.plan.policy.name.as_str();
                        cover.walk(entry, &Path::of(section).key(name), below(section, name));
                    }
                }
                _ => cover.walk(value, &Path::of(section), section.clone()),
            }
        }
    }
    for policy in dependencies.iter().map(|resolved| &resolved.plan.policy) {
        if let Some(reason) = &policy.disabled {
            cover.origins.insert(format!("{DEPENDENCIES}.{}.enabled", policy.name), reason.clone());
        }
    }
    View { values, origins: cover.origins }
}

/// Goes over the settings, asks the tree where each came from, and covers those from secret files.
struct Cover<'a> {
    tree: &'a Node,
    origins: BTreeMap<String, String>,
}

impl<'a> Cover<'a> {
    /// `shown` is the path as the view has it: with the keys as they are, because the view shows them, too.
    fn walk(&mut self, value: &mut Value, path: &Path, shown: String) {
        let source = self.source(path);
        // Above the settings, too: what is written in one piece (`url`, a list) may be shown in several.
        self.cover(value, path);
        match value {
            Value::Object(map) if !map.is_empty() => {
                map.iter_mut().for_each(|(key, value)| self.walk(value, &path.key(key), below(&shown, key)));
            }
            Value::Array(list) if of_maps(list) => {
                let entries = list.iter_mut().enumerate();
                entries.for_each(|(n, value)| self.walk(value, &path.index(n), format!("{shown}[{n}]")));
            }
            setting => {
                let elements = setting.as_array_mut().into_iter().flatten().enumerate();
                elements.for_each(|(n, value)| self.cover(value, &path.index(n)));
                let origin = source.map_or(&Origin::Default, |node| &node.origin);
                self.origins.insert(shown, origin.to_string());
            }
        }
    }

    fn cover(&self, value: &mut Value, path: &Path) {
        if self.source(path).is_some_and(|node| node.secret) && !value.is_null() {
            *value = json!(REDACTED);
        }
    }

    /// What a value came from: what was said of it, or of the same field in `defaults`; of a header that nobody wrote,
    /// the URL that it was made of.
    fn source(&self, path: &Path) -> Option<&'a Node> {
        let inherited = || match path.steps() {
            [_, _, Step::Key(headers), _] if headers == "headers" => {
                let url = path.steps()[..2].iter().cloned().chain([Step::Key("url".to_owned())]);
                self.tree.get(&url.fold(Path::default(), |path, step| path.step(step)))
            }
            [_, _, rest @ ..] if !rest.is_empty() => {
                let field = rest.iter().fold(Path::of("defaults"), |path, step| path.step(step.clone()));
                self.tree.get(&field)
            }
            _ => None,
        };
        self.tree.get(path).or_else(inherited)
    }
}

/// A token as it is shown: which of its two forms there is.
pub(super) fn token(token: &TokenPlan) -> Value {
    let [plain, hashed] = if token.hashed { [None, Some(REDACTED)] } else { [Some(REDACTED), None] };
    let allow: Vec<_> = token.allow.iter().map(|verb| verb.as_str()).collect();
    json!({"name": token.name, "token": plain, "token_sha256": hashed, "allow": allow})
}

/// A secret as it is shown: that there is one.
fn hidden(secret: Option<&Secret>) -> Option<&'static str> {
    secret.map(|_| REDACTED)
}

fn checking(checking: &Checking) -> Value {
    let Checking {
        interval,
        startup_interval,
        timeout,
        connect_timeout,
        slow_after,
        certificate_warning,
        diagnose_on_failure,
        attempts,
        backoff,
        circuit,
    } = checking;
    json!({
        "interval": format_duration(*interval),
        "startup_interval": format_duration(*startup_interval),
        "timeout": format_duration(*timeout),
        "connect_timeout": format_duration(*connect_timeout),
        "slow_after": format_duration(*slow_after),
        "certificate_warning": format_duration(*certificate_warning),
        "diagnose_on_failure": diagnose_on_failure,
        "retry": {
            "attempts": attempts,
            "initial": format_duration(backoff.initial),
            "max": format_duration(backoff.max),
            "multiplier": number(backoff.multiplier),
            "jitter": backoff.jitter.as_str(),
        },
        "circuit": {
            "failure_threshold": circuit.failure_threshold,
            "recovery_timeout": format_duration(circuit.recovery_timeout),
            "recovery_timeout_max": circuit.recovery_timeout_max.map(format_duration),
            "success_threshold": circuit.success_threshold,
            "half_open_interval": format_duration(circuit.half_open_interval),
        },
    })
}

/// `2` and not `2.0`: as it was written.
fn number(value: f64) -> Value {
    /// From here on not every whole number is one of these.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() < EXACT { json!(value as i64) } else { json!(value) }
}

fn dependency(resolved: &Resolved) -> Value {
    let policy: &Policy = &resolved.plan.policy;
    let mut view = Map::new();
    let mut add = |part: Value| {
        if let Value::Object(part) = part {
            view.extend(part);
        }
    };
    add(json!({
        "name": policy.name.as_str(),
        "kind": policy.kind.as_str(),
        "impact": policy.impact.as_str(),
        "scope": policy.scope.as_str(),
        "enabled": policy.enabled(),
        "depends_on": policy.depends_on.iter().map(|name| name.as_str()).collect::<Vec<_>>(),
        "fallback_of": policy.fallback_of.as_ref().map(|name| name.as_str()),
    }));
    add(probe(&resolved.probe));
    add(checking(&resolved.checking));
    for field in &resolved.missing {
        view.insert((*field).to_owned(), Value::Null);
    }
    Value::Object(view)
}

pub(super) fn probe(probe: &ProbePlan) -> Value {
    match probe {
        ProbePlan::Postgres(plan) => postgres(plan),
        ProbePlan::Redis(plan) => redis(plan),
        ProbePlan::Dns(plan) => json!({
            "query": plan.query,
            "record": plan.record.as_str(),
            "nameservers": plan.nameservers.iter().map(nameserver).collect::<Vec<_>>(),
            "expect": {
                "addresses": plan.expect_addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "min": plan.expect_min,
            },
        }),
        ProbePlan::Tcp(plan) => json!({
            "host": plan.host,
            "port": plan.port,
            "tls": tls(plan.tls.as_ref()),
            "send": hidden(plan.send.as_ref()),
            "expect": plan.expect,
        }),
        ProbePlan::Http(plan) => http(plan),
    }
}

fn postgres(plan: &PostgresPlan) -> Value {
    let PostgresWarnPlan { connections_used, replication_lag, longest_transaction } = &plan.warn;
    let never = || OFF.to_owned();
    json!({
        "host": plan.host,
        "port": plan.port,
        "database": plan.database,
        "user": plan.user,
        "password": hidden(plan.password.as_ref()),
        "sslmode": plan.sslmode.as_str(),
        "root_cert": plan.root_cert,
        "role": plan.role.as_str(),
        "pool": {"max": plan.pool_max},
        "reconnect_every": plan.reconnect_every,
        "warn": {
            "connections_used": connections_used.map_or_else(never, |bound| bound.to_string()),
            "replication_lag": replication_lag.map_or_else(never, format_duration),
            "longest_transaction": longest_transaction.map_or_else(never, format_duration),
        },
        "queries": plan.queries.iter().map(query).collect::<Vec<_>>(),
    })
}

pub(super) fn query(query: &QueryPlan) -> Value {
    let bound = |bound: Option<f64>| bound.map(number);
    json!({
        "name": query.name,
        "sql": query.sql,
        "expect": query.expect.as_ref().map(|expected| match expected {
            Expected::Number(value) => number(*value),
            Expected::Text(text) => json!(text),
        }),
        "min": bound(query.min),
        "max": bound(query.max),
        "warn": {"min": bound(query.warn_min), "max": bound(query.warn_max)},
        "on_failure": query.on_failure.as_str(),
    })
}

fn redis(plan: &RedisPlan) -> Value {
    json!({
        "host": plan.host,
        "port": plan.port,
        "username": plan.username,
        "password": hidden(plan.password.as_ref()),
        "tls": tls(plan.tls.as_ref()),
        "mode": "standalone",
        "role": plan.role.as_str(),
        "reconnect_every": plan.reconnect_every,
        "warn": {
            "memory_used": bound(plan.warn.memory_used),
            "clients_used": bound(plan.warn.clients_used),
            "evictions": bound(plan.warn.evictions),
            "replication_lag": bound(plan.warn.replication_lag.map(format_duration)),
        },
    })
}

/// A bound as it is written.
fn bound(value: Option<impl ToString>) -> String {
    value.map_or_else(|| OFF.to_owned(), |value| value.to_string())
}

fn http(plan: &HttpPlan) -> Value {
    let mut url = plan.url.clone();
    if url.query().is_some() {
        // Many services take a token there.
        url.set_query(Some(REDACTED));
    }
    let shown = if user_info::ends_early(&plan.url) { REDACTED } else { url.as_str() };
    let headers: Map<String, Value> =
        plan.headers.iter().map(|(name, _)| (name.clone(), json!(REDACTED))).collect();
    let mut view = json!({
        "url": shown,
        "method": plan.method,
        "headers": headers,
        "expect": {
            "status": plan.expect_status.iter().map(status).collect::<Vec<_>>(),
            "body": plan.expect_body,
        },
    });
    if plan.url.scheme() == "https" {
        view["tls"] = json!({"verify": plan.tls.verify.as_str(), "root_cert": plan.tls.root_cert});
    }
    view
}

fn status(range: &std::ops::RangeInclusive<u16>) -> Value {
    match (range.start(), range.end()) {
        (first, last) if first == last => json!(first),
        (first, last) => json!(format!("{first}-{last}")),
    }
}

pub(super) fn tls(plan: Option<&TlsPlan>) -> Value {
    match plan {
        Some(plan) => json!({"enabled": true, "verify": plan.verify.as_str(), "root_cert": plan.root_cert}),
        None => json!({"enabled": false}),
    }
}

fn nameserver(server: &Nameserver) -> String {
    match server {
        Nameserver::System => "system".to_owned(),
        Nameserver::At(address) => address.to_string(),
    }
}
