//! The relay as a program, against everything that its contract says.

mod answers;
mod answers_direct;
mod answers_holds;
mod answers_loops;
mod cleaning;
mod commands;
mod durability;
mod pace;
mod rows;
mod start;
mod webhooks;
