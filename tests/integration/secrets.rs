//! Nothing secret gets out. Every secret field holds a mark of its own; every kind of dependency meets servers that
//! accept it, servers that refuse it, and peers that repeat what they hear, cut, stall or talk nonsense; the log is
//! as loud as it gets. Then all that was printed and answered is searched for every form of the mark.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use hyper::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::agent::{Agent, Env, run_cli};
use crate::support::certs::certs;
use crate::support::config::{Config, impatient, on, on_postgres, on_redis, quick};
use crate::support::http::{Answer, HttpServer, acceptor};
use crate::support::postgres::{Postgres, PostgresOptions};
use crate::support::redis::{Redis, RedisOptions};
use crate::support::scratch::Folder;
use crate::support::tcp::{self, Peer};
use crate::support::wait::eventually;

/// In every planted secret, so that one search finds all; and in no word of ours.
const MARK: &str = "pl4nted";

/// Another one, of letters alone: what looks for the odd characters of a password would let it pass.
const LETTERS: &str = "qwyxzhvkjfpmtg";

/// The secret of a field: what leaks tells where it was.
fn secret(field: &str) -> String {
    format!("{MARK}-{field}-s3cret/+%\"x")
}

/// A digest that holds the mark in one of the forms that are looked for.
fn digest_that_tells() -> String {
    let hex: String = MARK.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("{hex:0<64}")
}

/// The forms in which a mark could get out.
fn forms() -> Vec<String> {
    [MARK, LETTERS].into_iter().flat_map(forms_of).collect()
}

fn forms_of(mark: &str) -> Vec<String> {
    let hex: String = mark.bytes().map(|byte| format!("{byte:02x}")).collect();
    let bytes = format!("{:?}", mark.as_bytes());
    let mut forms = vec![mark.to_owned(), hex, bytes.trim_matches(['[', ']']).to_owned()];
    // Base64 depends on where the text begins; what surrounds it changes the characters at its ends only.
    for before in 0..3 {
        let encoded = STANDARD_NO_PAD.encode(format!("{}{mark}", "\0".repeat(before)));
        let own = &encoded[if before == 0 { 0 } else { before + 1 }..encoded.len() - 1];
        forms.push(own.to_owned());
    }
    forms
}

/// What was shown where.
#[derive(Default)]
struct Shown(BTreeMap<String, String>);

impl Shown {
    fn add(&mut self, place: impl Into<String>, text: impl Into<String>) {
        self.0.insert(place.into(), text.into());
    }

    fn assert_no_secret(&self) {
        let forms = forms();
        for (place, text) in &self.0 {
            assert!(!text.is_empty(), "{place}: nothing was shown, so nothing was searched");
            let leak = text.lines().find(|line| forms.iter().any(|form| line.contains(form.as_str())));
            assert_eq!(leak, None, "{place} shows a secret");
        }
    }
}

/// Every endpoint's answer, head and body.
async fn ask_everything(agent: &Agent, names: &[String], shown: &mut Shown) {
    // As the agent itself lists them, so that none that comes later is forgotten.
    let described = agent.get("/openapi.json").await.json();
    let paths = described["paths"].as_object().expect("paths").keys().flat_map(|path| {
        let one_each = names.iter().map(|name| path.replace("{name}", name));
        if path.contains('{') { one_each.collect() } else { vec![path.clone()] }
    });
    for path in paths.chain(["/nothing/here", "/history?limit=1000", "/history?limit=x"].map(str::to_owned)) {
        assert!(!path.contains('{'), "{path}: what else can stand there?");
        let answer = agent.get(&path).await;
        shown.add(path, format!("{:?} {}", answer.headers, answer.body));
    }
    order_everything(agent, &described, &names[0], shown).await;
}

/// The answers to orders, wherever the token stands in them; those that are refused are told in the log.
async fn order_everything(agent: &Agent, described: &Value, name: &str, shown: &mut Shown) {
    let [good, bad] = [secret("admin"), secret("bad")].map(|token| format!("Bearer {token}"));
    let basic = format!("Basic {}", STANDARD.encode(format!("user:{}", secret("basic"))));
    let (api_key, cookie) = (secret("key"), format!("token={MARK}"));
    let json = ("content-type", "application/json");
    let orders =
        described["paths"].as_object().expect("paths").iter().filter(|(_, item)| item["post"].is_object());
    for (path, _) in orders {
        let path = path.replace("{name}", name);
        for (place, headers, query) in [
            ("a good token", &[("authorization", &*good), json][..], ""),
            ("a bad token", &[("authorization", &*bad), json], ""),
            ("two tokens", &[("authorization", &*good), ("authorization", &*bad)], ""),
            ("a password", &[("authorization", &*basic)], ""),
            ("the token alone", &[("authorization", &*api_key)], ""),
            ("other headers", &[("x-api-key", &*api_key), ("cookie", &*cookie)], ""),
            ("the query", &[], "?token=pl4nted-query&access_token=pl4nted"),
        ] {
            let target = format!("{path}{query}");
            let answer = agent.request(Method::POST, &target, headers, r#"{"reason": 1}"#).await;
            assert!((400..500).contains(&answer.status), "{place} {path}: {answer}");
            shown.add(format!("{path} with {place}"), format!("{:?} {}", answer.headers, answer.body));
        }
    }
}

/// Every command's output that does not run for ever.
async fn run_everything(arguments: &[&str], env: &Env, agent: SocketAddr, shown: &mut Shown) {
    let address = agent.to_string();
    let commands = [
        &["check"][..],
        &["check", "--format", "json"],
        &["config", "check"],
        &["config", "show"],
        &["config", "show", "--format", "json"],
        &["config", "show", "--origins"],
        &["config", "show", "--origins", "--format", "json"],
        &["config", "schema"],
        &["config", "env"],
        &["healthcheck", "--group", "ready", "--address", &address],
        &["circuit", "list", "--address", &address],
        &["circuit", "list", "--address", &address, "--format", "json"],
        &["circuit", "show", "redis-well", "--address", &address],
        &["circuit", "reset", "redis-well", "--address", &address],
        &["diagnose", "--all", "--timeout", "5s"],
        &["diagnose", "--all", "--timeout", "5s", "--format", "json"],
        &["wait", "--timeout", "2s", "--on-timeout", "continue"],
        &["completions", "bash"],
        &["man"],
    ];
    // A command that comes later must not be forgotten here.
    let help = run_cli(&["--help"], &Env::new()).await.stdout;
    let listed = help.split("Commands:").nth(1).and_then(|rest| rest.split("\n\n").next()).expect("a list");
    let listed: BTreeSet<&str> = listed.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let told: BTreeSet<&str> = commands.iter().map(|command| command[0]).chain(["run", "help"]).collect();
    assert_eq!(listed, told, "each command's output is searched");
    let env = env.clone().set("SICKBAY_LOG", "trace");
    for command in commands {
        let output = run_cli(&[command, arguments].concat(), &env).await;
        shown.add(command.join(" "), output.stdout + &output.stderr);
    }
}

/// Says back all that it hears, in whatever protocol that is taken for.
async fn repeating(before: &'static str) -> Peer {
    Peer::start(move |mut stream| async move {
        let mut heard = [0; 4_096];
        while let Ok(length @ 1..) = stream.read(&mut heard).await {
            let said = [before.as_bytes(), &heard[..length]].concat();
            if stream.write_all(&said).await.is_err() {
                return;
            }
        }
    })
    .await
}

/// What RFC 3986 leaves as it is.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// An HTTP service that reads who asks, and repeats what it read: in whole, in parts, in a redirection.
async fn indiscreet_http() -> Peer {
    Peer::start(|mut stream| async move {
        let mut heard = [0; 4_096];
        let Ok(length @ 1..) = stream.read(&mut heard).await else { return };
        let request = String::from_utf8_lossy(&heard[..length]).into_owned();
        let authorization = request.lines().find_map(|line| line.strip_prefix("authorization: "));
        let (scheme, who) = authorization.and_then(|value| value.split_once(' ')).unwrap_or_default();
        let who = match scheme {
            "Basic" => String::from_utf8(STANDARD.decode(who).expect("Base64")).expect("UTF-8"),
            _ => who.to_owned(),
        };
        let (user, password) = who.split_once(':').unwrap_or(("nobody", &who));
        let said = match request.split_whitespace().nth(1).unwrap_or_default() {
            "/whole" => format!("HTTP/1.1 401 No\r\n\r\nlogin failed for {who}"),
            "/user" => format!("HTTP/1.1 401 No\r\n\r\nunknown user {user}"),
            "/password" => format!("HTTP/1.1 401 No\r\n\r\nnot {password}"),
            "/moved" => {
                let encoded = utf8_percent_encode(password, UNRESERVED);
                format!("HTTP/1.1 302 Found\r\nLocation: /{encoded}\r\n\r\n")
            }
            "/foreign" => format!("220 {password}\r\n"),
            path => panic!("{path}"),
        };
        let _ = stream.write_all(said.as_bytes()).await;
        let _ = stream.shutdown().await;
    })
    .await
}

/// A PostgreSQL server over TLS that wants the password in clear text and repeats it in its refusal.
async fn indiscreet_postgres() -> Peer {
    let acceptor = acceptor(&certs().good);
    Peer::start(move |mut stream| {
        let acceptor = acceptor.clone();
        async move {
            let mut heard = [0; 4_096];
            // SSLRequest.
            if stream.read(&mut heard).await.is_err() || stream.write_all(b"S").await.is_err() {
                return;
            }
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let _ = stream.read(&mut heard).await;
            // AuthenticationCleartextPassword.
            let _ = stream.write_all(b"R\0\0\0\x08\0\0\0\x03").await;
            let Ok(length @ 6..) = stream.read(&mut heard).await else { return };
            let said = [b"SFATAL\0VFATAL\0C28P01\0Mno: ".as_slice(), &heard[5..length - 1], b"\0\0"].concat();
            let size = u32::try_from(said.len() + 4).expect("short").to_be_bytes();
            let _ = stream.write_all(&[b"E".as_slice(), &size, &said].concat()).await;
            let _ = stream.shutdown().await;
        }
    })
    .await
}

/// The peers that a dependency of any kind can meet in place of its server.
struct Hostile {
    peers: Vec<(&'static str, Peer)>,
    silent: tcp::Silent,
    refused: u16,
}

impl Hostile {
    async fn start() -> Self {
        let peers = vec![
            ("echo", repeating("").await),
            ("error", repeating("-ERR unknown command: ").await),
            ("status", repeating("HTTP/1.1 500 no: ").await),
            ("moved", repeating("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/?said=").await),
            ("body", repeating("HTTP/1.1 500 No\r\nConnection: close\r\n\r\nyou said: ").await),
            ("garbage", tcp::garbage(b"\x00\xff\x16\x03 nonsense\r\n".as_slice()).await),
            ("reset", tcp::reset().await),
            ("cut", tcp::reset_after_request().await),
            ("mute", tcp::mute().await),
        ];
        Self { peers, silent: tcp::silent(), refused: tcp::refused_port() }
    }

    /// Name and port of each.
    fn all(&self) -> Vec<(&'static str, u16)> {
        let peers = self.peers.iter().map(|(name, peer)| (*name, peer.address().port()));
        peers.chain([("silent", self.silent.address().port()), ("refused", self.refused)]).collect()
    }
}

/// A dependency of each kind that has secrets, and of each in its TLS form, on a port of this machine.
fn each_kind(at: &str, port: u16) -> Vec<Value> {
    let host = "127.0.0.1";
    let kinds = [
        on(
            "postgres",
            &format!("postgres-{at}"),
            json!({"host": host, "port": port, "user": "u", "password": secret("pg")}),
        ),
        on(
            "postgres",
            &format!("postgres-tls-{at}"),
            json!({"host": host, "port": port, "user": "u", "password": LETTERS, "sslmode": "require"}),
        ),
        on(
            "redis",
            &format!("redis-{at}"),
            json!({"host": host, "port": port, "username": "u", "password": secret("redis")}),
        ),
        on(
            "redis",
            &format!("redis-tls-{at}"),
            json!({"host": host, "port": port, "password": secret("redistls"), "tls": {"verify": "none"}}),
        ),
        on("redis", &format!("redis-letters-{at}"), json!({"host": host, "port": port, "password": LETTERS})),
        on(
            "tcp",
            &format!("tcp-{at}"),
            json!({"host": host, "port": port, "send": format!("AUTH {}\r\n", secret("send")), "expect": "+OK"}),
        ),
        on(
            "tcp",
            &format!("tcp-tls-{at}"),
            json!({"host": host, "port": port, "send": secret("sendtls"), "expect": "+OK", "tls": {"verify": "none"}}),
        ),
        on(
            "http",
            &format!("http-{at}"),
            json!({"url": url("http", port), "headers": {"X-Api-Key": secret("header"), "X-Other": LETTERS}}),
        ),
        on(
            "http",
            &format!("https-{at}"),
            json!({"url": url("https", port), "headers": {"X-Api-Key": secret("headertls")}, "tls": {"verify": "none"}}),
        ),
    ];
    kinds.map(impatient).into()
}

/// With a secret in the user info, the path's query, and one behind a `#`.
fn url(scheme: &str, port: u16) -> String {
    format!("{scheme}://user-{MARK}:{MARK}%2Fpw@127.0.0.1:{port}/path?token={MARK}-query#{MARK}-fragment")
}

/// Waits until every enabled dependency has had a result, and these failure kinds have all been met. Gives the
/// dependencies' names.
async fn all_checked(agent: &Agent, wanted: &[&str]) -> Vec<String> {
    eventually("every dependency to be checked", || async {
        let all = agent.get("/health/detailed").await.json();
        let all = all["dependencies"].as_object().expect("a map").clone();
        let enabled = all.iter().filter(|(_, it)| it["enabled"] == true);
        if let Some((name, _)) = enabled.clone().find(|(_, it)| it["last_check"].is_null()) {
            return Err(format!("{name} has no result"));
        }
        let met =
            |kind: &str| enabled.clone().any(|(_, it)| it["circuit"]["failures_by_kind"][kind].is_u64());
        match wanted.iter().find(|kind| !met(kind)) {
            Some(kind) => Err(format!("nothing failed by {kind}")),
            None => Ok(all.keys().cloned().collect()),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_gets_out_whoever_the_peers_are() {
    let redis =
        Redis::start(RedisOptions { password: Some("pl4nted-real".into()), ..Default::default() }).await;
    let tls_redis =
        Redis::start(RedisOptions { tls: Some(certs().expired.clone()), ..Default::default() }).await;
    let database = Postgres::start(PostgresOptions::default()).await;
    let service = HttpServer::start(Answer::status(200).body("fine")).await;
    let indiscreet = indiscreet_postgres().await;
    let hostile = Hostile::start().await;

    let mut dependencies: Vec<Value> =
        hostile.all().into_iter().flat_map(|(name, port)| each_kind(name, port)).collect();
    let at = |port: u16| json!({"host": "127.0.0.1", "port": port});
    dependencies.extend([
        // What works.
        on_redis("redis-well", &redis, json!({"password": "pl4nted-real"})),
        on("tcp", "tcp-well", json!({"host": "127.0.0.1", "port": redis.port(), "send": "AUTH pl4nted-real\r\n", "expect": "+OK"})),
        on("http", "http-well", json!({"url": url("http", service.address().port()), "headers": {"Authorization-2": secret("h2")}})),
        // What real servers refuse.
        on_postgres("postgres-letters", &database, json!({"password": LETTERS})),
        on_redis("redis-letters", &redis, json!({"password": LETTERS})),
        on("tcp", "tcp-letters", json!({"host": "127.0.0.1", "port": redis.port(), "send": format!("AUTH {LETTERS}\r\n"), "expect": "+OK"})),
        on_postgres("postgres-wrong", &database, json!({"password": secret("pgwrong")})),
        on_postgres("postgres-nobody", &database, json!({"user": format!("u-{}", "x"), "password": secret("pgnobody")})),
        on_redis("redis-wrong", &redis, json!({"username": "x", "password": secret("rediswrong")})),
        on_redis("redis-expired", &tls_redis, json!({"port": tls_redis.tls_port(), "password": secret("redisexp"), "tls": {"root_cert": certs().ca}})),
        on("postgres", "postgres-indiscreet", impatient(json!({
            "host": "127.0.0.1", "port": indiscreet.address().port(), "password": secret("pgclear"),
            "sslmode": "verify-full", "root_cert": certs().ca,
        }))),
        on("http", "http-content", json!({"url": url("http", service.address().port()), "expect": {"body": "other"}})),
        on("http", "http-other", json!({"url": url("http", service.address().port()), "expect": {"status": [204]}})),
        on("redis", "off", json!({"enabled": false, "password": secret("off")})),
        on("tcp", "plain", at(redis.port())),
    ]);
    let mut content = quick(dependencies);
    content["server"]["admin_token"] = json!(secret("admin"));
    content["server"]["admin_tokens"] = json!([
        {"name": "on-call", "token": secret("on-call")},
        {"name": "deploys", "token_sha256": digest_that_tells(), "allow": ["open"]},
    ]);
    // A hundred dependencies at the loudest level: more checks would only add more of the same.
    content["defaults"]["interval"] = json!("10s");
    content["defaults"]["startup_interval"] = json!("2s");
    let config = Config::of(&content);
    let env = Env::new().set("SICKBAY_LOG", "trace").set("RUST_BACKTRACE", "full");
    let arguments = ["--config", config.path()];
    let agent = Agent::start_with(&arguments, &env).await;

    let wanted = [
        "auth_failed",
        "connect_refused",
        "connect_reset",
        "connect_timeout",
        "protocol",
        "timeout",
        "tls_certificate",
        "tls_handshake",
        "unexpected_content",
        "unexpected_status",
    ];
    let names = all_checked(&agent, &wanted).await;
    for well in ["redis-well", "tcp-well", "http-well"] {
        assert_eq!(agent.dependency(well).await["last_check"]["ok"], true, "{well}");
    }

    let mut shown = Shown::default();
    ask_everything(&agent, &names, &mut shown).await;
    run_everything(&arguments, &env, agent.address(), &mut shown).await;
    let output = agent.output();
    assert!(output.contains("connection parameters"), "the log is not only loud where it is harmless");
    shown.add("the log", output);
    let own = &shown.0["/health/config"];
    for part in
        ["\"admin_token\":\"***\"", "\"token\":\"***\"", "\"token_sha256\":\"***\"", "\"filter\":\"trace\""]
    {
        assert!(own.contains(part), "{part}: {own}");
    }
    let audit = agent.logs().into_iter().filter(|line| line["target"] == "audit").count();
    assert!(audit >= 20, "the log tells of refused orders: {audit}");
    shown.assert_no_secret();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_of_a_variable_or_a_file_gets_out() {
    let folder = Folder::new("secrets");
    let file = folder.write("secret", format!("{}\n", secret("file")).as_bytes());
    let from_file = format!("${{file:{}}}", file.display());
    let redis = Redis::start(RedisOptions::default()).await;
    let peer = repeating("HTTP/1.1 500 No\r\nConnection: close\r\n\r\nyou said: ").await;
    let port = peer.address().port();
    let encoded = format!("{MARK}%2F%22x");
    let mut content = quick([
        // A secret file where a password is wanted, and where none is.
        on_redis("files", &redis, json!({"username": from_file, "password": from_file})),
        on(
            "http",
            "path",
            json!({"url": format!("http://127.0.0.1:{port}/{from_file}"), "expect": {"body": from_file}}),
        ),
        on(
            "postgres",
            "who",
            json!({"host": "127.0.0.1", "port": port, "user": from_file, "database": from_file, "password": from_file, "timeout": "1s"}),
        ),
        on(
            "dns",
            "name",
            json!({"query": "localhost", "nameservers": [peer.address().to_string()], "timeout": "1s"}),
        ),
    ]);
    content["server"]["admin_tokens"] = json!([{"name": "on-call", "token": from_file}]);
    let config = Config::of(&content);
    let env = Env::new()
        .set("SICKBAY_LOG", "trace")
        .set("SICKBAY_ADMIN_TOKEN", secret("token"))
        .set("DATABASE_URL", format!("postgresql+psycopg2://u:{encoded}@127.0.0.1:{port}/db"))
        .set("DATABASE_PASSWORD", secret("variable"))
        .set("REDIS_URL", format!("rediss://u:{encoded}@127.0.0.1:{port}/0"))
        .set("REDIS_PASSWORD", secret("variable"))
        .set("HEALTH_CHECK_TIMEOUT", "1s")
        .set("HEALTH_CHECK_CONNECT_TIMEOUT", "500ms")
        .set("MLFLOW_TRACKING_URI", format!("http://u:{encoded}@127.0.0.1:{port}/x?token={MARK}"));
    let arguments = ["--config", config.path()];
    let agent = Agent::start_with(&arguments, &env).await;
    let names = all_checked(&agent, &["protocol", "unexpected_status"]).await;
    let mut shown = Shown::default();
    ask_everything(&agent, &names, &mut shown).await;
    run_everything(&arguments, &env, agent.address(), &mut shown).await;
    shown.add("the log", agent.output());
    shown.assert_no_secret();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_http_service_makes_of_the_credentials_stays_secret() {
    let service = indiscreet_http().await;
    let address = service.address();
    let basic = STANDARD.encode(format!("user-{MARK}:{}", secret("basic")));
    // What no sentence of ours could hold, and a word that one could.
    let who = [
        ("odd", format!("user-{MARK}:{MARK}%2Fpw@"), json!({})),
        ("word", "squirrel:squirrels@".to_owned(), json!({})),
        ("basic", String::new(), json!({"Authorization": format!("Basic {basic}")})),
        ("bearer", String::new(), json!({"Authorization": format!("Bearer {MARK}-token")})),
        ("bearer-word", String::new(), json!({"Authorization": "Bearer squirrel"})),
    ];
    let dependencies = who.iter().flat_map(|(name, user_info, headers)| {
        ["whole", "user", "password", "moved", "foreign"].map(|path| {
            let url = format!("http://{user_info}{address}/{path}");
            on("http", &format!("{name}-{path}"), json!({"url": url, "headers": headers}))
        })
    });
    let config = Config::quick(dependencies);
    let arguments = ["--config", config.path()];
    let env = Env::new().set("SICKBAY_LOG", "trace");
    let agent = Agent::start_with(&arguments, &env).await;
    let names = all_checked(&agent, &["unexpected_status", "protocol"]).await;
    let mut shown = Shown::default();
    ask_everything(&agent, &names, &mut shown).await;
    run_everything(&arguments, &env, agent.address(), &mut shown).await;
    shown.add("the log", agent.output());
    for name in ["odd-whole", "word-whole", "basic-whole", "bearer-whole", "bearer-word-whole"] {
        let said = agent.dependency(name).await["last_failure"]["message"].clone();
        assert_eq!(said, "status 401, expected 200-299: \"login failed for ***\"", "{name}");
    }
    shown.assert_no_secret();
    let word = shown.0.iter().find(|(_, text)| text.contains("squirrel"));
    assert_eq!(word, None, "an ordinary word, too");
}

/// The mark is found in every form in which the tests look for it: a search that cannot find proves nothing.
#[test]
fn a_leak_would_be_found() {
    let forms = forms();
    let found = |text: &str| forms.iter().any(|form| text.contains(form.as_str()));
    for user in ["u", "us", "use"] {
        for after in ["", "x", "/+%", "longer"] {
            for mark in [MARK, LETTERS] {
                let basic = STANDARD_NO_PAD.encode(format!("{user}:{mark}{after}"));
                assert!(found(&format!("Authorization: Basic {basic}")), "{user}:{mark}{after} as {basic}");
            }
        }
    }
    assert!(found(&secret("x")) && found(&format!("{:?}", secret("x").as_bytes())));
    assert!(found(&secret("x").bytes().map(|byte| format!("{byte:02x}")).collect::<String>()));
    assert!(!found("planted"));
}
