//! Who the servers run as. PostgreSQL refuses root, and none of the others needs it.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

/// A user and its group.
#[derive(Debug, Clone, Copy)]
pub struct User {
    uid: u32,
    gid: u32,
}

/// The user to drop to; `None` where the tests do not run as root and there is nothing to drop.
pub fn unprivileged() -> Option<User> {
    static USER: OnceLock<Option<User>> = OnceLock::new();
    *USER.get_or_init(|| {
        let own = fs::metadata("/proc/self").expect("/proc is mounted").uid();
        (own == 0).then(|| find("postgres").or_else(|| find("nobody")).expect("a user to run servers as"))
    })
}

fn find(name: &str) -> Option<User> {
    let passwd = fs::read_to_string("/etc/passwd").expect("/etc/passwd is readable");
    passwd.lines().find_map(|line| {
        // name:password:uid:gid:…
        let mut fields = line.split(':');
        let found = fields.next()? == name;
        let user = User { uid: fields.nth(1)?.parse().ok()?, gid: fields.next()?.parse().ok()? };
        found.then_some(user)
    })
}

/// Makes the command run as the unprivileged user.
pub fn drop_root(command: &mut Command) {
    if let Some(user) = unprivileged() {
        command.uid(user.uid).gid(user.gid);
    }
}

/// Gives a file or a folder (not what lies in it) to the unprivileged user.
pub fn give(path: &Path) {
    if let Some(user) = unprivileged() {
        chown(path, Some(user.uid), Some(user.gid))
            .unwrap_or_else(|error| panic!("chown {}: {error}", path.display()));
    }
}
