//! Commands that an engineer can copy: filled in, and quoted so that a shell takes each word for one word.

use std::fmt;

/// A command in the making.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Command(String);

impl Command {
    /// Program and subcommands; all of our own.
    pub(super) fn new(words: &'static str) -> Self {
        Self(words.to_owned())
    }

    /// A word, quoted where it has to be.
    pub(super) fn word(mut self, word: &str) -> Self {
        self.0.push(' ');
        self.0.push_str(&quoted(word));
        self
    }

    /// An option with its value.
    pub(super) fn option(self, name: &'static str, value: &str) -> Self {
        Self(format!("{} {name}", self.0)).word(value)
    }

    /// An option with its value, where there is one.
    pub(super) fn option_if(self, name: &'static str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.option(name, value),
            None => self,
        }
    }

    /// An option whose value is a prefix and what another command prints.
    pub(super) fn option_from(self, name: &'static str, prefix: &'static str, from: &Self) -> Self {
        Self(format!("{} {name} {prefix}$({from})", self.0))
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A word for a POSIX shell. Control characters, which no setting of use has, are left out: a line stays a line.
fn quoted(word: &str) -> String {
    const PLAIN: &[u8] = b"-_.,:/=@%+";
    let word: String = word.chars().filter(|c| !c.is_control()).collect();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || PLAIN.contains(&byte);
    match !word.is_empty() && word.bytes().all(plain) {
        true => word,
        // SQL has single quotes of its own.
        false if word.contains('\'') && !word.contains(['"', '$', '`', '\\', '!']) => format!("\"{word}\""),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_would_read_more_into_them() {
        for (word, told) in [
            ("db.internal", "db.internal"),
            ("Name=association.subnet-id,Values=10.0.3.7", "Name=association.subnet-id,Values=10.0.3.7"),
            ("", "''"),
            ("two words", "'two words'"),
            ("$(reboot)", "'$(reboot)'"),
            ("`reboot`", "'`reboot`'"),
            ("it's", "\"it's\""),
            ("it's $5", r"'it'\''s $5'"),
            ("a;b&c|d>e", "'a;b&c|d>e'"),
            ("a\nb\u{1b}[31m", "'ab[31m'"),
            ("Grüße", "'Grüße'"),
            ("~", "'~'"),
        ] {
            assert_eq!(quoted(word), told);
        }
    }

    #[test]
    fn a_shell_reads_every_word_as_it_was() {
        let hostile = ["$(id)", "a b", "'", "\\", "\"", "`id`", "*", "#x", "~", "!!", "-rf", "a'b\"c$d"];
        let command = hostile.iter().fold(Command::new("printf '%s\\n'"), |command, word| command.word(word));
        let output = std::process::Command::new("sh").arg("-c").arg(command.to_string()).output().unwrap();
        let lines: Vec<_> = std::str::from_utf8(&output.stdout).unwrap().lines().map(str::to_owned).collect();
        assert_eq!(lines, hostile, "{command}");
    }
}
