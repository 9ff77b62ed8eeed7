//! What a stack holds for a person is tried at once when setup has written what it may wait for.

use aws_sdk_dynamodb::types::AttributeValue;
use relay_aws::ledger::table::{PARKED_INDEX, string_attr};
use relay_aws::secrets::rotation::Unblocks as _;
use relay_core::delivery::Direction;

use crate::aws::stack::StackOutput;
use crate::error::Error;
use crate::operations::stack::{SQS_BATCH, make_visible, queue_urls};
use crate::progress;
use crate::setup::documents::Documents;
use crate::target::StackTarget;

/// The held deliveries of a stack.
#[derive(Debug, Clone, Copy)]
pub struct Held<'a> {
    /// The stack.
    pub target: &'a StackTarget,
    /// Whether no progress is shown.
    pub quiet: bool,
}

impl Held<'_> {
    /// Lets what waits for one of the written secrets be tried now, and tells of it; `names` are those of both. What is
    /// written is written: that nothing could be shown is no fault, because it comes back by itself.
    pub async fn release_held(&self, written: &[String], names: [&str; 2], documents: &Documents) -> Option<String> {
        let (to_clay, to_loops) = documents.parse_as_relay(names).ok()?;
        let [clay, loops] = names;
        let waiting = [
            (clay, Direction::LoopsToClay, to_clay.held_keys()),
            (loops, Direction::ClayToLoops, to_loops.held_keys()),
        ];
        let spinner = progress::spinner(self.quiet, "looking for held deliveries");
        let (mut shown, mut error) = (0, None);
        for (name, direction, places) in waiting {
            if !written.iter().any(|written| written == name) {
                continue;
            }
            for place in places {
                match self.show(direction, &place).await {
                    Ok(more) => shown += more,
                    Err(found) => error = Some(found),
                }
            }
        }
        spinner.finish_and_clear();
        match (error, shown) {
            (Some(error), _) => {
                Some(format!("What is held is tried within 15 minutes; it could not be tried at once: {error}"))
            }
            (None, 0) => None,
            (None, 1) => Some("1 held delivery is tried now.".to_owned()),
            (None, shown) => Some(format!("{shown} held deliveries are tried now.")),
        }
    }

    /// Shows the messages of what is parked in a place; gives how many were hidden.
    async fn show(&self, direction: Direction, place: &str) -> Result<usize, Error> {
        let (receipts, url) = (self.receipts(place).await?, self.target.stack.output(queue_urls(direction).0)?);
        let mut shown = 0;
        for page in receipts.chunks(SQS_BATCH) {
            shown += make_visible(self.target, url, page).await?;
        }
        Ok(shown)
    }

    async fn receipts(&self, place: &str) -> Result<Vec<String>, Error> {
        let table = self.target.stack.output(StackOutput::LedgerTableName)?;
        let call = self.target.session.call("dynamodb:Query", table);
        let query = self.target.session.dynamodb().query().table_name(table).index_name(PARKED_INDEX);
        let query = query.key_condition_expression("parked = :parked");
        let query = query.expression_attribute_values(":parked", AttributeValue::S(place.to_owned()));
        let mut items = query.into_paginator().items().send();
        let mut receipts = Vec::new();
        while let Some(item) = items.next().await {
            let item = item.map_err(|error| call.to_error(&error))?;
            receipts.extend(string_attr(&item, "receipt").map(str::to_owned));
        }
        Ok(receipts)
    }
}
