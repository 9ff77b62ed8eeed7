//! `relayctl` with AWS profiles: whose credentials it uses.

use std::fs;

use relay_testkit::lambda_fake::operator::{OperatorHarness, run_relayctl};

/// Two files of profiles, as `aws configure` and `aws configure sso` write them.
fn profiles(folder: &std::path::Path) -> [(&'static str, String); 2] {
    let (config, credentials) = (folder.join("config"), folder.join("credentials"));
    fs::write(&config, "[profile bare]\noutput = json\n[profile prod]\nregion = eu-west-1\n").unwrap();
    fs::write(&credentials, "[prod]\naws_access_key_id = of-prod\naws_secret_access_key = s\n").unwrap();
    let path = |path: std::path::PathBuf| path.to_str().unwrap().to_owned();
    [("AWS_CONFIG_FILE", path(config)), ("AWS_SHARED_CREDENTIALS_FILE", path(credentials))]
}

#[tokio::test]
async fn a_profile_that_is_named_wins_over_keys_in_the_environment() {
    let operated = OperatorHarness::without_setup().await;
    let folder = tempfile::tempdir().unwrap();
    let variables = [operated.variables(), profiles(folder.path()).to_vec()].concat();
    let config = folder.path().join("samconfig.toml");
    let deploy = format!("[default.deploy.parameters]\nstack_name = \"{}\"\nprofile = \"prod\"\n", operated.name());
    fs::write(&config, deploy).unwrap();
    let (config, name) = (config.to_str().unwrap(), operated.name());
    for (options, key) in [
        (&["--stack", name][..], "operator"),
        (&["--stack", name, "--profile", "prod"], "of-prod"),
        (&["--config", config], "of-prod"),
    ] {
        let said = run_relayctl(&variables, &[options, &["deliveries"]].concat(), "").await;
        assert_eq!(said.code, 0, "{said:?}");
        assert_eq!(operated.permission_proxy.take_signers().into_iter().collect::<Vec<_>>(), [key], "{options:?}");
    }
}

#[tokio::test]
async fn a_profile_that_is_not_there_or_has_no_credentials_asks_nothing_of_aws() {
    let operated = OperatorHarness::without_setup().await;
    let folder = tempfile::tempdir().unwrap();
    let variables = [operated.variables(), profiles(folder.path()).to_vec()].concat();
    for (profile, part) in [("prdo", "there is no AWS profile prdo"), ("bare", "the AWS profile gives no credentials")]
    {
        let drop = ["--stack", operated.name(), "--profile", profile, "dead-letters", "drop", "--all", "--yes"];
        let said = run_relayctl(&variables, &drop, "").await;
        assert_eq!((said.code, said.stderr.lines().count()), (3, 1), "{said:?}");
        assert!(said.stderr.contains(part) && said.stderr.chars().count() <= 300, "{said:?}");
    }
    assert!(operated.permission_proxy.calls().is_empty());
}
