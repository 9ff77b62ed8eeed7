//! Keys, tokens and secrets: values that do not print.

pub use secrecy::{ExposeSecret, SecretString};

/// Minimum length of a secret that lets a caller in: that of a decoded signing secret, and of a relay token. A shorter one could
/// be guessed. Standard Webhooks ("Symmetric signatures") asks for 24 to 64 bytes.
pub const MIN_SECRET_BYTES: usize = 16;

/// Whether a configured text is a real value: not empty, and not a placeholder (one that starts with `REPLACE`).
pub fn is_set(text: &str) -> bool {
    let text = text.trim();
    !text.is_empty() && !text.starts_with("REPLACE")
}

/// Returns the trimmed text as a secret, or nothing if it [is not set](is_set).
pub fn secret_if_set(text: &str) -> Option<SecretString> {
    is_set(text).then(|| SecretString::from(text.trim()))
}
