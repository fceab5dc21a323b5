//! What is written as one value: its form, in words that an editor shows.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::DEFS;
use crate::config::bound::{Bound, Boundary, OFF};
use crate::config::duration::{self, HumanDuration};
use crate::config::percent::{self, Percent};
use crate::config::rate::Rate;
use crate::config::raw::{RawExpected, RawStatus};
use crate::config::secret::Secret;

/// What a closed set allows.
pub(in crate::config) fn one_of(members: impl Iterator<Item = &'static str>) -> Schema {
    json_schema!({"type": "string", "enum": members.collect::<Vec<_>>()})
}

/// `true` and `false` stand for a map with `enabled` alone.
pub(in crate::config) fn or_switch(schema: &mut Schema) {
    let map = std::mem::take(schema);
    *schema = json_schema!({"anyOf": [{"type": ["boolean", "null"]}, map, {"$ref": format!("{DEFS}substitution")}]});
}

/// A bound, or the word for none. The shortest is a digit and a sign.
fn bound<T: Boundary>() -> Schema {
    json_schema!({
        "type": "string",
        "pattern": format!("^({OFF}|{})$", T::pattern()),
        "minLength": 2,
        "patternErrorMessage": format!("Expected {}, or `{OFF}`.", T::ALLOWED),
    })
}

/// Implements the schema of types that are written as a scalar, which has no definition of its own.
macro_rules! scalars {
    ($($name:ty: $schema:expr,)+) => { $(
        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    )+ };
}

scalars! {
    Secret: json_schema!({"type": "string"}),
    // The shortest is a digit and a letter: the pattern alone does not tell that one part has to be there.
    HumanDuration: json_schema!({
        "type": "string",
        "pattern": format!("^{}$", HumanDuration::pattern()),
        "minLength": 2,
        "patternErrorMessage": format!("Expected {}.", duration::ALLOWED),
    }),
    Percent: json_schema!({
        "type": "string",
        "pattern": format!("^{}$", Percent::pattern()),
        "patternErrorMessage": format!("Expected {}.", percent::ALLOWED),
    }),
    Bound<Percent>: bound::<Percent>(),
    Bound<Rate>: bound::<Rate>(),
    Bound<HumanDuration>: bound::<HumanDuration>(),
    RawExpected: json_schema!({"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "boolean"}]}),
    RawStatus: json_schema!({"anyOf": [
        {"type": "integer", "minimum": 100, "maximum": 599},
        {"type": "string", "pattern": "^[1-5][0-9]{2}(-[1-5][0-9]{2})?$"},
        {"$ref": format!("{DEFS}text_with_substitution")},
    ]}),
}
