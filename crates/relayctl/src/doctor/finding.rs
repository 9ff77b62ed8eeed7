//! What a check found, and the report of all findings.

use serde::Serialize;
use strum::VariantArray as _;

use crate::doctor::check::Check;
use crate::error::Error;
use crate::exit::ExitStatus;
use crate::explain::{Explain as _, Explanation};
use crate::output::{Output, Severity};

/// Result of a check, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Finding {
    pub(crate) check: Check,
    #[serde(rename = "outcome")]
    pub(crate) severity: Severity,
    pub(crate) observed: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) remedy: Option<String>,
    /// Section of the runbook, unless all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) runbook: Option<String>,
}

impl Check {
    pub(crate) fn ok(self, observed: impl Into<String>) -> Finding {
        Finding { check: self, severity: Severity::Ok, observed: observed.into(), remedy: None, runbook: None }
    }

    /// Something that the operator should look at.
    pub(crate) fn warn(self, observed: impl Into<String>, remedy: impl Into<String>) -> Finding {
        self.problem(Severity::Warn, observed.into(), remedy.into())
    }

    /// Something that is broken.
    pub(crate) fn fail(self, observed: impl Into<String>, remedy: impl Into<String>) -> Finding {
        self.problem(Severity::Fail, observed.into(), remedy.into())
    }

    fn problem(self, severity: Severity, observed: String, remedy: String) -> Finding {
        Finding { check: self, severity, observed, remedy: Some(remedy), runbook: Some(self.runbook_url()) }
    }
}

impl Finding {
    /// A check that could not be made: a warning if AWS denies or throttles the call, else a failure.
    pub(crate) fn from_error(check: Check, error: &Error) -> Self {
        let severity = if error.is_denied_or_throttled() { Severity::Warn } else { Severity::Fail };
        let Explanation { problem, remedy, .. } = error.explain();
        check.problem(severity, problem, remedy)
    }

    /// The finding of a check, or why it could not be made.
    pub(crate) fn from_result(check: Check, result: Result<Self, Error>) -> Self {
        result.unwrap_or_else(|error| Self::from_error(check, &error))
    }
}

/// Joins the first three names, and counts the others.
pub(crate) fn list_names(names: &[String]) -> String {
    const MAX_NAMES: usize = 3;
    let first = names.iter().take(MAX_NAMES).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MAX_NAMES) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

/// All findings about one relay.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    relay: String,
    /// The worst of the findings.
    #[serde(rename = "outcome")]
    severity: Severity,
    findings: Vec<Finding>,
}

impl Report {
    pub(crate) fn new(relay: String, findings: Vec<Finding>) -> Self {
        let severity = findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Ok);
        Self { relay, severity, findings }
    }

    pub(crate) const fn exit_status(&self) -> ExitStatus {
        match self.severity {
            Severity::Ok => ExitStatus::Ok,
            Severity::Warn => ExitStatus::Warnings,
            Severity::Fail => ExitStatus::Failed,
        }
    }

    /// Renders the findings for a terminal.
    pub(crate) fn render(&self, output: Output) -> String {
        let lines = self.findings.iter().map(|finding| {
            let remedy = finding.remedy.iter().map(|remedy| format!("-> {remedy}"));
            let runbook_line = finding.runbook.iter().map(|_| format!("see {}", finding.check.runbook_path()));
            let details: Vec<String> =
                std::iter::once(finding.observed.clone()).chain(remedy).chain(runbook_line).collect();
            [finding.severity.as_str().to_owned(), finding.check.to_string(), details.join("\n")]
        });
        let lines = output.columns(lines);
        // A line begins with its severity; one that continues the line before begins with spaces.
        let colorized = lines.lines().map(|line| {
            let severity = Severity::VARIANTS.iter().find(|severity| line.starts_with(severity.as_str()));
            severity.map_or_else(
                || line.to_owned(),
                |severity| line.replacen(severity.as_str(), &output.colorize(*severity, severity.as_str()), 1),
            )
        });
        let lines = colorized.collect::<Vec<_>>().join("\n");
        let count = |severity| self.findings.iter().filter(|finding| finding.severity == severity).count();
        let (ok, warn, fail) = (count(Severity::Ok), count(Severity::Warn), count(Severity::Fail));
        format!("{}\n\n{lines}\n\n{ok} ok, {warn} to look at, {fail} broken", self.relay)
    }
}

#[cfg(test)]
mod tests {
    use relay_aws::sdk::error::{AwsCall, AwsError, AwsErrorKind};

    use super::*;
    use crate::local::error::Error as LocalError;

    #[test]
    fn worst_finding_decides_the_exit_status() {
        let exit_status_of = |findings| Report::new(String::new(), findings).exit_status();
        let (ok, warn, fail) = (Check::Account.ok(""), Check::Clock.warn("", ""), Check::Endpoint.fail("", ""));
        assert_eq!(exit_status_of(vec![ok.clone()]), ExitStatus::Ok);
        assert_eq!(exit_status_of(vec![ok.clone(), warn.clone()]), ExitStatus::Warnings);
        assert_eq!(exit_status_of(vec![fail, warn, ok]), ExitStatus::Failed);
    }

    #[test]
    fn missing_permission_is_a_warning_naming_it() {
        let call = AwsCall::new("logs:FilterLogEvents", "a group", None);
        let error = AwsError { call, kind: AwsErrorKind::AccessDenied, description: String::new() }.into();
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
        let (ok, warn) = (Check::Account.ok(""), Check::Clock.warn("it is late", "set it"));
        let report = Report::new("A relay".to_owned(), vec![ok, warn]);
        let json = serde_json::to_value(&report).unwrap();
        assert!(json["findings"][0].get("runbook").is_none(), "{json}");
        assert!(json["findings"][1]["runbook"].as_str().unwrap().ends_with("/docs/runbook.md#doctor-clock"));
        let text = report.render(Output::new(false));
        assert!(text.contains("it is late") && text.contains("see docs/runbook.md#doctor-clock"), "{text}");
        assert!(!text.contains("#doctor-account"), "{text}");
    }
}
