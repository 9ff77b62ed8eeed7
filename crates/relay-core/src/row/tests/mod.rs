//! Tests of the whole cleaning of a row.

mod contract;
mod properties;
mod text_properties;

use proptest::prelude::*;

use super::{BlankPolicy, LongTextPolicy, RowKind, RowOptions};

fn kind() -> impl Strategy<Value = RowKind> {
    proptest::sample::select(vec![RowKind::Contact, RowKind::Event])
}

fn options() -> impl Strategy<Value = RowOptions> {
    let blank = proptest::sample::select(vec![BlankPolicy::Omit, BlankPolicy::Clear]);
    let long = proptest::sample::select(vec![LongTextPolicy::Reject, LongTextPolicy::Truncate]);
    (blank, long, any::<bool>()).prop_map(|(blank, long, dedupe)| RowOptions { blank, long, dedupe, dry_run: false })
}
