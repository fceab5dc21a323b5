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
    use std::process::Command;

    use super::*;
    use crate::cli::logging;
    use crate::config::plan::LogFormat;

    /// By this the process that is to panic knows what it is there for.
    const SECRET: &str = "SICKBAY_TEST_SECRET";

    /// What a process writes that holds a secret and panics with it, on threads of its runtime as the agent's checks
    /// do, on one of the system, and on its first, with the hook that is set as in `sickbay`.
    fn written_by(child: &str) -> String {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", child, "--ignored", "--nocapture", "--test-threads", "1"])
            .env(SECRET, "qwyxzhvkjfpmtgä")
            .env("RUST_BACKTRACE", "full")
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        assert!(!text.contains("qwyx"), "{text}");
        assert!(!text.contains("backtrace"), "{text}");
        text
    }

    /// Panics wherever somebody could, with a secret in what they say.
    fn panic_everywhere() {
        let Ok(secret) = std::env::var(SECRET) else { panic!("started by the test below alone") };
        let panics = |secret: String| refused(&secret).unwrap();
        let runtime = crate::cli::runtime().unwrap();
        let own = secret.clone();
        runtime.block_on(async move {
            let (first, second) = (own.clone(), own);
            tokio::spawn(async move { panics(first) }).await.unwrap_err();
            tokio::task::spawn_blocking(move || panics(second)).await.unwrap_err();
        });
        let own = secret.clone();
        std::thread::spawn(move || panics(own)).join().unwrap_err();
        catch_unwind(|| drop(secret[..15].to_owned())).unwrap_err();
    }

    #[test]
    #[ignore = "it is started by the one below, in a process of its own"]
    fn panics_in_a_command() {
        tell_on_stderr();
        panic_everywhere();
    }

    #[test]
    #[ignore = "it is started by the one below, in a process of its own"]
    fn panics_in_the_agent() {
        let log = logging::for_agent("trace", Some(LogFormat::Json)).ok();
        assert!(log.is_some());
        tell_in_the_log();
        panic_everywhere();
    }

    #[test]
    fn no_secret_is_in_what_a_process_that_panics_writes() {
        let told = "panicked at src/cli/panics.rs:";
        let of_a_command = written_by("cli::panics::tests::panics_in_a_command");
        let lines: Vec<_> = of_a_command.lines().filter(|line| line.contains(told)).collect();
        assert_eq!(lines.len(), 4, "{of_a_command}");
        for line in lines {
            let hidden =
                "its text is not shown, since it quotes a value; the fault is its own, please report it";
            assert!(line.starts_with("error: sickbay panicked at ") && line.ends_with(hidden), "{line}");
        }
        let of_the_agent = written_by("cli::panics::tests::panics_in_the_agent");
        let lines: Vec<serde_json::Value> = of_the_agent
            .lines()
            .filter(|line| line.contains("\"panicked: "))
            // The first stands behind the name of the test.
            .filter_map(|line| serde_json::from_str(&line[line.find('{')?..]).ok())
            .collect();
        assert_eq!(lines.len(), 4, "{of_the_agent}");
        for line in lines {
            assert_eq!(line["level"], "ERROR");
            assert_eq!(line["message"], "panicked: its text is not shown, since it quotes a value");
            assert!(line["location"].as_str().unwrap().starts_with("src/cli/panics.rs:"), "{line}");
        }
    }

    fn refused(secret: &str) -> Result<(), &str> {
        Err(secret)
    }

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
