//! The stack itself: its status, its outputs, and the version of its functions.

use aws_sdk_lambda::types::{LastUpdateStatus, State};
use relay_doctor::check::Check;
use relay_doctor::finding::Finding;
use strum::VariantArray as _;

use crate::aws::stack::StackOutput;
use crate::error::Error;
use crate::target::StackTarget;
use relay_aws::functions::FUNCTION_NAMES;

/// Environment variable with the version of a function.
const RELAY_VERSION: &str = "RELAY_VERSION";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// `stack`: it is deployed as a whole.
pub(crate) fn check_stack(target: &StackTarget) -> Finding {
    finding_for_status(&target.stack.name, &target.stack.status)
}

/// Rates a status (CloudFormation, "Stack status codes").
fn finding_for_status(name: &str, status: &str) -> Finding {
    let observed = format!("{name} is {status}");
    let delete = format!("`aws cloudformation delete-stack --stack-name {name}`");
    let remedy = match status {
        "CREATE_COMPLETE" | "UPDATE_COMPLETE" | "IMPORT_COMPLETE" | "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS" => {
            return Check::Stack.ok(observed);
        }
        "UPDATE_ROLLBACK_COMPLETE" | "IMPORT_ROLLBACK_COMPLETE" => {
            let remedy = "the last change was taken back: look at its events in CloudFormation, and deploy again";
            return Check::Stack.warn(observed, remedy);
        }
        "REVIEW_IN_PROGRESS" => "nothing of it was made yet: deploy it with `make deploy`".to_owned(),
        status if status.ends_with("_IN_PROGRESS") => {
            return Check::Stack.warn(observed, "it is being changed: run doctor again when that is done");
        }
        "CREATE_FAILED" | "ROLLBACK_COMPLETE" | "ROLLBACK_FAILED" => {
            format!("look at its events in CloudFormation, delete it ({delete}), and deploy anew with `make deploy`")
        }
        "DELETE_FAILED" | "DELETE_COMPLETE" => {
            format!("look at its events in CloudFormation, and delete what is left of it: {delete}")
        }
        "UPDATE_ROLLBACK_FAILED" => format!(
            "mend what its events in CloudFormation say, run `aws cloudformation continue-update-rollback \
             --stack-name {name}`, and then `make deploy`"
        ),
        _ => "look at its events in CloudFormation, and deploy it again with `make deploy`".to_owned(),
    };
    Check::Stack.fail(observed, remedy)
}

/// `outputs`: the stack has all outputs of the template.
pub(crate) fn check_outputs(target: &StackTarget) -> Finding {
    let missing = StackOutput::VARIANTS.iter().filter(|output| target.stack.output(**output).is_err());
    let missing: Vec<&str> = missing.map(Into::into).collect();
    if missing.is_empty() {
        return Check::Outputs.ok(format!("all {} are there", StackOutput::VARIANTS.len()));
    }
    let observed = format!("missing: {}", missing.join(", "));
    Check::Outputs.fail(observed, format!("deploy version {VERSION} of the template with `make deploy`"))
}

/// `versions`: every function is there, was updated, and has the version of this program.
pub(crate) async fn check_versions(target: &StackTarget) -> Result<Finding, Error> {
    let mut mismatches = Vec::new();
    for binary in FUNCTION_NAMES {
        let configuration = target.function_configuration(binary).await?;
        let failed = matches!(configuration.state, Some(State::Failed))
            || matches!(configuration.last_update_status, Some(LastUpdateStatus::Failed));
        if failed {
            let observed = format!("{} could not be updated", target.stack.function_name(binary));
            return Ok(Check::Versions.fail(observed, "deploy it again with `make deploy`"));
        }
        let variables = configuration.environment.and_then(|environment| environment.variables).unwrap_or_default();
        let version = variables.get(RELAY_VERSION).cloned().unwrap_or_else(|| "an unknown version".to_owned());
        if version != VERSION {
            mismatches.push(format!("{binary} has {version}"));
        }
    }
    if mismatches.is_empty() {
        return Ok(Check::Versions.ok(format!("the functions and relayctl are {VERSION}")));
    }
    let observed = format!("relayctl is {VERSION}, but {}", mismatches.join(", "));
    let remedy = "deploy this version with `make deploy`, or use the relayctl of that one";
    Ok(Check::Versions.warn(observed, remedy))
}

#[cfg(test)]
mod tests {
    use super::*;
    use relay_doctor::finding::Severity;

    #[test]
    fn stack_status_maps_to_severity() {
        for (code, severity) in [
            ("CREATE_COMPLETE", Severity::Ok),
            ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", Severity::Ok),
            ("UPDATE_IN_PROGRESS", Severity::Warn),
            ("UPDATE_ROLLBACK_COMPLETE", Severity::Warn),
            ("ROLLBACK_COMPLETE", Severity::Fail),
            ("UPDATE_ROLLBACK_FAILED", Severity::Fail),
            ("UPDATE_FAILED", Severity::Fail),
            ("REVIEW_IN_PROGRESS", Severity::Fail),
        ] {
            assert_eq!(finding_for_status("relay", code).severity, severity, "{code}");
        }
    }

    #[test]
    fn undeployable_status_is_deleted_or_rolled_back_first() {
        for (code, first) in [
            ("CREATE_FAILED", "delete-stack --stack-name relay"),
            ("ROLLBACK_COMPLETE", "delete-stack --stack-name relay"),
            ("ROLLBACK_FAILED", "delete-stack --stack-name relay"),
            ("UPDATE_ROLLBACK_FAILED", "continue-update-rollback --stack-name relay"),
            ("UPDATE_FAILED", "events"),
        ] {
            let remedy = finding_for_status("relay", code).remedy.unwrap();
            assert!(remedy.find(first).unwrap() < remedy.find("`make deploy`").unwrap(), "{code}: {remedy}");
        }
        assert!(!finding_for_status("relay", "DELETE_FAILED").remedy.unwrap().contains("make deploy"));
    }
}
