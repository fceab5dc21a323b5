//! One dependency: which struct each of its fields belongs to, whether it is enabled, what it inherits, and
//! how it stands to the others.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use indexmap::IndexMap;

use super::checking::{Checking, checking};
use super::cursor::Cursor;
use super::kind::{Asked, RawKind, asked};
use crate::config::decode::{decode, fields, unknown_key};
use crate::config::duration::format_duration;
use crate::config::errors::{ConfigError, Errors, listed_briefly, similar};
use crate::config::origin::Origin;
use crate::config::path::Path;
use crate::config::plan::{DependencyPlan, ProbePlan, SslMode, TlsPlan, Verify};
use crate::config::raw::{RawChecking, RawDependency};
use crate::config::tree::{Content, Map, Node};
use crate::config::{env, secret, user_info};
use crate::health::{DependencyName, Kind, Policy, Scope};

/// The fields of one dependency, sorted into their structs.
#[derive(Debug)]
pub(super) struct Section {
    /// Under which it is kept in the tree.
    key: String,
    dependency: RawDependency,
    checking: RawChecking,
    /// `None` where the kind is not known, which has been told.
    kind: Option<RawKind>,
}

/// A dependency's plan, and what the effective view shows beside it.
#[derive(Debug)]
pub(in crate::config) struct Resolved {
    pub(in crate::config) plan: DependencyPlan,
    pub(in crate::config) checking: Checking,
    /// As in the plan; also where the plan has none, because a field is missing.
    pub(in crate::config) probe: ProbePlan,
    /// The required fields that nobody set.
    pub(in crate::config) missing: Vec<&'static str>,
}

/// Reads all dependencies out of the tree. `at` is the place of their list. Once no more errors are told, the
/// rest is left: nothing is made of it.
pub(super) fn decode_all(at: &Cursor<'_>) -> Vec<Section> {
    let entries = at.entries().take_while(|_| !at.errors().full());
    entries.map(|(key, entry)| section(key, entry, &at.key(key))).collect()
}

fn section(key: &str, entry: &Node, at: &Cursor<'_>) -> Section {
    let (path, errors) = (at.path(), at.errors());
    let mut dependency: RawDependency = decode(&mut only::<RawDependency>(entry), path, errors);
    let checking: RawChecking = decode(&mut only::<RawChecking>(entry), path, errors);
    if dependency.kind.is_none() {
        let advice = match entry.get(&Path::of("type")) {
            Some(_) => {
                "it is called `kind` here, and not `type`; what else the entry says is judged after that"
            }
            None => "say what is spoken with it; what else the entry says is judged after that",
        };
        at.key("kind").required_of("`postgres`, `redis`, `dns`, `tcp`, `http`", advice);
    }
    dependency.name.get_or_insert_with(|| key.to_owned());
    let kind = dependency.kind.map(|kind| match kind {
        Kind::Postgres => RawKind::Postgres(rest(entry, path, errors)),
        Kind::Redis => RawKind::Redis(rest(entry, path, errors)),
        Kind::Dns => RawKind::Dns(rest(entry, path, errors)),
        Kind::Tcp => RawKind::Tcp(rest(entry, path, errors)),
        Kind::Http => RawKind::Http(rest(entry, path, errors)),
    });
    Section { key: key.to_owned(), dependency, checking, kind }
}

/// The entry with the fields of one struct only.
fn only<T: serde::de::DeserializeOwned>(entry: &Node) -> Node {
    filtered(entry, |key| fields::<T>().contains(&key))
}

/// The fields of a kind: all that neither of the common structs has. What the kind does not have either is
/// told here, where the names of all three are known.
fn rest<T: serde::de::DeserializeOwned + Default>(entry: &Node, path: &Path, errors: &Errors) -> T {
    let own = fields::<T>();
    let common = [fields::<RawDependency>(), fields::<RawChecking>()].concat();
    let all = [own, &common].concat();
    for (key, node) in entry.map().into_iter().flatten().filter(|(key, _)| !all.contains(&key.as_str())) {
        errors.push(unknown_key(key, &all, &[]).at(path.key(key)).from(Some(node.origin.clone())));
    }
    decode(&mut filtered(entry, |key| own.contains(&key)), path, errors)
}

fn filtered(entry: &Node, keep: impl Fn(&str) -> bool) -> Node {
    let entries = entry.map().into_iter().flatten();
    let kept: Map =
        entries.filter(|(key, _)| keep(key)).map(|(key, node)| (key.clone(), node.clone())).collect();
    Node::new(Content::Map(kept), &entry.origin)
}

/// Resolves and validates all dependencies. `at` is the place of their list.
pub(super) fn resolve_all(
    sections: Vec<Section>,
    defaults: &Checking,
    disabled: &BTreeMap<&'static str, String>,
    at: &Cursor<'_>,
    warnings: &mut Vec<String>,
) -> Vec<Resolved> {
    let others = others(&sections);
    let resolve = |section: Section| {
        let at = at.key(&section.key);
        let reason = disabled.get(section.key.as_str()).cloned();
        resolve(section, defaults, reason, &others, &at, warnings)
    };
    sections.into_iter().take_while(|_| !at.errors().full()).filter_map(resolve).collect()
}

/// `None` where a plan could not even be begun; an error has told why.
fn resolve(
    section: Section,
    defaults: &Checking,
    disabled: Option<String>,
    others: &Others,
    at: &Cursor<'_>,
    warnings: &mut Vec<String>,
) -> Option<Resolved> {
    let RawDependency { name, kind, impact, scope, enabled, depends_on, fallback_of } = section.dependency;
    let own = name.unwrap_or_default();
    let name = self::name(&own, at);
    if impact.is_none() {
        at.key("impact")
            .required_of("`critical`, `degraded`, `none`", "say what its failure does to the service");
    }
    let depends_on: Vec<_> = at
        .key("depends_on")
        .elements(depends_on.unwrap_or_default())
        .filter_map(|(at, other)| reference(&other, &own, others, &at))
        .collect();
    let fallback_of = fallback_of.and_then(|other| fallback(&other, &own, others, &at.key("fallback_of")));
    let checking = checking(section.checking, Some(defaults), at);

    let used = enabled != Some(false) && disabled.is_none();
    let Asked { probe, host, missing } = asked(section.kind?, used, at, warnings);
    let (kind, name) = (kind?, name?);
    let disabled = disabled.or_else(|| switched_off(enabled, at)).or_else(|| {
        let demanded = enabled == Some(true) && matches!(at.key("enabled").origin(), Some(Origin::File(_)));
        missing.iter().find_map(|field| not_set(&name, kind, field)).filter(|_| !demanded)
    });
    if disabled.is_none() {
        for field in &missing {
            at.key(field).required(&advice(&name, kind, field));
        }
        warnings.extend(unprotected(&name, &probe));
        warnings.extend(in_vain(&name, &probe));
        warnings.extend(nameless(&name, &probe));
        if checking.slow_after > checking.timeout && at.key("slow_after").explicit() {
            warnings.push(format!(
                "{name}: `slow_after` is longer than `timeout`, so no check is ever slow: shorten it to less than {}",
                format_duration(checking.timeout)
            ));
        }
    }
    let local = host.as_deref().is_some_and(loopback);
    let policy = Policy {
        target: if missing.is_empty() { printable(&target(&probe, at)) } else { "not set".to_owned() },
        name,
        kind,
        impact: impact?,
        scope: scope.unwrap_or(if local { Scope::Local } else { Scope::Shared }),
        disabled,
        interval: checking.interval,
        startup_interval: checking.startup_interval,
        timeout: checking.timeout,
        slow_after: checking.slow_after,
        certificate_warning: checking.certificate_warning,
        attempts: checking.attempts,
        backoff: checking.backoff,
        circuit: checking.circuit,
        depends_on,
        fallback_of,
    };
    let plan = DependencyPlan {
        policy: Arc::new(policy),
        connect_timeout: checking.connect_timeout,
        diagnose_on_failure: checking.diagnose_on_failure,
        probe: missing.is_empty().then(|| probe.clone()),
        from_secret_files: at.secret_texts(),
    };
    Some(Resolved { plan, checking, probe, missing })
}

fn name(text: &str, at: &Cursor<'_>) -> Option<DependencyName> {
    let name = DependencyName::parse(text);
    if name.is_none() {
        let at = at.key("name");
        let allowed = "1 to 63 lower-case letters, digits, `-` and `_`, beginning with a letter";
        at.refuse(
            ConfigError::new(format!("{} is no name of a dependency", at.shown(text))).allowed(allowed),
        );
    }
    name
}

/// The names of all dependencies in their order, and whose place each can take.
type Others = IndexMap<String, Option<String>>;

fn others(sections: &[Section]) -> Others {
    let fallback = |section: &Section| section.dependency.fallback_of.clone();
    sections.iter().map(|section| (section.key.clone(), fallback(section))).collect()
}

/// The name of the dependency whose place this one can take.
fn fallback(other: &str, own: &str, others: &Others, at: &Cursor<'_>) -> Option<DependencyName> {
    let name = reference(other, own, others, at)?;
    let mutual = others.get(other).is_some_and(|fallback| fallback.as_deref() == Some(own));
    // Told of the later one, once.
    if mutual && others.get_index_of(other) < others.get_index_of(own) {
        let what = format!("`{own}` and `{other}` are fallbacks of each other");
        at.refuse(
            ConfigError::new(what).allowed("`fallback_of` at one of the two").advice("remove the other"),
        );
    }
    Some(name)
}

/// The name of another dependency.
fn reference(other: &str, own: &str, others: &Others, at: &Cursor<'_>) -> Option<DependencyName> {
    if other == own {
        at.refuse(
            ConfigError::new("a dependency refers to itself")
                .allowed("another dependency")
                .advice("remove it"),
        );
        return None;
    }
    if !others.contains_key(other) {
        // To look for what was meant among thousands takes time, and nobody would read it.
        if at.errors().full() {
            return None;
        }
        let known = others
            .keys()
            .map(String::as_str)
            .filter(|name| *name != own && DependencyName::parse(name).is_some());
        let error = ConfigError::new(format!("there is no dependency {}", at.shown(other)));
        let error = error.allowed(listed_briefly(known.clone()));
        at.refuse(match similar(other, known) {
            Some(name) => error.advice(format!("did you mean `{name}`?")),
            None => error.advice("add it, or remove the reference"),
        });
        return None;
    }
    DependencyName::parse(other)
}

/// Why it is off, where somebody said so.
fn switched_off(enabled: Option<bool>, at: &Cursor<'_>) -> Option<String> {
    let said = enabled == Some(false);
    said.then(|| match at.key("enabled").origin() {
        Some(Origin::Variable(name)) => format!("disabled by {name}"),
        _ => "disabled by configuration".to_owned(),
    })
}

/// Why a compiled-in dependency is off whose target nobody named.
fn not_set(name: &DependencyName, kind: Kind, field: &str) -> Option<String> {
    env::variable_of(name.as_str(), kind, field).map(|variable| format!("{variable} is not set"))
}

fn advice(name: &DependencyName, kind: Kind, field: &str) -> String {
    match env::variable_of(name.as_str(), kind, field) {
        Some(variable) => format!("set it or {variable}, or disable the dependency"),
        None => "set it, or write `enabled: false`".to_owned(),
    }
}

/// Whether a host is this task's own: its containers share one loopback interface.
fn loopback(host: &str) -> bool {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => name == "localhost" || name.ends_with(".localhost"),
    }
}

/// A warning where a password travels to another machine without its server being verified.
fn unprotected(name: &DependencyName, probe: &ProbePlan) -> Option<String> {
    let weak_tls = |tls: &Option<TlsPlan>| tls.as_ref().is_none_or(|tls| tls.verify == Verify::None);
    let (host, password, weak, advice) = match probe {
        ProbePlan::Postgres(plan) => {
            let weak = match plan.sslmode {
                SslMode::Disable | SslMode::Prefer => true,
                SslMode::Require => plan.root_cert.is_none(),
                SslMode::VerifyCa | SslMode::VerifyFull => false,
            };
            let advice = format!("sslmode is `{}`, set `verify-full`", plan.sslmode);
            (&plan.host, &plan.password, weak, advice)
        }
        ProbePlan::Redis(plan) => {
            let advice = if plan.tls.is_some() { "set `tls.verify` to `full`" } else { "set `tls: true`" };
            (&plan.host, &plan.password, weak_tls(&plan.tls), advice.to_owned())
        }
        ProbePlan::Dns(_) | ProbePlan::Tcp(_) | ProbePlan::Http(_) => return None,
    };
    let told = weak && password.is_some() && !loopback(host);
    told.then(|| format!("{name}: the password goes to a server that is not verified; {advice}"))
}

/// A warning where authorities are named and nobody is kept out by them, with a password or without one.
fn in_vain(name: &DependencyName, probe: &ProbePlan) -> Option<String> {
    let ProbePlan::Postgres(plan) = probe else { return None };
    plan.root_cert.as_ref()?;
    let why = match plan.sslmode {
        SslMode::Disable => "no TLS is spoken",
        SslMode::Prefer => "a server whose certificate they did not sign is spoken to without TLS",
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => return None,
    };
    let mode = plan.sslmode;
    Some(format!("{name}: `root_cert` protects nothing: sslmode is `{mode}`, so {why}; set `verify-full`"))
}

/// A warning where a Redis user is named that nothing will be said of: only a password begins a log-in.
fn nameless(name: &DependencyName, probe: &ProbePlan) -> Option<String> {
    let ProbePlan::Redis(plan) = probe else { return None };
    let told = plan.username.is_some() && plan.password.is_none();
    told.then(|| {
        format!(
            "{name}: `username` is not used, because there is no `password`; set it, or remove `username`"
        )
    })
}

/// What is checked, for people. What comes from a secret file is not shown.
/// With escapes in the place of what would drive a terminal, or turn the direction of a line: a URL can hide both in per
/// cent signs.
fn printable(text: &str) -> String {
    let drives = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        match drives(c) {
            true => printable.extend(c.escape_unicode()),
            false => printable.push(c),
        }
    }
    printable
}

fn target(probe: &ProbePlan, at: &Cursor<'_>) -> String {
    let shown = |field: &str, value: String| {
        if at.key(field).secret() { secret::REDACTED.to_owned() } else { value }
    };
    let place = |host: &str, port: u16| {
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        format!("{}:{}", shown("host", host), shown("port", port.to_string()))
    };
    match probe {
        ProbePlan::Postgres(plan) => {
            format!("{}/{}", place(&plan.host, plan.port), shown("database", plan.database.clone()))
        }
        ProbePlan::Redis(plan) => place(&plan.host, plan.port),
        ProbePlan::Dns(plan) => format!("{} {}", shown("query", plan.query.clone()), plan.record),
        ProbePlan::Tcp(plan) => place(&plan.host, plan.port),
        ProbePlan::Http(plan) => {
            if user_info::ends_early(&plan.url) {
                return secret::REDACTED.to_owned();
            }
            // A query may hold a token.
            let mut url = plan.url.clone();
            url.set_query(None);
            shown("url", url.to_string())
        }
    }
}
