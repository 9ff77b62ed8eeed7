//! Takes from every name and text of a row what no value needs, before anything else looks at it.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::text::{remove_invisible, trim_invisible};

/// Stands for half a surrogate pair, which is no character, until it becomes U+FFFD here. It is one of the characters
/// that Unicode keeps for such uses, and that no text has (Unicode Standard, 23.7).
pub(super) const HALF_SURROGATE: char = '\u{fdd0}';
/// Fields in which an invisible character is a mistake wherever it stands.
const IDENTITY_FIELDS: [&str; 3] = ["email", "userId", "eventName"];

/// Removes white space and invisible characters from the edges of names and texts, and control characters from the
/// whole of them; those that have a meaning, tab and line breaks, stay inside.
#[derive(Debug, Default)]
pub(super) struct Sanitizer {
    adjusted: BTreeSet<String>,
}

impl Sanitizer {
    /// Sanitizes the names of a row's fields and those values that are texts. Of two names that become the same, the
    /// last counts.
    pub(super) fn sanitize_fields(&mut self, fields: Map<String, Value>) -> Map<String, Value> {
        fields.into_iter().map(|(name, value)| self.sanitize_field("", name, value)).collect()
    }

    /// Sanitizes what is in a field that contains others: the names and texts of an object, or the ids of a list.
    pub(super) fn sanitize_nested(&mut self, field: &str, value: Value) -> Value {
        let prefix = format!("{field}.");
        match value {
            Value::Object(fields) => {
                let fields = fields.into_iter().map(|(name, value)| self.sanitize_field(&prefix, name, value));
                Value::Object(fields.collect())
            }
            Value::Array(items) => items.into_iter().map(|item| self.sanitize_item(&prefix, item)).collect(),
            other => other,
        }
    }

    /// The paths of the fields of which something visible to programs was removed or replaced. White space at edges
    /// does not count.
    pub(super) fn into_adjusted(self) -> BTreeSet<String> {
        self.adjusted
    }

    fn sanitize_field(&mut self, prefix: &str, name: String, value: Value) -> (String, Value) {
        let (name, mut is_adjusted) = sanitize_text(name);
        let value = match value {
            Value::String(text) => {
                let (mut text, is_value_adjusted) = sanitize_text(text);
                is_adjusted |= is_value_adjusted;
                if prefix.is_empty() && IDENTITY_FIELDS.contains(&name.as_str()) {
                    let visible = remove_invisible(&text).into_owned();
                    is_adjusted |= visible != text;
                    text = visible;
                }
                text.into()
            }
            other if prefix.is_empty() => other,
            other => self.sanitize_nested(&format!("{prefix}{name}"), other),
        };
        if is_adjusted {
            self.adjusted.insert(format!("{prefix}{name}"));
        }
        (name, value)
    }

    fn sanitize_item(&mut self, prefix: &str, item: Value) -> Value {
        let Value::String(text) = item else { return self.sanitize_nested(prefix.trim_end_matches('.'), item) };
        let (text, is_adjusted) = sanitize_text(text);
        if is_adjusted {
            self.adjusted.insert(format!("{prefix}{text}"));
        }
        text.into()
    }
}

/// Returns the sanitized text, and whether more than white space at its edges is different.
fn sanitize_text(text: String) -> (String, bool) {
    let has_meaning = |c: char| !c.is_control() || matches!(c, '\t' | '\n' | '\r');
    let is_valid = text.chars().all(|c| has_meaning(c) && c != HALF_SURROGATE);
    if is_valid && trim_invisible(&text).len() == text.len() {
        return (text, false);
    }
    let replace = |c: char| if c == HALF_SURROGATE { char::REPLACEMENT_CHARACTER } else { c };
    let valid: String = text.chars().filter(|c| has_meaning(*c)).map(replace).collect();
    let sanitized = trim_invisible(&valid);
    (sanitized.to_owned(), !is_valid || sanitized.len() < valid.trim().len())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Returns the sanitized row, and the paths of its adjusted fields.
    fn sanitized(row: Value) -> (Value, Vec<String>) {
        let Value::Object(fields) = row else { panic!("{row}") };
        let mut sanitizer = Sanitizer::default();
        let fields = sanitizer.sanitize_fields(fields).into_iter();
        let fields = fields.map(|(name, value)| (name.clone(), sanitizer.sanitize_nested(&name, value))).collect();
        (fields, sanitizer.into_adjusted().into_iter().collect())
    }

    #[test]
    fn white_space_at_edges_is_removed_without_report() {
        let row = json!({" a\u{a0}": "\t b c\n", "d": {"e\u{2003}": " f "}, "g": [" h "]});
        assert_eq!(sanitized(row), (json!({"a": "b c", "d": {"e": "f"}, "g": ["h"]}), vec![]));
    }

    #[test]
    fn invisible_characters_at_edges_are_removed_and_reported() {
        let row = json!({"\u{feff}a": 1, "b": "\u{200b}x", "c": {"d\u{ad}": 1, "e": "y \u{3164}"}, "f": ["z\u{2060}"]});
        let expected = json!({"a": 1, "b": "x", "c": {"d": 1, "e": "y"}, "f": ["z"]});
        assert_eq!(sanitized(row), (expected, ["a", "b", "c.d", "c.e", "f.z"].map(str::to_owned).to_vec()));
    }

    #[test]
    fn invisible_characters_inside_are_removed_only_from_identities() {
        let row = json!({"email": "a\u{200b}@b.co", "userId": "u\u{feff}1", "eventName": "s\u{ad}t", "name": "x\u{200d}y", "p": {"email": "a\u{ad}b"}});
        let expected = json!({"email": "a@b.co", "userId": "u1", "eventName": "st", "name": "x\u{200d}y", "p": {"email": "a\u{ad}b"}});
        assert_eq!(sanitized(row), (expected, ["email", "eventName", "userId"].map(str::to_owned).to_vec()));
    }

    #[test]
    fn control_characters_are_removed_and_reported() {
        let row = json!({"a\u{0}b": "x\u{0}\u{8}y\u{9f}", "c": "\u{b}z\u{85}", "kept": "one\ttwo\r\nthree"});
        let expected = json!({"ab": "xy", "c": "z", "kept": "one\ttwo\r\nthree"});
        assert_eq!(sanitized(row), (expected, vec!["ab".to_owned(), "c".to_owned()]));
    }

    #[test]
    fn half_surrogate_becomes_replacement_character() {
        let row = json!({"a\u{fdd0}": "x\u{fdd0}", "kept": "\u{fffd}"});
        assert_eq!(
            sanitized(row),
            (json!({"a\u{fffd}": "x\u{fffd}", "kept": "\u{fffd}"}), vec!["a\u{fffd}".to_owned()])
        );
    }

    #[test]
    fn last_of_names_that_become_the_same_counts() {
        assert_eq!(sanitized(json!({"a": 1, "b": 2, "a ": 3})).0, json!({"a": 3, "b": 2}));
    }
}
