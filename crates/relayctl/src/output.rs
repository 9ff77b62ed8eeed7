//! What a command prints: a JSON document, or lines and tables for a terminal.

use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Write as _};

use comfy_table::{Cell, ColumnConstraint, ContentArrangement, Row, Table, TableStyle, Width, presets};
use relay_core::terminal::{escape_for_terminal, escape_json_for_terminal};
use relay_doctor::finding::Severity;
use serde::Serialize;

use crate::error::Error;

/// Standard output, as the options want it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
    is_terminal: bool,
    use_color: bool,
}

impl Output {
    /// Output as JSON or for a terminal. It is coloured there unless `NO_COLOR` is set (no-color.org).
    pub(crate) fn new(json: bool) -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let is_terminal = !json && io::stdout().is_terminal();
        Self { json, is_terminal, use_color: is_terminal && !no_color }
    }

    pub(crate) const fn is_json(self) -> bool {
        self.json
    }

    /// Prints a document if `--json` is given.
    pub(crate) fn print_json(self, document: &impl Serialize) -> Result<(), Error> {
        if self.json {
            let text = serde_json::to_string_pretty(document)?;
            writeln!(io::stdout().lock(), "{}", escape_json_for_terminal(&text))?;
        }
        Ok(())
    }

    /// Prints a part of a document if `--json` is given.
    pub(crate) fn print_json_part(self, text: &str) -> Result<(), Error> {
        if self.json {
            write!(io::stdout().lock(), "{}", escape_json_for_terminal(text))?;
        }
        Ok(())
    }

    /// Prints a line unless `--json` is given.
    pub(crate) fn print(self, text: impl std::fmt::Display) -> Result<(), Error> {
        if !self.json {
            writeln!(io::stdout().lock(), "{}", self.escape(&text.to_string()))?;
        }
        Ok(())
    }

    /// Returns a text as a terminal may have it, because parts of it are strangers'. A pipe gets every character.
    pub(crate) fn escape(self, text: &str) -> Cow<'_, str> {
        if self.is_terminal { escape_for_terminal(text) } else { Cow::Borrowed(text) }
    }

    /// Prints a table, or a sentence if it has no rows. A terminal that is too narrow for whole words gets some lines for
    /// each row instead.
    pub(crate) fn print_table<const N: usize>(
        self,
        header: [&str; N],
        rows: impl Iterator<Item = [String; N]>,
        if_empty: &str,
    ) -> Result<(), Error> {
        let mut table = self.table(header);
        if table.add_rows(rows).is_empty() { self.print(if_empty) } else { self.print(render(&mut table)) }
    }

    fn table<const N: usize>(self, header: [&str; N]) -> Table {
        let mut table = self.new_table(presets::UTF8_HORIZONTAL_ONLY);
        table.set_header(header);
        table
    }

    /// Lines in columns without a frame, two spaces apart. The last column wraps at the width of the terminal.
    pub(crate) fn columns<const N: usize>(self, rows: impl IntoIterator<Item = [String; N]>) -> String {
        let mut table = self.new_table(presets::NOTHING);
        table.add_rows(rows);
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        table.trim_fmt()
    }

    fn new_table(self, style: TableStyle) -> Table {
        let mut table = Table::new();
        table.load_style(style).set_content_arrangement(ContentArrangement::Dynamic);
        if !self.is_terminal {
            table.force_no_tty();
        }
        table
    }

    /// Returns a text in the colour of a severity, if colours are wanted.
    pub(crate) fn colorize(self, severity: Severity, text: &str) -> String {
        let code = match severity {
            Severity::Ok => 32,
            Severity::Warn => 33,
            Severity::Fail => 31,
        };
        if self.use_color { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// Space between two columns: one on either side, and one for the line.
const COLUMN_GAP: usize = 3;
/// Columns that begin the lines of a row.
const HEAD_COLUMNS: [&str; 3] = ["id", "state", "outcome"];

/// Renders a table without breaking a word, so that an id can be copied from it. If the terminal has no room for that, the
/// rows are lines below one another, and nothing is left out.
fn render(table: &mut Table) -> String {
    // A pipe has no width, and gets each row in one line.
    let Some(terminal_width) = table.width().map(usize::from) else { return table.to_string() };
    let longest_word = |text: &str| text.split_whitespace().map(|word| word.chars().count()).max().unwrap_or_default();
    let titles: Vec<String> = table.header().into_iter().flat_map(Row::cell_iter).map(Cell::content).collect();
    let cells = |column| table.column_cells_iter(column).flatten().map(Cell::content);
    let min_widths: Vec<usize> = titles
        .iter()
        .enumerate()
        .map(|(column, title)| cells(column).map(|cell| longest_word(&cell)).fold(longest_word(title), usize::max))
        .collect();
    if min_widths.iter().map(|width| width + COLUMN_GAP).sum::<usize>() > terminal_width {
        return as_blocks(table, &titles, terminal_width);
    }
    for (index, width) in min_widths.into_iter().enumerate() {
        // The column's own spaces count.
        let width = Width::Fixed(u16::try_from(width + COLUMN_GAP - 1).unwrap_or(u16::MAX));
        if let Some(column) = table.column_mut(index) {
            column.set_constraint(ColumnConstraint::LowerBoundary(width));
        }
    }
    table.to_string()
}

/// Renders each row as its head columns, and below them pairs of title and cell.
fn as_blocks(table: &Table, titles: &[String], terminal_width: usize) -> String {
    let blocks = table.row_iter().map(|row| {
        let cells: Vec<(&String, String)> = titles.iter().zip(row.cell_iter().map(Cell::content)).collect();
        let head = HEAD_COLUMNS.iter().filter_map(|name| cells.iter().find(|(title, _)| title == name));
        let mut lines = vec![head.map(|(_, cell)| cell.as_str()).collect::<Vec<_>>().join("  ")];
        let mut line = String::new();
        for (title, cell) in
            cells.iter().filter(|(title, cell)| !HEAD_COLUMNS.contains(&title.as_str()) && !cell.is_empty())
        {
            let pair = format!("{title} {cell}");
            // Two spaces before, and two signs between the pairs or one behind.
            if !line.is_empty() && line.chars().count() + pair.chars().count() + 5 > terminal_width {
                lines.push(format!("  {line},"));
                line.clear();
            }
            line.push_str(if line.is_empty() { "" } else { ", " });
            line.push_str(&pair);
        }
        lines.push(format!("  {line}"));
        lines.join("\n")
    });
    blocks.collect::<Vec<_>>().join("\n")
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
        render(&mut table)
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
    fn text_is_escaped_on_a_terminal_and_whole_in_a_pipe() {
        let (text, piped) = ("\u{9b}2J", Output { json: false, is_terminal: false, use_color: false });
        assert_eq!(piped.escape(text), text);
        assert_eq!(Output { is_terminal: true, ..piped }.escape(text), r"\u{9b}2J");
    }

    #[test]
    fn piped_table_has_each_row_on_one_line() {
        let rendered = render_table(None);
        let row = rendered.lines().find(|line| line.contains(ID)).unwrap();
        assert!(CELLS.iter().all(|cell| row.contains(cell)), "{rendered}");
    }
}
