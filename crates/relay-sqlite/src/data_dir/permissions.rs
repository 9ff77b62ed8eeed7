//! Who owns the data folder and who may write to it. Both are judged as ssh judges its own files: what another user of the
//! machine could have written is not used, and what others could read is closed to them.

use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use crate::data_dir::DataDirError;

/// The administrator, who can write everywhere.
const ROOT: u32 = 0;
const WRITABLE_BY_OTHERS: u32 = 0o022;
const ACCESSIBLE_TO_OTHERS: u32 = 0o077;

/// Why a folder or file is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distrust {
    /// It belongs to the user with this id.
    Owner(u32),
    /// Others can write to it, by this mode.
    Mode(u32),
    /// It is a link, a pipe or a folder in the place of a file.
    NotAFile,
}

impl Distrust {
    /// Returns what is wrong with a path, and what to do about it.
    pub(super) fn describe(self, path: &Path) -> (String, String) {
        let path = path.display();
        match self {
            Self::Owner(uid) => (
                format!("{path} belongs to another user (id {uid}), who can read and change what is in it"),
                format!("run this as that user, or look through it and give it to yours: chown {} {path}", geteuid()),
            ),
            Self::NotAFile => (
                format!("{path} is no file but a link, a pipe or a folder, and what it leads to is not the relay's"),
                "put the file itself there, or set RELAY_DATA to another folder".to_owned(),
            ),
            Self::Mode(mode) => (
                format!(
                    "{path} can be written by other users (mode {:03o}), who may have put keys there",
                    mode & 0o777
                ),
                format!("look through it, and close it: chmod go-w {path}"),
            ),
        }
    }
}

/// Checks the folder for a relay that is to run on it, and the files in it that are the relay's.
///
/// # Errors
/// [`DataDirError::Untrusted`] if another user owns one of them or could have written to it, or if one of the files is a link.
pub(super) fn check_dir(dir: &Path, names: &[&str]) -> Result<(), DataDirError> {
    let unwritable = |error| DataDirError::Unwritable(dir.to_owned(), error);
    let uid = geteuid().as_raw();
    check(dir, &fs::metadata(dir).map_err(unwritable)?, uid)?;
    for path in names.iter().map(|name| dir.join(name)) {
        match fs::symlink_metadata(&path) {
            Ok(file) => check_own_file(&path, &file, uid)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unwritable(error)),
        }
    }
    Ok(())
}

/// Closes files of this user that others can read, and returns their paths. What an administrator shares with this user's group
/// is the administrator's decision.
pub(super) fn close_files(dir: &Path, names: &[&str]) -> io::Result<Vec<PathBuf>> {
    let mut closed = Vec::new();
    for path in names.iter().map(|name| dir.join(name)) {
        let Ok(file) = fs::metadata(&path) else { continue };
        if file.uid() == geteuid().as_raw() && file.mode() & ACCESSIBLE_TO_OTHERS != 0 {
            fs::set_permissions(&path, Permissions::from_mode(file.mode() & !ACCESSIBLE_TO_OTHERS))?;
            closed.push(path);
        }
    }
    Ok(closed)
}

/// Checks a file of a folder before it is opened. An administrator may read the folder of another user.
pub(super) fn check_file(dir: &Path, path: &Path, file: &Metadata) -> Result<(), DataDirError> {
    let folder = fs::metadata(dir).map_err(|error| DataDirError::Unwritable(dir.to_owned(), error))?;
    check(dir, &folder, folder.uid())?;
    check_own_file(path, file, folder.uid())
}

fn check_own_file(path: &Path, file: &Metadata, uid: u32) -> Result<(), DataDirError> {
    if !file.is_file() {
        return Err(DataDirError::Untrusted(path.to_owned(), Distrust::NotAFile));
    }
    check(path, file, uid)
}

fn check(path: &Path, metadata: &Metadata, uid: u32) -> Result<(), DataDirError> {
    check_owner(path, metadata, uid)?;
    if metadata.mode() & WRITABLE_BY_OTHERS == 0 {
        Ok(())
    } else {
        Err(DataDirError::Untrusted(path.to_owned(), Distrust::Mode(metadata.mode())))
    }
}

fn check_owner(path: &Path, metadata: &Metadata, uid: u32) -> Result<(), DataDirError> {
    let owner = metadata.uid();
    if [uid, geteuid().as_raw(), ROOT].contains(&owner) {
        Ok(())
    } else {
        Err(DataDirError::Untrusted(path.to_owned(), Distrust::Owner(owner)))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    /// The user that owns nothing.
    const NOBODY: u32 = 65534;

    /// A folder that only its owner can write to, with a file of this mode.
    fn dir_with_file(mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("relay-token");
        fs::write(&file, "planted").unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        (dir, file)
    }

    fn distrust(dir: &Path) -> Option<(PathBuf, Distrust)> {
        match check_dir(dir, &["relay-token"]) {
            Ok(()) => None,
            Err(DataDirError::Untrusted(path, distrust)) => Some((path, distrust)),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn folder_that_others_can_write_to_is_not_trusted() {
        for mode in [0o777, 0o775, 0o757, 0o1777] {
            let (dir, _) = dir_with_file(0o600);
            fs::set_permissions(dir.path(), Permissions::from_mode(mode)).unwrap();
            let (path, distrust) = distrust(dir.path()).unwrap();
            assert!(path == dir.path() && matches!(distrust, Distrust::Mode(_)), "{mode:o}: {distrust:?}");
            let (problem, remedy) = DataDirError::Untrusted(path, distrust).parts();
            assert!(problem.contains("can be written by other users") && remedy.contains("chmod go-w"), "{problem}");
        }
    }

    #[test]
    fn file_that_others_can_write_to_is_not_trusted() {
        for mode in [0o666, 0o660, 0o602] {
            let (dir, file) = dir_with_file(mode);
            assert!(matches!(distrust(dir.path()), Some((path, Distrust::Mode(_))) if path == file), "{mode:o}");
            assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, mode, "it is left as it was");
        }
    }

    #[test]
    fn file_that_others_can_read_is_closed_to_them_and_told() {
        let (dir, file) = dir_with_file(0o644);
        assert_eq!(distrust(dir.path()), None);
        assert_eq!(close_files(dir.path(), &["relay-token", "missing"]).unwrap(), std::slice::from_ref(&file));
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        assert!(close_files(dir.path(), &["relay-token"]).unwrap().is_empty());
    }

    #[test]
    fn only_this_user_and_the_administrator_are_trusted_owners() {
        let (dir, file) = dir_with_file(0o600);
        let metadata = fs::metadata(&file).unwrap();
        assert!(check_owner(&file, &metadata, metadata.uid()).is_ok());
        // Only an administrator can give a file away.
        if geteuid().is_root() {
            for path in [file.as_path(), dir.path()] {
                chown(path, Some(NOBODY), None).unwrap();
                let (distrusted, reason) = distrust(dir.path()).unwrap();
                assert_eq!((distrusted.as_path(), reason), (path, Distrust::Owner(NOBODY)));
            }
        }
    }

    #[test]
    fn what_is_no_file_is_neither_followed_nor_changed() {
        let (dir, file) = dir_with_file(0o644);
        let target = dir.path().join("target");
        fs::rename(&file, &target).unwrap();
        symlink(&target, &file).unwrap();
        assert_eq!(distrust(dir.path()), Some((file.clone(), Distrust::NotAFile)));
        assert_eq!(fs::metadata(&target).unwrap().mode() & 0o777, 0o644);
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        assert_eq!(distrust(dir.path()), Some((file, Distrust::NotAFile)));
    }
}
