//! One invalid configuration per rule, with its whole message.

use super::*;

/// The errors of one more dependency, called `x`, with the part that all of them share left out.
fn of_dependency(fields: &str) -> Vec<String> {
    let found = of_file(&format!("dependencies: [{{name: x, impact: none, {fields}}}]"));
    found.iter().map(|error| error.replace("dependencies.x.", "…")).collect()
}

fn of_file(text: &str) -> Vec<String> {
    errors(&[text], &[]).iter().map(|error| without_origin(error)).collect()
}

/// Every error of these has the same origin.
fn without_origin(error: &str) -> String {
    let error = error.trim_start_matches("error: ");
    let Some(start) = error.find(" (file 1.yaml") else { return error.to_owned() };
    let length = error[start..].find(')').unwrap() + 1;
    format!("{}{}", &error[..start], &error[start + length..])
}

#[test]
fn rules_of_single_fields() {
    for (fields, expected) in [
        ("kind: tcp, host: h, port: 0", "`0` is out of range, at …port; allowed: 1 to 65535"),
        ("kind: tcp, host: h, port: 65536", "`65536` is out of range, at …port; allowed: 1 to 65535"),
        (
            "kind: tcp, host: h, port: -1",
            "`-1` is not valid, at …port; allowed: a whole number, not negative",
        ),
        (
            "kind: tcp, host: h, port: '80'",
            "`80` is not valid, at …port; allowed: a whole number, not negative; remove the quotes",
        ),
        (
            "kind: tcp, host: 'h:80', port: 80",
            "`h:80` is no host, at …host; allowed: a host name or an IP address; write the port into `port`",
        ),
        (
            "kind: tcp, host: 'tcp://h', port: 80",
            "the value (not shown: it may hold a password) is a URL and no host, at …host; \
             allowed: a host name or an IP address; write its host alone",
        ),
        (
            "kind: postgres, host: /var/run/postgresql",
            "`/var/run/postgresql` is a path and no host, at …host; \
             allowed: a host name or an IP address; Unix sockets are not supported",
        ),
        (
            "kind: tcp, host: a b, port: 80",
            "`a b` is no host, at …host; allowed: a host name or an IP address; correct it",
        ),
        ("kind: tcp, port: 80", "`host` is required, at …host; set it, or write `enabled: false`"),
        ("kind: tcp, host: h", "`port` is required, at …port; set it, or write `enabled: false`"),
        ("kind: postgres", "`host` is required, at …host; set it, or write `enabled: false`"),
        ("kind: redis", "`host` is required, at …host; set it, or write `enabled: false`"),
        ("kind: dns", "`query` is required, at …query; set it, or write `enabled: false`"),
        ("kind: http", "`url` is required, at …url; set it, or write `enabled: false`"),
        (
            "kind: mysql, host: h",
            "`mysql` is not valid, at …kind; allowed: `postgres`, `redis`, `dns`, `tcp`, `http`",
        ),
        (
            "host: h",
            "`kind` is required, at …kind; allowed: `postgres`, `redis`, `dns`, `tcp`, `http`; say what is spoken with it",
        ),
        (
            "kind: postgres, host: h, sslmode: allow",
            "`allow` is not valid, at …sslmode; allowed: `disable`, `prefer`, `require`, `verify-ca`, `verify-full`",
        ),
        (
            "kind: postgres, host: h, role: master",
            "`master` is not valid, at …role; allowed: `any`, `primary`, `replica`",
        ),
        ("kind: postgres, host: h, pool: {max: 0}", "`0` is out of range, at …pool.max; allowed: 1 to 100"),
        (
            "kind: postgres, host: h, reconnect_every: 0",
            "`0` is out of range, at …reconnect_every; allowed: 1 to 10000",
        ),
        (
            "kind: postgres, host: h, root_cert: /nonexistent/ca.pem",
            "the file `/nonexistent/ca.pem` does not exist, at …root_cert; \
             allowed: a readable PEM file of certificates, or `system`; check the path in this container",
        ),
        (
            "kind: postgres, host: h, queries: []",
            "`queries` is not yet supported in this version, at …queries; remove it",
        ),
        (
            "kind: redis, host: h, mode: sentinel",
            "the mode `sentinel` is not yet supported in this version, at …mode; allowed: `standalone`",
        ),
        ("kind: redis, host: h, mode: x", "`x` is not valid, at …mode; allowed: `standalone`"),
        (
            "kind: redis, host: h, tls: {verify: some}",
            "`some` is not valid, at …tls.verify; allowed: `full`, `ca`, `none`",
        ),
        (
            "kind: redis, host: h, tls: maybe",
            "`maybe` is not valid, at …tls.enabled; allowed: `true` or `false`",
        ),
        (
            "kind: dns, query: 10.0.0.1",
            "`10.0.0.1` is an address and no name, at …query; allowed: a name to resolve",
        ),
        (
            "kind: dns, query: h, record: MX",
            "`MX` is not valid, at …record; allowed: `A`, `AAAA`, `CNAME`, `SRV`, `TXT`",
        ),
        (
            "kind: dns, query: h, nameservers: [system, ns1]",
            "`ns1` is no name server, at …nameservers[1]; allowed: `system`, or an IP address with or without a port",
        ),
        (
            "kind: dns, query: h, nameservers: []",
            "the list is empty, at …nameservers; allowed: at least one of `system` or an address",
        ),
        (
            "kind: dns, query: h, expect: {addresses: [10.0.0.0/33]}",
            "`10.0.0.0/33` is no network, at …expect.addresses[0]; allowed: a network such as `10.0.0.0/8`, or an address",
        ),
        (
            "kind: dns, query: h, record: TXT, expect: {addresses: [10.0.0.0/8]}",
            "a record of type TXT has no addresses, at …expect.addresses; ask for `A` or `AAAA`, or remove the networks",
        ),
        ("kind: dns, query: h, expect: {min: 0}", "`0` is out of range, at …expect.min; allowed: 1 to 100"),
        (
            "kind: http, url: 'ftp://h'",
            "the URL is neither HTTP nor HTTPS, at …url; allowed: `http://host[:port]/path` or `https://…`; correct it",
        ),
        (
            "kind: http, url: h/x",
            "the URL has no scheme, at …url; allowed: `http://host[:port]/path` or `https://…`; begin with `http://`",
        ),
        (
            "kind: http, url: 'http://'",
            "the URL cannot be read: empty host, at …url; allowed: `http://host[:port]/path` or `https://…`; correct it",
        ),
        (
            "kind: http, url: 'http://h', method: FETCH",
            "`FETCH` is not valid, at …method; allowed: `GET`, `HEAD`, `OPTIONS`, `POST`",
        ),
        (
            "kind: http, url: 'http://u:hunter2@h', headers: {authorization: hunter2}",
            "the URL has user info and there is an `Authorization` header, at …url; allowed: one of the two; remove one",
        ),
        (
            "kind: http, url: 'http://h', headers: {Upgrade: x}",
            "the header `Upgrade` cannot be set, at …headers.Upgrade; remove it",
        ),
        (
            "kind: http, url: 'http://h', headers: {X-Key: a, x-key: b}",
            "the header stands here twice, spelled in upper and in lower case, at …headers.x-key; remove one",
        ),
        (
            "kind: http, url: 'http://h', headers: {'a b': x}",
            "this is no name of a header, at …headers.<key>; allowed: letters, digits and ``!#$%&'*+-.^_`|~``",
        ),
        (
            "kind: http, url: 'http://h', headers: {X-Key: \"hunter2\\r\\n\"}",
            "the value (not shown: it is a secret) cannot be sent in a header, at …headers.X-Key; \
             allowed: visible ASCII characters, spaces and tabs",
        ),
        (
            "kind: http, url: 'http://h', expect: {status: [99]}",
            "`99` is not valid, at …expect.status[0]; allowed: a status code from 100 to 599, or a range such as `200-299`",
        ),
        (
            "kind: http, url: 'http://h', expect: {status: [200, 299-200]}",
            "`299-200` is not valid, at …expect.status[1]; allowed: a status code from 100 to 599, or a range such as `200-299`",
        ),
        (
            "kind: http, url: 'http://h', expect: {status: []}",
            "the list is empty, at …expect.status; allowed: at least one status code or range",
        ),
        (
            "kind: http, url: 'https://h', tls: false",
            "an `https` URL cannot be asked without TLS, at …tls; write `http`, or remove `tls`",
        ),
        (
            "kind: redis, host: h, interval: 10",
            "`10` is not valid, at …interval; allowed: a whole number with its unit, such as `250ms`, `10s`, `1m30s`, `1h` or `14d`; add the unit",
        ),
        (
            "kind: redis, host: h, interval: 99ms",
            "`99ms` is out of range, at …interval; allowed: 100ms to 24h",
        ),
        ("kind: redis, host: h, timeout: 0s", "`0s` is out of range, at …timeout; allowed: 1ms to 24h"),
        (
            "kind: redis, host: h, slow_after: 0ms",
            "`0s` is out of range, at …slow_after; allowed: 1ms to 24h",
        ),
        (
            "kind: redis, host: h, certificate_warning: 30m",
            "`1800s` is out of range, at …certificate_warning; allowed: 1h to 365d",
        ),
        ("kind: redis, host: h, interval: 25h", "`25h` is out of range, at …interval; allowed: 100ms to 24h"),
        (
            "kind: redis, host: h, retry: {attempts: 11}",
            "`11` is out of range, at …retry.attempts; allowed: 1 to 10",
        ),
        (
            "kind: redis, host: h, retry: {attempts: 0}",
            "`0` is out of range, at …retry.attempts; allowed: 1 to 10",
        ),
        (
            "kind: redis, host: h, retry: {multiplier: 0.5}",
            "`0.5` is out of range, at …retry.multiplier; allowed: 1 to 100",
        ),
        (
            "kind: redis, host: h, retry: {multiplier: 1.0e+300}",
            "`1e300` is out of range, at …retry.multiplier; allowed: 1 to 100",
        ),
        (
            "kind: redis, host: h, queries: []",
            "`queries` is unknown, at …queries; allowed: `host`, `port`, `username`, `password`, `tls`, `mode`, \
             `role`, `reconnect_every`, `name`, `kind`, `impact`, `scope`, `enabled`, `depends_on`, `fallback_of`, \
             `interval`, `startup_interval`, `timeout`, `connect_timeout`, `slow_after`, `certificate_warning`, `retry`, `circuit`; remove it",
        ),
        (
            "kind: redis, host: h, retry: {jitter: some}",
            "`some` is not valid, at …retry.jitter; allowed: `full`, `none`",
        ),
        (
            "kind: redis, host: h, retry: {initial: 3s}",
            "the longest pause, `2s`, is shorter than the first, `3s`, at …retry.initial; \
             allowed: `max` of at least `initial`; set both",
        ),
        (
            "kind: redis, host: h, circuit: {failure_threshold: 0}",
            "`0` is out of range, at …circuit.failure_threshold; allowed: 1 to 1000",
        ),
        (
            "kind: redis, host: h, circuit: {success_threshold: 0}",
            "`0` is out of range, at …circuit.success_threshold; allowed: 1 to 1000",
        ),
        (
            "kind: redis, host: h, connect_timeout: 11s",
            "`11s` is longer than the timeout of the whole check, `10s`, at …connect_timeout; \
             allowed: at most `timeout`; shorten `connect_timeout` or lengthen `timeout`",
        ),
        ("kind: redis, host: h, scope: mine", "`mine` is not valid, at …scope; allowed: `local`, `shared`"),
        (
            "kind: redis, host: h, depends_on: [x]",
            "a dependency refers to itself, at …depends_on[0]; allowed: another dependency; remove it",
        ),
        (
            "kind: redis, host: h, fallback_of: x",
            "a dependency refers to itself, at …fallback_of; allowed: another dependency; remove it",
        ),
        (
            "kind: redis, host: h, depends_on: [databse]",
            "there is no dependency `databse`, at …depends_on[0]; \
             allowed: `database`, `redis`, `api`, `mlflow`, `dns`; did you mean `database`?",
        ),
        (
            "kind: redis, host: h, fallback_of: primary",
            "there is no dependency `primary`, at …fallback_of; \
             allowed: `database`, `redis`, `api`, `mlflow`, `dns`; add it, or remove the reference",
        ),
        (
            "kind: redis, host: h, fallback_of: y}, {name: y, kind: redis, impact: none, host: h, fallback_of: x",
            "`y` and `x` are fallbacks of each other, at dependencies.y.fallback_of; \
             allowed: `fallback_of` at one of the two; remove the other",
        ),
        (
            "kind: redis, host: h, intervall: 5s",
            "`intervall` is unknown, at …intervall; allowed: `host`, `port`, `username`, `password`, `tls`, `mode`, \
             `role`, `reconnect_every`, `name`, `kind`, `impact`, `scope`, `enabled`, `depends_on`, `fallback_of`, \
             `interval`, `startup_interval`, `timeout`, `connect_timeout`, `slow_after`, `certificate_warning`, `retry`, `circuit`; \
             did you mean `interval`?",
        ),
    ] {
        assert_eq!(of_dependency(fields), [expected], "{fields}");
    }
}

#[test]
fn rules_of_the_other_sections() {
    for (text, expected) in [
        (
            "dependencies: [{name: x, kind: redis, host: h}]",
            "`impact` is required, at dependencies.x.impact; allowed: `critical`, `degraded`, `none`; say what its failure does to the service",
        ),
        (
            "dependencies: [{kind: redis, host: h, impact: none}]",
            "the dependency has no name, at dependencies[0].name; give it one",
        ),
        (
            "dependencies: [{name: My DB, kind: redis, host: h, impact: none}]",
            "`My DB` is no name of a dependency, at dependencies.<key>.name; \
             allowed: 1 to 63 lower-case letters, digits, `-` and `_`, beginning with a letter",
        ),
        (
            "dependencies: [{name: x, kind: redis, host: h, impact: none}, {name: x}]",
            "there are two dependencies called `x`, at dependencies[1].name; rename one of them, or merge them",
        ),
        (
            "dependencies: {database: {}}",
            "a map is not valid, at dependencies; allowed: a list of entries, each with a `name` and a `kind`",
        ),
        (
            "dependencies: [database]",
            "a single value is not valid, at dependencies[0]; allowed: a map with a `name` and a `kind`",
        ),
        (
            "dependencies: [{name: database, enabled: true}]",
            "`host` is required, at dependencies.database.host; set it or DATABASE_HOST, or disable the dependency",
        ),
        (
            "server: {listen: 8686}",
            "`8686` is not valid, at server.listen; allowed: a text; put it in quotes",
        ),
        (
            "server: {listen: 'localhost:8686'}",
            "`localhost:8686` is no address and port, at server.listen; \
             allowed: an IP address and a port, such as `0.0.0.0:8686` or `[::]:8686`",
        ),
        (
            "server: {operator: {listen: '127.0.0.1:8686'}}",
            "both listeners are on the same address and port, at server.operator.listen; \
             allowed: an address and port other than `server.listen`; choose another port",
        ),
        (
            "server: {admin_token: hunter2 hunter2}",
            "the token (not shown) cannot be sent in a header, at server.admin_token; \
             allowed: visible ASCII characters without spaces; make another token",
        ),
        (
            "server: {drain: null}",
            "`drain` is required, at server.drain; set it, or leave it out for the compiled-in default",
        ),
        (
            "defaults: {interval: null}",
            "`interval` is required, at defaults.interval; set it, or leave it out for the compiled-in default",
        ),
        ("service: {name: ''}", "`` is no name, at service.name; allowed: 1 to 255 characters"),
        ("service: 5", "a single value is not valid, at service; allowed: a map"),
        ("log: {events: 1}", "`events` is unknown, at log.events; allowed: `filter`, `format`; remove it"),
        (
            "log: {filter: 'a=b=c'}",
            "`a=b=c` is no log filter, at log.filter; allowed: a level, or levels by target: `info`, `sickbay=debug,warn`",
        ),
        ("log: {format: xml}", "`xml` is not valid, at log.format; allowed: `json`, `text`"),
        ("metrics: {}", "`metrics` is not yet supported in this version, at metrics; remove it"),
        ("events: {}", "`events` is not yet supported in this version, at events; remove it"),
        ("alarms: {}", "`alarms` is not yet supported in this version, at alarms; remove it"),
        (
            "sever: {}",
            "`sever` is unknown, at sever; allowed: `service`, `server`, `log`, `defaults`, `dependencies`; did you mean `server`?",
        ),
        (
            "defaults: {connect_timeout: 11s}",
            "`11s` is longer than the timeout of the whole check, `10s`, at defaults.connect_timeout; \
             allowed: at most `timeout`; shorten `connect_timeout` or lengthen `timeout`",
        ),
        (
            "service: {name: '${NOPE}'}",
            "the variable NOPE is not set, at service.name; set it, or give a default: `${NOPE:-…}`",
        ),
    ] {
        assert_eq!(of_file(text), [expected], "{text}");
    }
}

#[test]
fn all_errors_of_all_layers_at_once() {
    let found = errors(
        &[
            "service: {name: [a]}\ndependencies: [{name: database, host: h, port: 70000}]",
            "defaults: {timeout: 5}",
        ],
        &[("RETRY_ATTEMPTS", "many"), ("SICKBAY_DRAIN", "20")],
    );
    assert_eq!(
        found,
        [
            "error: a list is not valid, at service.name (file 1.yaml, line 1 column 11); allowed: a text",
            "error: `20` is not valid, at server.drain (variable SICKBAY_DRAIN); allowed: a whole number with its unit, \
         such as `250ms`, `10s`, `1m30s`, `1h` or `14d`; add the unit",
            "error: `5` is not valid, at defaults.timeout (file 2.yaml, line 1 column 12); allowed: a whole number with its unit, \
         such as `250ms`, `10s`, `1m30s`, `1h` or `14d`; add the unit",
            "error: `many` is not valid, at defaults.retry.attempts (variable RETRY_ATTEMPTS); \
         allowed: a whole number, not negative",
            "error: `70000` is out of range, at dependencies.database.port (file 1.yaml, line 2 column 42); allowed: 1 to 65535",
        ]
    );
}

#[test]
fn files_that_are_no_configuration() {
    const ADVICE: &str = "; allowed: a regular file of text that this user may read, of at most 1 MiB; \
                          check the path; what is larger can be given as several files";
    let files = Files::new(&[]);
    let load_one = |path: String| {
        let sources = Sources { files: vec![path.into()], ..Sources::default() };
        files.plain(&load(&sources).unwrap_err().to_string())
    };
    let missing = format!("{}/none.yaml", files.dir.path().display());
    assert_eq!(load_one(missing), format!("error: the configuration file none.yaml does not exist{ADVICE}"));
    let large = files.add("large.yaml", &"#".repeat(1024 * 1024 + 1));
    assert_eq!(
        load_one(large),
        format!("error: the configuration file large.yaml is larger than 1024 KiB{ADVICE}")
    );
    let binary = files.add("binary.yaml", "");
    std::fs::write(&binary, b"a: \xff").unwrap();
    assert_eq!(
        load_one(binary),
        format!("error: the configuration file binary.yaml is not UTF-8 text{ADVICE}")
    );
}

/// It may be the file that would have said what is missing.
#[test]
fn what_follows_from_an_unread_file_is_not_told() {
    let others = "dependencies: [{name: database, enabled: true, port: '${NOPE}'}]";
    assert_eq!(
        errors(&[others, "a: 'b"], &[]),
        [
            "error: the variable NOPE is not set, at dependencies.database.port (file 1.yaml, line 1 column 48); \
             set it, or give a default: `${NOPE:-…}`",
            "error: not valid YAML: found unexpected end of stream at line 1 column 6, while scanning a quoted scalar \
             at line 1 column 4, in file 2.yaml; correct the YAML",
        ]
    );
}

#[test]
fn shorter_timeouts_shorten_what_was_not_set_for_them() {
    let plan = plan(
        &[
            "defaults: {timeout: 2s}\ndependencies: [{name: x, kind: redis, impact: none, host: h, timeout: 1s}]",
        ],
        &[],
    );
    assert_eq!(dependency(&plan, "x").connect_timeout().as_secs(), 1);
    assert_eq!(dependency(&plan, "database").connect_timeout().as_secs(), 2);
}

#[test]
fn scope_follows_the_host_where_it_is_not_given() {
    for (host, scope) in [
        ("127.0.0.1", "local"),
        ("'::1'", "local"),
        ("localhost", "local"),
        ("db", "shared"),
        ("10.0.0.1", "shared"),
    ] {
        let plan =
            plan(&[&format!("dependencies: [{{name: x, kind: redis, impact: none, host: {host}}}]")], &[]);
        assert_eq!(dependency(&plan, "x").policy().scope.as_str(), scope, "{host}");
    }
    let given = plan(
        &["dependencies: [{name: x, kind: http, impact: none, scope: shared, url: 'http://127.0.0.1/'}]"],
        &[],
    );
    assert_eq!(dependency(&given, "x").policy().scope.as_str(), "shared");
}

#[test]
fn what_is_switched_off_needs_no_target() {
    let plan = plan(
        &["dependencies: [{name: x, kind: postgres, impact: critical, enabled: false, root_cert: /none}]"],
        &[],
    );
    assert_eq!(disabled(&plan, "x").as_deref(), Some("disabled by configuration"));
    assert_eq!(dependency(&plan, "x").probe(), &None);
    assert_eq!(plan.effective()["dependencies"][5]["host"], serde_json::Value::Null);
}

#[test]
fn a_password_to_an_unverified_server_is_warned_about() {
    let warnings = |fields: &str| {
        plan(&[&format!("dependencies: [{{name: x, impact: none, password: p, {fields}}}]")], &[])
            .warnings()
            .iter()
            .filter(|warning| *warning != NOTHING)
            .cloned()
            .collect::<Vec<_>>()
    };
    let postgres =
        "x: the password goes to a server that is not verified; sslmode is `prefer`, set `verify-full`";
    assert_eq!(warnings("kind: postgres, host: h"), [postgres]);
    let redis = "x: the password goes to a server that is not verified; set `tls: true`";
    assert_eq!(warnings("kind: redis, host: h"), [redis]);
    let unverified = "x: the password goes to a server that is not verified; set `tls.verify` to `full`";
    assert_eq!(warnings("kind: redis, host: h, tls: {verify: none}"), [unverified]);
    for fine in [
        "kind: postgres, host: 127.0.0.1",
        "kind: postgres, host: h, sslmode: verify-full",
        "kind: redis, host: localhost",
        "kind: redis, host: h, tls: true",
        "kind: redis, host: h, enabled: false",
    ] {
        assert_eq!(warnings(fine), [] as [&str; 0], "{fine}");
    }
}

#[test]
fn a_redis_user_without_a_password_is_warned_about() {
    let file = |fields: &str| {
        format!("dependencies: [{{name: x, kind: redis, impact: none, host: localhost, {fields}}}]")
    };
    let told = "x: `username` is not used, because there is no `password`; set it, or remove `username`";
    assert_eq!(plan(&[&file("username: u")], &[]).warnings(), [told]);
    assert_eq!(plan(&[&file("username: u, password: ''")], &[]).warnings(), [told]);
    for fine in ["username: u, password: p", "password: p", "username: u, enabled: false"] {
        assert!(!plan(&[&file(fine)], &[]).warnings().contains(&told.to_owned()), "{fine}");
    }
}

/// Elements that cannot be read leave the places of the others as they are.
#[test]
fn errors_in_lists_have_the_places_of_the_file() {
    let file = "dependencies:
  - {name: x, kind: dns, impact: none, query: h, depends_on: [1, nobody, [], x],
     nameservers: [true, system, ns1, '${NOPE}', ns2], expect: {addresses: [7, 10.0.0.0/8, here]}}";
    let found = of_file(file);
    let what: Vec<_> =
        found.iter().map(|error| error.split(';').next().unwrap().replace("dependencies.x.", "…")).collect();
    assert_eq!(
        what,
        [
            "the variable NOPE is not set, at …nameservers[3]",
            "`1` is not valid, at …depends_on[0]",
            "a list is not valid, at …depends_on[2]",
            "`true` is not valid, at …nameservers[0]",
            "`7` is not valid, at …expect.addresses[0]",
            "there is no dependency `nobody`, at …depends_on[1]",
            "a dependency refers to itself, at …depends_on[3]",
            "`ns1` is no name server, at …nameservers[2]",
            "`ns2` is no name server, at …nameservers[4]",
            "`here` is no network, at …expect.addresses[2]",
        ]
    );
}

/// One that was named for it, and every dependency would be told that its own values do not fit.
#[test]
fn what_is_wrong_in_defaults_is_told_once() {
    for (text, expected) in [
        (
            "defaults: {retry: {initial: 5s}}",
            "the longest pause, `2s`, is shorter than the first, `5s`, at defaults.retry.initial; \
             allowed: `max` of at least `initial`; set both",
        ),
        (
            "defaults: {timeout: soon}\n\
             dependencies: [{name: x, kind: redis, impact: none, host: h, connect_timeout: 3s}]",
            "`soon` is not valid, at defaults.timeout; \
             allowed: a whole number with its unit, such as `250ms`, `10s`, `1m30s`, `1h` or `14d`",
        ),
    ] {
        assert_eq!(of_file(text), [expected], "{text}");
    }
}

#[test]
fn what_is_missing_is_placed_by_what_there_is() {
    let found = errors(
        &[
            "dependencies:\n  - name: a\n    host: h\n  - {name: b, kind: tcp, host: h}\n",
            "dependencies:\n  - {name: database, enabled: true}\n",
        ],
        &[],
    );
    assert_eq!(
        found,
        [
            "error: `kind` is required, at dependencies.a.kind (file 1.yaml, line 2 column 5); \
             allowed: `postgres`, `redis`, `dns`, `tcp`, `http`; say what is spoken with it",
            "error: `host` is required, at dependencies.database.host (file 2.yaml, line 2 column 6); \
             set it or DATABASE_HOST, or disable the dependency",
            "error: `impact` is required, at dependencies.a.impact (file 1.yaml, line 2 column 5); \
             allowed: `critical`, `degraded`, `none`; say what its failure does to the service",
            "error: `impact` is required, at dependencies.b.impact (file 1.yaml, line 4 column 6); \
             allowed: `critical`, `degraded`, `none`; say what its failure does to the service",
            "error: `port` is required, at dependencies.b.port (file 1.yaml, line 4 column 6); \
             set it, or write `enabled: false`",
        ]
    );
}

#[test]
fn a_wrong_reference_lists_some_of_many_names() {
    let entries: String = (0..2_000)
        .map(|n| format!("  - {{name: d{n}, kind: redis, impact: none, host: h, depends_on: [nobody]}}\n"))
        .collect();
    let found = of_file(&format!("dependencies:\n{entries}"));
    assert_eq!(found.len(), 101);
    assert!(found[0].contains("`dns`, `d1`, `d2`"), "{}", found[0]);
    assert!(found[0].contains(" and 1984 more; add it, or remove the reference"), "{}", found[0]);
}

#[test]
fn an_empty_text_is_as_good_as_none() {
    let plan = plan(
        &["dependencies:
  - {name: p, kind: postgres, impact: none, host: h, user: '', database: ''}
  - {name: r, kind: redis, impact: none, host: h, username: ''}"],
        &[],
    );
    let p = postgres(&plan, "p");
    assert_eq!((p.user().as_str(), p.database().as_str()), ("postgres", "postgres"));
    assert_eq!(redis(&plan, "r").username(), &None);
}

#[test]
fn an_address_may_stand_in_brackets() {
    let plan = plan(
        &["dependencies: [{name: x, kind: redis, impact: none, host: '[::1]'}]"],
        &[("DATABASE_HOST", "[fd00::5]")],
    );
    assert_eq!(redis(&plan, "x").host(), "::1");
    assert_eq!(dependency(&plan, "x").policy().scope.as_str(), "local");
    assert_eq!(dependency(&plan, "database").policy().target, "[fd00::5]:5432/mlflow_db");
    assert_eq!(disabled(&plan, "dns").as_deref(), Some("DNS_NAME is not set"), "an address is no name");
}

/// The limits leave room for what a fleet might have.
#[test]
fn five_thousand_dependencies_are_read() {
    let entries: String = (0..5_000)
        .map(|n| {
            format!(
                "  - {{name: d{n}, kind: http, impact: none, url: 'http://h{n}/', method: GET, interval: 10s, \
                 timeout: 5s, slow_after: 1s, scope: shared, enabled: true}}\n"
            )
        })
        .collect();
    assert_eq!(plan(&[&format!("dependencies:\n{entries}")], &[]).dependencies().len(), 5_005);
}

/// Every pass over a wrong file costs time; their number is bounded.
#[test]
fn a_file_of_nothing_but_errors_ends_soon() {
    let keys: String = (0..2_000).map(|n| format!("key-{n}: x\n")).collect();
    let entries: String = (0..500).map(|n| format!("  - {{name: d{n}, kind: tcp, prot: 1}}\n")).collect();
    for text in [keys, format!("dependencies:\n{entries}")] {
        let found = of_file(&text);
        assert_eq!(found.len(), 101);
        assert_eq!(found[100], "more than 100 errors; correct these first");
    }
}

#[test]
fn a_log_filter_of_a_word_that_is_no_level_is_refused() {
    let allowed = "a level, or levels by target: `info`, `sickbay=debug,warn`";
    for (filter, advice) in
        [("debg", "; did you mean `debug`?"), ("info,wran", "; did you mean `warn`?"), ("verbose", "")]
    {
        let word = filter.rsplit(',').next().unwrap();
        let expected = format!(
            "error: `{word}` is no level, at log.filter (variable SICKBAY_LOG); allowed: {allowed}{advice}"
        );
        assert_eq!(errors(&[], &[("SICKBAY_LOG", filter)]), [expected]);
    }
    for fine in ["info", "WARN", "sickbay", "sickbay::probe", "sickbay=debug,warn", "off"] {
        assert_eq!(plan(&[], &[("SICKBAY_LOG", fine)]).log().filter(), fine);
    }
}
