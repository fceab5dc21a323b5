//! A throw-away PostgreSQL with the database `mlflow_db`.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use rustix::process::Signal;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use super::certs::Pair;
use super::ports;
use super::process::{Daemon, children, is_alive, run, until_ready};
use super::scratch::{self, Folder};
use super::user;

/// The superuser, and the user of the compiled-in configuration.
pub const USER: &str = "postgres";
/// The database of the compiled-in configuration.
pub const DATABASE: &str = "mlflow_db";

/// How often a server is given another port when its own was taken before it got to it.
const TRIES: usize = 5;

/// A line of `pg_hba.conf` by which a [standby](Postgres::standby) may follow a server.
pub const LETS_REPLICATE: &str = "local replication all trust";

/// What differs from a plain server with SCRAM passwords.
#[derive(Debug, Clone, Default)]
pub struct PostgresOptions {
    /// Whether TLS is spoken.
    pub tls: PostgresTls,
    /// Lines of `pg_hba.conf` that go before the usual one, so that they win.
    pub hba: Vec<String>,
    /// Lines of `postgresql.conf`. The last of a name wins, and these are last.
    pub conf: Vec<String>,
}

/// Whether the server speaks TLS, and with which certificate.
#[derive(Debug, Clone, Default)]
pub enum PostgresTls {
    /// It answers `N` to an SSLRequest.
    #[default]
    Off,
    /// With or without, as the client likes.
    Offered(Pair),
    /// `pg_hba.conf` lets nobody in without, as `rds.force_ssl` does.
    Required(Pair),
}

/// A server, and its data. Dropped, it is gone.
#[derive(Debug)]
pub struct Postgres {
    folder: Folder,
    port: u16,
    daemon: Option<Daemon>,
}

impl Postgres {
    /// Starts a server and waits until it answers.
    pub async fn start(options: PostgresOptions) -> Self {
        let folder = Folder::new("pg");
        let data = folder.path().join("data");
        let copied = tokio::task::spawn_blocking(move || {
            // By `cp`, so that a file system that can share the blocks does.
            let mut copy = Command::new("cp");
            copy.args(["-R", "--reflink=auto"]).arg(template()).arg(data);
            run(copy)
        });
        copied.await.expect("a copy of the template");
        Self::start_in(folder, &options).await
    }

    /// Starts a standby that streams from this server, which has to let replication in by its socket: start it with
    /// [`LETS_REPLICATE`] in `hba`.
    pub async fn standby(&self, options: PostgresOptions) -> Self {
        let folder = Folder::new("pg");
        let (data, socket, port) =
            (folder.path().join("data"), self.folder.path().to_owned(), self.port.to_string());
        let copied = tokio::task::spawn_blocking(move || {
            let mut copy = program("pg_basebackup");
            copy.args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--username", USER]);
            copy.arg("--host").arg(socket).arg("--port").arg(port).arg("--pgdata").arg(data);
            run(copy)
        });
        copied.await.expect("a copy of the primary");
        Self::start_in(folder, &options).await
    }

    async fn start_in(folder: Folder, options: &PostgresOptions) -> Self {
        configure(&folder, options);
        let mut server = Self { folder, port: 0, daemon: None };
        let mut last = String::new();
        for _ in 0..TRIES {
            server.port = ports::spare();
            match server.launch().await {
                Ok(()) => return server,
                Err(log) => last = log,
            }
        }
        panic!("PostgreSQL does not start: {last}");
    }

    /// The port on 127.0.0.1, the same for the server's whole life.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The superuser's password.
    pub fn password(&self) -> &'static str {
        password()
    }

    /// The variables that point the compiled-in configuration to this server.
    pub fn env(&self) -> Vec<(String, String)> {
        let port = self.port.to_string();
        [("DATABASE_HOST", "127.0.0.1"), ("DATABASE_PORT", &port), ("DATABASE_PASSWORD", self.password())]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    /// Stops it as an operator does: clients are told (57P01) and cut off.
    pub async fn stop(&mut self) {
        let daemon = self.daemon.take().expect("it runs");
        daemon.end(Signal::INT).await;
    }

    /// Starts it again after [`Postgres::stop`]: same port, same data.
    pub async fn restart(&mut self) {
        assert!(self.daemon.is_none(), "stop it first");
        self.launch().await.unwrap_or_else(|log| panic!("PostgreSQL does not start again: {log}"));
    }

    /// Starts it again with a setting under which it takes nobody in (57P03), as it does while it starts.
    pub async fn restart_refusing(&mut self, setting: &str) {
        assert!(self.daemon.is_none(), "stop it first");
        let mut daemon = self.spawn(&[setting]);
        let started = until_ready(&mut daemon, "PostgreSQL", || async {
            match self.try_sql("SELECT 1").await {
                Ok(_) => Err("it takes sessions".to_owned()),
                Err(error) if error.starts_with("57P03") => Ok(()),
                Err(error) => Err(error),
            }
        });
        started.await.unwrap_or_else(|log| panic!("PostgreSQL does not start again: {log}"));
        self.daemon = Some(daemon);
    }

    /// From now on connections are accepted, and nothing is answered on any of them.
    pub async fn hang(&self) {
        self.running().hang().await;
    }

    /// Undoes [`Postgres::hang`].
    pub fn wake(&self) {
        self.running().wake();
    }

    /// All that it has logged: each connection, too.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Runs statements as the superuser in `mlflow_db`, through the Unix socket: it works whatever the
    /// network side refuses. Gives the rows, a row its columns; NULL is empty.
    pub async fn sql(&self, statements: &str) -> Vec<Vec<String>> {
        self.try_sql(statements).await.unwrap_or_else(|error| panic!("{statements}: {error}"))
    }

    /// The connections that the server counts for an `application_name`. One that was just closed may still
    /// be among them: wait for the number.
    pub async fn connections_of(&self, application: &str) -> usize {
        let name = application.replace('\'', "''");
        let query = format!("SELECT count(*) FROM pg_stat_activity WHERE application_name = '{name}'");
        self.sql(&query).await[0][0].parse().expect("a count")
    }

    /// Whether `psql`, and so libpq, gets a session: a connection string that says how, such as `sslmode=prefer`.
    pub async fn takes_psql(&self, how: &str) -> Result<(), String> {
        let mut psql = program("psql");
        // No settings or certificates of whoever runs the tests.
        psql.env("HOME", self.folder.path()).env("PGPASSWORD", self.password());
        let port = self.port;
        psql.args(["--no-psqlrc", "--command", "SELECT 1", "--dbname"]);
        psql.arg(format!(
            "host=127.0.0.1 port={port} user={USER} dbname={DATABASE} connect_timeout=60 {how}"
        ));
        psql.stdin(Stdio::null());
        let output = tokio::task::spawn_blocking(move || psql.output()).await.expect("a thread");
        let output = output.expect("psql starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(said) }
    }

    /// Where its files are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The processes that it consists of, the postmaster first; those that have ended do not count.
    pub fn pids(&self) -> Vec<u32> {
        let postmaster = self.running().pid();
        std::iter::once(postmaster).chain(children(postmaster)).filter(|pid| is_alive(*pid)).collect()
    }

    fn running(&self) -> &Daemon {
        self.daemon.as_ref().expect("it runs")
    }

    async fn launch(&mut self) -> Result<(), String> {
        let mut daemon = self.spawn(&[]);
        until_ready(&mut daemon, "PostgreSQL", || async { self.try_sql("SELECT 1").await.map(drop) }).await?;
        self.daemon = Some(daemon);
        Ok(())
    }

    fn spawn(&self, settings: &[&str]) -> Daemon {
        let mut command = program("postgres");
        command.arg("-D").arg(self.folder.path().join("data")).arg("-p").arg(self.port.to_string());
        command.arg("-k").arg(self.folder.path());
        for setting in settings {
            command.args(["-c", setting]);
        }
        // SIGQUIT is PostgreSQL's immediate shutdown.
        Daemon::spawn(command, &self.folder.path().join("log"), Signal::QUIT)
    }

    pub async fn try_sql(&self, statements: &str) -> Result<Vec<Vec<String>>, String> {
        let told = |error: tokio_postgres::Error| match error.as_db_error() {
            Some(error) => format!("{} {}", error.code().code(), error.message()),
            None => error.to_string(),
        };
        let mut config = tokio_postgres::Config::new();
        config.host_path(self.folder.path()).port(self.port).user(USER).dbname(DATABASE);
        config.application_name("test support");
        let (client, connection) = config.connect(NoTls).await.map_err(told)?;
        let connection = tokio::spawn(connection);
        let messages = client.simple_query(statements).await.map_err(told);
        drop(client);
        // Until it has said goodbye, so that the server does not log a lost connection.
        let _ = connection.await;
        let rows = messages?.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|i| row.get(i).unwrap_or_default().to_owned()).collect())
            }
            _ => None,
        });
        Ok(rows.collect())
    }
}

fn configure(folder: &Folder, options: &PostgresOptions) {
    let data = folder.path().join("data");
    let mut conf = String::from(
        "listen_addresses = '127.0.0.1'\n\
         fsync = off\nsynchronous_commit = off\nfull_page_writes = off\nautovacuum = off\n\
         shared_buffers = 2MB\nmax_connections = 20\n\
         # Files in the data folder: what is killed leaves nothing in /dev/shm.\n\
         dynamic_shared_memory_type = mmap\n\
         log_connections = on\nlog_disconnections = on\nlog_line_prefix = '%m [%p] %a: '\n",
    );
    let (kind, pair) = match &options.tls {
        PostgresTls::Off => ("host", None),
        PostgresTls::Offered(pair) => ("host", Some(pair)),
        PostgresTls::Required(pair) => ("hostssl", Some(pair)),
    };
    if let Some(pair) = pair {
        // A key has to be the server's own, and nobody else's.
        let key = folder.write("server.key", &fs::read(&pair.key).expect("the key"));
        let cert = folder.write("server.pem", &fs::read(&pair.cert).expect("the certificate"));
        conf +=
            &format!("ssl = on\nssl_key_file = '{}'\nssl_cert_file = '{}'\n", key.display(), cert.display());
    }
    for line in &options.conf {
        conf += &format!("{line}\n");
    }
    // The socket lies in a folder that only the tests can enter.
    let mut hba = String::from("local all all trust\n");
    for line in &options.hba {
        hba += &format!("{line}\n");
    }
    hba += &format!("{kind} all all 127.0.0.1/32 scram-sha-256\n");
    for (name, content) in [("postgresql.conf", conf), ("pg_hba.conf", hba)] {
        let path = data.join(name);
        fs::write(&path, content).expect("write");
        user::give(&path);
    }
}

/// A cluster made once in each test process, and copied for each server: initdb takes a second.
fn template() -> &'static Path {
    static TEMPLATE: OnceLock<PathBuf> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let folder = Folder::new("template");
        let data = folder.path().join("data");
        let password_file = folder.write("password", password().as_bytes());
        let mut initdb = program("initdb");
        initdb.args([
            "--username",
            USER,
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        ]);
        // 16 MB of WAL for each server would be most of its disk.
        initdb.arg("--wal-segsize=1");
        initdb.arg("--pwfile").arg(password_file).arg("-D").arg(&data);
        run(initdb);
        // Single-user mode reads statements from a file; no server has to run.
        let statements = folder.write("sql", format!("CREATE DATABASE {DATABASE}\n").as_bytes());
        let mut create = Command::new("sh");
        create.args(["-c", "exec \"$1\" --single -D \"$2\" postgres <\"$3\"", "sh"]);
        create.arg(bin().join("postgres")).arg(&data).arg(statements).stdout(Stdio::null());
        run(create);
        // It lives as long as the process; the reaper removes it.
        std::mem::forget(folder);
        data
    })
}

fn password() -> &'static str {
    static PASSWORD: OnceLock<String> = OnceLock::new();
    PASSWORD.get_or_init(|| format!("{:032x}", fastrand::u128(..)))
}

/// One of PostgreSQL's programs, with nothing of the caller's environment that could lead it astray.
fn program(name: &str) -> Command {
    let mut command = Command::new(bin().join(name));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("LC_ALL", "C");
    // The caller's folder may be closed to the user that it runs as.
    command.current_dir(scratch::root());
    command
}

/// Where the programs are; the same rule as in `postgres_bin.sh`, by the same script.
fn bin() -> &'static Path {
    static BIN: OnceLock<PathBuf> = OnceLock::new();
    BIN.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/postgres_bin.sh");
        let mut find = Command::new("bash");
        find.arg("-c").arg("source \"$1\" && postgres_bin").arg("bash").arg(script);
        let output = find.output().expect("bash starts");
        assert!(output.status.success(), "PostgreSQL is not installed: run tests/support/install.sh test");
        let path = String::from_utf8(output.stdout).expect("UTF-8");
        PathBuf::from(OsString::from(path.trim_end()))
    })
}
