//! `deliveries`: what is waiting, delivered and dead.

use clap::{Args, ValueEnum};
use relay_core::delivery::Direction;
use relay_core::delivery_state::DeliveryState;
use relay_local::commands::deliveries::State;
use serde_json::json;

use crate::error::Error;
use crate::exit::ExitStatus;
use crate::operations::local::LocalAdmin;
use crate::operations::record::{DeliveryRecord, QueueRecord, format_reason, format_time};
use crate::operations::stack::StackAdmin;
use crate::operations::{Admin, DeliveryQuery, resolve_contact_hash};
use crate::output::{Output, Severity};
use crate::target::{Options, Target};

/// How many deliveries a table shows unless it is told otherwise.
const TABLE_LIMIT: u32 = 50;

/// A direction, as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DirectionArg {
    /// Webhooks to Clay tables
    LoopsToClay,
    /// Rows to the Loops API
    ClayToLoops,
}

impl From<DirectionArg> for Direction {
    fn from(direction: DirectionArg) -> Self {
        match direction {
            DirectionArg::LoopsToClay => Self::LoopsToClay,
            DirectionArg::ClayToLoops => Self::ClayToLoops,
        }
    }
}

/// What `deliveries` is told.
#[derive(Debug, Clone, Args)]
pub struct DeliveriesArguments {
    /// Only deliveries in this state
    #[arg(long)]
    pub state: Option<State>,
    /// Only deliveries this way
    #[arg(long)]
    pub direction: Option<DirectionArg>,
    /// Only of this contact: its address, its user id where it has none, or the 16 digits that the log has
    #[arg(long)]
    pub contact: Option<String>,
    /// Only of this webhook of Loops, by its `webhook-id`
    #[arg(long, value_name = "ID")]
    pub webhook_id: Option<String>,
    /// With --webhook-id: the route it went [default: those of the secret]
    #[arg(long, value_name = "NAME", requires = "webhook_id")]
    pub route: Vec<String>,
    /// At most this many, the latest [default: 50 in a table, all in JSON]
    #[arg(long)]
    pub limit: Option<u32>,
}

/// Prints deliveries, and how the queues stand.
///
/// # Errors
/// When they cannot be read.
pub async fn run(options: &Options, arguments: &DeliveriesArguments, output: Output) -> Result<ExitStatus, Error> {
    match options.target().await? {
        Target::Local(data_dir) => print_deliveries(&LocalAdmin::open(data_dir)?, options, arguments, output).await,
        Target::Stack(stack_target) => {
            print_deliveries(&StackAdmin::new(&stack_target, output.is_json()), options, arguments, output).await
        }
    }
}

async fn print_deliveries(
    admin: &impl Admin,
    options: &Options,
    arguments: &DeliveriesArguments,
    output: Output,
) -> Result<ExitStatus, Error> {
    let limit = arguments.limit.or((!output.is_json()).then_some(TABLE_LIMIT));
    let contact_hash = arguments.contact.as_deref().map(|contact| resolve_contact_hash(admin, contact)).transpose()?;
    let query = DeliveryQuery {
        state: arguments.state.map(DeliveryState::from),
        direction: arguments.direction.map(Direction::from),
        contact_hash,
        webhook_id: arguments.webhook_id.clone(),
        routes: arguments.route.clone(),
        limit,
    };
    let deliveries = admin.deliveries(&query).await?;
    let queues = admin.queues().await?;
    let extra = extra_dead_letters(&query, &deliveries, &queues);
    output.print_json(&json!({"deliveries": deliveries, "queues": queues, "lettersBeside": extra}))?;
    if deliveries.is_empty() {
        output.print("No such delivery is on record.")?;
    } else {
        output.print_table(table(&deliveries, output), &[7, 3])?;
    }
    if limit.and_then(|limit| usize::try_from(limit).ok()) == Some(deliveries.len()) {
        output.print(format!("These are the latest {}; --limit shows more.", deliveries.len()))?;
    }
    if extra > 0 {
        output.print(options.with_command_line(&format!("{extra} more: `relayctl dead-letters list`")))?;
    }
    if let (true, Some(contact), Some(log_group_prefix)) =
        (deliveries.is_empty(), &query.contact_hash, admin.log_group_prefix())
    {
        output.print(log_hint(log_group_prefix, "contact", contact))?;
    }
    for queue in &queues {
        output.print(queue_summary(queue, output))?;
    }
    Ok(ExitStatus::Ok)
}

/// How many dead letters the queues have beside these deliveries: those that were refused at the door are on no record.
fn extra_dead_letters(query: &DeliveryQuery, deliveries: &[DeliveryRecord], queues: &[QueueRecord]) -> u64 {
    let covers_all_dead =
        query.state == Some(DeliveryState::Dead) && query.contact_hash.is_none() && query.webhook_id.is_none();
    let queues = queues.iter().filter(|queue| query.direction.is_none_or(|direction| queue.direction == direction));
    let dead_letters: u64 = queues.map(|queue| queue.dead_letters).sum();
    if covers_all_dead { dead_letters.saturating_sub(u64::try_from(deliveries.len()).unwrap_or(u64::MAX)) } else { 0 }
}

/// Where a contact is found that a stack has no record of; the field and its value are those of the log.
#[must_use]
pub fn log_hint(log_group_prefix: &str, field: &str, value: &str) -> String {
    format!(
        "A contact that Loops took while Clay waited is in the log only: Logs Insights, /aws/lambda/{log_group_prefix}-clay-to-loops-contact, filter `{field}` = \"{value}\""
    )
}

fn table(deliveries: &[DeliveryRecord], output: Output) -> comfy_table::Table {
    let mut table =
        output.table(["received", "direction", "what", "state", "attempts", "reason", "next attempt", "id"]);
    for record in deliveries {
        table.add_row([
            format_time(record.received_at),
            record.direction.as_str().to_owned(),
            record.kind.clone(),
            format_state(record).to_owned(),
            record.attempts.to_string(),
            format_reason(record.reason.as_deref(), record.status),
            format_time(record.next_attempt_at),
            record.id.clone(),
        ]);
    }
    table
}

/// A state in a table.
#[must_use]
pub fn format_state(record: &DeliveryRecord) -> &'static str {
    if record.dropped_at.is_some() { "dropped" } else { record.state.as_str() }
}

/// How a queue stands, in one line.
fn queue_summary(queue: &QueueRecord, output: Output) -> String {
    let QueueRecord { direction, waiting, dead_letters, paused, paused_since } = queue;
    let direction = direction.as_str();
    let paused = match (paused, paused_since) {
        (false, _) => String::new(),
        (true, None) => output.colorize(Severity::Warn, ", paused"),
        (true, since) => output.colorize(Severity::Warn, &format!(", paused since {}", format_time(*since))),
    };
    format!("{direction}: waiting {waiting}, dead letters {dead_letters}{paused}")
}
