//! Lays the environment over the tree.
//!
//! Most variables set one field each; this is about the rest: URLs that set several, the API that is asked by
//! HTTP where a path is given, an MLflow that is no server at all, and a DNS name taken from the database.

use std::collections::BTreeMap;
use std::num::NonZeroU16;

use url::Url;

use super::urls::{self, Fields, Unusable};
use super::{Sets, VARIABLES, Variable};
use crate::config::errors::{ConfigError, Errors};
use crate::config::host;
use crate::config::kinds;
use crate::config::origin::Origin;
use crate::config::path::Path;
use crate::config::substitute::{self, Env};
use crate::config::tree::{Content, Node};
use crate::health::Kind;

/// The kind that a variable can make of what is compiled in: `API_HEALTH_PATH` has the API asked by HTTP.
pub(in crate::config) fn other_kind(dependency: &str) -> Option<Kind> {
    (dependency == "api").then_some(Kind::Http)
}

/// What the environment says beside values.
#[derive(Debug, Default)]
pub(in crate::config) struct Said {
    /// What is set and probably not meant.
    pub(in crate::config) warnings: Vec<String>,
    /// Dependencies that the environment disables, and why.
    pub(in crate::config) disabled: BTreeMap<&'static str, String>,
}

/// Lays the environment over `root`, whose dependencies are a map by name.
pub(in crate::config) fn apply(root: &mut Node, env: &Env, errors: &Errors) -> Said {
    let mut layer = Layer { root, values: values(env, errors), errors, said: Said::default() };
    // First the URLs, so that the single variables win.
    layer.database_url();
    layer.redis_url();
    VARIABLES.iter().for_each(|variable| layer.variable(variable));
    layer.api_health_path();
    layer.dns_name();
    layer.misspelt(env);
    layer.said
}

/// The variables that are set. What is no text is refused, not passed over: it may be a password.
fn values<'a>(env: &'a Env, errors: &Errors) -> BTreeMap<&'static str, &'a str> {
    let value = |variable: &Variable| match substitute::variable(env, variable.name) {
        Ok(value) => Some((variable.name, value?)),
        Err(error) => {
            errors.push(error);
            None
        }
    };
    VARIABLES.iter().filter_map(value).collect()
}

struct Layer<'a> {
    root: &'a mut Node,
    /// By the names of the variables; none is empty.
    values: BTreeMap<&'static str, &'a str>,
    errors: &'a Errors,
    said: Said,
}

impl<'a> Layer<'a> {
    /// The value of a variable.
    fn value(&self, name: &str) -> Option<&'a str> {
        self.values.get(name).copied()
    }

    fn dependency(&self, name: &str, field: &str) -> Option<&Node> {
        self.root.get(&Path::of("dependencies").key(name).key(field))
    }

    fn is(&self, name: &str, kind: Kind) -> bool {
        self.dependency(name, "kind").and_then(Node::text) == Some(kind.as_str())
    }

    fn set(&mut self, path: &Path, value: impl Into<String>, variable: &'static str) {
        self.root.set(path, Node::word(value, &Origin::Variable(variable)));
    }

    fn variable(&mut self, variable: &Variable) {
        let name = variable.name;
        let Some(value) = self.value(name) else { return };
        match variable.sets {
            Sets::Field(path) => self.set(&Path::of(path), value, name),
            Sets::Dependency { name: dependency, kind, .. } if !self.is(dependency, kind) => {
                self.ignored(name, dependency, kind);
            }
            Sets::Dependency { name: "mlflow", field: "url", .. } => self.mlflow(value, name),
            Sets::Dependency { name: dependency, field, .. } => {
                self.set(&Path::of(&format!("dependencies.{dependency}.{field}")), value, name);
            }
            Sets::NotYet { switch } => {
                let off = ["false", "0", "no", "off"].contains(&value.to_ascii_lowercase().as_str());
                if switch && !off {
                    self.said.warnings.push(format!(
                        "{name} does nothing: {} are not yet supported in this version",
                        variable.doc
                    ));
                }
            }
            Sets::Several(_) | Sets::File => {}
        }
    }

    /// A variable whose name is almost that of one of ours which is not set. The task's other containers have
    /// variables, too: what is not that near is none of our business.
    fn misspelt(&mut self, env: &Env) {
        let known = |name: &str| VARIABLES.iter().any(|variable| variable.name == name);
        let ours: Vec<&str> = VARIABLES.iter().map(|variable| variable.name).collect();
        for name in env.keys().filter(|name| !known(name)) {
            let near = |ours: &&&str| {
                let allowed = if ours.len() < 10 { 1 } else { 2 };
                self.value(ours).is_none() && strsim::damerau_levenshtein(name, ours) <= allowed
            };
            if let Some(ours) = ours.iter().find(near) {
                self.said.warnings.push(format!("{name} is not read: did you mean {ours}?"));
            }
        }
    }

    fn ignored(&mut self, variable: &str, dependency: &str, kind: Kind) {
        self.said.warnings.push(format!(
            "{variable} is ignored: it is for a dependency of kind {kind}, and `{dependency}` is configured to be another"
        ));
    }

    fn database_url(&mut self) {
        self.url(
            "DATABASE_URL",
            urls::of_postgres,
            ("database", Kind::Postgres),
            "DATABASE_HOST",
            DATABASE_URL,
        );
    }

    fn redis_url(&mut self) {
        self.url("REDIS_URL", urls::of_redis, ("redis", Kind::Redis), "REDIS_HOST", REDIS_URL);
    }

    /// A variable that sets several fields of a dependency. `single` is the one for the host alone.
    fn url(
        &mut self,
        variable: &'static str,
        read: fn(&str) -> Result<Fields, Unusable>,
        (dependency, kind): (&str, Kind),
        single: &str,
        allowed: &str,
    ) {
        let Some(value) = self.value(variable) else { return };
        let url = match read(value) {
            Ok(url) => url,
            Err(wrong) => return self.unusable(variable, wrong, allowed),
        };
        if !self.is(dependency, kind) {
            return self.ignored(variable, dependency, kind);
        }
        self.said.warnings.extend(url.unused.iter().map(|unused| format!("{variable}: {unused}")));
        let has_host = url.has_host();
        for (field, value) in url.set {
            self.set(&Path::of(&format!("dependencies.{dependency}.{field}")), value, variable);
        }
        // Whoever sets it wants a check.
        let named = has_host || self.dependency(dependency, "host").and_then(Node::text).is_some();
        if !named && self.value(single).is_none() {
            self.unusable(variable, Unusable::NO_HOST, allowed);
        }
    }

    /// The URL itself is never quoted.
    fn unusable(&mut self, variable: &'static str, Unusable { what, advice }: Unusable, allowed: &str) {
        let origin = Some(Origin::Variable(variable));
        let advice = advice.unwrap_or("correct the variable, or unset it and set the single ones");
        self.errors.push(ConfigError::new(what).from(origin).allowed(allowed).advice(advice));
    }

    /// An MLflow client may as well write to a directory or to a database: then there is no server to check.
    fn mlflow(&mut self, uri: &str, variable: &'static str) {
        let scheme = uri.trim().split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
        if !matches!(scheme.as_deref(), Some("http" | "https")) {
            let reason = format!("{variable} is not an HTTP address");
            self.said.warnings.push(format!("mlflow is disabled: {reason}"));
            self.said.disabled.insert("mlflow", reason);
            return;
        }
        // What cannot be read is refused where the URLs of all dependencies are.
        let url = Url::parse(uri).map_or_else(|_| uri.to_owned(), with_health);
        self.set(&Path::of("dependencies.mlflow.url"), url, variable);
    }

    /// With a path, the API is asked by HTTP instead of TCP.
    fn api_health_path(&mut self) {
        const NAME: &str = "API_HEALTH_PATH";
        let Some(path) = self.value(NAME) else { return };
        if !self.is("api", Kind::Tcp) {
            return self.ignored(NAME, "api", Kind::Tcp);
        }
        let api = Path::of("dependencies.api");
        if !path.starts_with('/') {
            let error = ConfigError::new("the path does not begin with `/`").at(api.key("url"));
            let error = error.from(Some(Origin::Variable(NAME))).allowed("a path such as `/health`");
            return self.errors.push(error);
        }
        // A host or a port that is none stays where it is, and is refused there by its own name.
        let host = self.dependency("api", "host").and_then(|node| host::in_url(node.text()?));
        let port = self.dependency("api", "port").and_then(port);
        let (Some(host), Some(port)) = (host, port) else { return };
        let secret =
            ["host", "port"].iter().any(|field| self.dependency("api", field).is_some_and(|n| n.secret));
        let url =
            Node { secret, ..Node::word(format!("http://{host}:{port}{path}"), &Origin::Variable(NAME)) };
        if let Some(entry) = self.root.get_mut(&api) {
            kinds::keep_what_fits(entry, Kind::Tcp, Kind::Http);
        }
        self.set(&api.key("kind"), Kind::Http.as_str(), NAME);
        self.root.set(&api.key("url"), url);
    }

    /// The database's name is what resolving matters for, if nobody says otherwise.
    fn dns_name(&mut self) {
        if !self.is("dns", Kind::Dns) || self.dependency("dns", "query").and_then(Node::text).is_some() {
            return;
        }
        let Some(host) = self.dependency("database", "host") else { return };
        if let (Origin::Variable(variable), Some(name)) = (&host.origin, host.text())
            && host::address(name).is_none()
            && host::is_name(name)
        {
            let (name, variable) = (name.to_owned(), *variable);
            self.set(&Path::of("dependencies.dns.query"), name, variable);
        }
    }
}

/// What is allowed, for errors.
pub(in crate::config) const DATABASE_URL: &str =
    "`postgresql://user:password@host:5432/database`, special characters percent-encoded";
pub(in crate::config) const REDIS_URL: &str =
    "`redis://user:password@host:6379` or `rediss://…`, special characters percent-encoded";

/// The address of a server's health check: below its path, whatever query stands behind that.
fn with_health(mut url: Url) -> String {
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().push("health");
    }
    url.into()
}

/// A port, written as a number or as a text.
fn port(node: &Node) -> Option<NonZeroU16> {
    match node.content {
        Content::Int(number) => NonZeroU16::try_from(u16::try_from(number).ok()?).ok(),
        _ => node.text()?.parse().ok(),
    }
}
