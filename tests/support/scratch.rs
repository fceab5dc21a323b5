//! One temporary folder for each test process, and the reaper that clears up after it.
//!
//! `Drop` is not enough: statics are never dropped, and nothing is when the test process is killed. So a
//! child process holds the other end of a pipe. When the pipe closes, however the test process ended, it
//! ends the servers that are still registered and removes the folder.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::user;

/// Reads `+PID` and `-PID`. At the end: SIGQUIT to what is registered, on which PostgreSQL ends at once and
/// takes its shared memory with it, then SIGKILL to each and its children. `$1` is the folder.
const REAPER: &str = r#"
live=
while read -r line; do
    pid=${line#?}
    case $line in
        +*) live="$live $pid " ;;
        -*) live="${live%% $pid *}${live#* $pid }" ;;
    esac
done
family() {
    for stat in /proc/[0-9]*/stat; do
        # pid (name) state parent ...: the name may hold anything, so what follows its bracket is read.
        read -r whole <"$stat" 2>/dev/null || continue
        set -- "$1" ${whole##*) }
        [ "$3" = "$1" ] && { child=${stat#/proc/}; echo "${child%/stat}"; }
    done
}
doomed=$live
for pid in $live; do doomed="$doomed $(family "$pid" 2>/dev/null)"; done
if [ -n "$live" ]; then
    kill -CONT $doomed 2>/dev/null
    kill -QUIT $live 2>/dev/null
    sleep 1
    kill -KILL $doomed 2>/dev/null
fi
rm -rf "$1"
"#;

struct Scratch {
    root: PathBuf,
    /// It ends after this process, so nobody waits for it.
    reaper: Mutex<Child>,
}

fn scratch() -> &'static Scratch {
    static SCRATCH: OnceLock<Scratch> = OnceLock::new();
    SCRATCH.get_or_init(|| {
        // A short path: a Unix socket's may have 107 bytes.
        let root = tempfile::Builder::new().prefix("sickbay-").tempdir().expect("a temporary folder").keep();
        // Servers of another user pass through; what is secret in it has modes of its own.
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).expect("chmod");
        let mut reaper = Command::new("sh");
        reaper.arg("-c").arg(REAPER).arg("reaper").arg(&root).stdin(Stdio::piped());
        // Ctrl-C goes to the whole group of the terminal: the reaper has to outlive it. It keeps no stream
        // open either, for whoever waits for the end of the tests' output.
        reaper.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).current_dir("/");
        Scratch { root, reaper: Mutex::new(reaper.spawn().expect("sh starts")) }
    })
}

/// Everything the tests write lies under it.
pub fn root() -> &'static Path {
    &scratch().root
}

/// A folder of its own, given to the user that the servers run as; removed when dropped.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Makes the folder; the name begins with `prefix`.
    pub fn new(prefix: &str) -> Self {
        let path = unique(prefix);
        fs::create_dir(&path).expect("mkdir");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("chmod");
        user::give(&path);
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file that only its owner, the servers' user, may read; tells where.
    pub fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
        user::give(&path);
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A server that is being killed may still write: what stays is the reaper's.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A path under [`root`] that nobody else is given.
pub fn unique(prefix: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    root().join(format!("{prefix}{}", NEXT.fetch_add(1, Ordering::Relaxed)))
}

/// The reaper ends this process, should the test process not get to it.
pub fn register(pid: u32) {
    tell(format!("+{pid}\n")).expect("the reaper listens");
}

/// The process has been ended and is about to be waited for; its number may soon be another's.
pub fn unregister(pid: u32) {
    // From `Drop`, where a panic would hide the one that is being told.
    let _ = tell(format!("-{pid}\n"));
}

fn tell(line: String) -> std::io::Result<()> {
    let mut reaper = scratch().reaper.lock().unwrap_or_else(PoisonError::into_inner);
    reaper.stdin.as_mut().expect("a pipe").write_all(line.as_bytes())
}
