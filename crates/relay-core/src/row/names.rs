//! The names of fields that have a meaning, recognized in another spelling and on the wrong route.

use super::RowKind;
use crate::row::field_error::{FieldError, display_name};
use crate::row::schema::{is_similar_name, normalize_name};

/// Fields of a contact that have rules of their own: under another spelling, those rules would not hold.
const CONTACT_FIELDS: [&str; 4] = ["email", "userId", "subscribed", "mailingLists"];
/// Fields that only an event has.
const EVENT_FIELDS: [&str; 2] = ["eventName", EVENT_PROPERTIES];
/// The fields of a deletion.
const DELETION_FIELDS: [&str; 2] = ["email", "userId"];
/// The fields of a transactional e-mail.
const EMAIL_FIELDS: [&str; 5] = ["transactionalId", "email", "addToAudience", "dataVariables", "attachments"];
const EVENT_PROPERTIES: &str = "eventProperties";
/// What people write for `eventProperties` in an event.
const EVENT_PROPERTIES_ALIASES: [&str; 3] = ["eventProperty", "eventProps", "event.properties"];
/// What people call the header in a body.
const IDEMPOTENCY_KEY: &str = "idempotencyKey";

/// Returns the error of a field that is meant for something else than a property of the contact, whatever the properties
/// of the account are.
pub(super) fn misplaced_field(kind: RowKind, name: &str) -> Option<FieldError> {
    if name.is_empty() {
        return Some(FieldError::NoName);
    }
    let is_meant = |known: &&&str| normalize_name(known).eq(normalize_name(name));
    if is_meant(&&IDEMPOTENCY_KEY) {
        return Some(FieldError::HeaderInBody);
    }
    match (EVENT_FIELDS.iter().find(is_meant), kind) {
        (_, RowKind::Delete) => Some(misspelt_or(&DELETION_FIELDS, is_meant, FieldError::NotForDeletions)),
        (_, RowKind::Email) => Some(misspelt_or(&EMAIL_FIELDS, is_meant, FieldError::NotForEmails)),
        (Some(_), RowKind::Contact | RowKind::Create) => Some(FieldError::NotForContacts),
        (Some(known), RowKind::Event) => Some(FieldError::MisspeltEventField(known)),
        (None, RowKind::Event)
            if EVENT_PROPERTIES_ALIASES.iter().any(|alias| is_meant(&alias))
                || is_similar_name(EVENT_PROPERTIES, name) =>
        {
            Some(FieldError::MisspeltEventField(EVENT_PROPERTIES))
        }
        (None, _) => CONTACT_FIELDS.iter().find(is_meant).map(|known| misspelt(name, known)),
    }
}

/// Returns the error of a field that a call does not have: the one for the name that was meant, or `other`.
fn misspelt_or(known: &[&'static str], is_meant: impl Fn(&&&str) -> bool, other: FieldError) -> FieldError {
    known.iter().find(|known| is_meant(known)).map_or(other, |known| FieldError::MisspeltField(known))
}

/// Returns the error of a name that was meant to be another.
pub(super) fn misspelt(name: &str, meant: &str) -> FieldError {
    let strange = name.chars().find(|c| !c.is_ascii() && !meant.contains(*c));
    FieldError::Misspelt(display_name(meant), strange)
}

/// The name as messages show it.
pub(super) const fn shown_name(name: &str) -> &str {
    if name.is_empty() { "\"\"" } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misplaced_field_is_recognized_in_any_spelling() {
        let misspelt = |known: &str| Some(FieldError::Misspelt(known.to_owned(), None));
        for (kind, name, expected) in [
            (RowKind::Event, "eventproperties", Some(FieldError::MisspeltEventField("eventProperties"))),
            (RowKind::Event, "event_properties", Some(FieldError::MisspeltEventField("eventProperties"))),
            (RowKind::Event, "Event Properties", Some(FieldError::MisspeltEventField("eventProperties"))),
            (RowKind::Event, "event-name", Some(FieldError::MisspeltEventField("eventName"))),
            (RowKind::Event, "event\u{200b}Properties", Some(FieldError::MisspeltEventField("eventProperties"))),
            (RowKind::Event, "eventProprties", Some(FieldError::MisspeltEventField("eventProperties"))),
            (RowKind::Event, "event_property", Some(FieldError::MisspeltEventField("eventProperties"))),
            (RowKind::Event, "eventProps", Some(FieldError::MisspeltEventField("eventProperties"))),
            (RowKind::Event, "event.properties", Some(FieldError::MisspeltEventField("eventProperties"))),
            (RowKind::Event, "properties", None),
            (RowKind::Event, "eventProtocol", None),
            (RowKind::Contact, "idempotency\u{200b}Key", Some(FieldError::HeaderInBody)),
            (RowKind::Contact, "eventName", Some(FieldError::NotForContacts)),
            (RowKind::Contact, "event_properties", Some(FieldError::NotForContacts)),
            (RowKind::Contact, "idempotencyKey", Some(FieldError::HeaderInBody)),
            (RowKind::Event, "Idempotency-Key", Some(FieldError::HeaderInBody)),
            (RowKind::Event, "idempotency_key", Some(FieldError::HeaderInBody)),
            (RowKind::Contact, "Email", misspelt("email")),
            (RowKind::Contact, "e-mail", misspelt("email")),
            (RowKind::Event, "user_id", misspelt("userId")),
            (RowKind::Contact, "Mailing Lists", misspelt("mailingLists")),
            (RowKind::Contact, "Subscribed", misspelt("subscribed")),
            (RowKind::Contact, "sub\u{ad}scribed", Some(FieldError::Misspelt("subscribed".to_owned(), Some('\u{ad}')))),
            (RowKind::Contact, "", Some(FieldError::NoName)),
            (RowKind::Contact, "properties", None),
            (RowKind::Contact, "emails", None),
            (RowKind::Contact, "event", None),
            (RowKind::Contact, "First Name", None),
        ] {
            assert_eq!(misplaced_field(kind, name), expected, "{name}");
        }
    }
}
