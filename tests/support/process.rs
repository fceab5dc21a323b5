//! A server process: started, told to stop, hung and woken, and never left behind.

use std::fs;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use sickbay::clock::Deadline;

use super::wait::{PATIENCE, eventually};
use super::{scratch, user};

/// How long `Drop` lets a process end by itself.
const GRACE: Duration = Duration::from_secs(5);

/// A running process of the unprivileged user, whose output goes to a file.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    log: PathBuf,
    /// What ends it at once and tidily. SIGKILL follows where it does not.
    quick_end: Signal,
}

impl Daemon {
    /// Starts it. Its output is appended to `log`.
    pub fn spawn(mut command: Command, log: &Path, quick_end: Signal) -> Self {
        let file = fs::OpenOptions::new().create(true).append(true).open(log).expect("a log file");
        command.stdin(Stdio::null()).stdout(file.try_clone().expect("dup")).stderr(file);
        // Ctrl-C is for the test runner; it would reach a server of its group before the test could end it.
        command.process_group(0);
        user::drop_root(&mut command);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        scratch::register(child.id());
        Self { child, log: log.to_owned(), quick_end }
    }

    /// The process that was started.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// How it ended, where it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("wait")
    }

    /// Sends it a signal; one that has ended takes no notice.
    pub fn signal(&self, signal: Signal) {
        let _ = kill_process(pid(self.child.id()), signal);
    }

    /// Signals it and waits for its end.
    pub async fn end(mut self, with: Signal) {
        self.signal(with);
        let what = format!("the end of process {} on {with:?}", self.pid());
        eventually(&what, || std::future::ready(self.ended().ok_or("it runs"))).await;
    }

    /// Stops it and its children in their tracks, as a stuck host does: the kernel goes on accepting
    /// connections for it, and nobody answers.
    pub async fn hang(&self) {
        // The parent first, so that no child is born unseen.
        self.signal(Signal::STOP);
        for child in children(self.pid()) {
            let _ = kill_process(pid(child), Signal::STOP);
        }
        let what = format!("process {} to stand still", self.pid());
        eventually(&what, || {
            let moving = family(self.pid()).find(|pid| !matches!(state(*pid), Some('T' | 'Z') | None));
            std::future::ready(moving.map_or(Ok(()), |pid| Err(format!("{pid} moves"))))
        })
        .await;
    }

    /// Undoes [`Daemon::hang`].
    pub fn wake(&self) {
        for member in family(self.pid()) {
            let _ = kill_process(pid(member), Signal::CONT);
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.wake();
            self.signal(self.quick_end);
            // `Drop` cannot await; it blocks its thread, as `wait` would, but not for ever.
            let deadline = Deadline::after(GRACE);
            while matches!(self.child.try_wait(), Ok(None)) && !deadline.remaining().is_zero() {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        if matches!(self.child.try_wait(), Ok(None)) {
            for member in family(self.pid()) {
                let _ = kill_process(pid(member), Signal::KILL);
            }
            let _ = self.child.wait();
        }
        scratch::unregister(self.child.id());
    }
}

/// Runs a command of the unprivileged user to its end and gives its output.
///
/// # Panics
/// Where it fails, with all it printed.
pub fn run(mut command: Command) -> String {
    user::drop_root(&mut command);
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {} (signal {:?})\n{stdout}{}",
        output.status,
        output.status.signal(),
        String::from_utf8_lossy(&output.stderr)
    );
    stdout
}

/// Waits until what was just started answers, and says so if it ended instead.
///
/// # Errors
/// What it printed, where it ended: its port may have been taken meanwhile.
pub async fn until_ready<F>(daemon: &mut Daemon, what: &str, answers: impl Fn() -> F) -> Result<(), String>
where
    F: Future<Output = Result<(), String>>,
{
    eventually(&format!("{what} to answer within {PATIENCE:?}"), || {
        let ended = daemon.ended();
        let log = daemon.log();
        let answer = answers();
        async move {
            match ended {
                Some(status) => Ok(Err(format!("{what} ended ({status}):\n{log}"))),
                None => answer.await.map(Ok),
            }
        }
    })
    .await
}

/// Sends a signal to a process of a running server.
pub fn signal(of: u32, signal: Signal) {
    kill_process(pid(of), signal).expect("it runs");
}

/// Whether there is a process of this number that has not ended.
pub fn is_alive(pid: u32) -> bool {
    state(pid).is_some_and(|state| state != 'Z')
}

/// The process and its children. None of the servers has grandchildren.
fn family(parent: u32) -> impl Iterator<Item = u32> {
    std::iter::once(parent).chain(children(parent))
}

/// The children of a process.
pub fn children(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").expect("/proc is mounted").flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter(|pid| stat(*pid).is_some_and(|(_, its_parent)| its_parent == parent)).collect()
}

fn state(pid: u32) -> Option<char> {
    stat(pid).map(|(state, _)| state)
}

/// State and parent: `pid (name) state parent …`, where the name may hold anything.
fn stat(pid: u32) -> Option<(char, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn pid(number: u32) -> Pid {
    i32::try_from(number).ok().and_then(Pid::from_raw).expect("a process number")
}
