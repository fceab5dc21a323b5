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

use super::connections::Written;
use super::room::{Held, Room};
use super::routes::{self, Audience, Refusal};
use super::state::State;
use super::turns::Turns;

/// No request needs a longer body than this; one that is longer is answered 413.
const BODY_MAX: usize = 16 * 1024;

/// Answers the requests to one listener. `R` is what the routes make of a request.
#[derive(Clone)]
pub(super) struct Front<R> {
    state: State,
    routed: R,
    turns: Turns,
    /// Who asks for more of what only operators ask for must not keep the others from what they may ask for.
    operators: Room,
    everybody: Room,
}

/// Answers the requests of one connection.
#[derive(Clone)]
pub(super) struct Client<R> {
    front: Front<R>,
    written: Written,
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
        let (operators, everybody) = (Room::default(), Room::default());
        Self { state, routed, turns: Turns::default(), operators, everybody }
    }

    /// For the requests of the connection that this is written to.
    pub(super) fn to(&self, written: Written) -> Client<R> {
        Client { front: self.clone(), written }
    }

    /// The short answer to a request that asks for one and has no body.
    fn at_once(&self, request: &mut Request<Incoming>) -> Option<Response<Full<Bytes>>> {
        if !request.body().is_end_stream() {
            return None;
        }
        let question = routes::short_question(request.method(), request.uri().path())?;
        Some(routes::answer_short(&self.state, question, request).map(Full::new))
    }

    /// The answer of the routes, once the request is there as a whole and it is its turn.
    async fn answer(self, request: Request<Incoming>, written: Written) -> Answer {
        let (head, body) = request.into_parts();
        let version = head.version;
        let body = whole(&head.uri, body).await;
        let asked_by = routes::may_be_long(head.uri.path());
        let room = match asked_by {
            Some(Audience::Operators) => &self.operators,
            Some(Audience::Everybody) | None => &self.everybody,
        };
        if asked_by.is_some() {
            self.turns.next().await;
        }
        let body = match asked_by {
            Some(_) if room.is_full() => body.and(Err(Refusal::NoRoom)),
            _ => body,
        };
        let answer = match body {
            Ok(body) => {
                let Ok(answer) = self.routed.call(Request::from_parts(head, Full::new(body))).await;
                let (head, body) = answer.into_parts();
                // It is there as a whole, so it neither waits nor fails.
                let body = body.collect().await.map(Collected::to_bytes).unwrap_or_default();
                Response::from_parts(head, EitherBody::Right(room.hold(body, written.clone())))
            }
            Err(refusal) => {
                routes::refuse(refusal, &head.headers).map(|body| EitherBody::Left(Full::new(body)))
            }
        };
        written.answered(version);
        answer
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

impl<R, B> Service<Request<Incoming>> for Client<R>
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
        let Self { front, written } = self;
        match front.at_once(&mut request) {
            Some(answer) => {
                written.answered(request.version());
                Either::Left(ready(Ok(answer.map(EitherBody::Left))))
            }
            None => Either::Right(front.clone().answer(request, written.clone()).map(Ok).boxed()),
        }
    }
}
