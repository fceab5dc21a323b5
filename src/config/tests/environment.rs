//! The variables that do more than set a field.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use super::*;
use crate::config::plan::SslMode;
use crate::health::{Kind, Scope};

#[test]
fn a_database_url_says_all_and_single_variables_win() {
    let plan = plan(
        &[],
        &[
            (
                "DATABASE_URL",
                "postgresql+psycopg2://us%40er:p%2Fw@db.internal:6432/my%20db?sslmode=require&application_name=x",
            ),
            ("DATABASE_PORT", "7000"),
            ("DATABASE_NAME", ""),
        ],
    );
    let database = postgres(&plan, "database");
    assert_eq!((database.host().as_str(), *database.port()), ("db.internal", 7000));
    assert_eq!((database.user().as_str(), database.database().as_str()), ("us@er", "my db"));
    assert_eq!(database.password().as_ref().unwrap().expose(), "p/w");
    assert_eq!(*database.sslmode(), SslMode::Require);
    assert_eq!(dependency(&plan, "dns").policy().target, "db.internal A");
    assert_eq!(plan.origins()["dependencies.dns.query"], "variable DATABASE_URL");
    assert_eq!(
        plan.warnings(),
        [
            "DATABASE_URL: its parameter `application_name` is not used",
            "database: the password goes to a server that is not verified; sslmode is `require`, set `verify-full`",
        ]
    );
}

#[test]
fn a_url_that_cannot_be_used_is_refused_and_not_quoted() {
    assert_eq!(
        errors(&[], &[("DATABASE_URL", "mysql://u:hunter2@h/x"), ("REDIS_URL", "u:hunter2@h")]),
        [
            "error: the URL cannot be used, in variable DATABASE_URL; allowed: \
             `postgresql://user:password@host:5432/database`, special characters percent-encoded; \
             correct the variable, or unset it and set the single ones",
            "error: the URL cannot be used, in variable REDIS_URL; allowed: \
             `redis://user:password@host:6379` or `rediss://…`, special characters percent-encoded; \
             correct the variable, or unset it and set the single ones",
        ]
    );
}

/// A password that holds an unencoded `/`, `?` or `#` ends where the host would begin.
#[test]
fn a_password_that_breaks_its_url_is_not_taken_for_a_host() {
    for (mark, stray) in [("/", "path"), ("?", "query"), ("#", "fragment")] {
        let url = |scheme: &str| format!("{scheme}://user:12{mark}hunter2@host/x");
        let found = errors(&[], &[("DATABASE_URL", &url("postgresql")), ("REDIS_URL", &url("redis"))]);
        for (error, variable) in found.iter().zip(["DATABASE_URL", "REDIS_URL"]) {
            let beginning =
                format!("error: the URL has an `@` behind its host, in variable {variable}; allowed: ");
            assert!(error.starts_with(&beginning), "{stray}: {error}");
            assert!(error.ends_with(
                "percent-encode the password: `/` is `%2F`, `?` is `%3F`, `#` is `%23`, `@` is `%40`"
            ));
        }
        assert_eq!((found.len(), found.join("").contains("hunter2")), (2, false));
    }
}

#[test]
fn an_http_url_that_may_hold_a_password_is_not_shown() {
    for url in ["http://user:12/hunter2@host/x", "http://user:12?hunter2@host"] {
        let file = format!("dependencies: [{{name: x, kind: http, impact: none, url: '{url}'}}]");
        let plan = plan(&[&file], &[("MLFLOW_TRACKING_URI", url)]);
        for name in ["mlflow", "x"] {
            assert_eq!(dependency(&plan, name).policy().target, "***");
        }
        let warning = |name: &str| {
            format!(
                "dependencies.{name}.url: the URL (not shown) has an `@` behind its host; if that ends a password, \
                 percent-encode the `/` and `?` in it, else write `%40`"
            )
        };
        assert_eq!(plan.warnings(), [warning("mlflow"), warning("x")]);
        let shown = format!("{} {:?}", plan.effective(), plan.origins());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    assert_eq!(
        errors(&[], &[("MLFLOW_TRACKING_URI", "http://user:12#hunter2@host")]),
        [
            "error: the URL has an `@` behind a `#`, at dependencies.mlflow.url (variable MLFLOW_TRACKING_URI); \
             allowed: `http://host[:port]/path` or `https://…`; if that ends a password, percent-encode the `#` in it \
             as `%23`, else remove what follows the `#`"
        ]
    );
}

#[test]
fn what_a_url_lacks_is_said() {
    let what = |env: &[(&str, &str)]| {
        let found = errors(&[], env);
        found.iter().map(|error| error.split(';').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(
        what(&[("DATABASE_URL", "postgresql:///x")]),
        ["error: the URL names no host, in variable DATABASE_URL"]
    );
    assert_eq!(what(&[("REDIS_URL", "redis:///0")]), ["error: the URL names no host, in variable REDIS_URL"]);
    let both = plan(&[], &[("DATABASE_URL", "postgresql:///x"), ("DATABASE_HOST", "h")]);
    assert_eq!(dependency(&both, "database").policy().target, "h:5432/x");
    let file = plan(&["dependencies: [{name: redis, host: h}]"], &[("REDIS_URL", "redis:///0")]);
    assert_eq!(dependency(&file, "redis").policy().target, "h:6379");
}

/// `%ff` is no UTF-8; a secret that cannot be decoded is not one that is unset.
#[test]
fn what_is_no_text_is_refused() {
    let found =
        errors(&[], &[("DATABASE_URL", "postgresql://u:hunter2%ff@h/x"), ("REDIS_URL", "redis://%fe:p@h")]);
    for (error, variable) in found.iter().zip(["DATABASE_URL", "REDIS_URL"]) {
        let beginning = format!(
            "error: a part of the URL is not UTF-8 text when its percent-encoding is undone, in variable {variable};"
        );
        assert!(error.starts_with(&beginning), "{error}");
    }
    assert_eq!(found.len(), 2);

    let files = Files::new(&["service: {name: '${OTHER:-x}'}"]);
    let mut sources = files.sources(&[]);
    for name in ["DATABASE_PASSWORD", "OTHER", "UNRELATED", "SICKBAY_CONFIG"] {
        sources.env.insert(name.to_owned(), OsString::from_vec(b"hunter2\xff".to_vec()));
    }
    let wrong = |name: &str| format!("the value of the variable {name} (not shown) is not UTF-8 text");
    let advice = "correct how it is set, or unset it";
    assert_eq!(
        files.plain(&load(&sources).unwrap_err().to_string()),
        [
            format!("error: {}, at service.name (file 1.yaml, line 1 column 11); {advice}", wrong("OTHER")),
            format!("error: {}; {advice}", wrong("DATABASE_PASSWORD")),
            format!("error: {}; {advice}", wrong("SICKBAY_CONFIG")),
        ]
        .join("\n")
    );
}

#[test]
fn of_a_redis_url_nothing_is_passed_over_in_silence() {
    let plan = plan(&[], &[("REDIS_URL", "redis://cache/3?ssl_cert_reqs=none&socket_timeout=1")]);
    assert_eq!(
        plan.warnings(),
        [
            "REDIS_URL: the database in its path is not used; a check needs none",
            "REDIS_URL: its parameter `ssl_cert_reqs` is not used",
            "REDIS_URL: its parameter `socket_timeout` is not used",
        ]
    );
    for fine in ["redis://cache", "redis://cache/", "redis://cache/0"] {
        assert_eq!(super::plan(&[], &[("REDIS_URL", fine)]).warnings(), [] as [&str; 0], "{fine}");
    }
    for (url, why) in [
        ("redis+sentinel://cache:26379/main", "the URL is for Sentinel, which is not yet supported"),
        ("redis+socket:///run/redis.sock", "the URL is for a Unix socket, which is not supported"),
        ("unix:///run/redis.sock", "the URL is for a Unix socket, which is not supported"),
        ("redis+cluster://cache", "the URL cannot be used"),
    ] {
        let found = errors(&[], &[("REDIS_URL", url)]);
        assert!(found[0].starts_with(&format!("error: {why}, in variable REDIS_URL; ")), "{}", found[0]);
        assert_eq!(found.len(), 1);
    }
}

#[test]
fn a_redis_url_says_all() {
    let plan = plan(&[], &[("REDIS_URL", "rediss://app:s3cret@cache.internal/0"), ("REDIS_PORT", "6380")]);
    let cache = redis(&plan, "redis");
    assert_eq!(
        (cache.host().as_str(), *cache.port(), cache.username().as_deref()),
        ("cache.internal", 6380, Some("app"))
    );
    assert_eq!((cache.password().as_ref().unwrap().expose(), cache.tls().is_some()), ("s3cret", true));
    let plain = super::plan(&[], &[("REDIS_URL", "redis://h"), ("REDIS_TLS", "true")]);
    assert!(redis(&plain, "redis").tls().is_some(), "the single variable wins");
}

#[test]
fn redis_can_be_switched_off_and_on() {
    let off = plan(&[], &[("REDIS_ENABLED", "false"), ("REDIS_HOST", "h")]);
    assert_eq!(disabled(&off, "redis").as_deref(), Some("disabled by REDIS_ENABLED"));
    assert!(dependency(&off, "redis").probe().is_some(), "its target is known all the same");
    let nowhere = plan(&[], &[("REDIS_ENABLED", "true")]);
    assert_eq!(disabled(&nowhere, "redis").as_deref(), Some("REDIS_HOST is not set"));
}

#[test]
fn the_api_is_asked_by_http_where_a_path_is_given() {
    let plan = plan(&[], &[("API_PORT", "8000"), ("API_HOST", "::1"), ("API_HEALTH_PATH", "/health?deep=1")]);
    let policy = dependency(&plan, "api").policy();
    assert_eq!((policy.kind, policy.scope, policy.interval.as_secs()), (Kind::Http, Scope::Local, 5));
    assert_eq!(http(&plan, "api").url().as_str(), "http://[::1]:8000/health?deep=1");
    assert_eq!(policy.target, "http://[::1]:8000/health");
    assert_eq!(plan.warnings(), [] as [&str; 0]);

    let no_port = super::plan(&[], &[("API_HEALTH_PATH", "/health")]);
    assert_eq!(disabled(&no_port, "api").as_deref(), Some("API_PORT is not set"));
    assert_eq!(
        errors(&[], &[("API_HEALTH_PATH", "health"), ("API_PORT", "http")]),
        [
            "error: the path does not begin with `/`, at dependencies.api.url (variable API_HEALTH_PATH); \
             allowed: a path such as `/health`",
            "error: `http` is not valid, at dependencies.api.port (variable API_PORT); \
             allowed: a whole number, not negative",
        ]
    );
    let secret = Files::new(&[]);
    let host = secret.add("host", "hunter2.internal\n");
    let file = format!("dependencies: [{{name: api, host: '${{file:{host}}}'}}]");
    let hidden = super::plan(&[&file], &[("API_HEALTH_PATH", "/up"), ("API_PORT", "80")]);
    assert_eq!(http(&hidden, "api").url().as_str(), "http://hunter2.internal/up");
    assert_eq!(dependency(&hidden, "api").policy().target, "***");
    assert!(!hidden.effective().to_string().contains("hunter2"));
    assert_eq!(
        errors(&[], &[("API_HEALTH_PATH", "/up"), ("API_HOST", "a/b"), ("API_PORT", "80")]),
        ["error: `a/b` is no host, at dependencies.api.host (variable API_HOST); \
             allowed: a host name or an IP address; correct it",]
    );
    assert_eq!(
        errors(&[], &[("API_HEALTH_PATH", "/up"), ("API_PORT", "0")]),
        ["error: `0` is out of range, at dependencies.api.port (variable API_PORT); allowed: 1 to 65535"]
    );
    let other = super::plan(
        &["dependencies: [{name: api, kind: http, url: 'http://api:8000/mine'}]"],
        &[("API_HEALTH_PATH", "/up"), ("API_PORT", "80")],
    );
    assert_eq!(http(&other, "api").url().as_str(), "http://api:8000/mine");
    let ignored = |variable: &str| {
        format!(
            "{variable} is ignored: it is for a dependency of kind tcp, and `api` is configured to be another"
        )
    };
    assert_eq!(other.warnings(), [ignored("API_PORT"), ignored("API_HEALTH_PATH")]);
    let from_file = super::plan(&["dependencies: [{name: api, port: 9000}]"], &[("API_HEALTH_PATH", "/up")]);
    assert_eq!(http(&from_file, "api").url().as_str(), "http://127.0.0.1:9000/up");
}

#[test]
fn mlflow_is_a_server_or_is_not_checked() {
    let plan =
        plan(&[], &[("MLFLOW_TRACKING_URI", "https://u:p@ml.internal/base/"), ("MLFLOW_TIMEOUT", "4s")]);
    assert_eq!(http(&plan, "mlflow").url().as_str(), "https://ml.internal/base/health");
    assert_eq!(http(&plan, "mlflow").headers()[0].0, "Authorization");
    assert_eq!(dependency(&plan, "mlflow").policy().timeout.as_secs(), 4);
    for (uri, url) in [
        ("http://ml", "http://ml/health"),
        ("http://ml:5000/?x=1", "http://ml:5000/health?x=1"),
        ("http://ml/base?x=1", "http://ml/base/health?x=1"),
        ("http://ml/base/#x", "http://ml/base/health"),
        ("HTTP://ml", "http://ml/health"),
    ] {
        let plan = super::plan(&[], &[("MLFLOW_TRACKING_URI", uri)]);
        assert_eq!(http(&plan, "mlflow").url().as_str(), url, "{uri}");
    }
    assert_eq!(
        errors(&[], &[("MLFLOW_TRACKING_URI", "http://")]),
        [
            "error: the URL cannot be read: empty host, at dependencies.mlflow.url (variable MLFLOW_TRACKING_URI); \
             allowed: `http://host[:port]/path` or `https://…`; correct it"
        ]
    );
    for uri in ["file:///mlruns", "./mlruns", "sqlite:///x.db", "databricks", "httpx://h"] {
        let plan = super::plan(&[], &[("MLFLOW_TRACKING_URI", uri)]);
        assert_eq!(disabled(&plan, "mlflow").as_deref(), Some("MLFLOW_TRACKING_URI is not an HTTP address"));
        assert_eq!(
            plan.warnings(),
            ["mlflow is disabled: MLFLOW_TRACKING_URI is not an HTTP address", NOTHING]
        );
    }
}

#[test]
fn dns_asks_for_the_database_where_that_is_a_name() {
    let target = |env: &[(&str, &str)]| {
        let plan = plan(&[], env);
        dependency(&plan, "dns").policy().target.clone()
    };
    assert_eq!(target(&[("DATABASE_HOST", "db.internal")]), "db.internal A");
    assert_eq!(target(&[("DATABASE_HOST", "db.internal"), ("DNS_NAME", "x.internal")]), "x.internal A");
    assert_eq!(target(&[("DATABASE_HOST", "10.0.0.5")]), "not set");
    assert_eq!(target(&[("DATABASE_HOST", "::1")]), "not set");
    assert_eq!(errors(&[], &[("DATABASE_HOST", "a b")]).len(), 1, "a wrong one is told once");
    let file = plan(&["dependencies: [{name: dns, query: y.internal}]"], &[("DATABASE_HOST", "db.internal")]);
    assert_eq!(dependency(&file, "dns").policy().target, "y.internal A");
}

#[test]
fn what_is_not_built_is_said_and_not_passed_over() {
    let plan = plan(
        &[],
        &[
            ("CLOUDWATCH_ENABLED", "true"),
            ("CLOUDWATCH_NAMESPACE", "X"),
            ("AWS_REGION", "eu-west-1"),
            ("EMF_ENABLED", "false"),
            ("EVENTS_ENABLED", "1"),
        ],
    );
    assert_eq!(
        plan.warnings(),
        [
            "CLOUDWATCH_ENABLED does nothing: CloudWatch metrics are not yet supported in this version",
            "EVENTS_ENABLED does nothing: transitions published to Redis are not yet supported in this version",
            NOTHING,
        ]
    );
}

#[test]
fn the_rest_sets_its_fields() {
    let plan = plan(
        &[],
        &[
            ("HEALTH_CHECK_INTERVAL", "3s"),
            ("HEALTH_CHECK_TIMEOUT", "2s"),
            ("HEALTH_CHECK_CONNECT_TIMEOUT", "1s"),
            ("RETRY_ATTEMPTS", "2"),
            ("RETRY_INITIAL", "5ms"),
            ("RETRY_MAX", "6ms"),
            ("CIRCUIT_FAILURE_THRESHOLD", "7"),
            ("CIRCUIT_RECOVERY_TIMEOUT", "8s"),
            ("CIRCUIT_SUCCESS_THRESHOLD", "9"),
            ("SICKBAY_OPERATOR_LISTEN", "127.0.0.1:8687"),
            ("SICKBAY_ADMIN_TOKEN", "0123456789abcdef"),
            ("SICKBAY_LOG", "sickbay=debug"),
            ("SICKBAY_LOG_FORMAT", "text"),
            ("SICKBAY_DRAIN", "1s"),
            ("SERVICE_NAME", "shop"),
            ("ENVIRONMENT", "staging"),
        ],
    );
    let defaults = &plan.effective()["defaults"];
    let expected = serde_json::json!({
        "interval": "3s", "startup_interval": "1s", "timeout": "2s", "connect_timeout": "1s", "slow_after": "1s",
        "certificate_warning": "14d", "diagnose_on_failure": true,
        "retry": {"attempts": 2, "initial": "5ms", "max": "6ms", "multiplier": 2, "jitter": "full"},
        "circuit": {"failure_threshold": 7, "recovery_timeout": "8s", "recovery_timeout_max": null, "success_threshold": 9, "half_open_interval": "2s"},
    });
    assert_eq!(*defaults, expected);
    assert_eq!(plan.server().operator_listen().unwrap().port(), 8687);
    assert_eq!(plan.effective()["server"]["admin_token"], "***");
    assert_eq!((plan.service().name().as_str(), plan.service().environment().as_str()), ("shop", "staging"));
}

#[test]
fn a_variable_that_is_almost_one_of_ours_is_warned_about_and_others_are_let_be() {
    let warned = |env: &[(&str, &str)]| super::plan(&[], env).warnings().to_vec();
    let said = warned(&[("DATABASE_HSOT", "db"), ("SICKBAY_LISTN", "x"), ("DB_HOST", "x"), ("PATH", "/bin")]);
    let near = |name: &str, ours: &str| format!("{name} is not read: did you mean {ours}?");
    assert_eq!(
        said,
        [near("DATABASE_HSOT", "DATABASE_HOST"), near("SICKBAY_LISTN", "SICKBAY_LISTEN"), NOTHING.into()]
    );
    let set = warned(&[("DATABASE_HOST", "127.0.0.1"), ("DATABASE_HOSTS", "a,b")]);
    assert_eq!(set, [] as [&str; 0], "where ours is set, theirs is meant");
}
