//! Finds the paths in Rust source.
//!
//! It reads tokens, not as a compiler does: paths wherever they stand, in `use` with its braces, in types,
//! in the bodies of macros, which a parser would leave unread.

use std::collections::BTreeSet;

/// Words that can stand before a leading `::`, and are no part of the path.
const KEYWORDS: &[&str] =
    &["as", "dyn", "else", "for", "if", "impl", "in", "match", "mut", "return", "where"];

/// A path and the line on which it ends.
#[derive(Debug)]
pub struct Used {
    pub line: usize,
    pub path: Vec<String>,
}

#[derive(Debug, Default)]
pub struct Paths {
    /// From the crate's root.
    pub inner: Vec<Used>,
    /// Into other crates, as far as their first segment is no name of the file's own.
    pub outer: Vec<Used>,
}

#[derive(Debug, PartialEq)]
enum Token {
    Name(String),
    /// `::`
    Join,
    Other(char),
}

/// Finds every path. `module` is the file's own.
pub fn paths(text: &str, module: &[&str]) -> Paths {
    let tokens = &tokens(text)[..];
    let mut found = Paths::default();
    // Inline modules around the place, and the depth of braces at which each ends.
    let mut inside: Vec<(String, usize)> = Vec::new();
    let mut depth = 0;
    // Names that this file declares or imports, which hide a crate of the same name.
    let mut own_names: BTreeSet<String> = BTreeSet::new();
    let mut at = 0;
    while let Some((_, token)) = tokens.get(at) {
        let next = tokens.get(at + 1).map(|(_, token)| token);
        let after_dot = at > 0 && tokens[at - 1].1 == Token::Other('.');
        match token {
            Token::Other('{') => depth += 1,
            Token::Other('}') => {
                depth -= 1;
                if inside.last().is_some_and(|(_, until)| *until == depth) {
                    inside.pop();
                }
            }
            Token::Name(word) if word == "mod" => {
                if let Some(Token::Name(name)) = next {
                    match tokens.get(at + 2) {
                        Some((_, Token::Other('{'))) => inside.push((name.clone(), depth)),
                        _ => drop(own_names.insert(name.clone())),
                    }
                    at += 1;
                }
            }
            Token::Name(word) if word == "use" => {
                let mut tree = Vec::new();
                at = read_tree(tokens, at + 1, &[], &mut tree);
                let here = place(module, &inside);
                for used in tree {
                    if let Some(name) = sort_in(used, &here, &mut found) {
                        own_names.insert(name);
                    }
                }
                continue;
            }
            // `value.name::<T>()` is no path, and neither is what a keyword stands before.
            Token::Name(word)
                if next == Some(&Token::Join) && (after_dot || KEYWORDS.contains(&&word[..])) => {}
            Token::Name(_) | Token::Join if next == Some(&Token::Join) || *token == Token::Join => {
                let mut tree = Vec::new();
                at = read_tree(tokens, at, &[], &mut tree);
                let here = place(module, &inside);
                for used in tree {
                    sort_in(used, &here, &mut found);
                }
                continue;
            }
            Token::Name(_) | Token::Join | Token::Other(_) => {}
        }
        at += 1;
    }
    found.outer.retain(|used| used.path.first().is_none_or(|name| !own_names.contains(name)));
    // `::redis` is the crate, whatever the file's own names.
    for used in &mut found.outer {
        used.path.retain(|segment| !segment.is_empty());
    }
    found
}

/// The module around a place in a file.
fn place(module: &[&str], inside: &[(String, usize)]) -> Vec<String> {
    let inline = inside.iter().map(|(name, _)| name.clone());
    module.iter().map(|name| (*name).to_owned()).chain(inline).collect()
}

/// Puts a path where it belongs. Gives the name that it brings in, where it is one of the crate's own.
fn sort_in(used: Used, here: &[String], found: &mut Paths) -> Option<String> {
    let Used { line, path } = used;
    let words: Vec<&str> = path.iter().map(String::as_str).collect();
    let path = match words[..] {
        ["crate" | "sickbay", ..] => path[1..].to_vec(),
        ["self", ..] => [here, &path[1..]].concat(),
        ["super", ..] => {
            let up = words.iter().take_while(|word| **word == "super").count();
            [&here[..here.len().saturating_sub(up)], &path[up..]].concat()
        }
        _ => {
            found.outer.push(Used { line, path });
            return None;
        }
    };
    let name = path.last().cloned();
    found.inner.push(Used { line, path });
    name
}

/// Reads `a::b::{c, d::e}` from `at` into all of its paths, each below `prefix`; gives the place after it.
fn read_tree(tokens: &[(usize, Token)], mut at: usize, prefix: &[String], found: &mut Vec<Used>) -> usize {
    let mut path = prefix.to_vec();
    // A leading `::` means a crate: an empty segment keeps it apart from the file's own names.
    if prefix.is_empty() && tokens.get(at).is_some_and(|(_, token)| *token == Token::Join) {
        path.push(String::new());
    }
    let mut line = tokens.get(at).map_or(0, |(line, _)| *line);
    loop {
        match tokens.get(at) {
            Some((_, Token::Join)) => at += 1,
            Some((_, Token::Other('{'))) => {
                at += 1;
                while let Some((_, token)) = tokens.get(at) {
                    match token {
                        Token::Other('}') => return at + 1,
                        Token::Other(',') => at += 1,
                        // The new name is of no interest here.
                        Token::Name(word) if word == "as" => at += 2,
                        _ => {
                            let before = at;
                            at = read_tree(tokens, at, &path, found);
                            // `*`: the path before it stands for all.
                            if at == before {
                                at += 1;
                            }
                        }
                    }
                }
                return at;
            }
            Some((its_line, Token::Name(name))) => {
                line = *its_line;
                // `{self}` is the path itself.
                if name != "self" || path.is_empty() {
                    path.push(name.clone());
                }
                at += 1;
                if !matches!(tokens.get(at), Some((_, Token::Join))) {
                    break;
                }
            }
            _ => break,
        }
    }
    if !path.is_empty() {
        found.push(Used { line, path });
    }
    at
}

/// Splits source into names, `::` and the rest, each with its line. Comments and literals are left out.
fn tokens(text: &str) -> Vec<(usize, Token)> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    while let Some(&c) = chars.get(at) {
        let start = at;
        let next = chars.get(at + 1).copied().unwrap_or(' ');
        match c {
            '/' if next == '/' => at += chars[at..].iter().take_while(|c| **c != '\n').count(),
            '/' if next == '*' => at = after_comment(&chars, at),
            '"' => at = after_string(&chars, at + 1),
            'r' | 'b' if raw_hashes(&chars, at).is_some() => at = after_raw_string(&chars, at),
            'b' if next == '"' => at = after_string(&chars, at + 2),
            // A character, and not a lifetime: escaped, or closed after one.
            '\'' if next == '\\' => {
                at = at + 3 + chars[at + 3..].iter().take_while(|c| **c != '\'').count() + 1
            }
            '\'' if chars.get(at + 2) == Some(&'\'') => at += 3,
            ':' if next == ':' => {
                tokens.push((line, Token::Join));
                at += 2;
            }
            c if is_name(c) => {
                at += chars[at..].iter().take_while(|c| is_name(**c)).count();
                tokens.push((line, Token::Name(chars[start..at].iter().collect())));
            }
            c => {
                if !c.is_whitespace() {
                    tokens.push((line, Token::Other(c)));
                }
                at += 1;
            }
        }
        line += chars[start..at.min(chars.len())].iter().filter(|c| **c == '\n').count();
    }
    tokens
}

/// Comments nest.
fn after_comment(chars: &[char], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at < chars.len() {
        match chars[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn after_string(chars: &[char], mut at: usize) -> usize {
    while let Some(c) = chars.get(at) {
        match c {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    at
}

/// The number of `#` in `r#"`, `br"` and their like.
fn raw_hashes(chars: &[char], at: usize) -> Option<usize> {
    let rest = &chars[at..];
    let rest = rest.strip_prefix(&['b']).unwrap_or(rest).strip_prefix(&['r'])?;
    let hashes = rest.iter().take_while(|c| **c == '#').count();
    (rest.get(hashes) == Some(&'"')).then_some(hashes)
}

fn after_raw_string(chars: &[char], at: usize) -> usize {
    let hashes = raw_hashes(chars, at).expect("the start of a raw string");
    let body = at + chars[at..].iter().take_while(|c| **c != '"').count() + 1;
    let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let length = chars[body..].windows(end.len()).take_while(|window| **window != end[..]).count();
    body + length + end.len()
}
