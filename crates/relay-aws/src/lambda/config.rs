//! The settings of the functions: those that every relay has, and where their secrets, queues and table are.

use std::collections::BTreeMap;

use relay::config::env::{EnvReader, SettingError, SharedSettings};
use relay::destination::http_client::HttpClient;

use crate::sdk::clients::AwsClients;

/// The secret of the direction from Loops to Clay.
pub const LOOPS_TO_CLAY_SECRET_ARN: &str = "LOOPS_TO_CLAY_SECRET_ARN";
/// The secret of the direction from Clay to Loops.
pub const CLAY_TO_LOOPS_SECRET_ARN: &str = "CLAY_TO_LOOPS_SECRET_ARN";
/// The queue to Clay.
pub const CLAY_QUEUE_URL: &str = "CLAY_QUEUE_URL";
/// The queue to Loops.
pub const LOOPS_QUEUE_URL: &str = "LOOPS_QUEUE_URL";
/// The dead letters of the queue to Clay.
pub const CLAY_DEAD_LETTER_URL: &str = "CLAY_DEAD_LETTER_URL";
/// The dead letters of the queue to Loops.
pub const LOOPS_DEAD_LETTER_URL: &str = "LOOPS_DEAD_LETTER_URL";
/// The ledger's table.
pub const LEDGER_TABLE: &str = "LEDGER_TABLE";

/// What a function reads at its start.
#[derive(Debug)]
pub struct FunctionSettings<const N: usize> {
    /// Those that every relay has.
    pub shared: SharedSettings,
    /// Region, credentials and endpoint.
    pub clients: AwsClients,
    /// The variables that this function needs, in the order in which it named them.
    pub required: [String; N],
}

impl<const N: usize> FunctionSettings<N> {
    /// Reads the settings of a function that needs these variables.
    ///
    /// # Errors
    /// Every fault that was found.
    pub fn from_env(
        variables: &BTreeMap<String, String>,
        client: &HttpClient,
        required: [&'static str; N],
    ) -> Result<Self, Vec<SettingError>> {
        let mut reader = EnvReader::new(variables);
        let shared = SharedSettings::from_reader(&mut reader);
        let clients = AwsClients::from_env(&mut reader, client.clone());
        let required = required.map(|name| match reader.raw(name) {
            Some(value) if !value.is_empty() => value.to_owned(),
            _ => {
                reader.push_error(SettingError {
                    name,
                    expected_format: "set, as the template does",
                    example: "the output of the stack",
                });
                String::new()
            }
        });
        reader.into_result(Self { shared, clients, required })
    }
}
