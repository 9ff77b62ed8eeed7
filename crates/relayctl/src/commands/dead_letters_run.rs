//! How dead letters are read, and acted on one after the other.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use crate::commands::dead_letters::print_blocked;
use crate::error::Error;
use crate::exit::ExitStatus;
use crate::operations::letter_box::{DeadLetter, DeadLetterQueue, RedriveOutcome};
use crate::operations::record::{DeadLetterRecord, format_reason, short};
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
pub(crate) async fn receive_matching<B: DeadLetterQueue>(
    letters: &mut B,
    output: Output,
    selected: impl Fn(&DeadLetter) -> bool,
) -> Result<(Vec<DeadLetter>, u64), Error> {
    let there = letters.count().await?;
    let bar = progress::bar(output.is_json(), there, "reading the dead letters");
    let (mut found, mut read) = (Vec::new(), 0);
    loop {
        let page = letters.read().await?;
        if page.is_empty() {
            break;
        }
        read += u64::try_from(page.len()).unwrap_or(u64::MAX);
        bar.set_position(read);
        found.extend(page.into_iter().filter(|letter| selected(letter)));
    }
    bar.finish_and_clear();
    Ok((found, there.saturating_sub(read)))
}

/// Does it with these letters, so many a second; or tells what would be done, where that is not given.
///
/// The letters are read anew, because what was read is hidden for a time only. Only those that were found before are acted
/// on: one that dies again meanwhile is another letter.
pub(crate) async fn run_action<B: DeadLetterQueue>(
    letters: &mut B,
    found: &[DeadLetter],
    action: BulkAction,
    per_second: Option<u32>,
    behind: u64,
    output: Output,
) -> Result<ExitStatus, Error> {
    let mut records = Vec::new();
    let Some(per_second) = per_second else {
        for letter in found {
            records.push(letter.record(Some(planned(letters, letter, action).await?)));
        }
        output.print_json(&json!({"dryRun": true, "letters": records, "behind": behind}))?;
        tell(&records, false, behind, output)?;
        if !records.is_empty() {
            output.print("Nothing was changed: this was a dry run. The same command with --yes does it.")?;
        }
        return Ok(ExitStatus::Ok);
    };
    letters.release().await;
    let mut wanted: BTreeSet<&str> = found.iter().map(|letter| letter.key.as_str()).collect();
    let bar = progress::bar(output.is_json(), u64::try_from(wanted.len()).unwrap_or(u64::MAX), "dead letters");
    let mut turns = tokio::time::interval(Duration::from_secs(1) / per_second);
    let mut error = None;
    'letters: while !wanted.is_empty() {
        let page = letters.read().await?;
        if page.is_empty() {
            break;
        }
        for letter in page {
            if !wanted.remove(letter.key.as_str()) {
                continue;
            }
            turns.tick().await;
            match done(letters, &letter, action).await {
                Ok(outcome) => records.push(letter.record(Some(outcome))),
                Err(failed) => {
                    records.push(letter.record(Some(FAILED)));
                    error = Some(failed);
                    break 'letters;
                }
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let left = wanted.len();
    let gone = left + records.iter().filter(|record| was_gone(record.outcome)).count();
    let done = records.iter().filter(|record| !was_skipped(record.outcome) && !was_gone(record.outcome)).count();
    if let Some(error) = error {
        output.print(format!(
            "{done} of {} {} done before this failed; doing it again goes on with the rest.",
            found.len(),
            if done == 1 { "was" } else { "were" }
        ))?;
        return Err(error);
    }
    output.print_json(&json!({"dryRun": false, "letters": records, "behind": behind, "notFoundAgain": left}))?;
    tell(&records, true, behind, output)?;
    output.print(format!("{done} of {} {} done.", found.len(), if done == 1 { "is" } else { "are" }))?;
    if gone > 0 {
        let were = if gone == 1 { "was" } else { "were" };
        output.print(format!("{gone} {were} not there any more: somebody else has them, or has done them."))?;
    }
    Ok(if done == found.len() && behind == 0 { ExitStatus::Ok } else { ExitStatus::Failed })
}

/// Whether a letter is where it was.
fn was_skipped(outcome: Option<&'static str>) -> bool {
    outcome == Some(FAILED)
        || RedriveOutcome::ALL.into_iter().any(|verdict| verdict.stays_in_dlq() && outcome == Some(verdict.as_str()))
}

/// Whether a letter was gone before anything was done with it.
fn was_gone(outcome: Option<&'static str>) -> bool {
    outcome == Some(RedriveOutcome::NotFound.as_str())
}

async fn planned<B: DeadLetterQueue>(
    letters: &B,
    letter: &DeadLetter,
    action: BulkAction,
) -> Result<&'static str, Error> {
    let BulkAction::Retry { even_if_older } = action else { return Ok(WOULD_DROP) };
    match letter.not_redrivable() {
        Some(verdict) => Ok(verdict.as_str()),
        None => Ok(match letters.plan_redrive(letter, even_if_older).await? {
            RedriveOutcome::Redriven => WOULD_SEND,
            verdict => verdict.as_str(),
        }),
    }
}

async fn done<B: DeadLetterQueue>(
    letters: &mut B,
    letter: &DeadLetter,
    action: BulkAction,
) -> Result<&'static str, Error> {
    let BulkAction::Retry { even_if_older } = action else {
        return Ok(if letters.delete(letter).await? { DROPPED } else { RedriveOutcome::NotFound.as_str() });
    };
    match letter.not_redrivable() {
        Some(verdict) => Ok(verdict.as_str()),
        None => Ok(letters.retry(letter, even_if_older).await?.as_str()),
    }
}

fn tell(records: &[DeadLetterRecord], done: bool, behind: u64, output: Output) -> Result<(), Error> {
    if records.is_empty() {
        output.print("There are no such dead letters.")?;
    } else {
        let mut table = output.table(["died", "direction", "what", "reason", "id", "outcome"]);
        for record in records {
            table.add_row([
                short(record.died_at),
                record.direction.as_str().to_owned(),
                record.kind.clone().unwrap_or_default(),
                format_reason(record.reason.as_deref(), record.status),
                record.id.clone(),
                describe(record.outcome, done),
            ]);
        }
        output.print_table(table, &[4, 5])?;
    }
    print_blocked(behind, output)
}

/// An outcome for people: what would be done, or what was.
fn describe(outcome: Option<&'static str>, done: bool) -> String {
    match outcome.unwrap_or_default() {
        WOULD_DROP => "drop".to_owned(),
        WOULD_SEND => RedriveOutcome::Redriven.explained(done),
        outcome => {
            let verdict = RedriveOutcome::ALL.into_iter().find(|verdict| verdict.as_str() == outcome);
            verdict.map_or_else(|| outcome.to_owned(), |verdict| verdict.explained(done))
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use relay_core::contact::ContactKey;
    use relay_core::delivery::{Delivery, DeliveryId, DeliveryKind, Direction};

    use super::*;

    /// Letters of which somebody else has sent the first ones meanwhile.
    struct Shared {
        letters: Vec<DeadLetter>,
        gone: usize,
        read: bool,
    }

    impl DeadLetterQueue for Shared {
        async fn read(&mut self) -> Result<Vec<DeadLetter>, Error> {
            Ok(if std::mem::replace(&mut self.read, true) { Vec::new() } else { self.letters.clone() })
        }

        async fn plan_redrive(&self, _: &DeadLetter, _: bool) -> Result<RedriveOutcome, Error> {
            Ok(RedriveOutcome::Redriven)
        }

        async fn retry(&mut self, letter: &DeadLetter, _: bool) -> Result<RedriveOutcome, Error> {
            let place = self.letters.iter().position(|known| known.key == letter.key).unwrap();
            Ok(if place < self.gone { RedriveOutcome::NotFound } else { RedriveOutcome::Redriven })
        }

        async fn delete(&mut self, _: &DeadLetter) -> Result<bool, Error> {
            Ok(false)
        }

        async fn release(&mut self) {
            self.read = false;
        }

        async fn count(&self) -> Result<u64, Error> {
            Ok(0)
        }
    }

    fn letter(number: usize) -> DeadLetter {
        let delivery = Delivery {
            id: DeliveryId::random(&number.to_string()),
            contact: ContactKey::from_email("ada@example.com"),
            received_at: jiff::Timestamp::UNIX_EPOCH,
            kind: DeliveryKind::LoopsContact,
            body: Bytes::from_static(b"{}"),
        };
        DeadLetter {
            key: number.to_string(),
            receipt: None,
            direction: Direction::ClayToLoops,
            delivery: Some(delivery),
            raw_body: None,
            bytes: 2,
            reason: None,
            status: None,
            attempts: None,
            died_at: None,
        }
    }

    #[tokio::test]
    async fn what_somebody_else_has_done_is_not_counted_as_done() {
        let letters: Vec<DeadLetter> = (0..2).map(letter).collect();
        let retry = BulkAction::Retry { even_if_older: false };
        for (gone, ending) in [(0, ExitStatus::Ok), (1, ExitStatus::Failed), (2, ExitStatus::Failed)] {
            let mut shared = Shared { letters: letters.clone(), gone, read: false };
            let ended = run_action(&mut shared, &letters, retry, Some(1000), 0, Output::new(true)).await.unwrap();
            assert_eq!(ended, ending, "{gone} gone");
        }
        let mut shared = Shared { letters: letters.clone(), gone: 2, read: false };
        assert_eq!(
            run_action(&mut shared, &letters, BulkAction::Drop, Some(1000), 0, Output::new(true)).await.unwrap(),
            ExitStatus::Failed
        );
    }
}
