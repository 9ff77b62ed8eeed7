//! `tail`: follows deliveries.

use std::io::{self, Write as _};
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use relay_core::delivery::Direction;
use relay_core::delivery_state::DeliveryState;
use relay_core::terminal::escape_json_for_terminal;
use relay_doctor::finding::Severity;

use crate::aws::tail::LogTail;
use crate::delivery_change::DeliveryChange;
use crate::error::Error;
use crate::exit::ExitStatus;
use crate::format::{direction_parser, format_reason};
use crate::local::tail::StoreTail;
use crate::output::Output;
use crate::target::{Options, Target};

const STORE_POLL_INTERVAL: Duration = Duration::from_millis(300);
/// CloudWatch accepts five of these calls a second, and there are five logs.
const LOGS_POLL_INTERVAL: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Args)]
pub(crate) struct TailArguments {
    /// Only deliveries this way
    #[arg(long, value_parser = direction_parser())]
    direction: Option<Direction>,
}

/// Prints the changes of deliveries until Ctrl-C.
pub(crate) async fn run(options: &Options, arguments: &TailArguments, output: Output) -> Result<ExitStatus, Error> {
    let target = options.target().await?;
    if !output.is_json() {
        let target_name = match &target {
            Target::Local(data_dir) => data_dir.path().display().to_string(),
            Target::Stack(stack_target) => stack_target.stack.name.clone(),
        };
        writeln!(io::stderr(), "following {target_name}; Ctrl-C ends")?;
    }
    let follow = async {
        match &target {
            Target::Local(data_dir) => {
                let mut tail = StoreTail::open(data_dir, Timestamp::now())?;
                loop {
                    print_changes(&tail.poll()?, arguments, output)?;
                    tokio::time::sleep(STORE_POLL_INTERVAL).await;
                }
            }
            Target::Stack(stack_target) => {
                let mut tail = LogTail::new(stack_target, Timestamp::now());
                loop {
                    print_changes(&tail.poll().await?, arguments, output)?;
                    tokio::time::sleep(LOGS_POLL_INTERVAL).await;
                }
            }
        }
    };
    tokio::select! {
        ended = follow => ended,
        _ = tokio::signal::ctrl_c() => Ok(ExitStatus::Ok),
    }
}

/// Prints a line for each change, with `--json` too: a document would have an end.
fn print_changes(changes: &[DeliveryChange], arguments: &TailArguments, output: Output) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    let is_wanted = |change: &&DeliveryChange| arguments.direction.is_none_or(|it| change.direction == it.as_str());
    for change in changes.iter().filter(is_wanted) {
        if output.is_json() {
            writeln!(out, "{}", escape_json_for_terminal(&serde_json::to_string(change)?))?;
        } else {
            writeln!(out, "{}", output.escape(&format_change(change, output)))?;
        }
    }
    out.flush()?;
    Ok(())
}

fn format_change(change: &DeliveryChange, output: Output) -> String {
    let state = format!("{:<9}", change.state.as_str());
    let state = match change.state {
        DeliveryState::Delivered => output.colorize(Severity::Ok, &state),
        DeliveryState::Waiting => output.colorize(Severity::Warn, &state),
        DeliveryState::Dead => output.colorize(Severity::Fail, &state),
    };
    let attempts = change.attempts.map(|attempts| format!("attempts {attempts}")).unwrap_or_default();
    let reason = format_reason(change.reason.as_deref(), change.status);
    let at = change.at.strftime("%H:%M:%S%.3fZ");
    let line = format!("{at}  {:<13}  {state}  {}  {reason}  {attempts}", change.direction, change.id);
    line.trim_end().to_owned()
}
