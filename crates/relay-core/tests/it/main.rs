//! The rules, tested with the tables that all programs of the relay are tested with.

mod keys;
#[expect(clippy::panic, unreachable_pub, reason = "the file belongs to the tests of the programs")]
#[path = "../../../relay-testkit/src/row_cases.rs"]
mod row_cases;
mod rows;
