//! Five dependencies, one of each kind, with TLS wherever the kind has it: what a task has in production.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::support::certs::certs;
use super::support::dns::{self, Dns, Zone};
use super::support::http::{Answer, HttpServer, acceptor};
use super::support::postgres::{self, Postgres, PostgresOptions, PostgresTls};
use super::support::redis::{Redis, RedisOptions};
use super::support::scratch::Folder;
use super::support::tcp::Peer;
use super::tested::system_authorities;

/// The servers.
pub struct Five {
    postgres: Postgres,
    redis: Redis,
    dns: Dns,
    http: HttpServer,
    tcp: Peer,
    tcp_hangs: Arc<AtomicBool>,
    bundle: PathBuf,
    _folder: Folder,
}

impl Five {
    /// All of them, well.
    pub async fn start() -> Self {
        let certs = certs();
        let tls = PostgresTls::Required(certs.good.clone());
        let acceptor = acceptor(&certs.good);
        let folder = Folder::new("bundle");
        let tcp_hangs = Arc::new(AtomicBool::new(false));
        let hangs = Arc::clone(&tcp_hangs);
        Self {
            postgres: Postgres::start(PostgresOptions { tls, ..PostgresOptions::default() }).await,
            redis: Redis::start(RedisOptions { tls: Some(certs.good.clone()), ..RedisOptions::default() })
                .await,
            dns: Dns::start(Zone::new([dns::address("db.test", "127.0.0.1")])).await,
            http: HttpServer::start_tls(Answer::status(200).body("well"), &certs.good).await,
            tcp: Peer::start(move |stream| {
                let (acceptor, hangs) = (acceptor.clone(), Arc::clone(&hangs));
                async move {
                    if hangs.load(Ordering::Relaxed) {
                        std::future::pending::<()>().await;
                    }
                    drop(acceptor.accept(stream).await);
                }
            })
            .await,
            tcp_hangs,
            bundle: bundle(&folder),
            _folder: folder,
        }
    }

    /// From now on all of them take connections, and none says another word.
    pub async fn hang(&self) {
        self.postgres.hang().await;
        self.redis.hang().await;
        self.dns.hang().await;
        self.http.answer(Answer::never());
        self.tcp_hangs.store(true, Ordering::Relaxed);
    }

    /// A configuration that checks each of them every `interval`. Their names are not those of the compiled-in
    /// ones, which have settings of their own.
    pub fn config(&self, interval: &str) -> Value {
        let tls = json!({"verify": "full", "root_cert": self.bundle});
        let http = self.http.url("/");
        let port = self.tcp.address().port();
        json!({
            "defaults": {"interval": interval, "startup_interval": interval},
            "dependencies": [
                {"name": "orders", "kind": "postgres", "impact": "critical", "host": "127.0.0.1",
                 "port": self.postgres.port(), "database": postgres::DATABASE, "user": postgres::USER,
                 "password": self.postgres.password(), "sslmode": "verify-full", "root_cert": self.bundle},
                {"name": "sessions", "kind": "redis", "impact": "critical", "host": "127.0.0.1",
                 "port": self.redis.tls_port(), "tls": tls},
                {"name": "names", "kind": "dns", "impact": "critical", "query": "db.test",
                 "nameservers": [self.dns.address().to_string()]},
                {"name": "models", "kind": "http", "impact": "critical", "url": http, "tls": tls},
                {"name": "ledger", "kind": "tcp", "impact": "critical", "host": "127.0.0.1", "port": port, "tls": tls},
            ],
        })
    }
}

/// Our authority, and all that the system trusts: as many as there are in the bundle of RDS.
fn bundle(folder: &Folder) -> PathBuf {
    let read = |path| std::fs::read(path).expect("a readable file of authorities");
    let mut pem = read(certs().ca.as_path());
    if let Some(system) = system_authorities() {
        pem.extend(read(system));
    }
    folder.write("authorities.pem", &pem)
}
