//! No folder of code is a heap.

use std::collections::BTreeMap;

use crate::{root, rust_files};

/// The most files in one folder.
const MAX_FILES: usize = 14;
/// The most lines in one file, tests included.
const MAX_LINES: usize = 400;

#[test]
fn no_folder_has_more_than_14_files() {
    let mut folders: BTreeMap<String, usize> = BTreeMap::new();
    for file in ["crates", "tests", "tools"].iter().flat_map(|top| rust_files(&root().join(top))) {
        *folders.entry(file.parent().unwrap().display().to_string()).or_default() += 1;
    }
    folders.retain(|_, files| *files > MAX_FILES);
    assert!(folders.is_empty(), "{folders:#?}");
}

#[test]
fn no_file_has_more_than_400_lines() {
    let files = ["crates", "tests", "tools"].iter().flat_map(|top| rust_files(&root().join(top)));
    let long: Vec<_> =
        files.filter(|file| std::fs::read_to_string(file).unwrap().lines().count() > MAX_LINES).collect();
    assert!(long.is_empty(), "{long:#?}");
}
