//! The dead letters of a stack in the records of this program.

use relay::ports::dead_letters;
use relay_aws::admin::dead_letters::StackDeadLetters;

use crate::error::Error;
use crate::operations::letter_box::{DeadLetter, DeadLetterQueue, RedriveOutcome};

impl DeadLetterQueue for StackDeadLetters {
    async fn next_page(&mut self) -> Result<Vec<DeadLetter>, Error> {
        Ok(dead_letters::DeadLetterQueue::next_page(self).await?.into_iter().map(from_port).collect())
    }

    async fn plan_redrive(&self, dead_letter: &DeadLetter, even_if_older: bool) -> Result<RedriveOutcome, Error> {
        let outcome = dead_letters::DeadLetterQueue::plan_redrive(self, &to_port(dead_letter), even_if_older).await?;
        Ok(to_outcome(outcome))
    }

    async fn redrive(&mut self, dead_letter: &DeadLetter, even_if_older: bool) -> Result<RedriveOutcome, Error> {
        let outcome = dead_letters::DeadLetterQueue::redrive(self, &to_port(dead_letter), even_if_older).await?;
        Ok(to_outcome(outcome))
    }

    async fn delete(&mut self, dead_letter: &DeadLetter) -> Result<bool, Error> {
        Ok(dead_letters::DeadLetterQueue::delete(self, &to_port(dead_letter)).await?)
    }

    async fn release(&mut self) {
        dead_letters::DeadLetterQueue::release(self).await;
    }

    async fn count(&self) -> Result<u64, Error> {
        Ok(dead_letters::DeadLetterQueue::count(self).await?)
    }
}

fn from_port(dead_letter: dead_letters::DeadLetter) -> DeadLetter {
    DeadLetter {
        body_len: dead_letter.body().len(),
        raw_body: dead_letter.content.as_ref().err().cloned(),
        delivery: dead_letter.content.ok(),
        key: dead_letter.key,
        receipt_handle: None,
        direction: dead_letter.direction,
        reason: dead_letter.reason,
        status: dead_letter.status,
        attempts: dead_letter.attempts,
        dead_lettered_at: dead_letter.dead_lettered_at,
    }
}

fn to_port(dead_letter: &DeadLetter) -> dead_letters::DeadLetter {
    dead_letters::DeadLetter {
        key: dead_letter.key.clone(),
        direction: dead_letter.direction,
        content: dead_letter.delivery.clone().ok_or_else(|| dead_letter.raw_body.clone().unwrap_or_default()),
        reason: dead_letter.reason.clone(),
        status: dead_letter.status,
        attempts: dead_letter.attempts,
        dead_lettered_at: dead_letter.dead_lettered_at,
    }
}

const fn to_outcome(outcome: dead_letters::RedriveOutcome) -> RedriveOutcome {
    match outcome {
        dead_letters::RedriveOutcome::Redriven => RedriveOutcome::Redriven,
        dead_letters::RedriveOutcome::AlreadyRedriven => RedriveOutcome::AlreadyRedriven,
        dead_letters::RedriveOutcome::AlreadyDelivered => RedriveOutcome::AlreadyDelivered,
        dead_letters::RedriveOutcome::Superseded => RedriveOutcome::Superseded,
        dead_letters::RedriveOutcome::Busy => RedriveOutcome::Busy,
        dead_letters::RedriveOutcome::Conflict => RedriveOutcome::Conflict,
        dead_letters::RedriveOutcome::Unreadable => RedriveOutcome::Unreadable,
        dead_letters::RedriveOutcome::TooLarge => RedriveOutcome::TooLarge,
        dead_letters::RedriveOutcome::NotFound => RedriveOutcome::NotFound,
    }
}
