//! CloudWatch: the functions' last errors, and the alarms.

use aws_sdk_cloudwatch::types::StateValue;
use jiff::{SignedDuration, Timestamp};
use relay_doctor::check::Check;
use relay_doctor::finding::{Finding, list_names};
use serde_json::Value;

use crate::error::Error;
use crate::target::StackTarget;
use relay_aws::functions::FUNCTION_NAMES;

const LOOKBACK: SignedDuration = SignedDuration::from_hours(1);
const MAX_PAGES: usize = 10;
/// Patterns of an error: the relay's own level, and Lambda's words for a function that failed (AWS, "Lambda logs").
const ERROR_PATTERNS: [&str; 3] = ["ERROR", "Task timed out", "Runtime.ExitError"];
const MAX_CHARS: usize = 120;

/// `function-errors`: what the functions logged as an error in the last hour.
pub(crate) async fn check_function_errors(target: &StackTarget) -> Result<Finding, Error> {
    let mut per_function = Vec::new();
    for binary in FUNCTION_NAMES {
        let (count, last) = count_errors(target, &target.stack.function_name(binary)).await?;
        if count > 0 {
            per_function.push(format!("{binary} {count}, the last: {last}"));
        }
    }
    if per_function.is_empty() {
        return Ok(Check::FunctionErrors.ok("none in the last hour"));
    }
    let observed = format!("in the last hour: {}", per_function.join("; "));
    let remedy = "read the log with `sam logs` or in CloudWatch, and see the other findings";
    Ok(Check::FunctionErrors.warn(observed, remedy))
}

async fn count_errors(target: &StackTarget, function: &str) -> Result<(usize, String), Error> {
    let group = format!("/aws/lambda/{function}");
    let call = target.session.call("logs:FilterLogEvents", group.as_str());
    let since = Timestamp::now().checked_sub(LOOKBACK).unwrap_or_default().as_millisecond();
    let pattern = ERROR_PATTERNS.map(|error| format!("?\"{error}\"")).join(" ");
    let (mut count, mut last, mut next_token) = (0, String::new(), None);
    for _ in 0..MAX_PAGES {
        let request = target.session.logs().filter_log_events().log_group_name(&group).filter_pattern(&pattern);
        let response =
            request.start_time(since).set_next_token(next_token).send().await.map_err(|error| call.to_error(&error))?;
        for event in response.events.unwrap_or_default() {
            let line = event.message.unwrap_or_default();
            if ERROR_PATTERNS.iter().any(|error| line.contains(error)) {
                count += 1;
                last = safe_message(&line);
            }
        }
        next_token = response.next_token;
        if next_token.is_none() {
            break;
        }
    }
    Ok((count, last))
}

/// Returns the relay's own message, which has no personal data; of any other line only the pattern that matched.
fn safe_message(line: &str) -> String {
    let fields: Value = serde_json::from_str(line).unwrap_or_default();
    let message = fields.get("message").and_then(Value::as_str);
    match message.filter(|_| fields.get("level").and_then(Value::as_str) == Some("ERROR")) {
        Some(message) => message.chars().filter(|ch| !ch.is_control()).take(MAX_CHARS).collect(),
        None => ERROR_PATTERNS
            .iter()
            .rev()
            .find(|error| line.contains(**error))
            .map_or("an error", |error| error)
            .to_owned(),
    }
}

/// The alarms that every stack has, without its name.
const ESSENTIAL_ALARMS: [&str; 13] = [
    "clay-dead-letters",
    "clay-deliveries-wait",
    "loops-dead-letters",
    "loops-deliveries-wait",
    "clay-keeps-failing",
    "loops-keeps-failing",
    "clay-held",
    "loops-held",
    "clay-pool-nearly-used",
    "signatures-refused",
    "tokens-refused",
    "requests-fail",
    "functions-fail",
];

/// Those that a stack has besides, unless its parameter `Alarms` is `essential`.
const MORE_ALARMS: [&str; 7] = [
    "clay-new-dead-letter",
    "loops-new-dead-letter",
    "loops-key-refused",
    "clay-pool-used-up",
    "gateway-throttled",
    "secret-unreadable",
    "functions-throttled",
];

/// `alarms`: all alarms of the stack are there, and none rings. They are asked for by name, because the name of another
/// stack may begin with this one's.
pub(crate) async fn check_alarms(target: &StackTarget) -> Result<Finding, Error> {
    const CHECK: Check = Check::Alarms;
    let name = |alarm: &str| format!("{}-{alarm}", target.stack.name);
    let call = target.session.call("cloudwatch:DescribeAlarms", name("*"));
    let expected = expected_alarms(target.stack.parameter("Alarms"));
    let names = expected.iter().map(|alarm| name(alarm)).collect();
    let request = target.session.cloudwatch().describe_alarms().set_alarm_names(Some(names));
    let alarms = request.send().await.map_err(|error| call.to_error(&error))?.metric_alarms.unwrap_or_default();
    let find = |alarm: &str| alarms.iter().find(|known| known.alarm_name.as_deref() == Some(name(alarm).as_str()));
    let (present, missing): (Vec<&str>, Vec<&str>) = expected.into_iter().partition(|alarm| find(alarm).is_some());
    let is_ringing = |alarm: &str| find(alarm).is_some_and(|known| known.state_value == Some(StateValue::Alarm));
    let ringing: Vec<String> = present.into_iter().filter(|alarm| is_ringing(alarm)).map(str::to_owned).collect();
    let missing: Vec<String> = missing.into_iter().map(str::to_owned).collect();
    Ok(match (ringing.is_empty(), missing.is_empty()) {
        (true, true) => CHECK.ok("none rings"),
        (false, true) => CHECK.warn(
            format!("ringing: {}", ringing.join(", ")),
            "the description of each in CloudWatch says what it means; see the other findings",
        ),
        (true, false) => CHECK.warn(
            format!("not there, so it cannot ring: {}", list_names(&missing)),
            "bring them back, as the runbook says, or upgrade the stack with `make deploy`",
        ),
        (false, false) => CHECK.warn(
            format!("ringing: {}; not there: {}", list_names(&ringing), list_names(&missing)),
            "the description of each in CloudWatch says what it means; of those that are gone, see the runbook",
        ),
    })
}

/// Returns the alarms of a stack with this parameter. A stack of an earlier version has all, and no parameter.
fn expected_alarms(parameter: Option<&str>) -> Vec<&'static str> {
    let more = if parameter == Some("essential") { &[][..] } else { &MORE_ALARMS };
    ESSENTIAL_ALARMS.iter().chain(more).copied().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn alarm_lists_match_the_template() {
        let template = include_str!("../../../../../template.yaml");
        let alarms = template.split("    Type: AWS::CloudWatch::Alarm\n").skip(1).map(|alarm| {
            let name = alarm.split("AlarmName: !Sub ${AWS::StackName}-").nth(1).and_then(|rest| rest.lines().next());
            (alarm.starts_with("    Condition: HasAllAlarms\n"), name.unwrap())
        });
        let (more, essential): (Vec<_>, Vec<_>) = alarms.partition(|(is_conditional, _)| *is_conditional);
        let names =
            |alarms: Vec<(bool, &'static str)>| alarms.into_iter().map(|(_, name)| name).collect::<BTreeSet<_>>();
        assert_eq!(names(essential), ESSENTIAL_ALARMS.into());
        assert_eq!(names(more), MORE_ALARMS.into());
    }

    #[test]
    fn stack_is_expected_to_have_the_alarms_of_its_parameter() {
        assert_eq!(expected_alarms(Some("essential")), ESSENTIAL_ALARMS);
        assert_eq!([expected_alarms(Some("all")).len(), expected_alarms(None).len()], [20; 2]);
    }

    #[test]
    fn error_line_shows_relay_message_or_only_its_kind() {
        assert_eq!(
            safe_message(r#"{"level":"ERROR","message":"the table cannot be written","x":"hidden"}"#),
            "the table cannot be written"
        );
        assert_eq!(safe_message("2026-01-01 hidden Task timed out after 20.00 seconds"), "Task timed out");
        assert_eq!(safe_message(r#"{"message":"hidden ERROR"}"#), "ERROR");
    }
}
