//! Checks the program's environment variables: mistyped names and meaningless values would otherwise go unnoticed,
//! most of all where a supervisor or a container sets them.

use std::{env, ffi::OsString};

use worker::transfer::{SHARED_MEMORY, wants_shared_memory};

use crate::{exit::CommandError, log};

const PREFIX: &str = "UNISONO_";
/// What the program reads.
const KNOWN_VARIABLES: [&str; 8] = [
    "UNISONO_COORDINATOR",
    "UNISONO_CERTS_DIR",
    "UNISONO_TOKEN_FILE",
    "UNISONO_ALLOW_PLAINTEXT",
    log::VARIABLE,
    SHARED_MEMORY,
    proto::failpoint::VARIABLE,
    "UNISONO_WGPU_KERNELS",
];
/// What the files in `deploy/`, the tests and `.ci/run` set for others.
const OTHER_PROGRAMS_VARIABLES: [&str; 10] = [
    "UNISONO_LISTEN",
    "UNISONO_COORDINATOR_OPTIONS",
    "UNISONO_WORKER_OPTIONS",
    "UNISONO_CORPUS",
    "UNISONO_SIMULATION_SEEDS",
    "UNISONO_WRITE_SEEDS",
    "UNISONO_REQUIRE_WGPU",
    "UNISONO_SWIFTSHADER",
    "UNISONO_PROMETHEUS",
    "UNISONO_KUBERNETES",
];

/// Takes variables away that are set to nothing: compose files pass on what is not set as an empty text.
pub(crate) fn drop_empty() {
    for (name, value) in env::vars_os() {
        if value.is_empty() && name.to_string_lossy().starts_with(PREFIX) {
            // SAFETY: called first of all, while the program has no other thread.
            unsafe { env::remove_var(name) };
        }
    }
}

/// What is better looked at, for a person.
///
/// # Errors
/// When a value means nothing.
pub(crate) fn check() -> Result<Vec<String>, CommandError> {
    if let Err(value) = wants_shared_memory() {
        let told = format!("{SHARED_MEMORY}={value:?} means nothing; set it to `on` or `off`");
        return Err(CommandError::Usage(told));
    }
    let mut warnings = strange(env::vars_os().map(|(name, _)| name));
    let filter = env::var(log::VARIABLE).unwrap_or_default();
    for word in log::meaningless(&filter) {
        let name = log::VARIABLE;
        warnings.push(format!(
            "{name}: `{word}` is neither a level nor a module that says anything, such as `worker=debug`"
        ));
    }
    Ok(warnings)
}

fn strange(names: impl Iterator<Item = OsString>) -> Vec<String> {
    let mut strange: Vec<String> = names
        .map(|name| name.to_string_lossy().into_owned())
        .filter(|name| name.starts_with(PREFIX) && !is_known(name) && !is_of_a_service(name))
        .collect();
    strange.sort();
    let tell = |name: &String| {
        let near = KNOWN_VARIABLES
            .iter()
            .map(|known| (strsim::damerau_levenshtein(name, known), known));
        let near = near.filter(|(distance, _)| *distance <= 3).min();
        let meant = near.map_or(String::new(), |(_, known)| {
            format!("; did you mean {known}?")
        });
        let name = speech::escape::escape_within(name, 100);
        format!("the environment variable {name} is none of unisono's{meant}")
    };
    strange.iter().map(tell).collect()
}

fn is_known(name: &str) -> bool {
    KNOWN_VARIABLES.contains(&name) || OTHER_PROGRAMS_VARIABLES.contains(&name)
}

/// Kubernetes and Docker's links set these for a service that is called `unisono` or begins so.
fn is_of_a_service(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if name.ends_with("_SERVICE_HOST") || name.contains("_SERVICE_PORT") || name.ends_with("_NAME")
    {
        return true;
    }
    match name.split_once("_PORT") {
        Some((_, "")) => true,
        Some((_, rest)) => rest
            .strip_prefix('_')
            .and_then(|rest| rest.split('_').next())
            .is_some_and(is_number),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    fn told(names: &[&str]) -> Vec<String> {
        strange(names.iter().map(OsString::from))
    }

    #[test]
    fn names_that_are_mistyped_are_told_with_what_was_meant() {
        let told = told(&[
            "UNISONO_SHARED_MEMRY",
            "UNISONO_LOGS",
            "UNISONO_COLOUR",
            "PATH",
            "UNISONO",
        ]);
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(
            told[0].ends_with("UNISONO_COLOUR is none of unisono's"),
            "{}",
            told[0]
        );
        assert!(told[1].contains("did you mean UNISONO_LOG?"), "{}", told[1]);
        assert!(
            told[2].contains("did you mean UNISONO_SHARED_MEMORY?"),
            "{}",
            told[2]
        );
    }

    #[test]
    fn what_kubernetes_sets_for_a_service_of_this_name_is_no_mistake() {
        let names = [
            "UNISONO_SERVICE_HOST",
            "UNISONO_SERVICE_PORT",
            "UNISONO_SERVICE_PORT_GRPC",
            "UNISONO_PORT",
            "UNISONO_PORT_7700_TCP",
            "UNISONO_PORT_7700_TCP_ADDR",
            "UNISONO_COORDINATOR_SERVICE_HOST",
            "UNISONO_COORDINATOR_PORT",
            "UNISONO_COORDINATOR_PORT_7700_TCP_PROTO",
        ];
        assert!(told(&names).is_empty());
        assert!(told(&KNOWN_VARIABLES).is_empty() && told(&OTHER_PROGRAMS_VARIABLES).is_empty());
    }

    /// Every variable that the repository's files name is one that is known here.
    #[test]
    fn no_variable_is_forgotten() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut named = BTreeSet::new();
        let mut folders: Vec<_> = [
            "src",
            "worker/src",
            "coordinator/src",
            "proto/src",
            "speech/src",
            "deploy",
        ]
        .map(|folder| root.join(folder))
        .into();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                if path.ends_with("src/environment.rs") {
                    continue;
                }
                let text = fs::read_to_string(&path).unwrap_or_default();
                for (at, _) in text.match_indices(PREFIX) {
                    let name =
                        text[at..].split(|one: char| one != '_' && !one.is_ascii_uppercase());
                    named.extend(name.take(1).map(str::to_owned));
                }
            }
        }
        assert!(named.len() >= KNOWN_VARIABLES.len(), "{named:?}");
        named.remove(PREFIX);
        for name in named {
            assert!(is_known(&name), "{name} is not known to src/environment.rs");
        }
    }
}
