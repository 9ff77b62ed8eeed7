//! Secrets Manager: secrets that are cached, and read again when they may have changed.

pub mod cached_secret;
