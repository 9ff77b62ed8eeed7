//! Redrives or drops dead letters one after the other.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::operate::outcome::Outcome;
use crate::ports::dead_letters::{DeadLetter, DeadLetterQueue, RedriveOptions, RedriveOutcome};

/// Dead letters that are redriven a second, if the relay's own rates are not known: half of their default.
pub const DEFAULT_REDRIVES_PER_SECOND: u32 = 4;

/// What is done with dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// They are sent again.
    Retry(RedriveOptions),
    /// They are thrown away for good.
    Drop,
}

/// What was done.
#[derive(Debug)]
pub struct Applied<E> {
    /// The dead letters that were reached, in the order in which they were read.
    pub outcomes: Vec<(DeadLetter, Outcome)>,
    /// Number of selected ones that were not there any more.
    pub not_found_again: usize,
    /// The error at which it ended. Doing it again goes on with the rest.
    pub error: Option<E>,
}

impl<E> Applied<E> {
    /// Number of those that are dead letters no more, by this action.
    pub fn done(&self) -> usize {
        self.outcomes.iter().filter(|(_, outcome)| outcome.is_done()).count()
    }

    /// Number of those that somebody else has, or has done.
    pub fn missing(&self) -> usize {
        let not_found = Outcome::Redrive(RedriveOutcome::NotFound);
        self.not_found_again + self.outcomes.iter().filter(|(_, outcome)| *outcome == not_found).count()
    }
}

/// Returns what the action would do. Changes nothing.
///
/// # Errors
/// Those of the queue.
pub async fn plan<Q: DeadLetterQueue>(
    queue: &Q,
    selected: &[DeadLetter],
    action: Action,
) -> Result<Vec<(DeadLetter, Outcome)>, Q::Error> {
    let mut planned = Vec::new();
    for dead_letter in selected {
        planned.push((dead_letter.clone(), plan_one(queue, dead_letter, action).await?));
    }
    Ok(planned)
}

/// Does it, `per_second` dead letters a second, and calls `progress` after each.
///
/// The dead letters are received anew, because their leases may have ended. Only the selected ones are acted on: a delivery that
/// died again meanwhile is another dead letter.
///
/// # Errors
/// Those of the queue, if it cannot be read. An error at a dead letter is part of the result.
pub async fn apply<Q: DeadLetterQueue>(
    queue: &mut Q,
    selected: &[DeadLetter],
    action: Action,
    per_second: u32,
    progress: &dyn Fn(),
) -> Result<Applied<Q::Error>, Q::Error> {
    queue.release().await;
    let mut remaining: BTreeSet<&str> = selected.iter().map(|dead_letter| dead_letter.key.as_str()).collect();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / per_second.max(1));
    let (mut outcomes, mut error) = (Vec::new(), None);
    'pages: while !remaining.is_empty() {
        let page = queue.next_page().await?;
        if page.is_empty() {
            break;
        }
        for dead_letter in page {
            if !remaining.remove(dead_letter.key.as_str()) {
                continue;
            }
            ticks.tick().await;
            match apply_one(queue, &dead_letter, action).await {
                Ok(outcome) => outcomes.push((dead_letter, outcome)),
                Err(cause) => {
                    error = Some(cause);
                    break 'pages;
                }
            }
            progress();
        }
    }
    Ok(Applied { outcomes, not_found_again: remaining.len(), error })
}

async fn plan_one<Q: DeadLetterQueue>(
    queue: &Q,
    dead_letter: &DeadLetter,
    action: Action,
) -> Result<Outcome, Q::Error> {
    let Action::Retry(options) = action else { return Ok(Outcome::Drop) };
    Ok(Outcome::Redrive(match dead_letter.not_redrivable() {
        Some(outcome) => outcome,
        None => queue.plan_redrive(dead_letter, options).await?,
    }))
}

async fn apply_one<Q: DeadLetterQueue>(
    queue: &mut Q,
    dead_letter: &DeadLetter,
    action: Action,
) -> Result<Outcome, Q::Error> {
    let Action::Retry(options) = action else {
        let deleted = queue.delete(dead_letter).await?;
        return Ok(if deleted { Outcome::Drop } else { Outcome::Redrive(RedriveOutcome::NotFound) });
    };
    Ok(Outcome::Redrive(match dead_letter.not_redrivable() {
        Some(outcome) => outcome,
        None => queue.redrive(dead_letter, options).await?,
    }))
}
