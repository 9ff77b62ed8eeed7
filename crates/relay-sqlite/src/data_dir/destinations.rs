//! What becomes of a destination that is not set: it is simulated, closed, or the start is refused.
//!
//! See docs/adr/0016-destination-accounts.md.

use std::collections::BTreeMap;

use relay::config::names::{CLAY_WEBHOOK_URL, LOOPS_API_KEY, LOOPS_SIGNING_SECRET, RELAY_TOKEN};
use relay_core::account::{DestinationKind, ServedAccounts};
use relay_core::delivery::Direction;
use relay_core::row::schema::is_similar_name;

use crate::data_dir::config::{LocalSettings, Setting};

/// Why a relay does not start with a simulated destination.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DestinationError {
    /// The folder has served the real one.
    #[error(
        "{variable} is not set, and this data folder has served a real {}{}: set it, or start with --simulate",
        destination_name(*direction), hint(similar.as_deref())
    )]
    WasReal {
        /// Direction of the destination.
        direction: Direction,
        /// The setting that is missing.
        variable: &'static str,
        /// A variable of the environment whose name looks like it.
        similar: Option<String>,
    },
    /// A variable of the environment has almost the name of the setting.
    #[error("{variable} is not set, but {similar} is: correct that name, or start with --simulate")]
    Misspelled {
        /// The setting that is missing.
        variable: &'static str,
        /// The variable.
        similar: String,
    },
}

/// A destination that is closed because it is not set, although the secret of its direction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HalfConfigured {
    /// Direction of the destination.
    pub direction: Direction,
    /// The setting that is missing.
    pub missing: &'static str,
    /// The secret that is set.
    pub set: &'static str,
}

/// Returns the destination of a direction by name.
pub const fn destination_name(direction: Direction) -> &'static str {
    match direction {
        Direction::LoopsToClay => "Clay",
        Direction::ClayToLoops => "Loops",
    }
}

/// Returns the setting that makes the destination of a direction a real one.
pub const fn destination_setting(direction: Direction) -> &'static str {
    match direction {
        Direction::LoopsToClay => CLAY_WEBHOOK_URL,
        Direction::ClayToLoops => LOOPS_API_KEY,
    }
}

impl LocalSettings {
    /// What the settings make of the destination of a direction.
    pub fn destination(&self, direction: Direction) -> DestinationKind {
        match (direction, &self.clay_webhooks, &self.loops_api_key) {
            (Direction::LoopsToClay, Setting::Unset, _) => DestinationKind::Simulated,
            (Direction::LoopsToClay, Setting::Set(webhooks), _) if webhooks.is_empty() => DestinationKind::Closed,
            (Direction::ClayToLoops, _, Setting::Unset) if !self.loops_api_url_is_set => DestinationKind::Simulated,
            (Direction::ClayToLoops, _, Setting::Unset | Setting::Set(None)) => DestinationKind::Closed,
            _ => DestinationKind::Real,
        }
    }

    const fn is_unset(&self, direction: Direction) -> bool {
        match direction {
            Direction::LoopsToClay => matches!(self.clay_webhooks, Setting::Unset),
            Direction::ClayToLoops => matches!(self.loops_api_key, Setting::Unset),
        }
    }

    /// Refuses a destination that is not set where a real one was served, or where its variable is misspelled.
    pub fn check_simulated(
        &self,
        environment: &BTreeMap<String, String>,
        accounts: &ServedAccounts,
    ) -> Result<(), DestinationError> {
        for direction in Direction::ALL {
            if !self.is_unset(direction) {
                continue;
            }
            let variable = destination_setting(direction);
            let similar = similar_name(environment, variable);
            if accounts.was_real(direction) {
                return Err(DestinationError::WasReal { direction, variable, similar });
            }
            if let Some(similar) = similar {
                return Err(DestinationError::Misspelled { variable, similar });
            }
        }
        Ok(())
    }

    /// Closes each destination that is not set although the secret of its direction is: whoever has set that is connected, and must not be answered by a simulator.
    pub fn close_half_configured(&mut self) -> Vec<HalfConfigured> {
        let secrets = [
            (Direction::LoopsToClay, LOOPS_SIGNING_SECRET, matches!(self.signing_secrets, Setting::Set(_))),
            (Direction::ClayToLoops, RELAY_TOKEN, matches!(self.relay_tokens, Setting::Set(_))),
        ];
        let mut closed = Vec::new();
        for (direction, set, is_set) in secrets {
            if !is_set || !self.is_unset(direction) {
                continue;
            }
            match direction {
                Direction::LoopsToClay => self.clay_webhooks = Setting::Set(Vec::new()),
                Direction::ClayToLoops => self.loops_api_key = Setting::Set(None),
            }
            closed.push(HalfConfigured { direction, missing: destination_setting(direction), set });
        }
        closed
    }
}

/// Returns a variable whose name was meant to be this one.
fn similar_name(environment: &BTreeMap<String, String>, name: &str) -> Option<String> {
    environment.keys().find(|other| *other != name && is_similar_name(other, name)).cloned()
}

fn hint(similar: Option<&str>) -> String {
    similar.map(|similar| format!(" ({similar} is set: is that the name?)")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use relay::config::names::LOOPS_API_URL;

    use super::*;

    fn settings(variables: &[(&str, &str)]) -> LocalSettings {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        LocalSettings::from_env(&variables).unwrap()
    }

    fn environment(name: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(name.to_owned(), "value".to_owned())])
    }

    #[test]
    fn secret_of_a_direction_closes_its_unset_destination() {
        for (secret, value, direction) in [
            (LOOPS_SIGNING_SECRET, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", Direction::LoopsToClay),
            (RELAY_TOKEN, "a-token-of-sixteen-characters", Direction::ClayToLoops),
        ] {
            let mut settings = settings(&[(secret, value)]);
            let closed = settings.close_half_configured();
            let missing = destination_setting(direction);
            assert_eq!(closed, [HalfConfigured { direction, missing, set: secret }]);
            for other in Direction::ALL {
                let expected = if other == direction { DestinationKind::Closed } else { DestinationKind::Simulated };
                assert_eq!(settings.destination(other), expected);
            }
        }
    }

    #[test]
    fn set_destination_and_full_trial_are_not_half_configured() {
        assert!(settings(&[]).close_half_configured().is_empty());
        let token = (RELAY_TOKEN, "a-token-of-sixteen-characters");
        for destination in [(LOOPS_API_KEY, "key"), (LOOPS_API_KEY, "")] {
            assert!(settings(&[token, destination]).close_half_configured().is_empty(), "{destination:?}");
        }
    }

    #[test]
    fn loops_with_an_address_and_no_key_is_closed() {
        let token = (RELAY_TOKEN, "a-token-of-sixteen-characters");
        let mut settings = settings(&[token, (LOOPS_API_URL, "http://127.0.0.1:9")]);
        assert_eq!(settings.destination(Direction::ClayToLoops), DestinationKind::Closed);
        assert_eq!(settings.close_half_configured()[0].missing, LOOPS_API_KEY);
        let misspelled = settings.check_simulated(&environment("LOOPS_APIKEY"), &ServedAccounts::default());
        assert_eq!(misspelled, Ok(()), "it is closed, and said to be");
    }

    #[test]
    fn missing_variable_of_a_real_destination_is_refused_by_name() {
        for direction in Direction::ALL {
            let mut accounts = ServedAccounts::new("random".to_owned());
            assert_eq!(settings(&[]).check_simulated(&BTreeMap::new(), &accounts), Ok(()));
            accounts.serve(Direction::LoopsToClay, DestinationKind::Real);
            let answer = relay_core::account::TeamAnswer::Unnamed;
            accounts.resolve("https://app.loops.so/api", &"key".into(), &answer);
            let real = [(LOOPS_API_KEY, "key"), (CLAY_WEBHOOK_URL, "https://api.clay.com/a")];
            let missing = destination_setting(direction);
            let rest: Vec<_> = real.into_iter().filter(|(name, _)| *name != missing).collect();
            let error = settings(&rest).check_simulated(&BTreeMap::new(), &accounts).unwrap_err().to_string();
            assert!(error.starts_with(missing) && error.contains("--simulate"), "{error}");
            assert_eq!(settings(&real).check_simulated(&BTreeMap::new(), &accounts), Ok(()));
        }
    }

    #[test]
    fn misspelled_variable_is_refused_by_both_names() {
        for name in ["LOOPS_APIKEY", "loops_api_key", "LOOPS_API_KEYS", "LOOP_API_KEY", "CLAY_WEBHOOK_URI"] {
            let error = settings(&[]).check_simulated(&environment(name), &ServedAccounts::default()).unwrap_err();
            assert!(matches!(&error, DestinationError::Misspelled { similar, .. } if similar == name), "{error}");
        }
        for name in ["LOOPS_SIGNING_SECRET", "CLAY_WEBHOOK_AUTH_TOKEN", "LOOPS_API_URL", "PATH"] {
            assert_eq!(settings(&[]).check_simulated(&environment(name), &ServedAccounts::default()), Ok(()));
        }
    }
}
