//! How numbers, times and lists are told, everywhere in a report alike.

use std::net::SocketAddr;
use std::time::Duration;

use crate::health::WallTime;

/// `0.4 ms`, `3.0 s`
pub(super) fn time(span: Duration) -> String {
    let millis = span.as_secs_f64() * 1000.0;
    // What would be rounded to a thousand of them is a second.
    if millis < 999.95 { format!("{millis:.1} ms") } else { format!("{:.1} s", millis / 1000.0) }
}

/// `one try`, `four tries`, `13 tries`
pub(super) fn count(number: usize, one: &str, more: &str) -> String {
    format!("{} {}", self::number(number), if number == 1 { one } else { more })
}

/// `one`, `four`, `13`
pub(super) fn number(number: usize) -> String {
    const WORDS: [&str; 13] = [
        "no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
        "twelve",
    ];
    WORDS.get(number).map_or_else(|| number.to_string(), |word| (*word).to_owned())
}

/// `a`, `a and b`, `a, b and c`
pub(super) fn all(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [only] => only.clone(),
        [front @ .., last] => format!("{} and {last}", front.join(", ")),
    }
}

/// The first ones, and how many more there are.
pub(super) fn first(items: &[String], most: usize) -> String {
    match items.len().saturating_sub(most) {
        0 => all(items),
        more => format!("{} and {more} more", items[..most].join(", ")),
    }
}

/// A name server: its port is told where it is another than usual.
pub(super) fn server(at: SocketAddr) -> String {
    if at.port() == 53 { at.ip().to_string() } else { at.to_string() }
}

/// A name without the dot at its end.
pub(super) fn name(name: &str) -> &str {
    name.strip_suffix('.').filter(|name| !name.is_empty()).unwrap_or(name)
}

/// The day of a time: `2027-01-01`.
pub(super) fn day(time: WallTime) -> String {
    let day = jiff::Timestamp::from_millisecond(time.unix_millis()).map(|time| time.to_string());
    let day = day.ok().and_then(|text| text.split_once('T').map(|(day, _)| day.to_owned()));
    day.unwrap_or_else(|| "a day out of any calendar".to_owned())
}

/// How far a time is from now: `in 38 days`, `5 hours ago`.
pub(super) fn from_now(time: WallTime, now: WallTime) -> String {
    const HOUR: i64 = 3_600_000;
    let millis = time.unix_millis().saturating_sub(now.unix_millis());
    let hours = millis.unsigned_abs() / HOUR.unsigned_abs();
    let span = match hours {
        0 => "less than an hour".to_owned(),
        1 => "an hour".to_owned(),
        2..48 => format!("{hours} hours"),
        _ => format!("{} days", hours / 24),
    };
    if millis < 0 { format!("{span} ago") } else { format!("in {span}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_one_digit_behind_the_point_and_the_unit_that_fits() {
        for (micros, told) in
            [(0, "0.0 ms"), (400, "0.4 ms"), (12_340, "12.3 ms"), (999_940, "999.9 ms"), (999_960, "1.0 s")]
        {
            assert_eq!(time(Duration::from_micros(micros)), told);
        }
        assert_eq!(time(Duration::from_secs(3)), "3.0 s");
    }

    #[test]
    fn small_numbers_are_words() {
        assert_eq!(count(1, "try", "tries"), "one try");
        assert_eq!(count(4, "try", "tries"), "four tries");
        assert_eq!(count(0, "try", "tries"), "no tries");
        assert_eq!(count(13, "try", "tries"), "13 tries");
    }

    #[test]
    fn lists_read_as_they_are_spoken() {
        let items: Vec<String> = ["a", "b", "c"].map(str::to_owned).to_vec();
        assert_eq!(
            [all(&[]), all(&items[..1]), all(&items[..2]), all(&items)],
            ["", "a", "a and b", "a, b and c"]
        );
        assert_eq!(first(&items, 2), "a, b and 1 more");
        assert_eq!(first(&items, 3), "a, b and c");
    }

    #[test]
    fn a_day_is_told_with_its_distance() {
        const DAY: i64 = 86_400_000;
        let at = |days: i64| WallTime::from_unix_millis(days * DAY);
        assert_eq!(day(at(0)), "1970-01-01");
        assert_eq!(day(WallTime::from_unix_millis(i64::MAX)), "a day out of any calendar");
        assert_eq!(from_now(at(40), at(2)), "in 38 days");
        assert_eq!(from_now(at(2), at(3)), "24 hours ago");
        assert_eq!(from_now(at(2), at(2)), "in less than an hour");
        assert_eq!(from_now(WallTime::from_unix_millis(i64::MIN), at(2)), "106751991167 days ago");
    }

    #[test]
    fn names_and_servers_are_told_without_what_is_usual() {
        assert_eq!(
            [name("db.internal."), name("db.internal"), name(".")],
            ["db.internal", "db.internal", "."]
        );
        assert_eq!(server("10.0.0.2:53".parse().unwrap()), "10.0.0.2");
        assert_eq!(server("127.0.0.1:5353".parse().unwrap()), "127.0.0.1:5353");
    }
}
