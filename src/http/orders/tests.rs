//! Orders over a real socket; who carries them out is scripted.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::fmt::MakeWriter;

use crate::clock::{Clock, Heartbeat};
use crate::config::{Env, Overrides, Plan, Sources, load};
use crate::health::circuit::Actor;
use crate::health::test_support::{now, policy, record, run_next, view_after};
use crate::health::{DependencyName, FailureKind, Order, Record, ResolverStats, Snapshot};
use crate::http::state::ORDERS_MAX;
use crate::http::{NotDone, Operations, Pulses, Serves, State, serve};

const ADMIN: &str = "0123456789abcdef";
const ON_CALL: &str = "on-call-0123456789";

/// What the names of dependencies stand for in the script.
const UNDER_WAY: &str = "slow";

/// Who carries orders out here: a record of `database`, and excuses.
struct Script {
    database: Mutex<Record>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    seen: Mutex<Vec<(String, Order)>>,
    /// A check of `slow` takes one.
    go_on: Semaphore,
}

impl Script {
    fn publish(&self, record: &Record) {
        let mut views = self.snapshot.load().dependencies.to_vec();
        views[0] = Arc::new(record.view(record.due()));
        self.snapshot.store(Arc::new(Snapshot::new(now(Duration::ZERO), views)));
    }

    async fn done(&self, name: &str, order: Order) -> Result<(), NotDone> {
        match name {
            "lost" => return Err(NotDone::CheckLost),
            "replaced" => return Err(NotDone::Replaced),
            "busy" => return Err(NotDone::Busy),
            "stopping" => return Err(NotDone::Stopping),
            "gone" => return Err(NotDone::Unknown),
            "switched-off" => return Err(NotDone::Disabled),
            UNDER_WAY => self.go_on.acquire().await.unwrap().forget(),
            _ => {}
        }
        let mut record = self.database.lock().unwrap();
        let at = now(record.due().since_origin());
        match order {
            Order::Hold(over) => record.hold(over, at),
            Order::Reset(actor) => record.reset(actor, at),
            Order::Check if !record.request(at) => return Err(NotDone::HeldOpen),
            Order::Check => {
                run_next(&mut record, Err(FailureKind::ConnectRefused));
            }
        }
        self.publish(&record);
        Ok(())
    }
}

struct Scripted(Arc<Script>);

impl Operations for Scripted {
    fn carry_out(&self, name: &DependencyName, order: Order) -> BoxFuture<'static, Result<(), NotDone>> {
        let (script, name) = (Arc::clone(&self.0), name.as_str().to_owned());
        script.seen.lock().unwrap().push((name.clone(), order.clone()));
        Box::pin(async move { script.done(&name, order).await })
    }
}

fn plan(server: &str) -> Plan {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sickbay.yaml");
    std::fs::write(&file, format!("server: {server}")).unwrap();
    load(&Sources { files: vec![file], env: Env::new(), overrides: Overrides::default() }).unwrap()
}

/// A server, the script behind it, and its log.
struct Agent {
    at: std::net::SocketAddr,
    state: State,
    script: Arc<Script>,
    stop: CancellationToken,
    log: Log,
    _logging: tracing::subscriber::DefaultGuard,
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// The lines of the audit.
    fn audit(&self) -> Vec<Value> {
        let lines =
            self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>();
        lines.into_iter().filter(|line| line["target"] == "audit").collect()
    }
}

const TOKENS: &str = "{admin_token: 0123456789abcdef, admin_tokens: [{name: on-call, token: on-call-0123456789, allow: [open, check]}]}";

async fn agent(server: &str) -> Agent {
    agent_of(server, 64).await
}

/// One with room for so many connections.
async fn agent_of(server: &str, connections: usize) -> Agent {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().json().flatten_event(true).with_writer(log.clone());
    let logging = tracing::subscriber::set_default(subscriber.with_max_level(tracing::Level::TRACE).finish());
    let mut off = policy("off");
    off.disabled = Some("disabled by configuration".to_owned());
    let names = ["database", UNDER_WAY, "lost", "replaced", "busy", "stopping", "gone", "switched-off"];
    let mut views: Vec<_> = names.into_iter().map(|name| view_after(policy(name), &[Ok(())])).collect();
    views.push(view_after(policy("off"), &[Ok(())]));
    views.last_mut().unwrap().policy = Arc::new(off);
    let views = views.into_iter().map(Arc::new).collect();
    let snapshot = Arc::new(ArcSwap::from_pointee(Snapshot::new(now(Duration::ZERO), views)));
    let clock = Clock::start();
    let mut database = record(policy("database"));
    run_next(&mut database, Ok(()));
    let script = Arc::new(Script {
        database: Mutex::new(database),
        snapshot: Arc::clone(&snapshot),
        seen: Mutex::default(),
        go_on: Semaphore::new(0),
    });
    let pulses =
        Pulses { registry: Heartbeat::new(clock), http: Vec::new(), runner_lost: Box::new(|| false) };
    let operations = Arc::new(Scripted(Arc::clone(&script)));
    let state = State::new(&plan(server), clock, snapshot, pulses, ResolverStats::default, operations);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (at, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    let beat = Heartbeat::new(clock);
    tokio::spawn(serve(listener, Serves::Everything, state.clone(), beat, connections, stop.clone()));
    Agent { at, state, script, stop, log, _logging: logging }
}

/// An answer.
#[derive(Debug)]
struct Answer {
    code: u16,
    head: String,
    body: Value,
}

impl Answer {
    fn read(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let code = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {text}"));
        Self { code, head: head.to_ascii_lowercase(), body }
    }

    fn error(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or("-")
    }

    fn message(&self) -> &str {
        self.body["error"]["message"].as_str().unwrap_or("-")
    }
}

impl Agent {
    async fn raw(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(self.at).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        Answer::read(&text)
    }

    async fn send(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
        let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        let length = body.len();
        self.raw(&format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        ))
        .await
    }

    /// With a token, and a body that is said to be JSON.
    async fn post(&self, path: &str, token: &str, body: &str) -> Answer {
        let token = format!("Authorization: Bearer {token}");
        self.send("POST", path, &[&token, "Content-Type: application/json"], body).await
    }

    fn seen(&self) -> Vec<(String, Order)> {
        self.script.seen.lock().unwrap().clone()
    }
}

const REASON: &str = r#"{"reason": "upgrade"}"#;

#[tokio::test]
async fn what_is_ordered_is_done_and_answered_with_what_it_came_to() {
    let agent = agent(TOKENS).await;
    let body = r#"{"reason": "upgrade", "for": "30m", "readiness": "ignore"}"#;
    let opened = agent.post("/circuits/database/open", ON_CALL, body).await;
    assert_eq!((opened.code, &opened.body["dependency"]), (200, &json!("database")), "{opened:?}");
    assert_eq!(opened.body["state"], "open");
    let [(name, Order::Hold(over))] = &agent.seen()[..] else { panic!("{:?}", agent.seen()) };
    assert_eq!(
        (name.as_str(), over.mode.as_str(), over.readiness.as_str()),
        ("database", "forced_open", "ignore")
    );
    assert_eq!((over.reason.as_str(), over.actor.as_str()), ("upgrade", "on-call"));
    assert_eq!(over.expires.wall.unix_millis() - over.since.unix_millis(), 30 * 60 * 1000);

    let held = agent.post("/checks/database", ADMIN, "").await;
    assert_eq!((held.code, held.error()), (409, "held_open"));
    assert!(held.message().contains("POST /circuits/database/reset"), "{held:?}");

    let closed = agent.post("/circuits/database/close", ADMIN, REASON).await;
    assert_eq!((closed.code, &closed.body["state"]), (200, &json!("closed")));
    let reset = agent.post("/circuits/database/reset", ADMIN, "").await;
    assert_eq!((reset.code, &reset.body["state"]), (200, &json!("half_open")));
    assert_eq!(agent.seen().last().unwrap().1, Order::Reset(Actor::new("admin")));

    let checked = agent.post("/checks/database", ADMIN, "").await;
    assert_eq!(
        (checked.code, &checked.body["last_failure"]["failure_kind"]),
        (200, &json!("connect_refused"))
    );
    let keys: Vec<_> = checked.body.as_object().unwrap().keys().map(String::as_str).collect();
    let report = [
        "kind",
        "impact",
        "scope",
        "target",
        "address",
        "status",
        "disabled",
        "warnings",
        "last_check",
        "last_failure",
        "details",
    ];
    assert_eq!(keys, report, "as `sickbay check --format json` has it");
    assert_eq!(agent.seen().len(), 5);
}

/// What is wrong first is what is told, in the order of the module's docs.
#[tokio::test]
async fn a_request_is_judged_from_the_outside_in() {
    let agent = agent(TOKENS).await;
    let long = format!(r#"{{"reason": "{}"}}"#, "x".repeat(5000));
    let (good, json) = (format!("Authorization: Bearer {ADMIN}"), "Content-Type: application/json");
    let on_call = format!("Authorization: Bearer {ON_CALL}");
    let (close, nobody) = ("/circuits/database/close", "/circuits/nobody/close");
    for (method, path, headers, body, code, error) in [
        ("GET", "/circuits/nobody/shut", &[][..], &*long, 404, "not_found"),
        ("POST", "/circuits/nobody/shut", &[], &long, 404, "not_found"),
        ("GET", nobody, &[&*good], "", 405, "method_not_allowed"),
        ("PUT", nobody, &[&good, json], REASON, 405, "method_not_allowed"),
        ("OPTIONS", nobody, &[&good], "", 405, "method_not_allowed"),
        ("POST", nobody, &[], &long, 401, "token_required"),
        ("POST", nobody, &["Authorization: Bearer x"], &long, 401, "token_invalid"),
        ("POST", nobody, &[&on_call], &long, 403, "forbidden"),
        ("POST", nobody, &[&good], &long, 415, "unsupported_media_type"),
        ("POST", nobody, &[&good], "", 415, "unsupported_media_type"),
        ("POST", nobody, &[&good, "Content-Type: text/plain"], REASON, 415, "unsupported_media_type"),
        ("POST", nobody, &[&good, json, json], REASON, 415, "unsupported_media_type"),
        ("POST", nobody, &[&good, json, "Content-Encoding: gzip"], REASON, 415, "unsupported_media_type"),
        ("POST", nobody, &[&good, json], &long, 413, "payload_too_large"),
        ("POST", nobody, &[&good, json], "", 400, "bad_request"),
        ("POST", nobody, &[&good, json], "{\"reason\"", 400, "bad_request"),
        (
            "POST",
            nobody,
            &[&good, "content-type: Application/JSON; charset=utf-8"],
            REASON,
            404,
            "unknown_dependency",
        ),
        ("POST", "/circuits/DATABASE/close", &[&good, json], REASON, 404, "unknown_dependency"),
        ("POST", "/circuits/off/close", &[&good, json], REASON, 404, "dependency_disabled"),
        ("POST", "/circuits/nobody/reset", &[&good], "", 404, "unknown_dependency"),
        ("POST", "/circuits/nobody/reset", &[&good], "{}", 415, "unsupported_media_type"),
        ("POST", "/checks/nobody", &[&good], "", 404, "unknown_dependency"),
        ("POST", "/checks/off", &[&good, json], "{}", 404, "dependency_disabled"),
        ("POST", "/checks/lost", &[&good], "", 500, "check_lost"),
        ("POST", "/checks/replaced", &[&good], "", 409, "replaced"),
        ("POST", "/circuits/busy/reset", &[&good], "", 503, "busy"),
        ("POST", "/circuits/stopping/reset", &[&good], "", 503, "stopping"),
        ("POST", "/circuits/gone/reset", &[&good], "", 404, "unknown_dependency"),
        ("POST", "/circuits/switched-off/reset", &[&good], "", 404, "dependency_disabled"),
    ] {
        let answer = agent.send(method, path, headers, body).await;
        assert_eq!((answer.code, answer.error()), (code, error), "{method} {path} {headers:?} {body:.40}");
        assert!(!answer.message().is_empty());
        let has = |header: &str| answer.head.contains(header);
        assert_eq!(has("\r\nwww-authenticate: bearer\r\n"), code == 401, "{answer:?}");
        assert_eq!(has("\r\nallow: post\r\n"), code == 405, "{answer:?}");
        assert!(!has("access-control"), "no other site's page is let in");
    }
    let done: Vec<String> = agent.seen().into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        done,
        ["lost", "replaced", "busy", "stopping", "gone", "switched-off"],
        "{close} and all the others were not"
    );
    let allowed = agent.post(close, ON_CALL, REASON).await;
    assert!(allowed.message().contains("`on-call` may not `close`"), "{allowed:?}");
}

#[tokio::test]
async fn a_body_that_breaks_off_or_has_no_end_is_answered() {
    let agent = agent(TOKENS).await;
    let head = format!(
        "POST /circuits/database/open HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN}\r\nContent-Type: application/json\r\n"
    );
    let endless = agent.raw(&format!("{head}Content-Length: 99999999\r\n\r\n")).await;
    assert_eq!((endless.code, endless.error()), (413, "payload_too_large"), "without its being sent");
    assert!(endless.head.contains("connection: close"));
    let broken = agent.raw(&format!("{head}Transfer-Encoding: chunked\r\n\r\nzz\r\n")).await;
    assert_eq!((broken.code, broken.error()), (400, "bad_request"));
    let chunks = "400\r\n".to_owned() + &"x".repeat(0x400) + "\r\n";
    let long = agent.raw(&format!("{head}Transfer-Encoding: chunked\r\n\r\n{}", chunks.repeat(20))).await;
    assert_eq!((long.code, long.error()), (413, "payload_too_large"));
    assert_eq!(agent.seen(), []);
}

#[tokio::test]
async fn bad_tokens_wait_and_good_ones_and_health_do_not() {
    let agent = agent(TOKENS).await;
    for n in 0..10 {
        let bad = agent.post("/circuits/database/open", &format!("bad-{n}"), REASON).await;
        assert_eq!((bad.code, bad.error()), (401, "token_invalid"));
    }
    let bad = agent.post("/circuits/database/open", "bad", REASON).await;
    assert_eq!((bad.code, bad.error()), (429, "too_many_bad_tokens"));
    let after = bad.head.lines().find_map(|line| line.strip_prefix("retry-after: ")).unwrap();
    assert!((1..=60).contains(&after.parse::<u32>().unwrap()), "{after}");
    assert_eq!(agent.post("/circuits/database/open", ADMIN, REASON).await.code, 200);
    assert_eq!(agent.send("GET", "/livez", &[], "").await.code, 200);
    assert_eq!(agent.send("GET", "/circuits", &[], "").await.code, 200);
}

#[tokio::test]
async fn without_a_token_it_is_said_how_to_configure_one() {
    let agent = agent("{}").await;
    let refused = agent.post("/circuits/database/open", ADMIN, REASON).await;
    assert_eq!((refused.code, refused.error()), (401, "no_token_configured"));
    assert!(refused.message().contains("SICKBAY_ADMIN_TOKEN"), "{refused:?}");
    assert_eq!(agent.seen(), []);
}

#[tokio::test]
async fn tokens_and_names_are_replaced_while_it_runs() {
    let agent = agent(TOKENS).await;
    assert_eq!(agent.send("GET", "/health", &[], "").await.body["serviceId"], "api");
    let server = "{admin_token: another-0123456789}\nservice: {name: shop}";
    agent.state.reconfigure(&plan(server));
    assert_eq!(agent.post("/circuits/database/open", ADMIN, REASON).await.code, 401);
    assert_eq!(agent.post("/circuits/database/open", "another-0123456789", REASON).await.code, 200);
    assert_eq!(agent.send("GET", "/health", &[], "").await.body["serviceId"], "shop");
    assert_eq!(agent.send("GET", "/health/detailed", &[], "").await.body["service"], "shop");
    let effective =
        async || agent.send("GET", "/health/config", &[], "").await.body["service"]["name"].clone();
    assert_eq!(effective().await, "api", "that goes with what is shown of dependencies");
    agent.state.show_effective(&plan(server));
    assert_eq!(effective().await, "shop");
}

#[tokio::test]
async fn reads_can_want_a_token() {
    let server = "{operator: {require_token_for_reads: true}, admin_tokens: [{name: grafana, token: grafana-0123456789, allow: [read]}, {name: on-call, token: on-call-0123456789, allow: [open]}]}";
    let agent = agent(server).await;
    let reads = [
        "/health/detailed",
        "/health/dependencies/database",
        "/health/config",
        "/circuits",
        "/circuits/database",
        "/history",
        "/openapi.json",
    ];
    for path in reads {
        for method in ["GET", "HEAD"] {
            let get = async |headers: &[&str]| match method {
                "GET" => agent.send(method, path, headers, "").await.code,
                // A body would be no answer to it.
                _ => {
                    let mut stream = TcpStream::connect(agent.at).await.unwrap();
                    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
                    let request =
                        format!("HEAD {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
                    stream.write_all(request.as_bytes()).await.unwrap();
                    let mut text = String::new();
                    stream.read_to_string(&mut text).await.unwrap();
                    text.split(' ').nth(1).unwrap().parse().unwrap()
                }
            };
            assert_eq!(get(&[]).await, 401, "{method} {path}");
            assert_eq!(get(&[&format!("Authorization: Bearer {ON_CALL}")]).await, 403, "{method} {path}");
            assert_eq!(get(&["Authorization: Bearer grafana-0123456789"]).await, 200, "{method} {path}");
        }
    }
    for open in ["/livez", "/readyz", "/health", "/health/startup", "/health/alb"] {
        assert_ne!(agent.send("GET", open, &[], "").await.code, 401, "{open}");
    }
    assert_eq!(agent.send("GET", "/nothing", &[], "").await.code, 404);
    assert_eq!(agent.send("POST", "/circuits", &[], "").await.code, 405);
}

/// Whoever has to answer for it finds who did what in the log; never the token.
#[tokio::test]
async fn every_attempt_is_told_in_the_audit() {
    let agent = agent(TOKENS).await;
    let id = "x-correlation-id: it-is-me";
    let on_call = format!("Authorization: Bearer {ON_CALL}");
    let json = "Content-Type: application/json";
    let body = r#"{"reason": "upgrade", "for": "30m"}"#;
    agent.send("POST", "/circuits/database/open", &[id, &on_call, json], body).await;
    agent.send("POST", "/circuits/database/reset", &[id, &on_call], "").await;
    agent.send("POST", "/circuits/nobody/open", &[id, &on_call, json], body).await;
    agent
        .send("POST", "/circuits/No%20Name/open", &[id, "Authorization: Bearer hunter2-hunter2", json], body)
        .await;
    agent.send("POST", "/checks/lost", &[id, &on_call], "").await;
    let told = agent.log.audit();
    let text = agent.log.text();
    assert!(![ON_CALL, "hunter2", ADMIN].iter().any(|token| text.contains(token)), "{text}");
    let fields = |line: &Value| {
        ["level", "action", "dependency", "actor", "code", "error"].map(|field| line[field].clone())
    };
    let expected = [
        json!(["INFO", "open", "database", "on-call", 200, null]),
        json!(["WARN", "reset", "database", "on-call", 403, "forbidden"]),
        json!(["WARN", "open", "nobody", "on-call", 404, "unknown_dependency"]),
        json!(["WARN", "open", null, null, 401, "token_invalid"]),
        json!(["WARN", "check", "lost", "on-call", 500, "check_lost"]),
    ];
    assert_eq!(told.iter().map(|line| json!(fields(line))).collect::<Vec<_>>(), expected, "{told:#?}");
    assert!(told.iter().all(|line| line["correlation_id"] == "it-is-me"));
    assert!(told.iter().all(|line| line["client"].as_str().unwrap().starts_with("127.0.0.1:")));
    let first = &told[0];
    assert_eq!((&first["reason"], &first["for_seconds"]), (&json!("upgrade"), &json!(1800.0)));
    assert!(first["expires_at"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{first}");

    // Everybody can be refused, but not fill the log.
    for _ in 0..30 {
        agent.send("POST", "/circuits/database/open", &[], "").await;
    }
    let refused = |line: &&Value| line["error"] == "token_required";
    assert_eq!(agent.log.audit().iter().filter(refused).count(), 19, "one of the twenty was told before");
    assert_eq!(agent.state.throttle().untold(), 11);
}

/// A check may take longer than a connection is kept that has no answer.
#[tokio::test]
async fn who_waits_for_an_answer_that_is_owed_keeps_the_place() {
    let agent = agent_of(TOKENS, 2).await;
    let mut waiting = TcpStream::connect(agent.at).await.unwrap();
    let request = format!(
        "POST /checks/{UNDER_WAY} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {ADMIN}\r\n\r\n"
    );
    waiting.write_all(request.as_bytes()).await.unwrap();
    while agent.seen().is_empty() {
        tokio::task::yield_now().await;
    }
    // Others come, one after the other, and take each other's places.
    let mut others = Vec::new();
    for _ in 0..5 {
        let mut other = TcpStream::connect(agent.at).await.unwrap();
        other.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut byte = [0];
        other.read_exact(&mut byte).await.unwrap();
        others.push(other);
    }
    agent.script.go_on.add_permits(1);
    let mut text = String::new();
    waiting.read_to_string(&mut text).await.unwrap();
    assert_eq!(Answer::read(&text).code, 200);
}

#[tokio::test]
async fn orders_that_wait_do_not_take_all_places() {
    let agent = agent_of(TOKENS, 1_024).await;
    let mut waiting = Vec::new();
    for _ in 0..ORDERS_MAX {
        let mut stream = TcpStream::connect(agent.at).await.unwrap();
        let order = format!(
            "POST /checks/{UNDER_WAY} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {ADMIN}\r\n\r\n"
        );
        stream.write_all(order.as_bytes()).await.unwrap();
        waiting.push(stream);
    }
    while agent.seen().len() < ORDERS_MAX {
        tokio::task::yield_now().await;
    }
    let refused = agent.post("/circuits/database/reset", ADMIN, "{}").await;
    assert_eq!((refused.code, refused.error()), (429, "too_many_orders"), "{refused:?}");
    assert!(refused.head.contains("retry-after: 1"), "{refused:?}");
    agent.script.go_on.add_permits(ORDERS_MAX);
    for mut stream in waiting {
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert_eq!(Answer::read(&text).code, 200);
    }
    assert_eq!(agent.post("/circuits/database/reset", ADMIN, "{}").await.code, 200);
}
