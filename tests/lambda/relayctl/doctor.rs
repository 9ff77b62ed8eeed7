//! `relayctl doctor`: everything is broken in turn, and it names what is broken, and nothing else.

use aws_sdk_cloudwatch::types::{ComparisonOperator, Dimension, MetricDatum, StateValue, Statistic};
use aws_sdk_cloudwatchlogs::types::InputLogEvent;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_lambda::types::Environment;
use relay_core::webhook::route::ClayWebhook;
use relay_testkit::eventually;
use relay_testkit::lambda_fake::Setup;
use relay_testkit::lambda_fake::operator::{CliOutput, OperatorHarness, sdk_config};
use relay_testkit::lambda_fake::stack::{array, expect_str};
use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::webhook::{SIGNING_SECRET, contact_created, now, post};
use serde_json::json;

use crate::{to_clay, to_loops};

pub async fn operated() -> OperatorHarness {
    OperatorHarness::with_setup(|_, clay| Setup {
        loops_to_clay: Some(to_clay(&[clay])),
        clay_to_loops: Some(to_loops()),
        ..Setup::default()
    })
    .await
}

/// The checks that are not well, and how they came out.
pub fn not_well(said: &CliOutput) -> Vec<(String, String)> {
    let document = said.json();
    let findings = array(&document["findings"]).filter(|finding| finding["outcome"] != "ok");
    let mut names: Vec<_> = findings
        .map(|finding| (expect_str(&finding["check"]).to_owned(), expect_str(&finding["outcome"]).to_owned()))
        .collect();
    names.dedup();
    names
}

/// Examines, and finds exactly these checks not well; the exit code says the worst, and every sentence can be read.
pub async fn finds(operated: &OperatorHarness, expected: &[(&str, &str)]) -> CliOutput {
    let said = operated.doctor().await;
    let expected: Vec<_> =
        expected.iter().map(|(check, outcome)| ((*check).to_owned(), (*outcome).to_owned())).collect();
    assert_eq!(not_well(&said), expected, "{}", said.stdout);
    let worst = if expected.iter().any(|(_, outcome)| outcome == "fail") { 1 } else { 4 };
    assert_eq!(said.code, if expected.is_empty() { 0 } else { worst }, "{said:?}");
    for finding in array(&said.json()["findings"]) {
        let told = format!("{}{}", finding["seen"], finding["toDo"]);
        assert!(told.chars().count() <= 320 && !told.contains("hidden"), "{told}");
        assert!(finding["outcome"] == "ok" || finding["toDo"].is_string(), "{finding}");
    }
    for secret in [SIGNING_SECRET, "relay-token-for-tests", "\"key\""] {
        assert!(!said.stdout.contains(secret) && !said.stderr.contains(secret), "{secret} in {said:?}");
    }
    said
}

#[tokio::test]
async fn functions_of_another_version_or_gone_are_named() {
    let operated = operated().await;
    let lambda = aws_sdk_lambda::Client::new(&sdk_config());
    let function = format!("{}-loops-delivery", operated.name());
    for (version, expected) in [("0.0.9", vec![("versions", "warn")]), (env!("CARGO_PKG_VERSION"), vec![])] {
        let environment = Environment::builder().variables("RELAY_VERSION", version).build();
        let update = lambda.update_function_configuration().function_name(&function).environment(environment);
        update.send().await.unwrap();
        let said = finds(&operated, &expected).await;
        assert!(
            expected.is_empty() || said.worst_finding("versions").observed.contains("loops-delivery has 0.0.9"),
            "{said:?}"
        );
    }
    lambda.delete_function().function_name(&function).send().await.unwrap();
    let said = operated.doctor().await;
    assert_eq!((said.code, said.worst_finding("versions").outcome.as_str()), (1, "fail"), "{said:?}");
    assert!(said.worst_finding("versions").observed.contains(&function), "{said:?}");
}

#[tokio::test]
async fn an_endpoint_that_is_gone_wrong_or_somebody_elses_is_named() {
    let operated = operated().await;
    operated.point_outputs_to("http://127.0.0.1:9").await;
    let said = finds(&operated, &[("endpoint", "fail")]).await;
    assert!(said.worst_finding("endpoint").observed.contains("nothing answers at http://127.0.0.1:9"), "{said:?}");
    operated.point_outputs_to("https://no-such-host.invalid").await;
    let said = finds(&operated, &[("endpoint", "fail")]).await;
    assert!(said.worst_finding("endpoint").observed.contains("does not resolve"), "{said:?}");
    // Whatever comes is taken: a page in front of the relay, or a relay that does not look.
    let time =
        |seconds: i64| jiff::Timestamp::from_second(now() + seconds).unwrap().strftime("%a, %d %b %Y %H:%M:%S GMT");
    let takes_all = r#"{"success":true,"status":"test"}"#;
    let other = MockDestination::start(Reply::json(200, takes_all).with_header("Date", &time(0).to_string())).await;
    operated.point_outputs_to(&other.url("")).await;
    let said = finds(&operated, &[("forged-webhook", "fail"), ("wrong-token", "fail"), ("relay-token", "fail")]).await;
    assert!(said.worst_finding("forged-webhook").observed.contains("anybody can add rows"), "{said:?}");
    other.set_default_reply(Reply::status(404).with_header("Date", &time(0).to_string()));
    let said = operated.doctor().await;
    assert!(said.worst_finding("signed-webhook").observed.contains("404"), "{said:?}");
    for (seconds, outcome) in [(-3600, "fail"), (100, "warn")] {
        other.set_default_reply(Reply::json(401, "{}").with_header("Date", &time(seconds).to_string()));
        let found = operated.doctor().await.worst_finding("clock");
        assert_eq!(found.outcome, outcome, "{found:?}");
        assert!(found.observed.contains(if seconds < 0 { "ahead of" } else { "behind" }), "{found:?}");
    }
    other.set_default_reply(Reply::status(500));
    let said = operated.doctor().await;
    assert_eq!((said.code, said.worst_finding("signed-webhook").outcome.as_str()), (1, "fail"));
}

#[tokio::test]
async fn dead_letters_old_messages_and_paused_workers_are_named() {
    let mut operated = operated().await;
    operated.fake_stack.stop_workers().await;
    let (sqs, lambda) = (operated.stack().clients().sqs(), aws_sdk_lambda::Client::new(&sdk_config()));
    for (queue, check) in [("ClayDeadLetters", "clay-dead-letters"), ("LoopsDeadLetters", "loops-dead-letters")] {
        let url = operated.stack().queue(queue).to_owned();
        let send = sqs.send_message().queue_url(&url).message_body("hidden").message_group_id("g");
        send.message_deduplication_id("d").send().await.unwrap();
        finds(&operated, &[(check, "warn")]).await;
        sqs.purge_queue().queue_url(&url).send().await.unwrap();
        finds(&operated, &[]).await;
    }
    let url = operated.stack().queue("ClayQueue").to_owned();
    let send = sqs.send_message().queue_url(&url).message_body("hidden").message_group_id("g");
    send.message_deduplication_id("d").send().await.unwrap();
    finds(&operated, &[]).await;
    let name = url.rsplit('/').next().unwrap();
    let age = MetricDatum::builder()
        .metric_name("ApproximateAgeOfOldestMessage")
        .dimensions(Dimension::builder().name("QueueName").value(name).build())
        .value(7200.0)
        .build();
    let cloudwatch = aws_sdk_cloudwatch::Client::new(&sdk_config());
    cloudwatch.put_metric_data().namespace("AWS/SQS").metric_data(age).send().await.unwrap();
    let said = finds(&operated, &[("clay-queue", "warn")]).await;
    assert_eq!(said.worst_finding("clay-queue").observed, "1 waiting, the oldest for 7200 s");
    sqs.purge_queue().queue_url(&url).send().await.unwrap();
    let table = operated.stack().clients().dynamodb();
    let pace = AttributeValue::S("pace#loops".to_owned());
    let put = table.put_item().table_name(operated.stack().table()).item("pk", pace.clone());
    put.item("stopped_at", AttributeValue::N("1".to_owned())).send().await.unwrap();
    finds(&operated, &[("loops-worker", "warn")]).await;
    table.delete_item().table_name(operated.stack().table()).key("pk", pace).send().await.unwrap();
    for (function, check) in [("clay-delivery", "clay-worker"), ("loops-delivery", "loops-worker")] {
        let described = operated.stack().description();
        let source = array(&described["event_sources"]).find(|source| source["function"] == function).unwrap();
        let id = expect_str(&source["id"]);
        lambda.update_event_source_mapping().uuid(id).enabled(false).send().await.unwrap();
        let said = finds(&operated, &[(check, "warn")]).await;
        let resume = format!("relayctl --stack {} resume", operated.name());
        assert!(said.worst_finding(check).remedy.contains(&resume), "{said:?}");
        lambda.delete_event_source_mapping().uuid(id).send().await.unwrap();
        let said = operated.doctor().await;
        assert_eq!((said.code, said.worst_finding(check).outcome.as_str()), (1, "fail"), "{said:?}");
        let made = lambda.create_event_source_mapping().function_name(format!("{}-{function}", operated.name()));
        let queue = array(&described["event_sources"]).find(|source| source["function"] == function).unwrap();
        let arn = expect_str(&described["queues"][expect_str(&queue["queue"])]["arn"]);
        made.event_source_arn(arn).send().await.unwrap();
        finds(&operated, &[]).await;
    }
}

#[tokio::test]
async fn a_pool_that_is_used_up_soon_or_now_is_named() {
    let operated = operated().await;
    let webhook = ClayWebhook::new(&operated.clay.url("/v3/sources/webhook/x"), None).unwrap().fingerprint();
    let number = |number: i64| AttributeValue::N(number.to_string());
    let put = async |taken: i64, refused: Option<i64>| {
        let table = operated.stack().clients().dynamodb();
        let item = table
            .put_item()
            .table_name(operated.stack().table())
            .item("pk", AttributeValue::S(format!("webhook#{webhook}")));
        let item = item.item("taken", number(taken));
        let item = match refused {
            Some(status) => item.item("refused_status", number(status)).item("refused_at", number(now() * 1000)),
            None => item,
        };
        item.send().await.unwrap();
    };
    put(39_999, None).await;
    let said = finds(&operated, &[]).await;
    assert!(said.worst_finding("clay-webhook-use").observed.ends_with("has taken 39999 of 50000"), "{said:?}");
    put(40_000, None).await;
    finds(&operated, &[("clay-webhook-use", "warn")]).await;
    for (taken, status) in [(49_000, Some(403)), (50_000, None), (7, Some(401))] {
        put(taken, status).await;
        finds(&operated, &[("clay-webhook-use", "fail")]).await;
    }
}

#[tokio::test]
async fn errors_in_the_log_and_alarms_that_ring_are_named() {
    let operated = operated().await;
    let (logs, cloudwatch) =
        (aws_sdk_cloudwatchlogs::Client::new(&sdk_config()), aws_sdk_cloudwatch::Client::new(&sdk_config()));
    let alarm = format!("{}-clay-held", operated.name());
    let put = cloudwatch.put_metric_alarm().alarm_name(&alarm).metric_name("m").namespace("n").period(60);
    let put = put.evaluation_periods(1).threshold(1.0).statistic(Statistic::Sum);
    put.comparison_operator(ComparisonOperator::GreaterThanThreshold).send().await.unwrap();
    for (state, expected) in [(StateValue::Alarm, vec![("alarms", "warn")]), (StateValue::Ok, vec![])] {
        cloudwatch.set_alarm_state().alarm_name(&alarm).state_value(state).state_reason("x").send().await.unwrap();
        finds(&operated, &expected).await;
    }
    // Another stack's, whose name begins alike.
    let other = format!("{}-two-clay-held", operated.name());
    let put = cloudwatch.put_metric_alarm().alarm_name(&other).metric_name("m").namespace("n").period(60);
    let put = put.evaluation_periods(1).threshold(1.0).statistic(Statistic::Sum);
    put.comparison_operator(ComparisonOperator::GreaterThanThreshold).send().await.unwrap();
    let ring = cloudwatch.set_alarm_state().alarm_name(&other).state_value(StateValue::Alarm).state_reason("x");
    ring.send().await.unwrap();
    finds(&operated, &[]).await;
    cloudwatch.delete_alarms().alarm_names(&alarm).send().await.unwrap();
    let said = finds(&operated, &[("alarms", "warn")]).await;
    assert!(said.worst_finding("alarms").observed.ends_with("cannot ring: clay-held"), "{said:?}");
    let put = cloudwatch.put_metric_alarm().alarm_name(&alarm).metric_name("m").namespace("n").period(60);
    let put = put.evaluation_periods(1).threshold(1.0).statistic(Statistic::Sum);
    put.comparison_operator(ComparisonOperator::GreaterThanThreshold).send().await.unwrap();
    let group = format!("/aws/lambda/{}-clay-delivery", operated.name());
    logs.create_log_stream().log_group_name(&group).log_stream_name("s").send().await.unwrap();
    let line = json!({"level": "ERROR", "message": "the ledger cannot be written", "x": "hidden"}).to_string();
    let fine = json!({"level": "INFO", "message": "delivered"}).to_string();
    let event = |text: &str| InputLogEvent::builder().timestamp(now() * 1000).message(text).build().unwrap();
    let put = logs.put_log_events().log_group_name(&group).log_stream_name("s");
    put.log_events(event(&fine)).log_events(event(&line)).send().await.unwrap();
    let said = finds(&operated, &[("function-errors", "warn")]).await;
    let seen = said.worst_finding("function-errors").observed;
    assert_eq!(seen, "in the last hour: clay-delivery 1, the last: the ledger cannot be written");
}

#[tokio::test]
async fn parts_of_the_stack_that_are_gone_are_named() {
    let mut operated = operated().await;
    operated.fake_stack.stop_workers().await;
    operated.update_outputs(&[("LedgerTableName", String::new())]).await;
    let said = finds(
        &operated,
        &[("outputs", "fail"), ("loops-worker", "fail"), ("clay-webhook-use", "fail"), ("last-delivery", "fail")],
    )
    .await;
    assert!(said.worst_finding("outputs").observed.contains("LedgerTableName"), "{said:?}");
    operated.update_outputs(&[("LedgerTableName", operated.stack().table().to_owned())]).await;
    finds(&operated, &[]).await;
    let account = operated.stack().clients();
    account.sqs().delete_queue().queue_url(operated.stack().queue("LoopsDeadLetters")).send().await.unwrap();
    finds(&operated, &[("loops-dead-letters", "fail")]).await;
    account.dynamodb().delete_table().table_name(operated.stack().table()).send().await.unwrap();
    let said = operated.doctor().await;
    assert_eq!(said.worst_finding("last-delivery").outcome, "fail", "{said:?}");
    assert!(said.worst_finding("clay-webhook-use").observed.contains("is not there"), "{said:?}");
}

#[tokio::test]
async fn a_permission_that_is_missing_is_a_warning_that_names_it() {
    let operated = operated().await;
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
        operated.permission_proxy.deny(action, "AccessDeniedException");
        let expected: Vec<_> = checks.iter().map(|check| (*check, "warn")).collect();
        let said = finds(&operated, &expected).await;
        for check in checks {
            let found = said.worst_finding(check);
            let elsewhere = found.observed.starts_with("not known") && found.remedy.starts_with("see secret-");
            assert!(found.observed.contains(permission) || elsewhere, "{said:?}");
        }
        operated.permission_proxy.allow_all();
    }
}

#[tokio::test]
async fn the_last_delivery_is_told_and_doctor_itself_delivers_nothing() {
    let operated = operated().await;
    assert_eq!(post(&operated.fake_stack.base(), "msg_1", &contact_created("ada@example.com")).await.status, 200);
    eventually("a row in Clay", async || (operated.clay.received().len() == 1).then_some(())).await;
    let said = eventually("it is on record", async || {
        let said = finds(&operated, &[]).await;
        said.worst_finding("last-delivery").observed.contains("(loops-to-clay)").then_some(said)
    })
    .await;
    assert!(said.worst_finding("clay-webhook-use").observed.contains("has taken 1 of 50000"), "{said:?}");
    assert_eq!(operated.clay.received().len(), 1);
    assert!(operated.loops.received().iter().all(|got| got.method == "GET"));
}

#[tokio::test]
async fn a_row_goes_each_way_where_that_is_asked_for() {
    let operated = operated().await;
    let said = operated.relayctl(&["doctor", "--json", "--send", "ada@example.com"], "").await;
    assert_eq!((said.code, not_well(&said)), (0, vec![]), "{said:?}");
    let row = operated.clay.received();
    assert_eq!(row.len(), 1);
    assert!(row[0].text().contains("ada@example.com") && row[0].text().contains("relayctl doctor"), "{row:?}");
    let contacts: Vec<_> = operated.loops.received().into_iter().filter(|got| got.method == "PUT").collect();
    assert_eq!((contacts.len(), contacts[0].text().as_str()), (1, r#"{"email":"ada@example.com"}"#));
    assert!(!said.stdout.contains("ada@example.com"), "{said:?}");
    operated.clay.set_default_reply(Reply::status(400));
    let said = operated.relayctl(&["doctor", "--json", "--send", "ada@example.com"], "").await;
    let found = said.worst_finding("send-to-clay");
    assert!(found.outcome == "fail" && found.observed.contains("dead letter"), "{found:?}");
}
