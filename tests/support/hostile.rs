//! Configurations that are too large to be kept as files, or that need what no file can hold.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStringExt as _;

/// A file, and variables with it.
#[derive(Debug, Default)]
pub struct Hostile {
    /// What its expected errors are called: `NAME.txt` beside the kept files.
    pub name: &'static str,
    /// The file.
    pub text: String,
    /// The variables.
    pub env: Vec<(&'static str, OsString)>,
}

/// All of them.
pub fn all() -> Vec<Hostile> {
    let of = |name, text| Hostile { name, text, env: Vec::new() };
    let numbered = |lines: usize, line: fn(usize) -> String| (0..lines).map(line).collect::<String>();
    let mut aliases = format!("dependencies:\n- name: &long {}\n", "x".repeat(500_000));
    aliases.push_str(&"- {name: *long}\n".repeat(20));
    let mut long = String::from("service:\n  name: ");
    for _ in 0..100 {
        let _ = write!(long, "${{LONG}}");
    }
    vec![
        // 900 open brackets for each of 300,000 tokens: the parser would look at 270 million.
        of("open-brackets-all-along", format!("{}\n{}", "{a: ".repeat(900), "b, ".repeat(300_000))),
        of("tag-directives", numbered(60_000, |n| format!("%TAG !{n}! x:\n"))),
        of("too-many-values", format!("depends_on: [{}]\n", "a, ".repeat(200_000))),
        of("too-much-text", aliases),
        of(
            "expected-text-too-long",
            format!("dependencies:\n- {{name: api, port: 8000, expect: {}}}\n", "x".repeat(64 * 1024 + 1)),
        ),
        of("more-than-100-errors", numbered(50_000, |n| format!("key-{n}: x\n"))),
        Hostile { env: vec![("LONG", "x".repeat(100_000).into())], ..of("long-variable-many-times", long) },
        Hostile {
            env: vec![("DATABASE_PASSWORD", OsString::from_vec(b"hunter2\xff".to_vec()))],
            ..of("variable-not-utf-8", "{}\n".to_owned())
        },
    ]
}
