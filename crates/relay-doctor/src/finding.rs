//! What a check found.

use serde::Serialize;
use strum::{IntoStaticStr, VariantArray};

use crate::check::Check;

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, IntoStaticStr, VariantArray)]
#[serde(into = "&'static str")]
#[strum(serialize_all = "lowercase")]
pub enum Severity {
    /// Nothing is wrong.
    Ok,
    /// The operator should look at it.
    Warn,
    /// It is broken.
    Fail,
}

impl Severity {
    /// Returns it as JSON documents have it.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Result of a check, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The check.
    pub check: Check,
    /// How bad it is.
    #[serde(rename = "outcome")]
    pub severity: Severity,
    /// What was seen.
    pub observed: String,
    /// What to do, unless all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Section of the runbook, unless all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runbook: Option<String>,
}

impl Check {
    /// All is well.
    pub fn ok(self, observed: impl Into<String>) -> Finding {
        Finding { check: self, severity: Severity::Ok, observed: observed.into(), remedy: None, runbook: None }
    }

    /// Something that the operator should look at.
    pub fn warn(self, observed: impl Into<String>, remedy: impl Into<String>) -> Finding {
        self.problem(Severity::Warn, observed.into(), remedy.into())
    }

    /// Something that is broken.
    pub fn fail(self, observed: impl Into<String>, remedy: impl Into<String>) -> Finding {
        self.problem(Severity::Fail, observed.into(), remedy.into())
    }

    /// Something that is not well, or that could not be checked.
    pub fn problem(self, severity: Severity, observed: String, remedy: String) -> Finding {
        Finding { check: self, severity, observed, remedy: Some(remedy), runbook: Some(self.runbook_url()) }
    }
}

/// Joins the first three names, and counts the others.
pub fn list_names(names: &[String]) -> String {
    const MAX_NAMES: usize = 3;
    let first = names.iter().take(MAX_NAMES).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MAX_NAMES) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_list_shows_three_and_counts_the_rest() {
        let names = ["a", "b", "c", "d", "e"].map(str::to_owned);
        assert_eq!((list_names(&names), list_names(&names[..1])), ("a, b, c and 2 more".to_owned(), "a".to_owned()));
    }
}
