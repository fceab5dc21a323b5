//! PgBouncer in front of a PostgreSQL server, in transaction mode: each transaction may get another session of the
//! server, and none of a client's settings may stay behind in it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;
use tokio_postgres::{Client, NoTls};

use super::certs::Pair;
use super::ports;
use super::postgres::{DATABASE, Postgres, USER};
use super::process::{Daemon, until_ready};
use super::scratch::Folder;
use super::tcp;

/// The password that it knows for each of its users; whether the server behind asks for one is the server's affair.
pub const PASSWORD: &str = "pooled-1";
/// A line of `pg_hba.conf` by which the server lets it in.
pub const LETS_IN: &str = "host all all 127.0.0.1/32 trust";
/// A database of its list that the server does not have.
pub const MISSING: &str = "missing";
/// A database of its list whose server is away.
pub const AWAY: &str = "away";
/// The server's database, reached by its Unix socket.
pub const BY_SOCKET: &str = "by_socket";

/// How often it is given another port when its own was taken before it got to it.
const TRIES: usize = 5;

/// A running PgBouncer. Dropped, it is gone.
#[derive(Debug)]
pub struct PgBouncer {
    folder: Folder,
    port: u16,
    daemon: Option<Daemon>,
}

impl PgBouncer {
    /// Starts one in front of `server`, which knows the superuser and these users, and has one session at the server
    /// for all clients of a user and a database.
    pub async fn start(server: &Postgres, users: &[&str]) -> Self {
        Self::start_with(server, users, "").await
    }

    /// Starts one that takes only TLS.
    pub async fn start_with_tls(server: &Postgres, pair: &Pair) -> Self {
        let own = Folder::new("pgb");
        let key = own.write("key", &fs::read(&pair.key).expect("the key"));
        let cert = own.write("cert", &fs::read(&pair.cert).expect("the certificate"));
        let tls = format!(
            "client_tls_sslmode = require\nclient_tls_key_file = {}\nclient_tls_cert_file = {}\n",
            key.display(),
            cert.display()
        );
        // It reads them once.
        Self::start_with(server, &[], &tls).await
    }

    async fn start_with(server: &Postgres, users: &[&str], more: &str) -> Self {
        let mut pooler = Self { folder: Folder::new("pgb"), port: 0, daemon: None };
        let users: String =
            [USER].iter().chain(users).map(|user| format!("\"{user}\" \"{PASSWORD}\"\n")).collect();
        pooler.folder.write("users", users.as_bytes());
        let mut last = String::new();
        for _ in 0..TRIES {
            pooler.port = ports::spare();
            pooler.folder.write("settings", settings(server, pooler.port, more).as_bytes());
            match pooler.launch().await {
                Ok(()) => return pooler,
                Err(log) => last = log,
            }
        }
        panic!("PgBouncer does not start: {last}");
    }

    /// The port on 127.0.0.1, the same for its whole life.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Stops it at once, whoever is connected.
    pub async fn stop(&mut self) {
        self.daemon.take().expect("it runs").end(Signal::TERM).await;
    }

    /// Starts it again after [`PgBouncer::stop`].
    pub async fn restart(&mut self) {
        assert!(self.daemon.is_none(), "stop it first");
        self.launch().await.unwrap_or_else(|log| panic!("PgBouncer does not start again: {log}"));
    }

    /// A session of the superuser that is held.
    pub async fn session(&self) -> Client {
        self.connect(DATABASE).await.expect("a session")
    }

    /// Runs a command of its administration, such as `PAUSE`.
    pub async fn admin(&self, command: &str) {
        let console = self.connect("pgbouncer").await.expect("a session on the console");
        console.simple_query(command).await.unwrap_or_else(|error| panic!("{command}: {error}"));
    }

    async fn connect(&self, database: &str) -> Result<Client, tokio_postgres::Error> {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(self.port).user(USER).password(PASSWORD).dbname(database);
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    async fn launch(&mut self) -> Result<(), String> {
        let mut command = Command::new(program());
        command.arg("settings").current_dir(self.folder.path());
        let mut daemon = Daemon::spawn(command, &self.folder.path().join("log"), Signal::TERM);
        let port = self.port;
        let answers = || async move {
            let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
            stream.map(drop).map_err(|error| error.to_string())
        };
        until_ready(&mut daemon, "PgBouncer", answers).await?;
        self.daemon = Some(daemon);
        Ok(())
    }
}

fn settings(server: &Postgres, port: u16, more: &str) -> String {
    let (behind, away) = (server.port(), tcp::refused_port());
    let socket = server.folder().display();
    format!(
        "[databases]\n\
         {DATABASE} = host=127.0.0.1 port={behind}\n\
         {MISSING} = host=127.0.0.1 port={behind}\n\
         {AWAY} = host=127.0.0.1 port={away}\n\
         {BY_SOCKET} = host={socket} port={behind} dbname={DATABASE}\n\
         [pgbouncer]\n\
         listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
         auth_type = scram-sha-256\nauth_file = users\nadmin_users = {USER}\n\
         pool_mode = transaction\ndefault_pool_size = 1\n\
         query_wait_timeout = 1\nserver_login_retry = 1\n{more}"
    )
}

/// Daemons live in sbin, which is not in every user's PATH.
fn program() -> PathBuf {
    let sbin = ["/usr/sbin/pgbouncer", "/sbin/pgbouncer"].map(PathBuf::from);
    sbin.into_iter().find(|path| fs::exists(path).unwrap_or(false)).unwrap_or_else(|| "pgbouncer".into())
}
