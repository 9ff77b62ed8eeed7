//! Tests of a secrets file that changes: what was revoked does not live on.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

const TOKEN: &str = "relay-token-of-a-test";
const SECRET: &str = "whsec_c3VwZXItc2VjcmV0LWtleS1ieXRlcw==";

/// A folder that others cannot write to, whatever the umask is.
fn private_dir() -> tempfile::TempDir {
    tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o700)).tempdir().unwrap()
}

/// A watcher of a folder whose file opens everything, as at a start.
fn watcher(dir: &tempfile::TempDir) -> SecretsFileWatcher {
    write(dir, &complete_file());
    let environment = BTreeMap::from([("RELAY_DATA".to_owned(), dir.path().display().to_string())]);
    let mut variables = environment.clone();
    let stored_names = merge_into_env(&mut variables).unwrap();
    SecretsFileWatcher {
        data_dir: DataDir::new(dir.path().to_owned()),
        environment,
        simulated: SimulatedDestinations { clay: None, loops: false, on_request: false },
        stored_names,
        last_version: None,
        unusable: None,
    }
}

fn complete_file() -> String {
    format!(
        r#"{{"RELAY_TOKEN": "{TOKEN}", "LOOPS_SIGNING_SECRET": "{SECRET}", "LOOPS_API_KEY": "key",
            "CLAY_WEBHOOK_URL": "https://api.clay.com/x"}}"#
    )
}

fn write(dir: &tempfile::TempDir, text: &str) {
    // A new file has a new inode, as an editor's or setup's.
    let temporary = dir.path().join("new");
    fs::write(&temporary, text).unwrap();
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(temporary, dir.path().join(SECRETS_FILE)).unwrap();
}

/// What is open: the token, the signing secret, the Loops key, the Clay webhook.
fn open_parts(secrets: &Secrets) -> [bool; 4] {
    let token = format!("Bearer {TOKEN}");
    [
        secrets.clay_to_loops.tokens.authorize(Some(token.as_bytes())).is_some(),
        !secrets.loops_to_clay.signing_secrets.is_empty(),
        secrets.clay_to_loops.api_key.is_some(),
        !secrets.loops_to_clay.routes[0].webhooks.is_empty(),
    ]
}

#[test]
fn what_is_taken_out_of_the_secrets_file_is_closed_at_once() {
    let dir = private_dir();
    let (mut watcher, now) = (watcher(&dir), Instant::now());
    assert_eq!(open_parts(&watcher.reload_if_changed(now).unwrap()), [true; 4]);
    assert!(watcher.reload_if_changed(now).is_none(), "nothing has changed");
    write(&dir, &complete_file().replace(&format!(r#""RELAY_TOKEN": "{TOKEN}","#), ""));
    assert_eq!(open_parts(&watcher.reload_if_changed(now).unwrap()), [false, true, true, true]);
    write(&dir, "{}");
    assert_eq!(open_parts(&watcher.reload_if_changed(now).unwrap()), [false; 4]);
    write(&dir, &complete_file());
    assert_eq!(open_parts(&watcher.reload_if_changed(now).unwrap()), [true; 4]);
}

#[test]
fn deleted_secrets_file_closes_what_it_opened() {
    let dir = private_dir();
    let (mut watcher, now) = (watcher(&dir), Instant::now());
    watcher.reload_if_changed(now).unwrap();
    fs::remove_file(dir.path().join(SECRETS_FILE)).unwrap();
    let secrets = watcher.reload_if_changed(now).unwrap();
    assert_eq!(open_parts(&secrets), [false; 4]);
    assert!(secrets.clay_to_loops.tokens.is_empty(), "no generated token takes the place of the stored one");
}

#[test]
fn unusable_secrets_file_closes_what_it_opened_after_a_minute() {
    for text in
        ["{\"RELAY_TOKEN\": \"relay-token-of-a-test\",}", "", "{\"RELAY_TOKEN\": \"short\"}", "{\"OTHER\": \"x\"}"]
    {
        let dir = private_dir();
        let (mut watcher, now) = (watcher(&dir), Instant::now());
        watcher.reload_if_changed(now).unwrap();
        write(&dir, text);
        assert!(watcher.reload_if_changed(now).is_none(), "an editor may not have ended");
        assert!(watcher.reload_if_changed(now + Duration::from_secs(59)).is_none());
        let closed = watcher.reload_if_changed(now + Duration::from_secs(60)).unwrap();
        assert_eq!(open_parts(&closed), [false; 4], "{text}");
        assert!(watcher.reload_if_changed(now + Duration::from_secs(120)).is_none(), "it is closed already");
        write(&dir, &complete_file());
        let repaired = watcher.reload_if_changed(now + Duration::from_secs(121)).unwrap();
        assert_eq!(open_parts(&repaired), [true; 4]);
    }
}

#[test]
fn file_repaired_within_a_minute_closes_nothing() {
    let dir = private_dir();
    let (mut watcher, now) = (watcher(&dir), Instant::now());
    watcher.reload_if_changed(now).unwrap();
    write(&dir, "{");
    assert!(watcher.reload_if_changed(now).is_none());
    write(&dir, &complete_file());
    let secrets = watcher.reload_if_changed(now + Duration::from_secs(90)).unwrap();
    assert_eq!(open_parts(&secrets), [true; 4]);
}

#[test]
fn generated_token_has_all_scopes_in_a_trial_alone() {
    let dir = private_dir();
    let data_dir = DataDir::new(dir.path().to_owned());
    let authorization = format!("Bearer {}", data_dir.relay_token().unwrap());
    let real = BTreeMap::from([("LOOPS_API_KEY".to_owned(), "key".to_owned())]);
    for (variables, loops, expected) in
        [(BTreeMap::new(), true, Scope::ALL), (real, false, &Scope::DEFAULT), (BTreeMap::new(), false, &Scope::DEFAULT)]
    {
        let settings = LocalSettings::from_env(&variables).unwrap();
        let simulated = SimulatedDestinations { clay: None, loops, on_request: false };
        let secrets = Secrets::from_settings(&settings, &data_dir, &simulated).unwrap();
        let token = secrets.clay_to_loops.tokens.authorize(Some(authorization.as_bytes())).unwrap();
        assert!(Scope::ALL.iter().all(|scope| token.allows(*scope) == expected.contains(scope)), "{variables:?}");
    }
}
