//! What the schemas in `/openapi.json` need beyond the structs themselves: the words of the closed sets.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use crate::health::{
    Cause, Confidence, FailureKind, HopKind, Impact, Kind, Phase, Scope, ServiceStatus, Status, circuit,
};

/// A set that `health` declares with one spelling for each member.
pub(super) trait Closed: Copy + 'static {
    /// What the set is called among the schemas.
    const NAME: &'static str;
    /// Its members, in the order of declaration.
    const ALL: &'static [Self];

    /// The spelling.
    fn word(self) -> &'static str;
}

macro_rules! closed {
    ($($set:ty = $name:literal),+ $(,)?) => {
        $(impl Closed for $set {
            const NAME: &'static str = $name;
            const ALL: &'static [Self] = <$set>::ALL;

            fn word(self) -> &'static str {
                self.as_str()
            }
        })+
    };
}

closed! {
    Status = "Status",
    ServiceStatus = "ServiceStatus",
    FailureKind = "FailureKind",
    Phase = "Phase",
    HopKind = "Hop",
    Cause = "Cause",
    Confidence = "Confidence",
    Kind = "Kind",
    Impact = "Impact",
    Scope = "Scope",
    circuit::State = "CircuitState",
    circuit::Mode = "OverrideMode",
    circuit::Readiness = "OverrideReadiness",
}

/// A member of a closed set, as its one spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Word<T>(pub(super) T);

impl<T: Closed> Serialize for Word<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.word())
    }
}

impl<T: Closed> JsonSchema for Word<T> {
    fn schema_name() -> Cow<'static, str> {
        T::NAME.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let words: Vec<&str> = T::ALL.iter().map(|member| member.word()).collect();
        json_schema!({"type": "string", "enum": words})
    }
}
