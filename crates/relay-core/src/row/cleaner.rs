//! One row's way from what arrived to what is sent, field by field.

use serde_json::{Map, Value};

use super::Kind;
use crate::error::Refusal;
use crate::row::coerce;
use crate::row::field_error::{Problem, Problems, kind_of, shown};
use crate::row::fields;
use crate::row::options::RowOptions;
use crate::row::redacted_value::Arrived;
use crate::row::schema::ContactProperties;
use crate::row::values::{self, Outcome};

/// What is known of a row while it is cleaned. A problem does not stop it: whoever mends a row wants to hear of all.
#[derive(Debug)]
pub(super) struct Cleaning<'a> {
    kind: Kind,
    options: RowOptions,
    /// What is known of the account's properties, if anything is.
    properties: Option<&'a ContactProperties>,
    fields: Map<String, Value>,
    adjusted: Vec<String>,
    problems: Problems,
}

impl<'a> Cleaning<'a> {
    pub(super) fn new(kind: Kind, options: RowOptions, properties: Option<&'a ContactProperties>) -> Self {
        Self { kind, options, properties, fields: Map::new(), adjusted: Vec::new(), problems: Problems::default() }
    }

    /// Cleans one field by the rule for its name.
    pub(super) fn field(&mut self, name: String, value: Value) {
        let outcome = match (name.as_str(), self.kind) {
            ("email", _) => fields::email(value),
            ("userId", _) => fields::user_id(value),
            ("eventName", kind) => fields::event_name(kind, value, self.options),
            ("subscribed", _) => fields::subscribed(value, self.options),
            ("mailingLists", _) => self.mailing_lists(value),
            ("eventProperties", Kind::Event) => self.event_properties(value),
            _ => self.property(&name, value),
        };
        if let Some(value) = self.settle(&name, outcome) {
            self.fields.insert(name, value);
        }
    }

    /// Notes a row that is about nobody. A field that was refused is told of already.
    pub(super) fn require_a_contact(&mut self) {
        let known = |name| self.fields.contains_key(name) || self.problems.name(name) || self.problems.suggest(name);
        if !known("email") && !known("userId") {
            self.problems.note("email", Problem::NoContact);
        }
    }

    /// Notes an event that has no name.
    pub(super) fn require_an_event_name(&mut self) {
        let known = self.fields.contains_key("eventName") || self.problems.name("eventName");
        if self.kind == Kind::Event && !known {
            self.problems.note("eventName", Problem::NoEventName);
        }
    }

    /// The fields to send, and the names of those that were left out or cut.
    pub(super) fn finish(self) -> Result<(Map<String, Value>, Vec<String>), Refusal> {
        match self.problems.refusal() {
            Some(refusal) => Err(refusal),
            None => Ok((self.fields, self.adjusted)),
        }
    }

    /// What is sent of a value, once it is noted what was done with it.
    fn settle(&mut self, path: &str, outcome: Result<Outcome, Problem>) -> Option<Value> {
        match outcome {
            Ok(Outcome::Send(value)) => return Some(value),
            Ok(Outcome::Cut(value)) => {
                self.adjusted.push(shown(path));
                return Some(value);
            }
            Ok(Outcome::LeaveOut) => self.adjusted.push(shown(path)),
            Err(problem) => self.problems.note(path, problem),
        }
        None
    }

    /// A property of the contact: by the rules for all values, and of the type that it has in Loops, where that is known.
    fn property(&self, name: &str, value: Value) -> Result<Outcome, Problem> {
        let (expected, meant) = match self.properties {
            Some(properties) => (properties.type_of(name), properties.nearest(name)),
            None => (None, None),
        };
        if let Some(meant) = meant
            && values::filled(name, value.clone())?.is_some()
        {
            return Err(Problem::Misspelt(shown(meant)));
        }
        let outcome = values::named(name, name, value, self.options)?;
        match expected {
            Some(expected) => coerce::fit(name, outcome, expected),
            None => Ok(outcome),
        }
    }

    /// `eventProperties`: an object whose values follow the same rules as the row's.
    fn event_properties(&mut self, value: Value) -> Result<Outcome, Problem> {
        let properties = match values::filled("eventProperties", value)? {
            None => return Ok(values::blank(self.options)),
            Some(Value::Object(properties)) => properties,
            Some(other) => return Err(Problem::NotProperties(Arrived::of("eventProperties", &other))),
        };
        let mut kept = Map::new();
        for (name, value) in properties {
            let path = format!("eventProperties.{name}");
            let outcome = values::named(&path, &name, value, self.options);
            if let Some(value) = self.settle(&path, outcome) {
                kept.insert(name, value);
            }
        }
        Ok(unless_empty(kept))
    }

    /// `mailingLists`: an object of booleans (Loops API reference, "Update a contact"), or a list of ids to add to.
    fn mailing_lists(&mut self, value: Value) -> Result<Outcome, Problem> {
        match fields::inserted("mailingLists", value)? {
            None => Ok(values::blank(self.options)),
            Some(Value::Object(lists)) => Ok(self.lists_with_flags(lists)),
            Some(Value::Array(ids)) => Ok(self.lists_to_join(ids)),
            Some(other) => Err(Problem::NotMailingLists(Arrived::of("mailingLists", &other))),
        }
    }

    fn lists_with_flags(&mut self, lists: Map<String, Value>) -> Outcome {
        let mut kept = Map::new();
        for (id, flag) in lists {
            let path = path_of_list(&id);
            let outcome = list_flag(&path, &id, flag);
            if let Some(flag) = self.settle(&path, outcome) {
                kept.insert(id.trim().to_owned(), flag);
            }
        }
        unless_empty(kept)
    }

    fn lists_to_join(&mut self, ids: Vec<Value>) -> Outcome {
        let mut kept = Map::new();
        for id in ids {
            let blank = path_of_list(id.as_str().unwrap_or_default());
            match list_id(id) {
                // What is blank in the same way is named once, as it would be in an object.
                Ok(None) if self.adjusted.contains(&blank) => {}
                Ok(None) => self.adjusted.push(blank),
                Ok(Some(id)) => drop(kept.insert(id, true.into())),
                Err(problem) => self.problems.note("mailingLists", problem),
            }
        }
        unless_empty(kept)
    }
}

/// A list as it is named to people.
fn path_of_list(id: &str) -> String {
    format!("mailingLists.{}", id.trim())
}

/// Whether the contact is to be in a list. A blank does not say, and is never sent: Loops takes booleans only.
fn list_flag(path: &str, id: &str, flag: Value) -> Result<Outcome, Problem> {
    if list_id(id.into())?.is_none() {
        return Ok(Outcome::LeaveOut);
    }
    match fields::inserted(path, flag)? {
        None => Ok(Outcome::LeaveOut),
        Some(flag) => Ok(Outcome::Send(values::boolean(path, &flag)?.into())),
    }
}

/// The id of a list, unless it is blank. It is never cut: a part of it would be another list.
fn list_id(id: Value) -> Result<Option<String>, Problem> {
    match values::filled("mailingLists", id)? {
        None => Ok(None),
        Some(Value::String(id)) => {
            let id = id.trim();
            values::fits(id).map_err(Problem::TooLongForAName)?;
            Ok(Some(id.to_owned()))
        }
        Some(other) => Err(Problem::NotAListId(kind_of(&other))),
    }
}

fn unless_empty(kept: Map<String, Value>) -> Outcome {
    if kept.is_empty() { Outcome::LeaveOut } else { Outcome::Send(Value::Object(kept)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;
    use crate::row::lenient_json;

    /// What is sent of one field, or the code and the name with which it is refused.
    fn cleaned(name: &str, value: &str) -> Result<Option<String>, (Code, String)> {
        let mut cleaning = Cleaning::new(Kind::Event, RowOptions::default(), None);
        cleaning.field(name.to_owned(), lenient_json::read_generously(value).unwrap());
        match cleaning.finish() {
            Ok((fields, _)) => Ok(fields.get(name).map(Value::to_string)),
            Err(refusal) => Err((refusal.code(), refusal.field().unwrap_or_default().to_owned())),
        }
    }

    #[test]
    fn mailing_lists_become_an_object_of_booleans() {
        for (json, expected) in [
            (r#"{"a":true,"b":" False","c":"","d":null}"#, Some(r#"{"a":true,"b":false}"#)),
            (r#"["a"," b ","",null,"a"]"#, Some(r#"{"a":true,"b":true}"#)),
            (r#"{" a ":true,"b\n":false,"a":false}"#, Some(r#"{"a":false,"b":false}"#)),
            ("{}", None),
            ("[]", None),
            (r#"{"a":""}"#, None),
            (r#"{"":true}"#, None),
            (r#""""#, None),
        ] {
            assert_eq!(cleaned("mailingLists", json), Ok(expected.map(str::to_owned)), "{json}");
        }
    }

    #[test]
    fn ids_that_are_blank_are_named_in_either_form() {
        for (value, expected) in [
            (
                r#"{"a":true," ":true,"undefined":true,"b":""}"#,
                &["mailingLists.", "mailingLists.undefined", "mailingLists.b"][..],
            ),
            (r#"["a"," ","undefined",null,""]"#, &["mailingLists.", "mailingLists.undefined"]),
        ] {
            let mut cleaning = Cleaning::new(Kind::Contact, RowOptions::default(), None);
            cleaning.field("mailingLists".to_owned(), lenient_json::read_generously(value).unwrap());
            assert_eq!(cleaning.finish().unwrap().1, expected, "{value}");
        }
    }

    #[test]
    fn mailing_lists_that_say_nothing_clear_are_refused() {
        for (json, code, field) in [
            (r#"{"a":"yes"}"#, Code::InvalidField, "mailingLists.a"),
            (r#"{"a":1}"#, Code::InvalidField, "mailingLists.a"),
            (r#"{"a":{}}"#, Code::InvalidField, "mailingLists.a"),
            (r#"{"a":"{{List}}"}"#, Code::ColumnNotInserted, "mailingLists.a"),
            (r#"{"a":"/List"}"#, Code::ColumnNotInserted, "mailingLists.a"),
            (r#""/List Ids""#, Code::ColumnNotInserted, "mailingLists"),
            (r#"{"{{List}}":true}"#, Code::ColumnNotInserted, "mailingLists.{{List}}"),
            (r#"["{{List}}"]"#, Code::ColumnNotInserted, "mailingLists"),
            ("[1]", Code::InvalidField, "mailingLists"),
            ("true", Code::InvalidField, "mailingLists"),
            (r#""list""#, Code::InvalidField, "mailingLists"),
            (r#""['a']""#, Code::InvalidField, "mailingLists"),
            (r#""[object Object]""#, Code::ColumnNotInserted, "mailingLists"),
        ] {
            assert_eq!(cleaned("mailingLists", json), Err((code, field.to_owned())), "{json}");
        }
    }

    #[test]
    fn the_id_of_a_list_is_never_cut() {
        let id = "l".repeat(499);
        let refused = |field: &str| Err((Code::ValueTooLong, field.to_owned()));
        assert_eq!(cleaned("mailingLists", &format!(r#"["{id}"]"#)), refused("mailingLists"));
        let field = shown(&format!("mailingLists.{id}"));
        assert_eq!(cleaned("mailingLists", &format!(r#"{{"{id}":true}}"#)), refused(&field));
    }

    #[test]
    fn event_properties_follow_the_rules_of_the_row_and_know_no_names() {
        for (json, expected) in [
            (r#"{"plan":"pro","n":1E5}"#, Some(r#"{"plan":"pro","n":1E5}"#)),
            (
                r#"{"plan":"","email":"no address","subscribed":"yes"}"#,
                Some(r#"{"email":"no address","subscribed":"yes"}"#),
            ),
            (r#"{"email":"/a"}"#, Some(r#"{"email":"/a"}"#)),
            (r#"{"plan":" "}"#, None),
            ("{}", None),
            ("null", None),
        ] {
            assert_eq!(cleaned("eventProperties", json), Ok(expected.map(str::to_owned)), "{json}");
        }
    }

    #[test]
    fn the_name_of_an_event_property_has_at_most_498_characters() {
        let longest = format!(r#"{{"{}":1}}"#, "n".repeat(498));
        assert_eq!(cleaned("eventProperties", &longest), Ok(Some(longest)));
        let longer = "n".repeat(499);
        let refused = cleaned("eventProperties", &format!(r#"{{"{longer}":1}}"#));
        assert_eq!(refused, Err((Code::ValueTooLong, shown(&format!("eventProperties.{longer}")))));
        assert_eq!(cleaned("eventProperties", &format!(r#"{{"{longer}":""}}"#)), Ok(None));
    }

    #[test]
    fn event_properties_are_a_flat_object() {
        for (json, code, field) in [
            (r#"{"plan":[]}"#, Code::InvalidField, "eventProperties.plan"),
            (r#"{"plan":{}}"#, Code::InvalidField, "eventProperties.plan"),
            (r#"{"plan":"{{Plan}}"}"#, Code::ColumnNotInserted, "eventProperties.plan"),
            ("[]", Code::InvalidField, "eventProperties"),
            (r#""pro""#, Code::InvalidField, "eventProperties"),
            ("7", Code::InvalidField, "eventProperties"),
            (r#""{{Properties}}""#, Code::ColumnNotInserted, "eventProperties"),
        ] {
            assert_eq!(cleaned("eventProperties", json), Err((code, field.to_owned())), "{json}");
        }
    }
}
