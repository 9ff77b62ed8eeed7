//! What the functions report, and what the alarms and the dashboard make of it.

use std::collections::BTreeSet;
use std::process::Stdio;

use relay_testkit::eventually;
use relay_testkit::lambda_fake::services::ServiceFault;
use relay_testkit::lambda_fake::stack::{Stack, array, binaries, expect_str, lambda_environment, template};
use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::row::contact;
use relay_testkit::webhook::{contact_created, post};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::Relay;
use crate::contract::rows::{contact_row, start_loops, start_relay};
use crate::contract::telemetry::{log_lines, start_run, wait_for_line};
use crate::contract::webhooks::{self, start_clay};

/// Where an alarm's description leads.
const RUNBOOK_URL: &str = "https://github.com/loops-clay-relay/loops-clay-relay/blob/main/docs/runbook.md#";

/// Metrics that AWS itself reports (its user guides of Lambda, SQS, API Gateway, DynamoDB and CloudWatch Logs), with
/// dimension.
const AWS_METRICS: [(&str, &str, &[&str]); 5] = [
    ("AWS/Lambda", "FunctionName", &["Errors", "Throttles", "Invocations", "Duration"]),
    (
        "AWS/SQS",
        "QueueName",
        &[
            "ApproximateAgeOfOldestMessage",
            "ApproximateNumberOfMessagesVisible",
            "ApproximateNumberOfMessagesNotVisible",
            "NumberOfMessagesSent",
            "NumberOfMessagesReceived",
            "NumberOfMessagesDeleted",
            "NumberOfEmptyReceives",
        ],
    ),
    ("AWS/ApiGateway", "ApiId", &["Count", "4xx", "5xx"]),
    ("AWS/DynamoDB", "TableName", &["ConsumedReadCapacityUnits", "ConsumedWriteCapacityUnits"]),
    ("AWS/Logs", "LogGroupName", &["IncomingBytes"]),
];

/// A metric that is reported or read: namespace, name, and the dimension with its value; `*` is any, and a metric filter has none.
type Metric = (String, String, String, String);

fn metric(parts: [&str; 4]) -> Metric {
    let [namespace, name, dimension, value] = parts.map(str::to_owned);
    (namespace, name, dimension, value)
}

/// What the lines of a log report.
fn reported_metrics(lines: &[Value]) -> BTreeSet<Metric> {
    let mut reported = BTreeSet::new();
    for line in lines {
        for directive in array(&line["_aws"]["CloudWatchMetrics"]) {
            assert!(line["_aws"]["Timestamp"].as_u64().is_some_and(|time| time > 1_700_000_000_000), "{line}");
            for dimensions in array(&directive["Dimensions"]) {
                let [dimension] = array(dimensions).map(expect_str).collect::<Vec<_>>()[..] else { panic!("{line}") };
                for defined in array(&directive["Metrics"]) {
                    let name = expect_str(&defined["Name"]);
                    assert!(line[name].is_u64() && defined["Unit"].is_string(), "{name} in {line}");
                    let value = if dimension == "webhook" { "*" } else { expect_str(&line[dimension]) };
                    reported.insert(metric([expect_str(&directive["Namespace"]), name, dimension, value]));
                }
            }
        }
    }
    reported
}

/// What the filters of logs report, as the functions' log does not.
fn filtered_metrics(stack: &Value) -> BTreeSet<Metric> {
    let filters = stack["metric_filters"].as_object().into_iter().flatten().map(|(_, filter)| filter);
    let transformations = filters.flat_map(|filter| array(&filter["MetricTransformations"]));
    let named = |each: &Value| [&each["MetricNamespace"], &each["MetricName"]].map(|part| expect_str(part).to_owned());
    transformations.map(named).map(|[namespace, name]| (namespace, name, String::new(), String::new())).collect()
}

/// Returns the metrics of the alarms.
fn alarm_metrics(stack: &Value) -> BTreeSet<Metric> {
    let alarms = stack["alarms"].as_object().into_iter().flatten().map(|(_, alarm)| alarm);
    let used_metrics = alarms.flat_map(|alarm| {
        let parts =
            array(&alarm["Metrics"]).map(|part| &part["MetricStat"]["Metric"]).filter(|metric| !metric.is_null());
        parts.chain([alarm]).filter(|each| each["MetricName"].is_string()).collect::<Vec<_>>()
    });
    used_metrics
        .map(|each| {
            let [namespace, name] = [&each["Namespace"], &each["MetricName"]].map(expect_str);
            match array(&each["Dimensions"]).collect::<Vec<_>>()[..] {
                [] => metric([namespace, name, "", ""]),
                [dimension] => {
                    metric([namespace, name, expect_str(&dimension["Name"]), expect_str(&dimension["Value"])])
                }
                _ => panic!("{each}"),
            }
        })
        .collect()
}

/// Returns the metrics of the dashboard.
fn dashboard_metrics(stack: &Value) -> BTreeSet<Metric> {
    let mut used_metrics = BTreeSet::new();
    let widgets = array(&stack["dashboards"]["Dashboard"]["body"]["widgets"]);
    for part in widgets.flat_map(|widget| array(&widget["properties"]["metrics"])) {
        let parts: Vec<&Value> = array(part).collect();
        match parts.as_slice() {
            [options] => {
                let expression = expect_str(&options["expression"]);
                // SEARCH('{namespace,dimension} MetricName="name"', …)
                if let Some(search) = expression.strip_prefix("SEARCH('{") {
                    let (schema, rest) = search.split_once("} MetricName=\"").unwrap();
                    let (namespace, dimension) = schema.split_once(',').unwrap();
                    used_metrics.insert(metric([namespace, rest.split_once('"').unwrap().0, dimension, "*"]));
                }
            }
            [namespace, name, options] if options.is_object() => {
                used_metrics.insert(metric([expect_str(namespace), expect_str(name), "", ""]));
            }
            [namespace, name, dimension, value, ..] => {
                used_metrics.insert(metric([namespace, name, dimension, value].map(|part| expect_str(part))));
            }
            _ => panic!("{part}"),
        }
    }
    used_metrics
}

fn is_aws_metric((namespace, name, dimension, _): &Metric) -> bool {
    AWS_METRICS.iter().any(|(aws_namespace, aws_dimension, names)| {
        aws_namespace == namespace && aws_dimension == dimension && names.contains(&name.as_str())
    })
}

#[tokio::test]
async fn alarms_and_dashboard_use_exactly_the_reported_metrics() {
    let run = start_run("info").await;
    let relay = &run.relay;
    fail_to_read_secrets(relay).await;
    // A delivered message that the worker could not delete becomes visible again.
    relay.drop_responses(true);
    assert_eq!(post(relay.base(), "msg_1", &contact_created("probe@example.com")).await.status, 200);
    wait_for_line(relay, &[("webhook.id", "msg_1"), ("outcome", "delivered")]).await;
    eventually("a repeat that is known", async || {
        relay.make_all_visible().await;
        let is_duplicate = |line: &Value| line["webhook.id"] == "msg_1" && line["outcome"] == "duplicate";
        log_lines(relay).iter().any(is_duplicate).then_some(())
    })
    .await;
    relay.drop_responses(false);
    relay.make_all_visible().await;
    run.produce_every_outcome().await;
    let stack = relay.description();
    let mut reported = reported_metrics(&log_lines(relay));
    reported.extend(filtered_metrics(stack));
    for used_metrics in [alarm_metrics(stack), dashboard_metrics(stack)] {
        let own_count = used_metrics.iter().filter(|metric| metric.0 == expect_str(&stack["stack"])).count();
        assert!(own_count >= 4 && used_metrics.len() > own_count, "{used_metrics:#?}");
        for metric in used_metrics {
            assert!(is_aws_metric(&metric) || reported.contains(&metric), "nothing reports {metric:?}: {reported:#?}");
        }
    }
    // Every one of them has its price.
    assert!(reported.len() <= 30, "{} metrics: {reported:#?}", reported.len());
    // Every reported metric is used.
    for metric in reported {
        assert!(dashboard_metrics(stack).contains(&metric), "nothing uses {metric:?}");
    }
}

/// Calls functions that have not read their secrets yet, and cannot.
async fn fail_to_read_secrets(relay: &Relay) {
    relay.services().inject("secretsmanager", ServiceFault::InternalError);
    assert_eq!(post(relay.base(), "msg_0", &contact_created("probe@example.com")).await.status, 503);
    assert_eq!(contact(relay.base(), contact_row("probe@example.com")).await.status, 429);
    relay.services().clear();
}

#[tokio::test]
async fn metrics_are_reported_even_at_log_level_error() {
    let loops = start_loops().await;
    let relay = start_relay(&loops, &[("RUST_LOG", "error")]).await;
    assert_eq!(contact(relay.base(), contact_row("ada@example.com")).await.status, 200);
    let line = eventually("a line that counts", async || log_lines(&relay).into_iter().next()).await;
    assert_eq!((line["delivered"].as_u64(), expect_str(&line["direction"])), (Some(1), "clay-to-loops"));
    assert!(line.get("delivery.id").is_none() && line.get("contact").is_none(), "{line}");
}

#[tokio::test]
async fn exhausted_pool_is_reported_as_fully_used() {
    let clay = MockDestination::start(Reply::status(403)).await;
    let relay = webhooks::start_relay(&clay, &[]).await;
    assert_eq!(post(relay.base(), "msg_1", &contact_created("ada@example.com")).await.status, 200);
    let held = wait_for_line(&relay, &[("reason", "clay_webhooks_exhausted")]).await;
    assert_eq!((held["pool_used"].as_u64(), held["submissions"].as_u64()), (Some(100), Some(50_000)));
}

#[tokio::test]
async fn alarms_match_runbook_thresholds_and_notify_topic() {
    let expected_alarms = [
        ("ClayDeadLettersAlarm", "Maximum", 300, "GreaterThanThreshold", json!(0)),
        ("LoopsDeadLettersAlarm", "Maximum", 300, "GreaterThanThreshold", json!(0)),
        ("ClayQueueAgeAlarm", "Maximum", 300, "GreaterThanThreshold", json!({"Ref": "QueueAgeAlarmSeconds"})),
        ("LoopsQueueAgeAlarm", "Maximum", 300, "GreaterThanThreshold", json!({"Ref": "QueueAgeAlarmSeconds"})),
        ("ClayKeepsFailingAlarm", "Maximum", 1800, "GreaterThanThreshold", json!({"Ref": "QueueAgeAlarmSeconds"})),
        ("LoopsKeepsFailingAlarm", "Maximum", 1800, "GreaterThanThreshold", json!({"Ref": "QueueAgeAlarmSeconds"})),
        ("ClayHeldAlarm", "Sum", 900, "GreaterThanThreshold", json!(0)),
        ("LoopsHeldAlarm", "Sum", 900, "GreaterThanThreshold", json!(0)),
        ("LoopsKeyRefusedAlarm", "Sum", 900, "GreaterThanThreshold", json!(0)),
        ("ClayPoolNearlyUsedAlarm", "Maximum", 21600, "GreaterThanOrEqualToThreshold", json!(80)),
        ("ClayPoolUsedUpAlarm", "Maximum", 900, "GreaterThanOrEqualToThreshold", json!(100)),
        ("ClayNewDeadLetterAlarm", "Sum", 300, "GreaterThanThreshold", json!(0)),
        ("LoopsNewDeadLetterAlarm", "Sum", 300, "GreaterThanThreshold", json!(0)),
        ("SignaturesRefusedAlarm", "Sum", 3600, "GreaterThanThreshold", json!(0)),
        ("TokensRefusedAlarm", "Sum", 3600, "GreaterThanThreshold", json!(0)),
        ("RequestsFailAlarm", "Sum", 300, "GreaterThanThreshold", json!(0)),
        ("GatewayThrottledAlarm", "Sum", 300, "GreaterThanThreshold", json!(0)),
        ("SecretUnreadableAlarm", "Sum", 900, "GreaterThanThreshold", json!(0)),
        ("FunctionsFailAlarm", "Sum", 300, "GreaterThanThreshold", json!(0)),
        ("FunctionsThrottledAlarm", "Sum", 300, "GreaterThanThreshold", json!(0)),
    ];
    let template = template();
    let resources = template["Resources"].as_object().unwrap();
    let alarms: BTreeSet<&str> = resources
        .iter()
        .filter(|(_, resource)| resource["Type"] == "AWS::CloudWatch::Alarm")
        .map(|(name, _)| name.as_str())
        .collect();
    let alarm_actions = json!({"Fn::If": ["HasAlarmEmail", [{"Ref": "AlarmTopic"}], {"Ref": "AWS::NoValue"}]});
    assert_eq!(alarms, expected_alarms.iter().map(|(name, ..)| *name).collect());
    for (name, statistic, period, operator, threshold) in expected_alarms {
        let alarm = &resources[name]["Properties"];
        let stats = if alarm["Metrics"].is_array() {
            array(&alarm["Metrics"])
                .filter(|part| part["MetricStat"].is_object())
                .map(|part| &part["MetricStat"])
                .collect()
        } else {
            vec![alarm]
        };
        for stat in stats {
            let actual_statistic = if stat["Stat"].is_string() { &stat["Stat"] } else { &stat["Statistic"] };
            assert_eq!((actual_statistic, &stat["Period"]), (&json!(statistic), &json!(period)), "{name}");
        }
        assert_eq!((&alarm["ComparisonOperator"], &alarm["Threshold"]), (&json!(operator), &threshold), "{name}");
        assert_eq!(
            (&alarm["EvaluationPeriods"], &alarm["TreatMissingData"]),
            (&json!(1), &json!("notBreaching")),
            "{name}"
        );
        assert_eq!((&alarm["AlarmActions"], &alarm["OKActions"]), (&alarm_actions, &alarm_actions), "{name}");
    }
}

#[tokio::test]
async fn alarm_descriptions_give_advice_and_link_the_runbook() {
    let stack = Stack::create().await.description().clone();
    let alarms = stack["alarms"].as_object().unwrap();
    assert_eq!(alarms.len(), 20);
    for alarm in alarms.values() {
        let name =
            expect_str(&alarm["AlarmName"]).strip_prefix(expect_str(&stack["stack"])).unwrap().trim_start_matches('-');
        let description = expect_str(&alarm["AlarmDescription"]);
        // The maximum of CloudWatch is 1,024.
        let advice =
            description.strip_suffix(&format!(": {RUNBOOK_URL}{name}")).unwrap_or_else(|| panic!("{description}"));
        assert!((80..700).contains(&advice.len()), "{advice}");
        assert_eq!(alarm["TreatMissingData"], "notBreaching", "{name}");
    }
}

#[tokio::test]
async fn dashboard_shows_every_alarm_and_sums_known_metrics() {
    let stack = Stack::create().await.description().clone();
    let dashboard = &stack["dashboards"]["Dashboard"];
    assert!(expect_str(&stack["outputs"]["DashboardUrl"]).ends_with(expect_str(&dashboard["name"])));
    let widgets: Vec<&Value> = array(&dashboard["body"]["widgets"]).collect();
    let alarm_count = widgets.iter().flat_map(|widget| array(&widget["properties"]["alarms"])).count();
    assert_eq!(alarm_count, stack["alarms"].as_object().unwrap().len());
    for widget in widgets {
        let metrics = || array(&widget["properties"]["metrics"]);
        let ids: BTreeSet<&str> = metrics().filter_map(|part| array(part).last()?["id"].as_str()).collect();
        for options in
            metrics().filter_map(|part| array(part).last()).filter(|options| options["expression"].is_string())
        {
            let expression = expect_str(&options["expression"]);
            let tokens = expression.split(|character: char| !character.is_ascii_alphanumeric());
            let used = tokens.filter(|token| token.starts_with(|first: char| first.is_ascii_lowercase()));
            let unknown: Vec<&str> = used.filter(|token| !ids.contains(token)).collect();
            assert!(expression.starts_with("SEARCH(") || unknown.is_empty(), "{unknown:?} in {expression}");
        }
    }
}

#[tokio::test]
async fn ledger_stores_the_contact_hash_of_the_log() {
    let clay = start_clay().await;
    let relay = webhooks::start_relay(&clay, &[]).await;
    assert_eq!(post(relay.base(), "msg_1", &contact_created("ada@example.com")).await.status, 200);
    let delivered = wait_for_line(&relay, &[("outcome", "delivered")]).await;
    let table = expect_str(&relay.description()["tables"]["Ledger"]["name"]).to_owned();
    let key = format!("delivery#{}", expect_str(&delivered["delivery.id"]));
    let stored_hash = async || relay.ledger_item(&table, &key).await.get("contact_hash").cloned();
    assert_eq!(stored_hash().await.as_deref(), delivered["contact"].as_str());
    // Another body under the same id is not the delivered webhook.
    assert_eq!(post(relay.base(), "msg_1", &contact_created("bob@example.com")).await.status, 200);
    wait_for_line(&relay, &[("reason", "id_conflict")]).await;
    assert_eq!(stored_hash().await.as_deref(), delivered["contact"].as_str());
}

#[tokio::test]
async fn function_that_fails_to_start_logs_the_reason_as_json() {
    let mut environment = lambda_environment("http://127.0.0.1:9", "loops-to-clay");
    environment.insert("LOOPS_API_URL".to_owned(), "http://private.example/private-path".to_owned());
    environment.insert("RUST_LOG".to_owned(), "private-level".to_owned());
    let mut command = Command::new(binaries().join("loops-to-clay"));
    command.env_clear().envs(environment).env("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9").stdin(Stdio::null());
    let output = command.output().await.unwrap();
    assert!(!output.status.success());
    let log = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let lines: Vec<Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    assert!(lines.iter().all(Value::is_object) && !log.contains("private"), "{log}");
    for setting in ["RUST_LOG", "LOOPS_API_URL", "LOOPS_TO_CLAY_SECRET_ARN"] {
        assert!(log.contains(setting), "{setting} is not in {log}");
    }
}
