//! What a command prints: a JSON document, or lines and tables for people.

use std::io::{self, IsTerminal as _, Write as _};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use crate::fault::Fault;

/// Standard output, as the options want it.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    json: bool,
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
        Self { json, coloured: !json && !plain && io::stdout().is_terminal() }
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
        if !self.coloured {
            table.force_no_tty();
        }
        table
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
