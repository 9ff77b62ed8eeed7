//! What `setup` is made of: the secrets as documents that are edited, where they are kept, and what a person gives.

pub mod clay_webhooks;
pub mod documents;
pub mod error;
pub mod input;
pub mod key_check;
pub mod prompt;
pub mod report;
pub mod secret_store;
