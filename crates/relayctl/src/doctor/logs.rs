//! What CloudWatch knows: the functions' last errors, and alarms.

use aws_sdk_cloudwatch::types::StateValue;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::check::Check;
use super::finding::Finding;
use crate::fault::Fault;
use crate::stack::FUNCTIONS;
use crate::target::StackTarget;

/// How far back the logs are read.
const WITHIN: SignedDuration = SignedDuration::from_hours(1);
/// How many pages of a log are read at the most.
const PAGES: usize = 10;
/// What an error's line has: the relay's own level, and what Lambda says of a function that failed (AWS, "Lambda logs").
const ERRORS: [&str; 3] = ["ERROR", "Task timed out", "Runtime.ExitError"];
/// The most characters of an error that are shown.
const CHARACTERS: usize = 120;

/// `function-errors`: what the functions logged as an error in the last hour.
pub async fn errors(target: &StackTarget) -> Finding {
    const CHECK: Check = Check::FunctionErrors;
    let mut found = Vec::new();
    for binary in FUNCTIONS {
        match errors_of(target, &target.stack.function(binary)).await {
            Ok((0, _)) => {}
            Ok((number, last)) => found.push(format!("{binary} {number}, the last: {last}")),
            Err(fault) => return Finding::of(CHECK, &fault),
        }
    }
    if found.is_empty() {
        return Finding::ok(CHECK, "none in the last hour");
    }
    let seen = format!("in the last hour: {}", found.join("; "));
    Finding::warn(CHECK, seen, "read the log with `sam logs` or in CloudWatch, and see the other findings")
}

async fn errors_of(target: &StackTarget, function: &str) -> Result<(usize, String), Fault> {
    let group = format!("/aws/lambda/{function}");
    let call = target.session.call("logs:FilterLogEvents", group.as_str());
    let since = Timestamp::now().checked_sub(WITHIN).unwrap_or_default().as_millisecond();
    let pattern = ERRORS.map(|error| format!("?\"{error}\"")).join(" ");
    let (mut number, mut last, mut from) = (0, String::new(), None);
    for _ in 0..PAGES {
        let request = target.session.logs().filter_log_events().log_group_name(&group).filter_pattern(&pattern);
        let answer = request.start_time(since).set_next_token(from).send().await.map_err(|fault| call.fault(&fault))?;
        for event in answer.events.unwrap_or_default() {
            let line = event.message.unwrap_or_default();
            if ERRORS.iter().any(|error| line.contains(error)) {
                number += 1;
                last = told(&line);
            }
        }
        from = answer.next_token;
        if from.is_none() {
            break;
        }
    }
    Ok((number, last))
}

/// An error in the relay's own words, which have nobody's data; of anything else only its kind.
fn told(line: &str) -> String {
    let fields: Value = serde_json::from_str(line).unwrap_or_default();
    let message = fields.get("message").and_then(Value::as_str);
    match message.filter(|_| fields.get("level").and_then(Value::as_str) == Some("ERROR")) {
        Some(message) => message.chars().filter(|letter| !letter.is_control()).take(CHARACTERS).collect(),
        None => ERRORS.iter().rev().find(|error| line.contains(**error)).map_or("an error", |error| error).to_owned(),
    }
}

/// `alarms`: none of the stack's alarms rings.
pub async fn alarms(target: &StackTarget) -> Finding {
    const CHECK: Check = Check::Alarms;
    let prefix = format!("{}-", target.stack.name);
    let call = target.session.call("cloudwatch:DescribeAlarms", prefix.as_str());
    let request = target.session.cloudwatch().describe_alarms().alarm_name_prefix(prefix);
    match request.state_value(StateValue::Alarm).send().await {
        Ok(answer) => {
            let alarms = answer.metric_alarms.unwrap_or_default();
            let ringing = alarms.into_iter().filter(|alarm| alarm.state_value == Some(StateValue::Alarm));
            let names: Vec<String> = ringing.filter_map(|alarm| alarm.alarm_name).collect();
            if names.is_empty() {
                return Finding::ok(CHECK, "none rings");
            }
            let to_do = "the description of each in CloudWatch says what it means; see the other findings";
            Finding::warn(CHECK, format!("ringing: {}", names.join(", ")), to_do)
        }
        Err(fault) => Finding::of(CHECK, &call.fault(&fault)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_in_the_relays_words_and_of_others_only_its_kind() {
        assert_eq!(
            told(r#"{"level":"ERROR","message":"the table cannot be written","x":"hidden"}"#),
            "the table cannot be written"
        );
        assert_eq!(told("2026-01-01 hidden Task timed out after 20.00 seconds"), "Task timed out");
        assert_eq!(told(r#"{"message":"hidden ERROR"}"#), "ERROR");
    }
}
