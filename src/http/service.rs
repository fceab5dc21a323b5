//! What becomes of a request: the short answers are given at once, all else goes through the routes.
//!
//! Load balancers ask for the short answers again and again, and may ask while the machine has little to give.
//! So those take the shortest way: no routing, no waiting, nothing made but a correlation id; the head of the
//! answer is written into the memory that the head of the request came in.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::future::{BoxFuture, Either, FutureExt, Ready, ready};
use http_body_util::{BodyExt, Collected, Either as EitherBody, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::service::Service;
use hyper::{Request, Response, Uri};

use super::room::{Held, Room};
use super::routes::{self, Refusal};
use super::state::State;

/// No request needs a longer body than this; one that is longer is answered 413.
const BODY_MAX: usize = 16 * 1024;

/// Answers the requests of one connection. `R` is what the routes make of a request.
#[derive(Clone)]
pub(super) struct Front<R> {
    state: State,
    routed: R,
    room: Room,
}

/// An answer: one that is short, or one of the routes.
type Answer = Response<EitherBody<Full<Bytes>, Held>>;

impl<R, B> Front<R>
where
    R: Service<Request<Full<Bytes>>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    R::Future: Send,
    B: Body<Data = Bytes> + Send,
{
    /// In front of these routes.
    pub(super) fn new(state: State, routed: R) -> Self {
        Self { state, routed, room: Room::default() }
    }

    /// The short answer to a request that asks for one and has no body.
    fn at_once(&self, request: &mut Request<Incoming>) -> Option<Response<Full<Bytes>>> {
        if !request.body().is_end_stream() {
            return None;
        }
        let question = routes::short_question(request.method(), request.uri().path())?;
        Some(routes::answer_short(&self.state, question, request).map(Full::new))
    }

    /// The answer of the routes, once the request is there as a whole.
    async fn answer(self, request: Request<Incoming>) -> Answer {
        let (head, body) = request.into_parts();
        let body = whole(&head.uri, body).await.and_then(|body| {
            let has_room = !self.room.is_full() || !routes::may_be_long(head.uri.path());
            if has_room { Ok(body) } else { Err(Refusal::NoRoom) }
        });
        match body {
            Ok(body) => {
                let Ok(answer) = self.routed.call(Request::from_parts(head, Full::new(body))).await;
                let (head, body) = answer.into_parts();
                // It is there as a whole, so it neither waits nor fails.
                let body = body.collect().await.map(Collected::to_bytes).unwrap_or_default();
                Response::from_parts(head, EitherBody::Right(self.room.hold(body)))
            }
            Err(refusal) => {
                routes::refuse(refusal, &head.headers).map(|body| EitherBody::Left(Full::new(body)))
            }
        }
    }
}

/// All of the body of a request that is for the routes.
async fn whole(target: &Uri, body: Incoming) -> Result<Bytes, Refusal> {
    // `CONNECT x:80`, but also `GET x:80`: warp's filters cannot stand a target without a path.
    if target.path_and_query().is_none() {
        return Err(Refusal::NoPath);
    }
    // What says that it is too long need not be sent.
    if body.size_hint().lower() > BODY_MAX as u64 {
        return Err(Refusal::BodyTooLong);
    }
    match Limited::new(body, BODY_MAX).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Refusal::BodyTooLong),
        Err(error) => {
            tracing::debug!("the body of a request: {error}");
            Err(Refusal::BodyBroken)
        }
    }
}

impl<R, B> Service<Request<Incoming>> for Front<R>
where
    R: Service<Request<Full<Bytes>>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    R::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Send,
{
    type Response = Answer;
    type Error = Infallible;
    type Future = Either<
        Ready<Result<Self::Response, Infallible>>,
        BoxFuture<'static, Result<Self::Response, Infallible>>,
    >;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        match self.at_once(&mut request) {
            Some(answer) => Either::Left(ready(Ok(answer.map(EitherBody::Left)))),
            None => Either::Right(self.clone().answer(request).map(Ok).boxed()),
        }
    }
}
