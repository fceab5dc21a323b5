//! Configuration files for the agent and the commands, with timings that let a test see a circuit open and
//! close again in seconds.
//!
//! They are written as JSON, which is YAML, too: nothing has to be quoted by hand.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::agent::{Agent, Env, Output, run_cli};
use super::postgres::{self, Postgres};
use super::redis::Redis;
use super::scratch::Folder;

/// A file. Dropped, it is gone.
#[derive(Debug)]
pub struct Config {
    _folder: Folder,
    path: PathBuf,
}

impl Config {
    /// With this content.
    pub fn of(content: &Value) -> Self {
        Self::text(&format!("{content:#}\n"))
    }

    /// With this text, whatever it is.
    pub fn text(text: &str) -> Self {
        let folder = Folder::new("config");
        let path = folder.write("sickbay.yaml", text.as_bytes());
        Self { _folder: folder, path }
    }

    /// With these dependencies, asked often. Timeouts are long, so that a busy machine fails nothing: a test
    /// of a timeout sets its own.
    pub fn quick(dependencies: impl IntoIterator<Item = Value>) -> Self {
        Self::of(&quick(dependencies))
    }

    /// Writes another content in its place, in one step.
    pub fn replace(&self, content: &Value) {
        self.replace_text(&format!("{content:#}\n"));
    }

    /// The same with this text, whatever it is.
    pub fn replace_text(&self, text: &str) {
        let next = self.path.with_extension("next");
        std::fs::write(&next, text).expect("a folder to write to");
        std::fs::rename(&next, &self.path).expect("a folder to write to");
    }

    /// Where it is.
    pub fn path(&self) -> &str {
        self.path.to_str().expect("UTF-8")
    }

    /// Runs a command with it.
    pub async fn run(&self, arguments: &[&str]) -> Output {
        run_cli(&[arguments, &["--config", self.path()]].concat(), &Env::new()).await
    }

    /// Starts the agent with it.
    pub async fn agent(&self) -> Agent {
        Agent::start_with(&["--config", self.path()], &Env::new()).await
    }
}

/// What [`Config::quick`] writes, to be changed further.
pub fn quick(dependencies: impl IntoIterator<Item = Value>) -> Value {
    json!({
        "server": {"drain": "0s"},
        "defaults": {
            "interval": "200ms",
            "startup_interval": "100ms",
            "timeout": "10s",
            "connect_timeout": "10s",
            // No machine that runs tests is ever quick enough to promise anything.
            "slow_after": "60s",
            "retry": {"attempts": 2, "initial": "5ms", "max": "10ms"},
            "circuit": {
                "failure_threshold": 3,
                "recovery_timeout": "500ms",
                "success_threshold": 3,
                "half_open_interval": "100ms",
            },
        },
        "dependencies": dependencies.into_iter().collect::<Vec<_>>(),
    })
}

/// Settings of a dependency with short timeouts, for a test that waits for one.
pub fn impatient(more: Value) -> Value {
    dependency(json!({"timeout": "1s", "connect_timeout": "500ms"}), more)
}

/// A dependency: what `more` says, over this. What is null in `more` is left out.
fn dependency(mut base: Value, more: Value) -> Value {
    let entries = base.as_object_mut().expect("a map");
    let Value::Object(more) = more else { panic!("a map is wanted: {more}") };
    entries.extend(more);
    entries.retain(|_, value| !value.is_null());
    base
}

/// A critical, shared dependency on a server.
pub fn on_postgres(name: &str, server: &Postgres, more: Value) -> Value {
    let base = json!({
        "name": name, "kind": "postgres", "impact": "critical", "scope": "shared",
        "host": "127.0.0.1", "port": server.port(), "database": postgres::DATABASE,
        "user": postgres::USER, "password": server.password(),
    });
    dependency(base, more)
}

/// A shared dependency on a server that the service can do without.
pub fn on_redis(name: &str, server: &Redis, more: Value) -> Value {
    let base = json!({
        "name": name, "kind": "redis", "impact": "degraded", "scope": "shared",
        "host": "127.0.0.1", "port": server.port(),
    });
    dependency(base, more)
}

/// A dependency of any kind, `impact` critical and shared unless `more` says otherwise.
pub fn on(kind: &str, name: &str, more: Value) -> Value {
    dependency(json!({"name": name, "kind": kind, "impact": "critical", "scope": "shared"}), more)
}

/// Checks each of these once, and gives the report's `dependencies`.
pub async fn check(dependencies: impl IntoIterator<Item = Value>) -> Value {
    let output = Config::quick(dependencies).run(&["check", "--format", "json"]).await;
    let report = output.json();
    assert_eq!(output.code, Some(if report["ok"] == true { 0 } else { 1 }), "{output:?}");
    report["dependencies"].clone()
}

/// Phase, failure kind and code of the last failure: what a test of a failure compares. Each is `-` where
/// there is none.
pub fn failure(dependency: &Value) -> [&str; 3] {
    let failure = &dependency["last_failure"];
    ["phase", "failure_kind", "code"].map(|field| failure[field].as_str().unwrap_or("-"))
}

/// No failure, as [`failure`] gives it.
pub const WELL: [&str; 3] = ["-", "-", "-"];

/// The last failure's hint, or its message.
pub fn told<'a>(dependency: &'a Value, field: &str) -> &'a str {
    dependency["last_failure"][field].as_str().unwrap_or_default()
}

/// The phases that the last check went through, in order.
pub fn phases(dependency: &Value) -> Vec<&str> {
    let phases = dependency["last_check"]["phases_ms"].as_object();
    phases.into_iter().flat_map(|phases| phases.keys().map(String::as_str)).collect()
}
