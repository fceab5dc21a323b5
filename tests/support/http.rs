//! An HTTP server that answers as it is told, and can be told otherwise while it runs.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;

use super::certs::Pair;
use super::tcp::Peer;

/// What it answers.
#[derive(Debug, Clone)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Bytes,
    pause: Pause,
}

#[derive(Debug, Clone, Copy)]
enum Pause {
    For(Duration),
    Forever,
}

impl Answer {
    /// This status, with an empty body, at once.
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Bytes::new(), pause: Pause::For(Duration::ZERO) }
    }

    /// The request is taken and never answered.
    pub fn never() -> Self {
        Self { pause: Pause::Forever, ..Self::status(200) }
    }

    /// With this body.
    #[must_use]
    pub fn body(self, body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// With one header more.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// After this long.
    #[must_use]
    pub fn after(self, pause: Duration) -> Self {
        Self { pause: Pause::For(pause), ..self }
    }
}

/// A request that came in.
#[derive(Debug, Clone)]
pub struct Seen {
    /// GET, HEAD, …
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// Header names are lower case.
    pub headers: HeaderMap,
}

/// The server. Dropped, it is gone.
#[derive(Debug)]
pub struct HttpServer {
    peer: Peer,
    scheme: &'static str,
    script: Arc<Mutex<Script>>,
}

#[derive(Debug)]
struct Script {
    everywhere: Answer,
    by_path: HashMap<String, Answer>,
    seen: Vec<Seen>,
}

impl HttpServer {
    /// Starts one that gives this answer on every path.
    pub async fn start(answer: Answer) -> Self {
        Self::on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port"), answer)
    }

    /// The same on this listener, wherever it was made.
    pub fn on(listener: TcpListener, answer: Answer) -> Self {
        let script = Script::shared(answer);
        let shared = Arc::clone(&script);
        let peer = Peer::on(listener, move |stream| serve(stream, Arc::clone(&shared)));
        Self { peer, scheme: "http", script }
    }

    /// The same over TLS.
    pub async fn start_tls(answer: Answer, pair: &Pair) -> Self {
        let script = Script::shared(answer);
        let shared = Arc::clone(&script);
        let acceptor = acceptor(pair);
        let peer = Peer::start(move |stream| {
            let (acceptor, script) = (acceptor.clone(), Arc::clone(&shared));
            async move {
                // A client that does not like the certificate hangs up: that is its answer.
                if let Ok(stream) = acceptor.accept(stream).await {
                    serve(stream, script).await;
                }
            }
        })
        .await;
        Self { peer, scheme: "https", script }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.peer.address()
    }

    /// An address for this path, by number: `http://127.0.0.1:PORT/path`.
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address())
    }

    /// From now on this is the answer on every path that has none of its own.
    pub fn answer(&self, answer: Answer) {
        self.script().everywhere = answer;
    }

    /// From now on this is the answer on this path (without the query).
    pub fn answer_at(&self, path: &str, answer: Answer) {
        self.script().by_path.insert(path.to_owned(), answer);
    }

    /// The requests so far, oldest first.
    pub fn seen(&self) -> Vec<Seen> {
        self.script().seen.clone()
    }

    /// How many connections it has accepted.
    pub fn accepted(&self) -> usize {
        self.peer.accepted()
    }

    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Script {
    fn shared(everywhere: Answer) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self { everywhere, by_path: HashMap::new(), seen: Vec::new() }))
    }

    fn answer_to(&mut self, request: &Request<Incoming>) -> Answer {
        self.seen.push(Seen {
            method: request.method().clone(),
            path: request.uri().path_and_query().map_or_else(String::new, ToString::to_string),
            headers: request.headers().clone(),
        });
        self.by_path.get(request.uri().path()).unwrap_or(&self.everywhere).clone()
    }
}

/// What takes connections over TLS with this certificate; for [`Peer::start`], too.
pub fn acceptor(pair: &Pair) -> tokio_native_tls::TlsAcceptor {
    let read = |path| fs::read(path).expect("a file of `certs`");
    let identity = native_tls::Identity::from_pkcs8(&read(&pair.cert), &read(&pair.key)).expect("a pair");
    native_tls::TlsAcceptor::new(identity).expect("TLS").into()
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, script: Arc<Mutex<Script>>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = script.lock().unwrap_or_else(PoisonError::into_inner).answer_to(&request);
        async move {
            match answer.pause {
                Pause::For(pause) => tokio::time::sleep(pause).await,
                Pause::Forever => std::future::pending().await,
            }
            let mut response = Response::builder().status(answer.status);
            for (name, value) in answer.headers {
                response = response.header(name, value);
            }
            Ok::<_, Infallible>(response.body(Full::new(answer.body)).expect("a sound answer"))
        }
    });
    // How a connection ends is the client's choice.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}
