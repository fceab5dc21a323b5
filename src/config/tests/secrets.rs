//! No secret is shown: not in the effective configuration, not in a target or a warning, not in an error.

use std::fs;
use std::path::Path;

use super::*;
use crate::files::Seen;

const MARK: &str = "hunter2";
/// The SHA-256 of something.
const OF_MARK: &str = "f52fbd32b2b3b86ff88ef6c490628285f482af15ddcb29541f94bcf526a3f6c7";

/// Every field that is secret, holding the mark, and every other field that can take a text from a secret file.
fn marked(files: &Files) -> String {
    let file = files.add("secret", &format!("{MARK}\n"));
    let from_file = format!("\"${{file:{file}}}\"");
    let filter = files.add("filter", &format!("{MARK}=info"));
    let one = files.add("one", "1");
    let verb = files.add("verb", "open");
    let duration = files.add("duration", "7s");
    format!(
        "server:
  admin_token: {MARK}-of-the-admin
  admin_tokens:
    - {{name: on-call, token: {MARK}-of-the-on-call}}
    - {{name: file, token: \"x-of-the-file-${{file:{file}}}\", allow: [\"${{file:{verb}}}\"]}}
    - {{name: hashed, token_sha256: {OF_MARK}}}
log: {{filter: \"${{file:{filter}}}\"}}
defaults: {{interval: \"${{file:{duration}}}\"}}
dependencies:
  - {{name: database, host: {from_file}, user: {from_file}, database: {from_file}, password: {MARK}}}
  - {{name: redis, host: h, port: \"${{file:{one}}}\", username: {from_file}, password: {MARK}}}
  - {{name: t, kind: tcp, impact: none, host: h, port: 1, send: {MARK}, expect: {from_file}}}
  - {{name: d, kind: dns, impact: none, query: {from_file}}}
  - name: h
    kind: http
    impact: none
    url: https://user-{MARK}:{MARK}@host/path?token={MARK}
    headers: {{X-Key: {MARK}}}
    expect: {{body: {from_file}}}
  - {{name: u, kind: http, impact: none, url: \"https://h/${{file:{file}}}\"}}
"
    )
}

#[test]
fn the_files_that_were_read_are_named_those_that_are_not_there_too() {
    let folder = tempfile::tempdir().unwrap();
    let [file, secret, gone] = ["sickbay.yaml", "secret", "gone"].map(|name| folder.path().join(name));
    fs::write(&secret, "hunter2").unwrap();
    let token = |from: &Path| {
        format!("server: {{admin_token: '0123456789-${{file:{0}}}-${{file:{0}}}'}}\n", from.display())
    };
    let sources = Sources { files: vec![file.clone()], ..Sources::default() };
    let paths = |files: &[Seen]| files.iter().map(|seen| seen.path.clone()).collect::<Vec<_>>();

    fs::write(&file, token(&secret)).unwrap();
    let plan = load(&sources).unwrap();
    assert_eq!(paths(plan.files()), [file.clone(), secret.clone()]);
    assert!(!plan.files().iter().any(Seen::has_changed));
    fs::write(&secret, "hunter22").unwrap();
    let changed: Vec<bool> = plan.files().iter().map(Seen::has_changed).collect();
    assert_eq!(changed, [false, true]);

    fs::write(&file, token(&gone)).unwrap();
    let errors = load(&sources).unwrap_err();
    assert_eq!(paths(errors.files()), [file.clone(), gone.clone()]);
    fs::write(&gone, "there").unwrap();
    assert!(errors.files()[1].has_changed(), "what was missing is there");

    fs::remove_file(&file).unwrap();
    assert_eq!(paths(load(&sources).unwrap_err().files()), [file]);
}

#[test]
fn what_is_shown_of_a_plan_holds_no_secret() {
    let files = Files::new(&[""]);
    std::fs::write(&files.names[0], marked(&files)).unwrap();
    let plan = load(&files.sources(&[])).unwrap();
    assert_eq!(postgres(&plan, "database").host(), MARK, "it is used, and not shown");
    let mut shown = vec![plan.effective().to_string(), format!("{:?}{:?}", plan.origins(), plan.warnings())];
    for dependency in plan.dependencies() {
        shown.push(format!("{:?}", dependency.policy()));
    }
    shown.push(format!("{:?}", plan.server()));
    for text in shown {
        assert!(!text.contains(MARK) && !text.contains(OF_MARK), "{text}");
    }
    let effective = plan.effective();
    let by_name = |name: &str| {
        effective["dependencies"].as_array().unwrap().iter().find(|d| d["name"] == name).unwrap().clone()
    };
    let server = &effective["server"];
    assert_eq!(server["admin_token"], "***");
    let tokens = server["admin_tokens"].as_array().unwrap();
    assert!(tokens[..2].iter().all(|it| it["token"] == "***" && it["token_sha256"].is_null()), "{server}");
    assert_eq!((&tokens[1]["allow"][0], &tokens[2]["token_sha256"]), (&"***".into(), &"***".into()));
    assert_eq!(effective["defaults"]["interval"], "***");
    assert_eq!(by_name("redis")["port"], "***", "numbers from secret files, too");
    assert_eq!(by_name("redis")["interval"], "***", "and what inherits them");
    assert_eq!(by_name("h")["url"], "https://host/path?***");
    assert_eq!(by_name("h")["headers"], serde_json::json!({"X-Key": "***", "Authorization": "***"}));
    assert_eq!(by_name("u")["url"], "***");
    assert_eq!(by_name("t")["send"], "***");
    assert_eq!(by_name("api")["kind"], "tcp");
    assert_eq!(dependency(&plan, "database").policy().target, "***:5432/***");
    assert_eq!(dependency(&plan, "redis").policy().target, "h:***");
    assert_eq!(dependency(&plan, "d").policy().target, "*** A");
    assert_eq!(dependency(&plan, "h").policy().target, "https://host/path");
    assert_eq!(dependency(&plan, "u").policy().target, "***");
}

#[test]
fn where_there_is_no_secret_nothing_is_covered() {
    let plan = plan(
        &["dependencies: [{name: t, kind: tcp, impact: none, host: h, port: 1}]"],
        &[("DATABASE_HOST", "h")],
    );
    assert!(!plan.effective().to_string().contains("***"));
    assert_eq!(plan.effective()["server"]["admin_token"], serde_json::Value::Null);
}

/// Secrets in fields that cannot hold them, secrets that lost their place, and files that break off.
#[test]
fn no_error_shows_a_secret() {
    let files = Files::new(&[""]);
    let whole = marked(&files);
    let from_file = format!("\"${{file:{}}}\"", files.add("secret", &format!("{MARK}\n")));
    let entry =
        |kind: &str, field: &str| format!("dependencies: [{{name: x, kind: {kind}, impact: none, {field}}}]");

    let mut texts: Vec<String> = (0..whole.len()).step_by(10).map(|end| whole[..end].to_owned()).collect();
    for (kind, fields) in [
        ("postgres", "name kind impact scope enabled depends_on fallback_of interval retry circuit unknown"),
        ("postgres", "host port sslmode root_cert role pool reconnect_every"),
        ("redis", "mode tls"),
        ("dns", "query nameservers record expect"),
        ("http", "url method headers expect tls"),
    ] {
        for field in fields.split(' ') {
            texts.push(entry(kind, &format!("{field}: {from_file}")));
            texts.push(entry(kind, &format!("{field}: [{from_file}]")));
        }
    }
    for section in [
        "service: {name: F}",
        "service: {environment: F}",
        "server: {listen: F}",
        "server: {drain: F}",
        "server: {operator: {listen: F}}",
        "server: {operator: {require_token_for_reads: F}}",
        "server: {admin_tokens: F}",
        "server: {admin_tokens: [F]}",
        "server: {admin_tokens: [{name: F}]}",
        "server: {admin_tokens: [{name: x, token: F}, {name: y, token: F}]}",
        "server: {admin_tokens: [{name: x, token_sha256: F}]}",
        "server: {admin_tokens: [{name: x, token: 0123456789abcdef, allow: [F]}]}",
        "log: {format: F}",
        "log: F",
        "defaults: {timeout: F}",
        "dependencies: F",
    ] {
        texts.push(section.replace('F', &from_file));
    }
    for field in [
        "password: [hunter2]",
        "password: {hunter2: 1}",
        "password:hunter2",
        "password: !hunter2 x",
        "password: !!int hunter2",
        "password: '${hunter2'",
        "password: 'hunter2${NOPE}'",
        "host: 'postgres://u:hunter2@h'",
        "host: 'u:hunter2@h'",
        "url: 'https://u:hunter2@'",
    ] {
        texts.push(entry("postgres", field));
        texts.push(entry("http", field));
        texts.push(format!("dependencies:\n  - name: x\n    kind: http\n    impact: none\n    {field}\n"));
    }
    for section in [
        "server:\n  admin_token:hunter2",
        "server: hunter2",
        "server: {admin_tokens: hunter2}",
        "server: {admin_tokens: [hunter2]}",
        "server: {admin_tokens: [{name: x, token: [hunter2]}]}",
        "server: {admin_tokens: [{name: x, token:hunter2}]}",
        "server: {admin_tokens: [{name: x, token_sha256: {hunter2: 1}}]}",
        "dependencies:\n  admin_token:hunter2",
        "dependencies: [password:hunter2]",
        "dependencies:\n  - name: database\n      password:hunter2",
        "dependencies:\n  - name:\n      password:hunter2",
        "dependencies:\n  - name: x\n    kind: http\n    url: http://h\n    impact: none\n      password: hunter2",
        "dependencies:\n  - name: x\n    kind: http\n    url: http://h\n    impact: none\n      password:hunter2",
        "dependencies:\n  - name: x\n    kind: redis\n    impact: none\n    host:\n      password:hunter2",
        "dependencies: [{name: x, kind: http, impact: none, url: 'http://h', headers: 'Authorization: Bearer hunter2'}]",
        "dependencies: [{name: x, kind: http, impact: none, url: 'http://h', headers: hunter2}]",
        "dependencies: [{name: x, kind: redis, impact: none, host: h, retry: hunter2}]",
        "dependencies: [{name: x, kind: redis, impact: none, host: h, depends_on: hunter2}]",
    ] {
        texts.push(section.to_owned());
    }
    let mut refused = 0;
    for text in &texts {
        std::fs::write(&files.names[0], text).unwrap();
        if let Err(errors) = load(&files.sources(&[])) {
            refused += 1;
            assert!(!errors.to_string().contains(MARK), "{text}\n{errors}");
            assert!(!format!("{errors:?}").contains(MARK), "{text}\n{errors:?}");
        }
    }
    assert!(refused > texts.len() / 2, "{refused} of {}", texts.len());
}
