//! The JSON Schema of a configuration file (2020-12), for editors.
//!
//! Fields, types and descriptions are those of the raw structs, defaults those that hold where nothing is said.
//! It is wider than the rules on purpose: what depends on other values, other files or the environment only
//! `config check` can tell. What is accepted there is valid here, so that an editor marks nothing that is right.
//!
//! It keeps to what editors understand of JSON Schema: each kind has all its fields in one object (and no
//! `unevaluatedProperties`), and an entry is told apart by `if` and `then`. What they show instead of a pattern is
//! `patternErrorMessage`.

mod entry;
mod scalars;

pub(super) use entry::{Entry, NAME};
pub(super) use scalars::{one_of, or_switch};

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::effective;
use super::layers::DEFAULT;
use super::plan::{TlsPlan, Verify};
use super::raw::Raw;
use super::validate;
use crate::health::Kind;

/// The schema.
pub fn schema() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut root = generator.into_root_schema_for::<Raw>().to_value();
    let mut defs = Map::new();
    for (name, mut definition) in root["$defs"].as_object().cloned().unwrap_or_default() {
        // The docs of a struct are for us, those of the field that holds it for its user.
        definition.as_object_mut().and_then(|definition| definition.remove("description"));
        defs.insert(plain_name(&name), definition);
    }
    let mut schema = json!({
        "$schema": root["$schema"].take(),
        "title": "Sickbay configuration",
        "type": "object",
        "properties": root["properties"].take(),
        "additionalProperties": false,
        "$defs": defs,
    });
    tidy(&mut schema);
    set_defaults(&mut schema);
    // One that is the whole scalar takes the type of its field; what a text comes to that holds one, is judged when
    // it is read.
    schema["$defs"]["substitution"] = json!({"type": "string", "pattern": format!("^{REFERENCE}$")});
    schema["$defs"]["text_with_substitution"] = json!({"type": "string", "pattern": REFERENCE});
    schema
}

/// `${NAME}`, `${NAME:-default}`, `${file:/path}`.
const REFERENCE: &str = r"\$\{(file:[^}]+|[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?)\}";

/// `http_expect` for `RawHttpExpect`.
fn plain_name(name: &str) -> String {
    let mut plain = String::new();
    for c in name.strip_prefix("Raw").unwrap_or(name).chars() {
        if c.is_ascii_uppercase() && !plain.is_empty() {
            plain.push('_');
        }
        plain.push(c.to_ascii_lowercase());
    }
    plain
}

const DEFS: &str = "#/$defs/";

/// Goes through a schema and all below it: names as in the YAML, texts in one line, and a substitution wherever
/// a scalar has to be of a certain form. The conditions of entries stay as they are.
fn tidy(schema: &mut Value) {
    if let Some(schema) = tidy_one_of_several(schema) {
        allow_substitution(schema);
    }
}

/// The same of one of several forms of a value: whether it may be a substitution instead is said beside it.
fn tidy_one_of_several(schema: &mut Value) -> Option<&mut Map<String, Value>> {
    let schema = schema.as_object_mut()?;
    if let Some(Value::String(target)) = schema.get_mut("$ref")
        && let Some(name) = target.strip_prefix(DEFS)
    {
        let (name, rest) = name.split_at(name.find('/').unwrap_or(name.len()));
        *target = format!("{DEFS}{}{rest}", plain_name(name));
    }
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    // Rust's, not YAML's.
    schema.remove("format");
    for (keyword, below) in schema.iter_mut() {
        match (keyword.as_str(), below) {
            ("properties" | "$defs", Value::Object(schemas)) => schemas.values_mut().for_each(tidy),
            ("anyOf", Value::Array(schemas)) => schemas.iter_mut().for_each(|schema| {
                tidy_one_of_several(schema);
            }),
            ("additionalProperties", below) => tidy(below),
            ("items", below) => {
                tidy(below);
                // Of a list, nothing can be left empty.
                if below["$ref"].is_string() {
                    below["type"] = json!("object");
                }
            }
            _ => {}
        }
    }
    // A map that may be left empty says so itself, so that what is wrong in it is told at its place.
    if let Some(map) = schema.get("anyOf").and_then(map_or_nothing) {
        schema.remove("anyOf");
        schema.insert("$ref".to_owned(), map);
    }
    if let Some(form) = schema.get_mut("type").filter(|form| *form == "object") {
        *form = json!(["object", "null"]);
    }
    Some(schema)
}

/// The reference to a map's definition, if these forms are that and null.
fn map_or_nothing(forms: &Value) -> Option<Value> {
    match forms.as_array()?.as_slice() {
        [map, nothing] if nothing["type"] == "null" => map.get("$ref").cloned(),
        _ => None,
    }
}

/// Lets a scalar of a certain form be a substitution instead.
fn allow_substitution(schema: &mut Map<String, Value>) {
    let of = |names: &[&str]| match schema.get("type") {
        Some(Value::String(name)) => names.contains(&name.as_str()),
        Some(Value::Array(list)) => list.iter().any(|name| name.as_str().is_some_and(|n| names.contains(&n))),
        _ => false,
    };
    let formed = schema.contains_key("pattern") || schema.contains_key("enum");
    let instead = if of(&["integer", "number", "boolean"]) {
        "substitution"
    } else if of(&["string"]) && formed {
        "text_with_substitution"
    } else {
        return;
    };
    let (about, form): (Map<_, _>, Map<_, _>) =
        std::mem::take(schema).into_iter().partition(|(keyword, _)| keyword == "description");
    *schema = about;
    schema.insert("anyOf".to_owned(), json!([form, {"$ref": format!("{DEFS}{instead}")}]));
}

/// Adds the defaults that hold where nothing is said: in the sections, in what every dependency has, in each kind,
/// in each entry of its lists.
fn set_defaults(schema: &mut Value) {
    let sections = compiled_in();
    for (section, name) in [
        ("service", "service"),
        ("server", "server"),
        ("log", "log"),
        ("resolver", "resolver"),
        ("defaults", "checking"),
    ] {
        set_defaults_of(schema, name, &sections[section]);
    }
    set_defaults_of(schema, "dependency", &json!({"enabled": true, "depends_on": []}));
    for kind in Kind::ALL {
        let granted = validate::granted(*kind);
        let mut defaults = effective::probe(&granted.probe);
        for required in granted.missing {
            defaults[required] = Value::Null;
        }
        set_defaults_of(schema, kind.as_str(), &defaults);
    }
    let (query, required) = validate::granted_query();
    let mut defaults = effective::query(&query);
    for required in required {
        defaults[required] = Value::Null;
    }
    set_defaults_of(schema, "query", &defaults);
    let (token, required) = validate::granted_token();
    let mut defaults = effective::token(&token);
    for field in [required, "token"] {
        defaults[field] = Value::Null;
    }
    set_defaults_of(schema, "token", &defaults);
    let tls = TlsPlan { verify: Verify::Full, root_cert: None };
    set_defaults_of(schema, "tls", &effective::tls(Some(&tls)));
}

/// Adds defaults to the fields of one definition, and to those of the maps in it.
fn set_defaults_of(schema: &mut Value, name: &str, defaults: &Value) {
    for (field, default) in defaults.as_object().into_iter().flatten() {
        let definition = schema.pointer_mut(&format!("/$defs/{name}"));
        let Some(property) = definition.and_then(map_in).and_then(|map| map["properties"].get_mut(field))
        else {
            continue;
        };
        match (default, map_of(property)) {
            (Value::Null, _) => {}
            // A switch or a map of settings; what holds is that it is off.
            (Value::Object(map), Some(below)) if below == "tls" => {
                property["default"] = map["enabled"].clone()
            }
            (Value::Object(_), Some(below)) => set_defaults_of(schema, &below, default),
            _ => property["default"] = default.clone(),
        }
    }
}

/// The map among the forms of a value.
fn map_in(definition: &mut Value) -> Option<&mut Value> {
    if definition["properties"].is_object() {
        return Some(definition);
    }
    definition["anyOf"].as_array_mut()?.iter_mut().find(|form| form["properties"].is_object())
}

/// The name of the definition of the map that stands in a field.
fn map_of(property: &Value) -> Option<String> {
    let options = property["anyOf"].as_array().into_iter().flatten();
    let target = options.chain([property]).find_map(|option| option["$ref"].as_str())?;
    target.strip_prefix(DEFS).filter(|name| !name.contains("substitution")).map(str::to_owned)
}

/// The compiled-in default, whose values are plain. That it can be read is tested.
fn compiled_in() -> Value {
    serde_yaml::from_str(DEFAULT).unwrap_or_default()
}
