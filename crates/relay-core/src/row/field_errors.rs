//! The errors of a row, and the one message about all of them.

use crate::error::RequestError;
use crate::row::field_error::{FieldError, display_name};
use crate::text::{MAX_MESSAGE_CHARS, spell_invisible};

/// Maximum length of the list of names in a message about several fields.
const MAX_NAME_LIST_CHARS: usize = MAX_MESSAGE_CHARS - 50;
/// Maximum number of errors that are stored: as many as a message can name.
const MAX_REPORTED: usize = 100;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorCode;

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
