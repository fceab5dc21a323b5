//! The variables that do more than set a field.

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
    for uri in ["file:///mlruns", "./mlruns", "sqlite:///x.db", "databricks"] {
        let plan = super::plan(&[], &[("MLFLOW_TRACKING_URI", uri)]);
        assert_eq!(disabled(&plan, "mlflow").as_deref(), Some("MLFLOW_TRACKING_URI is not an HTTP address"));
        assert_eq!(plan.warnings(), ["mlflow is disabled: MLFLOW_TRACKING_URI is not an HTTP address"]);
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
            ("SICKBAY_ADMIN_TOKEN", "t"),
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
        "retry": {"attempts": 2, "initial": "5ms", "max": "6ms", "multiplier": 2, "jitter": "full"},
        "circuit": {"failure_threshold": 7, "recovery_timeout": "8s", "success_threshold": 9, "half_open_interval": "2s"},
    });
    assert_eq!(*defaults, expected);
    assert_eq!(plan.server().operator_listen().unwrap().port(), 8687);
    assert_eq!(plan.effective()["server"]["admin_token"], "***");
    assert_eq!((plan.service().name().as_str(), plan.service().environment().as_str()), ("shop", "staging"));
}
