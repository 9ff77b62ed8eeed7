//! The dead letters of a data folder. Each change is one transaction.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use relay::ports::clock::Clock;
use relay::ports::dead_letters::{DeadLetter, DeadLetterQueue, RedriveOptions, RedriveOutcome};
use relay_core::delivery::{Delivery, Direction};
use relay_core::policy::retry;
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};

use crate::admin::connection::{self, Error};
use crate::admin::queries;
use crate::{accounts, delivery_row};

/// Number of dead letters that are read at a time, with their bodies.
const PAGE_SIZE: u32 = 100;

/// The dead letters of a data folder.
#[derive(Debug)]
pub struct SqliteDeadLetters {
    connection: Connection,
    clock: Arc<dyn Clock>,
    /// `seq` of the last one that was read.
    last_seq: i64,
}

impl SqliteDeadLetters {
    /// Opens the store of a data folder.
    pub fn open(dir: &Path, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        Ok(Self { connection: connection::open(dir)?, clock, last_seq: 0 })
    }
}

impl DeadLetterQueue for SqliteDeadLetters {
    type Error = Error;

    async fn next_page(&mut self) -> Result<Vec<DeadLetter>, Self::Error> {
        let page = queries::dead_letters(&self.connection, self.last_seq, PAGE_SIZE)?;
        self.last_seq = page.last().map_or(self.last_seq, |(seq, _)| *seq);
        Ok(page.into_iter().map(|(_, dead_letter)| dead_letter).collect())
    }

    async fn plan_redrive(
        &self,
        dead_letter: &DeadLetter,
        options: RedriveOptions,
    ) -> Result<RedriveOutcome, Self::Error> {
        Ok(plan_redrive(&self.connection, &dead_letter.key, options, self.clock.now())?.0)
    }

    /// Makes it a waiting delivery, which keeps its position in the order of arrival.
    async fn redrive(
        &mut self,
        dead_letter: &DeadLetter,
        options: RedriveOptions,
    ) -> Result<RedriveOutcome, Self::Error> {
        let now = self.clock.now();
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (outcome, delivery) = plan_redrive(&transaction, &dead_letter.key, options, now)?;
        match delivery {
            Some(delivery) if outcome == RedriveOutcome::Redriven => {
                let (after, until) = retry::safe_resend_range(now);
                transaction.execute(
                    "UPDATE deliveries
                     SET id = ?3, contact = ?4, state = 'waiting', next_at = ?2, settled_at = NULL,
                         failing_since = NULL, held_since = NULL, reason = NULL, status = NULL,
                         -- Another account does not have it. What an operator lets be sent again although it may have been
                         -- sent begins anew.
                         unknown_since = iif(id = ?3 AND unknown_since > ?5 AND unknown_since <= ?6, unknown_since, NULL)
                     WHERE id = ?1 AND state = 'dead'",
                    params![
                        dead_letter.key,
                        now.as_millisecond(),
                        delivery.id.as_str(),
                        delivery.contact.as_str(),
                        after.as_millisecond(),
                        until.as_millisecond(),
                    ],
                )?;
                let failures = "UPDATE OR IGNORE failures SET delivery_id = ?2 WHERE delivery_id = ?1";
                transaction.execute(failures, [&dead_letter.key, delivery.id.as_str()])?;
            }
            _ if outcome.stays_in_dlq() => {}
            _ => {
                delete(&transaction, &dead_letter.key)?;
            }
        }
        transaction.commit()?;
        Ok(outcome)
    }

    async fn delete(&mut self, dead_letter: &DeadLetter) -> Result<bool, Self::Error> {
        // A body that was dropped is not to be found in the file's free pages either.
        self.connection.pragma_update(None, "secure_delete", true)?;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let deleted = delete(&transaction, &dead_letter.key)?;
        transaction.commit()?;
        Ok(deleted)
    }

    /// Reading the store leases nothing.
    async fn release(&mut self) {
        self.last_seq = 0;
    }

    async fn count(&self) -> Result<u64, Self::Error> {
        let mut count = 0;
        for direction in Direction::ALL {
            count += u64::from(queries::totals(&self.connection, direction)?.dead);
        }
        Ok(count)
    }
}

/// Deletes a dead letter with its failures. Returns false if it is none.
fn delete(transaction: &Transaction<'_>, id: &str) -> rusqlite::Result<bool> {
    let deleted = transaction.execute("DELETE FROM deliveries WHERE id = ?1 AND state = 'dead'", [id])? == 1;
    if deleted {
        transaction.execute("DELETE FROM failures WHERE delivery_id = ?1", [id])?;
    }
    Ok(deleted)
}

/// Returns what a redrive comes to, and the delivery that the dead letter becomes by it.
fn plan_redrive(
    connection: &Connection,
    id: &str,
    options: RedriveOptions,
    now: Timestamp,
) -> rusqlite::Result<(RedriveOutcome, Option<Delivery>)> {
    let columns = delivery_row::COLUMNS;
    let sql = format!("SELECT seq, unknown_since, {columns} FROM deliveries WHERE id = ?1 AND state = 'dead'");
    let dead: Option<(i64, Option<Timestamp>, Delivery)> = connection
        .query_row(&sql, [id], |row| {
            let unknown_since = delivery_row::timestamp(row, "unknown_since")?;
            Ok((row.get("seq")?, unknown_since, delivery_row::from_row(row)?))
        })
        .optional()?;
    let Some((seq, unknown_since, mut delivery)) = dead else { return Ok((RedriveOutcome::NotFound, None)) };
    let accounts = accounts::served(connection)?;
    let current = accounts.current(delivery.kind.direction());
    if delivery.account() != *current {
        if !options.redirect {
            return Ok((RedriveOutcome::OtherDestination, None));
        }
        delivery = delivery.in_account(current);
        // A contact's row keeps its random id, so that it is not known there.
        let known = if delivery.id.as_str() == id { None } else { state_of(connection, &delivery)? };
        match known.as_deref() {
            None => {}
            Some("delivered") => return Ok((RedriveOutcome::AlreadyDelivered, None)),
            Some("dead") => return Ok((RedriveOutcome::Conflict, None)),
            Some(_) => return Ok((RedriveOutcome::AlreadyRedriven, None)),
        }
    } else if !options.even_if_sent && retry::is_resend_unsafe(unknown_since, now) {
        return Ok((RedriveOutcome::OutcomeUnknown, None));
    }
    if options.even_if_older || !delivery.updates_contact() {
        return Ok((RedriveOutcome::Redriven, Some(delivery)));
    }
    // What waits behind it goes after it: it keeps its position.
    let newer: bool = connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM deliveries
                        WHERE direction = ?1 AND contact = ?2 AND state IN ('delivered', 'sending', 'direct') AND seq > ?3
                          -- A direct one without a body is left of a caller that is gone.
                          AND (state <> 'direct' OR body IS NOT NULL))",
        params![delivery.kind.direction().as_str(), delivery.contact.as_str(), seq],
        |row| row.get(0),
    )?;
    Ok((if newer { RedriveOutcome::Superseded } else { RedriveOutcome::Redriven }, Some(delivery)))
}

fn state_of(connection: &Connection, delivery: &Delivery) -> rusqlite::Result<Option<String>> {
    let sql = "SELECT state FROM deliveries WHERE id = ?1";
    connection.query_row(sql, [delivery.id.as_str()], |row| row.get(0)).optional()
}

#[cfg(test)]
mod tests {
    use relay::ports::clock::SystemClock;

    use super::*;
    use crate::schema::open;

    async fn redrive_event(unknown_for_hours: i64, even_if_sent: bool) -> (RedriveOutcome, Option<i64>) {
        let folder = tempfile::tempdir().unwrap();
        let connection = open(folder.path(), SystemClock.now()).unwrap().writer;
        let unknown_since = SystemClock.now().as_millisecond() - unknown_for_hours * 60 * 60 * 1000;
        let sql = "INSERT INTO deliveries (id, direction, state, contact, kind, idempotency_key, body, body_hash, received_at,
                     next_at, settled_at, reason, unknown_since)
                   VALUES ('event_1', 'clay-to-loops', 'dead', 'c', 'event', 'k', x'7b7d', 'h', 1, 1, 1, 'timed_out', ?1)";
        connection.execute(sql, [unknown_since]).unwrap();
        let mut queue = SqliteDeadLetters { connection, clock: Arc::new(SystemClock), last_seq: 0 };
        let dead_letter = queue.next_page().await.unwrap().remove(0);
        let options = RedriveOptions { even_if_older: true, even_if_sent, redirect: false };
        let planned = queue.plan_redrive(&dead_letter, options).await.unwrap();
        assert_eq!(queue.redrive(&dead_letter, options).await.unwrap(), planned);
        let sql = "SELECT unknown_since - ?1 FROM deliveries";
        (planned, queue.connection.query_row(sql, [unknown_since], |row| row.get(0)).unwrap())
    }

    #[tokio::test]
    async fn dead_letters_are_read_in_pages_in_the_order_of_arrival() {
        let folder = tempfile::tempdir().unwrap();
        let connection = open(folder.path(), SystemClock.now()).unwrap().writer;
        let sql = "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 250)
                   INSERT INTO deliveries (id, direction, state, contact, kind, body_hash, received_at, next_at)
                   SELECT n, iif(n % 2, 'clay-to-loops', 'loops-to-clay'), 'dead', n, iif(n % 2, 'contact', 'row'), 'h', 1, 1
                   FROM numbers";
        connection.execute(sql, []).unwrap();
        let mut queue = SqliteDeadLetters { connection, clock: Arc::new(SystemClock), last_seq: 0 };
        let (mut keys, mut sizes) = (Vec::new(), Vec::new());
        loop {
            let page = queue.next_page().await.unwrap();
            sizes.push(page.len());
            keys.extend(page.into_iter().map(|dead_letter| dead_letter.key));
            if sizes.last() == Some(&0) {
                break;
            }
        }
        assert_eq!(sizes, [100, 100, 50, 0]);
        assert_eq!(keys, (1..=250).map(|number| number.to_string()).collect::<Vec<_>>());
        assert_eq!(queue.count().await.unwrap(), 250);
    }

    #[tokio::test]
    async fn event_that_may_have_been_sent_is_redriven_only_if_allowed() {
        assert_eq!(redrive_event(22, false).await, (RedriveOutcome::Redriven, Some(0)));
        assert_eq!(redrive_event(23, false).await, (RedriveOutcome::OutcomeUnknown, Some(0)));
        assert_eq!(redrive_event(23, true).await, (RedriveOutcome::Redriven, None), "it begins anew");
        assert_eq!(redrive_event(22, true).await, (RedriveOutcome::Redriven, Some(0)), "Loops knows its key");
    }
}
