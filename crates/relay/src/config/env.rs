//! Settings from environment variables. All errors are reported together. An error names the variable, the expected format and
//! an example, never the value, which may be a secret.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use relay_core::contact::ContactHashKey;
use relay_core::webhook::event::CONTACT_CREATED;
use relay_core::webhook::payload::PayloadFormat;
use relay_core::webhook::route::parse_destination_url;
use relay_core::webhook::selection::{EventPattern, EventSelection};
use relay_core::webhook::signature::Tolerance;

use crate::config::leftovers::{MISWRITTEN_NAME, find_leftover, is_miswritten};
use crate::config::names::{
    CLAY_PAYLOAD, CLAY_RATE_PER_SECOND, CONTACT_HASH_KEY, CONTACT_SOURCE, LOOPS_API_URL, LOOPS_RATE_PER_SECOND,
    RELAYED_EVENTS, SECRET_TTL_SECONDS, SIGNATURE_TOLERANCE_SECONDS, TYPED_PROPERTIES,
};

/// The real Loops API.
const DEFAULT_LOOPS_API_URL: &str = "https://app.loops.so/api";
/// Default rate of calls to a destination, below its limit of ten a second.
const DEFAULT_RATE_PER_SECOND: NonZeroU32 = NonZeroU32::MIN.saturating_add(7);
/// Maximum length of a value for Loops, which allows 500 characters with the quotes (Loops API reference, "Debugging").
const MAX_SOURCE_CHARS: usize = 498;

/// A variable whose value has the wrong form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} must be {expected_format}, for example {name}={example}")]
pub struct SettingError {
    /// Name of the variable.
    pub name: &'static str,
    /// Form that its value must have.
    pub expected_format: &'static str,
    /// A valid value.
    pub example: &'static str,
}

/// Reads variables and collects errors.
#[derive(Debug)]
pub struct EnvReader<'a> {
    variables: &'a BTreeMap<String, String>,
    errors: Vec<SettingError>,
}

impl<'a> EnvReader<'a> {
    /// Creates a reader of these variables.
    pub const fn new(variables: &'a BTreeMap<String, String>) -> Self {
        Self { variables, errors: Vec::new() }
    }

    /// Returns the variable without surrounding white space. It may be empty. A text that is evidently not the value that was
    /// meant is an error, and counts as not set.
    pub fn raw(&mut self, name: &'static str) -> Option<&'a str> {
        let value = self.variables.get(name).map(|value| value.trim());
        let leftover = match value {
            Some(text) => find_leftover(name, text),
            None => self.variables.keys().any(|key| is_miswritten(key, name)).then_some(MISWRITTEN_NAME),
        };
        let Some(expected_format) = leftover else { return value };
        if !self.errors.iter().any(|error| error.name == name) {
            self.push_error(SettingError { name, expected_format, example: "value" });
        }
        None
    }

    /// Returns the parsed variable, or its default if it is not set or, with an error, if it is invalid.
    pub fn parse<T>(
        &mut self,
        name: &'static str,
        default: T,
        expected_format: &'static str,
        example: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> T {
        let Some(text) = self.raw(name) else { return default };
        parse(text).unwrap_or_else(|| {
            self.push_error(SettingError { name, expected_format, example });
            default
        })
    }

    /// Adds an error.
    pub fn push_error(&mut self, error: SettingError) {
        self.errors.push(error);
    }

    /// Returns the settings, or all errors that were found.
    pub fn into_result<T>(self, settings: T) -> Result<T, Vec<SettingError>> {
        if self.errors.is_empty() { Ok(settings) } else { Err(self.errors) }
    }
}

/// The settings that every program of the relay shares.
#[derive(Debug, Clone)]
pub struct SharedSettings {
    /// [`RELAYED_EVENTS`]
    pub relayed_events: EventSelection,
    /// [`SIGNATURE_TOLERANCE_SECONDS`]
    pub signature_tolerance: Tolerance,
    /// [`CLAY_PAYLOAD`]
    pub clay_payload: PayloadFormat,
    /// [`CLAY_RATE_PER_SECOND`]
    pub clay_rate: NonZeroU32,
    /// [`LOOPS_RATE_PER_SECOND`]
    pub loops_rate: NonZeroU32,
    /// [`LOOPS_API_URL`]
    pub loops_api_url: String,
    /// [`CONTACT_SOURCE`]
    pub contact_source: Option<String>,
    /// [`TYPED_PROPERTIES`]
    pub typed_properties: bool,
    /// [`SECRET_TTL_SECONDS`]
    pub secret_ttl: Duration,
    /// [`CONTACT_HASH_KEY`]
    pub contact_hash_key: Option<ContactHashKey>,
}

impl SharedSettings {
    /// Reads the settings; errors are added to the reader.
    pub fn from_reader(reader: &mut EnvReader<'_>) -> Self {
        let rate = |text: &str| text.parse().ok().filter(|rate: &NonZeroU32| rate.get() <= 1000);
        let rate_format = "a whole number from 1 to 1000";
        Self {
            relayed_events: reader.parse(
                RELAYED_EVENTS,
                EventSelection(vec![EventPattern::Name(CONTACT_CREATED.to_owned())]),
                "a comma-separated list of event names as Loops writes them, prefix.* or *",
                "contact.created,email.*",
                |text| text.parse().ok(),
            ),
            signature_tolerance: reader.parse(
                SIGNATURE_TOLERANCE_SECONDS,
                NonZeroU32::new(300),
                "a whole number of seconds from 0 (any time is taken) to 4294967295",
                "300",
                |text| text.parse().ok().map(NonZeroU32::new),
            ),
            clay_payload: reader
                .parse(CLAY_PAYLOAD, PayloadFormat::Raw, "raw or with-id", "raw", |text| text.parse().ok()),
            clay_rate: reader.parse(CLAY_RATE_PER_SECOND, DEFAULT_RATE_PER_SECOND, rate_format, "8", rate),
            loops_rate: reader.parse(LOOPS_RATE_PER_SECOND, DEFAULT_RATE_PER_SECOND, rate_format, "8", rate),
            loops_api_url: reader.parse(
                LOOPS_API_URL,
                DEFAULT_LOOPS_API_URL.to_owned(),
                "an https URL (http only for this machine) without a query and without a user name",
                DEFAULT_LOOPS_API_URL,
                |text| {
                    let url = parse_destination_url(text).ok()?;
                    (url.query().is_none() && url.fragment().is_none()).then(|| url.into())
                },
            ),
            contact_source: reader.parse(CONTACT_SOURCE, None, "a text of at most 498 characters", "Clay", |text| {
                (text.chars().count() <= MAX_SOURCE_CHARS).then(|| (!text.is_empty()).then(|| text.to_owned()))
            }),
            typed_properties: reader.parse(TYPED_PROPERTIES, true, "on or off", "on", |text| match text {
                "on" => Some(true),
                "off" => Some(false),
                _ => None,
            }),
            secret_ttl: reader.parse(
                SECRET_TTL_SECONDS,
                Duration::from_secs(300),
                "a whole number of seconds from 1 to 86400",
                "300",
                |text| text.parse().ok().filter(|seconds| (1..=86_400).contains(seconds)).map(Duration::from_secs),
            ),
            contact_hash_key: reader.raw(CONTACT_HASH_KEY).and_then(ContactHashKey::new),
        }
    }
}

/// The process's environment, as a map that settings are read from.
pub fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(variables: &[(&str, &str)]) -> Result<SharedSettings, Vec<SettingError>> {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut reader = EnvReader::new(&variables);
        let settings = SharedSettings::from_reader(&mut reader);
        reader.into_result(settings)
    }

    #[test]
    fn unset_variables_use_defaults() {
        let settings = parse(&[]).unwrap();
        assert!(settings.relayed_events.selects("contact.created"));
        assert!(!settings.relayed_events.selects("contact.deleted"));
        assert_eq!(settings.signature_tolerance, NonZeroU32::new(300));
        assert_eq!((settings.clay_rate.get(), settings.loops_rate.get()), (8, 8));
        assert_eq!(settings.loops_api_url, "https://app.loops.so/api");
        assert_eq!(settings.contact_source, None);
        assert!(settings.typed_properties);
    }

    #[test]
    fn empty_relayed_events_selects_nothing() {
        assert!(!parse(&[(RELAYED_EVENTS, "")]).unwrap().relayed_events.selects("contact.created"));
    }

    #[test]
    fn all_setting_errors_are_reported_with_examples() {
        let errors = parse(&[
            (RELAYED_EVENTS, "contact.*.x"),
            (SIGNATURE_TOLERANCE_SECONDS, "5m"),
            (CLAY_PAYLOAD, "json"),
            (CLAY_RATE_PER_SECOND, "0"),
            (LOOPS_RATE_PER_SECOND, "-1"),
            (LOOPS_API_URL, "http://app.loops.so/api"),
            (TYPED_PROPERTIES, "yes"),
            (SECRET_TTL_SECONDS, "0"),
        ])
        .unwrap_err();
        assert_eq!(errors.len(), 8);
        assert_eq!(
            errors[3].to_string(),
            "CLAY_RATE_PER_SECOND must be a whole number from 1 to 1000, for example CLAY_RATE_PER_SECOND=8"
        );
    }

    #[test]
    fn value_with_leftovers_of_its_file_is_an_error_that_names_it() {
        for (name, value, part) in [
            (RELAYED_EVENTS, "\"contact.created\"", "without quotes"),
            (CLAY_RATE_PER_SECOND, "'8'", "without quotes"),
            (CONTACT_SOURCE, "“Clay”", "without quotes"),
            (CONTACT_HASH_KEY, "'0123456789abcdef'", "without quotes"),
            (LOOPS_API_URL, "https://app.loops.so/api\"", "without quotes"),
            (TYPED_PROPERTIES, "on # the default", "without a comment"),
            (CONTACT_SOURCE, "\u{feff}Clay", "without invisible characters"),
            (CONTACT_SOURCE, "Clay\rimport", "without invisible characters"),
            (CLAY_PAYLOAD, "CLAY_PAYLOAD=raw", "without its own name"),
            (CONTACT_SOURCE, "${SOURCE}", "the value itself"),
            (RELAYED_EVENTS, "{{events}}", "the value itself"),
            (RELAYED_EVENTS, "contact.created;email.*", "a comma-separated list"),
            (RELAYED_EVENTS, "Contact.Created", "a comma-separated list"),
        ] {
            let errors = parse(&[(name, value)]).unwrap_err();
            assert_eq!((errors.len(), errors[0].name), (1, name), "{value}: {errors:?}");
            assert!(errors[0].to_string().contains(part), "{value}: {}", errors[0]);
        }
    }

    #[test]
    fn variable_under_a_miswritten_name_is_an_error_that_names_it() {
        for name in ["export CLAY_PAYLOAD", "\u{feff}CLAY_PAYLOAD", " CLAY_PAYLOAD"] {
            let errors = parse(&[(name, "raw")]).unwrap_err();
            assert_eq!((errors.len(), errors[0].name), (1, CLAY_PAYLOAD), "{name:?}");
        }
        assert!(parse(&[("MY_CLAY_PAYLOAD", "raw"), ("export CLAY_PAYLOAD", "x"), (CLAY_PAYLOAD, "raw")]).is_ok());
    }

    #[test]
    fn ordinary_text_and_windows_line_end_are_accepted() {
        for source in ["Clay", "Clay import #2", "Clay \"beta\"", "Köln — Büro's", "👩\u{200d}💻 team", "a ${b}"]
        {
            assert_eq!(parse(&[(CONTACT_SOURCE, source)]).unwrap().contact_source.as_deref(), Some(source));
        }
        assert_eq!(parse(&[(CLAY_RATE_PER_SECOND, "9\r")]).unwrap().clay_rate.get(), 9);
    }

    #[test]
    fn setting_error_hides_the_value() {
        let errors = parse(&[(LOOPS_API_URL, "whsec_hidden")]).unwrap_err();
        assert!(!format!("{errors:?} {}", errors[0]).contains("hidden"));
    }
}
