//! `tail`: follows deliveries live.

use std::io::{self, Write as _};
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use relay_core::delivery::Direction;
use relay_sqlite::store::DeliveryState;

use crate::aws::tail::LogTail;
use crate::commands::deliveries::DirectionArg;
use crate::error::Error;
use crate::exit::ExitStatus;
use crate::local::tail::StoreTail;
use crate::operations::record::{DeliveryChange, format_reason};
use crate::output::{Output, Severity};
use crate::target::{Options, Target};

/// How often a store is looked into.
const STORE_EVERY: Duration = Duration::from_millis(300);
/// How often the logs are: CloudWatch takes five of these calls a second, and there are five logs.
const LOGS_EVERY: Duration = Duration::from_secs(2);

/// What `tail` is told.
#[derive(Debug, Clone, Args)]
pub struct TailArguments {
    /// Only deliveries this way
    #[arg(long)]
    pub direction: Option<DirectionArg>,
}

/// Prints what happens to deliveries, until it is told to stop.
///
/// # Errors
/// When it cannot be read any more.
pub async fn run(options: &Options, arguments: &TailArguments, output: Output) -> Result<ExitStatus, Error> {
    let target = options.target().await?;
    if !output.is_json() {
        let relay = match &target {
            Target::Local(folder) => folder.path().display().to_string(),
            Target::Stack(stack) => stack.stack.name.clone(),
        };
        writeln!(io::stderr(), "following {relay}; Ctrl-C ends")?;
    }
    let follow = async {
        match &target {
            Target::Local(folder) => {
                let mut tail = StoreTail::open(folder, Timestamp::now())?;
                loop {
                    tell(&tail.poll()?, arguments, output)?;
                    tokio::time::sleep(STORE_EVERY).await;
                }
            }
            Target::Stack(stack) => {
                let mut tail = LogTail::new(stack, Timestamp::now());
                loop {
                    tell(&tail.poll().await?, arguments, output)?;
                    tokio::time::sleep(LOGS_EVERY).await;
                }
            }
        }
    };
    tokio::select! {
        ended = follow => ended,
        _ = tokio::signal::ctrl_c() => Ok(ExitStatus::Ok),
    }
}

/// One line for each, in both forms: a document would have an end.
fn tell(changes: &[DeliveryChange], arguments: &TailArguments, output: Output) -> Result<(), Error> {
    let way = arguments.direction.map(|way| Direction::from(way).as_str());
    let mut out = io::stdout().lock();
    for change in changes.iter().filter(|change| way.is_none_or(|way| change.direction == way)) {
        if output.is_json() {
            writeln!(out, "{}", serde_json::to_string(change)?)?;
        } else {
            writeln!(out, "{}", line(change, output))?;
        }
    }
    out.flush()?;
    Ok(())
}

fn line(change: &DeliveryChange, output: Output) -> String {
    let state = format!("{:<9}", change.state.as_str());
    let state = match change.state {
        DeliveryState::Delivered => output.colorize(Severity::Green, &state),
        DeliveryState::Waiting => output.colorize(Severity::Yellow, &state),
        DeliveryState::Dead => output.colorize(Severity::Red, &state),
    };
    let attempts = change.attempts.map(|attempts| format!("attempts {attempts}")).unwrap_or_default();
    let because = format_reason(change.reason.as_deref(), change.status);
    let at = change.at.strftime("%H:%M:%S%.3fZ");
    let line = format!("{at}  {:<13}  {state}  {}  {because}  {attempts}", change.direction, change.id);
    line.trim_end().to_owned()
}
