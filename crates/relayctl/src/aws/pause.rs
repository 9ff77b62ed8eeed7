//! The pause of a direction: its worker gets no messages, and rows to Loops join the queue instead of passing it.

use aws_sdk_lambda::types::EventSourceMappingConfiguration;
use jiff::Timestamp;
use relay_aws::admin::limiter_pause;
use relay_core::delivery::Direction;

use crate::aws::error::Error;
use crate::target::StackTarget;

/// Returns whether a direction is paused, and since when if that is known.
pub(crate) async fn pause_state(
    target: &StackTarget,
    direction: Direction,
) -> Result<(bool, Option<Timestamp>), Error> {
    let mapping = required_mapping(target, direction).await?;
    let paused_since = fast_path_paused_since(target, direction).await?;
    Ok((!is_enabled(&mapping) || paused_since.is_some(), paused_since))
}

/// Returns when an operator paused the fast path, if it is paused. There is none to Clay.
pub(crate) async fn fast_path_paused_since(
    target: &StackTarget,
    direction: Direction,
) -> Result<Option<Timestamp>, Error> {
    match direction {
        Direction::LoopsToClay => Ok(None),
        Direction::ClayToLoops => Ok(limiter_pause::paused_since(&target.ledger()?).await?),
    }
}

/// Pauses or resumes a direction. Returns false if it was so before.
///
/// Rows must not join a queue that nothing drains: they stop first and start last. Repeating the command completes what was
/// done in part.
pub(crate) async fn set_paused(target: &StackTarget, direction: Direction, paused: bool) -> Result<bool, Error> {
    let mapping = required_mapping(target, direction).await?;
    let mut changed = false;
    if paused && direction == Direction::ClayToLoops {
        changed |= limiter_pause::set_paused(&target.ledger()?, true, Timestamp::now()).await?;
    }
    if is_enabled(&mapping) == paused {
        let id = mapping.uuid().unwrap_or_default();
        let call = target.session.call("lambda:UpdateEventSourceMapping", worker_function(target, direction));
        let update = target.session.lambda().update_event_source_mapping().uuid(id).enabled(!paused);
        update.send().await.map_err(|error| call.to_error(&error))?;
        changed = true;
    }
    if !paused && direction == Direction::ClayToLoops {
        changed |= limiter_pause::set_paused(&target.ledger()?, false, Timestamp::now()).await?;
    }
    Ok(changed)
}

/// Returns the name of the function that delivers in a direction.
pub(crate) fn worker_function(target: &StackTarget, direction: Direction) -> String {
    target.stack.function_name(match direction {
        Direction::LoopsToClay => "clay-delivery",
        Direction::ClayToLoops => "loops-delivery",
    })
}

async fn required_mapping(
    target: &StackTarget,
    direction: Direction,
) -> Result<EventSourceMappingConfiguration, Error> {
    let mapping = event_source_mapping(target, direction).await?;
    mapping.ok_or_else(|| Error::NoEventSource { function: worker_function(target, direction) })
}

/// Returns the mapping that hands the messages of a queue to its worker.
pub(crate) async fn event_source_mapping(
    target: &StackTarget,
    direction: Direction,
) -> Result<Option<EventSourceMappingConfiguration>, Error> {
    let function = worker_function(target, direction);
    let call = target.session.call("lambda:ListEventSourceMappings", function.as_str());
    let response = target.session.lambda().list_event_source_mappings().function_name(function).send().await;
    let mappings = response.map_err(|error| call.to_error(&error))?.event_source_mappings;
    Ok(mappings.unwrap_or_default().into_iter().next())
}

/// Whether the worker gets messages, or will in a moment.
fn is_enabled(mapping: &EventSourceMappingConfiguration) -> bool {
    !matches!(mapping.state(), Some("Disabled" | "Disabling"))
}
