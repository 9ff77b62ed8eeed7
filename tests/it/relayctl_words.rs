//! `relayctl` and its words: what is told of a wrong command line, and what a shell and `man` know of it.

use relay_tests::cloud::operator::run;
use relay_tests::process::Folder;

#[tokio::test]
async fn completions_and_manual_pages_know_every_command() {
    for (shell, part) in [("bash", "dead-letters"), ("zsh", "dead-letters"), ("fish", "dead-letters")] {
        let said = run(&[], &["completions", shell], "").await;
        assert!(said.code == 0 && said.out.contains(part), "{shell}: {said:?}");
    }
    let page = run(&[], &["man"], "").await;
    assert!(page.code == 0 && page.out.starts_with(".ie") && page.out.contains("relayctl"), "{page:?}");
    for part in ["relayctl-dead-letters-retry", "--per-second", "--webhook-id"] {
        assert!(page.out.replace('\\', "").contains(part), "{part}: {page:?}");
    }
    let folder = Folder::new();
    let said = run(&[], &["man", "--to", folder.path().to_str().unwrap()], "").await;
    assert_eq!(said.code, 0, "{said:?}");
    for page in ["relayctl.1", "relayctl-deliveries.1", "relayctl-dead-letters-retry.1", "relayctl-tail.1"] {
        assert!(folder.path().join(page).is_file(), "{page}");
    }
    let said = run(&[], &["man", "--to", "/no/such/folder"], "").await;
    assert!(said.code == 2 && said.err.contains("/no/such/folder"), "{said:?}");
}

#[tokio::test]
async fn a_wrong_argument_is_one_json_error_where_json_is_wanted() {
    for (arguments, part) in [
        (&["deliveries", "--json", "--state", "lost"][..], "lost"),
        (&["--json", "dead-letters", "drop", "--yes"], "--all"),
        (&["--json"], "subcommand"),
        (&["doctor", "--send", "notanaddress", "--json"], "no e-mail address"),
    ] {
        let said = run(&[], arguments, "").await;
        let told = said.json()["error"].as_str().unwrap().to_owned();
        assert!(said.code == 2 && said.err.is_empty(), "{said:?}");
        assert!(told.contains(part) && told.lines().count() == 1 && !told.contains("Usage"), "{told}");
    }
}
