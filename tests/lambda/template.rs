//! Properties of the template, checked in the stack that is created from it.

use std::collections::BTreeSet;

use relay_testkit::lambda_fake::stack::{Stack, array, expect_str, template};
use serde_json::{Value, json};

async fn stack() -> Value {
    Stack::create().await.description().clone()
}

fn entries<'a>(stack: &'a Value, kind: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    stack[kind].as_object().into_iter().flatten()
}

fn parse_seconds(value: &Value) -> u64 {
    expect_str(value).parse().unwrap()
}

#[tokio::test]
async fn each_function_has_its_own_role_with_exact_resources() {
    let stack = stack().await;
    let roles: BTreeSet<&str> =
        entries(&stack, "functions").map(|(_, function)| expect_str(&function["role"])).collect();
    assert_eq!(roles.len(), 6);
    for (name, role) in entries(&stack, "roles") {
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
async fn functions_use_their_own_binary_on_the_newest_runtime() {
    let stack = stack().await;
    let names: BTreeSet<&str> = entries(&stack, "functions").map(|(name, _)| name.as_str()).collect();
    let expected = [
        "clay-delivery",
        "clay-to-loops-api",
        "clay-to-loops-contact",
        "clay-to-loops-event",
        "loops-delivery",
        "loops-to-clay",
    ];
    assert_eq!(names, expected.into());
    for (name, function) in entries(&stack, "functions") {
        assert_eq!(
            (expect_str(&function["binary"]), expect_str(&function["runtime"])),
            (name.as_str(), "provided.al2023")
        );
        assert_eq!((function["memory"].as_u64(), expect_str(&function["architectures"][0])), (Some(128), "arm64"));
        // A library that looks for the system's certificates reads one file instead of a folder.
        assert_eq!(function["environment"]["SSL_CERT_FILE"], "/etc/pki/tls/certs/ca-bundle.crt", "{name}");
        assert_eq!(function["logging"]["LogFormat"], "JSON", "{name}");
        assert_eq!(function["logging"]["SystemLogLevel"], "WARN", "{name}");
        // relayctl reads the deployed version from it.
        assert_eq!(function["environment"]["RELAY_VERSION"], env!("CARGO_PKG_VERSION"), "{name}");
        let group = &function["logging"]["LogGroup"];
        assert!(entries(&stack, "log_groups").any(|(_, log_group)| log_group["name"] == *group), "{name}: {group}");
    }
    for (name, group) in entries(&stack, "log_groups") {
        assert!(group["retention_days"].as_u64().is_some_and(|days| days > 0), "{name}");
    }
}

#[tokio::test]
async fn routes_lead_to_their_functions() {
    let stack = stack().await;
    let mut routes: Vec<[&str; 3]> = array(&stack["routes"])
        .map(|route| [expect_str(&route["method"]), expect_str(&route["path"]), expect_str(&route["function"])])
        .collect();
    routes.sort_unstable();
    let expected = [
        ["GET", "/api/v1/api-key", "clay-to-loops-api"],
        ["GET", "/api/v1/contacts/find", "clay-to-loops-api"],
        ["GET", "/api/v1/contacts/properties", "clay-to-loops-api"],
        ["GET", "/api/v1/contacts/suppression", "clay-to-loops-api"],
        ["GET", "/api/v1/deliveries/{deliveryId}", "clay-to-loops-api"],
        ["GET", "/api/v1/lists", "clay-to-loops-api"],
        ["GET", "/api/v1/transactional", "clay-to-loops-api"],
        ["POST", "/api/v1/contacts/create", "clay-to-loops-api"],
        ["POST", "/api/v1/contacts/delete", "clay-to-loops-api"],
        ["POST", "/api/v1/events/send", "clay-to-loops-event"],
        ["POST", "/api/v1/transactional", "clay-to-loops-api"],
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
async fn queue_retention_and_receive_limits_match_the_contract() {
    let stack = stack().await;
    for source in array(&stack["event_sources"]) {
        let queue = &stack["queues"][expect_str(&source["queue"])];
        let function = &stack["functions"][expect_str(&source["function"])];
        let visibility = parse_seconds(&queue["attributes"]["VisibilityTimeout"]);
        assert!(visibility >= 6 * function["timeout"].as_u64().unwrap(), "AWS asks for six times the timeout");
        assert_eq!(queue["attributes"]["FifoQueue"], "true");
        assert_eq!(parse_seconds(&queue["attributes"]["MessageRetentionPeriod"]), 14 * 86_400);
        // A delivery that is held is received once a minute for a quarter of an hour, then every fifteen minutes.
        let receives = queue["redrive"]["max_receive_count"].as_u64().unwrap();
        assert!((15 + 10 * 24 * 4..=1000).contains(&receives), "{receives} receives are fewer than ten days have");
        let dead_letter_queue = &stack["queues"][expect_str(&queue["redrive"]["dead_letters"])];
        assert_eq!(parse_seconds(&dead_letter_queue["attributes"]["MessageRetentionPeriod"]), 14 * 86_400);
        assert_eq!(
            (source["maximum_concurrency"].as_u64(), &source["report_batch_item_failures"]),
            (Some(2), &Value::Bool(true))
        );
    }
    for (name, queue) in entries(&stack, "queues") {
        assert_eq!(queue["attributes"]["SqsManagedSseEnabled"], "true", "{name} is encrypted");
    }
}

#[tokio::test]
async fn ledger_expires_items_and_has_point_in_time_recovery() {
    let stack = stack().await;
    let ledger = &stack["tables"]["Ledger"];
    assert_eq!((&ledger["billing"], &ledger["ttl"]), (&"PAY_PER_REQUEST".into(), &"expires_at".into()));
    assert_eq!((&ledger["point_in_time_recovery"], &ledger["encryption"]), (&"ENABLED".into(), &"ENABLED".into()));
}

#[tokio::test]
async fn relay_token_is_generated_and_other_secrets_placeholders() {
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
fn stack_update_overwrites_no_secret_value() {
    // CloudFormation writes a value again only if its text has changed, so nothing in it may come from a parameter.
    let template = template();
    let parameters: Vec<&String> = entries(&template, "Parameters").map(|(name, _)| name).collect();
    assert!(!parameters.is_empty());
    for (name, resource) in
        entries(&template, "Resources").filter(|(_, resource)| resource["Type"] == "AWS::SecretsManager::Secret")
    {
        let properties = resource["Properties"].to_string();
        for parameter in &parameters {
            let (reference, substitution) = (format!("\"{parameter}\""), format!("${{{parameter}}}"));
            assert!(!properties.contains(&reference) && !properties.contains(&substitution), "{name} has {parameter}");
        }
    }
}

#[tokio::test]
async fn outputs_list_urls_and_secret_names() {
    let stack = stack().await;
    let outputs = &stack["outputs"];
    for (output, path) in [
        ("LoopsWebhookUrl", "/webhooks/loops"),
        ("ClayContactUrl", "/api/v1/contacts/update"),
        ("ClayEventUrl", "/api/v1/events/send"),
        ("ClayDeliveryUrl", "/api/v1/deliveries/"),
    ] {
        let url = expect_str(&outputs[output]);
        assert!(url.starts_with("https://") && url.ends_with(path), "{url}");
    }
    assert_eq!(outputs["LoopsToClaySecretName"], stack["secrets"]["LoopsToClaySecret"]["name"]);
    assert_eq!(outputs["ClayToLoopsSecretName"], stack["secrets"]["ClayToLoopsSecret"]["name"]);
}

#[tokio::test]
async fn every_queue_and_dead_letter_queue_has_an_alarm() {
    let stack = stack().await;
    let template = template();
    let is_essential = |name: &str| template["Resources"][name]["Condition"].is_null();
    for (name, queue) in entries(&stack, "queues") {
        let watched = entries(&stack, "alarms")
            .filter(|(alarm, _)| is_essential(alarm))
            .any(|(_, alarm)| array(&alarm["Dimensions"]).any(|dimension| dimension["Value"] == queue["name"]));
        assert!(watched, "{name} has no alarm");
    }
}

#[test]
fn alarms_and_dashboard_that_cost_more_are_off_by_default() {
    let template = template();
    let parameters = &template["Parameters"];
    assert_eq!((&parameters["Alarms"]["AllowedValues"]), &json!(["essential", "all"]));
    assert_eq!(template["Conditions"]["HasAllAlarms"], json!({"Fn::Equals": [{"Ref": "Alarms"}, "all"]}));
    assert_eq!(template["Conditions"]["HasDashboard"], json!({"Fn::Equals": [{"Ref": "CloudWatchDashboard"}, "on"]}));
    let dashboard = [&template["Resources"]["Dashboard"], &template["Outputs"]["DashboardUrl"]];
    assert!(dashboard.iter().all(|part| part["Condition"] == "HasDashboard"), "{dashboard:?}");
    let alarms = || entries(&template, "Resources").filter(|(_, each)| each["Type"] == "AWS::CloudWatch::Alarm");
    let essential = alarms().filter(|(_, alarm)| alarm["Condition"].is_null());
    assert!(alarms().all(|(_, alarm)| alarm["Condition"].is_null() || alarm["Condition"] == "HasAllAlarms"));
    // CloudWatch charges for each metric of an alarm.
    let metrics = essential.map(|(_, alarm)| {
        array(&alarm["Properties"]["Metrics"]).filter(|part| part["MetricStat"].is_object()).count().max(1)
    });
    assert_eq!(metrics.sum::<usize>(), 16);
}

#[test]
fn tracing_parameter_also_grants_the_xray_permission() {
    let template = template();
    assert_eq!(template["Parameters"]["Tracing"]["Default"], "PassThrough");
    assert_eq!(template["Conditions"]["IsTraced"], json!({"Fn::Equals": [{"Ref": "Tracing"}, "Active"]}));
    let resources_of_type =
        |kind: &'static str| entries(&template, "Resources").filter(move |(_, resource)| resource["Type"] == kind);
    for (name, function) in resources_of_type("AWS::Lambda::Function") {
        assert_eq!(function["Properties"]["TracingConfig"]["Mode"], json!({"Ref": "Tracing"}), "{name}");
    }
    assert_eq!(resources_of_type("AWS::IAM::Role").count(), 6);
    for (name, role) in resources_of_type("AWS::IAM::Role") {
        let mut statements = array(&role["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]);
        let [condition, traced, untraced] =
            array(&statements.find(|resource| resource.get("Fn::If").is_some()).unwrap()["Fn::If"]).collect::<Vec<_>>()
                [..]
        else {
            panic!("{name}");
        };
        assert_eq!((condition, untraced), (&json!("IsTraced"), &json!({"Ref": "AWS::NoValue"})), "{name}");
        assert_eq!(traced["Action"], json!(["xray:PutTraceSegments", "xray:PutTelemetryRecords"]), "{name}");
    }
}

#[test]
fn what_holds_data_says_what_becomes_of_it() {
    let template = template();
    let holds_data = ["AWS::SQS::Queue", "AWS::SecretsManager::Secret", "AWS::DynamoDB::Table"];
    let mut count = 0;
    for (name, resource) in
        entries(&template, "Resources").filter(|(_, resource)| holds_data.contains(&expect_str(&resource["Type"])))
    {
        // A retained one would stop the next stack of the name.
        assert_eq!(
            (&resource["DeletionPolicy"], &resource["UpdateReplacePolicy"]),
            (&json!("Delete"), &json!("Retain")),
            "{name}"
        );
        count += 1;
    }
    assert_eq!(count, 4 + 3 + 1);
}

#[tokio::test]
async fn queues_and_secrets_refuse_plain_http() {
    let stack = stack().await;
    for (name, resource) in entries(&stack, "queues").chain(entries(&stack, "secrets")) {
        let statement = &resource["policy"]["Statement"][0];
        assert_eq!((&statement["Effect"], &statement["Principal"]), (&json!("Deny"), &json!("*")), "{name}");
        assert_eq!(statement["Condition"], json!({"Bool": {"aws:SecureTransport": "false"}}), "{name}");
    }
}

#[tokio::test]
async fn each_role_reaches_only_its_items_of_the_ledger() {
    let stack = stack().await;
    for (name, role) in entries(&stack, "roles") {
        let on_table =
            |statement: &&Value| array(&statement["actions"]).any(|it| expect_str(it).starts_with("dynamodb:"));
        for statement in array(&role["statements"]).filter(on_table) {
            let keys = &statement["condition"]["ForAllValues:StringLike"]["dynamodb:LeadingKeys"];
            let keys: BTreeSet<&str> = array(keys).map(expect_str).collect();
            let limiter = if name == "ClayDeliveryRole" { "pace#clay" } else { "pace#loops" };
            assert!(keys.contains(limiter) && keys.contains("delivery#*"), "{name}: {keys:?}");
            assert_eq!(keys.iter().filter(|key| key.starts_with("pace#")).count(), 1, "{name}: {keys:?}");
            assert_eq!(keys.contains("webhook#*"), name == "ClayDeliveryRole", "{name}: {keys:?}");
        }
    }
}

#[test]
fn every_role_takes_the_permissions_boundary() {
    let template = template();
    let expected =
        json!({"Fn::If": ["HasPermissionsBoundary", {"Ref": "PermissionsBoundary"}, {"Ref": "AWS::NoValue"}]});
    let roles = entries(&template, "Resources").filter(|(_, resource)| resource["Type"] == "AWS::IAM::Role");
    for (name, role) in roles {
        assert_eq!(role["Properties"]["PermissionsBoundary"], expected, "{name}");
    }
}

#[test]
fn workers_reserve_concurrency_only_when_asked() {
    let template = template();
    assert_eq!(template["Parameters"]["ReserveWorkerConcurrency"]["Default"], "off");
    let reserved: BTreeSet<&str> = entries(&template, "Resources")
        .filter(|(_, resource)| !resource["Properties"]["ReservedConcurrentExecutions"].is_null())
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(reserved, ["ClayDelivery", "LoopsDelivery"].into());
}

#[tokio::test]
async fn contact_hash_key_is_generated_for_each_stack() {
    let (first, second) = (stack().await, stack().await);
    let key_of = |stack: &Value, function: &str| {
        expect_str(&stack["functions"][function]["environment"]["CONTACT_HASH_KEY"]).to_owned()
    };
    let key = key_of(&first, "loops-to-clay");
    assert!(key.len() == 32 && key.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{} characters", key.len());
    for (function, _) in entries(&first, "functions") {
        assert_eq!(key_of(&first, function), key, "{function}");
    }
    assert_ne!(key_of(&second, "loops-to-clay"), key);
}

#[test]
fn names_that_are_global_in_an_account_have_the_region() {
    let template = template();
    let dashboard = &template["Resources"]["Dashboard"]["Properties"]["DashboardName"];
    assert_eq!(dashboard, &json!({"Fn::Sub": "${AWS::StackName}-${AWS::Region}"}));
    // CloudFormation makes up the names of roles, which have no region either.
    for (name, resource) in entries(&template, "Resources").filter(|(_, each)| each["Type"] == "AWS::IAM::Role") {
        assert!(resource["Properties"]["RoleName"].is_null(), "{name}");
    }
}

#[test]
fn dashboard_url_has_the_console_of_each_partition() {
    let template = template();
    let [_, names] = array(&template["Outputs"]["DashboardUrl"]["Value"]["Fn::Sub"]).collect::<Vec<_>>()[..] else {
        panic!("{}", template["Outputs"]["DashboardUrl"]);
    };
    let in_us_gov = json!({"Fn::If": ["IsGovCloud", "console.amazonaws-us-gov.com", "console.aws.amazon.com"]});
    assert_eq!(names["Console"], json!({"Fn::If": ["IsChina", "console.amazonaws.cn", in_us_gov]}));
    for (condition, partition) in [("IsChina", "aws-cn"), ("IsGovCloud", "aws-us-gov")] {
        assert_eq!(template["Conditions"][condition], json!({"Fn::Equals": [{"Ref": "AWS::Partition"}, partition]}));
    }
}
