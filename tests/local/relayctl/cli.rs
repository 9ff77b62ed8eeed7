//! `relayctl`'s command line: errors of usage, shell completion and manual pages.

use relay_testkit::relay_process::TempDataDir;
use relay_testkit::relayctl::run_relayctl;

#[tokio::test]
async fn completions_and_man_pages_cover_every_command() {
    for (shell, part) in [("bash", "dead-letters"), ("zsh", "dead-letters"), ("fish", "dead-letters")] {
        let output = run_relayctl(&[], &["completions", shell], "").await;
        assert!(output.code == 0 && output.stdout.contains(part), "{shell}: {output:?}");
    }
    let page = run_relayctl(&[], &["man"], "").await;
    assert!(page.code == 0 && page.stdout.starts_with(".ie") && page.stdout.contains("relayctl"), "{page:?}");
    for part in ["relayctl-dead-letters-retry", "--per-second", "--webhook-id"] {
        assert!(page.stdout.replace('\\', "").contains(part), "{part}: {page:?}");
    }
    let folder = TempDataDir::new();
    let output = run_relayctl(&[], &["man", "--to", folder.path().to_str().unwrap()], "").await;
    assert_eq!(output.code, 0, "{output:?}");
    for page in ["relayctl.1", "relayctl-deliveries.1", "relayctl-dead-letters-retry.1", "relayctl-tail.1"] {
        assert!(folder.path().join(page).is_file(), "{page}");
    }
    let output = run_relayctl(&[], &["man", "--to", "/no/such/folder"], "").await;
    assert!(output.code == 2 && output.stderr.contains("/no/such/folder"), "{output:?}");
}

#[tokio::test]
async fn json_flag_is_rejected_where_unsupported() {
    for arguments in [&["completions", "bash", "--json"][..], &["--json", "man"]] {
        let output = run_relayctl(&[], arguments, "").await;
        assert!(output.code == 2 && output.json()["error"].as_str().unwrap().contains("prints no JSON"), "{output:?}");
    }
    assert!(run_relayctl(&[], &["--version"], "").await.stdout.starts_with("relayctl "));
}

#[tokio::test]
async fn unknown_config_environment_is_reported_with_valid_ones() {
    let folder = TempDataDir::new();
    let file = folder.path().join("samconfig.toml");
    std::fs::write(&file, "version = 0.1\n[default.deploy.parameters]\nstack_name = \"relay\"\n[prod.deploy]\n")
        .unwrap();
    let output = run_relayctl(&[], &["doctor", "--config", file.to_str().unwrap(), "--config-env", "prdo"], "").await;
    assert!(
        output.code == 2 && output.stderr.contains("has no environment prdo: give one of default, prod"),
        "{output:?}"
    );
}
