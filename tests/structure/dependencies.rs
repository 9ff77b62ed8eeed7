//! Each dependency is used.

use std::fs;

use crate::{packages, rust_files};

#[test]
fn every_dependency_is_named_in_its_package() {
    let mut unused = Vec::new();
    for package in packages() {
        let manifest: toml::Table = fs::read_to_string(package.join("Cargo.toml")).unwrap().parse().unwrap();
        let code: String = rust_files(&package).iter().map(|file| fs::read_to_string(file).unwrap()).collect();
        let names: std::collections::BTreeSet<&str> = code.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        for section in ["dependencies", "dev-dependencies"] {
            for name in manifest.get(section).and_then(toml::Value::as_table).into_iter().flat_map(toml::Table::keys) {
                if !names.contains(name.replace('-', "_").as_str()) {
                    unused.push(format!("{name} in {}", package.display()));
                }
            }
        }
    }
    assert!(unused.is_empty(), "dependencies that no code names:\n{}", unused.join("\n"));
}
