//! The table of rows, without any program around the rules.

use std::path::Path;

use relay_core::error::RequestError;
use relay_core::idempotency::{self, IdempotencyKey};
use relay_core::row::schema::ContactSchema;
use relay_core::row::{Row, RowKind, RowOptions};

use crate::row_cases::{Case, Expected, groups};

/// The row as a handler cleans it: options, key, body, in this order.
fn clean(case: &Case, properties: Option<&ContactSchema>) -> Result<Row, RequestError> {
    let kind = if case.event { RowKind::Event } else { RowKind::Contact };
    let options = RowOptions::from_query(&case.query)?;
    let key = case.headers.iter().find(|(name, _)| case.event && name.eq_ignore_ascii_case(idempotency::HEADER));
    key.map(|(_, key)| IdempotencyKey::from_header(key.as_bytes())).transpose()?;
    Row::clean_with_schema(kind, case.row.as_bytes(), options, properties)
}

fn body_of(row: &Row) -> String {
    String::from_utf8_lossy(&row.to_body()).into_owned()
}

/// What is not as the case says, or nothing.
fn difference(case: &Case, properties: Option<&ContactSchema>) -> Option<String> {
    match (clean(case, properties), &case.expected) {
        (Ok(row), Expected::Sent(body)) => {
            let sent = body_of(&row);
            let adjusted = case.adjusted.as_ref().is_none_or(|adjusted| adjusted == row.adjusted());
            (sent != *body || !adjusted).then(|| format!("is sent as {sent}, adjusted {:?}", row.adjusted()))
        }
        (Err(refusal), Expected::Rejected { code, field, says, .. }) => {
            let alike = refusal.code().as_str() == code
                && refusal.field() == field.as_deref()
                && says.iter().all(|words| refusal.message().contains(words));
            (!alike).then(|| format!("is refused with {refusal:?}"))
        }
        (Ok(row), _) => Some(format!("is sent as {}", body_of(&row))),
        (Err(refusal), _) => Some(format!("is refused with {refusal:?}")),
    }
}

#[test]
fn every_row_of_the_table_is_sent_or_refused_as_it_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/rows");
    let (mut cases, mut wrong) = (0, Vec::new());
    for group in groups(&folder) {
        let properties = group.properties.map(|list| ContactSchema::read(list.to_string().as_bytes()).unwrap());
        for case in group.cases {
            cases += 1;
            let case = case.with_id(&format!("7000{cases}"));
            let difference = difference(&case, properties.as_ref());
            wrong.extend(difference.map(|difference| format!("{} {difference}", case.name)));
        }
    }
    assert!(wrong.is_empty(), "{} of {cases}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(cases >= 120, "{cases}");
}
