//! Failure counts of a delivery: how often each reason occurred.
//!
//! An attribute for each reason, named `failed#<reason>#<status>` (the status is 0 if there was no response). Counting is an
//! `ADD` in the update that ends an attempt, without a further call. The attempts of a waiting caller count once, by their
//! last reason. The counts stay when a dead-lettered row is run again.

use std::collections::BTreeMap;

use relay_core::delivery::{Reason, ReasonCode};

use crate::ledger::table::{Item, Update, number_attr};

const COUNTER_PREFIX: &str = "failed#";

/// Counts a failure.
pub(crate) fn add_failure(update: Update, reason: Reason) -> Update {
    update.count(format!("{COUNTER_PREFIX}{}#{}", reason.code.as_str(), reason.status.unwrap_or_default()))
}

/// Returns the counts of the reasons that this version knows.
pub fn known_counts(item: &Item) -> BTreeMap<(String, Option<u16>), u64> {
    let known = all_counts(item).filter(|(code, ..)| ReasonCode::parse(code).is_some());
    known.map(|(code, status, count)| ((code.to_owned(), status), count)).collect()
}

/// Returns all counts of an item as reason, status and number, in no order.
pub(crate) fn all_counts(item: &Item) -> impl Iterator<Item = (&str, Option<u16>, u64)> {
    item.keys().filter_map(|name| {
        let (code, status) = name.strip_prefix(COUNTER_PREFIX)?.rsplit_once('#')?;
        let count = u64::try_from(number_attr(item, name)?).ok()?;
        Some((code, status.parse().ok().filter(|status| *status > 0), count))
    })
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::types::AttributeValue;

    use super::*;

    #[test]
    fn known_counts_skip_unknown_reasons_and_other_attributes() {
        let number = |value: &str| AttributeValue::N(value.to_owned());
        let item = Item::from([
            ("failed#destination_failed#503".to_owned(), number("4")),
            ("failed#timed_out#0".to_owned(), number("2")),
            ("failed#of another relay#1".to_owned(), number("2")),
            ("attempts".to_owned(), number("7")),
        ]);
        let expected = [(("destination_failed".to_owned(), Some(503)), 4), (("timed_out".to_owned(), None), 2)];
        assert_eq!(known_counts(&item), BTreeMap::from(expected));
    }
}
