//! The stack itself: its status, its outputs, and the version of its functions.

use aws_sdk_lambda::types::{LastUpdateStatus, State};

use crate::aws::stack::{FUNCTIONS, StackOutput};
use crate::doctor::check::Check;
use crate::doctor::finding::Finding;
use crate::target::StackTarget;

/// The variable by which a function says its version.
const RELAY_VERSION: &str = "RELAY_VERSION";
/// The version of this program.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// `stack`: it is deployed, as a whole.
#[must_use]
pub fn stack(target: &StackTarget) -> Finding {
    status(&target.stack.name, &target.stack.status)
}

/// What a status means (CloudFormation, "Stack status codes").
fn status(name: &str, status: &str) -> Finding {
    let seen = format!("{name} is {status}");
    match status {
        "CREATE_COMPLETE" | "UPDATE_COMPLETE" | "IMPORT_COMPLETE" | "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS" => {
            Finding::ok(Check::Stack, seen)
        }
        "UPDATE_ROLLBACK_COMPLETE" | "IMPORT_ROLLBACK_COMPLETE" => Finding::warn(
            Check::Stack,
            seen,
            "the last change was taken back: look at its events in CloudFormation, and deploy again",
        ),
        "REVIEW_IN_PROGRESS" => {
            Finding::fail(Check::Stack, seen, "nothing of it was made yet: deploy it with `make deploy`")
        }
        status if status.ends_with("_IN_PROGRESS") => {
            Finding::warn(Check::Stack, seen, "it is being changed: run doctor again when that is done")
        }
        "CREATE_FAILED" | "ROLLBACK_COMPLETE" | "ROLLBACK_FAILED" => Finding::fail(
            Check::Stack,
            seen,
            format!(
                "look at its events in CloudFormation, delete it ({}), and deploy anew with `make deploy`",
                delete(name)
            ),
        ),
        "DELETE_FAILED" | "DELETE_COMPLETE" => Finding::fail(
            Check::Stack,
            seen,
            format!("look at its events in CloudFormation, and delete what is left of it: {}", delete(name)),
        ),
        "UPDATE_ROLLBACK_FAILED" => Finding::fail(
            Check::Stack,
            seen,
            format!(
                "mend what its events in CloudFormation say, run `aws cloudformation continue-update-rollback --stack-name {name}`, and then `make deploy`"
            ),
        ),
        _ => Finding::fail(
            Check::Stack,
            seen,
            "look at its events in CloudFormation, and deploy it again with `make deploy`",
        ),
    }
}

fn delete(name: &str) -> String {
    format!("`aws cloudformation delete-stack --stack-name {name}`")
}

/// `outputs`: the stack says where everything is.
#[must_use]
pub fn outputs(target: &StackTarget) -> Finding {
    let missing: Vec<&str> = StackOutput::ALL
        .into_iter()
        .filter(|output| target.stack.output(*output).is_err())
        .map(StackOutput::name)
        .collect();
    if missing.is_empty() {
        return Finding::ok(Check::Outputs, format!("all {} are there", StackOutput::ALL.len()));
    }
    let seen = format!("missing: {}", missing.join(", "));
    Finding::fail(Check::Outputs, seen, format!("deploy version {VERSION} of the template with `make deploy`"))
}

/// `versions`: every function is there, could be updated, and has the version of this program.
pub async fn versions(target: &StackTarget) -> Finding {
    let mut others = Vec::new();
    for binary in FUNCTIONS {
        let name = target.stack.function(binary);
        let call = target.session.call("lambda:GetFunctionConfiguration", name.as_str());
        let answer = target.session.lambda().get_function_configuration().function_name(&name).send().await;
        let known = match answer {
            Ok(known) => known,
            Err(error) => return Finding::of(Check::Versions, &call.to_error(&error)),
        };
        let failed = matches!(known.state, Some(State::Failed))
            || matches!(known.last_update_status, Some(LastUpdateStatus::Failed));
        if failed {
            return Finding::fail(
                Check::Versions,
                format!("{name} could not be updated"),
                "deploy it again with `make deploy`",
            );
        }
        let variables = known.environment.and_then(|environment| environment.variables).unwrap_or_default();
        let version = variables.get(RELAY_VERSION).cloned().unwrap_or_else(|| "an unknown version".to_owned());
        if version != VERSION {
            others.push(format!("{binary} has {version}"));
        }
    }
    if others.is_empty() {
        return Finding::ok(Check::Versions, format!("the functions and relayctl are {VERSION}"));
    }
    let seen = format!("relayctl is {VERSION}, but {}", others.join(", "));
    Finding::warn(Check::Versions, seen, "deploy this version with `make deploy`, or use the relayctl of that one")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Severity;

    #[test]
    fn a_stack_that_is_being_changed_or_was_not_made_is_named() {
        for (code, outcome) in [
            ("CREATE_COMPLETE", Severity::Ok),
            ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", Severity::Ok),
            ("UPDATE_IN_PROGRESS", Severity::Warn),
            ("UPDATE_ROLLBACK_COMPLETE", Severity::Warn),
            ("ROLLBACK_COMPLETE", Severity::Fail),
            ("UPDATE_ROLLBACK_FAILED", Severity::Fail),
            ("UPDATE_FAILED", Severity::Fail),
            ("REVIEW_IN_PROGRESS", Severity::Fail),
        ] {
            assert_eq!(status("relay", code).outcome, outcome, "{code}");
        }
    }

    #[test]
    fn what_cloudformation_does_not_deploy_onto_is_deleted_or_rolled_back_first() {
        for (code, first) in [
            ("CREATE_FAILED", "delete-stack --stack-name relay"),
            ("ROLLBACK_COMPLETE", "delete-stack --stack-name relay"),
            ("ROLLBACK_FAILED", "delete-stack --stack-name relay"),
            ("UPDATE_ROLLBACK_FAILED", "continue-update-rollback --stack-name relay"),
            ("UPDATE_FAILED", "events"),
        ] {
            let to_do = status("relay", code).remedy.unwrap();
            assert!(to_do.find(first).unwrap() < to_do.find("`make deploy`").unwrap(), "{code}: {to_do}");
        }
        assert!(!status("relay", "DELETE_FAILED").remedy.unwrap().contains("make deploy"));
    }
}
