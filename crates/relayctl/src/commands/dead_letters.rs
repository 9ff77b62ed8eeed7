//! `dead-letters`: what was given up, to be looked at, sent again or dropped.

use clap::{Args, Subcommand};
use relay_aws::sqs::dead_letter::MALFORMED;
use serde_json::json;

use crate::commands::dead_letters_run::{BulkAction, print_blocked, receive_matching, run_action};
use crate::commands::deliveries::DirectionArg;
use crate::commands::show::{self, ShowArguments};
use crate::error::Error;
use crate::exit::ExitStatus;
use crate::operations::letter_box::{DeadLetter, DeadLetterQueue};
use crate::operations::local_letters::LocalDeadLetters;
use crate::operations::record::{format_reason, format_time};
use crate::output::Output;
use crate::target::{Options, StackTarget, Target};

/// How many letters a second are acted on unless it is told otherwise, where the relay's own rate is not known: half of it.
const DEFAULT_RATE_PER_SECOND: u32 = 4;

/// What is typed for the letters without a reason, which the queue itself has taken away.
const REASON_NONE: &str = "none";

/// What `dead-letters` is told.
#[derive(Debug, Clone, Subcommand)]
pub enum DeadLettersCommand {
    /// List them, with their reasons
    List(ListArguments),
    /// Show one of them
    Show(ShowArguments),
    /// Send them again: a dry run, unless --yes is given
    Retry(RetryArguments),
    /// Throw them away for good: a dry run, unless --yes is given
    Drop(DropArguments),
}

/// Which letters are listed.
#[derive(Debug, Clone, Args)]
pub struct ListArguments {
    /// Only those that died for this reason (none: without one)
    #[arg(long, value_name = "CODE", value_parser = parse_reason)]
    pub reason: Option<String>,
    /// Only those of this direction
    #[arg(long)]
    pub direction: Option<DirectionArg>,
}

/// Which letters are meant.
#[derive(Debug, Clone, Args)]
#[group(id = "which", required = true, multiple = true)]
pub struct DeadLetterFilter {
    /// Those with these ids
    #[arg(long, value_name = "ID", num_args = 1.., group = "which", conflicts_with = "all")]
    pub id: Vec<String>,
    /// Those that died for this reason (none: without one)
    #[arg(long, value_name = "CODE", value_parser = parse_reason, group = "which", conflicts_with = "all")]
    pub reason: Option<String>,
    /// All of them
    #[arg(long, group = "which")]
    pub all: bool,
}

/// What `retry` is told.
#[derive(Debug, Clone, Args)]
pub struct RetryArguments {
    /// Which letters
    #[command(flatten)]
    pub filter: DeadLetterFilter,
    /// Whether and how fast
    #[command(flatten)]
    pub bulk: BulkOptions,
    /// Also what would overwrite something newer that was delivered of the same contact
    #[arg(long)]
    pub even_if_older: bool,
}

/// What `drop` is told.
#[derive(Debug, Clone, Args)]
pub struct DropArguments {
    /// Which letters
    #[command(flatten)]
    pub filter: DeadLetterFilter,
    /// Whether and how fast
    #[command(flatten)]
    pub bulk: BulkOptions,
}

/// Whether and how fast it is done.
#[derive(Debug, Clone, Args)]
pub struct BulkOptions {
    /// Only those of this direction
    #[arg(long)]
    pub direction: Option<DirectionArg>,
    /// Do it; without this, only what would be done is told
    #[arg(long)]
    pub yes: bool,
    /// How many a second [default: half of the relay's own rate]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub per_second: Option<u32>,
}

/// A reason, as it is typed.
fn parse_reason(text: &str) -> Result<String, String> {
    use relay_core::delivery::ReasonCode;
    let is_known = ReasonCode::parse(text).is_some() || [MALFORMED, REASON_NONE].contains(&text);
    is_known
        .then(|| text.to_owned())
        .ok_or_else(|| "no dead letter has such a reason: `dead-letters list` tells them".to_owned())
}

/// Does what is told with dead letters.
///
/// # Errors
/// When they cannot be read, or something cannot be done.
pub async fn run(options: &Options, command: &DeadLettersCommand, output: Output) -> Result<ExitStatus, Error> {
    if let DeadLettersCommand::Show(arguments) = command {
        return show::run(options, arguments, output).await;
    }
    match options.target().await? {
        Target::Local(data_dir) => {
            open_queue(LocalDeadLetters::open(&data_dir)?, DEFAULT_RATE_PER_SECOND, command, output).await
        }
        Target::Stack(stack_target) => {
            open_queue(
                stack_target.dead_letters(direction_filter(command))?,
                default_rate(&stack_target),
                command,
                output,
            )
            .await
        }
    }
}

/// Half of the slower of the stack's own rates.
fn default_rate(stack_target: &StackTarget) -> u32 {
    let rates = ["ClayRatePerSecond", "LoopsRatePerSecond"].into_iter();
    let rates = rates.filter_map(|name| stack_target.stack.parameter(name)?.parse::<u32>().ok());
    rates.min().map_or(DEFAULT_RATE_PER_SECOND, |rate| (rate / 2).max(1))
}

fn direction_filter(command: &DeadLettersCommand) -> Option<relay_core::delivery::Direction> {
    let direction = match command {
        DeadLettersCommand::List(arguments) => arguments.direction,
        DeadLettersCommand::Retry(arguments) => arguments.bulk.direction,
        DeadLettersCommand::Drop(arguments) => arguments.bulk.direction,
        DeadLettersCommand::Show(_) => None,
    };
    direction.map(Into::into)
}

async fn open_queue<Q: DeadLetterQueue>(
    mut queue: Q,
    rate: u32,
    command: &DeadLettersCommand,
    output: Output,
) -> Result<ExitStatus, Error> {
    // Whatever happens, what was read is given back.
    let result = tokio::select! {
        ended = apply_to_selected(&mut queue, rate, command, output) => ended,
        _ = tokio::signal::ctrl_c() => Err(Error::Interrupted),
    };
    queue.release().await;
    result
}

async fn apply_to_selected<Q: DeadLetterQueue>(
    queue: &mut Q,
    rate: u32,
    command: &DeadLettersCommand,
    output: Output,
) -> Result<ExitStatus, Error> {
    let direction = direction_filter(command);
    let (filter, bulk, action) = match command {
        DeadLettersCommand::Retry(arguments) => {
            (&arguments.filter, &arguments.bulk, BulkAction::Retry { even_if_older: arguments.even_if_older })
        }
        DeadLettersCommand::Drop(arguments) => (&arguments.filter, &arguments.bulk, BulkAction::Drop),
        DeadLettersCommand::List(ListArguments { reason, .. }) => {
            let matches = |dead_letter: &DeadLetter| {
                direction.is_none_or(|direction| dead_letter.direction == direction)
                    && has_reason(dead_letter, reason.as_deref())
            };
            let (found, blocked) = receive_matching(queue, output, matches).await?;
            let records: Vec<_> = found.iter().map(|dead_letter| dead_letter.to_record(None)).collect();
            output.print_json(&json!({"letters": records, "behind": blocked}))?;
            return print_list(&found, blocked, output).map(|()| ExitStatus::Ok);
        }
        DeadLettersCommand::Show(_) => return Ok(ExitStatus::Ok),
    };
    let matches = |dead_letter: &DeadLetter| {
        direction.is_none_or(|direction| dead_letter.direction == direction) && filter.matches(dead_letter)
    };
    let (found, blocked) = receive_matching(queue, output, matches).await?;
    if let Some(id) = filter.id.iter().find(|id| !found.iter().any(|dead_letter| dead_letter.id() == id.as_str())) {
        return Err(if blocked > 0 {
            Error::DeadLetterBlocked { id: id.clone() }
        } else {
            Error::NoSuchDeadLetter { id: id.clone() }
        });
    }
    let per_second = bulk.per_second.unwrap_or(rate);
    run_action(queue, &found, action, bulk.yes.then_some(per_second), blocked, output).await
}

impl DeadLetterFilter {
    /// Whether a letter is one of those that are meant: by every option that is given.
    fn matches(&self, dead_letter: &DeadLetter) -> bool {
        (self.id.is_empty() || self.id.iter().any(|id| dead_letter.id() == id.as_str()))
            && has_reason(dead_letter, self.reason.as_deref())
    }
}

/// Whether a letter died for a reason, where one is given.
fn has_reason(dead_letter: &DeadLetter, reason: Option<&str>) -> bool {
    match reason {
        None => true,
        Some(REASON_NONE) => dead_letter.reason.is_none(),
        Some(_) => dead_letter.reason.as_deref() == reason,
    }
}

fn print_list(dead_letters: &[DeadLetter], blocked: u64, output: Output) -> Result<(), Error> {
    if dead_letters.is_empty() {
        output.print("There are no such dead letters.")?;
    } else {
        let mut table = output.table(["died", "direction", "what", "reason", "attempts", "received", "bytes", "id"]);
        for dead_letter in dead_letters {
            let record = dead_letter.to_record(None);
            table.add_row([
                format_time(record.died_at),
                dead_letter.direction.as_str().to_owned(),
                record.kind.unwrap_or_default(),
                format_reason(record.reason.as_deref(), record.status),
                record.attempts.map(|attempts| attempts.to_string()).unwrap_or_default(),
                format_time(record.received_at),
                record.bytes.to_string(),
                record.id,
            ]);
        }
        output.print_table(table, &[7])?;
    }
    print_blocked(blocked, output)
}
