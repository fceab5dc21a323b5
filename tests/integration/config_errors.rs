//! Invalid configurations, one for each rule, and all that `sickbay config check` says of each.
//!
//! `tests/data/config/RULE.yaml` is the file, `RULE.txt` what is printed. A comment `# env: NAME=value` sets a
//! variable. That every rule has a file is held beside the rules, in `src/config/tests/every_rule.rs`.
//!
//! `SICKBAY_WRITE=1` writes the texts instead of comparing them. Read what it wrote.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::agent::{Env, Output, run_cli_with};
use crate::support::hostile;
use crate::support::scratch::Folder;
use crate::support::user;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn folder() -> PathBuf {
    root().join("tests/data/config")
}

/// The names of the files in the folder that end like this, without the ending.
fn names(ending: &str) -> BTreeSet<String> {
    let files = fs::read_dir(folder()).expect("the folder of invalid configurations");
    let names = files.map(|file| file.expect("a file").file_name().into_string().expect("UTF-8"));
    names.filter_map(|name| Some(name.strip_suffix(ending)?.to_owned())).collect()
}

/// The variables that the comments of a file set.
fn variables(file: &Path) -> Env {
    // One of them is no UTF-8.
    let text = String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned();
    let lines = text.lines().filter_map(|line| line.strip_prefix("# env: ")?.split_once('='));
    lines.fold(Env::new(), |env, (name, value)| env.set(name, value))
}

/// Whether what was said of a file is what is expected, and how it differs.
fn compared(name: &str, output: &Output, place: &str) -> Result<(), String> {
    let told = output.stderr.replace(place, "");
    if output.code != Some(2) || !output.stdout.is_empty() {
        return Err(format!(
            "{name}: to be refused with exit code 2 and nothing on standard output: {output:?}"
        ));
    }
    if let Some(line) = told.lines().find(|line| !line.starts_with("error: ")) {
        return Err(format!("{name}: an error is one line and begins with `error: `: {line}"));
    }
    if told.contains("hunter2") {
        return Err(format!("{name}: a secret is shown: {told}"));
    }
    let kept = folder().join(format!("{name}.txt"));
    if writing() {
        fs::write(&kept, &told).expect("written");
    }
    let expected = fs::read_to_string(&kept).unwrap_or_default();
    if told == expected {
        return Ok(());
    }
    Err(format!("{name}: it says\n{told}and {} has\n{expected}", kept.display()))
}

fn writing() -> bool {
    std::env::var_os("SICKBAY_WRITE").is_some()
}

fn assert_all(results: Vec<Result<(), String>>) {
    let wrong: Vec<_> = results.into_iter().filter_map(Result::err).collect();
    assert!(
        wrong.is_empty(),
        "{}\nIf that is meant, run: SICKBAY_WRITE=1 cargo test --test integration config_errors\nand read what it writes.",
        wrong.join("\n")
    );
}

/// Checks the file as somebody would who stands in the root of this repository.
async fn check(file: &str, env: &Env) -> Output {
    run_cli_with(&["config", "check", "--config", file], env, |command| {
        command.current_dir(root());
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kept_file_is_refused_in_its_words() {
    let mut results = Vec::new();
    for name in names(".yaml") {
        let file = format!("tests/data/config/{name}.yaml");
        let output = check(&file, &variables(&root().join(&file))).await;
        results.push(compared(&name, &output, "tests/data/config/"));
    }
    let output = check("nowhere/missing.yaml", &Env::new()).await;
    results.push(compared("missing", &output, "nowhere/"));
    assert_all(results);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_to_be_kept_is_refused_as_well() {
    let scratch = Folder::new("hostile");
    let place = format!("{}/", scratch.path().display());
    let mut results = Vec::new();
    for hostile in hostile::all() {
        let file = scratch.write(&format!("{}.yaml", hostile.name), hostile.text.as_bytes());
        let arguments = ["config", "check", "--config", file.to_str().expect("UTF-8")];
        let output = run_cli_with(&arguments, &Env::new(), |command| {
            command.envs(hostile.env);
        })
        .await;
        results.push(compared(hostile.name, &output, &place));
    }

    let huge = scratch.write("100-mb.yaml", b"");
    fs::OpenOptions::new().write(true).open(&huge).expect("opened").set_len(100_000_000).expect("grown");
    let output = check(huge.to_str().expect("UTF-8"), &Env::new()).await;
    results.push(compared("100-mb", &output, &place));
    assert_all(results);
}

/// Root may read everything: another user runs a copy of the program, since not everybody may be let to the original.
#[test]
fn what_this_user_may_not_read_is_told() {
    let scratch = Folder::new("unreadable");
    let place = format!("{}/", scratch.path().display());
    let program = scratch.path().join("sickbay");
    fs::copy(env!("CARGO_BIN_EXE_sickbay"), &program).expect("a copy");
    user::give(&program);
    let closed = |name: &str, content: &str| {
        let file = scratch.write(name, content.as_bytes());
        fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).expect("chmod");
    };
    closed("secret", "hunter2");
    closed("bundle.pem", "-----BEGIN CERTIFICATE-----");
    closed("closed.yaml", "{}");
    let open = "dependencies:\n  - {name: database, host: db.internal, password: \"${file:secret}\", root_cert: bundle.pem}\n";
    scratch.write("open.yaml", open.as_bytes());
    for (name, file) in [("may-not-read-what-is-named", "open.yaml"), ("may-not-read", "closed.yaml")] {
        let mut command = Command::new(&program);
        command.args(["config", "check", "--config", file]).env_clear().current_dir(scratch.path());
        user::drop_root(&mut command);
        let output = command.output().expect("the program starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        let (stdout, stderr) = (text(output.stdout), text(output.stderr));
        assert_all(vec![compared(name, &Output { code: output.status.code(), stdout, stderr }, &place)]);
    }
}

/// A text that nothing compares would hold nothing.
#[test]
fn no_expected_text_is_left_over() {
    let mut known = names(".yaml");
    known.extend(hostile::all().iter().map(|hostile| hostile.name.to_owned()));
    known.extend(["missing", "100-mb", "may-not-read", "may-not-read-what-is-named"].map(str::to_owned));
    // While they are written, some are yet to come.
    assert!(writing() || names(".txt") == known, "kept: {:?}\nknown: {known:?}", names(".txt"));
}
