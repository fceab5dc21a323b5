//! An HTTP service: it answers with an expected status and, where that is configured, an expected body.
//!
//! HTTP/1.1 by hyper over the dialer's stream, a new connection each time. Redirects are not followed: an
//! answer that leads elsewhere is not the answer of the service that was asked.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Request, Response, header};
use hyper_util::rt::TokioIo;
use url::{Position, Url};

use super::expecting::Expecting;
use super::first_words::{FirstWords, Heard, Tongue};
use super::{Probe, cut_before_an_answer, shown, tls};
use crate::clock::Deadline;
use crate::config::plan::HttpPlan;
use crate::health::observation::HttpDetails;
use crate::health::{Details, Failure, FailureKind, Observation, Outcome, Phase};
use crate::net::{Dialer, Target, Tls, Trace, connect};

/// The head of an answer may be so long; those of services are a hundredth of it.
const HEAD_MAX: usize = 64 * 1024;

/// And have so many lines; proxies refuse what has more than a hundred.
const HEADERS_MAX: usize = 256;

/// A body that nothing is expected of is waited for this long: the answer was judged by its status already.
const BODY_PATIENCE: Duration = Duration::from_millis(100);

/// An answer begins with the version, perhaps behind an empty line.
const HTTP: Tongue = Tongue {
    name: "HTTP/1.1",
    begins: |bytes| {
        let line = bytes.trim_ascii_start();
        b"HTTP/1.".starts_with(&line[..line.len().min(7)])
    },
};

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
        let (stream, words) = FirstWords::of(HTTP, dialed.stream);
        let exchange = self.exchange(stream, &words, &mut status);
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
    async fn exchange(
        &self,
        stream: Heard,
        words: &FirstWords,
        status: &mut Option<u16>,
    ) -> Result<(u16, usize), Failure> {
        let request = self.request()?;
        let mut client = http1::Builder::new();
        let (mut sender, connection) = client
            .max_buf_size(HEAD_MAX)
            .max_headers(HEADERS_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| failure(&error, words))?;
        // The connection is driven beside the exchange and ends with it, also when the deadline drops both.
        let exchange = async {
            let response = sender.send_request(request).await.map_err(|error| failure(&error, words))?;
            *status = Some(response.status().as_u16());
            self.judge(response, words).await
        };
        tokio::select! {
            biased;
            result = exchange => result,
            // A connection that is closed while the rest of the body lies in its channel is no failure, so
            // the exchange has the first word; this arm is only reached where it can get no further.
            Err(error) = connection => Err(failure(&error, words)),
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

    async fn judge(&self, response: Response<Incoming>, words: &FirstWords) -> Result<(u16, usize), Failure> {
        let status = response.status().as_u16();
        let fine = self.plan.expect_status().iter().any(|range| range.contains(&status));
        let elsewhere = redirection(self.plan.url(), &response);
        let body = response.into_body();
        let expected = self.plan.expect_body().as_deref().filter(|_| fine);
        // A body of unknown length that nobody expects anything of may be a stream without an end.
        let whole = fine && (expected.is_some() || body.size_hint().exact().is_some());
        let mut read = Expecting::new(expected);
        let reading = read_into(&mut read, body);
        let failed = match whole {
            true => reading.await,
            // Whatever came by then is enough: to quote, or to count.
            false => tokio::time::timeout(BODY_PATIENCE, reading).await.ok().flatten(),
        };
        if !fine {
            return Err(self.unexpected_status(status, elsewhere.as_deref(), read.received()));
        }
        // Of a body that was read for as long as it came by itself, the end decides nothing either: it would be
        // chance whether it is seen.
        if let Some(error) = failed.filter(|_| whole) {
            return Err(failure(&error, words));
        }
        match expected {
            Some(expected) if !read.found() => {
                let place = if read.full() { "the first 64 KiB of the body" } else { "the body" };
                let message =
                    format!("expected {expected:?} in {place}, received \"{}\"", shown(read.received()));
                Err(Failure::new(Phase::Query, FailureKind::UnexpectedContent, message))
            }
            _ => Ok((status, read.received().len())),
        }
    }

    fn unexpected_status(&self, status: u16, elsewhere: Option<&str>, body: &[u8]) -> Failure {
        let said = match (elsewhere, body) {
            (Some(url), _) => format!("; it redirects to \"{url}\""),
            (None, []) => String::new(),
            (None, body) => format!(": \"{}\"", shown(body)),
        };
        let message = format!("status {status}, expected {}{said}", ranges(self.plan.expect_status()));
        let failure = Failure::new(Phase::Query, FailureKind::UnexpectedStatus, message);
        let failure = failure.with_code(status.to_string());
        match hint(status) {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        }
    }
}

/// What to look at first, where the status itself says it.
fn hint(status: u16) -> Option<&'static str> {
    Some(match status {
        300..=399 => {
            "redirects are not followed: configure the URL that this one leads to, or expect this status if it is the right answer"
        }
        400 => {
            "the request is not accepted: check that this port takes plain HTTP and not only HTTPS, and the `Host` it wants"
        }
        401 | 407 => {
            "it wants to know who asks: give credentials in `headers` or in the URL; they may have been rotated"
        }
        403 => {
            "it refuses whoever asks, or from where: check the credentials, and its lists of allowed addresses and hosts"
        }
        404 | 410 => {
            "it serves nothing at this path: check the URL, and whether the version that is deployed has it"
        }
        405 | 501 => "it takes other methods at this path: set `method`",
        429 => {
            "it is asked too often, by us or by others: lengthen `interval`, or have it let health checks through"
        }
        502..=504 => {
            "a proxy answers for a service that does not, or the service itself says that it cannot serve: look behind it"
        }
        _ => return None,
    })
}

const HEAD_TOO_LARGE: &str = "no client or proxy takes much more: look at the headers with `curl --head` for cookies or others that are added again and again";

/// Where a redirection leads, without what may be a secret of it: user info, query and fragment.
fn redirection(asked: &Url, response: &Response<Incoming>) -> Option<String> {
    const SHOWN: usize = 200;
    if !response.status().is_redirection() {
        return None;
    }
    let location = response.headers().get(header::LOCATION)?.to_str().ok()?;
    let mut url = asked.join(location).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    // None of these can fail on a URL with a host.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    // An `@` behind the host may end a password whose `/` was not encoded.
    let plain = url.as_str().len() <= SHOWN && !url.as_str().contains('@');
    plain.then(|| url.into())
}

/// Reads until what is expected has come, or there is no room for more, or the body ends; gives the error that
/// ended it early, if one did.
async fn read_into(read: &mut Expecting<'_>, mut body: Incoming) -> Option<hyper::Error> {
    // Where nothing is expected, the body is read to be counted.
    let counting = read.found();
    while !read.full() && (counting || !read.found()) {
        match body.frame().await? {
            Err(error) => return Some(error),
            Ok(frame) => {
                if let Some(data) = frame.data_ref() {
                    read.take(data);
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

/// The failure that an error of the client library means. What the socket said, or the first words of what is
/// no HTTP, says more than where the library was when it ended.
fn failure(error: &hyper::Error, words: &FirstWords) -> Failure {
    if let Some(end) = words.end(Phase::Query) {
        return end;
    }
    if let Some(io) = connect::io_cause(error) {
        return connect::failure(Phase::Query, io);
    }
    if error.is_parse_too_large() {
        let message = format!(
            "the head of the answer is longer than {} KiB or has more than {HEADERS_MAX} headers",
            HEAD_MAX / 1024
        );
        return Failure::new(Phase::Query, FailureKind::Protocol, message).with_hint(HEAD_TOO_LARGE);
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
