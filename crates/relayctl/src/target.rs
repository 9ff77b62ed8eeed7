//! What is operated: a stack in an AWS account, or a data folder.

use std::path::PathBuf;

use clap::Args;
use relay::config::names::RELAY_DATA;
use relay::destination::http_client;
use relay_sqlite::data_dir::DataDir;
use relay_sqlite::data_dir::config::DEFAULT_DATA;

use crate::aws::sam_config::{DEFAULT_ENVIRONMENT, SamParameters};
use crate::aws::session::Session;
use crate::aws::stack::Stack;
use crate::error::Error;

/// The options that every command takes.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// The stack's name [default: the one in samconfig.toml]
    #[arg(long, global = true, value_name = "NAME", help_heading = "Which relay")]
    pub stack: Option<String>,
    /// SAM's configuration file [default: samconfig.toml of this folder]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Which relay")]
    pub config: Option<PathBuf>,
    /// Which environment of that file
    #[arg(long, global = true, value_name = "NAME", help_heading = "Which relay", default_value = DEFAULT_ENVIRONMENT)]
    pub config_env: String,
    /// The AWS region [default: that of samconfig.toml, AWS_REGION or the profile]
    #[arg(long, global = true, help_heading = "Which relay")]
    pub region: Option<String>,
    /// The AWS profile [default: that of samconfig.toml, or AWS_PROFILE]
    #[arg(long, global = true, value_name = "NAME", help_heading = "Which relay")]
    pub profile: Option<String>,
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
    pub local: Option<Option<PathBuf>>,
    /// Print a JSON document
    #[arg(long, global = true)]
    pub json: bool,
}

/// What is operated.
#[derive(Debug)]
pub enum Target {
    /// A stack.
    Stack(Box<StackTarget>),
    /// A data folder.
    Local(DataDir),
}

/// A stack, and the account that it is in.
#[derive(Debug)]
pub struct StackTarget {
    /// The account.
    pub session: Session,
    /// The stack.
    pub stack: Stack,
}

impl Options {
    /// Checks that one relay is named, wherever on the command line.
    ///
    /// # Errors
    /// When a stack and a folder are.
    pub fn check_conflicts(&self) -> Result<(), Error> {
        // clap's own conflicts do not reach from before a command to behind it.
        let stack_options = [
            ("--stack", self.stack.is_some()),
            ("--config", self.config.is_some()),
            ("--region", self.region.is_some()),
            ("--profile", self.profile.is_some()),
        ];
        match stack_options.into_iter().find(|(_, is_set)| *is_set) {
            Some((option, _)) if self.local.is_some() => Err(Error::ConflictingTargets { option }),
            _ => Ok(()),
        }
    }

    /// Finds what is operated.
    ///
    /// # Errors
    /// When nothing says which, or it is not there.
    pub async fn target(&self) -> Result<Target, Error> {
        if let Some(data_dir) = self.local_data_dir() {
            if !data_dir.is_dir() {
                return Err(Error::NotADataDir { folder: data_dir.display().to_string() });
            }
            return Ok(Target::Local(DataDir::new(data_dir)));
        }
        let name = self.stack_name()?;
        let session = self.session().await?;
        let stack = Stack::find(&session, &name).await?;
        Ok(Target::Stack(Box::new(StackTarget { session, stack })))
    }

    /// The data folder, where `--local` is given; it need not exist.
    #[must_use]
    pub fn local_data_dir(&self) -> Option<PathBuf> {
        let option = self.local.as_ref()?;
        let from_env = || std::env::var_os(RELAY_DATA).filter(|path| !path.is_empty()).map(PathBuf::from);
        Some(option.clone().or_else(from_env).unwrap_or_else(|| PathBuf::from(DEFAULT_DATA)))
    }

    /// The name of the stack.
    ///
    /// # Errors
    /// When nothing says it.
    pub fn stack_name(&self) -> Result<String, Error> {
        match &self.stack {
            Some(name) => Ok(name.clone()),
            None => self.sam_parameters()?.stack_name.ok_or(Error::NoStackNamed),
        }
    }

    /// How the program is called for this relay, from here.
    #[must_use]
    pub fn command_line(&self) -> String {
        let mut args = vec!["relayctl".to_owned()];
        if let Some(data_dir) = self.local_data_dir() {
            args.push(format!("--local={}", shell_quote(&data_dir.display().to_string())));
            return args.join(" ");
        }
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

    /// A text whose commands act on this relay, wherever they are pasted.
    #[must_use]
    pub fn with_command_line(&self, text: &str) -> String {
        text.replace("`relayctl ", &format!("`{} ", self.command_line()))
    }

    /// The account.
    ///
    /// # Errors
    /// When there is no region, or no credentials.
    pub async fn session(&self) -> Result<Session, Error> {
        let sam_parameters = self.sam_parameters()?;
        let profile = self.profile.clone().or(sam_parameters.profile);
        let region = self.region.clone().or(sam_parameters.region);
        Ok(Session::open(http_client::build()?, profile.as_deref(), region.as_deref()).await?)
    }

    fn sam_parameters(&self) -> Result<SamParameters, Error> {
        Ok(SamParameters::load(self.config.as_deref(), &self.config_env)?)
    }
}

/// A word as a shell takes it.
fn shell_quote(word: &str) -> String {
    let is_plain = |ch: char| ch.is_alphanumeric() || "/._-~+@:".contains(ch);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
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

    fn rendered(args: &[&str], text: &str) -> String {
        TestCli::try_parse_from([&["relayctl"], args].concat()).unwrap().options.with_command_line(text)
    }

    #[test]
    fn suggested_command_names_the_same_target() {
        for (args, expected) in [
            (&["--local=run"][..], "`relayctl --local=run resume x`"),
            (&["--local=my folder"], "`relayctl --local='my folder' resume x`"),
            (&["--stack", "relay"], "`relayctl --stack relay resume x`"),
            (
                &["--stack", "relay", "--region", "eu-west-1", "--profile", "prod"],
                "`relayctl --stack relay --region eu-west-1 --profile prod resume x`",
            ),
        ] {
            assert_eq!(rendered(args, "`relayctl resume x`"), expected);
        }
    }
}
