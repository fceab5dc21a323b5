//! Evidence by hand: what is broken, and what has to be told of it.

use std::time::Duration;

use crate::config::plan::Role;
use crate::diagnose::evidence::*;
use crate::diagnose::test_support::*;
use crate::health::observation::{Connections, HttpDetails, PostgresDetails, RedisDetails, RedisReplication};
use crate::health::{Cause, Confidence, Details, Failure, FailureKind, Phase, WallTime};

use Cause::*;
use Confidence::{Certain, Likely, Unclear};
use FailureKind as Kind;

pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) evidence: Evidence,
    pub(super) cause: Cause,
    pub(super) confidence: Confidence,
    pub(super) summary: String,
    /// Part of one step.
    pub(super) advice: &'static str,
}

fn case(
    name: &'static str,
    evidence: Evidence,
    (cause, confidence): (Cause, Confidence),
    summary: &str,
    advice: &'static str,
) -> Case {
    Case { name, evidence, cause, confidence, summary: summary.to_owned(), advice }
}

pub(super) fn cases() -> Vec<Case> {
    let mut all = names();
    all.extend(places());
    all.extend(ways());
    all.extend(sessions());
    all.extend(certificates());
    all.extend(log_ins());
    all.extend(states());
    all.extend(answers());
    all
}

fn nxdomain(message: &str) -> Failure {
    failure(Phase::Dns, Kind::DnsNotFound, message).with_code("NXDOMAIN")
}

fn dns_timeout() -> Failure {
    failure(Phase::Dns, Kind::DnsTimeout, "no name server answered for db.internal")
}

fn names() -> Vec<Case> {
    let missing = || unresolved(nxdomain("db.internal does not exist"));
    let mut in_known_zone = missing();
    in_known_zone.names.as_mut().unwrap().nearest_ancestor = Some("internal.".into());
    let mut misspelt = missing();
    misspelt.names.as_mut().unwrap().near = vec!["db1.internal.".into()];
    let mut unsure = missing();
    unsure.names.as_mut().unwrap().by_server.clear();
    let mut on_rds = missing();
    on_rds.subject.host = "mydb.abc123.eu-central-1.rds.amazonaws.com".into();
    let mut one_knows = missing();
    one_knows.names.as_mut().unwrap().by_server[1].answer = Ok(answer("db.internal", &["10.0.3.7"]));
    let silent = unresolved(dns_timeout());
    let mut silent_on_aws = silent.clone();
    silent_on_aws.task = Some(task());
    let mut half_asked = silent.clone();
    half_asked.names.as_mut().unwrap().by_server.clear();
    let mut passed = silent.clone();
    passed.names = Some(super::super::super::test_support::names("db.internal", &["10.0.3.7"]));
    let not_asked =
        failure(Phase::Dns, Kind::DnsTimeout, "not asked: the 20 DNS packets a second are used up");
    let refuses =
        failure(Phase::Dns, Kind::DnsServerFailure, "the name server answered Query Refused for db.internal");
    let port = failure(
        Phase::Dns,
        Kind::DnsServerFailure,
        "asking for db.internal: Connection refused (os error 111)",
    );
    let fails = failure(
        Phase::Dns,
        Kind::DnsServerFailure,
        "the name server answered Server Failure for db.internal",
    );
    let odd = failure(Phase::Dns, Kind::DnsServerFailure, "the answer for db.internal cannot be read: x");
    // What two servers say, each by itself.
    let two = |met: Failure, one: Failure, other: Result<NameAnswer, Failure>| {
        let mut evidence = unresolved(met);
        evidence.names.as_mut().unwrap().by_server =
            vec![server("10.0.0.2:53", Err(one)), server("10.0.0.3:53", other)];
        evidence
    };
    let servfail = || failure(Phase::Dns, Kind::DnsServerFailure, "Server Failure").with_code("SERVFAIL");
    let refused = || failure(Phase::Dns, Kind::DnsServerFailure, "Query Refused").with_code("REFUSED");
    let closed = || {
        let what = "no name server listens at 10.0.0.2:53 (ICMP from 10.0.0.2: port unreachable)";
        failure(Phase::Dns, Kind::DnsServerFailure, what).with_code("ECONNREFUSED")
    };
    let with_other = |refuses| {
        let mut evidence = unresolved(refused());
        evidence.names.as_mut().unwrap().refused_too = Some(("cache.corp".into(), refuses));
        evidence
    };
    let too_long = || {
        let what = "the answer for db.internal is too long for UDP, and over TCP it does not come";
        failure(Phase::Dns, Kind::DnsTimeout, what).with_hint(
            "allow TCP, too, to port 53 of the name servers: security groups and network ACLs often allow only UDP",
        )
    };
    let garbled = failure(Phase::Dns, Kind::DnsTimeout, "something came").with_hint(
        "look at what comes from there (`tcpdump -n port 53`): answers to other questions, or to one of two only, count for nothing",
    );
    let mut slow = silent.clone();
    slow.names.as_mut().unwrap().by_server.iter_mut().for_each(|one| one.took = millis(400));
    let mut withheld = silent.clone();
    withheld.names.as_mut().unwrap().by_server[0].answer = Err(failure(
        Phase::Dns,
        Kind::DnsTimeout,
        "no answer; 1 repetition was not sent, because the 50 DNS packets a second are used up",
    ));
    let one_fails = two(dns_timeout(), servfail(), Ok(answer("db.internal", &["10.0.3.7"])));
    // A diagnosis that found no room: what the check met is what is known.
    let mut no_room =
        unresolved(failure(Phase::Dns, Kind::DnsTimeout, "not asked: the 25 of 50 DNS packets"));
    no_room.attempt = Some(attempt(Err(servfail())));
    // A check that came to a database that refuses, and name servers that fail just now.
    let mut further = unconnected(
        vec![errno(5432, "ECONNREFUSED", None); 4],
        Some(super::super::super::test_support::silent(47)),
        Kind::ConnectRefused,
    );
    further.names.as_mut().unwrap().answer = Err(servfail());
    let mut nobody =
        unresolved(failure(Phase::Dns, Kind::DnsServerFailure, "/etc/resolv.conf: no such file"));
    let names = nobody.names.as_mut().unwrap();
    names.resolver.servers.clear();
    names.by_server.clear();
    let no_name = failure(Phase::Dns, Kind::DnsNotFound, "a..b is no domain name: empty label");
    let no_data = failure(Phase::Dns, Kind::DnsNotFound, "db.internal exists and has no address record")
        .with_code("NODATA");
    let dangling = nxdomain("db.internal is an alias, and where it leads, old.internal., does not exist")
        .with_hint("the alias is there and its target is not: it may have been deleted or renamed; correct the record");
    vec![
        case(
            "a name that nobody has",
            in_known_zone,
            (NameMissing, Certain),
            "db.internal does not exist for 10.0.0.2 and 10.0.0.3",
            "compare it with the console",
        ),
        case(
            "a name that nobody has, as far as was asked",
            unsure,
            (NameMissing, Likely),
            "db.internal does not exist for 10.0.0.2 and 10.0.0.3",
            "`dig @10.0.0.2 db.internal`",
        ),
        case(
            "an RDS instance that was deleted",
            on_rds,
            (NameMissing, Certain),
            "mydb.abc123.eu-central-1.rds.amazonaws.com does not exist for 10.0.0.2 and 10.0.0.3",
            "`aws rds describe-db-instances --region eu-central-1 --db-instance-identifier mydb",
        ),
        case(
            "a name beside one that is there",
            misspelt,
            (NameMisspelt, Likely),
            "db.internal does not exist; db1.internal does, and is spelt nearly so",
            "if db1.internal is meant",
        ),
        case(
            "a name without an address",
            unresolved(no_data),
            (NameWithoutAddress, Certain),
            "db.internal exists and has no record of the type that is asked for",
            "dig",
        ),
        case(
            "an alias whose end is gone",
            unresolved(dangling),
            (NameWithoutAddress, Certain),
            "db.internal is an alias of a name that is not there",
            "dig",
        ),
        case(
            "a name that one of two servers has",
            one_knows,
            (ResolversDisagree, Certain),
            "of the name servers, 10.0.0.2 has no answer for db.internal, and others have",
            "`dig @10.0.0.2 db.internal`",
        ),
        case(
            "servers that do not answer",
            silent,
            (ResolverSilent, Certain),
            "no name server answers: 10.0.0.2 and 10.0.0.3",
            "check the VPC's DNS settings",
        ),
        case(
            "servers that do not answer, in a VPC",
            silent_on_aws,
            (ResolverSilent, Certain),
            "no name server answers: 10.0.0.2 and 10.0.0.3",
            "aws ec2 describe-vpc-attribute --attribute enableDnsSupport --region eu-central-1 --vpc-id $(aws ec2 describe-network-interfaces",
        ),
        case(
            "servers that did not answer, and were not asked one by one",
            half_asked,
            (ResolverSilent, Likely),
            "no name server answers: 10.0.0.2 and 10.0.0.3",
            "dig @10.0.0.2",
        ),
        case(
            "servers that did not answer a check, and do by now",
            passed,
            (ResolverSilent, Unclear),
            "no name server answers: 10.0.0.2 and 10.0.0.3",
            "dig @10.0.0.2",
        ),
        case(
            "our own packets used up",
            unresolved(not_asked),
            (PacketBudget, Certain),
            "db.internal was not asked for: this program has used up the packets that it may send",
            "/health/detailed",
        ),
        case(
            "servers that do not serve us",
            unresolved(refuses.with_code("REFUSED")),
            (ResolverRefuses, Likely),
            "10.0.0.2 and 10.0.0.3 answered REFUSED for db.internal: it is not resolved there for this client",
            "allow-recursion",
        ),
        case(
            "no server on the port",
            unresolved(port),
            (ResolverRefuses, Likely),
            "nothing serves names at 10.0.0.2 and 10.0.0.3: the port refuses",
            "/etc/resolv.conf",
        ),
        case(
            "servers that cannot answer",
            unresolved(fails.with_code("SERVFAIL")),
            (ResolverFails, Certain),
            "10.0.0.2 and 10.0.0.3 answered SERVFAIL for db.internal: it cannot be resolved there",
            "forwarded",
        ),
        case(
            "servers whose answers cannot be read",
            unresolved(odd),
            (ResolverFails, Likely),
            "db.internal cannot be asked for at 10.0.0.2 and 10.0.0.3",
            "dig @10.0.0.2",
        ),
        case(
            "one server that refuses, and one that is silent",
            two(refused(), refused(), Err(dns_timeout())),
            (ResolverRefuses, Likely),
            "10.0.0.2 answered REFUSED for db.internal: it is not resolved there for this client; 10.0.0.3 does not answer",
            "`dig @10.0.0.2 db.internal`",
        ),
        case(
            "a server that refuses this zone alone",
            with_other(false),
            (ResolverRefuses, Likely),
            "10.0.0.2 and 10.0.0.3 answered REFUSED for db.internal, and not for cache.corp: this zone is not served there",
            "see whether the name is right",
        ),
        case(
            "a server that refuses whatever is asked",
            with_other(true),
            (ResolverRefuses, Likely),
            "10.0.0.2 and 10.0.0.3 answered REFUSED for db.internal, and for cache.corp: nothing is answered that is asked from here",
            "allow-recursion",
        ),
        case(
            "no server on the port, of which a check sees silence",
            two(dns_timeout(), closed(), Err(closed())),
            (ResolverRefuses, Likely),
            "nothing serves names at 10.0.0.2 and 10.0.0.3: the port refuses",
            "/etc/resolv.conf",
        ),
        case(
            "one server that cannot answer, and one that is silent",
            two(servfail(), servfail(), Err(dns_timeout())),
            (ResolverFails, Likely),
            "10.0.0.2 answered SERVFAIL for db.internal: it cannot be resolved there; 10.0.0.3 does not answer",
            "`dig @10.0.0.2 db.internal`",
        ),
        case(
            "an answer over TCP, which is swallowed",
            unresolved(too_long()),
            (ResolverFails, Likely),
            "10.0.0.2 and 10.0.0.3 answered that the answer for db.internal is too long for UDP, and over TCP it does not come: TCP to port 53 is not let through, or not served",
            "allow TCP, too, to port 53",
        ),
        case(
            "answers to something else",
            unresolved(garbled),
            (ResolverFails, Likely),
            "something comes from 10.0.0.2 and 10.0.0.3, and no answer for db.internal",
            "tcpdump -n port 53",
        ),
        case(
            "servers that were not waited for long enough",
            slow,
            (ResolverSilent, Likely),
            "the time was over before 10.0.0.2 and 10.0.0.3 answered: it was waited for 400.0 ms",
            "--timeout",
        ),
        case(
            "servers of which one was not asked again, for want of packets",
            withheld,
            (ResolverSilent, Likely),
            "no name server answers: 10.0.0.2 and 10.0.0.3",
            "dig @10.0.0.2",
        ),
        case(
            "one of two servers cannot answer, and the check went by it",
            one_fails,
            (OneResolverDead, Likely),
            "of the name servers, 10.0.0.2 answers SERVFAIL, while 10.0.0.3 answers for db.internal",
            "take 10.0.0.2 out of /etc/resolv.conf, or mend it",
        ),
        case(
            "a diagnosis that there was no room for",
            no_room,
            (ResolverFails, Likely),
            "a name server (there are 10.0.0.2 and 10.0.0.3) answered SERVFAIL for db.internal: it cannot be resolved there",
            "forwarded",
        ),
        case(
            "name servers that fail just now, after a check that was refused further on",
            further,
            (Refused, Likely),
            "10.0.3.7:5432 refuses connections: nothing listens on port 5432",
            "ss -ltnp",
        ),
        case(
            "nobody to ask",
            nobody,
            (ResolverUnusable, Certain),
            "there is no name server to ask for db.internal: /etc/resolv.conf names none",
            "cat /etc/resolv.conf",
        ),
        case(
            "what is no name",
            unresolved(no_name),
            (ResolverUnusable, Certain),
            "db.internal is no domain name",
            "correct the name",
        ),
    ]
}

/// Names that lead somewhere, and to the wrong place.
fn places() -> Vec<Case> {
    let unexpected = |addresses: &[&str], message: &str| {
        let mut evidence = failing(dns(addresses), failure(Phase::Dns, Kind::DnsUnexpectedAnswer, message));
        evidence.subject.expected_addresses = vec!["10.0.0.0/8".parse().unwrap()];
        evidence
    };
    let outside = unexpected(&["192.168.1.7"], "db.internal resolves to 192.168.1.7");
    let public = unexpected(&["203.0.113.9"], "db.internal resolves to 203.0.113.9");
    let few = unexpected(&["10.0.3.7"], "db.internal has 1 A record(s), expected at least 2");
    let to_public = |evidence: &mut Evidence| {
        let names = evidence.names.as_mut().unwrap();
        *names = super::super::super::test_support::names(&names.name, &["203.0.113.9"]);
        evidence.paths[0].address = at("203.0.113.9:5432");
    };
    let mut leaked = unconnected(vec![silent(5432); 4], Some(silent(47)), Kind::ConnectTimeout);
    to_public(&mut leaked);
    let mut saas = leaked.clone();
    saas.subject.host = "db.example.com".into();
    let mut rds = saas.clone();
    rds.subject.host = "mydb.abc123.eu-central-1.rds.amazonaws.com".into();
    rds.task = Some(task());
    let mut works = postgres();
    to_public(&mut works);
    let disagreeing = |mut evidence: Evidence, other: &str| {
        evidence.names.as_mut().unwrap().by_server[1].answer = Ok(answer("db.internal", &[other]));
        evidence
    };
    let mut one_view = saas.clone();
    one_view.names.as_mut().unwrap().by_server[1].answer = Ok(answer("db.example.com", &["10.0.3.7"]));
    let mut one_silent = postgres();
    one_silent.names.as_mut().unwrap().by_server[1] = server("10.0.0.3:53", Err(dns_timeout()));
    let dead_by_one = unconnected(vec![silent(5432); 4], Some(silent(47)), Kind::ConnectTimeout);
    let moving = |mut evidence: Evidence, to: Result<NameAnswer, Failure>| {
        evidence.names.as_mut().unwrap().later = Some(to);
        evidence
    };
    let refused = || unconnected(vec![refused(5432); 4], Some(silent(47)), Kind::ConnectRefused);
    let mut turning = moving(refused(), Ok(answer("db.internal", &["10.0.9.9"])));
    turning.names.as_mut().unwrap().takes_turns = true;
    let mut two_addresses = postgres();
    two_addresses.names =
        Some(super::super::super::test_support::names("db.internal", &["10.0.3.7", "10.0.3.8"]));
    let replica = || {
        let wrong = failure(
            Phase::Query,
            Kind::WrongRole,
            "the server is a replica (in recovery), expected a primary",
        );
        let mut evidence = failing(postgres(), wrong);
        let details = PostgresDetails { in_recovery: true, ..PostgresDetails::default() };
        evidence.attempt.as_mut().unwrap().details = Details::Postgres(Box::new(details));
        evidence
    };
    let mut stale = replica();
    stale.before = Some(Details::Postgres(Box::default()));
    let mut stale_on_rds = replica();
    stale_on_rds.subject.host = "app.cluster-abc123.eu-central-1.rds.amazonaws.com".into();
    let mut stale_cache = redis();
    stale_cache.subject.role = Role::Primary;
    stale_cache.subject.host = "master.rg.abc123.euc1.cache.amazonaws.com".into();
    let read_only =
        failure(Phase::Query, Kind::ReadOnly, "READONLY You can't write against a read only replica.");
    let mut by_address = replica();
    by_address.names = None;
    by_address.before = Some(Details::Postgres(Box::default()));
    vec![
        case(
            "an address out of what is expected",
            outside,
            (UnexpectedAddress, Certain),
            "db.internal leads to 192.168.1.7 (private), which is not in 10.0.0.0/8",
            "expect.addresses",
        ),
        case(
            "a public address where a private one is expected",
            public,
            (SplitHorizon, Likely),
            "db.internal leads to 203.0.113.9, a public address, where a private one is expected",
            "169.254.169.253",
        ),
        case(
            "fewer records than expected",
            few,
            (UnexpectedContent, Certain),
            "db.internal:0 answers with something else than the check expects",
            "correct what is expected",
        ),
        case(
            "a private name with a public address that does not answer",
            leaked,
            (SplitHorizon, Likely),
            "db.internal leads to 203.0.113.9, a public address, where a private one is expected",
            "private view",
        ),
        case(
            "an RDS endpoint with a public address inside of a VPC",
            rds,
            (SplitHorizon, Likely),
            "mydb.abc123.eu-central-1.rds.amazonaws.com leads to 203.0.113.9, a public address, where a private one is expected",
            "aws route53 list-hosted-zones-by-vpc --region eu-central-1 --vpc-id $(aws ec2 describe-network-interfaces --region eu-central-1 --filters Name=addresses.private-ip-address,Values=10.0.1.23",
        ),
        case(
            "a name of which one server has the private view",
            one_view,
            (SplitHorizon, Likely),
            "db.example.com leads to 203.0.113.9, a public address, where a private one is expected",
            "private view",
        ),
        case(
            "a public service that does not answer is only that",
            saas.clone(),
            (HostDropped, Likely),
            "packets to 203.0.113.9 vanish: neither port 5432 nor port 47 answers",
            "nft list ruleset",
        ),
        case(
            "a private name with a public address that works",
            works,
            (Works, Certain),
            "the path to db.internal:5432 works to its end",
            "",
        ),
        case(
            "servers that disagree on a path that works",
            disagreeing(postgres(), "10.0.9.9"),
            (ResolversDisagree, Likely),
            "the name servers lead db.internal to different addresses",
            "different zones",
        ),
        case(
            "servers of which one is silent, on a path that works",
            one_silent,
            (OneResolverDead, Certain),
            "of the name servers, 10.0.0.3 does not answer, while 10.0.0.2 answers for db.internal",
            "dig @10.0.0.3 db.internal",
        ),
        case(
            "servers that disagree, and the address of one is dead",
            disagreeing(dead_by_one, "10.0.9.9"),
            (ResolversDisagree, Likely),
            "the name servers lead db.internal to different addresses",
            "different zones",
        ),
        case(
            "a name that moves while a connection is refused",
            moving(refused(), Ok(answer("db.internal", &["10.0.9.9"]))),
            (NameMoving, Likely),
            "db.internal led to 10.0.3.7 at first and leads to 10.0.9.9 now: it is being moved",
            "run this diagnosis again",
        ),
        case(
            "a name that moves while all works",
            moving(postgres(), Ok(answer("db.internal", &["10.0.9.9"]))),
            (NameMoving, Likely),
            "db.internal led to 10.0.3.7 at first and leads to 10.0.9.9 now: it is being moved",
            "run this diagnosis again",
        ),
        case(
            "a name that has lost one of its addresses",
            moving(two_addresses, Ok(answer("db.internal", &["10.0.3.7"]))),
            (Works, Certain),
            "the path to db.internal:5432 works to its end",
            "",
        ),
        case(
            "a public name whose answers take turns while a connection is swallowed",
            moving(saas.clone(), Ok(answer("db.example.com", &["203.0.113.77"]))),
            (HostDropped, Likely),
            "packets to 203.0.113.9 vanish: neither port 5432 nor port 47 answers",
            "nft list ruleset",
        ),
        case(
            "a private name whose first answer came again while a connection is refused",
            turning,
            (Refused, Likely),
            "10.0.3.7:5432 refuses connections: nothing listens on port 5432",
            "ss -ltnp",
        ),
        case(
            "a name that nobody can tell of at the end",
            moving(postgres(), Err(dns_timeout())),
            (Works, Certain),
            "the path to db.internal:5432 works to its end",
            "",
        ),
        case(
            "a name that goes away",
            moving(refused(), Err(nxdomain("db.internal does not exist"))),
            (NameMoving, Likely),
            "db.internal led to 10.0.3.7 at first and cannot be resolved any more",
            "run this diagnosis again",
        ),
        case(
            "a replica where a primary was",
            stale,
            (StaleDns, Likely),
            "db.internal still leads to 10.0.3.7:5432, which is a replica by now",
            "wait until the record has followed, 5 s and the failover itself",
        ),
        case(
            "a replica at a writer's endpoint",
            stale_on_rds,
            (StaleDns, Likely),
            "app.cluster-abc123.eu-central-1.rds.amazonaws.com still leads to 10.0.3.7:5432, which is a replica by now",
            "aws rds describe-events --region eu-central-1 --source-identifier app --source-type db-cluster",
        ),
        case(
            "a replica at a cache's primary endpoint",
            failing(stale_cache, read_only.with_code("READONLY")),
            (StaleDns, Likely),
            "master.rg.abc123.euc1.cache.amazonaws.com still leads to 10.0.3.9:6379, which is a replica by now",
            "aws elasticache describe-replication-groups --region eu-central-1 --replication-group-id rg",
        ),
        case(
            "a replica at a name that never led to a primary",
            replica(),
            (WrongRole, Certain),
            "10.0.3.7:5432 is a replica, and the role primary is expected",
            "correct `role`",
        ),
        case(
            "a replica at an address, which no record moves",
            by_address,
            (WrongRole, Certain),
            "10.0.3.7:5432 is a replica, and the role primary is expected",
            "does not follow a failover",
        ),
    ]
}

fn ways() -> Vec<Case> {
    let timeout = Kind::ConnectTimeout;
    let port_dropped = || unconnected(vec![silent(5432); 4], Some(refused(47)), timeout);
    let host_dropped = || unconnected(vec![silent(5432); 4], Some(silent(47)), timeout);
    let in_task = |mut evidence: Evidence| {
        evidence.task = Some(task());
        evidence
    };
    let here = |mut evidence: Evidence| {
        evidence.names = None;
        evidence.subject.host = "127.0.0.1".into();
        evidence.paths[0].address = at("127.0.0.1:5432");
        evidence
    };
    let mut public_endpoint = port_dropped();
    public_endpoint.subject.host = "mydb.abc123.eu-central-1.rds.amazonaws.com".into();
    public_endpoint.paths[0].address = at("203.0.113.9:5432");
    public_endpoint.paths[0].route = Route::default();
    let rejected = |by| {
        unconnected(
            vec![errno(5432, "EHOSTUNREACH", Some(prohibited(by)))],
            Some(silent(47)),
            Kind::ConnectUnreachable,
        )
    };
    let icmp = |meaning: &str, from: Option<&str>, own| Icmp {
        meaning: meaning.into(),
        by_filter: false,
        from: from.map(|from| from.parse().unwrap()),
        own,
    };
    let port_unreachable =
        errno(5432, "ECONNREFUSED", Some(icmp("port unreachable", Some("10.0.3.7"), false)));
    let by_itself = errno(5432, "EHOSTUNREACH", Some(icmp("host unreachable", Some("10.0.3.7"), false)));
    let by_router = errno(5432, "EHOSTUNREACH", Some(icmp("network unreachable", Some("10.0.1.1"), false)));
    let of_router = errno(5432, "EHOSTUNREACH", Some(icmp("host unreachable", Some("10.0.1.1"), false)));
    let own_reject = errno(5432, "ECONNREFUSED", Some(icmp("port unreachable", Some("10.0.1.23"), true)));
    let mut no_way = unconnected(vec![errno(5432, "ENETUNREACH", None)], None, Kind::ConnectUnreachable);
    no_way.paths[0].route = Route { source: Some(Err("ENETUNREACH".into())), ..Route::default() };
    let mut forbidden = unconnected(vec![errno(5432, "EACCES", None)], None, Kind::ConnectUnreachable);
    let entry = forbidden.paths[0].route.entry.as_mut().unwrap();
    (entry.network, entry.forbids) = ("10.0.3.0/24".parse().unwrap(), true);
    let mut by_rules = forbidden.clone();
    by_rules.paths[0].tries = vec![silent(5432); 4];
    let mut answered = forbidden.clone();
    answered.paths[0].route.source = Some(Err("ENETUNREACH".into()));
    answered.paths[0].tries = vec![refused(5432)];
    forbidden.paths[0].route.source = Some(Err("EACCES".into()));
    let gave_up = errno(5432, "EHOSTUNREACH", Some(icmp("host unreachable", Some("10.0.1.23"), true)));
    let mut dead_router = unconnected(vec![gave_up], None, Kind::ConnectUnreachable);
    dead_router.paths[0].route.neighbour.as_mut().unwrap().answers = false;
    let mut nobody = unconnected(vec![silent(5432); 4], Some(silent(47)), timeout);
    nobody.paths[0].route.neighbour =
        Some(Neighbour { address: "10.0.3.7".parse().unwrap(), answers: false });
    let mut passed_unreachable = unconnected(vec![connected(5432)], None, Kind::ConnectUnreachable);
    passed_unreachable.names = None;
    let old_kernel = unconnected(vec![errno(5432, "EHOSTUNREACH", None)], None, Kind::ConnectUnreachable);
    let two = |second: Path| {
        let mut evidence = postgres();
        evidence.names =
            Some(super::super::super::test_support::names("db.internal", &["10.0.3.7", "10.0.3.8"]));
        evidence.paths.push(second);
        evidence
    };
    let dead = path("10.0.3.8:5432", vec![silent(5432); 4], Some(silent(47)));
    let once = path("10.0.3.8:5432", vec![silent(5432)], None);
    let mut many = two(path("10.0.3.8:5432", vec![refused(5432)], None));
    let of_many = ["10.0.3.7", "10.0.3.8", "10.0.3.9", "10.0.3.10", "10.0.3.11"];
    many.names = Some(super::super::super::test_support::names("db.internal", &of_many));
    let denied_v6 = |errno_is| {
        let mut evidence = unconnected(vec![errno(5432, errno_is, None)], None, Kind::ConnectUnreachable);
        evidence.paths[0].address = at("[fd00::7]:5432");
        evidence
    };
    let mut v6 = path("[fd00::8]:5432", vec![errno(5432, "ENETUNREACH", None)], None);
    v6.route = Route { source: Some(Err("ENETUNREACH".into())), ..Route::default() };
    let mut lossy = postgres();
    let late = Try { took: millis(1030), ..connected(5432) };
    lossy.paths[0].tries = vec![late.clone(), connected(5432), silent(5432), connected(5432)];
    let mut far = postgres();
    far.paths[0].tries = vec![late.clone(); 4];
    let second = attempt(Ok(()));
    let slow_connect = |mut one: Attempt| {
        one.phases.add(Phase::Connect, Duration::from_secs(1));
        one
    };
    far.attempt = Some(slow_connect(second.clone()));
    let mut lost_by_check = postgres();
    lost_by_check.attempt = Some(slow_connect(second));
    let mut lost_later = failing(lossy.clone(), failure(Phase::Query, Kind::QueryTimeout, "no answer"));
    lost_later.words = None;
    let lost_first = unconnected(vec![silent(5432), connected(5432)], Some(refused(47)), timeout);
    let passed = unconnected(vec![connected(5432)], Some(refused(47)), timeout);
    let mut unseen = host_dropped();
    unseen.paths.clear();
    let hang = failure(Phase::Query, Kind::Timeout, "connected, then no answer to the query within 5.0s");
    let mut narrow = failing(postgres(), hang);
    narrow.small_segments = Some(SmallSegments {
        segment: 536,
        what: "a long question".into(),
        large_silent: 2,
        large_answered: 0,
        small_answered: 2,
        small_silent: 0,
    });
    let mut slow = narrow.clone();
    slow.small_segments.as_mut().unwrap().small_silent = 1;
    let mut surprised = unconnected(vec![refused(5432)], None, Kind::ConnectRefused);
    surprised.names.as_mut().unwrap().answer.as_mut().unwrap().found_as = "db.internal.corp.example.".into();
    vec![
        case(
            "a port that a filter drops",
            port_dropped(),
            (PortDropped, Likely),
            "packets to port 5432 of 10.0.3.7 vanish on the way, while the host answers on another port",
            "look for a packet filter on 10.0.3.7",
        ),
        case(
            "a port that a security group drops",
            in_task(port_dropped()),
            (PortDropped, Likely),
            "packets to port 5432 of 10.0.3.7 vanish on the way, while the host answers on another port",
            "`aws ec2 describe-security-groups --region eu-central-1 --group-ids $(aws ec2 describe-network-interfaces --region eu-central-1 --filters Name=addresses.private-ip-address,Values=10.0.3.7 --output text --query 'NetworkInterfaces[].Groups[].GroupId') --query 'SecurityGroups[].[GroupId,IpPermissions]'`",
        ),
        case(
            "a port of a public endpoint that is dropped, seen from nowhere in particular",
            public_endpoint,
            (PortDropped, Likely),
            "packets to port 5432 of 203.0.113.9 vanish on the way, while the host answers on another port",
            "in from the public address by which this task gets out",
        ),
        case(
            "a local server with a full queue",
            here(port_dropped()),
            (PortDropped, Unclear),
            "port 5432 of 127.0.0.1 does not answer, while the host does on another port",
            "`ss -ltn 'sport = :5432'`",
        ),
        case(
            "a host that is dropped",
            host_dropped(),
            (HostDropped, Likely),
            "packets to 10.0.3.7 vanish: neither port 5432 nor port 47 answers",
            "`ip route get 10.0.3.7`",
        ),
        case(
            "a host in another VPC",
            in_task(host_dropped()),
            (HostDropped, Likely),
            "packets to 10.0.3.7 vanish: neither port 5432 nor port 47 answers",
            "Name=association.subnet-id,Values=$(aws ec2 describe-network-interfaces",
        ),
        case(
            "a silent port without a contrast",
            unconnected(vec![silent(5432)], None, timeout),
            (HostDropped, Unclear),
            "10.0.3.7:5432 does not answer, and whether the host does on another port was not seen",
            "packet filter",
        ),
        case(
            "a timeout of which nothing else was seen",
            unseen,
            (HostDropped, Unclear),
            "db.internal:5432 does not answer, and whether the host does on another port was not seen",
            "packet filter",
        ),
        case(
            "a router that forbids",
            rejected("10.0.1.1"),
            (Rejected, Certain),
            "10.0.1.1 refuses to pass packets to port 5432 of 10.0.3.7 on: it answers \"administratively prohibited\"",
            "look at the packet filter of 10.0.1.1 (or, where it has none, for a `prohibit` route at 10.0.1.1): let TCP port 5432 through from 10.0.1.23",
        ),
        case(
            "a router that cannot reach one port of a host",
            unconnected(vec![of_router.clone(); 4], Some(refused(47)), Kind::ConnectUnreachable),
            (Rejected, Likely),
            "a filter turns back packets to port 5432 of 10.0.3.7: 10.0.1.1 answers \"host unreachable\"",
            "look at the packet filter of 10.0.1.1",
        ),
        case(
            "a router before a host that is gone",
            unconnected(vec![of_router], Some(silent(47)), Kind::ConnectUnreachable),
            (Unreachable, Certain),
            "10.0.1.1 on the way answers that it cannot reach 10.0.3.7: host unreachable",
            "whether the address is still its own",
        ),
        case(
            "our own filter, which rejects",
            unconnected(vec![own_reject], Some(silent(47)), Kind::ConnectRefused),
            (Rejected, Certain),
            "this host itself turns back packets to 10.0.3.7:5432: its own packet filter answers \"port unreachable\"",
            "let TCP port 5432 out: `nft list ruleset`",
        ),
        case(
            "our own filter for IPv6",
            denied_v6("EPERM"),
            (Rejected, Certain),
            "this host itself does not let packets to [fd00::7]:5432 out",
            "nft list ruleset",
        ),
        case(
            "a filter for IPv6, ours or not",
            denied_v6("EACCES"),
            (Rejected, Likely),
            "this host itself does not let packets to [fd00::7]:5432 out, as it seems",
            "nft list ruleset",
        ),
        case(
            "a host that forbids",
            in_task(rejected("10.0.3.7")),
            (Rejected, Certain),
            "a filter turns back packets to port 5432 of 10.0.3.7: 10.0.3.7 itself answers \"administratively prohibited\"",
            "look at the packet filter of 10.0.3.7",
        ),
        case(
            "a port that is unreachable, which no TCP says",
            unconnected(vec![port_unreachable], Some(silent(47)), Kind::ConnectRefused),
            (Rejected, Likely),
            "a filter turns back packets to port 5432 of 10.0.3.7: 10.0.3.7 itself answers \"port unreachable\"",
            "look at the packet filter of 10.0.3.7",
        ),
        case(
            "a host that says of itself that it cannot be reached",
            unconnected(vec![by_itself], Some(silent(47)), Kind::ConnectUnreachable),
            (Rejected, Likely),
            "a filter turns back packets to port 5432 of 10.0.3.7: 10.0.3.7 itself answers \"host unreachable\"",
            "look at the packet filter of 10.0.3.7",
        ),
        case(
            "our own filter",
            unconnected(vec![errno(5432, "EPERM", None)], None, Kind::ConnectUnreachable),
            (Rejected, Certain),
            "this host itself does not let packets to 10.0.3.7:5432 out",
            "nft list ruleset",
        ),
        case(
            "nothing listens",
            unconnected(vec![refused(5432); 4], Some(silent(47)), Kind::ConnectRefused),
            (Refused, Likely),
            "10.0.3.7:5432 refuses connections: nothing listens on port 5432",
            "listens on this address, and not on 127.0.0.1 alone (`listen_addresses`); on 10.0.3.7: `ss -ltnp 'sport = :5432'`",
        ),
        case(
            "nothing listens on this host",
            here(unconnected(vec![refused(5432)], Some(refused(47)), Kind::ConnectRefused)),
            (Refused, Likely),
            "127.0.0.1:5432 refuses connections: nothing listens on port 5432",
            "127.0.0.1 is the container itself",
        ),
        case(
            "nothing listens in the task",
            in_task(here(unconnected(vec![refused(5432)], Some(refused(47)), Kind::ConnectRefused))),
            (Refused, Likely),
            "127.0.0.1:5432 refuses connections: nothing listens on port 5432",
            "the containers of a task share 127.0.0.1",
        ),
        case(
            "refused at the check, and taken by now",
            unconnected(vec![connected(5432)], None, Kind::ConnectRefused),
            (Refused, Likely),
            "10.0.3.7:5432 refused the check's connection and takes connections by now: it was being started, or restarted",
            "compare the port",
        ),
        case(
            "found by the search list, and refused there",
            surprised,
            (Refused, Likely),
            "10.0.3.7:5432 refuses connections: nothing listens on port 5432",
            "write the name with a dot at its end, db.internal.",
        ),
        case("no route", no_way, (NoRoute, Certain), "this host has no route to 10.0.3.7", "ip route"),
        case(
            "a route that forbids",
            forbidden,
            (NoRoute, Certain),
            "this host forbids itself the way to 10.0.3.7: its routing table has an entry against 10.0.3.0/24",
            "ip route show table all",
        ),
        case(
            "a route that forbids, and rules that pass it by",
            by_rules,
            (HostDropped, Unclear),
            "10.0.3.7:5432 does not answer, and whether the host does on another port was not seen",
            "packet filter",
        ),
        case(
            "a way that was found all the same",
            answered,
            (Refused, Likely),
            "10.0.3.7:5432 refuses connections: nothing listens on port 5432",
            "listens on this address",
        ),
        case(
            "a next hop that is not there",
            dead_router,
            (Unreachable, Certain),
            "the router 10.0.1.1 on the way to 10.0.3.7 does not answer on the link",
            "its next hop is not there",
        ),
        case(
            "a host that is not there",
            nobody,
            (Unreachable, Certain),
            "nobody answers for 10.0.3.7 on its own link: the host is down, or has another address",
            "see whether the host runs",
        ),
        case(
            "a router that knows no further",
            unconnected(vec![by_router], None, Kind::ConnectUnreachable),
            (Unreachable, Certain),
            "10.0.1.1 on the way answers that it cannot reach 10.0.3.7: network unreachable",
            "traceroute",
        ),
        case(
            "unreachable, and an old kernel",
            in_task(old_kernel),
            (Unreachable, Likely),
            "10.0.3.7 cannot be reached: no host, or no way, at its end",
            "aws ec2 describe-route-tables",
        ),
        case(
            "unreachable at the check, and reached by now",
            passed_unreachable,
            (Unreachable, Unclear),
            "10.0.3.7:5432 could not be reached at the check",
            "route",
        ),
        case(
            "one address of two",
            two(dead),
            (OneAddressDead, Likely),
            "of the two addresses of db.internal, 10.0.3.8 takes no connections to port 5432",
            "take it out of the name's record",
        ),
        case(
            "one address of two that says so",
            two(path("10.0.3.8:5432", vec![refused(5432); 4], Some(silent(47)))),
            (OneAddressDead, Certain),
            "of the two addresses of db.internal, 10.0.3.8 takes no connections to port 5432",
            "take it out of the name's record",
        ),
        case(
            "one address of many, of which some were tried",
            many,
            (OneAddressDead, Certain),
            "of the two addresses of db.internal that were tried, 10.0.3.8 takes no connections to port 5432",
            "take it out of the name's record",
        ),
        case(
            "one address of two, once",
            two(once),
            (OneAddressDead, Likely),
            "of the two addresses of db.internal, 10.0.3.8 takes no connections to port 5432",
            "take it out of the name's record",
        ),
        case(
            "a host without IPv6",
            two(v6),
            (Works, Certain),
            "the path to db.internal:5432 works to its end",
            "",
        ),
        case(
            "packets lost now and then",
            lossy,
            (PacketLoss, Likely),
            "packets to 10.0.3.7:5432 are lost now and then: of five connections, one had no answer and one only after a repetition",
            "ethtool -S",
        ),
        case(
            "a long way is no loss",
            far,
            (Works, Certain),
            "the path to db.internal:5432 works to its end",
            "",
        ),
        case(
            "a first connection that was lost",
            lost_first,
            (PacketLoss, Likely),
            "packets to 10.0.3.7:5432 are lost now and then: of two connections, one had no answer",
            "ss -ltn",
        ),
        case(
            "a check that had no answer, and by now all have",
            passed,
            (PacketLoss, Unclear),
            "10.0.3.7:5432 did not answer the check's connection, and a moment later it did",
            "ss -ltn",
        ),
        case(
            "a narrow link",
            narrow,
            (MtuBlackHole, Likely),
            "large packets between 10.0.1.23 and 10.0.3.7:5432 vanish: a long question is answered with segments of 536 bytes, and never with larger ones",
            "fragmentation needed",
        ),
        case(
            "a server that hangs whatever the segments",
            slow,
            (QueryTimeout, Likely),
            "10.0.3.7:5432 answers, and not in time in query",
            "pg_stat_activity",
        ),
    ]
}

fn sessions() -> Vec<Case> {
    let http_on = |port| {
        let mut evidence = http();
        evidence.subject.port = port;
        evidence.paths[0].address.set_port(port);
        evidence
    };
    let spoken = |mut evidence: Evidence, said: Words, failure: Failure| {
        evidence.words = Some(said);
        failing(evidence, failure)
    };
    let foreign =
        || failure(Phase::Tls, Kind::Protocol, "what answers is not PostgreSQL: it began with \"H\"");
    let web = words(Speaks::Postgres, "HTTP/1.1 400 Bad Request", Some(Speaks::Http));
    let unknown = words(Speaks::Postgres, "hello", None);
    let postgres_at_web =
        failure(Phase::Query, Kind::ConnectReset, "the peer closed or reset the connection");
    let closed = Words { heard: Heard::Closed, ..words(Speaks::Http, "", Some(Speaks::Postgres)) };
    let tls_alert = failure(
        Phase::Query,
        Kind::TlsRequired,
        "the server takes only TLS: it answered plain Redis with a TLS alert",
    );
    let no_entry = failure(
        Phase::Auth,
        Kind::TlsRequired,
        "no pg_hba.conf entry for host \"10.0.1.23\", user \"app\", no encryption",
    );
    let only_tls = words(Speaks::Redis, "", Some(Speaks::Tls));
    let cut = || failure(Phase::Query, Kind::ConnectReset, "the peer closed or reset the connection");
    let wanting = |mut evidence: Evidence| {
        evidence.subject.tls = verified();
        evidence
    };
    let no_tls =
        failure(Phase::Tls, Kind::TlsHandshake, "the server does not offer TLS, and sslmode is verify-full");
    let mut not_spoken = wanting(failing(postgres(), no_tls));
    not_spoken.tls = Some(TlsSeen { not_spoken: Some("N".into()), ..TlsSeen::default() });
    let no_process = "Ecould not fork new process for connection: Resource temporarily unavailable\\n\\x00";
    let full = failure(
        Phase::Tls,
        Kind::TooManyConnections,
        "the server refuses the connection: could not fork new process for connection: Resource temporarily unavailable",
    );
    let mut full = wanting(failing(postgres(), full));
    full.tls = Some(TlsSeen { not_spoken: Some(no_process.into()), ..TlsSeen::default() });
    full.words = Some(words(Speaks::Postgres, no_process, Some(Speaks::Postgres)));
    let clear_text = |offers| {
        let message =
            "the server asks for the password in clear text, and the connection has no TLS: it was not sent";
        let refused = failure(Phase::Auth, Kind::TlsRequired, message).with_hint("as the check has it");
        let mut evidence = failing(postgres(), refused);
        evidence.words = Some(words(Speaks::Postgres, offers, Some(Speaks::Postgres)));
        evidence
    };
    let mut closes_each = http();
    closes_each.subject = subject(crate::health::Kind::Tcp, "api.internal", 80);
    closes_each.subject.speaks = None;
    let others = [Speaks::Postgres, Speaks::Tls, Speaks::Redis, Speaks::Http];
    closes_each.words = Some(Words {
        asked: None,
        heard: Heard::Closed,
        took: millis(1),
        others: others.map(|asked| (asked, Heard::Closed)).to_vec(),
        is: None,
    });
    let version = failure(Phase::Tls, Kind::TlsHandshake, "the TLS handshake failed: unsupported protocol");
    let mut old = wanting(failing(postgres(), version.clone()));
    old.tls = Some(TlsSeen {
        version: Some(Err("unsupported protocol".into())),
        only_speaks: Some("TLSv1.0".into()),
        ..TlsSeen::default()
    });
    let handshake = failure(Phase::Tls, Kind::TlsHandshake, "the TLS handshake failed: internal error");
    let nothing = |asked, is| Words { heard: Heard::Nothing, took: millis(2000), ..words(asked, "", is) };
    let hangs = |phase| failure(phase, Kind::Timeout, "connected, then no answer within 5.0s");
    let cut_words = Words { heard: Heard::Cut, ..words(Speaks::Redis, "", None) };
    vec![
        case(
            "a web server on the port of PostgreSQL",
            spoken(wanting(postgres()), web, foreign()),
            (WrongProtocol, Certain),
            "10.0.3.7:5432 speaks HTTP and not PostgreSQL",
            "correct the host or the port",
        ),
        case(
            "something unknown on the port of PostgreSQL",
            spoken(postgres(), unknown, foreign()),
            (WrongProtocol, Likely),
            "what listens at 10.0.3.7:5432 does not speak PostgreSQL",
            "check host and port",
        ),
        case(
            "PostgreSQL on the port of a web server",
            spoken(http_on(8080), closed, postgres_at_web),
            (WrongProtocol, Certain),
            "10.0.3.8:8080 speaks PostgreSQL and not HTTP",
            "the usual port of HTTP is 80",
        ),
        case(
            "a Redis that takes only TLS, by its alert",
            spoken(redis(), only_tls.clone(), tls_alert),
            (TlsRequired, Certain),
            "10.0.3.9:6379 takes only TLS, and this connection is made without",
            "set `dependencies.it.tls.enabled` to true",
        ),
        case(
            "a Redis that takes only TLS, by a second question",
            spoken(redis(), only_tls, cut()),
            (TlsRequired, Certain),
            "10.0.3.9:6379 takes only TLS, and this connection is made without",
            "set `dependencies.it.tls.enabled` to true",
        ),
        case(
            "a PostgreSQL that refuses what is not encrypted",
            {
                let mut evidence = failing(postgres(), no_entry.with_code("28000"));
                evidence.words = Some(words(Speaks::Postgres, "S", Some(Speaks::Postgres)));
                evidence
            },
            (TlsRequired, Likely),
            "10.0.3.7:5432 takes only TLS, and this connection is made without",
            "check the names, too",
        ),
        case(
            "TLS wanted of a server that has no process left",
            full,
            (TooManyConnections, Certain),
            "10.0.3.7:5432 cannot make a process for another connection",
            "pg_stat_activity",
        ),
        case(
            "a password wanted in clear text, and no TLS there",
            clear_text("N"),
            (TlsRequired, Certain),
            "10.0.3.7:5432 wants the password in clear text, and offers no TLS",
            "scram-sha-256",
        ),
        case(
            "a password wanted in clear text, and TLS not used",
            clear_text("S"),
            (TlsRequired, Certain),
            "10.0.3.7:5432 wants the password in clear text, and this connection is made without TLS",
            "as the check has it",
        ),
        case(
            "a user who may only come by TLS, which the server has none of",
            {
                let refused = "no pg_hba.conf entry for host \"10.0.1.23\", user \"app\", no encryption";
                failing(postgres(), failure(Phase::Auth, Kind::TlsRequired, refused).with_code("28000"))
            },
            (TlsRequired, Likely),
            "10.0.3.7:5432 lets this user in with TLS alone, and offers none",
            "turn `ssl` on at the server",
        ),
        case(
            "a port that closes whatever is asked",
            closes_each,
            (Cut, Likely),
            "10.0.3.8:80 takes connections and cuts every one of them",
            "listens",
        ),
        case(
            "TLS wanted of a server that has none",
            not_spoken,
            (TlsNotSpoken, Certain),
            "10.0.3.7:5432 speaks no TLS, and TLS is wanted",
            "compare the port",
        ),
        case(
            "TLS wanted of a port that stays silent to it, and speaks in clear text",
            {
                let silence =
                    failure(Phase::Tls, Kind::Timeout, "connected, then no answer to the TLS handshake");
                let mut evidence = wanting(failing(redis(), silence));
                evidence.words = Some(nothing(Speaks::Tls, Some(Speaks::Redis)));
                evidence
            },
            (TlsNotSpoken, Certain),
            "10.0.3.9:6379 speaks no TLS, and TLS is wanted",
            "compare the port",
        ),
        case(
            "a server of yesterday",
            old,
            (TlsVersion, Certain),
            "10.0.3.7:5432 speaks TLSv1.0 and nothing newer, which is not allowed here",
            "ssl_min_protocol_version",
        ),
        case(
            "no version in common, as far as is known",
            wanting(failing(postgres(), version)),
            (TlsVersion, Likely),
            "10.0.3.7:5432 and this program have no version or cipher of TLS in common",
            "openssl s_client -showcerts -connect db.internal:5432 -starttls postgres -servername db.internal",
        ),
        case(
            "a handshake that fails",
            wanting(failing(postgres(), handshake)),
            (TlsFails, Unclear),
            "the TLS handshake with 10.0.3.7:5432 fails",
            "openssl s_client",
        ),
        case(
            "a server that says nothing",
            spoken(redis(), nothing(Speaks::Redis, None), hangs(Phase::Query)),
            (Mute, Likely),
            "10.0.3.9:6379 takes connections and then says nothing",
            "see whether the process hangs",
        ),
        case(
            "a server that said nothing, as far as was seen",
            {
                let mut evidence = failing(redis(), hangs(Phase::Query));
                evidence.words = None;
                evidence
            },
            (Mute, Unclear),
            "10.0.3.9:6379 takes connections, and said nothing at the check",
            "ss -ltn",
        ),
        case(
            "a server that answers, and hangs at the log-in",
            failing(postgres(), hangs(Phase::Auth)),
            (QueryTimeout, Likely),
            "10.0.3.7:5432 answers, and not in time in auth",
            "pg_blocking_pids",
        ),
        case(
            "a peer that hangs up",
            spoken(redis(), cut_words, cut()),
            (Cut, Likely),
            "10.0.3.9:6379 takes connections and cuts them",
            "proxy",
        ),
        case(
            "a connection that was cut once",
            failing(redis(), cut()),
            (Cut, Unclear),
            "the connection to 10.0.3.9:6379 was cut at the check, and by now it answers: it was restarted, or ended this one connection",
            "restarts",
        ),
        case(
            "a connection that was cut, and now nobody takes one",
            {
                let mut evidence = failing(redis(), cut());
                evidence.words = None;
                evidence.paths[0].tries = vec![refused(6379)];
                evidence
            },
            (Refused, Likely),
            "10.0.3.9:6379 refuses connections: nothing listens on port 6379",
            "(`bind`)",
        ),
    ]
}

fn certificates() -> Vec<Case> {
    let with = |problems: Vec<CertificateProblem>, chain: Vec<CertificateSeen>, message: &str| {
        let told = failure(Phase::Tls, Kind::TlsCertificate, message).with_hint("as the check has it");
        let mut evidence = failing(postgres(), told);
        evidence.subject.tls = verified();
        evidence.tls = Some(TlsSeen { problems, chain, ..tls() });
        evidence
    };
    let own = |days| certificate("CN=db.internal", "db.internal", days);
    let expired = with(vec![CertificateProblem::Expired(0)], vec![own(-3)], "certificate has expired");
    let above = with(
        vec![CertificateProblem::Expired(1)],
        vec![own(38), certificate("CN=Test Authority", "", -5)],
        "certificate has expired",
    );
    let mut uninspected = expired.clone();
    uninspected.tls = None;
    let mut anyway = expired.clone();
    anyway.attempt = Some(attempt(Ok(())));
    let mut nobody_looks = anyway.clone();
    nobody_looks.tls.as_mut().unwrap().problems.clear();
    let both = with(
        vec![CertificateProblem::UnknownAuthority, CertificateProblem::OtherName],
        vec![certificate("CN=x", "db.example", 38)],
        "unable to get local issuer certificate",
    );
    let begins = CertificateSeen {
        begins_at: Some(WallTime::from_unix_millis(NOW.unix_millis() + 2 * DAY)),
        ..own(38)
    };
    let young = with(vec![CertificateProblem::NotYetValid(0)], vec![begins], "certificate is not yet valid");
    let other = with(
        vec![CertificateProblem::OtherName],
        vec![certificate("CN=x", "db.example", 38)],
        "hostname mismatch",
    );
    let mut by_address = other.clone();
    by_address.subject.host = "10.0.3.7".into();
    by_address.names = None;
    let mut foreign = with(
        vec![CertificateProblem::UnknownAuthority],
        vec![own(38)],
        "unable to get local issuer certificate",
    );
    let mut rds = foreign.clone();
    rds.subject.host = "mydb.abc123.eu-central-1.rds.amazonaws.com".into();
    foreign.subject.tls =
        TlsWanted::Yes { verify: crate::config::plan::Verify::Full, root_cert: Some("/etc/ca.pem".into()) };
    let itself = with(vec![CertificateProblem::SelfSigned], vec![own(38)], "self-signed certificate");
    let unusable = with(
        vec![CertificateProblem::AuthoritiesUnusable("no such file".into())],
        vec![own(38)],
        "the file cannot be read",
    );
    let odd = with(
        vec![CertificateProblem::Other("unsupported purpose".into())],
        vec![own(38)],
        "unsupported certificate purpose",
    );
    let ended = failure(
        Phase::Auth,
        Kind::TlsHandshake,
        "the TLS session was ended: tlsv13 alert certificate required",
    );
    let mut wants = failing(postgres(), ended);
    wants.subject.tls = verified();
    wants.tls = Some(TlsSeen { wants_client_certificate: true, ..tls() });
    let cut = failure(Phase::Query, Kind::ConnectReset, "the peer closed or reset the connection");
    let mut maybe = failing(redis(), cut);
    maybe.subject.tls = verified();
    (maybe.tls, maybe.words) = (wants.tls.clone(), None);
    vec![
        case(
            "a certificate that has ended",
            expired,
            (CertificateExpired, Certain),
            "db.internal: the server's certificate ended on 2026-11-21 (3 days ago)",
            "renew the server's certificate",
        ),
        case(
            "an authority's certificate that has ended",
            above,
            (CertificateExpired, Certain),
            "db.internal: the certificate of CN=Test Authority above it ended on 2026-11-19 (5 days ago)",
            "the chain of today",
        ),
        case(
            "a certificate that has ended, by the check's words alone",
            uninspected,
            (CertificateExpired, Likely),
            "db.internal: a certificate of the chain has ended",
            "renew the server's certificate",
        ),
        case(
            "a certificate that has ended, on a path that goes on without",
            anyway,
            (CertificateExpired, Certain),
            "db.internal: the server's certificate ended on 2026-11-21 (3 days ago)",
            "renew the server's certificate",
        ),
        case(
            "a certificate that has ended, where nobody looks",
            nobody_looks,
            (CertificateExpired, Certain),
            "db.internal: the server's certificate ended on 2026-11-21 (3 days ago)",
            "renew the server's certificate",
        ),
        case(
            "a certificate with two faults",
            both,
            (CertificateUnknownAuthority, Certain),
            "the certificate of db.internal is not trusted here: its last issuer, CN=Test Authority, is not among the authorities",
            "configure the host by a name that the certificate is for (db.example)",
        ),
        case(
            "a certificate that has not begun",
            young,
            (CertificateNotYetValid, Certain),
            "db.internal: the server's certificate begins on 2026-11-26 (in 2 days)",
            "compare the clocks",
        ),
        case(
            "a certificate for another name",
            other,
            (CertificateOtherName, Certain),
            "the certificate at 10.0.3.7:5432 is not for db.internal: the certificate is for db.example",
            "configure the host by a name that the certificate is for (db.example)",
        ),
        case(
            "a certificate for names, and an address",
            by_address,
            (CertificateOtherName, Certain),
            "the certificate at 10.0.3.7:5432 is not for 10.0.3.7: the certificate is for db.example",
            "openssl s_client -showcerts -connect 10.0.3.7:5432 -starttls postgres`",
        ),
        case(
            "an authority that nobody trusts",
            foreign,
            (CertificateUnknownAuthority, Certain),
            "the certificate of db.internal is not trusted here: its last issuer, CN=Test Authority, is not among the authorities",
            "as the check has it",
        ),
        case(
            "RDS without its bundle",
            rds,
            (CertificateUnknownAuthority, Certain),
            "the certificate of mydb.abc123.eu-central-1.rds.amazonaws.com is not trusted here: its last issuer, CN=Test Authority, is not among the authorities",
            "global-bundle.pem",
        ),
        case(
            "a certificate that signed itself",
            itself,
            (CertificateUnknownAuthority, Certain),
            "the certificate of db.internal is not trusted here: the certificate signed itself, and is not among the authorities",
            "do not turn verification off",
        ),
        case(
            "a file of authorities that cannot be read",
            unusable,
            (AuthoritiesUnusable, Certain),
            "the system's authorities cannot be used, so no certificate can be verified",
            "PEM",
        ),
        case(
            "a certificate with another fault",
            odd,
            (TlsFails, Likely),
            "the certificate of 10.0.3.7:5432 is not accepted",
            "openssl s_client",
        ),
        case(
            "a server that wants our certificate",
            wants,
            (ClientCertificateRequired, Certain),
            "10.0.3.7:5432 wants a certificate of ours, and there is none",
            "clientcert",
        ),
        case(
            "a server that asked for our certificate, and then hung up",
            maybe,
            (ClientCertificateRequired, Likely),
            "10.0.3.9:6379 wants a certificate of ours, and there is none",
            "clientcert",
        ),
    ]
}

fn log_ins() -> Vec<Case> {
    let auth = |kind, code: &str, message: &str| {
        failing(postgres(), failure(Phase::Auth, kind, message).with_code(code))
    };
    let cache = |kind, code: &str, message: &str| {
        failing(redis(), failure(Phase::Auth, kind, message).with_code(code))
    };
    let no_password = failing(
        postgres(),
        failure(Phase::Auth, Kind::AuthFailed, "the server asks for a password and none is set"),
    );
    let mut rotated = auth(Kind::AuthFailed, "28P01", "password authentication failed for user \"app\"");
    rotated.task = Some(task());
    vec![
        case(
            "a password that nobody gave",
            no_password,
            (PasswordMissing, Certain),
            "10.0.3.7:5432 asks for a password, and none is configured",
            "sickbay config show",
        ),
        case(
            "a Redis that wants one",
            cache(Kind::AuthFailed, "NOAUTH", "NOAUTH Authentication required."),
            (PasswordMissing, Certain),
            "10.0.3.9:6379 asks for a password, and none is configured",
            "sickbay config show",
        ),
        case(
            "a password that is wrong",
            rotated,
            (PasswordWrong, Certain),
            "10.0.3.7:5432 does not accept the user app with the password that is configured",
            "--force-new-deployment",
        ),
        case(
            "a Redis that does not take it",
            cache(
                Kind::AuthFailed,
                "WRONGPASS",
                "WRONGPASS invalid username-password pair or user is disabled.",
            ),
            (PasswordWrong, Certain),
            "10.0.3.9:6379 does not accept the user with the password that is configured",
            "redis-cli -h cache.internal -p 6379 --askpass PING",
        ),
        case(
            "a Redis that has no password",
            cache(Kind::AuthFailed, "ERR", "the server has no password for the default user"),
            (PasswordWrong, Likely),
            "10.0.3.9:6379 has no password for its default user, and one is configured here",
            "redis-cli",
        ),
        case(
            "a Redis that does not know AUTH",
            cache(Kind::AuthFailed, "ERR", "the server does not take AUTH"),
            (PasswordWrong, Likely),
            "10.0.3.9:6379 does not take AUTH, and a password is configured here",
            "redis-cli",
        ),
        case(
            "a role that is not there",
            auth(Kind::AuthFailed, "28000", "role \"app\" does not exist"),
            (UserMissing, Certain),
            "10.0.3.7:5432 has no role for the user app",
            "psql -h db.internal -p 5432 -U postgres -d postgres -c '\\du'",
        ),
        case(
            "a method of log-in that is not known",
            auth(Kind::AuthFailed, "28000", "channel binding is required"),
            (Unexplained, Unclear),
            "db.internal:5432 fails by auth_failed, and the evidence fits no known cause",
            "rotated",
        ),
        case(
            "pg_hba.conf",
            auth(
                Kind::AccessDenied,
                "28000",
                "no pg_hba.conf entry for host \"10.0.1.23\", user \"app\", database \"orders\", SSL encryption",
            ),
            (HostRulesRefuse, Certain),
            "the server's pg_hba.conf does not let the user app from 10.0.1.23 into the database orders",
            "pg_hba_file_rules",
        ),
        case(
            "protected mode",
            cache(Kind::AccessDenied, "DENIED", "DENIED Redis is running in protected mode."),
            (ProtectedMode, Certain),
            "Redis at 10.0.3.9:6379 is in protected mode and takes only connections from its own host",
            "requirepass",
        ),
        case(
            "an ACL",
            cache(
                Kind::AccessDenied,
                "NOPERM",
                "NOPERM this user has no permissions to run the 'ping' command",
            ),
            (NotPermitted, Certain),
            "10.0.3.9:6379 knows the user and does not permit what the check does",
            "ACL GETUSER default",
        ),
        case(
            "a database that takes nobody",
            auth(Kind::AccessDenied, "55000", "database \"orders\" is not currently accepting connections"),
            (NotPermitted, Certain),
            "the database orders at 10.0.3.7:5432 takes no connections, whoever asks",
            "datallowconn",
        ),
        case(
            "a refusal in another language",
            auth(Kind::AccessDenied, "28000", "kein Eintrag"),
            (NotPermitted, Likely),
            "10.0.3.7:5432 knows the user app and does not permit what the check does",
            "\\du",
        ),
        case(
            "a database that is not there",
            auth(Kind::DatabaseMissing, "3D000", "database \"orders\" does not exist"),
            (DatabaseMissing, Certain),
            "the server at 10.0.3.7:5432 has no database orders",
            "'\\l'",
        ),
    ]
}

fn states() -> Vec<Case> {
    let auth = |kind, code: &str, message: &str| {
        failing(postgres(), failure(Phase::Auth, kind, message).with_code(code))
    };
    let cache = |kind, code: &str, message: &str| {
        failing(redis(), failure(Phase::Query, kind, message).with_code(code))
    };
    let mut full = auth(Kind::TooManyConnections, "53300", "sorry, too many clients already");
    let connections = Connections {
        used: Some(87),
        max: Some(100),
        reserved: Some(3),
        by_application: Some(vec![
            ("api".into(), 60),
            (String::new(), 20),
            ("cron".into(), 5),
            ("x".into(), 2),
        ]),
        this_task: Some(34),
        ..Connections::default()
    };
    full.before =
        Some(Details::Postgres(Box::new(PostgresDetails { connections, ..PostgresDetails::default() })));
    let mut replica = redis();
    replica.subject.role = Role::Replica;
    let replication =
        RedisReplication::Primary { offset: None, connected_replicas: None, replicas: Vec::new() };
    let mut primary = failing(
        replica,
        failure(Phase::Query, Kind::WrongRole, "the server is a primary, expected a replica"),
    );
    let details = RedisDetails { replication: Some(replication), ..RedisDetails::default() };
    primary.attempt.as_mut().unwrap().details = Details::Redis(Box::new(details));
    vec![
        case(
            "no connection left",
            full,
            (TooManyConnections, Certain),
            "10.0.3.7:5432 has no connection left for this client",
            "pg_stat_activity",
        ),
        case(
            "a Redis without a place",
            cache(Kind::TooManyConnections, "ERR", "ERR max number of clients reached"),
            (TooManyConnections, Certain),
            "10.0.3.9:6379 has no connection left for this client",
            "CLIENT LIST",
        ),
        case(
            "a server that starts",
            auth(Kind::StartingUp, "57P03", "the database system is starting up"),
            (StartingUp, Certain),
            "10.0.3.7:5432 is starting",
            "wait",
        ),
        case(
            "a Redis that loads",
            cache(Kind::Loading, "LOADING", "LOADING Redis is loading the dataset in memory"),
            (StartingUp, Certain),
            "10.0.3.9:6379 loads its data and answers nothing else",
            "wait",
        ),
        case(
            "a server that recovers",
            auth(Kind::StartingUp, "57P03", "the database system is in recovery mode"),
            (Recovering, Certain),
            "10.0.3.7:5432 recovers: it replays its log and takes no connections yet",
            "hot_standby",
        ),
        case(
            "a server that stops",
            auth(Kind::ShuttingDown, "57P03", "the database system is shutting down"),
            (ShuttingDown, Certain),
            "10.0.3.7:5432 is being stopped",
            "a new primary",
        ),
        case(
            "a server of which a process crashed",
            auth(
                Kind::ShuttingDown,
                "57P02",
                "terminating connection because of crash of another server process",
            ),
            (ShuttingDown, Likely),
            "one of the processes of 10.0.3.7:5432 crashed: it ended all sessions, and starts anew",
            "out-of-memory killer",
        ),
        case(
            "a pooler whose server is gone",
            auth(Kind::ShuttingDown, "08P01", "server conn crashed?"),
            (ShuttingDown, Likely),
            "the connection from the pooler at 10.0.3.7:5432 to the server behind it broke",
            "read the server's log",
        ),
        case(
            "a pooler that has a database disabled",
            auth(Kind::ShuttingDown, "08P01", "database \"orders\" is disabled"),
            (ShuttingDown, Certain),
            "the pooler at 10.0.3.7:5432 has this database taken out of service",
            "ENABLE",
        ),
        case(
            "a session that was ended",
            auth(Kind::ShuttingDown, "57P01", "terminating connection due to administrator command"),
            (ShuttingDown, Likely),
            "10.0.3.7:5432 is being stopped",
            "a new primary",
        ),
        case(
            "a node of a cluster",
            cache(Kind::QueryFailed, "MOVED", "MOVED 3999 10.0.3.10:6379"),
            (ClusterNode, Certain),
            "10.0.3.9:6379 is one node of a cluster, and sends its clients to another",
            "configuration endpoint",
        ),
        case(
            "a cluster without all its slots",
            cache(Kind::ClusterDown, "CLUSTERDOWN", "CLUSTERDOWN the cluster is down"),
            (ClusterDown, Certain),
            "10.0.3.9:6379 belongs to a cluster that is down",
            "CLUSTER NODES",
        ),
        case(
            "a primary where a replica is expected",
            primary,
            (WrongRole, Certain),
            "10.0.3.9:6379 is a primary, and the role replica is expected",
            "correct `role`",
        ),
        case(
            "a primary that is read-only",
            {
                let words = "the server is a primary and its transactions are read-only";
                let mut evidence = auth(Kind::ReadOnly, "25006", words);
                evidence.task = Some(task());
                evidence
            },
            (ReadOnly, Certain),
            "10.0.3.7:5432 takes no writes",
            "FreeStorageSpace",
        ),
        case(
            "a Redis that is full",
            cache(Kind::ReadOnly, "OOM", "OOM memory is full and nothing may be evicted: writes are refused"),
            (ReadOnly, Certain),
            "10.0.3.9:6379 takes no writes",
            "INFO memory",
        ),
    ]
}

fn answers() -> Vec<Case> {
    let query = |kind, message: &str| failing(http(), failure(Phase::Query, kind, message));
    let ended = failure(Phase::Query, Kind::QueryTimeout, "canceling statement due to statement timeout")
        .with_code("57014");
    let cancelled = failure(Phase::Query, Kind::QueryTimeout, "canceling statement due to user request")
        .with_code("57014");
    let late =
        failure(Phase::Query, Kind::QueryTimeout, "connected, then no answer to the query within 5.0s");
    let refused = failure(Phase::Query, Kind::QueryFailed, "ERR unknown command 'PING'").with_code("ERR");
    let unknown = failure(Phase::Connect, Kind::Protocol, "Invalid argument (os error 22)");
    let mut odd = failing(postgres(), unknown);
    odd.words = None;
    odd.paths[0].tries = vec![errno(5432, "22", None)];
    let mut unchecked = postgres();
    unchecked.attempt = None;
    unchecked.cut_short = true;
    let mut well = http();
    let attempt = well.attempt.as_mut().unwrap();
    attempt.details = Details::Http(HttpDetails { status_code: 200, body_bytes: 2, tls: None });
    attempt.warnings.push("slow".into());
    attempt.phases.add(Phase::Query, Duration::from_millis(7));
    vec![
        case("all is well", http(), (Works, Certain), "the path to api.internal:80 works to its end", ""),
        case(
            "all is well, and slow",
            well,
            (Works, Certain),
            "the path to api.internal:80 works to its end, with a warning: slow",
            "",
        ),
        case(
            "a name is well",
            dns(&["10.0.3.7"]),
            (Works, Certain),
            "the path to db.internal:0 works to its end",
            "",
        ),
        case(
            "another status",
            failing(
                http(),
                failure(Phase::Query, Kind::UnexpectedStatus, "status 503, expected 200")
                    .with_code("503")
                    .with_hint("look behind it"),
            ),
            (UnexpectedStatus, Certain),
            "api.internal:80 answers 503, which is not what the check expects",
            "look behind it",
        ),
        case(
            "other content",
            query(Kind::UnexpectedContent, "expected \"ok\" in the body, received \"no\""),
            (UnexpectedContent, Certain),
            "api.internal:80 answers with something else than the check expects",
            "correct what is expected",
        ),
        case(
            "a statement that was ended",
            failing(postgres(), ended),
            (QueryTimeout, Certain),
            "10.0.3.7:5432 did not finish the question in the time of the check, whose own limit ended it",
            "pg_blocking_pids",
        ),
        case(
            "a statement that somebody cancelled",
            failing(postgres(), cancelled),
            (QueryTimeout, Likely),
            "10.0.3.7:5432 ended the question before it was answered",
            "pg_blocking_pids",
        ),
        case(
            "a question without an answer",
            failing(postgres(), late),
            (QueryTimeout, Likely),
            "10.0.3.7:5432 had answered, and did not answer the question in time",
            "pg_blocking_pids",
        ),
        case(
            "a question that is refused",
            failing(redis(), refused),
            (QueryFailed, Certain),
            "10.0.3.9:6379 refuses the question, or answers it otherwise than expected",
            "INFO server",
        ),
        case(
            "a fault of our own",
            query(Kind::Internal, "Too many open files (os error 24)"),
            (Internal, Certain),
            "this program, or what it runs in, is at fault, not the dependency",
            "ulimit -n",
        ),
        case(
            "what nobody knows",
            odd,
            (Unexplained, Unclear),
            "db.internal:5432 fails by protocol, and the evidence fits no known cause",
            "check host and port",
        ),
        case(
            "a path that was not walked to its end",
            unchecked,
            (Unexplained, Unclear),
            "db.internal:5432 was not checked to its end",
            "--timeout",
        ),
    ]
}
