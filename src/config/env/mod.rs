//! The environment variables: one table that says what each is for, which field it sets and what holds
//! without it. What reads the environment and what finds the variable to name in an error both go by it. The
//! environment itself comes in as an argument.

mod apply;
mod urls;

pub(super) use apply::{DATABASE_URL, REDIS_URL, Said, apply, other_kind};
pub(super) use urls::{Fields, Unusable, of_postgres, of_redis};

use crate::health::Kind;

/// One environment variable.
#[derive(Debug)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What holds without it, for people.
    pub default: Option<&'static str>,
    /// What it is.
    pub doc: &'static str,
    /// What it sets.
    pub sets: Sets,
}

/// What a variable sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sets {
    /// A field of the configuration, by its path.
    Field(&'static str),
    /// A field of a dependency, as long as that is of this kind.
    Dependency {
        /// The dependency.
        name: &'static str,
        /// The kind it has to be of.
        kind: Kind,
        /// The field.
        field: &'static str,
    },
    /// Several fields of this dependency at once; the variables of the single ones win.
    Several(&'static str),
    /// No field: it names a file.
    File,
    /// Nothing in this version; `switch` tells whether it turns something on, and is warned about then.
    NotYet {
        /// Whether it turns something on.
        switch: bool,
    },
}

impl Sets {
    /// The path of the one field that is set.
    pub fn path(self) -> Option<String> {
        match self {
            Self::Field(path) => Some(path.to_owned()),
            Self::Dependency { name, field, .. } => Some(format!("dependencies.{name}.{field}")),
            Self::Several(_) | Self::File | Self::NotYet { .. } => None,
        }
    }

    /// The same; of several fields, the path of the dependency that has them.
    pub fn place(self) -> Option<String> {
        match self {
            Self::Several(dependency) => Some(format!("dependencies.{dependency}")),
            other => other.path(),
        }
    }
}

/// The variable that names the target of a compiled-in dependency: where it is unset, the dependency is
/// disabled and this is why.
pub(super) fn variable_of(name: &str, kind: Kind, field: &str) -> Option<&'static str> {
    let sets = |variable: &&Variable| matches!(variable.sets, Sets::Dependency { name: n, kind: k, field: f } if (n, k, f) == (name, kind, field));
    VARIABLES.iter().find(sets).map(|variable| variable.name)
}

const fn field(
    name: &'static str,
    default: Option<&'static str>,
    path: &'static str,
    doc: &'static str,
) -> Variable {
    Variable { name, default, doc, sets: Sets::Field(path) }
}

const fn dependency(
    name: &'static str,
    default: Option<&'static str>,
    (dependency, kind, field): (&'static str, Kind, &'static str),
    doc: &'static str,
) -> Variable {
    Variable { name, default, doc, sets: Sets::Dependency { name: dependency, kind, field } }
}

const fn several(name: &'static str, dependency: &'static str, doc: &'static str) -> Variable {
    Variable { name, default: None, doc, sets: Sets::Several(dependency) }
}

const fn not_yet(
    name: &'static str,
    default: Option<&'static str>,
    switch: bool,
    doc: &'static str,
) -> Variable {
    Variable { name, default, doc, sets: Sets::NotYet { switch } }
}

const fn database(field: &'static str) -> (&'static str, Kind, &'static str) {
    ("database", Kind::Postgres, field)
}

const fn redis(field: &'static str) -> (&'static str, Kind, &'static str) {
    ("redis", Kind::Redis, field)
}

/// All variables, in the order of the docs.
pub const VARIABLES: &[Variable] = &[
    dependency("DATABASE_HOST", None, database("host"), "PostgreSQL: name or address of the server"),
    dependency("DATABASE_PORT", Some("5432"), database("port"), "PostgreSQL: port"),
    dependency("DATABASE_NAME", Some("mlflow_db"), database("database"), "PostgreSQL: database"),
    dependency("DATABASE_USER", Some("postgres"), database("user"), "PostgreSQL: user"),
    dependency("DATABASE_PASSWORD", None, database("password"), "PostgreSQL: password"),
    dependency(
        "DATABASE_SSLMODE",
        Some("prefer"),
        database("sslmode"),
        "PostgreSQL: `disable`, `prefer`, `require`, `verify-ca`, `verify-full`",
    ),
    dependency(
        "DATABASE_SSLROOTCERT",
        None,
        database("root_cert"),
        "PostgreSQL: a PEM file of the authorities to trust",
    ),
    several(
        "DATABASE_URL",
        "database",
        "PostgreSQL: all of the above in one, `postgresql://user:password@host:5432/database?sslmode=…&sslrootcert=…`, \
         with or without a driver (`postgresql+psycopg2://`). The single variables win",
    ),
    dependency("REDIS_ENABLED", Some("true"), redis("enabled"), "Redis: whether it is checked"),
    dependency("REDIS_HOST", None, redis("host"), "Redis: name or address of the server"),
    dependency("REDIS_PORT", Some("6379"), redis("port"), "Redis: port"),
    dependency("REDIS_USERNAME", None, redis("username"), "Redis: ACL user"),
    dependency("REDIS_PASSWORD", None, redis("password"), "Redis: password"),
    dependency("REDIS_TLS", Some("false"), redis("tls.enabled"), "Redis: whether TLS is spoken"),
    several(
        "REDIS_URL",
        "redis",
        "Redis: all of the above in one, `redis://user:password@host:6379`, or `rediss://` for TLS. The single variables \
         win",
    ),
    dependency("API_HOST", Some("127.0.0.1"), ("api", Kind::Tcp, "host"), "The API container: its address"),
    dependency("API_PORT", None, ("api", Kind::Tcp, "port"), "The API container: its port"),
    several(
        "API_HEALTH_PATH",
        "api",
        "The API container: the path to ask by HTTP; unset: the port is asked by TCP",
    ),
    dependency(
        "MLFLOW_TRACKING_URI",
        None,
        ("mlflow", Kind::Http, "url"),
        "MLflow: its address, to which `/health` is added; one that is not HTTP disables the check, with a warning",
    ),
    dependency(
        "MLFLOW_TIMEOUT",
        Some("10s"),
        ("mlflow", Kind::Http, "timeout"),
        "MLflow: timeout of the check, which does not follow `HEALTH_CHECK_TIMEOUT`",
    ),
    dependency(
        "DNS_NAME",
        None,
        ("dns", Kind::Dns, "query"),
        "DNS: the name to ask for; unset: the database's host, where a variable gives it and it is a name",
    ),
    field("HEALTH_CHECK_INTERVAL", Some("10s"), "defaults.interval", "From one check to the next"),
    field("HEALTH_CHECK_TIMEOUT", Some("10s"), "defaults.timeout", "The whole check, retries included"),
    field("HEALTH_CHECK_CONNECT_TIMEOUT", Some("3s"), "defaults.connect_timeout", "Each connection attempt"),
    field("RETRY_ATTEMPTS", Some("3"), "defaults.retry.attempts", "Attempts in one check"),
    field("RETRY_INITIAL", Some("100ms"), "defaults.retry.initial", "The pause after the first attempt"),
    field("RETRY_MAX", Some("2s"), "defaults.retry.max", "The longest pause"),
    field(
        "CIRCUIT_FAILURE_THRESHOLD",
        Some("5"),
        "defaults.circuit.failure_threshold",
        "So many failed checks in a row open a circuit",
    ),
    field(
        "CIRCUIT_RECOVERY_TIMEOUT",
        Some("60s"),
        "defaults.circuit.recovery_timeout",
        "How long it stays open",
    ),
    field(
        "CIRCUIT_SUCCESS_THRESHOLD",
        Some("3"),
        "defaults.circuit.success_threshold",
        "So many successful trials in a row close it",
    ),
    Variable {
        name: "SICKBAY_CONFIG",
        default: None,
        doc: "A configuration file, where no `--config` is given",
        sets: Sets::File,
    },
    field("SICKBAY_LISTEN", Some("0.0.0.0:8686"), "server.listen", "Address and port of the listener"),
    field(
        "SICKBAY_OPERATOR_LISTEN",
        None,
        "server.operator.listen",
        "A second listener, to which the operators' endpoints move",
    ),
    field(
        "SICKBAY_ADMIN_TOKEN",
        None,
        "server.admin_token",
        "A bearer token that may do everything; at least 16 characters",
    ),
    field("SICKBAY_LOG", Some("info"), "log.filter", "What is logged: a level, or levels by target"),
    field(
        "SICKBAY_LOG_FORMAT",
        None,
        "log.format",
        "`json` or `text`; unset: `text` on a terminal, else `json`",
    ),
    field("SICKBAY_DRAIN", Some("20s"), "server.drain", "How long answers go on after SIGTERM"),
    field("SERVICE_NAME", Some("api"), "service.name", "The service's name"),
    field("ENVIRONMENT", Some("development"), "service.environment", "The environment's name"),
    not_yet("CLOUDWATCH_ENABLED", Some("false"), true, "CloudWatch metrics"),
    not_yet("CLOUDWATCH_NAMESPACE", Some("Sickbay"), false, "CloudWatch: namespace"),
    not_yet("CLOUDWATCH_PERIOD", Some("60s"), false, "CloudWatch: from one flush to the next"),
    not_yet("CLOUDWATCH_ENDPOINT_URL", None, false, "CloudWatch: another endpoint"),
    not_yet("EMF_ENABLED", Some("false"), true, "CloudWatch metrics as log lines"),
    not_yet("AWS_REGION", None, false, "CloudWatch: region"),
    not_yet("EVENTS_ENABLED", Some("false"), true, "transitions published to Redis"),
    not_yet("EVENTS_STREAM", Some("sickbay:events:{service}"), false, "Events: the stream"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = VARIABLES.iter().map(|variable| variable.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), VARIABLES.len());
    }

    #[test]
    fn the_variable_of_a_target_is_found_by_name_kind_and_field() {
        assert_eq!(variable_of("database", Kind::Postgres, "host"), Some("DATABASE_HOST"));
        assert_eq!(variable_of("database", Kind::Tcp, "host"), None, "another kind is another dependency");
        assert_eq!(variable_of("replica", Kind::Postgres, "host"), None);
    }
}
