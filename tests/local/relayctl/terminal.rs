//! `relayctl setup` on a terminal: prompts without echo, and no secret in a list of processes or in a file.

use std::path::Path;
use std::process::Stdio;

use relay_testkit::eventually;
use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::relay_process::TempDataDir;
use relay_testkit::relayctl::{LOOPS_TEAM_BODY, relayctl_path};
use relay_testkit::webhook::SIGNING_SECRET;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

/// The process of the program that works on this folder.
fn find_relayctl_pid(folder: &Path) -> Option<u32> {
    let folder_argument = format!("--local={}", folder.display());
    let processes =
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    processes.into_iter().find(|pid: &u32| {
        let command_line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let arguments: Vec<&[u8]> = command_line.split(|byte| *byte == 0).collect();
        arguments.first().is_some_and(|argument| argument.ends_with(b"relayctl"))
            && arguments.contains(&folder_argument.as_bytes())
    })
}

/// Reads the terminal's output until a prompt appears.
async fn read_until_prompt(child: &mut Child, screen: &mut String, prompt: &str) {
    let output = child.stdout.as_mut().unwrap();
    let read_loop = async {
        while !screen.contains(prompt) {
            let mut bytes = [0; 1024];
            let byte_count = output.read(&mut bytes).await.unwrap();
            assert!(byte_count > 0, "it ended: {screen}");
            screen.push_str(&String::from_utf8_lossy(&bytes[..byte_count]));
        }
    };
    tokio::time::timeout(relay_testkit::EVENTUALLY_TIMEOUT, read_loop).await.unwrap_or_else(|_| panic!("no {prompt}"));
}

/// `script` gives the program a terminal of its own.
fn spawn_in_terminal(arguments: &str, folder: &Path, home: &Path, loops: &MockDestination) -> Child {
    let command_line = format!("{} --local={} {arguments}", relayctl_path().display(), folder.display());
    Command::new("script")
        .args(["-qec", &command_line, "/dev/null"])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("LOOPS_API_URL", loops.url("/api"))
        .env("TMPDIR", home)
        .env("HOME", home)
        .current_dir(home)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// Waits until the terminal of the process has no echo.
async fn wait_for_echo_off(pid: u32) {
    eventually("a terminal without an echo", async || {
        let terminal = format!("/proc/{pid}/fd/0");
        let settings = Command::new("stty").args(["-F", &terminal, "-a"]).output().await.unwrap();
        String::from_utf8_lossy(&settings.stdout).contains("-echo ").then_some(())
    })
    .await;
}

/// Types an input at each prompt, and returns the output before each.
async fn respond_to_prompts(child: &mut Child, folder: &Path, inputs: &[(&str, &str)]) -> Vec<String> {
    let mut screens = Vec::new();
    for (prompt, input) in inputs {
        let mut screen = String::new();
        read_until_prompt(child, &mut screen, prompt).await;
        wait_for_echo_off(eventually("the program", async || find_relayctl_pid(folder)).await).await;
        child.stdin.as_mut().unwrap().write_all(input.as_bytes()).await.unwrap();
        screens.push(screen);
    }
    screens
}

#[tokio::test]
async fn invalid_input_is_explained_and_prompted_again() {
    let loops = MockDestination::start(Reply::json(200, LOOPS_TEAM_BODY)).await;
    let rejected_body = r#"{"success":false,"message":"Invalid API key"}"#;
    loops.enqueue_team_replies([Reply::json(401, rejected_body)]);
    let (folder, home) = (TempDataDir::new(), TempDataDir::new());
    let mut child = spawn_in_terminal("setup", folder.path(), home.path(), &loops);
    let signing = format!("{SIGNING_SECRET}\n");
    let inputs = [
        ("Loops API key", "typed-refused\n"),
        ("Loops API key", "typed-key\n"),
        ("signing secret (", "typed!\n"),
        ("signing secret (", "foo\n"),
        ("signing secret (", &signing),
        ("Clay webhook URL (", "http://api.clay.com/typed\n"),
        ("Clay webhook URL (", "https://api.clay.com/typed-url\n"),
        ("Clay webhook token (", "typed-a,typed-b\n"),
        ("Clay webhook token (", "typed-token\n"),
        ("Content-Type: application/json", ""),
    ];
    let (last, prompts) = inputs.split_last().unwrap();
    let screen = respond_to_prompts(&mut child, folder.path(), prompts).await;
    for (index, part) in [
        (1, "Loops refuses this API key"),
        (3, "base64"),
        (4, "too short"),
        (6, "must be https URLs"),
        (8, "2 Clay tokens are given for 1 URLs"),
    ] {
        assert!(screen[index].contains(part), "{part} in {screen:?}");
    }
    read_until_prompt(&mut child, &mut String::new(), last.0).await;
    assert!(child.wait().await.unwrap().success());
    let stored = std::fs::read_to_string(folder.path().join("secrets.json")).unwrap();
    assert!(stored.contains("typed-key") && stored.contains("typed-token") && !stored.contains("typed-refused"));
}

#[tokio::test]
async fn third_invalid_value_or_end_of_input_stores_nothing() {
    let loops = MockDestination::start(Reply::json(200, LOOPS_TEAM_BODY)).await;
    let (folder, home) = (TempDataDir::new(), TempDataDir::new());
    let invalid = ("signing secret (", "foo\n");
    for (arguments, inputs, part) in [
        ("setup --add-signing-secret", [invalid, invalid, invalid], "too short"),
        ("setup", [("Loops API key", "typed-key\n"), ("signing secret (", "\n"), ("URL (", "\u{4}")], "input ended"),
    ] {
        let mut child = spawn_in_terminal(arguments, folder.path(), home.path(), &loops);
        respond_to_prompts(&mut child, folder.path(), &inputs).await;
        read_until_prompt(&mut child, &mut String::new(), part).await;
        assert_eq!(child.wait().await.unwrap().code(), Some(2));
        assert!(!folder.path().join("secrets.json").exists());
    }
}

#[tokio::test]
async fn plain_output_fits_terminal_width_and_keeps_urls_whole() {
    let folder = TempDataDir::new();
    let doctor = format!("{} --local={} doctor", relayctl_path().display(), folder.path().display());
    let run_doctor = async |no_color: &str| {
        let output = Command::new("script")
            .args(["-qec", &format!("stty cols 72 rows 40; {doctor} 2>/dev/null"), "/dev/null"])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("RELAY_LISTEN", "127.0.0.1:9")
            .env("NO_COLOR", no_color)
            .stdin(Stdio::null())
            .output()
            .await
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let plain = run_doctor("1").await;
    assert!(plain.contains("see docs/runbook.md#doctor-running") && !plain.contains('\u{1b}'), "{plain}");
    let (relay, findings) = plain.split_once("\r\n").unwrap();
    assert!(
        relay.starts_with("The relay of ") && findings.lines().all(|command_line| command_line.chars().count() <= 72),
        "{plain}"
    );
    let coloured = run_doctor("").await;
    assert!(coloured.contains("\u{1b}[31mfail\u{1b}[0m"), "{coloured}");
    let uncoloured = coloured.replace("\u{1b}[31m", "").replace("\u{1b}[33m", "");
    assert_eq!(uncoloured.replace("\u{1b}[32m", "").replace("\u{1b}[0m", ""), plain);
}

#[tokio::test]
async fn typed_secrets_are_not_echoed_and_stay_in_the_folder() {
    let loops = MockDestination::start(Reply::json(200, LOOPS_TEAM_BODY)).await;
    let (folder, home) = (TempDataDir::new(), TempDataDir::new());
    let mut child = spawn_in_terminal("setup", folder.path(), home.path(), &loops);
    let mut screen = String::new();
    let inputs = [
        ("Loops API key", "typed-key"),
        ("signing secret", SIGNING_SECRET),
        ("Clay webhook URL", "https://api.clay.com/v3/sources/webhook/typed-url"),
        ("Clay webhook token", "typed-token"),
    ];
    for (prompt, input) in inputs {
        read_until_prompt(&mut child, &mut screen, prompt).await;
        let pid = eventually("the program", async || find_relayctl_pid(folder.path())).await;
        wait_for_echo_off(pid).await;
        for file in ["cmdline", "environ"] {
            let process_file = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            assert!(!String::from_utf8_lossy(&process_file).contains("typed"), "{file}");
        }
        child.stdin.as_mut().unwrap().write_all(format!("{input}\n").as_bytes()).await.unwrap();
    }
    read_until_prompt(&mut child, &mut screen, "Content-Type: application/json").await;
    assert!(screen.contains("the team \"Acme\""), "{screen}");
    for (_, input) in inputs {
        assert!(!screen.contains(input), "{input} in {screen}");
    }
    assert!(child.wait().await.unwrap().success());
    let stored = std::fs::read_to_string(folder.path().join("secrets.json")).unwrap();
    assert!(stored.contains("typed-key") && stored.contains("typed-token"));
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0, "nothing in a temporary folder or a history");
}
