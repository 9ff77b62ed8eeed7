//! What a check found.

use serde::Serialize;

use crate::doctor::check::Check;
use crate::error::Error;
use crate::exit::ExitStatus;
use crate::output::{self, Output};
use crate::target::Options;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// All is well.
    Ok,
    /// Something should be looked at, or could not be.
    Warn,
    /// Something is broken.
    Fail,
}

impl Severity {
    const ALL: [Self; 3] = [Self::Ok, Self::Warn, Self::Fail];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }

    const fn output_severity(self) -> output::Severity {
        match self {
            Self::Ok => output::Severity::Ok,
            Self::Warn => output::Severity::Warn,
            Self::Fail => output::Severity::Fail,
        }
    }
}

/// What a check found, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The check's name.
    pub check: Check,
    /// How it came out.
    #[serde(rename = "outcome")]
    pub severity: Severity,
    /// What was seen.
    pub observed: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// The section of the runbook that says more, where all is not well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runbook: Option<String>,
}

impl Finding {
    /// All is well.
    pub fn ok(check: Check, observed: impl Into<String>) -> Self {
        Self { check, severity: Severity::Ok, observed: observed.into(), remedy: None, runbook: None }
    }

    /// Something should be looked at.
    pub fn warn(check: Check, observed: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::problem(check, Severity::Warn, observed.into(), remedy.into())
    }

    /// Something is broken.
    pub fn fail(check: Check, observed: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::problem(check, Severity::Fail, observed.into(), remedy.into())
    }

    fn problem(check: Check, severity: Severity, observed: String, remedy: String) -> Self {
        Self { check, severity, observed, remedy: Some(remedy), runbook: Some(check.runbook_url()) }
    }

    /// A check that would need what another one has not got at.
    #[must_use]
    pub fn skipped(check: Check, blocking_check: Check) -> Self {
        Self::warn(check, "not known: the secret could not be read", format!("see {blocking_check}"))
    }

    /// A check that could not look: for want of a permission or of patience that is worth a warning, else a failure.
    #[must_use]
    pub fn from_error(check: Check, error: &Error) -> Self {
        let message = error.to_string();
        let (observed, remedy) = split_remedy(&message).unwrap_or((&message, "run doctor again"));
        match error {
            Error::AccessDenied { .. } | Error::Throttled { .. } => Self::warn(check, observed, remedy),
            _ => Self::fail(check, observed, remedy),
        }
    }
}

/// A sentence as what happened and what to do: at its first colon that is not within parentheses, where a system's own
/// words stand.
fn split_remedy(message: &str) -> Option<(&str, &str)> {
    let mut depth = 0_usize;
    let colon = message.char_indices().find_map(|(index, ch)| {
        match ch {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ':' if depth == 0 && message.get(index..).is_some_and(|rest| rest.starts_with(": ")) => return Some(index),
            _ => {}
        }
        None
    })?;
    Some((message.get(..colon)?, message.get(colon + 2..)?))
}

/// The first of these names, as many as a line has room for, and how many more there are.
#[must_use]
pub fn list_names(names: &[String]) -> String {
    const MAX_NAMES: usize = 3;
    let first = names.iter().take(MAX_NAMES).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MAX_NAMES) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

/// All findings.
#[derive(Debug, Serialize)]
pub struct Report {
    /// What was examined.
    pub relay: String,
    /// The worst outcome.
    #[serde(rename = "outcome")]
    pub severity: Severity,
    /// What each check found, in the order in which a delivery meets them.
    pub findings: Vec<Finding>,
}

impl Report {
    /// The examination of this relay.
    #[must_use]
    pub fn new(relay: String, findings: Vec<Finding>) -> Self {
        let severity = findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Ok);
        Self { relay, severity, findings }
    }

    /// The examination with every command in it as it is called for this relay.
    #[must_use]
    pub fn with_command_line(mut self, options: &Options) -> Self {
        for finding in &mut self.findings {
            finding.observed = options.with_command_line(&finding.observed);
            finding.remedy = finding.remedy.take().map(|remedy| options.with_command_line(&remedy));
        }
        self
    }

    /// The exit code that it leads to.
    #[must_use]
    pub const fn exit_status(&self) -> ExitStatus {
        match self.severity {
            Severity::Ok => ExitStatus::Ok,
            Severity::Warn => ExitStatus::Warnings,
            Severity::Fail => ExitStatus::Failed,
        }
    }

    /// The findings for people.
    #[must_use]
    pub fn render(&self, output: Output) -> String {
        let lines = self.findings.iter().map(|finding| {
            let remedy = finding.remedy.iter().map(|to_do| format!("-> {to_do}"));
            let runbook_line = finding.runbook.iter().map(|_| format!("see {}", finding.check.runbook_path()));
            let details: Vec<String> =
                std::iter::once(finding.observed.clone()).chain(remedy).chain(runbook_line).collect();
            [finding.severity.as_str().to_owned(), finding.check.name().to_owned(), details.join("\n")]
        });
        let lines = output.columns(lines);
        // What a line begins with is its outcome; what goes on from the line before begins with spaces.
        let colorized =
            lines.lines().map(|line| match Severity::ALL.iter().find(|severity| line.starts_with(severity.as_str())) {
                Some(severity) => {
                    line.replacen(severity.as_str(), &output.colorize(severity.output_severity(), severity.as_str()), 1)
                }
                None => line.to_owned(),
            });
        let lines = colorized.collect::<Vec<_>>().join("\n");
        let count = |severity| self.findings.iter().filter(|finding| finding.severity == severity).count();
        let (ok, warn, fail) = (count(Severity::Ok), count(Severity::Warn), count(Severity::Fail));
        format!("{}\n\n{lines}\n\n{ok} ok, {warn} to look at, {fail} broken", self.relay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::error::Error as LocalError;

    #[test]
    fn worst_finding_decides_the_exit_status() {
        let exit_status_of = |findings| Report::new(String::new(), findings).exit_status();
        let (ok, warn, fail) = (
            Finding::ok(Check::Account, ""),
            Finding::warn(Check::Clock, "", ""),
            Finding::fail(Check::Endpoint, "", ""),
        );
        assert_eq!(exit_status_of(vec![ok.clone()]), ExitStatus::Ok);
        assert_eq!(exit_status_of(vec![ok.clone(), warn.clone()]), ExitStatus::Warnings);
        assert_eq!(exit_status_of(vec![fail, warn, ok]), ExitStatus::Failed);
    }

    #[test]
    fn missing_permission_is_a_warning_naming_it() {
        let error = Error::AccessDenied { action: "logs:FilterLogEvents", on: "a group".to_owned() };
        let finding = Finding::from_error(Check::FunctionErrors, &error);
        assert_eq!(finding.severity, Severity::Warn);
        assert!(finding.observed.contains("logs:FilterLogEvents") && finding.remedy.is_some());
    }

    #[test]
    fn colon_inside_parentheses_does_not_split_message() {
        let detail = "unable to open database file: /data/relay.db".to_owned();
        let error = relay_sqlite::OpenError::Unwritable("/data/relay.db".into(), detail);
        let error = LocalError::from(relay_sqlite::admin::Error::from(error));
        let finding = Finding::from_error(Check::Store, &error.into());
        assert!(finding.observed.ends_with("database file: /data/relay.db)"), "{finding:?}");
        assert!(finding.remedy.unwrap().starts_with("check the folder's permissions"));
    }

    #[test]
    fn name_list_shows_three_and_counts_the_rest() {
        let names = ["a", "b", "c", "d", "e"].map(str::to_owned);
        assert_eq!((list_names(&names), list_names(&names[..1])), ("a, b, c and 2 more".to_owned(), "a".to_owned()));
    }

    #[test]
    fn problem_links_to_runbook_in_json_and_text() {
        let (ok, warn) = (Finding::ok(Check::Account, ""), Finding::warn(Check::Clock, "it is late", "set it"));
        let report = Report::new("A relay".to_owned(), vec![ok, warn]);
        let json = serde_json::to_value(&report).unwrap();
        assert!(json["findings"][0].get("runbook").is_none(), "{json}");
        assert!(json["findings"][1]["runbook"].as_str().unwrap().ends_with("/docs/runbook.md#doctor-clock"));
        let text = report.render(Output::new(false));
        assert!(text.contains("it is late") && text.contains("see docs/runbook.md#doctor-clock"), "{text}");
        assert!(!text.contains("#doctor-account"), "{text}");
    }
}
