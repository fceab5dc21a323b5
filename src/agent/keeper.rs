//! Keeps overrides in the state folder, so that one which holds for hours does not end with the process that was told of
//! it.
//!
//! The file `overrides.json` is replaced as a whole, written beside its place and renamed, whenever an override begins or
//! ends: whatever cuts that short, the old file or the new one is there. What is found there and cannot be used is set
//! aside and told; neither it nor a folder that takes no file keeps an agent from starting, or an order from being
//! obeyed. Nothing is written before what is there has been read, however long that takes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::Level;

use super::aside::on_a_thread;
use super::registry::Held;
use super::runners::Restored;
use crate::clock;
use crate::config::plan::DependencyPlan;
use crate::files::read_text;
use crate::health::circuit::{Actor, FOR_AT_MOST, Mode, Override, Readiness};
use crate::health::{DependencyName, Now, WallTime};
use crate::log::about;

/// The file, within the folder.
const FILE: &str = "overrides.json";
/// Where it is written before it takes its place.
const FILE_NEW: &str = "overrides.json.new";
/// What could not be used goes here; the time follows, in seconds since 1970.
const DAMAGED: &str = "overrides.json.damaged-";
/// The newest so many of those stay.
const DAMAGED_KEPT: usize = 3;

/// The version of the format.
const VERSION: u64 = 1;

/// A file is no larger, in bytes; what would be is not written. An override takes a few hundred bytes, and 2 KiB where
/// its reason and its actor are as long as may be, so there is room for four thousand of the longest.
const FILE_LIMIT: u64 = 8 * 1024 * 1024;

/// A text in it, in characters.
const TEXT_MAX: usize = 200;

/// Where the folder did not take the file, it is tried again after this long.
const TRY_AGAIN: Duration = Duration::from_secs(30);

/// How long the answer to an order waits for the folder at most. The order has taken effect by then.
const KEPT_WITHIN: Duration = Duration::from_secs(2);

/// How long a start waits for the folder at most.
const READ_WITHIN: Duration = Duration::from_secs(5);

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u64,
    overrides: Vec<StoredOverride>,
}

/// An override as the file has it: as `/circuits` tells it, with its dependency.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredOverride {
    dependency: String,
    mode: String,
    reason: String,
    actor: String,
    since: String,
    expires_at: String,
    readiness: String,
}

impl StoredOverride {
    fn new(dependency: &DependencyName, over: &Override) -> Self {
        Self {
            dependency: dependency.as_str().to_owned(),
            mode: over.mode.as_str().to_owned(),
            reason: over.reason.clone(),
            actor: over.actor.as_str().to_owned(),
            since: clock::rfc3339(over.since),
            expires_at: clock::rfc3339(over.expires.wall),
            readiness: over.readiness.as_str().to_owned(),
        }
    }

    /// The override, and the dependency that it is of; or which field is wrong.
    fn read(self, now: Now) -> Result<(DependencyName, Override), &'static str> {
        let text = |text: String| {
            let fits =
                !text.is_empty() && text.chars().count() <= TEXT_MAX && !text.contains(char::is_control);
            fits.then_some(text)
        };
        let dependency = DependencyName::parse(&self.dependency).ok_or("dependency")?;
        let until = clock::from_rfc3339(&self.expires_at).ok_or("expires_at")?;
        let over = Override {
            mode: Mode::parse(&self.mode).ok_or("mode")?,
            reason: text(self.reason).ok_or("reason")?,
            actor: Actor::new(&text(self.actor).ok_or("actor")?),
            since: clock::from_rfc3339(&self.since).ok_or("since")?,
            expires: expiry(until, now),
            readiness: Readiness::parse(&self.readiness).ok_or("readiness")?,
        };
        Ok((dependency, over))
    }
}

/// When an override ends by both clocks: as late as the calendar says, and no later than any override may, since the
/// calendar may have been set back.
fn expiry(until: WallTime, now: Now) -> Now {
    let left = until.unix_millis().saturating_sub(now.wall.unix_millis());
    let left = Duration::from_millis(u64::try_from(left).unwrap_or_default()).min(FOR_AT_MOST);
    let mono = now.mono + left;
    Now { mono, wall: now.wall_at(mono) }
}

/// What is read of the folder, at its end.
type Reading = BoxFuture<'static, io::Result<Vec<(DependencyName, Override)>>>;

/// The state folder, and how much is known of what was in it.
pub(super) struct Folder {
    path: Arc<Path>,
    /// When the agent started.
    since: WallTime,
    /// Reads what is there still, where the start of the agent did not wait for that any longer.
    late: Option<Reading>,
}

/// What the folder holds for these dependencies. What is of no use is told, and dropped.
pub(super) async fn restore(folder: &Path, dependencies: &[DependencyPlan], now: Now) -> (Restored, Folder) {
    let path = folder.to_owned();
    let reading = Box::pin(on_a_thread("state", move || read(&path, now)));
    restore_from(reading, folder, dependencies, now).await
}

async fn restore_from(
    mut reading: Reading,
    folder: &Path,
    dependencies: &[DependencyPlan],
    now: Now,
) -> (Restored, Folder) {
    let (stored, late): (_, Option<Reading>) = match tokio::time::timeout(READ_WITHIN, &mut reading).await {
        Ok(Ok(stored)) => (stored, None),
        // It is told when it is time to write.
        Ok(Err(error)) => (Vec::new(), Some(Box::pin(std::future::ready(Err(error))))),
        Err(_late) => {
            tracing::error!(
                folder = %folder.display(),
                "the state folder does not answer within {} s: the agent starts without the overrides that it may hold, and keeps none there before it has answered; see what is mounted there",
                READ_WITHIN.as_secs()
            );
            (Vec::new(), Some(reading))
        }
    };
    (in_force(stored, dependencies, now), Folder { path: folder.into(), since: now.wall, late })
}

/// Those of the overrides that are to be in force again.
fn in_force(stored: Vec<(DependencyName, Override)>, dependencies: &[DependencyPlan], now: Now) -> Restored {
    let mut restored = Restored::new();
    for (name, over) in stored {
        let Some(policy) = dependencies.iter().map(DependencyPlan::policy).find(|policy| policy.name == name)
        else {
            tracing::warn!(
                dependency = name.as_str(),
                mode = over.mode.as_str(),
                actor = over.actor.as_str(),
                reason = over.reason.as_str(),
                "an override in the state folder is dropped: there is no dependency of this name any more"
            );
            continue;
        };
        let told = |level: Level, what: &str| {
            about!(
                level,
                policy,
                mode = over.mode.as_str(),
                actor = over.actor.as_str(),
                reason = over.reason.as_str(),
                readiness = over.readiness.as_str(),
                expires_at = clock::rfc3339(over.expires.wall),
                "{} by {} {what}: {}",
                over.mode,
                over.actor,
                over.reason
            );
        };
        if over.expires.mono <= now.mono {
            told(Level::INFO, "came to its end while the agent was away");
        } else if let Some(reason) = &policy.disabled {
            told(Level::WARN, &format!("is dropped, since the dependency is disabled ({reason})"));
        } else {
            told(Level::WARN, "is in force again");
            restored.insert(name, Arc::new(over));
        }
    }
    restored
}

/// What the file holds. One that cannot be used is set aside.
fn read(folder: &Path, now: Now) -> Vec<(DependencyName, Override)> {
    let file = folder.join(FILE);
    if let Err(error) = fs::symlink_metadata(&file)
        && error.kind() == io::ErrorKind::NotFound
    {
        // No override yet, or none in this folder. Whether it takes one is seen at once.
        return Vec::new();
    }
    match read_text(&file, FILE_LIMIT).and_then(|text| parse(&text, now)) {
        Ok(stored) => stored,
        Err(why) => {
            set_aside(folder, &why, now.wall);
            Vec::new()
        }
    }
}

fn parse(text: &str, now: Now) -> Result<Vec<(DependencyName, Override)>, String> {
    /// What all versions have.
    #[derive(Deserialize)]
    struct Versioned {
        version: u64,
    }
    let Versioned { version } = serde_json::from_str(text).map_err(|error| format!("is damaged: {error}"))?;
    if version != VERSION {
        return Err(format!("has version {version} of its format, and this agent knows {VERSION}"));
    }
    let stored: Stored = serde_json::from_str(text).map_err(|error| format!("is damaged: {error}"))?;
    let read = |(n, stored): (usize, StoredOverride)| {
        stored.read(now).map_err(|field| format!("is damaged: `{field}` of override {n} cannot be used"))
    };
    stored.overrides.into_iter().enumerate().map(read).collect()
}

fn set_aside(folder: &Path, why: &str, now: WallTime) {
    let (file, seconds) = (folder.join(FILE), now.unix_millis() / 1000);
    let aside = folder.join(format!("{DAMAGED}{seconds}"));
    match fs::rename(&file, &aside) {
        Ok(()) => tracing::warn!(
            file = %file.display(),
            set_aside = %aside.display(),
            "the file of overrides {why}; it is set aside, and the agent goes without the overrides that it may hold: see there what was held, and order it again"
        ),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::error!(
            file = %file.display(),
            "the file of overrides {why}, and cannot be set aside: {error}; the agent goes without the overrides that it may hold: remove the file"
        ),
    }
    forget_the_oldest(folder);
}

/// Of the files that were set aside the newest stay.
fn forget_the_oldest(folder: &Path) {
    let time = |entry: fs::DirEntry| {
        let seconds: u64 = entry.file_name().to_str()?.strip_prefix(DAMAGED)?.parse().ok()?;
        Some((seconds, entry.path()))
    };
    let mut aside: Vec<(u64, PathBuf)> =
        fs::read_dir(folder).into_iter().flatten().flatten().filter_map(time).collect();
    aside.sort();
    let surplus = aside.len().saturating_sub(DAMAGED_KEPT);
    for (_, path) in aside.into_iter().take(surplus) {
        // One that stays is there to be seen.
        let _ = fs::remove_file(path);
    }
}

/// Brings the folder to what is held. Where nothing is, and the volume is full, no file says so as well as one without an
/// override: what somebody has ended must not be back after a restart.
fn write(folder: &Path, held: &Held) -> io::Result<()> {
    let Err(error) = put(folder, held) else { return Ok(()) };
    // What was begun takes room.
    let _ = fs::remove_file(folder.join(FILE_NEW));
    match held.overrides.is_empty() {
        true => fs::remove_file(folder.join(FILE)).map_err(|_| error),
        false => Err(error),
    }
}

/// Writes the overrides in force, in one step for whoever reads the file.
fn put(folder: &Path, held: &Held) -> io::Result<()> {
    let overrides = held.overrides.iter().map(|(name, over)| StoredOverride::new(name, over)).collect();
    let mut text = serde_json::to_vec_pretty(&Stored { version: VERSION, overrides })?;
    text.push(b'\n');
    if text.len() as u64 > FILE_LIMIT {
        return Err(io::Error::other(format!("they would take more than {} MiB", FILE_LIMIT >> 20)));
    }
    let new = folder.join(FILE_NEW);
    // What a write that was cut short has left, or whatever else lies there: no link is followed, and no pipe opened.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Reasons are for colleagues, not for whoever else has an account.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&new, folder.join(FILE))?;
    // The rename, too, is to outlast a machine that stops.
    File::open(folder)?.sync_all()
}

/// Tells when an override is where it outlasts the agent.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    held: watch::Receiver<Held>,
    /// `None` where there is no folder.
    written: Option<Written>,
}

/// What has been written.
#[derive(Debug, Clone)]
struct Written {
    folder: Arc<Path>,
    /// The version that was written last.
    version: watch::Receiver<u64>,
    /// Whether an answer waited for the folder in vain since it last took the file.
    in_vain: Arc<AtomicBool>,
}

impl Kept {
    /// Waits until the overrides in force have been written, or cannot be; not for long.
    pub(super) async fn until_kept(mut self) {
        let Some(Written { folder, version, in_vain }) = &mut self.written else { return };
        let wanted = self.held.borrow().version;
        let written = version.wait_for(|version| *version >= wanted);
        // Who keeps them is gone when the agent is about to be.
        let late = tokio::time::timeout(KEPT_WITHIN, written).await.is_err();
        if late && !in_vain.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                folder = %folder.display(),
                "the state folder does not answer within {} s: orders take effect and are answered, but a restart would find what the folder held before; see what is mounted there",
                KEPT_WITHIN.as_secs()
            );
        }
    }
}

/// Keeps what is held in a folder, where there is one. The future runs as long as anything can be held.
pub(super) fn keep(folder: Option<Folder>, held: watch::Receiver<Held>) -> (Kept, impl Future<Output = ()>) {
    let (tell, version) = watch::channel(0);
    let in_vain = Arc::<AtomicBool>::default();
    let written = folder.as_ref().map(|folder| Written {
        folder: Arc::clone(&folder.path),
        version,
        in_vain: Arc::clone(&in_vain),
    });
    let kept = Kept { held: held.clone(), written };
    let keeping = async move {
        if let Some(Folder { path, since, late }) = folder {
            if let Some(reading) = late
                && leave_what_came_late(&path, reading.await, since, held.clone()).await.is_err()
            {
                return;
            }
            keep_in(path, held, tell, &in_vain).await;
        }
    };
    (kept, keeping)
}

/// What was read too late to be in force stays where it is: the next start finds it. Ends when something else is to be
/// written in its place, or with an error where nothing ever is.
async fn leave_what_came_late(
    folder: &Path,
    read: io::Result<Vec<(DependencyName, Override)>>,
    since: WallTime,
    mut held: watch::Receiver<Held>,
) -> Result<(), watch::error::RecvError> {
    let found = match read {
        Ok(stored) if stored.is_empty() => {
            tracing::info!(folder = %folder.display(), "the state folder has answered, and holds no overrides that can be used");
            return Ok(());
        }
        Ok(stored) => {
            let names: Vec<&str> = stored.iter().map(|(name, _)| name.as_str()).collect();
            format!("has answered too late: what it holds for {} is not in force", names.join(", "))
        }
        Err(error) => format!("could not be read ({error}): what it may hold is not in force"),
    };
    tracing::warn!(
        folder = %folder.display(),
        "the state folder {found}; order it again, or restart the agent to have it in force; at the next order the file is set aside"
    );
    // Nothing was restored, so the first change is the first order.
    held.wait_for(|held| held.version > 0).await?;
    loop {
        let path = folder.to_owned();
        let aside =
            || on_a_thread("state", move || set_aside(&path, "was not read in time to be in force", since));
        if aside().await.is_ok() {
            return Ok(());
        }
        // No thread is to be had. Nothing is written before it is set aside; who orders something is told.
        tokio::time::sleep(TRY_AGAIN).await;
    }
}

/// Writes at the start, too: a folder that takes no file is better known before the first override.
async fn keep_in(
    folder: Arc<Path>,
    mut held: watch::Receiver<Held>,
    written: watch::Sender<u64>,
    in_vain: &AtomicBool,
) {
    let mut told = None;
    loop {
        let now_held = held.borrow_and_update().clone();
        let (version, path) = (now_held.version, Arc::clone(&folder));
        let writing = on_a_thread("state", move || write(&path, &now_held)).await;
        let failed = writing.and_then(|written| written).err().map(|error| error.to_string());
        match &failed {
            Some(error) if told != failed => tracing::error!(
                folder = %folder.display(),
                "overrides cannot be kept in the state folder: {error}; they are as they were ordered, but a restart would find what the folder held before, also what has ended since: let `server.state_dir` be a folder that this user (uid {}) can write to, on a volume with room",
                rustix::process::geteuid().as_raw()
            ),
            None if in_vain.swap(false, Ordering::Relaxed) || told.is_some() => {
                tracing::info!(folder = %folder.display(), "overrides are kept in the state folder again");
            }
            _ => {}
        }
        let wait = failed.is_some().then_some(TRY_AGAIN);
        told = failed;
        // Whoever waits has waited for this, whatever came of it.
        written.send_replace(version);
        let changed = match wait {
            None => held.changed().await,
            Some(wait) => tokio::time::timeout(wait, held.changed()).await.unwrap_or(Ok(())),
        };
        if changed.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Monotonic;

    const NOW: Now = Now { mono: Monotonic::ZERO, wall: WallTime::from_unix_millis(1_800_000_000_000) };

    fn over(for_seconds: u64) -> Override {
        let mono = NOW.mono + Duration::from_secs(for_seconds);
        Override {
            mode: Mode::ForcedOpen,
            reason: "the disk is \"changed\" – ok?".into(),
            actor: Actor::new("admin"),
            since: NOW.wall,
            expires: Now { mono, wall: NOW.wall_at(mono) },
            readiness: Readiness::Ignore,
        }
    }

    fn held(over: Override) -> Held {
        let name = DependencyName::parse("database").unwrap();
        Held { version: 1, overrides: vec![(name, Arc::new(over))] }
    }

    /// The folder, whose file was read in time.
    fn folder_at(path: &Path) -> Folder {
        Folder { path: path.into(), since: NOW.wall, late: None }
    }

    fn names(folder: &Path) -> Vec<String> {
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        let mut names: Vec<String> = fs::read_dir(folder).unwrap().map(name).collect();
        names.sort();
        names
    }

    #[test]
    fn what_has_ended_is_not_found_again_although_nothing_can_be_written() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &held(over(60))).unwrap();
        // In the way of the next.
        fs::create_dir(folder.path().join(FILE_NEW)).unwrap();
        write(folder.path(), &held(over(1_800))).unwrap_err();
        assert_eq!(names(folder.path()), [FILE, FILE_NEW], "what is held still is told by the one before");
        write(folder.path(), &Held { version: 2, overrides: Vec::new() }).unwrap();
        assert_eq!(names(folder.path()), [FILE_NEW]);
        write(folder.path(), &Held { version: 3, overrides: Vec::new() }).unwrap_err();
    }

    #[test]
    fn what_is_written_is_read_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path(), NOW), [], "there is none yet");
        write(folder.path(), &held(over(60))).unwrap();
        write(folder.path(), &held(over(1_800))).unwrap();
        assert_eq!(names(folder.path()), [FILE]);
        let stored = read(folder.path(), NOW);
        assert_eq!(stored, [(DependencyName::parse("database").unwrap(), over(1_800))]);
        write(folder.path(), &Held::default()).unwrap();
        assert_eq!(read(folder.path(), NOW), []);
    }

    #[test]
    fn an_end_is_the_calendars_and_no_later_than_any_may_be() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &held(over(3_600))).unwrap();
        // Another process, half an hour later: its monotonic clock began anew.
        let later = Now { mono: Monotonic::ZERO, wall: NOW.wall_at(NOW.mono + Duration::from_secs(1_800)) };
        let [(_, restored)] = &read(folder.path(), later)[..] else { panic!("one is there") };
        assert_eq!(restored.expires.mono.since_origin(), Duration::from_secs(1_800));
        assert_eq!(restored.expires.wall, over(3_600).expires.wall);

        // The calendar was set back by a year.
        let before =
            Now { wall: WallTime::from_unix_millis(NOW.wall.unix_millis() - 365 * 86_400_000), ..NOW };
        let [(_, restored)] = &read(folder.path(), before)[..] else { panic!("one is there") };
        assert_eq!(restored.expires.mono.since_origin(), FOR_AT_MOST);
        assert_eq!(restored.expires.wall, before.wall_at(restored.expires.mono));
    }

    #[test]
    fn what_cannot_be_used_is_set_aside_and_the_newest_stay() {
        let well = |field: &str, value: &str| {
            let mut stored = serde_json::json!({
                "dependency": "database", "mode": "forced_open", "reason": "why", "actor": "admin",
                "since": "2027-01-15T08:00:00.000Z", "expires_at": "2027-01-15T09:00:00.000Z", "readiness": "count",
            });
            stored[field] = value.into();
            serde_json::json!({"version": 1, "overrides": [stored]}).to_string()
        };
        assert_eq!(parse(&well("mode", "forced_closed"), NOW).unwrap().len(), 1);
        let long = "x".repeat(TEXT_MAX + 1);
        let bad = [
            String::new(),
            "{\"version\": 1, \"overrides\": [".into(),
            "\u{0}".repeat(100),
            "{\"version\": 2, \"people\": []}".into(),
            "{\"version\": 1, \"overrides\": [], \"more\": 1}".into(),
            well("dependency", "../etc"),
            well("mode", "open"),
            well("reason", ""),
            well("reason", "a\nb"),
            well("actor", &long),
            well("since", "yesterday"),
            well("expires_at", "2027-13-01"),
            well("readiness", "maybe"),
            well("other", "field"),
            " ".repeat(usize::try_from(FILE_LIMIT).unwrap() + 1),
        ];
        let folder = tempfile::tempdir().unwrap();
        for (n, text) in bad.iter().enumerate() {
            fs::write(folder.path().join(FILE), text).unwrap();
            let at = Now { wall: WallTime::from_unix_millis(1_000 * i64::try_from(n).unwrap()), ..NOW };
            assert_eq!(read(folder.path(), at), [], "{text:.100}");
            assert!(!folder.path().join(FILE).exists(), "{text:.100}");
            assert!(folder.path().join(format!("{DAMAGED}{n}")).exists());
        }
        assert_eq!(names(folder.path()), ["12", "13", "14"].map(|n| format!("{DAMAGED}{n}")));
    }

    #[tokio::test]
    async fn tells_when_it_is_kept_also_where_it_cannot_be() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path().to_owned(), folder.path().join("none")] {
            let (tell, told) = watch::channel(Held::default());
            let (kept, keeping) = keep(Some(folder_at(&path)), told);
            let keeping = tokio::spawn(keeping);
            tell.send_replace(held(over(60)));
            kept.clone().until_kept().await;
            assert_eq!(*kept.written.as_ref().unwrap().version.borrow(), 1, "it did not just wait in vain");
            assert_eq!(read(&path, NOW).len(), usize::from(path.exists()));
            drop((tell, kept));
            keeping.await.unwrap();
        }
    }

    #[test]
    fn what_lies_where_it_is_written_is_neither_waited_for_nor_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (new, other) = (folder.path().join(FILE_NEW), folder.path().join("other"));
        fs::write(&other, "of somebody else").unwrap();
        std::os::unix::fs::symlink(&other, &new).unwrap();
        write(folder.path(), &held(over(60))).unwrap();
        assert_eq!(fs::read_to_string(&other).unwrap(), "of somebody else");

        assert!(std::process::Command::new("mkfifo").arg(&new).status().unwrap().success());
        let path = folder.path().to_owned();
        let (done, result) = std::sync::mpsc::channel();
        std::thread::spawn(move || done.send(write(&path, &held(over(1_800))).map_err(|e| e.to_string())));
        assert_eq!(result.recv_timeout(Duration::from_secs(10)), Ok(Ok(())));
        assert_eq!(read(folder.path(), NOW)[0].1, over(1_800));
        assert_eq!(names(folder.path()), ["other", FILE]);
    }

    #[test]
    fn what_is_written_can_be_read_however_many_there_are() {
        let folder = tempfile::tempdir().unwrap();
        let longest = Override { reason: "𝕏".repeat(TEXT_MAX), ..over(60) };
        let many = |count| Held {
            version: 1,
            overrides: vec![(DependencyName::parse("database").unwrap(), Arc::new(longest.clone())); count],
        };
        write(folder.path(), &many(4_000)).unwrap();
        assert_eq!(read(folder.path(), NOW).len(), 4_000);
        assert!(write(folder.path(), &many(9_000)).is_err(), "told, and not written");
        assert_eq!(read(folder.path(), NOW).len(), 4_000, "what was there is there");
    }

    /// A start that did not wait for the folder, what the folder is to answer, and what is held meanwhile.
    async fn start_late(
        path: &Path,
    ) -> (Folder, tokio::sync::oneshot::Sender<()>, watch::Sender<Held>, watch::Receiver<Held>) {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let folder = path.to_owned();
        let reading = Box::pin(async move {
            answered.await.map_err(io::Error::other)?;
            Ok(read(&folder, NOW))
        });
        let (restored, folder) = restore_from(reading, path, &[], NOW).await;
        assert!(restored.is_empty());
        let (tell, told) = watch::channel(Held::default());
        (folder, answer, tell, told)
    }

    async fn a_while() {
        tokio::time::sleep(Duration::from_secs(60)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_written_over_what_has_not_been_read() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &held(over(60))).unwrap();
        let before = fs::read(folder.path().join(FILE)).unwrap();
        let (late, answer, tell, told) = start_late(folder.path()).await;
        let (kept, keeping) = keep(Some(late), told);
        let keeping = tokio::spawn(keeping);
        let mut written = kept.written.clone().unwrap();
        tell.send_replace(held(over(1_800)));
        kept.clone().until_kept().await;
        assert!(written.in_vain.load(Ordering::Relaxed), "which is told");
        a_while().await;
        assert_eq!(names(folder.path()), [FILE]);
        assert_eq!(fs::read(folder.path().join(FILE)).unwrap(), before);

        answer.send(()).unwrap();
        written.version.wait_for(|version| *version == 1).await.unwrap();
        assert!(!written.in_vain.load(Ordering::Relaxed), "that it is kept again is told");
        let aside = format!("{DAMAGED}{}", NOW.wall.unix_millis() / 1_000);
        assert_eq!(names(folder.path()), [FILE.to_owned(), aside.clone()]);
        assert_eq!(fs::read(folder.path().join(aside)).unwrap(), before, "nothing is lost");
        assert_eq!(read(folder.path(), NOW)[0].1, over(1_800));
        drop((tell, kept));
        keeping.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_read_late_stays_for_the_next_start_where_nothing_is_ordered() {
        for (stored, wanted) in [(true, 1), (false, 0)] {
            let folder = tempfile::tempdir().unwrap();
            if stored {
                write(folder.path(), &held(over(3_600))).unwrap();
            }
            let (late, answer, tell, told) = start_late(folder.path()).await;
            let (_, keeping) = keep(Some(late), told);
            let keeping = tokio::spawn(keeping);
            answer.send(()).unwrap();
            a_while().await;
            drop(tell);
            keeping.await.unwrap();
            assert_eq!(read(folder.path(), NOW).len(), wanted);
            assert_eq!(names(folder.path()), [FILE], "an empty one is written where there was none");
        }
    }
}
