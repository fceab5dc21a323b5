//! The entries of `dependencies`, told apart by their kind; what is compiled in has one already.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::{DEFS, compiled_in};
use crate::config::decode::fields;
use crate::config::env::other_kind;
use crate::config::raw::{RawChecking, RawDependency, RawDns, RawHttp, RawPostgres, RawRedis, RawTcp};
use crate::health::Kind;

/// An entry of `dependencies`.
pub(in crate::config) struct Entry;

impl JsonSchema for Entry {
    fn schema_name() -> Cow<'static, str> {
        "entry".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let _ = (generator.subschema_for::<RawDependency>(), generator.subschema_for::<RawChecking>());
        let mut rules = Vec::new();
        for kind in Kind::ALL {
            let schema = of_kind(*kind, generator);
            generator.definitions_mut().insert(kind.as_str().to_owned(), schema);
            let condition = json!({"properties": {"kind": {"const": kind.as_str()}}, "required": ["kind"]});
            rules.push(json!({"if": condition, "then": {"$ref": format!("{DEFS}{kind}")}}));
        }
        // What is compiled in has its kind and its impact.
        let compiled_in = compiled_in();
        let known = compiled_in["dependencies"].as_array().into_iter().flatten();
        let known: Vec<(&Value, &Value)> = known.map(|entry| (&entry["name"], &entry["kind"])).collect();
        for (name, kind) in &known {
            let (name, kind) = (name.as_str().unwrap_or_default(), kind.as_str().unwrap_or_default());
            let mut holds = kind.to_owned();
            if let Some(other) = other_kind(name) {
                let definitions = generator.definitions_mut();
                let schema = either([kind, other.as_str()], definitions);
                definitions.insert(name.to_owned(), schema);
                holds = name.to_owned();
            }
            let condition = json!({
                "properties": {"name": {"const": name}},
                "required": ["name"],
                "not": {"required": ["kind"]},
            });
            rules.push(json!({"if": condition, "then": {"$ref": format!("{DEFS}{holds}")}}));
        }
        let names: Vec<_> = known.iter().map(|(name, _)| name).collect();
        let own = json!({"pattern": NAME, "not": {"enum": names}});
        rules.push(json!({
            "if": {"properties": {"name": own}, "required": ["name"]},
            "then": {"required": ["kind", "impact"]},
        }));
        json_schema!({
            "type": "object",
            "properties": {"name": field("dependency", "name"), "kind": field("dependency", "kind")},
            "required": ["name"],
            "allOf": rules,
        })
    }
}

/// The fields of a dependency of this kind, in one object: what every dependency has, then the kind's own, then how
/// it is checked.
fn of_kind(kind: Kind, generator: &mut SchemaGenerator) -> Value {
    let own = match kind {
        Kind::Postgres => RawPostgres::json_schema(generator),
        Kind::Redis => RawRedis::json_schema(generator),
        Kind::Dns => RawDns::json_schema(generator),
        Kind::Tcp => RawTcp::json_schema(generator),
        Kind::Http => RawHttp::json_schema(generator),
    };
    let shared = |of: &'static str, fields: &'static [&'static str]| {
        fields.iter().map(move |name| ((*name).to_owned(), field(of, name)))
    };
    let mut properties: Map<String, Value> = shared("dependency", fields::<RawDependency>()).collect();
    properties.extend(own.get("properties").and_then(Value::as_object).cloned().unwrap_or_default());
    properties.extend(shared("checking", fields::<RawChecking>()));
    json!({"type": "object", "properties": properties, "additionalProperties": false})
}

/// The fields of two kinds: what a file says of a dependency that a variable may make the other one. What does not fit
/// the kind that it comes to is left out then, so both may stand side by side.
fn either(kinds: [&str; 2], definitions: &Map<String, Value>) -> Value {
    let [one, other] = kinds.map(|kind| (kind, &definitions[kind]["properties"]));
    let mut properties = Map::new();
    for (kind, fields) in [one, other] {
        for name in fields.as_object().into_iter().flat_map(Map::keys) {
            let same = |(kind, fields): (&str, &Value)| {
                fields.get(name).map(|schema| (schema.clone(), json!({"$ref": field_path(kind, name)})))
            };
            let schema = match (same(one), same(other)) {
                (Some((schema, first)), Some((other, second))) if schema != other => {
                    json!({"anyOf": [first, second]})
                }
                _ => json!({"$ref": field_path(kind, name)}),
            };
            properties.entry(name).or_insert(schema);
        }
    }
    json!({"type": "object", "properties": properties, "additionalProperties": false})
}

/// Points to a field of another definition.
fn field(of: &str, name: &str) -> Value {
    json!({"$ref": field_path(of, name)})
}

fn field_path(of: &str, name: &str) -> String {
    format!("{DEFS}{of}/properties/{name}")
}

/// What [`DependencyName`](crate::health::DependencyName) allows.
pub(in crate::config) const NAME: &str = "^[a-z][a-z0-9_-]{0,62}$";
