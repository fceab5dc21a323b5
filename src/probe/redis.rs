//! Redis, Valkey and ElastiCache: `AUTH` where there is a password, then `PING` and `INFO` in one round trip.
//!
//! Nothing is written and no key is read: the ACL rules `+ping +info` are enough, and without `+info` the server
//! is still known to answer. `PING` is more than a sign of life: the server refuses it whenever it would refuse
//! others for its state (`LOADING`, `MASTERDOWN`, `MISCONF`, `BUSY`). Whether it would refuse writes alone,
//! `INFO` tells; whether a cluster serves all its slots, `CLUSTER INFO` does.

mod failure;
mod info;
mod judge;

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisError, Value};
use tokio_util::task::AbortOnDropHandle;

use failure::{Refusal, explained, failure};
use info::Info;
use judge::Evicted;

use super::first_words::{FirstWords, Tongue};
use super::password::Password;
use super::pooled::{Keep, Place, Pooled, Protocol, Session, Trouble};
use super::{cut_before_an_answer, tls};
use crate::clock::{Deadline, Stopwatch};
use crate::config::Secret;
use crate::config::plan::{RedisPlan, Role};
use crate::health::observation::RedisDetails;
use crate::health::{Details, Failure, FailureKind, Observation, Phase, TlsDetails};
use crate::net::{Dialer, Target, Tls, Trace};

/// As which our connections stand in the server's `CLIENT LIST`.
const NAME: &str = "sickbay";

/// No answer to our questions is nearly as long: `INFO` is some 7 KiB, and a line more for each database and each
/// replica. What is no Redis can have the client library make many small values of it, each several times as long
/// as what was sent for it.
const ANSWER_MAX: usize = 128 * 1024;

/// What a server refused to tell is asked for again after this long: each refusal is an entry in the `ACL LOG` of
/// somebody who reads it, but rights may be granted meanwhile.
const ASK_AGAIN: Duration = Duration::from_secs(3600);

/// The protocol of Redis, in its versions 2 and 3: each answer begins with its type.
const RESP: Tongue = Tongue { name: "Redis", begins: |bytes| b"+-:$*_#,(!=%~>|".contains(&bytes[0]) };

/// The probe of a Redis server.
pub(super) fn probe(
    plan: RedisPlan,
    password: Option<Password>,
    patience: Duration,
    dialer: Dialer,
) -> Pooled<Redis> {
    let keep = Keep { max: 2, renew_every: plan.reconnect_every().get(), patience };
    let target = Target::new(plan.host(), *plan.port());
    let tls = plan.tls().as_ref().map(tls);
    let lead = dialer.lead(&target);
    let asks = Redis {
        plan,
        password: password.clone(),
        target,
        tls,
        dialer,
        nameless: false,
        refused: Refused::default(),
        counted: None,
    };
    Pooled::new(asks, keep).with_password(password).following(lead)
}

pub(super) struct Redis {
    plan: RedisPlan,
    password: Option<Password>,
    target: Target,
    tls: Option<Tls>,
    dialer: Dialer,
    /// The server does not let us name our connections. It is not asked again: each refusal is an entry in the
    /// `ACL LOG` of somebody who reads it.
    nameless: bool,
    refused: Refused,
    counted: Option<Counted>,
}

/// What the server does not tell this user, of what a check can do without.
#[derive(Default)]
struct Refused {
    info: Option<Kept>,
    cluster: Option<Kept>,
    /// Whom it refuses: with another password we may be somebody with more rights.
    password: Option<Secret>,
}

/// A refusal that stands for some time.
struct Kept {
    refusal: Refusal,
    since: Stopwatch,
}

impl Refused {
    /// What need not be asked for now, with the answer that it would have.
    fn stands(kept: &Option<Kept>) -> Option<Answer> {
        let kept = kept.as_ref().filter(|kept| kept.since.elapsed() < ASK_AGAIN)?;
        Some(Err(kept.refusal.clone()))
    }

    /// Keeps an answer that is a refusal for good; forgets what it was before where it is another one.
    fn note(kept: &mut Option<Kept>, answer: &Answer) {
        match answer {
            Err(refusal) if refusal.is_for_good() => {
                if Self::stands(kept).is_none() {
                    *kept = Some(Kept { refusal: refusal.clone(), since: Stopwatch::start() });
                }
            }
            _ => *kept = None,
        }
    }
}

/// What a server had evicted when it was last asked.
struct Counted {
    /// Its `run_id`: another server, or the same one after a restart, counts from zero.
    run: String,
    keys: u64,
    at: Stopwatch,
}

/// An open connection and the task that reads from it.
pub(super) struct Connection {
    client: MultiplexedConnection,
    driver: AbortOnDropHandle<()>,
    tls: Option<TlsDetails>,
    words: FirstWords,
    /// Whether the server has answered anything yet.
    answered: bool,
    /// Whether the server was asked to name this connection.
    named: bool,
    /// Whether it leads to a node of a cluster.
    of_a_cluster: bool,
}

impl Session for Connection {
    /// Ends the TLS session, where there is one, and closes the socket; Redis knows no other goodbye that it would
    /// not call deprecated.
    async fn goodbye(self) {
        let Self { client, driver, .. } = self;
        drop(client);
        let _ = driver.await;
    }
}

impl Protocol for Redis {
    type Session = Connection;

    async fn open(
        &mut self,
        _: &Place,
        deadline: Deadline,
        trace: &mut Trace,
    ) -> Result<Connection, Failure> {
        let dialed = self.dialer.dial(&self.target, self.tls.as_ref(), deadline, trace).await;
        let dialed = dialed.map_err(silent_in_tls)?;
        // Without credentials and names nothing is sent here: `AUTH` goes by itself, so that it can be timed
        // and its error has the server's own code.
        let settings = RedisConnectionInfo::default().set_skip_set_lib_name();
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let (stream, words) = FirstWords::of(RESP, dialed.stream.with_answers_up_to(ANSWER_MAX));
        let (mut client, driver) = MultiplexedConnection::new_with_config(&settings, stream, config)
            .await
            .map_err(|error| failure(Phase::Auth, &error, &words, false))?;
        let driver = AbortOnDropHandle::new(tokio::spawn(driver));
        let mut answered = false;
        let password = self.password.as_ref().map(Password::current);
        if self.refused.password != password {
            self.refused = Refused { password: password.clone(), ..Refused::default() };
        }
        if let Some(password) = password {
            let mut auth = redis::cmd("AUTH");
            if let Some(user) = self.plan.username() {
                auth.arg(user);
            }
            auth.arg(password.expose());
            let log_in = async {
                let result = auth.query_async::<()>(&mut client).await;
                result.map_err(|error| {
                    let failure = failure(Phase::Auth, &error, &words, false);
                    cut_before_an_answer(failure, dialed.tls.is_some())
                })
            };
            let logged_in = trace.phase(Phase::Auth, deadline, log_in).await;
            logged_in.map_err(|failure| begun(failure, &words))?;
            answered = true;
        }
        let tls = dialed.tls;
        Ok(Connection { client, driver, tls, words, answered, named: false, of_a_cluster: false })
    }

    async fn ask(
        &mut self,
        session: &mut Connection,
        deadline: Deadline,
        trace: &mut Trace,
    ) -> Result<Observation, Trouble> {
        let naming = !self.nameless && !session.named;
        // A `Result` in a `Result`: the phase ends by the deadline, the inner one is the connection's word.
        let known = Known {
            info: Refused::stands(&self.refused.info),
            cluster: Refused::stands(&self.refused.cluster),
        };
        let exchange = async { Ok(exchange(session, naming, known).await) };
        let said = match trace.phase(Phase::Query, deadline, exchange).await {
            Ok(Ok(said)) => said,
            Ok(Err(error)) => {
                let said = failure(Phase::Query, &error, &session.words, session.answered);
                return Err(Trouble::Broken(match session.answered {
                    true => said,
                    false => cut_before_an_answer(said, session.tls.is_some()),
                }));
            }
            Err(silent) => {
                let silent = match session.answered {
                    true => {
                        let kind = FailureKind::QueryTimeout;
                        Failure { kind, hint: kind.hint().into(), ..silent }
                    }
                    false => begun(silent, &session.words),
                };
                return Err(Trouble::Broken(silent));
            }
        };
        session.answered = true;
        session.named |= naming;
        self.nameless |= said.nameless;
        // With a role that is wanted, no check succeeds without `INFO`: the first after it is allowed must know.
        if *self.plan.role() == Role::Any {
            Refused::note(&mut self.refused.info, &said.info);
        }
        if let Some(cluster) = &said.cluster {
            Refused::note(&mut self.refused.cluster, cluster);
        }
        self.judge(&said, session.tls.clone(), &mut trace.seen).map_err(Trouble::Answered)
    }
}

/// Where TLS is not spoken, Redis takes a client's hello for the beginning of a command and waits for its end.
fn silent_in_tls(failure: Failure) -> Failure {
    match (failure.phase, failure.kind) {
        (Phase::Tls, FailureKind::Timeout) => failure.with_hint(
            "a Redis port that speaks no TLS stays silent like this: check the port, or turn TLS off (REDIS_TLS=false); else the process may hang or be overloaded",
        ),
        _ => failure,
    }
}

/// A first answer that was begun and not ended in time is no silence.
fn begun(failure: Failure, words: &FirstWords) -> Failure {
    match failure.kind {
        FailureKind::Timeout if words.begun() => {
            let message = format!("{}, though one had begun", failure.message);
            Failure { message, ..failure }
        }
        _ => failure,
    }
}

type Answer = Result<String, Refusal>;

/// The answers of one exchange.
struct Said {
    ping: Answer,
    info: Answer,
    /// `CLUSTER INFO`, of a node of a cluster.
    cluster: Option<Answer>,
    /// Whether the connection may not have a name.
    nameless: bool,
}

/// What need not be asked, because the answer is known.
struct Known {
    info: Option<Answer>,
    cluster: Option<Answer>,
}

/// `PING` and `INFO`, and the connection's name where it has none yet, all in one round trip. Whether it leads
/// to a node of a cluster the first `INFO` tells; from then on `CLUSTER INFO` goes along.
///
/// They are not sent as what the client library calls a pipeline: of that, it loses the error which ends the
/// connection before the last answer.
async fn exchange(session: &mut Connection, naming: bool, known: Known) -> Result<Said, RedisError> {
    let client = &session.client;
    // `PING` first: the first words of the server are the answer to it.
    let (ping, info, cluster, named) = tokio::join!(
        biased;
        ask(client, &["PING"]),
        unless(known.info, ask(client, &["INFO"])),
        only_if(session.of_a_cluster, unless(known.cluster.clone(), ask(client, &["CLUSTER", "INFO"]))),
        only_if(naming, ask(client, &["CLIENT", "SETNAME", NAME])),
    );
    // The first that failed is why the others did.
    let (ping, info, mut cluster, named) = (ping?, info?, cluster?, named?);
    let nameless = matches!(named, Some(Err(refusal)) if refusal.is_for_good());
    if cluster.is_none() && info.as_ref().is_ok_and(|text| Info::new(text).of_a_cluster()) {
        session.of_a_cluster = true;
        cluster = Some(unless(known.cluster, ask(&session.client, &["CLUSTER", "INFO"])).await?);
    }
    Ok(Said { ping, info, cluster, nameless })
}

async fn ask(client: &MultiplexedConnection, words: &[&str]) -> Result<Answer, RedisError> {
    let mut command = redis::Cmd::new();
    command.arg(words);
    answer(client.clone().send_packed_command(&command).await?)
}

async fn unless<T>(
    known: Option<T>,
    question: impl Future<Output = Result<T, RedisError>>,
) -> Result<T, RedisError> {
    match known {
        Some(answer) => Ok(answer),
        None => question.await,
    }
}

async fn only_if<T>(
    wanted: bool,
    question: impl Future<Output = Result<T, RedisError>>,
) -> Result<Option<T>, RedisError> {
    if wanted { question.await.map(Some) } else { Ok(None) }
}

/// An answer as text, or what the server says against it; an error where it is neither.
fn answer(value: Value) -> Result<Answer, RedisError> {
    match value {
        Value::ServerError(error) => Ok(Err(Refusal::from(&error))),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Ok(Ok(text)),
        Value::BulkString(bytes) => Ok(Ok(String::from_utf8_lossy(&bytes).into_owned())),
        Value::Okay => Ok(Ok("OK".to_owned())),
        _ => Err((redis::ErrorKind::Parse, "the answer is no text").into()),
    }
}

impl Redis {
    /// What the answers come to. What the server told of itself is `seen` where that is a failure, too.
    fn judge(
        &mut self,
        said: &Said,
        tls: Option<TlsDetails>,
        seen: &mut Details,
    ) -> Result<Observation, Failure> {
        let told = said.info.as_ref().map(|text| Info::new(text));
        let pinged = pinged(&said.ping, told.as_ref().ok());
        let info = match told {
            Ok(info) => info,
            Err(refusal) => {
                pinged?;
                return match refusal.is_for_good() {
                    true => self.without_info(refusal, tls),
                    false => Err(refusal.failure(Phase::Query)),
                };
            }
        };
        let cluster = said.cluster.as_ref().map(|answer| answer.as_ref().map(|text| Info::new(text)));
        let hidden = cluster.as_ref().and_then(|told| told.as_ref().err());
        let hidden =
            hidden.map(|refusal| hidden_for_now("the state of the cluster", refusal, "+cluster|info"));
        let details = Details::Redis(Box::new(RedisDetails { tls, hidden, ..info.details() }));
        let state = cluster.as_ref().and_then(|told| told.as_ref().ok());
        let verdict = pinged.and_then(|()| judge::expected(*self.plan.role(), &info, state));
        if let Err(failure) = verdict {
            *seen = details;
            return Err(failure);
        }
        let evicted = self.evicted(&info);
        let warnings = judge::warnings(&self.plan, &info, evicted);
        Ok(Observation { details, warnings })
    }

    /// The server answers and may not, or cannot, tell of itself.
    fn without_info(&self, refusal: &Refusal, tls: Option<TlsDetails>) -> Result<Observation, Failure> {
        if *self.plan.role() != Role::Any {
            return Err(Failure::new(
                Phase::Query,
                FailureKind::AccessDenied,
                unknown("the role", refusal, "+info"),
            )
            .with_code(refusal.code.as_str())
            .with_hint("allow it by `ACL SETUSER NAME +info`, or configure `role: any`"));
        }
        let hidden = Some(hidden_for_now("all that INFO tells", refusal, "+info"));
        let details = RedisDetails { tls, hidden, ..RedisDetails::default() };
        Ok(Observation { details: Details::Redis(Box::new(details)), warnings: Vec::new() })
    }

    /// The keys evicted since the last check of the same server.
    fn evicted(&mut self, info: &Info<'_>) -> Option<Evicted> {
        let now = Counted {
            run: info.text("run_id")?.to_owned(),
            keys: info.number("evicted_keys")?,
            at: Stopwatch::start(),
        };
        let (run, keys) = (now.run.clone(), now.keys);
        let before = self.counted.replace(now).filter(|before| before.run == run)?;
        Some(Evicted { keys: keys.saturating_sub(before.keys), within: before.at.elapsed() })
    }
}

/// The failure that the answer to `PING` is, with what `INFO` tells about it.
fn pinged(ping: &Answer, info: Option<&Info<'_>>) -> Result<(), Failure> {
    match ping {
        Ok(pong) if pong == "PONG" => Ok(()),
        Ok(other) => {
            let message = format!("PING was answered by \"{}\"", super::shown(other.as_bytes()));
            Err(Failure::new(Phase::Query, FailureKind::Protocol, message))
        }
        Err(refusal) => Err(explained(refusal.failure(Phase::Query), info)),
    }
}

/// What is not known because a question was refused, and the rule that would allow it.
fn unknown(what: &str, Refusal { code, text }: &Refusal, rule: &str) -> String {
    let said = format!("{code} {text}");
    let advice =
        if code == "NOPERM" { format!("; `ACL SETUSER NAME {rule}` allows it") } else { String::new() };
    format!("{what} is not known, because the server says: {}{advice}", said.trim_end_matches(['.', ' ']))
}

/// The same of what a check can do without.
fn hidden_for_now(what: &str, refusal: &Refusal, rule: &str) -> String {
    format!("{}; it is asked for once an hour", unknown(what, refusal, rule))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_is_asked_for_again_after_an_hour() {
        let refused: Answer = Err(Refusal { code: "NOPERM".into(), text: "no".into() });
        let busy: Answer = Err(Refusal { code: "LOADING".into(), text: "wait".into() });
        let mut kept = None;
        Refused::note(&mut kept, &busy);
        assert_eq!(Refused::stands(&kept), None, "a state passes");
        for _ in 0..2 {
            Refused::note(&mut kept, &refused);
            tokio::time::advance(ASK_AGAIN / 2 - Duration::from_secs(1)).await;
            assert_eq!(Refused::stands(&kept), Some(refused.clone()), "what stands is not refused anew");
        }
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(Refused::stands(&kept), None);
        Refused::note(&mut kept, &refused);
        assert_eq!(Refused::stands(&kept), Some(refused));
        Refused::note(&mut kept, &Ok(String::new()));
        assert_eq!(Refused::stands(&kept), None, "rights were granted");
    }
}
