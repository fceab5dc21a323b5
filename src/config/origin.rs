//! Where a value came from. Layers are merged value by value, so one dependency may have its host from a
//! variable, its interval from a file and its port from us; an engineer who sees a wrong value wants to know
//! which of them to correct.

use std::fmt;
use std::sync::Arc;

/// The layer that a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The compiled-in default.
    Default,
    /// A file, by the name it was given with.
    File(Arc<str>),
    /// An environment variable.
    Variable(&'static str),
    /// A flag of the command line.
    Flag(&'static str),
    /// The target that a command was given in place of a dependency's name.
    Target,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(name) => write!(f, "file {name}"),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
            Self::Target => f.write_str("the target"),
        }
    }
}
