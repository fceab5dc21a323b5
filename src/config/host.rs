//! Hosts as they are written: a name, an IPv4 address, an IPv6 address with or without the brackets that it
//! wears in URLs.

use std::net::{IpAddr, Ipv6Addr};

/// The address, if the host is one.
pub(super) fn address(host: &str) -> Option<IpAddr> {
    let bracketed = || host.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok();
    host.parse().ok().or_else(|| bracketed().map(IpAddr::V6))
}

/// What a resolver can be asked: labels of letters, digits, `-` and `_`.
pub(super) fn is_name(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let label = |label: &str| !label.is_empty() && label.len() <= 63 && label.chars().all(plain);
    text.len() <= 253 && text.split('.').all(label)
}

/// The host as a URL has it, if it is one.
pub(super) fn in_url(host: &str) -> Option<String> {
    match address(host) {
        Some(IpAddr::V6(address)) => Some(format!("[{address}]")),
        Some(IpAddr::V4(address)) => Some(address.to_string()),
        None => is_name(host).then(|| host.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["db", "db.internal", "a-1.b_c", "db.internal.", "1.example"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", ".", "a..b", "a b", "a/b", "ä.example", &"a".repeat(64), &"a.".repeat(128)] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn addresses_with_and_without_brackets() {
        for (text, url) in [
            ("::1", Some("[::1]")),
            ("[::1]", Some("[::1]")),
            ("10.0.0.1", Some("10.0.0.1")),
            ("[10.0.0.1]", None),
            ("db", Some("db")),
            ("db/x", None),
        ] {
            assert_eq!(in_url(text).as_deref(), url, "{text}");
        }
    }
}
