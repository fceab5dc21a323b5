//! A network of its own for a test, to be broken: three hosts in namespaces, with nothing else in them.
//!
//! ```text
//!  client ── 10.77.1.10   10.77.1.1 ── router ── 10.77.2.1   10.77.2.10, .11, .53, .54 ── server
//!    eth0                   left                   right                                    eth0
//! ```
//!
//! The addresses are the same in every lab, and labs don't see each other. The client has a `/etc/resolv.conf` and a
//! `/etc/hosts` of its own. What listens on the server is either a socket that is made there and used here, in the test
//! process, or a program that is started there.
//!
//! One process holds all of it, and ends when the test process does, however that ends, since it reads from it. Nothing is
//! left then: the namespaces, the mounts in them and the links between them are that process's alone. What was started on
//! the server is ended as other servers are.
//!
//! It takes root, or user namespaces.

use std::io::{BufRead, BufReader, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use hickory_resolver::proto::op::Message;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::net::{TcpListener, UdpSocket};

use super::agent::{Env, Output, run_cli_through};
use super::dns::{self, Asked, Record, ScriptedDns};
use super::scratch::{self, Folder};
use super::wait::eventually;
use super::{python, user};

/// The client's only address.
pub const CLIENT: &str = "10.77.1.10";
/// The router, as the client sees it: it sends ICMP from here.
pub const ROUTER: &str = "10.77.1.1";
/// The server's first address.
pub const SERVER: &str = "10.77.2.10";
/// Its second one.
pub const SECOND: &str = "10.77.2.11";
/// Where name servers listen.
pub const RESOLVER: &str = "10.77.2.53";
/// Where other ones do.
pub const RESOLVER_2: &str = "10.77.2.54";

/// The server's address where the network [has IPv6](Lab::with_ipv6).
pub const SERVER_V6: &str = "fd00:77:2::10";

/// Makes the network, in namespaces that are its own already, and stays until its standard input ends. `$1` is a folder;
/// the namespaces of router and server are files in it.
const MAKE: &str = r#"
set -e
cd "$1"
mount --bind hosts /etc/hosts
mount --bind resolv.conf /etc/resolv.conf
for host in router server; do
    : >"$host"
    unshare --net="$PWD/$host" true
done
at() {
    there=$1
    shift
    nsenter --net="$PWD/$there" -- "$@"
}
ip link add eth0 type veth peer name left
ip link set left netns "$PWD/router"
at router ip link add right type veth peer name eth0
at router ip link set eth0 netns "$PWD/server"
# One packet on the wire for each segment: otherwise segments would pass in bundles, which are large however small they are.
ip -batch - <<END
link set lo up
address add 10.77.1.10/24 dev eth0
link set eth0 up gso_max_segs 1
route add default via 10.77.1.1
END
at router ip -batch - <<END
address add 10.77.1.1/24 dev left
address add 10.77.2.1/24 dev right
link set left up
link set right up
END
at router sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
at server ip -batch - <<END
link set lo up
address add 10.77.2.10/24 dev eth0
address add 10.77.2.11/24 dev eth0
address add 10.77.2.53/24 dev eth0
address add 10.77.2.54/24 dev eth0
link set eth0 up gso_max_segs 1
route add default via 10.77.2.1
END
echo ready
exec cat
"#;

/// Opens sockets, and passes them on through the socket that is its standard input.
const OPEN: &str = r#"
import socket, sys
there = socket.socket(fileno=0)
for kind, host, port in zip(*[iter(sys.argv[1:])] * 3):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    it = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    it.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    it.bind((host, int(port)))
    if kind == "tcp":
        it.listen(64)
    socket.send_fds(there, [b"."], [it.fileno()])
"#;

/// One of the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// Where the program under test runs.
    Client,
    /// Between the two.
    Router,
    /// Where everything listens.
    Server,
}

/// The network. Dropped, it is gone, with all that was started in it.
#[derive(Debug)]
pub struct Lab {
    folder: Folder,
    holder: Child,
    programs: Vec<Child>,
}

impl Lab {
    /// Makes one; `None`, after a loud line, where this machine forbids namespaces.
    ///
    /// # Panics
    /// Where it does and `CI` is set: where the tests are the gate, nothing is left out.
    pub fn new() -> Option<Self> {
        let folder = Folder::new("lab");
        folder.write("hosts", b"127.0.0.1 localhost\n");
        folder.write("resolv.conf", b"");
        match hold(folder.path()) {
            Ok(holder) => Some(Self { folder, holder, programs: Vec::new() }),
            Err(why) => {
                assert!(std::env::var_os("CI").is_none(), "network namespaces are needed in CI: {why}");
                // Past the test runner, which keeps what a test prints to itself.
                let line = format!("SKIPPED: no network of its own can be made for a test: {why}\n");
                let _ = std::io::stderr().write_all(line.as_bytes());
                None
            }
        }
    }

    /// Has IPv6 beside IPv4 from now on.
    #[must_use]
    pub async fn with_ipv6(self) -> Self {
        for (host, arguments) in [
            (Host::Client, "address add fd00:77:1::10/64 dev eth0 nodad"),
            (Host::Router, "address add fd00:77:1::1/64 dev left nodad"),
            (Host::Router, "address add fd00:77:2::1/64 dev right nodad"),
            (Host::Server, &format!("address add {SERVER_V6}/64 dev eth0 nodad")),
            (Host::Client, "-6 route add default via fd00:77:1::1"),
            (Host::Server, "-6 route add default via fd00:77:2::1"),
        ] {
            self.ip(host, arguments);
        }
        let mut forward = self.command(Host::Router, "sh");
        forward.args(["-c", "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding"]);
        run(forward, "");
        // Each host looks first whether another one has its addresses, and does not answer by them until then.
        eventually("addresses that are the hosts' own", || async {
            let hosts = [Host::Client, Host::Router, Host::Server];
            let tentative = hosts.map(|host| {
                let mut ip = self.command(host, "ip");
                ip.args(["-6", "address", "show", "tentative"]);
                run(ip, "")
            });
            let tentative = tentative.concat();
            if tentative.is_empty() { Ok(()) } else { Err(tentative) }
        })
        .await;
        self
    }

    /// What the client's `/etc/resolv.conf` says from now on.
    pub fn resolv_conf(&self, text: &str) {
        // In place: the file itself is what is mounted.
        std::fs::write(self.folder.path().join("resolv.conf"), text).expect("a file that is there");
    }

    /// Runs `ip` on this host: `route add blackhole 10.77.2.0/24`.
    pub fn ip(&self, host: Host, arguments: &str) {
        let mut ip = self.command(host, "ip");
        ip.args(arguments.split(' '));
        run(ip, "");
    }

    /// Has this host filter by an nftables rule: what it receives, or passes on where it is the router, or sends where
    /// it is the client.
    pub fn filter(&self, host: Host, rule: &str) {
        let hook = match host {
            Host::Client => "output",
            Host::Router => "forward",
            Host::Server => "input",
        };
        let mut nft = self.command(host, "nft");
        nft.args(["-f", "-"]);
        run(
            nft,
            &format!(
                "table inet lab {{\n chain {hook} {{\n type filter hook {hook} priority 0\n {rule}\n }}\n}}\n"
            ),
        );
    }

    /// A socket of the server that listens, for this process to accept from: `10.77.2.10:5432`.
    pub fn tcp(&self, address: &str) -> TcpListener {
        self.tcp_of(Host::Server, address)
    }

    /// The same on another host.
    pub fn tcp_of(&self, host: Host, address: &str) -> TcpListener {
        let listener: std::net::TcpListener = self.open(host, "tcp", address).into();
        listener.set_nonblocking(true).expect("a socket");
        TcpListener::from_std(listener).expect("a runtime")
    }

    /// A socket of the server for datagrams.
    pub fn udp(&self, address: &str) -> UdpSocket {
        let socket: std::net::UdpSocket = self.open(Host::Server, "udp", address).into();
        socket.set_nonblocking(true).expect("a socket");
        UdpSocket::from_std(socket).expect("a runtime")
    }

    fn open(&self, host: Host, kind: &str, address: &str) -> OwnedFd {
        let address: SocketAddr = address.parse().expect("an address with a port");
        let (here, there) = UnixStream::pair().expect("sockets");
        let mut open = self.command(host, python::program("python").get_program());
        open.args(["-c", OPEN, kind]).arg(address.ip().to_string()).arg(address.port().to_string());
        let child = open.stdin(OwnedFd::from(there)).stderr(Stdio::piped()).spawn().expect("nsenter starts");
        // The command holds the other end, too.
        drop(open);
        let passed = receive(&here);
        let said = child.wait_with_output().expect("it ends").stderr;
        passed.unwrap_or_else(|| panic!("{kind} {address}: {}", String::from_utf8_lossy(&said)))
    }

    /// A name server at one of the server's addresses that has these records.
    pub fn resolver(&self, at: &str, records: impl Into<Vec<Record>>) -> ScriptedDns {
        self.scripted_resolver(at, dns::by_records(records))
    }

    /// One that says what `says` makes of a question.
    pub fn scripted_resolver(
        &self,
        at: &str,
        says: impl Fn(&Asked) -> Option<Message> + Send + Sync + 'static,
    ) -> ScriptedDns {
        let at = format!("{at}:53");
        ScriptedDns::on(self.udp(&at), self.tcp(&at), move |asked| {
            says(asked).map(|message| message.to_vec().expect("a sound message"))
        })
    }

    /// Starts a program on the server; it ends with the network.
    pub fn start(&mut self, program: &str, arguments: &[&str]) {
        let mut command = self.command(Host::Server, program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // `nsenter` becomes the program.
        let child = command.spawn().expect("nsenter starts");
        scratch::register(child.id());
        self.programs.push(child);
    }

    /// Waits until what was started takes connections there.
    pub async fn until_it_listens(&self, host: &str, port: u16) {
        let program = python::program("python");
        let script = format!("import socket; socket.create_connection(('{host}', {port}), 5)");
        eventually(&format!("{host}:{port} to listen"), || {
            let mut connect = self.command(Host::Client, program.get_program());
            let output = connect.args(["-c", &script]).stdin(Stdio::null()).output().expect("nsenter starts");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            std::future::ready(if output.status.success() { Ok(()) } else { Err(said) })
        })
        .await;
    }

    /// The processes that it consists of: what holds it, and the programs that were started.
    pub fn pids(&self) -> Vec<u32> {
        std::iter::once(&self.holder).chain(&self.programs).map(Child::id).collect()
    }

    /// Runs a program of the client to its end and gives what it prints.
    ///
    /// # Panics
    /// Where it fails.
    pub fn run(&self, program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> String {
        let mut command = self.command(Host::Client, program);
        command.args(arguments);
        run(command, "")
    }

    /// Runs `sickbay ARGS` on the client to its end.
    pub async fn sickbay(&self, args: &[&str], env: &Env) -> Output {
        let enter = self.enter(Host::Client);
        run_cli_through(&enter.iter().map(String::as_str).collect::<Vec<_>>(), args, env).await
    }

    /// A program on one of the hosts.
    fn command(&self, host: Host, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let enter = self.enter(host);
        let mut command = Command::new(&enter[0]);
        command.args(&enter[1..]).arg(program).current_dir(scratch::root());
        let path = std::env::var("PATH").unwrap_or_default();
        // `ip` and `nft` live in sbin, which is not in every user's PATH.
        command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
        command
    }

    /// What comes before a command, so that it runs on this host.
    fn enter(&self, host: Host) -> Vec<String> {
        let holder = self.holder.id();
        let mut enter = vec!["nsenter".to_owned(), format!("--target={holder}"), "--mount".to_owned()];
        if !is_root() {
            enter.extend(["--user", "--preserve-credentials"].map(str::to_owned));
        }
        enter.push(match host {
            Host::Client => "--net".to_owned(),
            Host::Router => self.namespace("router"),
            Host::Server => self.namespace("server"),
        });
        enter.push("--".to_owned());
        enter
    }

    /// The namespaces are mounted on their files for the holder alone: they are reached through its root.
    fn namespace(&self, host: &str) -> String {
        let seen = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        let file = self.folder.path().join(host);
        let file = file.strip_prefix("/").expect("an absolute path");
        format!("--net={}", seen.join(file).display())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for program in &mut self.programs {
            let _ = program.kill();
            let _ = program.wait();
            scratch::unregister(program.id());
        }
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Who is not root is it in a user namespace.
fn is_root() -> bool {
    user::unprivileged().is_some()
}

/// Starts what holds the network, and waits until that is made; or says why there is none.
fn hold(folder: &Path) -> Result<Child, String> {
    let mut command = Command::new("unshare");
    if !is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--net", "--mount", "sh", "-c", MAKE, "sh"]).arg(folder);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Ctrl-C is for the test runner.
    command.process_group(0);
    let mut holder = command.spawn().map_err(|error| format!("unshare: {error}"))?;
    let mut said = String::new();
    let stdout = holder.stdout.as_mut().expect("a pipe");
    let _ = BufReader::new(stdout).read_line(&mut said);
    if said == "ready\n" {
        return Ok(holder);
    }
    let mut why = String::new();
    let _ = holder.stderr.take().expect("a pipe").read_to_string(&mut why);
    let _ = holder.wait();
    Err(why.trim().to_owned())
}

/// Takes the socket that comes through another one; `None` where there comes none.
fn receive(from: &UnixStream) -> Option<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(from, &mut [IoSliceMut::new(&mut byte)], &mut beside, RecvFlags::CMSG_CLOEXEC).expect("a socket");
    beside.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut passed) => passed.next(),
        _ => None,
    })
}

/// Runs a command to its end with this on its standard input, and gives what it prints.
fn run(mut command: Command, input: &str) -> String {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("nsenter starts");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?} {input}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}
