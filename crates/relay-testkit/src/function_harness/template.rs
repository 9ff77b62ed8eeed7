//! The environment that the translated template gives each function, every reference in it resolved.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

/// Region of the stack.
pub(super) const REGION: &str = "eu-west-1";

/// Name of the stack.
const STACK_NAME: &str = "relay";
/// The value of the one secret that CloudFormation reads.
const CONTACT_HASH_KEY: &str = "ADHLQ1zV8jCH4DwC0XbQGRt479vSFsB0";

/// A translated template.
#[derive(Debug)]
pub(super) struct Template(Value);

impl Template {
    pub(super) fn load(file: &Path) -> Self {
        let text = std::fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        Self(serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display())))
    }

    /// A function's variables; queues are at this address.
    pub(super) fn environment(&self, function: &str, queue_base_url: &str) -> BTreeMap<String, String> {
        let resources = self.0["Resources"].as_object().into_iter().flatten();
        let function_resource = resources
            .map(|(_, resource)| resource)
            .find(|resource| resource["Metadata"]["BuildProperties"]["Binary"] == function)
            .unwrap_or_else(|| panic!("the template has no function {function}"));
        let variables = function_resource["Properties"]["Environment"]["Variables"].as_object().into_iter().flatten();
        variables.map(|(name, value)| (name.clone(), self.resolve(value, queue_base_url))).collect()
    }

    fn resolve(&self, value: &Value, queue_base_url: &str) -> String {
        if let Some(text) = value.as_str() {
            return text.to_owned();
        }
        if let Some(text) = value["Fn::Sub"].as_str() {
            assert!(text.starts_with("{{resolve:secretsmanager:"), "not known here: {value}");
            return CONTACT_HASH_KEY.to_owned();
        }
        let Some(name) = value["Ref"].as_str() else { panic!("not known here: {value}") };
        if name == "AWS::StackName" {
            return STACK_NAME.to_owned();
        }
        match &self.0["Parameters"][name]["Default"] {
            Value::Null => {}
            Value::String(text) => return text.clone(),
            other => return other.to_string(),
        }
        match self.0["Resources"][name]["Type"].as_str() {
            Some("AWS::SecretsManager::Secret") => {
                format!("arn:aws:secretsmanager:{REGION}:123456789012:secret:relay/{name}-AbCdEf")
            }
            Some("AWS::SQS::Queue") => format!("{queue_base_url}/123456789012/relay-{name}.fifo"),
            Some("AWS::DynamoDB::Table") => format!("relay-{name}"),
            _ => panic!("{name} is not known here"),
        }
    }
}
