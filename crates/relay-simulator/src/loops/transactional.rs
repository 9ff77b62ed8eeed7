//! The transactional e-mails of a team: the published ones, and what a call to send one must have (Loops, API reference: send
//! a transactional email).

use axum::http::StatusCode;
use serde_json::{Map, Value, json};

use crate::loops::error::LoopsError;
use crate::loops::validation::{parse_object, validate_email};

/// Id of a published e-mail that requires the data variable `confirmationUrl`.
pub const CONFIRMATION_EMAIL_ID: &str = "cll42l54f20i1la0lfooe3z12";
/// Id of a published e-mail whose data variables, `name` and the array `items`, are optional.
pub const RECEIPT_EMAIL_ID: &str = "cm5r9d0w700b4l80jq2k6xtne";

/// Maximum length of a body, attachments included: 4 MB (Loops, API introduction). What a longer one gets is not stated; here
/// it is a 413.
pub(crate) const MAX_BODY_BYTES: usize = 4_000_000;

/// A published e-mail.
struct TransactionalEmail {
    id: &'static str,
    name: &'static str,
    last_updated: &'static str,
    required: &'static [&'static str],
    optional: &'static [&'static str],
}

const PUBLISHED: [TransactionalEmail; 2] = [
    TransactionalEmail {
        id: CONFIRMATION_EMAIL_ID,
        name: "Sign up confirmation",
        last_updated: "2025-06-29T07:47:39.370Z",
        required: &["confirmationUrl"],
        optional: &[],
    },
    TransactionalEmail {
        id: RECEIPT_EMAIL_ID,
        name: "Receipt",
        last_updated: "2026-01-12T16:03:21.048Z",
        required: &[],
        optional: &["name", "items"],
    },
];

/// A call to send an e-mail that can be sent.
#[derive(Debug)]
pub(crate) struct EmailToSend {
    /// The recipient.
    pub(crate) email: String,
    /// Whether the recipient becomes a contact.
    pub(crate) add_to_audience: bool,
    /// The whole body.
    pub(crate) body: Value,
}

/// The page of published e-mails; there is one (Loops, API reference: list transactional emails, legacy).
pub(crate) fn list_published(per_page: Option<&str>, cursor: Option<&str>) -> Result<Value, LoopsError> {
    let per_page = per_page.map_or(Some(20), |text| text.parse::<u32>().ok());
    let Some(per_page) = per_page.filter(|count| (10..=50).contains(count)) else {
        return Err(LoopsError::bad_request("perPage must be between 10 and 50"));
    };
    // What an unknown cursor gets is not stated.
    if cursor.is_some_and(|cursor| !cursor.is_empty()) {
        return Err(LoopsError::bad_request("Invalid cursor"));
    }
    let to_json = |email: &TransactionalEmail| {
        let variables = [email.required, email.optional].concat();
        json!({"id": email.id, "name": email.name, "lastUpdated": email.last_updated, "dataVariables": variables})
    };
    let data: Vec<Value> = PUBLISHED.iter().map(to_json).collect();
    Ok(json!({
        "pagination": {
            "totalResults": data.len(),
            "returnedResults": data.len(),
            "perPage": per_page,
            "totalPages": 1,
            "nextCursor": null,
            "nextPage": null,
        },
        "data": data,
    }))
}

/// Parses a call to send an e-mail. Attachments are refused, as for every account that Loops has not enabled them for; the
/// text of that answer is not stated.
pub(crate) fn parse_send(body: &[u8]) -> Result<EmailToSend, LoopsError> {
    let root = parse_object(body)?;
    let id = required_text(&root, "transactionalId")?;
    let email = required_text(&root, "email")?;
    validate_email(email).map_err(|error| error.at("email"))?;
    let add_to_audience = match root.get("addToAudience") {
        Some(Value::Bool(add)) => *add,
        Some(Value::Null) | None => false,
        Some(_) => return Err(LoopsError::bad_request("addToAudience must be a boolean").at("addToAudience")),
    };
    let attachments = root.get("attachments").filter(|value| !value.is_null() && **value != json!([]));
    if attachments.is_some() {
        let message = "Attachments are not enabled for your account";
        return Err(LoopsError::bad_request(message).with("path", "attachments"));
    }
    let Some(published) = PUBLISHED.iter().find(|published| published.id == id) else {
        let error = LoopsError::new(StatusCode::NOT_FOUND, "Transactional email not found.");
        return Err(error.at("transactionalId"));
    };
    published.check_variables(root.get("dataVariables")).map_err(|message| {
        LoopsError::bad_request(message).at("dataVariables").with("transactionalId", published.id)
    })?;
    Ok(EmailToSend { email: email.to_owned(), add_to_audience, body: Value::Object(root.clone()) })
}

fn required_text<'a>(root: &'a Map<String, Value>, key: &'static str) -> Result<&'a str, LoopsError> {
    match root.get(key) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text),
        Some(Value::String(_) | Value::Null) | None => {
            Err(LoopsError::bad_request(format!("{key} is required")).at(key))
        }
        Some(_) => Err(LoopsError::bad_request(format!("{key} must be a string")).at(key)),
    }
}

impl TransactionalEmail {
    /// Requires texts, numbers, and arrays of objects of those (Loops, transactional emails: data variables), and a text for
    /// what is required, which only an optional variable may leave empty. Names that the e-mail does not have are accepted,
    /// and so is a text of any length; both are not stated.
    fn check_variables(&self, variables: Option<&Value>) -> Result<(), String> {
        let none = Map::new();
        let variables = match variables {
            Some(Value::Object(variables)) => variables,
            Some(Value::Null) | None => &none,
            Some(_) => return Err("dataVariables must be an object".to_owned()),
        };
        if let Some((name, _)) = variables.iter().find(|(_, value)| !is_variable(value)) {
            return Err(format!("{name} must be a string, a number or an array of objects"));
        }
        let is_missing = |name: &&&str| variables.get(**name).is_none_or(|value| value.as_str() == Some(""));
        let missing: Vec<&str> = self.required.iter().filter(is_missing).copied().collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(format!("Missing required data variable(s): {}", missing.join(", ")))
    }
}

fn is_variable(value: &Value) -> bool {
    let is_plain = |value: &Value| value.is_string() || value.is_number();
    let is_flat = |item: &Value| item.as_object().is_some_and(|item| item.values().all(is_plain));
    is_plain(value) || value.as_array().is_some_and(|items| items.iter().all(is_flat))
}
