//! `deliveries`: what is waiting, delivered and dead.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use comfy_table::{ContentArrangement, Table, presets};

use relay::ports::admin::{Admin as _, DeliveryQuery, DeliveryRecord};
use relay_core::delivery_state::DeliveryState;
use relay_core::terminal::json_elements_for_terminal;
use relay_sqlite::admin::{self, SqliteAdmin};
use relay_sqlite::data_dir::config::LocalSettings;

use super::CommandError;

/// Number of deliveries of a page of `--all`.
const PAGE_SIZE: u32 = 500;

#[derive(Debug, Clone, Args)]
pub(crate) struct DeliveriesArguments {
    /// Print a JSON array instead of a table
    #[arg(long)]
    json: bool,
    /// Only deliveries in this state
    #[arg(long)]
    state: Option<State>,
    /// At most this many: the latest, in the order of their arrival
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// All of them, the newest first, printed while they are read
    #[arg(long, conflicts_with = "limit")]
    all: bool,
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
    let query = DeliveryQuery { state: arguments.state.map(DeliveryState::from), ..DeliveryQuery::default() };
    let admin = match SqliteAdmin::open(&settings.data_dir) {
        Ok(admin) => Some(admin),
        Err(admin::Error::NoStore(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let mut listing = Listing { out: io::stdout().lock(), json: arguments.json, count: 0 };
    listing.begin()?;
    if let Some(admin) = admin {
        if arguments.all {
            let mut page = admin.deliveries_page(&query, PAGE_SIZE, None).await?;
            listing.print(&page.records)?;
            while let Some(key) = page.next {
                page = admin.deliveries_page(&query, PAGE_SIZE, Some(&key)).await?;
                listing.print(&page.records)?;
            }
        } else {
            listing.print(&admin.latest_deliveries(&query, arguments.limit, &|_| ()).await?)?;
        }
    }
    listing.end(settings, arguments)?;
    Ok(ExitCode::SUCCESS)
}

/// A listing on standard output, a JSON array or tables, that never holds more than a page.
struct Listing<W> {
    out: W,
    json: bool,
    count: usize,
}

impl<W: Write> Listing<W> {
    fn begin(&mut self) -> Result<(), CommandError> {
        if self.json {
            write!(self.out, "[")?;
        }
        Ok(())
    }

    fn print(&mut self, records: &[DeliveryRecord]) -> Result<(), CommandError> {
        if self.json {
            write!(self.out, "{}", json_elements_for_terminal(records, self.count == 0)?)?;
        } else if !records.is_empty() {
            writeln!(self.out, "{}", table(records))?;
        }
        self.count += records.len();
        Ok(())
    }

    fn end(&mut self, settings: &LocalSettings, arguments: &DeliveriesArguments) -> Result<(), CommandError> {
        let limit = usize::try_from(arguments.limit).unwrap_or(usize::MAX);
        if self.json {
            writeln!(self.out, "{}]", if self.count == 0 { "" } else { "\n" })?;
        } else if self.count == 0 {
            writeln!(self.out, "There are no deliveries in {}.", settings.data_dir.display())?;
        } else if !arguments.all && self.count == limit {
            writeln!(self.out, "These are the latest {limit}; --limit shows more, and --all shows all.")?;
        }
        Ok(())
    }
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
