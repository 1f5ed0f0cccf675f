//! Training on wgpu, with Mesa's software adapter where there is no GPU, and with several Vulkan drivers at once.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{
    cluster::Cluster,
    fixture::{DEADLINE, Head, report, run, skip, tiny_job, until},
};

#[test]
fn two_workers_on_wgpu_train_together() {
    let dir = tempfile::tempdir().unwrap();
    let found = run(dir.path(), ["doctor", "-o", "json"]).expect(0).json();
    if found["wgpu"].is_null() {
        let required = std::env::var_os("UNISONO_REQUIRE_WGPU").is_some_and(|value| value == "1");
        assert!(
            !required,
            "UNISONO_REQUIRE_WGPU=1 and wgpu finds no adapter: {found:#}"
        );
        return skip(
            "two workers on wgpu",
            "wgpu finds no adapter; Mesa's software adapter (mesa-vulkan-drivers) would do",
        );
    }
    for head in [Head::Keyword, Head::Ctc] {
        tiny_job(dir.path(), head);
        let reports = ["1", "2"].map(|workers| {
            let out = format!("{head:?}-{workers}");
            let args = [
                "train",
                "tiny.toml",
                "--device",
                "wgpu",
                "--workers",
                workers,
                "--out",
                &out,
                "--set",
                "train.epochs=1",
            ];
            run(dir.path(), args).expect(0);
            report(&dir.path().join(out))
        });
        for report in &reports {
            assert!(
                report["compute_class"]
                    .as_str()
                    .unwrap()
                    .starts_with("wgpu/"),
                "{report:#}"
            );
            assert_eq!(report["status"], "succeeded");
        }
        assert_eq!(reports[1]["workers"], 2);
        assert_eq!(reports[0]["weights_sha256"], reports[1]["weights_sha256"]);
    }
}

/// The manifests by which the Vulkan loader finds Mesa's software adapter and SwiftShader. `UNISONO_SWIFTSHADER`
/// names the second one where it is not where Debian's browser has it, and demands both.
fn software_drivers() -> Option<[PathBuf; 2]> {
    let named = std::env::var_os("UNISONO_SWIFTSHADER").map(PathBuf::from);
    let is_required = named.is_some();
    let swiftshader =
        named.unwrap_or_else(|| PathBuf::from("/usr/lib/chromium/vk_swiftshader_icd.json"));
    let installed = fs::read_dir("/usr/share/vulkan/icd.d")
        .into_iter()
        .flatten();
    let lavapipe = installed.flatten().map(|entry| entry.path()).find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("lvp_icd") && name.ends_with(".json")
    });
    let found = lavapipe
        .filter(|_| swiftshader.is_file())
        .map(|lavapipe| [lavapipe, swiftshader]);
    assert!(
        !is_required || found.is_some(),
        "UNISONO_SWIFTSHADER is set, and a driver is missing"
    );
    found
}

#[test]
fn a_cpu_and_two_vulkan_drivers_train_one_job_to_the_accuracy_of_the_cpu_alone() {
    let Some(drivers) = software_drivers() else {
        return skip(
            "workers of three compute classes",
            "Mesa's software adapter (mesa-vulkan-drivers) and SwiftShader (chromium-common) are not both here",
        );
    };
    let dir = tempfile::tempdir().unwrap();
    tiny_job(dir.path(), Head::Keyword);
    let job = dir.path().join("tiny.toml");
    let sets = [
        "corpus.synthetic.train=240",
        "corpus.synthetic.valid=60",
        "corpus.synthetic.speakers=8",
        "model.hidden=24",
        "model.pooling=mean",
        "train.batch=24",
        "train.micro_batch=4",
        "train.epochs=12",
    ];
    let alone = {
        let mut args = "train tiny.toml --workers 1 --device cpu --out alone".to_owned();
        for set in sets {
            args.push_str(" --set ");
            args.push_str(set);
        }
        run(dir.path(), args.split(' ')).expect(0);
        accuracy(&dir.path().join("alone"))
    };

    let mut cluster = Cluster::vacant("127.0.0.1:0");
    cluster.start_coordinator(None);
    for driver in &drivers {
        let variables: [(&str, &OsStr); 1] = [("VK_DRIVER_FILES", driver.as_os_str())];
        cluster.hire_with(&["--device", "wgpu"], &variables);
    }
    cluster.wait_for_workers(2);
    let sets: Vec<&str> = sets.into_iter().chain(["compute_class=any"]).collect();
    // The drivers build their kernels with the first gradient, for so long that others would do all the work.
    let first = sets.iter().chain(&["train.epochs=1"]).copied();
    let first = cluster.submit(&job, &first.collect::<Vec<_>>());
    cluster.wait_until_ended(&first);
    let all = |wanted: &dyn Fn(&Value) -> bool| {
        let met = until(DEADLINE, || {
            let workers = cluster.ask(&["workers"]);
            workers.as_array().unwrap().iter().all(wanted)
        });
        assert!(met, "{}", cluster.told());
    };
    all(&|worker| worker["doing"] == "idle");
    let before = cluster.ask(&["workers"]);
    let before = |worker: &Value| {
        let workers = before.as_array().unwrap().iter();
        let mut same = workers.filter(|other| other["worker"] == worker["worker"]);
        same.next().and_then(|it| it["contributions"].as_u64())
    };
    let id = cluster.submit(&job, &sets);
    // So does a CPU once it is there: it comes when both have handed in something.
    all(&|worker| worker["contributions"].as_u64() > before(worker));
    cluster.hire(&["--device", "cpu"], None);
    let status = cluster.wait_until_ended(&id);
    assert_eq!(
        status["status"],
        "succeeded",
        "{status:#}\n{}",
        cluster.told()
    );

    let workers = cluster.ask(&["workers"]);
    let workers = workers.as_array().unwrap();
    for class in ["flex/", "llvmpipe", "SwiftShader"] {
        let worker = workers.iter().find(|worker| {
            let found = worker["compute_class"].as_str().unwrap_or_default();
            found.contains(class)
        });
        let worker = worker.unwrap_or_else(|| panic!("{class}: {workers:#?}"));
        assert!(worker["contributions"].as_u64() > Some(0), "{worker:#}");
    }
    let run_dir = cluster.dir.path().join("data/jobs").join(&id);
    let report = report(&run_dir);
    assert_eq!(report["workers"], 3, "{report:#}");
    assert_eq!(report["bit_identity"], false);
    let together = accuracy(&run_dir);
    assert!(
        alone > 0.8 && (together - alone).abs() <= 0.1,
        "alone {alone}, together {together}"
    );
}

/// On the validation set, after the last epoch.
fn accuracy(run_dir: &Path) -> f64 {
    report(run_dir)["metrics"]["accuracy"].as_f64().unwrap()
}
