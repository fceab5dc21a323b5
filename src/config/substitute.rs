//! `${NAME}`, `${NAME:-default}`, `${file:/run/secrets/x}` and `$$` in the scalars of a file.
//!
//! It runs on the parsed tree: a value can hold whatever it likes and still cannot add a key or end a string.
//! A scalar that is one substitution and nothing else takes the type of its field (`port: ${PORT}`). What a
//! file holds is a secret wherever it is used.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path as FilePath;
use std::sync::Arc;

use super::errors::{ConfigError, Errors};
use super::path::Path;
use super::tree::{Content, Node};
use crate::files::{Seen, read_text};

/// A secret file may be this large.
const SECRET_LIMIT: u64 = 64 * 1024;

/// All that the substitutions of one file may come to: a short scalar that names a long variable a thousand
/// times would else fill the memory.
const MOST_TEXT: usize = 4 * 1024 * 1024;

/// The environment: what substitutions take their values from. What is no text is kept, so that who asks for
/// it is not told that it is unset.
pub type Env = BTreeMap<String, OsString>;

/// The value of a variable. An empty one counts as unset: that is how task definitions and Compose files pass
/// "nothing".
pub(super) fn variable<'a>(env: &'a Env, name: &str) -> Result<Option<&'a str>, ConfigError> {
    let Some(value) = env.get(name).filter(|value| !value.is_empty()) else { return Ok(None) };
    value.to_str().map(Some).ok_or_else(|| {
        ConfigError::new(format!("the value of the variable {name} (not shown) is not UTF-8 text"))
            .advice("correct how it is set, or unset it")
    })
}

/// The substitutions of one file.
pub(super) struct Substitution<'a> {
    env: &'a Env,
    errors: &'a Errors,
    made: Made,
}

impl<'a> Substitution<'a> {
    /// None made yet.
    pub(super) fn new(env: &'a Env, errors: &'a Errors) -> Self {
        Self { env, errors, made: Made::default() }
    }

    /// The secret files that were asked for.
    pub(super) fn files(self) -> Vec<Seen> {
        self.made.files.into_inner()
    }

    /// Substitutes in all scalars at and below `node`, which stands at `path`, where that has not been done.
    pub(super) fn substitute(&self, node: &mut Node, path: &Path) {
        if std::mem::replace(&mut node.substituted, true) {
            return;
        }
        match &mut node.content {
            Content::Map(map) => {
                for (key, value) in map {
                    self.substitute(value, &path.key(key));
                }
            }
            Content::List(list) => {
                for (n, value) in list.iter_mut().enumerate() {
                    self.substitute(value, &path.index(n));
                }
            }
            Content::Text(text) if text.contains('$') => match expand(text, self.env, &self.made) {
                Ok(expanded) => {
                    node.secret |= expanded.secret;
                    node.file = expanded.file;
                    node.content = match expanded.whole {
                        true => Content::Word(expanded.text),
                        false => Content::Text(expanded.text),
                    };
                }
                Err(error) => {
                    if let Some(error) = error {
                        self.errors.push(error.at(path.clone()).from(Some(node.origin.clone())));
                    }
                    node.content = Content::Refused;
                }
            },
            _ => {}
        }
    }
}

/// What the substitutions have come to.
struct Made {
    /// The bytes that they may still come to; `None` once they came to more, which is told once.
    left: Cell<Option<usize>>,
    /// The secret files that were asked for, each once.
    files: RefCell<Vec<Seen>>,
}

impl Default for Made {
    fn default() -> Self {
        Self { left: Cell::new(Some(MOST_TEXT)), files: RefCell::default() }
    }
}

impl Made {
    /// Takes the length of a text. The error is `None` where it has been told.
    fn spend(&self, text: &str) -> Result<(), Option<ConfigError>> {
        let left = self.left.get().ok_or(None)?.checked_sub(text.len());
        self.left.set(left);
        if left.is_none() {
            let what = format!("the substitutions of the file come to more than {} MiB", MOST_TEXT >> 20);
            return Err(Some(ConfigError::new(what).advice("repeat less of a long value")));
        }
        Ok(())
    }

    fn note(&self, file: &FilePath) {
        let mut files = self.files.borrow_mut();
        if files.iter().all(|seen| seen.path != file) {
            files.push(Seen::now(file));
        }
    }
}

/// A scalar after substitution.
#[derive(Debug, PartialEq, Eq)]
struct Expanded {
    text: String,
    /// It was one substitution and nothing else.
    whole: bool,
    secret: bool,
    /// The secret file that is the whole of it.
    file: Option<Arc<FilePath>>,
}

/// The errors never quote the scalar: it may be half a password.
fn expand(text: &str, env: &Env, made: &Made) -> Result<Expanded, Option<ConfigError>> {
    let mut expanded = Expanded { text: String::new(), whole: false, secret: false, file: None };
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        expanded.text.push_str(&rest[..dollar]);
        let after = &rest[dollar + 1..];
        rest = if let Some(tail) = after.strip_prefix('$') {
            expanded.text.push('$');
            tail
        } else if let Some(inside) = after.strip_prefix('{') {
            let (name, tail) = inside.split_once('}').ok_or_else(|| {
                ConfigError::new("a `${` has no `}`").advice("close it, or write `$$` for a dollar sign")
            })?;
            expanded.whole = dollar == 0 && rest.len() == text.len() && tail.is_empty();
            if let Some(file) = name.strip_prefix("file:") {
                expanded.secret = true;
                expanded.file = expanded.whole.then(|| FilePath::new(file).into());
                made.note(FilePath::new(file));
            }
            let value = value(name, env)?;
            made.spend(&value)?;
            expanded.text.push_str(&value);
            tail
        } else {
            expanded.text.push('$');
            after
        };
    }
    expanded.text.push_str(rest);
    Ok(expanded)
}

/// The value of what stands between the braces.
fn value(reference: &str, env: &Env) -> Result<String, ConfigError> {
    if let Some(file) = reference.strip_prefix("file:") {
        return secret_file(file.as_ref()).map_err(|reason| {
            ConfigError::new(format!("the secret file {file} {reason}"))
                .advice("mount it into this container, readable by its user")
        });
    }
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(plain) {
        return Err(ConfigError::new("a `${…}` does not hold the name of a variable")
            .allowed("`${NAME}`, `${NAME:-default}`, `${file:/path}`")
            .advice("write `$$` for a dollar sign"));
    }
    if default.is_some_and(|default| default.contains("${")) {
        return Err(ConfigError::new(format!("the default of `${{{name}}}` holds another substitution"))
            .advice("write the default as plain text"));
    }
    match variable(env, name)? {
        Some(value) => Ok(value.to_owned()),
        None => default.map(str::to_owned).ok_or_else(|| {
            ConfigError::new(format!("the variable {name} is not set"))
                .advice(format!("set it, or give a default: `${{{name}:-…}}`"))
        }),
    }
}

/// The content of a secret file, or why there is none.
pub(super) fn secret_file(file: &FilePath) -> Result<String, String> {
    let mut text = read_text(file, SECRET_LIMIT)?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env() -> Env {
        [("HOST", "db"), ("PORT", "5432"), ("EMPTY", ""), ("EVIL", "x\"}\n- ${HOST}")]
            .map(|(name, value)| (name.to_owned(), value.into()))
            .into()
    }

    fn expanded(text: &str) -> Result<Expanded, ConfigError> {
        expand(text, &env(), &Made::default()).map_err(Option::unwrap)
    }

    fn plain(text: &str) -> String {
        expanded(text).unwrap().text
    }

    #[test]
    fn takes_variables_defaults_and_dollars() {
        for (text, expected) in [
            ("${HOST}", "db"),
            ("a ${HOST}:${PORT} b", "a db:5432 b"),
            ("${NONE:-fallback}", "fallback"),
            ("${NONE:-}", ""),
            ("${EMPTY:-fallback}", "fallback"),
            ("${HOST:-fallback}", "db"),
            ("$$", "$"),
            ("$${HOST}", "${HOST}"),
            ("pa$word$", "pa$word$"),
            ("${EVIL}", "x\"}\n- ${HOST}"),
        ] {
            assert_eq!(plain(text), expected, "{text}");
        }
    }

    #[test]
    fn one_whole_substitution_has_no_type_of_its_own() {
        for (text, whole) in [
            ("${PORT}", true),
            ("${N:-1}", true),
            ("${HOST}${PORT}", false),
            ("1${PORT}", false),
            ("$$", false),
        ] {
            assert_eq!(expanded(text).unwrap().whole, whole, "{text}");
        }
    }

    #[test]
    fn errors_name_the_variable_and_never_the_scalar() {
        let error = |text| expanded(text).unwrap_err().to_string();
        assert_eq!(error("${NONE}"), "the variable NONE is not set; set it, or give a default: `${NONE:-…}`");
        assert_eq!(error("hunter2${HOST"), "a `${` has no `}`; close it, or write `$$` for a dollar sign");
        for text in ["${hunter2!}", "${}", "${1A}", "${HOST-hunter2}", "${HOST:?hunter2}"] {
            assert!(error(text).starts_with("a `${…}` does not hold the name of a variable"), "{text}");
            assert!(!error(text).contains("hunter2"));
        }
        assert!(error("${A:-${B}}").starts_with("the default of `${A}` holds another substitution"));
    }

    #[test]
    fn a_file_is_trimmed_once_and_secret() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        for (content, expected) in [
            ("hunter2\n", "hunter2"),
            ("hunter2", "hunter2"),
            ("a\n\n", "a\n"),
            ("a\r\n", "a"),
            (" a ", " a "),
        ] {
            std::fs::write(&file, content).unwrap();
            let found = expanded(&format!("${{file:{}}}", file.display())).unwrap();
            let file = Some(Arc::from(file.as_path()));
            assert_eq!(found, Expanded { text: expected.into(), whole: true, secret: true, file });
        }
        let part = expanded(&format!("x${{file:{}}}", file.display())).unwrap();
        assert!(part.secret && part.file.is_none(), "a part of it is no file's content");
        let missing = expanded("${file:/nonexistent/x}").unwrap_err().to_string();
        assert_eq!(
            missing,
            "the secret file /nonexistent/x does not exist; mount it into this container, readable by its user"
        );
    }

    #[test]
    fn a_long_value_is_not_repeated_without_end() {
        let env: Env = [("LONG".to_owned(), "x".repeat(100_000).into())].into();
        let made = Made::default();
        let error = expand(&"${LONG}".repeat(1_000), &env, &made).unwrap_err().unwrap();
        assert_eq!(
            error.to_string(),
            "the substitutions of the file come to more than 4 MiB; repeat less of a long value"
        );
        assert_eq!(expand("${LONG}", &env, &made).unwrap_err(), None, "told once");
    }
}
