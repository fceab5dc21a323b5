//! What the kernel allows.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// More open files than this are of no use here.
const OPEN_FILES_WANTED: u64 = 65_536;

/// Raises the limit of open files as far as it may be raised, and gives what holds then.
///
/// The customary 1,024 are for programs that use `select`. Clients of the load balancer's port must not be able
/// to take the descriptors that checks need.
pub(super) fn open_files() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // None stands for no limit.
    let possible = maximum.map_or(OPEN_FILES_WANTED, |maximum| maximum.min(OPEN_FILES_WANTED));
    let current = current.unwrap_or(OPEN_FILES_WANTED);
    if current >= possible {
        return current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: Some(possible), maximum }) {
        Ok(()) => possible,
        Err(error) => {
            tracing::debug!("the limit of open files stays at {current}: {error}");
            current
        }
    }
}
