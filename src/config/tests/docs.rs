//! What `docs/configuration.md` says is so.

use super::*;
use crate::config::decode::fields;
use crate::config::env::VARIABLES;
use crate::config::raw::*;

fn docs() -> String {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    std::fs::read_to_string(file).unwrap()
}

#[test]
fn every_variable_and_every_field_is_there() {
    let docs = docs();
    for variable in VARIABLES {
        assert!(docs.contains(&format!("`{}`", variable.name)), "{}", variable.name);
    }
    for (section, fields) in [
        ("", fields::<Raw>()),
        ("", fields::<RawService>()),
        ("", fields::<RawServer>()),
        ("operator.", fields::<RawOperator>()),
        ("", fields::<RawLog>()),
        ("", fields::<RawChecking>()),
        ("retry.", fields::<RawRetry>()),
        ("circuit.", fields::<RawCircuit>()),
        ("", fields::<RawDependency>()),
        ("", fields::<RawPostgres>()),
        ("pool.", fields::<RawPool>()),
        ("", fields::<RawRedis>()),
        ("", fields::<RawDns>()),
        ("expect.", fields::<RawDnsExpect>()),
        ("", fields::<RawTcp>()),
        ("", fields::<RawHttp>()),
        ("expect.", fields::<RawHttpExpect>()),
        ("", fields::<RawTls>()),
    ] {
        for field in fields.iter().map(|field| format!("{section}{field}")) {
            // A struct is there as its fields: `retry.attempts`.
            let found = docs.contains(&format!("`{field}`")) || docs.contains(&format!("`{field}."));
            assert!(found, "{field}");
        }
    }
}

#[test]
fn the_errors_shown_are_those_printed() {
    let docs = docs();
    let section = docs.split_once("## Errors").unwrap().1;
    let block =
        |fence: &str| section.split_once(fence).unwrap().1.split_once("```").unwrap().0.trim().to_owned();
    let files = Files::new(&[]);
    let bad = files.add("bad.yaml", &block("```yaml"));
    let sources = Sources { files: vec![bad.into()], ..files.sources(&[("DATABASE_PORT", "70000")]) };
    let printed = load(&sources).unwrap_err().to_string();
    assert_eq!(files.plain(&printed), block("```text"));
}
