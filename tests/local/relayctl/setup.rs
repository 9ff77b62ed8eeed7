//! `relayctl --local setup`: rejected input, so that no stored value is lost and no wrong one is stored.

use std::path::Path;

use relay_testkit::deliveries::ListDeliveries as _;
use relay_testkit::eventually;
use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::relay_process::{Relay, TempDataDir};
use relay_testkit::relayctl::{CliOutput, LOOPS_TEAM_BODY, run_relayctl};
use relay_testkit::row::{Route, send_without_token};
use relay_testkit::webhook::{SIGNING_SECRET, contact_created, post};
use serde_json::Value;

/// `setup` on a folder, with this on its standard input.
async fn setup(folder: &Path, arguments: &[&str], input: &str) -> CliOutput {
    let local = format!("--local={}", folder.display());
    run_relayctl(&[], &[&[local.as_str(), "setup"], arguments].concat(), input).await
}

/// Returns the stored secrets of the folder.
fn stored_secrets(folder: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(folder.join("secrets.json")).unwrap()).unwrap()
}

/// Expects a usage error in one sentence that contains `part` and no value, and unchanged stored values.
async fn assert_rejected(folder: &Path, arguments: &[&str], input: &str, part: &str) {
    let before = std::fs::read(folder.join("secrets.json")).ok();
    let output = setup(folder, arguments, input).await;
    assert_eq!(output.code, 2, "{output:?}");
    assert!(
        output.stderr.contains(part) && output.stderr.lines().count() == 1 && output.stderr.len() <= 320,
        "{output:?}"
    );
    assert!(!output.stderr.contains("hidden"), "{output:?}");
    assert_eq!(std::fs::read(folder.join("secrets.json")).ok(), before);
}

const POOL_INPUT: &str = "CLAY_WEBHOOK_URL=https://api.clay.com/hidden-x,https://api.clay.com/hidden-y\n\
                    CLAY_WEBHOOK_AUTH_TOKEN=one,two\n";

#[tokio::test]
async fn pool_shrinks_only_with_retire_or_force() {
    let folder = TempDataDir::new();
    assert_eq!(setup(folder.path(), &["--from", "-"], POOL_INPUT).await.code, 0);
    let other = "CLAY_WEBHOOK_URL=https://api.clay.com/hidden-z\n";
    assert_rejected(folder.path(), &["--from", "-"], other, "2 of the 2 Clay webhooks").await;
    let existing_url = "CLAY_WEBHOOK_URL=https://api.clay.com/hidden-y";
    assert_rejected(folder.path(), &["--add-clay-webhook", "--from", "-"], existing_url, "as number 2").await;
    let token = "CLAY_WEBHOOK_AUTH_TOKEN=hidden";
    assert_rejected(folder.path(), &["--add-clay-webhook", "--from", "-"], token, "needs CLAY_WEBHOOK_URL").await;
    let added = format!("{other}CLAY_WEBHOOK_AUTH_TOKEN=three");
    assert_eq!(setup(folder.path(), &["--add-clay-webhook", "--from", "-"], &added).await.code, 0);
    assert_eq!(stored_secrets(folder.path())["CLAY_WEBHOOK_AUTH_TOKEN"], "one,two,three");
    // The same URLs and one more, without tokens: each existing one keeps its token.
    let extended = format!(
        "CLAY_WEBHOOK_URL={},https://api.clay.com/hidden-more",
        stored_secrets(folder.path())["CLAY_WEBHOOK_URL"].as_str().unwrap()
    );
    assert_eq!(setup(folder.path(), &["--from", "-"], &extended).await.code, 0);
    assert_eq!(stored_secrets(folder.path())["CLAY_WEBHOOK_AUTH_TOKEN"], "one,two,three,");
    let listed = setup(folder.path(), &["--list", "--json"], "").await.json();
    let second = listed["clayRoutes"][0]["webhooks"][1].clone();
    assert_eq!(second["position"], 2);
    let output = setup(folder.path(), &["--retire-clay-webhook", second["key"].as_str().unwrap()], "").await;
    assert!(output.code == 0 && output.stdout.contains("is retired"), "{output:?}");
    assert_eq!(stored_secrets(folder.path())["CLAY_WEBHOOK_AUTH_TOKEN"], "one,three,");
    assert_rejected(folder.path(), &["--retire-clay-webhook", "4"], "", "no Clay webhook number 4").await;
    for _ in 0..2 {
        assert_eq!(setup(folder.path(), &["--retire-clay-webhook", "1"], "").await.code, 0);
    }
    let last_retired = setup(folder.path(), &["--retire-clay-webhook", "1"], "").await;
    assert_eq!((last_retired.code, last_retired.stderr.contains("--force")), (1, true), "{last_retired:?}");
    assert_eq!(setup(folder.path(), &["--from", "-", "--force"], other).await.code, 0);
    assert_eq!(stored_secrets(folder.path())["CLAY_WEBHOOK_URL"], "https://api.clay.com/hidden-z");
}

#[tokio::test]
async fn single_token_replaces_pool_tokens_only_with_force() {
    let folder = TempDataDir::new();
    assert_eq!(setup(folder.path(), &["--from", "-"], POOL_INPUT).await.code, 0);
    let single_token = "CLAY_WEBHOOK_AUTH_TOKEN=hidden";
    assert_rejected(folder.path(), &["--from", "-"], single_token, "--retire-clay-webhook and --add-clay-webhook")
        .await;
    let token_per_url = "CLAY_WEBHOOK_AUTH_TOKEN=one,other";
    assert_eq!(setup(folder.path(), &["--from", "-"], token_per_url).await.code, 0);
    assert_eq!(stored_secrets(folder.path())["CLAY_WEBHOOK_AUTH_TOKEN"], "one,other");
    assert_eq!(setup(folder.path(), &["--from", "-", "--force"], single_token).await.code, 0);
    assert_eq!(stored_secrets(folder.path())["CLAY_WEBHOOK_AUTH_TOKEN"], "hidden,hidden");
}

#[tokio::test]
async fn invalid_stored_value_is_reported_with_file_and_replaceable() {
    let folder = TempDataDir::new();
    let file = folder.path().join("secrets.json");
    let invalid_values = r#"{"CLAY_WEBHOOK_URL": "htps://api.clay.com/hidden", "LOOPS_SIGNING_SECRET": "%hidden%"}"#;
    std::fs::write(&file, invalid_values).unwrap();
    let local = format!("--local={}", folder.path().display());
    let output = run_relayctl(&[], &[&local, "doctor"], "").await;
    assert_eq!(output.code, 3, "{output:?}");
    assert!(output.stderr.contains(&format!("it is kept in {}", file.display())), "{output:?}");
    assert!(output.stderr.contains(&format!("`relayctl {local} setup --force`")), "{output:?}");
    assert!(!output.stderr.contains("hidden") && !output.stderr.contains("terminal"), "{output:?}");
    assert_eq!(setup(folder.path(), &["--list"], "").await.code, 0);
    let url = "CLAY_WEBHOOK_URL=https://api.clay.com/hook\n";
    let output = setup(folder.path(), &["--from", "-", "--force"], url).await;
    assert_eq!(
        (output.code, output.stderr.contains(&*file.to_string_lossy())),
        (3, true),
        "the secret is still wrong: {output:?}"
    );
    let both = format!("{url}LOOPS_SIGNING_SECRET={SIGNING_SECRET}");
    assert_eq!(setup(folder.path(), &["--from", "-", "--force"], &both).await.code, 0);
    assert_eq!(stored_secrets(folder.path())["CLAY_WEBHOOK_URL"], "https://api.clay.com/hook");
    assert_eq!(stored_secrets(folder.path())["LOOPS_SIGNING_SECRET"], SIGNING_SECRET);
}

#[tokio::test]
async fn invalid_signing_secret_is_rejected() {
    const KEY: &str = "0123456789abcdef0123456789abcdef";
    let (folder, loops) = (TempDataDir::new(), MockDestination::start(Reply::json(200, LOOPS_TEAM_BODY)).await);
    let local = format!("--local={}", folder.path().display());
    let api = [("LOOPS_API_URL", loops.url("/api"))];
    let from = [local.as_str(), "setup", "--from", "-"];
    let both = format!("LOOPS_API_KEY={KEY}\nLOOPS_SIGNING_SECRET={KEY}");
    assert_rejected(folder.path(), &["--from", "-"], &both, "is the Loops API key").await;
    assert!(loops.received().is_empty(), "Loops is not asked");
    assert_rejected(folder.path(), &["--from", "-"], "LOOPS_SIGNING_SECRET=foo", "too short").await;
    assert_eq!(run_relayctl(&api, &from, &format!("LOOPS_API_KEY={KEY}")).await.code, 0);
    let secret = format!("LOOPS_SIGNING_SECRET=whsec_{KEY}");
    for arguments in [&["--from", "-"][..], &["--add-signing-secret", "--from", "-"]] {
        assert_rejected(folder.path(), arguments, &secret, "is the Loops API key").await;
    }
    let unprefixed = format!("LOOPS_SIGNING_SECRET={}", SIGNING_SECRET.trim_start_matches("whsec_"));
    let output = setup(folder.path(), &["--from", "-"], &unprefixed).await;
    assert!(output.code == 0 && output.stdout.contains("has no whsec_ before it"), "{output:?}");
    let output = setup(folder.path(), &["--from", "-"], &format!("LOOPS_SIGNING_SECRET={SIGNING_SECRET}")).await;
    assert!(output.code == 0 && !output.stdout.contains("whsec_"), "{output:?}");
}

#[tokio::test]
async fn value_that_the_command_ignores_is_rejected() {
    let folder = TempDataDir::new();
    let add = ["--add-signing-secret", "--from", "-"];
    assert_rejected(folder.path(), &add, "LOOPS_API_KEY=hidden-key", "does not take LOOPS_API_KEY").await;
    let both = format!("LOOPS_SIGNING_SECRET={SIGNING_SECRET}\nCLAY_WEBHOOK_URL=https://api.clay.com/hidden");
    assert_rejected(folder.path(), &add, &both, "does not take CLAY_WEBHOOK_URL").await;
    let other = format!("LOOPS_SIGNING_SECRET={SIGNING_SECRET}");
    assert_rejected(folder.path(), &["--add-clay-webhook", "--from", "-"], &other, "does not take LOOPS_SIGNING").await;
    for input in ["", "\n# nothing\n", "{}", "LOOPS_API_KEY=\nCLAY_WEBHOOK_URL=\n", "LOOPS_SIGNING_SECRET=,"] {
        assert_rejected(folder.path(), &["--from", "-"], input, "no value was given").await;
        assert_rejected(folder.path(), &add, input, "no value was given").await;
    }
}

#[tokio::test]
async fn list_and_retire_create_no_folder() {
    let parent = TempDataDir::new();
    let folder = parent.path().join("none");
    for arguments in [&["--list"][..], &["--retire-relay-token", "1"], &["--retire-clay-webhook", "1"]] {
        let output = setup(&folder, arguments, "").await;
        assert_eq!((output.code, output.stderr.contains("is not a data folder")), (3, true), "{output:?}");
        assert!(!folder.exists());
    }
}

/// A relay on a folder that holds its webhooks and keys, with nothing of them in its environment.
async fn start_relay(folder: TempDataDir) -> Relay {
    let settings = [("CLAY_RATE_PER_SECOND", "1000")];
    Relay::start_without(folder, &settings, &["RELAY_TOKEN", "LOOPS_SIGNING_SECRET"]).await
}

async fn post_webhook(relay: &Relay, name: &str) {
    let response = post(relay.base(), &format!("msg_{name}"), &contact_created(&format!("{name}@example.com"))).await;
    assert_eq!(response.status, 200, "{response:?}");
}

/// Waits until the deliveries of a relay have exactly these states and reasons.
async fn wait_for_deliveries(relay: &Relay, expected: &[(&str, &str)]) {
    eventually(&format!("{expected:?}"), async || {
        let all = relay.deliveries().await;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let actual: Vec<_> = all.iter().map(|delivery| (text(&delivery["state"]), text(&delivery["reason"]))).collect();
        let matches =
            actual.iter().map(|(state, reason)| (state.as_str(), reason.as_str())).eq(expected.iter().copied());
        matches.then_some(())
    })
    .await;
}

#[tokio::test]
async fn running_relay_delivers_held_after_setup_adds_webhook() {
    let (old, new) =
        (MockDestination::start(Reply::status(403)).await, MockDestination::start(Reply::status(200)).await);
    let folder = TempDataDir::new();
    let first = format!("CLAY_WEBHOOK_URL={}\nLOOPS_SIGNING_SECRET={SIGNING_SECRET}", old.url("/hook"));
    assert_eq!(setup(folder.path(), &["--from", "-"], &first).await.code, 0);
    let relay = start_relay(folder).await;
    for name in ["ada", "bob", "cyd"] {
        post_webhook(&relay, name).await;
    }
    wait_for_deliveries(&relay, &[("waiting", "clay_webhooks_exhausted"); 3]).await;
    let output = setup(
        relay.folder(),
        &["--add-clay-webhook", "--from", "-"],
        &format!("CLAY_WEBHOOK_URL={}", new.url("/hook")),
    )
    .await;
    assert!(output.code == 0 && output.stdout.contains("takes it up within a second"), "{output:?}");
    // The next try by itself would be a minute later.
    wait_for_deliveries(&relay, &[("delivered", ""); 3]).await;
    assert_eq!(new.received().len(), 3);
}

#[tokio::test]
async fn running_relay_reloads_signing_secret_token_and_webhook() {
    let folder = TempDataDir::new();
    let relay = start_relay(folder).await;
    let rejected = post(relay.base(), "msg_ada", &contact_created("ada@example.com")).await;
    assert_eq!(rejected.status, 401, "it has a generated secret");
    let clay = MockDestination::start(Reply::status(200)).await;
    let input = format!("CLAY_WEBHOOK_URL={}\nLOOPS_SIGNING_SECRET={SIGNING_SECRET}", clay.url("/hook"));
    assert_eq!(setup(relay.folder(), &["--from", "-"], &input).await.code, 0);
    // Read on demand: at once, however long the polling interval of the file is.
    post_webhook(&relay, "ada").await;
    wait_for_deliveries(&relay, &[("delivered", "")]).await;
    assert_eq!(clay.received().len(), 1, "it is not simulated any more");
    let added = setup(relay.folder(), &["--add-relay-token", "--show-token", "--json"], "").await.json();
    let token = added["relayTokens"][1]["token"].as_str().unwrap().to_owned();
    let row = serde_json::json!({"email": "ada@example.com"}).to_string();
    let authorized = [("authorization", format!("Bearer {token}"))];
    let headers: Vec<(&str, &str)> = authorized.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let response = send_without_token(relay.base(), Route::Contact, "", &headers, row).await;
    assert_eq!(response.status, 200, "{response:?}");
}

#[tokio::test]
async fn running_relay_tolerates_an_unusable_secrets_file_at_first() {
    let clay = MockDestination::start(Reply::status(200)).await;
    let folder = TempDataDir::new();
    let input = format!("CLAY_WEBHOOK_URL={}\nLOOPS_SIGNING_SECRET={SIGNING_SECRET}", clay.url("/hook"));
    assert_eq!(setup(folder.path(), &["--from", "-"], &input).await.code, 0);
    let relay = start_relay(folder).await;
    let file = relay.folder().join("secrets.json");
    std::fs::write(&file, "hidden").unwrap();
    eventually("a warning", async || relay.log().contains("cannot be used: in a minute").then_some(())).await;
    for (count, text) in
        ["hidden", r#"{"LOOPS_SIGNING_SECRET": "%hidden%", "CLAY_WEBHOOK_URL": ""}"#].iter().enumerate()
    {
        std::fs::write(&file, text).unwrap();
        post_webhook(&relay, &format!("msg{count}")).await;
        eventually("the row", async || (clay.received().len() == count + 1).then_some(())).await;
    }
    assert!(!relay.log().contains("hidden"));
}

#[tokio::test]
async fn running_relay_closes_what_is_no_longer_in_the_secrets_file() {
    let folder = TempDataDir::new();
    let input = format!("LOOPS_SIGNING_SECRET={SIGNING_SECRET}");
    assert_eq!(setup(folder.path(), &["--from", "-"], &input).await.code, 0);
    let relay = start_relay(folder).await;
    let file = relay.folder().join("secrets.json");
    let stored = std::fs::read(&file).unwrap();
    let status = async || post(relay.base(), "msg_ada", &contact_created("ada@example.com")).await.status;
    assert_eq!(status().await, 200);
    std::fs::write(&file, "{}").unwrap();
    eventually("a closed route", async || (status().await == 503).then_some(())).await;
    std::fs::write(&file, stored).unwrap();
    eventually("an open route", async || (status().await == 200).then_some(())).await;
    std::fs::remove_file(&file).unwrap();
    eventually("a closed route", async || (status().await == 503).then_some(())).await;
}

#[tokio::test]
async fn signing_secrets_are_replaced_only_with_force() {
    const OTHER: &str = "whsec_c3VwZXItc2VjcmV0LWtleS1ieXRlcw==";
    let folder = TempDataDir::new();
    let (first, other) = (format!("LOOPS_SIGNING_SECRET={SIGNING_SECRET}"), format!("LOOPS_SIGNING_SECRET={OTHER}"));
    let output = setup(folder.path(), &["--from", "-"], &first).await;
    assert!(output.code == 0 && !output.stdout.contains("replaced"), "{output:?}");
    assert_eq!(setup(folder.path(), &["--add-signing-secret", "--from", "-"], &other).await.code, 0);
    assert_rejected(folder.path(), &["--from", "-"], &other, "1 of the 2 signing secrets").await;
    let both = format!("{first},{OTHER}");
    assert_eq!(setup(folder.path(), &["--from", "-"], &both).await.code, 0, "all of them stay");
    let output = setup(folder.path(), &["--from", "-", "--force"], &other).await;
    assert!(output.code == 0 && output.stdout.contains("is replaced"), "{output:?}");
    assert_eq!(stored_secrets(folder.path())["LOOPS_SIGNING_SECRET"], OTHER);
    let output = setup(folder.path(), &["--from", "-"], &first).await;
    assert!(
        output.code == 0 && output.stdout.contains("is replaced"),
        "a single one is removed, and that is reported: {output:?}"
    );
}

#[tokio::test]
async fn setup_warns_that_a_private_address_is_unreachable() {
    let folder = TempDataDir::new();
    let local = format!("--local={}", folder.path().display());
    for (listen, is_warned) in
        [("127.0.0.1:8787", true), ("0.0.0.0:80", true), ("10.0.0.7:80", true), ("203.0.113.7:80", false)]
    {
        let output =
            run_relayctl(&[("RELAY_LISTEN", listen.to_owned())], &[&local, "setup", "--from", "-"], POOL_INPUT).await;
        assert_eq!((output.code, output.stdout.contains("Loops and Clay cannot reach")), (0, is_warned), "{output:?}");
    }
}
