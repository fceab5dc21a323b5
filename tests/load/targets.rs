//! Ports to knock at: they take connections and close them, by the thousand, and count them.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

/// Addresses listened on. Each connection leaves a port in TIME_WAIT for a while, and one address has less
/// than thirty thousand of them to give.
const ADDRESSES: u8 = 16;

/// Ports on some of 127.0.0.0/8. They last as long as the process.
#[derive(Debug, Clone)]
pub struct Targets {
    addresses: Vec<SocketAddr>,
    accepted: Arc<AtomicU64>,
}

impl Targets {
    /// Starts to listen.
    pub fn listen() -> Self {
        let accepted = Arc::new(AtomicU64::new(0));
        let addresses = (1..=ADDRESSES).map(|last| {
            let listener = TcpListener::bind((Ipv4Addr::new(127, 0, 0, last), 0)).expect("a port");
            let address = listener.local_addr().expect("its address");
            let accepted = Arc::clone(&accepted);
            std::thread::spawn(move || {
                while listener.accept().is_ok() {
                    accepted.fetch_add(1, Ordering::Relaxed);
                }
            });
            address
        });
        Self { addresses: addresses.collect(), accepted }
    }

    /// Connections so far.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// This many targets, one address after the other.
    fn each(&self, count: usize) -> impl Iterator<Item = (usize, SocketAddr)> + '_ {
        self.addresses.iter().copied().cycle().take(count).enumerate()
    }

    /// A configuration with so many TCP dependencies, each checked every second.
    pub fn sickbay(&self, count: usize) -> Value {
        let dependencies = self.each(count).map(|(number, address)| {
            json!({"name": format!("t{number}"), "kind": "tcp", "impact": "critical",
                   "host": address.ip(), "port": address.port()})
        });
        json!({"defaults": {"interval": "1s"}, "dependencies": dependencies.collect::<Vec<_>>()})
    }

    /// The same for HAProxy.
    pub fn haproxy(&self, count: usize) -> String {
        let servers = self
            .each(count)
            .map(|(number, address)| format!("  server t{number} {address} check inter 1s\n"));
        format!("backend targets\n{}", servers.collect::<String>())
    }
}
