//! Prompts on the terminal, without an echo. Each value is checked where it is typed, and asked for again if it is wrong.

use std::collections::BTreeMap;
use std::io::{self, Write as _};

use relay::config::names::{CLAY_WEBHOOK_AUTH_TOKEN, CLAY_WEBHOOK_URL, LOOPS_API_KEY, LOOPS_SIGNING_SECRET};
use relay_core::secret::SecretString;

use crate::error::Error;
use crate::exit::ExitStatus;
use crate::explain::Explain as _;
use crate::setup::error::SetupError;
use crate::setup::input::SetupInput;

const MAX_TRIES: usize = 3;

/// The values and their labels, in the order of the prompts.
const PROMPTS: [(&str, &str); 4] = [
    (LOOPS_API_KEY, "Loops API key (Loops: Settings, API)"),
    (LOOPS_SIGNING_SECRET, "Loops signing secret (Loops: Settings, Webhooks)"),
    (CLAY_WEBHOOK_URL, "Clay webhook URL (several: a pool, comma-separated)"),
    (CLAY_WEBHOOK_AUTH_TOKEN, "Clay webhook token (one for all URLs, or one for each)"),
];

/// Prompts for the accepted values. `hint` and `check` get the name of a value and the input so far; the input that `check` gets
/// includes that value.
pub(crate) async fn prompt_values(
    accepted: &[&str],
    hint: impl Fn(&str, &SetupInput) -> &'static str,
    mut check: impl AsyncFnMut(&str, &SetupInput) -> Result<(), Error>,
) -> Result<SetupInput, Error> {
    let mut values = BTreeMap::new();
    let mut input = SetupInput::default();
    for (name, label) in PROMPTS.into_iter().filter(|(name, _)| accepted.contains(name)) {
        let mut tries = 0;
        input = loop {
            tries += 1;
            values.insert(name, prompt_secret(&format!("{label} [{}]: ", hint(name, &input)))?);
            let checked = match SetupInput::from_values(|name| values.get(name).cloned()) {
                Ok(input) => check(name, &input).await.map(|()| input),
                Err(error) => Err(error.into()),
            };
            match checked {
                Ok(input) => break input,
                Err(error) if tries < MAX_TRIES && is_retryable_input(&error) => writeln!(io::stderr(), "{error}")?,
                Err(error) => return Err(error),
            }
        };
    }
    Ok(input)
}

fn prompt_secret(text: &str) -> Result<SecretString, Error> {
    rpassword::prompt_password(text).map(SecretString::from).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => SetupError::InputEnded.into(),
        _ => SetupError::NoTerminal.into(),
    })
}

/// Whether another value may be right. None is where `--route` is missing.
fn is_retryable_input(error: &Error) -> bool {
    error.explain().exit_status == ExitStatus::Usage
        && !matches!(error, Error::Setup(SetupError::AmbiguousRoute { .. }))
}
