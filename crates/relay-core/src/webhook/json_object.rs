//! A JSON object of which only the needed fields are parsed.
//!
//! Loops adds fields without notice, and a contact's own properties may hold what a strict parser rejects: numbers of
//! any size, repeated keys, half a surrogate pair. None of that may lose a contact, so everything else is skipped.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::json_fields::JsonFields;

/// The fields of a JSON object. Of a repeated key the last one counts.
pub(crate) struct JsonObject<'a>(BTreeMap<String, &'a RawValue>);

impl<'a> JsonObject<'a> {
    /// Parses a JSON object; returns nothing if the text is not one.
    pub(crate) fn parse(json: &'a [u8]) -> Option<Self> {
        let JsonFields(fields) = serde_json::from_slice::<JsonFields<'a, &'a RawValue>>(json).ok()?;
        // A key with half a surrogate pair is no text, and none that the relay looks for.
        let named = fields.into_iter().filter_map(|(key, value)| Some((serde_json::from_str(key.get()).ok()?, value)));
        Some(Self(named.collect()))
    }

    pub(crate) fn contains_key(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Returns the field if it is a text.
    pub(crate) fn get_string(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.0.get(name)?.get()).ok()
    }

    /// Returns the field if it is an object.
    pub(crate) fn get_object(&self, name: &str) -> Option<JsonObject<'a>> {
        JsonObject::parse(self.0.get(name)?.get().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    use super::*;

    /// Pieces of a key or of more fields, most of which are JSON.
    const PIECES: &[&[u8]] = &[
        b"x",
        b"\\u0000",
        b"\\ud800",
        b"\\\"",
        b"\0",
        b"\xff",
        b"\xc3\xa9",
        b"\\x",
        b"\n",
        b"\":1,\"",
        b"\":[\"\x01\"],\"",
        b"\":{\"b\":null},\"a",
    ];

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
    }

    #[test]
    fn keys_and_values_that_are_not_json_are_none() {
        let malformed: [&[u8]; 8] = [
            b"{\"a\":\"\xff\"}",
            b"{\"a\xff\":1}",
            b"{\"a\0b\":1}",
            b"{\"a\nb\":1}",
            b"{\"a\":\"\x1f\"}",
            b"{\"a\":{\"b\0\":1}}",
            b"{\"a\":[{\"b\xff\":1}]}",
            b"{\"a\\x\":1}",
        ];
        for json in malformed {
            assert!(JsonObject::parse(json).is_none(), "{}", json.escape_ascii());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

        #[test]
        fn accepted_body_is_json_for_a_strict_reader(
            pieces in prop::collection::vec(prop::sample::select(PIECES), 0..8),
            noise in prop::collection::vec(any::<u8>(), 0..3),
        ) {
            let body = [b"{\"a".as_slice(), &pieces.concat(), &noise, b"\":1}"].concat();
            if JsonObject::parse(&body).is_some() {
                prop_assert!(std::str::from_utf8(&body).is_ok());
                prop_assert!(serde_json::from_slice::<IgnoredAny>(&body).is_ok());
            }
        }
    }
}
