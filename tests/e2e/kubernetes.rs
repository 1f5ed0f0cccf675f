//! `deploy/kubernetes` by the tools of `.ci/kubernetes`, where `UNISONO_KUBERNETES` names the folder that they are in
//! (`.ci/run` installs them).

use std::{path::PathBuf, process::Command};

use crate::fixture::{root, skip};

#[test]
fn manifests_of_kubernetes_are_valid_and_name_what_the_program_has() {
    let Some(tools) = std::env::var_os("UNISONO_KUBERNETES").map(PathBuf::from) else {
        let why = "UNISONO_KUBERNETES does not name the folder of kubectl, kubernetes-validate and python";
        return skip("manifests of Kubernetes", why);
    };
    let checked = Command::new(tools.join("python"))
        .arg(root().join(".ci/kubernetes"))
        .args([tools.join("kubectl"), tools.join("kubernetes-validate")])
        .arg(env!("CARGO_BIN_EXE_unisono"))
        .output()
        .expect("UNISONO_KUBERNETES names a folder with python");
    assert!(
        checked.status.success(),
        "{}{}",
        String::from_utf8_lossy(&checked.stdout),
        String::from_utf8_lossy(&checked.stderr)
    );
}
