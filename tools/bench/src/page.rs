//! The tables of a run, as they are printed and as they stand in docs/performance.md.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use crate::report::{Report, Spread};

/// The lines between which a page has the tables.
const BEGIN: &str = "<!-- Made by `make bench-render` from bench.json: -->";
const END: &str = "<!-- The end of what was made. -->";
/// What a page has before there is a run.
const NO_RUN: &str = "No run is published yet: `make bench` prints one of your own machine.\n";

/// Returns the tables of a run, in Markdown.
pub(crate) fn render(report: &Report) -> String {
    let commits = report.commits.iter();
    let commits = commits.map(|each| vec![each.rows_per_commit.to_string(), spread(each.rows_per_second)]);
    let operations = report.operations.iter();
    let operations = operations
        .map(|each| vec![format!("{}, {}", each.operation, each.unit), spread(each.empty), spread(each.backlog)]);
    [
        about(report),
        load_table(report),
        "relay-local's ratios within a round:\n".to_owned(),
        ratio_table(report),
        "Bare commits to the same disk, by one thread:\n".to_owned(),
        table(&["rows in a commit", "rows a second"], commits),
        "The operator's side, with an empty store and with the backlog:\n".to_owned(),
        table(&["operation", "empty", "backlog"], operations),
    ]
    .join("\n")
}

fn load_table(report: &Report) -> String {
    let columns = ["callers", "server", "a second", "p50, ms", "p99, ms", "CPU a request, µs", "peak memory, MB"];
    let rows = report.load.iter().map(|each| {
        let spreads = [each.per_second, each.p50_ms, each.p99_ms, each.cpu_us, each.peak_mb].map(spread);
        [each.callers.to_string(), each.scenario.clone()].into_iter().chain(spreads).collect()
    });
    table(&columns, rows)
}

/// A row for each ratio, and a column for each number of callers.
fn ratio_table(report: &Report) -> String {
    let callers: BTreeSet<usize> = report.ratios.iter().map(|ratio| ratio.callers).collect();
    let columns: Vec<String> = callers.iter().map(usize::to_string).collect();
    let columns: Vec<&str> = std::iter::once("ratio, by callers").chain(columns.iter().map(String::as_str)).collect();
    let mut names: Vec<&str> = report.ratios.iter().map(|ratio| ratio.what.as_str()).collect();
    names.dedup();
    let rows = names.into_iter().map(|name| {
        let find = |count| report.ratios.iter().find(|ratio| ratio.what == name && ratio.callers == count);
        let cells =
            callers.iter().map(|count| find(*count).map_or_else(|| "–".to_owned(), |found| spread(found.ratio)));
        std::iter::once(name.to_owned()).chain(cells).collect()
    });
    table(&columns, rows)
}

fn table(columns: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut text = format!("| {} |\n|{}\n", columns.join(" | "), "---|".repeat(columns.len()));
    for row in rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text
}

/// What was measured, and on what.
fn about(report: &Report) -> String {
    let (machine, method) = (&report.machine, &report.method);
    let versions: Vec<String> = machine.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    format!(
        "{}, {} cores; Linux {}, {}; {}. Load of the machine before: {}. Of each figure the median, and \
         in parentheses the smallest and the largest; rounds: {}, seconds of a run: {}. The backlog is {} settled deliveries and {} that wait.\n",
        machine.processor,
        machine.cores,
        machine.kernel,
        machine.filesystem,
        versions.join(", "),
        machine.load_before,
        method.rounds,
        method.seconds,
        grouped(method.settled.into()),
        grouped(method.waiting.into()),
    )
}

/// Puts the tables of a run, or the sentence that there is none, into a page.
pub(crate) fn write_into(page: &Path, json: &Path) -> io::Result<()> {
    let text = updated(&fs::read_to_string(page)?, json)?;
    fs::write(page, text)
}

/// Returns a page with the tables of the run in this file, if there is one.
fn updated(page: &str, json: &Path) -> io::Result<String> {
    let tables = if json.exists() { render(&Report::read(json)?) } else { NO_RUN.to_owned() };
    let parts = page.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = parts.ok_or_else(|| io::Error::other(format!("the page has no lines {BEGIN} and {END}")))?;
    Ok(format!("{before}{BEGIN}\n\n{tables}\n{END}{after}"))
}

/// Writes a spread as `median (min–max)`.
fn spread(Spread { median, min, max }: Spread) -> String {
    format!("{} ({}–{})", number(median), number(min), number(max))
}

/// Writes a number with three digits that count, or all of its whole ones.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => grouped(value.round() as u64),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Writes a number with commas between its thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_in_the_docs_has_the_tables_of_the_run_beside_it() {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
        let page = fs::read_to_string(docs.join("performance.md")).unwrap();
        let updated = updated(&page, &docs.join("bench.json")).unwrap();
        assert!(page == updated, "docs/performance.md is out of date: run `make bench-render`");
    }

    #[test]
    fn page_without_its_two_lines_is_refused() {
        assert!(updated("# Performance", Path::new("none.json")).is_err());
    }

    #[test]
    fn numbers_have_three_digits_that_count() {
        for (value, text) in
            [(0.0, "0.00"), (9.994, "9.99"), (22.26, "22.3"), (8899.4, "8,899"), (1_234_567.0, "1,234,567")]
        {
            assert_eq!(number(value), text);
        }
        assert_eq!(spread(Spread { median: 2.0, min: 1.5, max: 200.0 }), "2.00 (1.50–200)");
    }
}
