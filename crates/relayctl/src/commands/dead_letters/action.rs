//! Redrives or drops dead letters one after the other.

use std::collections::BTreeSet;
use std::time::Duration;

use relay::ports::dead_letters::{DeadLetter, DeadLetterQueue, RedriveOptions, RedriveOutcome};
use serde_json::{Value, json};

use crate::error::Error;
use crate::exit::ExitStatus;
use crate::format::{format_reason, format_time};
use crate::output::Output;
use crate::progress;

pub(crate) const NO_DEAD_LETTERS: &str = "There are no such dead letters.";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BulkAction {
    Retry(RedriveOptions),
    Drop,
}

/// Result for one dead letter, planned or applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Redrive(RedriveOutcome),
    Drop,
    /// The command ended with an error at this dead letter.
    Failed,
}

impl Outcome {
    /// Returns the outcome as `--json` shows it.
    fn as_str(self, applied: bool) -> &'static str {
        match (self, applied) {
            (Self::Redrive(RedriveOutcome::Redriven), false) => "would_send",
            (Self::Redrive(outcome), _) => outcome.as_str(),
            (Self::Drop, false) => "would_drop",
            (Self::Drop, true) => "dropped",
            (Self::Failed, _) => "failed",
        }
    }

    /// Returns the outcome as a table shows it.
    fn describe(self, applied: bool) -> String {
        let (planned, done, explanation) = match self {
            Self::Drop => ("drop", "dropped", ""),
            Self::Failed => ("failed", "failed", ""),
            Self::Redrive(outcome) => match outcome {
                RedriveOutcome::Redriven => ("send again", "sent again", ""),
                RedriveOutcome::AlreadyRedriven => ("take away", "taken away", ": it was sent again before"),
                RedriveOutcome::AlreadyDelivered => ("take away", "taken away", ": it is delivered"),
                RedriveOutcome::Superseded => {
                    ("leave", "left", ": something newer of its contact was delivered (--even-if-older)")
                }
                RedriveOutcome::OtherDestination => {
                    ("leave", "left", ": it was taken for another account than is served now (--redirect)")
                }
                RedriveOutcome::OutcomeUnknown => {
                    ("leave", "left", ": Loops may have it, and may send its e-mail a second time (--even-if-sent)")
                }
                RedriveOutcome::Busy => ("leave", "left", ": a row of its contact is being sent (try again)"),
                RedriveOutcome::Conflict => ("leave", "left", ": another body was delivered under its id (drop it)"),
                RedriveOutcome::Unreadable => ("leave", "left", ": it is no delivery of this relay (drop it)"),
                RedriveOutcome::TooLarge => ("leave", "left", ": it is larger than Clay takes (drop it)"),
                RedriveOutcome::NotFound => ("nothing", "nothing", ": it is no dead letter any more"),
            },
        };
        format!("{}{explanation}", if applied { done } else { planned })
    }

    fn is_done(self) -> bool {
        match self {
            Self::Redrive(outcome) => !outcome.stays_in_dlq() && outcome != RedriveOutcome::NotFound,
            Self::Drop => true,
            Self::Failed => false,
        }
    }
}

/// Returns a dead letter as `--json` shows it.
pub(crate) fn to_json(dead_letter: &DeadLetter, outcome: Option<&'static str>) -> Value {
    let record = dead_letter.to_record();
    let mut document = json!({
        "id": record.id,
        "direction": record.direction,
        "kind": Some(record.kind).filter(|kind| !kind.is_empty()),
        "destination": record.destination,
        "reason": record.reason,
        "status": record.status,
        "attempts": dead_letter.attempts,
        "route": record.route,
        "webhookId": record.webhook_id,
        "receivedAt": record.received_at,
        "diedAt": record.died_at,
        "bytes": dead_letter.body().len(),
    });
    if let (Some(outcome), Value::Object(fields)) = (outcome, &mut document) {
        fields.insert("outcome".to_owned(), json!(outcome));
    }
    document
}

/// Reads all dead letters that can be read. Returns those that match, and how many could not be read.
pub(crate) async fn receive_matching<Q: DeadLetterQueue<Error: Into<Error>>>(
    queue: &mut Q,
    output: Output,
    matches: impl Fn(&DeadLetter) -> bool,
) -> Result<(Vec<DeadLetter>, u64), Error> {
    let total = queue.count().await.map_err(Into::into)?;
    let bar = progress::bar(output.is_json(), total, "reading the dead letters");
    let (mut matching, mut received) = (Vec::new(), 0);
    loop {
        let page = queue.next_page().await.map_err(Into::into)?;
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

/// Applies an action to the selected dead letters, `per_second` of them a second. Without a rate it only prints the plan.
///
/// The dead letters are received anew, because their leases may have ended. Only the selected ones are acted on: a
/// delivery that died again meanwhile is another dead letter.
pub(crate) async fn run_action<Q: DeadLetterQueue<Error: Into<Error>>>(
    queue: &mut Q,
    selected: &[DeadLetter],
    action: BulkAction,
    per_second: Option<u32>,
    blocked: u64,
    output: Output,
) -> Result<ExitStatus, Error> {
    let Some(per_second) = per_second else {
        let mut planned = Vec::new();
        for dead_letter in selected {
            planned.push((dead_letter.clone(), plan(queue, dead_letter, action).await?));
        }
        output.print_json(&json!({"dryRun": true, "letters": to_documents(&planned, false), "behind": blocked}))?;
        print_outcomes(&planned, false, blocked, output)?;
        let elsewhere = Outcome::Redrive(RedriveOutcome::OtherDestination);
        let elsewhere = planned.iter().filter(|(_, outcome)| *outcome == elsewhere).count();
        if elsewhere > 0 {
            output.print(format!("{elsewhere} of {} for another account than is served now.", planned.len()))?;
        }
        print_risk(action, output)?;
        if !planned.is_empty() {
            output.print("Nothing was changed: this was a dry run. The same command with --yes does it.")?;
        }
        return Ok(ExitStatus::Ok);
    };
    queue.release().await;
    let mut remaining: BTreeSet<&str> = selected.iter().map(|dead_letter| dead_letter.key.as_str()).collect();
    let bar = progress::bar(output.is_json(), u64::try_from(remaining.len()).unwrap_or(u64::MAX), "dead letters");
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / per_second);
    let (mut processed, mut error) = (Vec::new(), None);
    'pages: while !remaining.is_empty() {
        let page = queue.next_page().await.map_err(Into::into)?;
        if page.is_empty() {
            break;
        }
        for dead_letter in page {
            if !remaining.remove(dead_letter.key.as_str()) {
                continue;
            }
            ticks.tick().await;
            match apply(queue, &dead_letter, action).await {
                Ok(outcome) => processed.push((dead_letter, outcome)),
                Err(cause) => {
                    processed.push((dead_letter, Outcome::Failed));
                    error = Some(cause);
                    break 'pages;
                }
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let unprocessed = remaining.len();
    let not_found = Outcome::Redrive(RedriveOutcome::NotFound);
    let missing = unprocessed + processed.iter().filter(|(_, outcome)| *outcome == not_found).count();
    let done = processed.iter().filter(|(_, outcome)| outcome.is_done()).count();
    if let Some(error) = error {
        output.print(format!(
            "{done} of {} {} done before this failed; doing it again goes on with the rest.",
            selected.len(),
            if done == 1 { "was" } else { "were" }
        ))?;
        return Err(error);
    }
    let letters = to_documents(&processed, true);
    output
        .print_json(&json!({"dryRun": false, "letters": letters, "behind": blocked, "notFoundAgain": unprocessed}))?;
    print_outcomes(&processed, true, blocked, output)?;
    print_risk(action, output)?;
    output.print(format!("{done} of {} {} done.", selected.len(), if done == 1 { "is" } else { "are" }))?;
    if missing > 0 {
        let verb = if missing == 1 { "was" } else { "were" };
        output.print(format!("{missing} {verb} not there any more: somebody else has them, or has done them."))?;
    }
    Ok(if done == selected.len() && blocked == 0 { ExitStatus::Ok } else { ExitStatus::Failed })
}

fn to_documents(outcomes: &[(DeadLetter, Outcome)], applied: bool) -> Vec<Value> {
    outcomes.iter().map(|(dead_letter, outcome)| to_json(dead_letter, Some(outcome.as_str(applied)))).collect()
}

async fn plan<Q: DeadLetterQueue<Error: Into<Error>>>(
    queue: &Q,
    dead_letter: &DeadLetter,
    action: BulkAction,
) -> Result<Outcome, Error> {
    let BulkAction::Retry(options) = action else { return Ok(Outcome::Drop) };
    Ok(Outcome::Redrive(match dead_letter.not_redrivable() {
        Some(outcome) => outcome,
        None => queue.plan_redrive(dead_letter, options).await.map_err(Into::into)?,
    }))
}

async fn apply<Q: DeadLetterQueue<Error: Into<Error>>>(
    queue: &mut Q,
    dead_letter: &DeadLetter,
    action: BulkAction,
) -> Result<Outcome, Error> {
    let BulkAction::Retry(options) = action else {
        let deleted = queue.delete(dead_letter).await.map_err(Into::into)?;
        return Ok(if deleted { Outcome::Drop } else { Outcome::Redrive(RedriveOutcome::NotFound) });
    };
    Ok(Outcome::Redrive(match dead_letter.not_redrivable() {
        Some(outcome) => outcome,
        None => queue.redrive(dead_letter, options).await.map_err(Into::into)?,
    }))
}

fn print_outcomes(
    outcomes: &[(DeadLetter, Outcome)],
    applied: bool,
    blocked: u64,
    output: Output,
) -> Result<(), Error> {
    let rows = outcomes.iter().map(|(dead_letter, outcome)| {
        let [died, direction, what, reason] = common_cells(dead_letter);
        [died, direction, what, reason, dead_letter.id().to_owned(), outcome.describe(applied)]
    });
    output.print_table(["died", "direction", "what", "reason", "id", "outcome"], rows, NO_DEAD_LETTERS)?;
    print_blocked(blocked, output)
}

/// Prints what an operator has taken upon them.
fn print_risk(action: BulkAction, output: Output) -> Result<(), Error> {
    match action {
        BulkAction::Retry(RedriveOptions { even_if_sent: true, .. }) => output.print(
            "With --even-if-sent, Loops may send the e-mail of an event a second time: it has forgotten the keys of what is \
             older than a day.",
        ),
        BulkAction::Retry(_) | BulkAction::Drop => Ok(()),
    }
}

/// Returns the first cells of a dead letter in every table: when it died, its direction, what it is, and why it died.
pub(crate) fn common_cells(dead_letter: &DeadLetter) -> [String; 4] {
    let record = dead_letter.to_record();
    [
        format_time(record.died_at),
        record.direction.as_str().to_owned(),
        record.kind,
        format_reason(record.reason.as_deref(), record.status),
    ]
}

/// Prints how many dead letters could not be read.
pub(crate) fn print_blocked(blocked: u64, output: Output) -> Result<(), Error> {
    match blocked {
        0 => Ok(()),
        1 => {
            output.print("1 more cannot be read now: it stands behind another of its contact, or somebody else has it.")
        }
        _ => output.print(format!(
            "{blocked} more cannot be read now: they stand behind others of their contacts, or somebody else has them."
        )),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use relay_core::contact::ContactKey;
    use relay_core::delivery::{Delivery, DeliveryId, DeliveryKind, Direction};

    use super::*;

    /// Dead letters of which another operator has redriven the first ones meanwhile.
    struct SharedQueue {
        dead_letters: Vec<DeadLetter>,
        taken_count: usize,
        was_read: bool,
    }

    impl DeadLetterQueue for SharedQueue {
        type Error = std::io::Error;

        async fn next_page(&mut self) -> Result<Vec<DeadLetter>, Self::Error> {
            Ok(if std::mem::replace(&mut self.was_read, true) { Vec::new() } else { self.dead_letters.clone() })
        }

        async fn plan_redrive(&self, _: &DeadLetter, _: RedriveOptions) -> Result<RedriveOutcome, Self::Error> {
            Ok(RedriveOutcome::Redriven)
        }

        async fn redrive(
            &mut self,
            dead_letter: &DeadLetter,
            _: RedriveOptions,
        ) -> Result<RedriveOutcome, Self::Error> {
            let index = self.dead_letters.iter().position(|candidate| candidate.key == dead_letter.key).unwrap();
            Ok(if index < self.taken_count { RedriveOutcome::NotFound } else { RedriveOutcome::Redriven })
        }

        async fn delete(&mut self, _: &DeadLetter) -> Result<bool, Self::Error> {
            Ok(false)
        }

        async fn release(&mut self) {
            self.was_read = false;
        }

        async fn count(&self) -> Result<u64, Self::Error> {
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
            direction: Direction::ClayToLoops,
            content: Ok(delivery),
            reason: None,
            status: None,
            attempts: None,
            dead_lettered_at: None,
        }
    }

    #[tokio::test]
    async fn dead_letters_taken_by_others_are_not_counted_done() {
        let dead_letters: Vec<DeadLetter> = (0..2).map(dead_letter).collect();
        let action = BulkAction::Retry(RedriveOptions::default());
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
