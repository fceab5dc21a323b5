//! The whole way, from files and variables to a plan or to errors. What is tested of one step alone stands
//! beside it.

mod defaults;
mod docs;
mod environment;
mod every_rule;
mod examples;
mod layering;
mod rules;
mod schema;
mod secrets;
mod target;

use std::path::PathBuf;

use super::plan::{DependencyPlan, HttpPlan, PostgresPlan, ProbePlan, RedisPlan};
use super::{Overrides, Plan, Sources, load};

/// Files in a directory that goes with them.
struct Files {
    dir: tempfile::TempDir,
    names: Vec<PathBuf>,
}

impl Files {
    /// The texts as files `1.yaml`, `2.yaml`, …
    fn new(texts: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let names = (1..=texts.len()).map(|n| dir.path().join(format!("{n}.yaml"))).collect::<Vec<_>>();
        for (name, text) in names.iter().zip(texts) {
            std::fs::write(name, text).unwrap();
        }
        Self { dir, names }
    }

    /// Another file beside them.
    fn add(&self, name: &str, content: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    /// A text with the directory left out, so that it can be compared.
    fn plain(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.dir.path().display()), "")
    }

    fn sources(&self, env: &[(&str, &str)]) -> Sources {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
        Sources { files: self.names.clone(), env, overrides: Overrides::default() }
    }
}

/// The plan of texts and variables.
fn plan(texts: &[&str], env: &[(&str, &str)]) -> Plan {
    let files = Files::new(texts);
    load(&files.sources(env)).unwrap_or_else(|errors| panic!("{errors}"))
}

/// The errors of texts and variables, one a line.
fn errors(texts: &[&str], env: &[(&str, &str)]) -> Vec<String> {
    let files = Files::new(texts);
    let errors = load(&files.sources(env)).expect_err("this is to be refused");
    errors.to_string().lines().map(|line| files.plain(line)).collect()
}

/// What every plan without an enabled dependency is warned about.
const NOTHING: &str = "nothing is watched: set DATABASE_HOST, REDIS_HOST, API_PORT or MLFLOW_TRACKING_URI, or give a configuration file; until then the service is `up`";

fn dependency<'a>(plan: &'a Plan, name: &str) -> &'a DependencyPlan {
    plan.dependencies().iter().find(|dependency| dependency.policy().name.as_str() == name).unwrap()
}

fn postgres<'a>(plan: &'a Plan, name: &str) -> &'a PostgresPlan {
    match dependency(plan, name).probe() {
        Some(ProbePlan::Postgres(plan)) => plan,
        other => panic!("{other:?}"),
    }
}

fn redis<'a>(plan: &'a Plan, name: &str) -> &'a RedisPlan {
    match dependency(plan, name).probe() {
        Some(ProbePlan::Redis(plan)) => plan,
        other => panic!("{other:?}"),
    }
}

fn http<'a>(plan: &'a Plan, name: &str) -> &'a HttpPlan {
    match dependency(plan, name).probe() {
        Some(ProbePlan::Http(plan)) => plan,
        other => panic!("{other:?}"),
    }
}

fn disabled(plan: &Plan, name: &str) -> Option<String> {
    dependency(plan, name).policy().disabled.clone()
}
