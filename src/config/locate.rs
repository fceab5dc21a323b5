//! Finds the lines of what was found wrong.
//!
//! The parser tells positions in its errors and nowhere else. So a file that holds something wrong is parsed once
//! more, and each key and element that is looked for fails on purpose: its error tells the place, and the parsing
//! goes on behind it. One pass finds all places, and it costs nothing as long as nothing is wrong.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::path::{Path, Step};

/// Line and column, from 1.
pub(super) type Position = (usize, usize);

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
    /// Where each path ends: at its key or element, or at the last one on the way that there is.
    pub(super) fn locate(&self, paths: &[&Path]) -> Vec<Option<Position>> {
        let mut wanted = Wanted::default();
        let paths: Vec<_> = paths.iter().map(|path| self.as_written(path)).collect();
        paths.iter().flatten().for_each(|steps| wanted.add(steps));
        let document = serde_yaml::Deserializer::from_str(&self.text);
        // What cannot be read once more leaves the rest without lines.
        let _ = Seek { wanted: Some(&wanted), place: None }.deserialize(document);
        paths.iter().map(|steps| wanted.found(steps.as_ref()?)).collect()
    }

    /// The path with the place in the list instead of a dependency's name.
    fn as_written(&self, path: &Path) -> Option<Vec<Step>> {
        let mut steps = path.steps().to_vec();
        if let [Step::Key(section), dependency @ Step::Key(_), ..] = steps.as_mut_slice()
            && section == "dependencies"
        {
            let index = self.dependencies.iter().position(|name| Step::Key(name.clone()) == *dependency)?;
            *dependency = Step::Index(index);
        }
        Some(steps)
    }
}

/// What is looked for, and what was found of it.
#[derive(Debug, Default)]
struct Wanted {
    place: Place,
    below: BTreeMap<Step, Wanted>,
}

type Place = Cell<Option<Position>>;

impl Wanted {
    fn add(&mut self, steps: &[Step]) {
        if let [first, rest @ ..] = steps {
            self.below.entry(first.clone()).or_default().add(rest);
        }
    }

    /// The place of the last step that was found.
    fn found(&self, steps: &[Step]) -> Option<Position> {
        let below = || self.below.get(steps.first()?)?.found(&steps[1..]);
        below().or(self.place.get())
    }
}

/// Stands in the errors that are made on purpose.
const HERE: &str = "the place that is looked for";

fn here<T, E: de::Error>() -> Result<T, E> {
    Err(E::custom(HERE))
}

/// What an error that was made on purpose says of its place; `None` of one that was not. The parser writes
/// `path: message at line 2 column 3`, and no place for the very beginning.
fn position(error: &impl fmt::Display) -> Option<Position> {
    let text = error.to_string();
    let (_, place) = text.rsplit_once(HERE)?;
    let numbers = place.strip_prefix(" at line ").and_then(|place| place.split_once(" column "));
    let Some((line, column)) = numbers else { return Some((1, 1)) };
    Some((line.parse().ok()?, column.parse().ok()?))
}

/// Reads a value for what is wanted below it. With a `place`, its own is told by the first scalar or key in it.
#[derive(Clone, Copy)]
struct Seek<'a> {
    wanted: Option<&'a Wanted>,
    place: Option<&'a Place>,
}

impl Seek<'_> {
    fn scalar<E: de::Error>(self) -> Result<(), E> {
        if self.place.is_some() { here() } else { Ok(()) }
    }

    /// Takes the position that the failure of this very value told.
    fn tell(self, position: Position) {
        if let Some(place) = self.place {
            place.set(Some(position));
        }
    }
}

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.wanted.is_none() && self.place.is_none() {
            return deserializer.deserialize_ignored_any(IgnoredAny).map(|_| ());
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.scalar()
    }

    fn visit_none<E: de::Error>(self) -> Result<(), E> {
        self.scalar()
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<(), E> {
        self.scalar()
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<(), E> {
        self.scalar()
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<(), E> {
        self.scalar()
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<(), E> {
        self.scalar()
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<(), E> {
        self.scalar()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let mut place = self.place;
        for index in 0.. {
            let wanted = self.wanted.and_then(|wanted| wanted.below.get(&Step::Index(index)));
            let own = wanted.map(|wanted| &wanted.place);
            let seek = Seek { wanted, place: own.or(place) };
            match elements.next_element_seed(seek) {
                Ok(Some(())) => {}
                Ok(None) => break,
                Err(error) => seek.tell(position(&error).ok_or(error)?),
            }
            // The list stands where its first element stands.
            if let (Some(list), Some(first)) = (place.take(), seek.place) {
                list.set(first.get());
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut place = self.place;
        loop {
            let found = Cell::new(None);
            let key = SeekKey { wanted: self.wanted, fails: place.is_some(), found: &found };
            let position = match entries.next_key_seed(key) {
                Ok(Some(())) => None,
                Ok(None) => return Ok(()),
                Err(error) => Some(position(&error).ok_or(error)?),
            };
            // The map stands where its first key stands.
            if let Some(map) = place.take() {
                map.set(position);
            }
            if let Some(wanted) = found.get() {
                wanted.place.set(position);
            }
            entries.next_value_seed(Seek { wanted: found.get(), place: None })?;
        }
    }
}

/// Fails at a key that is wanted, or in any case, and tells which it was.
struct SeekKey<'a, 'k> {
    wanted: Option<&'a Wanted>,
    fails: bool,
    found: &'k Cell<Option<&'a Wanted>>,
}

impl<'de> DeserializeSeed<'de> for SeekKey<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for SeekKey<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<(), E> {
        let found = self.wanted.and_then(|wanted| wanted.below.get(&Step::Key(key.to_owned())));
        self.found.set(found);
        if self.fails || found.is_some() { here() } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(text: &str, paths: &[Path]) -> Vec<Option<Position>> {
        let dependencies = vec!["a".into(), "b".into()];
        let source = Source { name: "f".into(), text: text.to_owned(), dependencies };
        source.locate(&paths.iter().collect::<Vec<_>>())
    }

    #[test]
    fn finds_keys_elements_and_the_last_that_there_is_in_one_pass() {
        let text = "service:\n  name: x\n\ndependencies:\n  - name: a\n    tls: true\n  - {name: b, list: [1,\n 2, [3], [], {}],\n  x: {y: 1}}\n";
        let list = Path::of("dependencies.b.list");
        let (paths, expected): (Vec<_>, Vec<_>) = [
            (Path::of("dependencies.b.x.y"), Some((9, 7))),
            (Path::of("service"), Some((1, 1))),
            (Path::of("service.name"), Some((2, 3))),
            (Path::of("service.nothing"), Some((1, 1))),
            (Path::of("dependencies.a"), Some((5, 5))),
            (Path::of("dependencies.a.tls"), Some((6, 5))),
            (Path::of("dependencies.a.tls.enabled"), Some((6, 5))),
            (Path::of("dependencies.b"), Some((7, 6))),
            (Path::of("dependencies.b.name"), Some((7, 6))),
            (Path::of("dependencies").index(1).key("name"), Some((7, 6))),
            (list.clone(), Some((7, 15))),
            (list.index(1), Some((8, 2))),
            (list.index(2), Some((8, 6))),
            (list.index(2).index(0), Some((8, 6))),
            (list.index(3), Some((7, 15))),
            (list.index(5), Some((7, 15))),
            (Path::of("dependencies.c"), None),
            (Path::of("nothing"), None),
        ]
        .into_iter()
        .unzip();
        for ((path, found), expected) in paths.iter().zip(places(text, &paths)).zip(expected) {
            assert_eq!(found, expected, "{path}");
        }
    }

    /// What is wanted stands behind an alias as well, and a text that looks like a place is none.
    #[test]
    fn is_not_misled() {
        let text = "a: &x {b: 1}\nc: *x\n'the place that is looked for at line 7 column 7': {d: {e: 1}}\n";
        let key = Path::default().key("the place that is looked for at line 7 column 7");
        let found = places(text, &[Path::of("c.b"), key.key("d"), key.key("d").key("e")]);
        assert_eq!(found, [Some((1, 8)), Some((3, 53)), Some((3, 57))]);
    }

    #[test]
    fn a_list_of_thousands_is_searched_once() {
        let entries: String = (0..2000).map(|n| format!("- {n}\n")).collect();
        let paths: Vec<_> = (0..2000).map(|n| Path::of("l").index(n)).collect();
        let found = places(&format!("l:\n{entries}"), &paths);
        assert!(found.iter().enumerate().all(|(n, place)| *place == Some((n + 2, 3))));
    }
}
