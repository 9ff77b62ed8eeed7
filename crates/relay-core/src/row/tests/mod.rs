//! Tests of the whole cleaning of a row.

mod contract;
mod properties;
mod text_properties;
