//! What the template promises, read from what is made of it.

use std::collections::BTreeSet;

use relay_testkit::lambda_fake::stack::{Stack, array, expect_str, template};
use serde_json::{Value, json};

async fn stack() -> Value {
    Stack::create().await.description().clone()
}

fn all<'a>(stack: &'a Value, kind: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    stack[kind].as_object().into_iter().flatten()
}

fn seconds(value: &Value) -> u64 {
    expect_str(value).parse().unwrap()
}

#[tokio::test]
async fn each_function_has_a_role_of_its_own_that_names_exact_resources() {
    let stack = stack().await;
    let roles: BTreeSet<&str> = all(&stack, "functions").map(|(_, function)| expect_str(&function["role"])).collect();
    assert_eq!(roles.len(), 5);
    for (name, role) in all(&stack, "roles") {
        assert!(array(&role["managed_policies"]).next().is_none(), "{name}");
        for statement in array(&role["statements"]) {
            for action in array(&statement["actions"]) {
                assert!(!expect_str(action).contains('*'), "{name}: {action}");
            }
            for resource in array(&statement["resources"]) {
                // The streams of its own log group, which Lambda names.
                let exact = expect_str(resource).trim_end_matches(":*");
                assert!(exact.starts_with("arn:aws:") && !exact.contains('*'), "{name}: {resource}");
            }
        }
    }
}

#[tokio::test]
async fn every_function_is_the_binary_of_its_name_on_the_newest_runtime() {
    let stack = stack().await;
    let names: BTreeSet<&str> = all(&stack, "functions").map(|(name, _)| name.as_str()).collect();
    let expected = ["clay-delivery", "clay-to-loops-contact", "clay-to-loops-event", "loops-delivery", "loops-to-clay"];
    assert_eq!(names, expected.into());
    for (name, function) in all(&stack, "functions") {
        assert_eq!(
            (expect_str(&function["binary"]), expect_str(&function["runtime"])),
            (name.as_str(), "provided.al2023")
        );
        assert_eq!((function["memory"].as_u64(), expect_str(&function["architectures"][0])), (Some(128), "arm64"));
        // Should a library look for the system's certificates, it reads one file instead of a folder.
        assert_eq!(function["environment"]["SSL_CERT_FILE"], "/etc/pki/tls/certs/ca-bundle.crt", "{name}");
        assert_eq!(function["logging"]["LogFormat"], "JSON", "{name}");
        // By it, relayctl tells which version is deployed.
        assert_eq!(function["environment"]["RELAY_VERSION"], env!("CARGO_PKG_VERSION"), "{name}");
        let group = &function["logging"]["LogGroup"];
        assert!(all(&stack, "log_groups").any(|(_, known)| known["name"] == *group), "{name}: {group}");
    }
    for (name, group) in all(&stack, "log_groups") {
        assert!(group["retention_days"].as_u64().is_some_and(|days| days > 0), "{name}");
    }
}

#[tokio::test]
async fn the_three_routes_lead_to_their_functions() {
    let stack = stack().await;
    let mut routes: Vec<[&str; 3]> = array(&stack["routes"])
        .map(|route| [expect_str(&route["method"]), expect_str(&route["path"]), expect_str(&route["function"])])
        .collect();
    routes.sort_unstable();
    let expected = [
        ["POST", "/api/v1/events/send", "clay-to-loops-event"],
        ["POST", "/webhooks/loops", "loops-to-clay"],
        ["PUT", "/api/v1/contacts/update", "clay-to-loops-contact"],
    ];
    assert_eq!(routes, expected);
    for stage in array(&stack["stages"]) {
        assert!(
            stage["throttling"]["ThrottlingRateLimit"].is_number()
                || stage["throttling"]["ThrottlingRateLimit"].is_string()
        );
        let format = expect_str(&stage["access_log"]["format"]);
        for private in ["$context.path", "querystring", "header", "body", "authorizer"] {
            assert!(!format.contains(private), "{private} in {format}");
        }
    }
}

#[tokio::test]
async fn queues_keep_what_waits_for_as_long_as_the_contract_says() {
    let stack = stack().await;
    for source in array(&stack["event_sources"]) {
        let queue = &stack["queues"][expect_str(&source["queue"])];
        let function = &stack["functions"][expect_str(&source["function"])];
        let visibility = seconds(&queue["attributes"]["VisibilityTimeout"]);
        assert!(visibility >= 6 * function["timeout"].as_u64().unwrap(), "AWS asks for six times the timeout");
        assert_eq!(queue["attributes"]["FifoQueue"], "true");
        assert_eq!(seconds(&queue["attributes"]["MessageRetentionPeriod"]), 14 * 86_400);
        // A delivery that is held is received once a minute for a quarter of an hour, then every fifteen minutes.
        let receives = queue["redrive"]["max_receive_count"].as_u64().unwrap();
        assert!((15 + 10 * 24 * 4..=1000).contains(&receives), "{receives} receives are fewer than ten days have");
        let dead = &stack["queues"][expect_str(&queue["redrive"]["dead_letters"])];
        assert_eq!(seconds(&dead["attributes"]["MessageRetentionPeriod"]), 14 * 86_400);
        assert_eq!(
            (source["maximum_concurrency"].as_u64(), &source["report_batch_item_failures"]),
            (Some(2), &Value::Bool(true))
        );
    }
    for (name, queue) in all(&stack, "queues") {
        assert_eq!(queue["attributes"]["SqsManagedSseEnabled"], "true", "{name} is encrypted");
    }
}

#[tokio::test]
async fn the_ledger_forgets_in_time_and_can_be_restored() {
    let stack = stack().await;
    let ledger = &stack["tables"]["Ledger"];
    assert_eq!((&ledger["billing"], &ledger["ttl"]), (&"PAY_PER_REQUEST".into(), &"expires_at".into()));
    assert_eq!((&ledger["point_in_time_recovery"], &ledger["encryption"]), (&"ENABLED".into(), &"ENABLED".into()));
}

#[tokio::test]
async fn the_relay_token_is_generated_and_everything_else_a_placeholder() {
    let stack = stack().await;
    let secrets = &stack["secrets"];
    let token = expect_str(&secrets["ClayToLoopsSecret"]["document"]["relay_tokens"]);
    assert!(token.len() >= 32 && token.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{} characters", token.len());
    assert!(expect_str(&secrets["ClayToLoopsSecret"]["document"]["loops_api_key"]).starts_with("REPLACE"));
    let loops = &secrets["LoopsToClaySecret"]["document"];
    assert!(expect_str(&loops["loops_signing_secrets"][0]).starts_with("REPLACE"));
    assert!(expect_str(&loops["clay_routes"][0]["webhooks"][0]["url"]).starts_with("REPLACE"));
}

#[test]
fn no_update_of_the_stack_writes_over_what_a_person_has_filled_in() {
    // CloudFormation writes a value again only where its text has changed: so nothing in it may come from a parameter.
    let template = template();
    let parameters: Vec<&String> = all(&template, "Parameters").map(|(name, _)| name).collect();
    assert!(!parameters.is_empty());
    for (name, resource) in
        all(&template, "Resources").filter(|(_, each)| each["Type"] == "AWS::SecretsManager::Secret")
    {
        let properties = resource["Properties"].to_string();
        for parameter in &parameters {
            let (taken, put_in) = (format!("\"{parameter}\""), format!("${{{parameter}}}"));
            assert!(!properties.contains(&taken) && !properties.contains(&put_in), "{name} has {parameter}");
        }
    }
}

#[tokio::test]
async fn outputs_give_the_three_urls_and_the_names_of_the_secrets() {
    let stack = stack().await;
    let outputs = &stack["outputs"];
    for (output, path) in [
        ("LoopsWebhookUrl", "/webhooks/loops"),
        ("ClayContactUrl", "/api/v1/contacts/update"),
        ("ClayEventUrl", "/api/v1/events/send"),
    ] {
        let url = expect_str(&outputs[output]);
        assert!(url.starts_with("https://") && url.ends_with(path), "{url}");
    }
    assert_eq!(outputs["LoopsToClaySecretName"], stack["secrets"]["LoopsToClaySecret"]["name"]);
    assert_eq!(outputs["ClayToLoopsSecretName"], stack["secrets"]["ClayToLoopsSecret"]["name"]);
}

#[tokio::test]
async fn alarms_watch_every_queue_and_every_dead_letter() {
    let stack = stack().await;
    for (name, queue) in all(&stack, "queues") {
        let watched = all(&stack, "alarms")
            .any(|(_, alarm)| array(&alarm["Dimensions"]).any(|dimension| dimension["Value"] == queue["name"]));
        assert!(watched, "{name} has no alarm");
    }
}

#[test]
fn tracing_is_a_parameter_and_the_right_to_it_goes_with_it() {
    let template = template();
    assert_eq!(template["Parameters"]["Tracing"]["Default"], "PassThrough");
    assert_eq!(template["Conditions"]["IsTraced"], json!({"Fn::Equals": [{"Ref": "Tracing"}, "Active"]}));
    let of = |kind: &'static str| all(&template, "Resources").filter(move |(_, each)| each["Type"] == kind);
    for (name, function) in of("AWS::Lambda::Function") {
        assert_eq!(function["Properties"]["TracingConfig"]["Mode"], json!({"Ref": "Tracing"}), "{name}");
    }
    assert_eq!(of("AWS::IAM::Role").count(), 5);
    for (name, role) in of("AWS::IAM::Role") {
        let mut statements = array(&role["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]);
        let [condition, traced, otherwise] =
            array(&statements.find(|each| each.get("Fn::If").is_some()).unwrap()["Fn::If"]).collect::<Vec<_>>()[..]
        else {
            panic!("{name}");
        };
        assert_eq!((condition, otherwise), (&json!("IsTraced"), &json!({"Ref": "AWS::NoValue"})), "{name}");
        assert_eq!(traced["Action"], json!(["xray:PutTraceSegments", "xray:PutTelemetryRecords"]), "{name}");
    }
}
