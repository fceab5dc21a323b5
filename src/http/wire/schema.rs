//! What the schemas in `/openapi.json` need beyond the structs themselves: the words of the closed sets.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::health::{FailureKind, Impact, Kind, Phase, Scope, ServiceStatus, Status, circuit};

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
    Kind = "Kind",
    Impact = "Impact",
    Scope = "Scope",
    circuit::State = "CircuitState",
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

/// What [`details`](super::check::details) writes for each kind: field and type, with a `?` where it may be null.
/// [`field`] knows the types.
const DETAILS: &[(Kind, &[(&str, &str)])] = &[
    (
        Kind::Postgres,
        &[
            ("server_version", "string"),
            ("role", "string"),
            ("read_only", "boolean"),
            ("replication_lag_seconds", "number?"),
            ("database", "string"),
            ("user", "string"),
            ("connections", "object"),
            ("longest_transaction_seconds", "number?"),
            ("queries", "object"),
            ("hidden", "string?"),
            ("tls", "tls?"),
        ],
    ),
    (
        Kind::Redis,
        &[
            ("server_version", "string?"),
            ("mode", "string?"),
            ("uptime_seconds", "integer?"),
            ("role", "string?"),
            ("read_only", "boolean?"),
            ("connected_clients", "integer?"),
            ("max_clients", "integer?"),
            ("rejected_connections", "integer?"),
            ("blocked_clients", "integer?"),
            ("used_memory_bytes", "integer?"),
            ("maxmemory_bytes", "integer?"),
            ("maxmemory_policy", "string?"),
            ("evicted_keys", "integer?"),
            ("loading", "boolean?"),
            ("replication", "replication?"),
            ("hidden", "string?"),
            ("tls", "tls?"),
        ],
    ),
    (
        Kind::Dns,
        &[
            ("records", "strings"),
            ("addresses", "strings"),
            ("aliases", "strings"),
            ("ttl_seconds", "integer?"),
            ("by_nameserver", "object"),
        ],
    ),
    (Kind::Tcp, &[("peer", "string?"), ("tls", "tls?")]),
    (Kind::Http, &[("status_code", "integer"), ("body_bytes", "integer"), ("tls", "tls?")]),
];

const TLS: &[(&str, &str)] = &[
    ("version", "string?"),
    ("verified", "boolean"),
    ("expires_at", "time?"),
    ("expires_in_days", "number?"),
];

/// `replication` of a Redis primary, and of a replica.
const REPLICATION: [(&str, &[(&str, &str)]); 2] = [
    ("primary", &[("offset", "integer?"), ("connected_replicas", "integer?"), ("replicas", "replicas")]),
    (
        "replica",
        &[
            ("primary", "string?"),
            ("link", "string?"),
            ("link_down_seconds", "integer?"),
            ("syncing", "boolean?"),
            ("last_heard_seconds", "integer?"),
            ("offset", "integer?"),
        ],
    ),
];

/// A replica, as its primary sees it.
const REPLICA: &[(&str, &str)] =
    &[("address", "string"), ("state", "string?"), ("lag_seconds", "integer?"), ("behind_bytes", "integer?")];

/// The schema of `details`: an object without fields where no check has succeeded, else that of the kind.
pub(super) fn details(_: &mut SchemaGenerator) -> Schema {
    let mut kinds = vec![json!({"title": "nothing seen yet", "type": "object", "maxProperties": 0})];
    kinds.extend(DETAILS.iter().map(|(kind, fields)| object(kind.as_str(), fields)));
    json_schema!({"anyOf": kinds})
}

fn object(title: &str, fields: &[(&str, &str)]) -> Value {
    let properties: Map<String, Value> =
        fields.iter().map(|(name, of)| ((*name).to_owned(), field(of))).collect();
    let required: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    json!({"title": title, "type": "object", "properties": properties, "required": required})
}

fn field(of: &str) -> Value {
    if let Some(of) = of.strip_suffix('?') {
        return json!({"anyOf": [field(of), {"type": "null"}]});
    }
    match of {
        "time" => json!({"type": "string", "format": "date-time"}),
        "strings" => json!({"type": "array", "items": {"type": "string"}}),
        "tls" => object("tls", TLS),
        "replicas" => json!({"type": "array", "items": object("replica", REPLICA)}),
        "replication" => json!({"anyOf": REPLICATION.map(|(title, fields)| object(title, fields))}),
        plain => json!({"type": plain}),
    }
}
