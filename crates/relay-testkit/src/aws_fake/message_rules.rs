//! What SQS refuses to take (SQS API reference, `SendMessage`; SQS Developer Guide, "Message quotas").

use serde_json::Value;

use super::ServiceResponse;

/// Maximum size of a message with its attributes (the template's `MaximumMessageSize`).
const MAX_MESSAGE_BYTES: usize = 1_048_576;
/// Maximum length of a message group id and of a deduplication id.
const MAX_ID_CHARS: usize = 128;

/// Returns the error response to a `SendMessage` request that SQS refuses.
pub(crate) fn refusal(request: &Value) -> Option<ServiceResponse> {
    let body = request["MessageBody"].as_str().unwrap_or_default();
    let attributes = request["MessageAttributes"].as_object();
    let texts: Vec<&str> = attributes
        .into_iter()
        .flatten()
        .flat_map(|(name, value)| [Some(name.as_str()), value["DataType"].as_str(), value["StringValue"].as_str()])
        .flatten()
        .chain([body])
        .collect();
    if !texts.iter().all(|text| text.chars().all(is_allowed)) {
        let message = "Invalid characters were found in the message.";
        return Some(ServiceResponse::error("com.amazonaws.sqs#InvalidMessageContents", message));
    }
    let is_valid_id = |name: &str| {
        let id = request[name].as_str().unwrap_or_default();
        (1..=MAX_ID_CHARS).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let has_valid_size = (1..=MAX_MESSAGE_BYTES).contains(&texts.iter().map(|text| text.len()).sum());
    if has_valid_size && is_valid_id("MessageGroupId") && is_valid_id("MessageDeduplicationId") {
        return None;
    }
    let message = "A size or an id is invalid.";
    Some(ServiceResponse::error("com.amazonaws.sqs#InvalidParameterValueException", message))
}

const fn is_allowed(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | '\u{20}'..='\u{fffd}' | '\u{10000}'..)
}
