//! The `sickbay` binary.
fn main() {}
