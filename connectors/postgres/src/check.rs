//! Everything on the server that would keep a pipeline from running or endanger it, each with its fix.

use rowbridge_api::{Finding, SourceError, TableNeeds};

use crate::config::PostgresConfig;
use crate::sql::Sql;

/// All findings at once. Reads only.
pub(crate) async fn findings(
    _sql: &Sql,
    _config: &PostgresConfig,
    _name: &str,
    _needs: &[TableNeeds],
) -> Result<Vec<Finding>, SourceError> {
    Ok(Vec::new())
}
