//! The stage of the README's pictures: a stack called `relay` that nobody has set up, between far ends that take everything.
//!
//! usage: pictures COMMAND [ARGUMENT ...]
//!
//! Runs COMMAND once for each scene, with the scene's name as its last argument, and with what `relayctl` and a person need
//! in the environment. Between the scenes it lets happen what the next one is about. `make pictures` runs it.

use std::path::Path;
use std::process::ExitCode;

use relay_tests::cloud::Setup;
use relay_tests::cloud::operator::{Operated, program};
use relay_tests::cloud::stack::Stack;
use relay_tests::far_end::Reply;
use relay_tests::row::{Route, send_without_token};
use relay_tests::webhook::{SECRET, created, post};
use relay_tests::{eventually, http::Answer};
use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command;

/// The stack's name.
const NAME: &str = "relay";
/// What Loops says of a row that it does not take.
const REFUSAL: &str = r#"{"success":false,"message":"Unknown mailing list."}"#;

#[tokio::main]
async fn main() -> ExitCode {
    let command: Vec<String> = std::env::args().skip(1).collect();
    let Some((recorder, arguments)) = command.split_first() else {
        eprintln!("usage: pictures COMMAND [ARGUMENT ...]");
        return ExitCode::from(2);
    };
    let folder = TempDir::new().unwrap_or_else(|fault| panic!("{fault}"));
    let config = format!("version = 0.1\n[default.deploy.parameters]\nstack_name = \"{NAME}\"\n");
    std::fs::write(folder.path().join("samconfig.toml"), config).unwrap_or_else(|fault| panic!("{fault}"));
    let rates = ["CLAY_RATE_PER_SECOND", "LOOPS_RATE_PER_SECOND"].map(|name| (name.to_owned(), "200".to_owned()));
    let setup = Setup { settings: rates.into(), ..Setup::default() };
    let operated = Operated::on(Stack::named(NAME.to_owned()).await, |_, _| setup).await;
    for scene in ["setup", "doctor", "dead-letters"] {
        match scene {
            "doctor" => something_delivered(&operated).await,
            "dead-letters" => three_letters(&operated).await,
            _ => {}
        }
        if !recorded(&operated, folder.path(), recorder, &[arguments, &[scene.to_owned()]].concat()).await {
            eprintln!("the picture of {scene} could not be made");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

async fn recorded(operated: &Operated, folder: &Path, recorder: &str, arguments: &[String]) -> bool {
    let recorder = std::path::absolute(recorder).unwrap_or_else(|fault| panic!("{fault}"));
    let status = Command::new(recorder)
        .args(arguments)
        .env_clear()
        .envs(operated.variables())
        .env("RELAYCTL", program())
        .env("LOOPS_API_KEY", "loops-api-key-of-the-picture")
        .env("LOOPS_SIGNING_SECRET", SECRET)
        .env("CLAY_WEBHOOK_URL", operated.clay.url("/v3/sources/webhook/pull-in-data-from-a-webhook-1"))
        .env("CLAY_WEBHOOK_AUTH_TOKEN", "clay-token-of-the-picture")
        .env("RELAY_TOKEN", relay_token(operated).await)
        .current_dir(folder)
        .status()
        .await;
    status.is_ok_and(|status| status.success())
}

async fn something_delivered(operated: &Operated) {
    let base = operated.cloud.base();
    assert_eq!(post(&base, "msg_1", &created("ada@example.com")).await.status, 200);
    assert_eq!(row(operated, "ada@example.com", &[]).await.status, 200);
    eventually("a delivered row", async || (operated.cloud.length("ClayQueue").await == 0).then_some(())).await;
}

/// One dead letter of each of three reasons: two towards Clay, one towards Loops.
async fn three_letters(operated: &Operated) {
    let base = operated.cloud.base();
    let big = json!({"eventName": "contact.created", "note": "x".repeat(120_000)}).to_string();
    assert_eq!(post(&base, "msg_2", big.as_bytes()).await.status, 200);
    operated.clay.then([Reply::status(400)]);
    assert_eq!(post(&base, "msg_3", &created("grace@example.com")).await.status, 200);
    letters_are(operated, "ClayDeadLetters", 2).await;
    operated.loops.then([Reply::json(400, REFUSAL)]);
    assert_eq!(row(operated, "eve@example.com", &[("prefer", "respond-async")]).await.status, 202);
    letters_are(operated, "LoopsDeadLetters", 1).await;
}

async fn row(operated: &Operated, email: &str, headers: &[(&str, &str)]) -> Answer {
    let authorization = format!("Bearer {}", relay_token(operated).await);
    let own = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    let row = json!({"email": email, "plan": "pro"}).to_string();
    send_without_token(&operated.cloud.base(), Route::Contact, "", &[headers, &own].concat(), row).await
}

/// The token that the template has generated.
async fn relay_token(operated: &Operated) -> String {
    operated.document("ClayToLoopsSecret").await["relay_tokens"].as_str().unwrap_or_default().to_owned()
}

async fn letters_are(operated: &Operated, queue: &str, many: u64) {
    eventually("the dead letters", async || (operated.cloud.length(queue).await == many).then_some(())).await;
}
