//! `pause` and `resume` of one direction.

use clap::Args;
use relay_core::delivery::Direction;

use crate::commands::deliveries::DirectionArg;
use crate::error::Error;
use crate::exit::ExitStatus;
use crate::operations::Admin;
use crate::operations::local::LocalAdmin;
use crate::operations::record::PauseResult;
use crate::operations::stack::StackAdmin;
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
    let result = match options.target().await? {
        Target::Local(data_dir) => LocalAdmin::open(data_dir)?.set_paused(direction, paused).await?,
        Target::Stack(stack_target) => {
            StackAdmin::new(&stack_target, output.is_json()).set_paused(direction, paused).await?
        }
    };
    output.print_json(&result)?;
    output.print(options.with_command_line(&describe(&result)))?;
    Ok(ExitStatus::Ok)
}

fn describe(result: &PauseResult) -> String {
    let direction = result.direction.as_str();
    match (result.paused, result.changed) {
        (true, true) => format!(
            "{direction} is paused: what comes is stored, what is under way comes to its end. `relayctl resume {direction}` ends this."
        ),
        (true, false) => format!("{direction} was paused already; nothing was changed."),
        (false, true) => format!("{direction} goes on: what has waited is delivered now, at the usual pace."),
        (false, false) => format!("{direction} was not paused; nothing was changed."),
    }
}
