//! The kind `http`: its URL, what of it is secret, and headers that can be sent.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use url::Url;

use super::super::cursor::Cursor;
use super::super::tls::tls;
use super::{Asked, RawHttp, expected};
use crate::config::Secret;
use crate::config::errors::ConfigError;
use crate::config::host;
use crate::config::path::shown_key;
use crate::config::plan::{HttpPlan, ProbePlan, TlsPlan, Verify};
use crate::config::raw::{RawStatus, RawTls};
use crate::config::user_info;

const METHODS: [&str; 4] = ["GET", "HEAD", "OPTIONS", "POST"];

/// What would change where a message or its connection ends. All else replaces what the client itself sends.
const RESERVED: [&str; 4] = ["connection", "content-length", "transfer-encoding", "upgrade"];

pub(super) fn http(raw: RawHttp, used: bool, at: &Cursor<'_>, warnings: &mut Vec<String>) -> Asked {
    let mut headers = headers(raw.headers.unwrap_or_default(), &at.key("headers"));
    let url_at = at.key("url");
    let written = raw.url.filter(|text| !text.is_empty());
    let missing = if written.is_none() { vec!["url"] } else { Vec::new() };
    let mut url = written.and_then(|text| target(&text, &url_at));
    if url.as_ref().is_some_and(user_info::ends_early) {
        warnings.push(format!(
            "{}: the URL (not shown) has an `@` behind its host; if that ends a password, percent-encode the `/` \
             and `?` in it, else write `%40`",
            url_at.path()
        ));
    }
    if let Some(credentials) = url.as_mut().and_then(take_user_info) {
        if headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization")) {
            let what = "the URL has user info and there is an `Authorization` header";
            url_at.refuse(ConfigError::new(what).allowed("one of the two").advice("remove one"));
        }
        headers.push(("Authorization".to_owned(), credentials));
    }
    let https = url.as_ref().is_some_and(|url| url.scheme() == "https");
    match &raw.tls {
        Some(tls) if https && tls.enabled == Some(false) => {
            let what = "an `https` URL cannot be asked without TLS";
            at.key("tls").refuse(ConfigError::new(what).advice("write `http`, or remove `tls`"));
        }
        Some(tls) if !https && url.is_some() && tls.enabled != Some(false) => {
            warnings.push(format!("{}: not used, because the URL is not `https`", at.key("tls").path()));
        }
        _ => {}
    }
    let settings = tls(raw.tls.map(|tls| RawTls { enabled: Some(true), ..tls }), used, &at.key("tls"));
    let expect = raw.expect.unwrap_or_default();
    if raw.method.as_deref().is_some_and(|method| method.eq_ignore_ascii_case("HEAD"))
        && expect.body.as_ref().is_some_and(|body| !body.is_empty())
    {
        let what = "the answer to `HEAD` has no body";
        at.key("expect").key("body").refuse(ConfigError::new(what).advice("ask by `GET`, or remove it"));
    }
    let plan = HttpPlan {
        url: url.clone().unwrap_or_else(placeholder),
        method: method(raw.method, &at.key("method")),
        headers,
        tls: settings.unwrap_or(TlsPlan { verify: Verify::Full, root_cert: None }),
        expect_status: status(expect.status, &at.key("expect").key("status")),
        expect_body: expected(expect.body, &at.key("expect").key("body")),
    };
    let host = url.as_ref().and_then(Url::host_str);
    let host = host.map(|host| host.trim_start_matches('[').trim_end_matches(']').to_owned());
    Asked { probe: ProbePlan::Http(plan), host, missing }
}

/// Stands where no URL is known; nothing ever asks it.
#[allow(clippy::expect_used, reason = "a literal, and a test parses it")]
fn placeholder() -> Url {
    Url::parse("http://unset.invalid/").expect("a valid URL")
}

/// The URL is never quoted in an error: it may hold a password in any of its parts.
fn target(text: &str, at: &Cursor<'_>) -> Option<Url> {
    let refuse = |what: &str, advice: &str| {
        let error = ConfigError::new(what).allowed("`http://host[:port]/path` or `https://…`");
        at.refuse(error.advice(advice));
        None
    };
    match Url::parse(text) {
        Ok(url) if !matches!(url.scheme(), "http" | "https") => {
            refuse("the URL is neither HTTP nor HTTPS", "correct it")
        }
        Ok(url) if url.port() == Some(0) => refuse("the port of the URL is 0", "correct the port"),
        Ok(url) if url.fragment().is_some_and(|fragment| fragment.contains('@')) => refuse(
            "the URL has an `@` behind a `#`",
            "if that ends a password, percent-encode the `#` in it as `%23`, else remove what follows the `#`",
        ),
        Ok(mut url) => {
            // A fragment is never sent.
            url.set_fragment(None);
            Some(url)
        }
        Err(url::ParseError::RelativeUrlWithoutBase) => {
            refuse("the URL has no scheme", "begin with `http://`")
        }
        Err(url::ParseError::InvalidIpv6Address) if zoned(text) => {
            refuse("the host of the URL has a zone identifier", host::NO_ZONES)
        }
        Err(error) => refuse(&format!("the URL cannot be read: {error}"), "correct it"),
    }
}

/// Whether the address in brackets has a zone identifier; in a URL its `%` is written `%25`.
fn zoned(url: &str) -> bool {
    let address = url.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    address.is_some_and(|(address, _)| host::has_a_zone(&address.replacen("%25", "%", 1)))
}

/// Moves user info out of a URL into what an `Authorization` header says.
fn take_user_info(url: &mut Url) -> Option<Secret> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let mut pair: Vec<u8> = percent_decode_str(url.username()).collect();
    pair.push(b':');
    pair.extend(percent_decode_str(url.password().unwrap_or_default()));
    // Neither can fail on a URL that had user info.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    Some(Secret::new(format!("Basic {}", STANDARD.encode(pair))))
}

fn method(raw: Option<String>, at: &Cursor<'_>) -> String {
    let Some(raw) = raw else { return "GET".to_owned() };
    let method = raw.to_ascii_uppercase();
    if !METHODS.contains(&method.as_str()) {
        let what = format!("{} is not valid", at.shown(&raw));
        at.refuse(ConfigError::new(what).allowed("`GET`, `HEAD`, `OPTIONS`, `POST`"));
    }
    method
}

fn status(raw: Option<Vec<RawStatus>>, at: &Cursor<'_>) -> Vec<RangeInclusive<u16>> {
    if at.empty_list() {
        at.refuse(ConfigError::new("the list is empty").allowed("at least one status code or range"));
    }
    let codes = raw.unwrap_or_else(|| vec![RawStatus(200, 299)]);
    codes.into_iter().map(|RawStatus(first, last)| first..=last).collect()
}

fn headers(raw: BTreeMap<String, Secret>, at: &Cursor<'_>) -> Vec<(String, Secret)> {
    let mut seen = BTreeSet::new();
    for (name, value) in &raw {
        let at = at.key(name);
        if !seen.insert(name.to_ascii_lowercase()) {
            let what = "the header stands here twice, spelled in upper and in lower case";
            at.refuse(ConfigError::new(what).advice("remove one"));
        }
        if !token(name) {
            at.refuse(
                ConfigError::new("this is no name of a header")
                    .allowed("letters, digits and ``!#$%&'*+-.^_`|~``"),
            );
        } else if RESERVED.contains(&name.to_ascii_lowercase().as_str()) {
            let shown = shown_key(name).unwrap_or("this");
            at.refuse(ConfigError::new(format!("the header `{shown}` cannot be set")).advice("remove it"));
        }
        if !value.expose().chars().all(|c| c == '\t' || c == ' ' || c.is_ascii_graphic()) {
            let what = "the value (not shown: it is a secret) cannot be sent in a header";
            at.refuse(ConfigError::new(what).allowed("visible ASCII characters, spaces and tabs"));
        }
    }
    raw.into_iter().collect()
}

/// A token of RFC 9110, section 5.6.2.
fn token(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_placeholder_is_a_url() {
        assert_eq!(placeholder().as_str(), "http://unset.invalid/");
    }

    #[test]
    fn user_info_leaves_the_url_decoded() {
        let mut url = Url::parse("https://us%40er:p%3Aw@host/x").unwrap();
        let secret = take_user_info(&mut url).unwrap();
        assert_eq!(url.as_str(), "https://host/x");
        assert_eq!(secret.expose(), format!("Basic {}", STANDARD.encode("us@er:p:w")));
        assert_eq!(take_user_info(&mut url), None);
    }
}
