//! `show`: one delivery, with everything that is known of it.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Args;
use relay_core::delivery::Direction;
use relay_sqlite::store::DeliveryState;
use serde_json::{Value, json};

use crate::commands::deliveries::{format_state, log_hint};
use crate::error::Error;
use crate::exit::ExitStatus;
use crate::operations::Admin;
use crate::operations::letter_box::{DeadLetter, DeadLetterQueue};
use crate::operations::local::LocalAdmin;
use crate::operations::local_letters::LocalDeadLetters;
use crate::operations::record::{DeliveryRecord, format_reason, format_time};
use crate::operations::stack::StackAdmin;
use crate::output::Output;
use crate::target::{Options, Target};

/// What `show` is told.
#[derive(Debug, Clone, Args)]
pub struct ShowArguments {
    /// The id of the delivery: in the answer's header x-relay-delivery-id, in the log, in the listings
    pub id: String,
    /// Print the body of its dead letter, too: it is people's data
    #[arg(long)]
    pub body: bool,
    /// Write the body of its dead letter into this file, which must not be there yet
    #[arg(long, value_name = "FILE", conflicts_with = "body")]
    pub body_to: Option<PathBuf>,
}

/// Prints a delivery.
///
/// # Errors
/// When there is none, or it cannot be read.
pub async fn run(options: &Options, arguments: &ShowArguments, output: Output) -> Result<ExitStatus, Error> {
    match options.target().await? {
        Target::Local(data_dir) => {
            let queue = LocalDeadLetters::open(&data_dir)?;
            print_delivery(&LocalAdmin::open(data_dir)?, queue, arguments, output).await
        }
        Target::Stack(stack_target) => {
            let admin = StackAdmin::new(&stack_target, output.is_json());
            print_delivery(&admin, stack_target.dead_letters(None)?, arguments, output).await
        }
    }
}

async fn print_delivery(
    admin: &impl Admin,
    queue: impl DeadLetterQueue,
    arguments: &ShowArguments,
    output: Output,
) -> Result<ExitStatus, Error> {
    let wants_body = arguments.body || arguments.body_to.is_some();
    let record = admin.delivery(&arguments.id).await?;
    // What was refused at the door of a stack is on no record, and its letter is all there is.
    let dead_letter = if record.is_none() || wants_body {
        find_dead_letter(queue, &arguments.id).await?
    } else if record.as_ref().is_some_and(is_incomplete) {
        // What else is known is shown, whether it can be read or not.
        find_dead_letter(queue, &arguments.id).await.ok().flatten()
    } else {
        None
    };
    let record = match (record, &dead_letter) {
        (Some(record), Some(dead_letter)) => merge_dead_letter(record, dead_letter),
        (Some(record), None) => record,
        (None, Some(dead_letter)) => from_dead_letter(dead_letter),
        (None, None) => {
            let id = arguments.id.clone();
            return Err(match admin.log_group_prefix() {
                Some(log_group_prefix) if id.starts_with("contact_") => {
                    Error::NotRecorded { hint: log_hint(log_group_prefix, "delivery.id", &id), id }
                }
                _ => Error::NoSuchDelivery { id },
            });
        }
    };
    let body = dead_letter.as_ref().and_then(DeadLetter::body);
    if wants_body && body.is_none() {
        return Err(Error::BodyNotStored { id: arguments.id.clone() });
    }
    if let (Some(file), Some(body)) = (&arguments.body_to, &body) {
        write_body_file(file, body)?;
    }
    let printed_body = if arguments.body { body } else { None };
    let mut document = serde_json::to_value(&record)?;
    if let (Some(body), Value::Object(fields)) = (&printed_body, &mut document) {
        fields.insert("body".to_owned(), json!(String::from_utf8_lossy(body)));
    }
    output.print_json(&document)?;
    for (name, value) in lines(&record) {
        output.print(format!("{name:<16}{value}"))?;
    }
    for failure in &record.failures {
        let reason = format_reason(Some(&failure.reason), failure.status);
        let occurrences = if failure.count == 1 { "once".to_owned() } else { format!("{} times", failure.count) };
        output.print(format!("{:<16}{occurrences} {reason}", "failed"))?;
    }
    if let Some(body) = printed_body {
        output.print(String::from_utf8_lossy(&body))?;
    }
    Ok(ExitStatus::Ok)
}

async fn find_dead_letter(mut queue: impl DeadLetterQueue, id: &str) -> Result<Option<DeadLetter>, Error> {
    let found = tokio::select! {
        found = async {
            loop {
                let page = queue.next_page().await?;
                if page.is_empty() {
                    return Ok(None);
                }
                if let Some(found) = page.into_iter().find(|dead_letter| dead_letter.id() == id) {
                    return Ok(Some(found));
                }
            }
        } => found,
        _ = tokio::signal::ctrl_c() => Err(Error::Interrupted),
    };
    queue.release().await;
    found
}

/// Whether the letter of a delivery knows more than its record: the ledger of a stack has neither route nor webhook id.
fn is_incomplete(record: &DeliveryRecord) -> bool {
    let has_dead_letter = record.state == DeliveryState::Dead && record.dropped_at.is_none();
    has_dead_letter && record.direction == Direction::LoopsToClay && record.webhook_id.is_none()
}

/// A record with what its letter knows besides.
fn merge_dead_letter(record: DeliveryRecord, dead_letter: &DeadLetter) -> DeliveryRecord {
    let details = dead_letter.to_record(None);
    DeliveryRecord {
        route: record.route.or(details.route),
        webhook_id: record.webhook_id.or(details.webhook_id),
        ..record
    }
}

/// What a letter says of its delivery.
fn from_dead_letter(dead_letter: &DeadLetter) -> DeliveryRecord {
    let details = dead_letter.to_record(None);
    DeliveryRecord {
        id: details.id,
        direction: dead_letter.direction,
        state: DeliveryState::Dead,
        attempts: dead_letter.attempts.unwrap_or_default(),
        reason: details.reason,
        status: details.status,
        kind: dead_letter.delivery.as_ref().map(|delivery| delivery.kind.as_str().to_owned()).unwrap_or_default(),
        route: details.route,
        webhook_id: details.webhook_id,
        contact_hash: None,
        received_at: details.received_at,
        first_attempt_at: None,
        last_attempt_at: None,
        next_attempt_at: None,
        settled_at: details.died_at,
        dropped_at: None,
        failures: Vec::new(),
    }
}

fn lines(record: &DeliveryRecord) -> Vec<(&'static str, String)> {
    let mut lines = vec![
        ("id", record.id.clone()),
        ("direction", record.direction.as_str().to_owned()),
        ("what", record.kind.clone()),
        ("state", format_state(record).to_owned()),
        ("attempts", record.attempts.to_string()),
        ("reason", format_reason(record.reason.as_deref(), record.status)),
        ("route", record.route.clone().unwrap_or_default()),
        ("webhook id", record.webhook_id.clone().unwrap_or_default()),
        ("contact", record.contact_hash.clone().unwrap_or_default()),
        ("received", format_time(record.received_at)),
        ("first attempt", format_time(record.first_attempt_at)),
        ("last attempt", format_time(record.last_attempt_at)),
        ("next attempt", format_time(record.next_attempt_at)),
        ("ended", format_time(record.settled_at)),
        ("dropped", format_time(record.dropped_at)),
    ];
    lines.retain(|(_, value)| !value.is_empty());
    lines
}

/// Writes a body for its owner alone, and over nothing.
fn write_body_file(path: &Path, body: &Bytes) -> Result<(), Error> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(body))
        .map_err(|error| Error::BodyFileNotWritable { path: path.display().to_string(), detail: error.kind() })
}
