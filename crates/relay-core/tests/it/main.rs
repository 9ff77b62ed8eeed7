//! The rules against the tables that all programs of the relay are held to.

#[path = "../../../../tests/src/row_cases.rs"]
mod row_cases;
mod rows;
