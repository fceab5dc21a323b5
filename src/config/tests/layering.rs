//! Which layer wins, and that each value knows its own.

use super::*;

#[test]
fn the_later_layer_wins_and_each_value_knows_its_own() {
    let files = Files::new(&[
        "service: {name: from-one, environment: one}
server: {drain: 1s}
defaults: {interval: 11s, timeout: 9s}
dependencies:
  - {name: database, host: one.internal, port: 1111, user: one}
  - {name: extra, kind: tcp, impact: none, host: h, port: 1, depends_on: [database, redis]}",
        "service: {environment: two}
defaults: {timeout: 8s}
dependencies:
  - {name: extra, port: 2, interval: 3s, depends_on: [database]}
  - {name: database, port: 2222, user: two}
  - {name: mlflow, headers: {}}",
    ]);
    let mut sources = files.sources(&[("DATABASE_USER", "three"), ("SICKBAY_LISTEN", "127.0.0.1:1")]);
    sources.overrides.listen = Some("127.0.0.1:2".into());
    sources.overrides.log = Some("debug".into());
    sources.overrides.log_format = Some("text".into());
    let plan = load(&sources).unwrap();

    let database = postgres(&plan, "database");
    assert_eq!(
        (database.host().as_str(), *database.port(), database.user().as_str()),
        ("one.internal", 2222, "three")
    );
    assert_eq!(plan.server().listen().to_string(), "127.0.0.1:2");
    let extra = dependency(&plan, "extra").policy();
    assert_eq!((extra.depends_on.len(), extra.interval.as_secs(), extra.timeout.as_secs()), (1, 3, 8));

    assert!(plan.effective()["dependencies"][3].get("tls").is_none(), "not of `http://`");
    for (path, origin) in [
        ("service.name", "file 1.yaml"),
        ("service.environment", "file 2.yaml"),
        ("server.listen", "flag --listen"),
        ("server.operator.listen", "default"),
        ("log.filter", "flag --log"),
        ("log.format", "flag --log-format"),
        ("defaults.interval", "file 1.yaml"),
        ("defaults.startup_interval", "default"),
        ("dependencies.database.host", "file 1.yaml"),
        ("dependencies.database.port", "file 2.yaml"),
        ("dependencies.database.user", "variable DATABASE_USER"),
        ("dependencies.database.database", "default"),
        ("dependencies.database.interval", "file 1.yaml"),
        ("dependencies.database.timeout", "file 2.yaml"),
        ("dependencies.database.circuit.failure_threshold", "default"),
        ("dependencies.extra.interval", "file 2.yaml"),
        ("dependencies.extra.depends_on", "file 2.yaml"),
        ("dependencies.mlflow.headers", "file 2.yaml"),
        ("dependencies.redis.enabled", "REDIS_HOST is not set"),
    ] {
        assert_eq!(
            plan.origins().get(path).map(|origin| files.plain(origin)).as_deref(),
            Some(origin),
            "{path}"
        );
    }
}

#[test]
fn every_setting_has_an_origin() {
    let plan = plan(
        &["resolver: {nameservers: [127.0.0.1, '127.0.0.2:5353']}
dependencies:
  - {name: database, queries: [{name: a, sql: SELECT 1, expect: 1}, {name: b, sql: SELECT 2, min: 1, on_failure: warn}]}
  - {name: r, kind: redis, impact: none, host: h, tls: true, depends_on: [t, w]}
  - {name: t, kind: tcp, impact: none, host: h, port: 1}
  - {name: w, kind: http, impact: none, url: 'http://u:p@h/', expect: {status: [200, 201-204]}, headers: {X~y.z: a}}
  - {name: d, kind: dns, impact: none, query: n, nameservers: [127.0.0.1, system], expect: {addresses: [10.0.0.0/8]}}"],
        &[("DATABASE_HOST", "h"), ("MLFLOW_TRACKING_URI", "http://u:p@h")],
    );
    let mut seen = std::collections::BTreeMap::new();
    plan.each_setting(|path, value, origin| {
        assert_ne!(origin, "", "{path}: {value}");
        seen.insert(path, (value.to_string(), origin.rsplit('/').next().unwrap().to_owned()));
    });
    assert_eq!(seen.len(), plan.origins().len(), "and no origin is of nothing");
    for (path, value, origin) in [
        ("resolver.nameservers", r#"["127.0.0.1:53","127.0.0.2:5353"]"#, "1.yaml"),
        ("dependencies.database.queries[0].expect", "1", "1.yaml"),
        ("dependencies.database.queries[0].on_failure", r#""fail""#, "default"),
        ("dependencies.database.queries[1].on_failure", r#""warn""#, "1.yaml"),
        ("dependencies.redis.depends_on", "[]", "default"),
        ("dependencies.r.depends_on", r#"["t","w"]"#, "1.yaml"),
        ("dependencies.w.expect.status", r#"[200,"201-204"]"#, "1.yaml"),
        ("dependencies.w.headers.X~y.z", r#""***""#, "1.yaml"),
        ("dependencies.w.headers.Authorization", r#""***""#, "1.yaml"),
        ("dependencies.mlflow.expect.status", r#"["200-299"]"#, "default"),
        ("dependencies.mlflow.headers.Authorization", r#""***""#, "variable MLFLOW_TRACKING_URI"),
        ("dependencies.d.nameservers", r#"["127.0.0.1:53","system"]"#, "1.yaml"),
        ("dependencies.d.expect.addresses", r#"["10.0.0.0/8"]"#, "1.yaml"),
    ] {
        assert_eq!(seen.get(path), Some(&(value.to_owned(), origin.to_owned())), "{path}");
    }
}

/// Names are substituted before all else is, and once like all else: what a variable holds is a text.
#[test]
fn a_name_is_substituted_once() {
    let of =
        |name: &str| format!("dependencies: [{{name: '{name}', kind: tcp, impact: none, host: h, port: 1}}]");
    let named = plan(&[&of("a-${P}")], &[("P", "b")]);
    assert!(named.origins()["dependencies.a-b.port"].ends_with("1.yaml"), "{:?}", named.origins());
    let files = Files::new(&[&of("a-${P}")]);
    let secret = files.add("secret", "hunter2x");
    let refused = load(&files.sources(&[("P", &format!("${{file:{secret}}}"))])).unwrap_err().to_string();
    assert!(refused.contains("is no name of a dependency") && !refused.contains("hunter2x"), "{refused}");
    let dollars = errors(&[&of("a-$$${P}")], &[("P", "{Q}"), ("Q", "b")]);
    assert!(dollars[0].contains("`a-${Q}` is no name of a dependency"), "{dollars:?}");
}

#[test]
fn null_unsets_and_an_empty_section_says_nothing() {
    let base =
        "server: {operator: {listen: '127.0.0.1:1'}}\ndependencies: [{name: database, host: h, password: x}]";
    let plan = plan(
        &[
            base,
            "server:\n  operator: {listen: null}\ndefaults:\ndependencies:\n  - {name: database, password: null}",
        ],
        &[],
    );
    assert_eq!(plan.server().operator_listen(), &None);
    assert_eq!(postgres(&plan, "database").password(), &None);
    assert_eq!(dependency(&plan, "database").policy().interval.as_secs(), 10);
}

#[test]
fn another_kind_leaves_the_former_kinds_fields_behind() {
    let plan = plan(
        &["dependencies: [{name: database, kind: tcp, host: h, port: 1, expect: x}]"],
        &[("DATABASE_HOST", "other"), ("DATABASE_URL", "postgresql://h")],
    );
    assert_eq!(dependency(&plan, "database").policy().target, "h:1");
    assert_eq!(
        plan.warnings(),
        [
            "DATABASE_URL is ignored: it is for a dependency of kind postgres, and `database` is configured to be another",
            "DATABASE_HOST is ignored: it is for a dependency of kind postgres, and `database` is configured to be another",
        ]
    );
}

#[test]
fn another_kind_keeps_what_it_has_as_well() {
    let lower = "dependencies:
  - {name: a, kind: redis, impact: none, host: h, port: 1, password: p, tls: {verify: ca}, username: u}
  - {name: b, kind: tcp, impact: none, host: h, port: 1, expect: x}
  - {name: c, kind: tcp, impact: none, host: h, port: 7, tls: maybe, prot: 1}";
    let next = |entry: &str| [lower.to_owned(), format!("dependencies: [{entry}]")];
    let plan_of = |entry: &str| {
        let lower = lower.rsplit_once('\n').unwrap().0;
        plan(&[lower, &next(entry)[1]], &[])
    };
    let a = plan_of("{name: a, kind: postgres}");
    let a = postgres(&a, "a");
    assert_eq!((a.host().as_str(), *a.port(), a.password().is_some()), ("h", 1, true));
    assert_eq!(a.user(), "postgres");
    let b = plan_of("{name: b, kind: http, url: 'http://h/'}");
    assert_eq!(http(&b, "b").expect_body(), &None, "what `expect` says to tcp means nothing to http");
    let without = "dependencies: [{name: c, impact: none, host: h, prot: 1}]";
    let found = errors(&[without, "dependencies: [{name: c, kind: redis}]"], &[]);
    assert!(found[0].contains("`prot` is unknown") && found.len() == 1, "{found:?}");
    let [lower, upper] = next("{name: c, kind: redis}");
    let found = errors(&[&lower, &upper], &[]);
    assert!(found[0].contains("`maybe` is not valid") && found[1].contains("`prot` is unknown"), "{found:?}");
    assert_eq!(found.len(), 2, "what no kind could read is told");
}

#[test]
fn what_comes_out_empty_leaves_what_is_below() {
    let plan = plan(
        &[
            "server: {drain: 3s}\ndependencies: [{name: redis, host: h, tls: true, password: p}]",
            "server: {drain: '${NONE:-}'}
service: {name: '${NONE:-}'}
dependencies:
  - {name: redis, host: '${NONE:-}', tls: '${NONE:-}', password: '${NONE:-}', circuit: {failure_threshold: '${NONE:-}'}}",
        ],
        &[],
    );
    assert_eq!((plan.server().drain().as_secs(), plan.service().name().as_str()), (3, "api"));
    let cache = redis(&plan, "redis");
    assert_eq!((cache.host().as_str(), cache.tls().is_some(), cache.password().is_some()), ("h", true, true));
    assert_eq!(plan.origins()["service.name"], "default");
    assert_eq!(plan.origins()["dependencies.redis.circuit.failure_threshold"], "default");
}

#[test]
fn a_substitution_takes_the_type_of_its_field() {
    let text = "server: {admin_token: '${TOKEN:-}', drain: '${DRAIN:-7s}'}
dependencies:
  - name: database
    host: ${HOST}.internal
    port: ${PORT}
    enabled: ${ON}
    user: ${PORT}
    password: a$$b
    pool: {max: '${MAX:-3}'}
  - {name: \"${NAME:-extra}\", kind: '${KIND:-redis}', impact: none, host: h, tls: '${TLS:-true}'}
  - {name: off, kind: redis, impact: none, host: h, tls: '${NOTLS:-}'}";
    let plan = plan(&[text], &[("HOST", "db"), ("PORT", "6000"), ("ON", "yes"), ("TOKEN", "")]);
    assert_eq!((plan.server().admin_token(), plan.server().drain().as_secs()), (&None, 7));
    let database = postgres(&plan, "database");
    assert_eq!(
        (database.host().as_str(), *database.port(), database.user().as_str()),
        ("db.internal", 6000, "6000")
    );
    assert_eq!((database.password().as_ref().unwrap().expose(), database.pool_max().get()), ("a$b", 3));
    assert!(redis(&plan, "extra").tls().is_some());
    assert!(redis(&plan, "off").tls().is_none());
}

#[test]
fn tls_merges_whichever_way_it_is_written() {
    let entry = |tls: &str| format!("dependencies: [{{name: redis, kind: redis, host: h, tls: {tls}}}]");
    let tls = |lower: &str, upper: &str| {
        let plan = plan(&[&entry(lower), &entry(upper)], &[]);
        redis(&plan, "redis").tls().as_ref().map(|tls| tls.verify().as_str())
    };
    assert_eq!(tls("true", "{verify: ca}"), Some("ca"));
    assert_eq!(tls("{verify: ca}", "true"), Some("ca"));
    assert_eq!(tls("{verify: ca}", "false"), None);
    assert_eq!(tls("null", "{verify: none}"), Some("none"));
}

#[test]
fn the_variable_names_a_file_where_no_flag_does() {
    let files = Files::new(&["service: {name: flagged}"]);
    let other = files.add("other.yaml", "service: {name: other, environment: other}");
    let flagged = load(&files.sources(&[("SICKBAY_CONFIG", &other)])).unwrap();
    assert_eq!(
        (flagged.service().name().as_str(), flagged.service().environment().as_str()),
        ("flagged", "development")
    );
    let sources = Sources { files: Vec::new(), ..files.sources(&[("SICKBAY_CONFIG", &other)]) };
    assert_eq!(load(&sources).unwrap().service().name(), "other");
}

/// What is shown can be given back as a file, and means the same.
#[test]
fn the_effective_configuration_reads_back() {
    let text = "dependencies:
  - {name: p, kind: postgres, impact: none, host: h, role: primary, interval: 1s}
  - {name: r, kind: redis, impact: none, host: h, tls: {verify: ca}, fallback_of: p,
     warn: {memory_used: off, evictions: 10/m}}
  - {name: d, kind: dns, impact: none, query: h, nameservers: [system, 10.0.0.2], expect: {addresses: [10.0.0.0/8]}}
  - {name: t, kind: tcp, impact: none, host: '::1', port: 1, expect: 'a$${b}$$'}
  - {name: h, kind: http, impact: none, url: 'http://h/x', expect: {status: [200, 300-302], body: ok}, depends_on: [p]}";
    let first =
        plan(&[text], &[("DATABASE_HOST", "db"), ("API_PORT", "1"), ("MLFLOW_TRACKING_URI", "http://m")]);
    let again = plan(&[&first.as_file()], &[]);
    assert_eq!(again.effective(), first.effective());
    assert_eq!(again.warnings(), first.warnings());
    let enabled = |plan: &Plan| {
        plan.dependencies().iter().filter(|d| d.policy().enabled()).cloned().collect::<Vec<_>>()
    };
    assert_eq!(enabled(&again), enabled(&first));
}
