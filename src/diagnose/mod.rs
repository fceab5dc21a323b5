//! The path report: which hop broke, why, and what to do about it.
//!
//! A [`Diagnoser`] walks the path to one dependency, hop by hop, and writes what it sees into [`evidence`]. The rules
//! judge the evidence, one rule a cause, without I/O; [`hops`] tell it as lines.
//!
//! [`course`] is the order of things and shares out the time. [`names`] and [`path`] look at the first hops; [`approach`] is
//! how the subject is spoken to, for its TLS, its first [`words`], and once more in small [`segments`]. What peers
//! said passes [`hidden`] before [`report`] has it judged and told.

pub mod addresses;
mod advice;
mod approach;
mod course;
pub mod evidence;
mod hidden;
pub mod hops;
mod names;
mod path;
mod reading;
mod report;
pub mod rules;
mod segments;
mod subject;
#[cfg(test)]
mod test_support;
#[cfg(test)]
mod tests;
mod text;
mod words;
    }
}
