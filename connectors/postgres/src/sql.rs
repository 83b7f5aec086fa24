//! The ordinary session beside the walsender: catalogue, publication, slot, watch.
//!
//! tokio-postgres over our own socket, so that addresses, TLS and session settings are the same on both.

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Row, SimpleQueryMessage};
use tokio_util::task::AbortOnDropHandle;

use rowbridge_api::SourceError;

use crate::admission;
use crate::config::{APPLICATION_NAME, ConfigError, PostgresConfig, session_options};
use crate::error::{WireError, sql_error};
use crate::socket::Socket;

/// What [`Sql::connect`] does, for errors.
pub(crate) const OPENING: &str = "cannot open an SQL session";

/// Settings that only newer servers know, where naming them at start-up would be an error.
const SETTINGS_OF_NEWER_SERVERS: &str = "SELECT set_config(name, '0', false) FROM pg_settings \
     WHERE name IN ('idle_session_timeout', 'transaction_timeout')";

/// One session; closed when dropped.
pub(crate) struct Sql {
    client: Client,
    _connection: AbortOnDropHandle<()>,
}

impl Sql {
    pub(crate) async fn connect(config: &PostgresConfig) -> Result<Self, SourceError> {
        let opened = Self::open(config).await;
        opened.map_err(|error| error.while_doing(OPENING))
    }

    /// As [`Sql::connect`], for callers that decide themselves what an error means.
    pub(crate) async fn open(config: &PostgresConfig) -> Result<Self, WireError> {
        let after = config.limits.connect_timeout;
        let timed_out = |_| WireError::Timeout {
            what: "connecting",
            after,
        };
        tokio::time::timeout(after, Self::log_in(config))
            .await
            .map_err(timed_out)?
    }

    async fn log_in(config: &PostgresConfig) -> Result<Self, WireError> {
        let socket = Socket::connect(config).await?;
        let mut settings = tokio_postgres::Config::new();
        settings
            .user(&config.user)
            .dbname(&config.database)
            .application_name(APPLICATION_NAME)
            .ssl_mode(tokio_postgres::config::SslMode::Disable)
            .options(session_options(&config.limits));
        if let Some(password) = config.password.read().map_err(ConfigError::from)? {
            settings.password(password);
        }
        let connected = settings.connect_raw(socket, NoTls).await;
        let (client, connection) =
            connected.map_err(|error| admission::of_session(config, error))?;
        let connection = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the SQL session ended");
            }
        });
        let sql = Self {
            client,
            _connection: AbortOnDropHandle::new(connection),
        };
        sql.client
            .query(SETTINGS_OF_NEWER_SERVERS, &[])
            .await
            .map_err(|error| admission::of_session(config, error))?;
        Ok(sql)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Runs a query; `doing` completes "cannot ..." in the error.
    pub(crate) async fn query(
        &self,
        doing: &str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, SourceError> {
        self.client
            .query(sql, parameters)
            .await
            .map_err(|error| sql_error(&format!("cannot {doing}"), error))
    }

    /// Runs a query and returns its rows in their text form, as the stream has it.
    pub(crate) async fn text_rows(
        &self,
        sql: &str,
    ) -> Result<Vec<Vec<Option<String>>>, tokio_postgres::Error> {
        let messages = self.client.simple_query(sql).await?;
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                let cells = (0..row.len()).map(|index| row.get(index).map(str::to_owned));
                Some(cells.collect())
            }
            _ => None,
        });
        Ok(rows.collect())
    }

    /// Runs statements without parameters.
    pub(crate) async fn execute(&self, doing: &str, sql: &str) -> Result<(), SourceError> {
        self.client
            .batch_execute(sql)
            .await
            .map_err(|error| sql_error(&format!("cannot {doing}"), error))
    }
}

/// `name` as an identifier in SQL.
pub(crate) fn quote(name: &str) -> String {
    postgres_protocol::escape::escape_identifier(name)
}

/// `table` as an identifier in SQL.
pub(crate) fn quote_table(table: &rowbridge_api::TableName) -> String {
    format!("{}.{}", quote(&table.schema), quote(&table.name))
}

/// `text` as a literal in SQL.
pub(crate) fn literal(text: &str) -> String {
    postgres_protocol::escape::escape_literal(text)
}
