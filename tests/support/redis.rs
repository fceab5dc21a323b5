//! A throw-away Redis.

use std::fs;
use std::path::Path;
use std::process::Command;

use redis::aio::MultiplexedConnection;
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::certs::{Pair, certs};
use super::ports;
use super::process::{Daemon, until_ready};
use super::scratch::{self, Folder};
use super::wait::{PATIENCE, eventually};

/// The user that the tests themselves use where there are ACL users.
const ADMIN: &str = "test-admin";
const ADMIN_PASSWORD: &str = "test-admin-password";

/// How often a server is given other ports when its own were taken before it got to them.
const TRIES: usize = 5;

/// What differs from a plain server without a password.
#[derive(Debug, Clone, Default)]
pub struct RedisOptions {
    /// The default user's password (`requirepass`; with `users`, that of the default user in the ACL file).
    pub password: Option<String>,
    /// Further users, as in an ACL file without the leading `user`: `app on >secret ~* +ping +info`.
    pub users: Vec<String>,
    /// A second port, [`Redis::tls_port`], that speaks TLS with this certificate.
    pub tls: Option<Pair>,
    /// It runs as a Sentinel, which watches over servers and holds no data.
    pub sentinel: bool,
    /// Lines of `redis.conf`. The last of a name wins, and these are last.
    pub conf: Vec<String>,
}

/// A server. Dropped, it is gone. Its data is lost when it stops, unless `conf` says otherwise.
#[derive(Debug)]
pub struct Redis {
    folder: Folder,
    options: RedisOptions,
    port: u16,
    tls_port: Option<u16>,
    daemon: Option<Daemon>,
}

impl Redis {
    /// A plain server.
    pub async fn plain() -> Self {
        Self::start(RedisOptions::default()).await
    }

    /// A server with these lines in its configuration.
    pub async fn with_conf(lines: &[&str]) -> Self {
        let conf = lines.iter().map(|line| (*line).to_owned()).collect();
        Self::start(RedisOptions { conf, ..Default::default() }).await
    }

    /// Starts a server and waits until it answers.
    pub async fn start(options: RedisOptions) -> Self {
        let mut server =
            Self { folder: Folder::new("redis"), options, port: 0, tls_port: None, daemon: None };
        let mut last = String::new();
        for _ in 0..TRIES {
            server.port = ports::spare();
            server.tls_port = server.options.tls.is_some().then(ports::spare);
            match server.launch().await {
                Ok(()) => return server,
                Err(log) => last = log,
            }
        }
        panic!("Redis does not start: {last}");
    }

    /// The plain port on 127.0.0.1, the same for the server's whole life.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port that speaks TLS.
    pub fn tls_port(&self) -> u16 {
        self.tls_port.expect("started with `tls`")
    }

    /// The variables that point the compiled-in configuration to this server's plain port.
    pub fn env(&self) -> Vec<(String, String)> {
        let mut env = vec![
            ("REDIS_HOST".to_owned(), "127.0.0.1".to_owned()),
            ("REDIS_PORT".to_owned(), self.port.to_string()),
        ];
        env.extend(self.options.password.iter().map(|it| ("REDIS_PASSWORD".to_owned(), it.clone())));
        env
    }

    /// Stops it as an operator does.
    pub async fn stop(&mut self) {
        let daemon = self.daemon.take().expect("it runs");
        daemon.end(Signal::TERM).await;
    }

    /// Starts it again after [`Redis::stop`], on the same ports.
    pub async fn restart(&mut self) {
        assert!(self.daemon.is_none(), "stop it first");
        self.launch().await.unwrap_or_else(|log| panic!("Redis does not start again: {log}"));
    }

    /// From now on connections are accepted, and nothing is answered on any of them.
    pub async fn hang(&self) {
        self.running().hang().await;
    }

    /// Undoes [`Redis::hang`].
    pub fn wake(&self) {
        self.running().wake();
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Its folder, where its data would be.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A connection with every right, for as long as it is held.
    pub async fn connection(&self) -> MultiplexedConnection {
        self.try_connection().await.unwrap_or_else(|error| panic!("no connection: {error}"))
    }

    /// Runs one command with every right, on a connection of its own.
    pub async fn command(&self, words: &[&str]) -> redis::Value {
        self.try_command(words).await.unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// The same, where an error may be the answer.
    pub async fn try_command(&self, words: &[&str]) -> Result<redis::Value, String> {
        let mut connection = self.try_connection().await?;
        let (name, arguments) = words.split_first().expect("a command");
        let answer = redis::cmd(name).arg(arguments).query_async(&mut connection).await;
        // The server's own words, where there are any: `NOAUTH Authentication required.`
        answer.map_err(|error: redis::RedisError| match error.code() {
            Some(code) => format!("{code} {}", error.detail().unwrap_or_default()),
            None => error.to_string(),
        })
    }

    /// Says one line without logging in. The connection, and the first bytes of what was answered.
    pub async fn say(&self, line: &str) -> Result<(TcpStream, String), String> {
        let exchange = async {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
            stream.write_all(format!("{line}\r\n").as_bytes()).await?;
            let mut said = vec![0; 64];
            let length = stream.read(&mut said).await?;
            said.truncate(length);
            Ok::<_, std::io::Error>((stream, String::from_utf8_lossy(&said).into_owned()))
        };
        exchange.await.map_err(|error| error.to_string())
    }

    /// Takes the one place of a server with `maxclients 1`, for as long as it is held.
    pub async fn hold_the_one_place(&self) -> TcpStream {
        // The client that waited for the server's start may not be gone yet.
        eventually("the one place", || async {
            match self.say("PING").await? {
                (stream, said) if said.starts_with('+') => Ok(stream),
                (_, said) => Err(said),
            }
        })
        .await
    }

    fn running(&self) -> &Daemon {
        self.daemon.as_ref().expect("it runs")
    }

    async fn launch(&mut self) -> Result<(), String> {
        let conf = self.folder.write("redis.conf", self.conf().as_bytes());
        let mut command = Command::new("redis-server");
        command.arg(conf).args(self.options.sentinel.then_some("--sentinel")).current_dir(scratch::root());
        let mut daemon = Daemon::spawn(command, &self.folder.path().join("log"), Signal::KILL);
        until_ready(&mut daemon, "Redis", || async { self.try_command(&["PING"]).await.map(drop) }).await?;
        self.daemon = Some(daemon);
        Ok(())
    }

    fn conf(&self) -> String {
        let dir = self.folder.path().display();
        let mut conf = format!(
            "port {}\nbind 127.0.0.1\ndir {dir}\nsave \"\"\nappendonly no\ndaemonize no\n\
             # It would wait for its persistence on the way out, and there is none.\n\
             shutdown-timeout 0\n",
            self.port
        );
        let password = self.options.password.as_deref();
        if self.options.users.is_empty() {
            if let Some(password) = password {
                conf += &format!("requirepass {password}\n");
            }
        } else {
            let default = password.map_or("nopass".to_owned(), |password| format!(">{password}"));
            let mut users = format!("user default on {default} ~* &* +@all\n");
            users += &format!("user {ADMIN} on >{ADMIN_PASSWORD} ~* &* +@all\n");
            for user in &self.options.users {
                users += &format!("user {user}\n");
            }
            conf += &format!("aclfile {}\n", self.folder.write("users.acl", users.as_bytes()).display());
        }
        if let (Some(pair), Some(port)) = (&self.options.tls, self.tls_port) {
            let key = self.folder.write("server.key", &fs::read(&pair.key).expect("the key"));
            let cert = self.folder.write("server.pem", &fs::read(&pair.cert).expect("the certificate"));
            let ca = self.folder.write("ca.pem", &fs::read(&certs().ca).expect("the authority"));
            conf += &format!("tls-port {port}\ntls-auth-clients no\ntls-key-file {}\n", key.display());
            conf += &format!("tls-cert-file {}\ntls-ca-cert-file {}\n", cert.display(), ca.display());
        }
        for line in &self.options.conf {
            conf += &format!("{line}\n");
        }
        conf
    }

    async fn try_connection(&self) -> Result<MultiplexedConnection, String> {
        let (user, password) = match (&self.options.users[..], &self.options.password) {
            ([], password) => (None, password.as_deref()),
            (_, _) => (Some(ADMIN), Some(ADMIN_PASSWORD)),
        };
        let mut url = url::Url::parse(&format!("redis://127.0.0.1:{}/", self.port)).expect("a URL");
        let fits = url.set_username(user.unwrap_or("")).and_then(|()| url.set_password(password));
        fits.expect("a URL with a host");
        let told = |error: redis::RedisError| error.to_string();
        let client = redis::Client::open(url).map_err(told)?;
        // As long as a busy machine may take.
        let config = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        client.get_multiplexed_async_connection_with_config(&config).await.map_err(told)
    }
}

/// A field of what `INFO` or `CLUSTER INFO` says.
pub fn field(info: &redis::Value, name: &str) -> String {
    let text: String = redis::from_redis_value(info.clone()).expect("a text");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).to_owned()
}
