//! A name server for the zone `test.`, one that only ever fails, and one that says whatever a test wants.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, TXT};
use hickory_resolver::proto::rr::{Name, RData, Record as Answer};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
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

/// A name server that says whatever a test wants, byte for byte.
#[derive(Debug)]
pub struct ScriptedDns {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    tasks: [JoinHandle<()>; 2],
}

/// A question that came in.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The whole message.
    pub message: Message,
    /// The name, with its final dot.
    pub name: String,
    /// `A`, `AAAA`, …
    pub record: String,
    /// Whether it came by TCP.
    pub tcp: bool,
    /// How many came before it.
    pub earlier: usize,
}

impl Asked {
    /// An answer to it with these records and a time to live of five seconds; with none, it has no data.
    pub fn answer(&self, data: impl IntoIterator<Item = RData>) -> Message {
        let name = self.message.queries[0].name();
        self.records(data.into_iter().map(|data| Answer::from_rdata(name.clone(), 5, data)))
    }

    /// An answer to it with these records, whatever their names.
    pub fn records(&self, records: impl IntoIterator<Item = Answer>) -> Message {
        let mut answer = Message::response(self.message.metadata.id, OpCode::Query);
        answer.queries = self.message.queries.clone();
        answer.answers.extend(records);
        answer
    }
}

/// An address, as data.
pub fn data(ip: &str) -> RData {
    match ip.parse().expect("an IP address") {
        IpAddr::V4(ip) => RData::A(A(ip)),
        IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
    }
}

/// A text, as data.
pub fn text(text: &str) -> RData {
    // A string in a TXT record has 255 bytes at most.
    let strings = text.as_bytes().chunks(255).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    RData::TXT(TXT::new(strings.collect()))
}

/// A record that makes one name an alias of another; both with their final dots.
pub fn alias(name: &str, target: &str) -> Answer {
    let [name, target] = [name, target].map(|name| Name::from_ascii(name).expect("a name"));
    Answer::from_rdata(name, 5, RData::CNAME(CNAME(target)))
}

/// What a server of these records alone says, as [`Dns`] does: for [`ScriptedDns`].
pub fn by_records(
    records: impl Into<Vec<Record>>,
) -> impl Fn(&Asked) -> Option<Message> + Send + Sync + 'static {
    let records = records.into();
    move |asked| {
        let name = asked.name.trim_end_matches('.');
        let owner = |record: &Record| match record {
            Record::Address(name, _) | Record::Cname(name, _) | Record::Txt(name, _) => name.clone(),
            Record::Srv(name, ..) => name.clone(),
        };
        let data = records.iter().filter(|record| owner(record) == name).filter_map(|record| match record {
            Record::Address(_, ip) => (asked.record == data(&ip.to_string()).record_type().to_string())
                .then(|| data(&ip.to_string())),
            Record::Txt(_, said) => (asked.record == "TXT").then(|| text(said)),
            Record::Cname(..) | Record::Srv(..) => None,
        });
        let data: Vec<RData> = data.collect();
        let target = records.iter().find_map(|record| match record {
            Record::Cname(alias, target) if alias == name => Some(target),
            _ => None,
        });
        if let Some(target) = target {
            let mut answer = asked.records([alias(&asked.name, &format!("{target}."))]);
            if !records.iter().any(|record| owner(record) == *target) {
                answer.metadata.response_code = ResponseCode::NXDomain;
            }
            return Some(answer);
        }
        let mut answer = asked.answer(data);
        // A name exists, too, where one exists below it.
        let below = format!(".{name}");
        if !records.iter().any(|record| owner(record) == name || owner(record).ends_with(&below)) {
            answer.metadata.response_code = ResponseCode::NXDomain;
        }
        Some(answer)
    }
}

impl ScriptedDns {
    /// Starts one, by UDP and TCP on the same port. What `says` makes of a question is sent back; nothing, where
    /// it makes nothing of it.
    pub async fn start(says: impl Fn(&Asked) -> Option<Message> + Send + Sync + 'static) -> Self {
        Self::raw(move |asked| says(asked).map(|message| message.to_vec().expect("a sound message"))).await
    }

    /// The same with bytes.
    pub async fn raw(says: impl Fn(&Asked) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        let (udp, tcp) = both_sockets().await;
        Self::on(udp, tcp, says)
    }

    /// The same on these sockets, wherever they were made.
    pub fn on(
        udp: UdpSocket,
        tcp: TcpListener,
        says: impl Fn(&Asked) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        let address = udp.local_addr().expect("its address");
        let log = Arc::new(Mutex::new(Vec::<Asked>::new()));
        let noted = Arc::clone(&log);
        let says = Arc::new(move |bytes: &[u8], tcp| {
            let message = Message::from_vec(bytes).ok()?;
            let query = message.queries.first()?.clone();
            let mut log = noted.lock().unwrap_or_else(PoisonError::into_inner);
            let asked = Asked {
                message,
                name: query.name().to_string(),
                record: query.query_type().to_string(),
                tcp,
                earlier: log.len(),
            };
            log.push(asked.clone());
            drop(log);
            says(&asked)
        });
        let by_udp = Arc::clone(&says);
        let tasks = [
            tokio::spawn(async move {
                let mut message = [0; 1_232];
                while let Ok((length, client)) = udp.recv_from(&mut message).await {
                    if let Some(answer) = by_udp(&message[..length], false) {
                        let _ = udp.send_to(&answer, client).await;
                    }
                }
            }),
            tokio::spawn(async move {
                while let Ok((stream, _)) = tcp.accept().await {
                    let says = Arc::clone(&says);
                    tokio::spawn(converse(stream, move |bytes| says(bytes, true)));
                }
            }),
        ];
        Self { address, asked: log, tasks }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it was asked, oldest first.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for ScriptedDns {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn both_sockets() -> (UdpSocket, TcpListener) {
    for _ in 0..TRIES {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = tcp.local_addr().expect("its address");
        if let Ok(udp) = UdpSocket::bind(address).await {
            return (udp, tcp);
        }
    }
    panic!("no port is free for both UDP and TCP");
}

/// Over TCP each message comes with its length before it (RFC 1035, 4.2.2).
async fn converse(mut stream: TcpStream, says: impl Fn(&[u8]) -> Option<Vec<u8>>) {
    while let Ok(length) = stream.read_u16().await {
        let mut message = vec![0; length.into()];
        if stream.read_exact(&mut message).await.is_err() {
            return;
        }
        if let Some(answer) = says(&message) {
            let length = u16::try_from(answer.len()).expect("a message that fits");
            let framed = [length.to_be_bytes().as_slice(), &answer].concat();
            if stream.write_all(&framed).await.is_err() {
                return;
            }
        }
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
