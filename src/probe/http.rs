//! An HTTP service: it answers with an expected status and, where that is configured, an expected body.
//!
//! HTTP/1.1 by hyper over the dialer's stream, a new connection each time. Redirects are not followed: an
//! answer that leads elsewhere is not the answer of the service that was asked.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Incoming};
use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Request, Response, header};
use hyper_util::rt::TokioIo;
use url::Position;

use super::{Probe, cut_before_an_answer, shown, tls};
use crate::clock::Deadline;
use crate::config::plan::HttpPlan;
use crate::health::observation::HttpDetails;
use crate::health::{Details, Failure, FailureKind, Observation, Outcome, Phase};
use crate::net::{Dialer, Stream, Target, Tls, Trace, connect};

/// No more of a body than this is read; what is expected in it must come before.
const BODY_MAX: usize = 64 * 1024;

/// A body that nothing is expected of is waited for this long: the answer was judged by its status already.
const BODY_PATIENCE: Duration = Duration::from_millis(100);

pub(super) struct Http {
    plan: HttpPlan,
    target: Target,
    /// `None` for `http`.
    tls: Option<Tls>,
    dialer: Dialer,
}

impl Http {
    pub(super) fn new(plan: HttpPlan, dialer: Dialer) -> Self {
        let target = Target::new(plan.url().host_str().unwrap_or_default(), plan.port());
        let tls = (plan.url().scheme() == "https").then(|| tls(plan.tls()));
        Self { plan, target, tls, dialer }
    }

    async fn ask(&self, deadline: Deadline, trace: &mut Trace) -> Outcome {
        let dialed = self.dialer.dial(&self.target, self.tls.as_ref(), deadline, trace).await?;
        let over_tls = dialed.tls.is_some();
        // How far the answer has come, for the message where the deadline ends it.
        let mut status = None;
        let exchange = self.exchange(dialed.stream, &mut status);
        let result = trace.phase(Phase::Query, deadline, exchange).await;
        let (status_code, body_bytes) = result.map_err(|failure| match status {
            Some(status) if failure.kind == FailureKind::Timeout => {
                let message = format!("status {status} came, and the body did not end in time");
                Failure { message, ..failure }
            }
            Some(_) => failure,
            None => cut_before_an_answer(failure, over_tls),
        })?;
        let details = Details::Http(HttpDetails { status_code, body_bytes, tls: dialed.tls });
        Ok(Observation { details, warnings: Vec::new() })
    }

    /// Sends the request and judges the answer: its status code and the length of its body.
    async fn exchange(&self, stream: Stream, status: &mut Option<u16>) -> Result<(u16, usize), Failure> {
        let request = self.request()?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| failure(&e))?;
        // The connection is driven beside the exchange and ends with it, also when the deadline drops both.
        let exchange = async {
            let response = sender.send_request(request).await.map_err(|e| failure(&e))?;
            *status = Some(response.status().as_u16());
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
        const OWN: [(HeaderName, HeaderValue); 3] = [
            (header::USER_AGENT, HeaderValue::from_static(concat!("sickbay/", env!("CARGO_PKG_VERSION")))),
            (header::ACCEPT, HeaderValue::from_static("*/*")),
            (header::CONNECTION, HeaderValue::from_static("close")),
        ];
        let unusable = || {
            // The library's error could quote a header, and so a token.
            let message = "the request could not be made from the settings";
            Failure::new(Phase::Query, FailureKind::Internal, message)
        };
        let url = self.plan.url();
        let host = HeaderValue::from_str(&url[Position::BeforeHost..Position::AfterPort]);
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.map_err(|_| unusable())?);
        headers.extend(OWN);
        // What is configured takes the place of ours: two `Host` lines would be refused.
        for (name, value) in self.plan.headers() {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unusable())?;
            headers.insert(name, HeaderValue::from_str(value.expose()).map_err(|_| unusable())?);
        }
        let mut request = Request::builder()
            .method(self.plan.method().as_str())
            .uri(&url[Position::BeforePath..Position::AfterQuery])
            .body(Empty::new())
            .map_err(|_| unusable())?;
        *request.headers_mut() = headers;
        Ok(request)
    }

    async fn judge(&self, response: Response<Incoming>) -> Result<(u16, usize), Failure> {
        let status = response.status().as_u16();
        let fine = self.plan.expect_status().iter().any(|range| range.contains(&status));
        let body = response.into_body();
        // A body of unknown length that nobody expects anything of may be a stream without an end.
        let whole = fine && (self.plan.expect_body().is_some() || body.size_hint().exact().is_some());
        let mut read = Vec::new();
        let reading = read_into(&mut read, body);
        let failed = match whole {
            true => reading.await,
            // Whatever came by then is enough: to quote, or to count.
            false => tokio::time::timeout(BODY_PATIENCE, reading).await.ok().flatten(),
        };
        if !fine {
            let said = if read.is_empty() { String::new() } else { format!(": \"{}\"", shown(&read)) };
            let message = format!("status {status}, expected {}{said}", ranges(self.plan.expect_status()));
            return Err(Failure::new(Phase::Query, FailureKind::UnexpectedStatus, message)
                .with_code(status.to_string()));
        }
        if let Some(error) = failed {
            return Err(failure(&error));
        }
        match self.plan.expect_body() {
            Some(expected) if !read.windows(expected.len()).any(|window| window == expected.as_bytes()) => {
                let message = format!("expected {expected:?} in the body, received \"{}\"", shown(&read));
                Err(Failure::new(Phase::Query, FailureKind::UnexpectedContent, message))
            }
            _ => Ok((status, read.len())),
        }
    }
}

/// Reads the body up to [`BODY_MAX`]; gives the error that ended it early, if one did.
async fn read_into(read: &mut Vec<u8>, mut body: Incoming) -> Option<hyper::Error> {
    while read.len() < BODY_MAX {
        match body.frame().await? {
            Err(error) => return Some(error),
            Ok(frame) => {
                if let Some(data) = frame.data_ref() {
                    read.extend_from_slice(&data[..data.len().min(BODY_MAX - read.len())]);
                }
            }
        }
    }
    None
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
