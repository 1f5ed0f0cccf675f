//! No two files of a crate import each other: whoever reads one of them would have to read both.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use crate::{
    fixture::root,
    structure::{MEMBERS, sources},
};

/// Pairs of files that may import each other, with the reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[(
    "worker/src/session/leases",
    "worker/src/session/member",
    "a member's task runs its leases, and leases speak to the coordinator through their member",
)];

type Module = Vec<String>;

/// The module of a file below `src/`.
fn module(path: &Path) -> Module {
    let path = path.with_extension("");
    let parts = path.iter().map(|part| part.to_str().unwrap().to_owned());
    parts
        .filter(|part| part != "lib" && part != "main")
        .collect()
}

/// `text` without comments and without the tests at its end.
fn code(text: &str) -> String {
    let lines = text.lines().map(|line| line.split("//").next().unwrap());
    let code = lines.collect::<Vec<_>>().join("\n");
    match code.find("#[cfg(test)]\nmod tests {") {
        Some(tests) => code[..tests].to_owned(),
        None => code,
    }
}

fn is_name(one: char) -> bool {
    one.is_alphanumeric() || one == '_'
}

/// All paths of the use tree that `rest` begins with, each behind `prefix`; returns what follows the tree.
fn paths<'a>(mut rest: &'a str, prefix: &Module, found: &mut Vec<Module>) -> &'a str {
    let mut path = prefix.clone();
    loop {
        let name = rest.find(|one| !is_name(one)).unwrap_or(rest.len());
        if name > 0 {
            path.push(rest[..name].to_owned());
            rest = &rest[name..];
        }
        match rest.strip_prefix("::") {
            Some(behind) => rest = behind,
            None => break,
        }
        if let Some(mut items) = rest.strip_prefix('{') {
            loop {
                items = paths(items.trim_start(), &path, found);
                // Over `as NAME` to the next item or the end.
                let next = items.find([',', '}']).unwrap_or(items.len());
                let (is_end, behind) = (items[next..].starts_with('}'), items.get(next + 1..));
                items = behind.unwrap_or_default().trim_start();
                if is_end || items.starts_with('}') || items.is_empty() {
                    return items;
                }
            }
        }
    }
    found.push(path);
    rest
}

/// The files of a crate that the file of `module` imports from.
fn imports(module: &Module, text: &str, modules: &BTreeSet<Module>) -> BTreeSet<Module> {
    let code = code(text);
    let mut found = Vec::new();
    for start in ["crate::", "super::"] {
        for (at, _) in code.match_indices(start) {
            // Neither within a path nor where something may be seen from.
            if !code[..at].ends_with([':', '_']) && !code[..at].ends_with("in ") {
                paths(&code[at..], &Vec::new(), &mut found);
            }
        }
    }
    let mut imported = BTreeSet::new();
    for path in found {
        let mut target = match path[0].as_str() {
            "crate" => Vec::new(),
            _ => module.clone(),
        };
        for name in &path {
            match name.as_str() {
                "crate" => {}
                "super" => drop(target.pop()),
                name => {
                    let mut child = target.clone();
                    child.push(name.to_owned());
                    if !modules.contains(&child) {
                        break;
                    }
                    target = child;
                }
            }
        }
        imported.insert(target);
    }
    imported
}

#[test]
fn no_two_files_of_a_crate_import_each_other() {
    let mut circles = BTreeSet::new();
    for member in MEMBERS {
        let folder = root().join(member).join("src");
        let files: BTreeMap<Module, String> = sources(&folder)
            .iter()
            .map(|path| (path.strip_prefix(&folder).unwrap(), path))
            .filter(|(inner, _)| {
                !inner
                    .iter()
                    .any(|part| part.to_str().unwrap().starts_with("tests"))
            })
            .map(|(inner, path)| (module(inner), fs::read_to_string(path).unwrap()))
            .collect();
        let modules: BTreeSet<Module> = files.keys().cloned().collect();
        let imports: BTreeMap<&Module, BTreeSet<Module>> = files
            .iter()
            .map(|(module, text)| (module, imports(module, text, &modules)))
            .collect();
        for (one, imported) in &imports {
            for other in imported.iter().filter(|other| *one < *other) {
                // A child's imports of its parents are no circle.
                if imports[other].contains(*one) && !other.starts_with(one) {
                    let name = |module: &Module| format!("{member}/src/{}", module.join("/"));
                    circles.insert((name(one), name(other)));
                }
            }
        }
    }
    for (one, other, reason) in EXCEPTIONS {
        let pair = ((*one).to_owned(), (*other).to_owned());
        assert!(
            circles.remove(&pair),
            "{one} and {other} ({reason}) are no circle any more"
        );
    }
    assert!(circles.is_empty(), "import each other: {circles:#?}");
}

#[test]
fn imports_are_found_in_trees_and_in_paths() {
    let modules = ["a", "a/b", "c", "d"].map(|path| module(Path::new(path)));
    let modules = BTreeSet::from(modules);
    let text =
        "use crate::{a::{self, b::{X, Y as Z}}, d};\nfn f() { super::super::c::g(); }\n// crate::e";
    let found = imports(&vec!["a".to_owned(), "b".to_owned()], text, &modules);
    let found: Vec<String> = found.iter().map(|module| module.join("/")).collect();
    assert_eq!(found, ["a", "a/b", "c", "d"]);
}
