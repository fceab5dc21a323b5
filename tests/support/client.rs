//! A small HTTP client: one request on a connection of its own, so that no pool hides a fault.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Method, Request};
use hyper_util::rt::TokioIo;
use sickbay::clock::Stopwatch;
use tokio::net::TcpStream;

/// No answer of the agent takes long: it does no I/O.
const TIMEOUT: Duration = Duration::from_secs(10);

/// An answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Header names are lower case.
    pub headers: HeaderMap,
    /// The body.
    pub body: String,
    /// From before the connection to after the body.
    pub took: Duration,
}

impl Response {
    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.body))
    }

    /// A header's value, empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("ASCII"))
    }
}

impl std::fmt::Display for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.status, self.body)
    }
}

/// Sends a request.
///
/// # Errors
/// What went wrong, where no whole answer came.
pub async fn request(
    server: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Result<Response, String> {
    let watch = Stopwatch::start();
    let mut request = Request::builder().method(method).uri(path).header("host", server.to_string());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).expect("a request");
    let exchange = async {
        let stream = TcpStream::connect(server).await.map_err(|error| format!("connect: {error}"))?;
        let told = |error: hyper::Error| format!("HTTP: {error}");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(told)?;
        let connection = tokio::spawn(connection);
        let response = sender.send_request(request).await.map_err(told)?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(told)?.to_bytes();
        connection.abort();
        Ok(Response {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: String::from_utf8(body.to_vec()).map_err(|error| error.to_string())?,
            took: watch.elapsed(),
        })
    };
    match tokio::time::timeout(TIMEOUT, exchange).await {
        Ok(result) => result,
        Err(_) => Err(format!("no answer within {TIMEOUT:?}")),
    }
}

/// [`request`] with GET and nothing else.
///
/// # Errors
/// As [`request`].
pub async fn get(server: SocketAddr, path: &str) -> Result<Response, String> {
    request(server, Method::GET, path, &[], "").await
}
