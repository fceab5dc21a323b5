//! Hosts as they are written: a name, an IPv4 address, an IPv6 address with or without the brackets that it
//! wears in URLs.

use std::net::{IpAddr, Ipv6Addr};

/// The address, if the host is one.
pub(super) fn address(host: &str) -> Option<IpAddr> {
    let bracketed = || host.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok();
    host.parse().ok().or_else(|| bracketed().map(IpAddr::V6))
}

/// What a resolver can be asked: labels of letters, digits, `-` and `_`, the last of them no number. What ends in a
/// number is meant to be an IPv4 address (as in the WHATWG's URL standard), and to ask for it as a name would blame DNS
/// for a slip of the pen.
pub(super) fn is_name(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let label = |label: &str| !label.is_empty() && label.len() <= 63 && label.chars().all(plain);
    text.len() <= 253 && text.split('.').all(label) && !ends_in_a_number(text)
}

/// Whether it can only be an IPv4 address, right or wrong.
pub(super) fn ends_in_a_number(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    let last = text.rsplit('.').next().unwrap_or_default();
    !last.is_empty() && last.chars().all(|c| c.is_ascii_digit())
}

/// Whether it is an IPv6 address with a zone identifier: `fe80::1%eth0`.
pub(super) fn has_a_zone(text: &str) -> bool {
    let text = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    text.split_once('%').is_some_and(|(address, zone)| {
        address.parse::<Ipv6Addr>().is_ok() && zone.len() <= 32 && zone.chars().all(plain)
    })
}

/// What to do about one.
pub(super) const NO_ZONES: &str = "zone identifiers are not supported: write another address, or a name";

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
        for number in ["10.0.0.300", "1.2.3", "1.2.3.4.5", "5432", "db.1", "10.0.0.300."] {
            assert!(!is_name(number) && ends_in_a_number(number), "{number}");
        }
        for name in ["db1", "1.a", "1a", "", "."] {
            assert!(!ends_in_a_number(name), "{name}");
        }
    }

    #[test]
    fn zones() {
        for (text, zone) in [
            ("fe80::1%eth0", true),
            ("[fe80::1%25eth0]", true),
            ("[fe80::1%2]", true),
            ("fe80::1", false),
            ("db%eth0", false),
            ("::1%hunter2@h", false),
        ] {
            assert_eq!(has_a_zone(text), zone, "{text}");
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
