//! What a command prints: a JSON document, or lines and tables for people.

use std::io::{self, IsTerminal as _, Write as _};

use comfy_table::{Cell, ColumnConstraint, ContentArrangement, Row, Table, Width, presets};
use serde::Serialize;

use crate::error::Error;

/// Standard output, as the options want it.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    json: bool,
    is_terminal: bool,
    use_color: bool,
}

/// A colour with a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Well.
    Ok,
    /// Worth a look.
    Warn,
    /// Broken.
    Fail,
}

impl Output {
    /// An output in JSON, or for people; coloured on a terminal, unless `NO_COLOR` is set (no-color.org).
    #[must_use]
    pub fn new(json: bool) -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let is_terminal = !json && io::stdout().is_terminal();
        Self { json, is_terminal, use_color: is_terminal && !no_color }
    }

    /// Whether a JSON document is wanted.
    #[must_use]
    pub const fn is_json(self) -> bool {
        self.json
    }

    /// Prints the document, where JSON is wanted.
    ///
    /// # Errors
    /// When nothing can be printed.
    pub fn print_json(self, document: &impl Serialize) -> Result<(), Error> {
        if self.json {
            let text = serde_json::to_string_pretty(document)?;
            writeln!(io::stdout().lock(), "{text}")?;
        }
        Ok(())
    }

    /// Prints a line, where people read.
    ///
    /// # Errors
    /// When nothing can be printed.
    pub fn print(self, text: impl std::fmt::Display) -> Result<(), Error> {
        if !self.json {
            writeln!(io::stdout().lock(), "{text}")?;
        }
        Ok(())
    }

    /// A table with this header, in the style of all of them; print it with [`print_table`](Self::print_table).
    #[must_use]
    pub fn table<const N: usize>(self, header: [&str; N]) -> Table {
        let mut table = Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(header);
        if !self.is_terminal {
            table.force_no_tty();
        }
        table
    }

    /// Lines in columns without a frame, two spaces apart; the last column takes what the terminal has left, in as many
    /// lines as it needs.
    #[must_use]
    pub fn columns<const N: usize>(self, rows: impl IntoIterator<Item = [String; N]>) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).add_rows(rows);
        if !self.is_terminal {
            table.force_no_tty();
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        table.trim_fmt()
    }

    /// Prints a table, where the terminal has room for it without breaking a word: so an id in it can be copied. Where it has
    /// none, each row is some lines instead, and nothing is left out: the first has the cells of the columns `first`.
    ///
    /// # Errors
    /// When nothing can be printed.
    pub fn print_table(self, mut table: Table, head_columns: &[usize]) -> Result<(), Error> {
        match fit_columns(&mut table) {
            Ok(()) => self.print(table),
            Err(table_width) => self.print(as_blocks(&table, head_columns, table_width)),
        }
    }

    /// A text in a colour, where there are colours.
    #[must_use]
    pub fn colorize(self, severity: Severity, text: &str) -> String {
        let code = match severity {
            Severity::Ok => 32,
            Severity::Warn => 33,
            Severity::Fail => 31,
        };
        if self.use_color { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// What stands between two columns: a space each, and where a line would be.
const COLUMN_GAP: usize = 3;

/// The rows of a table below one another, in this many characters.
fn as_blocks(table: &Table, head_columns: &[usize], table_width: usize) -> String {
    let titles: Vec<String> = table.header().into_iter().flat_map(Row::cell_iter).map(Cell::content).collect();
    let rows = table.row_iter().map(|row| {
        let cells: Vec<String> = row.cell_iter().map(Cell::content).collect();
        let head: Vec<&str> = head_columns.iter().filter_map(|index| cells.get(*index)).map(String::as_str).collect();
        let rest = titles.iter().zip(&cells).enumerate();
        let rest = rest.filter(|(index, (_, cell))| !head_columns.contains(index) && !cell.is_empty());
        let rest: Vec<String> = rest.map(|(_, (title, cell))| format!("{title} {cell}")).collect();
        let mut lines = vec![head.join("  ")];
        let mut line = String::new();
        for pair in rest {
            // Two spaces before, and two signs between the pairs or one behind.
            if !line.is_empty() && line.chars().count() + pair.chars().count() + 5 > table_width {
                lines.push(format!("  {line},"));
                line.clear();
            }
            line.push_str(if line.is_empty() { "" } else { ", " });
            line.push_str(&pair);
        }
        lines.push(format!("  {line}"));
        lines.join("\n")
    });
    rows.collect::<Vec<_>>().join("\n")
}

/// Keeps the words of a table whole, or tells in how many characters there is no room for that.
fn fit_columns(table: &mut Table) -> Result<(), usize> {
    // A pipe has no width, and gets everything in one line.
    let Some(table_width) = table.width().map(usize::from) else { return Ok(()) };
    let longest_word = |text: &str| text.split_whitespace().map(|word| word.chars().count()).max().unwrap_or_default();
    let titles: Vec<String> = table.header().into_iter().flat_map(Row::cell_iter).map(Cell::content).collect();
    let cells = |column| table.column_cells_iter(column).flatten().map(Cell::content);
    let min_widths: Vec<usize> = titles
        .iter()
        .enumerate()
        .map(|(column, title)| cells(column).map(|cell| longest_word(&cell)).fold(longest_word(title), usize::max))
        .collect();
    if min_widths.iter().map(|width| width + COLUMN_GAP).sum::<usize>() > table_width {
        return Err(table_width);
    }
    for (column, width) in min_widths.into_iter().enumerate() {
        // The column's own spaces count.
        let width = Width::Fixed(u16::try_from(width + COLUMN_GAP - 1).unwrap_or(u16::MAX));
        if let Some(column) = table.column_mut(column) {
            column.set_constraint(ColumnConstraint::LowerBoundary(width));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "contact_9cfdceea313c490e83920f7a467df2a1";
    const CELLS: [&str; 5] =
        ["2026-01-15 09:30:00Z", "clay-to-loops", "contact", ID, "leave: it is no delivery (drop it)"];

    fn render_table(width: Option<u16>) -> String {
        let output = Output { json: false, is_terminal: false, use_color: false };
        let mut table = output.table(["died", "direction", "what", "id", "outcome"]);
        table.add_row(CELLS);
        if let Some(width) = width {
            table.set_width(width);
        }
        match fit_columns(&mut table) {
            Ok(()) => table.to_string(),
            Err(table_width) => as_blocks(&table, &[3, 4], table_width),
        }
    }

    #[test]
    fn table_at_any_width_keeps_ids_whole_and_every_cell() {
        for (width, is_table) in [(140, true), (100, true), (80, false), (60, false)] {
            let rendered = render_table(Some(width));
            assert!(rendered.contains(ID), "{width}: {rendered}");
            assert_eq!(rendered.contains("direction  "), is_table, "{width}: {rendered}");
            for word in CELLS.iter().flat_map(|cell| cell.split(' ')) {
                assert!(rendered.contains(word), "{width}, {word}: {rendered}");
            }
            let max_width = if is_table { usize::from(width) } else { usize::from(width).max(76) };
            assert!(rendered.lines().all(|line| line.chars().count() <= max_width), "{width}: {rendered}");
        }
    }

    #[test]
    fn piped_table_has_each_row_on_one_line() {
        let rendered = render_table(None);
        let row = rendered.lines().find(|line| line.contains(ID)).unwrap();
        assert!(CELLS.iter().all(|cell| row.contains(cell)), "{rendered}");
    }
}
