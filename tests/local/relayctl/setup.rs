//! `relayctl --local setup`: what it refuses, so that nothing that is there is lost and nothing wrong is stored.

use std::path::Path;

use relay_testkit::deliveries::ListDeliveries as _;
use relay_testkit::eventually;
use relay_testkit::lambda_fake::operator::{CliOutput, LOOPS_TEAM_BODY, run_relayctl};
use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::relay_process::{DataFolder, Relay};
use relay_testkit::row::{Route, send_without_token};
use relay_testkit::webhook::{SIGNING_SECRET, contact_created, post};
use serde_json::Value;

/// `setup` on a folder, with this on its standard input.
async fn setup(folder: &Path, words: &[&str], input: &str) -> CliOutput {
    let local = format!("--local={}", folder.display());
    run_relayctl(&[], &[&[local.as_str(), "setup"], words].concat(), input).await
}

/// What the folder keeps.
fn stored(folder: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(folder.join("secrets.json")).unwrap()).unwrap()
}

/// Refused as wrong use, in one sentence that tells this and no value; what is stored is as it was.
async fn assert_refused(folder: &Path, words: &[&str], input: &str, part: &str) {
    let before = std::fs::read(folder.join("secrets.json")).ok();
    let said = setup(folder, words, input).await;
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.stderr.contains(part) && said.stderr.lines().count() == 1 && said.stderr.len() <= 320, "{said:?}");
    assert!(!said.stderr.contains("hidden"), "{said:?}");
    assert_eq!(std::fs::read(folder.join("secrets.json")).ok(), before);
}

const POOL: &str = "CLAY_WEBHOOK_URL=https://api.clay.com/hidden-x,https://api.clay.com/hidden-y\n\
                    CLAY_WEBHOOK_AUTH_TOKEN=one,two\n";

#[tokio::test]
async fn a_pool_is_added_to_and_taken_from_and_never_thrown_away_by_the_way() {
    let folder = DataFolder::new();
    assert_eq!(setup(folder.path(), &["--from", "-"], POOL).await.code, 0);
    let other = "CLAY_WEBHOOK_URL=https://api.clay.com/hidden-z\n";
    assert_refused(folder.path(), &["--from", "-"], other, "2 of the 2 Clay webhooks").await;
    let known = "CLAY_WEBHOOK_URL=https://api.clay.com/hidden-y";
    assert_refused(folder.path(), &["--add-clay-webhook", "--from", "-"], known, "as number 2").await;
    let token = "CLAY_WEBHOOK_AUTH_TOKEN=hidden";
    assert_refused(folder.path(), &["--add-clay-webhook", "--from", "-"], token, "needs CLAY_WEBHOOK_URL").await;
    let added = format!("{other}CLAY_WEBHOOK_AUTH_TOKEN=three");
    assert_eq!(setup(folder.path(), &["--add-clay-webhook", "--from", "-"], &added).await.code, 0);
    assert_eq!(stored(folder.path())["CLAY_WEBHOOK_AUTH_TOKEN"], "one,two,three");
    // The same URLs and one more, without tokens: each keeps its own.
    let more = format!(
        "CLAY_WEBHOOK_URL={},https://api.clay.com/hidden-more",
        stored(folder.path())["CLAY_WEBHOOK_URL"].as_str().unwrap()
    );
    assert_eq!(setup(folder.path(), &["--from", "-"], &more).await.code, 0);
    assert_eq!(stored(folder.path())["CLAY_WEBHOOK_AUTH_TOKEN"], "one,two,three,");
    let listed = setup(folder.path(), &["--list", "--json"], "").await.json();
    let second = listed["clayRoutes"][0]["webhooks"][1].clone();
    assert_eq!(second["position"], 2);
    let said = setup(folder.path(), &["--retire-clay-webhook", second["key"].as_str().unwrap()], "").await;
    assert!(said.code == 0 && said.stdout.contains("is retired"), "{said:?}");
    assert_eq!(stored(folder.path())["CLAY_WEBHOOK_AUTH_TOKEN"], "one,three,");
    assert_refused(folder.path(), &["--retire-clay-webhook", "4"], "", "no Clay webhook number 4").await;
    for _ in 0..2 {
        assert_eq!(setup(folder.path(), &["--retire-clay-webhook", "1"], "").await.code, 0);
    }
    let last = setup(folder.path(), &["--retire-clay-webhook", "1"], "").await;
    assert_eq!((last.code, last.stderr.contains("--force")), (1, true), "{last:?}");
    assert_eq!(setup(folder.path(), &["--from", "-", "--force"], other).await.code, 0);
    assert_eq!(stored(folder.path())["CLAY_WEBHOOK_URL"], "https://api.clay.com/hidden-z");
}

#[tokio::test]
async fn the_tokens_of_a_pool_are_not_replaced_by_a_single_one_by_the_way() {
    let folder = DataFolder::new();
    assert_eq!(setup(folder.path(), &["--from", "-"], POOL).await.code, 0);
    let single = "CLAY_WEBHOOK_AUTH_TOKEN=hidden";
    assert_refused(folder.path(), &["--from", "-"], single, "--retire-clay-webhook and --add-clay-webhook").await;
    let each = "CLAY_WEBHOOK_AUTH_TOKEN=one,other";
    assert_eq!(setup(folder.path(), &["--from", "-"], each).await.code, 0);
    assert_eq!(stored(folder.path())["CLAY_WEBHOOK_AUTH_TOKEN"], "one,other");
    assert_eq!(setup(folder.path(), &["--from", "-", "--force"], single).await.code, 0);
    assert_eq!(stored(folder.path())["CLAY_WEBHOOK_AUTH_TOKEN"], "hidden,hidden");
}

#[tokio::test]
async fn a_value_of_the_file_that_is_of_no_use_is_told_by_the_file_and_replaced() {
    let folder = DataFolder::new();
    let file = folder.path().join("secrets.json");
    let slip = r#"{"CLAY_WEBHOOK_URL": "htps://api.clay.com/hidden", "LOOPS_SIGNING_SECRET": "%hidden%"}"#;
    std::fs::write(&file, slip).unwrap();
    let local = format!("--local={}", folder.path().display());
    let said = run_relayctl(&[], &[&local, "doctor"], "").await;
    assert_eq!(said.code, 3, "{said:?}");
    assert!(said.stderr.contains(&format!("it is kept in {}", file.display())), "{said:?}");
    assert!(said.stderr.contains(&format!("`relayctl {local} setup --force`")), "{said:?}");
    assert!(!said.stderr.contains("hidden") && !said.stderr.contains("terminal"), "{said:?}");
    assert_eq!(setup(folder.path(), &["--list"], "").await.code, 0);
    let url = "CLAY_WEBHOOK_URL=https://api.clay.com/hook\n";
    let said = setup(folder.path(), &["--from", "-", "--force"], url).await;
    assert_eq!(
        (said.code, said.stderr.contains(&*file.to_string_lossy())),
        (3, true),
        "the secret is still wrong: {said:?}"
    );
    let both = format!("{url}LOOPS_SIGNING_SECRET={SIGNING_SECRET}");
    assert_eq!(setup(folder.path(), &["--from", "-", "--force"], &both).await.code, 0);
    assert_eq!(stored(folder.path())["CLAY_WEBHOOK_URL"], "https://api.clay.com/hook");
    assert_eq!(stored(folder.path())["LOOPS_SIGNING_SECRET"], SIGNING_SECRET);
}

#[tokio::test]
async fn what_is_no_signing_secret_is_not_taken_for_one() {
    const KEY: &str = "0123456789abcdef0123456789abcdef";
    let (folder, loops) = (DataFolder::new(), MockDestination::start(Reply::json(200, LOOPS_TEAM_BODY)).await);
    let local = format!("--local={}", folder.path().display());
    let api = [("LOOPS_API_URL", loops.url("/api"))];
    let from = [local.as_str(), "setup", "--from", "-"];
    let both = format!("LOOPS_API_KEY={KEY}\nLOOPS_SIGNING_SECRET={KEY}");
    assert_refused(folder.path(), &["--from", "-"], &both, "is the Loops API key").await;
    assert!(loops.received().is_empty(), "Loops is not asked");
    assert_refused(folder.path(), &["--from", "-"], "LOOPS_SIGNING_SECRET=foo", "too short").await;
    assert_eq!(run_relayctl(&api, &from, &format!("LOOPS_API_KEY={KEY}")).await.code, 0);
    let secret = format!("LOOPS_SIGNING_SECRET=whsec_{KEY}");
    for words in [&["--from", "-"][..], &["--add-signing-secret", "--from", "-"]] {
        assert_refused(folder.path(), words, &secret, "is the Loops API key").await;
    }
    let bare = format!("LOOPS_SIGNING_SECRET={}", SIGNING_SECRET.trim_start_matches("whsec_"));
    let said = setup(folder.path(), &["--from", "-"], &bare).await;
    assert!(said.code == 0 && said.stdout.contains("has no whsec_ before it"), "{said:?}");
    let said = setup(folder.path(), &["--from", "-"], &format!("LOOPS_SIGNING_SECRET={SIGNING_SECRET}")).await;
    assert!(said.code == 0 && !said.stdout.contains("whsec_"), "{said:?}");
}

#[tokio::test]
async fn what_is_given_in_vain_is_told() {
    let folder = DataFolder::new();
    let add = ["--add-signing-secret", "--from", "-"];
    assert_refused(folder.path(), &add, "LOOPS_API_KEY=hidden-key", "does not take LOOPS_API_KEY").await;
    let both = format!("LOOPS_SIGNING_SECRET={SIGNING_SECRET}\nCLAY_WEBHOOK_URL=https://api.clay.com/hidden");
    assert_refused(folder.path(), &add, &both, "does not take CLAY_WEBHOOK_URL").await;
    let other = format!("LOOPS_SIGNING_SECRET={SIGNING_SECRET}");
    assert_refused(folder.path(), &["--add-clay-webhook", "--from", "-"], &other, "does not take LOOPS_SIGNING").await;
    for input in ["", "\n# nothing\n", "{}", "LOOPS_API_KEY=\nCLAY_WEBHOOK_URL=\n", "LOOPS_SIGNING_SECRET=,"] {
        assert_refused(folder.path(), &["--from", "-"], input, "no value was given").await;
        assert_refused(folder.path(), &add, input, "no value was given").await;
    }
}

#[tokio::test]
async fn what_only_looks_or_takes_out_makes_no_folder() {
    let parent = DataFolder::new();
    let folder = parent.path().join("none");
    for words in [&["--list"][..], &["--retire-relay-token", "1"], &["--retire-clay-webhook", "1"]] {
        let said = setup(&folder, words, "").await;
        assert_eq!((said.code, said.stderr.contains("is not a data folder")), (3, true), "{said:?}");
        assert!(!folder.exists());
    }
}

/// A relay on a folder that holds its webhooks and keys, with nothing of them in its environment.
async fn relay_on(folder: DataFolder) -> Relay {
    let settings = [("CLAY_RATE_PER_SECOND", "1000")];
    Relay::start_without(folder, &settings, &["RELAY_TOKEN", "LOOPS_SIGNING_SECRET"]).await
}

async fn webhook_comes(relay: &Relay, name: &str) {
    let answer = post(relay.base(), &format!("msg_{name}"), &contact_created(&format!("{name}@example.com"))).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// All deliveries of a relay, by state and reason, come to these.
async fn deliveries_are(relay: &Relay, wanted: &[(&str, &str)]) {
    eventually(&format!("{wanted:?}"), async || {
        let all = relay.deliveries().await;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let seen: Vec<_> = all.iter().map(|each| (text(&each["state"]), text(&each["reason"]))).collect();
        let same = seen.iter().map(|(state, reason)| (state.as_str(), reason.as_str())).eq(wanted.iter().copied());
        same.then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_a_running_relay_holds_goes_at_once_when_setup_stores_another_webhook() {
    let (old, new) =
        (MockDestination::start(Reply::status(403)).await, MockDestination::start(Reply::status(200)).await);
    let folder = DataFolder::new();
    let first = format!("CLAY_WEBHOOK_URL={}\nLOOPS_SIGNING_SECRET={SIGNING_SECRET}", old.url("/hook"));
    assert_eq!(setup(folder.path(), &["--from", "-"], &first).await.code, 0);
    let relay = relay_on(folder).await;
    for name in ["ada", "bob", "cyd"] {
        webhook_comes(&relay, name).await;
    }
    deliveries_are(&relay, &[("waiting", "clay_webhooks_exhausted"); 3]).await;
    let said = setup(
        relay.folder(),
        &["--add-clay-webhook", "--from", "-"],
        &format!("CLAY_WEBHOOK_URL={}", new.url("/hook")),
    )
    .await;
    assert!(said.code == 0 && said.stdout.contains("takes it up within a second"), "{said:?}");
    // The next try by itself would be a minute later.
    deliveries_are(&relay, &[("delivered", ""); 3]).await;
    assert_eq!(new.received().len(), 3);
}

#[tokio::test]
async fn a_running_relay_takes_up_a_signing_secret_a_token_and_a_first_webhook() {
    let folder = DataFolder::new();
    let relay = relay_on(folder).await;
    let refused = post(relay.base(), "msg_ada", &contact_created("ada@example.com")).await;
    assert_eq!(refused.status, 401, "it has a generated secret");
    let clay = MockDestination::start(Reply::status(200)).await;
    let given = format!("CLAY_WEBHOOK_URL={}\nLOOPS_SIGNING_SECRET={SIGNING_SECRET}", clay.url("/hook"));
    assert_eq!(setup(relay.folder(), &["--from", "-"], &given).await.code, 0);
    // Read on need: at once, however seldom the file is looked at.
    webhook_comes(&relay, "ada").await;
    deliveries_are(&relay, &[("delivered", "")]).await;
    assert_eq!(clay.received().len(), 1, "it is not simulated any more");
    let made = setup(relay.folder(), &["--add-relay-token", "--show-token", "--json"], "").await.json();
    let token = made["relayTokens"][1]["token"].as_str().unwrap().to_owned();
    let row = serde_json::json!({"email": "ada@example.com"}).to_string();
    let authorized = [("authorization", format!("Bearer {token}"))];
    let headers: Vec<(&str, &str)> = authorized.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let answer = send_without_token(relay.base(), Route::Contact, "", &headers, row).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn a_file_that_cannot_be_used_or_lacks_something_leaves_a_running_relay_as_it_is() {
    let clay = MockDestination::start(Reply::status(200)).await;
    let folder = DataFolder::new();
    let given = format!("CLAY_WEBHOOK_URL={}\nLOOPS_SIGNING_SECRET={SIGNING_SECRET}", clay.url("/hook"));
    assert_eq!(setup(folder.path(), &["--from", "-"], &given).await.code, 0);
    let relay = relay_on(folder).await;
    let file = relay.folder().join("secrets.json");
    for (count, text) in
        ["hidden", "{}", r#"{"LOOPS_SIGNING_SECRET": "%hidden%", "CLAY_WEBHOOK_URL": ""}"#].into_iter().enumerate()
    {
        std::fs::write(&file, text).unwrap();
        eventually("a warning", async || (relay.log().matches("is not taken up").count() > count).then_some(())).await;
        webhook_comes(&relay, &format!("msg{count}")).await;
        eventually("the row", async || (clay.received().len() == count + 1).then_some(())).await;
    }
    assert!(!relay.log().contains("hidden"));
}

#[tokio::test]
async fn of_several_signing_secrets_none_is_replaced_by_the_way_and_a_single_one_is_told() {
    const OTHER: &str = "whsec_c3VwZXItc2VjcmV0LWtleS1ieXRlcw==";
    let folder = DataFolder::new();
    let (first, other) = (format!("LOOPS_SIGNING_SECRET={SIGNING_SECRET}"), format!("LOOPS_SIGNING_SECRET={OTHER}"));
    let said = setup(folder.path(), &["--from", "-"], &first).await;
    assert!(said.code == 0 && !said.stdout.contains("replaced"), "{said:?}");
    assert_eq!(setup(folder.path(), &["--add-signing-secret", "--from", "-"], &other).await.code, 0);
    assert_refused(folder.path(), &["--from", "-"], &other, "1 of the 2 signing secrets").await;
    let both = format!("{first},{OTHER}");
    assert_eq!(setup(folder.path(), &["--from", "-"], &both).await.code, 0, "all of them stay");
    let said = setup(folder.path(), &["--from", "-", "--force"], &other).await;
    assert!(said.code == 0 && said.stdout.contains("is replaced"), "{said:?}");
    assert_eq!(stored(folder.path())["LOOPS_SIGNING_SECRET"], OTHER);
    let said = setup(folder.path(), &["--from", "-"], &first).await;
    assert!(said.code == 0 && said.stdout.contains("is replaced"), "a single one goes, and that is told: {said:?}");
}

#[tokio::test]
async fn setup_says_that_nobody_outside_reaches_an_address_of_this_machine() {
    let folder = DataFolder::new();
    let local = format!("--local={}", folder.path().display());
    for (listen, told) in
        [("127.0.0.1:8787", true), ("0.0.0.0:80", true), ("10.0.0.7:80", true), ("203.0.113.7:80", false)]
    {
        let said = run_relayctl(&[("RELAY_LISTEN", listen.to_owned())], &[&local, "setup", "--from", "-"], POOL).await;
        assert_eq!((said.code, said.stdout.contains("Loops and Clay cannot reach")), (0, told), "{said:?}");
    }
}
