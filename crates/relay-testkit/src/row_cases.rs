//! The table of rows under `tests/fixtures/rows`: a row, and the request to Loops or the error response for it.
//!
//! A file is a group: `about`, optionally the `properties` of the Loops account, and `cases`. A case has a `name`, the
//! route (`to`: `contact` or `event`), optionally a `query` and `headers`, the `row` as it arrives, and either the
//! exact body that is `sent` or the response it is `refused` with: `status`, `code`, optionally `field`, and
//! `message_parts` that the message contains. `adjusted` lists the fields that were omitted or truncated.
//!
//! In all texts, `<id>` stands for digits unique to the case, by which its call is found at Loops, `<x*499>` for `x`
//! 499 times, `<fields*3>` for three more fields, and `<lists*3>` for three more fields with a list in each.
//!
//! This file is compiled into the tests of two packages, so it depends only on serde_json.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Map, Value};

/// One line of the table.
#[derive(Debug, Clone)]
pub struct Case {
    /// The file it stands in, and its name.
    pub name: String,
    /// Whether it is sent to the route for events.
    pub event: bool,
    /// The query of the URL, without its `?`.
    pub query: String,
    /// Headers besides those of every call.
    pub headers: Vec<(String, String)>,
    /// The body as it arrives.
    pub row: String,
    /// What becomes of it.
    pub expected: Expected,
    /// The fields that were omitted or truncated, if the case lists them.
    pub adjusted: Option<Vec<String>>,
}

/// What becomes of a row.
#[derive(Debug, Clone)]
pub enum Expected {
    /// Loops gets this.
    Sent(String),
    /// The caller gets this error response.
    Rejected {
        /// Its status.
        status: u16,
        /// The code.
        code: String,
        /// The field in error, if there is one.
        field: Option<String>,
        /// Parts of the message.
        message_parts: Vec<String>,
    },
}

/// Cases that share what Loops knows of its properties.
#[derive(Debug, Clone)]
pub struct Group {
    /// The response to `GET /v1/contacts/properties`, for an account that has properties.
    pub properties: Option<Value>,
    /// The cases.
    pub cases: Vec<Case>,
}

impl Case {
    /// The case with its own digits, and everything written out.
    #[must_use]
    pub fn with_id(&self, id: &str) -> Self {
        let expand = |text: &String| expand_repetitions(&text.replace("<id>", id));
        let expected = match &self.expected {
            Expected::Sent(body) => Expected::Sent(expand(body)),
            Expected::Rejected { status, code, field, message_parts } => Expected::Rejected {
                status: *status,
                code: code.clone(),
                field: field.as_ref().map(expand),
                message_parts: message_parts.clone(),
            },
        };
        let headers = self.headers.iter().map(|(name, value)| (name.clone(), expand(value))).collect();
        Self { headers, row: expand(&self.row), expected, ..self.clone() }
    }
}

/// Every group of the table, in the order of its files.
///
/// # Panics
/// When a file is not to be read, or has something in it that this text does not name.
#[must_use]
pub fn groups(folder: &Path) -> Vec<Group> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap_or_else(|error| panic!("{error}")).path()).collect();
    files.sort();
    let groups: Vec<Group> = files.iter().map(|file| parse_group(file)).collect();
    let names: BTreeSet<&String> = groups.iter().flat_map(|group| &group.cases).map(|case| &case.name).collect();
    assert_eq!(names.len(), groups.iter().map(|group| group.cases.len()).sum::<usize>(), "a name stands twice");
    groups
}

fn parse_group(file: &Path) -> Group {
    let file_name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{file_name}: {error}"));
    let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{file_name}: {error}"));
    let mut fields = Fields::from_value(&file_name, value);
    assert!(fields.take_string("about").is_some(), "{file_name}: about is missing");
    let properties = fields.0.remove("properties");
    let Some(Value::Array(cases)) = fields.0.remove("cases") else { panic!("{file_name}: cases is no list") };
    fields.assert_empty(&file_name);
    Group { properties, cases: cases.into_iter().map(|value| parse_case(&file_name, value)).collect() }
}

fn parse_case(file: &str, value: Value) -> Case {
    let mut fields = Fields::from_value(file, value);
    let name =
        format!("{file}: {}", fields.take_string("name").unwrap_or_else(|| panic!("{file}: a case without a name")));
    let event = match fields.take_string("to").as_deref() {
        Some("contact") => false,
        Some("event") => true,
        other => panic!("{name}: to is {other:?}"),
    };
    let headers = match fields.0.remove("headers") {
        Some(headers) => Fields::from_value(&name, headers).into_string_pairs(&name),
        None => Vec::new(),
    };
    let expected = match (fields.take_string("sent"), fields.0.remove("refused")) {
        (Some(sent), None) => Expected::Sent(sent),
        (None, Some(rejection)) => parse_rejection(&name, rejection),
        _ => panic!("{name}: a row is either sent or refused"),
    };
    let case = Case {
        event,
        query: fields.take_string("query").unwrap_or_default(),
        headers,
        row: fields.take_string("row").unwrap_or_else(|| panic!("{name}: row is missing")),
        expected,
        adjusted: fields.take_string_list("adjusted"),
        name,
    };
    fields.assert_empty(&case.name);
    case
}

fn parse_rejection(name: &str, value: Value) -> Expected {
    let mut fields = Fields::from_value(name, value);
    let status = fields.0.remove("status").and_then(|status| status.as_u64());
    let rejected = Expected::Rejected {
        status: status.and_then(|status| status.try_into().ok()).unwrap_or_else(|| panic!("{name}: status")),
        code: fields.take_string("code").unwrap_or_else(|| panic!("{name}: code")),
        field: fields.take_string("field"),
        message_parts: fields.take_string_list("message_parts").unwrap_or_default(),
    };
    fields.assert_empty(name);
    rejected
}

/// The fields of an object, removed one by one, so that an unknown one is noticed.
struct Fields(Map<String, Value>);

impl Fields {
    fn from_value(context: &str, value: Value) -> Self {
        match value {
            Value::Object(fields) => Self(fields),
            other => panic!("{context}: {other} is no object"),
        }
    }

    fn take_string(&mut self, name: &str) -> Option<String> {
        match self.0.remove(name)? {
            Value::String(text) => Some(text),
            other => panic!("{name} is {other}, not a text"),
        }
    }

    fn take_string_list(&mut self, name: &str) -> Option<Vec<String>> {
        let Value::Array(items) = self.0.remove(name)? else { panic!("{name} is no list") };
        Some(items.iter().map(|item| item.as_str().unwrap_or_else(|| panic!("{name}: {item}")).to_owned()).collect())
    }

    fn into_string_pairs(self, context: &str) -> Vec<(String, String)> {
        let expect_string = |value: Value| value.as_str().unwrap_or_else(|| panic!("{context}: {value}")).to_owned();
        self.0.into_iter().map(|(name, value)| (name, expect_string(value))).collect()
    }

    fn assert_empty(&self, context: &str) {
        assert!(self.0.is_empty(), "{context}: nothing is known of {:?}", self.0.keys());
    }
}

/// Expands `<text*count>` to that many repetitions.
fn expand_repetitions(text: &str) -> String {
    let Some((before, (what, times), after)) = next_repetition(text) else {
        return text.to_owned();
    };
    let repeated = match what {
        "fields" => (1..=times).map(|number| format!(",\"f{number}\":{number}")).collect(),
        "lists" => (1..=times).map(|number| format!(",\"f{number}\":[]")).collect(),
        what => what.repeat(times),
    };
    format!("{before}{repeated}{}", expand_repetitions(after))
}

fn next_repetition(text: &str) -> Option<(&str, (&str, usize), &str)> {
    let mut from = 0;
    loop {
        let start = from + text.get(from..)?.find('<')?;
        let inside = text.get(start + 1..)?;
        let (inside, after) = inside.split_once('>')?;
        let repetition = inside.rsplit_once('*').and_then(|(what, times)| Some((what, times.parse().ok()?)));
        if let Some(repetition) = repetition {
            return Some((text.get(..start)?, repetition, after));
        }
        from = start + 1;
    }
}
