//! Tree → raw structs: a serde deserializer over [`Node`].
//!
//! An own one, because it knows what a general one has forgotten: which layer a value came from, whether it
//! is a secret, and whether its field may decide its type. Serde stops at the first error; to tell all of
//! them, what was found wrong is marked as refused and the struct is read again without it.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::errors::{ConfigError, Errors, listed, similar};
use super::path::{Path, Step, shown_key};
use super::tree::{Content, Node};

/// The newtype name by which a field says that its value must never be shown.
pub(super) const SECRET: &str = "$secret";

/// Reads a struct from `node`, which stands at `path`. What is wrong goes to `errors` and is left unset.
pub(super) fn decode<T: DeserializeOwned + Default>(node: &mut Node, path: &Path, errors: &Errors) -> T {
    // It ends: every pass refuses a value that the next one passes over.
    while !errors.full() {
        let failure = match T::deserialize(Reading(node)) {
            Ok(value) => return value,
            Err(failure) => failure,
        };
        let Some(wrong) = node.get_mut(&failure.path) else { break };
        let place = path.join(&failure.path);
        let error = failure.why.error(wrong, &place);
        errors.push(error.at(place).from(Some(wrong.origin.clone())));
        wrong.content = Content::Refused;
    }
    T::default()
}

/// The names of a struct's fields.
pub(super) fn fields<T: DeserializeOwned>() -> &'static [&'static str] {
    match T::deserialize(Introspection) {
        Err(Fields(names)) => names,
        Ok(_) => &[],
    }
}

/// Whether the node could be read as this struct.
pub(super) fn reads_as<T: DeserializeOwned>(node: &Node) -> bool {
    T::deserialize(Reading(node)).is_ok()
}

/// Sections that are decided on and not built.
const SECTIONS_NOT_YET: &[&str] = &["metrics", "events", "alarms"];

/// The error for a key that nothing knows; `not_yet` are those that will be known.
pub(super) fn unknown_key(key: &str, known: &[&'static str], not_yet: &[&str]) -> ConfigError {
    if not_yet.contains(&key) {
        return ConfigError::new(format!("`{key}` is not yet supported in this version")).advice("remove it");
    }
    let Some(shown) = shown_key(key) else {
        return ConfigError::new("a key is unknown, and does not look like one")
            .allowed(listed(known.iter().copied()))
            .advice("write a space after the colon");
    };
    let error = ConfigError::new(format!("`{shown}` is unknown")).allowed(listed(known.iter().copied()));
    match synonym(shown, known).or_else(|| similar(shown, known.iter().copied())) {
        Some(name) => error.advice(format!("did you mean `{name}`?")),
        None => error.advice("rename it to what is meant, or remove it"),
    }
}

/// What other tools call a thing, and what it is called here; the first that is known where it stands.
const SYNONYMS: &[(&str, &str)] = &[
    ("type", "record"),
    ("type", "kind"),
    ("tls", "sslmode"),
    ("ssl", "sslmode"),
    ("ssl", "tls"),
    ("ca", "root_cert"),
    ("ca_file", "root_cert"),
    ("sslrootcert", "root_cert"),
    ("user", "username"),
    ("username", "user"),
    ("db", "database"),
    ("dbname", "database"),
    ("host", "query"),
    ("name", "query"),
    ("host", "url"),
    ("address", "host"),
    ("hosts", "host"),
    ("servers", "nameservers"),
    ("query", "sql"),
    ("retries", "retry"),
    ("size", "max"),
    ("lag", "replication_lag"),
    ("memory", "memory_used"),
    ("connections", "connections_used"),
    ("status_code", "status"),
];

fn synonym(written: &str, known: &[&'static str]) -> Option<&'static str> {
    let written = written.to_ascii_lowercase();
    let meant = SYNONYMS.iter().filter(|(other, _)| *other == written).map(|(_, meant)| *meant);
    meant.into_iter().find(|meant| known.contains(meant))
}

/// Why a struct could not be read. The value itself is added later, where it is known whether it may be shown.
#[derive(Debug)]
struct Failure {
    path: Path,
    why: Why,
}

#[derive(Debug)]
enum Why {
    /// The map has a key that its struct does not have.
    Unknown { key: String, known: &'static [&'static str] },
    /// The value is not one of these.
    Not { allowed: String },
    /// The value is not one of these, and is a secret.
    NotSecret { allowed: String },
}

impl Why {
    fn error(&self, node: &Node, place: &Path) -> ConfigError {
        let allowed = match self {
            Self::Unknown { key, known } => {
                let not_yet = if place.steps().len() == 1 { SECTIONS_NOT_YET } else { &[] };
                return unknown_key(key, known, not_yet);
            }
            Self::NotSecret { allowed } => {
                let what = "the value (not shown: it is a secret) is not valid";
                return ConfigError::new(what).allowed(allowed).advice("put it in quotes");
            }
            Self::Not { allowed } => allowed,
        };
        // In place of several values, a text is of no field that is known not to be secret.
        let several = allowed == MAP || allowed == LIST;
        let found = if several { node.shown_type().to_owned() } else { node.shown() };
        let error = ConfigError::new(format!("{found} is not valid")).allowed(allowed);
        match &node.content {
            // A number where a text belongs, such as a user called 1234.
            Content::Int(_) | Content::Float(_) | Content::Bool(_) if allowed == TEXT => {
                error.advice("put it in quotes")
            }
            Content::Text(text) if quoted_by_mistake(text, allowed) => error.advice("remove the quotes"),
            content if allowed.starts_with(super::duration::ALLOWED) && is_number(content) => {
                error.advice("add the unit")
            }
            Content::Word(_) if allowed == LIST || allowed == MAP => {
                error.advice("write it out: a substitution cannot become more than one value")
            }
            _ => error,
        }
    }
}

const TEXT: &str = "a text";
const LIST: &str = "a list";
const MAP: &str = "a map";
const WHOLE: &str = "a whole number, not negative";
const NUMBER: &str = "a number";
const BOOL: &str = "`true` or `false`";

/// Whether it is a number, however it is written.
fn is_number(content: &Content) -> bool {
    match content {
        Content::Int(_) | Content::Float(_) => true,
        Content::Text(text) | Content::Word(text) => text.parse::<f64>().is_ok_and(f64::is_finite),
        _ => false,
    }
}

fn quoted_by_mistake(text: &str, allowed: &str) -> bool {
    match allowed {
        WHOLE | NUMBER => text.parse::<f64>().is_ok(),
        BOOL => matches!(text, "true" | "false"),
        _ => false,
    }
}

impl Failure {
    fn not(allowed: impl Into<String>) -> Self {
        Self { path: Path::default(), why: Why::Not { allowed: allowed.into() } }
    }

    fn within(mut self, step: Step) -> Self {
        self.path.push_front(step);
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.why)
    }
}

impl std::error::Error for Failure {}

impl de::Error for Failure {
    /// Visitors say what they allow; what was found, the tree knows better.
    fn custom<T: fmt::Display>(allowed: T) -> Self {
        Self::not(allowed.to_string())
    }

    fn invalid_type(_: de::Unexpected<'_>, allowed: &dyn de::Expected) -> Self {
        Self::not(allowed.to_string())
    }

    fn invalid_value(_: de::Unexpected<'_>, allowed: &dyn de::Expected) -> Self {
        Self::not(allowed.to_string())
    }
}

/// A node being read.
#[derive(Clone, Copy)]
struct Reading<'a>(&'a Node);

impl<'a> Reading<'a> {
    /// The text of a value that is to be one.
    fn text(self, allowed: &str) -> Result<&'a str, Failure> {
        match &self.0.content {
            Content::Text(text) | Content::Word(text) => Ok(text),
            _ => Err(Failure::not(allowed)),
        }
    }
}

impl<'de> Deserializer<'de> for Reading<'_> {
    type Error = Failure;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match &self.0.content {
            Content::Null | Content::Refused => visitor.visit_unit(),
            Content::Bool(value) => visitor.visit_bool(*value),
            Content::Int(value) => match u64::try_from(*value) {
                Ok(value) => visitor.visit_u64(value),
                Err(_) => visitor.visit_i128(*value),
            },
            Content::Float(value) => visitor.visit_f64(*value),
            Content::Text(text) | Content::Word(text) => visitor.visit_str(text),
            Content::List(_) => self.deserialize_seq(visitor),
            Content::Map(_) => self.deserialize_map(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match &self.0.content {
            Content::Null | Content::Refused => visitor.visit_none(),
            Content::Word(text) if text.is_empty() => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match &self.0.content {
            Content::Bool(value) => visitor.visit_bool(*value),
            // The spellings that task definitions and Compose files are full of.
            Content::Word(text) => match text.to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" | "on" => visitor.visit_bool(true),
                "false" | "0" | "no" | "off" => visitor.visit_bool(false),
                _ => Err(Failure::not(BOOL)),
            },
            _ => Err(Failure::not(BOOL)),
        }
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        let value = match &self.0.content {
            Content::Int(value) => u64::try_from(*value).ok(),
            Content::Word(text) => text.parse().ok(),
            _ => None,
        };
        visitor.visit_u64(value.ok_or_else(|| Failure::not(WHOLE))?)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        let value = match &self.0.content {
            Content::Int(value) => Some(*value as f64),
            Content::Float(value) => Some(*value),
            Content::Word(text) => text.parse().ok(),
            _ => None,
        };
        visitor.visit_f64(value.ok_or_else(|| Failure::not(NUMBER))?)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        // What the visitor wants is more telling than "a text": a duration, one of three names.
        match &self.0.content {
            Content::Text(text) | Content::Word(text) => visitor.visit_str(text),
            _ => Err(de::Error::invalid_type(de::Unexpected::Unit, &visitor)),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_str(self.text(TEXT)?)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        let read = visitor.visit_newtype_struct(self);
        match read {
            Err(Failure { path, why: Why::Not { allowed } }) if name == SECRET => {
                Err(Failure { path, why: Why::NotSecret { allowed } })
            }
            read => read,
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        let Content::List(list) = &self.0.content else { return Err(Failure::not(LIST)) };
        visitor.visit_seq(Elements { list, next: 0 })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match &self.0.content {
            Content::Map(map) => visitor.visit_map(Entries { left: map.iter(), value: None }),
            // A struct whose whole value was refused is read as one that says nothing.
            Content::Refused | Content::Null => {
                visitor.visit_map(Entries { left: super::tree::Map::new().iter(), value: None })
            }
            _ => Err(Failure::not(MAP)),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        let unknown = self.0.map().and_then(|map| {
            map.iter()
                .filter(|(_, value)| !matches!(value.content, Content::Refused))
                .map(|(key, _)| key)
                .find(|key| !known.contains(&key.as_str()))
        });
        if let Some(key) = unknown {
            let failure = Failure { path: Path::default(), why: Why::Unknown { key: key.clone(), known } };
            return Err(failure.within(Step::Key(key.clone())));
        }
        self.deserialize_map(visitor)
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u128 f32 char bytes byte_buf unit unit_struct tuple tuple_struct
        enum identifier ignored_any
    }
}

struct Elements<'a> {
    list: &'a [Node],
    next: usize,
}

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = Failure;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Failure> {
        while let Some(node) = self.list.get(self.next) {
            let index = self.next;
            self.next += 1;
            if !matches!(node.content, Content::Refused) {
                return seed
                    .deserialize(Reading(node))
                    .map(Some)
                    .map_err(|failure| failure.within(Step::Index(index)));
            }
        }
        Ok(None)
    }
}

struct Entries<'a> {
    left: indexmap::map::Iter<'a, String, Node>,
    value: Option<(&'a str, &'a Node)>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Failure;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Failure> {
        let next = self.left.find(|(_, node)| !matches!(node.content, Content::Refused));
        let Some((key, node)) = next else { return Ok(None) };
        self.value = Some((key, node));
        seed.deserialize(StrDeserializer::new(key)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Failure> {
        let Some((key, node)) = self.value.take() else { return Err(Failure::not(MAP)) };
        seed.deserialize(Reading(node)).map_err(|failure| failure.within(Step::Key(key.to_owned())))
    }
}

/// A deserializer that reads nothing and remembers the fields it was asked for.
struct Introspection;

#[derive(Debug)]
struct Fields(&'static [&'static str]);

impl fmt::Display for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the fields of a struct")
    }
}

impl std::error::Error for Fields {}

impl de::Error for Fields {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self(&[])
    }
}

impl<'de> Deserializer<'de> for Introspection {
    type Error = Fields;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Fields> {
        Err(Fields(&[]))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        names: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Fields> {
        Err(Fields(names))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use crate::config::duration::HumanDuration;
    use crate::config::origin::Origin;
    use crate::config::parse::parse;
    use serde::Deserialize;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    struct Example {
        number: Option<u64>,
        switch: Option<bool>,
        text: Option<String>,
        pause: Option<HumanDuration>,
        secret: Option<Secret>,
        list: Option<Vec<u64>>,
        inner: Option<Box<Example>>,
    }

    fn read(text: &str) -> (Example, Vec<String>) {
        let errors = Errors::default();
        let mut node = parse(text, &Origin::File("f".into())).unwrap();
        let value = decode(&mut node, &Path::default(), &errors);
        let errors = errors.unless_any(()).err().map_or(Vec::new(), |e| e.errors().to_vec());
        (value, errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn all_errors_at_once_and_the_rest_is_read() {
        let (value, errors) = read(
            "number: many\nswitch: maybe\ntext: 5\npause: 10\nlist: [1, x, 3, y]\ninner: {number: 7, txt: a}\n\
             metrics: {}\nhunter2:x: 1",
        );
        assert_eq!(value.list, Some(vec![1, 3]));
        assert_eq!(value.inner.unwrap().number, Some(7));
        let known = "`number`, `switch`, `text`, `pause`, `secret`, `list`, `inner`";
        assert_eq!(
            errors,
            [
                "`metrics` is not yet supported in this version, at metrics (file f); remove it".to_owned(),
                format!(
                    "a key is unknown, and does not look like one, at <key> (file f); allowed: {known}; \
                     write a space after the colon"
                ),
                "`many` is not valid, at number (file f); allowed: a whole number, not negative".to_owned(),
                "`maybe` is not valid, at switch (file f); allowed: `true` or `false`".to_owned(),
                "`5` is not valid, at text (file f); allowed: a text; put it in quotes".to_owned(),
                "`10` is not valid, at pause (file f); allowed: a whole number with its unit, such as `250ms`, \
                 `10s`, `1m30s`, `1h` or `14d`; add the unit"
                    .to_owned(),
                "`x` is not valid, at list[1] (file f); allowed: a whole number, not negative".to_owned(),
                "`y` is not valid, at list[3] (file f); allowed: a whole number, not negative".to_owned(),
                format!("`txt` is unknown, at inner.txt (file f); allowed: {known}; did you mean `text`?"),
            ]
        );
    }

    #[test]
    fn a_secret_is_never_quoted() {
        for text in ["secret: 271828", "secret: [hunter2]", "secret: {hunter2: hunter2}", "secret: true"] {
            let (_, errors) = read(text);
            assert_eq!(
                errors,
                ["the value (not shown: it is a secret) is not valid, at secret (file f); allowed: a text; \
                  put it in quotes"]
            );
        }
    }

    #[test]
    fn a_word_takes_the_type_of_its_field_and_an_empty_one_sets_nothing() {
        let origin = Origin::Variable("X");
        let mut node = parse("{}", &origin).unwrap();
        for (field, text) in [
            ("number", "5"),
            ("switch", "Yes"),
            ("text", "5"),
            ("pause", "5s"),
            ("secret", "5"),
            ("list", ""),
        ] {
            node.set(&Path::of(field), Node::word(text, &origin));
        }
        let errors = Errors::default();
        let value: Example = decode(&mut node, &Path::default(), &errors);
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(
            (value.number, value.switch, value.text.as_deref(), value.list),
            (Some(5), Some(true), Some("5"), None)
        );
        assert_eq!(value.secret.unwrap().expose(), "5");
    }

    #[test]
    fn fields_are_known() {
        assert_eq!(fields::<Example>().len(), 7);
    }
}
