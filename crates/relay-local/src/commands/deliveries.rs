//! `deliveries`: what is waiting, delivered and dead.

use std::io::{self, Write as _};

use clap::{Args, ValueEnum};
use comfy_table::{ContentArrangement, Table, presets};

use relay_sqlite::data_dir::config::LocalSettings;
use relay_sqlite::store::{self, DeliveryListItem, DeliveryState, ListFilter};

use super::{CommandError, CommandStatus};

/// Number of deliveries in a table without `--limit`.
const TABLE_LIMIT: u32 = 50;

#[derive(Debug, Clone, Args)]
pub(crate) struct DeliveriesArguments {
    /// Print a JSON array instead of a table
    #[arg(long)]
    json: bool,
    /// Only deliveries in this state
    #[arg(long)]
    state: Option<State>,
    /// At most this many, the latest [default: 50 in a table, all in JSON]
    #[arg(long)]
    limit: Option<u32>,
}

/// Argument of `--state`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum State {
    /// It will be sent
    Waiting,
    /// The far end has it
    Delivered,
    /// It is kept for a person
    Dead,
}

impl From<State> for DeliveryState {
    fn from(state: State) -> Self {
        match state {
            State::Waiting => Self::Waiting,
            State::Delivered => Self::Delivered,
            State::Dead => Self::Dead,
        }
    }
}

pub(crate) fn run(settings: &LocalSettings, arguments: &DeliveriesArguments) -> Result<CommandStatus, CommandError> {
    if !settings.data_dir.is_dir() {
        return Err(CommandError::NoDataDir(settings.data_dir.clone()));
    }
    let limit = arguments.limit.unwrap_or(if arguments.json { u32::MAX } else { TABLE_LIMIT });
    let filter = ListFilter { state: arguments.state.map(DeliveryState::from), limit };
    let items = match store::open_existing(&settings.data_dir)? {
        Some(connection) => store::list(&connection, &filter)?,
        None => Vec::new(),
    };
    let mut out = io::stdout().lock();
    if arguments.json {
        serde_json::to_writer_pretty(&mut out, &items)?;
        writeln!(out)?;
    } else if items.is_empty() {
        writeln!(out, "There are no deliveries in {}.", settings.data_dir.display())?;
    } else {
        writeln!(out, "{}", table(&items))?;
        if items.len() == limit as usize {
            writeln!(out, "These are the latest {limit}; --limit shows more.")?;
        }
    }
    Ok(CommandStatus::Succeeded)
}

fn table(items: &[DeliveryListItem]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["received", "direction", "what", "state", "attempts", "reason", "next attempt", "id"]);
    for item in items {
        table.add_row([
            format_time(item.received_at),
            item.direction.clone(),
            item.kind.clone(),
            item.state.as_str().to_owned(),
            item.attempts.to_string(),
            format_reason(item.reason.as_deref(), item.status),
            item.next_attempt_at.map(format_time).unwrap_or_default(),
            item.id.clone(),
        ]);
    }
    table
}

/// Returns a reason and its status in one text.
#[must_use]
pub fn format_reason(reason: Option<&str>, status: Option<u16>) -> String {
    match (reason, status) {
        (Some(reason), Some(status)) => format!("{reason} ({status})"),
        (Some(reason), None) => reason.to_owned(),
        (None, _) => String::new(),
    }
}

/// Returns a time as tables show it.
#[must_use]
pub fn format_time(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}
