//! The budgets of `tools/bench/budgets.toml`, which `make bench-check` holds.

use std::path::Path;

use toml::{Table, Value};

/// The budgets.
#[derive(Debug)]
pub(crate) struct Budgets(Table);

impl Budgets {
    /// Reads them.
    pub(crate) fn load() -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/bench/budgets.toml");
        let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        Self(text.parse().unwrap_or_else(|error| panic!("{}: {error}", file.display())))
    }

    /// The most that a section allows of something.
    pub(crate) fn most(&self, section: &str, name: &str) -> u64 {
        let number = self.0.get(section).and_then(|section| section.get(name)).and_then(Value::as_integer);
        number
            .and_then(|number| number.try_into().ok())
            .unwrap_or_else(|| panic!("budgets.toml has no {name} in [{section}]"))
    }

    /// Returns how far an amount is over its budget, as a sentence; nothing if it is within.
    pub(crate) fn exceeded(&self, section: &str, name: &str, amount: u64) -> Option<String> {
        let most = self.most(section, name);
        (amount > most).then(|| format!("{section}, {name}: {amount}, and the budget is {most}"))
    }
}
