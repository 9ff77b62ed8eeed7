//! The machine that was measured on.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::contender::Programs;

/// What a figure depends on besides the programs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    /// The type of the filesystem that the stores were on.
    pub(crate) filesystem: String,
    /// How busy the machine was before the first run: processes that ran or waited to run, in the last minute.
    pub(crate) load_before: f64,
    /// Versions of the programs and of what they run on.
    pub(crate) versions: BTreeMap<String, String>,
}

impl Machine {
    /// Describes this machine, and the folder that the stores are in.
    ///
    /// # Errors
    /// When a fact is not there, or when the folder is in memory: a commit costs nothing there.
    pub(crate) fn describe(work: &Path, programs: &Programs) -> io::Result<Self> {
        let filesystem = filesystem_of(&fs::read_to_string("/proc/self/mountinfo")?, &work.canonicalize()?);
        if ["tmpfs", "ramfs"].contains(&filesystem.as_str()) {
            return Err(io::Error::other(format!("{} is in memory: choose a folder on a disk", work.display())));
        }
        let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
        let processor = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let load = fs::read_to_string("/proc/loadavg")?;
        let python = programs.uvicorn.with_file_name("python");
        let versions = [
            ("relay-local", version_of(&programs.programs.join("relay-local"))?),
            ("Node", version_of(Path::new("node"))?),
            ("Python", version_of(&python)?),
            ("SQLite of relay-local", rusqlite::version().to_owned()),
        ];
        Ok(Self {
            processor: processor.map_or_else(|| "not known".to_owned(), |(_, name)| name.to_owned()),
            cores: std::thread::available_parallelism()?.get(),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            filesystem,
            load_before: load.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or_default(),
            versions: versions.into_iter().map(|(name, version)| (name.to_owned(), version)).collect(),
        })
    }
}

/// Returns the last word that a program prints for `--version`.
fn version_of(program: &Path) -> io::Result<String> {
    let output = Command::new(program).arg("--version").output();
    let output = output.map_err(|error| io::Error::other(format!("{}: {error}", program.display())))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.split_whitespace().last().unwrap_or_default().trim_start_matches('v').to_owned())
}

/// Returns the type of the filesystem that a path is on (proc(5), `mountinfo`: the mount point is the fifth field, the type
/// follows ` - `).
fn filesystem_of(mountinfo: &str, path: &Path) -> String {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (mount, source) = line.split_once(" - ")?;
        let mount_point = mount.split(' ').nth(4)?;
        path.starts_with(mount_point).then_some((mount_point.len(), source.split(' ').next()?))
    });
    mounts.max_by_key(|(length, _)| *length).map_or_else(|| "not known".to_owned(), |(_, kind)| kind.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filesystem_is_that_of_the_innermost_mount() {
        let mountinfo = "22 1 0:20 / / rw,noatime shared:1 - ext4 /dev/vda rw\n\
                         30 22 0:25 / /tmp rw - tmpfs tmpfs rw\n\
                         31 22 0:26 / /tmp/disk rw shared:4 - xfs /dev/vdb rw";
        for (path, filesystem) in [("/srv", "ext4"), ("/tmp/x", "tmpfs"), ("/tmp/disk/x", "xfs"), ("/tmpx", "ext4")] {
            assert_eq!(filesystem_of(mountinfo, Path::new(path)), filesystem, "{path}");
        }
    }
}
