//! Configuration: YAML and environment become a validated [`Plan`], or a list of all errors.

pub mod plan;
pub mod secret;

pub use plan::Plan;
pub use secret::Secret;
