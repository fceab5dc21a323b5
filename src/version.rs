//! What this build is.

/// The version of the crate.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The git commit it was built from, shortened; `unknown` outside a repository.
pub const COMMIT: &str = env!("SICKBAY_COMMIT");
/// The compiler that built it.
pub const RUSTC: &str = env!("SICKBAY_RUSTC");
