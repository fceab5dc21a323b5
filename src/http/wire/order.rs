//! What comes with an order: the one JSON that is read here.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::duration::{format_duration, parse_duration};
use crate::health::circuit::{FOR_AT_MOST, FOR_BY_DEFAULT, Readiness};
use crate::http::orders::Action;

/// A reason has at most so many characters.
const REASON_MAX: usize = 200;

/// A text of the sender's that is repeated is no longer than this.
const REPEATED_MAX: usize = 300;

/// The body of an order.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    reason: Option<String>,
    r#for: Option<String>,
    readiness: Option<String>,
}

/// What an order says.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::http) struct Said {
    /// Why. There is one where the order wants one.
    pub(in crate::http) reason: Option<String>,
    /// For how long an override is to be in force.
    pub(in crate::http) lasts: Duration,
    /// Whether what is forced open counts for readiness.
    pub(in crate::http) readiness: Readiness,
}

impl Said {
    /// Reads a body, which may be empty where nothing has to be said. The error is for whoever sent it.
    pub(in crate::http) fn read(action: Action, body: &[u8]) -> Result<Self, String> {
        let holds = action.holds();
        let Body { reason, r#for, readiness } = if body.is_empty() { Body::default() } else { parse(body)? };
        if !holds && (r#for.is_some() || readiness.is_some()) {
            return Err(format!(
                "`for` and `readiness` mean nothing to `{}`; there is `reason`",
                action.verb()
            ));
        }
        let reason = reason.map(self::reason).transpose()?;
        if holds && reason.is_none() {
            return Err(
                "`reason` is required: say why, for whoever finds this at night; {\"reason\": \"…\"}"
                    .to_owned(),
            );
        }
        Ok(Self {
            reason,
            lasts: r#for.as_deref().map_or(Ok(FOR_BY_DEFAULT), lasts)?,
            readiness: readiness.as_deref().map_or(Ok(Readiness::Count), self::readiness)?,
        })
    }
}

fn parse(body: &[u8]) -> Result<Body, String> {
    // An array of the right length would be read as the fields in their order.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err("the body is no JSON object; {\"reason\": \"…\"} is one".to_owned());
    }
    serde_json::from_slice(body).map_err(|error| {
        let told: String = error.to_string().chars().take(REPEATED_MAX).collect();
        format!("the body cannot be read: {told}; `reason`, `for` and `readiness` are allowed, each a text")
    })
}

fn reason(text: String) -> Result<String, String> {
    let text = text.trim();
    match text.chars().count() {
        0 => Err("`reason` is empty; say why".to_owned()),
        1..=REASON_MAX if text.chars().any(char::is_control) => {
            Err("`reason` has control characters in it; write it in one line".to_owned())
        }
        1..=REASON_MAX => Ok(text.to_owned()),
        length => Err(format!("`reason` has {length} characters; at most {REASON_MAX} are allowed")),
    }
}

fn lasts(text: &str) -> Result<Duration, String> {
    let lasts = parse_duration(text).filter(|lasts| !lasts.is_zero() && *lasts <= FOR_AT_MOST);
    lasts.ok_or_else(|| {
        let (text, most) = (shortened(text), format_duration(FOR_AT_MOST));
        format!("`for` is \"{text}\"; a duration such as `30m` or `1h30m` is allowed, more than 0 and at most {most}")
    })
}

fn readiness(text: &str) -> Result<Readiness, String> {
    Readiness::parse(text)
        .ok_or_else(|| format!("`readiness` is \"{}\"; `count` or `ignore` is allowed", shortened(text)))
}

fn shortened(text: &str) -> String {
    text.chars().take(REPEATED_MAX).collect()
}

/// The schema of a body.
pub(in crate::http) fn schema(action: Action) -> Value {
    let holds = action.holds();
    let mut properties = json!({
        "reason": {
            "type": "string", "minLength": 1, "maxLength": REASON_MAX,
            // Something to see in it, and no control characters.
            "pattern": r"^[^\u0000-\u001f\u007f-\u009f]*[^\u0000-\u001f\u007f-\u009f\s][^\u0000-\u001f\u007f-\u009f]*$",
            "description": "Why, for those who find it later.",
        },
    });
    let nullable = |schema: Value| json!({"anyOf": [schema, {"type": "null"}]});
    if holds {
        properties["for"] = json!({
            "type": ["string", "null"], "minLength": 2,
            "pattern": "^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$",
            "default": format_duration(FOR_BY_DEFAULT),
            "description": format!("How long: `30m`, `1h30m`; more than 0, at most {}.", format_duration(FOR_AT_MOST)),
        });
        let words = Readiness::ALL.iter().map(|each| json!(each.as_str()));
        properties["readiness"] = json!({
            "enum": words.chain([Value::Null]).collect::<Vec<_>>(),
            "default": Readiness::Count.as_str(),
            "description": "Whether a dependency that is forced open counts for the answers that it would gate, or gates nothing.",
        });
    } else {
        properties["reason"] = nullable(properties["reason"].take());
    }
    let mut schema = json!({"type": "object", "properties": properties, "additionalProperties": false});
    if holds {
        schema["required"] = json!(["reason"]);
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(action: Action, body: &str) -> Result<Said, String> {
        Said::read(action, body.as_bytes())
    }

    #[test]
    fn what_is_not_said_is_as_the_contract_has_it() {
        let said = read(Action::Open, r#"{"reason": " upgrade "}"#).unwrap();
        let hour = Duration::from_secs(3600);
        let reason = Some("upgrade".to_owned());
        assert_eq!(said, Said { reason: reason.clone(), lasts: hour, readiness: Readiness::Count });
        let whole = r#"{"reason": "upgrade", "for": "24h", "readiness": "ignore"}"#;
        assert_eq!(
            read(Action::Close, whole).unwrap(),
            Said { reason, lasts: 24 * hour, readiness: Readiness::Ignore }
        );
        for empty in ["", "{}", " {} ", r#"{"reason": null}"#] {
            assert_eq!(read(Action::Reset, empty).unwrap().reason, None, "{empty}");
        }
        assert_eq!(read(Action::Check, r#"{"reason": "x"}"#).unwrap().reason.as_deref(), Some("x"));
    }

    #[test]
    fn what_is_wrong_is_said_with_what_is_allowed() {
        let long = format!(r#"{{"reason": "{}"}}"#, "ä".repeat(201));
        for (body, told) in [
            ("", "`reason` is required"),
            ("{}", "`reason` is required"),
            ("null", "no JSON object"),
            (r#"["x"]"#, "no JSON object"),
            ("{", "cannot be read: EOF"),
            (r#"{"reason": "x"} {}"#, "cannot be read: trailing characters"),
            (r#"{"reason": 1}"#, "each a text"),
            (r#"{"reason": "x", "reason": "y"}"#, "duplicate field"),
            (
                r#"{"reason": "x", "until": "y"}"#,
                "unknown field `until`, expected one of `reason`, `for`, `readiness`",
            ),
            (r#"{"reason": ""}"#, "`reason` is empty"),
            (r#"{"reason": "  "}"#, "`reason` is empty"),
            (r#"{"reason": "a\nb"}"#, "control characters"),
            (r#"{"reason": "a\u0000b"}"#, "control characters"),
            (r#"{"reason": "\ud800"}"#, "cannot be read"),
            (&long, "201 characters; at most 200"),
            (r#"{"reason": "x", "for": "30"}"#, "\"30\"; a duration such as `30m`"),
            (r#"{"reason": "x", "for": ""}"#, "a duration such as"),
            (r#"{"reason": "x", "for": "0s"}"#, "more than 0"),
            (r#"{"reason": "x", "for": "24h1ms"}"#, "at most 24h"),
            (r#"{"reason": "x", "for": "-1h"}"#, "more than 0"),
            (r#"{"reason": "x", "for": "99999999999999999999d"}"#, "at most 24h"),
            (r#"{"reason": "x", "for": 30}"#, "each a text"),
            (r#"{"reason": "x", "readiness": "COUNT"}"#, "`count` or `ignore`"),
        ] {
            let error = read(Action::Open, body).unwrap_err();
            assert!(error.contains(told), "{body}: {error}");
        }
        assert!(read(Action::Reset, r#"{"for": "1h"}"#).unwrap_err().contains("mean nothing to `reset`"));
        assert!(Said::read(Action::Open, b"{\"reason\": \"\xff\"}").is_err());
    }

    /// The schema is no stricter than what is read, and of what it finds wrong nothing is read.
    #[test]
    fn the_schema_says_what_is_read() {
        for action in [Action::Open, Action::Close, Action::Reset, Action::Check] {
            let validator = jsonschema::draft202012::new(&schema(action)).unwrap();
            for body in [
                json!({}),
                json!({"reason": "x"}),
                json!({"reason": " ä "}),
                json!({"reason": ""}),
                json!({"reason": " "}),
                json!({"reason": "a\nb"}),
                json!({"reason": null}),
                json!({"reason": "x".repeat(201)}),
                json!({"reason": "x", "for": "1h"}),
                json!({"reason": "x", "for": null, "readiness": null}),
                json!({"reason": "x", "for": "1"}),
                json!({"reason": "x", "readiness": "ignore"}),
                json!({"reason": "x", "readiness": "none"}),
                json!({"reason": "x", "other": 1}),
            ] {
                let read = read(action, &body.to_string());
                // `for` in an order that it means nothing to may be null, which is as good as not being there.
                if body.get("for").is_some_and(Value::is_null) && !action.holds() {
                    continue;
                }
                assert_eq!(validator.is_valid(&body), read.is_ok(), "{action:?} {body}: {read:?}");
            }
        }
    }
}
