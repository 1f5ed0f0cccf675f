//! The files in `deploy/`, as far as this machine can judge them.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use crate::fixture::{root, skip};

/// Runs a program that may not be installed.
fn try_run(program: &str, args: &[&str]) -> Option<Output> {
    Command::new(program)
        .args(args)
        .current_dir(root())
        .output()
        .ok()
}

#[test]
fn systemd_takes_the_units_as_they_are() {
    if try_run("systemd-analyze", &["--version"]).is_none() {
        return skip("systemd units", "systemd-analyze is not installed");
    }
    // It looks for the program that a unit starts.
    let dir = tempfile::tempdir().unwrap();
    for unit in ["unisono-coordinator.service", "unisono-worker@.service"] {
        let text = fs::read_to_string(root().join("deploy/systemd").join(unit)).unwrap();
        assert!(text.contains("/usr/local/bin/unisono "));
        let text = text.replace("/usr/local/bin/unisono", env!("CARGO_BIN_EXE_unisono"));
        let path = dir.path().join(unit);
        fs::write(&path, text).unwrap();
        let path = path.to_str().unwrap();
        let verified = try_run("systemd-analyze", &["verify", "--man=no", path]).unwrap();
        let told = String::from_utf8_lossy(&verified.stderr);
        let about_it: Vec<&str> = told
            .lines()
            .filter(|line| line.contains("unisono"))
            .collect();
        assert!(
            verified.status.success() && about_it.is_empty(),
            "{unit}: {told}"
        );
    }
}

#[test]
fn the_units_and_the_image_start_the_program_with_arguments_that_it_knows() {
    let mut commands = Vec::new();
    for unit in ["unisono-coordinator.service", "unisono-worker@.service"] {
        let text = fs::read_to_string(root().join("deploy/systemd").join(unit)).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("ExecStart="))
            .unwrap();
        commands.push(
            line.split_whitespace()
                .skip(1)
                .map(str::to_owned)
                .collect::<Vec<_>>(),
        );
    }
    for line in fs::read_to_string(root().join("deploy/compose.yaml"))
        .unwrap()
        .lines()
    {
        if let Some(command) = line.trim().strip_prefix("command: ") {
            commands.push(serde_json::from_str(command).expect("a list in brackets"));
        }
    }
    assert_eq!(commands.len(), 4);
    for command in commands {
        let help = Command::new(env!("CARGO_BIN_EXE_unisono"))
            .args([&command[0], "--help"])
            .output()
            .unwrap();
        let help = String::from_utf8_lossy(&help.stdout).into_owned();
        for word in command.iter().filter(|word| word.starts_with("--")) {
            assert!(help.contains(word.as_str()), "{command:?}: {word}");
        }
    }
}

/// The parts of YAML that matter here, without a YAML library: what a person would look for.
#[test]
fn compose_has_a_coordinator_with_a_health_check_and_two_workers() {
    let text = fs::read_to_string(root().join("deploy/compose.yaml")).unwrap();
    for wanted in [
        "  coordinator:",
        "  worker:",
        "healthcheck:",
        "replicas: 2",
        "condition: service_healthy",
    ] {
        assert!(text.contains(wanted), "{wanted}");
    }
    assert!(!text.contains('\t'), "YAML has no tabs");
    let linted = try_run(
        "docker",
        &["compose", "-f", "deploy/compose.yaml", "config", "--quiet"],
    );
    match linted {
        Some(output) if output.status.success() => {}
        Some(output) if !String::from_utf8_lossy(&output.stderr).contains("unknown") => {
            panic!("{}", String::from_utf8_lossy(&output.stderr));
        }
        _ => skip("docker compose config", "docker compose is not installed"),
    }
    match try_run(
        "yamllint",
        &[
            "-d",
            "{extends: relaxed, rules: {line-length: disable}}",
            "deploy/compose.yaml",
        ],
    ) {
        Some(output) => assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        ),
        None => skip("yamllint", "it is not installed"),
    }
}

#[test]
fn the_image_is_built_in_two_stages_and_runs_as_nobody_special() {
    let path = "deploy/Dockerfile";
    let text = fs::read_to_string(root().join(path)).unwrap();
    let instructions: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with(|first: char| first.is_ascii_uppercase()))
        .collect();
    let stages: Vec<_> = instructions
        .iter()
        .filter(|line| line.starts_with("FROM "))
        .collect();
    assert_eq!(stages.len(), 2, "{stages:?}");
    assert!(
        stages[0].contains("rust:") && stages[1].contains("debian:") && stages[1].contains("slim")
    );
    let user = instructions
        .iter()
        .rposition(|line| line.starts_with("USER "))
        .expect("USER");
    let entry = instructions
        .iter()
        .position(|line| line.starts_with("ENTRYPOINT "))
        .unwrap();
    assert!(user < entry && instructions[user] != "USER root");
    for copied in ["LICENSE-MIT", "LICENSE-APACHE"] {
        assert!(root().join(copied).is_file() && text.contains(copied));
    }
    // The image is built with the toolchain that the crates ask for.
    let manifest = fs::read_to_string(Path::new(root()).join("Cargo.toml")).unwrap();
    let version = manifest
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = "))
        .unwrap();
    assert!(stages[0].contains(&format!("rust:{}-", version.trim_matches('"'))));
    match try_run("hadolint", &[path]) {
        Some(output) => assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        ),
        None => skip("hadolint", "it is not installed"),
    }
}

#[test]
fn the_batch_script_is_one_that_bash_and_sbatch_understand() {
    let path = "deploy/slurm/unisono.sbatch";
    let text = fs::read_to_string(root().join(path)).unwrap();
    assert!(
        text.starts_with("#!/bin/bash\n"),
        "sbatch wants to know the shell"
    );
    // sbatch reads its options up to the first command.
    let (head, _) = text.split_once("\nset -u\n").expect("set -u");
    let options = text.matches("\n#SBATCH ").count();
    assert!(options >= 4 && options == head.matches("\n#SBATCH ").count());
    let parsed = try_run("bash", &["-n", path]).expect("bash");
    assert!(parsed.status.success(), "{parsed:?}");
    match try_run("shellcheck", &[path]) {
        Some(output) => assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        ),
        None => skip("shellcheck", "it is not installed"),
    }
}
