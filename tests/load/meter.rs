//! What a process has used, as the kernel counts it.

use std::fs;
use std::time::Duration;

/// Processor time of a process so far, over all threads that live.
///
/// From `schedstat`, which counts in nanoseconds; `stat` counts in hundredths of a second, too coarse for an
/// agent that uses a few milliseconds in ten seconds.
pub fn cpu(pid: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs").flatten();
    let nanos = threads.filter_map(|thread| {
        // A thread may end between the two looks.
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

/// What a process holds in memory, in MiB.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// All that is resident: what an orchestrator counts, and kills for.
    pub resident: f64,
    /// The part that belongs to this process alone: heap and stacks. The rest are pages of the binary and of
    /// libraries, which the kernel can drop and share.
    pub anonymous: f64,
}

/// Memory of a process now.
pub fn memory(pid: u32) -> Memory {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let mib = |field: &str| {
        let line =
            status.lines().find_map(|line| line.strip_prefix(field)).expect("a field of /proc/PID/status");
        let kib: f64 = line.trim().trim_end_matches(" kB").parse().expect("a number of kB");
        kib / 1024.0
    };
    Memory { resident: mib("VmRSS:"), anonymous: mib("RssAnon:") }
}
