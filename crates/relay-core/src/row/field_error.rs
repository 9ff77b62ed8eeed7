//! The errors of a field, with the sentences that the Clay user reads.

use crate::error::{ErrorCode, RequestError};
use crate::row::redacted_value::RedactedValue;
use crate::row::schema::PropertyType;
use crate::text::{MAX_MESSAGE_CHARS, spell_invisible, truncate_chars};

/// Maximum length of a field's name in a message.
const MAX_NAME_CHARS: usize = 60;
/// Maximum length of the list of names in a message about several fields.
const MAX_NAME_LIST_CHARS: usize = MAX_MESSAGE_CHARS - 50;
/// Maximum number of errors that are stored: as many as a message can name.
const MAX_REPORTED: usize = 100;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FieldError {
    /// A column's name or `[object Object]` came in place of the column's value.
    ColumnNotInserted(RedactedValue),
    /// `[object Object]` stands in a longer text.
    ObjectInText,
    /// The error of a sheet in a longer text.
    SheetErrorInText(&'static str),
    /// A property's name is a column's name between braces, `[object Object]`, or has the error of a sheet in it.
    NameNotInserted,
    /// Length of a text.
    TooLong(usize),
    /// Length of a value that is never cut.
    TooLongToTruncate(usize),
    /// JSON type of the value.
    NotScalar(&'static str),
    /// JSON type of the value.
    NotText(&'static str),
    NotAnAddress(RedactedValue),
    /// A `userId` that stands for none, in a row without an `email`.
    PlaceholderId(RedactedValue),
    /// JSON type of a `userId`.
    NotAnId(&'static str),
    /// Neither `email` nor `userId`.
    MissingIdentity,
    MissingEventName,
    ColonInEventName(RedactedValue),
    NotABoolean(RedactedValue),
    NotMailingLists(RedactedValue),
    /// JSON type of an item in a list of ids.
    NotAListId(&'static str),
    /// A text that no list has as its id.
    InvalidListId(RedactedValue),
    NotProperties(RedactedValue),
    /// The value, and the type of the property in Loops.
    WrongType(RedactedValue, PropertyType),
    /// Length of the name.
    NameTooLong(usize),
    /// A number that is infinite, or zero, for who reads it.
    OutOfRange(RedactedValue),
    /// The property that Loops has, and a character outside ASCII that only the wrong name has.
    Misspelt(String, Option<char>),
    /// The field of an event that was meant.
    MisspeltEventField(&'static str),
    /// A field of an event, on the route for contacts.
    NotForContacts,
    /// The idempotency key, which is a header.
    HeaderInBody,
    /// The field has an empty name.
    NoName,
}

impl FieldError {
    const fn code(&self) -> ErrorCode {
        match self {
            Self::ColumnNotInserted(_) | Self::ObjectInText | Self::NameNotInserted => ErrorCode::ColumnNotInserted,
            Self::TooLong(_) | Self::TooLongToTruncate(_) | Self::NameTooLong(_) => ErrorCode::ValueTooLong,
            Self::MissingIdentity | Self::MissingEventName => ErrorCode::MissingField,
            Self::NotScalar(_)
            | Self::NotText(_)
            | Self::NotAnAddress(_)
            | Self::PlaceholderId(_)
            | Self::NotAnId(_)
            | Self::ColonInEventName(_)
            | Self::NotABoolean(_)
            | Self::NotMailingLists(_)
            | Self::NotAListId(_)
            | Self::InvalidListId(_)
            | Self::NotProperties(_)
            | Self::WrongType(..)
            | Self::SheetErrorInText(_)
            | Self::OutOfRange(_)
            | Self::Misspelt(..)
            | Self::MisspeltEventField(_)
            | Self::NotForContacts
            | Self::HeaderInBody
            | Self::NoName => ErrorCode::InvalidField,
        }
    }

    /// Whether it is an error only because of the account's properties.
    const fn depends_on_schema(&self) -> bool {
        matches!(self, Self::WrongType(..) | Self::Misspelt(..))
    }

    /// Returns a sentence: what arrived, why that cannot be sent, and what to do in Clay.
    fn message(&self, field: &str) -> String {
        match self {
            Self::ColumnNotInserted(redacted) => format!(
                "{field} arrived as {redacted}, a column's name or [object Object] instead of the column's value: in Clay, \
                 insert the column with / instead of typing its name."
            ),
            Self::ObjectInText => format!(
                "{field} has [object Object] in its text, which a formula makes of an object or a list: in Clay, insert the \
                 part of it that is wanted, or let the formula join its parts."
            ),
            Self::SheetErrorInText(error) => format!(
                "{field} has {error} in its text, the error of a sheet or a formula instead of a value: correct it there, or \
                 use a formula column in Clay that leaves it out."
            ),
            Self::NameNotInserted => format!(
                "{field} is not the name of a property but what is left of a column or a formula: in Clay, write the name \
                 before the colon, and the column after it."
            ),
            Self::TooLong(length) => format!(
                "{field} has {length} characters and Loops takes 498: add long=truncate to the column's endpoint in Clay, which \
                 cuts it between characters, or insert a column with a shorter text."
            ),
            Self::TooLongToTruncate(length) => format!(
                "{field} has {length} characters and Loops takes 498: check in Clay that the right column is inserted there, \
                 because it cannot be cut."
            ),
            Self::NotScalar(kind) => format!(
                "{field} arrived as {kind}, and Loops takes only texts, numbers, true and false: in Clay, insert a part of \
                 it, or a formula column that makes it a text."
            ),
            Self::NotText(kind) => format!(
                "{field} arrived as {kind} and must be a text: in Clay, insert a column that holds a text and put double \
                 quotes around it."
            ),
            Self::NotAnAddress(redacted) => format!(
                "{field} arrived as {redacted}, which does not look like an e-mail address (name@example.com): check the \
                 column in Clay, or run this one only if the address is valid."
            ),
            Self::PlaceholderId(redacted) => format!(
                "{field} arrived as {redacted}, which stands for no id, and all such rows would be one contact: in Clay, insert \
                 the email column too, or run this column only if an id is filled."
            ),
            Self::NotAnId(kind) => format!(
                "{field} arrived as {kind} and must be a text or a number: in Clay, insert the column that holds the id \
                 itself."
            ),
            Self::MissingIdentity => {
                "email and userId are missing or blank, and Loops needs one of them to know the contact: in \
                 Clay, insert the email column with /, or run this column only if it is filled."
                    .to_owned()
            }
            Self::MissingEventName => format!(
                "{field} is missing or blank, and Loops needs it to know which event to send: in Clay, write it into the Body \
                 between double quotes."
            ),
            Self::ColonInEventName(redacted) => format!(
                "{field} arrived as {redacted}, and Loops takes no colon in the name of an event: in Clay, write the name \
                 without one, in the Body and in Loops' workflow."
            ),
            Self::NotABoolean(redacted) => format!(
                "{field} arrived as {redacted} and must be true or false: in Clay, use a formula column that gives true or \
                 false."
            ),
            Self::NotMailingLists(redacted) => format!(
                "{field} arrived as {redacted} and must say which lists: in Clay, write it into the Body as an object of ids \
                 with true or false, such as {{\"listId\": true}}, or as a list of ids."
            ),
            Self::NotAListId(kind) => format!(
                "{field} holds {kind} among its ids, which are texts: in Clay, put double quotes around each id, or write an \
                 object of ids with true or false."
            ),
            Self::InvalidListId(redacted) => format!(
                "{field} has {redacted} in place of a list's id, which is letters and digits such as cm06f5v0e45nf0ml5754o9cix: \
                 in Clay, copy each id from Loops' settings and put it between quotes of its own."
            ),
            Self::NotProperties(redacted) => format!(
                "{field} arrived as {redacted} and must be an object, because Loops knows properties by their names: in Clay, \
                 write it into the Body as one, such as {{\"plan\": \"…\"}}."
            ),
            Self::WrongType(redacted, expected) => {
                let (type_name, form) = expected.describe();
                format!(
                    "{field} arrived as {redacted}, and the property of that name in Loops is {type_name}: in Clay, use a \
                     formula column that gives {form}."
                )
            }
            Self::NameTooLong(length) => format!(
                "{field} is a name of {length} characters and Loops takes 498: in Clay, write the name of a property before \
                 the colon, and the column after it."
            ),
            Self::Misspelt(nearest, strange) => {
                let without =
                    strange.map(|c| format!(", without the character U+{:04X}", u32::from(c))).unwrap_or_default();
                format!(
                    "{field} is not a property of contacts in Loops, but {nearest} is{without}: in Clay, write that name into \
                     the Body, or create the property in Loops first."
                )
            }
            Self::OutOfRange(redacted) => format!(
                "{field} arrived as {redacted}, a number that is too large or too small to be stored: check the column in Clay, or \
                 put double quotes around it if it is a text."
            ),
            Self::MisspeltEventField(nearest) => format!(
                "{field} is not a field of an event in Loops, but {nearest} is: in Clay, write that name into the Body."
            ),
            Self::NotForContacts => format!(
                "{field} belongs to an event, and this is the route for contacts: in Clay, send events with POST to \
                 /api/v1/events/send, or take {field} out of the Body."
            ),
            Self::HeaderInBody => format!(
                "{field} is a header and not a field: in Clay, add the header Idempotency-Key with that value to the column \
                 that sends the event, and take {field} out of the Body."
            ),
            Self::NoName => format!(
                "{field} is a field without a name, which Loops cannot know: in Clay, write the name of the property before the \
                 colon."
            ),
        }
    }
}

/// The errors of a row: every invalid field once, in the order of the fields.
#[derive(Debug, Default)]
pub(super) struct FieldErrors {
    reported: Vec<(String, FieldError)>,
    /// Number of errors that are not in the list.
    omitted: usize,
}

impl FieldErrors {
    /// Records an error. Of several in one field, only the first counts.
    pub(super) fn push(&mut self, field: &str, error: FieldError) {
        let field = display_name(field);
        if self.contains(&field) {
            return;
        }
        if self.reported.len() < MAX_REPORTED {
            self.reported.push((field, error));
        } else {
            self.omitted += 1;
        }
    }

    pub(super) fn contains(&self, field: &str) -> bool {
        self.reported.iter().any(|(known, _)| known == field)
    }

    /// Whether this field is the suggestion for a misspelt one.
    pub(super) fn suggests(&self, field: &str) -> bool {
        self.reported.iter().any(|(_, error)| match error {
            FieldError::Misspelt(nearest, _) => nearest == field,
            FieldError::MisspeltEventField(nearest) => *nearest == field,
            _ => false,
        })
    }

    /// Returns the error of the row, if it has any: with the code of the first field, and a message about all.
    pub(super) fn to_request_error(&self) -> Option<RequestError> {
        let (field, error) = self.reported.first()?;
        let message = match self.reported.as_slice() {
            [_] => error.message(&spell_invisible(field)),
            errors => {
                let message = |(field, error): &(String, FieldError)| error.message(&spell_invisible(field));
                let sentences: Vec<String> = errors.iter().map(message).collect();
                let count = errors.len() + self.omitted;
                format!("{count} fields need mending: {}. {}", name_list(errors, count), sentences.join(" "))
            }
        };
        let mut request_error = RequestError::new(error.code(), message).with_field(field.as_str());
        request_error.depends_on_schema = self.reported.iter().any(|(_, error)| error.depends_on_schema());
        Some(request_error)
    }
}

/// The names of all invalid fields. They come first in the message, so that they are not lost when it is cut; if there are
/// too many, the rest is a number.
fn name_list(errors: &[(String, FieldError)], count: usize) -> String {
    let mut listed = String::new();
    for (index, (field, _)) in errors.iter().enumerate() {
        let field = spell_invisible(field);
        if listed.chars().count() + field.chars().count() > MAX_NAME_LIST_CHARS {
            return format!("{listed} and {} more", count - index);
        }
        if index > 0 {
            listed.push_str(", ");
        }
        listed.push_str(&field);
    }
    listed
}

pub(super) fn display_name(field: &str) -> String {
    truncate_chars(field, MAX_NAME_CHARS)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn all_errors() -> [FieldError; 27] {
        let longest = || RedactedValue::new("bio", &Value::from("é ".repeat(100)));
        [
            FieldError::ColumnNotInserted(longest()),
            FieldError::ObjectInText,
            FieldError::SheetErrorInText("#GETTING_DATA"),
            FieldError::NameNotInserted,
            FieldError::TooLong(262_144),
            FieldError::TooLongToTruncate(262_144),
            FieldError::NotScalar("an object"),
            FieldError::NotText("true or false"),
            FieldError::NotAnAddress(longest()),
            FieldError::NotAnId("true or false"),
            FieldError::MissingIdentity,
            FieldError::MissingEventName,
            FieldError::NotABoolean(longest()),
            FieldError::NotMailingLists(longest()),
            FieldError::NotAListId("true or false"),
            FieldError::NotProperties(longest()),
            FieldError::WrongType(longest(), PropertyType::Date),
            FieldError::NameTooLong(262_144),
            FieldError::Misspelt("p".repeat(60), Some('\u{e0041}')),
            FieldError::PlaceholderId(longest()),
            FieldError::ColonInEventName(longest()),
            FieldError::InvalidListId(longest()),
            FieldError::OutOfRange(longest()),
            FieldError::MisspeltEventField("eventProperties"),
            FieldError::NotForContacts,
            FieldError::HeaderInBody,
            FieldError::NoName,
        ]
    }

    #[test]
    fn field_error_message_is_one_actionable_sentence_within_limit() {
        for error in all_errors() {
            let field =
                if error == FieldError::MissingIdentity { "email".to_owned() } else { display_name(&"n".repeat(100)) };
            let message = error.message(&field);
            assert!(message.starts_with(&field), "{message}");
            assert!(message.contains("in Clay"), "{message}");
            assert!(message.ends_with('.') && message.matches(". ").count() == 0, "{message}");
            assert!(message.chars().count() <= MAX_MESSAGE_CHARS, "{message}");
            assert!(!message.contains("  "), "{message}");
        }
    }

    #[test]
    fn no_field_errors_give_no_request_error() {
        assert_eq!(FieldErrors::default().to_request_error(), None);
    }

    #[test]
    fn multiple_field_errors_list_names_before_messages() {
        let mut errors = FieldErrors::default();
        errors.push("company", FieldError::TooLong(600));
        errors.push("eventProperties.plan", FieldError::NotScalar("a list"));
        errors.push("company", FieldError::MissingIdentity);
        errors.push("email", FieldError::MissingIdentity);
        let error = errors.to_request_error().unwrap();
        assert_eq!((error.code(), error.field()), (ErrorCode::ValueTooLong, Some("company")));
        let start = "3 fields need mending: company, eventProperties.plan, email. company has 600 characters";
        assert!(error.message().starts_with(start), "{error:?}");
        assert_eq!(error.message().chars().count(), MAX_MESSAGE_CHARS);
    }

    #[test]
    fn field_name_is_truncated_to_60_characters() {
        let mut errors = FieldErrors::default();
        errors.push(&"é".repeat(61), FieldError::NotAListId("a number"));
        let error = errors.to_request_error().unwrap();
        assert_eq!(error.field(), Some(format!("{}…", "é".repeat(59)).as_str()));
        assert!(!error.message().contains(&"é".repeat(60)));
    }

    #[test]
    fn reported_field_errors_are_capped() {
        let mut errors = FieldErrors::default();
        for number in 0..10_000 {
            errors.push(&format!("mailingLists.{number}"), FieldError::NotAListId("a number"));
        }
        assert_eq!(errors.reported.len(), MAX_REPORTED);
        assert!(errors.to_request_error().unwrap().message().starts_with("10000 fields need mending"));
    }

    #[test]
    fn omitted_field_names_are_counted() {
        let mut errors = FieldErrors::default();
        for number in 0..40 {
            errors.push(&format!("column{number:04}"), FieldError::NotScalar("a list"));
        }
        let error = errors.to_request_error().unwrap();
        assert!(error.message().starts_with("40 fields need mending: column0000, column0001, "), "{error:?}");
        assert!(error.message().contains("column0020 and 19 more. column0000 "), "{error:?}");
    }
}
