//! A relay that cannot start prints one sentence, and changes nothing.

use std::path::Path;
use std::process::Output;

use relay_testkit::relay_process::{Relay, TempDataDir, command, settings};
use relay_testkit::{EVENTUALLY_TIMEOUT, eventually};

async fn start_expecting_failure(overrides: &[(&str, &str)]) -> Output {
    let output = tokio::time::timeout(EVENTUALLY_TIMEOUT, command(&settings(overrides)).output()).await;
    output.expect("the relay started, and should not have").unwrap()
}

fn error_message(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn data_dir_setting(folder: &Path) -> [(&'static str, &str); 1] {
    [("RELAY_DATA", folder.to_str().unwrap())]
}

#[tokio::test]
async fn invalid_settings_are_listed_with_format_and_example() {
    let output = start_expecting_failure(&[
        ("RELAY_LISTEN", "everywhere"),
        ("LOOPS_RATE_PER_SECOND", "fast"),
        ("CLAY_PAYLOAD", "xml"),
        ("RELAYED_EVENTS", "*.created"),
        ("CLAY_WEBHOOK_URL", "http://api.clay.com/v3/sources/webhook/x"),
    ])
    .await;
    let message = error_message(&output);
    for name in ["RELAY_LISTEN", "LOOPS_RATE_PER_SECOND", "CLAY_PAYLOAD", "RELAYED_EVENTS", "CLAY_WEBHOOK_URL"] {
        let line = message.lines().find(|line| line.trim_start().starts_with(name)).unwrap_or_default();
        assert!(line.contains("must be") && line.contains(&format!("for example {name}=")), "{name}: {message}");
    }
    assert!(!message.contains("everywhere") && !message.contains("api.clay.com/v3/sources/webhook/x "), "{message}");
}

#[tokio::test]
async fn quoted_unexpanded_and_guessable_settings_are_named_at_once() {
    let output = start_expecting_failure(&[
        ("RELAYED_EVENTS", "\"contact.created\""),
        ("RELAY_DATA", "~/relay"),
        ("LOOPS_SIGNING_SECRET", "AA"),
        ("RELAY_TOKEN", "t"),
        ("CLAY_WEBHOOK_URL", "https://api.clay.com@evil.example/x"),
    ])
    .await;
    let message = error_message(&output);
    for (name, part) in [
        ("RELAYED_EVENTS", "without quotes, which `docker --env-file` keeps"),
        ("RELAY_DATA", "in which nothing fills in ~, $HOME"),
        ("LOOPS_SIGNING_SECRET", "at least 16 bytes"),
        ("RELAY_TOKEN", "at least 16 visible ASCII characters"),
        ("CLAY_WEBHOOK_URL", "without a user name"),
    ] {
        let line = message.lines().find(|line| line.trim_start().starts_with(name)).unwrap_or_default();
        assert!(line.contains(part), "{name}: {message}");
    }
}

#[tokio::test]
async fn port_in_use_is_reported() {
    let occupied = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (folder, address) = (TempDataDir::new(), occupied.local_addr().unwrap().to_string());
    let output = start_expecting_failure(&[data_dir_setting(folder.path())[0], ("RELAY_LISTEN", &address)]).await;
    let message = error_message(&output);
    assert!(
        message.contains(&address) && message.contains("RELAY_LISTEN") && message.lines().count() == 1,
        "{message}"
    );
}

#[tokio::test]
async fn unwritable_data_folder_is_reported() {
    let folder = TempDataDir::new();
    let file = folder.path().join("file");
    std::fs::write(&file, "mine").unwrap();
    for path in [file.clone(), file.join("below"), "/proc/relay".into()] {
        let message = error_message(&start_expecting_failure(&data_dir_setting(&path)).await);
        assert!(message.contains(path.to_str().unwrap()) && message.contains("RELAY_DATA"), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
    assert_eq!(std::fs::read(file).unwrap(), b"mine");
}

#[tokio::test]
async fn second_relay_on_the_same_folder_is_rejected() {
    let relay = Relay::start(&[]).await;
    let message = error_message(&start_expecting_failure(&data_dir_setting(relay.folder())).await);
    assert!(message.contains("in use by another relay-local"), "{message}");
}

/// Creates a store in one file, without its write-ahead log, which would repair the damage that these tests do.
async fn stopped_store() -> TempDataDir {
    let folder = Relay::start(&[]).await.stop().await.0;
    let connection = rusqlite::Connection::open(folder.path().join("relay.db")).unwrap();
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    connection.close().unwrap();
    assert!(!folder.path().join("relay.db-wal").exists());
    folder
}

async fn start_on_rejected_store(folder: &TempDataDir) -> String {
    let store = folder.path().join("relay.db");
    let before = std::fs::read(&store).unwrap();
    let message = error_message(&start_expecting_failure(&data_dir_setting(folder.path())).await);
    assert_eq!(std::fs::read(&store).unwrap(), before, "the file was changed");
    assert!(message.contains("relay.db") && message.lines().count() == 1, "{message}");
    message
}

#[tokio::test]
async fn damaged_store_is_reported_and_unchanged() {
    let folder = stopped_store().await;
    std::fs::write(folder.path().join("relay.db"), b"this is not a database, whatever its name says").unwrap();
    assert!(start_on_rejected_store(&folder).await.contains("is damaged"));
}

#[tokio::test]
async fn store_with_broken_pages_is_reported_and_unchanged() {
    let folder = stopped_store().await;
    let store = folder.path().join("relay.db");
    let mut bytes = std::fs::read(&store).unwrap();
    let middle = 4096..bytes.len();
    bytes[middle].fill(0xAB);
    std::fs::write(&store, bytes).unwrap();
    assert!(start_on_rejected_store(&folder).await.contains("is damaged"));
}

#[tokio::test]
async fn truncated_store_is_reported_and_unchanged() {
    let folder = stopped_store().await;
    let store = folder.path().join("relay.db");
    let bytes = std::fs::read(&store).unwrap();
    std::fs::write(&store, &bytes[..2000]).unwrap();
    assert!(start_on_rejected_store(&folder).await.contains("is damaged"));
}

#[tokio::test]
async fn store_files_are_readable_only_by_owner() {
    use std::os::unix::fs::PermissionsExt as _;
    let relay = Relay::start(&[]).await;
    for file in ["relay.db", "relay.db-wal", "lock"] {
        let mode = std::fs::metadata(relay.folder().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{file}");
    }
}

#[tokio::test]
async fn new_folder_is_its_owners_alone_under_any_umask() {
    use std::os::unix::fs::PermissionsExt as _;
    let parent = TempDataDir::new();
    let folder = parent.path().join("new/relay");
    let mut settings = settings(&data_dir_setting(&folder));
    settings.remove("RELAY_TOKEN");
    let program = relay_testkit::relay_process::relay_local_path();
    let mut shell = tokio::process::Command::new("sh");
    shell.args(["-c", "umask 000; exec \"$0\""]).arg(program).env_clear().envs(settings).kill_on_drop(true);
    let _relay = shell.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    let mode = |path: &Path| std::fs::metadata(path).ok().map(|metadata| metadata.permissions().mode() & 0o777);
    eventually("an address", async || folder.join("address").exists().then_some(())).await;
    eventually("a token", async || folder.join("relay-token").exists().then_some(())).await;
    assert_eq!((mode(&folder), mode(&parent.path().join("new"))), (Some(0o700), Some(0o700)));
    for file in ["address", "lock", "relay-token", "relay.db", "relay.db-wal"] {
        assert_eq!(mode(&folder.join(file)), Some(0o600), "{file}");
    }
}

#[tokio::test]
async fn folder_that_others_can_write_to_is_refused_and_unchanged() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = TempDataDir::new();
    std::fs::write(folder.path().join("relay-token"), "token-that-somebody-planted").unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let message = error_message(&start_expecting_failure(&data_dir_setting(folder.path())).await);
    assert!(message.contains("can be written by other users") && message.contains("chmod go-w"), "{message}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let token = folder.path().join("relay-token");
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o666)).unwrap();
    let message = error_message(&start_expecting_failure(&data_dir_setting(folder.path())).await);
    assert!(message.contains("relay-token can be written by other users"), "{message}");
}

#[tokio::test]
async fn file_that_others_can_read_is_closed_and_told() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = stopped_store().await;
    let store = folder.path().join("relay.db");
    std::fs::set_permissions(&store, std::fs::Permissions::from_mode(0o644)).unwrap();
    let relay = Relay::start_in(folder, &[]).await;
    assert_eq!(std::fs::metadata(&store).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(relay.log().contains("other users of this machine could read this file until now"), "{}", relay.log());
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn running_relay_writes_no_dump_of_its_memory() {
    let folder = TempDataDir::new();
    let mut command = command(&settings(&data_dir_setting(folder.path())));
    let mut child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null()).spawn().unwrap();
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(child.stdout.take().unwrap()));
    while let Ok(Some(line)) = lines.next_line().await {
        if line.starts_with("Stop with") {
            break;
        }
    }
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.id().unwrap())).unwrap();
    let limit = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(limit.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{limits}");
    child.kill().await.unwrap();
}

#[tokio::test]
async fn address_that_other_machines_can_reach_is_logged_and_printed() {
    let relay = Relay::start(&[("RELAY_LISTEN", "0.0.0.0:0")]).await;
    assert!(relay.log().contains("RELAY_LISTEN: other machines can reach the relay"), "{}", relay.log());
    assert!(relay.banner().contains("Other machines can reach it"), "{}", relay.banner());
    let relay = Relay::start(&[]).await;
    assert!(!relay.log().contains("other machines") && !relay.banner().contains("Other machines"));
}

#[tokio::test]
async fn empty_settings_are_reported_at_start() {
    let relay = Relay::start(&[("RELAY_TOKEN", ""), ("LOOPS_API_KEY", "REPLACE-me")]).await;
    for part in ["RELAY_TOKEN is empty, so nobody gets in", "LOOPS_API_KEY is empty, so nothing is sent there"] {
        assert!(relay.banner().contains(part), "{}", relay.banner());
    }
}

#[tokio::test]
async fn store_of_newer_version_is_reported_and_unchanged() {
    let folder = stopped_store().await;
    rusqlite::Connection::open(folder.path().join("relay.db"))
        .unwrap()
        .pragma_update(None, "user_version", 999)
        .unwrap();
    assert!(start_on_rejected_store(&folder).await.contains("written by a newer relay"));
}

#[tokio::test]
async fn foreign_database_is_reported_and_unchanged() {
    let folder = TempDataDir::new();
    let connection = rusqlite::Connection::open(folder.path().join("relay.db")).unwrap();
    connection.execute_batch("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1);").unwrap();
    drop(connection);
    assert!(start_on_rejected_store(&folder).await.contains("another program"));
}

#[tokio::test]
async fn generated_secrets_persist_and_are_not_printed_to_a_pipe() {
    let folder = TempDataDir::new();
    let keys =
        || ["relay-token", "signing-secret"].map(|file| std::fs::read_to_string(folder.path().join(file)).unwrap());
    let mut unset_settings = settings(&data_dir_setting(folder.path()));
    unset_settings.remove("RELAY_TOKEN");
    unset_settings.remove("LOOPS_SIGNING_SECRET");
    let banner = async || {
        let mut child = command(&unset_settings).stdout(std::process::Stdio::piped()).spawn().unwrap();
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
    let generated = keys();
    assert!(generated[0].starts_with("relay_") && generated[1].starts_with("whsec_"));
    assert!(text.contains("setup --local --list --show-token"), "{text}");
    assert!(generated.iter().all(|key| !text.contains(key.trim())), "{text}");
    banner().await;
    assert_eq!(keys(), generated);
}

#[tokio::test]
async fn start_prints_urls_and_simulated_sides() {
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
async fn help_lists_commands_and_settings() {
    let output = command(&settings(&[])).arg("--help").output().await.unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    for name in
        ["send-webhook", "sign", "deliveries", "RELAY_LISTEN", "CLAY_WEBHOOK_AUTH_TOKEN", "SIGNATURE_TOLERANCE_SECONDS"]
    {
        assert!(help.contains(name), "{name}");
    }
}

#[tokio::test]
async fn invalid_log_level_is_reported_and_start_continues() {
    let relay = Relay::start(&[("RUST_LOG", "very-loud")]).await;
    let log = relay.log();
    assert!(log.contains("RUST_LOG is not a level") && !log.contains("very-loud"), "{log}");
}
