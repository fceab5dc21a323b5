//! What is told of a panic: that it is our fault, and where. Its text only where it can hold nothing of a value.

use std::panic::{PanicHookInfo, set_hook};

use super::tell_error;

/// One line on standard error, and never a backtrace, whatever `RUST_BACKTRACE` says.
pub(super) fn tell_on_stderr() {
    set_hook(Box::new(|panic| {
        let place = place(panic);
        let text = text(panic);
        tell_error(&format!(
            "error: sickbay panicked at {place}: {text}; the fault is its own, please report it"
        ));
    }));
}

/// One line of the log like any other, not several on standard error that no filter understands.
pub(super) fn tell_in_the_log() {
    set_hook(Box::new(|panic| {
        tracing::error!(location = place(panic).as_str(), "panicked: {}", text(panic))
    }));
}

fn place(panic: &PanicHookInfo<'_>) -> String {
    panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string)
}

fn text<'a>(panic: &'a PanicHookInfo<'_>) -> &'a str {
    shown(panic.payload_as_str())
}

/// The words of a panic, unless they quote something: ``byte index 9 is out of bounds of `hunter2` ``, or what an
/// `unwrap` found.
fn shown(words: Option<&str>) -> &str {
    match words {
        Some(words) if !words.contains(['"', '`', '\'']) => words,
        Some(_) => "its text is not shown, since it quotes a value",
        None => "no text",
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    /// What is shown of a real panic.
    fn of(panics: fn(&str)) -> String {
        // From outside, so that nothing is known when this is compiled.
        let secret = std::hint::black_box("hunter2ä");
        let payload = catch_unwind(|| panics(secret)).unwrap_err();
        let words = payload.downcast_ref::<String>().map(String::as_str);
        shown(words.or(payload.downcast_ref::<&str>().copied())).to_owned()
    }

    #[test]
    fn no_value_is_in_what_is_shown() {
        fn refused(secret: &str) -> Result<(), &str> {
            Err(secret)
        }
        let quoting: [fn(&str); 4] = [
            |secret| drop(secret[8..].to_owned()),
            |secret| refused(secret).unwrap(),
            |secret| refused(secret).expect("to be taken"),
            |secret| assert_eq!(secret, "other"),
        ];
        for panics in quoting {
            assert_eq!(of(panics), "its text is not shown, since it quotes a value");
        }
        assert_eq!(of(|_| panic!("no room")), "no room");
        let out_of_bounds = of(|secret| assert_ne!(secret.as_bytes()[std::hint::black_box(99)], 0));
        assert_eq!(out_of_bounds, "index out of bounds: the len is 9 but the index is 99");
        assert_eq!(shown(None), "no text");
    }
}
