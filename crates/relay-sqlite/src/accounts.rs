//! The accounts that the store has served, as one document.

use relay::ports::accounts::AccountLedger;
use relay::ports::queue::StoreError;
use relay_core::account::ServedAccounts;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::store::SqliteStore;

impl AccountLedger for SqliteStore {
    async fn load(&self) -> Result<Option<String>, StoreError> {
        self.read(load).await
    }

    async fn replace(&self, before: Option<&str>, after: &str) -> Result<bool, StoreError> {
        let (before, after) = (before.map(str::to_owned), after.to_owned());
        self.write(move |transaction| {
            if load(transaction)? != before {
                return Ok(false);
            }
            transaction
                .execute(
                    "INSERT INTO accounts (id, document) VALUES (1, ?1)
                     ON CONFLICT (id) DO UPDATE SET document = excluded.document",
                    params![after],
                )
                .map(|_| true)
        })
        .await
    }
}

pub(crate) fn load(connection: &Connection) -> rusqlite::Result<Option<String>> {
    connection.query_row("SELECT document FROM accounts WHERE id = 1", [], |row| row.get(0)).optional()
}

/// Returns the accounts that a store has served; those of a new one if none are recorded.
pub(crate) fn served(connection: &Connection) -> rusqlite::Result<ServedAccounts> {
    let Some(document) = load(connection)? else { return Ok(ServedAccounts::default()) };
    serde_json::from_str(&document).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}
