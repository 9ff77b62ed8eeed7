//! The port to the accounts that a store has served.
//!
//! See docs/adr/0016-destination-accounts.md.

use std::future::Future;

use relay_core::account::ServedAccounts;

use crate::ports::queue::StoreError;

/// Keeps the [accounts](ServedAccounts) of a store, as one document that the store does not look into.
pub trait AccountLedger: Send + Sync {
    /// Returns the document, if there is one.
    fn load(&self) -> impl Future<Output = Result<Option<String>, StoreError>> + Send;

    /// Replaces the document, or stores the first one. Returns false, and changes nothing, if the stored one is not
    /// `before` any more.
    fn replace(&self, before: Option<&str>, after: &str) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

/// Returns the accounts of a store; `new_hash_key` is for a store without any.
///
/// # Errors
/// When the store cannot be read, or a newer relay has written it.
pub async fn load_accounts(
    ledger: &impl AccountLedger,
    new_hash_key: impl FnOnce() -> String,
) -> Result<(ServedAccounts, Option<String>), StoreError> {
    let document = ledger.load().await?;
    let accounts = match &document {
        Some(document) => serde_json::from_str(document).map_err(StoreError::new)?,
        None => ServedAccounts::new(new_hash_key()),
    };
    Ok((accounts, document))
}

/// Changes the accounts of a store, and returns what `change` does. It may be called more than once, each time with the
/// stored accounts, while others change them too.
///
/// # Errors
/// When the store cannot be read or written.
pub async fn update_accounts<T>(
    ledger: &impl AccountLedger,
    new_hash_key: impl Fn() -> String,
    change: impl Fn(&mut ServedAccounts) -> T,
) -> Result<T, StoreError> {
    loop {
        let (stored, document) = load_accounts(ledger, &new_hash_key).await?;
        let mut accounts = stored.clone();
        let result = change(&mut accounts);
        let after = serde_json::to_string(&accounts).map_err(StoreError::new)?;
        if accounts == stored || ledger.replace(document.as_deref(), &after).await? {
            return Ok(result);
        }
    }
}
