//! What a command that takes a while tells meanwhile.

use std::io::{IsTerminal, Write as _};
use std::time::Duration;

use super::{FAINT, tell_error};

/// A span for people: tenths below ten seconds.
pub(super) fn shown(span: Duration) -> String {
    if span < Duration::from_secs(10) && span.subsec_nanos() != 0 {
        format!("{:.1}s", span.as_secs_f64())
    } else {
        format!("{}s", span.as_secs())
    }
}

/// Standard error: lines that stay, and on a terminal one below them that changes.
pub(super) struct Show {
    terminal: bool,
    /// Whether the line that changes is there now.
    live: bool,
}

impl Show {
    /// With nothing shown yet.
    pub(super) fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), live: false }
    }

    /// Tells a line that stays.
    pub(super) fn line(&mut self, text: &str) {
        self.clear();
        tell_error(text);
    }

    /// Tells how far it is, on a terminal.
    pub(super) fn live(&mut self, text: &str) {
        // Of a line that wraps only the end could be removed.
        const WIDTH: usize = 79;
        if self.terminal {
            self.clear();
            let text: String = text.chars().take(WIDTH).collect();
            // A terminal that is gone is no reason to end.
            let _ = write!(anstream::stderr(), "{FAINT}{text}{FAINT:#}");
            self.live = true;
        }
    }

    /// Removes the line that changes.
    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.live) {
            let _ = write!(anstream::stderr(), "\r\x1b[2K");
        }
    }
}
