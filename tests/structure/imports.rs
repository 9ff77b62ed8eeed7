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

/// Modules that each module names by a path from `crate::` or `super::`, in `use` lines and elsewhere, outside its tests.
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
        let code: String = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        let is_folder = file.file_name().is_some_and(|name| name == "mod.rs" || name == "lib.rs");
        let parent = module.rsplit_once("::").map_or("", |(parent, _)| parent);
        let above = if is_folder { parent_of_folder(module) } else { parent.to_owned() };
        let from_super = paths_after(&code, "super::").into_iter().map(|path| match above.as_str() {
            "" => path,
            above => format!("{above}::{path}"),
        });
        let found = paths_after(&code, "crate::").into_iter().chain(from_super);
        let found = found.filter_map(|path| longest_known(&path, &known)).filter(|target| target != module);
        imports.insert(module.clone(), found.collect());
    }
    imports
}

/// Returns what follows each `prefix` in a file: `a::{b, c::{D, E}}` is `a::b`, `a::c::D` and `a::c::E`.
fn paths_after(code: &str, prefix: &str) -> Vec<String> {
    let starts_path = |index: usize| {
        !code[..index].ends_with(|before: char| before.is_alphanumeric() || before == '_' || before == ':')
    };
    let mut paths = Vec::new();
    for (index, _) in code.match_indices(prefix).filter(|(index, _)| starts_path(*index)) {
        expand("", &code[index + prefix.len()..], &mut paths);
    }
    paths
}

/// Adds the paths that begin at `code` to `paths`, and returns what follows them.
fn expand<'a>(head: &str, code: &'a str, paths: &mut Vec<String>) -> &'a str {
    let end = code.find(|sign: char| !(sign.is_alphanumeric() || sign == '_' || sign == ':')).unwrap_or(code.len());
    let (path, mut rest) = code.split_at(end);
    let path = format!("{head}{path}");
    if !path.ends_with("::") || !rest.starts_with('{') {
        paths.push(path);
        return rest;
    }
    while let Some(item) = rest.strip_prefix(['{', ',']) {
        let item = item.trim_start();
        rest = if item.starts_with('}') { item } else { expand(&path, item, paths) };
        rest = rest.trim_start();
    }
    rest.strip_prefix('}').unwrap_or(rest)
}

fn parent_of_folder(module: &str) -> String {
    module.rsplit_once("::").map_or("", |(parent, _)| parent).to_owned()
}

fn module_of(source: &Path, file: &Path) -> String {
    let path = file.strip_prefix(source).unwrap().with_extension("");
    let parts: Vec<String> = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    parts.join("::").trim_end_matches("::mod").to_owned()
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
