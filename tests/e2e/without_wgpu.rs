//! A program that was built without wgpu (`--no-default-features`) says so where somebody asks for a GPU.

use crate::fixture::{Head, run, tiny_job};

#[test]
fn a_program_without_wgpu_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let found = run(dir.path(), ["doctor", "-o", "json"]).expect(0).json();
    assert!(found["wgpu"].is_null() && found["adapters"] == serde_json::json!([]));
    let reason = found["auto"]["reason"].as_str().unwrap();
    assert!(reason.contains("built without wgpu"), "{reason}");
    let text = run(dir.path(), ["doctor"]).expect(0).stdout;
    assert!(text.contains("built without wgpu"), "{text}");

    tiny_job(dir.path(), Head::Keyword);
    let args = ["train", "tiny.toml", "--device", "wgpu", "--workers", "1"];
    let error = run(dir.path(), args).expect(78).stderr;
    assert!(
        error.contains("built without wgpu") && error.contains("the device `cpu`"),
        "{error}"
    );
}
