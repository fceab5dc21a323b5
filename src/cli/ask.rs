//! Asking a running agent for what its operators' endpoints do.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// A thousand circuits with all their transitions are a few megabytes; more is not ours.
const ANSWER_MAX: usize = 64 * 1024 * 1024;

/// Whom to ask, and how long.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) address: SocketAddr,
    pub(super) timeout: Duration,
    /// The `Authorization` header, where there is a token.
    pub(super) authorization: Option<HeaderValue>,
}

/// Why there is no answer to go on with.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// Nobody answered, or not by HTTP with JSON in it.
    NoAgent(String),
    /// The agent refused, by this status, code and message.
    Refused(StatusCode, String, String),
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAgent(why) => f.write_str(why),
            Self::Refused(status, code, message) => write!(f, "{message} ({}, {code})", status.as_u16()),
        }
    }
}

impl Agent {
    /// Reads what is at a path.
    pub(super) async fn get(&self, path: &str) -> Result<Value, Unanswered> {
        self.ask(Method::GET, path, Bytes::new()).await
    }

    /// Has something done.
    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, Unanswered> {
        self.ask(Method::POST, path, body.to_string().into()).await
    }

    async fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<Value, Unanswered> {
        let Self { address, timeout, .. } = self;
        let answered = tokio::time::timeout(*timeout, self.exchange(method, path, body)).await;
        let answered = answered.unwrap_or_else(|_| Err(format!("no whole answer within {timeout:?}").into()));
        let (status, body) = answered.map_err(|error| {
            Unanswered::NoAgent(format!("the agent at {address} cannot be asked: {}", with_causes(&*error)))
        })?;
        let json: Result<Value, _> = serde_json::from_slice(&body);
        match json {
            Ok(answer) if status.is_success() => Ok(answer),
            Ok(answer) if answer["error"]["message"].is_string() => {
                let text = |field: &str| answer["error"][field].as_str().unwrap_or_default().to_owned();
                Err(Unanswered::Refused(status, text("code"), text("message")))
            }
            _ => Err(Unanswered::NoAgent(format!(
                "what listens on {address} is no Sickbay agent: it answered {} without the JSON that was asked for",
                status.as_u16()
            ))),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
        let stream = TcpStream::connect(self.address).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let mut request = Request::builder().method(&method).uri(path).header(HOST, self.address.to_string());
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if method == Method::POST {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(body))?;
        let answer = async {
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await?;
            Ok((status, body.to_bytes()))
        };
        let mut answer = std::pin::pin!(answer);
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            // Whatever came before the end is there, and else why nothing came.
            _ended = connection => answer.await,
        }
    }
}

/// What went wrong, with what is behind it.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}
