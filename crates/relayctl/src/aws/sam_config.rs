//! The file from which SAM deployed the stack: a table for each environment, in it one for each command, and `global` for every
//! command (AWS, "AWS SAM CLI configuration file"). `make deploy GUIDED=1` saves its own, which `make deploy` then uses as well.

use std::path::Path;

use serde::Deserialize;

use crate::aws::error::Error;

pub(crate) const SAM_CONFIG: &str = "samconfig.toml";
/// What `make deploy GUIDED=1` has saved. It is used instead, if it is there.
const SAVED_SAM_CONFIG: &str = "samconfig.local.toml";
pub(crate) const DEFAULT_ENVIRONMENT: &str = "default";

/// Name and place of a stack.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct SamParameters {
    pub(crate) stack_name: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) profile: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum ParseError {
    /// The text is no TOML from this line on.
    InvalidToml(usize),
    /// The text has these environments only.
    NoSuchEnvironment(String),
}

impl SamParameters {
    /// Reads a file. It need not exist unless the operator named it.
    pub(crate) fn load(file: Option<&Path>, environment: &str) -> Result<Self, Error> {
        let path = file.unwrap_or_else(|| Path::new(default_file(|file| Path::new(file).exists())));
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && file.is_none() => return Ok(Self::default()),
            Err(error) => {
                return Err(Error::UnreadableSamConfig { path: path.display().to_string(), detail: error.kind() });
            }
        };
        let path = path.display().to_string();
        Self::parse(&text, environment).map_err(|error| match error {
            ParseError::InvalidToml(line) => Error::InvalidSamConfig { path, line },
            ParseError::NoSuchEnvironment(names) => {
                Error::NoSuchEnvironment { path, environment: environment.to_owned(), names }
            }
        })
    }

    /// Reads a text. It need not have the default environment.
    fn parse(text: &str, environment: &str) -> Result<Self, ParseError> {
        let line_number = |error: &toml::de::Error| {
            let start = error.span().map_or(0, |span| span.start);
            text.get(..start).map_or(1, |prefix| prefix.matches('\n').count() + 1)
        };
        let table: toml::Table = toml::from_str(text).map_err(|error| ParseError::InvalidToml(line_number(&error)))?;
        if environment != DEFAULT_ENVIRONMENT && !table.get(environment).is_some_and(toml::Value::is_table) {
            let names = table.iter().filter(|(_, value)| value.is_table()).map(|(name, _)| name.clone());
            return Err(ParseError::NoSuchEnvironment(names.collect::<Vec<_>>().join(", ")));
        }

        let command_parameters = |command: &str| {
            let parameters = table.get(environment)?.get(command)?.get("parameters")?.clone();
            Self::deserialize(parameters).ok()
        };
        let (deploy, global) =
            (command_parameters("deploy").unwrap_or_default(), command_parameters("global").unwrap_or_default());
        Ok(Self {
            stack_name: deploy.stack_name.or(global.stack_name),
            region: deploy.region.or(global.region),
            profile: deploy.profile.or(global.profile),
        })
    }
}

/// Returns the file that is read if none is named.
fn default_file(exists: impl Fn(&str) -> bool) -> &'static str {
    if exists(SAVED_SAM_CONFIG) { SAVED_SAM_CONFIG } else { SAM_CONFIG }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saved_answers_are_read_instead_of_the_defaults() {
        assert_eq!(default_file(|_| true), "samconfig.local.toml");
        assert_eq!(default_file(|file| file != "samconfig.local.toml"), "samconfig.toml");
    }

    #[test]
    fn deploy_parameters_override_global_ones() {
        let text = "version = 0.1\n[default.global.parameters]\nstack_name = \"relay\"\nregion = \"eu-west-1\"\n\
                    [default.deploy.parameters]\nregion = \"us-east-1\"\ncapabilities = \"CAPABILITY_IAM\"\n\
                    [prod.deploy.parameters]\nstack_name = \"relay-prod\"\n";
        let default = SamParameters::parse(text, "default").unwrap();
        assert_eq!((default.stack_name.as_deref(), default.region.as_deref()), (Some("relay"), Some("us-east-1")));
        assert_eq!(SamParameters::parse(text, "prod").unwrap().stack_name.as_deref(), Some("relay-prod"));
        let error = SamParameters::parse(text, "none").unwrap_err();
        assert_eq!(error, ParseError::NoSuchEnvironment("default, prod".to_owned()));
        assert_eq!(SamParameters::parse("version = 0.1\n", "default").unwrap(), SamParameters::default());
    }

    #[test]
    fn project_samconfig_names_the_stack() {
        let text = include_str!("../../../../samconfig.toml");
        assert_eq!(SamParameters::parse(text, "default").unwrap().stack_name.as_deref(), Some("loops-clay-relay"));
    }

    #[test]
    fn invalid_toml_reports_its_line() {
        assert_eq!(
            SamParameters::parse("version = 0.1\n[default\n", "default").unwrap_err(),
            ParseError::InvalidToml(2)
        );
    }

    #[test]
    fn missing_file_is_an_error_only_when_named() {
        let path = Path::new("/no/such/samconfig.toml");
        assert!(matches!(SamParameters::load(Some(path), "default"), Err(Error::UnreadableSamConfig { .. })));
    }
}
