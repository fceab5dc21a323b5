//! A place in the tree while it is validated: what stands there for error texts, and where errors go.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::duration::{HumanDuration, format_duration};
use crate::config::errors::{ConfigError, Errors, quoted, quoted_address};
use crate::config::host;
use crate::config::origin::Origin;
use crate::config::path::Path;
use crate::config::secret::Secret;
use crate::config::tree::{Content, Node};

/// A place in the tree.
#[derive(Clone)]
pub(super) struct Cursor<'a> {
    root: &'a Node,
    errors: &'a Errors,
    path: Path,
}

/// No duration of a configuration is longer: a check once a day is no health check, and what is far longer
/// overflows clocks.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

impl<'a> Cursor<'a> {
    /// The top.
    pub(super) fn new(root: &'a Node, errors: &'a Errors) -> Self {
        Self { root, errors, path: Path::default() }
    }

    /// One step down.
    pub(super) fn key(&self, key: &str) -> Self {
        Self { path: self.path.key(key), ..self.clone() }
    }

    /// An element of the list that stands here.
    pub(super) fn index(&self, index: usize) -> Self {
        Self { path: self.path.index(index), ..self.clone() }
    }

    /// The values that were read of the list that stands here, each with its place. An element that could not be
    /// read is not among the values; the places of those behind it are still the ones in the file.
    pub(super) fn elements<T>(&self, values: Vec<T>) -> impl Iterator<Item = (Self, T)> + use<'a, T> {
        let read = |at: &Self| !at.errors.any_at(&at.path);
        let places: Vec<_> = (0..).map(|n| self.index(n)).filter(read).take(values.len()).collect();
        places.into_iter().zip(values)
    }

    /// Where this is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where errors go.
    pub(super) fn errors(&self) -> &'a Errors {
        self.errors
    }

    /// The entries of the map that stands here.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'a String, &'a Node)> + use<'a> {
        self.node().and_then(Node::map).into_iter().flatten()
    }

    fn node(&self) -> Option<&'a Node> {
        self.root.get(&self.path)
    }

    /// Which layer said it, if one did.
    pub(super) fn origin(&self) -> Option<&'a Origin> {
        self.node().map(|node| &node.origin)
    }

    /// Whether somebody else than we said it.
    pub(super) fn explicit(&self) -> bool {
        self.origin().is_some_and(|origin| *origin != Origin::Default)
    }

    /// What was read from secret files here and below.
    pub(super) fn secret_texts(&self) -> Vec<Secret> {
        let texts = self.node().map(|node| node.secret_texts()).unwrap_or_default();
        texts.into_iter().map(Secret::new).collect()
    }

    /// Whether it holds the content of a secret file.
    pub(super) fn secret(&self) -> bool {
        self.node().is_some_and(|node| node.secret)
    }

    /// The secret that stands here, unless it is empty. It knows the file whose content it is, so that it can be
    /// read again.
    pub(super) fn filled(&self, secret: Option<Secret>) -> Option<Secret> {
        let file = self.node().and_then(|node| node.file.clone());
        secret.filter(|secret| !secret.expose().is_empty()).map(|secret| secret.of_file(file))
    }

    /// Whether it is a list that was written with nothing in it.
    pub(super) fn empty_list(&self) -> bool {
        matches!(self.node().map(|node| &node.content), Some(Content::List(list)) if list.is_empty())
    }

    /// What stands here, as it was written and an error may name it.
    pub(super) fn found(&self) -> String {
        self.node().map_or_else(|| "nothing".to_owned(), Node::shown)
    }

    /// A value that stands here, as an error may name it.
    pub(super) fn shown(&self, value: &str) -> String {
        self.shown_by(value, quoted)
    }

    /// The same where an address may stand.
    pub(super) fn shown_address(&self, value: &str) -> String {
        self.shown_by(value, quoted_address)
    }

    fn shown_by(&self, value: &str, quoted: fn(&str) -> String) -> String {
        if self.secret() {
            "the value (not shown: it comes from a secret file)".to_owned()
        } else {
            quoted(value)
        }
    }

    /// Records that what stands here is wrong.
    pub(super) fn refuse(&self, error: ConfigError) {
        self.errors.push(error.at(self.path.clone()).from(self.origin().cloned()));
    }

    /// Records that nothing stands here.
    pub(super) fn required(&self, advice: &str) {
        self.missing(|error| error.advice(advice));
    }

    /// Records that nothing stands here where one of these has to.
    pub(super) fn required_of(&self, allowed: &str, advice: &str) {
        self.missing(|error| error.allowed(allowed).advice(advice));
    }

    fn missing(&self, complete: impl FnOnce(ConfigError) -> ConfigError) {
        let error = ConfigError::new(format!("`{}` is required", self.last()));
        // Who should have said it: who spoke of the nearest thing above it that there is.
        let origin = self.root.nearest(&self.path).origin.clone();
        let origin = Some(origin).filter(|origin| *origin != Origin::Default);
        self.errors.push(complete(error.at(self.path.clone()).from(origin)));
    }

    /// Records that somebody unset what we had set.
    pub(super) fn unset(&self) {
        self.required("set it, or leave it out for the compiled-in default");
    }

    fn last(&self) -> String {
        let text = self.path.to_string();
        text.rsplit('.').next().unwrap_or_default().to_owned()
    }

    /// The number, if it is in the range; 1 for what was refused.
    pub(super) fn number(&self, value: u64, range: RangeInclusive<u32>) -> NonZeroU32 {
        match u32::try_from(value).ok().filter(|value| range.contains(value)).and_then(NonZeroU32::new) {
            Some(value) => value,
            None => {
                let what = format!("{} is out of range", self.shown(&value.to_string()));
                self.refuse(ConfigError::new(what).allowed(format!("{} to {}", range.start(), range.end())));
                NonZeroU32::MIN
            }
        }
    }

    /// The port; 1 for what was refused.
    pub(super) fn port(&self, value: u64) -> u16 {
        u16::try_from(self.number(value, 1..=65535).get()).unwrap_or(1)
    }

    /// The duration, if it is at least `least` and at most a day.
    pub(super) fn duration(&self, value: HumanDuration, least: Duration) -> Duration {
        self.duration_within(value, least..=LONGEST)
    }

    /// The duration, if it is in the range.
    pub(super) fn duration_within(
        &self,
        HumanDuration(value): HumanDuration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        if !range.contains(&value) {
            let what = format!("{} is out of range", self.shown(&format_duration(value)));
            let [least, most] = [range.start(), range.end()].map(|end| format_duration(*end));
            self.refuse(ConfigError::new(what).allowed(format!("{least} to {most}")));
        }
        value
    }

    /// A host: a name or an address, nothing else. An IPv6 address loses its brackets.
    pub(super) fn host(&self, value: String) -> String {
        if let Some(address) = host::address(&value) {
            return address.to_string();
        }
        let refuse = |what: &str, advice: &str| {
            let what = format!("{} is {what}", self.shown_address(&value));
            self.refuse(ConfigError::new(what).allowed("a host name or an IP address").advice(advice));
        };
        if value.contains("://") {
            refuse("a URL and no host", "write its host alone");
        } else if value.starts_with('/') {
            refuse("a path and no host", "Unix sockets are not supported");
        } else if host::has_a_zone(&value) {
            refuse("an address with a zone identifier", host::NO_ZONES);
        } else if value.contains(':') {
            let variable = match self.origin() {
                Some(Origin::Variable(name)) => name.strip_suffix("_HOST"),
                _ => None,
            };
            let elsewhere = variable.map_or_else(|| "`port`".to_owned(), |of| format!("{of}_PORT"));
            refuse("no host", &format!("write the port into {elsewhere}"));
        } else if host::ends_in_a_number(&value) {
            refuse("no IPv4 address, and no name ends in a number", "correct it");
        } else if !host::is_name(&value) {
            refuse("no host", "correct it");
        }
        value
    }

    /// A text that is to be shown and used as a name, and so cannot be secret.
    pub(super) fn public(&self, value: String) -> String {
        if self.secret() {
            let error = ConfigError::new("a name cannot come from a secret file");
            self.refuse(error.advice("write the name, it is shown everywhere"));
        } else if value.is_empty() || value.len() > 255 || value.chars().any(char::is_control) {
            let what = format!("{} is no name", self.shown(&value));
            self.refuse(ConfigError::new(what).allowed("1 to 255 characters"));
        }
        value
    }
}
