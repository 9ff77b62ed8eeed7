//! The contact properties of a team.

use serde_json::{Map, Value, json};

use crate::loops::contact::Contact;
use crate::loops::error::LoopsError;

/// The properties that every team has, with Loops' internal ones, those with `__`: Loops lists them as well.
const STANDARD: [(&str, &str); 11] = [
    ("firstName", "string"),
    ("lastName", "string"),
    ("email", "string"),
    ("userGroup", "string"),
    ("userId", "string"),
    ("subscribed", "boolean"),
    ("createdAt", "date"),
    ("source", "string"),
    ("__domain", "string"),
    ("__marketing_audience", "string"),
    ("__critical_audience", "string"),
];

/// Names and types of the properties that a call created.
#[derive(Debug, Default)]
pub(crate) struct CreatedProperties(Vec<(String, String)>);

impl CreatedProperties {
    /// Creates a property (Loops, API reference: create a contact property).
    pub(crate) fn create(&mut self, (name, kind): (String, String)) -> Result<(), LoopsError> {
        if self.0.iter().any(|(declared, _)| *declared == name) {
            return Err(LoopsError::bad_request(format!("Property {name} already exists")));
        }
        self.0.push((name, kind));
        Ok(())
    }

    /// The team's contact properties (Loops, API reference: list contact properties). Here a custom property exists as soon
    /// as a contact has it; what Loops does with an undeclared one is not stated.
    pub(crate) fn list(&self, contacts: &[Contact], custom_only: bool) -> Value {
        let mut listed = Map::new();
        if !custom_only {
            listed.extend(STANDARD.iter().map(|(key, kind)| ((*key).to_owned(), property_json(key, kind))));
        }
        for (key, kind) in &self.0 {
            listed.insert(key.clone(), property_json(key, kind));
        }
        for (key, value) in contacts.iter().flat_map(Contact::custom_properties) {
            let kind = match value {
                Value::Number(_) => "number",
                Value::Bool(_) => "boolean",
                _ => "string",
            };
            listed.entry(key.clone()).or_insert_with(|| property_json(key, kind));
        }
        listed.into_iter().map(|(_, property)| property).collect()
    }
}

fn property_json(key: &str, kind: &str) -> Value {
    json!({"key": key, "label": label(key), "type": kind})
}

/// Returns "Favorite color" for `favoriteColor` (Loops, API reference: list contact properties).
fn label(key: &str) -> String {
    let mut label = String::new();
    for character in key.chars() {
        if label.is_empty() {
            label.extend(character.to_uppercase());
        } else if character.is_uppercase() {
            label.push(' ');
            label.extend(character.to_lowercase());
        } else {
            label.push(character);
        }
    }
    label
}
