//! `relayctl` with AWS profiles: which credentials it uses.

use std::fs;

use relay_testkit::lambda_fake::operator::OperatorHarness;
use relay_testkit::relayctl::run_relayctl;

/// Two files of profiles, as `aws configure` and `aws configure sso` write them.
fn profiles(folder: &std::path::Path) -> [(&'static str, String); 2] {
    let (config, credentials) = (folder.join("config"), folder.join("credentials"));
    fs::write(&config, "[profile bare]\noutput = json\n[profile prod]\nregion = eu-west-1\n").unwrap();
    fs::write(&credentials, "[prod]\naws_access_key_id = of-prod\naws_secret_access_key = s\n").unwrap();
    let path = |path: std::path::PathBuf| path.to_str().unwrap().to_owned();
    [("AWS_CONFIG_FILE", path(config)), ("AWS_SHARED_CREDENTIALS_FILE", path(credentials))]
}

#[tokio::test]
async fn named_profile_overrides_environment_credentials() {
    let harness = OperatorHarness::without_setup().await;
    let folder = tempfile::tempdir().unwrap();
    let variables = [harness.variables(), profiles(folder.path()).to_vec()].concat();
    let config = folder.path().join("samconfig.toml");
    let deploy = format!("[default.deploy.parameters]\nstack_name = \"{}\"\nprofile = \"prod\"\n", harness.name());
    fs::write(&config, deploy).unwrap();
    let (config, name) = (config.to_str().unwrap(), harness.name());
    for (options, key) in [
        (&["--stack", name][..], "operator"),
        (&["--stack", name, "--profile", "prod"], "of-prod"),
        (&["--config", config], "of-prod"),
    ] {
        let output = run_relayctl(&variables, &[options, &["deliveries"]].concat(), "").await;
        assert_eq!(output.code, 0, "{output:?}");
        assert_eq!(harness.permission_proxy.take_signers().into_iter().collect::<Vec<_>>(), [key], "{options:?}");
    }
}

#[tokio::test]
async fn unusable_profile_fails_without_calling_aws() {
    let harness = OperatorHarness::without_setup().await;
    let folder = tempfile::tempdir().unwrap();
    let variables = [harness.variables(), profiles(folder.path()).to_vec()].concat();
    for (profile, part) in [("prdo", "there is no AWS profile prdo"), ("bare", "the AWS profile gives no credentials")]
    {
        let drop = ["--stack", harness.name(), "--profile", profile, "dead-letters", "drop", "--all", "--yes"];
        let output = run_relayctl(&variables, &drop, "").await;
        assert_eq!((output.code, output.stderr.lines().count()), (3, 1), "{output:?}");
        assert!(output.stderr.contains(part) && output.stderr.chars().count() <= 300, "{output:?}");
    }
    assert!(harness.permission_proxy.calls().is_empty());
}
