//! PostgreSQL: TLS, authentication, roles, limits, and a server that stops, hangs or cuts a connection.

mod auth;
mod details;
mod hostile;
mod life;
mod pool;
mod pooler;
mod queries;
mod replica;
mod tls;

use crate::support::certs::{Pair, certs};
use crate::support::postgres::{DATABASE, Postgres, PostgresOptions, PostgresTls};

async fn plain() -> Postgres {
    Postgres::start(PostgresOptions::default()).await
}

async fn with_tls(pair: &Pair) -> Postgres {
    let tls = PostgresTls::Offered(pair.clone());
    Postgres::start(PostgresOptions { tls, ..Default::default() }).await
}

fn ca() -> &'static str {
    certs().ca.to_str().expect("UTF-8")
}

/// A session of `app` that is held, or why there is none.
async fn session(server: &Postgres) -> Result<tokio_postgres::Client, String> {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(server.port()).user("app").password("app").dbname(DATABASE);
    let (client, connection) =
        config.connect(tokio_postgres::NoTls).await.map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    client.simple_query("SELECT 1").await.map_err(|error| error.to_string())?;
    Ok(client)
}
