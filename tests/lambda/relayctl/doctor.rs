//! `relayctl doctor`: each part of the stack is broken in turn, and exactly that part is reported.

use aws_sdk_cloudwatch::types::{ComparisonOperator, Dimension, MetricDatum, StateValue, Statistic};
use aws_sdk_cloudwatchlogs::types::InputLogEvent;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_lambda::types::Environment;
use relay_core::webhook::route::ClayWebhook;
use relay_testkit::eventually;
use relay_testkit::lambda_fake::Setup;
use relay_testkit::lambda_fake::operator::{OperatorHarness, sdk_config};
use relay_testkit::lambda_fake::stack::{array, expect_str};
use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::relayctl::CliOutput;
use relay_testkit::webhook::{SIGNING_SECRET, contact_created, now, post};
use serde_json::json;

use crate::{clay_to_loops_document, loops_to_clay_document};

pub async fn start_harness() -> OperatorHarness {
    OperatorHarness::with_setup(|_, clay| Setup {
        loops_to_clay: Some(loops_to_clay_document(&[clay])),
        clay_to_loops: Some(clay_to_loops_document()),
        ..Setup::default()
    })
    .await
}

/// Returns the checks that are not ok, with their outcomes.
pub fn failed_checks(output: &CliOutput) -> Vec<(String, String)> {
    let document = output.json();
    let findings = array(&document["findings"]).filter(|finding| finding["outcome"] != "ok");
    let mut names: Vec<_> = findings
        .map(|finding| (expect_str(&finding["check"]).to_owned(), expect_str(&finding["outcome"]).to_owned()))
        .collect();
    names.dedup();
    names
}

/// Runs `doctor` and expects exactly these checks not to be ok, an exit code for the worst, and readable messages.
pub async fn assert_doctor_finds(harness: &OperatorHarness, expected: &[(&str, &str)]) -> CliOutput {
    let output = harness.doctor().await;
    let expected: Vec<_> =
        expected.iter().map(|(check, outcome)| ((*check).to_owned(), (*outcome).to_owned())).collect();
    assert_eq!(failed_checks(&output), expected, "{}", output.stdout);
    let exit_code = if expected.iter().any(|(_, outcome)| outcome == "fail") { 1 } else { 4 };
    assert_eq!(output.code, if expected.is_empty() { 0 } else { exit_code }, "{output:?}");
    for finding in array(&output.json()["findings"]) {
        let advice = format!("{}{}", finding["observed"], finding["remedy"]);
        assert!(advice.chars().count() <= 320 && !advice.contains("hidden"), "{advice}");
        assert!(finding["outcome"] == "ok" || finding["remedy"].is_string(), "{finding}");
    }
    for secret in [SIGNING_SECRET, "relay-token-for-tests", "\"key\""] {
        assert!(!output.stdout.contains(secret) && !output.stderr.contains(secret), "{secret} in {output:?}");
    }
    output
}

#[tokio::test]
async fn doctor_reports_functions_missing_or_of_another_version() {
    let harness = start_harness().await;
    let lambda = aws_sdk_lambda::Client::new(&sdk_config());
    let function = format!("{}-loops-delivery", harness.name());
    for (version, expected) in [("0.0.9", vec![("versions", "warn")]), (env!("CARGO_PKG_VERSION"), vec![])] {
        let environment = Environment::builder().variables("RELAY_VERSION", version).build();
        let update = lambda.update_function_configuration().function_name(&function).environment(environment);
        update.send().await.unwrap();
        let output = assert_doctor_finds(&harness, &expected).await;
        assert!(
            expected.is_empty() || output.worst_finding("versions").observed.contains("loops-delivery has 0.0.9"),
            "{output:?}"
        );
    }
    lambda.delete_function().function_name(&function).send().await.unwrap();
    let output = harness.doctor().await;
    assert_eq!((output.code, output.worst_finding("versions").outcome.as_str()), (1, "fail"), "{output:?}");
    assert!(output.worst_finding("versions").observed.contains(&function), "{output:?}");
}

#[tokio::test]
async fn doctor_reports_endpoint_unreachable_or_foreign() {
    let harness = start_harness().await;
    harness.point_outputs_to("http://127.0.0.1:9").await;
    let output = assert_doctor_finds(&harness, &[("endpoint", "fail")]).await;
    assert!(output.worst_finding("endpoint").observed.contains("nothing answers at http://127.0.0.1:9"), "{output:?}");
    harness.point_outputs_to("https://no-such-host.invalid").await;
    let output = assert_doctor_finds(&harness, &[("endpoint", "fail")]).await;
    assert!(output.worst_finding("endpoint").observed.contains("does not resolve"), "{output:?}");
    // Every request succeeds: a page in front of the relay, or a relay that checks nothing.
    let time =
        |seconds: i64| jiff::Timestamp::from_second(now() + seconds).unwrap().strftime("%a, %d %b %Y %H:%M:%S GMT");
    let accept_all_body = r#"{"success":true,"status":"test"}"#;
    let other =
        MockDestination::start(Reply::json(200, accept_all_body).with_header("Date", &time(0).to_string())).await;
    harness.point_outputs_to(&other.url("")).await;
    let output =
        assert_doctor_finds(&harness, &[("forged-webhook", "fail"), ("wrong-token", "fail"), ("relay-token", "fail")])
            .await;
    assert!(output.worst_finding("forged-webhook").observed.contains("anybody can add rows"), "{output:?}");
    other.set_default_reply(Reply::status(404).with_header("Date", &time(0).to_string()));
    let output = harness.doctor().await;
    assert!(output.worst_finding("signed-webhook").observed.contains("404"), "{output:?}");
    for (seconds, outcome) in [(-3600, "fail"), (100, "warn")] {
        other.set_default_reply(Reply::json(401, "{}").with_header("Date", &time(seconds).to_string()));
        let finding = harness.doctor().await.worst_finding("clock");
        assert_eq!(finding.outcome, outcome, "{finding:?}");
        assert!(finding.observed.contains(if seconds < 0 { "ahead of" } else { "behind" }), "{finding:?}");
    }
    other.set_default_reply(Reply::status(500));
    let output = harness.doctor().await;
    assert_eq!((output.code, output.worst_finding("signed-webhook").outcome.as_str()), (1, "fail"));
}

#[tokio::test]
async fn doctor_reports_dead_letters_old_messages_and_pauses() {
    let mut harness = start_harness().await;
    harness.fake_stack.stop_workers().await;
    let (sqs, lambda) = (harness.stack().clients().sqs(), aws_sdk_lambda::Client::new(&sdk_config()));
    for (queue, check) in [("ClayDeadLetters", "clay-dead-letters"), ("LoopsDeadLetters", "loops-dead-letters")] {
        let url = harness.stack().queue(queue).to_owned();
        let send = sqs.send_message().queue_url(&url).message_body("hidden").message_group_id("g");
        send.message_deduplication_id("d").send().await.unwrap();
        assert_doctor_finds(&harness, &[(check, "warn")]).await;
        sqs.purge_queue().queue_url(&url).send().await.unwrap();
        assert_doctor_finds(&harness, &[]).await;
    }
    let url = harness.stack().queue("ClayQueue").to_owned();
    let send = sqs.send_message().queue_url(&url).message_body("hidden").message_group_id("g");
    send.message_deduplication_id("d").send().await.unwrap();
    assert_doctor_finds(&harness, &[]).await;
    let name = url.rsplit('/').next().unwrap();
    let age = MetricDatum::builder()
        .metric_name("ApproximateAgeOfOldestMessage")
        .dimensions(Dimension::builder().name("QueueName").value(name).build())
        .value(7200.0)
        .build();
    let cloudwatch = aws_sdk_cloudwatch::Client::new(&sdk_config());
    cloudwatch.put_metric_data().namespace("AWS/SQS").metric_data(age).send().await.unwrap();
    let output = assert_doctor_finds(&harness, &[("clay-queue", "warn")]).await;
    assert_eq!(output.worst_finding("clay-queue").observed, "1 waiting, the oldest for 7200 s");
    sqs.purge_queue().queue_url(&url).send().await.unwrap();
    let table = harness.stack().clients().dynamodb();
    let rate_limit_key = AttributeValue::S("pace#loops".to_owned());
    let put = table.put_item().table_name(harness.stack().table()).item("pk", rate_limit_key.clone());
    put.item("stopped_at", AttributeValue::N("1".to_owned())).send().await.unwrap();
    assert_doctor_finds(&harness, &[("loops-worker", "warn")]).await;
    table.delete_item().table_name(harness.stack().table()).key("pk", rate_limit_key).send().await.unwrap();
    for (function, check) in [("clay-delivery", "clay-worker"), ("loops-delivery", "loops-worker")] {
        let described = harness.stack().description();
        let source = array(&described["event_sources"]).find(|source| source["function"] == function).unwrap();
        let id = expect_str(&source["id"]);
        lambda.update_event_source_mapping().uuid(id).enabled(false).send().await.unwrap();
        let output = assert_doctor_finds(&harness, &[(check, "warn")]).await;
        let resume = format!("relayctl --stack {} resume", harness.name());
        assert!(output.worst_finding(check).remedy.contains(&resume), "{output:?}");
        lambda.delete_event_source_mapping().uuid(id).send().await.unwrap();
        let output = harness.doctor().await;
        assert_eq!((output.code, output.worst_finding(check).outcome.as_str()), (1, "fail"), "{output:?}");
        let create = lambda.create_event_source_mapping().function_name(format!("{}-{function}", harness.name()));
        let queue = array(&described["event_sources"]).find(|source| source["function"] == function).unwrap();
        let arn = expect_str(&described["queues"][expect_str(&queue["queue"])]["arn"]);
        create.event_source_arn(arn).send().await.unwrap();
        assert_doctor_finds(&harness, &[]).await;
    }
}

#[tokio::test]
async fn doctor_reports_a_clay_pool_nearly_or_fully_used() {
    let harness = start_harness().await;
    let webhook = ClayWebhook::new(&harness.clay.url("/v3/sources/webhook/x"), None).unwrap().fingerprint();
    let number = |number: i64| AttributeValue::N(number.to_string());
    let put = async |accepted: i64, rejected_status: Option<i64>| {
        let table = harness.stack().clients().dynamodb();
        let item = table
            .put_item()
            .table_name(harness.stack().table())
            .item("pk", AttributeValue::S(format!("webhook#{webhook}")));
        let item = item.item("taken", number(accepted));
        let item = match rejected_status {
            Some(status) => item.item("refused_status", number(status)).item("refused_at", number(now() * 1000)),
            None => item,
        };
        item.send().await.unwrap();
    };
    put(39_999, None).await;
    let output = assert_doctor_finds(&harness, &[]).await;
    assert!(output.worst_finding("clay-webhook-use").observed.ends_with("has taken 39999 of 50000"), "{output:?}");
    put(40_000, None).await;
    assert_doctor_finds(&harness, &[("clay-webhook-use", "warn")]).await;
    for (accepted, status) in [(49_000, Some(403)), (50_000, None), (7, Some(401))] {
        put(accepted, status).await;
        assert_doctor_finds(&harness, &[("clay-webhook-use", "fail")]).await;
    }
}

#[tokio::test]
async fn doctor_reports_logged_errors_and_firing_alarms() {
    let harness = start_harness().await;
    let (logs, cloudwatch) =
        (aws_sdk_cloudwatchlogs::Client::new(&sdk_config()), aws_sdk_cloudwatch::Client::new(&sdk_config()));
    let alarm = format!("{}-clay-held", harness.name());
    let put = cloudwatch.put_metric_alarm().alarm_name(&alarm).metric_name("m").namespace("n").period(60);
    let put = put.evaluation_periods(1).threshold(1.0).statistic(Statistic::Sum);
    put.comparison_operator(ComparisonOperator::GreaterThanThreshold).send().await.unwrap();
    for (state, expected) in [(StateValue::Alarm, vec![("alarms", "warn")]), (StateValue::Ok, vec![])] {
        cloudwatch.set_alarm_state().alarm_name(&alarm).state_value(state).state_reason("x").send().await.unwrap();
        assert_doctor_finds(&harness, &expected).await;
    }
    // Another stack's, whose name has the same prefix.
    let other = format!("{}-two-clay-held", harness.name());
    let put = cloudwatch.put_metric_alarm().alarm_name(&other).metric_name("m").namespace("n").period(60);
    let put = put.evaluation_periods(1).threshold(1.0).statistic(Statistic::Sum);
    put.comparison_operator(ComparisonOperator::GreaterThanThreshold).send().await.unwrap();
    let set_alarm = cloudwatch.set_alarm_state().alarm_name(&other).state_value(StateValue::Alarm).state_reason("x");
    set_alarm.send().await.unwrap();
    assert_doctor_finds(&harness, &[]).await;
    cloudwatch.delete_alarms().alarm_names(&alarm).send().await.unwrap();
    let output = assert_doctor_finds(&harness, &[("alarms", "warn")]).await;
    assert!(output.worst_finding("alarms").observed.ends_with("cannot ring: clay-held"), "{output:?}");
    let put = cloudwatch.put_metric_alarm().alarm_name(&alarm).metric_name("m").namespace("n").period(60);
    let put = put.evaluation_periods(1).threshold(1.0).statistic(Statistic::Sum);
    put.comparison_operator(ComparisonOperator::GreaterThanThreshold).send().await.unwrap();
    let group = format!("/aws/lambda/{}-clay-delivery", harness.name());
    logs.create_log_stream().log_group_name(&group).log_stream_name("s").send().await.unwrap();
    let line = json!({"level": "ERROR", "message": "the ledger cannot be written", "x": "hidden"}).to_string();
    let info_line = json!({"level": "INFO", "message": "delivered"}).to_string();
    let event = |text: &str| InputLogEvent::builder().timestamp(now() * 1000).message(text).build().unwrap();
    let put = logs.put_log_events().log_group_name(&group).log_stream_name("s");
    put.log_events(event(&info_line)).log_events(event(&line)).send().await.unwrap();
    let output = assert_doctor_finds(&harness, &[("function-errors", "warn")]).await;
    let observed = output.worst_finding("function-errors").observed;
    assert_eq!(observed, "in the last hour: clay-delivery 1, the last: the ledger cannot be written");
}

#[tokio::test]
async fn doctor_reports_missing_stack_resources() {
    let mut harness = start_harness().await;
    harness.fake_stack.stop_workers().await;
    harness.update_outputs(&[("LedgerTableName", String::new())]).await;
    let output = assert_doctor_finds(
        &harness,
        &[("outputs", "fail"), ("loops-worker", "fail"), ("clay-webhook-use", "fail"), ("last-delivery", "fail")],
    )
    .await;
    assert!(output.worst_finding("outputs").observed.contains("LedgerTableName"), "{output:?}");
    harness.update_outputs(&[("LedgerTableName", harness.stack().table().to_owned())]).await;
    assert_doctor_finds(&harness, &[]).await;
    let account = harness.stack().clients();
    account.sqs().delete_queue().queue_url(harness.stack().queue("LoopsDeadLetters")).send().await.unwrap();
    assert_doctor_finds(&harness, &[("loops-dead-letters", "fail")]).await;
    account.dynamodb().delete_table().table_name(harness.stack().table()).send().await.unwrap();
    let output = harness.doctor().await;
    assert_eq!(output.worst_finding("last-delivery").outcome, "fail", "{output:?}");
    assert!(output.worst_finding("clay-webhook-use").observed.contains("is not there"), "{output:?}");
}

#[tokio::test]
async fn doctor_warns_of_each_missing_permission() {
    let harness = start_harness().await;
    for (action, permission, checks) in [
        ("FilterLogEvents", "logs:FilterLogEvents", vec!["function-errors"]),
        ("GetFunctionConfiguration", "lambda:GetFunctionConfiguration", vec!["versions"]),
        ("ListEventSourceMappings", "lambda:ListEventSourceMappings", vec!["clay-worker", "loops-worker"]),
        ("Scan", "dynamodb:Scan", vec!["last-delivery"]),
        (
            "GetSecretValue",
            "secretsmanager:GetSecretValue",
            vec![
                "secret-loops-to-clay",
                "secret-clay-to-loops",
                "loops-key",
                "signed-webhook",
                "relay-token",
                "clay-webhook-use",
            ],
        ),
        ("GetItem", "dynamodb:GetItem", vec!["loops-worker", "clay-webhook-use"]),
        (
            "GetQueueAttributes",
            "sqs:GetQueueAttributes",
            vec!["clay-queue", "clay-dead-letters", "loops-queue", "loops-dead-letters"],
        ),
    ] {
        harness.permission_proxy.deny(action, "AccessDeniedException");
        let expected: Vec<_> = checks.iter().map(|check| (*check, "warn")).collect();
        let output = assert_doctor_finds(&harness, &expected).await;
        for check in checks {
            let finding = output.worst_finding(check);
            let refers_to_secret =
                finding.observed.starts_with("not known") && finding.remedy.starts_with("see secret-");
            assert!(finding.observed.contains(permission) || refers_to_secret, "{output:?}");
        }
        harness.permission_proxy.allow_all();
    }
}

#[tokio::test]
async fn doctor_reports_last_delivery_and_sends_nothing() {
    let harness = start_harness().await;
    assert_eq!(post(&harness.fake_stack.base(), "msg_1", &contact_created("ada@example.com")).await.status, 200);
    eventually("a row in Clay", async || (harness.clay.received().len() == 1).then_some(())).await;
    let output = eventually("it is on record", async || {
        let output = assert_doctor_finds(&harness, &[]).await;
        output.worst_finding("last-delivery").observed.contains("(loops-to-clay)").then_some(output)
    })
    .await;
    assert!(output.worst_finding("clay-webhook-use").observed.contains("has taken 1 of 50000"), "{output:?}");
    assert_eq!(harness.clay.received().len(), 1);
    assert!(harness.loops.received().iter().all(|request| request.method == "GET"));
}

#[tokio::test]
async fn doctor_send_delivers_one_row_in_each_direction() {
    let harness = start_harness().await;
    let output = harness.relayctl(&["doctor", "--json", "--send", "ada@example.com"], "").await;
    assert_eq!((output.code, failed_checks(&output)), (0, vec![]), "{output:?}");
    let rows = harness.clay.received();
    assert_eq!(rows.len(), 1);
    assert!(rows[0].text().contains("ada@example.com") && rows[0].text().contains("relayctl doctor"), "{rows:?}");
    let contacts: Vec<_> = harness.loops.received().into_iter().filter(|request| request.method == "PUT").collect();
    assert_eq!((contacts.len(), contacts[0].text().as_str()), (1, r#"{"email":"ada@example.com"}"#));
    assert!(!output.stdout.contains("ada@example.com"), "{output:?}");
    harness.clay.set_default_reply(Reply::status(400));
    let output = harness.relayctl(&["doctor", "--json", "--send", "ada@example.com"], "").await;
    let finding = output.worst_finding("send-to-clay");
    assert!(finding.outcome == "fail" && finding.observed.contains("dead letter"), "{finding:?}");
}
