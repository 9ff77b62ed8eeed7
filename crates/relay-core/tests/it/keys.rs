//! The published keys of events, which `tests/fixtures/event_keys/derive.py` derives a second time from their description.

use std::collections::BTreeSet;
use std::path::Path;

use relay_core::idempotency::IdempotencyKey;
use relay_core::row::{Row, RowKind, RowOptions};
use serde_json::Value;

#[test]
fn published_events_have_published_keys() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/event_keys/vectors.json");
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let vectors = file["vectors"].as_array().unwrap();
    let mut keys = BTreeSet::new();
    for vector in vectors {
        let text = |name: &str| vector[name].as_str().unwrap();
        let row = Row::clean(RowKind::Event, text("row").as_bytes(), RowOptions::default(), None).unwrap();
        assert_eq!(String::from_utf8(row.to_body()).unwrap(), text("sent"), "{}", text("name"));
        let name = row.event_name().unwrap();
        let key = IdempotencyKey::derive(name, row.email(), row.user_id(), row.event_properties());
        assert_eq!(key.as_str(), text("key"), "{}", text("name"));
        keys.insert(key.as_str().to_owned());
    }
    // Nine spellings of the page's example are one event, and so are two of booleans and of a number; no others are.
    assert_eq!((vectors.len(), keys.len()), (29, 19));
}
