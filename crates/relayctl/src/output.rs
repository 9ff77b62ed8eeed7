//! What a command prints: a JSON document, or lines and tables for people.

use std::io::{self, IsTerminal as _, Write as _};

use comfy_table::{Cell, ColumnConstraint, ContentArrangement, Table, Width, presets};
use serde::Serialize;

use crate::fault::Fault;

/// Standard output, as the options want it.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    json: bool,
    terminal: bool,
    coloured: bool,
}

/// A colour with a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
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
    pub fn document(self, document: &impl Serialize) -> Result<(), Fault> {
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
    pub fn line(self, text: impl std::fmt::Display) -> Result<(), Fault> {
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
    pub fn columns<const N: usize>(self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        if !self.terminal {
            table.force_no_tty();
        }
        // A table gets its columns with its first row.
        table.set_header([""; N]);
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        table
    }

    /// A cell in a colour, where there are colours.
    #[must_use]
    pub fn cell(self, colour: Colour, text: &str) -> Cell {
        let cell = Cell::new(text);
        if !self.coloured {
            return cell;
        }
        cell.fg(match colour {
            Colour::Green => comfy_table::Color::DarkGreen,
            Colour::Yellow => comfy_table::Color::DarkYellow,
            Colour::Red => comfy_table::Color::DarkRed,
        })
    }

    /// Prints a table so that an id in it can be copied: no word is broken where the terminal has room for the words. What
    /// has to be left out for that is taken from `spared`, in this order; the JSON document has all of it.
    ///
    /// # Errors
    /// When nothing can be printed.
    pub fn fitted(self, mut table: Table, spared: &[usize]) -> Result<(), Fault> {
        fit(&mut table, spared);
        self.line(table)
    }

    /// A text in a colour, where there are colours.
    #[must_use]
    pub fn paint(self, colour: Colour, text: &str) -> String {
        let code = match colour {
            Colour::Green => 32,
            Colour::Yellow => 33,
            Colour::Red => 31,
        };
        if self.coloured { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// What stands between two columns: a space each, and where a line would be.
const BETWEEN: usize = 3;

fn fit(table: &mut Table, spared: &[usize]) {
    // A pipe has no width, and gets everything in one line.
    let Some(room) = table.width().map(usize::from) else { return };
    let longest_word = |text: &str| text.split_whitespace().map(|word| word.chars().count()).max().unwrap_or_default();
    let header: Vec<String> = table.header().into_iter().flat_map(|row| row.cell_iter().map(Cell::content)).collect();
    let cells = |column| table.column_cells_iter(column).flatten().map(Cell::content);
    let mut needed: Vec<(usize, usize)> = header
        .iter()
        .enumerate()
        .map(|(column, title)| {
            (column, cells(column).map(|cell| longest_word(&cell)).fold(longest_word(title), usize::max) + BETWEEN)
        })
        .collect();
    let mut spared = spared.iter();
    while needed.iter().map(|(_, width)| width).sum::<usize>() > room {
        // Where even that is too much, the words are broken.
        let Some(hidden) = spared.next() else { return };
        needed.retain(|(column, _)| column != hidden);
        if let Some(column) = table.column_mut(*hidden) {
            column.set_constraint(ColumnConstraint::Hidden);
        }
    }
    for (column, width) in needed {
        let width = Width::Fixed(u16::try_from(width - 1).unwrap_or(u16::MAX));
        if let Some(column) = table.column_mut(column) {
            column.set_constraint(ColumnConstraint::LowerBoundary(width));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "contact_9cfdceea313c490e83920f7a467df2a1";

    fn drawn(width: Option<u16>) -> String {
        let mut table = Output { json: false, terminal: false, coloured: false }.table([
            "died",
            "direction",
            "what",
            "id",
            "outcome",
        ]);
        table.add_row(["2026-01-15 09:30:00Z", "clay-to-loops", "contact", ID, "leave: it is no delivery (drop it)"]);
        if let Some(width) = width {
            table.set_width(width);
        }
        fit(&mut table, &[2, 1]);
        table.to_string()
    }

    #[test]
    fn an_id_can_be_copied_where_the_terminal_has_room_for_it() {
        for (width, direction, what) in [(140, true, true), (100, true, true), (88, true, false), (72, false, false)] {
            let drawn = drawn(Some(width));
            assert!(drawn.contains(ID), "{width}: {drawn}");
            assert_eq!(
                (drawn.contains("clay-to-loops"), drawn.contains("what")),
                (direction, what),
                "{width}: {drawn}"
            );
            assert!(drawn.lines().all(|line| line.chars().count() <= width.into()), "{width}: {drawn}");
        }
        assert!(!drawn(Some(40)).contains(ID));
    }

    #[test]
    fn what_is_piped_has_everything_in_one_line() {
        let drawn = drawn(None);
        let row = drawn.lines().find(|line| line.contains(ID)).unwrap();
        assert!(row.contains("clay-to-loops") && row.contains("leave: it is no delivery (drop it)"), "{drawn}");
    }
}
