//! `setup`: fills in the secrets, checked first, rotates them without a gap, and tells what to paste where.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use clap::Args;
use relay::config::names::{CLAY_WEBHOOK_AUTH_TOKEN, CLAY_WEBHOOK_URL, LOOPS_API_KEY, LOOPS_SIGNING_SECRET};
use relay_core::secret::{ExposeSecret as _, SecretString};

use crate::error::Error;
use crate::exit::ExitStatus;
use crate::local::relay::LocalRelay;
use crate::output::Output;
use crate::progress;
use crate::setup::documents::{SecretDocuments, SecretList, SecretSelector, fingerprint};
use crate::setup::error::SetupError;
use crate::setup::input::SetupInput;
use crate::setup::key_check::{KeyCheck, check_key};
use crate::setup::report::{CopyPaste, MissingText, SetupReport, summarize_secrets};
use crate::setup::secret_store::SecretStore;
use crate::setup::{INPUT_NAMES, prompt};
use crate::target::{Options, Target};

/// What `setup` is told.
#[derive(Debug, Clone, Args)]
#[command(after_help = VALUES)]
pub(crate) struct SetupArguments {
    /// Read the values from a file (- for standard input) instead of asking for them
    #[arg(long, value_name = "FILE")]
    pub(crate) from: Option<PathBuf>,
    /// The route that the Clay webhooks belong to [default: the only one]
    #[arg(long, value_name = "NAME")]
    pub(crate) route: Option<String>,
    /// Change nothing: list what is there, by positions and fingerprints
    #[arg(long, group = "action", conflicts_with_all = ["from", "route"])]
    pub(crate) list: bool,
    /// Add a new relay token, which this makes
    #[arg(long, group = "action", conflicts_with_all = ["from", "route"])]
    pub(crate) add_relay_token: bool,
    /// Take out a relay token, by its position or fingerprint
    #[arg(long, group = "action", value_name = "WHICH", conflicts_with_all = ["from", "route"])]
    pub(crate) retire_relay_token: Option<SecretSelector>,
    /// Add a signing secret beside those that are there
    #[arg(long, group = "action", conflicts_with = "route")]
    pub(crate) add_signing_secret: bool,
    /// Take out a signing secret, by its position or fingerprint
    #[arg(long, group = "action", value_name = "WHICH", conflicts_with_all = ["from", "route"])]
    pub(crate) retire_signing_secret: Option<SecretSelector>,
    /// Add a Clay webhook to the pool of its route
    #[arg(long, group = "action")]
    pub(crate) add_clay_webhook: bool,
    /// Take out a Clay webhook, by its position or fingerprint
    #[arg(long, group = "action", value_name = "WHICH", conflicts_with = "from")]
    pub(crate) retire_clay_webhook: Option<SecretSelector>,
    /// Show the relay tokens themselves, also where the output is no terminal
    #[arg(long)]
    pub(crate) show_token: bool,
    /// Take out the last one too, which closes its route; put Clay webhooks, their tokens or signing secrets in place of
    /// those that are there
    #[arg(long)]
    pub(crate) force: bool,
}

const VALUES: &str = "\
Values (typed without an echo; with --from a JSON object of texts or lists, or lines NAME=VALUE):
  LOOPS_API_KEY            the key of your Loops account: Settings, API
  LOOPS_SIGNING_SECRET     what Loops shows under Settings, Webhooks
  CLAY_WEBHOOK_URL         the URL of your Clay webhook (several: a pool, comma-separated)
  CLAY_WEBHOOK_AUTH_TOKEN  its token (one for all, or one for each URL)
What is not given stays as it is. Clay webhooks that are there, and tokens or signing secrets where there are several, go only by --force, --retire-clay-webhook or --retire-signing-secret. The key is checked with Loops first; nothing is written unless all is well.
A relay token is shown where it is made, on a terminal; --show-token shows all of them, anywhere.";

/// The options that add what they are given.
const ADD_SIGNING_SECRET: &str = "--add-signing-secret";
const ADD_CLAY_WEBHOOK: &str = "--add-clay-webhook";
/// What relay-local calls its only route.
const LOCAL_ROUTE: &str = "default";

/// What was done beside the documents.
#[derive(Debug, Default)]
struct SideEffects {
    loops_team: Option<String>,
    new_token: Option<SecretString>,
    notes: Vec<String>,
}

/// Fills in the secrets.
pub(crate) async fn run(options: &Options, arguments: &SetupArguments, output: Output) -> Result<ExitStatus, Error> {
    // What only looks or takes out needs a folder that is there.
    let creates_data_dir = arguments.retire_relay_token.is_none()
        && arguments.retire_signing_secret.is_none()
        && arguments.retire_clay_webhook.is_none()
        && !arguments.list;
    match options.local_data_dir().filter(|_| creates_data_dir) {
        Some(data_dir) => {
            let local = LocalRelay::load_for_repair(LocalRelay::create_data_dir(data_dir)?)?;
            apply_setup(SecretStore::Local(&local), options, arguments, output).await
        }
        None => match options.target().await? {
            Target::Stack(target) => apply_setup(SecretStore::Stack(&target), options, arguments, output).await,
            Target::Local(data_dir) => {
                apply_setup(SecretStore::Local(&LocalRelay::load_for_repair(data_dir)?), options, arguments, output)
                    .await
            }
        },
    }
}

async fn apply_setup(
    secret_store: SecretStore<'_>,
    options: &Options,
    arguments: &SetupArguments,
    output: Output,
) -> Result<ExitStatus, Error> {
    let names = secret_store.secret_names()?;
    let names = [names[0].as_str(), names[1].as_str()];
    let paste = CopyPaste::for_store(secret_store)?;
    let mut side_effects = SideEffects::default();
    if !arguments.list {
        secret_store.ensure_relay_token()?;
    }
    let current = secret_store.load().await?;
    let input = collect_input(&current, arguments, secret_store, &mut side_effects, output).await?;
    // Read again: somebody may have changed it while it was typed.
    let before = secret_store.load().await?;
    let mut after = before.clone();
    apply_changes(&mut after, &input, arguments, secret_store, &mut side_effects)?;
    let written = if before == after {
        Vec::new()
    } else {
        after.parse_as_relay(names)?;
        secret_store.save(&before, &after).await?
    };
    let is_first_key = before.api_key().is_none() && after.api_key().is_some();
    follow_up_notes(secret_store, &written, is_first_key, &mut side_effects)?;
    // The new one on a terminal, all of them where that was asked for: a log or a pipe gets none by accident.
    let is_terminal = std::io::stdout().is_terminal();
    let is_new_token = |token: &SecretString| {
        side_effects.new_token.as_ref().is_some_and(|new| new.expose_secret() == token.expose_secret())
    };
    let relay_tokens = summarize_secrets(&after, SecretList::RelayTokens, |token| {
        arguments.show_token || (is_terminal && is_new_token(token))
    });
    let report = SetupReport {
        written,
        loops_api_key: after.api_key().is_some(),
        signing_secrets: summarize_secrets(&after, SecretList::SigningSecrets, |_| false),
        relay_tokens,
        clay_routes: after.routes(),
        loops_team: side_effects.loops_team,
        paste,
        notes: side_effects.notes,
        command_line: options.command_line(),
        missing_text: MissingText::for_store(secret_store),
    };
    output.print_json(&report)?;
    output.print(report.render())?;
    Ok(ExitStatus::Ok)
}

/// What is to be put in: nothing, where something is only listed, made or taken out.
async fn collect_input(
    current: &SecretDocuments,
    arguments: &SetupArguments,
    secret_store: SecretStore<'_>,
    side_effects: &mut SideEffects,
    output: Output,
) -> Result<SetupInput, Error> {
    let (option, accepted) = accepted_values(arguments);
    let prompts_nothing = arguments.list
        || arguments.add_relay_token
        || arguments.retire_relay_token.is_some()
        || arguments.retire_signing_secret.is_some()
        || arguments.retire_clay_webhook.is_some();
    let stored_key = current.api_key();
    match &arguments.from {
        _ if prompts_nothing => Ok(SetupInput::default()),
        Some(path) => {
            let input = SetupInput::from_file(path)?;
            if input.is_empty() {
                return Err(SetupError::NoInput.into());
            }
            input.check_allowed(option, accepted)?;
            input.check_not_api_key(stored_key.as_ref())?;
            check_api_key(secret_store, &input, side_effects, output).await?;
            Ok(input)
        }
        None => {
            let preview = |input: &SetupInput| {
                let mut after = current.clone();
                apply_changes(&mut after, input, arguments, secret_store, &mut SideEffects::default()).map(|()| after)
            };
            let hint = |name: &str, input: &SetupInput| {
                prompt_hint(name, preview(input).as_ref().unwrap_or(current), arguments)
            };
            let check = async |name: &str, given: &SetupInput| {
                given.check_not_api_key(stored_key.as_ref())?;
                preview(given)?;
                if name == LOOPS_API_KEY {
                    check_api_key(secret_store, given, side_effects, output).await
                } else {
                    Ok(())
                }
            };
            prompt::prompt_values(accepted, hint, check).await
        }
    }
}

/// What there is of a value.
fn prompt_hint(name: &str, current: &SecretDocuments, arguments: &SetupArguments) -> &'static str {
    let routes = current.routes();
    let mut webhooks = routes.iter().flat_map(|route| &route.webhooks);
    let is_configured = match name {
        LOOPS_API_KEY => current.api_key().is_some(),
        LOOPS_SIGNING_SECRET => !current.list(SecretList::SigningSecrets).is_empty(),
        CLAY_WEBHOOK_URL => webhooks.next().is_some(),
        _ => webhooks.any(|webhook| webhook.has_token),
    };
    match name {
        CLAY_WEBHOOK_AUTH_TOKEN if arguments.add_clay_webhook => "Enter for none",
        _ if arguments.add_signing_secret || arguments.add_clay_webhook => "a new one",
        _ if is_configured => "filled in; Enter keeps it",
        _ => "not filled in",
    }
}

/// Which values are taken, and the option that says so.
const fn accepted_values(arguments: &SetupArguments) -> (&'static str, &'static [&'static str]) {
    if arguments.add_signing_secret {
        (ADD_SIGNING_SECRET, &[LOOPS_SIGNING_SECRET])
    } else if arguments.add_clay_webhook {
        (ADD_CLAY_WEBHOOK, &[CLAY_WEBHOOK_URL, CLAY_WEBHOOK_AUTH_TOKEN])
    } else {
        ("setup", &INPUT_NAMES)
    }
}

async fn check_api_key(
    secret_store: SecretStore<'_>,
    input: &SetupInput,
    side_effects: &mut SideEffects,
    output: Output,
) -> Result<(), Error> {
    let Some(key) = &input.api_key else { return Ok(()) };
    let client = relay::destination::http_client::build()?;
    let spinner = progress::spinner(output.is_json(), "Loops checks the API key");
    let key_check = check_key(&client, secret_store.loops_api_url(), key).await;
    spinner.finish_and_clear();
    let unreachable = |detail: String| SetupError::LoopsUnreachable { detail }.into();
    match key_check {
        KeyCheck::Valid(team) => side_effects.loops_team = Some(team),
        KeyCheck::Rejected => return Err(SetupError::LoopsKeyRejected.into()),
        KeyCheck::UnexpectedStatus(status) => return Err(unreachable(format!("it answered {status}"))),
        KeyCheck::NoResponse => return Err(unreachable("it did not answer".to_owned())),
    }
    Ok(())
}

fn apply_changes(
    documents: &mut SecretDocuments,
    input: &SetupInput,
    arguments: &SetupArguments,
    secret_store: SecretStore<'_>,
    side_effects: &mut SideEffects,
) -> Result<(), SetupError> {
    if arguments.list {
        return Ok(());
    }
    for (list, selector) in [
        (SecretList::RelayTokens, &arguments.retire_relay_token),
        (SecretList::SigningSecrets, &arguments.retire_signing_secret),
    ] {
        if let Some(which) = selector {
            let retired = documents.retire(list, which, arguments.force)?;
            side_effects.notes.push(format!("The {} {retired} is retired.", list.singular()));
            return Ok(());
        }
    }
    // A data folder has one route, which has no name there.
    let route = arguments.route.as_deref().or(matches!(secret_store, SecretStore::Local(_)).then_some(LOCAL_ROUTE));
    for secret in input.unprefixed_signing_secrets() {
        let secret_fingerprint = fingerprint(secret.expose_secret());
        side_effects.notes.push(format!(
            "The signing secret {secret_fingerprint} has no whsec_ before it, as Loops shows them: see that it is one, with a test event."
        ));
    }
    if let Some(selector) = &arguments.retire_clay_webhook {
        let retired = documents.retire_webhook(route, selector, arguments.force)?;
        side_effects.notes.push(format!("The Clay webhook {retired} is retired."));
        return Ok(());
    }
    if arguments.add_clay_webhook {
        let missing = SetupError::MissingValue { option: ADD_CLAY_WEBHOOK, name: CLAY_WEBHOOK_URL };
        let urls = input.urls.as_deref().ok_or(missing)?;
        return documents.add_webhooks(route, urls, input.tokens.as_deref(), &secret_store.events());
    }
    if arguments.add_signing_secret {
        let missing = SetupError::MissingValue { option: ADD_SIGNING_SECRET, name: LOOPS_SIGNING_SECRET };
        for secret in input.signing_secrets.as_deref().ok_or(missing)? {
            documents.add(SecretList::SigningSecrets, secret);
        }
        return Ok(());
    }
    if let Some(key) = &input.api_key {
        documents.set_api_key(key);
    }
    if let Some(secrets) = &input.signing_secrets {
        for replaced in documents.set_signing_secrets(secrets, arguments.force)? {
            side_effects.notes.push(format!(
                "The signing secret {replaced} is replaced: what Loops still signs with it is refused from now on."
            ));
        }
    }
    let (urls, tokens) = (input.urls.as_deref(), input.tokens.as_deref());
    documents.set_webhooks(route, urls, tokens, &secret_store.events(), arguments.force)?;
    if arguments.add_relay_token || (!input.is_empty() && documents.list(SecretList::RelayTokens).is_empty()) {
        let token = SecretString::from(format!("relay_{}", hex::encode(rand::random::<[u8; 24]>())));
        documents.add(SecretList::RelayTokens, &token);
        let token_fingerprint = fingerprint(token.expose_secret());
        side_effects.notes.push(format!(
            "The relay token {token_fingerprint} is new: put it into Clay's columns, then retire the old one."
        ));
        side_effects.new_token = Some(token);
    }
    Ok(())
}

fn follow_up_notes(
    secret_store: SecretStore<'_>,
    written: &[String],
    is_first_key: bool,
    side_effects: &mut SideEffects,
) -> Result<(), Error> {
    match secret_store {
        SecretStore::Stack(target) if !written.is_empty() => {
            let seconds = target.stack.parameter("SecretTtlSeconds").unwrap_or("300");
            side_effects.notes.push(format!("The functions read the secrets again within {seconds} seconds."));
            side_effects.notes.push("A new key, token or signing secret works within half a minute.".to_owned());
            side_effects.notes.push("Held deliveries are tried again within 15 minutes.".to_owned());
        }
        SecretStore::Local(local) => {
            if !written.is_empty() && local.is_running()? {
                side_effects.notes.push(
                    "A relay is running on this folder: it takes it up within a second, and tries what is held at once."
                        .to_owned(),
                );
                if is_first_key {
                    side_effects.notes.push(
                        "Where it was started without a key, it simulates Loops until it is started again.".to_owned(),
                    );
                }
            }
            if !local.is_public() {
                side_effects.notes.push(format!(
                    "Loops and Clay cannot reach {}, an address of this machine or its own network: lead a tunnel or a proxy \
                     with a public https address to it, and paste that address in its place, with the same paths.",
                    local.base_url()
                ));
            }
            if !local.env_overrides.is_empty() {
                let names = local.env_overrides.join(", ");
                side_effects
                    .notes
                    .push(format!("The environment sets {names} as well, and wins: unset it to use what is stored."));
            }
        }
        SecretStore::Stack(_) => {}
    }
    Ok(())
}
