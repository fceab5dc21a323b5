//! What is wrong with a configuration: all of it at once, because correcting one error per restart of a task
//! is a slow way to learn.
//!
//! An error says what, where, what is allowed, what to do. It never shows a secret: what may be one is not
//! quoted (see `quoted`), and a parser's own text is used only where it quotes nothing.

use std::cell::RefCell;
use std::fmt;

use super::host;
use super::locate::Source;
use super::origin::Origin;
use super::path::Path;
use crate::files::Seen;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    what: Box<str>,
    path: Path,
    origin: Option<Origin>,
    position: Option<(usize, usize)>,
    allowed: Option<Box<str>>,
    advice: Option<Box<str>>,
}

impl ConfigError {
    /// What is wrong; the other parts are added.
    #[cfg_attr(test, track_caller)]
    pub(super) fn new(what: impl Into<String>) -> Self {
        #[cfg(test)]
        told::note();
        let what = what.into().into();
        Self { what, path: Path::default(), origin: None, position: None, allowed: None, advice: None }
    }

    /// Where.
    pub(super) fn at(self, path: Path) -> Self {
        Self { path, ..self }
    }

    /// Who said it.
    pub(super) fn from(self, origin: Option<Origin>) -> Self {
        Self { origin, ..self }
    }

    /// Line and column, from 1.
    pub(super) fn position(self, position: Option<(usize, usize)>) -> Self {
        Self { position, ..self }
    }

    fn is_of(&self, file: &Source) -> bool {
        matches!(&self.origin, Some(Origin::File(name)) if *name == file.name)
    }

    /// What is allowed there.
    pub(super) fn allowed(self, allowed: impl Into<String>) -> Self {
        Self { allowed: Some(allowed.into().into()), ..self }
    }

    /// What to do.
    pub(super) fn advice(self, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into().into()), ..self }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        let position = self.position.map(|(line, column)| format!(", line {line} column {column}"));
        let position = position.unwrap_or_default();
        match (self.path.is_empty(), &self.origin) {
            (true, None) => {}
            (true, Some(origin)) => write!(f, ", in {origin}{position}")?,
            // It has a path for us alone.
            (false, Some(origin @ Origin::Target)) => write!(f, ", in {origin}")?,
            (false, None) => write!(f, ", at {}", self.path)?,
            (false, Some(origin)) => write!(f, ", at {} ({origin}{position})", self.path)?,
        }
        if let Some(allowed) = &self.allowed {
            write!(f, "; allowed: {allowed}")?;
        }
        if let Some(advice) = &self.advice {
            write!(f, "; {advice}")?;
        }
        Ok(())
    }
}

/// All that is wrong; at least one thing. Shown as one line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    errors: Vec<ConfigError>,
    files: Vec<Seen>,
}

impl ConfigErrors {
    /// The errors, in the order of their finding.
    pub fn errors(&self) -> &[ConfigError] {
        &self.errors
    }

    /// The files that were read or looked for: a change of one of them may mend it.
    pub fn files(&self) -> &[Seen] {
        &self.files
    }
}

impl ConfigErrors {
    /// With the files that were read or looked for.
    pub(super) fn having_read(self, files: Vec<Seen>) -> Self {
        Self { files, ..self }
    }

    /// With the lines of what stands in these files, in the order in which one goes through them; what is wrong
    /// elsewhere follows.
    pub(super) fn located(mut self, files: &[Source]) -> Self {
        for file in files {
            let mut wrong: Vec<_> =
                self.errors.iter_mut().filter(|error| error.is_of(file) && !error.path.is_empty()).collect();
            let paths: Vec<_> = wrong.iter().map(|error| &error.path).collect();
            let positions = if paths.is_empty() { Vec::new() } else { file.locate(&paths) };
            for (error, position) in wrong.iter_mut().zip(positions) {
                error.position = position;
            }
        }
        let place = |error: &ConfigError| {
            let file = files.iter().position(|file| error.is_of(file));
            (file.unwrap_or(files.len()), error.position.filter(|_| file.is_some()))
        };
        self.errors.sort_by_key(place);
        self
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, error) in self.errors.iter().enumerate() {
            let line_break = if n == 0 { "" } else { "\n" };
            write!(f, "{line_break}error: {error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// So many errors are told; a file with more is not a configuration, and each costs another pass over it.
const MOST: usize = 100;

/// Where errors are gathered. Shared while the tree is walked, hence the cell.
#[derive(Debug, Default)]
pub(super) struct Errors(RefCell<Vec<ConfigError>>);

impl Errors {
    /// Takes one more. The first at a place wins, there and below: what follows from it (a port that could not
    /// be read is missing afterwards) would only confuse.
    pub(super) fn push(&self, error: ConfigError) {
        let mut errors = self.0.borrow_mut();
        let follows = errors.iter().any(|known| !known.path.is_empty() && error.path.within(&known.path));
        if follows || errors.len() > MOST {
            return;
        }
        let told = match errors.len() {
            MOST => ConfigError::new(format!("more than {MOST} errors")).advice("correct these first"),
            _ => error,
        };
        errors.push(told);
    }

    /// Whether anything was found wrong at `path` or below.
    pub(super) fn any_within(&self, path: &Path) -> bool {
        self.0.borrow().iter().any(|known| known.path.within(path))
    }

    /// Whether the very value at `path` was found wrong.
    pub(super) fn any_at(&self, path: &Path) -> bool {
        self.0.borrow().iter().any(|known| known.path == *path)
    }

    /// Whether no more are told.
    pub(super) fn full(&self) -> bool {
        self.0.borrow().len() > MOST
    }

    /// `value`, if nothing was wrong.
    pub(super) fn unless_any<T>(self, value: T) -> Result<T, ConfigErrors> {
        if self.is_empty() { Ok(value) } else { Err(self.gathered()) }
    }

    /// All that were found; there is one.
    pub(super) fn gathered(self) -> ConfigErrors {
        ConfigErrors { errors: self.0.into_inner(), files: Vec::new() }
    }

    /// Whether nothing was wrong so far.
    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }
}

/// A value as an error may show it. What stands behind a colon may be a password: that of a URL, or that of
/// a key which lost the space behind its colon and became part of the value above it. A long text is rarely
/// helped by being repeated.
pub(super) fn quoted(text: &str) -> String {
    if text.contains([':', '@']) { HIDDEN.to_owned() } else { shortened(text) }
}

/// The same where an address may stand: a host and a port are shown.
pub(super) fn quoted_address(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.[]".contains(c);
    match text.rsplit_once(':') {
        _ if host::has_a_zone(text) => shortened(text),
        Some((host, port)) if port.parse::<u16>().is_ok() && host.chars().all(plain) => shortened(text),
        _ => quoted(text),
    }
}

const HIDDEN: &str = "the value (not shown: it may hold a password)";

fn shortened(text: &str) -> String {
    let short: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    let dots = if text.chars().count() > 60 { "…" } else { "" };
    format!("`{short}{dots}`")
}

/// `name` of the `known` that may have been meant by `written`. None of ours is longer than the longest word
/// that is looked at: comparing takes the product of two lengths.
pub fn similar<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 64;
    if written.len() > LONGEST {
        return None;
    }
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(written, name), name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .min()
        .map(|(_, name)| name)
}

/// The same of names that a configuration made up, of which there may be thousands: the first of them.
pub(super) fn listed_briefly<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 20;
    let mut names = names.into_iter();
    let first = listed(names.by_ref().take(SHOWN));
    match names.count() {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

/// The names as a text: `a`, `b`, `c`.
pub(super) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Where errors were made, so that a test can tell which rules no invalid configuration breaks.
#[cfg(test)]
pub(super) mod told {
    use std::cell::RefCell;
    use std::collections::BTreeSet;
    use std::panic::Location;

    thread_local! {
        static PLACES: RefCell<BTreeSet<(String, u32)>> = RefCell::default();
    }

    #[track_caller]
    pub(super) fn note() {
        let place = Location::caller();
        PLACES.with_borrow_mut(|places| places.insert((place.file().to_owned(), place.line())));
    }

    /// Forgets those of this thread.
    pub(in crate::config) fn forget() {
        PLACES.take();
    }

    /// Those of this thread: file and line.
    pub(in crate::config) fn places() -> BTreeSet<(String, u32)> {
        PLACES.with_borrow(Clone::clone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_where_what_is_allowed_and_what_to_do() {
        let error = ConfigError::new("`0` is too small")
            .at(Path::of("dependencies.database.port"))
            .from(Some(Origin::File("a.yaml".into())))
            .allowed("1 to 65535")
            .advice("correct it");
        assert_eq!(
            error.to_string(),
            "`0` is too small, at dependencies.database.port (file a.yaml); allowed: 1 to 65535; correct it"
        );
    }

    #[test]
    fn one_line_each_and_what_follows_from_an_error_is_not_told() {
        let errors = Errors::default();
        errors.push(ConfigError::new("first").at(Path::of("a")));
        errors.push(ConfigError::new("second").at(Path::of("a")));
        errors.push(ConfigError::new("below").at(Path::of("a.b")));
        errors.push(ConfigError::new("third").at(Path::of("b")));
        let text = errors.unless_any(()).unwrap_err().to_string();
        assert_eq!(text, "error: first, at a\nerror: third, at b");
    }

    #[test]
    fn is_bounded() {
        let errors = Errors::default();
        (0..1000).for_each(|n| errors.push(ConfigError::new(n.to_string())));
        let errors = errors.unless_any(()).unwrap_err();
        assert_eq!(errors.errors().len(), MOST + 1);
        assert!(errors.to_string().ends_with("error: more than 100 errors; correct these first"));
        let errors = Errors::default();
        (0..MOST).for_each(|n| errors.push(ConfigError::new(n.to_string())));
        assert!(!errors.full(), "exactly as many are not more");
        assert_eq!(errors.unless_any(()).unwrap_err().errors().len(), MOST);
    }

    #[test]
    fn lists_some_of_many() {
        assert_eq!(listed_briefly(["a", "b"]), "`a`, `b`");
        let many = listed_briefly(std::iter::repeat_n("a", 5_000));
        assert!(many.ends_with("`a` and 4980 more"), "{many}");
    }

    #[test]
    fn quotes_no_url_nothing_behind_a_colon_and_nothing_long() {
        for text in ["database password:hunter2", "password:hunter2", "a: hunter2", "12:hunter2@"] {
            assert!(!quoted(text).contains("hunter2"));
            assert!(!quoted_address(text).contains("hunter2"));
        }
        assert_eq!(quoted_address("db:80"), "`db:80`");
        assert_eq!(quoted_address("[fe80::1%eth0]"), "`[fe80::1%eth0]`");
        assert_eq!(quoted_address("db password:80"), HIDDEN);
        assert_eq!(quoted("70000"), "`70000`");
        assert!(!quoted("https://u:hunter2@h").contains("hunter2"));
        assert!(!quoted("u:hunter2@h").contains("hunter2"));
        assert_eq!(quoted(&"x".repeat(100)).chars().count(), 63);
        assert_eq!(quoted("a\nb"), "`a\\nb`");
    }

    #[test]
    fn finds_what_was_meant() {
        assert_eq!(similar("intervall", ["interval", "timeout"]), Some("interval"));
        assert_eq!(similar("hots", ["host", "port"]), Some("host"));
        assert_eq!(similar("completely", ["host", "port"]), None);
        let long = "x".repeat(64);
        assert_eq!(similar(&long, [&*long]), Some(&*long));
        assert_eq!(similar(&format!("{long}x"), [&*long]), None, "too long to be looked at");
    }
}
