//! Shares as people write them: a whole number and its sign, `80%`. A bare number is refused, because nobody can
//! tell by reading whether `0.8` or `80` is meant, and of what.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};

use super::bound::Boundary;

/// What is allowed, for errors and docs.
pub(super) const ALLOWED: &str = "a share of 1% to 100%, such as `80%`";

/// A share of a whole in percent, 1 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(u8);

impl Percent {
    /// The share, if `text` is one.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_suffix('%')?;
        // `parse` alone would take a sign.
        let number = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())??;
        (1..=100).contains(&number).then_some(Self(number))
    }

    /// The same for a constant.
    ///
    /// # Panics
    ///
    /// Where it is not between 1 and 100; used for constants, the compiler says so.
    pub const fn of(number: u8) -> Self {
        assert!(number >= 1 && number <= 100, "a share is 1 to 100 percent");
        Self(number)
    }

    /// In percent.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

impl Boundary for Percent {
    const ALLOWED: &'static str = ALLOWED;

    fn pattern() -> String {
        "([1-9][0-9]?|100)%".to_owned()
    }

    fn read(text: &str) -> Option<Self> {
        Self::parse(text)
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Percent;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(ALLOWED)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Percent, E> {
                Percent::parse(text).ok_or_else(|| E::custom(ALLOWED))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write_and_nothing_else() {
        for (text, number) in [("1%", 1), ("80%", 80), ("100%", 100)] {
            assert_eq!(Percent::parse(text), Some(Percent::of(number)));
            assert_eq!(Percent::of(number).to_string(), text);
        }
        for text in ["80", "0%", "101%", "0.8", "-5%", "+5%", "80 %", "%", "", "256%", "1e1%"] {
            assert_eq!(Percent::parse(text), None, "{text}");
        }
    }
}
