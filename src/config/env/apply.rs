//! Lays the environment over the tree.
//!
//! Most variables set one field each; this is about the rest: URLs that set several, the API that is asked by
//! HTTP where a path is given, an MLflow that is no server at all, and a DNS name taken from the database.

use std::collections::BTreeMap;

use super::urls::{Connection, connection};
use super::{Sets, VARIABLES, Variable};
use crate::config::decode::fields;
use crate::config::errors::{ConfigError, Errors};
use crate::config::host;
use crate::config::origin::Origin;
use crate::config::path::Path;
use crate::config::raw::RawTcp;
use crate::config::substitute::Env;
use crate::config::tree::Node;
use crate::health::Kind;

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
    let mut layer = Layer { root, env, errors, said: Said::default() };
    // First the URLs, so that the single variables win.
    layer.database_url();
    layer.redis_url();
    VARIABLES.iter().for_each(|variable| layer.variable(variable));
    layer.api_health_path();
    layer.dns_name();
    layer.said
}

struct Layer<'a> {
    root: &'a mut Node,
    env: &'a Env,
    errors: &'a Errors,
    said: Said,
}

impl Layer<'_> {
    /// The value of a variable. An empty one counts as unset.
    fn value(&self, name: &str) -> Option<&str> {
        self.env.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn dependency(&self, name: &str, field: &str) -> Option<&Node> {
        self.root.get(&Path::of("dependencies").key(name).key(field))
    }

    fn is(&self, name: &str, kind: Kind) -> bool {
        self.dependency(name, "kind").and_then(Node::text) == Some(kind.as_str())
    }

    fn set(&mut self, path: &Path, value: String, variable: &'static str) {
        self.root.set(path, Node::word(value, &Origin::Variable(variable)));
    }

    fn variable(&mut self, variable: &Variable) {
        let name = variable.name;
        let Some(value) = self.value(name).map(str::to_owned) else { return };
        match variable.sets {
            Sets::Field(path) => self.set(&Path::of(path), value, name),
            Sets::Dependency { name: "mlflow", field: "url", .. } => self.mlflow(&value, name),
            Sets::Dependency { name: dependency, kind, field } => {
                if self.is(dependency, kind) {
                    self.set(&Path::of(&format!("dependencies.{dependency}.{field}")), value, name);
                } else if self.value("API_HEALTH_PATH").is_none() || dependency != "api" {
                    self.ignored(name, dependency, kind);
                }
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
            Sets::Several => {}
        }
    }

    fn ignored(&mut self, variable: &str, dependency: &str, kind: Kind) {
        self.said.warnings.push(format!(
            "{variable} is ignored: it is for a dependency of kind {kind}, and `{dependency}` is configured to be another"
        ));
    }

    fn database_url(&mut self) {
        const NAME: &str = "DATABASE_URL";
        let Some(value) = self.value(NAME) else { return };
        let Some(url) = connection(value).filter(|url| ["postgres", "postgresql"].contains(&&*url.scheme))
        else {
            return self.unusable(
                NAME,
                "`postgresql://user:password@host:5432/database`, special characters percent-encoded",
            );
        };
        if !self.is("database", Kind::Postgres) {
            return self.ignored(NAME, "database", Kind::Postgres);
        }
        let Connection { host, port, user, password, path, query, .. } = url;
        let mut parts =
            vec![("host", host), ("port", port), ("user", user), ("password", password), ("database", path)];
        for (key, value) in query {
            match key.as_str() {
                "sslmode" => parts.push(("sslmode", Some(value))),
                "sslrootcert" => parts.push(("root_cert", Some(value))),
                _ => self.said.warnings.push(format!("{NAME}: its parameter `{key}` is not used")),
            }
        }
        self.set_parts("database", parts, NAME);
    }

    fn redis_url(&mut self) {
        const NAME: &str = "REDIS_URL";
        let Some(value) = self.value(NAME) else { return };
        let Some(url) = connection(value).filter(|url| ["redis", "rediss"].contains(&&*url.scheme)) else {
            return self.unusable(
                NAME,
                "`redis://user:password@host:6379` or `rediss://…`, special characters percent-encoded",
            );
        };
        if !self.is("redis", Kind::Redis) {
            return self.ignored(NAME, "redis", Kind::Redis);
        }
        let tls = url.scheme == "rediss";
        let parts = vec![
            ("host", url.host),
            ("port", url.port),
            ("username", url.user),
            ("password", url.password),
            ("tls.enabled", Some(tls.to_string())),
        ];
        self.set_parts("redis", parts, NAME);
    }

    fn set_parts(&mut self, dependency: &str, parts: Vec<(&str, Option<String>)>, variable: &'static str) {
        for (field, value) in parts {
            if let Some(value) = value {
                self.set(&Path::of(&format!("dependencies.{dependency}.{field}")), value, variable);
            }
        }
    }

    /// The URL itself is never quoted.
    fn unusable(&mut self, variable: &'static str, allowed: &str) {
        self.errors.push(
            ConfigError::new("the URL cannot be used")
                .from(Some(Origin::Variable(variable)))
                .allowed(allowed)
                .advice("correct the variable, or unset it and set the single ones"),
        );
    }

    /// An MLflow client may as well write to a directory or to a database: then there is no server to check.
    fn mlflow(&mut self, uri: &str, variable: &'static str) {
        let scheme = uri.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
        if !matches!(scheme.as_deref(), Some("http" | "https")) {
            let reason = format!("{variable} is not an HTTP address");
            self.said.warnings.push(format!("mlflow is disabled: {reason}"));
            self.said.disabled.insert("mlflow", reason);
        } else if self.is("mlflow", Kind::Http) {
            let url = format!("{}/health", uri.trim_end_matches('/'));
            self.set(&Path::of("dependencies.mlflow.url"), url, variable);
        } else {
            self.ignored(variable, "mlflow", Kind::Http);
        }
    }

    /// With a path, the API is asked by HTTP instead of TCP.
    fn api_health_path(&mut self) {
        const NAME: &str = "API_HEALTH_PATH";
        let Some(path) = self.value(NAME).map(str::to_owned) else { return };
        let api = Path::of("dependencies.api");
        if !path.starts_with('/') {
            let error = ConfigError::new("the path does not begin with `/`").at(api.key("url"));
            let error = error.from(Some(Origin::Variable(NAME))).allowed("a path such as `/health`");
            return self.errors.push(error);
        }
        let part = |variable: &str, field: &str| {
            let configured = || self.dependency("api", field).and_then(number_or_text);
            self.value(variable).map(str::to_owned).or_else(configured)
        };
        let host = part("API_HOST", "host").unwrap_or_else(|| "127.0.0.1".to_owned());
        // A port that is none stays where it is, and is refused there by its own name.
        let Some(port) = part("API_PORT", "port").and_then(|port| port.parse::<u16>().ok()) else { return };
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        if let Some(map) = self.root.get_mut(&api).and_then(Node::map_mut) {
            map.retain(|field, _| !fields::<RawTcp>().contains(&field.as_str()));
        }
        self.set(&api.key("kind"), Kind::Http.as_str().to_owned(), NAME);
        self.set(&api.key("url"), format!("http://{host}:{port}{path}"), NAME);
    }

    /// The database's name is what resolving matters for, if nobody says otherwise.
    fn dns_name(&mut self) {
        if !self.is("dns", Kind::Dns) || self.dependency("dns", "query").and_then(Node::text).is_some() {
            return;
        }
        let Some(host) = self.dependency("database", "host") else { return };
        if let (Origin::Variable(variable), Some(name)) = (&host.origin, host.text())
            && host::address(name).is_none()
        {
            let (name, variable) = (name.to_owned(), *variable);
            self.set(&Path::of("dependencies.dns.query"), name, variable);
        }
    }
}

/// A port may be written as a number.
fn number_or_text(node: &Node) -> Option<String> {
    match node.content {
        crate::config::tree::Content::Int(number) => Some(number.to_string()),
        _ => node.text().map(str::to_owned),
    }
}
