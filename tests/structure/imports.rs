//! No file imports, through others, itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::{packages, rust_files};

#[test]
fn no_crate_has_an_import_circle() {
    let circles: Vec<String> = packages()
        .iter()
        .filter_map(|package| {
            let circle = circle(&imports_of(&package.join("src")))?;
            Some(format!("files of {} import each other: {}", package.display(), circle.join(" -> ")))
        })
        .collect();
    assert!(circles.is_empty(), "{}", circles.join("\n"));
}

/// Which modules each module imports, by `use crate::…` and `use super::…` outside its tests.
fn imports_of(source: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let files = rust_files(source);
    let names: Vec<String> = files.iter().map(|file| module_of(source, file)).collect();
    let known: BTreeSet<&String> = names.iter().collect();
    let mut imports = BTreeMap::new();
    for (file, module) in files.iter().zip(&names) {
        // A module's tests may use whatever is there.
        if module.split("::").any(|part| part == "tests") {
            continue;
        }
        let text = fs::read_to_string(file).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let parent = module.rsplit_once("::").map_or("", |(parent, _)| parent);
        let is_folder = file.file_name().is_some_and(|name| name == "mod.rs" || name == "lib.rs");
        let above = if is_folder { parent_of_folder(module) } else { parent.to_owned() };
        let mut found = BTreeSet::new();
        for line in code.lines().filter_map(|line| line.strip_prefix("use ").or_else(|| line.strip_prefix("    use ")))
        {
            let path = if let Some(path) = line.strip_prefix("crate::") {
                path.to_owned()
            } else if let Some(path) = line.strip_prefix("super::") {
                if above.is_empty() { path.to_owned() } else { format!("{above}::{path}") }
            } else {
                continue;
            };
            for path in targets(&path) {
                if let Some(target) = longest_known(&path, &known)
                    && target != *module
                {
                    found.insert(target);
                }
            }
        }
        imports.insert(module.clone(), found);
    }
    imports
}

fn parent_of_folder(module: &str) -> String {
    module.rsplit_once("::").map_or("", |(parent, _)| parent).to_owned()
}

fn module_of(source: &Path, file: &Path) -> String {
    let path = file.strip_prefix(source).unwrap().with_extension("");
    let parts: Vec<String> = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    parts.join("::").trim_end_matches("::mod").to_owned()
}

/// `a::{b, c::D};` as `a::b` and `a::c::D`.
fn targets(path: &str) -> Vec<String> {
    let path = path.trim_end_matches(';');
    match path.split_once('{') {
        Some((head, list)) => list.trim_end_matches('}').split(", ").map(|item| format!("{head}{item}")).collect(),
        None => vec![path.to_owned()],
    }
}

fn longest_known(path: &str, known: &BTreeSet<&String>) -> Option<String> {
    let mut path = path.to_owned();
    loop {
        if known.contains(&path) {
            return Some(path);
        }
        path = path.rsplit_once("::")?.0.to_owned();
    }
}

/// A circle, if there is one.
fn circle(imports: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    let mut done = BTreeSet::new();
    imports.keys().find_map(|module| visit(module, imports, &mut Vec::new(), &mut done))
}

fn visit(
    module: &String,
    imports: &BTreeMap<String, BTreeSet<String>>,
    path: &mut Vec<String>,
    done: &mut BTreeSet<String>,
) -> Option<Vec<String>> {
    if let Some(start) = path.iter().position(|visited| visited == module) {
        let mut circle = path.split_off(start);
        circle.push(module.clone());
        return Some(circle);
    }
    if !done.insert(module.clone()) {
        return None;
    }
    path.push(module.clone());
    let found =
        imports.get(module).and_then(|targets| targets.iter().find_map(|each| visit(each, imports, path, done)));
    path.pop();
    found
}
