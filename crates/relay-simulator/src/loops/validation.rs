//! Parses and checks the ids and bodies of contact, event and property calls.

use serde_json::{Map, Value};

use crate::loops::error::LoopsError;

/// Maximum length of a value, "including the quotes" around a text (Loops, API introduction: debugging).
const MAX_VALUE_CHARS: usize = 500;

/// Keys that no call sets: `id` and `optInStatus` are Loops' own, `notes` has no API name (Loops, contact properties).
const READ_ONLY_FIELDS: [&str; 3] = ["id", "optInStatus", "notes"];

/// Fields of a contact in a call. The meaning of `null` for an id, `subscribed` or `mailingLists` is not stated; here it
/// counts as absent.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct ContactFields {
    pub(crate) email: Option<String>,
    pub(crate) user_id: Option<String>,
    pub(crate) subscribed: Option<bool>,
    /// List id, and whether the contact is to be on it.
    pub(crate) lists: Vec<(String, bool)>,
    /// The other fields at the root, standard or custom; `null` clears a property (Loops, contact properties).
    pub(crate) properties: Map<String, Value>,
}

/// What names a contact in a call that takes one id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ContactId {
    Email(String),
    UserId(String),
}

impl ContactId {
    /// Requires exactly one of the two (Loops, API reference: find a contact, delete a contact).
    pub(crate) fn new(email: Option<String>, user_id: Option<String>) -> Result<Self, LoopsError> {
        match (email, user_id) {
            (Some(email), None) => {
                validate_email(&email)?;
                Ok(Self::Email(email))
            }
            (None, Some(user_id)) => Ok(Self::UserId(user_id)),
            _ => Err(LoopsError::bad_request("Exactly one of email and userId is required")),
        }
    }
}

/// Parses the body of a call to delete a contact (Loops, API reference: delete a contact).
pub(crate) fn parse_delete(body: &[u8]) -> Result<ContactId, LoopsError> {
    let mut root = parse_object(body)?;
    ContactId::new(take_string(&mut root, "email")?, take_string(&mut root, "userId")?)
}

/// Parses the body of a contact call (Loops, API reference: update a contact, create a contact).
pub(crate) fn parse_contact(body: &[u8]) -> Result<ContactFields, LoopsError> {
    parse_fields(parse_object(body)?)
}

/// Parses the body of an event call into its contact and the whole body (Loops, API reference: send an event).
pub(crate) fn parse_event(body: &[u8]) -> Result<(ContactFields, Value), LoopsError> {
    let mut root = parse_object(body)?;
    let full_body = Value::Object(root.clone());
    match root.shift_remove("eventName") {
        Some(Value::String(name)) if !name.trim().is_empty() => check_len("eventName", &Value::String(name))?,
        Some(Value::Null) | None => return Err(LoopsError::bad_request("eventName is required")),
        Some(_) => return Err(LoopsError::bad_request("eventName must be a non-empty string")),
    }
    match root.shift_remove("eventProperties") {
        Some(Value::Object(properties)) => properties.iter().try_for_each(|(key, value)| check_scalar(key, value))?,
        Some(Value::Null) | None => {}
        Some(_) => return Err(LoopsError::bad_request("eventProperties must be an object")),
    }
    Ok((parse_fields(root)?, full_body))
}

/// Parses the name and the type of a new property (Loops, API reference: create a contact property).
pub(crate) fn parse_new_property(body: &[u8]) -> Result<(String, String), LoopsError> {
    let mut root = parse_object(body)?;
    let name = take_string(&mut root, "name")?.unwrap_or_default();
    let camel_case =
        name.starts_with(|c: char| c.is_ascii_lowercase()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let kind = take_string(&mut root, "type")?.unwrap_or_default();
    if !camel_case {
        return Err(LoopsError::bad_request("name must be in camel case"));
    }
    if !["string", "number", "boolean", "date"].contains(&kind.as_str()) {
        return Err(LoopsError::bad_request("type must be string, number, boolean or date"));
    }
    Ok((name, kind))
}

/// Requires an `@` with text on both sides, and no spaces. Loops' own check is not stated.
pub(crate) fn validate_email(text: &str) -> Result<(), LoopsError> {
    let plausible = text
        .rsplit_once('@')
        .is_some_and(|(name, host)| !name.is_empty() && !host.is_empty() && !text.contains(char::is_whitespace));
    if plausible { Ok(()) } else { Err(LoopsError::bad_request("Invalid email address.")) }
}

pub(crate) fn parse_object(body: &[u8]) -> Result<Map<String, Value>, LoopsError> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(root)) => Ok(root),
        Ok(_) => Err(LoopsError::bad_request("Body must be a JSON object")),
        Err(_) => Err(LoopsError::bad_request("Invalid JSON body")),
    }
}

fn parse_fields(mut root: Map<String, Value>) -> Result<ContactFields, LoopsError> {
    let mut contact = ContactFields { email: take_string(&mut root, "email")?, ..ContactFields::default() };
    if let Some(address) = &contact.email {
        validate_email(address)?;
    }
    // Whether an empty text is an id is not stated; if it were, all contacts without an id would be one.
    contact.user_id = take_string(&mut root, "userId")?.filter(|id| !id.is_empty());
    if contact.email.is_none() && contact.user_id.is_none() {
        return Err(LoopsError::bad_request("email or userId is required"));
    }
    contact.subscribed = match root.shift_remove("subscribed") {
        Some(Value::Bool(subscribed)) => Some(subscribed),
        Some(Value::Null) | None => None,
        Some(_) => return Err(LoopsError::bad_request("subscribed must be a boolean")),
    };
    contact.lists = parse_lists(root.shift_remove("mailingLists"))?;
    root.retain(|key, _| !READ_ONLY_FIELDS.contains(&key.as_str()));
    root.iter().try_for_each(|(key, value)| check_scalar(key, value))?;
    contact.properties = root;
    Ok(contact)
}

fn take_string(root: &mut Map<String, Value>, key: &'static str) -> Result<Option<String>, LoopsError> {
    match root.shift_remove(key) {
        Some(value @ Value::String(_)) => {
            check_len(key, &value)?;
            Ok(value.as_str().map(str::to_owned))
        }
        Some(Value::Null) | None => Ok(None),
        Some(_) => Err(LoopsError::bad_request(format!("{key} must be a string"))),
    }
}

/// Parses list ids with `true` to join and `false` to leave (Loops, API reference: update a contact). What Loops does with an
/// unknown id is not stated; here it is accepted.
fn parse_lists(value: Option<Value>) -> Result<Vec<(String, bool)>, LoopsError> {
    let invalid = || LoopsError::bad_request("mailingLists must be an object of booleans");
    match value {
        Some(Value::Object(lists)) => {
            lists.into_iter().map(|(id, joined)| Ok((id, joined.as_bool().ok_or_else(invalid)?))).collect()
        }
        Some(Value::Null) | None => Ok(Vec::new()),
        Some(_) => Err(invalid()),
    }
}

/// Rejects objects and lists: properties are texts, numbers, booleans and dates (Loops, contact properties; Loops, event
/// properties).
fn check_scalar(key: &str, value: &Value) -> Result<(), LoopsError> {
    if value.is_object() || value.is_array() {
        return Err(LoopsError::bad_request(format!("{key} must be a string, a number, a boolean or null")));
    }
    check_len(key, value)
}

/// Limits both keys and values (Loops, API introduction: debugging). Whether escaped characters count double is not stated;
/// here they do not.
fn check_len(key: &str, value: &Value) -> Result<(), LoopsError> {
    let quoted_len = |text: &str| text.chars().count().saturating_add(2);
    let length = match value {
        Value::String(text) => quoted_len(text),
        other => other.to_string().len(),
    };
    if length > MAX_VALUE_CHARS || quoted_len(key) > MAX_VALUE_CHARS {
        return Err(LoopsError::bad_request("Some body key or value is longer than allowable"));
    }
    Ok(())
}
