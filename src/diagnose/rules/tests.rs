//! Every rule against evidence by hand, and all of them against evidence by chance.

mod cases;
mod properties;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::*;
use crate::diagnose::hops::hops;
use crate::health::{Confidence, Hop};
use cases::{Case, cases};

#[test]
fn each_case_is_told_by_its_cause_with_the_names_and_numbers_of_the_case() {
    let mut wrong = String::new();
    for Case { name, evidence, cause, confidence, summary, advice } in cases() {
        let verdict = judge(&evidence);
        let fits = (verdict.cause, verdict.confidence) == (cause, confidence)
            && verdict.summary == summary
            && (verdict.advice.iter().any(|step| step.contains(advice))
                || (advice.is_empty() && verdict.advice.is_empty()));
        if !fits {
            let _ = writeln!(
                wrong,
                "\n{name}: expected {cause}, {confidence}: {summary}\n  with \"{advice}\"\n{}",
                told(&evidence, &verdict)
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// The whole report, to read where a case is wrong.
fn told(evidence: &Evidence, verdict: &Verdict) -> String {
    let mut told = String::new();
    for Hop { kind, ok, evidence, .. } in hops(evidence) {
        let _ = writeln!(told, "  {kind} {ok:?} {evidence:#?}");
    }
    let _ = writeln!(told, "  {}, {}: {}", verdict.cause, verdict.confidence, verdict.summary);
    let _ = writeln!(told, "  because {:#?}\n  advice {:#?}", verdict.because, verdict.advice);
    told
}

#[test]
fn every_cause_has_one_rule_and_a_case() {
    let mut ruled: Vec<Cause> = RULES.iter().map(|(cause, _)| *cause).collect();
    // What is left where no rule fits.
    ruled.push(Cause::Unexplained);
    ruled.sort();
    assert_eq!(ruled, Cause::ALL, "each once");
    let told: BTreeSet<Cause> = cases().iter().map(|case| case.cause).collect();
    let untold: Vec<_> = Cause::ALL.iter().filter(|cause| !told.contains(cause)).collect();
    assert!(untold.is_empty(), "no case for {untold:?}");
}

#[test]
fn a_path_that_works_is_told_as_one_and_a_flaw_keeps_no_hop_from_being_taken() {
    for Case { name, evidence, cause, .. } in cases() {
        let verdict = judge(&evidence);
        let hops = hops(&evidence);
        assert_eq!(evidence.works(), hops.iter().all(|hop| hop.ok == Some(true)), "{name}");
        if verdict.cause == Cause::Works {
            assert!(evidence.works(), "{name}: {cause}");
        }
    }
}

#[test]
fn what_is_missing_lowers_what_rests_on_silence_and_is_told() {
    for Case { name, mut evidence, cause, confidence, .. } in cases() {
        evidence.cut_short = true;
        let verdict = judge(&evidence);
        assert_eq!(verdict.cause, cause, "{name}");
        assert!(verdict.confidence >= confidence, "{name}: nothing is surer for having been cut short");
        assert!(verdict.because.iter().any(|line| line.contains("the time was over")), "{name}");
        if matches!(cause, Cause::PortDropped | Cause::HostDropped | Cause::Mute) {
            assert_eq!(verdict.confidence, Confidence::Unclear, "{name}");
        }
    }
}

const PAGE: &str = "docs/diagnosis.md";

/// The table of causes in the docs: each in order, with the confidences that the cases above have.
#[test]
fn the_docs_tell_every_cause_with_its_confidence() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE)).expect("the page");
    let section = page.split("\n## Causes\n").nth(1).expect("a section").split("\n## ").next().unwrap();
    let rows: Vec<(String, String)> = section
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            let [cause, _meaning, confidence, _evidence] = cells[..] else { panic!("four cells: {line}") };
            (cause.trim_matches('`').to_owned(), confidence.to_owned())
        })
        .collect();
    let cases = cases();
    let expected: Vec<(String, String)> = Cause::ALL
        .iter()
        .map(|cause| {
            let seen: BTreeSet<Confidence> =
                cases.iter().filter(|case| case.cause == *cause).map(|case| case.confidence).collect();
            let seen: Vec<&str> = seen.iter().map(|confidence| confidence.as_str()).collect();
            (cause.to_string(), seen.join(", "))
        })
        .collect();
    assert_eq!(rows, expected, "{PAGE}");
    assert!(page.contains("<!-- cases -->") && page.contains("<!-- /cases -->"));
}
