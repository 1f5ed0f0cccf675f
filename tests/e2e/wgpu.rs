//! Training on wgpu, with Mesa's software adapter where there is no GPU.

use crate::fixture::{Head, report, run, skip, tiny_job};

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
