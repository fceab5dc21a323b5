//! The commands: exit codes, what goes to which stream, tables, and what help there is.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};

use serde_json::{Value, json};

use crate::support::agent::{Env, Output, Signal, run_cli, run_cli_into, run_in_shell};
use crate::support::client;
use crate::support::config::{Config, on, on_postgres, on_redis, quick};
use crate::support::ports;
use crate::support::postgres::{Postgres, PostgresOptions};
use crate::support::redis::{Redis, RedisOptions};
use crate::support::tcp::{self, Peer};

fn port(name: &str, port: u16, impact: &str) -> Value {
    on("tcp", name, json!({"host": "127.0.0.1", "port": port, "impact": impact}))
}

async fn sickbay(arguments: &[&str]) -> Output {
    run_cli(arguments, &Env::new()).await
}

/// No colours, no cursor movements: what is piped is read by programs.
fn assert_plain(output: &Output) {
    assert!(!output.stdout.contains('\x1b') && !output.stderr.contains('\x1b'), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_ends_with_what_it_found() {
    let peer = tcp::mute().await;
    let fine = peer.address().port();
    let refused = tcp::refused_port();
    let config = Config::quick([
        port("fine", fine, "critical"),
        port("cache", refused, "degraded"),
        port("watched", refused, "none"),
    ]);
    for (arguments, code) in [
        (&["check"][..], 0),
        (&["check", "fine"], 0),
        (&["check", "cache"], 1),
        (&["check", "watched"], 1),
        (&["check", "fine", "cache"], 1),
        (&["check", "nobody"], 2),
        (&["check", "fine", "nobody"], 2),
        (&["check", "redis"], 2),
        (&["check", "fine", "redis"], 2),
        (&["check", "--format", "xml"], 2),
    ] {
        let output = config.run(arguments).await;
        assert_eq!(output.code, Some(code), "{arguments:?}: {output:?}");
        assert_plain(&output);
    }
    let unknown = config.run(&["check", "nobody"]).await;
    assert!(
        unknown.stderr.starts_with("error: there is no dependency \"nobody\"; there are: "),
        "{unknown:?}"
    );
    assert!(unknown.stderr.contains("fine, cache, watched") && unknown.stdout.is_empty(), "{unknown:?}");

    let critical = Config::quick([port("gone", refused, "critical"), port("fine", fine, "none")]);
    assert_eq!(critical.run(&["check"]).await.code, Some(1));
    assert_eq!(critical.run(&["check", "fine"]).await.code, Some(0));
    let missing = sickbay(&["check", "--config", "/nowhere/sickbay.yaml"]).await;
    assert_eq!(missing.code, Some(2), "{missing:?}");
    assert!(missing.stderr.contains("/nowhere/sickbay.yaml"), "{missing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_aligns_and_tells_what_to_do() {
    let database = Postgres::start(PostgresOptions::default()).await;
    let redis = Redis::start(RedisOptions::default()).await;
    let refused = tcp::refused_port();
    let config = Config::quick([
        on_postgres("database", &database, json!({"host": "localhost"})),
        on_redis("redis", &redis, json!({})),
        port("a-name-that-is-longer-than-others", refused, "critical"),
    ]);
    let output = config.run(&["check"]).await;
    assert_eq!(output.code, Some(1), "{output:?}");
    assert_plain(&output);
    assert_eq!(output.stderr, "", "the result is on standard output");
    let table: Vec<&str> = output.stdout.lines().take_while(|line| !line.is_empty()).collect();
    let (head, rows) = table.split_first().expect("a table");
    let titles = ["DEPENDENCY", "KIND", "STATUS", "MS", "DNS", "CONNECT", "TLS", "AUTH", "QUERY", "TARGET"];
    assert_eq!(head.split_whitespace().collect::<Vec<_>>(), titles);
    assert_eq!(rows.len(), 6, "{}", output.stdout);
    let column = |title: &str| head.find(title).expect("a column");
    for row in rows {
        // ASCII only, so that bytes are columns.
        for title in ["KIND", "STATUS", "TARGET"] {
            let at = column(title);
            assert!(row[..at].ends_with("  ") && !row[at..].starts_with(' '), "{title}: {}", output.stdout);
        }
        for title in ["MS", "CONNECT", "AUTH", "QUERY"] {
            let end = column(title) + title.len();
            let number = row[..end].rsplit("  ").next().unwrap_or_default().trim();
            assert!(number.is_empty() || number.parse::<f64>().is_ok(), "{title}: {}", output.stdout);
        }
    }
    let of = |name: &str| *rows.iter().find(|row| row.starts_with(name)).expect("a row");
    let times = of("database").split_whitespace().filter(|word| word.parse::<f64>().is_ok()).count();
    assert_eq!(times, 6, "the whole and five phases: {}", output.stdout);
    assert!(of("mlflow").contains("MLFLOW_TRACKING_URI is not set"), "{}", output.stdout);
    let told = output.stdout.split_once("\n\n").expect("what failed").1;
    for part in ["connect_refused (ECONNREFUSED) in phase connect", "2 attempts", "→ ", &refused.to_string()]
    {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn json_is_one_document_on_stdout_and_logs_go_to_stderr() {
    let refused = tcp::refused_port();
    let config = Config::quick([port("gone", refused, "critical")]);
    let env = Env::new().set("SICKBAY_LOG", "debug");
    for (arguments, code) in [
        (&["check", "--format", "json"][..], 1),
        (&["check", "gone", "--format", "json"], 1),
        (&["config", "show", "--format", "json"], 0),
    ] {
        let output = run_cli(&[arguments, &["--config", config.path()]].concat(), &env).await;
        assert_eq!(output.code, Some(code), "{output:?}");
        assert!(output.json().is_object());
        assert_plain(&output);
    }
    let output = run_cli(&["check", "gone", "--format", "json", "--config", config.path()], &env).await;
    assert!(output.stderr.contains("attempt failed"), "{output:?}");
    let report = output.json();
    assert_eq!(report["ok"], false);
    let names: Vec<_> = report["dependencies"].as_object().expect("a map").keys().collect();
    assert_eq!(names, ["gone"], "only what was named");
    let gone = &report["dependencies"]["gone"];
    for field in ["kind", "impact", "target", "address", "status", "last_check", "last_failure", "details"] {
        assert!(!gone[field].is_null(), "{field}: {gone:#}");
    }
    assert_eq!(gone["last_failure"]["attempts"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn healthcheck_asks_an_agent_and_tells_yes_or_no() {
    let peer = tcp::mute().await;
    let mut config =
        quick([port("port", tcp::refused_port(), "critical"), port("fine", peer.address().port(), "none")]);
    config["server"]["drain"] = json!("5m");
    let config = Config::of(&config);
    let agent = config.agent().await;
    agent.until("/health/ready", |it| it.json()["status"] == "down", "a first result").await;
    let address = agent.address().to_string();
    let ask = async |arguments: &[&str]| {
        let output = sickbay(&[&["healthcheck", "--address", &address], arguments].concat()).await;
        assert_plain(&output);
        output
    };
    let live = ask(&[]).await;
    assert_eq!((live.code, live.stderr.as_str()), (Some(0), ""), "{live:?}");
    assert!(live.stdout.starts_with("200 {"), "{live:?}");
    assert_eq!(ask(&["--group", "live"]).await.code, Some(0));
    assert_eq!(ask(&["--group", "alb"]).await.code, Some(0), "a shared outage");
    let ready = ask(&["--group", "ready"]).await;
    assert_eq!((ready.code, ready.stdout.as_str()), (Some(1), ""), "{ready:?}");
    assert!(ready.stderr.contains("503") && ready.stderr.contains("connect_refused"), "{ready:?}");
    assert_eq!(ask(&["--group", "startup"]).await.code, Some(1));

    // It follows SICKBAY_LISTEN, as the agent does.
    let listen = format!("0.0.0.0:{}", agent.address().port());
    let output = run_cli(&["healthcheck"], &Env::new().set("SICKBAY_LISTEN", listen)).await;
    assert_eq!(output.code, Some(0), "{output:?}");

    agent.signal(Signal::TERM);
    agent.until("/health/alb", |it| it.status == 503, "the drain").await;
    let alb = ask(&["--group", "alb"]).await;
    assert!(alb.code == Some(1) && alb.stderr.contains("draining"), "{alb:?}");
    assert_eq!(ask(&[]).await.code, Some(0), "ECS must not kill what drains");
}

#[tokio::test(flavor = "multi_thread")]
async fn healthcheck_ends_whatever_answers() {
    let dribble = Peer::start(|mut stream| async move {
        use tokio::io::AsyncWriteExt;
        loop {
            if stream.write_all(b"x").await.is_err() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
    let endless = Peer::start(|mut stream| async move {
        use tokio::io::AsyncWriteExt;
        while stream.write_all(&[b'x'; 65_536]).await.is_ok() {}
    })
    .await;
    let (mute, silent) = (tcp::mute().await, tcp::silent());
    let reset = tcp::reset_after_request().await;
    let garbage = tcp::garbage(b"SSH-2.0-OpenSSH_9.2\r\n".as_slice()).await;
    let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, tcp::refused_port()));
    for (what, address) in [
        ("nobody", nobody),
        ("mute", mute.address()),
        ("silent", silent.address()),
        ("reset", reset.address()),
        ("garbage", garbage.address()),
        ("dribble", dribble.address()),
        ("endless", endless.address()),
    ] {
        let address = address.to_string();
        let output = sickbay(&["healthcheck", "--address", &address, "--timeout", "300ms"]).await;
        assert_eq!(output.code, Some(1), "{what}: {output:?}");
        assert!(
            output.stderr.starts_with("error: ") && output.stderr.contains(&address),
            "{what}: {output:?}"
        );
        assert_eq!(output.stdout, "", "{what}");
    }
    for arguments in [
        &["healthcheck", "--address", "nowhere"][..],
        &["healthcheck", "--timeout", "0s"],
        &["healthcheck", "--timeout", "10"],
        &["healthcheck", "--group", "everything"],
    ] {
        let output = sickbay(arguments).await;
        assert!(
            output.code.is_some_and(|code| code != 0) && !output.stderr.is_empty(),
            "{arguments:?}: {output:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn config_check_and_show_tell_what_holds_and_what_is_wrong() {
    const MARK: &str = "hunter2-hunter2-hunter2";
    let config = Config::of(&json!({
        "server": {"admin_token": MARK},
        "defaults": {"interval": "7s"},
        "dependencies": [{"name": "database", "host": "db.test", "password": MARK, "port": 6543}],
    }));
    let checked = config.run(&["config", "check"]).await;
    assert_eq!(checked.code, Some(0), "{checked:?}");
    for part in ["the configuration is usable", "DETECTED WITHIN", "BACK WITHIN", "db.test:6543/mlflow_db"] {
        assert!(checked.stdout.contains(part), "{part}: {checked:?}");
    }
    assert!(checked.stderr.contains("password goes to a server that is not verified"), "{checked:?}");

    let shown = config.run(&["config", "show"]).await;
    assert_eq!(shown.code, Some(0), "{shown:?}");
    assert!(shown.stdout.contains("interval: 7s") && shown.stdout.contains("***"), "{shown:?}");
    // What is shown can be used again, but for the secrets; a token that everybody can read is refused.
    let shown_token = "admin_token: '***'";
    assert!(shown.stdout.contains(shown_token), "{shown:?}");
    let again = Config::text(&shown.stdout);
    assert_eq!(again.run(&["config", "check"]).await.code, Some(2), "{}", shown.stdout);
    let again = Config::text(&shown.stdout.replace(shown_token, &format!("admin_token: {MARK}")));
    assert_eq!(again.run(&["config", "check"]).await.code, Some(0), "{}", shown.stdout);

    let env = Env::new().set("DATABASE_USER", "somebody");
    let origins = run_cli(&["config", "show", "--origins", "--config", config.path()], &env).await;
    let origin = |setting: &str| {
        let line = origins.stdout.lines().find(|line| line.starts_with(&format!("{setting} ")));
        line.unwrap_or_else(|| panic!("no {setting}: {}", origins.stdout)).to_owned()
    };
    assert!(origin("dependencies.database.user").contains("variable DATABASE_USER"));
    assert!(origin("dependencies.database.port").contains(&format!("file {}", config.path())));
    assert!(origin("defaults.timeout").ends_with("default"));
    for output in [&checked, &shown, &origins] {
        assert_plain(output);
        assert!(!output.stdout.contains(MARK) && !output.stderr.contains(MARK), "{output:?}");
    }

    let wrong = Config::text(
        "defaults: {interval: 10}\ndependencies:\n  - {name: x, kind: ftp, impact: none}\nnonsense: 1\n",
    );
    for command in [&["config", "check"][..], &["config", "show"], &["check"], &["run"]] {
        let output = wrong.run(command).await;
        assert_eq!(output.code, Some(2), "{command:?}: {output:?}");
        for part in ["defaults.interval", "line 1", "dependencies.x.kind", "line 3", "nonsense", "line 4"] {
            assert!(output.stderr.contains(part), "{command:?}: {part}: {output:?}");
        }
        assert!(output.stderr.lines().all(|line| line.starts_with("error: ")), "{output:?}");
        assert_eq!(output.stdout, "");
    }
    let broken = Config::text("dependencies: [\n");
    let output = broken.run(&["config", "check"]).await;
    assert!(output.code == Some(2) && output.stderr.contains("line"), "{output:?}");
}

/// What can be configured is told whatever is configured.
#[tokio::test(flavor = "multi_thread")]
async fn config_schema_and_env_need_no_configuration() {
    let wrong = Config::text("nonsense: 1\n");
    let schema = wrong.run(&["config", "schema"]).await;
    assert_eq!((schema.code, schema.stderr.as_str()), (Some(0), ""), "{schema:?}");
    let kept = include_str!("../../docs/config.schema.json");
    assert_eq!(
        schema.json(),
        serde_json::from_str::<Value>(kept).expect("JSON"),
        "`make docs` writes it anew"
    );

    let table = wrong.run(&["config", "env"]).await;
    assert_eq!((table.code, table.stderr.as_str()), (Some(0), ""), "{table:?}");
    assert_plain(&table);
    let row = |name: &str| {
        let row = table.stdout.lines().find(|line| line.starts_with(&format!("{name} ")));
        row.unwrap_or_else(|| panic!("no {name}: {}", table.stdout))
            .split_whitespace()
            .take(3)
            .collect::<Vec<_>>()
    };
    assert_eq!(row("VARIABLE"), ["VARIABLE", "DEFAULT", "SETS"]);
    assert_eq!(row("DATABASE_PORT"), ["DATABASE_PORT", "5432", "dependencies.database.port"]);
    assert_eq!(row("DATABASE_URL"), ["DATABASE_URL", "–", "dependencies.database"]);
    assert_eq!(row("SICKBAY_CONFIG"), ["SICKBAY_CONFIG", "–", "–"]);

    let list = wrong.run(&["config", "env", "--format", "json"]).await;
    assert_eq!((list.code, list.stderr.as_str()), (Some(0), ""), "{list:?}");
    let variables = list.json()["variables"].as_array().expect("a list").clone();
    assert_eq!(variables.len() + 1, table.stdout.lines().count(), "each has a row");
    assert_eq!(
        variables[1],
        json!({"name": "DATABASE_PORT", "default": "5432", "sets": "dependencies.database.port", "description": "PostgreSQL: port"})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn help_has_an_example_everywhere_and_the_version_its_commit() {
    let version = sickbay(&["--version"]).await;
    assert_eq!(version.code, Some(0), "{version:?}");
    let (name, rest) = version.stdout.trim().split_once(' ').expect("name and version");
    let (number, commit) = rest.split_once(' ').expect("version and commit");
    assert_eq!((name, number), ("sickbay", env!("CARGO_PKG_VERSION")));
    let commit = commit.trim_matches(['(', ')']);
    assert!(!commit.is_empty() && commit.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{commit}");

    for command in [
        &[][..],
        &["run"],
        &["check"],
        &["healthcheck"],
        &["config"],
        &["config", "check"],
        &["config", "show"],
        &["config", "schema"],
        &["config", "env"],
        &["wait"],
        &["completions"],
        &["man"],
    ] {
        let output = sickbay(&[command, &["--help"]].concat()).await;
        assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{command:?}");
        assert!(output.stdout.contains("Example"), "{command:?}: {}", output.stdout);
        assert_plain(&output);
    }
    for wrong in [&["nonsense"][..], &["run", "--nonsense"], &["config"], &[]] {
        let output = sickbay(wrong).await;
        assert_eq!(output.code, Some(2), "{wrong:?}: {output:?}");
        assert!(output.stdout.is_empty() && output.stderr.contains("Usage"), "{wrong:?}: {output:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_needs_no_agent_and_disturbs_none() {
    let peer = tcp::mute().await;
    let config = Config::quick([port("fine", peer.address().port(), "critical")]);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, ports::spare()));
    let env = Env::new().set("SICKBAY_LISTEN", address);
    let output = run_cli(&["check", "--config", config.path()], &env).await;
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(client::get(address, "/health/live").await.is_err(), "nothing listens");
    assert_eq!(peer.until_accepted(1).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_cannot_be_written_is_no_success() {
    let peer = tcp::mute().await;
    let config = Config::quick([port("fine", peer.address().port(), "critical")]);
    let agent = config.agent().await;
    let address = agent.address().to_string();
    let full = || File::options().write(true).open("/dev/full").expect("a device that is always full");
    for arguments in [
        &["check", "fine", "--config", config.path()][..],
        &["check", "fine", "--format", "json", "--config", config.path()],
        &["config", "check", "--config", config.path()],
        &["config", "show", "--config", config.path()],
        &["completions", "bash"],
        &["man"],
        &["--help"],
        &["--version"],
    ] {
        let output = run_cli_into(full(), arguments, &Env::new()).await;
        assert_eq!(output.code, Some(1), "{arguments:?}: {output:?}");
        let told = "error: the result cannot be written to standard output: No space left on device";
        assert!(output.stderr.contains(told), "{arguments:?}: {output:?}");

        // A reader that has gone wants no more.
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = run_cli_into(writer, arguments, &Env::new()).await;
        assert_eq!(output.code, Some(0), "{arguments:?}: {output:?}");
        assert!(!output.stderr.contains("error") && !output.stderr.contains("panicked"), "{output:?}");
    }
    // The container health check is asked for its exit code.
    let output = run_cli_into(full(), &["healthcheck", "--address", &address], &Env::new()).await;
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn completions_and_manual_know_every_command() {
    let commands = ["run", "check", "wait", "healthcheck", "config", "completions", "man"];
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = sickbay(&["completions", shell]).await;
        assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{shell}: {output:?}");
        for command in commands {
            assert!(output.stdout.contains(command), "{shell}: {command}");
        }
    }
    let page = sickbay(&["man"]).await;
    assert_eq!((page.code, page.stderr.as_str()), (Some(0), ""), "{page:?}");
    assert!(page.stdout.contains(".TH sickbay 1"), "{page:?}");
    for command in commands {
        assert!(page.stdout.contains(&format!("sickbay\\-{command}(1)")), "{command}: {page:?}");
        let page = sickbay(&["man", command]).await;
        assert!(page.code == Some(0) && page.stdout.contains("Example"), "{page:?}");
    }
    let page = sickbay(&["man", "config", "show"]).await;
    assert!(page.stdout.contains("\\-\\-origins"), "{page:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn misuse_is_told_with_what_is_allowed() {
    for (arguments, told) in [
        (&["chekc"][..], "a similar subcommand exists: 'check'"),
        (&["check", "--formt", "json"], "a similar argument exists: '--format'"),
        (&["check", "--format"], "a value is required for '--format <FORMAT>' but none was supplied"),
        (&["check", "--format", "xml"], "[possible values: table, json]"),
        (&["--config"], "a value is required for '--config <FILE>'"),
        (&["config", "chck"], "a similar subcommand exists: 'check'"),
        (&["run", "extra"], "unexpected argument 'extra' found"),
        (&["completions"], "required arguments were not provided"),
        (&["completions", "bsh"], "a similar value exists: 'bash'"),
        (&["man", "nothing"], "\"sickbay\" has no command \"nothing\"; there are: run, check, "),
        (&["man", "check", "more"], "\"sickbay-check\" has no command \"more\"; there are: none"),
        (&["run", "--listen", "nowhere"], "nowhere"),
        (&["run", "--log", "=="], "is no log filter"),
    ] {
        let output = sickbay(arguments).await;
        assert_eq!((output.code, output.stdout.as_str()), (Some(2), ""), "{arguments:?}: {output:?}");
        assert!(output.stderr.starts_with("error: "), "{arguments:?}: {output:?}");
        assert!(output.stderr.contains(told), "{arguments:?}: {output:?}");
    }
    // Docker and ECS know no other failure of a health check than 1.
    let output = sickbay(&["healthcheck", "--timeout", "10"]).await;
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains("a duration with its unit is allowed, such as 500ms"), "{output:?}");
    for (arguments, code) in [
        (&["healthcheck", "--bogus"][..], 1),
        (&["--config", "check", "healthcheck", "--bogus"], 1),
        (&["--config=check", "healthcheck", "--bogus"], 1),
        (&["--bogus", "healthcheck"], 1),
        // The word alone does not make it one.
        (&["check", "healthcheck", "--bogus"], 2),
        (&["--config", "healthcheck", "check", "--bogus"], 2),
        (&["--config", "healthcheck"], 2),
    ] {
        let output = sickbay(arguments).await;
        assert_eq!(output.code, Some(code), "{arguments:?}: {output:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_without_room_says_so_and_ends() {
    // It ends by itself as soon as it has room: its address is taken.
    let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let env = Env::new().set("SICKBAY_LISTEN", taken.local_addr().expect("an address"));
    let mut without_room = 0;
    for kib in (20_000..1_000_000).step_by(1_000) {
        let output = run_in_shell(&format!("ulimit -v {kib}; exec \"$0\" \"$@\""), &["run"], &env).await;
        assert!(!output.stderr.contains("panicked"), "{kib} KiB: {output:?}");
        match output.code {
            Some(3) if output.stderr.contains("cannot listen on") => {
                assert!(without_room > 0, "there was room from the start: {kib} KiB");
                return;
            }
            Some(3) => {
                let told = "error: the agent cannot start: ";
                assert!(output.stderr.starts_with(told) && output.stderr.lines().count() == 1, "{output:?}");
                let no_thread = "error: the agent cannot start: no thread can be had: ";
                without_room += usize::from(output.stderr.starts_with(no_thread));
            }
            // So little that its libraries have no room; or, just before it is enough, that a thread had room and what
            // it holds had none. Which of the two it is at which limit is the allocator's affair.
            Some(127) | None => {}
            Some(_) => panic!("{kib} KiB: {output:?}"),
        }
    }
    panic!("there is never room");
}
