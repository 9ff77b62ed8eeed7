//! What can be wrong with a field, and what a person who looks at a Clay table is told about it.

use serde_json::Value;

use crate::error::{ErrorCode, RequestError};
use crate::row::redacted_value::RedactedValue;
use crate::row::schema::PropertyType;
use crate::text::{MAX_MESSAGE_CHARS, truncate_chars};

/// The longest name of a field that is shown.
const NAME_CHARACTERS: usize = 60;
/// As many characters of names as fit into a message that tells of several fields.
const NAMES_CHARACTERS: usize = MAX_MESSAGE_CHARS - 50;
/// As many faults as a message can name; those of a row with more are not worth their memory.
const MAX_REPORTED: usize = 100;

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FieldError {
    /// A column's name or `[object Object]` came in place of the column's value.
    NotInserted(RedactedValue),
    /// A text has that many characters.
    TooLong(usize),
    /// The same, where cutting is no way out.
    TooLongForAName(usize),
    /// A list or an object, where Loops takes neither.
    NotScalar(&'static str),
    /// Something other than a text, where only a text will do.
    NotText(&'static str),
    /// An `email` that is none.
    NotAnAddress(RedactedValue),
    /// A `userId` that is neither text nor number.
    NotAnId(&'static str),
    /// Neither `email` nor `userId`.
    MissingIdentity,
    /// An event without a name.
    NoEventName,
    /// Neither true nor false, and no text for either.
    NotABoolean(RedactedValue),
    /// `mailingLists` that are neither an object nor a list.
    NotMailingLists(RedactedValue),
    /// Something other than a text in a list of ids.
    NotAListId(&'static str),
    /// `eventProperties` that are not an object.
    NotProperties(RedactedValue),
    /// A value that is not what the property of that name in Loops is.
    WrongType(RedactedValue, PropertyType),
    /// A name has that many characters.
    NameTooLong(usize),
    /// A name that Loops does not know, beside one that it does.
    Misspelt(String),
}

impl FieldError {
    const fn code(&self) -> ErrorCode {
        match self {
            Self::NotInserted(_) => ErrorCode::ColumnNotInserted,
            Self::TooLong(_) | Self::TooLongForAName(_) | Self::NameTooLong(_) => ErrorCode::ValueTooLong,
            Self::MissingIdentity | Self::NoEventName => ErrorCode::MissingField,
            Self::NotScalar(_)
            | Self::NotText(_)
            | Self::NotAnAddress(_)
            | Self::NotAnId(_)
            | Self::NotABoolean(_)
            | Self::NotMailingLists(_)
            | Self::NotAListId(_)
            | Self::NotProperties(_)
            | Self::WrongType(..)
            | Self::Misspelt(_) => ErrorCode::InvalidField,
        }
    }

    /// Whether it is one only for what is known of the account's properties.
    const fn rests_on_properties(&self) -> bool {
        matches!(self, Self::WrongType(..) | Self::Misspelt(_))
    }

    /// What arrived, why that cannot be sent, and what to do in Clay.
    fn sentence(&self, field: &str) -> String {
        match self {
            Self::NotInserted(arrived) => format!(
                "{field} arrived as {arrived}, a column's name or [object Object] instead of the column's value: in Clay, \
                 insert the column with / instead of typing its name."
            ),
            Self::TooLong(length) => format!(
                "{field} has {length} characters and Loops takes 498: shorten it with a formula column in Clay, or add \
                 long=truncate to the column's endpoint."
            ),
            Self::TooLongForAName(length) => format!(
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
            Self::NotAnAddress(arrived) => format!(
                "{field} arrived as {arrived}, which does not look like an e-mail address (name@example.com): check the \
                 column in Clay, or run this one only if the address is valid."
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
            Self::NoEventName => format!(
                "{field} is missing or blank, and Loops needs it to know which event to send: in Clay, write it into the Body \
                 between double quotes."
            ),
            Self::NotABoolean(arrived) => format!(
                "{field} arrived as {arrived} and must be true or false: in Clay, use a formula column that gives true or \
                 false."
            ),
            Self::NotMailingLists(arrived) => format!(
                "{field} arrived as {arrived} and must say which lists: in Clay, write it into the Body as an object of ids \
                 with true or false, such as {{\"listId\": true}}, or as a list of ids."
            ),
            Self::NotAListId(kind) => format!(
                "{field} holds {kind} among its ids, which are texts: in Clay, put double quotes around each id, or write an \
                 object of ids with true or false."
            ),
            Self::NotProperties(arrived) => format!(
                "{field} arrived as {arrived} and must be an object, because Loops knows properties by their names: in Clay, \
                 write it into the Body as one, such as {{\"plan\": \"…\"}}."
            ),
            Self::WrongType(arrived, expected) => format!(
                "{field} arrived as {arrived}, and the property of that name in Loops is {}: in Clay, use a formula column \
                 that gives {}.",
                expected.description(),
                expected.expected_format()
            ),
            Self::NameTooLong(length) => format!(
                "{field} is a name of {length} characters and Loops takes 498: in Clay, write the name of a property before \
                 the colon, and the column after it."
            ),
            Self::Misspelt(nearest) => format!(
                "{field} is not a property of contacts in Loops, but {nearest} is: in Clay, write that name into the Body, or \
                 create the property in Loops first."
            ),
        }
    }
}

/// What is wrong with a row: every field at fault once, in the order the fields came.
#[derive(Debug, Default)]
pub(super) struct FieldErrors {
    reported: Vec<(String, FieldError)>,
    /// How many fields more are at fault than are told of.
    omitted: usize,
}

impl FieldErrors {
    /// Notes what is wrong with a field. Only the first problem of a field is told.
    pub(super) fn push(&mut self, field: &str, problem: FieldError) {
        let field = display_name(field);
        if self.contains(&field) {
            return;
        }
        if self.reported.len() < MAX_REPORTED {
            self.reported.push((field, problem));
        } else {
            self.omitted += 1;
        }
    }

    /// Whether something is wrong with that field.
    pub(super) fn contains(&self, field: &str) -> bool {
        self.reported.iter().any(|(known, _)| known == field)
    }

    /// Whether a misspelt field is told to be that one.
    pub(super) fn suggests(&self, field: &str) -> bool {
        self.reported.iter().any(|(_, problem)| matches!(problem, FieldError::Misspelt(nearest) if nearest == field))
    }

    /// The refusal of the row, if anything is wrong with it: named after the first field, and telling of all.
    pub(super) fn refusal(&self) -> Option<RequestError> {
        let (field, problem) = self.reported.first()?;
        let message = match self.reported.as_slice() {
            [_] => problem.sentence(field),
            all => {
                let sentences: Vec<String> = all.iter().map(|(field, problem)| problem.sentence(field)).collect();
                let count = all.len() + self.omitted;
                format!("{count} fields need mending: {}. {}", names(all, count), sentences.join(" "))
            }
        };
        let rests = self.reported.iter().any(|(_, problem)| problem.rests_on_properties());
        Some(RequestError::new(problem.code(), message).with_field(field.as_str()).with_schema_dependency(rests))
    }
}

/// The names of all fields at fault. They come first: they are what must not be lost when the message is cut. Where there
/// are more than the message holds, it says how many.
fn names(all: &[(String, FieldError)], count: usize) -> String {
    let mut listed = String::new();
    for (place, (field, _)) in all.iter().enumerate() {
        if listed.chars().count() + field.chars().count() > NAMES_CHARACTERS {
            return format!("{listed} and {} more", count - place);
        }
        if place > 0 {
            listed.push_str(", ");
        }
        listed.push_str(field);
    }
    listed
}

/// The name of a field as it is shown.
pub(super) fn display_name(field: &str) -> String {
    truncate_chars(field, NAME_CHARACTERS)
}

/// What kind of value it is, for people.
pub(super) const fn json_type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> [FieldError; 16] {
        let longest = || RedactedValue::of("bio", &Value::from("é ".repeat(100)));
        [
            FieldError::NotInserted(longest()),
            FieldError::TooLong(262_144),
            FieldError::TooLongForAName(262_144),
            FieldError::NotScalar("an object"),
            FieldError::NotText("true or false"),
            FieldError::NotAnAddress(longest()),
            FieldError::NotAnId("true or false"),
            FieldError::MissingIdentity,
            FieldError::NoEventName,
            FieldError::NotABoolean(longest()),
            FieldError::NotMailingLists(longest()),
            FieldError::NotAListId("true or false"),
            FieldError::NotProperties(longest()),
            FieldError::WrongType(longest(), PropertyType::Date),
            FieldError::NameTooLong(262_144),
            FieldError::Misspelt("p".repeat(60)),
        ]
    }

    #[test]
    fn every_sentence_is_one_names_its_field_says_what_to_do_and_fits_with_the_longest_name() {
        for problem in all() {
            let field = if problem == FieldError::MissingIdentity {
                "email".to_owned()
            } else {
                display_name(&"n".repeat(100))
            };
            let sentence = problem.sentence(&field);
            assert!(sentence.starts_with(&field), "{sentence}");
            assert!(sentence.contains("in Clay"), "{sentence}");
            assert!(sentence.ends_with('.') && sentence.matches(". ").count() == 0, "{sentence}");
            assert!(sentence.chars().count() <= MAX_MESSAGE_CHARS, "{sentence}");
            assert!(!sentence.contains("  "), "{sentence}");
        }
    }

    #[test]
    fn a_row_without_problems_is_not_refused() {
        assert_eq!(FieldErrors::default().refusal(), None);
    }

    #[test]
    fn several_problems_are_named_before_they_are_told() {
        let mut problems = FieldErrors::default();
        problems.push("company", FieldError::TooLong(600));
        problems.push("eventProperties.plan", FieldError::NotScalar("a list"));
        problems.push("company", FieldError::MissingIdentity);
        problems.push("email", FieldError::MissingIdentity);
        let refusal = problems.refusal().unwrap();
        assert_eq!((refusal.code(), refusal.field()), (ErrorCode::ValueTooLong, Some("company")));
        let start = "3 fields need mending: company, eventProperties.plan, email. company has 600 characters";
        assert!(refusal.message().starts_with(start), "{refusal:?}");
        assert_eq!(refusal.message().chars().count(), MAX_MESSAGE_CHARS);
    }

    #[test]
    fn names_are_cut_to_60_characters() {
        let mut problems = FieldErrors::default();
        problems.push(&"é".repeat(61), FieldError::NotAListId("a number"));
        let refusal = problems.refusal().unwrap();
        assert_eq!(refusal.field(), Some(format!("{}…", "é".repeat(59)).as_str()));
        assert!(!refusal.message().contains(&"é".repeat(60)));
    }

    #[test]
    fn the_problems_of_a_hopeless_row_take_little_memory() {
        let mut problems = FieldErrors::default();
        for number in 0..10_000 {
            problems.push(&format!("mailingLists.{number}"), FieldError::NotAListId("a number"));
        }
        assert_eq!(problems.reported.len(), MAX_REPORTED);
        assert!(problems.refusal().unwrap().message().starts_with("10000 fields need mending"));
    }

    #[test]
    fn more_names_than_fit_are_counted() {
        let mut problems = FieldErrors::default();
        for number in 0..40 {
            problems.push(&format!("column{number:04}"), FieldError::NotScalar("a list"));
        }
        let refusal = problems.refusal().unwrap();
        assert!(refusal.message().starts_with("40 fields need mending: column0000, column0001, "), "{refusal:?}");
        assert!(refusal.message().contains("column0020 and 19 more. column0000 "), "{refusal:?}");
    }
}
