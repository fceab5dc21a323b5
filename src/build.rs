//! Tells the crate which commit and which compiler it is made of.

use std::path::Path;
use std::process::Command;

fn main() {
    // An image is built without the repository: its builder passes the commit.
    println!("cargo::rerun-if-env-changed=SICKBAY_COMMIT");
    let commit = std::env::var("SICKBAY_COMMIT")
        .ok()
        .filter(|commit| !commit.is_empty())
        .or_else(|| first_line(Command::new("git").args(["rev-parse", "--short=7", "HEAD"])));
    println!("cargo::rustc-env=SICKBAY_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = first_line(Command::new(rustc).arg("--version"));
    let version = version.as_deref().and_then(|line| line.split(' ').nth(1)).unwrap_or("unknown");
    println!("cargo::rustc-env=SICKBAY_RUSTC={version}");
    // Every commit and every checkout writes there. A path that is missing would rebuild each time.
    if Path::new(".git/logs/HEAD").exists() {
        println!("cargo::rerun-if-changed=.git/logs/HEAD");
    }
    println!("cargo::rerun-if-changed=src/build.rs");
}

fn first_line(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.lines().next()?.to_owned())
}
