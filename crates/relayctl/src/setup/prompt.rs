//! Asking a person on the terminal, without an echo: each value is checked where it is typed, and asked for again.

use std::collections::BTreeMap;
use std::io::{self, Write as _};

use relay_core::secret::SecretString;
use relay_sqlite::data_dir::config::{CLAY_WEBHOOK_AUTH_TOKEN, CLAY_WEBHOOK_URL, LOOPS_API_KEY, LOOPS_SIGNING_SECRET};

use crate::error::Fault;
use crate::setup::error::Refusal;
use crate::setup::input::Given;

/// How often a value is asked for.
const TIMES: usize = 3;

/// What is asked for, in this order.
const PROMPTS: [(&str, &str); 4] = [
    (LOOPS_API_KEY, "Loops API key (Loops: Settings, API)"),
    (LOOPS_SIGNING_SECRET, "Loops signing secret (Loops: Settings, Webhooks)"),
    (CLAY_WEBHOOK_URL, "Clay webhook URL (several: a pool, comma-separated)"),
    (CLAY_WEBHOOK_AUTH_TOKEN, "Clay webhook token (one for all URLs, or one for each)"),
];

/// Asks for those of the values that are `taken`. What is said of each is `hint`, by what was given before it; `check`
/// judges what was given up to the value of this name.
///
/// # Errors
/// When there is no terminal, the input ends, a value is wrong for the third time, or the check cannot be made.
pub async fn ask(
    taken: &[&str],
    hint: impl Fn(&str, &Given) -> &'static str,
    mut check: impl AsyncFnMut(&str, &Given) -> Result<(), Fault>,
) -> Result<Given, Fault> {
    let mut answers = BTreeMap::new();
    let mut given = Given::default();
    for (name, what) in PROMPTS.into_iter().filter(|(name, _)| taken.contains(name)) {
        let mut asked = 0;
        given = loop {
            asked += 1;
            answers.insert(name, prompt(&format!("{what} [{}]: ", hint(name, &given)))?);
            let checked = match Given::of(|name| answers.get(name).cloned()) {
                Ok(given) => check(name, &given).await.map(|()| given),
                Err(fault) => Err(fault),
            };
            match checked {
                Ok(given) => break given,
                Err(fault) if asked < TIMES && is_of_the_value(&fault) => writeln!(io::stderr(), "{fault}")?,
                Err(fault) => return Err(fault),
            }
        };
    }
    Ok(given)
}

fn prompt(text: &str) -> Result<SecretString, Fault> {
    rpassword::prompt_password(text).map(SecretString::from).map_err(|fault| match fault.kind() {
        io::ErrorKind::UnexpectedEof => Refusal::InputEnded.into(),
        _ => Fault::NoTerminal,
    })
}

/// Whether another value may be right.
const fn is_of_the_value(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::SigningSecret
            | Fault::ClayUrl
            | Fault::NotForAHeader { .. }
            | Fault::TokenCount { .. }
            | Fault::LoopsKeyRefused
            | Fault::Setup(_)
    )
}
