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

    const fn colour(self) -> output::Severity {
        match self {
            Self::Ok => output::Severity::Green,
            Self::Warn => output::Severity::Yellow,
            Self::Fail => output::Severity::Red,
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
    pub outcome: Severity,
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
    pub fn ok(check: Check, seen: impl Into<String>) -> Self {
        Self { check, outcome: Severity::Ok, observed: seen.into(), remedy: None, runbook: None }
    }

    /// Something should be looked at.
    pub fn warn(check: Check, seen: impl Into<String>, to_do: impl Into<String>) -> Self {
        Self::problem(check, Severity::Warn, seen.into(), to_do.into())
    }

    /// Something is broken.
    pub fn fail(check: Check, seen: impl Into<String>, to_do: impl Into<String>) -> Self {
        Self::problem(check, Severity::Fail, seen.into(), to_do.into())
    }

    fn problem(check: Check, outcome: Severity, seen: String, to_do: String) -> Self {
        Self { check, outcome, observed: seen, remedy: Some(to_do), runbook: Some(check.runbook()) }
    }

    /// A check that would need what another one has not got at.
    #[must_use]
    pub fn skipped(check: Check, other: Check) -> Self {
        Self::warn(check, "not known: the secret could not be read", format!("see {other}"))
    }

    /// A check that could not look: for want of a permission or of patience that is worth a warning, else a failure.
    #[must_use]
    pub fn of(check: Check, error: &Error) -> Self {
        let told = error.to_string();
        let (seen, to_do) = halves(&told).unwrap_or((&told, "run doctor again"));
        match error {
            Error::AccessDenied { .. } | Error::Throttled { .. } => Self::warn(check, seen, to_do),
            _ => Self::fail(check, seen, to_do),
        }
    }
}

/// A sentence as what happened and what to do: at its first colon that is not within parentheses, where a system's own
/// words stand.
fn halves(told: &str) -> Option<(&str, &str)> {
    let mut depth = 0_usize;
    let colon = told.char_indices().find_map(|(at, letter)| {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ':' if depth == 0 && told.get(at..).is_some_and(|rest| rest.starts_with(": ")) => return Some(at),
            _ => {}
        }
        None
    })?;
    Some((told.get(..colon)?, told.get(colon + 2..)?))
}

/// The first of these names, as many as a line has room for, and how many more there are.
#[must_use]
pub fn list_names(names: &[String]) -> String {
    const NAMED: usize = 3;
    let first = names.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED) {
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
    pub outcome: Severity,
    /// What each check found, in the order in which a delivery meets them.
    pub findings: Vec<Finding>,
}

impl Report {
    /// The examination of this relay.
    #[must_use]
    pub fn new(relay: String, findings: Vec<Finding>) -> Self {
        let outcome = findings.iter().map(|finding| finding.outcome).max().unwrap_or(Severity::Ok);
        Self { relay, outcome, findings }
    }

    /// The examination with every command in it as it is called for this relay.
    #[must_use]
    pub fn addressed(mut self, options: &Options) -> Self {
        for finding in &mut self.findings {
            finding.observed = options.addressed(&finding.observed);
            finding.remedy = finding.remedy.take().map(|to_do| options.addressed(&to_do));
        }
        self
    }

    /// The exit code that it leads to.
    #[must_use]
    pub const fn ending(&self) -> ExitStatus {
        match self.outcome {
            Severity::Ok => ExitStatus::Ok,
            Severity::Warn => ExitStatus::Warnings,
            Severity::Fail => ExitStatus::Failed,
        }
    }

    /// The findings for people.
    #[must_use]
    pub fn text(&self, output: Output) -> String {
        let lines = self.findings.iter().map(|finding| {
            let to_do = finding.remedy.iter().map(|to_do| format!("-> {to_do}"));
            let page = finding.runbook.iter().map(|_| format!("see {}", finding.check.page()));
            let told: Vec<String> = std::iter::once(finding.observed.clone()).chain(to_do).chain(page).collect();
            [finding.outcome.as_str().to_owned(), finding.check.name().to_owned(), told.join("\n")]
        });
        let lines = output.columns(lines);
        // What a line begins with is its outcome; what goes on from the line before begins with spaces.
        let painted = lines.lines().map(|line| match Severity::ALL.iter().find(|of| line.starts_with(of.as_str())) {
            Some(of) => line.replacen(of.as_str(), &output.colorize(of.colour(), of.as_str()), 1),
            None => line.to_owned(),
        });
        let lines = painted.collect::<Vec<_>>().join("\n");
        let count = |outcome| self.findings.iter().filter(|finding| finding.outcome == outcome).count();
        let (ok, warn, fail) = (count(Severity::Ok), count(Severity::Warn), count(Severity::Fail));
        format!("{}\n\n{lines}\n\n{ok} ok, {warn} to look at, {fail} broken", self.relay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_decides() {
        let of = |findings| Report::new(String::new(), findings).ending();
        let (ok, warn, fail) = (
            Finding::ok(Check::Account, ""),
            Finding::warn(Check::Clock, "", ""),
            Finding::fail(Check::Endpoint, "", ""),
        );
        assert_eq!(of(vec![ok.clone()]), ExitStatus::Ok);
        assert_eq!(of(vec![ok.clone(), warn.clone()]), ExitStatus::Warnings);
        assert_eq!(of(vec![fail, warn, ok]), ExitStatus::Failed);
    }

    #[test]
    fn a_missing_permission_is_a_warning_that_names_it() {
        let error = Error::AccessDenied { action: "logs:FilterLogEvents", on: "a group".to_owned() };
        let finding = Finding::of(Check::FunctionErrors, &error);
        assert_eq!(finding.outcome, Severity::Warn);
        assert!(finding.observed.contains("logs:FilterLogEvents") && finding.remedy.is_some());
    }

    #[test]
    fn what_a_system_says_in_parentheses_is_not_cut() {
        let detail = "unable to open database file: /data/relay.db".to_owned();
        let error = relay_sqlite::store::OpenError::Unwritable { path: "/data/relay.db".to_owned(), detail };
        let finding = Finding::of(Check::Store, &error.into());
        assert!(finding.observed.ends_with("database file: /data/relay.db)"), "{finding:?}");
        assert!(finding.remedy.unwrap().starts_with("check the folder's permissions"));
    }

    #[test]
    fn of_many_names_the_first_are_told_and_the_others_counted() {
        let names = ["a", "b", "c", "d", "e"].map(str::to_owned);
        assert_eq!((list_names(&names), list_names(&names[..1])), ("a, b, c and 2 more".to_owned(), "a".to_owned()));
    }

    #[test]
    fn what_is_not_well_names_its_section_of_the_runbook_in_both_forms() {
        let (ok, warn) = (Finding::ok(Check::Account, ""), Finding::warn(Check::Clock, "it is late", "set it"));
        let examination = Report::new("A relay".to_owned(), vec![ok, warn]);
        let json = serde_json::to_value(&examination).unwrap();
        assert!(json["findings"][0].get("runbook").is_none(), "{json}");
        assert!(json["findings"][1]["runbook"].as_str().unwrap().ends_with("/docs/runbook.md#doctor-clock"));
        let text = examination.text(Output::new(false));
        assert!(text.contains("it is late") && text.contains("see docs/runbook.md#doctor-clock"), "{text}");
        assert!(!text.contains("#doctor-account"), "{text}");
    }
}
