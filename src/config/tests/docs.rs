//! What `docs/` says of the configuration is made here, of the same source as the program: the tables of fields
//! and variables, the errors of the example, and the schema as a file.
//!
//! `make docs` writes it; without `SICKBAY_WRITE` these tests compare.

use std::fmt::Write as _;
use std::fs;

use serde_json::Value;

use super::*;
use crate::config::bound::OFF;
use crate::config::decode::fields;
use crate::config::env::{Sets, VARIABLES};
use crate::config::raw::{RawChecking, RawDependency};
use crate::config::schema::schema;
use crate::config::validate::{granted, granted_query, granted_token};
use crate::health::Kind;

const PAGE: &str = "docs/configuration.md";
const BEGIN: &str = "<!-- `make docs` writes what follows: ";
const END: &str = "<!-- up to here -->";

/// The sections of the page that are made, by their names.
fn sections() -> Vec<(String, String)> {
    let schema = schema();
    let mut made = vec![
        ("variables".to_owned(), variables()),
        ("variables without effect".to_owned(), without_effect()),
    ];
    for section in schema["properties"].as_object().unwrap().keys().filter(|name| *name != "dependencies") {
        // `defaults` are the settings of checking, which every dependency has as well.
        let definition = if section == "defaults" { "checking" } else { section };
        let mut table = Table::new(&schema);
        if section == "server" {
            table.required = vec![format!("admin_tokens[].{}", granted_token().1)];
        }
        made.push((format!("fields of {section}"), table.of(definition, |_| true)));
    }
    made.push(("fields of every dependency".to_owned(), Table::new(&schema).of("dependency", |_| true)));
    for kind in Kind::ALL {
        let common = [fields::<RawDependency>(), fields::<RawChecking>()].concat();
        let mut table = Table::new(&schema);
        table.required = granted(*kind).missing.into_iter().map(str::to_owned).collect();
        table.required.extend(granted_query().1.map(|field| format!("queries[].{field}")));
        made.push((format!("fields of {kind}"), table.of(kind.as_str(), |field| !common.contains(&field))));
    }
    made.push(("fields of tls".to_owned(), Table::new(&schema).of("tls", |_| true)));
    made.push(("errors".to_owned(), errors_of_the_example()));
    made
}

/// A table of fields.
struct Table<'a> {
    schema: &'a Value,
    /// Those that have no default because somebody has to say them.
    required: Vec<String>,
    rows: String,
}

impl<'a> Table<'a> {
    fn new(schema: &'a Value) -> Self {
        let rows = "| field | value | default | |\n| --- | --- | --- | --- |\n".to_owned();
        Self { schema, required: Vec::new(), rows }
    }

    fn of(mut self, definition: &str, wanted: impl Fn(&str) -> bool) -> String {
        if definition == "dependency" {
            self.required = ["name", "kind", "impact"].map(str::to_owned).into();
        }
        let definition = &self.schema["$defs"][definition];
        let forms = definition["anyOf"].as_array().into_iter().flatten().chain([definition]);
        let map = forms.map(|form| &form["properties"]).find_map(Value::as_object).unwrap();
        for (name, property) in map.iter().filter(|(name, _)| wanted(name)) {
            self.row(name, property);
        }
        self.rows
    }

    fn row(&mut self, name: &str, property: &Value) {
        // A map has a row for each of its fields; that of TLS has a table of its own.
        if let Some(map) = self.map_of(property).filter(|_| !is_tls(property)) {
            for (field, property) in map {
                self.row(&format!("{name}.{field}"), property);
            }
            return;
        }
        let default = match &property["default"] {
            Value::Null if self.required.iter().any(|required| required == name) => "required".to_owned(),
            Value::Null => "–".to_owned(),
            Value::String(text) => format!("`{text}`"),
            Value::Array(list) if list.iter().all(Value::is_string) => {
                let texts: Vec<_> = list.iter().filter_map(Value::as_str).collect();
                format!("`[{}]`", texts.join(", "))
            }
            other => format!("`{other}`"),
        };
        let values = values(property);
        let about = property["description"].as_str().unwrap_or_else(|| panic!("{name} has no docs"));
        let about = about.strip_suffix('.').unwrap_or(about).replace('|', "\\|");
        writeln!(self.rows, "| `{name}` | {values} | {default} | {about} |").unwrap();
        if let Some(map) = property["items"].get("$ref").and_then(|target| self.pointed_to(target)) {
            for (field, property) in map {
                self.row(&format!("{name}[].{field}"), property);
            }
        }
    }

    fn map_of(&self, property: &Value) -> Option<&'a serde_json::Map<String, Value>> {
        self.pointed_to(property.get("$ref")?)
    }

    fn pointed_to(&self, target: &Value) -> Option<&'a serde_json::Map<String, Value>> {
        self.schema.pointer(target.as_str()?.strip_prefix('#')?)?["properties"].as_object()
    }
}

fn is_tls(property: &Value) -> bool {
    let mut forms = property["anyOf"].as_array().into_iter().flatten().chain([property]);
    forms.any(|form| form["$ref"] == "#/$defs/tls")
}

/// What may stand in a field, for people.
fn values(property: &Value) -> String {
    if is_tls(property) {
        return "`true`, `false`, or [a map](#tls)".to_owned();
    }
    // Beside each scalar of a certain form stands that it may be a substitution.
    let form = property["anyOf"].as_array().map_or(property, |forms| &forms[0]);
    let is = |name: &str| {
        form["type"] == name || form["type"].as_array().is_some_and(|names| names.contains(&name.into()))
    };
    if let Some(members) = form["enum"].as_array() {
        let members: Vec<_> =
            members.iter().filter_map(Value::as_str).map(|name| format!("`{name}`")).collect();
        return members.join(", ");
    }
    let range = || Some(format!("{} to {}", form.get("minimum")?, form.get("maximum")?));
    let pattern = form["pattern"].as_str().unwrap_or_default();
    let or_off = if pattern.contains(OFF) { ", or `off`" } else { "" };
    match () {
        () if is("integer") => range().unwrap_or_else(|| "whole number".to_owned()),
        () if is("number") => range().unwrap_or_else(|| "number".to_owned()),
        () if is("boolean") => "`true`, `false`".to_owned(),
        () if is("array") => "list".to_owned(),
        () if is("object") => "map".to_owned(),
        () if pattern.contains("ms") => format!("[duration](#durations){or_off}"),
        () if pattern.contains('%') => format!("share, such as `80%`{or_off}"),
        () => "text".to_owned(),
    }
}

fn variables() -> String {
    let mut table = "| variable | default | sets | |\n| --- | --- | --- | --- |\n".to_owned();
    for variable in VARIABLES.iter().filter(|variable| !matches!(variable.sets, Sets::NotYet { .. })) {
        let quoted = |text: Option<String>| text.map_or("–".to_owned(), |text| format!("`{text}`"));
        let default = quoted(variable.default.map(str::to_owned));
        let sets = quoted(variable.sets.place());
        writeln!(table, "| `{}` | {default} | {sets} | {} |", variable.name, variable.doc).unwrap();
    }
    table
}

fn without_effect() -> String {
    let names = VARIABLES.iter().filter(|variable| matches!(variable.sets, Sets::NotYet { .. }));
    let names: Vec<_> = names.map(|variable| format!("`{}`", variable.name)).collect();
    format!(
        "Known and without effect in this version: {}. One that switches something on is warned about.\n",
        names.join(", ")
    )
}

/// What the program says of the example that stands above it.
fn errors_of_the_example() -> String {
    let page = fs::read_to_string(PAGE).unwrap();
    let section = page.split_once("## Errors").unwrap().1;
    let example = section.split_once("```yaml").unwrap().1.split_once("```").unwrap().0;
    let files = Files::new(&[]);
    let bad = files.add("bad.yaml", example.trim());
    let sources = Sources { files: vec![bad.into()], ..files.sources(&[("DATABASE_PORT", "70000")]) };
    let printed = load(&sources).unwrap_err().to_string();
    format!("```text\n{}\n```\n", files.plain(&printed))
}

/// Writes the file, or holds it to be as it would be written.
fn write_or_compare(file: &str, made: &str) {
    if std::env::var_os("SICKBAY_WRITE").is_some() {
        fs::write(file, made).unwrap();
    }
    let kept = fs::read_to_string(file).unwrap_or_default();
    let differing = made.lines().zip(kept.lines()).find(|(made, kept)| made != kept);
    assert!(made == kept, "{file} is stale: run `make docs`. The first difference: {differing:#?}");
}

#[test]
fn the_page_has_what_the_source_says() {
    let page = fs::read_to_string(PAGE).unwrap();
    let mut made = sections();
    let mut parts = page.split(BEGIN);
    let mut written = parts.next().unwrap().to_owned();
    for part in parts {
        let (name, rest) = part.split_once(" -->\n").unwrap();
        let (_, rest) = rest.split_once(END).unwrap_or_else(|| panic!("{PAGE}: {name} does not end"));
        let section = made.iter().position(|(made, _)| made == name);
        let (_, content) =
            made.remove(section.unwrap_or_else(|| panic!("{PAGE}: {name} is not made, or stands twice")));
        write!(written, "{BEGIN}{name} -->\n\n{content}\n{END}{rest}").unwrap();
    }
    let missing: Vec<_> = made.iter().map(|(name, _)| format!("{BEGIN}{name} -->\n{END}")).collect();
    assert!(missing.is_empty(), "{PAGE} has no place for these, add it:\n{}", missing.join("\n"));
    write_or_compare(PAGE, &written);
}

#[test]
fn the_schema_is_kept_as_a_file() {
    write_or_compare("docs/config.schema.json", &format!("{:#}\n", schema()));
}
