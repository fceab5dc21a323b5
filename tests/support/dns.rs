//! A name server for the zone `test.`, and one that only ever fails.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use super::ports;
use super::process::{Daemon, until_ready};
use super::scratch::{self, Folder};

const TRIES: usize = 5;

/// One record of the zone. Names are written in full, without the last dot: `db.test`.
#[derive(Debug, Clone)]
pub enum Record {
    /// A or AAAA, by the address. A name may have several.
    Address(String, IpAddr),
    /// An alias. dnsmasq answers it only where the target is another record of this server.
    Cname(String, String),
    /// `_postgres._tcp.db.test`: target, port, priority, weight.
    Srv(String, String, u16, u16, u16),
    /// One string of text.
    Txt(String, String),
}

/// An [`Record::Address`], parsed.
pub fn address(name: &str, ip: &str) -> Record {
    Record::Address(name.to_owned(), ip.parse().expect("an IP address"))
}

/// A [`Record::Cname`].
pub fn cname(name: &str, target: &str) -> Record {
    Record::Cname(name.to_owned(), target.to_owned())
}

/// What a [`Dns`] answers.
///
/// Other names under `test.` do not exist (NXDOMAIN); a name that exists, asked for a type that it lacks,
/// has no data. All else is refused: the server forwards to nobody.
#[derive(Debug, Clone)]
pub struct Zone {
    /// All of its records.
    pub records: Vec<Record>,
    /// Their time to live, in seconds. dnsmasq knows one for all.
    pub ttl: u32,
}

impl Zone {
    /// These records with a time to live of five seconds, as Aurora's.
    pub fn new(records: impl Into<Vec<Record>>) -> Self {
        Self { records: records.into(), ttl: 5 }
    }
}

/// A name server (dnsmasq). Dropped, it is gone.
#[derive(Debug)]
pub struct Dns {
    folder: Folder,
    zone: Zone,
    port: u16,
    daemon: Option<Daemon>,
}

impl Dns {
    /// Starts a server and waits until it answers.
    pub async fn start(zone: Zone) -> Self {
        let mut server = Self { folder: Folder::new("dns"), zone, port: 0, daemon: None };
        let mut last = String::new();
        for _ in 0..TRIES {
            server.port = ports::spare();
            match server.launch().await {
                Ok(()) => return server,
                Err(log) => last = log,
            }
        }
        panic!("dnsmasq does not start: {last}");
    }

    /// Where it listens, by UDP and TCP; the same for its whole life.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Answers by this zone from now on. Between the two it does not answer for some milliseconds.
    pub async fn replace(&mut self, zone: Zone) {
        self.zone = zone;
        self.stop().await;
        self.restart().await;
    }

    /// Stops it: queries are refused by the kernel (ICMP).
    pub async fn stop(&mut self) {
        self.daemon.take().expect("it runs").end(Signal::TERM).await;
    }

    /// Starts it again after [`Dns::stop`], on the same port.
    pub async fn restart(&mut self) {
        assert!(self.daemon.is_none(), "stop it first");
        self.launch().await.unwrap_or_else(|log| panic!("dnsmasq does not start again: {log}"));
    }

    /// From now on queries arrive and are not answered.
    pub async fn hang(&self) {
        self.daemon.as_ref().expect("it runs").hang().await;
    }

    /// Undoes [`Dns::hang`]; what was asked meanwhile is answered late.
    pub fn wake(&self) {
        self.daemon.as_ref().expect("it runs").wake();
    }

    /// All that it has logged: a line `query[A] db.test from 127.0.0.1` for each query.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// How often a name was asked for.
    pub fn queries_for(&self, name: &str) -> usize {
        let wanted = format!("] {name} from ");
        self.log().lines().filter(|line| line.contains("query[") && line.contains(&wanted)).count()
    }

    async fn launch(&mut self) -> Result<(), String> {
        let conf = self.folder.write("dnsmasq.conf", self.conf().as_bytes());
        let mut command = Command::new("dnsmasq");
        // Daemons live in sbin, which is not in every user's PATH.
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{path}:/usr/sbin:/sbin")).current_dir(scratch::root());
        command.arg("--keep-in-foreground").arg(format!("--conf-file={}", conf.display()));
        let mut daemon = Daemon::spawn(command, &self.folder.path().join("log"), Signal::TERM);
        let address = self.address();
        until_ready(&mut daemon, "dnsmasq", || ask(address)).await?;
        self.daemon = Some(daemon);
        Ok(())
    }

    fn conf(&self) -> String {
        let Zone { records, ttl } = &self.zone;
        let mut hosts = String::new();
        let mut conf = format!(
            "port={}\nlisten-address=127.0.0.1\nbind-interfaces\nno-resolv\nno-hosts\nno-poll\npid-file=\n\
             local=/test/\nlocal-ttl={ttl}\nlog-queries\nlog-facility=-\n",
            self.port
        );
        for record in records {
            match record {
                // A hosts file: the one way to give a name several addresses without its subdomains.
                Record::Address(name, ip) => hosts += &format!("{ip} {name}\n"),
                Record::Cname(name, target) => conf += &format!("cname={name},{target}\n"),
                Record::Srv(name, target, port, priority, weight) => {
                    conf += &format!("srv-host={name},{target},{port},{priority},{weight}\n");
                }
                Record::Txt(name, text) => conf += &format!("txt-record={name},\"{text}\"\n"),
            }
        }
        conf + &format!("addn-hosts={}\n", self.folder.write("hosts", hosts.as_bytes()).display())
    }
}

/// The codes with which a name server fails.
#[derive(Debug, Clone, Copy)]
pub enum Rcode {
    /// It tried and could not.
    ServFail = 2,
    /// It does not want to.
    Refused = 5,
}

/// A name server that answers every question with the same code.
#[derive(Debug)]
pub struct FailingDns {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl FailingDns {
    /// Starts it, by UDP only.
    pub async fn start(rcode: Rcode) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a socket");
        let address = socket.local_addr().expect("its address");
        let task = tokio::spawn(async move {
            let mut message = [0; 1_232];
            while let Ok((length, client)) = socket.recv_from(&mut message).await {
                let Some([_, _, flags, code, ..]) = message.get_mut(..length) else { continue };
                // RFC 1035, 4.1.1: the question comes back with QR, RA and the code set.
                *flags |= 0x80;
                *code = 0x80 | rcode as u8;
                let _ = socket.send_to(&message[..length], client).await;
            }
        });
        Self { address, task }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for FailingDns {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Asks for the address of `ready.test` and takes any answer.
async fn ask(server: SocketAddr) -> Result<(), String> {
    let answer = query(server, "ready.test", 1).await;
    answer.map(drop)
}

/// Asks one question by UDP and gives the raw answer: for readiness, and for tests of the support itself.
///
/// # Errors
/// Where nothing comes back within a second.
pub async fn query(server: SocketAddr, name: &str, record_type: u16) -> Result<Vec<u8>, String> {
    // RFC 1035, 4.1: an id, "recursion desired", one question.
    let mut message = vec![0x53, 0x62, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).expect("a short label"));
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(record_type.to_be_bytes());
    message.extend(1_u16.to_be_bytes());
    let exchange = async {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        socket.connect(server).await?;
        socket.send(&message).await?;
        let mut answer = vec![0; 1_232];
        let length = socket.recv(&mut answer).await?;
        answer.truncate(length);
        Ok::<_, std::io::Error>(answer)
    };
    match tokio::time::timeout(Duration::from_secs(1), exchange).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err("no answer within 1s".to_owned()),
    }
}
