use serde_json::Value;

use super::*;
use crate::text::MAX_MESSAGE_CHARS;

fn all_errors() -> [FieldError; 38] {
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
        FieldError::UnreadableId,
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
        FieldError::PlaceholderEventName(longest()),
        FieldError::InvalidListId(longest()),
        FieldError::OutOfRange(longest()),
        FieldError::MisspeltEventField("eventProperties"),
        FieldError::NotForContacts,
        FieldError::HeaderInBody,
        FieldError::NoName,
        FieldError::MissingEmail,
        FieldError::TwoIdentities,
        FieldError::MissingTransactionalId,
        FieldError::NotAVariable("an object"),
        FieldError::NotAttachments,
        FieldError::InvalidTransactionalId(longest()),
        FieldError::NotForDeletions,
        FieldError::NotForEmails,
        FieldError::MisspeltField("transactionalId"),
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
