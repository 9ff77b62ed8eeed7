//! A start that cannot be made is told in one sentence, and changes nothing.

use std::path::Path;
use std::process::Output;

use relay_testkit::EVENTUALLY_TIMEOUT;
use relay_testkit::relay_process::{DataFolder, Relay, command, settings};

async fn start(given: &[(&str, &str)]) -> Output {
    let output = tokio::time::timeout(EVENTUALLY_TIMEOUT, command(&settings(given)).output()).await;
    output.expect("the relay started, and should not have").unwrap()
}

fn complaint(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn in_folder(folder: &Path) -> [(&'static str, &str); 1] {
    [("RELAY_DATA", folder.to_str().unwrap())]
}

#[tokio::test]
async fn every_wrong_setting_is_listed_with_its_form_and_an_example() {
    let output = start(&[
        ("RELAY_LISTEN", "everywhere"),
        ("LOOPS_RATE_PER_SECOND", "fast"),
        ("CLAY_PAYLOAD", "xml"),
        ("RELAYED_EVENTS", "*.created"),
        ("CLAY_WEBHOOK_URL", "http://api.clay.com/v3/sources/webhook/x"),
    ])
    .await;
    let complaint = complaint(&output);
    for name in ["RELAY_LISTEN", "LOOPS_RATE_PER_SECOND", "CLAY_PAYLOAD", "RELAYED_EVENTS", "CLAY_WEBHOOK_URL"] {
        let line = complaint.lines().find(|line| line.trim_start().starts_with(name)).unwrap_or_default();
        assert!(line.contains("must be") && line.contains(&format!("for example {name}=")), "{name}: {complaint}");
    }
    assert!(
        !complaint.contains("everywhere") && !complaint.contains("api.clay.com/v3/sources/webhook/x "),
        "{complaint}"
    );
}

#[tokio::test]
async fn a_port_in_use_is_told() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (folder, address) = (DataFolder::new(), taken.local_addr().unwrap().to_string());
    let output = start(&[in_folder(folder.path())[0], ("RELAY_LISTEN", &address)]).await;
    let complaint = complaint(&output);
    assert!(
        complaint.contains(&address) && complaint.contains("RELAY_LISTEN") && complaint.lines().count() == 1,
        "{complaint}"
    );
}

#[tokio::test]
async fn a_data_folder_that_cannot_be_written_is_told() {
    let folder = DataFolder::new();
    let file = folder.path().join("file");
    std::fs::write(&file, "mine").unwrap();
    for path in [file.clone(), file.join("below"), "/proc/relay".into()] {
        let complaint = complaint(&start(&in_folder(&path)).await);
        assert!(complaint.contains(path.to_str().unwrap()) && complaint.contains("RELAY_DATA"), "{complaint}");
        assert_eq!(complaint.lines().count(), 1, "{complaint}");
    }
    assert_eq!(std::fs::read(file).unwrap(), b"mine");
}

#[tokio::test]
async fn a_second_relay_on_the_same_folder_is_told() {
    let relay = Relay::start(&[]).await;
    let complaint = complaint(&start(&in_folder(relay.folder())).await);
    assert!(complaint.contains("in use by another relay-local"), "{complaint}");
}

/// A store that a relay has made and left, all of it in the one file: what is still in the log beside it would mend what
/// these tests break.
async fn left_store() -> DataFolder {
    let folder = Relay::start(&[]).await.stop().await.0;
    let connection = rusqlite::Connection::open(folder.path().join("relay.db")).unwrap();
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    connection.close().unwrap();
    assert!(!folder.path().join("relay.db-wal").exists());
    folder
}

async fn refused_store(folder: &DataFolder) -> String {
    let store = folder.path().join("relay.db");
    let before = std::fs::read(&store).unwrap();
    let complaint = complaint(&start(&in_folder(folder.path())).await);
    assert_eq!(std::fs::read(&store).unwrap(), before, "the file was changed");
    assert!(complaint.contains("relay.db") && complaint.lines().count() == 1, "{complaint}");
    complaint
}

#[tokio::test]
async fn a_damaged_store_is_told_and_left_as_it_is() {
    let folder = left_store().await;
    std::fs::write(folder.path().join("relay.db"), b"this is not a database, whatever its name says").unwrap();
    assert!(refused_store(&folder).await.contains("is damaged"));
}

#[tokio::test]
async fn a_store_with_broken_pages_is_told_and_left_as_it_is() {
    let folder = left_store().await;
    let store = folder.path().join("relay.db");
    let mut bytes = std::fs::read(&store).unwrap();
    let middle = 4096..bytes.len();
    bytes[middle].fill(0xAB);
    std::fs::write(&store, bytes).unwrap();
    assert!(refused_store(&folder).await.contains("is damaged"));
}

#[tokio::test]
async fn a_store_that_was_cut_off_is_told_and_left_as_it_is() {
    let folder = left_store().await;
    let store = folder.path().join("relay.db");
    let bytes = std::fs::read(&store).unwrap();
    std::fs::write(&store, &bytes[..2000]).unwrap();
    assert!(refused_store(&folder).await.contains("is damaged"));
}

#[tokio::test]
async fn the_store_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let relay = Relay::start(&[]).await;
    for file in ["relay.db", "relay.db-wal", "lock"] {
        let mode = std::fs::metadata(relay.folder().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{file}");
    }
}

#[tokio::test]
async fn what_is_set_but_empty_is_shown_as_closed() {
    let relay = Relay::start(&[("RELAY_TOKEN", ""), ("LOOPS_API_KEY", "REPLACE-me")]).await;
    for part in ["RELAY_TOKEN is empty, so nobody gets in", "LOOPS_API_KEY is empty, so nothing is sent there"] {
        assert!(relay.banner().contains(part), "{}", relay.banner());
    }
}

#[tokio::test]
async fn a_store_of_a_newer_relay_is_told_and_left_as_it_is() {
    let folder = left_store().await;
    rusqlite::Connection::open(folder.path().join("relay.db"))
        .unwrap()
        .pragma_update(None, "user_version", 999)
        .unwrap();
    assert!(refused_store(&folder).await.contains("written by a newer relay"));
}

#[tokio::test]
async fn another_programs_database_is_told_and_left_as_it_is() {
    let folder = DataFolder::new();
    let connection = rusqlite::Connection::open(folder.path().join("relay.db")).unwrap();
    connection.execute_batch("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1);").unwrap();
    drop(connection);
    assert!(refused_store(&folder).await.contains("another program"));
}

#[tokio::test]
async fn what_is_not_set_is_generated_and_kept_and_not_printed_into_a_pipe() {
    let folder = DataFolder::new();
    let keys =
        || ["relay-token", "signing-secret"].map(|file| std::fs::read_to_string(folder.path().join(file)).unwrap());
    let mut first = settings(&in_folder(folder.path()));
    first.remove("RELAY_TOKEN");
    first.remove("LOOPS_SIGNING_SECRET");
    let banner = async || {
        let mut child = command(&first).stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(child.stdout.take().unwrap()));
        let mut text = String::new();
        while let Ok(Some(line)) = lines.next_line().await {
            if line.starts_with("Stop with") {
                break;
            }
            text.push_str(&line);
        }
        child.kill().await.unwrap();
        text
    };
    let text = banner().await;
    let kept = keys();
    assert!(kept[0].starts_with("relay_") && kept[1].starts_with("whsec_"));
    assert!(text.contains("setup --local --list --show-token"), "{text}");
    assert!(kept.iter().all(|key| !text.contains(key.trim())), "{text}");
    banner().await;
    assert_eq!(keys(), kept);
}

#[tokio::test]
async fn the_start_shows_the_urls_and_which_sides_are_simulated() {
    let relay = Relay::start(&[("CLAY_WEBHOOK_URL", "https://api.clay.com/v3/sources/webhook/x")]).await;
    let banner = relay.banner();
    for path in ["/webhooks/loops", "/api/v1/contacts/update", "/api/v1/events/send"] {
        assert!(banner.contains(&format!("{}{path}", relay.base())), "{banner}");
    }
    assert!(
        banner.contains("as set in CLAY_WEBHOOK_URL") && banner.contains("simulated at http://127.0.0.1:"),
        "{banner}"
    );
    assert!(!banner.contains("api.clay.com"), "{banner}");
}

#[tokio::test]
async fn help_and_settings_are_told_by_the_program() {
    let output = command(&settings(&[])).arg("--help").output().await.unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    for name in
        ["send-webhook", "sign", "deliveries", "RELAY_LISTEN", "CLAY_WEBHOOK_AUTH_TOKEN", "SIGNATURE_TOLERANCE_SECONDS"]
    {
        assert!(help.contains(name), "{name}");
    }
}

#[tokio::test]
async fn a_level_of_the_log_that_is_none_is_told_and_prevents_no_start() {
    let relay = Relay::start(&[("RUST_LOG", "very-loud")]).await;
    let log = relay.log();
    assert!(log.contains("RUST_LOG is not a level") && !log.contains("very-loud"), "{log}");
}
