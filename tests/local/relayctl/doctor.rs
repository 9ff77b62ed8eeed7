//! `doctor --local`: a data folder is set up, a relay reads its settings, and `doctor` checks both.

use std::os::unix::fs::PermissionsExt as _;

use relay_testkit::relay_process::{Relay, TempDataDir};
use relay_testkit::relayctl::LOOPS_TEAM_BODY;
use relay_testkit::webhook::{SIGNING_SECRET, contact_created, post};
use relay_testkit::{eventually, http};

use super::{listen_variables, private_data_dir, relayctl, setup_input, start_destinations};

#[tokio::test]
async fn relay_uses_secrets_stored_by_setup_and_doctor_passes() {
    let (loops, clay) = start_destinations().await;
    let folder = private_data_dir();
    let api = vec![("LOOPS_API_URL", loops.url("/api"))];
    let output = relayctl(folder.path(), &api, &["setup", "--from", "-"], &setup_input(&clay)).await;
    assert_eq!(output.code, 0, "{output:?}");
    assert!(output.stdout.contains("the team \"Acme\"") && !output.stdout.contains("hidden"), "{output:?}");
    let mode = std::fs::metadata(folder.path().join("secrets.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // A terminal that sets none of it.
    let unset = ["RELAY_TOKEN", "LOOPS_SIGNING_SECRET"];
    let relay = Relay::start_without(folder, &[("LOOPS_API_URL", &loops.url("/api"))], &unset).await;
    assert_eq!(post(relay.base(), "msg_1", &contact_created("ada@example.com")).await.status, 200);
    eventually("a row in Clay", async || (clay.received().len() == 1).then_some(())).await;
    assert_eq!(clay.received()[0].header("x-clay-webhook-auth"), "hidden-token");
    let listed = relayctl(relay.folder(), &api, &["setup", "--list", "--show-token", "--json"], "").await.json();
    let authorization = format!("Bearer {}", listed["relayTokens"][0]["token"].as_str().unwrap());
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    let url = format!("{}/api/v1/contacts/update", relay.base());
    let row_response = http::send("PUT", &url, &headers, r#"{"email":"ada@example.com"}"#).await;
    assert_eq!((row_response.status, row_response.text().as_str()), (200, LOOPS_TEAM_BODY));
    let calls = loops.received().iter().filter(|request| request.method == "PUT").count();
    let mut variables = listen_variables(&relay);
    variables.extend(api);
    let output = relayctl(relay.folder(), &variables, &["doctor"], "").await;
    assert_eq!(output.code, 0, "{output:?}");
    assert!(output.stdout.contains("0 to look at, 0 broken") && !output.stdout.contains("hidden"), "{output:?}");
    assert_eq!(
        (loops.received().iter().filter(|request| request.method == "PUT").count(), clay.received().len()),
        (calls, 1)
    );
}

#[tokio::test]
async fn doctor_reports_each_problem_of_a_local_relay() {
    let relay = Relay::start_without(private_data_dir(), &[], &["RELAY_TOKEN", "LOOPS_SIGNING_SECRET"]).await;
    let variables = listen_variables(&relay);
    let doctor = async |variables: &[(&'static str, String)]| {
        relayctl(relay.folder(), variables, &["doctor", "--json"], "").await
    };
    let output = doctor(&variables).await;
    assert_eq!((output.code, output.worst_finding("relay-token").outcome.as_str()), (0, "ok"), "{output:?}");
    let sent = relayctl(relay.folder(), &variables, &["doctor", "--json", "--send", "ada@example.com"], "").await;
    assert_eq!(sent.code, 0, "{sent:?}");
    assert!(sent.worst_finding("send-to-clay").observed.contains("was delivered to Clay"), "{sent:?}");
    assert_eq!(sent.worst_finding("send-to-loops").observed, "Loops has taken the contact");
    // The environment does not have the address; the data folder has.
    let without_listen = doctor(&[]).await;
    let expected = format!("{} answers", relay.base());
    assert_eq!(
        (without_listen.code, without_listen.worst_finding("endpoint").observed),
        (0, expected),
        "{without_listen:?}"
    );
    let unreachable = doctor(&[("RELAY_LISTEN", "127.0.0.1:9".to_owned())]).await;
    assert_eq!(
        (unreachable.code, unreachable.worst_finding("endpoint").outcome.as_str()),
        (1, "fail"),
        "{unreachable:?}"
    );
    // This terminal has other keys than the relay.
    let mut other_variables = variables.clone();
    other_variables.extend([
        ("LOOPS_SIGNING_SECRET", SIGNING_SECRET.to_owned()),
        ("RELAY_TOKEN", "another-token-for-tests".to_owned()),
    ]);
    let output = doctor(&other_variables).await;
    for check in ["signed-webhook", "relay-token"] {
        assert_eq!(output.worst_finding(check).outcome, "fail", "{output:?}");
    }
    other_variables.push(("CLAY_WEBHOOK_URL", String::new()));
    assert_eq!(doctor(&other_variables).await.worst_finding("far-ends").outcome, "fail");
    let store = rusqlite::Connection::open(relay.folder().join("relay.db")).unwrap();
    let table = "CREATE TABLE IF NOT EXISTS paused (direction TEXT PRIMARY KEY, since INTEGER NOT NULL) STRICT";
    store.execute_batch(&format!("{table}; INSERT INTO paused VALUES ('clay-to-loops', 1)")).unwrap();
    let output = doctor(&variables).await;
    assert_eq!((output.code, output.worst_finding("paused").outcome.as_str()), (4, "warn"), "{output:?}");
    store.execute("DELETE FROM paused", []).unwrap();
    std::fs::set_permissions(relay.folder(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let output = doctor(&variables).await;
    assert_eq!((output.code, output.worst_finding("folder").outcome.as_str()), (4, "warn"), "{output:?}");
    let (folder, _) = relay.stop().await;
    let output = relayctl(folder.path(), &variables, &["doctor", "--json"], "").await;
    assert_eq!((output.code, output.worst_finding("running").outcome.as_str()), (1, "fail"), "{output:?}");
}

#[tokio::test]
async fn doctor_fails_when_store_is_deleted_under_running_relay() {
    let relay = Relay::start_without(private_data_dir(), &[], &["RELAY_TOKEN", "LOOPS_SIGNING_SECRET"]).await;
    let variables = listen_variables(&relay);
    std::fs::remove_file(relay.folder().join("relay.db")).unwrap();
    let output = relayctl(relay.folder(), &variables, &["doctor", "--json"], "").await;
    let found = output.worst_finding("store");
    assert_eq!((output.code, found.outcome.as_str()), (1, "fail"), "{output:?}");
    assert!(found.observed.contains("lost when it ends"), "{found:?}");
    // Without a relay there is nothing to lose, and nothing is made.
    let empty = relayctl(private_data_dir().path(), &[], &["doctor", "--json"], "").await;
    assert_eq!(empty.worst_finding("store").observed, "nothing was stored yet", "{empty:?}");
}

#[tokio::test]
async fn token_rotation_keeps_old_token_until_retired() {
    let folder = TempDataDir::new();
    let tokens = async || {
        let output = relayctl(folder.path(), &[], &["setup", "--list", "--show-token", "--json"], "").await.json();
        let tokens = output["relayTokens"].as_array().unwrap().clone();
        tokens.iter().map(|token| token["token"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert!(tokens().await.is_empty());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "listing makes nothing");
    assert_eq!(relayctl(folder.path(), &[], &["setup", "--add-relay-token"], "").await.code, 0);
    let both_tokens = tokens().await;
    let generated = std::fs::read_to_string(folder.path().join("relay-token")).unwrap();
    assert_eq!((both_tokens.len(), &both_tokens[0]), (2, &generated));
    assert_eq!(relayctl(folder.path(), &[], &["setup", "--retire-relay-token", "1"], "").await.code, 0);
    assert_eq!(tokens().await, [both_tokens[1].clone()]);
    let last_retired = relayctl(folder.path(), &[], &["setup", "--retire-relay-token", "1"], "").await;
    assert_eq!((last_retired.code, last_retired.stderr.contains("--force")), (1, true), "{last_retired:?}");
    let emptied = relayctl(folder.path(), &[], &["setup", "--retire-relay-token", "1", "--force"], "").await;
    assert_eq!(emptied.code, 0, "{emptied:?}");
    assert!(tokens().await.is_empty(), "closed, not generated anew");
}

#[tokio::test]
async fn invalid_setup_input_is_rejected_and_stores_nothing() {
    let folder = TempDataDir::new();
    for (arguments, input, code, part) in [
        (vec!["setup", "--from", "-"], "LOOPS_SIGNING_SECRET=%hidden%", 2, "LOOPS_SIGNING_SECRET"),
        (vec!["setup", "--from", "-"], "hidden", 2, "line 1"),
        (vec!["setup", "--retire-signing-secret", "1"], "", 2, "no signing secret number 1"),
        (vec!["setup", "--retire-signing-secret", "hidden-x"], "", 2, "a position from 1"),
        (vec!["setup", "--list", "--add-relay-token"], "", 2, "cannot be used with"),
        (vec!["doctor", "--stack", "x"], "", 2, "--local and --stack"),
        (vec!["setup"], "", 2, "no terminal"),
    ] {
        let output = relayctl(folder.path(), &[], &arguments, input).await;
        assert_eq!((output.code, output.stderr.contains(part)), (code, true), "{output:?}");
        assert!(!output.stderr.contains("%hidden%"), "{output:?}");
    }
    let missing_folder = relayctl(std::path::Path::new("/no/such/folder"), &[], &["doctor"], "").await;
    assert_eq!(
        (missing_folder.code, missing_folder.stderr.contains("/no/such/folder")),
        (3, true),
        "{missing_folder:?}"
    );
    std::fs::write(folder.path().join("secrets.json"), "hidden").unwrap();
    for command in ["setup", "doctor"] {
        let output = relayctl(folder.path(), &[], &[command], "").await;
        assert_eq!((output.code, output.stderr.contains("secrets.json")), (3, true), "{output:?}");
        assert!(!output.stderr.contains("hidden"), "{output:?}");
    }
}
