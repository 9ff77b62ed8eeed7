//! `show`: prints everything that is known of one delivery.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use clap::Args;
use relay::ports::admin::{Admin, DeliveryRecord};
use relay::ports::clock::SystemClock;
use relay::ports::dead_letters::{DeadLetter, DeadLetterQueue};
use relay_core::delivery::{DeliveryId, Direction};
use relay_core::delivery_state::DeliveryState;
use relay_sqlite::admin::{SqliteAdmin, SqliteDeadLetters};
use serde_json::{Value, json};

use crate::commands::deliveries::{format_state, log_hint};
use crate::error::{Error, UsageError};
use crate::exit::ExitStatus;
use crate::format::{format_reason, format_time};
use crate::output::Output;
use crate::target::{Options, Target};

#[derive(Debug, Clone, Args)]
pub(crate) struct ShowArguments {
    /// The id of the delivery: in the answer's header x-relay-delivery-id, in the log, in the listings
    id: String,
    /// Print the body of its dead letter, too: it is people's data
    #[arg(long)]
    body: bool,
    /// Write the body of its dead letter into this file, which must not be there yet
    #[arg(long, value_name = "FILE", conflicts_with = "body")]
    body_to: Option<PathBuf>,
}

pub(crate) async fn run(options: &Options, arguments: &ShowArguments, output: Output) -> Result<ExitStatus, Error> {
    let target = options.target().await?;
    let (record, dead_letter) = match &target {
        Target::Local(data_dir) => {
            let admin = SqliteAdmin::open(data_dir.path())?;
            find(&admin, SqliteDeadLetters::open(data_dir.path(), Arc::new(SystemClock))?, arguments).await?
        }
        Target::Stack(stack) => find(&stack.admin()?, stack.dead_letters(None)?, arguments).await?,
    };
    let record = match (record, &dead_letter) {
        (Some(record), Some(dead_letter)) => {
            let DeliveryRecord { route, webhook_id, .. } = dead_letter.to_record();
            DeliveryRecord { route: record.route.or(route), webhook_id: record.webhook_id.or(webhook_id), ..record }
        }
        (Some(record), None) => record,
        (None, Some(dead_letter)) => dead_letter.to_record(),
        (None, None) => return Err(not_found(&target, &arguments.id).into()),
    };
    let wants_body = arguments.body || arguments.body_to.is_some();
    let body = dead_letter.as_ref().map(DeadLetter::body).filter(|_| wants_body);
    if wants_body && body.is_none() {
        return Err(UsageError::BodyNotStored { id: arguments.id.clone() }.into());
    }
    if let (Some(file), Some(body)) = (&arguments.body_to, body) {
        write_body_file(file, body)?;
    }
    let printed_body = body.filter(|_| arguments.body).map(|body| String::from_utf8_lossy(body));
    let mut document = serde_json::to_value(&record)?;
    if let (Some(body), Value::Object(fields)) = (&printed_body, &mut document) {
        fields.insert("body".to_owned(), json!(body));
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
        output.print(body)?;
    }
    Ok(ExitStatus::Ok)
}

/// Returns the record of a delivery, and its dead letter if that knows more or its body is wanted.
async fn find<A: Admin<Error: Into<Error>>, Q: DeadLetterQueue<Error: Into<Error>>>(
    admin: &A,
    queue: Q,
    arguments: &ShowArguments,
) -> Result<(Option<DeliveryRecord>, Option<DeadLetter>), Error> {
    let record = admin.delivery(&DeliveryId::from_stored(arguments.id.clone())).await.map_err(Into::into)?;
    // A request that the handler of a stack rejected is on no record, and its dead letter is all there is.
    let dead_letter = if record.is_none() || arguments.body || arguments.body_to.is_some() {
        find_dead_letter(queue, &arguments.id).await?
    } else if record.as_ref().is_some_and(is_incomplete) {
        // The record is shown even if the dead letter cannot be read.
        find_dead_letter(queue, &arguments.id).await.ok().flatten()
    } else {
        None
    };
    Ok((record, dead_letter))
}

fn not_found(target: &Target, id: &str) -> UsageError {
    let id = id.to_owned();
    match target {
        Target::Stack(stack) if id.starts_with("contact_") => {
            UsageError::NotRecorded { hint: log_hint(&stack.stack.name, "delivery.id", &id), id }
        }
        Target::Stack(_) | Target::Local(_) => UsageError::NoSuchDelivery { id },
    }
}

async fn find_dead_letter<Q: DeadLetterQueue<Error: Into<Error>>>(
    mut queue: Q,
    id: &str,
) -> Result<Option<DeadLetter>, Error> {
    let found = tokio::select! {
        found = async {
            loop {
                let page = queue.next_page().await.map_err(Into::into)?;
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

/// Whether the dead letter knows more than the record: the ledger of a stack has neither route nor webhook id.
fn is_incomplete(record: &DeliveryRecord) -> bool {
    let has_dead_letter = record.state == DeliveryState::Dead && record.dropped_at.is_none();
    has_dead_letter && record.direction == Direction::LoopsToClay && record.webhook_id.is_none()
}

fn lines(record: &DeliveryRecord) -> Vec<(&'static str, String)> {
    let mut lines = vec![
        ("id", record.id.clone()),
        ("direction", record.direction.as_str().to_owned()),
        ("what", record.kind.clone()),
        ("state", format_state(record).to_owned()),
        ("attempts", record.attempts.to_string()),
        ("reason", format_reason(record.reason.as_deref(), record.status)),
        ("destination", record.destination.clone().unwrap_or_default()),
        ("route", record.route.clone().unwrap_or_default()),
        ("webhook id", record.webhook_id.clone().unwrap_or_default()),
        ("contact", record.contact_hash.clone().unwrap_or_default()),
        ("received", format_time(record.received_at)),
        ("first attempt", format_time(record.first_attempt_at)),
        ("last attempt", format_time(record.last_attempt_at)),
        ("next attempt", format_time(record.next_attempt_at)),
        ("held since", format_time(record.held_since)),
        ("ended", format_time(record.settled_at)),
        ("dropped", format_time(record.dropped_at)),
    ];
    lines.retain(|(_, value)| !value.is_empty());
    lines
}

/// Writes a body into a new file that only its owner can read.
fn write_body_file(path: &Path, body: &Bytes) -> Result<(), UsageError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(body))
        .map_err(|error| UsageError::BodyFileNotWritable { path: path.display().to_string(), kind: error.kind() })
}
