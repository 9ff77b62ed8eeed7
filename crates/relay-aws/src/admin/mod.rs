//! The operator's view of a stack: its ledger in DynamoDB, its queues in SQS, and the pause of the fast path.

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::QueueAttributeName;
use relay_core::delivery::Direction;

use crate::ledger::table::LedgerTable;
use crate::sdk::error::{AwsCall, AwsError};

pub mod dead_letters;
pub mod deliveries;
pub mod limiter_pause;

/// The ledger and the queues of a stack.
#[derive(Debug, Clone)]
pub struct StackAdmin {
    /// The ledger.
    pub ledger: LedgerTable,
    /// Client of the queues.
    pub sqs: Client,
    /// Queues of the direction from Loops to Clay.
    pub to_clay: QueueUrls,
    /// Queues of the direction from Clay to Loops.
    pub to_loops: QueueUrls,
}

/// The queues of one direction.
#[derive(Debug, Clone)]
pub struct QueueUrls {
    /// URL of the queue.
    pub queue: String,
    /// URL of its dead-letter queue.
    pub dead_letters: String,
}

impl StackAdmin {
    const fn queues_of(&self, direction: Direction) -> &QueueUrls {
        match direction {
            Direction::LoopsToClay => &self.to_clay,
            Direction::ClayToLoops => &self.to_loops,
        }
    }
}

/// Returns the number of messages in a queue, hidden ones included.
///
/// # Errors
/// When SQS rejects the call.
pub async fn message_count(sqs: &Client, url: &str) -> Result<u64, AwsError> {
    let names = [
        QueueAttributeName::ApproximateNumberOfMessages,
        QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        QueueAttributeName::ApproximateNumberOfMessagesDelayed,
    ];
    let request = sqs.get_queue_attributes().queue_url(url).set_attribute_names(Some(names.to_vec()));
    let response = request.send().await;
    let response = response.map_err(|error| call(sqs, "sqs:GetQueueAttributes", queue_name(url)).to_error(&error))?;
    let attributes = response.attributes.unwrap_or_default();
    Ok(names.iter().filter_map(|name| attributes.get(name)?.parse::<u64>().ok()).sum())
}

/// Returns the name of a queue from its URL.
pub fn queue_name(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or(url)
}

fn call(sqs: &Client, operation: &'static str, queue: &str) -> AwsCall {
    AwsCall::new(operation, queue, sqs.config().region())
}
