//! Loops' events, as its webhooks carry them (Loops docs, "Webhooks": "Event data").

use bytes::Bytes;

use crate::contact::ContactKey;
use crate::error::{ErrorCode, RequestError};
use crate::webhook::json_object::JsonObject;
use crate::webhook::signature::VerifiedWebhook;

/// The event with which Loops' settings page tries the endpoint. It has no contact.
const TEST_EVENT: &str = "testing.testEvent";
/// The only event that carries the whole contact.
pub const CONTACT_CREATED: &str = "contact.created";

/// Every event that Loops documents. Others are relayed too, because Loops adds events without notice.
pub const KNOWN_EVENTS: [&str; 17] = [
    CONTACT_CREATED,
    "contact.unsubscribed",
    "contact.deleted",
    "contact.mailingList.subscribed",
    "contact.mailingList.unsubscribed",
    "campaign.email.sent",
    "loop.email.sent",
    "transactional.email.sent",
    "email.delivered",
    "email.softBounced",
    "email.hardBounced",
    "email.opened",
    "email.clicked",
    "email.unsubscribed",
    "email.resubscribed",
    "email.spamReported",
    TEST_EVENT,
];

/// A verified event.
#[derive(Clone)]
pub struct LoopsEvent {
    /// The `webhook-id`: the same on every attempt of Loops.
    pub webhook_id: String,
    /// Name of the event, such as `contact.created`.
    pub name: String,
    /// Key of the contact that the event is about.
    pub contact: ContactKey,
    source: Option<String>,
    /// The bytes as Loops signed them.
    pub body: Bytes,
}

impl std::fmt::Debug for LoopsEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoopsEvent").field("name", &self.name).field("bytes", &self.body.len()).finish_non_exhaustive()
    }
}

impl LoopsEvent {
    /// Parses a verified webhook.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidBody`] if it is not a JSON object with a text `eventName` that is not empty.
    pub fn parse(verified: &VerifiedWebhook) -> Result<Self, RequestError> {
        let webhook_id = verified.webhook_id().to_owned();
        let body = verified.body().clone();
        let Some((name, contact, source)) = JsonObject::parse(&body).and_then(|fields| {
            let source = fields.get_object("contact").and_then(|contact| contact.get_string("source"));
            Some((event_name(&fields)?, contact_key(&fields, &webhook_id), source))
        }) else {
            return Err(RequestError::new(
                ErrorCode::InvalidBody,
                "The webhook is signed, but it is not a JSON object with a text eventName: nothing was relayed.",
            ));
        };
        Ok(Self { webhook_id, name, contact, source, body })
    }

    /// Whether Loops' settings page sent it to try the endpoint.
    pub fn is_test(&self) -> bool {
        self.name == TEST_EVENT
    }

    /// Whether it reports a contact that the relay itself created: relaying it would send a row back to where it came
    /// from.
    pub fn is_echo(&self, contact_source: Option<&str>) -> bool {
        contact_source.is_some() && self.name == CONTACT_CREATED && self.source.as_deref() == contact_source
    }
}

/// Returns the name of a stored event, which was verified when it arrived; nothing if the body is not an event.
pub fn event_name_of(body: &[u8]) -> Option<String> {
    event_name(&JsonObject::parse(body)?)
}

fn event_name(fields: &JsonObject<'_>) -> Option<String> {
    fields.get_string("eventName").filter(|name| !name.is_empty())
}

fn contact_key(fields: &JsonObject<'_>, webhook_id: &str) -> ContactKey {
    let identity = fields.get_object("contactIdentity").or_else(|| fields.get_object("contact"));
    let string_field = |name| identity.as_ref()?.get_string(name).filter(|text| !text.is_empty());
    string_field("email")
        .map(|email| ContactKey::from_email(&email))
        .or_else(|| string_field("userId").or_else(|| string_field("id")).map(|id| ContactKey::from_user_id(&id)))
        .unwrap_or_else(|| ContactKey::anonymous(webhook_id))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::webhook::signature::{SigningSecret, UnverifiedWebhook};

    fn parse(body: &str) -> Result<LoopsEvent, RequestError> {
        let secret = SigningSecret::parse("c3VwZXItc2VjcmV0LWtleS1ieXRlcw==").unwrap();
        let signature = secret.sign("msg_1", "1", body.as_bytes());
        let body = Bytes::copy_from_slice(body.as_bytes());
        let unverified = UnverifiedWebhook::new(Some(b"msg_1"), Some(b"1"), Some(signature.as_bytes())).unwrap();
        LoopsEvent::parse(&unverified.verify(&body, &[secret], Timestamp::UNIX_EPOCH, None).unwrap())
    }

    #[test]
    fn documented_and_unknown_events_are_parsed() {
        assert_eq!(parse(r#"{"eventName":"contact.created"}"#).unwrap().name, "contact.created");
        assert_eq!(parse(r#"{"eventName":"contact.reborn"}"#).unwrap().name, "contact.reborn");
    }

    #[test]
    fn event_name_of_returns_name_of_stored_body() {
        assert_eq!(event_name_of(br#"{"eventName":"email.opened"}"#).as_deref(), Some("email.opened"));
        for body in ["", "{}", "[]", r#"{"eventName":""}"#, r#"{"eventName":7}"#] {
            assert_eq!(event_name_of(body.as_bytes()), None, "{body}");
        }
    }

    #[test]
    fn body_without_string_event_name_is_invalid() {
        for body in ["{}", "[]", "null", "", "x", r#"{"eventName":""}"#, r#"{"eventName":7}"#, r#"{"eventName":null}"#]
        {
            assert_eq!(parse(body).unwrap_err().code(), ErrorCode::InvalidBody, "{body}");
        }
    }

    #[test]
    fn contact_key_prefers_email_then_user_id_then_loops_id() {
        let key = |identity: &str| {
            parse(&format!(r#"{{"eventName":"email.opened","contactIdentity":{identity}}}"#)).unwrap().contact
        };
        assert_eq!(key(r#"{"email":"Ada@Example.com","userId":"u1"}"#), ContactKey::from_email("ada@example.com"));
        assert_eq!(key(r#"{"email":null,"userId":"u1"}"#), ContactKey::from_user_id("u1"));
        assert_eq!(key(r#"{"id":"c1","userId":null}"#), ContactKey::from_user_id("c1"));
        assert_eq!(key("null"), ContactKey::anonymous("msg_1"));
    }

    #[test]
    fn echo_is_contact_created_with_relay_source() {
        let created = parse(r#"{"eventName":"contact.created","contact":{"source":"Clay"}}"#).unwrap();
        assert!(created.is_echo(Some("Clay")));
        assert!(!created.is_echo(Some("clay")));
        assert!(!created.is_echo(None));
        let other = parse(r#"{"eventName":"contact.deleted","contact":{"source":"Clay"}}"#).unwrap();
        assert!(!other.is_echo(Some("Clay")));
    }

    #[test]
    fn event_debug_output_hides_email() {
        let event = parse(r#"{"eventName":"email.opened","contactIdentity":{"email":"ada@example.com"}}"#).unwrap();
        assert!(!format!("{event:?}").contains("ada"));
    }
}
