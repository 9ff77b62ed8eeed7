//! The accounts that the stack has served, as one item.

use jiff::Timestamp;
use relay::ports::accounts::AccountLedger;
use relay::ports::queue::StoreError;
use relay_core::account::ServedAccounts;

use crate::ledger::deliveries::Ledger;
use crate::ledger::items::ACCOUNTS;
use crate::ledger::table::{LedgerTable, Update, string_attr};
use crate::sdk::error::AwsError;

const KEY: &str = "account#served";

impl AccountLedger for Ledger {
    async fn load(&self) -> Result<Option<String>, StoreError> {
        Ok(load(self.table()).await?)
    }

    async fn replace(&self, before: Option<&str>, after: &str) -> Result<bool, StoreError> {
        let update = Update::default().set(ACCOUNTS, after).no_ttl();
        let update = match before {
            Some(before) => update.only_if(format!("{ACCOUNTS} = :before")).bind("before", before),
            None => update.only_if(format!("attribute_not_exists({ACCOUNTS})")),
        };
        Ok(self.table().update(KEY, update, Timestamp::now()).await?.is_some())
    }
}

/// Returns the accounts that a stack has served; those of a new one if none are recorded, or a newer relay has recorded
/// them.
///
/// # Errors
/// When the table cannot be read.
pub async fn served(table: &LedgerTable) -> Result<ServedAccounts, AwsError> {
    let document = load(table).await?;
    Ok(document.and_then(|document| serde_json::from_str(&document).ok()).unwrap_or_default())
}

async fn load(table: &LedgerTable) -> Result<Option<String>, AwsError> {
    Ok(string_attr(&table.get(KEY).await?, ACCOUNTS).map(str::to_owned))
}
