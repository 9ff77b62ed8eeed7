//! One item of a stack's ledger: reading it, and changing it on a condition.

use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::AttributeValue;
use relay_aws::ledger::items::PARTITION_KEY;
use relay_aws::ledger::table::Item;

use crate::aws::error::Error;
use crate::aws::stack::StackOutput;
use crate::target::StackTarget;

/// An item of the ledger, as it is now.
pub(crate) async fn item(target: &StackTarget, key: String) -> Result<Option<Item>, Error> {
    let table = target.stack.output(StackOutput::LedgerTableName)?;
    let call = target.session.call("dynamodb:GetItem", table);
    let get = target.session.dynamodb().get_item().table_name(table).key(PARTITION_KEY, AttributeValue::S(key));
    let got = get.consistent_read(true).send().await.map_err(|error| call.to_error(&error))?;
    Ok(got.item)
}

/// Begins a change of an item of the ledger.
pub(crate) fn update_item(target: &StackTarget, key: String) -> Result<UpdateItemFluentBuilder, Error> {
    let table = target.stack.output(StackOutput::LedgerTableName)?;
    Ok(target.session.dynamodb().update_item().table_name(table).key(PARTITION_KEY, AttributeValue::S(key)))
}

/// Makes a change; false where its condition does not hold.
pub(crate) async fn update_if(target: &StackTarget, change: UpdateItemFluentBuilder) -> Result<bool, Error> {
    let call = target.session.call("dynamodb:UpdateItem", target.stack.output(StackOutput::LedgerTableName)?);
    match change.send().await {
        Ok(_) => Ok(true),
        Err(error) => match error.as_service_error() {
            Some(refused) if refused.is_conditional_check_failed_exception() => Ok(false),
            _ => Err(call.to_error(&error).into()),
        },
    }
}
