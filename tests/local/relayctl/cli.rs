//! `relayctl` and its words: what is told of a wrong command line, and what a shell and `man` know of it.

use relay_testkit::lambda_fake::operator::run_relayctl;
use relay_testkit::relay_process::DataFolder;

#[tokio::test]
async fn completions_and_manual_pages_know_every_command() {
    for (shell, part) in [("bash", "dead-letters"), ("zsh", "dead-letters"), ("fish", "dead-letters")] {
        let said = run_relayctl(&[], &["completions", shell], "").await;
        assert!(said.code == 0 && said.stdout.contains(part), "{shell}: {said:?}");
    }
    let page = run_relayctl(&[], &["man"], "").await;
    assert!(page.code == 0 && page.stdout.starts_with(".ie") && page.stdout.contains("relayctl"), "{page:?}");
    for part in ["relayctl-dead-letters-retry", "--per-second", "--webhook-id"] {
        assert!(page.stdout.replace('\\', "").contains(part), "{part}: {page:?}");
    }
    let folder = DataFolder::new();
    let said = run_relayctl(&[], &["man", "--to", folder.path().to_str().unwrap()], "").await;
    assert_eq!(said.code, 0, "{said:?}");
    for page in ["relayctl.1", "relayctl-deliveries.1", "relayctl-dead-letters-retry.1", "relayctl-tail.1"] {
        assert!(folder.path().join(page).is_file(), "{page}");
    }
    let said = run_relayctl(&[], &["man", "--to", "/no/such/folder"], "").await;
    assert!(said.code == 2 && said.stderr.contains("/no/such/folder"), "{said:?}");
}

#[tokio::test]
async fn what_prints_no_json_says_so_and_the_version_is_json() {
    for words in [&["completions", "bash", "--json"][..], &["--json", "man"]] {
        let said = run_relayctl(&[], words, "").await;
        assert!(said.code == 2 && said.json()["error"].as_str().unwrap().contains("prints no JSON"), "{said:?}");
    }
    for words in [["--version", "--json"], ["--json", "-V"]] {
        let said = run_relayctl(&[], &words, "").await;
        assert_eq!((said.code, &said.json()["version"]), (0, &env!("CARGO_PKG_VERSION").into()), "{said:?}");
    }
    assert!(run_relayctl(&[], &["--version"], "").await.stdout.starts_with("relayctl "));
}

#[tokio::test]
async fn an_environment_that_is_not_in_the_configuration_is_told_with_those_that_are() {
    let folder = DataFolder::new();
    let file = folder.path().join("samconfig.toml");
    std::fs::write(&file, "version = 0.1\n[default.deploy.parameters]\nstack_name = \"relay\"\n[prod.deploy]\n")
        .unwrap();
    let said = run_relayctl(&[], &["doctor", "--config", file.to_str().unwrap(), "--config-env", "prdo"], "").await;
    assert!(said.code == 2 && said.stderr.contains("has no environment prdo: give one of default, prod"), "{said:?}");
}

#[tokio::test]
async fn a_wrong_argument_is_one_json_error_where_json_is_wanted() {
    for (arguments, part) in [
        (&["deliveries", "--json", "--state", "lost"][..], "lost"),
        (&["--json", "dead-letters", "drop", "--yes"], "--all"),
        (&["--json"], "subcommand"),
        (&["doctor", "--send", "notanaddress", "--json"], "no e-mail address"),
    ] {
        let said = run_relayctl(&[], arguments, "").await;
        let told = said.json()["error"].as_str().unwrap().to_owned();
        assert!(said.code == 2 && said.stderr.is_empty(), "{said:?}");
        assert!(told.contains(part) && told.lines().count() == 1 && !told.contains("Usage"), "{told}");
    }
}
