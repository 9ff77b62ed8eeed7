//! The names and types of the contact properties of a Loops account (Loops API reference, "List contact properties").

use std::collections::BTreeMap;

use serde::Deserialize;
use strum::EnumString;

use crate::text::is_blank;

/// Properties that every account has, whether Loops lists them or not.
const BUILT_IN: [(&str, PropertyType); 8] = [
    ("email", PropertyType::Text),
    ("userId", PropertyType::Text),
    ("firstName", PropertyType::Text),
    ("lastName", PropertyType::Text),
    ("source", PropertyType::Text),
    ("subscribed", PropertyType::Boolean),
    ("userGroup", PropertyType::Text),
    ("mailingLists", PropertyType::Other),
];
/// Start of the names that Loops sets itself.
const INTERNAL_PREFIX: &str = "__";
/// Names shorter than this never count as a typo of another: `plan` and `plane` are both words.
const MIN_TYPO_LEN: usize = 6;

/// Type of a property's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString)]
#[strum(serialize_all = "lowercase")]
pub(crate) enum PropertyType {
    #[strum(serialize = "string")]
    Text,
    Number,
    Boolean,
    /// In milliseconds since 1970 (Loops docs, "Contact properties": dates).
    Date,
    /// A type that the relay does not know: its values pass as they are.
    Other,
}

impl PropertyType {
    /// The type in words, and the form of such a value in Clay.
    pub(crate) const fn describe(self) -> (&'static str, &'static str) {
        match self {
            Self::Text => ("a text", "a text"),
            Self::Number => ("a number", "only digits, such as 42"),
            Self::Boolean => ("true or false", "true or false"),
            Self::Date => ("a date", "a date such as 2026-01-31"),
            Self::Other => ("another kind of value", "such a value"),
        }
    }
}

/// The contact properties of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContactSchema {
    types: BTreeMap<String, PropertyType>,
    /// Normalized names, each with the name itself.
    normalized: Vec<(Vec<char>, String)>,
}

/// An item of Loops' list. Other keys, such as `label`, are ignored.
#[derive(Deserialize)]
struct PropertyListItem {
    key: String,
    #[serde(rename = "type", default)]
    kind: String,
}

impl ContactSchema {
    /// Parses Loops' list; returns nothing if it is invalid, or empty and so says nothing about names.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let items: Vec<PropertyListItem> = serde_json::from_slice(body).ok()?;
        if items.is_empty() {
            return None;
        }
        let items = items.into_iter().filter(|property| !property.key.starts_with(INTERNAL_PREFIX));
        let mut types: BTreeMap<String, PropertyType> = BUILT_IN.map(|(name, kind)| (name.to_owned(), kind)).into();
        types.extend(items.map(|property| (property.key, property.kind.parse().unwrap_or(PropertyType::Other))));
        let normalized = types.keys().map(|name| (normalize_name(name).collect(), name.clone())).collect();
        Some(Self { types, normalized })
    }

    /// Type of the property with exactly that name.
    pub(crate) fn type_of(&self, name: &str) -> Option<PropertyType> {
        self.types.get(name).copied()
    }

    /// Returns the property that an unknown name was meant for: the same but for case, spaces, `_` and `-`, or, from six
    /// letters on, for one typo (a letter more, less or another, or two in the wrong order). Digits are never typos:
    /// `address2` is not `address1`.
    pub(crate) fn suggest(&self, name: &str) -> Option<&str> {
        if self.types.contains_key(name) {
            return None;
        }
        let normalized: Vec<char> = normalize_name(name).collect();
        let exact = self.normalized.iter().find(|(known, _)| *known == normalized);
        let typo = || self.normalized.iter().find(|(known, _)| is_typo(known, &normalized));
        exact.or_else(typo).map(|(_, name)| name.as_str())
    }
}

/// Whether two names are the same but for case, spaces, `_` and `-`, or for one typo in one of at least six letters.
pub fn is_similar_name(left: &str, right: &str) -> bool {
    let [left, right] = [left, right].map(|name| normalize_name(name).collect::<Vec<char>>());
    left == right || is_typo(&left, &right)
}

/// A name without case, spaces, characters that nobody sees, `_` and `-`.
pub(super) fn normalize_name(name: &str) -> impl Iterator<Item = char> {
    name.chars().filter(|c| !is_blank(*c) && !matches!(c, '_' | '-')).flat_map(char::to_lowercase)
}

fn is_typo<'a>(left: &'a [char], right: &'a [char]) -> bool {
    if left.len().min(right.len()) < MIN_TYPO_LEN {
        return false;
    }
    let prefix_len = left.iter().zip(right).take_while(|(a, b)| a == b).count();
    let (left, right) = (left.get(prefix_len..).unwrap_or_default(), right.get(prefix_len..).unwrap_or_default());
    let suffix_len = left.iter().rev().zip(right.iter().rev()).take_while(|(a, b)| a == b).count();
    let without_suffix = |rest: &'a [char]| rest.get(..rest.len() - suffix_len).unwrap_or_default();
    match (without_suffix(left), without_suffix(right)) {
        ([letter], []) | ([], [letter]) => !letter.is_numeric(),
        ([a], [b]) => !a.is_numeric() && !b.is_numeric(),
        ([a, b], [c, d]) => a == d && b == c && !a.is_numeric() && !b.is_numeric(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> ContactSchema {
        ContactSchema::parse(
            br#"[{"key":"companyName","label":"Company name","type":"string"},{"key":"seats","type":"number"},
                 {"key":"address1","type":"string"},{"key":"version12","type":"string"},{"key":"renewsAt","type":"date"},{"key":"vip","type":"boolean"},
                 {"key":"__domain","type":"string"},{"key":"new","type":"colour"},{"key":"firstName","type":"string"}]"#,
        )
        .unwrap()
    }

    #[test]
    fn property_list_is_parsed_with_types() {
        for (name, kind) in [
            ("companyName", Some(PropertyType::Text)),
            ("seats", Some(PropertyType::Number)),
            ("renewsAt", Some(PropertyType::Date)),
            ("vip", Some(PropertyType::Boolean)),
            ("new", Some(PropertyType::Other)),
            ("userId", Some(PropertyType::Text)),
            ("__domain", None),
            ("Seats", None),
        ] {
            assert_eq!(schema().type_of(name), kind, "{name}");
        }
    }

    #[test]
    fn invalid_property_list_is_none() {
        for body in ["", "{}", "[]", "null", "[1]", r#"[{"type":"string"}]"#, r#"{"success":false}"#, "<html>"] {
            assert_eq!(ContactSchema::parse(body.as_bytes()), None, "{body}");
        }
    }

    #[test]
    fn misspelt_property_name_suggests_known_name() {
        for (name, suggestion) in [
            ("CompanyName", Some("companyName")),
            ("company_name", Some("companyName")),
            ("Company Name", Some("companyName")),
            ("compnayName", Some("companyName")),
            ("companyNames", Some("companyName")),
            ("comanyName", Some("companyName")),
            ("Email", Some("email")),
            ("user_id", Some("userId")),
            ("Mailing Lists", Some("mailingLists")),
            ("SEATS", Some("seats")),
            ("company\u{200b}Name", Some("companyName")),
            ("renewAt", Some("renewsAt")),
            // Names of properties, and other words.
            ("companyName", None),
            ("seat", None),
            ("address2", None),
            ("version21", None),
            ("versoin12", Some("version12")),
            ("address", None),
            ("companyDomain", None),
            ("wip", None),
            ("", None),
        ] {
            assert_eq!(schema().suggest(name), suggestion, "{name}");
        }
    }
}
