//! What Amazon ECS tells a task about itself, and what it expects of one.

pub mod metadata;
