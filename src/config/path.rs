//! Where a value stands: `dependencies.database.port`, `dependencies.mlflow.expect.status[1]`.

use std::fmt;

/// A path into the configuration. Dependencies go by name; one that has none goes by its place: `dependencies[2]`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Path(Vec<Step>);

/// One step down.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// Into a map.
    Key(String),
    /// Into a list; also into the map of dependencies, where an entry has no name.
    Index(usize),
}

impl Path {
    /// A path of keys, written with dots.
    pub(super) fn of(text: &str) -> Self {
        Self(text.split('.').map(|key| Step::Key(key.to_owned())).collect())
    }

    /// The path of what stands under `key`. A dependency without a name is kept under its place, `[2]`.
    pub(super) fn key(&self, key: &str) -> Self {
        let place =
            key.strip_prefix('[').and_then(|key| key.strip_suffix(']')).and_then(|key| key.parse().ok());
        self.step(place.map_or_else(|| Step::Key(key.to_owned()), Step::Index))
    }

    /// The path of a list's element.
    pub(super) fn index(&self, index: usize) -> Self {
        self.step(Step::Index(index))
    }

    /// This path and one step more.
    pub(super) fn step(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }

    /// This path and then that one.
    pub(super) fn join(&self, rest: &Path) -> Self {
        Self(self.0.iter().chain(&rest.0).cloned().collect())
    }

    /// Puts a step before this path: how a path is built on the way out of a recursion.
    pub(super) fn push_front(&mut self, step: Step) {
        self.0.insert(0, step);
    }

    /// The steps, from the top.
    pub(super) fn steps(&self) -> &[Step] {
        &self.0
    }

    /// Whether `self` is `upper` or below it.
    pub(super) fn within(&self, upper: &Path) -> bool {
        self.0.starts_with(&upper.0)
    }

    /// Whether it is the top itself.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A key as it may be shown. What does not look like a key may be a value whose colon lost its space
/// (`{password:hunter2}` is a map with one odd key), and that value may be a secret.
pub(super) fn shown_key(key: &str) -> Option<&str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    (!key.is_empty() && key.len() <= 64 && key.chars().all(plain)).then_some(key)
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) => {
                    let dot = if n == 0 { "" } else { "." };
                    write!(f, "{dot}{}", shown_key(key).unwrap_or("<key>"))?;
                }
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// As it is shown, because the keys may be no keys.
impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_like_the_file() {
        let path = Path::of("dependencies.mlflow.expect.status").index(1);
        assert_eq!(path.to_string(), "dependencies.mlflow.expect.status[1]");
        assert_eq!(Path::of("dependencies").index(2).key("port").to_string(), "dependencies[2].port");
        assert_eq!(Path::of("dependencies").key("[2]"), Path::of("dependencies").index(2));
        assert_eq!(Path::default().key("listen").to_string(), "listen");
    }

    #[test]
    fn does_not_show_a_key_that_may_be_a_value() {
        assert_eq!(Path::of("service").key("password:hunter2").to_string(), "service.<key>");
    }
}
