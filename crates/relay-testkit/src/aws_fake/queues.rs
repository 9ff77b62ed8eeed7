//! FIFO queues: ordered groups, visibility timeouts, deduplication and dead-letter queues.
//!
//! Behaviour as in AWS' pages "Amazon SQS visibility timeout", "FIFO queue delivery logic", "Using the message
//! deduplication ID" and "Using dead-letter queues". The numbers are those of the template.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{ServiceResponse, message_rules};

/// Queue and dead-letter queue of each direction: to Clay, and to Loops.
pub const QUEUES: [(&str, &str); 2] = [
    ("http://emulated.invalid/clay", "http://emulated.invalid/clay-dead"),
    ("http://emulated.invalid/loops", "http://emulated.invalid/loops-dead"),
];
/// Visibility timeout of a received message (the template's `VisibilityTimeout`).
const VISIBILITY_TIMEOUT: Duration = Duration::from_secs(360);
/// Maximum time for which a message can be hidden after it was received.
const MAX_VISIBILITY: Duration = Duration::from_secs(12 * 60 * 60);
/// Receives after which a message moves to the dead-letter queue (the template's `maxReceiveCount`).
const MAX_RECEIVES: u32 = 1000;
/// Retention of a message (the template's `MessageRetentionPeriod`).
const RETENTION: Duration = Duration::from_secs(14 * 24 * 60 * 60);
/// Interval in which a repeated deduplication id is recognised.
const DEDUPLICATION_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// All queues, by their URLs.
#[derive(Debug, Default)]
pub struct Queues(BTreeMap<String, Queue>);

/// A message.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its id.
    pub id: String,
    /// Its group.
    pub group: String,
    /// The message body.
    pub body: String,
    /// Its attributes.
    pub attributes: Value,
    /// By which it is known since it was received last.
    pub receipt: String,
    /// How often it was received.
    pub receive_count: u32,
    /// When it was sent.
    pub sent_at: Timestamp,
    received_at: Timestamp,
    /// End of the visibility timeout, if the message is in flight.
    hidden_until: Option<Timestamp>,
}

#[derive(Debug, Default)]
struct Queue {
    sent: u64,
    messages: BTreeMap<u64, Message>,
    available: BTreeSet<u64>,
    hidden: BTreeSet<(Timestamp, u64)>,
    dedup_entries: HashMap<(String, String), Value>,
    dedup_order: VecDeque<(Timestamp, (String, String))>,
}

impl Queues {
    fn queue(&mut self, url: &str) -> &mut Queue {
        self.0.entry(url.to_owned()).or_default()
    }

    /// Returns the number of messages in a queue, hidden ones included.
    #[must_use]
    pub fn len(&self, url: &str) -> usize {
        self.0.get(url).map_or(0, |queue| queue.messages.len())
    }

    /// The messages of a queue.
    pub fn messages(&self, url: &str) -> impl Iterator<Item = &Message> {
        self.0.get(url).into_iter().flat_map(|queue| queue.messages.values())
    }

    /// Receives `max` messages at most. Messages over the receive limit move to the dead-letter queue.
    pub fn receive(&mut self, url: &str, max: usize, now: Timestamp) -> Vec<Message> {
        let received = self.queue(url).receive(max, now);
        let (over_limit, within_limit): (Vec<_>, Vec<_>) =
            received.into_iter().partition(|each| each.receive_count > MAX_RECEIVES);
        for message in over_limit {
            self.delete(url, &message.receipt);
            if let Some((_, dead_letter_queue)) = QUEUES.iter().find(|(queue, _)| *queue == url) {
                let (id, group) = (message.id.clone(), message.group.clone());
                self.queue(dead_letter_queue).send(group, id, message.body, message.attributes, now);
            }
        }
        within_limit
    }

    /// Deletes the message with this receipt, if the receipt is its latest.
    pub fn delete(&mut self, url: &str, receipt: &str) {
        self.queue(url).delete(receipt);
    }

    /// Deletes a message by its id, as an operator does in the console.
    pub fn remove_by_id(&mut self, url: &str, id: &str) {
        let queue = self.queue(url);
        let numbers: Vec<u64> =
            queue.messages.iter().filter(|(_, each)| each.id == id).map(|(number, _)| *number).collect();
        numbers.into_iter().for_each(|number| queue.remove(number));
    }

    /// Puts a message into a queue, whatever was sent before.
    pub fn enqueue(&mut self, url: &str, message: Message, token: String, now: Timestamp) {
        self.queue(url).send(message.group, token, message.body, message.attributes, now);
    }

    /// Ends the visibility timeout of every hidden message.
    pub fn make_all_visible(&mut self, url: &str) {
        let queue = self.queue(url);
        for (_, number) in std::mem::take(&mut queue.hidden) {
            queue.available.insert(number);
            if let Some(message) = queue.messages.get_mut(&number) {
                message.hidden_until = None;
            }
        }
    }

    /// Returns when the next hidden message becomes visible.
    #[must_use]
    pub fn next_visible_at(&self, url: &str) -> Option<Timestamp> {
        self.0.get(url)?.hidden.first().map(|(until, _)| *until)
    }

    pub(crate) fn handle(&mut self, operation: &str, request: &Value, now: Timestamp) -> ServiceResponse {
        let string_field = |name: &str| request[name].as_str().unwrap_or_default().to_owned();
        let queue = self.queue(&string_field("QueueUrl"));
        match operation {
            "SendMessage" => {
                if let Some(refusal) = message_rules::refusal(request) {
                    return refusal;
                }
                let (group, token) = (string_field("MessageGroupId"), string_field("MessageDeduplicationId"));
                ServiceResponse::ok(queue.send(
                    group,
                    token,
                    string_field("MessageBody"),
                    request["MessageAttributes"].clone(),
                    now,
                ))
            }
            "ChangeMessageVisibility" => {
                let seconds = request["VisibilityTimeout"].as_u64().unwrap_or_default();
                queue.change_visibility(&string_field("ReceiptHandle"), Duration::from_secs(seconds), now)
            }
            _ => panic!("unexpected SQS operation {operation}"),
        }
    }
}

impl Queue {
    fn send(&mut self, group: String, token: String, body: String, attributes: Value, now: Timestamp) -> Value {
        while self.dedup_order.front().is_some_and(|(at, _)| now >= *at + DEDUPLICATION_INTERVAL) {
            let Some((_, expired)) = self.dedup_order.pop_front() else { break };
            self.dedup_entries.remove(&expired);
        }
        // Of each group by itself (the template's `DeduplicationScope`).
        let dedup_key = (group.clone(), token);
        if let Some(sent) = self.dedup_entries.get(&dedup_key) {
            return sent.clone();
        }
        self.sent += 1;
        let (number, id) = (self.sent, format!("message-{}", self.sent));
        let sent = json!({"MessageId": id, "SequenceNumber": number.to_string()});
        self.dedup_entries.insert(dedup_key.clone(), sent.clone());
        self.dedup_order.push_back((now, dedup_key));
        let receipt = String::new();
        let message = Message {
            id,
            group,
            body,
            attributes,
            receipt,
            receive_count: 0,
            sent_at: now,
            received_at: now,
            hidden_until: None,
        };
        self.messages.insert(number, message);
        self.available.insert(number);
        sent
    }

    /// What time does by itself.
    fn advance_to(&mut self, now: Timestamp) {
        while let Some((until, number)) = self.hidden.first().copied().filter(|(until, _)| *until <= now) {
            self.hidden.remove(&(until, number));
            self.available.insert(number);
            if let Some(message) = self.messages.get_mut(&number) {
                message.hidden_until = None;
            }
        }
        while let Some((number, _)) =
            self.messages.first_key_value().filter(|(_, first)| now >= first.sent_at + RETENTION)
        {
            let number = *number;
            self.remove(number);
        }
    }

    fn receive(&mut self, max: usize, now: Timestamp) -> Vec<Message> {
        self.advance_to(now);
        // A group is locked while any of its messages is hidden.
        let hidden = self.hidden.iter().filter_map(|(_, number)| self.messages.get(number));
        let locked_groups: HashSet<&str> = hidden.map(|message| message.group.as_str()).collect();
        let is_available =
            |number: &&u64| self.messages.get(number).is_some_and(|each| !locked_groups.contains(each.group.as_str()));
        let numbers: Vec<u64> = self.available.iter().filter(is_available).take(max).copied().collect();
        let mut received = Vec::new();
        for number in numbers {
            let Some(message) = self.messages.get_mut(&number) else { continue };
            let until = now + VISIBILITY_TIMEOUT;
            message.receive_count += 1;
            message.receipt = format!("{number}-{}", message.receive_count);
            (message.received_at, message.hidden_until) = (now, Some(until));
            received.push(message.clone());
            self.available.remove(&number);
            self.hidden.insert((until, number));
        }
        received
    }

    /// The message that was received last with this receipt.
    fn number_of_receipt(&self, receipt: &str) -> Option<u64> {
        let number = receipt.split_once('-')?.0.parse().ok()?;
        self.messages.get(&number).filter(|message| message.receipt == receipt).map(|_| number)
    }

    fn change_visibility(&mut self, receipt: &str, wait: Duration, now: Timestamp) -> ServiceResponse {
        self.advance_to(now);
        let invalid_parameter =
            |message: &str| ServiceResponse::error("com.amazonaws.sqs#InvalidParameterValue", message);
        let Some(number) = self.number_of_receipt(receipt) else {
            return invalid_parameter("The receipt handle has expired.");
        };
        let Some(message) = self.messages.get_mut(&number) else {
            return invalid_parameter("There is no such message.");
        };
        let Some(hidden_until) = message.hidden_until else {
            return ServiceResponse::error("com.amazonaws.sqs#MessageNotInflight", "The message is not in flight.");
        };
        if now + wait > message.received_at + MAX_VISIBILITY {
            return invalid_parameter("Total VisibilityTimeout for the message is beyond the limit.");
        }
        self.hidden.remove(&(hidden_until, number));
        message.hidden_until = Some(now + wait);
        self.hidden.insert((now + wait, number));
        self.advance_to(now);
        ServiceResponse::ok(json!({}))
    }

    fn delete(&mut self, receipt: &str) {
        if let Some(number) = self.number_of_receipt(receipt) {
            self.remove(number);
        }
    }

    fn remove(&mut self, number: u64) {
        let Some(message) = self.messages.remove(&number) else { return };
        self.available.remove(&number);
        if let Some(until) = message.hidden_until {
            self.hidden.remove(&(until, number));
        }
    }
}

impl Message {
    /// Returns the heap of its texts, in bytes. The attributes are null except in dead letters.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        [&self.id, &self.group, &self.body, &self.receipt].into_iter().map(String::capacity).sum()
    }

    /// As Lambda hands it to a function.
    #[must_use]
    pub fn to_lambda_record(&self) -> Value {
        let attributes: Map<String, Value> = [
            ("ApproximateReceiveCount", self.receive_count.to_string()),
            ("SentTimestamp", self.sent_at.as_millisecond().to_string()),
            ("ApproximateFirstReceiveTimestamp", self.received_at.as_millisecond().to_string()),
            ("MessageGroupId", self.group.clone()),
            ("SenderId", "emulated".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), Value::from(value)))
        .into_iter()
        .collect();
        let raw_attributes = self.attributes.as_object().into_iter().flatten();
        let message_attributes: Map<String, Value> = raw_attributes
            .map(|(name, value)| {
                let value = json!({"dataType": value["DataType"], "stringValue": value["StringValue"]});
                (name.clone(), value)
            })
            .collect();
        json!({
            "messageId": self.id, "receiptHandle": self.receipt, "body": self.body, "attributes": attributes,
            "messageAttributes": message_attributes, "md5OfBody": "", "eventSource": "aws:sqs", "awsRegion": "eu-west-1",
            "eventSourceARN": "arn:aws:sqs:eu-west-1:123456789012:queue.fifo",
        })
    }
}
