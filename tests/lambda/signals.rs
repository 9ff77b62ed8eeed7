//! What the functions report, and what the alarms and the dashboard make of it.

use std::collections::BTreeSet;
use std::process::Stdio;

use relay_testkit::eventually;
use relay_testkit::lambda_fake::stack::{Stack, array, binaries, expect_str, lambda_environment, template};
use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::row::contact;
use relay_testkit::webhook::{contact_created, post};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::contract::rows::{loops, relay_to, row_of};
use crate::contract::signals::{begin, line_with, lines};
use crate::contract::webhooks::{self, clay};

/// Where an alarm's description leads.
const RUNBOOK: &str = "https://github.com/loops-clay-relay/loops-clay-relay/blob/main/docs/runbook.md#";

/// What AWS reports by itself (its user guides of Lambda, SQS, API Gateway, DynamoDB and CloudWatch Logs): metric and dimension.
const OF_AWS: [(&str, &str, &[&str]); 5] = [
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
    ("AWS/ApiGateway", "ApiId", &["Count"]),
    ("AWS/DynamoDB", "TableName", &["ConsumedReadCapacityUnits", "ConsumedWriteCapacityUnits"]),
    ("AWS/Logs", "LogGroupName", &["IncomingBytes"]),
];

/// A metric, as somebody reports it or looks at it: namespace, name, and the dimension with its value; `*` is any.
type Metric = (String, String, String, String);

fn metric(parts: [&str; 4]) -> Metric {
    let [namespace, name, dimension, value] = parts.map(str::to_owned);
    (namespace, name, dimension, value)
}

/// What the lines of a log report.
fn reported(lines: &[Value]) -> BTreeSet<Metric> {
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

/// What the alarms look at.
fn of_alarms(stack: &Value) -> BTreeSet<Metric> {
    let alarms = stack["alarms"].as_object().into_iter().flatten().map(|(_, alarm)| alarm);
    let looked = alarms.flat_map(|alarm| {
        let parts =
            array(&alarm["Metrics"]).map(|part| &part["MetricStat"]["Metric"]).filter(|metric| !metric.is_null());
        parts.chain([alarm]).filter(|each| each["MetricName"].is_string()).collect::<Vec<_>>()
    });
    looked
        .map(|each| {
            let [dimension] = array(&each["Dimensions"]).collect::<Vec<_>>()[..] else { panic!("{each}") };
            let named = [&each["Namespace"], &each["MetricName"], &dimension["Name"], &dimension["Value"]];
            metric(named.map(expect_str))
        })
        .collect()
}

/// What the dashboard looks at.
fn of_dashboard(stack: &Value) -> BTreeSet<Metric> {
    let mut looked = BTreeSet::new();
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
                    looked.insert(metric([namespace, rest.split_once('"').unwrap().0, dimension, "*"]));
                }
            }
            [namespace, name, dimension, value, ..] => {
                looked.insert(metric([namespace, name, dimension, value].map(|part| expect_str(part))));
            }
            _ => panic!("{part}"),
        }
    }
    looked
}

fn is_of_aws((namespace, name, dimension, _): &Metric) -> bool {
    OF_AWS.iter().any(|(known, by, names)| known == namespace && by == dimension && names.contains(&name.as_str()))
}

#[tokio::test]
async fn the_alarms_and_the_dashboard_look_at_what_is_reported() {
    let run = begin("info").await;
    let relay = &run.relay;
    // What a worker has delivered and could not take off the queue comes back.
    relay.drop_responses(true);
    assert_eq!(post(relay.base(), "msg_1", &contact_created("probe@example.com")).await.status, 200);
    line_with(relay, &[("webhook.id", "msg_1"), ("outcome", "delivered")]).await;
    eventually("a repeat that is known", async || {
        relay.make_all_visible().await;
        let known = |line: &Value| line["webhook.id"] == "msg_1" && line["outcome"] == "duplicate";
        lines(relay).iter().any(known).then_some(())
    })
    .await;
    relay.drop_responses(false);
    relay.make_all_visible().await;
    run.everything().await;
    let stack = relay.description();
    let reported = reported(&lines(relay));
    for looked in [of_alarms(stack), of_dashboard(stack)] {
        let own = looked.iter().filter(|metric| metric.0 == expect_str(&stack["stack"])).count();
        assert!(own >= 4 && looked.len() > own, "{looked:#?}");
        for metric in looked {
            assert!(is_of_aws(&metric) || reported.contains(&metric), "nobody reports {metric:?}: {reported:#?}");
        }
    }
    // Every one of them has its price.
    assert!(reported.len() <= 24, "{} metrics: {reported:#?}", reported.len());
    // And nothing is reported that nobody looks at.
    for metric in reported {
        assert!(of_dashboard(stack).contains(&metric), "nobody looks at {metric:?}");
    }
}

#[tokio::test]
async fn what_is_not_to_be_heard_is_reported_all_the_same() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[("RUST_LOG", "error")]).await;
    assert_eq!(contact(relay.base(), row_of("ada@example.com")).await.status, 200);
    let line = eventually("a line that counts", async || lines(&relay).into_iter().next()).await;
    assert_eq!((line["delivered"].as_u64(), expect_str(&line["direction"])), (Some(1), "clay-to-loops"));
    assert!(line.get("delivery.id").is_none() && line.get("contact").is_none(), "{line}");
}

#[tokio::test]
async fn a_pool_that_is_used_up_is_reported_as_full() {
    let clay = MockDestination::start(Reply::status(403)).await;
    let relay = webhooks::relay_to(&clay, &[]).await;
    assert_eq!(post(relay.base(), "msg_1", &contact_created("ada@example.com")).await.status, 200);
    let held = line_with(&relay, &[("reason", "clay_webhooks_exhausted")]).await;
    assert_eq!((held["pool_used"].as_u64(), held["submissions"].as_u64()), (Some(100), Some(50_000)));
}

#[tokio::test]
async fn each_alarm_rings_when_the_runbook_says_and_tells_whoever_is_to_be_told() {
    let rings = [
        ("ClayDeadLettersAlarm", "Maximum", 300, "GreaterThanThreshold", json!(0)),
        ("LoopsDeadLettersAlarm", "Maximum", 300, "GreaterThanThreshold", json!(0)),
        ("ClayQueueAgeAlarm", "Maximum", 300, "GreaterThanThreshold", json!({"Ref": "QueueAgeAlarmSeconds"})),
        ("LoopsQueueAgeAlarm", "Maximum", 300, "GreaterThanThreshold", json!({"Ref": "QueueAgeAlarmSeconds"})),
        ("ClayHeldAlarm", "Sum", 900, "GreaterThanThreshold", json!(0)),
        ("LoopsHeldAlarm", "Sum", 900, "GreaterThanThreshold", json!(0)),
        ("LoopsKeyRefusedAlarm", "Sum", 900, "GreaterThanThreshold", json!(0)),
        ("ClayPoolNearlyUsedAlarm", "Maximum", 21600, "GreaterThanOrEqualToThreshold", json!(80)),
        ("ClayPoolUsedUpAlarm", "Maximum", 900, "GreaterThanOrEqualToThreshold", json!(100)),
        ("SignaturesRefusedAlarm", "Sum", 300, "GreaterThanThreshold", json!(20)),
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
    assert_eq!(alarms, rings.iter().map(|(name, ..)| *name).collect());
    let told = json!({"Fn::If": ["HasAlarmEmail", [{"Ref": "AlarmTopic"}], {"Ref": "AWS::NoValue"}]});
    for (name, statistic, period, operator, threshold) in rings {
        let alarm = &resources[name]["Properties"];
        let looks = if alarm["Metrics"].is_array() {
            array(&alarm["Metrics"])
                .filter(|part| part["MetricStat"].is_object())
                .map(|part| &part["MetricStat"])
                .collect()
        } else {
            vec![alarm]
        };
        for looked in looks {
            let asked = if looked["Stat"].is_string() { &looked["Stat"] } else { &looked["Statistic"] };
            assert_eq!((asked, &looked["Period"]), (&json!(statistic), &json!(period)), "{name}");
        }
        assert_eq!((&alarm["ComparisonOperator"], &alarm["Threshold"]), (&json!(operator), &threshold), "{name}");
        assert_eq!(
            (&alarm["EvaluationPeriods"], &alarm["TreatMissingData"]),
            (&json!(1), &json!("notBreaching")),
            "{name}"
        );
        assert_eq!(alarm["AlarmActions"], told, "{name}");
    }
    let spike = &resources["SignaturesRefusedAlarm"]["Properties"];
    assert_eq!((&spike["MetricName"], &spike["Dimensions"][0]["Value"]), (&json!("refused"), &json!("signature")));
}

#[tokio::test]
async fn each_alarm_says_what_to_do_and_leads_to_its_section_of_the_runbook() {
    let stack = Stack::create().await.description().clone();
    let alarms = stack["alarms"].as_object().unwrap();
    assert_eq!(alarms.len(), 12);
    for alarm in alarms.values() {
        let name =
            expect_str(&alarm["AlarmName"]).strip_prefix(expect_str(&stack["stack"])).unwrap().trim_start_matches('-');
        let description = expect_str(&alarm["AlarmDescription"]);
        // The most that CloudWatch takes is 1,024.
        let advice = description.strip_suffix(&format!(": {RUNBOOK}{name}")).unwrap_or_else(|| panic!("{description}"));
        assert!((80..700).contains(&advice.len()), "{advice}");
        assert_eq!(alarm["TreatMissingData"], "notBreaching", "{name}");
    }
}

#[tokio::test]
async fn the_dashboard_shows_every_alarm_and_its_sums_add_up_metrics_that_are_there() {
    let stack = Stack::create().await.description().clone();
    let dashboard = &stack["dashboards"]["Dashboard"];
    assert!(expect_str(&stack["outputs"]["DashboardUrl"]).ends_with(expect_str(&dashboard["name"])));
    let widgets: Vec<&Value> = array(&dashboard["body"]["widgets"]).collect();
    let shown = widgets.iter().flat_map(|widget| array(&widget["properties"]["alarms"])).count();
    assert_eq!(shown, stack["alarms"].as_object().unwrap().len());
    for widget in widgets {
        let metrics = || array(&widget["properties"]["metrics"]);
        let ids: BTreeSet<&str> = metrics().filter_map(|part| array(part).last()?["id"].as_str()).collect();
        for options in
            metrics().filter_map(|part| array(part).last()).filter(|options| options["expression"].is_string())
        {
            let expression = expect_str(&options["expression"]);
            let words = expression.split(|letter: char| !letter.is_ascii_alphanumeric());
            let used = words.filter(|word| word.starts_with(|first: char| first.is_ascii_lowercase()));
            let unknown: Vec<&str> = used.filter(|word| !ids.contains(word)).collect();
            assert!(expression.starts_with("SEARCH(") || unknown.is_empty(), "{unknown:?} in {expression}");
        }
    }
}

#[tokio::test]
async fn the_ledger_knows_a_contact_by_the_hash_of_the_log() {
    let clay = clay().await;
    let relay = webhooks::relay_to(&clay, &[]).await;
    assert_eq!(post(relay.base(), "msg_1", &contact_created("ada@example.com")).await.status, 200);
    let delivered = line_with(&relay, &[("outcome", "delivered")]).await;
    let table = expect_str(&relay.description()["tables"]["Ledger"]["name"]).to_owned();
    let key = format!("delivery#{}", expect_str(&delivered["delivery.id"]));
    let known = async || relay.ledger_item(&table, &key).await.get("contact_hash").cloned();
    assert_eq!(known().await.as_deref(), delivered["contact"].as_str());
    // Somebody else under the same id is not who was delivered.
    assert_eq!(post(relay.base(), "msg_1", &contact_created("bob@example.com")).await.status, 200);
    line_with(&relay, &[("reason", "id_conflict")]).await;
    assert_eq!(known().await.as_deref(), delivered["contact"].as_str());
}

#[tokio::test]
async fn a_function_that_cannot_start_says_why_in_lines_of_the_log() {
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
    for told in ["RUST_LOG", "LOOPS_API_URL", "LOOPS_TO_CLAY_SECRET_ARN"] {
        assert!(log.contains(told), "{told} is not in {log}");
    }
}
