//! Connection URLs: one variable that says what else takes seven. What an error says of one never quotes it,
//! because its middle is a password.

use percent_encoding::percent_decode_str;
use url::Url;

use crate::config::path::shown_key;
use crate::config::user_info;

/// The parts of a connection URL; what the URL does not say is `None`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Connection {
    /// The scheme up to a `+`: of `postgresql+psycopg2`, `postgresql`.
    scheme: String,
    /// The scheme behind it: `psycopg2`.
    driver: Option<String>,
    host: Option<String>,
    port: Option<String>,
    user: Option<String>,
    password: Option<String>,
    /// What follows the host, without its slash.
    path: Option<String>,
    query: Vec<(String, String)>,
}

/// Why a URL cannot be used, and what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) struct Unusable {
    pub(in crate::config) what: &'static str,
    /// `None`: to correct it.
    pub(in crate::config) advice: Option<&'static str>,
}

impl Unusable {
    const NOT_ONE: Self = Self { what: "the URL cannot be used", advice: None };
    pub(in crate::config) const NO_HOST: Self = Self { what: "the URL names no host", advice: None };
    const SENTINEL: Self =
        Self { what: "the URL is for Sentinel, which is not yet supported", advice: Some("name one server") };
    const UNIX: Self =
        Self { what: "the URL is for a Unix socket, which is not supported", advice: Some("name a host") };
    const STRAY_AT: Self = Self {
        what: "the URL has an `@` behind its host",
        advice: Some("percent-encode the password: `/` is `%2F`, `?` is `%3F`, `#` is `%23`, `@` is `%40`"),
    };
    const NOT_TEXT: Self = Self {
        what: "a part of the URL is not UTF-8 text when its percent-encoding is undone",
        advice: Some("percent-encode a `%` itself as `%25`"),
    };
}

/// The fields of a dependency that a URL sets.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::config) struct Fields {
    /// Each by its path in the dependency, with what the URL says.
    pub(in crate::config) set: Vec<(&'static str, String)>,
    /// What of the URL is not used, as a warning goes on.
    pub(in crate::config) unused: Vec<String>,
}

impl Fields {
    fn set(&mut self, field: &'static str, value: Option<String>) {
        self.set.extend(value.map(|value| (field, value)));
    }

    fn unused_parameter(&mut self, key: &str) {
        let parameter =
            shown_key(key).map_or_else(|| "a parameter".to_owned(), |key| format!("its parameter `{key}`"));
        self.unused.push(format!("{parameter} is not used"));
    }

    /// Whether it names a host.
    pub(in crate::config) fn has_host(&self) -> bool {
        self.set.iter().any(|(field, _)| *field == "host")
    }
}

/// What a PostgreSQL URL sets, with or without a driver in its scheme.
pub(in crate::config) fn of_postgres(text: &str) -> Result<Fields, Unusable> {
    let url = connection(text)?;
    if !["postgres", "postgresql"].contains(&&*url.scheme) {
        return Err(Unusable::NOT_ONE);
    }
    let mut fields = Fields::default();
    fields.set("host", url.host);
    fields.set("port", url.port);
    fields.set("user", url.user);
    fields.set("password", url.password);
    fields.set("database", url.path);
    for (key, value) in url.query {
        match key.as_str() {
            "sslmode" => fields.set("sslmode", Some(value)),
            "sslrootcert" => fields.set("root_cert", Some(value)),
            _ => fields.unused_parameter(&key),
        }
    }
    Ok(fields)
}

/// What a Redis URL sets.
pub(in crate::config) fn of_redis(text: &str) -> Result<Fields, Unusable> {
    let url = connection(text)?;
    let tls = match (url.scheme.as_str(), url.driver.as_deref()) {
        ("redis", None) => false,
        ("rediss", None) => true,
        ("redis" | "rediss", Some("sentinel")) => return Err(Unusable::SENTINEL),
        ("unix", None) | ("redis", Some("socket" | "unix")) => return Err(Unusable::UNIX),
        _ => return Err(Unusable::NOT_ONE),
    };
    let mut fields = Fields::default();
    if url.path.is_some_and(|database| database != "0") {
        fields.unused.push("the database in its path is not used; a check needs none".to_owned());
    }
    url.query.iter().for_each(|(key, _)| fields.unused_parameter(key));
    fields.set("host", url.host);
    fields.set("port", url.port);
    fields.set("username", url.user);
    fields.set("password", url.password);
    fields.set("tls.enabled", Some(tls.to_string()));
    Ok(fields)
}

/// Takes a URL apart and decodes its parts.
fn connection(text: &str) -> Result<Connection, Unusable> {
    let url = Url::parse(text.trim()).ok().filter(|url| !url.cannot_be_a_base()).ok_or(Unusable::NOT_ONE)?;
    if user_info::ends_early(&url) {
        return Err(Unusable::STRAY_AT);
    }
    let (scheme, driver) = match url.scheme().split_once('+') {
        Some((scheme, driver)) => (scheme, Some(driver.to_owned())),
        None => (url.scheme(), None),
    };
    // An IPv6 address stands in brackets in a URL only.
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    Ok(Connection {
        scheme: scheme.to_owned(),
        driver,
        host: decoded(host)?,
        port: url.port().map(|port| port.to_string()),
        user: decoded(url.username())?,
        password: decoded(url.password().unwrap_or_default())?,
        path: decoded(url.path().trim_start_matches('/'))?,
        query: url.query_pairs().map(|(key, value)| (key.into_owned(), value.into_owned())).collect(),
    })
}

/// A part without its percent-encoding; what is empty is not said.
fn decoded(part: &str) -> Result<Option<String>, Unusable> {
    let text = percent_decode_str(part).decode_utf8().map_err(|_| Unusable::NOT_TEXT)?;
    Ok((!text.is_empty()).then(|| text.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_apart_and_decodes() {
        let all =
            connection("postgresql+psycopg2://us%40er:p%2Fw%25d@db.internal:6432/ml%20flow?sslmode=require");
        let expected = Connection {
            scheme: "postgresql".into(),
            driver: Some("psycopg2".into()),
            host: Some("db.internal".into()),
            port: Some("6432".into()),
            user: Some("us@er".into()),
            password: Some("p/w%d".into()),
            path: Some("ml flow".into()),
            query: vec![("sslmode".into(), "require".into())],
        };
        assert_eq!(all, Ok(expected));
    }

    #[test]
    fn what_is_not_said_is_not_set() {
        let bare = Connection { scheme: "redis".into(), host: Some("::1".into()), ..Connection::default() };
        assert_eq!(connection("redis://[::1]"), Ok(bare));
        let password = connection("rediss://:hunter2@cache/0").unwrap();
        assert_eq!((password.user, password.password), (None, Some("hunter2".into())));
        for text in ["not a url", "postgresql://a,b:1,2/x"] {
            assert_eq!(connection(text), Err(Unusable::NOT_ONE), "{text}");
        }
    }

    #[test]
    fn a_password_that_breaks_the_url_is_found() {
        for text in ["postgresql://u:12/hunter2@h/x", "redis://u:12?hunter2@h", "redis://u:12#hunter2@h/0"] {
            assert_eq!(connection(text), Err(Unusable::STRAY_AT), "{text}");
        }
        assert_eq!(connection("redis://u:hunter%ff2@h"), Err(Unusable::NOT_TEXT));
    }
}
