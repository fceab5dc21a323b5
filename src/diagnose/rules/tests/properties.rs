//! Whatever the evidence is, also what no network ever produced together.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::{Case, cases, hops, judge};
use crate::config::plan::{Role, Verify};
use crate::diagnose::evidence::*;
use crate::diagnose::test_support as hand;
use crate::health::Cause;
use crate::health::observation::{PostgresDetails, RedisDetails};
use crate::health::{Details, Failure, FailureKind, HopKind, Kind, Phase, WallTime};
use std::collections::BTreeSet;

/// Cases by chance: each takes some ten microseconds.
const CASES: u32 = 2_000;

fn text() -> impl Strategy<Value = String> {
    select(
        &[
            "",
            "x",
            "db.internal.",
            "is an alias",
            "pg_hba.conf",
            "expired",
            "role \"a\" does not exist",
            "'; reboot",
        ][..],
    )
    .prop_map(str::to_owned)
}

fn failure() -> impl Strategy<Value = Failure> {
    let codes = &[
        "NXDOMAIN", "NODATA", "REFUSED", "28000", "28P01", "57014", "MOVED", "NOAUTH", "READONLY", "DENIED",
        "ERR",
    ];
    let parts = (select(Phase::ALL), select(FailureKind::ALL), option::of(select(&codes[..])), text());
    parts.prop_map(|(phase, kind, code, message)| {
        // A check never says nothing.
        let failure = hand::failure(phase, kind, &format!("it said {message}"));
        match code {
            Some(code) => failure.with_code(code),
            None => failure,
        }
    })
}

fn address() -> impl Strategy<Value = &'static str> {
    select(&["10.0.3.7", "10.0.1.9", "127.0.0.1", "203.0.113.9", "fd00::7", "::1", "169.254.1.1"][..])
}

fn answer() -> impl Strategy<Value = Result<NameAnswer, Failure>> {
    let found = (vec(address(), 0..3), vec(text(), 0..3), option::of(0u32..100), any::<bool>(), text());
    let found = found.prop_map(|(addresses, texts, ttl_seconds, from_hosts_file, found_as)| NameAnswer {
        records: texts.clone(),
        aliases: texts,
        ttl_seconds,
        from_hosts_file,
        found_as,
        ..hand::answer("db.internal", &addresses)
    });
    prop_oneof![found.prop_map(Ok), failure().prop_map(Err)]
}

fn names() -> impl Strategy<Value = Names> {
    let parts = (
        answer(),
        vec((select(&["10.0.0.2:53", "10.0.0.3:5353"][..]), answer()), 0..3),
        vec(text(), 0..2),
        option::of(text()),
        option::of(answer()),
        any::<bool>(),
    );
    parts.prop_map(|(answer, by_server, near, nearest_ancestor, later, none)| {
        let mut names = hand::names("db.internal", &["10.0.3.7"]);
        if none {
            names.resolver.servers.clear();
        }
        let by_server = by_server.into_iter().map(|(at, answer)| hand::server(at, answer)).collect();
        Names { answer, by_server, near, nearest_ancestor, later, ..names }
    })
}

fn icmp() -> impl Strategy<Value = Icmp> {
    (text(), any::<bool>(), option::of(address()), any::<bool>()).prop_map(
        |(meaning, by_filter, from, own)| Icmp {
            meaning,
            by_filter,
            from: from.map(|from| from.parse().unwrap()),
            own,
        },
    )
}

fn one_try() -> impl Strategy<Value = Try> {
    let errnos = &[
        "ECONNREFUSED",
        "ECONNRESET",
        "EHOSTUNREACH",
        "ENETUNREACH",
        "ETIMEDOUT",
        "EPERM",
        "EACCES",
        "EADDRNOTAVAIL",
        "22",
    ];
    let failed = (select(&errnos[..]), option::of(icmp()))
        .prop_map(|(errno, icmp)| TryEnd::Failed { errno: errno.into(), icmp });
    let end = prop_oneof![Just(TryEnd::Connected), Just(TryEnd::Silent), failed];
    (end, 0u64..5_000).prop_map(|(end, took)| Try { port: 5432, took: hand::millis(took), end })
}

fn path() -> impl Strategy<Value = Path> {
    let parts = (
        address(),
        vec(one_try(), 0..4),
        option::of(one_try()),
        option::of(any::<bool>()),
        any::<[bool; 3]>(),
    );
    parts.prop_map(|(address, tries, contrast, source, [no_entry, forbids, silent])| {
        let mut path = hand::path("10.0.3.7:5432", tries, contrast);
        path.address.set_ip(address.parse().unwrap());
        path.route.source =
            source.map(|ok| if ok { Ok("10.0.1.23".parse().unwrap()) } else { Err("ENETUNREACH".into()) });
        path.route.entry =
            path.route.entry.filter(|_| !no_entry).map(|entry| RouteEntry { forbids, ..entry });
        path.route.neighbour = path.route.neighbour.map(|next| Neighbour { answers: !silent, ..next });
        path
    })
}

fn problem() -> impl Strategy<Value = CertificateProblem> {
    prop_oneof![
        (0usize..3).prop_map(CertificateProblem::Expired),
        (0usize..3).prop_map(CertificateProblem::NotYetValid),
        Just(CertificateProblem::OtherName),
        Just(CertificateProblem::SelfSigned),
        Just(CertificateProblem::UnknownAuthority),
        text().prop_map(CertificateProblem::AuthoritiesUnusable),
        text().prop_map(CertificateProblem::Other),
    ]
}

fn tls() -> impl Strategy<Value = TlsSeen> {
    let version = option::of(prop_oneof![Just(Ok("TLSv1.3".to_owned())), text().prop_map(Err)]);
    let parts =
        (version, option::of(text()), option::of(text()), any::<bool>(), 0usize..3, vec(problem(), 0..3));
    parts.prop_map(|(version, not_spoken, only_speaks, wants_client_certificate, chain, problems)| TlsSeen {
        version,
        not_spoken,
        only_speaks,
        wants_client_certificate,
        chain: vec![hand::certificate("CN=x", "x", 3); chain],
        problems,
        ..hand::tls()
    })
}

fn heard() -> impl Strategy<Value = Heard> {
    prop_oneof![
        Just(Heard::Nothing),
        Just(Heard::Closed),
        Just(Heard::Cut),
        text().prop_map(Heard::Said),
        text().prop_map(Heard::NotAsked)
    ]
}

fn words() -> impl Strategy<Value = Words> {
    let speaks = || select(Speaks::ALL);
    let parts = (option::of(speaks()), heard(), vec((speaks(), heard()), 0..3), option::of(speaks()));
    parts.prop_map(|(asked, heard, others, is)| Words { asked, heard, took: hand::millis(5), others, is })
}

fn subject() -> impl Strategy<Value = Subject> {
    let hosts = &[
        "db.internal",
        "10.0.3.7",
        "::1",
        "localhost",
        "mydb.abc123.eu-central-1.rds.amazonaws.com",
        "master.rg.abc123.euc1.cache.amazonaws.com",
        "replica.rg.abc123.xx.cache.amazonaws.com",
        "$(reboot)",
    ];
    let tls = prop_oneof![
        Just(TlsWanted::No),
        Just(TlsWanted::IfOffered),
        Just(hand::verified()),
        Just(TlsWanted::Yes { verify: Verify::None, root_cert: Some("/ca.pem".into()) }),
    ];
    let parts = (
        select(Kind::ALL),
        select(&hosts[..]),
        option::of(select(Speaks::ALL)),
        tls,
        select(Role::ALL),
        option::of(text()),
        any::<bool>(),
    );
    parts.prop_map(|(kind, host, speaks, tls, role, user, expects)| {
        let expected_addresses = if expects { vec!["10.0.1.0/24".parse().unwrap()] } else { Vec::new() };
        Subject {
            speaks,
            tls,
            role,
            user: user.clone(),
            database: user,
            expected_addresses,
            ..hand::subject(kind, host, 5432)
        }
    })
}

fn details() -> impl Strategy<Value = Details> {
    let postgres = any::<bool>().prop_map(|in_recovery| {
        Details::Postgres(Box::new(PostgresDetails { in_recovery, ..PostgresDetails::default() }))
    });
    prop_oneof![Just(Details::None), postgres, Just(Details::Redis(Box::<RedisDetails>::default()))]
}

fn attempt() -> impl Strategy<Value = Attempt> {
    let result = prop_oneof![1 => Just(Ok(())), 4 => failure().prop_map(Err)];
    let parts = (result, details(), vec(text(), 0..2), option::of(address()), any::<bool>());
    parts.prop_map(|(result, details, warnings, address, cut_short)| Attempt {
        cut_short: cut_short && result.is_err(),
        details,
        warnings,
        address: address.map(|address| std::net::SocketAddr::new(address.parse().unwrap(), 5432)),
        ..hand::attempt(result)
    })
}

fn segments() -> impl Strategy<Value = SmallSegments> {
    let number = || 0u32..3;
    (number(), number(), number(), number()).prop_map(
        |(large_silent, large_answered, small_answered, small_silent)| SmallSegments {
            segment: 536,
            what: "it".into(),
            large_silent,
            large_answered,
            small_answered,
            small_silent,
        },
    )
}

fn evidence() -> impl Strategy<Value = Evidence> {
    let seen = (subject(), option::of(names()), vec(path(), 0..3), option::of(tls()), option::of(words()));
    let rest =
        (option::of(segments()), option::weighted(0.9, attempt()), option::of(details()), any::<[bool; 3]>());
    (seen, rest).prop_map(
        |((subject, names, paths, tls, words), (small_segments, attempt, before, [task, cut_short, at]))| {
            Evidence {
                names,
                paths,
                tls,
                words,
                small_segments,
                attempt,
                before,
                task: task.then(hand::task),
                cut_short,
                at: at.then_some(WallTime::from_unix_millis(hand::DAY)),
                ..Evidence::nothing_yet(subject)
            }
        },
    )
}

/// Flaws that a path which works can have.
const FLAWS: [Cause; 11] = [
    Cause::ResolversDisagree,
    Cause::OneResolverDead,
    Cause::NameMoving,
    Cause::OneAddressDead,
    Cause::PacketLoss,
    Cause::CertificateExpired,
    Cause::CertificateNotYetValid,
    Cause::CertificateOtherName,
    Cause::CertificateUnknownAuthority,
    // Where nothing is asked of a port but a connection.
    Cause::Cut,
    Cause::Works,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn any_evidence_has_a_verdict_in_words(evidence in evidence()) {
        let verdict = judge(&evidence);
        let lines = || verdict.because.iter().chain(&verdict.advice).chain([&verdict.summary]);
        prop_assert!(lines().all(|line| !line.is_empty() && !line.contains('\n')), "{verdict:#?}");
        prop_assert!(!verdict.because.is_empty(), "{verdict:#?}");
        prop_assert!(!verdict.advice.is_empty() || verdict.cause == Cause::Works, "{verdict:#?}");
        for lines in [&verdict.because, &verdict.advice] {
            let different: BTreeSet<&String> = lines.iter().collect();
            prop_assert_eq!(different.len(), lines.len(), "twice in {:#?}", lines);
        }
        if evidence.works() {
            prop_assert!(FLAWS.contains(&verdict.cause), "{verdict:#?}");
        } else {
            prop_assert!(verdict.cause != Cause::Works, "{verdict:#?}");
        }
    }

    #[test]
    fn a_path_ends_at_one_hop_at_most_and_what_lies_behind_is_not_known(evidence in evidence()) {
        let hops = hops(&evidence);
        let kinds: Vec<HopKind> = hops.iter().map(|hop| hop.kind).collect();
        prop_assert!(kinds.is_sorted() && kinds.first() == Some(&HopKind::Dns), "{kinds:?}");
        let ok: Vec<Option<bool>> = hops.iter().map(|hop| hop.ok).collect();
        let taken = ok.iter().take_while(|ok| **ok == Some(true)).count();
        prop_assert!(ok.iter().skip(taken + 1).all(|ok| ok.is_none()), "{ok:?}");
        match (&evidence.attempt, ok.get(taken)) {
            (Some(_), None) => prop_assert!(evidence.works()),
            (Some(_), Some(ok)) => prop_assert!(*ok == Some(false) && evidence.failure().is_some(), "{hops:#?}"),
            (None, _) => {}
        }
        let broken = hops.iter().find(|hop| hop.ok == Some(false));
        prop_assert!(broken.is_none_or(|hop| hop.evidence.iter().any(|line| !line.is_empty())), "{hops:#?}");
    }
}

/// A hostile host is one word in every command.
#[test]
fn a_hostile_name_becomes_no_command() {
    for Case { name, mut evidence, .. } in cases() {
        let hostile = "x`reboot`$(reboot);reboot";
        evidence.subject.host = hostile.into();
        evidence.subject.user = Some(hostile.into());
        evidence.subject.database = Some(hostile.into());
        for step in judge(&evidence).advice {
            let Some((_, command)) = step.split_once(": `") else { continue };
            let unquoted: String = command.split('\'').step_by(2).collect();
            assert!(!unquoted.contains("reboot"), "{name}: {step}");
        }
    }
}
