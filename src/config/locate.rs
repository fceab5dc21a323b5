//! Finds the line of a value that was found wrong.
//!
//! The parser tells positions in its errors and nowhere else. So the file is parsed once more, along the path,
//! and the parsing fails on purpose where the path ends. That costs nothing as long as nothing is wrong.

use std::fmt;
use std::sync::Arc;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::path::{Path, Step};

/// A file that was read.
#[derive(Debug)]
pub(super) struct Source {
    /// As its origin calls it.
    pub(super) name: Arc<str>,
    /// Its text.
    pub(super) text: String,
    /// The names of its dependencies, in their order: paths have names where the file has a list.
    pub(super) dependencies: Vec<String>,
}

impl Source {
    /// Line and column, from 1, of the key or element where `path` ends, or of the last one on the way that
    /// there is.
    pub(super) fn locate(&self, path: &Path) -> Option<(usize, usize)> {
        let mut steps = path.steps().to_vec();
        if let [Step::Key(section), dependency @ Step::Key(_), ..] = steps.as_mut_slice()
            && section == "dependencies"
        {
            let index = self.dependencies.iter().position(|name| Step::Key(name.clone()) == *dependency)?;
            *dependency = Step::Index(index);
        }
        let document = serde_yaml::Deserializer::from_str(&self.text);
        let error = Seek(&steps).deserialize(document).err()?;
        error.location().map(|at| (at.line(), at.column()))
    }
}

/// Fails at the end of the path. Scalars fail by what a visitor does unless told otherwise.
#[derive(Clone, Copy)]
struct Seek<'a>(&'a [Step]);

fn here<T, E: de::Error>() -> Result<T, E> {
    Err(E::custom("here"))
}

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the end of the path")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let [Step::Index(index), rest @ ..] = self.0 else { return here() };
        for _ in 0..*index {
            elements.next_element::<IgnoredAny>()?;
        }
        elements.next_element_seed(Seek(rest))?;
        here()
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let [Step::Key(key), rest @ ..] = self.0 else { return here() };
        while let Some(found) = entries.next_key_seed(SeekKey { key, last: rest.is_empty() })? {
            if found {
                return entries.next_value_seed(Seek(rest));
            }
            entries.next_value::<IgnoredAny>()?;
        }
        here()
    }
}

/// Tells whether this is the key; fails there if the path ends with it.
struct SeekKey<'a> {
    key: &'a str,
    last: bool,
}

impl<'de> DeserializeSeed<'de> for SeekKey<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for SeekKey<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<bool, E> {
        if key == self.key && self.last { here() } else { Ok(key == self.key) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_keys_elements_and_the_last_that_there_is() {
        let text = "service:\n  name: x\n\ndependencies:\n  - name: a\n    tls: true\n  - {name: b, list: [1,\n 2]}\n";
        let source =
            Source { name: "f".into(), text: text.to_owned(), dependencies: vec!["a".into(), "b".into()] };
        for (path, position) in [
            (Path::of("service"), (1, 1)),
            (Path::of("service.name"), (2, 3)),
            (Path::of("dependencies.a"), (5, 5)),
            (Path::of("dependencies.a.tls"), (6, 5)),
            (Path::of("dependencies.a.tls.enabled"), (6, 10)),
            (Path::of("dependencies.b.name"), (7, 6)),
            (Path::of("dependencies").index(1).key("name"), (7, 6)),
            (Path::of("dependencies.b.list").index(1), (8, 2)),
        ] {
            assert_eq!(source.locate(&path), Some(position), "{path}");
        }
        assert_eq!(source.locate(&Path::of("dependencies.c")), None);
    }
}
