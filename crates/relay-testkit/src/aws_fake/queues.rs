//! FIFO queues: groups in their order, messages that are hidden for a time, repeats that are known, and dead letters.
//!
//! As AWS' pages have it: "Amazon SQS visibility timeout", "FIFO queue delivery logic", "Using the message deduplication ID",
//! "Using dead-letter queues". The numbers are those of the template.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::Answer;

/// The queues, each with the one of its dead letters: of this direction to Clay, and of the other.
pub const QUEUES: [(&str, &str); 2] = [
    ("http://emulated.invalid/clay", "http://emulated.invalid/clay-dead"),
    ("http://emulated.invalid/loops", "http://emulated.invalid/loops-dead"),
];
/// For how long what is received is hidden (the template's `VisibilityTimeout`).
const VISIBILITY: Duration = Duration::from_secs(360);
/// For how long a message can be hidden after it was received.
const LONGEST_HIDDEN: Duration = Duration::from_secs(12 * 60 * 60);
/// After how many receives a message goes to the dead letters (the template's `maxReceiveCount`).
const MOST_RECEIVES: u32 = 1000;
/// For how long a message is kept (the template's `MessageRetentionPeriod`).
const KEPT: Duration = Duration::from_secs(14 * 24 * 60 * 60);
/// For how long it is known what was sent.
const DEDUPLICATION: Duration = Duration::from_secs(5 * 60);

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
    /// What it says.
    pub body: String,
    /// Its attributes.
    pub attributes: Value,
    /// By which it is known since it was received last.
    pub receipt: String,
    /// How often it was received.
    pub receives: u32,
    /// When it was sent.
    pub sent_at: Timestamp,
    received_at: Timestamp,
    /// Until when it is hidden, where it is.
    hidden_until: Option<Timestamp>,
}

#[derive(Debug, Default)]
struct Queue {
    sent: u64,
    messages: BTreeMap<u64, Message>,
    available: BTreeSet<u64>,
    hidden: BTreeSet<(Timestamp, u64)>,
    known: HashMap<(String, String), Value>,
    known_since: VecDeque<(Timestamp, (String, String))>,
}

impl Queues {
    fn queue(&mut self, url: &str) -> &mut Queue {
        self.0.entry(url.to_owned()).or_default()
    }

    /// How many messages are in a queue, hidden ones included.
    #[must_use]
    pub fn len(&self, url: &str) -> usize {
        self.0.get(url).map_or(0, |queue| queue.messages.len())
    }

    /// The messages of a queue.
    pub fn messages(&self, url: &str) -> impl Iterator<Item = &Message> {
        self.0.get(url).into_iter().flat_map(|queue| queue.messages.values())
    }

    /// Receives so many messages at most; what was received too often joins the dead letters.
    pub fn receive(&mut self, url: &str, most: usize, now: Timestamp) -> Vec<Message> {
        let received = self.queue(url).receive(most, now);
        let (worn, good): (Vec<_>, Vec<_>) = received.into_iter().partition(|each| each.receives > MOST_RECEIVES);
        for message in worn {
            self.delete(url, &message.receipt);
            if let Some((_, dead)) = QUEUES.iter().find(|(queue, _)| *queue == url) {
                let (id, group) = (message.id.clone(), message.group.clone());
                self.queue(dead).send(group, id, message.body, message.attributes, now);
            }
        }
        good
    }

    /// Deletes what was received last with this receipt.
    pub fn delete(&mut self, url: &str, receipt: &str) {
        self.queue(url).delete(receipt);
    }

    /// Takes a message out of a queue by its id, as a person does.
    pub fn take_out(&mut self, url: &str, id: &str) {
        let queue = self.queue(url);
        let numbers: Vec<u64> =
            queue.messages.iter().filter(|(_, each)| each.id == id).map(|(number, _)| *number).collect();
        numbers.into_iter().for_each(|number| queue.remove(number));
    }

    /// Puts a message into a queue, whatever was sent before.
    pub fn put(&mut self, url: &str, message: Message, token: String, now: Timestamp) {
        self.queue(url).send(message.group, token, message.body, message.attributes, now);
    }

    /// Ends the time of every message that is hidden.
    pub fn show(&mut self, url: &str) {
        let queue = self.queue(url);
        for (_, number) in std::mem::take(&mut queue.hidden) {
            queue.available.insert(number);
            if let Some(message) = queue.messages.get_mut(&number) {
                message.hidden_until = None;
            }
        }
    }

    /// When the next hidden message is shown.
    #[must_use]
    pub fn next_shown(&self, url: &str) -> Option<Timestamp> {
        self.0.get(url)?.hidden.first().map(|(until, _)| *until)
    }

    pub(crate) fn answer(&mut self, operation: &str, request: &Value, now: Timestamp) -> Answer {
        let text = |name: &str| request[name].as_str().unwrap_or_default().to_owned();
        let queue = self.queue(&text("QueueUrl"));
        match operation {
            "SendMessage" => {
                let (group, token) = (text("MessageGroupId"), text("MessageDeduplicationId"));
                Answer::ok(queue.send(group, token, text("MessageBody"), request["MessageAttributes"].clone(), now))
            }
            "ChangeMessageVisibility" => {
                let seconds = request["VisibilityTimeout"].as_u64().unwrap_or_default();
                queue.change_visibility(&text("ReceiptHandle"), Duration::from_secs(seconds), now)
            }
            _ => panic!("nobody asks SQS for {operation}"),
        }
    }
}

impl Queue {
    fn send(&mut self, group: String, token: String, body: String, attributes: Value, now: Timestamp) -> Value {
        while self.known_since.front().is_some_and(|(at, _)| now >= *at + DEDUPLICATION) {
            let Some((_, known)) = self.known_since.pop_front() else { break };
            self.known.remove(&known);
        }
        // Of each group by itself (the template's `DeduplicationScope`).
        let known = (group.clone(), token);
        if let Some(sent) = self.known.get(&known) {
            return sent.clone();
        }
        self.sent += 1;
        let (number, id) = (self.sent, format!("message-{}", self.sent));
        let sent = json!({"MessageId": id, "SequenceNumber": number.to_string()});
        self.known.insert(known.clone(), sent.clone());
        self.known_since.push_back((now, known));
        let receipt = String::new();
        let message = Message {
            id,
            group,
            body,
            attributes,
            receipt,
            receives: 0,
            sent_at: now,
            received_at: now,
            hidden_until: None,
        };
        self.messages.insert(number, message);
        self.available.insert(number);
        sent
    }

    /// What time does by itself.
    fn pass(&mut self, now: Timestamp) {
        while let Some((until, number)) = self.hidden.first().copied().filter(|(until, _)| *until <= now) {
            self.hidden.remove(&(until, number));
            self.available.insert(number);
            if let Some(message) = self.messages.get_mut(&number) {
                message.hidden_until = None;
            }
        }
        while let Some((number, _)) = self.messages.first_key_value().filter(|(_, first)| now >= first.sent_at + KEPT) {
            let number = *number;
            self.remove(number);
        }
    }

    fn receive(&mut self, most: usize, now: Timestamp) -> Vec<Message> {
        self.pass(now);
        // A group is closed as long as any of its messages is hidden.
        let hidden = self.hidden.iter().filter_map(|(_, number)| self.messages.get(number));
        let closed: HashSet<&str> = hidden.map(|message| message.group.as_str()).collect();
        let open = |number: &&u64| self.messages.get(number).is_some_and(|each| !closed.contains(each.group.as_str()));
        let numbers: Vec<u64> = self.available.iter().filter(open).take(most).copied().collect();
        let mut received = Vec::new();
        for number in numbers {
            let Some(message) = self.messages.get_mut(&number) else { continue };
            let until = now + VISIBILITY;
            message.receives += 1;
            message.receipt = format!("{number}-{}", message.receives);
            (message.received_at, message.hidden_until) = (now, Some(until));
            received.push(message.clone());
            self.available.remove(&number);
            self.hidden.insert((until, number));
        }
        received
    }

    /// The message that was received last with this receipt.
    fn number(&self, receipt: &str) -> Option<u64> {
        let number = receipt.split_once('-')?.0.parse().ok()?;
        self.messages.get(&number).filter(|message| message.receipt == receipt).map(|_| number)
    }

    fn change_visibility(&mut self, receipt: &str, wait: Duration, now: Timestamp) -> Answer {
        self.pass(now);
        let refused = |why: &str| Answer::refusal("com.amazonaws.sqs#InvalidParameterValue", why);
        let Some(number) = self.number(receipt) else { return refused("The receipt handle has expired.") };
        let Some(message) = self.messages.get_mut(&number) else { return refused("There is no such message.") };
        let Some(hidden_until) = message.hidden_until else {
            return Answer::refusal("com.amazonaws.sqs#MessageNotInflight", "The message is not in flight.");
        };
        if now + wait > message.received_at + LONGEST_HIDDEN {
            return refused("Total VisibilityTimeout for the message is beyond the limit.");
        }
        self.hidden.remove(&(hidden_until, number));
        message.hidden_until = Some(now + wait);
        self.hidden.insert((now + wait, number));
        self.pass(now);
        Answer::ok(json!({}))
    }

    fn delete(&mut self, receipt: &str) {
        if let Some(number) = self.number(receipt) {
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
    /// What its texts hold of the heap, in bytes. The attributes are null but for dead letters.
    #[must_use]
    pub fn held(&self) -> usize {
        [&self.id, &self.group, &self.body, &self.receipt].into_iter().map(String::capacity).sum()
    }

    /// As Lambda hands it to a function.
    #[must_use]
    pub fn record(&self) -> Value {
        let attributes: Map<String, Value> = [
            ("ApproximateReceiveCount", self.receives.to_string()),
            ("SentTimestamp", self.sent_at.as_millisecond().to_string()),
            ("ApproximateFirstReceiveTimestamp", self.received_at.as_millisecond().to_string()),
            ("MessageGroupId", self.group.clone()),
            ("SenderId", "emulated".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), Value::from(value)))
        .into_iter()
        .collect();
        let given = self.attributes.as_object().into_iter().flatten();
        let given: Map<String, Value> = given
            .map(|(name, value)| {
                let value = json!({"dataType": value["DataType"], "stringValue": value["StringValue"]});
                (name.clone(), value)
            })
            .collect();
        json!({
            "messageId": self.id, "receiptHandle": self.receipt, "body": self.body, "attributes": attributes,
            "messageAttributes": given, "md5OfBody": "", "eventSource": "aws:sqs", "awsRegion": "eu-west-1",
            "eventSourceARN": "arn:aws:sqs:eu-west-1:123456789012:queue.fifo",
        })
    }
}
