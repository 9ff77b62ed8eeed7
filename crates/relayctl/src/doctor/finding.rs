//! What a check found.

use serde::Serialize;

use crate::ending::Ending;
use crate::fault::Fault;
use crate::output::{Colour, Output};
use crate::target::Options;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// All is well.
    Ok,
    /// Something should be looked at, or could not be.
    Warn,
    /// Something is broken.
    Fail,
}

/// What a check found, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The check's name.
    pub check: &'static str,
    /// How it came out.
    pub outcome: Outcome,
    /// What was seen.
    pub seen: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_do: Option<String>,
}

impl Finding {
    /// All is well.
    pub fn ok(check: &'static str, seen: impl Into<String>) -> Self {
        Self { check, outcome: Outcome::Ok, seen: seen.into(), to_do: None }
    }

    /// Something should be looked at.
    pub fn warn(check: &'static str, seen: impl Into<String>, to_do: impl Into<String>) -> Self {
        Self { check, outcome: Outcome::Warn, seen: seen.into(), to_do: Some(to_do.into()) }
    }

    /// Something is broken.
    pub fn fail(check: &'static str, seen: impl Into<String>, to_do: impl Into<String>) -> Self {
        Self { check, outcome: Outcome::Fail, seen: seen.into(), to_do: Some(to_do.into()) }
    }

    /// A check that could not look: for want of a permission or of patience that is worth a warning, else a failure.
    #[must_use]
    pub fn of(check: &'static str, fault: &Fault) -> Self {
        let told = fault.to_string();
        let (seen, to_do) = told.split_once(": ").unwrap_or((&told, "run doctor again"));
        match fault {
            Fault::Denied { .. } | Fault::Throttled { .. } => Self::warn(check, seen, to_do),
            _ => Self::fail(check, seen, to_do),
        }
    }
}

/// All findings.
#[derive(Debug, Serialize)]
pub struct Examination {
    /// What was examined.
    pub relay: String,
    /// The worst outcome.
    pub outcome: Outcome,
    /// What each check found, in the order in which a delivery meets them.
    pub findings: Vec<Finding>,
}

impl Examination {
    /// The examination of this relay.
    #[must_use]
    pub fn new(relay: String, findings: Vec<Finding>) -> Self {
        let outcome = findings.iter().map(|finding| finding.outcome).max().unwrap_or(Outcome::Ok);
        Self { relay, outcome, findings }
    }

    /// The examination with every command in it as it is called for this relay.
    #[must_use]
    pub fn addressed(mut self, options: &Options) -> Self {
        for finding in &mut self.findings {
            finding.seen = options.addressed(&finding.seen);
            finding.to_do = finding.to_do.take().map(|to_do| options.addressed(&to_do));
        }
        self
    }

    /// The exit code that it leads to.
    #[must_use]
    pub const fn ending(&self) -> Ending {
        match self.outcome {
            Outcome::Ok => Ending::Well,
            Outcome::Warn => Ending::Warnings,
            Outcome::Fail => Ending::Refused,
        }
    }

    /// The findings for people.
    #[must_use]
    pub fn text(&self, output: Output) -> String {
        let width = self.findings.iter().map(|finding| finding.check.len()).max().unwrap_or_default();
        let mut lines = vec![format!("{}\n", self.relay)];
        for finding in &self.findings {
            let (word, colour) = match finding.outcome {
                Outcome::Ok => ("ok  ", Colour::Green),
                Outcome::Warn => ("warn", Colour::Yellow),
                Outcome::Fail => ("fail", Colour::Red),
            };
            lines.push(format!("{}  {:<width$}  {}", output.paint(colour, word), finding.check, finding.seen));
            if let Some(to_do) = &finding.to_do {
                lines.push(format!("      {:<width$}  -> {to_do}", ""));
            }
        }
        let count = |outcome| self.findings.iter().filter(|finding| finding.outcome == outcome).count();
        let (ok, warn, fail) = (count(Outcome::Ok), count(Outcome::Warn), count(Outcome::Fail));
        lines.push(format!("\n{ok} ok, {warn} to look at, {fail} broken"));
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_decides() {
        let of = |findings| Examination::new(String::new(), findings).ending();
        let (ok, warn, fail) = (Finding::ok("a", ""), Finding::warn("b", "", ""), Finding::fail("c", "", ""));
        assert_eq!(of(vec![ok.clone()]), Ending::Well);
        assert_eq!(of(vec![ok.clone(), warn.clone()]), Ending::Warnings);
        assert_eq!(of(vec![fail, warn, ok]), Ending::Refused);
    }

    #[test]
    fn a_missing_permission_is_a_warning_that_names_it() {
        let fault = Fault::Denied { action: "logs:FilterLogEvents", on: "a group".to_owned() };
        let finding = Finding::of("function-errors", &fault);
        assert_eq!(finding.outcome, Outcome::Warn);
        assert!(finding.seen.contains("logs:FilterLogEvents") && finding.to_do.is_some());
    }
}
