//! YAML text → tree.
//!
//! The tree is built straight from the parser's events with a budget of values, so that a file whose aliases
//! multiply ("a billion laughs") is refused while it unfolds and not after. What YAML can do and a
//! configuration should not (tags, merge keys, keys that are no text) is refused by name.

use std::cell::{Cell, RefCell};
use std::fmt;

use serde::de::{self, DeserializeSeed, EnumAccess, MapAccess, SeqAccess, Visitor};

use super::errors::ConfigError;
use super::origin::Origin;
use super::path::shown_key;
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

const CORRECT: &str = "correct the YAML";

/// The tree of a text, which is to be a map; of an empty text, an empty map.
pub(super) fn parse(text: &str, origin: &Origin) -> Result<Node, ConfigError> {
    let refuse = |what: String| ConfigError::new(what).from(Some(origin.clone()));
    if let Some(position) = too_deep(text) {
        let what = format!("more than {MOST_BRACKETS} brackets are open");
        return Err(refuse(what).position(Some(position)).advice("close them"));
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
            (Some((what, advice)), _) => refuse(what).position(position).advice(advice),
            // They have the position in them.
            (None, Some(words)) => refuse(format!("not valid YAML: {words}")).advice(CORRECT),
            (None, None) => refuse("not valid YAML".to_owned()).position(position).advice(CORRECT),
        }
    })?;
    if documents.next().is_some() {
        return Err(refuse("the file holds more than one YAML document".to_owned())
            .advice("write one file per document and give each with --config"));
    }
    match node.content {
        Content::Map(_) => Ok(node),
        Content::Null => Ok(Node::new(Content::Map(Map::new()), origin)),
        _ => Err(refuse(format!("the file holds {} and no map", node.shown_type()))
            .allowed("a map of sections: `service`, `server`, `log`, `defaults`, `dependencies`")),
    }
}

/// Where brackets are nested beyond all reason. The parser's time grows with the square of that depth, so it
/// must not see them: a thousand, opened again and again in a file of 1 MiB, take it a second. Brackets in texts
/// and comments count as well, as telling them apart takes a parser; hence a limit far above `DEEPEST`.
fn too_deep(text: &str) -> Option<(usize, usize)> {
    let mut depth = 0_usize;
    for (line, content) in text.lines().enumerate() {
        for (column, c) in content.chars().enumerate() {
            match c {
                '[' | '{' => depth += 1,
                ']' | '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth > MOST_BRACKETS {
                return Some((line + 1, column + 1));
            }
        }
    }
    None
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
    /// With what to do.
    refusal: RefCell<Option<(String, &'static str)>>,
}

impl Building<'_> {
    /// Takes the length of a text from what is left.
    fn spend<E: de::Error>(&self, text: &str) -> Result<(), E> {
        let Some(left) = self.text_left.get().checked_sub(text.len()) else {
            let what = format!("the file has more than {} MiB of text, aliases written out", MOST_TEXT >> 20);
            return Err(self.too_much(what));
        };
        self.text_left.set(left);
        Ok(())
    }

    fn refuse<E: de::Error>(&self, what: impl Into<String>) -> E {
        self.refusal.replace(Some((what.into(), CORRECT)));
        E::custom("refused")
    }

    /// The limits are those of one file.
    fn too_much<E: de::Error>(&self, what: String) -> E {
        self.refusal.replace(Some((what, "spread it over several files, each given with --config")));
        E::custom("refused")
    }
}

#[derive(Clone, Copy)]
struct Seed<'a> {
    building: &'a Building<'a>,
    depth: usize,
}

impl Seed<'_> {
    fn node<E>(self, content: Content) -> Result<Node, E> {
        Ok(Node::new(content, self.building.origin))
    }

    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        if self.depth == DEEPEST {
            return Err(self.building.refuse(format!("values are nested deeper than {DEEPEST}")));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Node;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        let Some(left) = self.building.left.get().checked_sub(1) else {
            return Err(self.building.too_much(format!("the file has more than {MOST_VALUES} values")));
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
        Err(self.building.refuse("a number is too large"))
    }

    fn visit_u128<E: de::Error>(self, _: u128) -> Result<Node, E> {
        Err(self.building.refuse("a number is too large"))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<Node, A::Error> {
        Err(self.building.refuse("YAML tags (`!name`) are not supported"))
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
        Err(self.building.refuse("a key is not a text"))
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
            return Err(self.building.refuse("merge keys (`<<`) are not supported"));
        }
        if self.map.contains_key(key) {
            let shown = shown_key(key).unwrap_or("not shown");
            return Err(self.building.refuse(format!("the key `{shown}` stands twice in this map")));
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
                "merge keys (`<<`) are not supported, in file f.yaml, line 3 column 3; correct the YAML",
            ),
            (
                "a:\n  b: 1\n  true: 1",
                "a key is not a text, in file f.yaml, line 3 column 3; correct the YAML",
            ),
            ("a: 1\n[b]: 1", "a key is not a text, in file f.yaml, line 2 column 1; correct the YAML"),
            (
                "a: !x 1",
                "YAML tags (`!name`) are not supported, in file f.yaml, line 1 column 4; correct the YAML",
            ),
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
        assert!(
            error(&laughs).starts_with("not valid YAML: repetition limit exceeded"),
            "{}",
            error(&laughs)
        );
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
