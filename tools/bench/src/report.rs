//! The figures of a run, as they are written to `bench.json`.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::machine::Machine;

/// Everything that `relay-bench run` has measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) method: Method,
    pub(crate) load: Vec<LoadFigures>,
    pub(crate) ratios: Vec<Ratio>,
    pub(crate) commits: Vec<CommitFigures>,
    pub(crate) operations: Vec<OperationFigures>,
}

/// How much was measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Method {
    /// How often each figure was taken, all figures in turns.
    pub(crate) rounds: u32,
    /// How long each run took, after a warm-up.
    pub(crate) seconds: u32,
    /// How many settled deliveries the store with the backlog has.
    pub(crate) settled: u32,
    /// How many deliveries wait in it.
    pub(crate) waiting: u32,
}

/// The figures of one scenario at one number of callers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LoadFigures {
    pub(crate) scenario: String,
    pub(crate) callers: usize,
    pub(crate) per_second: Spread,
    pub(crate) p50_ms: Spread,
    pub(crate) p99_ms: Spread,
    /// Processor time of the server for each request, in microseconds.
    pub(crate) cpu_us: Spread,
    /// Peak memory of the server, in megabytes (1,000,000 bytes).
    pub(crate) peak_mb: Spread,
}

/// A figure of one scenario divided by that of another one in the same round.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Ratio {
    pub(crate) what: String,
    pub(crate) callers: usize,
    pub(crate) ratio: Spread,
}

/// Bare commits of so many rows each.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CommitFigures {
    pub(crate) rows_per_commit: u32,
    pub(crate) rows_per_second: Spread,
}

/// One operation on an empty store and on the one with the backlog.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct OperationFigures {
    pub(crate) operation: String,
    pub(crate) unit: String,
    pub(crate) empty: Spread,
    pub(crate) backlog: Spread,
}

/// The median of the rounds, and the smallest and the largest value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Returns the spread of at least one value. Of an even number, the median is the upper one of the two in the middle.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        Self { median: at(values.len() / 2), min: at(0), max: at(values.len().saturating_sub(1)) }
    }
}

impl Report {
    pub(crate) fn read(file: &Path) -> io::Result<Self> {
        Ok(serde_json::from_str(&fs::read_to_string(file)?)?)
    }

    pub(crate) fn write(&self, file: &Path) -> io::Result<()> {
        fs::write(file, format!("{}\n", serde_json::to_string_pretty(self)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_has_the_median_and_both_ends() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(Spread::of([4.0]), Spread { median: 4.0, min: 4.0, max: 4.0 });
    }
}
