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
use crate::setup::documents::{Documents, SecretList, SecretSelector, fingerprint};
use crate::setup::error::SetupError;
use crate::setup::held::Held;
use crate::setup::input::{NAMES, SetupInput};
use crate::setup::key_check::{KeyCheck, check_key};
use crate::setup::prompt;
use crate::setup::report::{CopyPaste, MissingText, SetupReport, shown};
use crate::setup::secret_store::SecretStore;
use crate::target::{Options, Target};

/// What `setup` is told.
#[derive(Debug, Clone, Args)]
#[command(after_help = VALUES)]
pub struct SetupArguments {
    /// Read the values from a file (- for standard input) instead of asking for them
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    /// The route that the Clay webhooks belong to [default: the only one]
    #[arg(long, value_name = "NAME")]
    pub route: Option<String>,
    /// Change nothing: list what is there, by positions and fingerprints
    #[arg(long, group = "action", conflicts_with_all = ["from", "route"])]
    pub list: bool,
    /// Add a new relay token, which this makes
    #[arg(long, group = "action", conflicts_with_all = ["from", "route"])]
    pub add_relay_token: bool,
    /// Take out a relay token, by its position or fingerprint
    #[arg(long, group = "action", value_name = "WHICH", conflicts_with_all = ["from", "route"])]
    pub retire_relay_token: Option<SecretSelector>,
    /// Add a signing secret beside those that are there
    #[arg(long, group = "action", conflicts_with = "route")]
    pub add_signing_secret: bool,
    /// Take out a signing secret, by its position or fingerprint
    #[arg(long, group = "action", value_name = "WHICH", conflicts_with_all = ["from", "route"])]
    pub retire_signing_secret: Option<SecretSelector>,
    /// Add a Clay webhook to the pool of its route
    #[arg(long, group = "action")]
    pub add_clay_webhook: bool,
    /// Take out a Clay webhook, by its position or fingerprint
    #[arg(long, group = "action", value_name = "WHICH", conflicts_with = "from")]
    pub retire_clay_webhook: Option<SecretSelector>,
    /// Show the relay tokens themselves, also where the output is no terminal
    #[arg(long)]
    pub show_token: bool,
    /// Take out the last one too, which closes its route; put Clay webhooks, their tokens or signing secrets in place of
    /// those that are there
    #[arg(long)]
    pub force: bool,
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
    team: Option<String>,
    new_token: Option<SecretString>,
    notes: Vec<String>,
}

/// Fills in the secrets.
///
/// # Errors
/// When what was given is wrong, or something cannot be read or written; nothing is written then, or it says what is.
pub async fn run(options: &Options, arguments: &SetupArguments, output: Output) -> Result<ExitStatus, Error> {
    // What only looks or takes out needs a folder that is there.
    let makes = arguments.retire_relay_token.is_none()
        && arguments.retire_signing_secret.is_none()
        && arguments.retire_clay_webhook.is_none()
        && !arguments.list;
    match options.local_folder().filter(|_| makes) {
        Some(folder) => {
            let local = LocalRelay::load_for_repair(LocalRelay::create_data_dir(folder)?)?;
            apply_setup(SecretStore::Local(&local), options, arguments, output).await
        }
        None => match options.target().await? {
            Target::Stack(target) => apply_setup(SecretStore::Stack(&target), options, arguments, output).await,
            Target::Local(folder) => {
                apply_setup(SecretStore::Local(&LocalRelay::load_for_repair(folder)?), options, arguments, output).await
            }
        },
    }
}

async fn apply_setup(
    keeping: SecretStore<'_>,
    options: &Options,
    arguments: &SetupArguments,
    output: Output,
) -> Result<ExitStatus, Error> {
    let names = keeping.names()?;
    let names = [names[0].as_str(), names[1].as_str()];
    let paste = CopyPaste::of(keeping)?;
    let mut done = SideEffects::default();
    if !arguments.list {
        keeping.generate()?;
    }
    let known = keeping.read().await?;
    let given = collect_input(&known, arguments, keeping, &mut done, output).await?;
    // Read again: somebody may have changed it while it was typed.
    let before = keeping.read().await?;
    let mut after = before.clone();
    change(&mut after, &given, arguments, keeping, &mut done)?;
    let written = if before == after {
        Vec::new()
    } else {
        after.parse_as_relay(names)?;
        keeping.write(&before, &after).await?
    };
    if let SecretStore::Stack(target) = keeping {
        let held = Held { target, quiet: output.is_json() };
        done.notes.extend(held.release_held(&written, names, &after).await);
    }
    let first_key = before.api_key().is_none() && after.api_key().is_some();
    follow_up_notes(keeping, &written, first_key, &mut done)?;
    // The new one on a terminal, all of them where that was asked for: a log or a pipe gets none by accident.
    let terminal = std::io::stdout().is_terminal();
    let made =
        |token: &SecretString| done.new_token.as_ref().is_some_and(|new| new.expose_secret() == token.expose_secret());
    let relay_tokens =
        shown(&after, SecretList::RelayTokens, |token| arguments.show_token || (terminal && made(token)));
    let report = SetupReport {
        written,
        loops_api_key: after.api_key().is_some(),
        signing_secrets: shown(&after, SecretList::SigningSecrets, |_| false),
        relay_tokens,
        clay_routes: after.routes(),
        loops_team: done.team,
        paste,
        notes: done.notes,
        program: options.command_line(),
        absent: MissingText::of(keeping),
    };
    output.print_json(&report)?;
    output.print(report.text())?;
    Ok(ExitStatus::Ok)
}

/// What is to be put in: nothing, where something is only listed, made or taken out.
async fn collect_input(
    known: &Documents,
    arguments: &SetupArguments,
    keeping: SecretStore<'_>,
    done: &mut SideEffects,
    output: Output,
) -> Result<SetupInput, Error> {
    let (option, taken) = accepted_values(arguments);
    let asks_nothing = arguments.list
        || arguments.add_relay_token
        || arguments.retire_relay_token.is_some()
        || arguments.retire_signing_secret.is_some()
        || arguments.retire_clay_webhook.is_some();
    let key = known.api_key();
    match &arguments.from {
        _ if asks_nothing => Ok(SetupInput::default()),
        Some(path) => {
            let given = SetupInput::from_file(path)?;
            if given.is_empty() {
                return Err(SetupError::NothingGiven.into());
            }
            given.check_allowed(option, taken)?;
            given.check_not_api_key(key.as_ref())?;
            check_api_key(keeping, &given, done, output).await?;
            Ok(given)
        }
        None => {
            let tried = |given: &SetupInput| {
                let mut after = known.clone();
                change(&mut after, given, arguments, keeping, &mut SideEffects::default()).map(|()| after)
            };
            let hint =
                |name: &str, given: &SetupInput| prompt_hint(name, tried(given).as_ref().unwrap_or(known), arguments);
            let check = async |name: &str, given: &SetupInput| {
                given.check_not_api_key(key.as_ref())?;
                tried(given)?;
                if name == LOOPS_API_KEY { check_api_key(keeping, given, done, output).await } else { Ok(()) }
            };
            prompt::prompt_values(taken, hint, check).await
        }
    }
}

/// What there is of a value.
fn prompt_hint(name: &str, known: &Documents, arguments: &SetupArguments) -> &'static str {
    let routes = known.routes();
    let mut webhooks = routes.iter().flat_map(|route| &route.webhooks);
    let filled = match name {
        LOOPS_API_KEY => known.api_key().is_some(),
        LOOPS_SIGNING_SECRET => !known.list(SecretList::SigningSecrets).is_empty(),
        CLAY_WEBHOOK_URL => webhooks.next().is_some(),
        _ => webhooks.any(|webhook| webhook.token),
    };
    match name {
        CLAY_WEBHOOK_AUTH_TOKEN if arguments.add_clay_webhook => "Enter for none",
        _ if arguments.add_signing_secret || arguments.add_clay_webhook => "a new one",
        _ if filled => "filled in; Enter keeps it",
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
        ("setup", &NAMES)
    }
}

async fn check_api_key(
    keeping: SecretStore<'_>,
    given: &SetupInput,
    done: &mut SideEffects,
    output: Output,
) -> Result<(), Error> {
    let Some(key) = &given.api_key else { return Ok(()) };
    let client = relay::destination::http_client::build()?;
    let spinner = progress::spinner(output.is_json(), "Loops checks the API key");
    let standing = check_key(&client, keeping.loops_api(), key).await;
    spinner.finish_and_clear();
    let unclear = |what: String| Error::LoopsUnreachable { what };
    match standing {
        KeyCheck::Valid(team) => done.team = Some(team),
        KeyCheck::Refused => return Err(Error::LoopsKeyRefused),
        KeyCheck::Unclear(status) => return Err(unclear(format!("it answered {status}"))),
        KeyCheck::NoAnswer => return Err(unclear("it did not answer".to_owned())),
    }
    Ok(())
}

fn change(
    documents: &mut Documents,
    given: &SetupInput,
    arguments: &SetupArguments,
    keeping: SecretStore<'_>,
    done: &mut SideEffects,
) -> Result<(), Error> {
    if arguments.list {
        return Ok(());
    }
    for (list, which) in [
        (SecretList::RelayTokens, &arguments.retire_relay_token),
        (SecretList::SigningSecrets, &arguments.retire_signing_secret),
    ] {
        if let Some(which) = which {
            let retired = documents.retire(list, which, arguments.force)?;
            done.notes.push(format!("The {} {retired} is retired.", list.singular()));
            return Ok(());
        }
    }
    // A data folder has one route, which has no name there.
    let route = arguments.route.as_deref().or(matches!(keeping, SecretStore::Local(_)).then_some(LOCAL_ROUTE));
    for secret in given.unprefixed_signing_secrets() {
        let known = fingerprint(secret.expose_secret());
        done.notes.push(format!(
            "The signing secret {known} has no whsec_ before it, as Loops shows them: see that it is one, with a test event."
        ));
    }
    if let Some(which) = &arguments.retire_clay_webhook {
        let retired = documents.retire_webhook(route, which, arguments.force)?;
        done.notes.push(format!("The Clay webhook {retired} is retired."));
        return Ok(());
    }
    if arguments.add_clay_webhook {
        let wanted = SetupError::MissingValue { option: ADD_CLAY_WEBHOOK, name: CLAY_WEBHOOK_URL };
        let urls = given.urls.as_deref().ok_or(wanted)?;
        return documents.add_webhooks(route, urls, given.tokens.as_deref(), &keeping.events());
    }
    if arguments.add_signing_secret {
        let wanted = SetupError::MissingValue { option: ADD_SIGNING_SECRET, name: LOOPS_SIGNING_SECRET };
        for secret in given.signing_secrets.as_deref().ok_or(wanted)? {
            documents.add(SecretList::SigningSecrets, secret);
        }
        return Ok(());
    }
    if let Some(key) = &given.api_key {
        documents.set_api_key(key);
    }
    if let Some(secrets) = &given.signing_secrets {
        for replaced in documents.set_signing_secrets(secrets, arguments.force)? {
            done.notes.push(format!(
                "The signing secret {replaced} is replaced: what Loops still signs with it is refused from now on."
            ));
        }
    }
    let (urls, tokens) = (given.urls.as_deref(), given.tokens.as_deref());
    documents.set_webhooks(route, urls, tokens, &keeping.events(), arguments.force)?;
    if arguments.add_relay_token || (!given.is_empty() && documents.list(SecretList::RelayTokens).is_empty()) {
        let token = SecretString::from(format!("relay_{}", hex::encode(rand::random::<[u8; 24]>())));
        documents.add(SecretList::RelayTokens, &token);
        let known = fingerprint(token.expose_secret());
        done.notes
            .push(format!("The relay token {known} is new: put it into Clay's columns, then retire the old one."));
        done.new_token = Some(token);
    }
    Ok(())
}

fn follow_up_notes(
    keeping: SecretStore<'_>,
    written: &[String],
    first_key: bool,
    done: &mut SideEffects,
) -> Result<(), Error> {
    match keeping {
        SecretStore::Stack(target) if !written.is_empty() => {
            let seconds = target.stack.parameter("SecretTtlSeconds").unwrap_or("300");
            done.notes.push(format!("The functions read the secrets again within {seconds} seconds."));
            done.notes.push("A new key, token or signing secret works within half a minute.".to_owned());
        }
        SecretStore::Local(local) => {
            if !written.is_empty() && local.is_running()? {
                done.notes.push(
                    "A relay is running on this folder: it takes it up within a second, and tries what is held at once."
                        .to_owned(),
                );
                if first_key {
                    done.notes.push(
                        "Where it was started without a key, it simulates Loops until it is started again.".to_owned(),
                    );
                }
            }
            if !local.is_public() {
                done.notes.push(format!(
                    "Loops and Clay cannot reach {}, an address of this machine or its own network: lead a tunnel or a proxy \
                     with a public https address to it, and paste that address in its place, with the same paths.",
                    local.base()
                ));
            }
            if !local.environment.is_empty() {
                let names = local.environment.join(", ");
                done.notes
                    .push(format!("The environment sets {names} as well, and wins: unset it to use what is stored."));
            }
        }
        SecretStore::Stack(_) => {}
    }
    Ok(())
}
