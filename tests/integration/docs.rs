//! What the docs promise and what they lead to: a section for each failure kind, where every failure leads; and no link
//! that leads nowhere.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use sickbay::health::{Cause, FailureKind};

use crate::support::config::{Config, failure, on, told};
use crate::support::tcp;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(page: &Path) -> String {
    fs::read_to_string(page).unwrap_or_else(|error| panic!("{}: {error}", page.display()))
}

/// The pages of the repository.
fn pages() -> Vec<PathBuf> {
    let folders = [root().to_owned(), root().join("docs")];
    let entries = folders.iter().flat_map(|folder| fs::read_dir(folder).expect("a folder"));
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
}

/// A page without its blocks of code, in which `#` begins a comment and brackets are no links.
fn prose(page: &str) -> String {
    page.split("```").step_by(2).collect()
}

/// A line without what stands between backticks.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect()
}

/// What a heading can be linked to by, as GitHub makes it: lower case, no punctuation, a hyphen for each space; a second one
/// of the same words is numbered.
fn anchors(page: &str) -> BTreeSet<String> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let prose = prose(page);
    let headings =
        prose.lines().filter(|line| line.trim_start_matches('#').starts_with(' ') && line.starts_with('#'));
    headings
        .map(|heading| {
            let text = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
            let before = seen.entry(anchor.clone()).or_default();
            *before += 1;
            if *before == 1 { anchor } else { format!("{anchor}-{}", *before - 1) }
        })
        .collect()
}

/// Where the links of a page lead.
fn links(page: &str) -> Vec<String> {
    let lines: Vec<String> = prose(page).lines().map(without_code).collect();
    let targets = lines.iter().flat_map(|line| line.split("](").skip(1));
    targets.filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())).collect()
}

/// What is wrong with a link, if anything is. Where others' sites lead is theirs.
fn fault(page: &Path, link: &str) -> Option<String> {
    if link.starts_with("https://") {
        return None;
    }
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = match file {
        "" => page.to_owned(),
        file => page.parent()?.join(file),
    };
    if !target.exists() {
        return Some("there is no such file".to_owned());
    }
    let found = anchor.is_empty() || anchors(&read(&target)).contains(anchor);
    (!found).then(|| format!("it has no heading #{anchor}"))
}

#[test]
fn every_link_leads_somewhere() {
    let mut followed = 0;
    let mut faults = Vec::new();
    for page in pages() {
        for link in links(&read(&page)) {
            followed += 1;
            if let Some(fault) = fault(&page, &link) {
                faults.push(format!("{}: {link}: {fault}", page.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(followed > 50, "only {followed} links were found");
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let page = "# A page\n## Why, `how` & when\n## Again\n## Again\n```sh\n# no heading, [no](link.md)\n```\n[a](#b) `[c](d)` [e](f.md#g)";
    assert_eq!(
        anchors(page).into_iter().collect::<Vec<_>>(),
        ["a-page", "again", "again-1", "why-how--when"]
    );
    assert_eq!(links(page), ["#b", "f.md#g"]);
    let here = root().join("docs/health-checks.md");
    for (link, fault_is) in [
        ("#failure-kinds", None),
        ("api.md#orders", None),
        ("../README.md", None),
        ("https://semver.org", None),
        ("nowhere.md", Some("there is no such file")),
        ("api.md#disorder", Some("it has no heading #disorder")),
        ("#failure_kinds", Some("it has no heading #failure_kinds")),
    ] {
        assert_eq!(fault(&here, link).as_deref(), fault_is, "{link}");
    }
}

/// The sections of the page of the failure kinds: what each is called, and what it says.
fn sections(page: &str) -> Vec<(&str, &str)> {
    let sections = page.split("\n### `").skip(1);
    sections
        .map(|section| {
            let (name, text) = section.split_once("`\n").expect("a name as a heading");
            (name, text.split("\n## ").next().unwrap_or(text))
        })
        .collect()
}

/// The causes that a section tells of: the first cells of its table.
fn causes(section: &str) -> Vec<&str> {
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split_once('`')).map(|(cause, _)| cause).collect()
}

/// The commands in a section's blocks that are made to be copied.
fn commands(section: &str) -> Vec<&str> {
    let blocks = section.split("```sh\n").skip(1).filter_map(|block| block.split("```").next());
    blocks.flat_map(str::lines).filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

#[test]
fn every_kind_has_its_section_with_a_command_and_the_causes_behind_it() {
    let page = read(&root().join(FailureKind::DOCS));
    let sections = sections(&page);
    let all: Vec<&str> = FailureKind::ALL.iter().map(|kind| kind.as_str()).collect();
    let there: Vec<&str> = sections.iter().map(|(name, _)| *name).collect();
    assert_eq!(there, all, "each kind once, in the order of the code");
    for (name, section) in &sections {
        let commands = commands(section);
        assert!(commands.iter().any(|it| it.starts_with("sickbay diagnose ")), "{name}: {commands:?}");
        let causes = causes(section);
        assert!(!causes.is_empty(), "{name} tells of no cause");
        for cause in causes {
            assert!(Cause::parse(cause).is_some(), "{name}: {cause} is no cause");
        }
    }
}

#[test]
fn every_cause_stands_in_the_section_of_some_kind() {
    let page = read(&root().join(FailureKind::DOCS));
    let told: BTreeSet<&str> = sections(&page).into_iter().flat_map(|(_, section)| causes(section)).collect();
    // That it works is the cause of no failure.
    let all = Cause::ALL.iter().filter(|cause| **cause != Cause::Works);
    let missing: Vec<&str> = all.map(|cause| cause.as_str()).filter(|cause| !told.contains(cause)).collect();
    assert!(missing.is_empty(), "{} tells nothing of {}", FailureKind::DOCS, missing.join(", "));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_leads_to_its_section_wherever_it_is_told() {
    let section = " (docs/troubleshooting.md#connect_refused)";
    let refused = tcp::refused_port();
    let config = Config::quick([on("tcp", "gone", json!({"host": "127.0.0.1", "port": refused}))]);

    let report = config.run(&["check", "--format", "json"]).await.json();
    let gone = &report["dependencies"]["gone"];
    assert_eq!(failure(gone), ["connect", "connect_refused", "ECONNREFUSED"]);
    assert!(told(gone, "hint").ends_with(section), "{gone:#}");
    let table = config.run(&["check"]).await;
    assert!(table.stdout.lines().any(|line| line.contains("→ ") && line.ends_with(section)), "{table:?}");
    let waited = config.run(&["wait", "--timeout", "1s"]).await;
    assert!(waited.stderr.lines().any(|line| line.contains("→ ") && line.ends_with(section)), "{waited:?}");

    let agent = config.agent().await;
    let failed = |line: &serde_json::Value| {
        line["message"]
            .as_str()
            .is_some_and(|text| text.starts_with("check failed: ") && text.ends_with(section))
    };
    agent.until_logged(failed, "the section of the failure").await;
    let seen = agent.until_dependency("gone", |it| !it["last_failure"].is_null(), "a failure").await;
    assert!(told(&seen, "hint").ends_with(section), "{seen:#}");
    let history = agent.get("/history").await.json();
    assert!(history["checks"][0]["hint"].as_str().is_some_and(|hint| hint.ends_with(section)), "{history:#}");
}
