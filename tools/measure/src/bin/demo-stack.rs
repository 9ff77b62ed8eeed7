//! A stack as the README has it, for the pictures of `relayctl`: it runs until standard input ends.
//!
//! usage: operated
//!
//! It prints one line of JSON, the environment that the operator's program needs and what the far ends are; then it does what
//! each line of standard input says, and prints `done`:
//!
//! - `row`: a webhook comes, and its row is delivered to Clay
//! - `three-letters`: three deliveries die, each for another reason
//! - `letters N`: Loops refuses N contacts
//!
//! `make screenshots` runs it, with an emulated AWS beside it.

use std::collections::BTreeMap;
use std::io::BufRead as _;

use relay_testkit::eventually;
use relay_testkit::lambda_fake::Setup;
use relay_testkit::lambda_fake::operator::Operated;
use relay_testkit::lambda_fake::stack::Stack;
use relay_testkit::relay_process::TOKEN;
use relay_testkit::webhook::{SECRET, created, post};
use serde_json::json;

/// As samconfig.toml calls it.
const NAME: &str = "loops-clay-relay";

#[tokio::main]
async fn main() {
    let operated = Operated::on(Stack::named(NAME.to_owned()).await, |_, _| Setup::default()).await;
    // The stack has made a token; a fixed one has the same fingerprint each time.
    let mut document = operated.document("ClayToLoopsSecret").await;
    document["relay_tokens"] = json!(TOKEN);
    operated.stack().put_secret("ClayToLoopsSecret", &document).await;
    let environment: BTreeMap<_, _> = operated.variables().into_iter().collect();
    let ends = json!({"api": operated.cloud.base(), "clay": operated.clay.url("")});
    println!("{}", json!({"environment": environment, "ends": ends, "secrets": {"token": TOKEN, "signing": SECRET}}));
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("row", _) => row(&operated).await,
            ("three-letters", _) => operated.three_letters().await,
            ("letters", number) => letters(&operated, number.parse().unwrap_or(0)).await,
            _ => panic!("it does not know how to do {line:?}"),
        }
        println!("done");
    }
}

async fn row(operated: &Operated) {
    let before = operated.clay.got().len();
    assert_eq!(post(&operated.cloud.base(), "msg_first", &created("ada@example.com")).await.status, 200);
    eventually("a row in Clay", async || (operated.clay.got().len() > before).then_some(())).await;
    eventually("it is done", async || (operated.cloud.length("ClayQueue").await == 0).then_some(())).await;
}

async fn letters(operated: &Operated, number: u64) {
    let (clay, loops) =
        (operated.cloud.length("ClayDeadLetters").await, operated.cloud.length("LoopsDeadLetters").await);
    for each in 0..number {
        operated.refused_row(&format!("contact{each}@example.com")).await;
    }
    operated.letters_are(clay, loops + number).await;
}
