//! The report of all findings.

use relay_doctor::check::Check;
use relay_doctor::finding::{Finding, Severity};
use serde::Serialize;
use strum::VariantArray as _;

use crate::error::Error;
use crate::exit::ExitStatus;
use crate::explain::{Explain as _, Explanation};
use crate::output::Output;

/// The finding of a check that could not be made: a warning if AWS denies or throttles the call, else a failure.
pub(crate) fn finding_from_error(check: Check, error: &Error) -> Finding {
    let severity = if error.is_denied_or_throttled() { Severity::Warn } else { Severity::Fail };
    let Explanation { problem, remedy, .. } = error.explain();
    check.problem(severity, problem, remedy)
}

/// The finding of a check, or why it could not be made.
pub(crate) fn finding_from_result(check: Check, result: Result<Finding, Error>) -> Finding {
    result.unwrap_or_else(|error| finding_from_error(check, &error))
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
    use relay_doctor::local_error::LocalError;

    use super::*;

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
        let finding = finding_from_error(Check::FunctionErrors, &error);
        assert_eq!(finding.severity, Severity::Warn);
        assert!(finding.observed.contains("logs:FilterLogEvents") && finding.remedy.is_some());
    }

    #[test]
    fn colon_inside_parentheses_does_not_split_message() {
        let detail = "unable to open database file: /data/relay.db".to_owned();
        let error = relay_sqlite::OpenError::Unwritable("/data/relay.db".into(), detail);
        let error = LocalError::from(relay_sqlite::admin::Error::from(error));
        let finding = finding_from_error(Check::Store, &error.into());
        assert!(finding.observed.ends_with("database file: /data/relay.db)"), "{finding:?}");
        assert!(finding.remedy.unwrap().starts_with("check the folder's permissions"));
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
