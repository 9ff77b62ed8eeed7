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
use crate::operations::local::LocalOperations;
use crate::operations::local_letters::LocalLetters;
use crate::operations::record::{DeliveryRecord, format_reason, short};
use crate::operations::stack::StackOperations;
use crate::operations::stack_letters::StackLetters;
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
        Target::Local(folder) => {
            let letters = LocalLetters::open(&folder)?;
            show(&LocalOperations::open(folder)?, letters, arguments, output).await
        }
        Target::Stack(stack) => {
            let operations = StackOperations::new(&stack, output.is_json());
            show(&operations, StackLetters::new(&stack, None), arguments, output).await
        }
    }
}

async fn show(
    operations: &impl Admin,
    letters: impl DeadLetterQueue,
    arguments: &ShowArguments,
    output: Output,
) -> Result<ExitStatus, Error> {
    let wants_body = arguments.body || arguments.body_to.is_some();
    let record = operations.delivery(&arguments.id).await?;
    // What was refused at the door of a stack is on no record, and its letter is all there is.
    let letter = if record.is_none() || wants_body {
        find(letters, &arguments.id).await?
    } else if record.as_ref().is_some_and(is_incomplete) {
        // What else is known is shown, whether it can be read or not.
        find(letters, &arguments.id).await.ok().flatten()
    } else {
        None
    };
    let record = match (record, &letter) {
        (Some(record), Some(letter)) => merge_dead_letter(record, letter),
        (Some(record), None) => record,
        (None, Some(letter)) => from_dead_letter(letter),
        (None, None) => {
            let id = arguments.id.clone();
            return Err(match operations.log_group_prefix() {
                Some(functions) if id.starts_with("contact_") => {
                    Error::NotOnRecord { hint: log_hint(functions, "delivery.id", &id), id }
                }
                _ => Error::NoSuchDelivery { id },
            });
        }
    };
    let body = letter.as_ref().and_then(DeadLetter::body);
    if wants_body && body.is_none() {
        return Err(Error::NoBody { id: arguments.id.clone() });
    }
    if let (Some(file), Some(body)) = (&arguments.body_to, &body) {
        write(file, body)?;
    }
    let shown = if arguments.body { body } else { None };
    let mut document = serde_json::to_value(&record)?;
    if let (Some(body), Value::Object(fields)) = (&shown, &mut document) {
        fields.insert("body".to_owned(), json!(String::from_utf8_lossy(body)));
    }
    output.print_json(&document)?;
    for (name, value) in lines(&record) {
        output.print(format!("{name:<16}{value}"))?;
    }
    for failure in &record.failures {
        let because = format_reason(Some(&failure.reason), failure.status);
        let times = if failure.count == 1 { "once".to_owned() } else { format!("{} times", failure.count) };
        output.print(format!("{:<16}{times} {because}", "failed"))?;
    }
    if let Some(body) = shown {
        output.print(String::from_utf8_lossy(&body))?;
    }
    Ok(ExitStatus::Ok)
}

async fn find(mut letters: impl DeadLetterQueue, id: &str) -> Result<Option<DeadLetter>, Error> {
    let found = tokio::select! {
        found = async {
            loop {
                let page = letters.read().await?;
                if page.is_empty() {
                    return Ok(None);
                }
                if let Some(found) = page.into_iter().find(|letter| letter.id() == id) {
                    return Ok(Some(found));
                }
            }
        } => found,
        _ = tokio::signal::ctrl_c() => Err(Error::Interrupted),
    };
    letters.release().await;
    found
}

/// Whether the letter of a delivery knows more than its record: the ledger of a stack has neither route nor webhook id.
fn is_incomplete(record: &DeliveryRecord) -> bool {
    let has_letter = record.state == DeliveryState::Dead && record.dropped_at.is_none();
    has_letter && record.direction == Direction::LoopsToClay && record.webhook_id.is_none()
}

/// A record with what its letter knows besides.
fn merge_dead_letter(record: DeliveryRecord, letter: &DeadLetter) -> DeliveryRecord {
    let told = letter.record(None);
    DeliveryRecord { route: record.route.or(told.route), webhook_id: record.webhook_id.or(told.webhook_id), ..record }
}

/// What a letter says of its delivery.
fn from_dead_letter(letter: &DeadLetter) -> DeliveryRecord {
    let told = letter.record(None);
    DeliveryRecord {
        id: told.id,
        direction: letter.direction,
        state: DeliveryState::Dead,
        attempts: letter.attempts.unwrap_or_default(),
        reason: told.reason,
        status: told.status,
        kind: letter.delivery.as_ref().map(|delivery| delivery.kind.as_str().to_owned()).unwrap_or_default(),
        route: told.route,
        webhook_id: told.webhook_id,
        contact_hash: None,
        received_at: told.received_at,
        first_attempt_at: None,
        last_attempt_at: None,
        next_attempt_at: None,
        settled_at: told.died_at,
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
        ("received", short(record.received_at)),
        ("first attempt", short(record.first_attempt_at)),
        ("last attempt", short(record.last_attempt_at)),
        ("next attempt", short(record.next_attempt_at)),
        ("ended", short(record.settled_at)),
        ("dropped", short(record.dropped_at)),
    ];
    lines.retain(|(_, value)| !value.is_empty());
    lines
}

/// Writes a body for its owner alone, and over nothing.
fn write(path: &Path, body: &Bytes) -> Result<(), Error> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(body))
        .map_err(|error| Error::BodyFile { path: path.display().to_string(), detail: error.kind() })
}
