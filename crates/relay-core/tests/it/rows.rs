//! The table of rows, without a program around the rules.

use std::path::Path;

use relay_core::error::RequestError;
use relay_core::idempotency::{self, IdempotencyKey};
use relay_core::row::schema::ContactSchema;
use relay_core::row::{Row, RowKind, RowOptions};

use crate::row_cases::{Case, Expected, groups};

/// Cleans a row like a handler: options, key, body, in this order.
fn clean(case: &Case, schema: Option<&ContactSchema>) -> Result<Row, RequestError> {
    let kind = if case.event { RowKind::Event } else { RowKind::Contact };
    let options = RowOptions::from_query(&case.query)?;
    let keys = case.headers.iter().filter(|(name, _)| case.event && name.eq_ignore_ascii_case(idempotency::HEADER));
    IdempotencyKey::from_headers(keys.map(|(_, key)| key.as_bytes()))?;
    Row::clean(kind, case.row.as_bytes(), options, schema)
}

fn body_of(row: &Row) -> String {
    String::from_utf8_lossy(&row.to_body()).into_owned()
}

/// Returns the difference from the expected result, or nothing.
fn difference(case: &Case, schema: Option<&ContactSchema>) -> Option<String> {
    match (clean(case, schema), &case.expected) {
        (Ok(row), Expected::Sent(body)) => {
            let sent = body_of(&row);
            let adjusted = case.adjusted.as_ref().is_none_or(|adjusted| adjusted == row.adjusted());
            (sent != *body || !adjusted).then(|| format!("is sent as {sent}, adjusted {:?}", row.adjusted()))
        }
        (Err(error), Expected::Rejected { code, field, message_parts, .. }) => {
            let as_expected = error.code().as_str() == code
                && error.field() == field.as_deref()
                && message_parts.iter().all(|words| error.message().contains(words));
            (!as_expected).then(|| format!("is refused with {error:?}"))
        }
        (Ok(row), _) => Some(format!("is sent as {}", body_of(&row))),
        (Err(error), _) => Some(format!("is refused with {error:?}")),
    }
}

#[test]
fn row_table_cases_give_expected_result() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/rows");
    let (mut cases, mut failures) = (0, Vec::new());
    for group in groups(&folder) {
        let schema = group.properties.map(|list| ContactSchema::parse(list.to_string().as_bytes()).unwrap());
        for case in group.cases {
            cases += 1;
            let case = case.with_id(&format!("7000{cases}"));
            let difference = difference(&case, schema.as_ref());
            failures.extend(difference.map(|difference| format!("{} {difference}", case.name)));
        }
    }
    assert!(failures.is_empty(), "{} of {cases}:\n{}", failures.len(), failures.join("\n"));
    assert!(cases >= 370, "{cases}");
}
