//! Imports run one way: this holds the table of `docs/architecture.md`.
//!
//! So a module can be read with nothing but those below it in mind, and the core stays free of I/O.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use self::source::Used;

mod source;

const ALL: &[&str] = &[
    "health", "config", "net", "probe", "diagnose", "ecs", "metrics", "alarms", "events", "fleet", "http",
    "agent", "cli",
];

/// Each module and what it may import from the crate, apart from itself and the [`LEAVES`].
const TABLE: &[(&str, &[&str])] = &[
    ("health", &[]),
    ("clock", &["health"]),
    ("files", &[]),
    ("version", &[]),
    ("log", &["health"]),
    ("build", &[]),
    ("config", &["health"]),
    ("net", &["health"]),
    ("probe", &["net", "health", "config"]),
    ("diagnose", &["net", "probe", "health", "config"]),
    ("ecs", &["health", "config"]),
    ("metrics", &["health", "config", "ecs"]),
    ("alarms", &["health", "config", "ecs"]),
    ("events", &["net", "health", "config"]),
    ("fleet", &["net", "health", "config"]),
    ("http", &["health", "config"]),
    (
        "agent",
        &[
            "health", "config", "net", "probe", "diagnose", "ecs", "metrics", "alarms", "events", "fleet",
            "http",
        ],
    ),
    ("cli", ALL),
];

/// Everybody may read the clock and files, tell what this build is and write into the log, but for the pure core.
const LEAVES: &[&str] = &["clock", "files", "version", "log"];

/// Crates that the core does without. Time, chance and I/O come in as arguments, formats stay at the edge.
const IMPURE: &[&str] = &["tokio", "tokio_util", "serde", "serde_json", "serde_yaml", "tracing", "fastrand"];

/// Crates whose types stay in few places: the modules or files (without `.rs`) that may name them.
const VENDORS: &[(&str, &[&str])] = &[
    ("tokio_postgres", &["probe/postgres"]),
    ("redis", &["probe/redis", "events/redis"]),
    ("warp", &["http"]),
    ("schemars", &["config", "http"]),
    ("aws_config", &["metrics/cloudwatch", "alarms"]),
    ("aws_sdk_cloudwatch", &["metrics/cloudwatch", "alarms"]),
];

#[test]
fn the_source_keeps_to_the_table() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&source, &mut files);
    assert!(files.len() > 10, "found only {files:?}");
    let violations: Vec<String> = files
        .iter()
        .flat_map(|file| {
            let text = fs::read_to_string(file).expect("a source file");
            let name = file.strip_prefix(&source).expect("below src").to_str().expect("UTF-8");
            violations(name, &text)
        })
        .collect();
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn the_table_allows_no_way_round() {
    for (module, allowed) in TABLE {
        for other in allowed.iter().filter(|other| *other != module) {
            let (_, back) = TABLE.iter().find(|(name, _)| name == other).expect("a module of the table");
            assert!(!back.contains(module), "{module} and {other} may import each other");
        }
    }
}

#[test]
fn planted_violations_are_found() {
    let found = |file: &str, text: &str| violations(file, text).len();
    // What the table forbids, in every way that a path can be written.
    assert_eq!(found("health/circuit.rs", "use crate::config::Plan;"), 1);
    assert_eq!(found("health/circuit.rs", "use crate::clock::Clock;"), 1);
    assert_eq!(found("net/mod.rs", "use crate::{config::{Plan, Secret}, health::Phase, probe};"), 3);
    assert_eq!(found("net/dial.rs", "fn f() -> super::super::probe::Probe { todo() }"), 1);
    assert_eq!(found("net/mod.rs", "mod tests { use super::super::probe; }"), 1);
    assert_eq!(found("net/mod.rs", "fn f(plan: &crate :: config :: Plan) {}"), 1);
    assert_eq!(found("net/dial.rs", "macro_rules! m { () => { $crate::cli::main() } }"), 1);
    assert_eq!(found("probe/mod.rs", "pub(in crate::agent) struct X;"), 1);
    assert_eq!(found("main.rs", "fn main() { sickbay::nobody::f() }"), 1);
    // Modules and names that the table does not know.
    assert_eq!(found("extra/mod.rs", ""), 1);
    assert_eq!(found("extra.rs", ""), 1);
    assert_eq!(found("net/mod.rs", "use crate::extra;"), 1);
    assert_eq!(found("net/mod.rs", "use super::*;"), 1);
    assert_eq!(found("net/dial.rs", "use crate::*;"), 1);
    // Other crates.
    assert_eq!(found("health/mod.rs", "use serde::Serialize; #[tokio::test] fn f() {}"), 2);
    assert_eq!(found("agent/runner.rs", "use ::redis::Client; fn f(e: tokio_postgres::Error) {}"), 2);
    assert_eq!(found("probe/tcp.rs", "use {warp::Filter, redis as r};"), 2);
    assert_eq!(found("probe/mod.rs", "use warp;"), 1);
    assert_eq!(
        found("probe/mod.rs", "impl From<E> for ::redis::Value {} fn f() { x.parse::<warp::Reply>() }"),
        2
    );
}

#[test]
fn what_is_allowed_is_not_a_violation() {
    let none = Vec::<String>::new();
    let fine = |file: &str, text: &str| assert_eq!(violations(file, text), none, "{file}: {text}");
    fine("lib.rs", "pub mod extra; pub use crate::config::Plan;");
    fine(
        "net/dial.rs",
        "use super::resolve; use crate::health::Phase; use crate::{clock::{self, Deadline}, net};",
    );
    fine("health/circuit.rs", "mod tests { use super::*; use super::super::Now; } use super::Now;");
    fine(
        "net/mod.rs",
        "// use crate::config;\n/* crate::cli /* nested */ crate::cli */ const S: &str = \"crate::cli\";",
    );
    fine("net/mod.rs", "const S: &str = r#\"\" crate::cli\"#; const C: char = '\"'; fn f<'a>(_: &'a str) {}");
    fine("net/mod.rs", "use crate::{health as h, clock as c}; use crate::health::{self as core, *};");
    fine("probe/redis.rs", "use redis::Client;");
    fine("probe/redis/sentinel.rs", "use redis::Client;");
    fine("http/routes/health.rs", "use warp::Filter;");
    // A module of ours may have a crate's name.
    fine("probe/mod.rs", "mod redis; fn f() { redis::Probe::new(); self::redis::f() }");
    fine("agent/app.rs", "use crate::probe::{postgres, redis}; fn f() { redis::Probe::new() }");
    fine("agent/app.rs", "fn f(x: X) { x.redis.warp(); events::redis::f() }");
}

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            rust_files(&entry, found);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            found.push(entry);
        }
    }
}

/// What a file, named from `src`, imports against the rules.
fn violations(file: &str, text: &str) -> Vec<String> {
    let place = file.trim_end_matches(".rs").trim_end_matches("/mod");
    let module: Vec<&str> = match place {
        // The crate's root and the program's: they see all of it.
        "lib" | "main" => Vec::new(),
        _ => place.split('/').collect(),
    };
    let rule = module.first().map(|name| TABLE.iter().find(|(known, _)| known == name));
    let (own, allowed) = match rule {
        Some(Some((name, allowed))) => (*name, *allowed),
        Some(None) => return vec![format!("{file}: this module is not in the table")],
        None => ("", ALL),
    };
    let paths = source::paths(text, &module);
    let mut found = BTreeSet::new();
    for Used { line, path } in &paths.inner {
        // `crate::*`: no module by name, so all of them.
        let target = path.first().map_or("*", String::as_str);
        let known = TABLE.iter().any(|(name, _)| *name == target);
        let may = target == own || allowed.contains(&target) || (LEAVES.contains(&target) && own != "health");
        let inside_the_root = own.is_empty() && !file.starts_with("main") && !known;
        if !may && !inside_the_root {
            let why = if known { "may not import" } else { "imports what is no module of the table:" };
            found.insert((*line, format!("{file}:{line}: {own} {why} `{}`", path.join("::"))));
        }
    }
    for Used { line, path } in &paths.outer {
        let Some(name) = path.first().map(String::as_str) else { continue };
        if own == "health" && IMPURE.contains(&name) {
            found.insert((*line, format!("{file}:{line}: the core does without `{name}`")));
        }
        if let Some((_, places)) = VENDORS.iter().find(|(vendor, _)| *vendor == name) {
            let at_home = places.iter().any(|home| place == *home || place.starts_with(&format!("{home}/")));
            if !at_home {
                found.insert((*line, format!("{file}:{line}: `{name}` is only for {}", places.join(", "))));
            }
        }
    }
    found.into_iter().map(|(_, message)| message).collect()
}
