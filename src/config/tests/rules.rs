//! What the rules do beside refusing: what they warn about, what they leave out, and how many errors they tell.
//! What each refuses, and in which words, is in `tests/data/config`.

use std::time::Duration;

use super::*;
use crate::config::token::{Digest, Verb};

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
            "error: `70000` is out of range, at dependencies.database.port (file 1.yaml, line 2 column 42); allowed: 1 to 65535",
            "error: `5` is not valid, at defaults.timeout (file 2.yaml, line 1 column 12); allowed: a whole number with its unit, \
             such as `250ms`, `10s`, `1m30s`, `1h` or `14d`; add the unit",
            "error: `20` is not valid, at server.drain (variable SICKBAY_DRAIN); allowed: a whole number with its unit, \
             such as `250ms`, `10s`, `1m30s`, `1h` or `14d`; add the unit",
            "error: `many` is not valid, at defaults.retry.attempts (variable RETRY_ATTEMPTS); \
             allowed: a whole number, not negative",
        ]
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
fn authorities_that_keep_nobody_out_are_warned_about() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, "-----BEGIN CERTIFICATE-----\n").unwrap();
    let warnings = |fields: &str| {
        let dependency = format!(
            "dependencies: [{{name: x, kind: postgres, host: h, impact: none, root_cert: '{}', {fields}}}]",
            file.display()
        );
        let plan = plan(&[&dependency], &[]);
        plan.warnings().iter().filter(|warning| *warning != NOTHING).cloned().collect::<Vec<_>>()
    };
    let vain = |mode: &str, why: &str| {
        format!("x: `root_cert` protects nothing: sslmode is `{mode}`, so {why}; set `verify-full`")
    };
    let unsigned = "a server whose certificate they did not sign is spoken to without TLS";
    assert_eq!(warnings(""), [vain("prefer", unsigned)]);
    assert_eq!(warnings("sslmode: disable"), [vain("disable", "no TLS is spoken")]);
    let password =
        "x: the password goes to a server that is not verified; sslmode is `prefer`, set `verify-full`";
    assert_eq!(warnings("password: p"), [password.to_owned(), vain("prefer", unsigned)]);
    // Their chain is verified.
    for fine in ["sslmode: require", "sslmode: require, password: p", "sslmode: verify-ca, password: p"] {
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
            // An empty list has no first element to tell its place: it stands where its list stands.
            "a list is not valid, at …depends_on[2]",
            "`1` is not valid, at …depends_on[0]",
            "there is no dependency `nobody`, at …depends_on[1]",
            "a dependency refers to itself, at …depends_on[3]",
            "`true` is not valid, at …nameservers[0]",
            "`ns1` is no name server, at …nameservers[2]",
            "the variable NOPE is not set, at …nameservers[3]",
            "`ns2` is no name server, at …nameservers[4]",
            "`7` is not valid, at …expect.addresses[0]",
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
             allowed: `postgres`, `redis`, `dns`, `tcp`, `http`; say what is spoken with it; what else the entry says is \
             judged after that",
            "error: `impact` is required, at dependencies.a.impact (file 1.yaml, line 2 column 5); \
             allowed: `critical`, `degraded`, `none`; say what its failure does to the service",
            "error: `impact` is required, at dependencies.b.impact (file 1.yaml, line 4 column 6); \
             allowed: `critical`, `degraded`, `none`; say what its failure does to the service",
            "error: `port` is required, at dependencies.b.port (file 1.yaml, line 4 column 6); \
             set it, or write `enabled: false`",
            "error: `host` is required, at dependencies.database.host (file 2.yaml, line 2 column 6); \
             set it or DATABASE_HOST, or disable the dependency",
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

/// Bytes are written as YAML has them in double quotes.
#[test]
fn bytes_to_send_and_to_expect_are_written_as_escapes() {
    let plan = plan(
        &[r#"dependencies:
  - {name: t, kind: tcp, impact: none, host: h, port: 1, send: "PING\r\n\x00\t", expect: "\x0A+PONG\r\n"}"#],
        &[],
    );
    let Some(ProbePlan::Tcp(t)) = dependency(&plan, "t").probe() else { panic!() };
    assert_eq!(t.send().as_ref().unwrap().expose(), "PING\r\n\0\t");
    assert_eq!(t.expect().as_deref(), Some("\n+PONG\r\n"));
}

#[test]
fn a_bound_is_a_value_or_off() {
    let plan = plan(
        &["dependencies:
  - {name: a, kind: redis, impact: none, host: h, warn: {memory_used: 50%, evictions: 1/h, replication_lag: 5s}}
  - name: b
    kind: redis
    impact: none
    host: h
    warn: {memory_used: off, clients_used: 'off', evictions: off, replication_lag: \"${LAG}\"}"],
        &[("LAG", "off")],
    );
    let a = redis(&plan, "a").warn();
    assert_eq!(a.memory_used().map(|bound| bound.get()), Some(50));
    assert_eq!(a.evictions().map(|rate| rate.to_string()).as_deref(), Some("1/h"));
    assert_eq!((*a.replication_lag(), a.clients_used().is_some()), (Some(Duration::from_secs(5)), true));
    let b = redis(&plan, "b").warn();
    assert_eq!((b.memory_used(), b.clients_used(), b.evictions()), (&None, &None, &None));
    assert_eq!(*b.replication_lag(), None);
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

#[test]
fn more_names_than_there_are_packets_for_are_warned_of() {
    let plan = |names: usize, more: &str| {
        let entries = (0..names).map(|n| {
            // Two of each name, which share their questions.
            format!("  - {{name: p{n}, kind: tcp, impact: none, host: h{}.test, port: 1{more}}}\n", n / 2)
        });
        plan(&[&format!("dependencies:\n{}", entries.collect::<String>())], &[])
    };
    let often = ", interval: 100ms, timeout: 1s";
    assert_eq!(plan(48, often).warnings(), [] as [&str; 0], "24 names, twice a second each");
    assert_eq!(
        plan(60, often).warnings(),
        [
            "the checks of 30 names take 60 DNS packets a second, and `resolver.packets_per_second` allows 50: answers \
          up to 30 s old are used in place of new ones; check less often, or allow more"
        ]
    );
    assert_eq!(plan(60, "").warnings(), [] as [&str; 0], "every ten seconds");
    assert_eq!(plan(60, ", interval: 100ms, timeout: 1s, enabled: false").warnings(), [NOTHING]);
}

#[test]
fn a_bound_that_no_check_can_reach_is_warned_of_where_somebody_set_it() {
    let warned = |fields: &str| {
        let file =
            format!("dependencies: [{{name: x, kind: tcp, host: h, port: 1, impact: none, {fields}}}]");
        plan(&[&file], &[]).warnings().to_vec()
    };
    let found = warned("timeout: 2s, slow_after: 20s");
    assert_eq!(
        found,
        ["x: `slow_after` is longer than `timeout`, so no check is ever slow: shorten it to less than 2s"]
    );
    assert_eq!(warned("timeout: 500ms"), [] as [&str; 0], "the default is nobody's mistake");
}

#[test]
fn tokens_are_known_by_their_digests_and_may_do_all_where_nothing_is_said() {
    let plan = plan(
        &["server:
  admin_token: 0123456789abcdef
  operator: {require_token_for_reads: true}
  admin_tokens:
    - {name: on-call, token: on-call-0123456789, allow: [read, open, read]}
    - {name: deploys, token_sha256: 2BB80D537B1DA3E38BD30361AA855686BDE0EACD7162FEF6A25FE97BF527A25B}"],
        &[],
    );
    let tokens: Vec<_> = plan.server().tokens().collect();
    let names: Vec<_> = tokens.iter().map(|token| token.name().as_str()).collect();
    assert_eq!(names, ["admin", "on-call", "deploys"]);
    assert_eq!(*tokens[0].digest(), Digest::of(b"0123456789abcdef"));
    assert_eq!(*tokens[2].digest(), Digest::of(b"secret"));
    assert_eq!(*tokens[1].allow(), [Verb::Open, Verb::Read]);
    assert!([0, 2].iter().all(|n| tokens[*n].allow() == Verb::ALL));
    assert!(*plan.server().require_token_for_reads());
}

#[test]
fn a_longest_recovery_timeout_gives_way_where_it_was_not_set_for_the_first() {
    let plan = plan(
        &["defaults: {circuit: {recovery_timeout: 10s, recovery_timeout_max: 1m}}
dependencies:
  - {name: a, kind: tcp, impact: none, host: h, port: 1}
  - {name: b, kind: tcp, impact: none, host: h, port: 1, circuit: {recovery_timeout: 5m}}
  - {name: c, kind: tcp, impact: none, host: h, port: 1, circuit: {recovery_timeout_max: 10s}}"],
        &[],
    );
    let longest = |name: &str| dependency(&plan, name).policy().circuit.recovery_timeout_max;
    let seconds = |s| Some(Duration::from_secs(s));
    assert_eq!([longest("a"), longest("b"), longest("c")], [seconds(60), seconds(300), seconds(10)]);
    assert_eq!(super::plan(&[], &[]).dependencies()[0].policy().circuit.recovery_timeout_max, None);
}
