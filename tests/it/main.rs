//! The relay as a program, against everything that its contract says.

mod answers;
mod answers_direct;
mod answers_holds;
mod answers_loops;
mod clay_columns;
mod commands;
mod durability;
mod pace;
mod paths;
mod row_answers;
mod row_table;
mod rows;
mod rows_keys;
mod rows_loops;
mod rows_queued;
mod start;
mod typed_properties;
mod webhooks;
mod webhooks_clay;
mod webhooks_signed;
