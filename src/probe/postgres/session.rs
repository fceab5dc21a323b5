//! One PostgreSQL session over the dialer's stream.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio_postgres::config::{SslMode, SslNegotiation};
use tokio_postgres::error::{DbError, Severity};
use tokio_postgres::{Client, Config, Error, SimpleQueryMessage, SimpleQueryRow};
use tokio_util::task::AbortOnDropHandle;

use super::road::Road;
use super::wire::{AgreedOn, Wire};
use crate::clock::Deadline;
use crate::config::Secret;
use crate::health::TlsDetails;
use crate::net::Dialed;
use crate::probe::GOODBYE;
use crate::probe::pooled::Session;

/// An open session, and the task that moves its bytes.
pub(in crate::probe) struct Connection {
    client: Client,
    /// Ended with the session: left alone, it would wait for the answer of a server that hangs.
    driver: AbortOnDropHandle<()>,
    tls: Option<TlsDetails>,
    address: Option<SocketAddr>,
    /// Our own address.
    local: Option<IpAddr>,
    /// Whether the server was in recovery when it first told.
    was_replica: Option<bool>,
    /// Whether a question is under way.
    asking: bool,
    road: Arc<Road>,
}

/// The share of the time left that the server may take: its word that the time is up should come before ours.
const SERVERS_SHARE: f64 = 0.9;

impl Connection {
    /// Start-up and authentication.
    pub(super) fn log_in(
        user: &str,
        password: Option<&Secret>,
        database: &str,
        Dialed { stream, tls }: Dialed,
        address: Option<SocketAddr>,
        road: Arc<Road>,
    ) -> impl Future<Output = Result<Self, Error>> + Send + use<> {
        let mut config = Config::new();
        // Nothing else is sent at the start: poolers refuse parameters that they do not know.
        config
            .user(user)
            .dbname(database)
            .application_name("sickbay")
            // "Require" and "direct" make the driver take the stream from `AgreedOn` without a word of its own.
            .ssl_mode(SslMode::Require)
            .ssl_negotiation(SslNegotiation::Direct);
        if let Some(password) = password {
            config.password(password.expose());
        }
        let local = stream.local_address().map(|local| local.ip());
        async move {
            let wire = Wire::new(stream, tls.as_ref());
            let (client, connection) = config.connect_raw(wire, AgreedOn).await?;
            let driver = tokio::spawn(async move {
                // What ends the connection is told to whoever waits for an answer on it.
                let _ = connection.await;
            });
            let driver = AbortOnDropHandle::new(driver);
            Ok(Self { client, driver, tls, address, local, was_replica: None, asking: false, road })
        }
    }

    /// The session's TLS.
    pub(super) fn tls(&self) -> Option<&TlsDetails> {
        self.tls.as_ref()
    }

    /// The address that this session comes from.
    pub(super) fn local(&self) -> Option<IpAddr> {
        self.local
    }

    /// Whether the server was of the other role when this session first asked.
    pub(super) fn role_changed(&mut self, is_replica: bool) -> bool {
        *self.was_replica.get_or_insert(is_replica) != is_replica
    }

    /// Whether this error was the end of the session: the server says so by its severity before it closes. PgBouncer
    /// says it by the class alone: 08, connection exception.
    pub(super) fn ended_by(&self, error: &Error) -> bool {
        let ends = |said: &DbError| {
            let fatal = matches!(said.parsed_severity(), Some(Severity::Fatal | Severity::Panic));
            fatal || said.code().code().starts_with("08")
        };
        error.as_db_error().is_none_or(ends) || self.client.is_closed()
    }

    /// The rows of the answer to `question`, by the simple protocol: every value is text, and no prepared statement
    /// is needed, so that it also passes through a pooler such as PgBouncer. The server gives up in time for its
    /// word to arrive by the deadline.
    ///
    /// Statements of one message are one transaction, and `SET LOCAL` ends with it: behind a pooler the next client
    /// of the same session finds nothing of ours. One that fails leaves no transaction behind either.
    pub(super) async fn rows(
        &mut self,
        question: &str,
        deadline: Deadline,
    ) -> Result<Vec<SimpleQueryRow>, Error> {
        let millis = deadline.remaining().mul_f64(SERVERS_SHARE).as_millis().max(1);
        self.asking = true;
        let statements = format!("SET LOCAL statement_timeout = {millis}; {question}");
        let answer = self.client.simple_query(&statements).await;
        self.asking = false;
        let rows = answer?.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        Ok(rows.collect())
    }

    /// The databases that this role can connect to, by name.
    pub(super) async fn databases(&mut self, deadline: Deadline) -> Result<Vec<String>, Error> {
        let question = "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate \
                        AND has_database_privilege(datname, 'CONNECT') ORDER BY datname";
        let rows = self.rows(question, deadline).await?;
        Ok(rows.iter().filter_map(|row| Some(text(row, 0)?.to_owned())).collect())
    }
}

/// A column as text; `None` where there is no such column, it is null, or it is no UTF-8. (`get` would panic.)
pub(super) fn text(row: &SimpleQueryRow, column: usize) -> Option<&str> {
    row.try_get(column).ok().flatten()
}

impl Session for Connection {
    /// Sends `Terminate`, after the answer that may be under way, and waits until the server has hung up.
    async fn goodbye(self) {
        let Self { client, driver, .. } = self;
        drop(client);
        let _ = driver.await;
    }

    /// Asks the server to end what it is doing for us. A session that is simply cut goes on there, and is complained
    /// of in its log when the answer finds nobody.
    async fn abandon(self) {
        if let Some(address) = self.address.filter(|_| self.asking) {
            let (token, road) = (self.client.cancel_token(), Arc::clone(&self.road));
            let encrypted = self.tls.is_some();
            let cancelling = async move {
                if let Ok(Dialed { stream, tls }) =
                    road.go_back(address, encrypted, Deadline::after(GOODBYE)).await
                {
                    let wire = Wire::new(stream, tls.as_ref());
                    // Where it does not arrive, the statement's own timeout ends it.
                    let _ = token.cancel_query_raw(wire, AgreedOn).await;
                }
            };
            tokio::join!(cancelling, self.goodbye());
        } else {
            self.goodbye().await;
        }
    }
}
