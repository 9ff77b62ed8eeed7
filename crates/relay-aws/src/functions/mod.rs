//! The composition root of each Lambda function.

pub mod clay_row;
