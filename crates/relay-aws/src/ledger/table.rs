//! The ledger's table: one item per delivery, contact, rate limiter and Clay webhook, under one key.

use std::borrow::Cow;
use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::scan::builders::ScanFluentBuilder;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use jiff::{SignedDuration, Timestamp};

use crate::ledger::items::{EXPIRES_AT, PARTITION_KEY, STATE, STATE_NAME};
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

/// An update of one item.
#[derive(Debug, Default)]
pub(crate) struct Update {
    expression: Cow<'static, str>,
    extra_assignment: Option<String>,
    condition: Option<Cow<'static, str>>,
    name: Option<(&'static str, String)>,
    values: Vec<(&'static str, AttributeValue)>,
    without_ttl: bool,
}

impl Update {
    /// Creates an update from its expression, to which [`LedgerTable::update`] adds the item's expiry.
    pub(crate) fn new(expression: impl Into<Cow<'static, str>>) -> Self {
        Self { expression: expression.into(), ..Self::default() }
    }

    pub(crate) fn condition(mut self, condition: impl Into<Cow<'static, str>>) -> Self {
        self.condition = Some(condition.into());
        self
    }

    /// Binds a `#` placeholder to a name that is composed at run time.
    pub(crate) fn name(mut self, placeholder: &'static str, name: String) -> Self {
        self.name = Some((placeholder, name));
        self
    }

    /// Sets another attribute.
    pub(crate) fn and_set(mut self, assignment: String) -> Self {
        self.extra_assignment = Some(assignment);
        self
    }

    pub(crate) fn string_attr(mut self, placeholder: &'static str, value: &str) -> Self {
        self.values.push((placeholder, AttributeValue::S(value.to_owned())));
        self
    }

    pub(crate) fn number_attr(mut self, placeholder: &'static str, value: i64) -> Self {
        self.values.push((placeholder, AttributeValue::N(value.to_string())));
        self
    }

    pub(crate) fn bind_string_set(mut self, placeholder: &'static str, values: impl Into<Vec<String>>) -> Self {
        self.values.push((placeholder, AttributeValue::Ss(values.into())));
        self
    }

    /// Leaves the item without an expiry.
    pub(crate) fn no_ttl(mut self) -> Self {
        self.without_ttl = true;
        self
    }
}

impl LedgerTable {
    /// Creates the table of this name.
    #[must_use]
    pub const fn new(client: Client, name: String) -> Self {
        Self { client, name }
    }

    /// Reads an item consistently; empty if there is none.
    pub(crate) async fn get(&self, key: &str) -> Result<Item, AwsError> {
        let response = self
            .client
            .get_item()
            .table_name(&self.name)
            .key(PARTITION_KEY, AttributeValue::S(key.to_owned()))
            .consistent_read(true)
            .send()
            .await;
        match response {
            Ok(response) => Ok(response.item.unwrap_or_default()),
            Err(error) => Err(self.error("dynamodb:GetItem", &error)),
        }
    }

    /// Updates an item and returns it, or nothing if the condition is false.
    pub(crate) async fn update(&self, key: &str, update: Update, now: Timestamp) -> Result<Option<Item>, AwsError> {
        Ok(self.send_update(key, update, now, ReturnValuesOnConditionCheckFailure::None).await?.ok())
    }

    /// Updates an item and returns it, or as an error the current item if the condition is false.
    pub(crate) async fn update_or_current(
        &self,
        key: &str,
        update: Update,
        now: Timestamp,
    ) -> Result<Result<Item, Item>, AwsError> {
        self.send_update(key, update, now, ReturnValuesOnConditionCheckFailure::AllOld).await
    }

    async fn send_update(
        &self,
        key: &str,
        item_update: Update,
        now: Timestamp,
        on_condition_failure: ReturnValuesOnConditionCheckFailure,
    ) -> Result<Result<Item, Item>, AwsError> {
        let Update { expression, extra_assignment, condition, name, values, without_ttl } = item_update;
        let mut request = self
            .client
            .update_item()
            .table_name(&self.name)
            .key(PARTITION_KEY, AttributeValue::S(key.to_owned()))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(on_condition_failure);
        if [Some(&expression), condition.as_ref()].into_iter().flatten().any(|text| text.contains(STATE_NAME)) {
            request = request.expression_attribute_names(STATE_NAME, STATE);
        }
        if let Some((placeholder, name)) = name {
            request = request.expression_attribute_names(placeholder, name);
        }
        for (placeholder, value) in values {
            request = request.expression_attribute_values(placeholder, value);
        }
        let expression = if without_ttl {
            expression.into_owned()
        } else {
            let expires_at = now.checked_add(TTL).unwrap_or(now).as_second();
            request = request.expression_attribute_values(":expires_at", AttributeValue::N(expires_at.to_string()));
            let extra = extra_assignment.map(|extra| format!(", {extra}")).unwrap_or_default();
            match expression.strip_prefix("SET ") {
                Some(rest) => format!("SET {EXPIRES_AT} = :expires_at{extra}, {rest}"),
                None => format!("SET {EXPIRES_AT} = :expires_at{extra} {expression}"),
            }
        };
        let request = request.update_expression(expression).set_condition_expression(condition.map(Cow::into_owned));
        match request.send().await {
            Ok(output) => Ok(Ok(output.attributes.unwrap_or_default())),
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(check_failed)) => {
                    Ok(Err(check_failed.item().cloned().unwrap_or_default()))
                }
                _ => Err(self.error("dynamodb:UpdateItem", &error)),
            },
        }
    }

    /// Begins a scan of the whole table.
    pub(crate) fn scan(&self) -> ScanFluentBuilder {
        self.client.scan().table_name(&self.name)
    }

    /// Returns the error of a call to the table.
    pub(crate) fn error<E: ProvideErrorMetadata>(
        &self,
        operation: &'static str,
        error: &SdkError<E, HttpResponse>,
    ) -> AwsError {
        AwsCall::new(operation, &self.name, self.client.config().region()).to_error(error)
    }

    /// Deletes an item if a condition with one bound text is true.
    pub(crate) async fn delete_if(
        &self,
        key: &str,
        condition: &str,
        (placeholder, value): (&str, &str),
    ) -> Result<(), AwsError> {
        let request =
            self.client.delete_item().table_name(&self.name).key(PARTITION_KEY, AttributeValue::S(key.to_owned()));
        let request = request.condition_expression(condition).expression_attribute_names(STATE_NAME, STATE);
        let request = request.expression_attribute_values(placeholder, AttributeValue::S(value.to_owned()));
        match request.send().await {
            Err(error)
                if error.as_service_error().is_some_and(DeleteItemError::is_conditional_check_failed_exception) =>
            {
                Ok(())
            }
            result => result.map(drop).map_err(|error| self.error("dynamodb:DeleteItem", &error)),
        }
    }
}

/// Returns a text attribute.
pub(crate) fn string_attr<'a>(item: &'a Item, name: &str) -> Option<&'a str> {
    item.get(name)?.as_s().ok().map(String::as_str)
}

/// Returns a number attribute.
pub(crate) fn number_attr(item: &Item, name: &str) -> Option<i64> {
    item.get(name)?.as_n().ok()?.parse().ok()
}

/// Returns a time attribute, which is in Unix milliseconds.
pub(crate) fn time_attr(item: &Item, name: &str) -> Option<Timestamp> {
    Timestamp::from_millisecond(number_attr(item, name)?).ok()
}
