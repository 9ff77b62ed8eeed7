//! How dead letters are read, and acted on one after the other.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use crate::commands::dead_letters::behind_line;
use crate::error::Fault;
use crate::exit::Ending;
use crate::operations::letter_box::{Letter, LetterBox, Verdict};
use crate::operations::record::{LetterRecord, because, short};
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
pub(crate) enum Act {
    /// It is sent again.
    Retry {
        /// Also where it would overwrite something newer.
        even_if_older: bool,
    },
    /// It is thrown away.
    Drop,
}

/// Reads all letters that can be read, and keeps those that are meant; tells how many could not be read.
pub(crate) async fn gather<B: LetterBox>(
    letters: &mut B,
    output: Output,
    selected: impl Fn(&Letter) -> bool,
) -> Result<(Vec<Letter>, u64), Fault> {
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
pub(crate) async fn act<B: LetterBox>(
    letters: &mut B,
    found: &[Letter],
    action: Act,
    per_second: Option<u32>,
    behind: u64,
    output: Output,
) -> Result<Ending, Fault> {
    let mut records = Vec::new();
    let Some(per_second) = per_second else {
        for letter in found {
            records.push(letter.record(Some(would_be(letters, letter, action).await?)));
        }
        output.document(&json!({"dryRun": true, "letters": records, "behind": behind}))?;
        tell(&records, false, behind, output)?;
        if !records.is_empty() {
            output.line("Nothing was changed: this was a dry run. The same command with --yes does it.")?;
        }
        return Ok(Ending::Well);
    };
    letters.give_back().await;
    let mut wanted: BTreeSet<&str> = found.iter().map(|letter| letter.key.as_str()).collect();
    let bar = progress::bar(output.is_json(), u64::try_from(wanted.len()).unwrap_or(u64::MAX), "dead letters");
    let mut turns = tokio::time::interval(Duration::from_secs(1) / per_second);
    let mut fault = None;
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
                    fault = Some(failed);
                    break 'letters;
                }
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let left = wanted.len();
    let gone = left + records.iter().filter(|record| is_gone(record.outcome)).count();
    let done = records.iter().filter(|record| !is_left(record.outcome) && !is_gone(record.outcome)).count();
    if let Some(fault) = fault {
        output.line(format!(
            "{done} of {} {} done before this failed; doing it again goes on with the rest.",
            found.len(),
            if done == 1 { "was" } else { "were" }
        ))?;
        return Err(fault);
    }
    output.document(&json!({"dryRun": false, "letters": records, "behind": behind, "notFoundAgain": left}))?;
    tell(&records, true, behind, output)?;
    output.line(format!("{done} of {} {} done.", found.len(), if done == 1 { "is" } else { "are" }))?;
    if gone > 0 {
        let were = if gone == 1 { "was" } else { "were" };
        output.line(format!("{gone} {were} not there any more: somebody else has them, or has done them."))?;
    }
    Ok(if done == found.len() && behind == 0 { Ending::Well } else { Ending::Refused })
}

/// Whether a letter is where it was.
fn is_left(outcome: Option<&'static str>) -> bool {
    outcome == Some(FAILED)
        || Verdict::ALL.into_iter().any(|verdict| verdict.leaves_it() && outcome == Some(verdict.as_str()))
}

/// Whether a letter was gone before anything was done with it.
fn is_gone(outcome: Option<&'static str>) -> bool {
    outcome == Some(Verdict::Gone.as_str())
}

async fn would_be<B: LetterBox>(letters: &B, letter: &Letter, action: Act) -> Result<&'static str, Fault> {
    let Act::Retry { even_if_older } = action else { return Ok(WOULD_DROP) };
    match letter.never_sent() {
        Some(verdict) => Ok(verdict.as_str()),
        None => Ok(match letters.judge(letter, even_if_older).await? {
            Verdict::Sent => WOULD_SEND,
            verdict => verdict.as_str(),
        }),
    }
}

async fn done<B: LetterBox>(letters: &mut B, letter: &Letter, action: Act) -> Result<&'static str, Fault> {
    let Act::Retry { even_if_older } = action else {
        return Ok(if letters.discard(letter).await? { DROPPED } else { Verdict::Gone.as_str() });
    };
    match letter.never_sent() {
        Some(verdict) => Ok(verdict.as_str()),
        None => Ok(letters.retry(letter, even_if_older).await?.as_str()),
    }
}

fn tell(records: &[LetterRecord], done: bool, behind: u64, output: Output) -> Result<(), Fault> {
    if records.is_empty() {
        output.line("There are no such dead letters.")?;
    } else {
        let mut table = output.table(["died", "direction", "what", "reason", "id", "outcome"]);
        for record in records {
            table.add_row([
                short(record.died_at),
                record.direction.as_str().to_owned(),
                record.kind.clone().unwrap_or_default(),
                because(record.reason.as_deref(), record.status),
                record.id.clone(),
                explained(record.outcome, done),
            ]);
        }
        output.fitted(table, &[4, 5])?;
    }
    behind_line(behind, output)
}

/// An outcome for people: what would be done, or what was.
fn explained(outcome: Option<&'static str>, done: bool) -> String {
    match outcome.unwrap_or_default() {
        WOULD_DROP => "drop".to_owned(),
        WOULD_SEND => Verdict::Sent.explained(done),
        outcome => {
            let verdict = Verdict::ALL.into_iter().find(|verdict| verdict.as_str() == outcome);
            verdict.map_or_else(|| outcome.to_owned(), |verdict| verdict.explained(done))
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use relay_core::contact::ContactKey;
    use relay_core::delivery::{Cargo, Delivery, DeliveryId, Direction};

    use super::*;

    /// Letters of which somebody else has sent the first ones meanwhile.
    struct Shared {
        letters: Vec<Letter>,
        gone: usize,
        read: bool,
    }

    impl LetterBox for Shared {
        async fn read(&mut self) -> Result<Vec<Letter>, Fault> {
            Ok(if std::mem::replace(&mut self.read, true) { Vec::new() } else { self.letters.clone() })
        }

        async fn judge(&self, _: &Letter, _: bool) -> Result<Verdict, Fault> {
            Ok(Verdict::Sent)
        }

        async fn retry(&mut self, letter: &Letter, _: bool) -> Result<Verdict, Fault> {
            let place = self.letters.iter().position(|known| known.key == letter.key).unwrap();
            Ok(if place < self.gone { Verdict::Gone } else { Verdict::Sent })
        }

        async fn discard(&mut self, _: &Letter) -> Result<bool, Fault> {
            Ok(false)
        }

        async fn give_back(&mut self) {
            self.read = false;
        }

        async fn count(&self) -> Result<u64, Fault> {
            Ok(0)
        }
    }

    fn letter(number: usize) -> Letter {
        let delivery = Delivery {
            id: DeliveryId::unique(&number.to_string()),
            contact: ContactKey::of_email("ada@example.com"),
            received_at: jiff::Timestamp::UNIX_EPOCH,
            cargo: Cargo::LoopsContact,
            body: Bytes::from_static(b"{}"),
        };
        Letter {
            key: number.to_string(),
            receipt: None,
            direction: Direction::ClayToLoops,
            delivery: Some(delivery),
            unread: None,
            bytes: 2,
            reason: None,
            status: None,
            attempts: None,
            died_at: None,
        }
    }

    #[tokio::test]
    async fn what_somebody_else_has_done_is_not_counted_as_done() {
        let letters: Vec<Letter> = (0..2).map(letter).collect();
        let retry = Act::Retry { even_if_older: false };
        for (gone, ending) in [(0, Ending::Well), (1, Ending::Refused), (2, Ending::Refused)] {
            let mut shared = Shared { letters: letters.clone(), gone, read: false };
            let ended = act(&mut shared, &letters, retry, Some(1000), 0, Output::new(true)).await.unwrap();
            assert_eq!(ended, ending, "{gone} gone");
        }
        let mut shared = Shared { letters: letters.clone(), gone: 2, read: false };
        assert_eq!(
            act(&mut shared, &letters, Act::Drop, Some(1000), 0, Output::new(true)).await.unwrap(),
            Ending::Refused
        );
    }
}
