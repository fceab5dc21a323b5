//! Every rule has an invalid configuration that breaks it: each place in `src/config` that makes an error is
//! reached by one of those that `tests/integration/config_errors.rs` checks word by word, or by a target of the command line.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::*;
use crate::config::errors::told;

#[allow(unreachable_pub, reason = "the integration tests have it in their library")]
#[path = "../../../tests/support/hostile.rs"]
mod hostile;

/// The places in the sources below `folder` where an error is made: file and line.
fn places(folder: &Path) -> BTreeSet<(String, u32)> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let code = |path: &Path| {
        let text = fs::read_to_string(path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap().to_owned();
        let makes_one =
            |line: &str| line.contains("ConfigError::new(") && !line.trim_start().starts_with("//");
        let lines = code.lines().zip(1..).filter(|(line, _)| makes_one(line)).map(|(_, number)| number);
        lines.map(|number| (path.display().to_string(), number)).collect()
    };
    let within = |path: PathBuf| match path.is_dir() {
        true if path.ends_with("tests") => BTreeSet::new(),
        true => places(&path),
        false => code(&path),
    };
    paths.flat_map(within).collect()
}

#[test]
fn has_a_file_that_breaks_it() {
    let files = Files::new(&[]);
    told::forget();
    let load_one = |file: PathBuf, env: crate::config::Env| {
        let sources = Sources { files: vec![file.clone()], env, overrides: Overrides::default() };
        assert!(load(&sources).is_err(), "{} is to be refused", file.display());
    };
    for entry in fs::read_dir("tests/data/config").unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_some_and(|ending| ending == "yaml") {
            let text = String::from_utf8_lossy(&fs::read(&file).unwrap()).into_owned();
            let env = text.lines().filter_map(|line| line.strip_prefix("# env: ")?.split_once('='));
            load_one(file, env.map(|(name, value)| (name.to_owned(), value.into())).collect());
        }
    }
    for hostile in hostile::all() {
        let file = files.add(&format!("{}.yaml", hostile.name), &hostile.text);
        load_one(
            file.into(),
            hostile.env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        );
    }
    load_one("nowhere/missing.yaml".into(), crate::config::Env::new());

    for (target, _) in super::target::WRONG {
        assert!(
            crate::config::load_target(target, &Sources::default()).is_err(),
            "{target} is to be refused"
        );
    }

    let places = places(Path::new("src/config"));
    let reached = told::places();
    assert!(reached.is_subset(&places), "read from the sources: {places:?}; reached: {reached:?}");
    let unbroken: Vec<_> = places.difference(&reached).map(|(file, line)| format!("{file}:{line}")).collect();
    assert!(
        unbroken.is_empty(),
        "no invalid configuration in tests/data/config breaks the rules at\n{}\n\
         Add one, and let SICKBAY_WRITE=1 cargo test --test integration config_errors write what it is told.",
        unbroken.join("\n")
    );
}
