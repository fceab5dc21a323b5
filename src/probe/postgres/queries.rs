//! The configured queries: each is asked by itself, read-only and within what is left of the check's time, and its
//! answer is held against what is expected.
//!
//! What may be shown of an answer: a number; and a text where a text is expected, cut short. Anything else could be
//! somebody's data, and what is shown here is shown to whoever can ask the agent.

use std::time::Duration;

use super::failure::classify;
use super::session::{Connection, text};
use crate::clock::{Deadline, Stopwatch};
use crate::config::plan::{Expected, OnFailure, QueryPlan};
use crate::health::observation::{QueryResult, QueryValue};
use crate::health::{Failure, FailureKind, Phase};

/// Longer texts are cut. They are compared whole.
const SHOWN_MAX: usize = 64;

/// What asking all of them came to.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// Each one's result, in their order.
    pub(super) results: Vec<QueryResult>,
    /// What makes the dependency `degraded`.
    pub(super) warnings: Vec<String>,
    /// Why the check fails.
    pub(super) failure: Option<Failure>,
}

/// Why an answer is not as it should be.
#[derive(Debug, PartialEq)]
struct Problem {
    /// Whether it is beyond a bound that is only warned of.
    mild: bool,
    kind: FailureKind,
    code: Option<String>,
    /// Whether it could be gone a moment later.
    may_pass: bool,
    /// Continues "the query x": "answered 5, …".
    what: String,
}

/// Asks all of them. `Err`: the session has ended.
pub(super) async fn ask_all(
    plans: &[QueryPlan],
    session: &mut Connection,
    deadline: Deadline,
) -> Result<Answers, Failure> {
    let mut answers = Answers::default();
    for plan in plans {
        let watch = Stopwatch::start();
        let answer = ask(plan, session, deadline).await?;
        answers.add(plan, answer, watch.elapsed());
    }
    Ok(answers)
}

/// One query's value, or what is wrong.
async fn ask(
    plan: &QueryPlan,
    session: &mut Connection,
    deadline: Deadline,
) -> Result<(Option<QueryValue>, Option<Problem>), Failure> {
    if deadline.remaining() < Duration::from_millis(1) {
        let problem = Problem::new(FailureKind::QueryTimeout, "was not asked: the check's time was up");
        return Ok((None, Some(problem)));
    }
    // In brackets it can be nothing but a question; of its answer no more comes than is needed. The end of the line
    // ends a comment.
    let question = format!(
        "SET LOCAL transaction_read_only = on; \
         SELECT left(answer.value::text, 1000) FROM (\n{}\n) AS answer(value) LIMIT 2",
        plan.sql()
    );
    let answer = tokio::time::timeout_at(deadline.instant(), session.rows(&question, deadline)).await;
    let rows = match answer {
        Ok(Ok(rows)) => rows,
        Ok(Err(error)) => {
            let failure = classify(Phase::Query, &error, session.tls().is_some());
            return if session.ended_by(&error) {
                Err(failure)
            } else {
                Ok((None, Some(Problem::told(failure))))
            };
        }
        // The server should have given up before us. It hangs.
        Err(_) => {
            let message = format!("no answer to the query {}", plan.name());
            return Err(Failure::new(Phase::Query, FailureKind::QueryTimeout, message));
        }
    };
    let no_value = |what: &str| Ok((None, Some(Problem::new(FailureKind::QueryFailed, what))));
    match rows.as_slice() {
        [row] => match text(row, 0) {
            Some(value) => Ok((shown(plan, value), judge(plan, value))),
            None => no_value("answered null"),
        },
        [] => no_value("answered without a row"),
        _ => no_value("answered with more than one row"),
    }
}

impl Answers {
    fn add(
        &mut self,
        plan: &QueryPlan,
        (value, problem): (Option<QueryValue>, Option<Problem>),
        duration: Duration,
    ) {
        let name = plan.name().clone();
        let told = problem.as_ref().map(|problem| problem.what.clone());
        self.results.push(QueryResult { name, value, ok: problem.is_none(), problem: told, duration });
        let Some(problem) = problem else { return };
        let message = format!("the query {} {}", plan.name(), problem.what);
        if problem.mild || *plan.on_failure() == OnFailure::Warn {
            self.warnings.push(message);
            return;
        }
        match &mut self.failure {
            Some(failure) => {
                failure.message = format!("{}; {message}", failure.message);
                // All of them have to.
                failure.may_pass &= problem.may_pass;
            }
            None => {
                let hint = "it stands in the configuration under `queries` of this dependency: look at what it asks \
                            for, or, if the answer is right, at what is expected";
                let failure = Failure::new(Phase::Query, problem.kind, message).with_hint(hint);
                let Problem { code, may_pass, .. } = problem;
                self.failure = Some(Failure { code, may_pass, ..failure });
            }
        }
    }
}

impl Problem {
    fn new(kind: FailureKind, what: impl Into<String>) -> Self {
        Self { mild: false, kind, code: None, may_pass: kind.may_pass(), what: what.into() }
    }

    /// From what the server said.
    fn told(failure: Failure) -> Self {
        let code = failure.code.as_deref().unwrap_or_default();
        let (kind, what) = match (code, failure.kind) {
            // That the server as a whole takes no writes is another matter.
            ("25006", _) => {
                (FailureKind::QueryFailed, "would write, and queries are asked read-only".to_owned())
            }
            (_, FailureKind::QueryTimeout) => (
                FailureKind::QueryTimeout,
                format!("was not answered in the check's time: {}", failure.message),
            ),
            // Class 22 is about values, and its messages repeat them.
            (code, _) if code.starts_with("22") => {
                let what = "could not be answered: a value in it cannot be computed or converted";
                (FailureKind::QueryFailed, what.to_owned())
            }
            _ => (FailureKind::QueryFailed, format!("could not be answered: {}", failure.message)),
        };
        Self { mild: false, kind, code: failure.code, may_pass: failure.may_pass, what }
    }
}

/// The value as it may be shown.
fn shown(plan: &QueryPlan, value: &str) -> Option<QueryValue> {
    if let Ok(number) = value.parse() {
        return Some(QueryValue::Integer(number));
    }
    if let Some(number) = number(value) {
        return Some(QueryValue::Number(number));
    }
    // An address with user info, or a person's.
    if plan.expect().is_none() || value.contains('@') {
        return None;
    }
    let short: String = value.chars().take(SHOWN_MAX).collect();
    Some(QueryValue::Text(if short.len() < value.len() { format!("{short}…") } else { short }))
}

fn number(value: &str) -> Option<f64> {
    // `parse` takes "inf" and "nan" as well.
    value.parse().ok().filter(|number: &f64| number.is_finite())
}

/// What is wrong with a value, if anything.
fn judge(plan: &QueryPlan, value: &str) -> Option<Problem> {
    let answered = shown(plan, value).map(|value| format!("answered {value}"));
    let failed = |what: String| Some(Problem::new(FailureKind::QueryFailed, what));
    if let Some(expected) = plan.expect() {
        let (equal, wanted) = match expected {
            Expected::Number(expected) => (number(value) == Some(*expected), expected.to_string()),
            Expected::Text(text) => (value == text, format!("\"{text}\"")),
        };
        let answered = answered.unwrap_or_else(|| "answered something else".to_owned());
        return if equal { None } else { failed(format!("{answered}, expected {wanted}")) };
    }
    let (Some(number), Some(answered)) = (number(value), answered) else {
        return failed("answered something that is no number".to_owned());
    };
    let beyond = |min: &Option<f64>, max: &Option<f64>| match (min, max) {
        (Some(min), _) if number < *min => Some(format!("{answered}, less than {min}")),
        (_, Some(max)) if number > *max => Some(format!("{answered}, more than {max}")),
        _ => None,
    };
    if let Some(what) = beyond(plan.min(), plan.max()) {
        return failed(what);
    }
    let what = beyond(plan.warn_min(), plan.warn_max())?;
    Some(Problem { mild: true, ..Problem::new(FailureKind::QueryFailed, what) })
}
