//! What a rule finds, in the making.

use crate::diagnose::{Evidence, advice};
use crate::health::{Cause, Confidence, Failure, HopKind, Verdict};

/// What one rule found. The cause itself stands in the table of the rules.
#[derive(Debug, Clone)]
pub(super) struct Finding {
    confidence: Confidence,
    summary: String,
    because: Vec<String>,
    advice: Vec<String>,
    /// It rests on what was not seen: the less time there was, the less that means.
    on_silence: bool,
}

impl Finding {
    /// Nothing else explains the evidence.
    pub(super) fn certain(summary: impl Into<String>) -> Self {
        Self::new(Confidence::Certain, summary)
    }

    /// It is the usual explanation, and another is left.
    pub(super) fn likely(summary: impl Into<String>) -> Self {
        Self::new(Confidence::Likely, summary)
    }

    /// The evidence does not tell.
    pub(super) fn unclear(summary: impl Into<String>) -> Self {
        Self::new(Confidence::Unclear, summary)
    }

    /// As far as this can be trusted.
    pub(super) fn new(confidence: Confidence, summary: impl Into<String>) -> Self {
        Self {
            confidence,
            summary: summary.into(),
            because: Vec::new(),
            advice: Vec::new(),
            on_silence: false,
        }
    }

    /// The same, trusted so far.
    pub(super) fn trusted(self, confidence: Confidence) -> Self {
        Self { confidence, ..self }
    }

    /// What speaks for it; the strongest first.
    pub(super) fn because(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        for line in lines {
            push(&mut self.because, line);
        }
        self
    }

    /// The same, of one line.
    pub(super) fn since(self, line: impl Into<String>) -> Self {
        self.because([line.into()])
    }

    /// What else it could be.
    pub(super) fn or_else(self, other: impl std::fmt::Display) -> Self {
        self.since(format!("it could also be: {other}"))
    }

    /// The same, where there is something else.
    pub(super) fn or_else_if(self, other: Option<&str>) -> Self {
        match other {
            Some(other) => self.or_else(other),
            None => self,
        }
    }

    /// What to do; first things first.
    pub(super) fn advise(mut self, steps: impl IntoIterator<Item = String>) -> Self {
        for step in steps {
            push(&mut self.advice, step);
        }
        self
    }

    /// The same, of one step.
    pub(super) fn step(self, step: impl Into<String>) -> Self {
        self.advise([step.into()])
    }

    /// What the check said itself: its message among the evidence, its hint as the first advice.
    pub(super) fn told_by(self, failure: &Failure) -> Self {
        self.since(said(failure)).step(failure.hint.clone())
    }

    /// It rests on what was not seen.
    pub(super) fn on_silence(self) -> Self {
        Self { on_silence: true, ..self }
    }

    /// As a verdict, with what bears on every cause.
    pub(super) fn verdict(mut self, cause: Cause, evidence: &Evidence) -> Verdict {
        if evidence.cut_short {
            if self.on_silence {
                self.confidence = lower(self.confidence);
            }
            self.because.insert(0, "the time was over before everything could be looked at".to_owned());
        }
        if let Some((name, found)) = evidence.found_by_search()
            && evidence.ends_within(HopKind::Route..=HopKind::Auth)
        {
            push(
                &mut self.because,
                format!("{name} was looked up as {found}: that may be another host than is meant"),
            );
            let step = format!(
                "write the name with a dot at its end, {name}., so that no suffix of the search list is added to it"
            );
            self.advice.insert(0, step);
        }
        if self.because.is_empty() {
            self.because.extend(evidence.failure().map(said));
        }
        let Self { confidence, summary, because, advice, .. } = self;
        let advice = advice.into_iter().map(|step| advice::placed(step, &evidence.subject)).collect();
        Verdict { cause, confidence, summary, because, advice }
    }
}

/// What a check said, with its code. Its phase is not told: the hop at which the path ends can be another one, where what
/// listens there speaks something else.
pub(super) fn said(failure: &Failure) -> String {
    let code = failure.code.as_deref().filter(|code| !failure.message.contains(code));
    let code = code.map(|code| format!(" ({code})")).unwrap_or_default();
    format!("the check says {}: {}{code}", failure.kind, failure.message)
}

fn lower(confidence: Confidence) -> Confidence {
    match confidence {
        Confidence::Certain => Confidence::Likely,
        Confidence::Likely | Confidence::Unclear => Confidence::Unclear,
    }
}

/// No line twice, and none that is empty.
fn push(lines: &mut Vec<String>, line: String) {
    if !line.is_empty() && !lines.contains(&line) {
        lines.push(line);
    }
}
