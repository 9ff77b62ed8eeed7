//! `deliveries`: what is waiting, delivered and dead.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use comfy_table::{ContentArrangement, Table, presets};

use relay::ports::admin::{Admin as _, DeliveryQuery, DeliveryRecord};
use relay_core::delivery_state::DeliveryState;
use relay_core::terminal::escape_json_for_terminal;
use relay_sqlite::admin::{self, SqliteAdmin};
use relay_sqlite::data_dir::config::LocalSettings;

use super::CommandError;

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

#[derive(Debug, Clone, Copy, ValueEnum)]
enum State {
    /// It will be sent
    Waiting,
    /// The destination has it
    Delivered,
    /// It is kept for an operator
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

pub(crate) async fn run(settings: &LocalSettings, arguments: &DeliveriesArguments) -> Result<ExitCode, CommandError> {
    if !settings.data_dir.is_dir() {
        return Err(CommandError::NoDataDir(settings.data_dir.clone()));
    }
    let limit = arguments.limit.unwrap_or(if arguments.json { u32::MAX } else { TABLE_LIMIT });
    let query = DeliveryQuery {
        state: arguments.state.map(DeliveryState::from),
        limit: Some(limit),
        ..DeliveryQuery::default()
    };
    let records = match SqliteAdmin::open(&settings.data_dir) {
        Ok(admin) => admin.deliveries(&query, &|_| ()).await?,
        Err(admin::Error::NoStore(_)) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let mut out = io::stdout().lock();
    if arguments.json {
        writeln!(out, "{}", escape_json_for_terminal(&serde_json::to_string_pretty(&records)?))?;
    } else if records.is_empty() {
        writeln!(out, "There are no deliveries in {}.", settings.data_dir.display())?;
    } else {
        writeln!(out, "{}", table(&records))?;
        if records.len() == limit as usize {
            writeln!(out, "These are the latest {limit}; --limit shows more.")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn table(records: &[DeliveryRecord]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["received", "direction", "what", "state", "attempts", "reason", "next attempt", "id"]);
    for record in records {
        table.add_row([
            record.received_at.map(format_time).unwrap_or_default(),
            record.direction.as_str().to_owned(),
            record.kind.clone(),
            record.state.as_str().to_owned(),
            record.attempts.to_string(),
            format_reason(record.reason.as_deref(), record.status),
            record.next_attempt_at.map(format_time).unwrap_or_default(),
            record.id.clone(),
        ]);
    }
    table
}

fn format_reason(reason: Option<&str>, status: Option<u16>) -> String {
    match (reason, status) {
        (Some(reason), Some(status)) => format!("{reason} ({status})"),
        (Some(reason), None) => reason.to_owned(),
        (None, _) => String::new(),
    }
}

fn format_time(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}
