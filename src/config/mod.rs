//! Configuration: YAML and environment become a validated [`Plan`], or a list of all errors.
//!
//! In the order in which a value passes: `parse` (text → tree, each value knowing its [`origin`]) → `substitute`
//! (`${NAME}`) → `layers` with [`mod@env`] (default, files, environment, flags: one tree) → `decode` into `raw`
//! (types) → `validate` (rules) → [`plan`] and its redacted view, `effective`. [`errors`] gathers what is wrong
//! on the way.
//!
//! [`schema`] tells editors what may stand in a file, of the same structs; `docs/configuration.md` is made of it.
//!
//! The environment comes in as an argument. Files are read here, and later only what may be replaced while we
//! run: the certificates that a plan names, and the secret files that passwords come from ([`Secret::reread`]).

pub mod duration;
pub mod effective;
pub mod env;
pub mod errors;
pub mod log_filter;
pub mod origin;
pub mod path;
pub mod percent;
pub mod plan;
pub mod rate;
pub mod schema;
pub mod secret;
pub mod token;

mod bound;
mod decode;
mod host;
mod kinds;
mod layers;
mod locate;
mod parse;
mod raw;
mod substitute;
mod target;
mod tree;
mod user_info;
mod validate;

#[cfg(test)]
mod tests;

pub use errors::{ConfigErrors, similar};
pub use layers::{Overrides, Sources};
pub use plan::Plan;
pub use secret::Secret;
pub use substitute::Env;

use errors::Errors;

/// The plan of one dependency that is no part of these sources, and is written as `host:port` or as a URL. Everything but
/// dependencies is as the sources have it.
///
/// # Errors
///
/// As [`load`].
pub fn load_target(target: &str, sources: &Sources) -> Result<Plan, ConfigErrors> {
    let errors = Errors::default();
    let mut layers = layers::merge(sources, &errors);
    let files = std::mem::take(&mut layers.files);
    // What is said of the sources' own dependencies is for whoever loads these.
    layers.said = env::Said::default();
    target::lay(&mut layers, target, &errors);
    if !layers.complete || !errors.is_empty() {
        return Err(errors.gathered().located(&files));
    }
    let plan = validate::validate(layers, &errors);
    errors.unless_any(plan).map_err(|errors| errors.located(&files))
}

/// The plan of these sources, or everything that is wrong with them.
///
/// # Errors
///
/// All that was found wrong in any layer, with the path of each. No error shows a secret.
pub fn load(sources: &Sources) -> Result<Plan, ConfigErrors> {
    let errors = Errors::default();
    let mut layers = layers::merge(sources, &errors);
    let files = std::mem::take(&mut layers.files);
    let seen = std::mem::take(&mut layers.seen);
    // What an unread file would have said is not missing: to tell so would only hide what is wrong.
    if !layers.complete {
        return Err(errors.gathered().located(&files).having_read(seen));
    }
    let plan = Plan { files: seen.clone(), ..validate::validate(layers, &errors) };
    errors.unless_any(plan).map_err(|errors| errors.located(&files).having_read(seen))
}
