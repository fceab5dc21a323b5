//! What becomes of a request: health questions are answered at once, all else goes through the routes.
//!
//! Load balancers ask health questions again and again, and may ask while the machine has little to give. So their
//! answers take the shortest way: no routing, no waiting, nothing made but a correlation id; the head of the answer
//! is written into the memory that the head of the request came in.
//!
//! Nothing else is answered over HTTP/2. There a client says how much of each answer it takes, and asks for the next
//! before it has taken any: so an answer must be no more than bytes that are there anyway.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::future::{BoxFuture, Either, FutureExt, Ready, ready};
use http_body_util::{BodyExt, Collected, Empty, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::{CONNECTION, CONTENT_LENGTH, HeaderValue};
use hyper::http::request;
use hyper::service::Service;
use hyper::{Method, Request, Response, Version};

use super::connections::Written;
use super::counts::Counts;
use super::orders::{self, BodyFault, Caller};
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
    peer: SocketAddr,
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

    /// For the requests of the connection that this is written to, and that comes from there.
    pub(super) fn to(&self, written: Written, peer: SocketAddr) -> Client<R> {
        Client { front: self.clone(), written, peer }
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
    async fn answer(
        self,
        request: Request<Incoming>,
        written: Written,
        peer: SocketAddr,
    ) -> Response<Outgoing> {
        let (mut head, body) = request.into_parts();
        // `CONNECT x:80`, but also `GET x:80`: warp's filters cannot stand a target without a path.
        if head.uri.path_and_query().is_none() {
            return refuse(Refusal::NoPath, &head).map(Outgoing::from);
        }
        let is_order = routes::is_order(&head.method, head.uri.path());
        let body = read(body, if is_order { orders::BODY_MAX } else { 0 }).await;
        // Of an order other things are judged before its body.
        let fault = body.as_ref().err().copied();
        match fault {
            Some(BodyFault::TooLong) if !is_order => {
                return refuse(Refusal::BodyTooLong, &head).map(Outgoing::from);
            }
            Some(BodyFault::Broken) if !is_order => {
                return refuse(Refusal::BodyBroken, &head).map(Outgoing::from);
            }
            _ => (),
        }
        if routes::may_be_long(head.uri.path()) {
            self.turns.next().await;
            if self.room.is_full() {
                self.counts.overloaded.add();
                return refuse(Refusal::NoRoom, &head).map(Outgoing::from);
            }
        }
        head.extensions.insert(Caller { peer, written, body });
        let Ok(answer) = self.routed.call(Request::from_parts(head, Empty::new())).await;
        let (mut head, body) = answer.into_parts();
        // The rest of a body that was not read could be taken for the next request.
        if fault.is_some() {
            head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        // It is there as a whole, so it neither waits nor fails.
        let body = body.collect().await.map(Collected::to_bytes).unwrap_or_default();
        Response::from_parts(head, self.room.hold(body))
    }
}

fn refuse(refusal: Refusal, head: &request::Parts) -> Response<Bytes> {
    routes::refuse(refusal, &head.method, head.uri.path(), &head.headers)
}

/// Reads the body of a request to its end, and keeps as much of it as shows that it is longer than `wanted`.
async fn read(body: Incoming, wanted: usize) -> Result<Bytes, BodyFault> {
    // What says that it is too long need not be sent.
    if body.size_hint().lower() > BODY_MAX as u64 {
        return Err(BodyFault::TooLong);
    }
    let mut body = Limited::new(body, BODY_MAX);
    let mut kept = BytesMut::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => {
                let room = (wanted + 1).saturating_sub(kept.len());
                let data = frame.data_ref().filter(|_| wanted > 0);
                kept.extend(data.map(|data| &data[..data.len().min(room)]).unwrap_or_default());
            }
            Err(error) if error.is::<LengthLimitError>() => return Err(BodyFault::TooLong),
            Err(error) => {
                tracing::debug!("the body of a request: {error}");
                return Err(BodyFault::Broken);
            }
        }
    }
    Ok(kept.freeze())
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
        let Self { front, written, peer } = self;
        let at_once = match request.version() {
            Version::HTTP_2 => Some(front.over_http_2(&mut request, written)),
            _ => front.at_once(&mut request),
        };
        match at_once {
            Some(answer) => Either::Left(ready(Ok(answer))),
            None => Either::Right(front.clone().answer(request, written.clone(), *peer).map(Ok).boxed()),
        }
    }
}
