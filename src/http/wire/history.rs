//! `/history`: the checks that are remembered.

use std::cmp::Reverse;

use schemars::JsonSchema;
use serde::Serialize;

use super::check::LastCheck;
use super::schema::Word;
use crate::health::{Check, Failure, FailureKind, Now, Phase, Snapshot};

/// `/history`.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::http) struct History<'a> {
    /// Newest first, by when they ended.
    checks: Vec<Remembered<'a>>,
}

/// A check, and where it failed why.
#[derive(Debug, Serialize, JsonSchema)]
struct Remembered<'a> {
    dependency: &'a str,
    #[serde(flatten)]
    check: LastCheck<'a>,
    /// The address last connected to, or tried.
    address: Option<String>,
    phase: Option<Word<Phase>>,
    failure_kind: Option<Word<FailureKind>>,
    code: Option<&'a str>,
    message: Option<&'a str>,
    /// As in `last_failure`.
    hint: Option<String>,
}

impl<'a> History<'a> {
    /// The newest `limit` checks of one dependency, or of all of them.
    pub(in crate::http) fn new(snapshot: &'a Snapshot, of: Option<usize>, limit: usize, now: Now) -> Self {
        let views = match of {
            Some(index) => &snapshot.dependencies[index..=index],
            None => &snapshot.dependencies[..],
        };
        let mut checks: Vec<(&str, &Check)> = views
            .iter()
            .flat_map(|view| {
                let name = view.policy.name.as_str();
                view.history.iter().take(limit).map(move |check| (name, &**check))
            })
            .collect();
        let newest_first = |(_, check): &(&str, &Check)| Reverse(check.ended());
        if checks.len() > limit {
            // Thousands of dependencies have many more checks than anybody asks for.
            checks.select_nth_unstable_by_key(limit, newest_first);
            checks.truncate(limit);
        }
        checks.sort_by_key(newest_first);
        Self { checks: checks.into_iter().map(|(name, check)| Remembered::new(name, check, now)).collect() }
    }
}

impl<'a> Remembered<'a> {
    fn new(dependency: &'a str, check: &'a Check, now: Now) -> Self {
        let failure = check.failure();
        Self {
            dependency,
            check: LastCheck::new(check, now),
            address: check.address.map(|address| address.to_string()),
            phase: failure.map(|failure| Word(failure.phase)),
            failure_kind: failure.map(|failure| Word(failure.kind)),
            code: failure.and_then(|failure| failure.code.as_deref()),
            message: failure.map(|failure| failure.message.as_str()),
            hint: failure.map(Failure::help),
        }
    }
}
