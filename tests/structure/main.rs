//! The structure of the code, held to its rules: no import circle, small folders, true READMEs, no unused dependency.

mod dependencies;
mod folders;
mod imports;
mod readmes;

use std::fs;
use std::path::{Path, PathBuf};

/// The root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// The folders of the packages of the workspace.
fn packages() -> Vec<PathBuf> {
    let crates = fs::read_dir(root().join("crates")).unwrap().map(|entry| entry.unwrap().path());
    let tools = ["tools/baseline-function", "tools/bench", "tools/measure"].map(|tool| root().join(tool));
    let mut packages: Vec<PathBuf> = crates.chain(tools).chain([root().join("tests")]).collect();
    packages.sort();
    packages
}

/// The Rust files below a folder.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return files };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}
