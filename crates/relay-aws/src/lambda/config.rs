//! Names of the variables that the template sets for a function: its secret, queue and table.

use relay::config::env::{EnvReader, SettingError};

/// ARN of the secret for the direction from Loops to Clay.
pub const LOOPS_TO_CLAY_SECRET_ARN: &str = "LOOPS_TO_CLAY_SECRET_ARN";
/// ARN of the secret for the direction from Clay to Loops.
pub const CLAY_TO_LOOPS_SECRET_ARN: &str = "CLAY_TO_LOOPS_SECRET_ARN";
/// URL of the queue to Clay.
pub const CLAY_QUEUE_URL: &str = "CLAY_QUEUE_URL";
/// URL of the queue to Loops.
pub const LOOPS_QUEUE_URL: &str = "LOOPS_QUEUE_URL";
/// URL of the dead-letter queue behind the queue to Clay.
pub const CLAY_DEAD_LETTER_URL: &str = "CLAY_DEAD_LETTER_URL";
/// URL of the dead-letter queue behind the queue to Loops.
pub const LOOPS_DEAD_LETTER_URL: &str = "LOOPS_DEAD_LETTER_URL";
/// Name of the ledger's DynamoDB table.
pub const LEDGER_TABLE: &str = "LEDGER_TABLE";

/// Reads a variable that the template sets.
pub(crate) fn required(reader: &mut EnvReader<'_>, name: &'static str) -> String {
    match reader.raw(name) {
        Some(value) if !value.is_empty() => value.to_owned(),
        _ => {
            reader.push_error(SettingError {
                name,
                expected_format: "set, as the template does",
                example: "the output of the stack",
            });
            String::new()
        }
    }
}
