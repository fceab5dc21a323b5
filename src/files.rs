//! Reading files whose names come from a configuration, at the start and later: never more than a limit, never a
//! pipe that nobody writes to, and never a byte of the content in an error.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A file of authorities is no larger, in bytes: a bundle of every public one has a quarter of this.
pub const AUTHORITIES_MAX: u64 = 1024 * 1024;

/// The content of a file of at most `limit` bytes as text.
///
/// # Errors
/// Why not, as what is said of the file: `does not exist`.
pub fn read_text(path: &Path, limit: u64) -> Result<String, String> {
    // Asked before it is opened: opening a pipe waits for whoever writes to it.
    let about = std::fs::metadata(path).map_err(|error| reason(&error))?;
    if !about.is_file() {
        return Err("is not a regular file".to_owned());
    }
    let mut file = File::open(path).map_err(|error| reason(&error))?;
    // In one piece: what grows step by step leaves pieces behind in the heap of the thread that reads.
    let mut bytes = Vec::with_capacity(usize::try_from(about.len().min(limit)).unwrap_or_default() + 1);
    // The size does not decide: what grows meanwhile, or has none (/proc), is bounded as well.
    file.by_ref().take(limit + 1).read_to_end(&mut bytes).map_err(|error| reason(&error))?;
    if bytes.len() as u64 > limit {
        return Err(format!("is larger than {} KiB", limit / 1024));
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8 text".to_owned())
}

/// A file that was read, or was to be, and how it was then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its path.
    pub path: PathBuf,
    /// What it was; `None` where there was none to be seen.
    pub identity: Option<Identity>,
}

impl Seen {
    /// How it is now. To be asked before the file is read: a change in between is then one that is still to be seen.
    pub fn now(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self { identity: Identity::of(&path), path }
    }

    /// Whether there is another content now, as far as can be told without reading it.
    pub fn has_changed(&self) -> bool {
        self.identity != Identity::of(&self.path)
    }
}

/// What tells a file from the one that was there before, links followed: a new version is written over it, or takes
/// its place, or a link is led to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    modified: Option<SystemTime>,
    length: u64,
    /// Device and number on it.
    inode: (u64, u64),
}

impl Identity {
    fn of(path: &Path) -> Option<Self> {
        let about = std::fs::metadata(path).ok()?;
        let modified = about.modified().ok();
        Some(Self { modified, length: about.len(), inode: (about.dev(), about.ino()) })
    }
}

fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "does not exist".to_owned(),
        std::io::ErrorKind::PermissionDenied => "may not be read by this user".to_owned(),
        _ => format!("cannot be read: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In a thread of its own, so that a failure is one and no test that never ends.
    #[test]
    fn does_not_wait_for_the_writer_of_a_pipe() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let (done, result) = std::sync::mpsc::channel();
        std::thread::spawn(move || done.send(read_text(&pipe, 1024)));
        let read = result.recv_timeout(std::time::Duration::from_secs(10));
        assert_eq!(read, Ok(Err("is not a regular file".into())));
    }

    #[test]
    fn tells_a_changed_file_by_its_length_its_time_and_what_a_link_leads_to() {
        let dir = tempfile::tempdir().unwrap();
        let (file, other, link) = (dir.path().join("a"), dir.path().join("b"), dir.path().join("link"));
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let seen = Seen::now(&link);
        assert_eq!((&seen.identity, seen.has_changed()), (&None, false), "it leads nowhere yet");
        std::fs::write(&file, "one").unwrap();
        assert!(seen.has_changed());

        let seen = Seen::now(&link);
        assert!(!seen.has_changed());
        std::fs::write(&file, "longer").unwrap();
        assert!(seen.has_changed());

        let seen = Seen::now(&link);
        let file = File::options().write(true).open(&file).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        assert!(seen.has_changed());

        let seen = Seen::now(&link);
        std::fs::write(&other, "longer").unwrap();
        File::options().write(true).open(&other).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let next = dir.path().join("next");
        std::os::unix::fs::symlink(&other, &next).unwrap();
        std::fs::rename(&next, &link).unwrap();
        assert!(seen.has_changed(), "as Kubernetes and many a tool replaces what is mounted");
    }

    #[test]
    fn refuses_what_is_no_bounded_text() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        std::fs::write(&file, "text\n").unwrap();
        assert_eq!(read_text(&file, 1024), Ok("text\n".into()));
        std::fs::write(&file, vec![b'x'; 1025]).unwrap();
        assert_eq!(read_text(&file, 1024), Err("is larger than 1 KiB".into()));
        std::fs::write(&file, b"\xff\xfe").unwrap();
        assert_eq!(read_text(&file, 1024), Err("is not UTF-8 text".into()));
        assert_eq!(read_text(dir.path(), 1024), Err("is not a regular file".into()));
        assert_eq!(read_text(&dir.path().join("none"), 1024), Err("does not exist".into()));
    }
}
