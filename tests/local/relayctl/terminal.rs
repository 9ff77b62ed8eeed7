//! `relayctl setup` as a person runs it: asked on a terminal, nothing echoed, nothing left in a list of processes or a file.

use std::path::Path;
use std::process::Stdio;

use relay_testkit::eventually;
use relay_testkit::lambda_fake::operator::{LOOPS_TEAM_BODY, relayctl_path};
use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::relay_process::DataFolder;
use relay_testkit::webhook::SIGNING_SECRET;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

/// The process of the program that works on this folder.
fn process_of(folder: &Path) -> Option<u32> {
    let mine = format!("--local={}", folder.display());
    let processes =
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    processes.into_iter().find(|process: &u32| {
        let line = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        words.first().is_some_and(|word| word.ends_with(b"relayctl")) && words.contains(&mine.as_bytes())
    })
}

/// Reads what the terminal shows until a prompt is there.
async fn until(child: &mut Child, shown: &mut String, prompt: &str) {
    let output = child.stdout.as_mut().unwrap();
    let read = async {
        while !shown.contains(prompt) {
            let mut bytes = [0; 1024];
            let read = output.read(&mut bytes).await.unwrap();
            assert!(read > 0, "it ended: {shown}");
            shown.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
    };
    tokio::time::timeout(relay_testkit::EVENTUALLY_TIMEOUT, read).await.unwrap_or_else(|_| panic!("no {prompt}"));
}

/// `script` gives the program a terminal of its own.
fn on_a_terminal(words: &str, folder: &Path, elsewhere: &Path, loops: &MockDestination) -> Child {
    let line = format!("{} --local={} {words}", relayctl_path().display(), folder.display());
    Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("LOOPS_API_URL", loops.url("/api"))
        .env("TMPDIR", elsewhere)
        .env("HOME", elsewhere)
        .current_dir(elsewhere)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// Waits until the terminal of the process has no echo.
async fn silent(process: u32) {
    eventually("a terminal without an echo", async || {
        let terminal = format!("/proc/{process}/fd/0");
        let settings = Command::new("stty").args(["-F", &terminal, "-a"]).output().await.unwrap();
        String::from_utf8_lossy(&settings.stdout).contains("-echo ").then_some(())
    })
    .await;
}

/// Answers prompts, and tells what was shown up to each.
async fn answer(child: &mut Child, folder: &Path, answers: &[(&str, &str)]) -> Vec<String> {
    let mut all = Vec::new();
    for (prompt, answer) in answers {
        let mut shown = String::new();
        until(child, &mut shown, prompt).await;
        silent(eventually("the program", async || process_of(folder)).await).await;
        child.stdin.as_mut().unwrap().write_all(answer.as_bytes()).await.unwrap();
        all.push(shown);
    }
    all
}

#[tokio::test]
async fn what_is_wrong_is_told_at_its_prompt_and_asked_for_again() {
    let loops = MockDestination::start(Reply::json(200, LOOPS_TEAM_BODY)).await;
    let refused = r#"{"success":false,"message":"Invalid API key"}"#;
    loops.enqueue_replies([Reply::json(401, refused)]);
    let (folder, elsewhere) = (DataFolder::new(), DataFolder::new());
    let mut child = on_a_terminal("setup", folder.path(), elsewhere.path(), &loops);
    let signing = format!("{SIGNING_SECRET}\n");
    let answers = [
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
    let (last, asked) = answers.split_last().unwrap();
    let shown = answer(&mut child, folder.path(), asked).await;
    for (place, part) in [
        (1, "Loops refuses this API key"),
        (3, "base64"),
        (4, "too short"),
        (6, "must be https URLs"),
        (8, "2 Clay tokens are given for 1 URLs"),
    ] {
        assert!(shown[place].contains(part), "{part} in {shown:?}");
    }
    until(&mut child, &mut String::new(), last.0).await;
    assert!(child.wait().await.unwrap().success());
    let stored = std::fs::read_to_string(folder.path().join("secrets.json")).unwrap();
    assert!(stored.contains("typed-key") && stored.contains("typed-token") && !stored.contains("typed-refused"));
}

#[tokio::test]
async fn a_third_wrong_value_and_the_end_of_the_input_leave_nothing_behind() {
    let loops = MockDestination::start(Reply::json(200, LOOPS_TEAM_BODY)).await;
    let (folder, elsewhere) = (DataFolder::new(), DataFolder::new());
    let wrong = ("signing secret (", "foo\n");
    for (words, answers, part) in [
        ("setup --add-signing-secret", [wrong, wrong, wrong], "too short"),
        ("setup", [("Loops API key", "typed-key\n"), ("signing secret (", "\n"), ("URL (", "\u{4}")], "input ended"),
    ] {
        let mut child = on_a_terminal(words, folder.path(), elsewhere.path(), &loops);
        answer(&mut child, folder.path(), &answers).await;
        until(&mut child, &mut String::new(), part).await;
        assert_eq!(child.wait().await.unwrap().code(), Some(2));
        assert!(!folder.path().join("secrets.json").exists());
    }
}

#[tokio::test]
async fn without_colours_lines_still_fit_the_terminal_and_no_word_of_the_runbooks_address_is_broken() {
    let folder = DataFolder::new();
    let doctor = format!("{} --local={} doctor", relayctl_path().display(), folder.path().display());
    let shown = async |no_color: &str| {
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
    let plain = shown("1").await;
    assert!(plain.contains("see docs/runbook.md#doctor-running") && !plain.contains('\u{1b}'), "{plain}");
    let (relay, findings) = plain.split_once("\r\n").unwrap();
    assert!(relay.starts_with("The relay of ") && findings.lines().all(|line| line.chars().count() <= 72), "{plain}");
    let coloured = shown("").await;
    assert!(coloured.contains("\u{1b}[31mfail\u{1b}[0m"), "{coloured}");
    let of_plain = coloured.replace("\u{1b}[31m", "").replace("\u{1b}[33m", "");
    assert_eq!(of_plain.replace("\u{1b}[32m", "").replace("\u{1b}[0m", ""), plain);
}

#[tokio::test]
async fn what_is_typed_is_not_echoed_and_is_left_nowhere_but_in_the_folder() {
    let loops = MockDestination::start(Reply::json(200, LOOPS_TEAM_BODY)).await;
    let (folder, elsewhere) = (DataFolder::new(), DataFolder::new());
    let mut child = on_a_terminal("setup", folder.path(), elsewhere.path(), &loops);
    let mut shown = String::new();
    let answers = [
        ("Loops API key", "typed-key"),
        ("signing secret", SIGNING_SECRET),
        ("Clay webhook URL", "https://api.clay.com/v3/sources/webhook/typed-url"),
        ("Clay webhook token", "typed-token"),
    ];
    for (prompt, answer) in answers {
        until(&mut child, &mut shown, prompt).await;
        let process = eventually("the program", async || process_of(folder.path())).await;
        silent(process).await;
        for file in ["cmdline", "environ"] {
            let known = std::fs::read(format!("/proc/{process}/{file}")).unwrap_or_default();
            assert!(!String::from_utf8_lossy(&known).contains("typed"), "{file}");
        }
        child.stdin.as_mut().unwrap().write_all(format!("{answer}\n").as_bytes()).await.unwrap();
    }
    until(&mut child, &mut shown, "Content-Type: application/json").await;
    assert!(shown.contains("the team \"Acme\""), "{shown}");
    for (_, answer) in answers {
        assert!(!shown.contains(answer), "{answer} in {shown}");
    }
    assert!(child.wait().await.unwrap().success());
    let stored = std::fs::read_to_string(folder.path().join("secrets.json")).unwrap();
    assert!(stored.contains("typed-key") && stored.contains("typed-token"));
    assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0, "nothing in a temporary folder or a history");
}
