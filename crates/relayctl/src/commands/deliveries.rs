//! `deliveries`: lists deliveries, and the sizes of the queues.

use clap::Args;
use jiff::Timestamp;
use relay::ports::admin::{Admin, DeliveryQuery, DeliveryRecord, QueueStatus};
use relay_core::contact::ContactKey;
use relay_core::delivery::Direction;
use relay_core::delivery_state::DeliveryState;
use relay_core::terminal::json_elements_for_terminal;
use relay_doctor::finding::Severity;
use relay_doctor::invocation::suggest;
use relay_sqlite::admin::SqliteAdmin;
use serde::Serialize;

use crate::commands::pause::pause_state;
use crate::error::{Error, UsageError};
use crate::exit::ExitStatus;
use crate::format::{StateFilter, direction_parser, format_reason, format_time, state_parser};
use crate::output::Output;
use crate::progress;
use crate::target::{Options, Target};

/// Number of deliveries of a page of `--all`.
const PAGE_SIZE: u32 = 1000;
const HEADER: [&str; 8] = ["received", "direction", "what", "state", "attempts", "reason", "next attempt", "id"];

#[derive(Debug, Clone, Args)]
pub(crate) struct DeliveriesArguments {
    /// Only deliveries in this state
    #[arg(long, value_parser = state_parser())]
    state: Option<StateFilter>,
    /// Only deliveries this way
    #[arg(long, value_parser = direction_parser())]
    direction: Option<Direction>,
    /// Only with this reason code
    #[arg(long, value_name = "CODE")]
    reason: Option<String>,
    /// Only of this contact: its address, its user id where it has none, or the 16 digits that the log has
    #[arg(long)]
    contact: Option<String>,
    /// Only of this webhook of Loops, by its `webhook-id`
    #[arg(long, value_name = "ID")]
    webhook_id: Option<String>,
    /// With --webhook-id: the route it went [default: those of the secret]
    #[arg(long, value_name = "NAME", requires = "webhook_id")]
    route: Vec<String>,
    /// At most this many: the latest, in the order of their arrival
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// All of them, printed while they are read: the newest first on this machine, in no order on a stack
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

/// The queues of one direction, and whether it is paused.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct QueueRecord {
    direction: Direction,
    waiting: u64,
    dead_letters: u64,
    paused: bool,
    paused_since: Option<Timestamp>,
}

pub(crate) async fn run(
    options: &Options,
    arguments: &DeliveriesArguments,
    output: Output,
) -> Result<ExitStatus, Error> {
    let target = options.target().await?;
    let query = to_query(&target, arguments).await?;
    let (count, sizes) = match &target {
        Target::Local(data_dir) => list(&SqliteAdmin::open(data_dir.path())?, &query, arguments, true, output).await?,
        Target::Stack(stack) => list(&stack.admin()?, &query, arguments, output.is_json(), output).await?,
    };
    let mut queues = Vec::new();
    for QueueStatus { direction, waiting, dead_letters, .. } in sizes {
        let (paused, paused_since) = pause_state(&target, direction).await?;
        queues.push(QueueRecord { direction, waiting, dead_letters, paused, paused_since });
    }
    let extra = extra_dead_letters(&query, count, &queues);
    let queues_json = serde_json::to_string_pretty(&queues)?;
    let line = if count == 0 { "" } else { "\n" };
    output.print_json_part(&format!("{line}],\n\"queues\": {queues_json},\n\"lettersBeside\": {extra}\n}}\n"))?;
    if count == 0 {
        output.print("No such delivery is on record.")?;
    }
    if !arguments.all && count == u64::from(arguments.limit) {
        output.print(format!("These are the latest {count}; --limit shows more, and --all shows all."))?;
    }
    if extra > 0 {
        output.print(format!("{extra} more: {}", suggest("dead-letters list")))?;
    }
    if let (0, Some(contact), Target::Stack(stack)) = (count, &query.contact_hash, &target) {
        output.print(log_hint(&stack.stack.name, "contact", contact))?;
    }
    for queue in &queues {
        output.print(queue_summary(queue, output))?;
    }
    Ok(ExitStatus::Ok)
}

async fn to_query(target: &Target, arguments: &DeliveriesArguments) -> Result<DeliveryQuery, Error> {
    let contact_hash = match arguments.contact.as_deref() {
        Some(contact) => Some(resolve_contact_hash(target, contact).await?),
        None => None,
    };
    let routes = match target {
        Target::Stack(stack) if arguments.webhook_id.is_some() && arguments.route.is_empty() => {
            stack.route_names().await?
        }
        Target::Stack(_) | Target::Local(_) => arguments.route.clone(),
    };
    Ok(DeliveryQuery {
        state: match arguments.state {
            Some(StateFilter::In(state)) => Some(state),
            Some(StateFilter::Held) | None => None,
        },
        direction: arguments.direction,
        reason: arguments.reason.clone(),
        held: arguments.state == Some(StateFilter::Held),
        contact_hash,
        webhook_id: arguments.webhook_id.clone(),
        routes,
    })
}

/// Prints the deliveries, and returns their number and the sizes of the queues. With `--all`, no more than a page of them is
/// held at a time.
async fn list<A: Admin<Error: Into<Error>>>(
    admin: &A,
    query: &DeliveryQuery,
    arguments: &DeliveriesArguments,
    quiet: bool,
    output: Output,
) -> Result<(u64, Vec<QueueStatus>), Error> {
    let (mut count, queues) = (0, admin.queues().await.map_err(Into::into)?);
    // An error before the first page is the whole document.
    let opening = "{\n\"deliveries\": [";
    if arguments.all {
        let mut page = admin.deliveries_page(query, PAGE_SIZE, None).await.map_err(Into::into)?;
        output.print_json_part(opening)?;
        loop {
            print_records(&page.records, &mut count, output)?;
            let Some(next) = page.next else { break };
            page = admin.deliveries_page(query, PAGE_SIZE, Some(&next)).await.map_err(Into::into)?;
        }
    } else {
        let spinner = progress::spinner(quiet, "reading the ledger");
        let show_progress = |found| spinner.set_message(format!("reading the ledger: {found} found"));
        let latest = admin.latest_deliveries(query, arguments.limit, &show_progress).await.map_err(Into::into)?;
        spinner.finish_and_clear();
        output.print_json_part(opening)?;
        print_records(&latest, &mut count, output)?;
    }
    Ok((count, queues))
}

/// Prints some deliveries, before which `count` were printed.
fn print_records(records: &[DeliveryRecord], count: &mut u64, output: Output) -> Result<(), Error> {
    if output.is_json() {
        output.print_json_part(&json_elements_for_terminal(records, *count == 0)?)?;
    } else if !records.is_empty() {
        output.print_table(HEADER, records.iter().map(to_row), "")?;
    }
    *count += u64::try_from(records.len()).unwrap_or(u64::MAX);
    Ok(())
}

/// Returns the hash of a contact that is given as an address, as a user id, or as the hash itself.
pub(crate) async fn resolve_contact_hash(target: &Target, contact: &str) -> Result<String, Error> {
    let contact = contact.trim();
    if contact.len() == 16 && contact.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(contact.to_ascii_lowercase());
    }
    let key = target.contact_hash_key().await?.ok_or(UsageError::NoContactHashKey)?;
    Ok(ContactKey::from_search(contact).log_hash(&key))
}

/// Number of dead letters beyond the listed ones: a request that the handler rejected is on no record.
fn extra_dead_letters(query: &DeliveryQuery, count: u64, queues: &[QueueRecord]) -> u64 {
    let covers_all_dead = query.state == Some(DeliveryState::Dead)
        && query.contact_hash.is_none()
        && query.webhook_id.is_none()
        && query.reason.is_none();
    let queues = queues.iter().filter(|queue| query.direction.is_none_or(|direction| queue.direction == direction));
    let dead_letters: u64 = queues.map(|queue| queue.dead_letters).sum();
    if covers_all_dead { dead_letters.saturating_sub(count) } else { 0 }
}

/// Returns where a contact is found that a stack has no record of. Field and value are those of the log.
pub(crate) fn log_hint(stack: &str, field: &str, value: &str) -> String {
    format!(
        "A contact that Loops took while Clay waited is in the log only: Logs Insights, /aws/lambda/{stack}-clay-to-loops-contact (created or deleted: …-api), filter `{field}` = \"{value}\""
    )
}

fn to_row(record: &DeliveryRecord) -> [String; 8] {
    [
        format_time(record.received_at),
        record.direction.as_str().to_owned(),
        record.kind.clone(),
        format_state(record).to_owned(),
        record.attempts.to_string(),
        format_reason(record.reason.as_deref(), record.status),
        format_time(record.next_attempt_at),
        record.id.clone(),
    ]
}

pub(crate) fn format_state(record: &DeliveryRecord) -> &'static str {
    if record.dropped_at.is_some() { "dropped" } else { record.state.as_str() }
}

fn queue_summary(queue: &QueueRecord, output: Output) -> String {
    let QueueRecord { direction, waiting, dead_letters, paused, paused_since } = queue;
    let paused = match (paused, paused_since) {
        (false, _) => String::new(),
        (true, None) => output.colorize(Severity::Warn, ", paused"),
        (true, since) => output.colorize(Severity::Warn, &format!(", paused since {}", format_time(*since))),
    };
    format!("{}: waiting {waiting}, dead letters {dead_letters}{paused}", direction.as_str())
}
