//! Redrives or drops dead letters, and prints what became of them.

use relay::operate::action::{self, Action, Applied};
use relay::operate::outcome::{OptionNames, Outcome};
use relay::operate::selection::{Selected, Selection, select};
use relay::ports::dead_letters::{DeadLetter, DeadLetterQueue, RedriveOptions, RedriveOutcome};
use serde_json::{Value, json};

use crate::error::Error;
use crate::exit::ExitStatus;
use crate::format::{format_reason, format_time};
use crate::output::Output;
use crate::progress;

pub(crate) const NO_DEAD_LETTERS: &str = "There are no such dead letters.";

const OPTION_NAMES: OptionNames =
    OptionNames { even_if_older: "--even-if-older", redirect: "--redirect", even_if_sent: "--even-if-sent" };

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

/// Reads all dead letters that can be read, behind a progress bar.
pub(crate) async fn select_with_progress<Q: DeadLetterQueue<Error: Into<Error>>>(
    queue: &mut Q,
    selection: &Selection,
    output: Output,
) -> Result<Selected, Error> {
    let bar = progress::bar(output.is_json(), 0, "reading the dead letters");
    let show_progress = |read, total| {
        bar.set_length(total);
        bar.set_position(read);
    };
    let selected = select(queue, selection, &show_progress).await.map_err(Into::into);
    bar.finish_and_clear();
    selected
}

/// Applies an action to the selected dead letters, `per_second` of them a second. Without a rate it only prints the plan.
pub(crate) async fn run_action<Q: DeadLetterQueue<Error: Into<Error>>>(
    queue: &mut Q,
    Selected { dead_letters, blocked }: &Selected,
    action: Action,
    per_second: Option<u32>,
    output: Output,
) -> Result<ExitStatus, Error> {
    let Some(per_second) = per_second else {
        let planned = action::plan(queue, dead_letters, action).await.map_err(Into::into)?;
        output.print_json(&json!({"dryRun": true, "letters": to_documents(&planned, false), "behind": blocked}))?;
        print_outcomes(&planned, false, *blocked, output)?;
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
    let count = dead_letters.len();
    let bar = progress::bar(output.is_json(), u64::try_from(count).unwrap_or(u64::MAX), "dead letters");
    let applied = action::apply(queue, dead_letters, action, per_second, &|| bar.inc(1)).await;
    bar.finish_and_clear();
    let applied = applied.map_err(Into::into)?;
    let (done, missing) = (applied.done(), applied.missing());
    let Applied { outcomes, not_found_again, error } = applied;
    if let Some(error) = error {
        output.print(format!(
            "{done} of {count} {} done before this failed; doing it again goes on with the rest.",
            if done == 1 { "was" } else { "were" }
        ))?;
        return Err(error.into());
    }
    let letters = to_documents(&outcomes, true);
    output.print_json(
        &json!({"dryRun": false, "letters": letters, "behind": blocked, "notFoundAgain": not_found_again}),
    )?;
    print_outcomes(&outcomes, true, *blocked, output)?;
    print_risk(action, output)?;
    output.print(format!("{done} of {count} {} done.", if done == 1 { "is" } else { "are" }))?;
    if missing > 0 {
        let verb = if missing == 1 { "was" } else { "were" };
        output.print(format!("{missing} {verb} not there any more: somebody else has them, or has done them."))?;
    }
    Ok(if done == count && *blocked == 0 { ExitStatus::Ok } else { ExitStatus::Failed })
}

fn to_documents(outcomes: &[(DeadLetter, Outcome)], applied: bool) -> Vec<Value> {
    outcomes.iter().map(|(dead_letter, outcome)| to_json(dead_letter, Some(outcome.as_str(applied)))).collect()
}

fn print_outcomes(
    outcomes: &[(DeadLetter, Outcome)],
    applied: bool,
    blocked: u64,
    output: Output,
) -> Result<(), Error> {
    let rows = outcomes.iter().map(|(dead_letter, outcome)| {
        let [died, direction, what, reason] = common_cells(dead_letter);
        [died, direction, what, reason, dead_letter.id().to_owned(), outcome.describe(applied, &OPTION_NAMES)]
    });
    output.print_table(["died", "direction", "what", "reason", "id", "outcome"], rows, NO_DEAD_LETTERS)?;
    print_blocked(blocked, output)
}

/// Prints what an operator has taken upon them.
fn print_risk(action: Action, output: Output) -> Result<(), Error> {
    match action {
        Action::Retry(RedriveOptions { even_if_sent: true, .. }) => output.print(
            "With --even-if-sent, Loops may send the e-mail of an event a second time: it has forgotten the keys of what is \
             older than a day.",
        ),
        Action::Retry(_) | Action::Drop => Ok(()),
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
        let selected = Selected { dead_letters: dead_letters.clone(), blocked: 0 };
        let action = Action::Retry(RedriveOptions::default());
        for (taken_count, expected) in [(0, ExitStatus::Ok), (1, ExitStatus::Failed), (2, ExitStatus::Failed)] {
            let mut queue = SharedQueue { dead_letters: dead_letters.clone(), taken_count, was_read: false };
            let exit_status = run_action(&mut queue, &selected, action, Some(1000), Output::new(true)).await.unwrap();
            assert_eq!(exit_status, expected, "{taken_count} gone");
        }
        let mut queue = SharedQueue { dead_letters: dead_letters.clone(), taken_count: 2, was_read: false };
        assert_eq!(
            run_action(&mut queue, &selected, Action::Drop, Some(1000), Output::new(true)).await.unwrap(),
            ExitStatus::Failed
        );
    }
}
