//! What a stack holds for a person is tried at once when setup has written what it may wait for.

use aws_sdk_dynamodb::types::AttributeValue;
use relay_aws::ledger::table::{PARKED_INDEX, text};
use relay_aws::secrets::rotation::Mends as _;
use relay_core::delivery::Direction;

use crate::aws::stack::Output;
use crate::error::Fault;
use crate::operations::stack::{MESSAGES_A_CALL, queue_outputs, show};
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
    pub async fn try_now(&self, written: &[String], names: [&str; 2], documents: &Documents) -> Option<String> {
        let (to_clay, to_loops) = documents.as_relay(names).ok()?;
        let [clay, loops] = names;
        let waiting =
            [(clay, Direction::LoopsToClay, to_clay.places()), (loops, Direction::ClayToLoops, to_loops.places())];
        let spinner = progress::spinner(self.quiet, "looking for held deliveries");
        let (mut shown, mut fault) = (0, None);
        for (name, direction, places) in waiting {
            if !written.iter().any(|written| written == name) {
                continue;
            }
            for place in places {
                match self.show(direction, &place).await {
                    Ok(more) => shown += more,
                    Err(found) => fault = Some(found),
                }
            }
        }
        spinner.finish_and_clear();
        match (fault, shown) {
            (Some(fault), _) => {
                Some(format!("What is held is tried within 15 minutes; it could not be tried at once: {fault}"))
            }
            (None, 0) => None,
            (None, 1) => Some("1 held delivery is tried now.".to_owned()),
            (None, shown) => Some(format!("{shown} held deliveries are tried now.")),
        }
    }

    /// Shows the messages of what is parked in a place; gives how many were hidden.
    async fn show(&self, direction: Direction, place: &str) -> Result<usize, Fault> {
        let (receipts, url) = (self.receipts(place).await?, self.target.stack.output(queue_outputs(direction).0)?);
        let mut shown = 0;
        for page in receipts.chunks(MESSAGES_A_CALL) {
            shown += show(self.target, url, page).await?;
        }
        Ok(shown)
    }

    async fn receipts(&self, place: &str) -> Result<Vec<String>, Fault> {
        let table = self.target.stack.output(Output::LedgerTableName)?;
        let call = self.target.session.call("dynamodb:Query", table);
        let query = self.target.session.dynamodb().query().table_name(table).index_name(PARKED_INDEX);
        let query = query.key_condition_expression("parked = :parked");
        let query = query.expression_attribute_values(":parked", AttributeValue::S(place.to_owned()));
        let mut items = query.into_paginator().items().send();
        let mut receipts = Vec::new();
        while let Some(item) = items.next().await {
            let item = item.map_err(|fault| call.fault(&fault))?;
            receipts.extend(text(&item, "receipt").map(str::to_owned));
        }
        Ok(receipts)
    }
}
