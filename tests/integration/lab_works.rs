//! The network that tests break: each fault, as plain programs see it, without the program under test.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::dns::{self, ScriptedDns};
use crate::support::lab::{Host, Lab, RESOLVER, ROUTER, SECOND, SERVER};
use crate::support::process::is_alive;
use crate::support::python;
use crate::support::tcp::{Peer, say_nothing};
use crate::support::wait::eventually;

/// What becomes of a connection; with an ICMP message its type and code, and who sent it.
const CONNECT: &str = r#"
import errno, socket, struct, sys
it = socket.socket()
it.settimeout(float(sys.argv[3]))
it.setsockopt(socket.IPPROTO_IP, 11, 1)  # IP_RECVERR
try:
    it.connect((sys.argv[1], int(sys.argv[2])))
    print("connected")
except socket.timeout:
    print("silent")
except OSError as error:
    name = errno.errorcode[error.errno]
    it.setblocking(False)
    try:
        _, beside, _, _ = it.recvmsg(0, 512, socket.MSG_ERRQUEUE)
        _, origin, kind, code, _, _, _, *rest = struct.unpack("=IBBBBIIHH4B", beside[0][2][:24])
        assert origin == 2, origin  # SO_EE_ORIGIN_ICMP
        print(name, f"icmp {kind}/{code} from " + ".".join(map(str, rest[2:])))
    except BlockingIOError:
        print(name)
"#;

/// How much of what a peer says arrives, and how it ends.
const READ: &str = r#"
import socket, sys
it = socket.socket()
if sys.argv[3] != "0":
    it.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, int(sys.argv[3]))
it.settimeout(1)
it.connect((sys.argv[1], int(sys.argv[2])))
it.sendall(b"x" * int(sys.argv[4]))
read = 0
try:
    while some := it.recv(65536):
        read += len(some)
    print(read, "and an end")
except OSError:
    print(read, "and silence")
"#;

impl Lab {
    /// What becomes of a connection from the client within this many seconds.
    fn connects(&self, host: &str, port: u16, within: f32) -> String {
        let python = python::program("python");
        let told =
            self.run(python.get_program(), &["-c", CONNECT, host, &port.to_string(), &within.to_string()]);
        told.trim().to_owned()
    }

    /// What the client hears, with segments of this size at most (0: as they come), when it has said so much.
    fn hears(&self, port: u16, segment: u32, says: u32) -> String {
        let python = python::program("python");
        let arguments = ["-c", READ, SERVER, &port.to_string(), &segment.to_string(), &says.to_string()];
        self.run(python.get_program(), &arguments).trim().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_listens_on_the_server_is_reached_and_what_does_not_is_refused() {
    let Some(lab) = Lab::new() else { return };
    let _listener = lab.tcp("10.77.2.10:5432");
    assert_eq!(lab.connects(SERVER, 5432, 5.0), "connected");
    assert_eq!(lab.connects(SERVER, 5433, 5.0), "ECONNREFUSED");
    assert_eq!(lab.connects(SECOND, 5432, 5.0), "ECONNREFUSED");
    assert_eq!(lab.connects("127.0.0.1", 5432, 5.0), "ECONNREFUSED", "the client's own");
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_drop_or_reject() {
    let Some(lab) = Lab::new() else { return };
    let _listeners = [5432, 5433, 5434].map(|port| lab.tcp(&format!("10.77.2.10:{port}")));
    lab.filter(Host::Server, "tcp dport 5432 drop");
    lab.filter(Host::Server, "tcp dport 5433 reject with tcp reset");
    lab.filter(Host::Server, "tcp dport 5434 reject with icmpx type admin-prohibited");
    lab.filter(Host::Router, "tcp dport 5435 reject with icmpx type admin-prohibited");
    assert_eq!(lab.connects(SERVER, 5432, 0.5), "silent");
    assert_eq!(lab.connects(SERVER, 5433, 5.0), "ECONNREFUSED");
    assert_eq!(lab.connects(SERVER, 5434, 5.0), format!("EHOSTUNREACH icmp 3/13 from {SERVER}"));
    assert_eq!(lab.connects(SERVER, 5435, 5.0), format!("EHOSTUNREACH icmp 3/13 from {ROUTER}"));
    lab.filter(Host::Router, "ip daddr 10.77.2.11 drop");
    assert_eq!(lab.connects(SECOND, 5436, 0.5), "silent");
    assert_eq!(lab.connects(SERVER, 5436, 5.0), "ECONNREFUSED");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_other_packet_is_lost() {
    let Some(lab) = Lab::new() else { return };
    let _listener = lab.tcp("10.77.2.10:5432");
    lab.filter(Host::Router, "tcp dport 5432 tcp flags & (syn | ack) == syn numgen inc mod 2 0 drop");
    // Each is over before the kernel tries again, after a second.
    let ends = [(); 4].map(|()| lab.connects(SERVER, 5432, 0.5));
    assert_eq!(ends, ["silent", "connected", "silent", "connected"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_lead_nowhere_in_several_ways() {
    let Some(lab) = Lab::new() else { return };
    // The router looks for a host that is not there.
    assert_eq!(lab.connects("10.77.2.99", 5432, 20.0), format!("EHOSTUNREACH icmp 3/1 from {ROUTER}"));
    for (route, errno) in [("prohibit", "EACCES"), ("blackhole", "EINVAL"), ("unreachable", "EHOSTUNREACH")] {
        lab.ip(Host::Client, &format!("route add {route} 10.77.2.0/24"));
        assert_eq!(lab.connects(SERVER, 5432, 5.0), errno);
        lab.ip(Host::Client, "route del 10.77.2.0/24");
    }
    lab.ip(Host::Client, "route add 10.77.2.0/24 via 10.77.1.99");
    let nobody = lab.connects(SERVER, 5432, 20.0);
    assert!(nobody.starts_with("EHOSTUNREACH icmp 3/1 from 10.77.1.10"), "its own word: {nobody}");
    lab.ip(Host::Client, "route del 10.77.2.0/24");
    lab.ip(Host::Client, "route del default");
    assert_eq!(lab.connects(SERVER, 5432, 5.0), "ENETUNREACH");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_packets_vanish_and_small_ones_pass() {
    let Some(lab) = Lab::new() else { return };
    let _wordy = Peer::on(lab.tcp("10.77.2.10:5432"), |mut stream| async move {
        let _ = stream.write_all(&[b'y'; 20_000]).await;
        let _ = stream.shutdown().await;
        while matches!(stream.read(&mut [0; 1_024]).await, Ok(1..)) {}
    });
    let _listening = Peer::on(lab.tcp("10.77.2.10:5433"), |mut stream| async move {
        let mut all = [0; 20_000];
        if stream.read_exact(&mut all).await.is_ok() {
            let _ = stream.write_all(b"thanks").await;
        }
    });
    assert_eq!(lab.hears(5432, 0, 0), "20000 and an end");
    assert_eq!(lab.hears(5433, 0, 20_000), "6 and an end");
    lab.filter(Host::Router, "meta length > 1000 drop");
    assert_eq!(lab.hears(5432, 0, 0), "0 and silence");
    assert_eq!(lab.hears(5432, 536, 0), "20000 and an end");
    assert_eq!(lab.hears(5433, 0, 20_000), "0 and silence");
    assert_eq!(lab.hears(5433, 536, 20_000), "6 and an end");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_has_a_resolver_and_hosts_of_its_own() {
    let Some(lab) = Lab::new() else { return };
    let sockets = (lab.udp("10.77.2.53:53"), lab.tcp("10.77.2.53:53"));
    let dns = ScriptedDns::on(sockets.0, sockets.1, |asked| {
        let data = (asked.record == "A").then(|| dns::data(SERVER));
        Some(asked.answer(data).to_vec().expect("a sound message"))
    });
    lab.resolv_conf(&format!("nameserver {RESOLVER}\n"));
    let before = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    assert!(!before.contains(RESOLVER), "this machine's own is another file: {before}");
    let found = lab.run("getent", &["ahostsv4", "db.test"]);
    assert!(found.starts_with(SERVER), "{found}");
    assert_eq!(dns.asked()[0].name, "db.test.");
    assert_eq!(lab.run("cat", &["/etc/hosts"]), "127.0.0.1 localhost\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn labs_do_not_see_each_other_and_are_gone_when_dropped() {
    let (Some(mut one), Some(other)) = (Lab::new(), Lab::new()) else { return };
    let mute = Peer::on(one.tcp("10.77.2.10:5432"), say_nothing);
    assert_eq!(other.connects(SERVER, 5432, 5.0), "ECONNREFUSED");
    assert_eq!(one.connects(SERVER, 5432, 5.0), "connected");
    mute.until_accepted(1).await;
    one.start("sleep", &["1000"]);
    let pids = one.pids();
    assert_eq!(pids.len(), 2, "what holds it, and the program");
    drop(one);
    for pid in pids {
        eventually("its end", || {
            let gone = !is_alive(pid);
            std::future::ready(if gone { Ok(()) } else { Err(format!("{pid} runs")) })
        })
        .await;
    }
    assert_eq!(other.connects(SERVER, 5432, 5.0), "ECONNREFUSED", "the other one is as it was");
}
