//! `pause` and `resume` of one direction.

use clap::Args;
use jiff::Timestamp;
use relay_core::delivery::Direction;
use relay_doctor::invocation::suggest;
use relay_sqlite::admin::SqliteAdmin;
use serde_json::json;

use crate::aws::pause as stack_pause;
use crate::error::Error;
use crate::exit::ExitStatus;
use crate::format::direction_parser;
use crate::output::Output;
use crate::target::{Options, Target};

#[derive(Debug, Clone, Args)]
pub(crate) struct PauseArguments {
    /// Which way
    #[arg(value_parser = direction_parser())]
    direction: Direction,
}

/// Pauses a direction, or resumes it. Repeating it completes what was done in part.
pub(crate) async fn run(
    options: &Options,
    arguments: &PauseArguments,
    paused: bool,
    output: Output,
) -> Result<ExitStatus, Error> {
    let direction = arguments.direction;
    let changed = match options.target().await? {
        Target::Local(data_dir) => {
            let admin = SqliteAdmin::open(data_dir.path())?;
            admin.set_paused(direction, paused, Timestamp::now())?
        }
        Target::Stack(target) => stack_pause::set_paused(&target, direction, paused).await?,
    };
    output.print_json(&json!({"direction": direction, "paused": paused, "changed": changed}))?;
    output.print(describe(direction.as_str(), paused, changed))?;
    Ok(ExitStatus::Ok)
}

/// Returns whether a direction is paused, and since when if that is known.
pub(crate) async fn pause_state(target: &Target, direction: Direction) -> Result<(bool, Option<Timestamp>), Error> {
    match target {
        Target::Local(data_dir) => {
            let admin = SqliteAdmin::open(data_dir.path())?;
            let paused_since = admin.paused_since(direction)?;
            Ok((paused_since.is_some(), paused_since))
        }
        Target::Stack(target) => Ok(stack_pause::pause_state(target, direction).await?),
    }
}

fn describe(direction: &str, paused: bool, changed: bool) -> String {
    match (paused, changed) {
        (true, true) => format!(
            "{direction} is paused: what comes is stored, what is under way comes to its end. {} ends this.",
            suggest(format_args!("resume {direction}"))
        ),
        (true, false) => format!("{direction} was paused already; nothing was changed."),
        (false, true) => format!("{direction} goes on: what has waited is delivered now, at the usual pace."),
        (false, false) => format!("{direction} was not paused; nothing was changed."),
    }
}
