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
            "description": "Every answer comes from memory: no request makes a check or waits for one. \
                            `GET` and `HEAD` are answered everywhere, any other method with 405 and `Allow`.",
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
                    "description": "A request that no endpoint takes: 400 no path or a broken body, 405 another method than GET and HEAD, 413 a body that is too long, 503 too much of long answers that nobody takes, 505 HTTP/2 and no health question. What is no HTTP at all, or has too long a head, is answered 400 or 431 without a body.",
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

/// What is at a path, by each method.
fn at(path: &str, endpoint: Endpoint, generator: &mut SchemaGenerator) -> Value {
    let Operation { summary, parameters, answers } = operation(endpoint, generator);
    let by = |method: &str, with_body: bool| {
        let mut responses: Map<String, Value> = answers
            .iter()
            .map(|Answer { code, description, content }| {
                let mut response = json!({"description": description, "headers": headers()});
                if with_body {
                    response["content"] = content.clone();
                }
                (code.to_string(), response)
            })
            .collect();
        responses.insert("default".into(), json!({"$ref": "#/components/responses/Refused"}));
        let mut all = vec![json!({"$ref": "#/components/parameters/CorrelationId"})];
        all.extend(parameters.iter().cloned());
        json!({
            "operationId": format!("{method}{}", path.replace(['/', '.'], "_").replace(['{', '}'], "")),
            "summary": summary,
            "tags": [tag(endpoint.audience())],
            "parameters": all,
            "responses": responses,
        })
    };
    json!({"get": by("get", true), "head": by("head", false)})
}

/// What an endpoint takes and answers.
struct Operation {
    summary: &'static str,
    parameters: Vec<Value>,
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
    };
    let names_a_dependency = matches!(endpoint, Endpoint::Dependency | Endpoint::Circuit | Endpoint::History);
    let missing = names_a_dependency.then(|| {
        answer::<wire::ErrorBody<'_>>(
            404,
            "There is no dependency of this name; the message lists those there are",
            generator,
        )
    });
    Operation {
        summary: summary(endpoint),
        parameters: parameters(endpoint),
        answers: answers.into_iter().chain(missing).collect(),
    }
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
    }
}

fn parameters(endpoint: Endpoint) -> Vec<Value> {
    let name = json!({"type": "string", "pattern": "^[a-z][a-z0-9_-]{0,62}$"});
    match endpoint {
        Endpoint::Dependency | Endpoint::Circuit => vec![json!({
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
