//! Every failure kind is produced by something real in some test: the table in `docs/health-checks.md` says by which,
//! and is held here. The kinds that belong to no protocol are produced here, too.

use std::fs;
use std::path::Path;

use serde_json::json;
use sickbay::health::FailureKind;

use crate::support::agent::{Env, run_in_shell};
use crate::support::config::{Config, failure, impatient, on, told};
use crate::support::tcp;

/// A row of the table: the kind, whether it is retried, what to look at first, and the tests.
struct Row<'a> {
    kind: &'a str,
    retried: &'a str,
    hint: &'a str,
    tests: Vec<&'a str>,
}

fn rows(docs: &str) -> Vec<Row<'_>> {
    let section = docs.split("## Failure kinds").nth(1).expect("the section");
    let section = section.split("\n## ").next().unwrap_or(section);
    let lines = section.lines().filter(|line| line.starts_with("| [`"));
    lines
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            let [kind, _phase, retried, hint, tests] = cells[..] else { panic!("five cells: {line}") };
            let tests = tests.split(", ").map(|test| test.trim_matches('`')).collect();
            let (kind, link) = kind.trim_matches(['[', ')']).split_once("](").expect("a link to its section");
            let kind = kind.trim_matches('`');
            assert_eq!(format!("docs/{link}"), format!("{}#{kind}", FailureKind::DOCS));
            Row { kind, retried, hint, tests }
        })
        .collect()
}

/// Code without its comments, and with one space where there is any.
fn without_comments(code: &str) -> String {
    let code = code.lines().map(|line| {
        let outside = |at: usize| line[..at].replace("\\\"", "").matches('"').count() % 2 == 0;
        let comment = line.match_indices("//").map(|(at, _)| at).find(|at| outside(*at));
        &line[..comment.unwrap_or(line.len())]
    });
    code.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
}

/// Whether a test holds a failure to be of this kind: it compares what [`failure`] gives, and the kind stands where that
/// has it, as in `["query", "KIND", "-"]`, in `["KIND", "ERR"]` where all are of one phase, or as `failure(it)[1]`; or it is
/// the `kind` of a row, `("name", "KIND", …)`, that is compared as `["query", kind, code]`.
fn expects(body: &str, kind: &str) -> bool {
    const PHASES: [&str; 5] = ["dns", "connect", "tls", "auth", "query"];
    let body = without_comments(body);
    let compares = ["assert_eq!(failure(", "failure(it) == ", "failure(it)[1] == "];
    let code = |after: &str| {
        let code = after.strip_prefix(", \"").and_then(|after| after.split_once("\"]"));
        code.is_some_and(|(code, _)| {
            code == "-" || code.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
        })
    };
    let rows = body.contains("for (name, kind, ") && body.contains("\", kind, ");
    let begins_a_row = |before: &str| {
        let name = before.strip_suffix("\", ").and_then(|before| before.rsplit_once("(\""));
        rows && name.is_some_and(|(_, name)| !name.contains('"'))
    };
    let kind = format!("\"{kind}\"");
    compares.iter().any(|compares| body.contains(compares))
        && body.match_indices(&kind).any(|(at, _)| {
            let (before, after) = (&body[..at], &body[at + kind.len()..]);
            PHASES.iter().any(|phase| before.ends_with(&format!("[\"{phase}\", "))) && after.starts_with(", ")
                || before.ends_with('[') && code(after)
                || before.ends_with("failure(it)[1] == ")
                || begins_a_row(before)
        })
}

#[test]
fn a_kind_is_expected_where_it_is_compared() {
    let compared = "assert_eq!(failure(&seen[name]), expected);";
    for (body, expected) in [
        ("(\"a\", [\"query\", \"loading\", \"-\"])", true),
        ("(\"a\", [\"query\",\n    \"loading\", code])", true),
        ("(\"a\", [\"loading\", \"LOADING\"])", true),
        ("until(|it| failure(it)[1] == \"loading\")", true),
        ("for (name, kind, code) in [(\"a\", \"loading\", \"-\")] { [\"query\", kind, code] }", true),
        ("for (name, kind, code) in [(\"loading\", \"x\", \"-\")] { [\"query\", kind, code] }", false),
        ("for (name, kind, hint) in [(\"a\", \"loading\", \"-\")] {}", false),
        ("// [\"query\", \"loading\", \"-\"]", false),
        ("(\"http://\", 1) // [\"query\", \"loading\", \"-\"]", false),
        ("told(&it, \"hint\").contains(\"loading\")", false),
        ("[\"loading\", \"other\"].contains(&kind)", false),
        ("json!({\"loading\": \"-\"})", false),
    ] {
        assert_eq!(expects(&format!("{body}\n{compared}"), "loading"), expected, "{body}");
    }
    assert!(!expects("let expected = [\"query\", \"loading\", \"-\"];", "loading"), "nothing is compared");
}

/// The body of a test, by `module::name`.
fn body(sources: &Path, test: &str) -> Option<String> {
    let (module, name) = test.rsplit_once("::")?;
    let text = fs::read_to_string(sources.join(format!("{}.rs", module.replace("::", "/")))).ok()?;
    let begin = text.find(&format!("fn {name}("))?;
    assert!(
        text[..begin].trim_end_matches("async ").trim_end().ends_with(']'),
        "{test} is no test: nothing with #[…] stands before it"
    );
    Some(text[begin..].split("\n}\n").next().unwrap_or_default().to_owned())
}

#[test]
fn every_kind_is_in_the_docs_with_its_hint_and_a_test_that_produces_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_to_string(root.join("docs/health-checks.md")).expect("the docs");
    let rows = rows(&docs);
    let documented: Vec<&str> = rows.iter().map(|row| row.kind).collect();
    let all: Vec<&str> = FailureKind::ALL.iter().map(|kind| kind.as_str()).collect();
    assert_eq!(documented, all, "each kind once, in the order of the code");
    for (row, kind) in rows.iter().zip(FailureKind::ALL) {
        assert_eq!(row.hint, kind.hint(), "{kind}");
        assert_eq!(row.retried, if kind.may_pass() { "yes" } else { "no" }, "{kind}");
        for test in &row.tests {
            let body = body(&root.join("tests/integration"), test);
            let body = body.unwrap_or_else(|| panic!("{kind}: there is no test {test}"));
            assert!(expects(&body, kind.as_str()), "{test} holds no failure to be {kind}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_to_which_no_route_leads_is_unreachable() {
    // A network namespace of its own, in which not even the loopback interface is up.
    const ALONE: &str = "exec unshare --user --map-root-user --net \"$0\" \"$@\"";
    // Variables, since a user of that namespace may not read our files.
    let env = Env::new().set("API_PORT", 1);
    let output = run_in_shell(ALONE, &["check", "api", "--format", "json"], &env).await;
    if output.stderr.contains("unshare") {
        // Some containers forbid it; where the tests are the gate, nothing is left out.
        assert!(std::env::var_os("CI").is_none(), "namespaces are needed in CI: {}", output.stderr);
        eprintln!("SKIPPED: no namespace can be made here: {}", output.stderr);
        return;
    }
    let api = &output.json()["dependencies"]["api"];
    assert_eq!(failure(api), ["connect", "connect_unreachable", "ENETUNREACH"]);
    assert!(told(api, "hint").contains("route table"), "{api}");
}

#[tokio::test(flavor = "multi_thread")]
async fn running_out_of_descriptors_is_our_own_fault_and_not_the_servers() {
    const FEW: &str = "ulimit -n 24; exec \"$0\" \"$@\"";
    let mute = tcp::mute().await;
    let (host, port) = (mute.address().ip(), mute.address().port());
    let many = (0..40).map(|n| {
        let asked = json!({"host": host, "port": port, "send": "hello", "expect": "hello"});
        on("tcp", &format!("port{n}"), impatient(asked))
    });
    let config = Config::quick(many);
    let arguments = ["check", "--format", "json", "--config", config.path()];
    let report = run_in_shell(FEW, &arguments, &Env::new()).await.json();
    let all = report["dependencies"].as_object().expect("a map");
    let ours = all.values().find(|it| it["last_failure"]["failure_kind"] == "internal");
    let ours = ours.unwrap_or_else(|| panic!("forty connections with 24 descriptors: {report:#}"));
    assert_eq!(failure(ours), ["connect", "internal", "EMFILE"]);
    assert!(told(ours, "hint").contains("raise its limits"), "{ours}");
}
