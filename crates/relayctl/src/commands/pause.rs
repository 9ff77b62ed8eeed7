//! `pause` and `resume` of one direction.

use clap::Args;
use relay_core::delivery::Direction;

use crate::commands::deliveries::Way;
use crate::error::Fault;
use crate::exit::Ending;
use crate::operations::Operations;
use crate::operations::local::LocalOperations;
use crate::operations::record::PauseRecord;
use crate::operations::stack::StackOperations;
use crate::output::Output;
use crate::target::{Options, Target};

/// What `pause` and `resume` are told.
#[derive(Debug, Clone, Args)]
pub struct PauseArguments {
    /// Which way
    pub direction: Way,
}

/// Pauses a direction, or ends its pause.
///
/// # Errors
/// When it cannot be done.
pub async fn run(options: &Options, arguments: &PauseArguments, paused: bool, output: Output) -> Result<Ending, Fault> {
    let direction = Direction::from(arguments.direction);
    let record = match options.target().await? {
        Target::Local(folder) => LocalOperations::open(folder)?.set_paused(direction, paused).await?,
        Target::Stack(stack) => StackOperations::new(&stack, output.is_json()).set_paused(direction, paused).await?,
    };
    output.document(&record)?;
    output.line(options.addressed(&said(&record)))?;
    Ok(Ending::Well)
}

fn said(record: &PauseRecord) -> String {
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
