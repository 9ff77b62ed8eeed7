//! What a command prints: a JSON document, or lines and tables for people.

use std::io::{self, IsTerminal as _, Write as _};

use comfy_table::{Cell, ColumnConstraint, ContentArrangement, Row, Table, Width, presets};
use serde::Serialize;

use crate::error::Error;

/// Standard output, as the options want it.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    json: bool,
    terminal: bool,
    coloured: bool,
}

/// A colour with a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Well.
    Green,
    /// Worth a look.
    Yellow,
    /// Broken.
    Red,
}

impl Output {
    /// An output in JSON, or for people; coloured on a terminal, unless `NO_COLOR` is set (no-color.org).
    #[must_use]
    pub fn new(json: bool) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let terminal = !json && io::stdout().is_terminal();
        Self { json, terminal, coloured: terminal && !plain }
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

    /// A table with this header, in the style of all of them; print it as a [line](Self::line).
    #[must_use]
    pub fn table<const N: usize>(self, header: [&str; N]) -> Table {
        let mut table = Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(header);
        if !self.terminal {
            table.force_no_tty();
        }
        table
    }

    /// Lines in columns without a frame, two spaces apart; the last column takes what the terminal has left, in as many
    /// lines as it needs.
    #[must_use]
    pub fn columns<const N: usize>(self, lines: impl IntoIterator<Item = [String; N]>) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).add_rows(lines);
        if !self.terminal {
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
    pub fn print_table(self, mut table: Table, first: &[usize]) -> Result<(), Error> {
        match fit_columns(&mut table) {
            Ok(()) => self.print(table),
            Err(room) => self.print(as_blocks(&table, first, room)),
        }
    }

    /// A text in a colour, where there are colours.
    #[must_use]
    pub fn colorize(self, colour: Severity, text: &str) -> String {
        let code = match colour {
            Severity::Green => 32,
            Severity::Yellow => 33,
            Severity::Red => 31,
        };
        if self.coloured { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// What stands between two columns: a space each, and where a line would be.
const COLUMN_GAP: usize = 3;

/// The rows of a table below one another, in this many characters.
fn as_blocks(table: &Table, first: &[usize], room: usize) -> String {
    let titles: Vec<String> = table.header().into_iter().flat_map(Row::cell_iter).map(Cell::content).collect();
    let rows = table.row_iter().map(|row| {
        let cells: Vec<String> = row.cell_iter().map(Cell::content).collect();
        let head: Vec<&str> = first.iter().filter_map(|place| cells.get(*place)).map(String::as_str).collect();
        let rest = titles.iter().zip(&cells).enumerate();
        let rest = rest.filter(|(place, (_, cell))| !first.contains(place) && !cell.is_empty());
        let rest: Vec<String> = rest.map(|(_, (title, cell))| format!("{title} {cell}")).collect();
        let mut lines = vec![head.join("  ")];
        let mut line = String::new();
        for pair in rest {
            // Two spaces before, and two signs between the pairs or one behind.
            if !line.is_empty() && line.chars().count() + pair.chars().count() + 5 > room {
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
    let Some(room) = table.width().map(usize::from) else { return Ok(()) };
    let longest_word = |text: &str| text.split_whitespace().map(|word| word.chars().count()).max().unwrap_or_default();
    let titles: Vec<String> = table.header().into_iter().flat_map(Row::cell_iter).map(Cell::content).collect();
    let cells = |column| table.column_cells_iter(column).flatten().map(Cell::content);
    let needed: Vec<usize> = titles
        .iter()
        .enumerate()
        .map(|(column, title)| cells(column).map(|cell| longest_word(&cell)).fold(longest_word(title), usize::max))
        .collect();
    if needed.iter().map(|width| width + COLUMN_GAP).sum::<usize>() > room {
        return Err(room);
    }
    for (column, width) in needed.into_iter().enumerate() {
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

    fn drawn(width: Option<u16>) -> String {
        let output = Output { json: false, terminal: false, coloured: false };
        let mut table = output.table(["died", "direction", "what", "id", "outcome"]);
        table.add_row(CELLS);
        if let Some(width) = width {
            table.set_width(width);
        }
        match fit_columns(&mut table) {
            Ok(()) => table.to_string(),
            Err(room) => as_blocks(&table, &[3, 4], room),
        }
    }

    #[test]
    fn at_any_width_an_id_can_be_copied_and_nothing_is_left_out() {
        for (width, is_table) in [(140, true), (100, true), (80, false), (60, false)] {
            let drawn = drawn(Some(width));
            assert!(drawn.contains(ID), "{width}: {drawn}");
            assert_eq!(drawn.contains("direction  "), is_table, "{width}: {drawn}");
            for word in CELLS.iter().flat_map(|cell| cell.split(' ')) {
                assert!(drawn.contains(word), "{width}, {word}: {drawn}");
            }
            let room = if is_table { usize::from(width) } else { usize::from(width).max(76) };
            assert!(drawn.lines().all(|line| line.chars().count() <= room), "{width}: {drawn}");
        }
    }

    #[test]
    fn what_is_piped_has_everything_in_one_line() {
        let drawn = drawn(None);
        let row = drawn.lines().find(|line| line.contains(ID)).unwrap();
        assert!(CELLS.iter().all(|cell| row.contains(cell)), "{drawn}");
    }
}
