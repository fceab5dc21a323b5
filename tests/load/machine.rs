//! The machine: which cores measure and which are measured, and what it is in general terms.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

/// Who runs where. What is measured has a core of its own, so that who asks does not take its time.
#[derive(Debug, Clone)]
pub struct Cores {
    /// For the program under test.
    pub tested: usize,
    /// For everything else: load generators, servers, this harness.
    pub rest: Vec<usize>,
}

impl Cores {
    /// The first core for what is tested; the others, but for its hyper-threaded twin, for the rest. On a
    /// machine with one core they share it, and ratios mean little.
    pub fn choose() -> Self {
        let read = |path: &str| list(fs::read_to_string(path).unwrap_or_default().trim());
        let all = read("/sys/devices/system/cpu/online");
        let tested = all.first().copied().unwrap_or(0);
        let twins = read(&format!("/sys/devices/system/cpu/cpu{tested}/topology/thread_siblings_list"));
        let others = |without: &BTreeSet<usize>| all.difference(without).copied().collect::<Vec<_>>();
        let rest = [others(&twins), others(&BTreeSet::from([tested])), vec![tested]];
        Self { tested, rest: rest.into_iter().find(|cores| !cores.is_empty()).unwrap_or_default() }
    }

    /// A command that runs on the tested core.
    pub fn on_tested(&self, program: &str) -> Command {
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", &self.tested.to_string(), program]);
        command
    }

    /// Puts this thread, and the threads and processes that it starts from now on, on the other cores.
    pub fn leave_tested(&self) {
        let rest: Vec<String> = self.rest.iter().map(usize::to_string).collect();
        let mut command = Command::new("taskset");
        command.args(["--pid", "--cpu-list", &rest.join(","), &std::process::id().to_string()]);
        let output = command.output().expect("taskset is installed: tests/support/install.sh bench");
        assert!(output.status.success(), "taskset: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// The numbers in a list of the kernel's: `0-2,4`.
pub fn list(text: &str) -> BTreeSet<usize> {
    let ranges = text.split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.trim().parse::<usize>().ok()?..=last.trim().parse().ok()?)
    });
    ranges.flatten().collect()
}

/// In general terms, without names: figures are only worth something beside the machine that made them.
pub fn description() -> String {
    let cores = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cores.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|it| it.1);
    let count = list(&fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default()).len();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    // What follows the numbers names a build, and often a machine.
    let kernel = kernel.split('-').next().unwrap_or_default().trim();
    let virtual_machine =
        if cores.lines().any(|line| line.starts_with("flags") && line.contains(" hypervisor")) {
            ", virtual"
        } else {
            ""
        };
    let versions = [
        ("haproxy", "-v", "HAProxy"),
        ("wrk", "-v", "wrk"),
        ("curl", "--version", "curl"),
        ("redis-server", "--version", "Redis"),
        ("openssl", "version", "OpenSSL"),
    ];
    let versions: Vec<String> =
        versions.iter().map(|(program, flag, name)| format!("{name} {}", version(program, flag))).collect();
    format!(
        "{count} cores ({}{virtual_machine}), Linux {kernel}; {}",
        model.unwrap_or("unknown"),
        versions.join(", ")
    )
}

/// The first word with a digit in what a program says of itself.
fn version(program: &str, flag: &str) -> String {
    let output = Command::new(program).arg(flag).env("PATH", super::path()).output();
    let said = output.map(|it| [it.stdout, it.stderr].concat()).unwrap_or_default();
    let said = String::from_utf8_lossy(&said).into_owned();
    let word = said.split_whitespace().find(|word| word.chars().any(|c| c.is_ascii_digit()));
    let word = word.unwrap_or("of unknown version").trim_start_matches(|c: char| !c.is_ascii_digit());
    // Debian's revision behind the version is no part of it.
    word.split(['-', '+', ',']).next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_lists_of_cores() {
        assert_eq!(list("0-2,4"), BTreeSet::from([0, 1, 2, 4]));
        assert_eq!((list("3"), list("")), (BTreeSet::from([3]), BTreeSet::new()));
    }
}
