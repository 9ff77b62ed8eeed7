//! Settings that are stored in the data folder instead of the environment: `relayctl setup --local` writes them.
//!
//! They are one file, so that a change is whole or not there. The environment wins, even with an empty value.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::data_dir::config::DEFAULT_DATA;
use crate::data_dir::permissions::check_file;
use crate::data_dir::{DataDirError, replace_file};
use relay::config::names::{
    CLAY_WEBHOOK_AUTH_TOKEN, CLAY_WEBHOOK_URL, LOOPS_API_KEY, LOOPS_SIGNING_SECRET, RELAY_DATA, RELAY_TOKEN,
};
use serde_json::Value;

/// Name of the file: a JSON object of texts. The relay tokens may also be a list, as in a secret document.
pub const SECRETS_FILE: &str = "secrets.json";
/// The settings that it may have.
pub const ALLOWED_KEYS: [&str; 5] =
    [LOOPS_API_KEY, LOOPS_SIGNING_SECRET, CLAY_WEBHOOK_URL, CLAY_WEBHOOK_AUTH_TOKEN, RELAY_TOKEN];

/// Why the file of stored settings cannot be used. Each variant has its path.
#[derive(Debug, thiserror::Error)]
#[error("{}: {}", self.parts().0, self.parts().1)]
pub enum SecretsFileError {
    /// The file cannot be read.
    Unreadable(PathBuf, io::ErrorKind),
    /// The file cannot be written.
    Unwritable(PathBuf, io::ErrorKind),
    /// Another process is writing the file, or has written it since it was read.
    Busy(PathBuf),
    /// The file is not a JSON object of texts and the list of tokens, as this line shows.
    InvalidJson(PathBuf, usize),
    /// The file has a name that is not stored there.
    UnknownKey(PathBuf),
    /// Another user of the machine could have written the file.
    Untrusted(DataDirError),
}

impl SecretsFileError {
    /// Returns what happened, and what to do about it.
    pub fn parts(&self) -> (String, String) {
        match self {
            Self::Unreadable(path, detail) => (
                format!("{} cannot be read ({detail})", path.display()),
                "check its permissions, or set RELAY_DATA to another folder".to_owned(),
            ),
            Self::Unwritable(path, detail) => (
                format!("{} cannot be written ({detail})", path.display()),
                "check the folder's permissions and the free space".to_owned(),
            ),
            Self::Busy(path) => (
                format!("another setup is changing {} at the same time, so nothing was written", path.display()),
                "let it end, and run this again".to_owned(),
            ),
            Self::InvalidJson(path, line) => (
                format!("{} is not a JSON object of texts", path.display()),
                format!(
                    "mend it at line {line}, and do not delete it, because the keys that are kept there would be lost"
                ),
            ),
            Self::UnknownKey(path) => (
                format!("{} has a name that is not kept there", path.display()),
                format!("take it out, and leave {}", ALLOWED_KEYS.join(", ")),
            ),
            Self::Untrusted(error) => error.parts(),
        }
    }
}

/// Stored settings: texts by the names of their variables, as the environment has them. Its `Debug` shows no value.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretsFile(pub BTreeMap<String, String>);

impl std::fmt::Debug for SecretsFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Returns the value in the file of a setting. A list of tokens is a list there, and its JSON text in the environment.
fn to_value(name: &str, text: &str) -> Value {
    let list = (name == RELAY_TOKEN && text.starts_with('[')).then(|| serde_json::from_str(text).ok());
    list.flatten().unwrap_or_else(|| text.into())
}

/// Returns the setting that a value in the file stands for, or nothing if it has another form.
fn from_value(name: &str, value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Array(_) if name == RELAY_TOKEN => Some(value.to_string()),
        _ => None,
    }
}

impl SecretsFile {
    /// Reads the stored settings of a data folder. They are empty if there is no file.
    pub fn load(dir: &Path) -> Result<Self, SecretsFileError> {
        let path = dir.join(SECRETS_FILE);
        let unreadable = |error: io::Error| SecretsFileError::Unreadable(path.clone(), error.kind());
        // Before it is opened: a pipe would be waited for.
        let metadata = match fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound || error.kind() == io::ErrorKind::NotADirectory => {
                return Ok(Self::default());
            }
            Err(error) => return Err(unreadable(error)),
        };
        check_file(dir, &path, &metadata).map_err(SecretsFileError::Untrusted)?;
        let text = fs::read_to_string(&path).map_err(unreadable)?;
        let values = match serde_json::from_str::<BTreeMap<String, Value>>(&text) {
            Ok(values) => values,
            Err(error) => return Err(SecretsFileError::InvalidJson(path, error.line())),
        };
        let mut texts = BTreeMap::new();
        for (name, value) in values {
            let Some(value) = from_value(&name, value) else {
                let line = text.lines().take_while(|line| !line.contains(&name)).count() + 1;
                return Err(SecretsFileError::InvalidJson(path, line));
            };
            if !ALLOWED_KEYS.contains(&name.as_str()) {
                return Err(SecretsFileError::UnknownKey(path));
            }
            texts.insert(name, value);
        }
        Ok(Self(texts))
    }

    /// Writes the settings in place of `expected`, as a whole or not at all.
    ///
    /// # Errors
    /// If the file has other settings by now, another process is writing it, or it cannot be written. It is unchanged then.
    pub fn compare_and_write(&self, expected: &Self, dir: &Path) -> Result<(), SecretsFileError> {
        let path = dir.join(SECRETS_FILE);
        let unwritable = |error: io::Error| SecretsFileError::Unwritable(path.clone(), error.kind());
        // The folder's own lock, which goes with the handle: a running relay has that of a file in it.
        let dir_handle = File::open(dir).map_err(unwritable)?;
        match dir_handle.try_lock() {
            Ok(()) if Self::load(dir)? == *expected => {}
            Ok(()) | Err(TryLockError::WouldBlock) => return Err(SecretsFileError::Busy(path)),
            Err(TryLockError::Error(error)) => return Err(unwritable(error)),
        }
        let values: BTreeMap<&String, Value> = self.0.iter().map(|(name, text)| (name, to_value(name, text))).collect();
        let text = serde_json::to_string_pretty(&values).map_err(|error| unwritable(error.into()))?;
        replace_file(dir, SECRETS_FILE, &text).map_err(unwritable)
    }
}

/// Fills in the stored settings that the environment does not set. Returns their names.
pub fn merge_into_env(env: &mut BTreeMap<String, String>) -> Result<Vec<&'static str>, SecretsFileError> {
    let data_dir = env.get(RELAY_DATA).map(|text| text.trim()).filter(|text| !text.is_empty());
    let SecretsFile(stored) = SecretsFile::load(Path::new(data_dir.unwrap_or(DEFAULT_DATA)))?;
    // A token belongs to the URLs that it was stored with, and is sent to no other.
    let clay_url_in_env = env.contains_key(CLAY_WEBHOOK_URL);
    let mut merged = Vec::new();
    for name in ALLOWED_KEYS {
        let Some(value) = stored.get(name) else { continue };
        if !(env.contains_key(name) || (clay_url_in_env && name == CLAY_WEBHOOK_AUTH_TOKEN)) {
            env.insert(name.to_owned(), value.clone());
            merged.push(name);
        }
    }
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A folder that others cannot write to, whatever the umask is.
    fn private_dir() -> tempfile::TempDir {
        tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o700)).tempdir().unwrap()
    }

    fn dir_with_secrets(settings: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = private_dir();
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        SecretsFile(settings).compare_and_write(&SecretsFile::default(), folder.path()).unwrap();
        folder
    }

    fn variables(dir: &Path, more: &[(&str, &str)]) -> BTreeMap<String, String> {
        let mut variables = BTreeMap::from([(RELAY_DATA.to_owned(), dir.display().to_string())]);
        variables.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        merge_into_env(&mut variables).unwrap();
        variables
    }

    #[test]
    fn unset_environment_variables_come_from_secrets_file() {
        let folder = dir_with_secrets(&[(LOOPS_API_KEY, "stored"), (RELAY_TOKEN, "t")]);
        assert_eq!(variables(folder.path(), &[])[LOOPS_API_KEY], "stored");
        let set = variables(folder.path(), &[(LOOPS_API_KEY, "")]);
        assert_eq!((set[LOOPS_API_KEY].as_str(), set[RELAY_TOKEN].as_str()), ("", "t"));
    }

    #[test]
    fn stored_token_is_ignored_when_url_comes_from_environment() {
        let folder = dir_with_secrets(&[(CLAY_WEBHOOK_URL, "https://api.clay.com/a"), (CLAY_WEBHOOK_AUTH_TOKEN, "t")]);
        assert_eq!(variables(folder.path(), &[])[CLAY_WEBHOOK_AUTH_TOKEN], "t");
        let overridden = variables(folder.path(), &[(CLAY_WEBHOOK_URL, "https://api.clay.com/b")]);
        assert!(!overridden.contains_key(CLAY_WEBHOOK_AUTH_TOKEN));
    }

    #[test]
    fn secrets_file_has_mode_0600_and_is_replaced_atomically() {
        let folder = dir_with_secrets(&[(RELAY_TOKEN, "t")]);
        let path = folder.path().join(SECRETS_FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let expected = SecretsFile::load(folder.path()).unwrap();
        SecretsFile::default().compare_and_write(&expected, folder.path()).unwrap();
        assert_eq!(SecretsFile::load(folder.path()).unwrap(), SecretsFile::default());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn concurrent_write_is_detected_and_not_overwritten() {
        let folder = dir_with_secrets(&[(RELAY_TOKEN, "first")]);
        let expected = SecretsFile::load(folder.path()).unwrap();
        let second = SecretsFile(BTreeMap::from([(RELAY_TOKEN.to_owned(), "first,second".to_owned())]));
        let third = SecretsFile(BTreeMap::from([(RELAY_TOKEN.to_owned(), "first,third".to_owned())]));
        let dir_lock = File::open(folder.path()).unwrap();
        dir_lock.lock().unwrap();
        let message = second.compare_and_write(&expected, folder.path()).unwrap_err().to_string();
        assert!(message.contains("another setup is changing") && !message.contains("first"), "{message}");
        dir_lock.unlock().unwrap();
        second.compare_and_write(&expected, folder.path()).unwrap();
        assert!(matches!(third.compare_and_write(&expected, folder.path()), Err(SecretsFileError::Busy { .. })));
        assert_eq!(SecretsFile::load(folder.path()).unwrap(), second);
    }

    #[test]
    fn invalid_secrets_file_error_hides_the_content() {
        for text in ["hidden", "[]", r#"{"RELAY_LISTEN": "hidden"}"#, r#"{"LOOPS_API_KEY": ["hidden"]}"#] {
            let folder = private_dir();
            replace_file(folder.path(), SECRETS_FILE, text).unwrap();
            let error = SecretsFile::load(folder.path()).unwrap_err();
            assert!(!error.to_string().contains("hidden"), "{error}");
        }
    }

    #[test]
    fn list_of_tokens_is_a_list_in_the_file() {
        let list = r#"["t",{"name":"clay","scopes":["email:send"],"token":"u"}]"#;
        let folder = dir_with_secrets(&[(RELAY_TOKEN, list), (LOOPS_API_KEY, "[k")]);
        let file: Value = serde_json::from_str(&fs::read_to_string(folder.path().join(SECRETS_FILE)).unwrap()).unwrap();
        assert_eq!((&file[RELAY_TOKEN][1]["name"], &file[LOOPS_API_KEY]), (&"clay".into(), &"[k".into()));
        assert_eq!(variables(folder.path(), &[])[RELAY_TOKEN], list);
    }

    #[test]
    fn list_of_another_setting_is_an_error_at_its_line() {
        let folder = private_dir();
        replace_file(folder.path(), SECRETS_FILE, "{\n\"RELAY_TOKEN\": [\"t\"],\n\"LOOPS_API_KEY\": [\"k\"]}").unwrap();
        let error = SecretsFile::load(folder.path()).unwrap_err();
        assert!(matches!(error, SecretsFileError::InvalidJson(_, 3)), "{error}");
    }

    #[test]
    fn json_syntax_error_names_the_line_and_warns_of_deletion() {
        let folder = private_dir();
        replace_file(folder.path(), SECRETS_FILE, "{\n\"RELAY_TOKEN\": \"t\",\n}").unwrap();
        let message = SecretsFile::load(folder.path()).unwrap_err().to_string();
        assert!(
            message.contains("mend it at line 3, and do not delete it") && !message.contains("--local"),
            "{message}"
        );
        assert!(message.len() <= 300, "{message}");
    }

    #[test]
    fn secrets_file_that_others_can_write_is_not_read() {
        let folder = dir_with_secrets(&[(RELAY_TOKEN, "t")]);
        let file = folder.path().join(SECRETS_FILE);
        for path in [file.as_path(), folder.path()] {
            let before = fs::metadata(path).unwrap().permissions();
            fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
            let message = SecretsFile::load(folder.path()).unwrap_err().to_string();
            assert!(message.contains(&format!("chmod go-w {}", path.display())), "{message}");
            fs::set_permissions(path, before).unwrap();
        }
        assert!(SecretsFile::load(folder.path()).is_ok());
    }

    #[test]
    fn secrets_file_debug_output_hides_values() {
        let stored = SecretsFile(BTreeMap::from([(RELAY_TOKEN.to_owned(), "hidden".to_owned())]));
        assert!(!format!("{stored:?}").contains("hidden"));
    }

    #[test]
    fn pipe_in_the_place_of_the_file_is_refused_unread() {
        let dir = private_dir();
        let made = std::process::Command::new("mkfifo").arg("-m600").arg(dir.path().join(SECRETS_FILE)).status();
        assert!(made.unwrap().success());
        let error = SecretsFile::load(dir.path()).unwrap_err();
        assert!(matches!(error, SecretsFileError::Untrusted(_)), "{error}");
    }
}
