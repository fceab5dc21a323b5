//! Raw → plan: every rule between and about values, each with its error.
//!
//! Nothing stops at the first error. A value that was refused is replaced by one that can be gone on with; no
//! plan is made of it in the end.

mod checking;
mod cursor;
mod dependency;
mod kind;
mod resolver;
mod tls;
mod tokens;

pub(super) use checking::Checking;
pub(super) use dependency::Resolved;
pub(super) use kind::{granted, granted_query};
pub(super) use tokens::granted_token;

use std::net::SocketAddr;
use std::time::Duration;

use cursor::Cursor;

use super::decode::decode;
use super::effective;
use super::errors::{ConfigError, Errors, similar};
use super::layers::Layers;
use super::log_filter;
use super::path::Path;
use super::plan::{LogPlan, Plan, ServerPlan, ServicePlan};
use super::raw::{Raw, RawLog, RawOperator, RawServer, RawService};

/// The plan of the merged layers. Valid if `errors` is empty afterwards.
pub(super) fn validate(mut layers: Layers, errors: &Errors) -> Plan {
    let raw: Raw = decode(&mut layers.root, &Path::default(), errors);
    let root = Cursor::new(&layers.root, errors);
    let sections = dependency::decode_all(&root.key("dependencies"));

    let service = service(raw.service.unwrap_or_default(), &root.key("service"));
    let server = server(raw.server.unwrap_or_default(), &root.key("server"));
    let log = log(raw.log.unwrap_or_default(), &root.key("log"));
    let resolver = resolver::resolver(raw.resolver.unwrap_or_default(), &root.key("resolver"));
    let defaults = checking::checking(raw.defaults.unwrap_or_default(), None, &root.key("defaults"));

    let mut warnings = layers.said.warnings;
    let dependencies = dependency::resolve_all(
        sections,
        &defaults,
        &layers.said.disabled,
        &root.key("dependencies"),
        &mut warnings,
    );

    if dependencies.iter().all(|resolved| !resolved.plan.policy.enabled()) {
        warnings.push(
            "nothing is watched: set DATABASE_HOST, REDIS_HOST, API_PORT or MLFLOW_TRACKING_URI, or give a \
             configuration file; until then the service is `up`"
                .to_owned(),
        );
    }

    warnings.extend(resolver::too_many_questions(&dependencies, &resolver));

    let view = effective::view(&service, &server, &log, &resolver, &defaults, &dependencies, &layers.root);
    let dependencies = dependencies.into_iter().map(|resolved| resolved.plan).collect();
    Plan { service, server, log, resolver, dependencies, warnings, files: Vec::new(), view }
}

/// A value that the compiled-in default gives, so that it is missing only where somebody unset it.
fn given<T>(value: Option<T>, at: &Cursor<'_>) -> Option<T> {
    if value.is_none() {
        at.unset();
    }
    value
}

fn service(raw: RawService, at: &Cursor<'_>) -> ServicePlan {
    let name = |field: &str, value: Option<String>| {
        let at = at.key(field);
        given(value, &at).map(|value| at.public(value)).unwrap_or_default()
    };
    ServicePlan { name: name("name", raw.name), environment: name("environment", raw.environment) }
}

fn server(raw: RawServer, at: &Cursor<'_>) -> ServerPlan {
    let RawServer { listen, operator, admin_token, admin_tokens, state_dir, drain } = raw;
    let RawOperator { listen: operator_listen, require_token_for_reads } = operator.unwrap_or_default();
    let (listen_at, operator_at) = (at.key("listen"), at.key("operator"));
    let listen = given(listen, &listen_at).and_then(|text| socket(&text, &listen_at));
    let operator = operator_listen.and_then(|text| socket(&text, &operator_at.key("listen")));
    if let (Some(listen), Some(operator)) = (listen, operator)
        && collide(listen, operator)
    {
        operator_at.key("listen").refuse(
            ConfigError::new("both listeners are on the same address and port")
                .allowed("an address and port other than `server.listen`")
                .advice("choose another port"),
        );
    }
    let tokens = tokens::tokens(admin_token, admin_tokens.unwrap_or_default(), at);
    let require = require_token_for_reads.unwrap_or(false);
    if require {
        tokens.one_may_read(&operator_at.key("require_token_for_reads"));
    }
    let drain_at = at.key("drain");
    ServerPlan {
        listen: listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0))),
        operator_listen: operator,
        admin_token: tokens.short,
        admin_tokens: tokens.named,
        require_token_for_reads: require,
        state_dir: state_dir.filter(|path| !path.is_empty()).map(Into::into),
        drain: given(drain, &drain_at)
            .map(|drain| drain_at.duration(drain, Duration::ZERO))
            .unwrap_or_default(),
    }
}

/// Port 0 is allowed: the system chooses one, which is what tests want.
fn socket(text: &str, at: &Cursor<'_>) -> Option<SocketAddr> {
    let address = text.parse().ok();
    if address.is_none() {
        let what = format!("{} is no address and port", at.shown_address(text));
        at.refuse(
            ConfigError::new(what).allowed("an IP address and a port, such as `0.0.0.0:8686` or `[::]:8686`"),
        );
    }
    address
}

/// Whether one of the two could not be bound.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let same_address = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && same_address
}

fn log(raw: RawLog, at: &Cursor<'_>) -> LogPlan {
    let at = at.key("filter");
    let filter = given(raw.filter, &at).unwrap_or_default();
    let allowed = "a level, or levels by target: `info`, `sickbay=debug,warn`";
    if log_filter::parse(&filter).is_none() {
        let what = format!("{} is no log filter", at.shown(&filter));
        at.refuse(ConfigError::new(what).allowed(allowed));
    } else if let Some(word) = filter.split(',').map(str::trim).find(|word| looks_like_a_level(word)) {
        // To the filter it is a target like any other: it would turn every other line off.
        let error = ConfigError::new(format!("{} is no level", at.shown(word))).allowed(allowed);
        at.refuse(match similar(word, LEVELS) {
            Some(level) => error.advice(format!("did you mean `{level}`?")),
            None => error,
        });
    }
    LogPlan { filter, format: raw.format }
}

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// A word by itself is meant as a level, unless it names a module.
fn looks_like_a_level(word: &str) -> bool {
    let is_level = LEVELS.iter().any(|level| word.eq_ignore_ascii_case(level));
    let is_target = word.contains("::") || word.contains('=') || word.contains('[') || word == "sickbay";
    !word.is_empty() && !is_level && !is_target
}
