//! YAML text → tree.
//!
//! The tree is built straight from the parser's events with a budget of values, so that a file whose aliases
//! multiply ("a billion laughs") is refused while it unfolds and not after. What YAML can do and a
//! configuration should not (tags, merge keys, keys that are no text) is refused by name.

use std::cell::{Cell, RefCell};
use std::fmt;

use serde::de::{self, DeserializeSeed, EnumAccess, MapAccess, SeqAccess, Visitor};

use super::decode::fields;
use super::errors::{ConfigError, listed};
use super::origin::Origin;
use super::path::shown_key;
use super::raw::Raw;
use super::tree::{Content, Map, Node};

/// No file has more values than this, keys not counted: room for some 5,000 dependencies, however they are
/// written, and for whoever unfolds aliases a few tens of megabytes.
const MOST_VALUES: usize = 200_000;

/// Nor more text, aliases written out.
const MOST_TEXT: usize = 4 * 1024 * 1024;

/// No configuration is nested deeper than this.
const DEEPEST: usize = 32;

/// Nor has more brackets open at one place.
const MOST_BRACKETS: usize = 1_000;

/// Nor the brackets of 64 levels open around all of the largest file: the sum, over all bytes, of the brackets
/// that are open there.
const MOST_OPEN: usize = 64 * 1024 * 1024;

/// Nor as many directives for tags, which are not supported anyway.
const MOST_TAGS: usize = 100;

const CORRECT: &str = "correct the YAML";

/// The tree of a text, which is to be a map; of an empty text, an empty map.
pub(super) fn parse(text: &str, origin: &Origin) -> Result<Node, ConfigError> {
    let refuse = |error: ConfigError| error.from(Some(origin.clone()));
    if let Some((error, offset)) = takes_long(text) {
        return Err(refuse(error).position(Some(position(text, offset))));
    }
    let mut documents = serde_yaml::Deserializer::from_str(text);
    let Some(document) = documents.next() else {
        return Ok(Node::new(Content::Map(Map::new()), origin));
    };
    let building = Building {
        origin,
        left: Cell::new(MOST_VALUES),
        text_left: Cell::new(MOST_TEXT),
        refusal: RefCell::default(),
    };
    let node = Seed { building: &building, depth: 0 }.deserialize(document).map_err(|error| {
        let position = error.location().map(|at| (at.line(), at.column()));
        match (building.refusal.take(), parsers_words(&error)) {
            (Some(refusal), _) => refuse(refusal).position(position),
            (None, Some(words)) if words.starts_with("repetition limit exceeded") => {
                let error = ConfigError::new("the aliases (`*name`) come to far more than the file has");
                refuse(error.advice("write out what is meant"))
            }
            // They have the position in them.
            (None, Some(words)) => {
                let advice = slip(text, position).unwrap_or(CORRECT);
                refuse(ConfigError::new(format!("not valid YAML: {words}")).advice(advice))
            }
            (None, None) => refuse(ConfigError::new("not valid YAML").advice(CORRECT)).position(position),
        }
    })?;
    if documents.next().is_some() {
        let error = ConfigError::new("the file holds more than one YAML document");
        return Err(refuse(error.advice("write one file per document and give each with --config")));
    }
    match node.content {
        Content::Map(_) => Ok(node),
        Content::Null => Ok(Node::new(Content::Map(Map::new()), origin)),
        _ => {
            let error = ConfigError::new(format!("the file holds {} and no map", node.shown_type()));
            let sections = listed(fields::<Raw>().iter().copied());
            Err(refuse(error.allowed(format!("a map of sections: {sections}"))))
        }
    }
}

/// What to do about the commonest slips, by the line where the parser gave up; it only says what it did not find.
fn slip(text: &str, position: Option<(usize, usize)>) -> Option<&'static str> {
    let (line, column) = position?;
    let line = text.lines().nth(line.checked_sub(1)?)?;
    if line.chars().nth(column.checked_sub(1)?) == Some('\t') {
        return Some("that is a tab: YAML is indented with spaces");
    }
    let flow = line.contains(['{', '[']) && line.contains("${");
    flow.then_some("within `{…}` and `[…]` put every `${…}` in quotes")
}

/// What the parser would take very long for, and the byte where that is certain. It must not see it, because it
/// cannot be stopped.
///
/// It looks at every open bracket again with each token, and at every `%TAG` with each further one. Brackets in
/// texts and comments count as well, as telling them apart takes a parser; hence limits far above `DEEPEST`.
fn takes_long(text: &str) -> Option<(ConfigError, usize)> {
    if let Some((offset, _)) = text.match_indices("%TAG").nth(MOST_TAGS) {
        let what = format!("`%TAG` stands here more than {MOST_TAGS} times, and YAML tags are not supported");
        return Some((ConfigError::new(what).advice("remove it"), offset));
    }
    let (mut open, mut sum) = (0_usize, 0_usize);
    for (offset, byte) in text.bytes().enumerate() {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        sum += open;
        if open > MOST_BRACKETS {
            let what = format!("more than {MOST_BRACKETS} brackets are open");
            return Some((ConfigError::new(what).advice("close them"), offset));
        }
        if sum > MOST_OPEN {
            let what = format!("{open} brackets are open, and too many were in too much of the file");
            return Some((ConfigError::new(what).advice("close them"), offset));
        }
    }
    None
}

/// Line and column of a byte, from 1.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

/// The parser's own words, unless they quote something: what is quoted may be a secret.
fn parsers_words(error: &serde_yaml::Error) -> Option<String> {
    Some(error.to_string()).filter(|words| !words.contains(['"', '`']))
}

struct Building<'a> {
    origin: &'a Origin,
    left: Cell<usize>,
    text_left: Cell<usize>,
    /// Our own reason to stop. It does not travel in the parser's error, which would put the keys before it.
    refusal: RefCell<Option<ConfigError>>,
}

impl Building<'_> {
    /// Takes the length of a text from what is left.
    fn spend<E: de::Error>(&self, text: &str) -> Result<(), E> {
        let Some(left) = self.text_left.get().checked_sub(text.len()) else {
            let what = format!("the file has more than {} MiB of text, aliases written out", MOST_TEXT >> 20);
            return Err(self.refuse(ConfigError::new(what).advice(SPREAD)));
        };
        self.text_left.set(left);
        Ok(())
    }

    fn refuse<E: de::Error>(&self, error: ConfigError) -> E {
        self.refusal.replace(Some(error));
        E::custom("refused")
    }
}

/// The limits are those of one file.
const SPREAD: &str = "spread it over several files, each given with --config";

#[derive(Clone, Copy)]
struct Seed<'a> {
    building: &'a Building<'a>,
    depth: usize,
}

impl Seed<'_> {
    fn node<E>(self, content: Content) -> Result<Node, E> {
        Ok(Node::new(content, self.building.origin))
    }

    fn too_large<E: de::Error>(self) -> Result<Node, E> {
        Err(self.building.refuse(ConfigError::new("a number is too large").advice(CORRECT)))
    }

    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        if self.depth == DEEPEST {
            let error = ConfigError::new(format!("values are nested deeper than {DEEPEST}"));
            return Err(self.building.refuse(error.advice(CORRECT)));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Node;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        let Some(left) = self.building.left.get().checked_sub(1) else {
            let error = ConfigError::new(format!("the file has more than {MOST_VALUES} values"));
            return Err(self.building.refuse(error.advice(SPREAD)));
        };
        self.building.left.set(left);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        self.node(Content::Null)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        self.node(Content::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        self.node(Content::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        self.node(Content::Int(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        self.node(Content::Int(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        self.node(Content::Float(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Node, E> {
        self.building.spend(value)?;
        self.node(Content::Text(value.to_owned()))
    }

    fn visit_i128<E: de::Error>(self, _: i128) -> Result<Node, E> {
        self.too_large()
    }

    fn visit_u128<E: de::Error>(self, _: u128) -> Result<Node, E> {
        self.too_large()
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<Node, A::Error> {
        let error = ConfigError::new("YAML tags (`!name`) are not supported");
        Err(self.building.refuse(error.advice("remove it")))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Node, A::Error> {
        let deeper = self.deeper()?;
        let mut list = Vec::new();
        while let Some(node) = elements.next_element_seed(deeper)? {
            list.push(node);
        }
        self.node(Content::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let deeper = self.deeper()?;
        let mut map = Map::new();
        while let Some(key) = entries.next_key_seed(Key { building: self.building, map: &map })? {
            let value = entries.next_value_seed(deeper)?;
            map.insert(key, value);
        }
        self.node(Content::Map(map))
    }
}

/// A key. What is wrong with one is told while it is read, because only then does the parser know its place.
struct Key<'a> {
    building: &'a Building<'a>,
    map: &'a Map,
}

impl Key<'_> {
    fn no_text<T, E: de::Error>(self) -> Result<T, E> {
        Err(self.building.refuse(ConfigError::new("a key is not a text").advice(CORRECT)))
    }
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = String;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Key<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<String, E> {
        self.building.spend(key)?;
        if key == "<<" {
            let error = ConfigError::new("merge keys (`<<`) are not supported");
            return Err(self.building.refuse(error.advice("write the fields out")));
        }
        if self.map.contains_key(key) {
            let shown = shown_key(key).unwrap_or("not shown");
            let error = ConfigError::new(format!("the key `{shown}` stands twice in this map"));
            return Err(self.building.refuse(error.advice(CORRECT)));
        }
        Ok(key.to_owned())
    }

    fn visit_unit<E: de::Error>(self) -> Result<String, E> {
        self.no_text()
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<String, E> {
        self.no_text()
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<String, E> {
        self.no_text()
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<String, E> {
        self.no_text()
    }

    fn visit_i128<E: de::Error>(self, _: i128) -> Result<String, E> {
        self.no_text()
    }

    fn visit_u128<E: de::Error>(self, _: u128) -> Result<String, E> {
        self.no_text()
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<String, E> {
        self.no_text()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<String, A::Error> {
        self.no_text()
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<String, A::Error> {
        self.no_text()
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<String, A::Error> {
        self.no_text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn error(text: &str) -> String {
        parse(text, &Origin::File("f.yaml".into())).unwrap_err().to_string()
    }

    #[test]
    fn nothing_is_an_empty_map() {
        for text in ["", "# only a comment\n", "---\n", "~"] {
            assert!(parse(text, &Origin::Default).unwrap().map().unwrap().is_empty(), "{text:?}");
        }
    }

    #[test]
    fn refuses_by_name_and_line() {
        for (text, expected) in [
            (
                "a: 1\nb: 2\na: 3",
                "the key `a` stands twice in this map, in file f.yaml, line 3 column 1; correct the YAML",
            ),
            (
                "a:\n  b: 1\n  <<: {c: 1}",
                "merge keys (`<<`) are not supported, in file f.yaml, line 3 column 3; write the fields out",
            ),
            (
                "a:\n  b: 1\n  true: 1",
                "a key is not a text, in file f.yaml, line 3 column 3; correct the YAML",
            ),
            ("a: 1\n[b]: 1", "a key is not a text, in file f.yaml, line 2 column 1; correct the YAML"),
            ("a: !x 1", "YAML tags (`!name`) are not supported, in file f.yaml, line 1 column 4; remove it"),
            ("1: a", "a key is not a text, in file f.yaml, line 1 column 1; correct the YAML"),
            (
                "a: 1\n---\nb: 2",
                "the file holds more than one YAML document, in file f.yaml; \
                 write one file per document and give each with --config",
            ),
        ] {
            assert_eq!(error(text), expected);
        }
        assert!(error("a: {<<: {b: 1}}").starts_with("merge keys (`<<`) are not supported"));
        assert!(error("- a").starts_with("the file holds a list and no map"));
        assert!(error("a").starts_with("the file holds a single value and no map"));
    }

    #[test]
    fn a_syntax_error_has_its_line_and_no_content() {
        for text in [
            "a: 1\npassword: 'hunter2\nb: 2",
            "password: hunter2\n  x: 1",
            "a: [hunter2",
            "password:hunter2\na: 1",
            "a: !!int hunter2",
            "a: {b: *hunter2}",
            "a: \"\\hunter2\"",
            "a: hunter2: 3",
            "{password:hunter2, password:hunter2}",
            "a: @hunter2",
            "a: %hunter2",
            "a: `hunter2`",
            "a: \thunter2: x",
        ] {
            let error = error(text);
            assert!(!error.contains("hunter2"), "{error}");
            assert!(error.contains(" line "), "{error}");
        }
    }

    #[test]
    fn brackets_in_texts_may_stay_open() {
        let text = format!("# {}\na: '{}'", "[".repeat(500), "{".repeat(500));
        assert!(parse(&text, &Origin::Default).is_ok());
    }

    #[test]
    fn bombs_end_quickly() {
        let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..12 {
            let aliases = vec![format!("*a{}", n - 1); 10].join(", ");
            laughs.push_str(&format!("a{n}: &a{n} [{aliases}]\n"));
        }
        // The parser has a limit of its own, which stands before ours in a file as small as this.
        let told = error(&laughs);
        assert!(told.starts_with("the aliases (`*name`) come to far more than the file has"), "{told}");
        let values = format!("a: [{}]", "1,".repeat(MOST_VALUES));
        assert_eq!(
            error(&values).split_once(", in file f.yaml, ").unwrap(),
            (
                "the file has more than 200000 values",
                "line 1 column 4; spread it over several files, each given with --config"
            )
        );
        assert!(error(&"[".repeat(1_000_000)).starts_with("more than 1000 brackets are open"));
        let deep: String = (0..100).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
        assert!(error(&deep).starts_with("values are nested deeper than 32"));
        assert!(error("a: &a [*a]").starts_with("values are nested deeper than 32"), "one that holds itself");
        let aliases = format!("a: &a {}\nb: [{}]", "x".repeat(500_000), "*a, ".repeat(10_000));
        assert!(error(&aliases).starts_with("the file has more than 4 MiB of text"));
        let lines = "[\n".repeat(500_000);
        assert!(error(&lines).starts_with("more than 1000 brackets are open"));
        let long = format!("{}\n{}", "{a: ".repeat(900), "b, ".repeat(100_000));
        assert!(error(&long).starts_with("900 brackets are open, and too many were in too much of the file"));
        let tags: String = (0..101).map(|n| format!("%TAG !{n}! x\n")).collect();
        assert_eq!(
            error(&tags),
            "`%TAG` stands here more than 100 times, and YAML tags are not supported, \
             in file f.yaml, line 101 column 1; remove it"
        );
    }

    proptest! {
        #[test]
        fn ends_with_a_map_or_an_error_whatever_the_text(text in "([a-b:,&*!|>'\"#%@`$~?<0-9. \\[\\]{}-]|\n|\n  |: |- ){0,60}") {
            if let Ok(node) = parse(&text, &Origin::Default) {
                prop_assert!(node.map().is_some());
            }
        }
    }
}
