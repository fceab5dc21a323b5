//! An HTTP service: it answers with an expected status and, where that is configured, an expected body.
//!
//! HTTP/1.1 by hyper over the dialer's stream, a new connection each time. Redirects are not followed: an
//! answer that leads elsewhere is not the answer of the service that was asked.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use url::Position;

use super::{Probe, shown, tls};
use crate::clock::Deadline;
use crate::config::plan::HttpPlan;
use crate::health::observation::HttpDetails;
use crate::health::{Details, Failure, FailureKind, Observation, Outcome, Phase};
use crate::net::{Dialer, Stream, Target, Tls, Trace, connect};

/// No more of a body than this is read; what is expected in it must come before.
const BODY_MAX: usize = 64 * 1024;

pub(super) struct Http {
    plan: HttpPlan,
    target: Target,
    /// `None` for `http`.
    tls: Option<Tls>,
    dialer: Dialer,
}

impl Http {
    pub(super) fn new(plan: HttpPlan, dialer: Dialer) -> Self {
        let target = Target { host: plan.url().host_str().unwrap_or_default().to_owned(), port: plan.port() };
        let tls = (plan.url().scheme() == "https").then(|| tls(plan.tls()));
        Self { plan, target, tls, dialer }
    }

    async fn ask(&self, deadline: Deadline, trace: &mut Trace) -> Outcome {
        let dialed = self.dialer.dial(&self.target, self.tls.as_ref(), deadline, trace).await?;
        let exchange = self.exchange(dialed.stream);
        let (status_code, body_bytes) = trace.phase(Phase::Query, deadline, exchange).await?;
        let details = Details::Http(HttpDetails { status_code, body_bytes, tls: dialed.tls });
        Ok(Observation { details, warnings: Vec::new() })
    }

    /// Sends the request and judges the answer: its status code and the length of its body.
    async fn exchange(&self, stream: Stream) -> Result<(u16, usize), Failure> {
        let request = self.request()?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| failure(&e))?;
        // The connection is driven beside the exchange and ends with it, also when the deadline drops both.
        let exchange = async {
            let response = sender.send_request(request).await.map_err(|e| failure(&e))?;
            self.judge(response).await
        };
        tokio::select! {
            biased;
            result = exchange => result,
            // A connection that is closed while the rest of the body lies in its channel is no failure, so
            // the exchange has the first word; this arm is only reached where it can get no further.
            Err(error) = connection => Err(failure(&error)),
        }
    }

    fn request(&self) -> Result<Request<Empty<Bytes>>, Failure> {
        let url = self.plan.url();
        let mut request = Request::builder()
            .method(self.plan.method().as_str())
            .uri(&url[Position::BeforePath..Position::AfterQuery])
            .header(header::HOST, &url[Position::BeforeHost..Position::AfterPort])
            .header(header::USER_AGENT, concat!("sickbay/", env!("CARGO_PKG_VERSION")))
            .header(header::ACCEPT, "*/*")
            .header(header::CONNECTION, "close");
        for (name, value) in self.plan.headers() {
            request = request.header(name, value.expose());
        }
        request.body(Empty::new()).map_err(|_| {
            // hyper's error could quote a header, and so a token.
            Failure::new(
                Phase::Query,
                FailureKind::Internal,
                "the request could not be made from the settings",
            )
        })
    }

    async fn judge(&self, response: Response<Incoming>) -> Result<(u16, usize), Failure> {
        let status = response.status().as_u16();
        let (body, failed) = read_body(response.into_body()).await;
        if !self.plan.expect_status().iter().any(|range| range.contains(&status)) {
            let said = if body.is_empty() { String::new() } else { format!(": \"{}\"", shown(&body)) };
            let message = format!("status {status}, expected {}{said}", ranges(self.plan.expect_status()));
            return Err(Failure::new(Phase::Query, FailureKind::UnexpectedStatus, message)
                .with_code(status.to_string()));
        }
        if let Some(error) = failed {
            return Err(failure(&error));
        }
        match self.plan.expect_body() {
            Some(expected) if !body.windows(expected.len()).any(|window| window == expected.as_bytes()) => {
                let message = format!("expected {expected:?} in the body, received \"{}\"", shown(&body));
                Err(Failure::new(Phase::Query, FailureKind::UnexpectedContent, message))
            }
            _ => Ok((status, body.len())),
        }
    }
}

/// The body up to [`BODY_MAX`], and the error that ended it early, if one did.
async fn read_body(mut body: Incoming) -> (Vec<u8>, Option<hyper::Error>) {
    let mut read = Vec::new();
    while read.len() < BODY_MAX {
        match body.frame().await {
            None => break,
            Some(Err(error)) => return (read, Some(error)),
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    read.extend_from_slice(&data[..data.len().min(BODY_MAX - read.len())]);
                }
            }
        }
    }
    (read, None)
}

fn ranges(ranges: &[std::ops::RangeInclusive<u16>]) -> String {
    let texts: Vec<String> = ranges
        .iter()
        .map(|range| match range.start() == range.end() {
            true => range.start().to_string(),
            false => format!("{}-{}", range.start(), range.end()),
        })
        .collect();
    texts.join(", ")
}

fn failure(error: &hyper::Error) -> Failure {
    if let Some(io) = connect::io_cause(error) {
        return connect::failure(Phase::Query, io);
    }
    let (kind, message) = if error.is_parse() {
        (FailureKind::Protocol, format!("what answers does not speak HTTP/1.1: {error}"))
    } else if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        (FailureKind::ConnectReset, "the connection was closed before the answer was complete".to_owned())
    } else {
        (FailureKind::Protocol, error.to_string())
    };
    Failure::new(Phase::Query, kind, message)
}

impl Probe for Http {
    fn attempt<'a>(&'a mut self, deadline: Deadline, trace: &'a mut Trace) -> BoxFuture<'a, Outcome> {
        Box::pin(self.ask(deadline, trace))
    }
}
