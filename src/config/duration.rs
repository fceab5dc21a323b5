//! Durations as people write them: a number and its unit. A bare number is refused, because nobody can tell
//! by reading whether `10` is seconds or milliseconds.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Visitor};

use super::bound::Boundary;

/// What is allowed, for errors and docs.
pub(super) const ALLOWED: &str =
    "a whole number with its unit, such as `250ms`, `10s`, `1m30s`, `1h` or `14d`";

/// The units, from the longest; each in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", DAY), ("h", HOUR), ("m", 60_000), ("s", 1_000), ("ms", 1)];

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

/// A duration in the YAML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HumanDuration(pub Duration);

/// The duration of a text: `10s`, or several units from the longest to the shortest, each once: `1m30s`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut total = 0_u64;
    loop {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, after) = rest.split_at(digits);
        let letters = after.len() - after.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let (unit, after) = after.split_at(letters);
        let (_, millis) = units.find(|(name, _)| *name == unit)?;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(*millis)?)?;
        if after.is_empty() {
            return Some(Duration::from_millis(total));
        }
        rest = after;
    }
}

/// The text of a duration, in the largest unit of which it is a whole number; a single day is `24h`, and minutes
/// are written as seconds.
pub fn format_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let whole = |unit: u64| millis > 0 && millis.is_multiple_of(u128::from(unit));
    if whole(DAY) && millis > u128::from(DAY) {
        format!("{}d", millis / u128::from(DAY))
    } else if whole(HOUR) {
        format!("{}h", millis / u128::from(HOUR))
    } else if millis.is_multiple_of(1000) {
        format!("{}s", duration.as_secs())
    } else {
        format!("{millis}ms")
    }
}

impl Boundary for HumanDuration {
    const ALLOWED: &'static str = ALLOWED;

    /// The empty text looks like it as well.
    fn pattern() -> String {
        UNITS.iter().map(|(unit, _)| format!("([0-9]+{unit})?")).collect()
    }

    fn read(text: &str) -> Option<Self> {
        parse_duration(text).map(Self)
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = HumanDuration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(ALLOWED)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<HumanDuration, E> {
                parse_duration(text).map(HumanDuration).ok_or_else(|| E::custom(ALLOWED))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_people_write() {
        for (text, millis) in [
            ("250ms", 250),
            ("10s", 10_000),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("1m30s", 90_000),
            ("0s", 0),
            ("14d", 14 * DAY),
            ("1d12h", DAY * 3 / 2),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn refuses_what_can_be_misread() {
        for text in [
            "",
            "10",
            "s",
            "-1s",
            "1.5s",
            "10 s",
            "10S",
            "30s1m",
            "1s1s",
            "1w",
            "99999999999999999999s",
            "1m30",
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        assert_eq!(parse_duration(&format!("{}h", u64::MAX)), None);
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(millis in 0_u64..1_000_000_000) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Some(duration));
        }
    }
}
