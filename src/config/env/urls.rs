//! Connection URLs: one variable that says what else takes seven. What an error says of one never quotes it,
//! because its middle is a password.

use percent_encoding::percent_decode_str;
use url::Url;

use crate::config::user_info;

/// The parts of a connection URL; what the URL does not say is `None`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Connection {
    /// The scheme up to a `+`: of `postgresql+psycopg2`, `postgresql`.
    pub(super) scheme: String,
    /// The scheme behind it: `psycopg2`.
    pub(super) driver: Option<String>,
    pub(super) host: Option<String>,
    pub(super) port: Option<String>,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    /// What follows the host, without its slash.
    pub(super) path: Option<String>,
    pub(super) query: Vec<(String, String)>,
}

/// Why a URL cannot be used, and what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unusable {
    pub(super) what: &'static str,
    pub(super) advice: &'static str,
}

const SINGLE_ONES: &str = "correct the variable, or unset it and set the single ones";

impl Unusable {
    pub(super) const NOT_ONE: Self = Self { what: "the URL cannot be used", advice: SINGLE_ONES };
    pub(super) const NO_HOST: Self = Self { what: "the URL names no host", advice: SINGLE_ONES };
    pub(super) const SENTINEL: Self =
        Self { what: "the URL is for Sentinel, which is not yet supported", advice: "name one server" };
    pub(super) const UNIX: Self =
        Self { what: "the URL is for a Unix socket, which is not supported", advice: "name a host" };
    const STRAY_AT: Self = Self {
        what: "the URL has an `@` behind its host",
        advice: "percent-encode the password: `/` is `%2F`, `?` is `%3F`, `#` is `%23`, `@` is `%40`",
    };
    const NOT_TEXT: Self = Self {
        what: "a part of the URL is not UTF-8 text when its percent-encoding is undone",
        advice: "percent-encode a `%` itself as `%25`",
    };
}

/// Takes a URL apart and decodes its parts.
pub(super) fn connection(text: &str) -> Result<Connection, Unusable> {
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
