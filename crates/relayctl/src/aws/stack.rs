//! A stack in CloudFormation: its outputs and parameters.

use std::collections::BTreeMap;

use aws_sdk_cloudformation::Client;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata as _;
use relay_core::delivery::Direction;
use strum::{IntoStaticStr, VariantArray};

use crate::aws::error::Error;
use crate::aws::session::Session;

/// The outputs of the template, by their names there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantArray)]
pub(crate) enum StackOutput {
    ApiUrl,
    LoopsWebhookUrl,
    ClayContactUrl,
    ClayEventUrl,
    LoopsToClaySecretName,
    ClayToLoopsSecretName,
    ClayQueueUrl,
    ClayDeadLetterUrl,
    LoopsQueueUrl,
    LoopsDeadLetterUrl,
    LedgerTableName,
}

impl StackOutput {
    /// Returns the outputs with the queue of a direction and with its dead-letter queue.
    pub(crate) const fn queues(direction: Direction) -> (Self, Self) {
        match direction {
            Direction::LoopsToClay => (Self::ClayQueueUrl, Self::ClayDeadLetterUrl),
            Direction::ClayToLoops => (Self::LoopsQueueUrl, Self::LoopsDeadLetterUrl),
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Stack {
    pub(crate) name: String,
    /// Status as CloudFormation names it.
    pub(crate) status: String,
    outputs: BTreeMap<String, String>,
    parameters: BTreeMap<String, String>,
}

impl Stack {
    /// Reads the stack of this name.
    pub(crate) async fn find(session: &Session, name: &str) -> Result<Self, Error> {
        let call = session.call("cloudformation:DescribeStacks", name);
        let no_stack = || Error::NoStack { name: name.to_owned(), region: session.region().to_owned() };
        let response = Client::new(session.clients().config()).describe_stacks().stack_name(name).send().await;
        let response = response.map_err(|error| match &error {
            // CloudFormation has no code of its own for this (API reference, "DescribeStacks": errors).
            SdkError::ServiceError(service_error) if service_error.err().code() == Some("ValidationError") => {
                no_stack()
            }
            _ => call.to_error(&error).into(),
        })?;
        let stack = response.stacks.unwrap_or_default().into_iter().next().ok_or_else(no_stack)?;
        let outputs = stack.outputs.unwrap_or_default().into_iter();
        let parameters = stack.parameters.unwrap_or_default().into_iter();
        Ok(Self {
            name: stack.stack_name.unwrap_or_default(),
            status: stack.stack_status.map_or_else(String::new, |status| status.as_str().to_owned()),
            outputs: outputs.filter_map(|output| output.output_key.zip(output.output_value)).collect(),
            parameters: parameters
                .filter_map(|parameter| parameter.parameter_key.zip(parameter.parameter_value))
                .collect(),
        })
    }

    pub(crate) fn output(&self, output: StackOutput) -> Result<&str, Error> {
        let output: &'static str = output.into();
        let value = self.outputs.get(output).map(String::as_str);
        value.ok_or_else(|| Error::NoOutput { stack: self.name.clone(), output })
    }

    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// Returns the name of a function from that of its binary.
    pub(crate) fn function_name(&self, binary: &str) -> String {
        format!("{}-{binary}", self.name)
    }
}
