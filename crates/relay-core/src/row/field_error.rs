//! The error of a field, with the sentence that the Clay user reads.

#[cfg(test)]
mod tests;

use crate::error::ErrorCode;
use crate::row::redacted_value::RedactedValue;
use crate::row::schema::PropertyType;
use crate::text::truncate_chars;

/// Maximum length of a field's name in a message.
const MAX_NAME_CHARS: usize = 60;

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
    /// A `userId` with U+FFFD in it: what was another character in another row may be the same now.
    UnreadableId,
    /// JSON type of a `userId`.
    NotAnId(&'static str),
    /// Neither `email` nor `userId`.
    MissingIdentity,
    MissingEventName,
    /// No `email`, where a `userId` does not do.
    MissingEmail,
    /// Both `email` and `userId`, where Loops takes one.
    TwoIdentities,
    MissingTransactionalId,
    /// A text that no e-mail has as its id.
    InvalidTransactionalId(RedactedValue),
    /// JSON type of a data variable.
    NotAVariable(&'static str),
    NotAttachments,
    /// A field that neither of these calls has.
    NotForDeletions,
    NotForEmails,
    ColonInEventName(RedactedValue),
    /// An `eventName` that stands for none.
    PlaceholderEventName(RedactedValue),
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
    /// The field that was meant, of a call whose fields are all known.
    MisspeltField(&'static str),
    /// A field of an event, on the route for contacts.
    NotForContacts,
    /// The idempotency key, which is a header.
    HeaderInBody,
    /// The field has an empty name.
    NoName,
}

impl FieldError {
    pub(super) const fn code(&self) -> ErrorCode {
        match self {
            Self::ColumnNotInserted(_) | Self::ObjectInText | Self::NameNotInserted => ErrorCode::ColumnNotInserted,
            Self::TooLong(_) | Self::TooLongToTruncate(_) | Self::NameTooLong(_) => ErrorCode::ValueTooLong,
            Self::MissingIdentity | Self::MissingEmail | Self::MissingEventName | Self::MissingTransactionalId => {
                ErrorCode::MissingField
            }
            Self::NotScalar(_)
            | Self::NotText(_)
            | Self::NotAnAddress(_)
            | Self::PlaceholderId(_)
            | Self::UnreadableId
            | Self::NotAnId(_)
            | Self::ColonInEventName(_)
            | Self::PlaceholderEventName(_)
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
            | Self::MisspeltField(_)
            | Self::NotForContacts
            | Self::NotForDeletions
            | Self::NotForEmails
            | Self::TwoIdentities
            | Self::NotAVariable(_)
            | Self::NotAttachments
            | Self::InvalidTransactionalId(_)
            | Self::HeaderInBody
            | Self::NoName => ErrorCode::InvalidField,
        }
    }

    /// Whether it is an error only because of the account's properties.
    pub(super) const fn depends_on_schema(&self) -> bool {
        matches!(
            self,
            Self::WrongType(..)
                | Self::Misspelt(..)
                | Self::MisspeltEventField(_)
                | Self::NotForContacts
                | Self::HeaderInBody
        )
    }

    /// Returns a sentence: what arrived, why that cannot be sent, and what to do in Clay.
    pub(super) fn message(&self, field: &str) -> String {
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
            Self::UnreadableId => format!(
                "{field} has U+FFFD in it, which stands for a character that was lost, and two such ids may look the same: in \
                 Clay, insert the column with the whole id, or correct the formula that cuts it."
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
            Self::PlaceholderEventName(redacted) => format!(
                "{field} arrived as {redacted}, which stands for no name, and no workflow in Loops waits for it: in Clay, write the \
                 name of the event into the Body, or run this column only if it is filled."
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
            Self::MisspeltField(nearest) => format!(
                "{field} is not a field of this call, but {nearest} is: in Clay, write that name into the Body, letter for letter."
            ),
            Self::NotForContacts => format!(
                "{field} belongs to an event, and this is the route for contacts: in Clay, send events with POST to \
                 /api/v1/events/send, or take {field} out of the Body."
            ),
            Self::MissingEmail => format!(
                "{field} is missing or blank, and Loops needs it for this call: in Clay, insert the email column with /, or run \
                 this column only if it is filled."
            ),
            Self::TwoIdentities => format!(
                "{field} came together with an email, and Loops deletes a contact by one of them: in Clay, leave the one in the \
                 Body that you know the contact by."
            ),
            Self::MissingTransactionalId => format!(
                "{field} is missing or blank, and Loops needs it to know which e-mail to send: in Clay, write the id from \
                 Loops' page of the e-mail into the Body between double quotes."
            ),
            Self::InvalidTransactionalId(redacted) => format!(
                "{field} arrived as {redacted} and must be the id of an e-mail, letters and digits such as \
                 cll42l54f20i1la0lfooe3z12: in Clay, copy it from Loops' page of the e-mail into the Body."
            ),
            Self::NotAVariable(kind) => format!(
                "{field} has {kind} in it, and Loops takes texts, numbers and lists of objects with these: in Clay, insert a \
                 part of it, or a formula column that makes it a text."
            ),
            Self::NotAttachments => format!(
                "{field} must be a list of objects with the texts filename, contentType and data (base64), and nothing else: in \
                 Clay, write it into the Body as one."
            ),
            Self::NotForDeletions => format!(
                "{field} is not a field of a deletion, which takes email or userId alone: in Clay, take it out of the Body, so \
                 that nobody expects it to change anything."
            ),
            Self::NotForEmails => format!(
                "{field} is not a field of a transactional e-mail, which takes transactionalId, email, addToAudience, \
                 dataVariables and attachments: in Clay, write it into dataVariables, or take it out of the Body."
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

pub(super) fn display_name(field: &str) -> String {
    truncate_chars(field, MAX_NAME_CHARS)
}
