//! What gathers the evidence. Only here are packets sent.
//!
//! [`course`] is the order of things and shares out the time. [`names`] and [`path`] look at the first hops; [`approach`] is
//! how the subject is spoken to, for its TLS, its first [`words`], and once more in small [`segments`].

mod approach;
mod course;
mod names;
mod path;
mod segments;
#[cfg(test)]
mod tests;
mod words;

pub(super) use course::Course;
