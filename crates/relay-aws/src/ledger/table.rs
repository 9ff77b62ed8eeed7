//! The ledger's table: one item per delivery, contact, rate limiter and Clay webhook, under one key.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::scan::builders::ScanFluentBuilder;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure};
use jiff::{SignedDuration, Timestamp};

use crate::ledger::items::{EXPIRES_AT, PARTITION_KEY, SENDING, STATE, STATE_NAME};
use crate::sdk::error::{AwsCall, AwsError};

/// Time after its last change at which DynamoDB deletes an item.
pub(crate) const TTL: SignedDuration = SignedDuration::from_hours(30 * 24);

/// An item's attributes.
pub type Item = HashMap<String, AttributeValue>;

/// The table.
#[derive(Debug, Clone)]
pub struct LedgerTable {
    client: Client,
    name: String,
}

/// An update of one item, and its conditions. The placeholder of an attribute's value is its name.
#[derive(Debug, Default)]
pub(crate) struct Update {
    set: Vec<String>,
    remove: Vec<&'static str>,
    add: Vec<String>,
    delete: Vec<String>,
    conditions: Vec<String>,
    counter: Option<String>,
    values: HashMap<String, AttributeValue>,
    without_ttl: bool,
}

/// Value of an attribute. Times are stored in Unix milliseconds.
pub(crate) struct Value(AttributeValue);

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self(AttributeValue::S(text.to_owned()))
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self(AttributeValue::N(number.to_string()))
    }
}

impl From<Timestamp> for Value {
    fn from(at: Timestamp) -> Self {
        at.as_millisecond().into()
    }
}

impl From<Vec<String>> for Value {
    fn from(set: Vec<String>) -> Self {
        Self(AttributeValue::Ss(set))
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self(AttributeValue::B(Blob::new(bytes)))
    }
}

impl Update {
    pub(crate) fn set(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.set.push(format!("{} = :{name}", path(name)));
        self.bind(name, value)
    }

    pub(crate) fn set_if_missing(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.set.push(format!("{0} = if_not_exists({0}, :{name})", path(name)));
        self.bind(name, value)
    }

    /// Adds to a number that exists.
    pub(crate) fn increase(mut self, name: &str, by: i64) -> Self {
        self.set.push(format!("{name} = {name} + :{name}"));
        self.bind(name, by)
    }

    pub(crate) fn remove(mut self, names: &[&'static str]) -> Self {
        self.remove.extend(names);
        self
    }

    /// Adds to a number or a set, which need not exist.
    pub(crate) fn add(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.add.push(format!("{name} :{name}"));
        self.bind(name, value)
    }

    /// Adds one to a counter whose name is composed at run time.
    pub(crate) fn count(mut self, name: String) -> Self {
        self.add.push("#counter :counted".to_owned());
        self.counter = Some(name);
        self.bind("counted", 1)
    }

    pub(crate) fn delete_from_set(mut self, name: &str, values: Vec<String>) -> Self {
        self.delete.push(format!("{name} :{name}"));
        self.bind(name, values)
    }

    /// Adds a condition. All conditions must be true.
    pub(crate) fn only_if(mut self, condition: impl Into<String>) -> Self {
        self.conditions.push(condition.into());
        self
    }

    /// Adds the condition that an attribute is as it was read.
    pub(crate) fn only_if_unchanged(self, name: &str, value: Option<i64>) -> Self {
        match value {
            Some(value) => self.only_if(format!("{name} = :expected_{name}")).bind(&format!("expected_{name}"), value),
            None => self.only_if(format!("attribute_not_exists({name})")),
        }
    }

    /// Binds a value that only a condition uses.
    pub(crate) fn bind(mut self, placeholder: &str, value: impl Into<Value>) -> Self {
        self.values.insert(format!(":{placeholder}"), value.into().0);
        self
    }

    /// Leaves the item's expiry as it is.
    pub(crate) fn no_ttl(mut self) -> Self {
        self.without_ttl = true;
        self
    }

    fn expression(&self) -> String {
        let clauses = [
            ("SET", self.set.join(", ")),
            ("REMOVE", self.remove.join(", ")),
            ("ADD", self.add.join(", ")),
            ("DELETE", self.delete.join(", ")),
        ];
        let clauses = clauses.iter().filter(|(_, list)| !list.is_empty());
        clauses.map(|(verb, list)| format!("{verb} {list}")).collect::<Vec<_>>().join(" ")
    }

    fn condition(&self) -> Option<String> {
        match self.conditions.as_slice() {
            [] => None,
            // DynamoDB rejects redundant parentheses.
            [condition] => Some(condition.clone()),
            conditions => Some(format!("({})", conditions.join(") AND ("))),
        }
    }
}

/// Returns the path of an attribute in an expression.
fn path(name: &str) -> &str {
    if name == STATE { STATE_NAME } else { name }
}

impl LedgerTable {
    /// Creates the table of this name.
    pub const fn new(client: Client, name: String) -> Self {
        Self { client, name }
    }

    /// Reads an item consistently; empty if there is none.
    pub(crate) async fn get(&self, key: &str) -> Result<Item, AwsError> {
        let request = self.client.get_item().table_name(&self.name).consistent_read(true);
        let result = request.key(PARTITION_KEY, AttributeValue::S(key.to_owned())).send().await;
        let response = result.map_err(|error| self.call("dynamodb:GetItem").to_error(&error))?;
        Ok(response.item.unwrap_or_default())
    }

    /// Updates an item and returns it, or nothing if the condition is false.
    pub(crate) async fn update(&self, key: &str, update: Update, now: Timestamp) -> Result<Option<Item>, AwsError> {
        Ok(self.update_or_current(key, update, now).await?.ok())
    }

    /// Updates an item and returns it, or as an error the current item if the condition is false.
    pub(crate) async fn update_or_current(
        &self,
        key: &str,
        mut update: Update,
        now: Timestamp,
    ) -> Result<Result<Item, Item>, AwsError> {
        if !update.without_ttl {
            update = update.set(EXPIRES_AT, now.checked_add(TTL).unwrap_or(now).as_second());
        }
        let (expression, condition) = (update.expression(), update.condition());
        let mut request = self
            .client
            .update_item()
            .table_name(&self.name)
            .key(PARTITION_KEY, AttributeValue::S(key.to_owned()))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        if [Some(&expression), condition.as_ref()].into_iter().flatten().any(|text| text.contains(STATE_NAME)) {
            request = request.expression_attribute_names(STATE_NAME, STATE);
        }
        if let Some(counter) = update.counter {
            request = request.expression_attribute_names("#counter", counter);
        }
        let request = request
            .update_expression(expression)
            .set_condition_expression(condition)
            .set_expression_attribute_values(Some(update.values).filter(|values| !values.is_empty()));
        match request.send().await {
            Ok(output) => Ok(Ok(output.attributes.unwrap_or_default())),
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(check_failed)) => {
                    Ok(Err(check_failed.item().cloned().unwrap_or_default()))
                }
                _ => Err(self.call("dynamodb:UpdateItem").to_error(&error)),
            },
        }
    }

    pub(crate) fn scan(&self) -> ScanFluentBuilder {
        self.client.scan().table_name(&self.name)
    }

    /// Returns a call to the table, from which its errors are made.
    pub(crate) fn call(&self, operation: &'static str) -> AwsCall {
        AwsCall::new(operation, &self.name, self.client.config().region())
    }

    /// Deletes an item if a condition is true, in which `:sending` is that state and `:received_at` a time. Returns whether it
    /// is deleted.
    pub(crate) async fn delete_if(
        &self,
        key: &str,
        condition: String,
        received_at: Timestamp,
    ) -> Result<bool, AwsError> {
        let request =
            self.client.delete_item().table_name(&self.name).key(PARTITION_KEY, AttributeValue::S(key.to_owned()));
        let request = request.condition_expression(condition).expression_attribute_names(STATE_NAME, STATE);
        let request = request
            .expression_attribute_values(":sending", AttributeValue::S(SENDING.to_owned()))
            .expression_attribute_values(":received_at", Value::from(received_at).0);
        match request.send().await {
            Err(error)
                if error.as_service_error().is_some_and(DeleteItemError::is_conditional_check_failed_exception) =>
            {
                Ok(false)
            }
            result => result.map(|_| true).map_err(|error| self.call("dynamodb:DeleteItem").to_error(&error)),
        }
    }
}

pub(crate) fn string_attr<'a>(item: &'a Item, name: &str) -> Option<&'a str> {
    item.get(name)?.as_s().ok().map(String::as_str)
}

pub(crate) fn number_attr(item: &Item, name: &str) -> Option<i64> {
    item.get(name)?.as_n().ok()?.parse().ok()
}

/// Returns a time attribute, which is in Unix milliseconds.
pub(crate) fn time_attr(item: &Item, name: &str) -> Option<Timestamp> {
    Timestamp::from_millisecond(number_attr(item, name)?).ok()
}
