//! Keeps overrides in the state folder, so that one which holds for hours does not end with the process that was told of
//! it.
//!
//! The file `overrides.json` is replaced as a whole, written beside its place and renamed, whenever an override begins or
//! ends: whatever cuts that short, the old file or the new one is there. What is found there and cannot be used is set
//! aside and told; neither it nor a folder that takes no file keeps an agent from starting, or an order from being
//! obeyed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::Level;

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

/// A file is no larger: each override takes a few hundred bytes.
const FILE_LIMIT: u64 = 1024 * 1024;

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

/// What the folder holds for these dependencies. What is of no use is told, and dropped.
pub(super) async fn restore(folder: &Path, dependencies: &[DependencyPlan], now: Now) -> Restored {
    let path = folder.to_owned();
    let reading = tokio::task::spawn_blocking(move || read(&path, now));
    let stored = match tokio::time::timeout(READ_WITHIN, reading).await {
        Ok(Ok(stored)) => stored,
        // A panic has been told.
        Ok(Err(_panicked)) => Vec::new(),
        Err(_late) => {
            tracing::error!(
                folder = %folder.display(),
                "the state folder does not answer within {} s: the agent starts without the overrides that it may hold; see what is mounted there",
                READ_WITHIN.as_secs()
            );
            Vec::new()
        }
    };
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
            "the file of overrides {why}; it is set aside, and the agent starts without the overrides that it may hold: see there what was held, and order it again"
        ),
        Err(error) => tracing::error!(
            file = %file.display(),
            "the file of overrides {why}, and cannot be set aside: {error}; the agent starts without the overrides that it may hold: remove the file"
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

/// Writes the overrides in force, in one step for whoever reads the file.
fn write(folder: &Path, held: &Held) -> io::Result<()> {
    let overrides = held.overrides.iter().map(|(name, over)| StoredOverride::new(name, over)).collect();
    let mut text = serde_json::to_vec_pretty(&Stored { version: VERSION, overrides })?;
    text.push(b'\n');
    let new = folder.join(FILE_NEW);
    // Reasons are for colleagues, not for whoever else has an account.
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
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
    /// The version that was written last; `None` where there is no folder.
    written: Option<watch::Receiver<u64>>,
}

impl Kept {
    /// Waits until the overrides in force have been written, or cannot be; not for long.
    pub(super) async fn until_kept(mut self) {
        let Some(written) = &mut self.written else { return };
        let wanted = self.held.borrow().version;
        // Who keeps them is gone when the agent is about to be.
        let _ = tokio::time::timeout(KEPT_WITHIN, written.wait_for(|version| *version >= wanted)).await;
    }
}

/// Keeps what is held in a folder, where there is one. The future runs as long as anything can be held.
pub(super) fn keep(folder: Option<PathBuf>, held: watch::Receiver<Held>) -> (Kept, impl Future<Output = ()>) {
    let (tell, written) = watch::channel(0);
    let kept = Kept { held: held.clone(), written: folder.is_some().then_some(written) };
    let keeping = async move {
        if let Some(folder) = folder {
            keep_in(folder, held, tell).await;
        }
    };
    (kept, keeping)
}

/// Writes at the start, too: a folder that takes no file is better known before the first override.
async fn keep_in(folder: PathBuf, mut held: watch::Receiver<Held>, written: watch::Sender<u64>) {
    let folder: Arc<Path> = folder.into();
    let mut told = None;
    loop {
        let now_held = held.borrow_and_update().clone();
        let (version, path) = (now_held.version, Arc::clone(&folder));
        // Files are written: not on a thread that others wait for.
        let writing = tokio::task::spawn_blocking(move || write(&path, &now_held));
        let failed = writing.await.unwrap_or_else(|error| Err(io::Error::other(error))).err();
        let failed = failed.map(|error| error.to_string());
        match &failed {
            Some(error) if told != failed => tracing::error!(
                folder = %folder.display(),
                "overrides cannot be kept in the state folder: {error}; they are in force, but a restart would find what the folder held before: let `server.state_dir` be a folder that this user (uid {}) can write to, on a volume with room",
                rustix::process::geteuid().as_raw()
            ),
            None if told.is_some() => {
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

    fn names(folder: &Path) -> Vec<String> {
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        let mut names: Vec<String> = fs::read_dir(folder).unwrap().map(name).collect();
        names.sort();
        names
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
            let (kept, keeping) = keep(Some(path.clone()), told);
            let keeping = tokio::spawn(keeping);
            tell.send_replace(held(over(60)));
            kept.clone().until_kept().await;
            assert_eq!(*kept.written.as_ref().unwrap().borrow(), 1, "it did not just wait in vain");
            assert_eq!(read(&path, NOW).len(), usize::from(path.exists()));
            drop((tell, kept));
            keeping.await.unwrap();
        }
    }
}
