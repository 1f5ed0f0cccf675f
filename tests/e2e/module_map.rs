//! The map of modules in ARCHITECTURE.md is what the modules' own heads say. `BLESS_DOCS=1` writes it anew.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use crate::{fixture::root, structure::MEMBERS};

const BEGIN: &str = "<!-- modules: generated from the heads of the files -->\n";
const END: &str = "<!-- end of modules -->\n";

/// The first sentence of a file's `//!` comment, on one line.
fn first_sentence(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    let lines = text.lines().map_while(|line| line.strip_prefix("//!"));
    let head: Vec<&str> = lines
        .map(str::trim)
        .take_while(|line| !line.is_empty())
        .collect();
    let head = head.join(" ");
    let end = head.find(". ").map_or(head.len(), |end| end + 1);
    head[..end].to_owned()
}

/// The modules that lie in `folder`, by name, without tests.
fn modules(folder: &Path) -> Vec<(String, PathBuf)> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    let rust = paths.filter(|path| path.extension().is_some_and(|end| end == "rs"));
    let mut found: Vec<(String, PathBuf)> = rust
        .map(|path| {
            (
                path.file_stem().unwrap().to_string_lossy().into_owned(),
                path,
            )
        })
        .filter(|(name, _)| !["lib", "main", "tests"].contains(&name.as_str()))
        .collect();
    found.sort();
    found
}

fn map() -> String {
    let mut text = String::new();
    for member in MEMBERS {
        let folder = root().join(member).join("src");
        let shown = folder.strip_prefix(root()).unwrap().display().to_string();
        let _ = write!(
            text,
            "\n### `{shown}`\n\n| module | what it is |\n|---|---|\n"
        );
        for (name, path) in modules(&folder) {
            let place = path.strip_prefix(root()).unwrap().display();
            let sentence = first_sentence(&path);
            let _ = write!(text, "| [`{name}`]({place}) | {sentence}");
            let inner = modules(&folder.join(&name));
            if !inner.is_empty() {
                let names: Vec<String> =
                    inner.iter().map(|(name, _)| format!("`{name}`")).collect();
                let _ = write!(text, " In it: {}.", names.join(", "));
            }
            text.push_str(" |\n");
        }
    }
    text.push('\n');
    text
}

#[test]
fn the_map_of_modules_is_up_to_date() {
    let path = root().join("ARCHITECTURE.md");
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the map's beginning");
    let (found, after) = rest.split_once(END).expect("the map's end");
    let expected = map();
    if std::env::var_os("BLESS_DOCS").is_some() {
        fs::write(&path, [before, BEGIN, &expected, END, after].concat()).unwrap();
        return;
    }
    let differs = found
        .lines()
        .zip(expected.lines())
        .find(|(found, expected)| found != expected);
    assert!(
        found == expected,
        "the map in ARCHITECTURE.md is out of date at {differs:?}: run this test with BLESS_DOCS=1"
    );
}

#[test]
fn the_head_of_a_module_is_a_sentence_that_a_table_can_hold() {
    for member in MEMBERS {
        for (_, path) in modules(&root().join(member).join("src")) {
            let sentence = first_sentence(&path);
            let is_sentence = sentence.ends_with('.') && sentence.len() > 10;
            assert!(is_sentence, "{}: {sentence:?}", path.display());
            assert!(!sentence.contains('|'), "{}", path.display());
        }
    }
}
