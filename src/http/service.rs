//! What becomes of a request: health questions are answered at once, all else goes through the routes.
//!
//! Load balancers ask health questions again and again, and may ask while the machine has little to give. So their
//! answers take the shortest way: no routing, no waiting, nothing made but a correlation id; the head of the answer
//! is written into the memory that the head of the request came in.
//!
//! Nothing else is answered over HTTP/2. There a client says how much of each answer it takes, and asks for the next
//! before it has taken any: so an answer must be no more than bytes that are there anyway.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::{BoxFuture, Either, FutureExt, Ready, ready};
use http_body_util::{BodyExt, Collected, Empty, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::CONTENT_LENGTH;
use hyper::service::Service;
use hyper::{Method, Request, Response, Uri, Version};

use super::connections::Written;
use super::counts::Counts;
use super::room::{Outgoing, Room};
use super::routes::{self, Refusal};
use super::state::State;
use super::turns::Turns;

/// No request needs a longer body than this; one that is longer is answered 413.
pub(super) const BODY_MAX: usize = 16 * 1024;

/// Answers the requests to one listener. `R` is what the routes make of a request.
#[derive(Clone)]
pub(super) struct Front<R> {
    state: State,
    routed: R,
    turns: Turns,
    room: Room,
    counts: Arc<Counts>,
}

/// Answers the requests of one connection.
#[derive(Clone)]
pub(super) struct Client<R> {
    front: Front<R>,
    written: Written,
}

impl<R, B> Front<R>
where
    R: Service<Request<Empty<Bytes>>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    R::Future: Send,
    B: Body<Data = Bytes> + Send,
{
    /// In front of these routes.
    pub(super) fn new(state: State, routed: R, counts: Arc<Counts>) -> Self {
        Self { state, routed, turns: Turns::default(), room: Room::default(), counts }
    }

    /// For the requests of the connection that this is written to.
    pub(super) fn to(&self, written: Written) -> Client<R> {
        Client { front: self.clone(), written }
    }

    /// The answer over HTTP/1 to a health question that has no body.
    fn at_once(&self, request: &mut Request<Incoming>) -> Option<Response<Outgoing>> {
        if !request.body().is_end_stream() {
            return None;
        }
        let question = routes::question(request.method(), request.uri().path())?;
        Some(routes::answer_short(&self.state, question, request).map(Outgoing::from))
    }

    /// The answer over HTTP/2. Whether there is a body does not matter: it is not read, and the protocol passes it
    /// over.
    fn over_http_2(&self, request: &mut Request<Incoming>, written: &Written) -> Response<Outgoing> {
        let only_head = request.method() == Method::HEAD;
        let mut answer = match routes::question(request.method(), request.uri().path()) {
            Some(question) => routes::answer_short(&self.state, question, request),
            None => {
                routes::refuse(Refusal::OnlyHealth, request.method(), request.uri().path(), request.headers())
            }
        };
        // HTTP/1 leaves the body away by itself.
        if only_head {
            let length = answer.body().len().into();
            answer.headers_mut().insert(CONTENT_LENGTH, length);
            answer.body_mut().clear();
        }
        answer.map(|body| written.answer(body).into())
    }

    /// The answer of the routes, once the request is there as a whole and it is its turn.
    async fn answer(self, request: Request<Incoming>) -> Response<Outgoing> {
        let (head, body) = request.into_parts();
        let refuse = |refusal| routes::refuse(refusal, &head.method, head.uri.path(), &head.headers);
        let body = match read(&head.uri, body).await {
            Ok(body) => body,
            Err(refusal) => return refuse(refusal).map(Outgoing::from),
        };
        if routes::may_be_long(head.uri.path()) {
            self.turns.next().await;
            if self.room.is_full() {
                self.counts.overloaded.add();
                return refuse(Refusal::NoRoom).map(Outgoing::from);
            }
        }
        let Ok(answer) = self.routed.call(Request::from_parts(head, body)).await;
        let (head, body) = answer.into_parts();
        // It is there as a whole, so it neither waits nor fails.
        let body = body.collect().await.map(Collected::to_bytes).unwrap_or_default();
        Response::from_parts(head, self.room.hold(body))
    }
}

/// Reads the body of a request to its end, for the routes. None of them wants it yet, so nothing of it is kept; for one
/// that does it is collected here.
async fn read(target: &Uri, body: Incoming) -> Result<Empty<Bytes>, Refusal> {
    // `CONNECT x:80`, but also `GET x:80`: warp's filters cannot stand a target without a path.
    if target.path_and_query().is_none() {
        return Err(Refusal::NoPath);
    }
    // What says that it is too long need not be sent.
    if body.size_hint().lower() > BODY_MAX as u64 {
        return Err(Refusal::BodyTooLong);
    }
    let mut body = Limited::new(body, BODY_MAX);
    while let Some(frame) = body.frame().await {
        if let Err(error) = frame {
            if error.is::<LengthLimitError>() {
                return Err(Refusal::BodyTooLong);
            }
            tracing::debug!("the body of a request: {error}");
            return Err(Refusal::BodyBroken);
        }
    }
    Ok(Empty::new())
}

impl<R, B> Service<Request<Incoming>> for Client<R>
where
    R: Service<Request<Empty<Bytes>>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    R::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Send,
{
    type Response = Response<Outgoing>;
    type Error = Infallible;
    type Future = Either<
        Ready<Result<Self::Response, Infallible>>,
        BoxFuture<'static, Result<Self::Response, Infallible>>,
    >;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let Self { front, written } = self;
        let at_once = match request.version() {
            Version::HTTP_2 => Some(front.over_http_2(&mut request, written)),
            _ => front.at_once(&mut request),
        };
        match at_once {
            Some(answer) => Either::Left(ready(Ok(answer))),
            None => Either::Right(front.clone().answer(request).map(Ok).boxed()),
        }
    }
}
