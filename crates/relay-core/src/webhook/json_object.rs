//! A JSON object whose values are not judged.
//!
//! Loops adds fields without notice, and a contact's own properties may hold what a strict reader refuses: numbers of
//! any size, repeated keys, half a surrogate pair. None of that may lose a contact, so only what the relay needs is
//! read, and everything else is only passed over.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The fields of a JSON object, unread. Of a repeated key the last one counts.
#[derive(Debug)]
pub(crate) struct JsonObject<'a>(BTreeMap<Key<'a>, &'a RawValue>);

impl<'a> JsonObject<'a> {
    /// Reads a JSON object, or nothing where the text is not one.
    pub(crate) fn parse(json: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }

    /// Whether there is such a field, whatever it holds.
    pub(crate) fn contains_key(&self, name: &str) -> bool {
        self.get_raw(name).is_some()
    }

    /// The field as text, where it is a text.
    pub(crate) fn get_string(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.get_raw(name)?.get()).ok()
    }

    /// The field as an object, where it is one.
    pub(crate) fn get_object(&self, name: &str) -> Option<JsonObject<'a>> {
        JsonObject::parse(self.get_raw(name)?.get().as_bytes())
    }

    fn get_raw(&self, name: &str) -> Option<&'a RawValue> {
        self.0.get(&Key(Cow::Borrowed(name.as_bytes()))).copied()
    }
}

/// A key as bytes: a text with half a surrogate pair in it is no Rust string, and still a key to pass over.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key<'a>(Cow<'a, [u8]>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_bytes<E: de::Error>(self, bytes: &'de [u8]) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(bytes)))
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(bytes.to_vec())))
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(text.as_bytes())))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(text.as_bytes().to_vec())))
            }
        }
        deserializer.deserialize_bytes(KeyVisitor)
    }
}

impl<'de> Deserialize<'de> for JsonObject<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct JsonObjectVisitor;
        impl<'de> Visitor<'de> for JsonObjectVisitor {
            type Value = JsonObject<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<JsonObject<'de>, A::Error> {
                let mut fields = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<Key<'de>, &'de RawValue>()? {
                    fields.insert(key, value);
                }
                Ok(JsonObject(fields))
            }
        }
        deserializer.deserialize_map(JsonObjectVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_key_uses_last_value() {
        assert_eq!(JsonObject::parse(br#"{"a":"x","a":"y"}"#).unwrap().get_string("a").as_deref(), Some("y"));
    }

    #[test]
    fn unused_malformed_values_are_ignored() {
        let malformed = br#"{"\ud800":"\udfff","n":1e999,"m":123456789012345678901,"a":"x"}"#;
        assert_eq!(JsonObject::parse(malformed).unwrap().get_string("a").as_deref(), Some("x"));
    }

    #[test]
    fn escaped_key_is_found() {
        assert_eq!(JsonObject::parse(br#"{"\u0061":"x"}"#).unwrap().get_string("a").as_deref(), Some("x"));
    }

    #[test]
    fn deeply_nested_value_is_skipped() {
        let deep = format!(r#"{{"d":{}{},"a":"x"}}"#, "[".repeat(50_000), "]".repeat(50_000));
        assert_eq!(JsonObject::parse(deep.as_bytes()).unwrap().get_string("a").as_deref(), Some("x"));
    }

    #[test]
    fn non_object_is_none() {
        for json in ["[]", "null", "\"a\"", "1", "", "{", "{\"a\":1}x", "{'a':1}"] {
            assert!(JsonObject::parse(json.as_bytes()).is_none(), "{json}");
        }
        assert!(JsonObject::parse(b"{\"a\":\"\xff\"}").is_none());
    }
}
