//! The files of the page, embedded in the program.

use axum::extract::{Path, State};
use axum::response::{Html, IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;

use crate::console::PageToken;

const INDEX: &str = include_str!("../page/index.html");
/// Stands in the page for the token of its requests.
const TOKEN_PLACEHOLDER: &str = "{{console-token}}";

/// Embeds files of the page, each with its path below `/console/`.
macro_rules! files {
    ($($path:literal),* $(,)?) => { &[$(($path, include_str!(concat!("../page/", $path)))),*] };
}

/// The files that the page loads.
const FILES: &[(&str, &str)] = files![
    "app.js",
    "base.css",
    "icon.svg",
    "lib/api.js",
    "lib/chart.js",
    "lib/clay.js",
    "lib/coalesce.js",
    "lib/dialog.js",
    "lib/dom.js",
    "lib/format.js",
    "lib/parts.js",
    "lib/stream.js",
    "lib/token.js",
    "lib/words.js",
    "trial.css",
    "views.css",
    "views/acts.js",
    "views/connect.js",
    "views/dead-letters.js",
    "views/deliveries.js",
    "views/delivery.js",
    "views/filters.js",
    "views/flow.js",
    "views/paste.js",
    "views/pause.js",
    "views/refused.js",
    "views/trial/behavior.js",
    "views/trial/clay.js",
    "views/trial/column.js",
    "views/trial/loops.js",
    "views/trial/view.js",
];

/// `GET /`: the page, with the token that its requests must have.
pub(crate) async fn index(State(token): State<PageToken>) -> Html<String> {
    Html(INDEX.replace(TOKEN_PLACEHOLDER, token.as_str()))
}

/// `GET /console/{path}`: a file of the page.
pub(crate) async fn file(Path(path): Path<String>) -> Response {
    match FILES.iter().find(|(name, _)| *name == path) {
        Some((name, content)) => ([(CONTENT_TYPE, content_type(name))], *content).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/javascript; charset=utf-8",
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn files_below(folder: &Path, prefix: &str) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
        let paths = entries.flat_map(|entry| {
            let name = format!("{prefix}{}", entry.file_name().display());
            if entry.path().is_dir() { files_below(&entry.path(), &format!("{name}/")) } else { vec![name] }
        });
        paths.collect()
    }

    #[test]
    fn every_file_of_the_folder_is_embedded() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("page");
        let mut in_folder = files_below(&folder, "");
        in_folder.retain(|name| name != "index.html");
        in_folder.sort();
        let mut embedded: Vec<&str> = FILES.iter().map(|(name, _)| *name).collect();
        embedded.sort_unstable();
        assert_eq!(embedded, in_folder);
    }

    #[test]
    fn page_has_no_script_or_style_of_its_own() {
        // The Content-Security-Policy would keep the browser from it.
        for forbidden in ["<script>", "<style", "style=", "onclick=", "http://", "https://"] {
            assert!(!INDEX.contains(forbidden), "{forbidden}");
        }
        assert_eq!(INDEX.matches(TOKEN_PLACEHOLDER).count(), 1);
    }
}
