//! Networks that are broken, each in namespaces of its own.

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use super::case::{dependency, target};
use crate::support::certs::certs;
use crate::support::config::on;
use crate::support::dns::address;
use crate::support::http::{Answer, HttpServer, acceptor};
use crate::support::lab::{Host, Lab, RESOLVER, SERVER_V6};
use crate::support::tcp::{self, Peer, say_nothing, with_reset};

/// Where the database is, in most cases.
const DATABASE: &str = "10.77.2.10:5432";

/// A dependency on a port there that waits for longer than who has the address is looked for: three seconds, and some more.
fn patient(host: &str) -> Value {
    on("tcp", "database", json!({"host": host, "port": 5432, "connect_timeout": "6s"}))
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_port() {
    let Some(lab) = Lab::new() else { return };
    let _database = lab.tcp(DATABASE);
    lab.filter(Host::Server, "tcp dport 5432 drop");
    let seen = target(DATABASE).within(&lab).await;
    seen.saying("10.77.2.10").is(
        "dropped_port",
        "a packet filter drops what comes to the port",
        ["connect", "connect_timeout", "port_dropped", "likely"],
        "`nft list ruleset`",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_port_in_a_task() {
    let Some(lab) = Lab::new() else { return };
    let _database = lab.tcp(DATABASE);
    lab.filter(Host::Server, "tcp dport 5432 drop");
    let seen = target(DATABASE).in_a_task().within(&lab).await;
    seen.saying("10.77.2.10").is(
        "dropped_port_in_a_task",
        "the same from a task of ECS: a security group lets nobody in to the port",
        ["connect", "connect_timeout", "port_dropped", "likely"],
        "aws ec2 describe-security-groups --region eu-central-1",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_host() {
    let Some(lab) = Lab::new() else { return };
    let _database = lab.tcp(DATABASE);
    lab.filter(Host::Router, "ip daddr 10.77.2.10 drop");
    let seen = target(DATABASE).within(&lab).await;
    seen.is(
        "dropped_host",
        "everything to the host is dropped",
        ["connect", "connect_timeout", "host_dropped", "likely"],
        "`ip route get 10.77.2.10`",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_host_in_a_task() {
    let Some(lab) = Lab::new() else { return };
    let _database = lab.tcp(DATABASE);
    lab.filter(Host::Router, "ip daddr 10.77.2.10 drop");
    let seen = target(DATABASE).in_a_task().within(&lab).await;
    seen.is(
        "dropped_host_in_a_task",
        "the same from a task of ECS",
        ["connect", "connect_timeout", "host_dropped", "likely"],
        "aws ec2 describe-network-acls --region eu-central-1",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_dropped() {
    let Some(lab) = Lab::new() else { return };
    let _database = lab.tcp(DATABASE);
    lab.filter(Host::Router, "ip daddr 10.77.1.10 tcp dport 1024-65535 drop");
    let seen = target(DATABASE).in_a_task().within(&lab).await;
    seen.is(
        "answers_dropped",
        "a network ACL lets no answers back to ephemeral ports",
        ["connect", "connect_timeout", "host_dropped", "likely"],
        "and ports 1024-65535 out",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn full_accept_queue() {
    let silent = tcp::silent();
    let seen = target(silent.address().to_string()).here().await;
    seen.is(
        "full_accept_queue",
        "a server takes no connections from its full queue",
        ["connect", "connect_timeout", "port_dropped", "unclear"],
        "queue",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_with_reset() {
    let Some(lab) = Lab::new() else { return };
    let _database = lab.tcp(DATABASE);
    lab.filter(Host::Router, "tcp dport 5432 reject with tcp reset");
    let seen = target(DATABASE).within(&lab).await;
    seen.is(
        "rejected_with_reset",
        "a firewall answers with a reset in the server's name",
        ["connect", "connect_refused", "refused", "likely"],
        "5432",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_listens() {
    let Some(lab) = Lab::new() else { return };
    let seen = target(DATABASE).within(&lab).await;
    seen.is(
        "nothing_listens",
        "nothing listens on the port",
        ["connect", "connect_refused", "refused", "likely"],
        "5432",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_by_the_host() {
    let Some(lab) = Lab::new() else { return };
    let _database = lab.tcp(DATABASE);
    lab.filter(Host::Server, "tcp dport 5432 reject with icmpx type admin-prohibited");
    let seen = target(DATABASE).within(&lab).await;
    seen.saying("10.77.2.10").is(
        "rejected_by_the_host",
        "the server's own firewall rejects by ICMP",
        ["connect", "connect_unreachable", "rejected", "certain"],
        "10.77.2.10",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_by_a_router() {
    let Some(lab) = Lab::new() else { return };
    let _database = lab.tcp(DATABASE);
    lab.filter(Host::Router, "tcp dport 5432 reject with icmpx type admin-prohibited");
    let seen = target(DATABASE).within(&lab).await;
    seen.saying("10.77.1.1").is(
        "rejected_by_a_router",
        "a firewall on the way rejects by ICMP",
        ["connect", "connect_unreachable", "rejected", "certain"],
        "10.77.1.1",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_default_route() {
    let Some(lab) = Lab::new() else { return };
    lab.ip(Host::Client, "route del default");
    let seen = target(DATABASE).in_a_task().within(&lab).await;
    seen.is(
        "no_default_route",
        "the subnet has no route to the database",
        ["route", "connect_unreachable", "no_route", "certain"],
        "aws ec2 describe-route-tables --region eu-central-1",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_ipv6_route() {
    let Some(lab) = Lab::new() else { return };
    let seen = target(format!("[{SERVER_V6}]:5432")).within(&lab).await;
    seen.is(
        "no_ipv6_route",
        "the address is of IPv6, and the subnet has only IPv4",
        ["route", "connect_unreachable", "no_route", "certain"],
        "have the name lead to an IPv4 address, too",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ipv6_dropped_port() {
    let Some(lab) = Lab::new() else { return };
    let lab = lab.with_ipv6().await;
    let database = format!("[{SERVER_V6}]:5432");
    let _database = lab.tcp(&database);
    lab.filter(Host::Server, "tcp dport 5432 drop");
    let seen = target(database).in_a_task().within(&lab).await;
    seen.saying(SERVER_V6).is(
        "ipv6_dropped_port",
        "a security group lets nobody in to the port by IPv6",
        ["connect", "connect_timeout", "port_dropped", "likely"],
        "aws ec2 describe-security-groups --region eu-central-1",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ipv6_rejected_by_a_router() {
    let Some(lab) = Lab::new() else { return };
    let lab = lab.with_ipv6().await;
    let database = format!("[{SERVER_V6}]:5432");
    let _database = lab.tcp(&database);
    lab.filter(Host::Router, "tcp dport 5432 reject with icmpx type admin-prohibited");
    let seen = target(database).within(&lab).await;
    seen.saying("fd00:77:1::1").is(
        "ipv6_rejected_by_a_router",
        "a firewall on the way rejects by ICMPv6",
        ["connect", "connect_unreachable", "rejected", "certain"],
        "fd00:77:1::1",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ipv6_answers_where_ipv4_is_dropped() {
    let Some(lab) = Lab::new() else { return };
    let lab = lab.with_ipv6().await;
    let _by_v4 = lab.tcp(DATABASE);
    let _by_v6 = lab.tcp(&format!("[{SERVER_V6}]:5432"));
    lab.filter(Host::Router, "ip daddr 10.77.2.10 tcp dport 5432 drop");
    lab.resolv_conf(&format!("nameserver {RESOLVER}\n"));
    let records = [address("db.internal", "10.77.2.10"), address("db.internal", SERVER_V6)];
    let _names = lab.resolver(RESOLVER, records);
    let database = on("tcp", "database", json!({"host": "db.internal", "port": 5432}));
    let seen = dependency(database).within(&lab).await;
    seen.saying("10.77.2.10").is(
        "ipv6_answers_where_ipv4_is_dropped",
        "the name has an address of each kind, and IPv4 is dropped",
        ["-", "-", "one_address_dead", "likely"],
        "10.77.2.10",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn prohibited_route() {
    let Some(lab) = Lab::new() else { return };
    lab.ip(Host::Client, "route add prohibit 10.77.2.0/24");
    let seen = target(DATABASE).within(&lab).await;
    seen.is(
        "prohibited_route",
        "a route of this host forbids the way",
        ["route", "connect_unreachable", "no_route", "certain"],
        "ip route",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn blackhole_route() {
    let Some(lab) = Lab::new() else { return };
    lab.ip(Host::Client, "route add blackhole 10.77.2.0/24");
    let seen = target(DATABASE).within(&lab).await;
    seen.is(
        "blackhole_route",
        "a route of this host leads into a black hole",
        ["route", "connect_unreachable", "no_route", "certain"],
        "ip route",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn forbidden_in_the_main_table_alone() {
    let Some(lab) = Lab::new() else { return };
    lab.ip(Host::Client, "route add prohibit 10.77.2.0/24");
    lab.ip(Host::Client, "route add default via 10.77.1.1 table 7");
    lab.ip(Host::Client, "rule add to 10.77.2.0/24 lookup 7");
    let seen = target(DATABASE).within(&lab).await;
    seen.is(
        "forbidden_in_the_main_table_alone",
        "nothing listens; a rule leads there by a table of its own, past a route that forbids",
        ["connect", "connect_refused", "refused", "likely"],
        "5432",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn router_that_prohibits() {
    let Some(lab) = Lab::new() else { return };
    lab.ip(Host::Router, "route add prohibit 10.77.9.0/24");
    let seen = target("10.77.9.10:5432").within(&lab).await;
    seen.saying("10.77.1.1").is(
        "router_that_prohibits",
        "a route of a router on the way forbids it",
        ["connect", "connect_unreachable", "rejected", "certain"],
        "`prohibit` route",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_as_if_the_host_were_gone() {
    let Some(lab) = Lab::new() else { return };
    let _database = lab.tcp(DATABASE);
    lab.filter(Host::Router, "tcp dport 5432 reject with icmpx type host-unreachable");
    let seen = target(DATABASE).within(&lab).await;
    seen.saying("10.77.1.1").is(
        "rejected_as_if_the_host_were_gone",
        "a firewall answers that the host cannot be reached, for one port",
        ["connect", "connect_unreachable", "rejected", "likely"],
        "10.77.1.1",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_by_ourselves() {
    let Some(lab) = Lab::new() else { return };
    let _database = lab.tcp(DATABASE);
    lab.filter(Host::Client, "tcp dport 5432 reject");
    let seen = target(DATABASE).within(&lab).await;
    seen.is(
        "rejected_by_ourselves",
        "this host's own filter rejects what goes out",
        ["connect", "connect_refused", "rejected", "certain"],
        "nft list ruleset",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_next_hop() {
    let Some(lab) = Lab::new() else { return };
    lab.ip(Host::Client, "route replace default via 10.77.1.99");
    let seen = dependency(patient("10.77.2.10")).within(&lab).await;
    seen.saying("10.77.1.99").is(
        "dead_next_hop",
        "the route leads through a router that is not there",
        ["connect", "connect_unreachable", "unreachable", "certain"],
        "correct the route",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn host_not_there() {
    let Some(lab) = Lab::new() else { return };
    let seen = dependency(patient("10.77.2.99")).within(&lab).await;
    seen.saying("10.77.1.1").is(
        "host_not_there",
        "no host has the address",
        ["connect", "connect_unreachable", "unreachable", "certain"],
        "10.77.2.99",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn router_without_route() {
    let Some(lab) = Lab::new() else { return };
    let seen = target("10.77.9.10:5432").within(&lab).await;
    seen.saying("10.77.1.1").is(
        "router_without_route",
        "a router on the way knows no way on",
        ["connect", "connect_unreachable", "unreachable", "certain"],
        "route",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_dead() {
    let Some(lab) = Lab::new() else { return };
    let _resolver = lab
        .resolver(RESOLVER, [address("api.internal", "10.77.2.10"), address("api.internal", "10.77.2.11")]);
    lab.resolv_conf("nameserver 10.77.2.53\n");
    let _web =
        ["10.77.2.10:8000", "10.77.2.11:8000"].map(|at| HttpServer::on(lab.tcp(at), Answer::status(200)));
    lab.filter(Host::Router, "ip daddr 10.77.2.10 drop");
    let seen = target("http://api.internal:8000/").within(&lab).await;
    seen.saying("10.77.2.10").is(
        "one_address_dead",
        "one of the two addresses of a name is dead",
        ["-", "-", "one_address_dead", "likely"],
        "10.77.2.10",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn packet_loss() {
    let Some(lab) = Lab::new() else { return };
    let _web = HttpServer::on(lab.tcp("10.77.2.10:8000"), Answer::status(200));
    // Every other one; what is lost is sent again a second later.
    lab.filter(Host::Router, "tcp dport 8000 tcp flags & (syn | ack) == syn numgen inc mod 2 0 drop");
    let seen = target("http://10.77.2.10:8000/").within(&lab).await;
    seen.is(
        "packet_loss",
        "every other packet that opens a connection is lost",
        ["-", "-", "packet_loss", "likely"],
        "10.77.2.10",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn large_answers_dropped() {
    let Some(lab) = Lab::new() else { return };
    let acceptor = acceptor(&certs().below_ending);
    let _web = Peer::on(lab.tcp("10.77.2.10:443"), move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let _ = stream.read(&mut [0; 1_024]).await;
            }
        }
    });
    lab.filter(Host::Router, "ip saddr 10.77.2.10 meta length > 600 drop");
    let web = json!({"url": "https://10.77.2.10/", "tls": {"verify": "none"}});
    let seen = dependency(on("http", "web", web)).within(&lab).await;
    seen.is(
        "large_answers_dropped",
        "large packets from the server vanish",
        ["tls", "timeout", "mtu_black_hole", "likely"],
        "MTU",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn large_requests_dropped() {
    let Some(lab) = Lab::new() else { return };
    let _web = HttpServer::on(lab.tcp("10.77.2.10:8000"), Answer::status(200));
    lab.filter(Host::Router, "ip saddr 10.77.1.10 meta length > 1000 drop");
    let web = json!({"url": "http://10.77.2.10:8000/", "headers": {"x-long": "x".repeat(2_000)}});
    let seen = dependency(on("http", "web", web)).within(&lab).await;
    seen.is(
        "large_requests_dropped",
        "large packets to the server vanish",
        ["query", "timeout", "mtu_black_hole", "likely"],
        "MTU",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn mute_server() {
    let Some(lab) = Lab::new() else { return };
    let _mute = Peer::on(lab.tcp(DATABASE), say_nothing);
    let seen = target(DATABASE).within(&lab).await;
    seen.is(
        "mute_server",
        "a server takes connections and says nothing",
        ["protocol", "timeout", "mute", "likely"],
        "hang",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_connections() {
    let Some(lab) = Lab::new() else { return };
    let _cut = Peer::on(lab.tcp(DATABASE), |mut stream| async move {
        let _ = stream.read(&mut [0; 1_024]).await;
        with_reset(stream);
    });
    let seen = target(DATABASE).within(&lab).await;
    seen.is(
        "cut_connections",
        "something cuts each connection at the first word",
        ["protocol", "connect_reset", "cut", "likely"],
        "whether the server restarts",
    );
}
