//! `setup`: fills in the secrets, checked first, rotates them without a gap, and shows what to paste where.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use clap::Args;
use relay::config::names::{CLAY_WEBHOOK_AUTH_TOKEN, CLAY_WEBHOOK_URL, LOOPS_API_KEY, LOOPS_SIGNING_SECRET};
use relay::destination::http_client;
use relay_core::secret::{ExposeSecret as _, SecretString};
use relay_core::token::{Scope, is_valid_name};
use relay_doctor::local_relay::LocalRelay;
use relay_doctor::loops_key::{KeyCheck, check_key};
use relay_doctor::urls::fingerprint;

use crate::error::Error;
use crate::exit::ExitStatus;
use crate::output::Output;
use crate::progress;
use crate::setup::documents::{SecretDocuments, SecretList, SecretSelector, TokenGrant};
use crate::setup::error::SetupError;
use crate::setup::input::SetupInput;
use crate::setup::report::{SetupReport, summarize_relay_tokens, summarize_signing_secrets};
use crate::setup::secret_store::SecretStore;
use crate::setup::{INPUT_NAMES, prompt};
use crate::target::{Options, Target};

/// Arguments of `setup`.
#[derive(Debug, Clone, Args)]
#[command(after_help = VALUES)]
pub(crate) struct SetupArguments {
    /// Read the values from a file (- for standard input) instead of asking for them
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// The route that the Clay webhooks belong to [default: the only one]
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    /// Change nothing: list what is there, by positions and fingerprints
    #[arg(long, group = "action", conflicts_with_all = ["from", "route"])]
    list: bool,
    /// Add a new relay token, which this makes
    #[arg(long, group = "action", conflicts_with_all = ["from", "route"])]
    add_relay_token: bool,
    /// The name of the new relay token, which the log shows for each row that comes with it
    #[arg(long, value_name = "NAME", requires = "add_relay_token", conflicts_with_all = OTHER_ACTIONS, value_parser = parse_token_name)]
    name: Option<String>,
    /// What the new relay token may do, comma-separated [default: contacts:write,events:send,deliveries:read]
    #[arg(long, value_name = "SCOPES", requires = "add_relay_token", conflicts_with_all = OTHER_ACTIONS, value_delimiter = ',', value_parser = parse_scope)]
    scopes: Vec<Scope>,
    /// Take out a relay token, by its position or fingerprint
    #[arg(long, group = "action", value_name = "WHICH", conflicts_with_all = ["from", "route"])]
    retire_relay_token: Option<SecretSelector>,
    /// Add a signing secret beside those that are there
    #[arg(long, group = "action", conflicts_with = "route")]
    add_signing_secret: bool,
    /// Take out a signing secret, by its position or fingerprint
    #[arg(long, group = "action", value_name = "WHICH", conflicts_with_all = ["from", "route"])]
    retire_signing_secret: Option<SecretSelector>,
    /// Add a Clay webhook to the pool of its route
    #[arg(long, group = "action")]
    add_clay_webhook: bool,
    /// Take out a Clay webhook, by its position or fingerprint
    #[arg(long, group = "action", value_name = "WHICH", conflicts_with = "from")]
    retire_clay_webhook: Option<SecretSelector>,
    /// Show the relay tokens themselves, also where the output is no terminal
    #[arg(long)]
    show_token: bool,
    /// Take out the last one too, which closes its route; put Clay webhooks, their tokens or signing secrets in place of
    /// those that are there
    #[arg(long)]
    force: bool,
}

const VALUES: &str = "\
Values (typed without an echo; with --from a JSON object of texts or lists, or lines NAME=VALUE):
  LOOPS_API_KEY            the key of your Loops account: Settings, API
  LOOPS_SIGNING_SECRET     what Loops shows under Settings, Webhooks
  CLAY_WEBHOOK_URL         the URL of your Clay webhook (several: a pool, comma-separated)
  CLAY_WEBHOOK_AUTH_TOKEN  its token (one for all, or one for each URL)
What is not given stays as it is. Clay webhooks that are there, and tokens or signing secrets where there are several, go only by --force, --retire-clay-webhook or --retire-signing-secret. The key is checked with Loops first; nothing is written unless all is well.
A relay token may do what its scopes say: contacts:write, events:send, contacts:read, contacts:delete, email:send, deliveries:read, account:read. A new one with the same scopes and another name replaces it without a gap; retire it then.
A relay token is shown where it is made, on a terminal; --show-token shows all of them, anywhere.";

/// The actions that make no relay token. `requires` alone is not looked at where an action conflicts with the one that is required.
const OTHER_ACTIONS: [&str; 6] = [
    "list",
    "retire_relay_token",
    "add_signing_secret",
    "retire_signing_secret",
    "add_clay_webhook",
    "retire_clay_webhook",
];
/// Name of the only route of a data folder.
const LOCAL_ROUTE: &str = "default";

fn parse_token_name(text: &str) -> Result<String, &'static str> {
    if is_valid_name(text) { Ok(text.to_owned()) } else { Err("give 1 to 40 of A-Z a-z 0-9 . _ -") }
}

fn parse_scope(text: &str) -> Result<Scope, String> {
    let known: Vec<&str> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
    text.parse().map_err(|_| format!("there is no such scope: give some of {}", known.join(", ")))
}

impl SetupArguments {
    const fn retires(&self) -> bool {
        self.retire_relay_token.is_some() || self.retire_signing_secret.is_some() || self.retire_clay_webhook.is_some()
    }

    /// Returns the values that are taken, and the option that says so.
    const fn accepted_values(&self) -> (&'static str, &'static [&'static str]) {
        if self.list || self.add_relay_token || self.retires() {
            ("setup", &[])
        } else if self.add_signing_secret {
            ("--add-signing-secret", &[LOOPS_SIGNING_SECRET])
        } else if self.add_clay_webhook {
            ("--add-clay-webhook", &[CLAY_WEBHOOK_URL, CLAY_WEBHOOK_AUTH_TOKEN])
        } else {
            ("setup", &INPUT_NAMES)
        }
    }
}

/// Changes the secrets as the arguments say, and prints the report. After an error nothing is written, or the error says what.
pub(crate) async fn run(options: &Options, arguments: &SetupArguments, output: Output) -> Result<ExitStatus, Error> {
    let target = match options.local_data_dir() {
        // A command that only reads or removes needs a folder that exists.
        Some(path) if !arguments.list && !arguments.retires() => Target::Local(LocalRelay::create_data_dir(path)?),
        _ => options.target().await?,
    };
    let report = match target {
        Target::Stack(target) => Setup { store: SecretStore::Stack(&target), arguments, output }.apply().await?,
        Target::Local(data_dir) => {
            let local = LocalRelay::load_for_repair(data_dir)?;
            Setup { store: SecretStore::Local(&local), arguments, output }.apply().await?
        }
    };
    output.print_json(&report)?;
    output.print(report.render())?;
    Ok(ExitStatus::Ok)
}

struct Setup<'a> {
    store: SecretStore<'a>,
    arguments: &'a SetupArguments,
    output: Output,
}

/// Result of an edit, beside the documents.
#[derive(Default)]
struct Edit {
    new_token: Option<SecretString>,
    notes: Vec<String>,
}

impl Setup<'_> {
    async fn apply(&self) -> Result<SetupReport, Error> {
        let names = self.store.secret_names()?;
        let paste = self.store.urls()?;
        if !self.arguments.list {
            self.store.ensure_relay_token()?;
        }
        let (input, loops_team) = self.collect_input(&self.store.load().await?).await?;
        // Loaded again: another setup may have changed it while values were typed.
        let before = self.store.load().await?;
        let mut after = before.clone();
        let Edit { new_token, mut notes } = self.edit(&mut after, &input)?;
        let (mut written, was_trial) = (Vec::new(), self.store.is_trial(&before)?);
        if before != after {
            after.validate([&names[0], &names[1]], self.store.loops_to_clay_parser())?;
            written = self.store.save(&before, &after).await?;
        }
        let is_first_key = before.api_key().is_none() && after.api_key().is_some();
        self.add_notes(!written.is_empty(), is_first_key, &mut notes)?;
        // A new token is shown on a terminal, and all tokens on request: a log or a pipe gets none by accident.
        let new_token = new_token.filter(|_| std::io::stdout().is_terminal());
        let is_trial = self.store.is_trial(&after)?;
        if was_trial && !is_trial && after.api_key().is_none() {
            notes.push(
                "The trial is over: with a relay token of its own, the relay is closed until it has the key of Loops \
                 (setup --local), or is started with --simulate."
                    .to_owned(),
            );
        }
        let relay_tokens = summarize_relay_tokens(&after, is_trial, |token| {
            let is_new = new_token.as_ref().is_some_and(|new| new.expose_secret() == token.expose_secret());
            self.arguments.show_token || is_new
        });
        Ok(SetupReport {
            written,
            loops_api_key: after.api_key().is_some(),
            signing_secrets: summarize_signing_secrets(&after),
            relay_tokens,
            clay_routes: after.routes(),
            loops_team,
            paste,
            notes,
            is_local: matches!(self.store, SecretStore::Local(_)),
            is_trial,
        })
    }

    /// Reads or prompts for the values that the arguments ask for, and returns them with the team of the Loops key.
    async fn collect_input(&self, current: &SecretDocuments) -> Result<(SetupInput, Option<String>), Error> {
        let (option, accepted) = self.arguments.accepted_values();
        let stored_key = current.api_key();
        if accepted.is_empty() {
            return Ok((SetupInput::default(), None));
        }
        if let Some(path) = &self.arguments.from {
            let input = SetupInput::load(path)?;
            if input.is_empty() {
                return Err(SetupError::NoInput.into());
            }
            input.check_allowed(option, accepted)?;
            input.check_not_api_key(stored_key.as_ref())?;
            let team = self.check_api_key(&input).await?;
            return Ok((input, team));
        }
        let preview = |input: &SetupInput| {
            let mut after = current.clone();
            self.edit(&mut after, input).map(|_| after)
        };
        let hint = |name: &str, input: &SetupInput| self.prompt_hint(name, preview(input).as_ref().unwrap_or(current));
        let mut team = None;
        let check = async |name: &str, input: &SetupInput| {
            input.check_not_api_key(stored_key.as_ref())?;
            preview(input)?;
            if name == LOOPS_API_KEY {
                team = self.check_api_key(input).await?;
            }
            Ok(())
        };
        let input = prompt::prompt_values(accepted, hint, check).await?;
        Ok((input, team))
    }

    fn prompt_hint(&self, name: &str, current: &SecretDocuments) -> &'static str {
        let routes = current.routes();
        let mut webhooks = routes.iter().flat_map(|route| &route.webhooks);
        let is_configured = match name {
            LOOPS_API_KEY => current.api_key().is_some(),
            LOOPS_SIGNING_SECRET => !current.list(SecretList::SigningSecrets).is_empty(),
            CLAY_WEBHOOK_URL => webhooks.next().is_some(),
            _ => webhooks.any(|webhook| webhook.has_token),
        };
        match name {
            CLAY_WEBHOOK_AUTH_TOKEN if self.arguments.add_clay_webhook => "Enter for none",
            _ if self.arguments.add_signing_secret || self.arguments.add_clay_webhook => "a new one",
            _ if is_configured => "filled in; Enter keeps it",
            _ => "not filled in",
        }
    }

    /// Checks the Loops key, if one is given, and returns the name of its team.
    async fn check_api_key(&self, input: &SetupInput) -> Result<Option<String>, Error> {
        let Some(key) = &input.api_key else { return Ok(None) };
        let client = http_client::build()?;
        let spinner = progress::spinner(self.output.is_json(), "Loops checks the API key");
        let key_check = check_key(&client, self.store.loops_api_url(), key).await;
        spinner.finish_and_clear();
        let detail = match key_check {
            KeyCheck::Valid(team) => return Ok(Some(team)),
            KeyCheck::Rejected => return Err(SetupError::LoopsKeyRejected.into()),
            KeyCheck::UnexpectedStatus(status) => format!("it answered {status}"),
            KeyCheck::CertificateUntrusted => "its certificate is not trusted".to_owned(),
            KeyCheck::NoResponse => "it did not answer".to_owned(),
        };
        Err(SetupError::LoopsUnreachable { detail }.into())
    }

    fn edit(&self, documents: &mut SecretDocuments, input: &SetupInput) -> Result<Edit, SetupError> {
        let (arguments, force) = (self.arguments, self.arguments.force);
        let mut edit = Edit::default();
        if arguments.list {
            return Ok(edit);
        }
        let local_route = matches!(self.store, SecretStore::Local(_)).then_some(LOCAL_ROUTE);
        let route = arguments.route.as_deref().or(local_route);
        for (list, selector) in [
            (SecretList::RelayTokens, &arguments.retire_relay_token),
            (SecretList::SigningSecrets, &arguments.retire_signing_secret),
        ] {
            if let Some(selector) = selector {
                let retired = documents.retire(list, selector, force)?;
                edit.notes.push(format!("The {} {retired} is retired.", list.singular()));
                return Ok(edit);
            }
        }
        if let Some(selector) = &arguments.retire_clay_webhook {
            let retired = documents.retire_webhook(route, selector, force)?;
            edit.notes.push(format!("The Clay webhook {retired} is retired."));
            return Ok(edit);
        }
        edit.notes.extend(input.unprefixed_signing_secrets().map(|secret| {
            let secret = fingerprint(secret.expose_secret());
            format!(
                "The signing secret {secret} has no whsec_ before it, as Loops shows them: \
                 see that it is one, with a test event."
            )
        }));
        let (option, _) = arguments.accepted_values();
        let (urls, tokens) = (input.urls.as_deref(), input.tokens.as_deref());
        if arguments.add_clay_webhook {
            let urls = urls.ok_or(SetupError::MissingValue { option, name: CLAY_WEBHOOK_URL })?;
            documents.add_webhooks(route, urls, tokens, &self.store.events())?;
            return Ok(edit);
        }
        if arguments.add_signing_secret {
            let missing = SetupError::MissingValue { option, name: LOOPS_SIGNING_SECRET };
            for secret in input.signing_secrets.as_deref().ok_or(missing)? {
                documents.add_signing_secret(secret);
            }
            return Ok(edit);
        }
        if let Some(key) = &input.api_key {
            documents.set_api_key(key);
        }
        if let Some(secrets) = &input.signing_secrets {
            let replaced = documents.set_signing_secrets(secrets, force)?;
            edit.notes.extend(replaced.iter().map(|secret| {
                format!(
                    "The signing secret {secret} is replaced: \
                     what Loops still signs with it is refused from now on."
                )
            }));
        }
        documents.set_webhooks(route, urls, tokens, &self.store.events(), force)?;
        if arguments.add_relay_token || (!input.is_empty() && documents.list(SecretList::RelayTokens).is_empty()) {
            let token = SecretString::from(format!("relay_{}", hex::encode(rand::random::<[u8; 24]>())));
            let grant = TokenGrant { name: arguments.name.clone(), scopes: arguments.scopes.clone() };
            documents.add_relay_token(&token, &grant)?;
            edit.notes.push(format!(
                "The relay token {} is new: put it into Clay's columns, then retire the one that it replaces, if it does.",
                fingerprint(token.expose_secret())
            ));
            edit.new_token = Some(token);
        }
        Ok(edit)
    }

    /// Adds what the operator should know of the relay.
    fn add_notes(&self, is_written: bool, is_first_key: bool, notes: &mut Vec<String>) -> Result<(), Error> {
        match self.store {
            SecretStore::Stack(target) if is_written => notes.extend([
                format!(
                    "The functions read the secrets again within {} seconds.",
                    target.stack.parameter("SecretTtlSeconds").unwrap_or("300")
                ),
                "A new key, token or signing secret works within half a minute.".to_owned(),
                "Held deliveries are tried again within 15 minutes.".to_owned(),
            ]),
            SecretStore::Stack(_) => {}
            SecretStore::Local(local) => {
                if is_written && local.is_running() {
                    notes.push(
                        "A relay is running on this folder: it takes it up within a second, and tries what is held at once."
                            .to_owned(),
                    );
                    if is_first_key {
                        notes.push(
                            "Where it was started without a key, it simulates Loops until it is started again."
                                .to_owned(),
                        );
                    }
                }
                if !local.is_public() {
                    notes.push(format!(
                        "Loops and Clay cannot reach {}, an address of this machine or its own network: lead a tunnel or a \
                         proxy with a public https address to it, and paste that address in its place, with the same paths.",
                        local.base_url()
                    ));
                }
                if !local.env_overrides.is_empty() {
                    notes.push(format!(
                        "The environment sets {} as well, and wins: unset it to use what is stored.",
                        local.env_overrides.join(", ")
                    ));
                }
            }
        }
        Ok(())
    }
}
