//! The published keys of events and e-mails, which `tests/fixtures/event_keys/derive.py` derives a second time from their
//! description.

#![expect(clippy::unwrap_used, reason = "the file of vectors is as the test needs it, or the test fails")]

use std::collections::BTreeSet;
use std::path::Path;

use relay_core::row::{Row, RowKind, RowOptions};
use serde_json::Value;

/// Checks the vectors of a list, and returns how many there are, and how many keys.
fn check_vectors(list: &str, kind: RowKind) -> (usize, usize) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/event_keys/vectors.json");
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let vectors = file.get(list).unwrap().as_array().unwrap();
    let mut keys = BTreeSet::new();
    for vector in vectors {
        let text = |name: &str| vector[name].as_str().unwrap();
        let row = Row::clean(kind, text("row").as_bytes(), RowOptions::default(), None).unwrap();
        assert_eq!(String::from_utf8(row.to_body()).unwrap(), text("sent"), "{}", text("name"));
        let key = row.derive_key();
        assert_eq!(key.as_str(), text("key"), "{}", text("name"));
        keys.insert(key.as_str().to_owned());
    }
    (vectors.len(), keys.len())
}

#[test]
fn published_events_have_published_keys() {
    // Nine spellings of the page's example are one event, and so are two of booleans and of a number; no others are.
    assert_eq!(check_vectors("vectors", RowKind::Event), (29, 19));
}

#[test]
fn published_emails_have_published_keys() {
    // Three spellings of the first e-mail are one, and so are three of that with variables and two of a list of objects.
    assert_eq!(check_vectors("emails", RowKind::Email), (13, 8));
}
