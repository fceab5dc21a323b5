//! How often something happens: a count and a span, `100/s`, `20/m`, `1/h`.

use std::fmt;
use std::time::Duration;

use super::bound::Boundary;

/// Events within a span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    events: u32,
    per: Per,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Per {
    Second,
    Minute,
    Hour,
}

impl Per {
    const fn unit(self) -> &'static str {
        match self {
            Self::Second => "s",
            Self::Minute => "m",
            Self::Hour => "h",
        }
    }

    const fn span(self) -> Duration {
        Duration::from_secs(match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3600,
        })
    }
}

impl Rate {
    /// Whether so many events within `span` are more than this.
    pub fn is_passed(self, events: u64, span: Duration) -> bool {
        events as f64 * self.per.span().as_secs_f64() > f64::from(self.events) * span.as_secs_f64()
    }
}

impl Boundary for Rate {
    const ALLOWED: &'static str = "a whole number and `/s`, `/m` or `/h`, such as `100/s`";

    fn pattern() -> String {
        "[0-9]*[1-9][0-9]*/[smh]".to_owned()
    }

    fn read(text: &str) -> Option<Self> {
        let (digits, unit) = text.split_once('/')?;
        // `parse` alone would take a sign.
        let events = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())??;
        let per = [Per::Second, Per::Minute, Per::Hour].into_iter().find(|per| per.unit() == unit)?;
        (events > 0).then_some(Self { events, per })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.events, self.per.unit())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN_SECONDS: Duration = Duration::from_secs(10);

    #[test]
    fn reads_what_people_write_and_nothing_else() {
        for text in ["1/s", "100/m", "4294967295/h"] {
            assert_eq!(Rate::read(text).unwrap().to_string(), text);
        }
        for text in [
            "0/s",
            "1",
            "/s",
            "1/",
            "1/d",
            "1/ms",
            "1/1ms",
            "1/1s",
            "+1/s",
            "-1/s",
            "1 /s",
            "1.5/s",
            "4294967296/s",
            "1/s/s",
            "",
        ] {
            assert_eq!(Rate::read(text), None, "{text}");
        }
    }

    #[test]
    fn is_passed_by_more_than_it_says() {
        let passed = |rate: &str, events| Rate::read(rate).unwrap().is_passed(events, TEN_SECONDS);
        assert!(!passed("100/s", 1000) && passed("100/s", 1001));
        assert!(!passed("60/m", 10) && passed("60/m", 11));
        assert!(!passed("1/h", 0) && passed("1/h", 1), "any at all, in the time between two checks");
        assert!(!Rate::read("1/s").unwrap().is_passed(0, Duration::ZERO));
    }
}
