//! `pause` and `resume` of one direction.

use clap::Args;
use relay_core::delivery::Direction;

use crate::commands::deliveries::DirectionArg;
use crate::error::Error;
use crate::exit::ExitStatus;
use crate::operations::Admin;
use crate::operations::local::LocalOperations;
use crate::operations::record::PauseResult;
use crate::operations::stack::StackOperations;
use crate::output::Output;
use crate::target::{Options, Target};

/// What `pause` and `resume` are told.
#[derive(Debug, Clone, Args)]
pub struct PauseArguments {
    /// Which way
    pub direction: DirectionArg,
}

/// Pauses a direction, or ends its pause.
///
/// # Errors
/// When it cannot be done.
pub async fn run(
    options: &Options,
    arguments: &PauseArguments,
    paused: bool,
    output: Output,
) -> Result<ExitStatus, Error> {
    let direction = Direction::from(arguments.direction);
    let record = match options.target().await? {
        Target::Local(folder) => LocalOperations::open(folder)?.set_paused(direction, paused).await?,
        Target::Stack(stack) => StackOperations::new(&stack, output.is_json()).set_paused(direction, paused).await?,
    };
    output.print_json(&record)?;
    output.print(options.addressed(&said(&record)))?;
    Ok(ExitStatus::Ok)
}

fn said(record: &PauseResult) -> String {
    let direction = record.direction.as_str();
    match (record.paused, record.changed) {
        (true, true) => format!(
            "{direction} is paused: what comes is stored, what is under way comes to its end. `relayctl resume {direction}` ends this."
        ),
        (true, false) => format!("{direction} was paused already; nothing was changed."),
        (false, true) => format!("{direction} goes on: what has waited is delivered now, at the usual pace."),
        (false, false) => format!("{direction} was not paused; nothing was changed."),
    }
}
