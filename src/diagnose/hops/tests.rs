use super::*;
use crate::diagnose::evidence::*;
use crate::diagnose::test_support::*;
use crate::health::observation::PostgresDetails;
use crate::health::{Details, FailureKind, Phase};

/// `dns ✓ line | line`
fn told(evidence: &Evidence) -> Vec<String> {
    let hops = hops(evidence);
    let line = |hop: &Hop| {
        let ok = match hop.ok {
            Some(true) => "✓",
            Some(false) => "✗",
            None => "…",
        };
        format!("{} {ok} {}", hop.kind, hop.evidence.join(" | ")).trim_end().to_owned()
    };
    hops.iter().map(line).collect()
}

#[test]
fn a_path_that_works_is_told_hop_by_hop() {
    let mut evidence = postgres();
    evidence.subject.tls = verified();
    evidence.tls = Some(tls());
    evidence.words = Some(words(Speaks::Postgres, "S", Some(Speaks::Postgres)));
    evidence.task = Some(task());
    let names = evidence.names.as_mut().unwrap();
    names.answer.as_mut().unwrap().aliases = vec!["db1.internal.".into()];
    let attempt = evidence.attempt.as_mut().unwrap();
    let details = PostgresDetails { server_version: "15.4".into(), ..PostgresDetails::default() };
    attempt.details = Details::Postgres(Box::new(details));
    attempt.warnings = vec!["80 % of the connections are in use".into()];
    assert_eq!(
        told(&evidence),
        [
            "dns ✓ db.internal → 10.0.3.7 (private), TTL 5 s, alias of db1.internal | 10.0.0.2 and 10.0.0.3 agree (0.4 ms, 0.4 ms)",
            "route ✓ from 10.0.1.23 by eth0 through 10.0.1.1 | 10.0.3.7 is outside of this task's subnet, 10.0.1.0/24",
            "connect ✓ 10.0.3.7:5432: connected in 0.3 ms",
            "tls ✓ TLSv1.3; certificate of CN=db.internal, by CN=Test Authority, for db.internal, ends 2027-01-01 (in 38 days)",
            "protocol ✓ PostgreSQL's SSLRequest is answered \"S\"",
            "auth ✓ logged in as app, to the database orders",
            "query ✓ PostgreSQL 15.4, a primary | warning: 80 % of the connections are in use",
        ]
    );
    let took: Vec<Option<u128>> = hops(&evidence).iter().map(|hop| Some(hop.took?.as_micros())).collect();
    assert_eq!(took, [Some(1_000), None, Some(300), Some(4_000), Some(500), None, Some(2_000)]);
}

#[test]
fn each_kind_has_its_hops() {
    let kinds = |evidence: &Evidence| {
        let kinds: Vec<&str> = hops(evidence).iter().map(|hop| hop.kind.as_str()).collect();
        kinds.join(" ")
    };
    assert_eq!(kinds(&postgres()), "dns route connect protocol auth query");
    assert_eq!(kinds(&redis()), "dns route connect protocol auth query");
    assert_eq!(kinds(&http()), "dns route connect protocol query");
    assert_eq!(kinds(&dns(&["10.0.3.7"])), "dns query");
    let mut port = Evidence::nothing_yet(subject(crate::health::Kind::Tcp, "10.0.3.7", 5000));
    assert_eq!(kinds(&port), "dns route connect");
    port.subject.tls = verified();
    port.subject.speaks = Some(Speaks::Ssh);
    assert_eq!(kinds(&port), "dns route connect tls protocol");
}

#[test]
fn what_is_gathered_so_far_is_told_as_far_as_it_goes() {
    let mut evidence = postgres();
    evidence.attempt = None;
    let ok = |evidence: &Evidence| hops(evidence).iter().map(|hop| hop.ok).collect::<Vec<_>>();
    let (yes, unknown) = (Some(true), None);
    assert_eq!(ok(&evidence), [yes, yes, yes, yes, unknown, unknown]);
    evidence.words = None;
    evidence.paths[0].tries = vec![silent(5432)];
    assert_eq!(ok(&evidence), [yes, yes, Some(false), unknown, unknown, unknown]);
    let nothing = Evidence::nothing_yet(evidence.subject);
    assert!(hops(&nothing).iter().all(|hop| hop.ok.is_none() && hop.evidence.is_empty()));
}

#[test]
fn a_port_that_is_silent_is_told_with_its_contrast() {
    let evidence = unconnected(vec![silent(5432); 4], Some(refused(47)), FailureKind::ConnectTimeout);
    assert_eq!(
        told(&evidence)[1..],
        [
            "route ✓ from 10.0.1.23 by eth0 through 10.0.1.1",
            "connect ✗ 10.0.3.7:5432: no answer in 3.0 s, four tries | contrast: port 47 answered with a reset in 0.3 ms",
            "protocol …",
            "auth …",
            "query …",
        ]
    );
}

#[test]
fn an_entry_that_forbids_is_told_where_nobody_knows_what_the_kernel_goes_by() {
    let no_address = vec![errno(5432, "EADDRNOTAVAIL", None)];
    let mut evidence = unconnected(no_address, None, FailureKind::ConnectUnreachable);
    let route = &mut evidence.paths[0].route;
    route.source = None;
    let entry = route.entry.as_mut().unwrap();
    (entry.network, entry.forbids) = ("10.0.3.0/24".parse().unwrap(), true);
    assert_eq!(told(&evidence)[1], "route ✗ the routing table forbids 10.0.3.0/24");
}

#[test]
fn tries_that_end_in_different_ways_are_counted() {
    let late = Try { took: millis(1030), ..connected(5432) };
    let mixed = path("10.0.3.7:5432", vec![silent(5432), connected(5432), late, silent(5432)], None);
    assert_eq!(tries(&mixed), "10.0.3.7:5432: 2× no answer in 3.0 s, 2× connected in 0.3 ms to 1.0 s");
    let icmp = errno(5432, "EHOSTUNREACH", Some(prohibited("10.0.1.1")));
    let rejected = path("10.0.3.7:5432", vec![icmp], None);
    assert_eq!(
        tries(&rejected),
        "10.0.3.7:5432: 10.0.1.1 answered \"administratively prohibited\" after 0.3 ms (EHOSTUNREACH)"
    );
}

#[test]
fn servers_that_do_not_agree_are_told_one_by_one() {
    let mut evidence = postgres();
    let names = evidence.names.as_mut().unwrap();
    let silence = failure(Phase::Dns, FailureKind::DnsTimeout, "no name server answered for db.internal");
    names.by_server[1].answer = Err(silence);
    names.resolver.search = vec!["corp.example.".into()];
    names.answer.as_mut().unwrap().found_as = "db.internal.corp.example.".into();
    names.later = Some(Ok(answer("db.internal", &["10.0.9.9"])));
    assert_eq!(
        told(&evidence)[0],
        "dns ✓ db.internal → 10.0.3.7 (private), TTL 5 s \
         | found as db.internal.corp.example: the search list (corp.example; ndots 1) comes before the name as it is written \
         | 10.0.0.2: 10.0.3.7 (private), TTL 5 s (0.4 ms) \
         | 10.0.0.3: no answer in 0.4 ms \
         | at the end of the diagnosis: 10.0.9.9 (private), TTL 5 s"
    );
}

#[test]
fn an_address_has_nothing_to_resolve() {
    let mut evidence = redis();
    evidence.names = None;
    evidence.subject.host = "10.0.3.9".into();
    assert_eq!(told(&evidence)[0], "dns ✓ 10.0.3.9 (private): an address, nothing to resolve");
}

#[test]
fn a_log_in_that_is_refused_is_told_in_the_servers_words() {
    let said =
        failure(Phase::Auth, FailureKind::AuthFailed, "password authentication failed").with_code("28P01");
    let evidence = failing(postgres(), said);
    assert_eq!(
        told(&evidence)[3..],
        [
            "protocol ✓ PostgreSQL's SSLRequest is answered \"N\"",
            "auth ✗ auth_failed: password authentication failed (28P01)",
            "query …",
        ]
    );
}

#[test]
fn a_name_that_is_judged_fails_at_the_question() {
    let unexpected =
        failure(Phase::Dns, FailureKind::DnsUnexpectedAnswer, "db.internal resolves to 192.168.1.7");
    let evidence = failing(dns(&["192.168.1.7"]), unexpected);
    assert_eq!(told(&evidence)[1], "query ✗ dns_unexpected_answer: db.internal resolves to 192.168.1.7");
}

#[test]
fn what_was_not_asked_has_no_time_and_is_no_silence() {
    let mut evidence = postgres();
    evidence.subject.tls = verified();
    let why = "no further connection in time".to_owned();
    evidence.tls = Some(TlsSeen { not_asked: Some(why.clone()), ..TlsSeen::default() });
    evidence.words = Some(Words { heard: Heard::NotAsked(why), ..words(Speaks::Postgres, "", None) });
    let late = failure(Phase::Connect, FailureKind::ConnectTimeout, "no answer within 2.0s");
    let lost = failing(evidence.clone(), late);
    let after = |evidence: &Evidence| told(evidence)[3..5].to_vec();
    let (tls, protocol) = (
        "a look at it was not begun: no further connection in time",
        "PostgreSQL's SSLRequest was not asked: no further connection in time",
    );
    assert_eq!(after(&lost), [format!("tls … {tls}"), format!("protocol … {protocol}")]);
    assert!(hops(&lost)[3..].iter().all(|hop| hop.took.is_none()));
    evidence.attempt = None;
    assert_eq!(after(&evidence), [format!("tls … {tls}"), format!("protocol … {protocol}")]);
}

#[test]
fn what_there_was_no_time_for_is_told_where_it_was_to_be() {
    let mut evidence = Evidence { cut_short: true, tls: None, words: None, ..redis() };
    evidence.attempt = Some(crate::diagnose::evidence::Attempt::missed(&evidence));
    assert_eq!(
        told(&evidence)[3..],
        [
            "protocol ✗ not asked: the time was over | timeout: connected, and no check was over before the diagnosis ended",
            "auth …",
            "query …"
        ]
    );
    evidence.words = Some(words(Speaks::Redis, "+PONG", Some(Speaks::Redis)));
    assert!(told(&evidence)[3..].iter().all(|line| !line.contains("logged in")), "{:?}", told(&evidence));
    let verdict = crate::diagnose::rules::judge(&evidence);
    assert!(verdict.summary.starts_with("the time was over before "), "{verdict:?}");
    assert_eq!(verdict.confidence, crate::health::Confidence::Unclear);
}
