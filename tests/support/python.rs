//! Validators from PyPI, which `tests/support/install.sh test` puts into `.venv`.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// A program of `.venv`.
///
/// # Panics
/// Where it is not there.
pub fn program(name: &str) -> Command {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin").join(name);
    assert!(path.exists(), "{} is missing; run tests/support/install.sh test", path.display());
    Command::new(path)
}

/// Runs a script of this folder with this on its standard input, and gives what it prints.
///
/// # Panics
/// Where it fails, or the validators are not there.
pub fn run(script: &str, input: &str) -> String {
    let mut child = program("python")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support").join(script))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python starts");
    // It reads all before it prints, so neither waits for the other.
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{script}: {}\n{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}
