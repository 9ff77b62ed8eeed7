//! The relay that a command operates: a stack in an AWS account, or a data folder.

use std::path::PathBuf;

use aws_sdk_lambda::operation::get_function_configuration::GetFunctionConfigurationOutput;
use clap::Args;
use relay::config::names::{CONTACT_HASH_KEY, RELAY_DATA};
use relay::destination::http_client;
use relay_aws::functions::FUNCTION_NAMES;
use relay_core::contact::ContactHashKey;
use relay_doctor::invocation::{local_command_line, shell_quote};
use relay_doctor::local_error::LocalError;
use relay_doctor::urls::EndpointUrls;
use relay_sqlite::data_dir::DataDir;
use relay_sqlite::data_dir::config::DEFAULT_DATA;

use crate::aws::sam_config::{DEFAULT_ENVIRONMENT, SamParameters};
use crate::aws::session::Session;
use crate::aws::stack::{Stack, StackOutput};
use crate::error::{Error, UsageError};

/// Default of the template's parameter `LoopsApiUrl`.
const DEFAULT_LOOPS_API_URL: &str = "https://app.loops.so/api";

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// The stack's name [default: the one in samconfig.toml]
    #[arg(long, global = true, value_name = "NAME", help_heading = "Which relay")]
    pub(crate) stack: Option<String>,
    /// SAM's configuration file [default: samconfig.local.toml of this folder, or samconfig.toml]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Which relay")]
    pub(crate) config: Option<PathBuf>,
    /// Which environment of that file
    #[arg(long, global = true, value_name = "NAME", help_heading = "Which relay", default_value = DEFAULT_ENVIRONMENT)]
    pub(crate) config_env: String,
    /// The AWS region [default: that of samconfig.toml, AWS_REGION or the profile]
    #[arg(long, global = true, help_heading = "Which relay")]
    pub(crate) region: Option<String>,
    /// The AWS profile [default: that of samconfig.toml, or AWS_PROFILE]
    #[arg(long, global = true, value_name = "NAME", help_heading = "Which relay")]
    pub(crate) profile: Option<String>,
    /// A relay-local instead of a stack: its data folder [default: RELAY_DATA, or .relay]
    // With an equals sign only: a word behind it would else be taken for the folder, be it the command.
    #[arg(
        long,
        global = true,
        value_name = "FOLDER",
        help_heading = "Which relay",
        num_args = 0..=1,
        require_equals = true
    )]
    pub(crate) local: Option<Option<PathBuf>>,
    /// Print a JSON document
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// The relay that a command operates.
#[derive(Debug)]
pub(crate) enum Target {
    Stack(Box<StackTarget>),
    Local(DataDir),
}

/// A stack and its AWS account.
#[derive(Debug)]
pub(crate) struct StackTarget {
    pub(crate) session: Session,
    pub(crate) stack: Stack,
}

impl StackTarget {
    /// Returns what is pasted into Loops and Clay.
    pub(crate) fn urls(&self) -> Result<EndpointUrls, Error> {
        let url = |output| self.stack.output(output).map(str::to_owned);
        Ok(EndpointUrls {
            loops_webhook_url: url(StackOutput::LoopsWebhookUrl)?,
            events: self.events(),
            clay_contact_url: url(StackOutput::ClayContactUrl)?,
            clay_event_url: url(StackOutput::ClayEventUrl)?,
        })
    }

    /// Returns the events that are relayed.
    pub(crate) fn events(&self) -> Vec<String> {
        let events = self.stack.parameter("RelayedEvents").unwrap_or("contact.created").split(',');
        events.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
    }

    /// Returns the URL of the Loops API that its functions call.
    pub(crate) fn loops_api_url(&self) -> &str {
        self.stack.parameter("LoopsApiUrl").unwrap_or(DEFAULT_LOOPS_API_URL)
    }

    /// Reads the configuration of a function, by the name of its binary.
    pub(crate) async fn function_configuration(&self, binary: &str) -> Result<GetFunctionConfigurationOutput, Error> {
        let name = self.stack.function_name(binary);
        let call = self.session.call("lambda:GetFunctionConfiguration", name.as_str());
        let response = self.session.lambda().get_function_configuration().function_name(name).send().await;
        Ok(response.map_err(|error| call.to_error(&error))?)
    }
}

impl Target {
    /// Returns the relay as the title of a report.
    pub(crate) fn title(&self) -> String {
        match self {
            Self::Stack(target) => format!("The stack {} in {}", target.stack.name, target.session.region()),
            Self::Local(data_dir) => format!("The relay of {}", data_dir.path().display()),
        }
    }

    /// Returns the key of the contacts' hashes, if the relay has one.
    pub(crate) async fn contact_hash_key(&self) -> Result<Option<ContactHashKey>, Error> {
        match self {
            // Every function has it. Read there, it is the one that hashes, whatever version was deployed.
            Self::Stack(target) => {
                let variables =
                    target.function_configuration(FUNCTION_NAMES[0]).await?.environment.and_then(|it| it.variables);
                Ok(variables.unwrap_or_default().get(CONTACT_HASH_KEY).and_then(|key| ContactHashKey::new(key)))
            }
            // relay-local reads it from the environment before the folder.
            Self::Local(data_dir) => {
                match std::env::var(CONTACT_HASH_KEY).ok().and_then(|key| ContactHashKey::new(&key)) {
                    Some(key) => Ok(Some(key)),
                    None => Ok(ContactHashKey::new(&data_dir.contact_hash_key()?)),
                }
            }
        }
    }
}

impl Options {
    /// Rejects a stack and a folder together, wherever on the command line.
    pub(crate) fn check_conflicts(&self) -> Result<(), UsageError> {
        // clap's own conflicts do not reach from before a command to behind it.
        let stack_options = [
            ("--stack", self.stack.is_some()),
            ("--config", self.config.is_some()),
            ("--region", self.region.is_some()),
            ("--profile", self.profile.is_some()),
        ];
        match stack_options.into_iter().find(|(_, is_set)| *is_set) {
            Some((option, _)) if self.local.is_some() => Err(UsageError::ConflictingTargets { option }),
            _ => Ok(()),
        }
    }

    /// Finds the relay.
    pub(crate) async fn target(&self) -> Result<Target, Error> {
        if let Some(data_dir) = self.local_data_dir() {
            if !data_dir.is_dir() {
                return Err(LocalError::NotADataDir(data_dir).into());
            }
            return Ok(Target::Local(DataDir::new(data_dir)));
        }
        let name = self.stack_name()?;
        let session = self.session().await?;
        let stack = Stack::find(&session, &name).await?;
        Ok(Target::Stack(Box::new(StackTarget { session, stack })))
    }

    /// Returns the data folder if `--local` is given. It need not exist.
    pub(crate) fn local_data_dir(&self) -> Option<PathBuf> {
        let option = self.local.as_ref()?;
        let from_env = || std::env::var_os(RELAY_DATA).filter(|path| !path.is_empty()).map(PathBuf::from);
        Some(option.clone().or_else(from_env).unwrap_or_else(|| PathBuf::from(DEFAULT_DATA)))
    }

    pub(crate) fn stack_name(&self) -> Result<String, Error> {
        match &self.stack {
            Some(name) => Ok(name.clone()),
            None => self.sam_parameters()?.stack_name.ok_or_else(|| UsageError::NoStackNamed.into()),
        }
    }

    /// Returns the beginning of a command line for this relay.
    pub(crate) fn command_line(&self) -> String {
        if let Some(data_dir) = self.local_data_dir() {
            return local_command_line(&data_dir);
        }
        let mut args = vec!["relayctl".to_owned()];
        let config = self.config.as_ref().map(|file| file.display().to_string());
        let environment = (self.config_env != DEFAULT_ENVIRONMENT).then(|| self.config_env.clone());
        for (option, value) in [
            ("--stack", self.stack_name().ok()),
            ("--config", config),
            ("--config-env", environment),
            ("--region", self.region.clone()),
            ("--profile", self.profile.clone()),
        ] {
            args.extend(value.map(|value| format!("{option} {}", shell_quote(&value))));
        }
        args.join(" ")
    }

    pub(crate) async fn session(&self) -> Result<Session, Error> {
        let sam_parameters = self.sam_parameters()?;
        let profile = self.profile.clone().or(sam_parameters.profile);
        let region = self.region.clone().or(sam_parameters.region);
        Ok(Session::open(http_client::build()?, profile.as_deref(), region.as_deref()).await?)
    }

    fn sam_parameters(&self) -> Result<SamParameters, Error> {
        Ok(SamParameters::load(self.config.as_deref(), &self.config_env)?)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct TestCli {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn command_line_names_the_same_target() {
        for (args, expected) in [
            (&["--local=run"][..], "relayctl --local=run"),
            (&["--local=my folder"], "relayctl --local='my folder'"),
            (&["--stack", "relay"], "relayctl --stack relay"),
            (
                &["--stack", "relay", "--region", "eu-west-1", "--profile", "prod"],
                "relayctl --stack relay --region eu-west-1 --profile prod",
            ),
        ] {
            let cli = TestCli::try_parse_from([&["relayctl"], args].concat()).unwrap();
            assert_eq!(cli.options.command_line(), expected);
        }
    }
}
