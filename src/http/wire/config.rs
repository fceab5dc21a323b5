//! How the configuration was read.

use schemars::JsonSchema;
use serde::Serialize;

use super::Timestamp;
use crate::http::state::ConfigStatus;

/// How the configuration was read last.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::http) struct Config<'a> {
    /// When the one in force was read.
    loaded_at: Timestamp,
    /// The files that it was read from, those behind `${file:…}` included. They are watched.
    files: &'a [String],
    /// What is wrong with a newer one, which is not in force for that reason; a line for each error.
    error: Option<&'a str>,
    /// When that one was read.
    failed_at: Option<Timestamp>,
    /// The settings that have changed since the agent started, and take effect at its next start.
    needs_restart: &'a [&'static str],
}

impl<'a> Config<'a> {
    pub(in crate::http) fn new(status: &'a ConfigStatus) -> Self {
        let ConfigStatus { loaded_at, files, error, failed_at, needs_restart } = status;
        Self {
            loaded_at: Timestamp(*loaded_at),
            files,
            error: error.as_deref(),
            failed_at: failed_at.map(Timestamp),
            needs_restart,
        }
    }
}
