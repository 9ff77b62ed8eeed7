//! What can be wrong with a field, and what a person who looks at a Clay table is told about it.

use serde_json::Value;

use crate::error::{Code, Refusal};
use crate::row::redacted_value::Arrived;
use crate::row::schema::PropertyType;
use crate::text::{MESSAGE_CHARACTERS, shorten};

/// The longest name of a field that is shown.
const NAME_CHARACTERS: usize = 60;
/// As many characters of names as fit into a message that tells of several fields.
const NAMES_CHARACTERS: usize = MESSAGE_CHARACTERS - 50;
/// As many faults as a message can name; those of a row with more are not worth their memory.
const MOST_PROBLEMS: usize = 100;

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Problem {
    /// A column's name or `[object Object]` came in place of the column's value.
    NotInserted(Arrived),
    /// A text has that many characters.
    TooLong(usize),
    /// The same, where cutting is no way out.
    TooLongForAName(usize),
    /// A list or an object, where Loops takes neither.
    Compound(&'static str),
    /// Something other than a text, where only a text will do.
    NotText(&'static str),
    /// An `email` that is none.
    NotAnAddress(Arrived),
    /// A `userId` that is neither text nor number.
    NotAnId(&'static str),
    /// Neither `email` nor `userId`.
    NoContact,
    /// An event without a name.
    NoEventName,
    /// Neither true nor false, and no text for either.
    NotABoolean(Arrived),
    /// `mailingLists` that are neither an object nor a list.
    NotMailingLists(Arrived),
    /// Something other than a text in a list of ids.
    NotAListId(&'static str),
    /// `eventProperties` that are not an object.
    NotProperties(Arrived),
    /// A value that is not what the property of that name in Loops is.
    NotThatType(Arrived, PropertyType),
    /// A name has that many characters.
    NameTooLong(usize),
    /// A name that Loops does not know, beside one that it does.
    Misspelt(String),
}

impl Problem {
    const fn code(&self) -> Code {
        match self {
            Self::NotInserted(_) => Code::ColumnNotInserted,
            Self::TooLong(_) | Self::TooLongForAName(_) | Self::NameTooLong(_) => Code::ValueTooLong,
            Self::NoContact | Self::NoEventName => Code::MissingField,
            Self::Compound(_)
            | Self::NotText(_)
            | Self::NotAnAddress(_)
            | Self::NotAnId(_)
            | Self::NotABoolean(_)
            | Self::NotMailingLists(_)
            | Self::NotAListId(_)
            | Self::NotProperties(_)
            | Self::NotThatType(..)
            | Self::Misspelt(_) => Code::InvalidField,
        }
    }

    /// Whether it is one only for what is known of the account's properties.
    const fn rests_on_properties(&self) -> bool {
        matches!(self, Self::NotThatType(..) | Self::Misspelt(_))
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
            Self::Compound(kind) => format!(
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
            Self::NoContact => {
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
            Self::NotThatType(arrived, expected) => format!(
                "{field} arrived as {arrived}, and the property of that name in Loops is {}: in Clay, use a formula column \
                 that gives {}.",
                expected.shown(),
                expected.form()
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
pub(super) struct Problems {
    told: Vec<(String, Problem)>,
    /// How many fields more are at fault than are told of.
    beyond: usize,
}

impl Problems {
    /// Notes what is wrong with a field. Only the first problem of a field is told.
    pub(super) fn note(&mut self, field: &str, problem: Problem) {
        let field = shown(field);
        if self.name(&field) {
            return;
        }
        if self.told.len() < MOST_PROBLEMS {
            self.told.push((field, problem));
        } else {
            self.beyond += 1;
        }
    }

    /// Whether something is wrong with that field.
    pub(super) fn name(&self, field: &str) -> bool {
        self.told.iter().any(|(known, _)| known == field)
    }

    /// Whether a misspelt field is told to be that one.
    pub(super) fn suggest(&self, field: &str) -> bool {
        self.told.iter().any(|(_, problem)| matches!(problem, Problem::Misspelt(nearest) if nearest == field))
    }

    /// The refusal of the row, if anything is wrong with it: named after the first field, and telling of all.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        let (field, problem) = self.told.first()?;
        let message = match self.told.as_slice() {
            [_] => problem.sentence(field),
            all => {
                let sentences: Vec<String> = all.iter().map(|(field, problem)| problem.sentence(field)).collect();
                let count = all.len() + self.beyond;
                format!("{count} fields need mending: {}. {}", names(all, count), sentences.join(" "))
            }
        };
        let rests = self.told.iter().any(|(_, problem)| problem.rests_on_properties());
        Some(Refusal::new(problem.code(), message).with_field(field.as_str()).resting_on_properties(rests))
    }
}

/// The names of all fields at fault. They come first: they are what must not be lost when the message is cut. Where there
/// are more than the message holds, it says how many.
fn names(all: &[(String, Problem)], count: usize) -> String {
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
pub(super) fn shown(field: &str) -> String {
    shorten(field, NAME_CHARACTERS)
}

/// What kind of value it is, for people.
pub(super) const fn kind_of(value: &Value) -> &'static str {
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

    fn all() -> [Problem; 16] {
        let longest = || Arrived::of("bio", &Value::from("é ".repeat(100)));
        [
            Problem::NotInserted(longest()),
            Problem::TooLong(262_144),
            Problem::TooLongForAName(262_144),
            Problem::Compound("an object"),
            Problem::NotText("true or false"),
            Problem::NotAnAddress(longest()),
            Problem::NotAnId("true or false"),
            Problem::NoContact,
            Problem::NoEventName,
            Problem::NotABoolean(longest()),
            Problem::NotMailingLists(longest()),
            Problem::NotAListId("true or false"),
            Problem::NotProperties(longest()),
            Problem::NotThatType(longest(), PropertyType::Date),
            Problem::NameTooLong(262_144),
            Problem::Misspelt("p".repeat(60)),
        ]
    }

    #[test]
    fn every_sentence_is_one_names_its_field_says_what_to_do_and_fits_with_the_longest_name() {
        for problem in all() {
            let field = if problem == Problem::NoContact { "email".to_owned() } else { shown(&"n".repeat(100)) };
            let sentence = problem.sentence(&field);
            assert!(sentence.starts_with(&field), "{sentence}");
            assert!(sentence.contains("in Clay"), "{sentence}");
            assert!(sentence.ends_with('.') && sentence.matches(". ").count() == 0, "{sentence}");
            assert!(sentence.chars().count() <= MESSAGE_CHARACTERS, "{sentence}");
            assert!(!sentence.contains("  "), "{sentence}");
        }
    }

    #[test]
    fn a_row_without_problems_is_not_refused() {
        assert_eq!(Problems::default().refusal(), None);
    }

    #[test]
    fn several_problems_are_named_before_they_are_told() {
        let mut problems = Problems::default();
        problems.note("company", Problem::TooLong(600));
        problems.note("eventProperties.plan", Problem::Compound("a list"));
        problems.note("company", Problem::NoContact);
        problems.note("email", Problem::NoContact);
        let refusal = problems.refusal().unwrap();
        assert_eq!((refusal.code(), refusal.field()), (Code::ValueTooLong, Some("company")));
        let start = "3 fields need mending: company, eventProperties.plan, email. company has 600 characters";
        assert!(refusal.message().starts_with(start), "{refusal:?}");
        assert_eq!(refusal.message().chars().count(), MESSAGE_CHARACTERS);
    }

    #[test]
    fn names_are_cut_to_60_characters() {
        let mut problems = Problems::default();
        problems.note(&"é".repeat(61), Problem::NotAListId("a number"));
        let refusal = problems.refusal().unwrap();
        assert_eq!(refusal.field(), Some(format!("{}…", "é".repeat(59)).as_str()));
        assert!(!refusal.message().contains(&"é".repeat(60)));
    }

    #[test]
    fn the_problems_of_a_hopeless_row_take_little_memory() {
        let mut problems = Problems::default();
        for number in 0..10_000 {
            problems.note(&format!("mailingLists.{number}"), Problem::NotAListId("a number"));
        }
        assert_eq!(problems.told.len(), MOST_PROBLEMS);
        assert!(problems.refusal().unwrap().message().starts_with("10000 fields need mending"));
    }

    #[test]
    fn more_names_than_fit_are_counted() {
        let mut problems = Problems::default();
        for number in 0..40 {
            problems.note(&format!("column{number:04}"), Problem::Compound("a list"));
        }
        let refusal = problems.refusal().unwrap();
        assert!(refusal.message().starts_with("40 fields need mending: column0000, column0001, "), "{refusal:?}");
        assert!(refusal.message().contains("column0020 and 19 more. column0000 "), "{refusal:?}");
    }
}
