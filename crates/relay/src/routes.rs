//! The paths of the relay's HTTP interface, and how large a request may be.

/// Path to which Loops sends webhooks.
pub const WEBHOOK_PATH: &str = "/webhooks/loops";
/// Path to which Clay sends contacts.
pub const CONTACT_PATH: &str = "/api/v1/contacts/update";
/// Path to which Clay sends events.
pub const EVENT_PATH: &str = "/api/v1/events/send";

/// The largest request body that is read, in bytes: 256 KiB.
pub const MAX_REQUEST_BYTES: usize = 256 * 1024;
