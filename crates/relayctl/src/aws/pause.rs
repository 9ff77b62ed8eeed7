//! Pausing a direction of a stack: its worker gets no messages, and towards Loops rows join the queue instead of passing it.

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_lambda::types::EventSourceMappingConfiguration;
use jiff::Timestamp;
use relay_aws::ledger::items::PAUSED_AT;
use relay_aws::ledger::limiter_item::LOOPS_LIMITER_KEY;
use relay_aws::ledger::table::time_attr;
use relay_core::delivery::Direction;

use crate::aws::error::Error;
use crate::aws::ledger_item::{item, update_if, update_item};
use crate::operations::record::PauseResult;
use crate::target::StackTarget;

/// Whether a direction is paused, and since when, where that is known.
pub(crate) async fn pause_state(
    target: &StackTarget,
    direction: Direction,
) -> Result<(bool, Option<Timestamp>), Error> {
    let mapping = event_source_mapping(target, direction).await?;
    let paused_since = fast_path_paused_since(target, direction).await?;
    Ok((!is_enabled(&mapping) || paused_since.is_some(), paused_since))
}

/// Since when rows join the queue by a person's will: the item of the pace says so. Towards Clay they always do.
pub(crate) async fn fast_path_paused_since(
    target: &StackTarget,
    direction: Direction,
) -> Result<Option<Timestamp>, Error> {
    match direction {
        Direction::LoopsToClay => Ok(None),
        Direction::ClayToLoops => {
            Ok(item(target, LOOPS_LIMITER_KEY.to_owned()).await?.and_then(|item| time_attr(&item, PAUSED_AT)))
        }
    }
}

/// Pauses a direction, or ends its pause.
///
/// What joins the queue has to be delivered some time: so rows stop first and start last, and what was done in part is
/// completed by doing it again.
pub(crate) async fn set_paused(target: &StackTarget, direction: Direction, paused: bool) -> Result<PauseResult, Error> {
    let mapping = event_source_mapping(target, direction).await?;
    let mut changed = false;
    if paused && direction == Direction::ClayToLoops {
        changed |= pause_fast_path(target, true).await?;
    }
    if is_enabled(&mapping) == paused {
        let id = mapping.uuid().unwrap_or_default();
        let call = target.session.call("lambda:UpdateEventSourceMapping", worker_function(target, direction));
        let update = target.session.lambda().update_event_source_mapping().uuid(id).enabled(!paused);
        update.send().await.map_err(|error| call.to_error(&error))?;
        changed = true;
    }
    if !paused && direction == Direction::ClayToLoops {
        changed |= pause_fast_path(target, false).await?;
    }
    Ok(PauseResult { direction, paused, changed })
}

/// The function that delivers in a direction.
pub(crate) fn worker_function(target: &StackTarget, direction: Direction) -> String {
    target.stack.function_name(match direction {
        Direction::LoopsToClay => "clay-delivery",
        Direction::ClayToLoops => "loops-delivery",
    })
}

/// What hands it its messages.
async fn event_source_mapping(
    target: &StackTarget,
    direction: Direction,
) -> Result<EventSourceMappingConfiguration, Error> {
    let function_name = worker_function(target, direction);
    let call = target.session.call("lambda:ListEventSourceMappings", function_name.clone());
    let response = target.session.lambda().list_event_source_mappings().function_name(&function_name).send().await;
    let response = response.map_err(|error| call.to_error(&error))?;
    let not_found = || Error::NoEventSource { function: function_name.clone() };
    response.event_source_mappings.unwrap_or_default().into_iter().next().ok_or_else(not_found)
}

/// Whether it hands messages over, or is just about to.
fn is_enabled(mapping: &EventSourceMappingConfiguration) -> bool {
    !matches!(mapping.state(), Some("Disabled" | "Disabling"))
}

/// Makes rows join the queue, or pass it again; false where they did so before.
async fn pause_fast_path(target: &StackTarget, pause: bool) -> Result<bool, Error> {
    let update = update_item(target, LOOPS_LIMITER_KEY.to_owned())?.expression_attribute_names("#at", PAUSED_AT);
    let update = if pause {
        let now = AttributeValue::N(Timestamp::now().as_millisecond().to_string());
        update
            .update_expression("SET #at = :now")
            .condition_expression("attribute_not_exists(#at)")
            .expression_attribute_values(":now", now)
    } else {
        update.update_expression("REMOVE #at").condition_expression("attribute_exists(#at)")
    };
    update_if(target, update).await
}
