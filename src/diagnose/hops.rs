//! Evidence as the lines of a report.

use super::Evidence;
use crate::health::Hop;

/// The hops that this kind of subject has, in order, with what was seen at each.
pub fn hops(_evidence: &Evidence) -> Vec<Hop> {
    Vec::new()
}
