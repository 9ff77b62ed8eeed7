//! Stack for the screenshots of `relayctl` in the README. It runs until standard input ends.
//!
//! usage: demo-stack
//!
//! It prints one line of JSON with the environment of `relayctl` and the addresses of the destinations. Then it
//! executes each line of standard input as a command, and prints `done`:
//!
//! - `row`: sends a webhook and waits until its row is delivered to Clay
//! - `three-dead-letters`: creates three dead letters, each with another reason
//! - `dead-letters N`: sends N contacts that Loops rejects
//!
//! `make screenshots` runs it, with an emulated AWS beside it.

use std::collections::BTreeMap;
use std::io::BufRead as _;

use relay_testkit::eventually;
use relay_testkit::lambda_fake::Setup;
use relay_testkit::lambda_fake::operator::OperatorHarness;
use relay_testkit::lambda_fake::stack::Stack;
use relay_testkit::relay_process::RELAY_TOKEN;
use relay_testkit::webhook::{SIGNING_SECRET, contact_created, post};
use serde_json::json;

/// Stack name of samconfig.toml.
const STACK_NAME: &str = "loops-clay-relay";

#[tokio::main]
async fn main() {
    let harness =
        OperatorHarness::on_stack(Stack::create_named(STACK_NAME.to_owned()).await, |_, _| Setup::default()).await;
    // The token of the template is random; a fixed one has the same fingerprint in every screenshot.
    let mut document = harness.document("ClayToLoopsSecret").await;
    document["relay_tokens"] = json!(RELAY_TOKEN);
    harness.stack().put_secret("ClayToLoopsSecret", &document).await;
    let environment: BTreeMap<_, _> = harness.variables().into_iter().collect();
    let destinations = json!({"api": harness.fake_stack.base(), "clay": harness.clay.url("")});
    println!(
        "{}",
        json!({"environment": environment, "destinations": destinations, "secrets": {"token": RELAY_TOKEN, "signing": SIGNING_SECRET}})
    );
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("row", _) => send_row(&harness).await,
            ("three-dead-letters", _) => harness.create_three_dead_letters().await,
            ("dead-letters", number) => create_dead_letters(&harness, number.parse().unwrap_or(0)).await,
            _ => panic!("unknown command {line:?}"),
        }
        println!("done");
    }
}

async fn send_row(harness: &OperatorHarness) {
    let before = harness.clay.received().len();
    assert_eq!(post(&harness.fake_stack.base(), "msg_first", &contact_created("ada@example.com")).await.status, 200);
    eventually("a row in Clay", async || (harness.clay.received().len() > before).then_some(())).await;
    eventually("it is done", async || (harness.fake_stack.queue_length("ClayQueue").await == 0).then_some(())).await;
}

async fn create_dead_letters(harness: &OperatorHarness, number: u64) {
    let (clay, loops) = (
        harness.fake_stack.queue_length("ClayDeadLetters").await,
        harness.fake_stack.queue_length("LoopsDeadLetters").await,
    );
    for each in 0..number {
        harness.send_rejected_row(&format!("contact{each}@example.com")).await;
    }
    harness.wait_for_dead_letters(clay, loops + number).await;
}
