//! Configuration: environment variables, and the JSON documents that hold secrets.

pub mod env;
pub mod leftovers;
pub mod names;
pub mod relay_tokens;
pub mod secret_document;
