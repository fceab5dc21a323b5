//! What is logged: a level for all, or levels by target.
//!
//! Not tracing's `EnvFilter`: that also filters by span and by field, of which there are none here, and brings an
//! engine of regular expressions for it.

use tracing_subscriber::filter::{LevelFilter, Targets};

/// What a peer can make the HTTP/2 library warn of as often as it likes, which fills a log that is paid for by the
/// line. It is heard of where it is named, as in `info,h2=debug`.
const QUIET: &str = "h2";

/// Who did what by hand, and who tried. Whoever wants less of the rest still wants that; it is silenced, or told more of,
/// where it is named, as in `warn,audit=off`.
const AUDIT: &str = "audit";

/// The levels in `info` or `sickbay=debug,warn`; `None` where the text is nothing of the kind.
pub fn parse(text: &str) -> Option<Targets> {
    let words: Vec<&str> = text.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
    if words.is_empty() {
        // By itself an empty word would be every target, at every level.
        return Some(audited(Targets::new().with_default(LevelFilter::ERROR)));
    }
    let of_spans = words.iter().any(|word| word.contains('['));
    let targets: Targets = words.join(",").parse().ok().filter(|_| !of_spans)?;
    let named = targets.iter().any(|(target, _)| target.starts_with(QUIET));
    let silenced = targets.default_level().is_none_or(|level| level == LevelFilter::OFF);
    Some(audited(if named || silenced { targets } else { targets.with_target(QUIET, LevelFilter::ERROR) }))
}

/// With the audit, unless it is named.
fn audited(targets: Targets) -> Targets {
    if targets.iter().any(|(target, _)| target == AUDIT) {
        return targets;
    }
    let level = targets.default_level().unwrap_or(LevelFilter::OFF).max(LevelFilter::INFO);
    targets.with_target(AUDIT, level)
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn levels_are_told_apart_by_target() {
        let enables = |text: &str, target: &str| {
            let filter = parse(text).unwrap();
            let levels = [Level::TRACE, Level::DEBUG, Level::INFO, Level::WARN];
            levels.into_iter().find(|level| filter.would_enable(target, level)).unwrap_or(Level::ERROR)
        };
        assert_eq!(enables("info", "sickbay::net"), Level::INFO);
        assert_eq!(enables("sickbay=debug,warn", "sickbay::net"), Level::DEBUG);
        assert_eq!(enables(" sickbay=debug , warn,", "hickory"), Level::WARN);
        assert_eq!(enables("WARN", "hickory"), Level::WARN);
        for nothing in ["", ",", " , "] {
            assert_eq!(enables(nothing, "sickbay"), Level::ERROR, "{nothing:?}");
        }
    }

    #[test]
    fn what_strangers_can_fill_the_log_with_is_heard_of_where_it_is_named() {
        let warns = |text: &str| parse(text).unwrap().would_enable("h2::proto::streams::recv", &Level::WARN);
        for unnamed in ["info", "trace", "sickbay=debug,warn"] {
            assert!(!warns(unnamed), "{unnamed}");
            assert!(parse(unnamed).unwrap().would_enable("hickory", &Level::WARN), "{unnamed}");
        }
        assert!(warns("info,h2=debug"));
        assert!(warns("h2::proto=warn"));
        for nothing in ["off", "sickbay=info"] {
            assert!(!parse(nothing).unwrap().would_enable("h2", &Level::ERROR), "{nothing}");
        }
    }

    #[test]
    fn the_audit_is_heard_of_unless_it_is_named() {
        let tells = |text: &str, level: Level| parse(text).unwrap().would_enable("audit", &level);
        for unnamed in ["info", "warn", "error", "off", "", "sickbay=debug,warn", "sickbay=off"] {
            assert!(tells(unnamed, Level::INFO) && !tells(unnamed, Level::DEBUG), "{unnamed}");
        }
        assert!(tells("debug", Level::DEBUG), "no less than the rest");
        assert!(tells("warn,audit=debug", Level::DEBUG));
        assert!(!tells("info,audit=warn", Level::INFO) && tells("info,audit=warn", Level::WARN));
        assert!(!tells("info,audit=off", Level::ERROR));
        assert!(!parse("warn").unwrap().would_enable("sickbay::http", &Level::INFO), "nothing else");
    }

    #[test]
    fn what_is_no_filter_is_none() {
        for bad in ["sickbay=loud", "a=b=c", "[span]=debug", "sickbay[{field}]=debug"] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }
}
