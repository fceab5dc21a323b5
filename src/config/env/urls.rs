//! Connection URLs: one variable that says what else takes seven. What an error says of one never quotes it,
//! because its middle is a password.

use percent_encoding::percent_decode_str;
use url::Url;

/// The parts of a connection URL; what the URL does not say is `None`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Connection {
    /// The scheme, without a driver: `postgresql+psycopg2` is `postgresql`.
    pub(super) scheme: String,
    pub(super) host: Option<String>,
    pub(super) port: Option<String>,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    /// What follows the host, without its slash.
    pub(super) path: Option<String>,
    pub(super) query: Vec<(String, String)>,
}

/// Takes a URL apart and decodes its parts.
pub(super) fn connection(text: &str) -> Option<Connection> {
    let url = Url::parse(text.trim()).ok()?;
    let scheme = url.scheme().split('+').next().unwrap_or_default().to_owned();
    let decoded = |part: &str| {
        let text = percent_decode_str(part).decode_utf8().ok()?;
        (!text.is_empty()).then(|| text.into_owned())
    };
    Some(Connection {
        scheme,
        // An IPv6 address stands in brackets in a URL only.
        host: url.host_str().and_then(|host| decoded(host.trim_start_matches('[').trim_end_matches(']'))),
        port: url.port().map(|port| port.to_string()),
        user: decoded(url.username()),
        password: url.password().and_then(decoded),
        path: decoded(url.path().trim_start_matches('/')),
        query: url.query_pairs().map(|(key, value)| (key.into_owned(), value.into_owned())).collect(),
    })
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
            host: Some("db.internal".into()),
            port: Some("6432".into()),
            user: Some("us@er".into()),
            password: Some("p/w%d".into()),
            path: Some("ml flow".into()),
            query: vec![("sslmode".into(), "require".into())],
        };
        assert_eq!(all, Some(expected));
    }

    #[test]
    fn what_is_not_said_is_not_set() {
        let bare = Connection { scheme: "redis".into(), host: Some("::1".into()), ..Connection::default() };
        assert_eq!(connection("redis://[::1]"), Some(bare));
        let password = connection("rediss://:hunter2@cache/0").unwrap();
        assert_eq!((password.user, password.password), (None, Some("hunter2".into())));
        assert_eq!(connection("not a url"), None);
        assert_eq!(connection("postgresql://a,b:1,2/x"), None);
    }
}
