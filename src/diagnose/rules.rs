//! From evidence to a verdict: one rule a cause, the first that fits is told.

use super::Evidence;
use crate::health::{Cause, Confidence, Verdict};

/// What the evidence comes to.
pub fn judge(_evidence: &Evidence) -> Verdict {
    Verdict {
        cause: Cause::Unexplained,
        confidence: Confidence::Unclear,
        summary: String::new(),
        because: Vec::new(),
        advice: Vec::new(),
    }
}
