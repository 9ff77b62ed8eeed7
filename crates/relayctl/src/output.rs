//! What a command prints: a JSON document, or lines and tables for a terminal.

use std::io::{self, IsTerminal as _, Write as _};

use comfy_table::{ColumnConstraint, ContentArrangement, Table, TableStyle, presets};
use serde::Serialize;
use strum::{IntoStaticStr, VariantArray};

use crate::error::Error;

/// Standard output, as the options want it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
    is_terminal: bool,
    use_color: bool,
}

/// How bad something is; it decides the colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, IntoStaticStr, VariantArray)]
#[serde(into = "&'static str")]
#[strum(serialize_all = "lowercase")]
pub(crate) enum Severity {
    Ok,
    Warn,
    Fail,
}

impl Severity {
    pub(crate) fn as_str(self) -> &'static str {
        self.into()
    }
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
            writeln!(io::stdout().lock(), "{text}")?;
        }
        Ok(())
    }

    /// Prints a line unless `--json` is given.
    pub(crate) fn print(self, text: impl std::fmt::Display) -> Result<(), Error> {
        if !self.json {
            writeln!(io::stdout().lock(), "{text}")?;
        }
        Ok(())
    }

    /// Prints a table, or a sentence if it has no rows.
    pub(crate) fn print_table<const N: usize>(
        self,
        header: [&str; N],
        rows: impl Iterator<Item = [String; N]>,
        if_empty: &str,
    ) -> Result<(), Error> {
        let mut table = self.table(header);
        if table.add_rows(rows).is_empty() { self.print(if_empty) } else { self.print(table) }
    }

    /// A table with this header. The column `id` is never broken, so that an id can be copied from it.
    fn table<const N: usize>(self, header: [&str; N]) -> Table {
        let mut table = self.new_table(presets::UTF8_HORIZONTAL_ONLY);
        table.set_header(header);
        let id_column = header.iter().position(|title| *title == "id");
        if let Some(column) = id_column.and_then(|index| table.column_mut(index)) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "contact_9cfdceea313c490e83920f7a467df2a1";
    const CELLS: [&str; 5] =
        ["2026-01-15 09:30:00Z", "clay-to-loops", "contact", "leave: it is no delivery (drop it)", ID];

    fn render_table(width: Option<u16>) -> String {
        let output = Output { json: false, is_terminal: false, use_color: false };
        let mut table = output.table(["died", "direction", "what", "outcome", "id"]);
        table.add_row(CELLS);
        if let Some(width) = width {
            table.set_width(width);
        }
        table.to_string()
    }

    #[test]
    fn table_at_any_width_keeps_ids_whole() {
        for width in [140, 100, 80, 60] {
            let rendered = render_table(Some(width));
            assert!(rendered.contains(ID), "{width}: {rendered}");
        }
    }

    #[test]
    fn piped_table_has_each_row_on_one_line() {
        let rendered = render_table(None);
        let row = rendered.lines().find(|line| line.contains(ID)).unwrap();
        assert!(CELLS.iter().all(|cell| row.contains(cell)), "{rendered}");
    }
}
