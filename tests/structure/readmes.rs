//! The README of a library crate, which is the head of its rustdoc, lists the crate's modules.

use std::collections::BTreeSet;
use std::fs;

use crate::packages;

#[test]
fn readme_of_each_crate_lists_its_modules() {
    let mut wrong = Vec::new();
    for package in packages() {
        let (Ok(library), Ok(readme)) =
            (fs::read_to_string(package.join("src/lib.rs")), fs::read_to_string(package.join("README.md")))
        else {
            continue;
        };
        let declared: BTreeSet<&str> = library
            .lines()
            .filter_map(|line| line.strip_prefix("pub mod ").or_else(|| line.strip_prefix("mod ")))
            .filter_map(|line| line.strip_suffix(';'))
            .filter(|module| *module != "tests")
            .collect();
        let listed: BTreeSet<&str> = readme
            .lines()
            .filter_map(|line| line.strip_prefix("- `").or_else(|| line.strip_prefix("| `")))
            .filter_map(|line| line.split('`').next())
            .collect();
        if declared != listed {
            wrong.push(format!("{}: declares {declared:?}, lists {listed:?}", package.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
