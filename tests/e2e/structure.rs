//! The rules of ARCHITECTURE.md that a test can hold.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use crate::fixture::root;

/// A crate's `Cargo.toml`.
fn manifest(member: &str) -> toml::Table {
    let path = root().join(member).join("Cargo.toml");
    fs::read_to_string(path).unwrap().parse().unwrap()
}

/// A crate's dependencies outside of its tests.
fn dependencies(member: &str) -> BTreeSet<String> {
    let manifest = manifest(member);
    ["dependencies", "build-dependencies"]
        .iter()
        .filter_map(|section| manifest.get(*section)?.as_table())
        .flat_map(toml::Table::keys)
        .cloned()
        .collect()
}

pub fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// Where the project's crates lie; the program itself at the root.
pub const MEMBERS: [&str; 7] = [
    "",
    "proto",
    "simd",
    "coordinator",
    "coordinator/core",
    "worker",
    "speech",
];

/// The project's Rust files.
pub fn all_sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for member in MEMBERS {
        for folder in ["src", "tests", "benches", "examples"] {
            let folder = root().join(member).join(folder);
            if folder.is_dir() {
                found.extend(sources(&folder));
            }
        }
    }
    assert!(found.len() > 50, "the sources are not where they were");
    found
}

#[test]
fn arrows_between_crates_point_one_way() {
    let members = [
        "unisono",
        "coordinator",
        "coordinator-core",
        "worker",
        "proto",
        "simd",
        "speech",
    ];
    for (member, allowed) in [
        ("proto", &["simd"][..]),
        ("simd", &[]),
        ("speech", &[]),
        ("coordinator/core", &["proto", "speech"]),
        (
            "coordinator",
            &["coordinator-core", "proto", "simd", "speech"],
        ),
        ("worker", &["proto", "simd", "speech"]),
        ("", &["coordinator", "worker", "proto", "speech"]),
    ] {
        for dependency in dependencies(member) {
            let ours = members.contains(&dependency.as_str());
            assert!(
                !ours || allowed.contains(&dependency.as_str()),
                "`{member}` must not depend on `{dependency}`"
            );
        }
    }
}

#[test]
fn burn_is_where_gradients_are_computed_and_tonic_where_the_wire_is() {
    let names = |member: &str, prefix: &str| {
        dependencies(member)
            .iter()
            .any(|name| name.starts_with(prefix))
    };
    for member in MEMBERS.into_iter().filter(|member| *member != "worker") {
        for tensors in ["burn", "cubecl", "wgpu"] {
            assert!(
                !names(member, tensors),
                "`{member}` must do without {tensors}"
            );
        }
    }
    for member in ["simd", "speech", "coordinator/core"] {
        for network in ["tonic", "tokio", "prost", "hyper"] {
            assert!(
                !names(member, network),
                "`{member}` must do without {network}"
            );
        }
    }
}

/// The dependencies of a section that no source in `folders` of the crate names.
fn unnamed(member: &str, section: &str, folders: &[&str]) -> Vec<String> {
    let crate_root = root().join(member);
    let manifest = manifest(member);
    let folders = folders.iter().map(|folder| crate_root.join(folder));
    let files = folders
        .filter(|folder| folder.is_dir())
        .flat_map(|folder| sources(&folder))
        .chain([crate_root.join("build.rs")]);
    let texts: Vec<String> = files.flat_map(fs::read_to_string).collect();
    let named = |name: &str| {
        let in_code = name.replace('-', "_");
        let is_word = |text: &str| {
            text.split(|c: char| !c.is_alphanumeric() && c != '_')
                .any(|word| word == in_code)
        };
        texts.iter().any(|text| is_word(text))
    };
    let listed = manifest.get(section).and_then(|it| it.as_table());
    listed
        .into_iter()
        .flat_map(toml::Table::keys)
        .filter(|name| !named(name))
        .cloned()
        .collect()
}

#[test]
fn each_dependency_is_used() {
    for member in MEMBERS {
        let mut unused = unnamed(member, "dependencies", &["src"]);
        unused.extend(unnamed(member, "build-dependencies", &["src"]));
        unused.extend(unnamed(
            member,
            "dev-dependencies",
            &["src", "tests", "benches"],
        ));
        // What tonic generates from the services names it, in a file that the build writes.
        unused.retain(|name| !(member == "proto" && name == "tonic-prost"));
        assert!(unused.is_empty(), "`{member}` does not use {unused:?}");
    }
}

#[test]
fn anyhow_stays_on_the_command_line() {
    for member in MEMBERS.into_iter().filter(|member| !member.is_empty()) {
        assert!(!dependencies(member).contains("anyhow"), "{member}");
    }
}

#[test]
fn every_module_says_what_it_is_and_stays_readable() {
    let mut wrong = Vec::new();
    for path in all_sources() {
        let text = fs::read_to_string(&path).unwrap();
        let shown = path.strip_prefix(root()).unwrap().display();
        if !text.starts_with("//!") {
            wrong.push(format!("{shown} does not open with `//!`"));
        }
        let lines = text.lines().count();
        if lines > 600 {
            wrong.push(format!("{shown} has {lines} lines: split it before 600"));
        }
        let name = path.file_name().unwrap().to_str().unwrap();
        if [
            "mod.rs",
            "utils.rs",
            "common.rs",
            "helpers.rs",
            "manager.rs",
        ]
        .contains(&name)
        {
            wrong.push(format!("{shown} has a name that says nothing"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_deciding_modules_neither_wait_nor_look_at_a_clock() {
    let computed = ["trainer"];
    let forbidden = [
        "tokio",
        "async fn",
        ".await",
        "std::net",
        "SystemTime",
        "Instant::now",
        "Timestamp::now",
        "HashMap",
        "thread::sleep",
    ];
    let mut files = sources(&root().join("coordinator/core/src"));
    for name in computed {
        let folder = root().join("coordinator/src").join(name);
        files.push(folder.with_extension("rs"));
        if folder.is_dir() {
            files.extend(sources(&folder));
        }
    }
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for word in forbidden {
            assert!(!text.contains(word), "{} has `{word}`", file.display());
        }
    }
}

#[test]
fn generated_types_stay_at_the_boundary() {
    let boundary = [
        "server.rs",
        "server/",
        "session.rs",
        "session/",
        "transfer.rs",
        "transfer/",
        // A worker without gradients, for measuring the exchange.
        "bench/exchange.rs",
    ];
    for member in ["coordinator", "worker"] {
        let src = root().join(member).join("src");
        for path in sources(&src) {
            let inside = path
                .strip_prefix(&src)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            if boundary.iter().any(|place| inside.starts_with(place)) {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let mentions = ["proto::v1", "v1::"].iter().any(|word| text.contains(word));
            assert!(!mentions, "{member}/src/{inside} mentions generated types");
        }
    }
}

/// The table under "Unsafe code" in ARCHITECTURE.md names each file with unsafe code, and no other.
#[test]
fn unsafe_code_is_where_the_table_says() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let section = text.split("\n## Unsafe code\n").nth(1);
    let section = section.expect("a section on unsafe code");
    let section = section.split("\n## ").next().unwrap_or_default();
    let table = section.lines().filter(|line| line.starts_with('|'));
    // The second column of a row has files in backquotes.
    let files = table.filter_map(|row| row.split('|').nth(2));
    let named: BTreeSet<String> = files
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .map(str::to_owned)
        .collect();
    let is_unsafe = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap();
        let code = text.lines().map(|line| line.split("//").next());
        code.flatten().any(|code| {
            ["{", "fn", "impl", "trait", "extern"]
                .iter()
                .any(|what| code.contains(&["unsafe", what].join(" ")))
        })
    };
    let found: BTreeSet<String> = all_sources()
        .into_iter()
        .filter(is_unsafe)
        .map(|path| path.strip_prefix(root()).unwrap().display().to_string())
        .collect();
    let unnamed: Vec<_> = found.difference(&named).collect();
    assert!(
        unnamed.is_empty(),
        "unsafe code that the table lacks: {unnamed:?}"
    );
    let stale: Vec<_> = named.difference(&found).collect();
    assert!(
        stale.is_empty(),
        "the table names what has no unsafe code: {stale:?}"
    );
}

/// What several verbs share has a module beside `verbs`.
#[test]
fn no_verb_imports_another_one() {
    let folder = root().join("src/verbs");
    for path in sources(&folder) {
        let text = fs::read_to_string(&path).unwrap();
        let inside = path.strip_prefix(&folder).unwrap();
        // The module of a verb itself is `super` of what lies in its folder, and `verbs` is its own `super`.
        let is_verb = inside.components().count() == 1;
        let own = text.split("#[cfg(test)]").next().unwrap_or_default();
        assert!(!own.contains("verbs::"), "{} names `verbs`", path.display());
        assert!(
            !(is_verb && own.contains("super::")),
            "{} imports another verb",
            path.display()
        );
        let climbs = "super::".repeat(inside.components().count());
        assert!(!own.contains(&climbs), "{} leaves its verb", path.display());
    }
}

/// CI runs the tests on wgpu once more for each Vulkan driver, and finds them by this word.
#[test]
fn a_test_that_needs_an_adapter_says_so_in_its_name() {
    let mut tests = 0;
    for path in sources(&root().join("worker/tests")) {
        let text = fs::read_to_string(&path).unwrap();
        for test in text.split("#[test]").skip(1) {
            let name = test
                .split("fn ")
                .nth(1)
                .and_then(|rest| rest.split('(').next());
            let name = name.unwrap_or_default();
            // A test's own body ends where the next item at the margin begins.
            let body = test.split("\n}\n").next().unwrap_or_default();
            if body.contains("wgpu()") || body.contains("DeviceChoice::Wgpu") {
                assert!(name.contains("gpu"), "{}: {name}", path.display());
                tests += 1;
            }
        }
    }
    assert!(tests >= 9, "{tests} tests on wgpu");
}

/// The module paths in ARCHITECTURE.md, such as `trainer::clip`: each of their modules is a file somewhere.
#[test]
fn module_paths_in_the_architecture_lead_somewhere() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let names: BTreeSet<String> = all_sources()
        .iter()
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    let sources: String = all_sources()
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let words: BTreeSet<&str> = sources.split(|c| !is_word(c)).collect();
    let spans = text.split('`').skip(1).step_by(2);
    let foreign = ["clippy::", "burn::"];
    let paths = spans.filter(|span| {
        let is_path = span.contains("::") && span.chars().all(|c| is_word(c) || c == ':');
        is_path && !foreign.iter().any(|start| span.starts_with(start))
    });
    let mut wrong = Vec::new();
    for path in paths {
        let steps: Vec<&str> = path.split("::").collect();
        let is_module = |name: &&str| {
            let is_crate = MEMBERS.contains(&name.replace('_', "/").as_str());
            let is_type = name.starts_with(char::is_uppercase) && words.contains(*name);
            is_crate || is_type || names.contains(*name)
        };
        let (last, modules) = steps.split_last().unwrap();
        if !modules.iter().all(is_module) || !(words.contains(last) || names.contains(*last)) {
            wrong.push(path);
        }
    }
    assert!(
        wrong.is_empty(),
        "ARCHITECTURE.md names what is not there: {wrong:?}"
    );
}
