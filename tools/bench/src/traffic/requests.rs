//! HTTP requests, made and signed before they are sent, so that a run measures the server and not the signing.

use std::cell::Cell;
use std::io;

use jiff::Timestamp;
use relay_core::webhook::signature::SigningSecret;

/// The secret that every server under test gets.
pub(crate) const SIGNING_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
/// The bearer token that relay-local gets.
pub(crate) const RELAY_TOKEN: &str = "relay-token-of-the-benchmark";
/// A webhook as Loops sends it, and the address in it.
const CONTACT_CREATED: &str = include_str!("../../../../events/loops/contact.created.json");
const ADDRESS: &str = "test+5@example.com";

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestKind {
    /// A signed webhook that is stored.
    Webhook,
    /// A signed webhook whose event is not selected: verified, answered, not stored.
    IgnoredWebhook,
    /// A row that is stored without asking Loops first.
    Row,
}

impl RequestKind {
    /// The only status that counts.
    pub(crate) const fn status(self) -> u16 {
        match self {
            Self::Webhook | Self::IgnoredWebhook => 200,
            Self::Row => 202,
        }
    }

    /// How many requests a second are prepared: more than any server here answers on two cores. A run that uses them up
    /// ends early, and its rate is right all the same.
    const fn max_per_second(self) -> u32 {
        match self {
            Self::IgnoredWebhook => 100_000,
            Self::Webhook | Self::Row => 30_000,
        }
    }
}

/// Requests that are sent once each, by any number of callers.
#[derive(Debug)]
pub(crate) struct Requests {
    bytes: Vec<u8>,
    /// Where each request ends.
    ends: Vec<usize>,
    next: Cell<usize>,
}

impl Requests {
    /// Makes that many requests, each about a contact of its own, and each webhook with an id of its own. The signatures
    /// are of now.
    pub(crate) fn new(kind: RequestKind, count: usize) -> io::Result<Self> {
        let secret = SigningSecret::parse(SIGNING_SECRET).map_err(io::Error::other)?;
        let (now, run) = (Timestamp::now(), Timestamp::now().as_nanosecond());
        let mut requests = Self { bytes: Vec::new(), ends: Vec::with_capacity(count), next: Cell::new(0) };
        for number in 0..count {
            let address = format!("contact-{run}-{number}@example.com");
            let (head, body) = match kind {
                RequestKind::Webhook | RequestKind::IgnoredWebhook => {
                    let (id, timestamp) = (format!("msg_{run}_{number}"), now.as_second().to_string());
                    let body = webhook_body(kind, &address);
                    let signature = secret.sign(&id, &timestamp, body.as_bytes());
                    let head = format!(
                        "POST /webhooks/loops HTTP/1.1\r\nwebhook-id: {id}\r\nwebhook-timestamp: {timestamp}\r\n\
                         webhook-signature: {signature}\r\n"
                    );
                    (head, body)
                }
                RequestKind::Row => {
                    let head = format!(
                        "PUT /api/v1/contacts/update HTTP/1.1\r\nauthorization: Bearer {RELAY_TOKEN}\r\n\
                         prefer: respond-async\r\n"
                    );
                    (head, format!(r#"{{"email":"{address}","firstName":"Ada","companyName":"Analytical Engines"}}"#))
                }
            };
            let request = format!(
                "{head}host: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            requests.bytes.extend_from_slice(request.as_bytes());
            requests.ends.push(requests.bytes.len());
        }
        Ok(requests)
    }

    /// Makes enough requests for any server to be busy for that many seconds.
    pub(crate) fn for_seconds(kind: RequestKind, seconds: u32) -> io::Result<Self> {
        Self::new(kind, (kind.max_per_second() * seconds) as usize)
    }

    /// Returns the next request, or none if all are taken.
    pub(crate) fn take(&self) -> Option<&[u8]> {
        let index = self.next.get();
        let end = *self.ends.get(index)?;
        let start = index.checked_sub(1).and_then(|previous| self.ends.get(previous)).copied().unwrap_or(0);
        self.next.set(index + 1);
        self.bytes.get(start..end)
    }

    /// Returns how many have been taken.
    pub(crate) fn taken(&self) -> usize {
        self.next.get()
    }
}

/// Returns the body of a webhook about a contact.
pub(crate) fn webhook_body(kind: RequestKind, address: &str) -> String {
    let body = CONTACT_CREATED.replace(ADDRESS, address);
    match kind {
        RequestKind::IgnoredWebhook => body.replace("contact.created", "contact.deleted"),
        RequestKind::Webhook | RequestKind::Row => body,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_request_is_taken_once_and_has_its_own_id() {
        let requests = Requests::new(RequestKind::Webhook, 3).unwrap();
        let texts: Vec<String> =
            std::iter::from_fn(|| requests.take()).map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect();
        let ids: BTreeSet<_> = texts.iter().map(|text| text.lines().nth(1).unwrap().to_owned()).collect();
        assert_eq!((texts.len(), ids.len(), requests.taken()), (3, 3, 3));
        assert!(texts.iter().all(|text| text.starts_with("POST ") && text.trim_end().ends_with('}')));
    }

    #[test]
    fn ignored_webhook_is_the_same_event_under_another_name() {
        let (stored, ignored) = (RequestKind::Webhook, RequestKind::IgnoredWebhook);
        assert!(webhook_body(stored, "a@example.com").contains(r#""contact.created""#));
        assert!(webhook_body(ignored, "a@example.com").contains(r#""contact.deleted""#));
        assert!(!webhook_body(stored, "a@example.com").contains(ADDRESS));
    }
}
