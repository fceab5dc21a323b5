//! The layers, from the lowest: compiled-in default, files in their order, environment, flags. Out comes one
//! tree whose every value knows its layer.

use std::path::PathBuf;
use std::sync::Arc;

use super::env::{self, Said};
use super::errors::{ConfigError, Errors};
use super::kinds;
use super::locate::Source;
use super::origin::Origin;
use super::parse::parse;
use super::path::Path;
use super::substitute::{self, Env, Substitution};
use super::tree::{Content, Map, Node, unnamed};
use crate::files::{Seen, read_text};

/// A file may be this large.
const FILE_LIMIT: u64 = 1024 * 1024;

/// The compiled-in default.
pub(super) const DEFAULT: &str = include_str!("../../config/default.yaml");

/// What a configuration is made of.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// Files, each laid over the ones before. Where there is none, the variable `SICKBAY_CONFIG` names one.
    pub files: Vec<PathBuf>,
    /// The environment.
    pub env: Env,
    /// What the command line says.
    pub overrides: Overrides,
}

/// Values of flags; they win over everything.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--listen`
    pub listen: Option<String>,
    /// `--log`
    pub log: Option<String>,
    /// `--log-format`
    pub log_format: Option<String>,
}

/// The layers in one.
#[derive(Debug)]
pub(super) struct Layers {
    /// The values. `dependencies` is a map by name.
    pub(super) root: Node,
    /// What the environment says beside values.
    pub(super) said: Said,
    /// The files that were read, for the lines of what is wrong in them.
    pub(super) files: Vec<Source>,
    /// All the files that were read or looked for, secret ones included.
    pub(super) seen: Vec<Seen>,
    /// Whether every file could be read and parsed; an error has told of one that could not.
    pub(super) complete: bool,
}

/// Reads and merges all layers.
pub(super) fn merge(sources: &Sources, errors: &Errors) -> Layers {
    let mut root = Node::new(Content::Map(Map::new()), &Origin::Default);
    let (mut files, mut seen) = (Vec::new(), Vec::new());
    if let Err(error) = lay_text(&mut root, DEFAULT, &Origin::Default, None, errors, &mut seen) {
        errors.push(error);
    }

    // A value that is no text is told of with those of the other variables.
    let named = substitute::variable(&sources.env, "SICKBAY_CONFIG");
    let mut complete = named.is_ok();
    let fallback = named.ok().flatten().map(PathBuf::from).into_iter().filter(|_| sources.files.is_empty());
    for file in sources.files.iter().cloned().chain(fallback) {
        match lay_file(&mut root, &file, &sources.env, errors, &mut seen) {
            Ok(source) => files.push(source),
            Err(error) => {
                errors.push(error);
                complete = false;
            }
        }
    }

    let said = env::apply(&mut root, &sources.env, errors);

    let Overrides { listen, log, log_format } = &sources.overrides;
    for (flag, path, value) in [
        ("--listen", "server.listen", listen),
        ("--log", "log.filter", log),
        ("--log-format", "log.format", log_format),
    ] {
        if let Some(value) = value {
            root.set(&Path::of(path), Node::word(value, &Origin::Flag(flag)));
        }
    }
    Layers { root, said, files, seen, complete }
}

/// Lays one file over the tree.
fn lay_file(
    root: &mut Node,
    file: &std::path::Path,
    env: &Env,
    errors: &Errors,
    seen: &mut Vec<Seen>,
) -> Result<Source, ConfigError> {
    seen.push(Seen::now(file));
    let name: Arc<str> = file.display().to_string().into();
    let text = read_text(file, FILE_LIMIT).map_err(|reason| {
        ConfigError::new(format!("the configuration file {name} {reason}"))
            .allowed("a regular file of text that this user may read, of at most 1 MiB")
            .advice("check the path; what is larger can be given as several files")
    })?;
    let dependencies = lay_text(root, &text, &Origin::File(name.clone()), Some(env), errors, seen)?;
    Ok(Source { name, text, dependencies })
}

/// Lays one YAML text over the tree; with an environment, its substitutions are made. Tells the names of its
/// dependencies.
fn lay_text(
    root: &mut Node,
    text: &str,
    origin: &Origin,
    env: Option<&Env>,
    errors: &Errors,
    seen: &mut Vec<Seen>,
) -> Result<Vec<String>, ConfigError> {
    let mut node = parse(text, origin)?;
    let substitution = env.map(|env| Substitution::new(env, errors));
    let names = index_dependencies(&mut node, substitution.as_ref(), errors);
    if let Some(substitution) = substitution {
        substitution.substitute(&mut node, &Path::default());
        seen.extend(substitution.files());
    }
    node.forget_what_came_out_empty();
    expand_tls(&mut node);
    change_kinds(root, &node);
    root.merge(node);
    Ok(names)
}

/// Makes the list of dependencies a map by name. Names are substituted first, because the paths in errors
/// are made of them. Tells them, in the order of the list.
fn index_dependencies(
    root: &mut Node,
    substitution: Option<&Substitution<'_>>,
    errors: &Errors,
) -> Vec<String> {
    let path = Path::of("dependencies");
    let Some(node) = root.get_mut(&path) else { return Vec::new() };
    let refuse = |node: &Node, path: Path, error: ConfigError| {
        errors.push(error.at(path).from(Some(node.origin.clone())));
    };
    match &node.content {
        Content::List(_) => {}
        Content::Null => {
            *node = Node::new(Content::Map(Map::new()), &node.origin);
            return Vec::new();
        }
        _ => {
            let error = ConfigError::new(format!("{} is not valid", node.shown_type()));
            refuse(node, path, error.allowed("a list of entries, each with a `name` and a `kind`"));
            *node = Node::new(Content::Map(Map::new()), &node.origin);
            return Vec::new();
        }
    }
    let empty = Content::Map(Map::new());
    let Content::List(list) = std::mem::replace(&mut node.content, empty) else { return Vec::new() };
    let mut names = Vec::new();
    let mut entries = Map::new();
    for (n, mut entry) in list.into_iter().enumerate() {
        let place = path.index(n);
        if entry.map().is_none() {
            let error = ConfigError::new(format!("{} is not valid", entry.shown_type()));
            refuse(&entry, place, error.allowed("a map with a `name` and a `kind`"));
            names.push(unnamed(n));
            continue;
        }
        let mut key = unnamed(n);
        match entry.get_mut(&Path::of("name")) {
            None => refuse(
                &entry,
                place.key("name"),
                ConfigError::new("the dependency has no name").advice("give it one"),
            ),
            Some(name) => {
                if let Some(substitution) = substitution {
                    substitution.substitute(name, &place.key("name"));
                }
                if name.secret {
                    let error = ConfigError::new("a name cannot come from a secret file");
                    refuse(name, place.key("name"), error.advice("write the name, it is shown everywhere"));
                } else if let Some(name) = name.text() {
                    key = name.to_owned();
                }
            }
        }
        names.push(key.clone());
        if entries.contains_key(&key) {
            let error = ConfigError::new(format!(
                "there are two dependencies called {}",
                super::errors::quoted(&key)
            ));
            refuse(&entry, place.key("name"), error.advice("rename one of them, or merge them"));
            continue;
        }
        entries.insert(key, entry);
    }
    node.content = Content::Map(entries);
    names
}

/// `tls: true` is short for a map, so that layers merge whichever way each is written.
fn expand_tls(root: &mut Node) {
    let entries = root.get_mut(&Path::of("dependencies")).and_then(Node::map_mut);
    for entry in entries.into_iter().flat_map(Map::values_mut) {
        let Some(tls) = entry.get_mut(&Path::of("tls")) else { continue };
        if tls.text().is_some() || matches!(tls.content, Content::Bool(_)) {
            let enabled = tls.clone();
            tls.content = Content::Map([("enabled".to_owned(), enabled)].into_iter().collect());
        }
    }
}

/// A layer that makes a dependency another kind leaves behind what that does not have.
fn change_kinds(root: &mut Node, upper: &Node) {
    let path = Path::of("dependencies");
    for (name, entry) in upper.get(&path).and_then(Node::map).into_iter().flatten() {
        let Some(lower) = root.get_mut(&path.key(name)) else { continue };
        if let (Some(former), Some(next)) = (kinds::written(lower), kinds::written(entry))
            && former != next
        {
            kinds::keep_what_fits(lower, former, next);
        }
    }
}
