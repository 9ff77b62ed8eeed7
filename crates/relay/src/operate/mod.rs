//! What an operator does with dead letters, without a word of how it is shown.

pub mod action;
pub mod outcome;
pub mod selection;
