//! How dead letters are read, and acted on one after the other.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use crate::error::Error;
use crate::exit::ExitStatus;
use crate::operations::letter_box::{DeadLetter, DeadLetterQueue, RedriveOutcome};
use crate::operations::record::{DeadLetterRecord, format_reason, format_time};
use crate::output::Output;
use crate::progress;

/// The outcome of a letter that was thrown away.
const DROPPED: &str = "dropped";
/// The outcome of a letter that a dry run would throw away.
const WOULD_DROP: &str = "would_drop";
/// The outcome of a letter that a dry run would send again.
const WOULD_SEND: &str = "would_send";
/// The outcome of a letter at which the work was broken off.
const FAILED: &str = "failed";

/// What is done with each letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BulkAction {
    /// It is sent again.
    Retry {
        /// Also where it would overwrite something newer.
        even_if_older: bool,
    },
    /// It is thrown away.
    Drop,
}

/// Reads all letters that can be read, and keeps those that are meant; tells how many could not be read.
pub(crate) async fn receive_matching<Q: DeadLetterQueue>(
    queue: &mut Q,
    output: Output,
    matches: impl Fn(&DeadLetter) -> bool,
) -> Result<(Vec<DeadLetter>, u64), Error> {
    let total = queue.count().await?;
    let bar = progress::bar(output.is_json(), total, "reading the dead letters");
    let (mut matching, mut received) = (Vec::new(), 0);
    loop {
        let page = queue.next_page().await?;
        if page.is_empty() {
            break;
        }
        received += u64::try_from(page.len()).unwrap_or(u64::MAX);
        bar.set_position(received);
        matching.extend(page.into_iter().filter(|dead_letter| matches(dead_letter)));
    }
    bar.finish_and_clear();
    Ok((matching, total.saturating_sub(received)))
}

/// Does it with these letters, so many a second; or tells what would be done, where that is not given.
///
/// The letters are read anew, because what was read is hidden for a time only. Only those that were found before are acted
/// on: one that dies again meanwhile is another letter.
pub(crate) async fn run_action<Q: DeadLetterQueue>(
    queue: &mut Q,
    selected: &[DeadLetter],
    action: BulkAction,
    per_second: Option<u32>,
    blocked: u64,
    output: Output,
) -> Result<ExitStatus, Error> {
    let mut records = Vec::new();
    let Some(per_second) = per_second else {
        for dead_letter in selected {
            records.push(dead_letter.to_record(Some(planned(queue, dead_letter, action).await?)));
        }
        output.print_json(&json!({"dryRun": true, "letters": records, "behind": blocked}))?;
        print_outcomes(&records, false, blocked, output)?;
        if !records.is_empty() {
            output.print("Nothing was changed: this was a dry run. The same command with --yes does it.")?;
        }
        return Ok(ExitStatus::Ok);
    };
    queue.release().await;
    let mut remaining: BTreeSet<&str> = selected.iter().map(|dead_letter| dead_letter.key.as_str()).collect();
    let bar = progress::bar(output.is_json(), u64::try_from(remaining.len()).unwrap_or(u64::MAX), "dead letters");
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / per_second);
    let mut error = None;
    'letters: while !remaining.is_empty() {
        let page = queue.next_page().await?;
        if page.is_empty() {
            break;
        }
        for dead_letter in page {
            if !remaining.remove(dead_letter.key.as_str()) {
                continue;
            }
            ticks.tick().await;
            match apply_action(queue, &dead_letter, action).await {
                Ok(outcome) => records.push(dead_letter.to_record(Some(outcome))),
                Err(cause) => {
                    records.push(dead_letter.to_record(Some(FAILED)));
                    error = Some(cause);
                    break 'letters;
                }
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let unprocessed = remaining.len();
    let missing = unprocessed + records.iter().filter(|record| was_gone(record.outcome)).count();
    let done_count = records.iter().filter(|record| !was_skipped(record.outcome) && !was_gone(record.outcome)).count();
    if let Some(error) = error {
        output.print(format!(
            "{done_count} of {} {} done before this failed; doing it again goes on with the rest.",
            selected.len(),
            if done_count == 1 { "was" } else { "were" }
        ))?;
        return Err(error);
    }
    output
        .print_json(&json!({"dryRun": false, "letters": records, "behind": blocked, "notFoundAgain": unprocessed}))?;
    print_outcomes(&records, true, blocked, output)?;
    output.print(format!("{done_count} of {} {} done.", selected.len(), if done_count == 1 { "is" } else { "are" }))?;
    if missing > 0 {
        let verb = if missing == 1 { "was" } else { "were" };
        output.print(format!("{missing} {verb} not there any more: somebody else has them, or has done them."))?;
    }
    Ok(if done_count == selected.len() && blocked == 0 { ExitStatus::Ok } else { ExitStatus::Failed })
}

/// Whether a letter is where it was.
fn was_skipped(outcome: Option<&'static str>) -> bool {
    outcome == Some(FAILED)
        || RedriveOutcome::ALL
            .into_iter()
            .any(|candidate| candidate.stays_in_dlq() && outcome == Some(candidate.as_str()))
}

/// Whether a letter was gone before anything was done with it.
fn was_gone(outcome: Option<&'static str>) -> bool {
    outcome == Some(RedriveOutcome::NotFound.as_str())
}

async fn planned<Q: DeadLetterQueue>(
    queue: &Q,
    dead_letter: &DeadLetter,
    action: BulkAction,
) -> Result<&'static str, Error> {
    let BulkAction::Retry { even_if_older } = action else { return Ok(WOULD_DROP) };
    match dead_letter.not_redrivable() {
        Some(outcome) => Ok(outcome.as_str()),
        None => Ok(match queue.plan_redrive(dead_letter, even_if_older).await? {
            RedriveOutcome::Redriven => WOULD_SEND,
            outcome => outcome.as_str(),
        }),
    }
}

async fn apply_action<Q: DeadLetterQueue>(
    queue: &mut Q,
    dead_letter: &DeadLetter,
    action: BulkAction,
) -> Result<&'static str, Error> {
    let BulkAction::Retry { even_if_older } = action else {
        return Ok(if queue.delete(dead_letter).await? { DROPPED } else { RedriveOutcome::NotFound.as_str() });
    };
    match dead_letter.not_redrivable() {
        Some(outcome) => Ok(outcome.as_str()),
        None => Ok(queue.redrive(dead_letter, even_if_older).await?.as_str()),
    }
}

fn print_outcomes(records: &[DeadLetterRecord], applied: bool, blocked: u64, output: Output) -> Result<(), Error> {
    if records.is_empty() {
        output.print("There are no such dead letters.")?;
    } else {
        let mut table = output.table(["died", "direction", "what", "reason", "id", "outcome"]);
        for record in records {
            table.add_row([
                format_time(record.died_at),
                record.direction.as_str().to_owned(),
                record.kind.clone().unwrap_or_default(),
                format_reason(record.reason.as_deref(), record.status),
                record.id.clone(),
                describe(record.outcome, applied),
            ]);
        }
        output.print_table(table, &[4, 5])?;
    }
    print_blocked(blocked, output)
}

/// An outcome for people: what would be done, or what was.
fn describe(outcome: Option<&'static str>, applied: bool) -> String {
    match outcome.unwrap_or_default() {
        WOULD_DROP => "drop".to_owned(),
        WOULD_SEND => RedriveOutcome::Redriven.description(applied),
        outcome => {
            let known_outcome = RedriveOutcome::ALL.into_iter().find(|verdict| verdict.as_str() == outcome);
            known_outcome.map_or_else(|| outcome.to_owned(), |redrive_outcome| redrive_outcome.description(applied))
        }
    }
}

/// Tells of the letters that could not be read.
pub(crate) fn print_blocked(blocked: u64, output: Output) -> Result<(), Error> {
    if blocked == 0 {
        return Ok(());
    }
    output.print(if blocked == 1 {
        "1 more cannot be read now: it stands behind another of its contact, or somebody else has it.".to_owned()
    } else {
        format!(
            "{blocked} more cannot be read now: they stand behind others of their contacts, or somebody else has them."
        )
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use relay_core::contact::ContactKey;
    use relay_core::delivery::{Delivery, DeliveryId, DeliveryKind, Direction};

    use super::*;

    /// Letters of which somebody else has sent the first ones meanwhile.
    struct SharedQueue {
        dead_letters: Vec<DeadLetter>,
        taken_count: usize,
        was_read: bool,
    }

    impl DeadLetterQueue for SharedQueue {
        async fn next_page(&mut self) -> Result<Vec<DeadLetter>, Error> {
            Ok(if std::mem::replace(&mut self.was_read, true) { Vec::new() } else { self.dead_letters.clone() })
        }

        async fn plan_redrive(&self, _: &DeadLetter, _: bool) -> Result<RedriveOutcome, Error> {
            Ok(RedriveOutcome::Redriven)
        }

        async fn redrive(&mut self, dead_letter: &DeadLetter, _: bool) -> Result<RedriveOutcome, Error> {
            let index = self.dead_letters.iter().position(|candidate| candidate.key == dead_letter.key).unwrap();
            Ok(if index < self.taken_count { RedriveOutcome::NotFound } else { RedriveOutcome::Redriven })
        }

        async fn delete(&mut self, _: &DeadLetter) -> Result<bool, Error> {
            Ok(false)
        }

        async fn release(&mut self) {
            self.was_read = false;
        }

        async fn count(&self) -> Result<u64, Error> {
            Ok(0)
        }
    }

    fn dead_letter(index: usize) -> DeadLetter {
        let delivery = Delivery {
            id: DeliveryId::random(&index.to_string()),
            contact: ContactKey::from_email("ada@example.com"),
            received_at: jiff::Timestamp::UNIX_EPOCH,
            kind: DeliveryKind::LoopsContact,
            body: Bytes::from_static(b"{}"),
        };
        DeadLetter {
            key: index.to_string(),
            receipt_handle: None,
            direction: Direction::ClayToLoops,
            delivery: Some(delivery),
            raw_body: None,
            body_len: 2,
            reason: None,
            status: None,
            attempts: None,
            dead_lettered_at: None,
        }
    }

    #[tokio::test]
    async fn dead_letters_taken_by_others_are_not_counted_done() {
        let dead_letters: Vec<DeadLetter> = (0..2).map(dead_letter).collect();
        let action = BulkAction::Retry { even_if_older: false };
        for (taken_count, expected) in [(0, ExitStatus::Ok), (1, ExitStatus::Failed), (2, ExitStatus::Failed)] {
            let mut queue = SharedQueue { dead_letters: dead_letters.clone(), taken_count, was_read: false };
            let exit_status =
                run_action(&mut queue, &dead_letters, action, Some(1000), 0, Output::new(true)).await.unwrap();
            assert_eq!(exit_status, expected, "{taken_count} gone");
        }
        let mut queue = SharedQueue { dead_letters: dead_letters.clone(), taken_count: 2, was_read: false };
        assert_eq!(
            run_action(&mut queue, &dead_letters, BulkAction::Drop, Some(1000), 0, Output::new(true)).await.unwrap(),
            ExitStatus::Failed
        );
    }
}
