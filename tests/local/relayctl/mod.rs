//! `relayctl --local`: a data folder is set up, a relay reads what is stored there, and `doctor` examines both.

mod cli;
mod operations;
mod setup;
mod terminal;

use std::os::unix::fs::PermissionsExt as _;

use relay_testkit::lambda_fake::operator::{CliOutput, LOOPS_TEAM_BODY, run_relayctl};
use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::relay_process::{DataFolder, Relay};
use relay_testkit::webhook::{SIGNING_SECRET, contact_created, post};
use relay_testkit::{eventually, http};

/// The program on a folder, with the environment of a terminal that sets nothing but this.
async fn relayctl(
    folder: &std::path::Path,
    variables: &[(&'static str, String)],
    words: &[&str],
    input: &str,
) -> CliOutput {
    let local = format!("--local={}", folder.display());
    run_relayctl(variables, &[&[local.as_str()], words].concat(), input).await
}

/// Where a running relay listens, for the program.
fn listen(relay: &Relay) -> Vec<(&'static str, String)> {
    vec![("RELAY_LISTEN", relay.base().trim_start_matches("http://").to_owned())]
}

/// A folder that is its owner's alone, as relay-local makes it.
fn private() -> DataFolder {
    let folder = DataFolder::new();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    folder
}

async fn ends() -> (MockDestination, MockDestination) {
    (
        MockDestination::start(Reply::json(200, LOOPS_TEAM_BODY)).await,
        MockDestination::start(Reply::json(200, "{}")).await,
    )
}

fn values(clay: &MockDestination) -> String {
    let url = clay.url("/v3/sources/webhook/hidden");
    format!(
        "LOOPS_API_KEY=hidden-key\nLOOPS_SIGNING_SECRET={SIGNING_SECRET}\nCLAY_WEBHOOK_URL={url}\nCLAY_WEBHOOK_AUTH_TOKEN=hidden-token\n"
    )
}

#[tokio::test]
async fn what_setup_stores_in_a_folder_a_relay_reads_there_and_doctor_finds_it_well() {
    let (loops, clay) = ends().await;
    let folder = private();
    let api = vec![("LOOPS_API_URL", loops.url("/api"))];
    let said = relayctl(folder.path(), &api, &["setup", "--from", "-"], &values(&clay)).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.contains("the team \"Acme\"") && !said.stdout.contains("hidden"), "{said:?}");
    let mode = std::fs::metadata(folder.path().join("secrets.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // A terminal that sets none of it.
    let unset = ["RELAY_TOKEN", "LOOPS_SIGNING_SECRET"];
    let relay = Relay::start_without(folder, &[("LOOPS_API_URL", &loops.url("/api"))], &unset).await;
    assert_eq!(post(relay.base(), "msg_1", &contact_created("ada@example.com")).await.status, 200);
    eventually("a row in Clay", async || (clay.received().len() == 1).then_some(())).await;
    assert_eq!(clay.received()[0].header("x-clay-webhook-auth"), "hidden-token");
    let shown = relayctl(relay.folder(), &api, &["setup", "--list", "--show-token", "--json"], "").await.json();
    let authorization = format!("Bearer {}", shown["relayTokens"][0]["token"].as_str().unwrap());
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    let url = format!("{}/api/v1/contacts/update", relay.base());
    let row = http::send("PUT", &url, &headers, r#"{"email":"ada@example.com"}"#).await;
    assert_eq!((row.status, row.text().as_str()), (200, LOOPS_TEAM_BODY));
    let calls = loops.received().iter().filter(|got| got.method == "PUT").count();
    let mut variables = listen(&relay);
    variables.extend(api);
    let said = relayctl(relay.folder(), &variables, &["doctor"], "").await;
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.contains("0 to look at, 0 broken") && !said.stdout.contains("hidden"), "{said:?}");
    assert_eq!((loops.received().iter().filter(|got| got.method == "PUT").count(), clay.received().len()), (calls, 1));
}

#[tokio::test]
async fn doctor_names_what_is_broken_about_a_local_relay() {
    let relay = Relay::start_without(private(), &[], &["RELAY_TOKEN", "LOOPS_SIGNING_SECRET"]).await;
    let variables = listen(&relay);
    let doctor = async |variables: &[(&'static str, String)]| {
        relayctl(relay.folder(), variables, &["doctor", "--json"], "").await
    };
    let said = doctor(&variables).await;
    assert_eq!((said.code, said.worst_finding("relay-token").outcome.as_str()), (0, "ok"), "{said:?}");
    let sent = relayctl(relay.folder(), &variables, &["doctor", "--json", "--send", "ada@example.com"], "").await;
    assert_eq!(sent.code, 0, "{sent:?}");
    assert!(sent.worst_finding("send-to-clay").observed.contains("was delivered to Clay"), "{sent:?}");
    assert_eq!(sent.worst_finding("send-to-loops").observed, "Loops has taken the contact");
    // Nothing tells this terminal where it listens; the folder does.
    let untold = doctor(&[]).await;
    let answers = format!("{} answers", relay.base());
    assert_eq!((untold.code, untold.worst_finding("endpoint").observed), (0, answers), "{untold:?}");
    let elsewhere = doctor(&[("RELAY_LISTEN", "127.0.0.1:9".to_owned())]).await;
    assert_eq!((elsewhere.code, elsewhere.worst_finding("endpoint").outcome.as_str()), (1, "fail"), "{elsewhere:?}");
    // This terminal has other keys than the relay.
    let mut other = variables.clone();
    other.extend([("LOOPS_SIGNING_SECRET", SIGNING_SECRET.to_owned()), ("RELAY_TOKEN", "other".to_owned())]);
    let said = doctor(&other).await;
    for check in ["signed-webhook", "relay-token"] {
        assert_eq!(said.worst_finding(check).outcome, "fail", "{said:?}");
    }
    other.push(("CLAY_WEBHOOK_URL", String::new()));
    assert_eq!(doctor(&other).await.worst_finding("far-ends").outcome, "fail");
    let store = rusqlite::Connection::open(relay.folder().join("relay.db")).unwrap();
    let table = "CREATE TABLE IF NOT EXISTS paused (direction TEXT PRIMARY KEY, since INTEGER NOT NULL) STRICT";
    store.execute_batch(&format!("{table}; INSERT INTO paused VALUES ('clay-to-loops', 1)")).unwrap();
    let said = doctor(&variables).await;
    assert_eq!((said.code, said.worst_finding("paused").outcome.as_str()), (4, "warn"), "{said:?}");
    store.execute("DELETE FROM paused", []).unwrap();
    std::fs::set_permissions(relay.folder(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let said = doctor(&variables).await;
    assert_eq!((said.code, said.worst_finding("folder").outcome.as_str()), (4, "warn"), "{said:?}");
    let (folder, _) = relay.stop().await;
    let said = relayctl(folder.path(), &variables, &["doctor", "--json"], "").await;
    assert_eq!((said.code, said.worst_finding("running").outcome.as_str()), (1, "fail"), "{said:?}");
}

#[tokio::test]
async fn a_store_that_was_deleted_under_a_running_relay_is_a_failure() {
    let relay = Relay::start_without(private(), &[], &["RELAY_TOKEN", "LOOPS_SIGNING_SECRET"]).await;
    let variables = listen(&relay);
    std::fs::remove_file(relay.folder().join("relay.db")).unwrap();
    let said = relayctl(relay.folder(), &variables, &["doctor", "--json"], "").await;
    let found = said.worst_finding("store");
    assert_eq!((said.code, found.outcome.as_str()), (1, "fail"), "{said:?}");
    assert!(found.observed.contains("lost when it ends"), "{found:?}");
    // Without a relay there is nothing to lose, and nothing is made.
    let empty = relayctl(private().path(), &[], &["doctor", "--json"], "").await;
    assert_eq!(empty.worst_finding("store").observed, "nothing was stored yet", "{empty:?}");
}

#[tokio::test]
async fn rotation_in_a_folder_keeps_the_old_token_until_it_is_retired() {
    let folder = DataFolder::new();
    let tokens = async || {
        let said = relayctl(folder.path(), &[], &["setup", "--list", "--show-token", "--json"], "").await.json();
        let tokens = said["relayTokens"].as_array().unwrap().clone();
        tokens.iter().map(|token| token["token"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert!(tokens().await.is_empty());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "listing makes nothing");
    assert_eq!(relayctl(folder.path(), &[], &["setup", "--add-relay-token"], "").await.code, 0);
    let both = tokens().await;
    let generated = std::fs::read_to_string(folder.path().join("relay-token")).unwrap();
    assert_eq!((both.len(), &both[0]), (2, &generated));
    assert_eq!(relayctl(folder.path(), &[], &["setup", "--retire-relay-token", "1"], "").await.code, 0);
    assert_eq!(tokens().await, [both[1].clone()]);
    let last = relayctl(folder.path(), &[], &["setup", "--retire-relay-token", "1"], "").await;
    assert_eq!((last.code, last.stderr.contains("--force")), (1, true), "{last:?}");
    let closed = relayctl(folder.path(), &[], &["setup", "--retire-relay-token", "1", "--force"], "").await;
    assert_eq!(closed.code, 0, "{closed:?}");
    assert!(tokens().await.is_empty(), "closed, not generated anew");
}

#[tokio::test]
async fn bad_input_is_told_in_a_sentence_and_stores_nothing() {
    let folder = DataFolder::new();
    for (words, input, code, part) in [
        (vec!["setup", "--from", "-"], "LOOPS_SIGNING_SECRET=%hidden%", 2, "LOOPS_SIGNING_SECRET"),
        (vec!["setup", "--from", "-"], "hidden", 2, "line 1"),
        (vec!["setup", "--retire-signing-secret", "1"], "", 2, "no signing secret number 1"),
        (vec!["setup", "--retire-signing-secret", "hidden-x"], "", 2, "a position from 1"),
        (vec!["setup", "--list", "--add-relay-token"], "", 2, "cannot be used with"),
        (vec!["doctor", "--stack", "x"], "", 2, "--local and --stack"),
        (vec!["setup"], "", 2, "no terminal"),
    ] {
        let said = relayctl(folder.path(), &[], &words, input).await;
        assert_eq!((said.code, said.stderr.contains(part)), (code, true), "{said:?}");
        assert!(!said.stderr.contains("%hidden%"), "{said:?}");
    }
    let nowhere = relayctl(std::path::Path::new("/no/such/folder"), &[], &["doctor"], "").await;
    assert_eq!((nowhere.code, nowhere.stderr.contains("/no/such/folder")), (3, true), "{nowhere:?}");
    std::fs::write(folder.path().join("secrets.json"), "hidden").unwrap();
    for command in ["setup", "doctor"] {
        let said = relayctl(folder.path(), &[], &[command], "").await;
        assert_eq!((said.code, said.stderr.contains("secrets.json")), (3, true), "{said:?}");
        assert!(!said.stderr.contains("hidden"), "{said:?}");
    }
}
