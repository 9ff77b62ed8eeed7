//! `dead-letters`: lists, redrives and drops dead letters.

mod action;

use std::sync::Arc;

use clap::{Args, Subcommand};
use relay::operate::action::{Action, DEFAULT_REDRIVES_PER_SECOND};
use relay::operate::selection::{REASON_NONE, Selected, Selection};
use relay::ports::clock::SystemClock;
use relay::ports::dead_letters::{DeadLetter, DeadLetterQueue, RedriveOptions};
use relay_aws::sqs::dead_letter::MALFORMED;
use relay_core::delivery::{Direction, ReasonCode};
use relay_sqlite::admin::SqliteDeadLetters;
use serde_json::{Value, json};

use crate::commands::dead_letters::action::{
    NO_DEAD_LETTERS, common_cells, print_blocked, run_action, select_with_progress, to_json,
};
use crate::commands::show::{self, ShowArguments};
use crate::error::{Error, UsageError};
use crate::exit::ExitStatus;
use crate::format::{direction_parser, format_time};
use crate::output::Output;
use crate::target::{Options, StackTarget, Target};

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum DeadLettersCommand {
    /// List them, with their reasons
    List {
        /// Only those that died for this reason (none: without one)
        #[arg(long, value_name = "CODE", value_parser = parse_reason)]
        reason: Option<String>,
        /// Only those of this direction
        #[arg(long, value_parser = direction_parser())]
        direction: Option<Direction>,
    },
    /// Show one of them
    Show(ShowArguments),
    /// Send them again: a dry run, unless --yes is given
    Retry {
        #[command(flatten)]
        filter: DeadLetterFilter,
        #[command(flatten)]
        bulk: BulkOptions,
        /// Also what would overwrite something newer that was delivered of the same contact
        #[arg(long)]
        even_if_older: bool,
        /// Also what was taken for another account, to the one that is served now
        #[arg(long)]
        redirect: bool,
        /// Also events that Loops may have, and whose e-mail it may then send a second time
        #[arg(long)]
        even_if_sent: bool,
    },
    /// Throw them away for good: a dry run, unless --yes is given
    Drop {
        #[command(flatten)]
        filter: DeadLetterFilter,
        #[command(flatten)]
        bulk: BulkOptions,
    },
}

#[derive(Debug, Clone, Args)]
#[group(id = "which", required = true, multiple = true)]
pub(crate) struct DeadLetterFilter {
    /// Those with these ids
    #[arg(long, value_name = "ID", num_args = 1.., group = "which", conflicts_with = "all")]
    id: Vec<String>,
    /// Those that died for this reason (none: without one)
    #[arg(long, value_name = "CODE", value_parser = parse_reason, group = "which", conflicts_with = "all")]
    reason: Option<String>,
    /// All of them
    #[arg(long, group = "which")]
    all: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct BulkOptions {
    /// Only those of this direction
    #[arg(long, value_parser = direction_parser())]
    direction: Option<Direction>,
    /// Do it; without this, only what would be done is told
    #[arg(long)]
    yes: bool,
    /// How many a second [default: half of the relay's own rate]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=1000))]
    per_second: Option<u32>,
}

/// Accepts the codes that a dead letter may have.
fn parse_reason(text: &str) -> Result<String, String> {
    if ReasonCode::parse(text).is_some() || [MALFORMED, REASON_NONE].contains(&text) {
        return Ok(text.to_owned());
    }
    Err("no dead letter has such a reason: `dead-letters list` tells them".to_owned())
}

pub(crate) async fn run(options: &Options, command: &DeadLettersCommand, output: Output) -> Result<ExitStatus, Error> {
    if let DeadLettersCommand::Show(arguments) = command {
        return show::run(options, arguments, output).await;
    }
    match options.target().await? {
        Target::Local(data_dir) => {
            let queue = SqliteDeadLetters::open(data_dir.path(), Arc::new(SystemClock))?;
            run_on(queue, DEFAULT_REDRIVES_PER_SECOND, command, output).await
        }
        Target::Stack(target) => {
            let queue = target.dead_letters(direction_filter(command))?;
            run_on(queue, default_rate(&target), command, output).await
        }
    }
}

/// Half of the slower of the stack's own rates.
pub(crate) fn default_rate(target: &StackTarget) -> u32 {
    let rates = ["ClayRatePerSecond", "LoopsRatePerSecond"].into_iter();
    let rates = rates.filter_map(|name| target.stack.parameter(name)?.parse::<u32>().ok());
    rates.min().map_or(DEFAULT_REDRIVES_PER_SECOND, |rate| (rate / 2).max(1))
}

fn direction_filter(command: &DeadLettersCommand) -> Option<Direction> {
    match command {
        DeadLettersCommand::List { direction, .. } => *direction,
        DeadLettersCommand::Retry { bulk, .. } | DeadLettersCommand::Drop { bulk, .. } => bulk.direction,
        DeadLettersCommand::Show(_) => None,
    }
}

async fn run_on<Q: DeadLetterQueue<Error: Into<Error>>>(
    mut queue: Q,
    rate: u32,
    command: &DeadLettersCommand,
    output: Output,
) -> Result<ExitStatus, Error> {
    // The leases end however the command ends.
    let result = tokio::select! {
        ended = apply_to_selected(&mut queue, rate, command, output) => ended,
        _ = tokio::signal::ctrl_c() => Err(Error::Interrupted),
    };
    queue.release().await;
    result
}

async fn apply_to_selected<Q: DeadLetterQueue<Error: Into<Error>>>(
    queue: &mut Q,
    rate: u32,
    command: &DeadLettersCommand,
    output: Output,
) -> Result<ExitStatus, Error> {
    let direction = direction_filter(command);
    let (filter, bulk, action) = match command {
        DeadLettersCommand::Retry { filter, bulk, even_if_older, redirect, even_if_sent } => {
            let options =
                RedriveOptions { even_if_older: *even_if_older, redirect: *redirect, even_if_sent: *even_if_sent };
            (filter, bulk, Action::Retry(options))
        }
        DeadLettersCommand::Drop { filter, bulk } => (filter, bulk, Action::Drop),
        DeadLettersCommand::List { reason, .. } => {
            let selection = Selection { ids: Vec::new(), reason: reason.clone(), direction };
            let Selected { dead_letters, blocked } = select_with_progress(queue, &selection, output).await?;
            let records: Vec<Value> = dead_letters.iter().map(|dead_letter| to_json(dead_letter, None)).collect();
            output.print_json(&json!({"letters": records, "behind": blocked}))?;
            return print_list(&dead_letters, blocked, output).map(|()| ExitStatus::Ok);
        }
        DeadLettersCommand::Show(_) => return Ok(ExitStatus::Ok),
    };
    let selection = Selection { ids: filter.id.clone(), reason: filter.reason.clone(), direction };
    let selected = select_with_progress(queue, &selection, output).await?;
    if let Some(id) = selection.missing_id(&selected) {
        let id = id.to_owned();
        return Err(match selected.blocked {
            0 => UsageError::NoSuchDeadLetter { id },
            _ => UsageError::DeadLetterBlocked { id },
        }
        .into());
    }
    let per_second = bulk.per_second.unwrap_or(rate);
    run_action(queue, &selected, action, bulk.yes.then_some(per_second), output).await
}

fn print_list(dead_letters: &[DeadLetter], blocked: u64, output: Output) -> Result<(), Error> {
    let rows = dead_letters.iter().map(|dead_letter| {
        let [died, direction, what, reason] = common_cells(dead_letter);
        let attempts = dead_letter.attempts.map(|attempts| attempts.to_string()).unwrap_or_default();
        let (received, bytes) = (dead_letter.to_record().received_at, dead_letter.body().len().to_string());
        [died, direction, what, reason, attempts, format_time(received), bytes, dead_letter.id().to_owned()]
    });
    let header = ["died", "direction", "what", "reason", "attempts", "received", "bytes", "id"];
    output.print_table(header, rows, NO_DEAD_LETTERS)?;
    print_blocked(blocked, output)
}
