//! `/openapi.json`: what is answered here, for programs.
//!
//! Nothing in it is written twice: the paths are those of the [route table](super::routes::PATHS), the schemas come
//! from the structs in [`wire`], and what an endpoint may answer is one exhaustive match. An integration test asks
//! a running agent for everything and holds the answers against it.

use std::sync::LazyLock;

use bytes::Bytes;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::answers::Question;
use super::orders::Action;
use super::query::{LIMIT, LIMITS};
use super::routes::{Audience, Endpoint, NAME, PATHS};
use super::wire;

/// The document. It is made when it is first asked for, and does not change while the agent runs.
pub(super) fn document() -> Bytes {
    static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(write().to_string()));
    DOCUMENT.clone()
}

fn write() -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let paths: Map<_, _> = PATHS
        .iter()
        .map(|(path, endpoint)| ((*path).to_owned(), at(path, *endpoint, &mut generator)))
        .collect();
    let error = content::<wire::ErrorBody<'_>>(&mut generator);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Sickbay",
            "version": crate::version::VERSION,
            "summary": "What a health and diagnostics sidecar answers",
            "description": "What is read comes from memory: no `GET` makes a check or waits for one. `GET` and `HEAD` \
                            read, and change nothing; `POST` is for what changes something, and wants a token. Any \
                            other method is answered with 405 and `Allow`.",
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "The agent that is asked"}],
        "security": [],
        "tags": [
            {"name": tag(Audience::Everybody), "description": "On every listener. Tells strangers no more than names of dependencies."},
            {"name": tag(Audience::Operators), "description": "On the operators' listener where there is one (`server.operator.listen`), else on the only one."},
        ],
        "paths": paths,
        "components": {
            "securitySchemes": {
                BEARER: {
                    "type": "http", "scheme": "bearer",
                    "description": "A token of `server.admin_token` or `server.admin_tokens` that is allowed this.",
                },
            },
            "schemas": generator.take_definitions(true),
            "parameters": {
                "CorrelationId": {
                    "name": "x-correlation-id", "in": "header", "required": false,
                    "description": "Sent back where it is 1 to 128 visible ASCII characters; else a new one is made.",
                    "schema": {"type": "string"},
                },
            },
            "headers": {
                "CorrelationId": {
                    "description": "The request's, or a new one.", "required": true, "schema": {"type": "string"},
                },
            },
            "responses": {
                "Refused": {
                    "description": "A request that no endpoint takes: 400 no path or a broken body, 405 a method that is not answered there, 413 a body that is too long, 503 too much of long answers that nobody takes, 505 HTTP/2 and no health question. What is no HTTP at all, or has too long a head, is answered 400 or 431 without a body.",
                    "headers": headers(),
                    "content": error,
                },
            },
        },
    })
}

fn tag(audience: Audience) -> &'static str {
    match audience {
        Audience::Everybody => "everybody",
        Audience::Operators => "operators",
    }
}

fn headers() -> Value {
    json!({"x-correlation-id": {"$ref": "#/components/headers/CorrelationId"}})
}

/// The headers of an answer of this code.
fn headers_of(code: u16, endpoint: Endpoint) -> Value {
    let mut headers = headers();
    if let (503, Endpoint::Order(_)) = (code, endpoint) {
        headers["Retry-After"] = json!({
            "description": "Of `busy`: seconds until it is worth asking again.", "required": false,
            "schema": {"type": "string"},
        });
    }
    if let Some((name, about)) = match code {
        401 => Some(("WWW-Authenticate", "`Bearer`.")),
        429 => Some(("Retry-After", "Seconds until the next bad token is looked at.")),
        _ => None,
    } {
        headers[name] = json!({"description": about, "required": true, "schema": {"type": "string"}});
    }
    headers
}

/// What the security scheme is called.
const BEARER: &str = "bearer";

/// What is at a path, by each method.
fn at(path: &str, endpoint: Endpoint, generator: &mut SchemaGenerator) -> Value {
    let Operation { summary, parameters, body, answers } = operation(endpoint, generator);
    let by = |method: &str, with_body: bool| {
        let mut responses: Map<String, Value> = answers
            .iter()
            .map(|Answer { code, description, content }| {
                let mut response =
                    json!({"description": description, "headers": headers_of(*code, endpoint)});
                if with_body {
                    response["content"] = content.clone();
                }
                (code.to_string(), response)
            })
            .collect();
        responses.insert("default".into(), json!({"$ref": "#/components/responses/Refused"}));
        let mut all = vec![json!({"$ref": "#/components/parameters/CorrelationId"})];
        all.extend(parameters.iter().cloned());
        let mut described = json!({
            "operationId": format!("{method}{}", path.replace(['/', '.'], "_").replace(['{', '}'], "")),
            "summary": summary,
            "tags": [tag(endpoint.audience())],
            "parameters": all,
            "responses": responses,
        });
        if let Some(body) = &body {
            described["requestBody"] = body.clone();
        }
        match (endpoint, endpoint.audience()) {
            (Endpoint::Order(_), _) => described["security"] = json!([{BEARER: []}]),
            (_, Audience::Operators) => described["security"] = json!([{}, {BEARER: []}]),
            (_, Audience::Everybody) => (),
        }
        described
    };
    match endpoint {
        Endpoint::Order(_) => json!({"post": by("post", true)}),
        _ => json!({"get": by("get", true), "head": by("head", false)}),
    }
}

/// What an endpoint takes and answers.
struct Operation {
    summary: &'static str,
    parameters: Vec<Value>,
    /// The body that is taken, where one is.
    body: Option<Value>,
    answers: Vec<Answer>,
}

struct Answer {
    code: u16,
    description: &'static str,
    content: Value,
}

fn operation(endpoint: Endpoint, generator: &mut SchemaGenerator) -> Operation {
    let answers = match endpoint {
        Endpoint::Short(Question::Live | Question::Ready | Question::Alb | Question::Startup) => vec![
            answer::<wire::ShortBody<'_>>(200, "Yes", generator),
            answer::<wire::ShortBody<'_>>(503, "No", generator),
        ],
        Endpoint::Short(Question::Health) => {
            let health = generator.subschema_for::<wire::HealthJson<'_>>();
            let content = json!({"application/health+json": {"schema": health}});
            let answer = |code, description| Answer { code, description, content: content.clone() };
            vec![answer(200, "`pass` or `warn`"), answer(503, "`fail`")]
        }
        Endpoint::Detailed => vec![answer::<wire::Detailed<'_>>(200, "Whatever the status is", generator)],
        Endpoint::Dependency => vec![answer::<wire::Dependency<'_>>(200, "The dependency", generator)],
        Endpoint::Config => vec![answer::<Map<String, Value>>(
            200,
            "As a configuration file has it, with every default; secrets are `***`",
            generator,
        )],
        Endpoint::Circuits => {
            vec![answer::<wire::Circuits<'_>>(200, "The circuits, by dependency", generator)]
        }
        Endpoint::Circuit => vec![answer::<wire::NamedCircuit<'_>>(200, "The circuit", generator)],
        Endpoint::History => vec![
            answer::<wire::History<'_>>(200, "The checks, newest first", generator),
            answer::<wire::ErrorBody<'_>>(
                400,
                "A parameter is unknown, repeated or out of its bounds",
                generator,
            ),
        ],
        Endpoint::OpenApi => vec![answer::<Map<String, Value>>(200, "OpenAPI 3.1", generator)],
        Endpoint::Order(Action::Check) => vec![answer::<wire::Report<'_>>(
            200,
            "The check was made, whatever came of it: the dependency after it",
            generator,
        )],
        Endpoint::Order(Action::Open | Action::Close | Action::Reset) => {
            vec![answer::<wire::NamedCircuit<'_>>(200, "It is done: the circuit after it", generator)]
        }
    };
    let mut refused = |(code, description)| answer::<wire::ErrorBody<'_>>(code, description, generator);
    let missing = match endpoint {
        Endpoint::Dependency | Endpoint::Circuit | Endpoint::History => {
            Some("There is no dependency of this name; the message lists those there are")
        }
        Endpoint::Order(_) => {
            Some("There is no dependency of this name (the message lists those there are), or it is disabled")
        }
        Endpoint::Short(_)
        | Endpoint::Detailed
        | Endpoint::Config
        | Endpoint::Circuits
        | Endpoint::OpenApi => None,
    };
    let of_the_name = missing.map(|description| refused((404, description)));
    let of_the_token = match endpoint {
        Endpoint::Order(_) => &[
            (401, "No token is configured, none was sent, or one that is not known"),
            (403, "The token is good, and not for this"),
            (429, "Too many bad tokens came from this address"),
        ],
        _ if endpoint.audience() == Audience::Operators => &[
            (401, "`server.operator.require_token_for_reads` is set, and no token that is known was sent"),
            (403, "It is set, and the token is not for reads"),
            (429, "It is set, and too many bad tokens came from this address"),
        ],
        _ => &[][..],
    };
    let of_the_token = of_the_token.iter().copied().map(&mut refused).collect::<Vec<_>>();
    let of_the_order = match endpoint {
        Endpoint::Order(action) => of_an_order(action).into_iter().map(&mut refused).collect(),
        _ => Vec::new(),
    };
    let answers = answers.into_iter().chain(of_the_name).chain(of_the_token).chain(of_the_order);
    Operation {
        summary: summary(endpoint),
        parameters: parameters(endpoint),
        body: match endpoint {
            Endpoint::Order(action) => Some(body(action)),
            _ => None,
        },
        answers: answers.collect(),
    }
}

/// What an order can be refused for, but for the token and the name.
fn of_an_order(action: Action) -> Vec<(u16, &'static str)> {
    let mut refused = vec![
        (400, "The body is not as it should be; the message says what is allowed"),
        (413, "The body is longer than 4 KiB"),
        (415, "The body is not said to be JSON"),
        (
            503,
            "`stopping`: the agent is being stopped; `busy`, with `Retry-After`: what watches the dependency is being brought back after a panic",
        ),
    ];
    if action == Action::Check {
        refused.push((
            409,
            "`held_open`: the circuit is held open, so no check is made; `replaced`: a new configuration cut it off",
        ));
        refused.push((500, "The check was lost: it panicked, or hung beyond its timeout"));
    }
    refused
}

fn body(action: Action) -> Value {
    json!({
        "required": action.holds(),
        "description": if action.holds() { "At most 4 KiB." } else { "At most 4 KiB; it may be empty." },
        "content": {"application/json": {"schema": wire::order_schema(action)}},
    })
}

fn summary(endpoint: Endpoint) -> &'static str {
    match endpoint {
        Endpoint::Short(Question::Live) => "Does the agent itself work?",
        Endpoint::Short(Question::Ready) => "Can this task serve?",
        Endpoint::Short(Question::Alb) => "Should this task stay in the load balancer?",
        Endpoint::Short(Question::Startup) => "Has every critical dependency succeeded once?",
        Endpoint::Short(Question::Health) => "All of it as health+json (draft-inadarei-api-health-check-06)",
        Endpoint::Detailed => "Everything",
        Endpoint::Dependency => "One dependency",
        Endpoint::Config => "The configuration in force",
        Endpoint::Circuits => "The circuits",
        Endpoint::Circuit => "One circuit",
        Endpoint::History => "Recent checks; failures are kept longest",
        Endpoint::OpenApi => "This document",
        Endpoint::Order(Action::Open) => "Hold a circuit open: no checks, and `down`",
        Endpoint::Order(Action::Close) => "Hold a circuit closed: checks go on, and `degraded` at worst",
        Endpoint::Order(Action::Reset) => "End an override, and forget what happened in a row",
        Endpoint::Order(Action::Check) => "Make a check now, and wait for its result",
    }
}

fn parameters(endpoint: Endpoint) -> Vec<Value> {
    let name = json!({"type": "string", "pattern": "^[a-z][a-z0-9_-]{0,62}$"});
    match endpoint {
        Endpoint::Dependency | Endpoint::Circuit | Endpoint::Order(_) => vec![json!({
            "name": NAME.trim_matches(['{', '}']), "in": "path", "required": true,
            "description": "The dependency's name.", "schema": name,
        })],
        Endpoint::History => vec![
            json!({
                "name": "dependency", "in": "query", "required": false,
                "description": "Only the checks of this one.", "schema": name,
            }),
            json!({
                "name": "limit", "in": "query", "required": false, "description": "The most checks to tell.",
                "schema": {"type": "integer", "minimum": LIMITS.start(), "maximum": LIMITS.end(), "default": LIMIT},
            }),
        ],
        Endpoint::Short(_)
        | Endpoint::Detailed
        | Endpoint::Config
        | Endpoint::Circuits
        | Endpoint::OpenApi => Vec::new(),
    }
}

fn answer<T: JsonSchema>(code: u16, description: &'static str, generator: &mut SchemaGenerator) -> Answer {
    Answer { code, description, content: content::<T>(generator) }
}

fn content<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    json!({"application/json": {"schema": generator.subschema_for::<T>()}})
}
