//! Peers that misbehave at the level of TCP. All on 127.0.0.1; dropped, they are gone.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::ports;
use super::wait::eventually;

/// A port where nobody listens and nobody will: a connection is refused.
pub fn refused_port() -> u16 {
    ports::spare()
}

/// A peer whose host does not react: a connection attempt is never answered, as behind a security group.
#[derive(Debug)]
pub struct Silent {
    address: SocketAddr,
    _listener: Socket,
    _queued: Vec<Socket>,
}

/// Starts one: a listener that never accepts, its queue filled. Linux drops the SYN of who comes after.
pub fn silent() -> Silent {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port");
    listener.listen(0).expect("listen");
    let address = listener.local_addr().ok().and_then(|it| it.as_socket()).expect("its address");
    let mut queued = Vec::new();
    // How many a queue of "none" holds is the kernel's business; one, at present.
    while queued.len() < 16 {
        let client = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        match client.connect_timeout(&address.into(), Duration::from_millis(200)) {
            Ok(()) => queued.push(client),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                return Silent { address, _listener: listener, _queued: queued };
            }
            Err(error) => panic!("filling the queue: {error}"),
        }
    }
    panic!("a listener whose queue cannot be filled");
}

impl Silent {
    /// Where nobody answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// A peer that accepts, and then does one thing on every connection.
#[derive(Debug)]
pub struct Peer {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

/// Accepts and never says a word, whatever it is told.
pub async fn mute() -> Peer {
    Peer::start(say_nothing).await
}

/// What a [`mute`] peer does with a connection.
pub async fn say_nothing(mut stream: TcpStream) {
    let mut nothing = [0; 1_024];
    while matches!(stream.read(&mut nothing).await, Ok(1..)) {}
}

/// Accepts, sends these bytes and closes.
pub async fn garbage(bytes: impl Into<Vec<u8>>) -> Peer {
    let bytes = bytes.into();
    Peer::start(move |mut stream| {
        let bytes = bytes.clone();
        async move {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
            // What the client sent has to be read: closing before would reset the connection, and the
            // client might lose the bytes.
            let mut nothing = [0; 1_024];
            while matches!(stream.read(&mut nothing).await, Ok(1..)) {}
        }
    })
    .await
}

/// Accepts and resets the connection at once.
pub async fn reset() -> Peer {
    Peer::start(|stream| async move { with_reset(stream) }).await
}

/// Accepts, waits for the client's first bytes and resets the connection then.
pub async fn reset_after_request() -> Peer {
    Peer::start(|mut stream| async move {
        let _ = stream.read(&mut [0; 1_024]).await;
        with_reset(stream);
    })
    .await
}

/// Two hosts, by their addresses on the loopback network, that listen on the same port; what comes in is passed on
/// to a server. So one server can be two, as before and after a failover.
pub async fn two_hosts(server: SocketAddr) -> [Peer; 2] {
    for _ in 0..5 {
        let first = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).await.expect("a port");
        let port = first.local_addr().expect("its address").port();
        let Ok(second) = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 3), port)).await else { continue };
        return [first, second].map(|listener| Peer::on(listener, move |client| pass_on(client, server)));
    }
    panic!("no port is free on two addresses");
}

/// Passes on what one side says to the other, until both have ended.
pub async fn pass_on(mut client: TcpStream, server: SocketAddr) {
    if let Ok(mut server) = TcpStream::connect(server).await {
        let _ = copy_bidirectional(&mut client, &mut server).await;
    }
}

/// Resets a connection: a close without lingering is one.
pub fn with_reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
}

impl Peer {
    /// Accepts on a port of its own and hands every connection to `then`.
    pub async fn start<F>(then: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        Self::on(listener, then)
    }

    /// Accepts on this one, wherever it was made.
    pub fn on<F>(listener: TcpListener, then: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let address = listener.local_addr().expect("its address");
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        let task = tokio::spawn(async move {
            // The connections end with this task.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                connections.spawn(then(stream));
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, accepted, task }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it has accepted. One that a client has made already may not be among them yet.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Waits until it has accepted so many connections, and tells how many there are then.
    pub async fn until_accepted(&self, connections: usize) -> usize {
        eventually("connections", || {
            let accepted = self.accepted();
            std::future::ready(if accepted >= connections { Ok(accepted) } else { Err(accepted) })
        })
        .await
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
