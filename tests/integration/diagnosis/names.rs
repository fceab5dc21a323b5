//! Names that lead nowhere, elsewhere, or to different places.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hickory_resolver::proto::op::ResponseCode;
use serde_json::json;
use tokio::io::AsyncReadExt;

use super::case::{dependency, first_of, target};
use crate::support::config::on;
use crate::support::dns::{self, Asked, Record, address, cname};
use crate::support::http::{Answer, HttpServer};
use crate::support::lab::{Host, Lab, RESOLVER, RESOLVER_2};
use crate::support::tcp::{Peer, with_reset};

const RESOLV_CONF: &str = "nameserver 10.77.2.53\n";
const BOTH: &str = "nameserver 10.77.2.53\nnameserver 10.77.2.54\n";
const DATABASE: &str = "db.internal:5432";

/// One address of the server.
fn zone() -> Vec<Record> {
    vec![address("db.internal", "10.77.2.10"), address("cache.internal", "10.77.2.11")]
}

/// A name server that answers each question with this code.
fn failing(lab: &Lab, code: ResponseCode) -> dns::ScriptedDns {
    lab.scripted_resolver(RESOLVER, move |asked: &Asked| {
        let mut answer = asked.answer([]);
        answer.metadata.response_code = code;
        Some(answer)
    })
}

/// A web server on the server's first address, where the name leads in most cases.
fn web(lab: &Lab) -> HttpServer {
    HttpServer::on(lab.tcp("10.77.2.10:8000"), Answer::status(200))
}

#[tokio::test(flavor = "multi_thread")]
async fn resolver_silent() {
    let Some(lab) = Lab::new() else { return };
    lab.resolv_conf(RESOLV_CONF);
    lab.filter(Host::Router, "ip daddr 10.77.2.53 drop");
    let seen = target(DATABASE).within(&lab).await;
    seen.saying("10.77.2.53").is(
        "resolver_silent",
        "the name server does not answer",
        ["dns", "dns_timeout", "resolver_silent", "certain"],
        "53",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn resolver_refuses() {
    let Some(lab) = Lab::new() else { return };
    let _resolver = failing(&lab, ResponseCode::Refused);
    lab.resolv_conf(RESOLV_CONF);
    let seen = target(DATABASE).within(&lab).await;
    seen.saying("10.77.2.53").is(
        "resolver_refuses",
        "the name server answers REFUSED",
        ["dns", "dns_server_failure", "resolver_refuses", "likely"],
        "10.77.2.53",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn resolver_not_running() {
    let Some(lab) = Lab::new() else { return };
    lab.resolv_conf(RESOLV_CONF);
    let seen = target(DATABASE).within(&lab).await;
    seen.saying("10.77.2.53").is(
        "resolver_not_running",
        "nothing listens on the name server's port",
        ["dns", "dns_timeout", "resolver_refuses", "likely"],
        "10.77.2.53",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn resolver_fails() {
    let Some(lab) = Lab::new() else { return };
    let _resolver = failing(&lab, ResponseCode::ServFail);
    lab.resolv_conf(RESOLV_CONF);
    let seen = target(DATABASE).within(&lab).await;
    seen.saying("SERVFAIL").is(
        "resolver_fails",
        "the name server answers SERVFAIL",
        ["dns", "dns_server_failure", "resolver_fails", "certain"],
        "zone",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_refuses_and_one_is_silent() {
    let Some(lab) = Lab::new() else { return };
    let _resolver = failing(&lab, ResponseCode::Refused);
    lab.resolv_conf(BOTH);
    lab.filter(Host::Router, "ip daddr 10.77.2.54 drop");
    let seen = target(DATABASE).within(&lab).await;
    seen.saying("10.77.2.54 does not answer").is(
        "one_refuses_and_one_is_silent",
        "of two name servers, one answers REFUSED and the other does not answer",
        ["dns", "dns_server_failure", "resolver_refuses", "likely"],
        "dig @10.77.2.53",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn resolver_refuses_one_zone() {
    let Some(lab) = Lab::new() else { return };
    let _resolver = lab.scripted_resolver(RESOLVER, |asked: &Asked| {
        let mut answer = asked.answer((asked.record == "A").then(|| dns::data("10.77.2.11")));
        if asked.name == "db.internal." {
            answer = asked.answer([]);
            answer.metadata.response_code = ResponseCode::Refused;
        }
        Some(answer)
    });
    lab.resolv_conf(RESOLV_CONF);
    let refused = on("postgres", "database", json!({"host": "db.internal", "password": "hunter2-hunter2"}));
    let other = on("redis", "cache", json!({"host": "cache.corp.test"}));
    let seen = first_of([refused, other]).within(&lab).await;
    seen.saying("cache.corp.test").is(
        "resolver_refuses_one_zone",
        "the name server answers REFUSED for this name, and answers for another",
        ["dns", "dns_server_failure", "resolver_refuses", "likely"],
        "whether the name is right",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn resolver_without_tcp() {
    let Some(lab) = Lab::new() else { return };
    // As a long answer: come over TCP.
    let _resolver = lab.scripted_resolver(RESOLVER, |asked: &Asked| {
        let mut answer = asked.answer([]);
        answer.metadata.truncation = true;
        Some(answer)
    });
    lab.resolv_conf(RESOLV_CONF);
    lab.filter(Host::Router, "ip daddr 10.77.2.53 tcp dport 53 drop");
    let seen = target(DATABASE).within(&lab).await;
    seen.saying("over TCP it does not come").is(
        "resolver_without_tcp",
        "the answer is too long for UDP, and TCP to the name server is dropped",
        ["dns", "dns_timeout", "resolver_fails", "likely"],
        "allow TCP",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_resolver() {
    let Some(lab) = Lab::new() else { return };
    lab.resolv_conf("# nothing\n");
    let seen = target(DATABASE).within(&lab).await;
    seen.is(
        "no_resolver",
        "no name server is configured",
        ["dns", "dns_server_failure", "resolver_unusable", "certain"],
        "/etc/resolv.conf",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_resolvers_silent() {
    let Some(lab) = Lab::new() else { return };
    let (_resolver, _web) = (lab.resolver(RESOLVER_2, zone()), web(&lab));
    lab.resolv_conf(BOTH);
    lab.filter(Host::Router, "ip daddr 10.77.2.53 drop");
    let seen = target("http://db.internal:8000/").within(&lab).await;
    seen.saying("10.77.2.53").is(
        "one_of_two_resolvers_silent",
        "of two name servers, the first does not answer",
        ["-", "-", "one_resolver_dead", "certain"],
        "10.77.2.53",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn resolvers_disagree() {
    let Some(lab) = Lab::new() else { return };
    let _one = lab.resolver(RESOLVER, [address("db.internal", "10.77.2.10")]);
    let _other = lab.resolver(RESOLVER_2, [address("db.internal", "10.77.2.11")]);
    // Whichever is asked first, there is a server where it leads.
    let _web =
        ["10.77.2.10:8000", "10.77.2.11:8000"].map(|at| HttpServer::on(lab.tcp(at), Answer::status(200)));
    lab.resolv_conf(BOTH);
    let seen = target("http://db.internal:8000/").within(&lab).await;
    seen.saying("10.77.2.54").is(
        "resolvers_disagree",
        "two name servers give different addresses",
        ["-", "-", "resolvers_disagree", "likely"],
        "different zones",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn name_moves() {
    let Some(lab) = Lab::new() else { return };
    let moved = Arc::new(AtomicBool::new(false));
    let after = Arc::clone(&moved);
    let _resolver = lab.scripted_resolver(RESOLVER, move |asked| {
        let address = if after.load(Ordering::Relaxed) { "10.77.2.11" } else { "10.77.2.10" };
        Some(asked.answer((asked.record == "A").then(|| dns::data(address))))
    });
    lab.resolv_conf(RESOLV_CONF);
    // The old primary: the failover happens while somebody talks to it.
    let _old = Peer::on(lab.tcp("10.77.2.10:5432"), move |mut stream| {
        let moved = Arc::clone(&moved);
        async move {
            moved.store(true, Ordering::Relaxed);
            let _ = stream.read(&mut [0; 1_024]).await;
            with_reset(stream);
        }
    });
    let seen = target(DATABASE).within(&lab).await;
    seen.saying("10.77.2.11").is(
        "name_moves",
        "the name leads elsewhere in the middle of the diagnosis",
        ["protocol", "connect_reset", "name_moving", "likely"],
        "again",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn name_missing() {
    let Some(lab) = Lab::new() else { return };
    let _resolver = lab.resolver(RESOLVER, zone());
    lab.resolv_conf(RESOLV_CONF);
    let seen = target("warehouse.internal:5432").within(&lab).await;
    seen.saying("warehouse.internal").is(
        "name_missing",
        "the name does not exist",
        ["dns", "dns_not_found", "name_missing", "certain"],
        "warehouse.internal",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn name_misspelt() {
    let Some(lab) = Lab::new() else { return };
    let _resolver = lab.resolver(RESOLVER, zone());
    lab.resolv_conf(RESOLV_CONF);
    let misspelt =
        on("postgres", "database", json!({"host": "cahce.internal", "password": "hunter2-hunter2"}));
    let right = on("redis", "cache", json!({"host": "cache.internal"}));
    let seen = first_of([misspelt, right]).within(&lab).await;
    seen.saying("cache.internal").is(
        "name_misspelt",
        "two letters of the name are swapped",
        ["dns", "dns_not_found", "name_misspelt", "likely"],
        "cache.internal",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn name_without_address() {
    let Some(lab) = Lab::new() else { return };
    let _resolver = lab.resolver(RESOLVER, [Record::Txt("db.internal".to_owned(), "a text".to_owned())]);
    lab.resolv_conf(RESOLV_CONF);
    let seen = target(DATABASE).within(&lab).await;
    seen.saying("db.internal").is(
        "name_without_address",
        "the name exists, and has no address",
        ["dns", "dns_not_found", "name_without_address", "certain"],
        "db.internal",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn alias_to_nowhere() {
    let Some(lab) = Lab::new() else { return };
    let _resolver = lab.resolver(RESOLVER, [cname("db.internal", "db-1.internal")]);
    lab.resolv_conf(RESOLV_CONF);
    let seen = target(DATABASE).within(&lab).await;
    seen.saying("db-1.internal").is(
        "alias_to_nowhere",
        "the name is an alias of one that does not exist",
        ["dns", "dns_not_found", "name_without_address", "certain"],
        "correct the record",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn public_address() {
    let Some(lab) = Lab::new() else { return };
    const ENDPOINT: &str = "mlflow.c1a2b3c4d5e6.eu-central-1.rds.amazonaws.com";
    let _resolver = lab.resolver(RESOLVER, [address(ENDPOINT, "203.0.113.10")]);
    lab.resolv_conf(RESOLV_CONF);
    lab.ip(Host::Router, "route add 203.0.113.0/24 via 10.77.2.10");
    lab.filter(Host::Router, "ip daddr 203.0.113.10 drop");
    let seen = target(format!("{ENDPOINT}:5432")).in_a_task().within(&lab).await;
    seen.saying("203.0.113.10").is(
        "public_address",
        "in a task, the endpoint of an RDS instance leads to its public address",
        ["connect", "connect_timeout", "split_horizon", "likely"],
        "describe-db-instances --region eu-central-1 --db-instance-identifier mlflow",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn public_address_where_private_ones_are_expected() {
    let Some(lab) = Lab::new() else { return };
    let _resolver = lab.resolver(RESOLVER, [address("db.internal", "203.0.113.10")]);
    lab.resolv_conf(RESOLV_CONF);
    let expected = json!({"query": "db.internal", "expect": {"addresses": ["10.77.0.0/16"]}});
    let seen = dependency(on("dns", "names", expected)).within(&lab).await;
    seen.saying("203.0.113.10").is(
        "public_address_where_private_ones_are_expected",
        "a name leads to a public address, and private ones are expected",
        ["query", "dns_unexpected_answer", "split_horizon", "likely"],
        "the private view of the zone",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn unexpected_address() {
    let Some(lab) = Lab::new() else { return };
    let _resolver = lab.resolver(RESOLVER, [address("db.internal", "192.168.7.10")]);
    lab.resolv_conf(RESOLV_CONF);
    let expected = json!({"query": "db.internal", "expect": {"addresses": ["10.77.0.0/16"]}});
    let seen = dependency(on("dns", "names", expected)).within(&lab).await;
    seen.saying("192.168.7.10").is(
        "unexpected_address",
        "a name leads to another network than expected",
        ["query", "dns_unexpected_answer", "unexpected_address", "certain"],
        "`expect.addresses`",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn search_list_surprise() {
    let Some(lab) = Lab::new() else { return };
    // As a wildcard record would.
    let _resolver = lab.scripted_resolver(RESOLVER, |asked| {
        let address = if asked.name == "db.internal." { "10.77.2.10" } else { "10.77.2.11" };
        Some(asked.answer((asked.record == "A").then(|| dns::data(address))))
    });
    lab.resolv_conf("nameserver 10.77.2.53\nsearch corp.test\noptions ndots:5\n");
    let _database = lab.tcp("10.77.2.10:5432");
    let seen = target(DATABASE).within(&lab).await;
    seen.saying("db.internal.corp.test").is(
        "search_list_surprise",
        "the search list makes another name of it, which exists",
        ["connect", "connect_refused", "refused", "likely"],
        "db.internal.",
    );
}
