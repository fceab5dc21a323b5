//! The schema, by a validator that is not ours: what is accepted is valid in it, what it claims to be valid is
//! accepted, and of what is refused it finds all that one value alone can show.

use std::fs;

use jsonschema::Validator;
use serde_json::{Value, json};

use super::*;
use crate::config::decode::fields;
use crate::config::raw::{RawChecking, RawDependency};
use crate::config::schema::schema;
use crate::health::Kind;

fn validator() -> Validator {
    jsonschema::draft202012::new(&schema()).unwrap()
}

/// What is wrong with a text, as an editor would tell.
fn invalid(validator: &Validator, yaml: &str) -> Option<String> {
    let content: Value = serde_yaml::from_str(yaml).unwrap();
    let errors: Vec<_> =
        validator.iter_errors(&content).map(|e| format!("{}: {e}", e.instance_path())).collect();
    (!errors.is_empty()).then(|| errors.join("\n"))
}

/// The YAML that a page of the docs shows.
fn shown_in(page: &str) -> Vec<String> {
    let text = fs::read_to_string(page).unwrap();
    let blocks = text.split("```yaml\n").skip(1);
    blocks.map(|block| block.split("\n```").next().unwrap().to_owned()).collect()
}

#[test]
fn is_a_schema() {
    assert_eq!(jsonschema::draft202012::meta::validate(&schema()).map_err(|e| e.to_string()), Ok(()));
}

#[test]
fn examples_are_valid_and_the_wrong_one_is_not() {
    let validator = validator();
    for file in ["config/default.yaml", "config/production.yaml", "config/local.yaml"] {
        assert_eq!(invalid(&validator, &fs::read_to_string(file).unwrap()), None, "{file}");
    }
    let (mut good, mut bad) = (0, 0);
    for block in ["README.md", "docs/configuration.md"].map(shown_in).concat() {
        // The one under "Errors".
        if block.contains("ssl_mode") {
            bad += 1;
            let told = invalid(&validator, &block).unwrap();
            assert!(told.contains("/defaults/interval: ") && told.contains("/dependencies/0: "), "{told}");
        } else {
            good += 1;
            assert_eq!(invalid(&validator, &block), None, "{block}");
        }
    }
    assert!(good >= 2 && bad == 1, "{good} {bad}");
}

/// Each says if it needs more than the schema knows: another value, a file, the environment.
#[test]
fn finds_what_is_wrong_in_the_invalid_files() {
    let validator = validator();
    let (mut found, mut silent) = (0, 0);
    for entry in fs::read_dir("tests/data/config").unwrap() {
        let file = entry.unwrap().path();
        let Ok(text) = fs::read_to_string(&file) else { continue };
        let is_yaml = file.extension().is_some_and(|ending| ending == "yaml");
        // What cannot be parsed is for the editor's parser to tell.
        let Ok(content) = serde_yaml::from_str::<serde_yaml::Value>(&text) else { continue };
        let Some(content) = serde_json::to_value(content).ok().filter(|_| is_yaml) else { continue };
        let cannot_tell = text.starts_with("# An editor cannot tell");
        assert_eq!(validator.is_valid(&content), cannot_tell, "{}", file.display());
        *(if cannot_tell { &mut silent } else { &mut found }) += 1;
    }
    assert!(found > 20 && silent > 20, "{found} {silent}");
}

/// A field of the schema: how a file says it, and what the schema says of it.
struct Field {
    path: String,
    /// The whole file, with this value in the field.
    file: Box<dyn Fn(Value) -> Value>,
    schema: Value,
}

/// Every field that is no map itself, in every section and every kind.
fn every_field() -> Vec<Field> {
    fn walk(
        schema: &Value,
        root: &Value,
        path: &str,
        file: &dyn Fn(Value) -> Value,
        found: &mut Vec<(String, Value, Value)>,
    ) {
        const HERE: &str = "here";
        for (name, property) in root.as_object().into_iter().flatten() {
            let property = resolved(schema, property);
            let path = format!("{path}.{name}");
            let below =
                options(schema, &property).into_iter().find(|option| option["properties"].is_object());
            let file = |value: Value| file(json!({ name: value }));
            match below {
                Some(map) => walk(schema, &map["properties"], &path, &file, found),
                None => found.push((path, property.clone(), file(json!(HERE)))),
            }
        }
    }
    let schema = schema();
    let mut found = Vec::new();
    for section in ["service", "server", "log", "defaults"] {
        let map = &options(&schema, &schema["properties"][section])[0];
        walk(&schema, &map["properties"], section, &|value| json!({section: value}), &mut found);
    }
    for kind in Kind::ALL {
        let base = minimal(*kind);
        let file = |value: Value| {
            let mut entry = base.clone();
            entry.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
            json!({"dependencies": [entry]})
        };
        let mut properties = schema["$defs"][kind.as_str()]["properties"].clone();
        // What all have in common is looked at once.
        if kind != &Kind::ALL[0] {
            properties.as_object_mut().unwrap().retain(|name, _| !common().contains(&name.as_str()));
        }
        walk(&schema, &properties, kind.as_str(), &file, &mut found);
    }
    let field = |(path, schema, template): (String, Value, Value)| {
        let file = move |value: Value| put(&template, &value);
        Field { path, file: Box::new(file), schema }
    };
    found.into_iter().map(field).collect()
}

/// The fields that every kind has.
fn common() -> Vec<&'static str> {
    [fields::<RawDependency>(), fields::<RawChecking>()].concat()
}

/// The template with the value where it says "here".
fn put(template: &Value, value: &Value) -> Value {
    match template {
        Value::String(text) if text == "here" => value.clone(),
        Value::Object(map) => map.iter().map(|(key, below)| (key.clone(), put(below, value))).collect(),
        Value::Array(list) => list.iter().map(|below| put(below, value)).collect(),
        other => other.clone(),
    }
}

/// A dependency with nothing but what is required.
fn minimal(kind: Kind) -> Value {
    let mut entry = json!({"name": "x", "kind": kind.as_str(), "impact": "none"});
    for field in crate::config::validate::granted(kind).missing {
        entry[field] = match field {
            "port" => json!(1),
            "url" => json!("http://host/"),
            _ => json!("host"),
        };
    }
    entry
}

/// What a `$ref` points to, with what stands beside it.
fn resolved(schema: &Value, property: &Value) -> Value {
    let Some(target) = property["$ref"].as_str() else { return property.clone() };
    let mut target = resolved(schema, schema.pointer(&target[1..]).unwrap());
    let beside = property.as_object().unwrap().iter().filter(|(keyword, _)| *keyword != "$ref");
    target.as_object_mut().unwrap().extend(beside.map(|(keyword, value)| (keyword.clone(), value.clone())));
    target
}

/// The forms that a value may have.
fn options(schema: &Value, property: &Value) -> Vec<Value> {
    match property["anyOf"].as_array() {
        Some(options) => options.iter().flat_map(|option| options_of(schema, option)).collect(),
        None => options_of(schema, property),
    }
}

fn options_of(schema: &Value, option: &Value) -> Vec<Value> {
    let option = resolved(schema, option);
    if option["anyOf"].is_array() { options(schema, &option) } else { vec![option] }
}

/// Whether the program accepts a file.
fn accepted(files: &Files, content: &Value) -> Result<(), String> {
    fs::write(&files.names[0], content.to_string()).unwrap();
    load(&files.sources(&[("WORD", "word")])).map(|_| ()).map_err(|errors| errors.to_string())
}

/// The values that the schema claims to be fine, and the nearest that it claims not to be.
fn claims(schema: &Value, field: &Field) -> (Vec<Value>, Vec<Value>) {
    let (mut fine, mut wrong) =
        (vec![field.schema["default"].clone()], vec![json!({"unknown": 1}), json!([[]])]);
    for option in options(schema, &field.schema) {
        let says = |name: &str| {
            option["type"] == name || option["type"].as_array().is_some_and(|t| t.contains(&json!(name)))
        };
        if let Some(members) = option["enum"].as_array() {
            fine.extend(members.iter().filter(|member| !member.is_null()).cloned());
            wrong.push(json!("nonsense"));
        }
        for (bound, beyond) in [("minimum", -1.0), ("maximum", 1.0)] {
            if let Some(number) = option[bound].as_f64() {
                // Whole numbers as such: the one field that takes others takes these, too.
                fine.push(json!(number as i64));
                wrong.push(json!((number + beyond) as i64));
            }
        }
        if says("integer") {
            wrong.extend([json!(1.5), json!("text")]);
        }
        if says("boolean") {
            fine.extend([json!(true), json!(false)]);
            wrong.push(json!("maybe"));
        }
        if option["pattern"].as_str().is_some_and(|pattern| pattern.contains("ms")) {
            wrong.extend([10, 0].map(|bare| json!(bare)));
            wrong
                .extend(["10", "10 s", "1.5s", "10S", "1w", "s", "", "30s1m", "-1s"].map(|text| json!(text)));
        }
        if option["pattern"].as_str().is_some_and(|pattern| pattern.contains('%')) {
            wrong.extend(["80", "0%", "101%", "80 %", "%"].map(|text| json!(text)));
            wrong.push(json!(80));
        }
    }
    fine.retain(|value| !value.is_null());
    (fine, wrong)
}

/// Two sets of rules, compared field by field. Whoever adds a field has nothing to do here; if it fails, its bounds
/// are missing: `#[schemars(range(min = 1, max = 100))]`.
#[test]
fn says_of_every_field_what_the_program_says() {
    let (schema, validator) = (schema(), validator());
    let files = Files::new(&[""]);
    let fields = every_field();
    assert!(fields.len() > 60, "{}", fields.len());
    for field in &fields {
        // Another kind has other fields; and whether reads can want a token depends on there being one.
        if field.path.ends_with(".kind") || field.path.ends_with(".require_token_for_reads") {
            continue;
        }
        let (fine, wrong) = claims(&schema, field);
        for value in fine {
            let file = (field.file)(value.clone());
            assert!(validator.is_valid(&file), "{} is not valid in the schema: {value}", field.path);
            assert_eq!(
                accepted(&files, &file),
                Ok(()),
                "{}: the schema claims that {value} is fine",
                field.path
            );
        }
        for value in wrong {
            let file = (field.file)(value.clone());
            assert!(accepted(&files, &file).is_err(), "{}: the program takes {value}", field.path);
            assert!(
                !validator.is_valid(&file),
                "{}: the schema finds nothing wrong with {value}",
                field.path
            );
        }
        // Whatever the program takes, the schema takes.
        for value in [
            json!(null),
            json!("${WORD}"),
            json!("${NONE:-}"),
            json!("1"),
            json!(1),
            json!("text"),
            json!([]),
        ] {
            // A list or a map can be a substitution if that comes out empty. Nobody writes it so.
            let several =
                field.schema["items"].is_object() || field.schema["additionalProperties"].is_object();
            if several && value == "${NONE:-}" {
                continue;
            }
            let file = (field.file)(value.clone());
            assert!(
                accepted(&files, &file).is_err() || validator.is_valid(&file),
                "{}: not valid in the schema: {value}",
                field.path
            );
        }
    }
}

/// An editor shows them; what holds is what the plan has.
#[test]
fn its_defaults_are_those_that_hold() {
    let files = Files::new(&[""]);
    let mut compared = 0;
    for field in every_field() {
        let mut steps = field.path.split('.');
        let (section, default) = (steps.next().unwrap(), &field.schema["default"]);
        let content = Kind::parse(section).map_or(json!({}), |kind| json!({"dependencies": [minimal(kind)]}));
        fs::write(&files.names[0], content.to_string()).unwrap();
        let effective = load(&files.sources(&[])).unwrap().effective().clone();
        let mut value =
            match effective["dependencies"].as_array().unwrap().iter().find(|entry| entry["name"] == "x") {
                Some(entry) => entry,
                None => &effective[section],
            };
        // A map of TLS settings is shown where there is TLS, and its defaults hold where a map is written.
        if field.path.contains(".tls.") {
            continue;
        }
        for step in steps {
            value = &value[step];
        }
        if default.is_null() {
            let set = !matches!(value, Value::Null)
                && !["name", "kind", "impact", "scope"].iter().any(|own| field.path.ends_with(own));
            let required = Kind::parse(section).is_some_and(|kind| {
                minimal(kind).pointer(&format!("/{}", field.path.split_once('.').unwrap().1)).is_some()
            });
            assert!(!set || required, "{}: {value} holds, and the schema has no default", field.path);
            continue;
        }
        compared += 1;
        assert_eq!(value, default, "{}", field.path);
    }
    assert!(compared > 40, "{compared}");
}

/// A file need not say of what kind a dependency is that a variable makes another one.
#[test]
fn what_a_variable_makes_another_kind_may_have_the_fields_of_either() {
    let (files, validator) = (Files::new(&[""]), validator());
    for entry in [
        json!({"name": "api", "port": 8080, "expect": {"status": [200]}}),
        json!({"name": "api", "port": 8080, "method": "HEAD", "headers": {"X-Key": "a"}, "tls": true}),
        json!({"name": "api", "port": 8080, "expect": "PONG"}),
    ] {
        let content = json!({"dependencies": [entry]});
        fs::write(&files.names[0], content.to_string()).unwrap();
        load(&files.sources(&[("API_HEALTH_PATH", "/health")])).unwrap_or_else(|errors| panic!("{errors}"));
        assert!(validator.is_valid(&content), "{content}");
    }
}

/// What holds of each query is shown in editors, too.
#[test]
fn fields_of_a_list_have_their_defaults() {
    let plan = plan(
        &["dependencies: [{name: database, host: h, queries: [{name: a, sql: SELECT 1, min: 1}]}]"],
        &[],
    );
    let query = &plan.effective()["dependencies"][0]["queries"][0];
    let schema = schema();
    let default = |field: &str| schema.pointer(&format!("/$defs/query/properties/{field}/default"));
    assert_eq!(default("on_failure"), Some(&query["on_failure"]));
    assert_eq!((default("name"), default("sql")), (None, None), "these have to be written");

    let plan = super::plan(&["server: {admin_tokens: [{name: a, token: 0123456789abcdef}]}"], &[]);
    let token = &plan.effective()["server"]["admin_tokens"][0];
    let default = |field: &str| schema.pointer(&format!("/$defs/token/properties/{field}/default"));
    assert_eq!(default("allow"), Some(&token["allow"]));
    assert_eq!((default("name"), default("token"), default("token_sha256")), (None, None, None));
}

#[test]
fn entries_need_what_is_not_compiled_in() {
    let validator = validator();
    let of = |entry: Value| validator.is_valid(&json!({"dependencies": [entry]}));
    for kind in Kind::ALL {
        for field in common().into_iter().filter(|field| !["name", "kind"].contains(field)) {
            let mut entry = minimal(*kind);
            entry[field] = json!(null);
            assert!(of(entry), "{kind} has {field}");
        }
    }
    for fine in [
        json!({"name": "database", "port": 6432}),
        json!({"name": "api", "depends_on": []}),
        json!({"name": "api", "send": "PING", "expect": "PONG"}),
        json!({"name": "mlflow", "url": "http://mlflow.internal/"}),
        json!({"name": "database", "kind": "tcp", "host": "db.internal", "port": 5432}),
        json!({"name": "x", "kind": "redis", "impact": "none", "host": "h", "tls": true}),
        json!({"name": "x", "kind": "redis", "impact": "none", "host": "h", "tls": {"verify": "ca"}}),
        json!({"name": "${NAME}", "kind": "${KIND}", "impact": "${IMPACT:-none}", "port": "${PORT}", "interval": "${N}s"}),
    ] {
        assert!(of(fine.clone()), "{fine}");
    }
    for wrong in [
        json!(null),
        json!({}),
        json!({"name": "x"}),
        json!({"name": "x", "kind": "tcp", "host": "h", "port": 1}),
        json!({"name": "x", "impact": "none", "host": "h", "port": 1}),
        json!({"name": "database", "sslmod": "require"}),
        json!({"name": "database", "kind": "tcp", "sslmode": "require"}),
        json!({"name": "redis", "sslmode": "require"}),
        json!({"name": "api", "sslmode": "require"}),
        json!({"name": "api", "expect": {"statsu": [200]}}),
        json!({"name": "api", "kind": "tcp", "expect": {"status": [200]}}),
        json!({"name": "database", "expect": {"status": [200]}}),
        json!({"name": "x", "kind": "redis", "impact": "none", "host": "h", "port": "${PORT}0"}),
        json!({"name": "x", "kind": "redis", "impact": "none", "host": "h", "interval": "${N s"}),
    ] {
        assert!(!of(wrong.clone()), "{wrong}");
    }
}
