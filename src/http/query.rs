//! What may stand behind the `?` of `/history`. Elsewhere a query is passed over: health checks come with
//! whatever their sender is used to.

use std::ops::RangeInclusive;

use url::form_urlencoded;

/// Checks told where nobody says how many.
pub(super) const LIMIT: usize = 100;
/// How many may be asked for.
pub(super) const LIMITS: RangeInclusive<usize> = 1..=1000;

/// `?dependency=&limit=`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HistoryQuery {
    /// The dependency whose checks are asked for; `None` for those of all.
    pub(super) dependency: Option<String>,
    /// The most checks to tell.
    pub(super) limit: usize,
}

impl HistoryQuery {
    /// Reads a query, which is empty where there is none. The error is for whoever asked.
    pub(super) fn parse(query: &str) -> Result<Self, String> {
        let (mut dependency, mut limit) = (None, None);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let repeated = match &*name {
                "dependency" => dependency.replace(value.into_owned()).is_some(),
                "limit" => limit.replace(parse_limit(&value)?).is_some(),
                _ => {
                    return Err(format!(
                        "\"{name}\" is no parameter of this; there are `dependency` and `limit`"
                    ));
                }
            };
            if repeated {
                return Err(format!("`{name}` is there more than once; give it once"));
            }
        }
        Ok(Self { dependency, limit: limit.unwrap_or(LIMIT) })
    }
}

fn parse_limit(text: &str) -> Result<usize, String> {
    // `+5` would parse, too.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let limit = text.parse().ok().filter(|limit| digits && LIMITS.contains(limit));
    limit.ok_or_else(|| {
        let (least, most) = (LIMITS.start(), LIMITS.end());
        format!("`limit` is \"{text}\"; a number from {least} to {most} is allowed")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> (Option<String>, usize) {
        let HistoryQuery { dependency, limit } = HistoryQuery::parse(query).unwrap();
        (dependency, limit)
    }

    #[test]
    fn parameters_are_optional_and_decoded() {
        assert_eq!(read(""), (None, 100));
        assert_eq!(read("dependency=redis"), (Some("redis".into()), 100));
        assert_eq!(read("limit=1000&dependency=r%65dis"), (Some("redis".into()), 1000));
        assert_eq!(read("limit=1&"), (None, 1));
        assert_eq!(read("dependency="), (Some(String::new()), 100), "no dependency is called that");
    }

    #[test]
    fn what_is_meant_otherwise_is_refused_with_what_is_allowed() {
        for (query, told) in [
            ("limit=0", "\"0\"; a number from 1 to 1000"),
            ("limit=1001", "from 1 to 1000"),
            ("limit=", "from 1 to 1000"),
            ("limit=-1", "from 1 to 1000"),
            ("limit=%2B5", "\"+5\""),
            ("limit=5.0", "from 1 to 1000"),
            ("limit=99999999999999999999999", "from 1 to 1000"),
            ("limit=1&limit=1", "`limit` is there more than once"),
            ("dependency=a&dependency=b", "`dependency` is there more than once"),
            ("name=redis", "\"name\" is no parameter of this; there are `dependency` and `limit`"),
            ("Limit=5", "\"Limit\" is no parameter"),
            ("x", "\"x\" is no parameter"),
        ] {
            let error = HistoryQuery::parse(query).unwrap_err();
            assert!(error.contains(told), "{query}: {error}");
        }
    }
}
