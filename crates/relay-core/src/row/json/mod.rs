//! From a body to the fields of a row: JSON as Clay sends it, and where it is broken.

mod error_location;
pub(crate) mod lenient_json;
pub(super) mod parse;
mod scanner;
mod syntax_cause;
