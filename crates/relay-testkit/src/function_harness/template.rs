//! The environment that the translated template gives each function, every reference in it resolved.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

/// Region of the stack.
pub(super) const REGION: &str = "eu-west-1";

/// Name of the stack.
const STACK_NAME: &str = "relay";
/// The last part of its id.
const STACK_UUID: &str = "5d24b521-7bae-41e6-a2d4-6aa1ba20d425";

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
        if let [index, parts] = value["Fn::Select"].as_array().map_or(&[][..], Vec::as_slice)
            && let [separator, text] = parts["Fn::Split"].as_array().map_or(&[][..], Vec::as_slice)
        {
            let (text, separator) = (self.resolve(text, queue_base_url), self.resolve(separator, queue_base_url));
            let index = index.as_u64().and_then(|index| usize::try_from(index).ok()).unwrap_or_default();
            return text.split(&separator).nth(index).unwrap_or_default().to_owned();
        }
        let Some(name) = value["Ref"].as_str() else { panic!("not known here: {value}") };
        match name {
            "AWS::StackName" => return STACK_NAME.to_owned(),
            "AWS::StackId" => {
                return format!("arn:aws:cloudformation:{REGION}:123456789012:stack/{STACK_NAME}/{STACK_UUID}");
            }
            _ => {}
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
