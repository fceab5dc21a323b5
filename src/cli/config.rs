//! `sickbay config`: what the configuration is, and what it leads to.

use anstyle::Style;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::table::{self, Cell};
use super::{Exit, FAINT, GOOD, WARN, tell, tell_error};
use crate::config::env::{Sets, VARIABLES, Variable};
use crate::config::schema::schema;
use crate::config::{Overrides, Plan};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Validate it, and tell how soon a failure is detected and a recovery seen, at worst
    ///
    /// Exit codes: 0 it is usable; 2 it is not, and every error has been told.
    #[command(after_help = "Example:\n  sickbay config check --config production.yaml")]
    Check,
    /// Print what is in force, secrets as "***"
    #[command(after_help = "Example:\n  sickbay config show --origins --config production.yaml")]
    Show(Show),
    /// Print the JSON Schema of configuration files, for editors
    #[command(
        after_help = "Example:\n  sickbay config schema >sickbay.schema.json\n  and in the first line of a file: # yaml-language-server: $schema=sickbay.schema.json"
    )]
    Schema,
    /// List the environment variables: what each sets, and what holds without it
    #[command(after_help = "Example:\n  sickbay config env --format json")]
    Env(Env),
}

#[derive(Debug, Args)]
struct Show {
    /// Print each value with where it comes from: a line each, or a JSON object by path
    #[arg(long)]
    origins: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Yaml)]
    format: Format,
}

#[derive(Debug, Args)]
struct Env {
    /// How to print
    #[arg(long, value_enum, default_value_t = super::Format::Table)]
    format: super::Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// As a configuration file has it
    Yaml,
    /// As `/health/config` has it
    Json,
}

pub(super) fn run(arguments: &Arguments, load: impl FnOnce(Overrides) -> Result<Plan, Exit>) -> Exit {
    // The alternate form of a JSON value is the indented one.
    let of_plan: &dyn Fn(&Plan) -> String = match &arguments.command {
        Command::Check => &checked,
        Command::Show(show) => &|plan| shown(plan, show),
        // These two say what can be configured, and not what is: they need no configuration.
        Command::Schema => {
            return tell(&format!("{:#}", schema()));
        }
        Command::Env(Env { format }) => {
            return tell(&match format {
                super::Format::Table => variables_table(),
                super::Format::Json => format!("{:#}", variables_json()),
            });
        }
    };
    let plan = match load(Overrides::default()) {
        Ok(plan) => plan,
        Err(exit) => return exit,
    };
    for warning in plan.warnings() {
        tell_error(&format!("{WARN}warning{WARN:#}: {warning}"));
    }
    tell(&of_plan(&plan))
}

fn variables_table() -> String {
    let rows: Vec<Vec<Cell>> = VARIABLES
        .iter()
        .map(|variable| {
            let none = || Cell::styled("–", FAINT);
            let sets = match variable.sets {
                Sets::NotYet { .. } => Cell::styled("nothing in this version", FAINT),
                sets => sets.place().map_or_else(none, Cell::from),
            };
            let default = variable.default.map_or_else(none, Cell::from);
            vec![Cell::from(variable.name), default, sets, Cell::from(variable.doc)]
        })
        .collect();
    table::render(&["VARIABLE", "DEFAULT", "SETS", "FOR"], &rows, &[])
}

fn variables_json() -> Value {
    let variable = |variable: &Variable| {
        json!({
            "name": variable.name,
            "default": variable.default,
            "sets": variable.sets.place(),
            "description": variable.doc,
        })
    };
    json!({"variables": VARIABLES.iter().map(variable).collect::<Vec<_>>()})
}

fn checked(plan: &Plan) -> String {
    const HEAD: [&str; 9] = [
        "DEPENDENCY",
        "KIND",
        "IMPACT",
        "SCOPE",
        "INTERVAL",
        "TIMEOUT",
        "DETECTED WITHIN",
        "BACK WITHIN",
        "TARGET",
    ];
    let mut policies: Vec<_> = plan.dependencies().iter().map(|dependency| dependency.policy()).collect();
    // What is not checked comes last.
    policies.sort_by_key(|policy| !policy.enabled());
    let rows: Vec<Vec<Cell>> = policies
        .into_iter()
        .map(|policy| {
            let mut row: Vec<Cell> =
                [policy.name.as_str(), policy.kind.as_str(), policy.impact.as_str(), policy.scope.as_str()]
                    .map(Cell::from)
                    .into();
            row.extend(
                [policy.interval, policy.timeout, policy.worst_detection(), policy.worst_recovery()]
                    .map(|span| format!("{:.1}s", span.as_secs_f64()))
                    .map(|span| Cell::from(if policy.enabled() { span } else { String::new() })),
            );
            row.push(match &policy.disabled {
                Some(reason) => Cell::styled(format!("disabled: {reason}"), FAINT),
                None => Cell::from(policy.target.as_str()),
            });
            row
        })
        .collect();
    let table = table::render(&HEAD, &rows, &[4, 5, 6, 7]);
    format!(
        "{GOOD}✓{GOOD:#} the configuration is usable\n\n{table}\n\
         DETECTED WITHIN: from the failure to an open circuit, at worst (every failed check takes its timeout).\n\
         BACK WITHIN: from the recovery to a closed circuit, at worst.\n"
    )
}

fn shown(plan: &Plan, show: &Show) -> String {
    // The alternate form of a JSON value is the indented one.
    match (show.format, show.origins) {
        (Format::Yaml, false) => plan.as_file(),
        (Format::Yaml, true) => origins_table(plan),
        (Format::Json, false) => format!("{:#}", plan.effective()),
        (Format::Json, true) => format!("{:#}", origins_json(plan)),
    }
}

/// A line per value: path, value, where it comes from.
fn origins_table(plan: &Plan) -> String {
    let mut rows = Vec::new();
    plan.each_setting(|path, value, origin| {
        let style = if origin == "default" { FAINT } else { Style::new() };
        rows.push(vec![Cell::from(path), Cell::from(value.to_string()), Cell::styled(origin, style)]);
    });
    table::render(&["SETTING", "VALUE", "ORIGIN"], &rows, &[])
}

/// The same as an object: by path, value and origin.
fn origins_json(plan: &Plan) -> Value {
    let mut settings = serde_json::Map::new();
    plan.each_setting(|path, value, origin| {
        settings.insert(path, json!({"value": value, "origin": origin}));
    });
    settings.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load};

    #[test]
    fn origins_are_json_where_json_is_asked_for() {
        let env = [("SERVICE_NAME".to_owned(), "shop".into())].into();
        let plan = load(&Sources { env, ..Sources::default() }).unwrap();
        let text = shown(&plan, &Show { origins: true, format: Format::Json });
        let settings: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(settings["service.name"], json!({"value": "shop", "origin": "variable SERVICE_NAME"}));
        assert_eq!(settings["dependencies.api.interval"], json!({"value": "5s", "origin": "default"}));
    }
}
