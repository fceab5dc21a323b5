//! The configuration before it has types: a tree of values, each knowing where it came from.
//!
//! Layers are merged here and not after typing, because only here can "not said" be told from "said and equal
//! to the default", value by value. `dependencies` is a list in YAML and a map by name here, so that merging
//! by name is merging of maps and needs no rule of its own.

use std::path::Path as FilePath;
use std::sync::Arc;

use indexmap::IndexMap;

use super::errors::quoted;
use super::origin::Origin;
use super::path::{Path, Step};

/// A map in the order of the file.
pub(super) type Map = IndexMap<String, Node>;

/// A value and where it came from.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// What it is.
    pub(super) content: Content,
    /// The layer it came from; of a map, the last that said something of it.
    pub(super) origin: Origin,
    /// Whether it holds the content of a secret file: never shown, whatever field it stands in.
    pub(super) secret: bool,
    /// The secret file whose whole content it is, where it is that and nothing else.
    pub(super) file: Option<Arc<FilePath>>,
    /// Whether its substitutions were made: what they came to is data, whatever it looks like.
    pub(super) substituted: bool,
}

/// What a value is.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// Said to be unset.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i128),
    /// Any other number.
    Float(f64),
    /// A text of a file.
    Text(String),
    /// A text without a type of its own (a variable, a flag, a whole substitution): its field decides
    /// whether it is a number. Where it is empty, nothing is set.
    Word(String),
    /// A list.
    List(Vec<Node>),
    /// A map.
    Map(Map),
    /// Found wrong and told about; passed over from then on.
    Refused,
}

impl Node {
    /// A value of this layer.
    pub(super) fn new(content: Content, origin: &Origin) -> Self {
        Self { content, origin: origin.clone(), secret: false, file: None, substituted: false }
    }

    /// An untyped text of this layer.
    pub(super) fn word(text: impl Into<String>, origin: &Origin) -> Self {
        Self::new(Content::Word(text.into()), origin)
    }

    /// The map, if it is one.
    pub(super) fn map(&self) -> Option<&Map> {
        match &self.content {
            Content::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The map, if it is one.
    pub(super) fn map_mut(&mut self) -> Option<&mut Map> {
        match &mut self.content {
            Content::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The text, if it is one and says anything.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Text(text) | Content::Word(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    /// What stands at `path`.
    pub(super) fn get(&self, path: &Path) -> Option<&Node> {
        path.steps().iter().try_fold(self, Node::child)
    }

    /// What stands at `path`, else the last thing on the way there.
    pub(super) fn nearest(&self, path: &Path) -> &Node {
        let mut nearest = self;
        for step in path.steps() {
            match nearest.child(step) {
                Some(node) => nearest = node,
                None => break,
            }
        }
        nearest
    }

    /// What was read from secret files here and below.
    pub(super) fn secret_texts(&self) -> Vec<&str> {
        let below: Vec<&str> = match &self.content {
            Content::Map(map) => map.values().flat_map(Node::secret_texts).collect(),
            Content::List(list) => list.iter().flat_map(Node::secret_texts).collect(),
            _ => Vec::new(),
        };
        self.text().filter(|_| self.secret).into_iter().chain(below).collect()
    }

    fn child(&self, step: &Step) -> Option<&Node> {
        match (&self.content, step) {
            (Content::Map(map), Step::Key(key)) => map.get(key),
            (Content::Map(map), Step::Index(index)) => map.get(&unnamed(*index)),
            (Content::List(list), Step::Index(index)) => list.get(*index),
            _ => None,
        }
    }

    /// What stands at `path`.
    pub(super) fn get_mut(&mut self, path: &Path) -> Option<&mut Node> {
        path.steps().iter().try_fold(self, |node, step| match (&mut node.content, step) {
            (Content::Map(map), Step::Key(key)) => map.get_mut(key),
            (Content::Map(map), Step::Index(index)) => map.get_mut(&unnamed(*index)),
            (Content::List(list), Step::Index(index)) => list.get_mut(*index),
            _ => None,
        })
    }

    /// Puts a value at a path of keys, making the maps on the way. What is no map on the way is replaced.
    pub(super) fn set(&mut self, path: &Path, value: Node) {
        let mut node = self;
        for step in path.steps() {
            let Step::Key(key) = step else { return };
            if node.map().is_none() {
                *node = Node::new(Content::Map(Map::new()), &value.origin);
            }
            let Some(map) = node.map_mut() else { return };
            let empty = || Node::new(Content::Map(Map::new()), &value.origin);
            node = map.entry(key.clone()).or_insert_with(empty);
        }
        *node = value;
    }

    /// Lays `upper` over this: maps are merged key by key, all else is replaced. Null unsets a value.
    pub(super) fn merge(&mut self, upper: Node) {
        match (&mut self.content, upper.content) {
            (Content::Map(lower), Content::Map(entries)) => {
                self.origin = upper.origin;
                for (key, value) in entries {
                    match lower.get_mut(&key) {
                        Some(node) => node.merge(value),
                        None => {
                            lower.insert(key, value);
                        }
                    }
                }
            }
            // A section whose lines are all commented out is null in YAML, and says nothing.
            (Content::Map(_), Content::Null) => {}
            (_, content) => *self = Node { content, ..upper },
        }
    }

    /// Drops the values whose substitution came out empty: nothing is set there, and what a lower layer says
    /// holds.
    pub(super) fn forget_what_came_out_empty(&mut self) {
        if let Content::Map(map) = &mut self.content {
            map.retain(|_, node| !matches!(&node.content, Content::Word(text) if text.is_empty()));
            map.values_mut().for_each(Self::forget_what_came_out_empty);
        }
    }

    /// What stands here, where no text of it may be shown: in place of a whole section, it is of no known field.
    pub(super) fn shown_type(&self) -> &'static str {
        match self.content {
            Content::List(_) => "a list",
            Content::Map(_) => "a map",
            Content::Null | Content::Refused => "an empty value",
            _ => "a single value",
        }
    }

    /// What stands here as an error may name it.
    pub(super) fn shown(&self) -> String {
        match &self.content {
            Content::List(_) | Content::Map(_) | Content::Null | Content::Refused => {
                self.shown_type().to_owned()
            }
            _ if self.secret => "the value (not shown: it comes from a secret file)".to_owned(),
            Content::Bool(value) => format!("`{value}`"),
            Content::Int(value) => format!("`{value}`"),
            // As it would be written: `1e300` and not three hundred digits.
            Content::Float(value) => format!("`{value:?}`"),
            Content::Text(text) | Content::Word(text) => quoted(text),
        }
    }
}

/// The key under which a dependency without a name is kept. No name can be equal to it.
pub(super) fn unnamed(index: usize) -> String {
    format!("[{index}]")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse::parse;

    fn tree(text: &str, origin: Origin) -> Node {
        parse(text, &origin).unwrap()
    }

    #[test]
    fn maps_merge_deeply_and_all_else_is_replaced() {
        let mut node = tree("a: {b: 1, c: 2}\nl: [1, 2]\nn: 1", Origin::Default);
        node.merge(tree("a: {c: 3, d: 4}\nl: [5]\nn: null", Origin::File("f".into())));
        let at = |path| node.get(&Path::of(path)).unwrap();
        assert_eq!((at("a.b").shown(), at("a.b").origin.to_string()), ("`1`".into(), "default".into()));
        assert_eq!((at("a.c").shown(), at("a.c").origin.to_string()), ("`3`".into(), "file f".into()));
        assert_eq!(at("a.d").shown(), "`4`");
        assert_eq!(at("a").origin.to_string(), "file f", "the last that said something of it");
        assert_eq!(node.nearest(&Path::of("a.x.y")).origin.to_string(), "file f");
        assert!(matches!(&at("l").content, Content::List(list) if list.len() == 1));
        assert!(matches!(at("n").content, Content::Null), "null says: not set");
        node.merge(tree("a:", Origin::Default));
        assert_eq!(node.get(&Path::of("a.b")).unwrap().shown(), "`1`", "an empty section says nothing");
    }

    #[test]
    fn set_makes_the_way() {
        let mut node = tree("a: 1", Origin::Default);
        node.set(&Path::of("x.y"), Node::word("1", &Origin::Variable("X")));
        assert_eq!(node.get(&Path::of("x.y")).unwrap().origin.to_string(), "variable X");
    }
}
