//! Jobs drawn at random have the same weights, scores, metrics and decisions with one worker and with three. Any
//! number of others is compared with `unisono verify --random-jobs N --seed S --workers 1,3`.

use crate::fixture::run;

/// Jobs of a test; there are several tests, so that they run side by side.
const JOBS: u64 = 6;

#[track_caller]
fn are_the_same_at_one_and_three_workers(seed: u64) {
    let dir = tempfile::tempdir().unwrap();
    let args = format!(
        "verify --random-jobs {JOBS} --seed {seed} --workers 1,3 --device cpu -o json --out out"
    );
    let ended = run(dir.path(), args.split(' '));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let found = ended.json();
    assert_eq!(found["equal"], true, "{found:#}");
    let jobs = found["jobs"].as_array().unwrap();
    assert_eq!(jobs.len() as u64, JOBS);
    let trained = jobs.iter().filter(|job| {
        job["status"] == "succeeded"
            && job["weights_sha256"].is_string()
            && job["steps"].as_u64() > Some(0)
    });
    assert!(trained.count() as u64 > JOBS / 2, "{found:#}");
    // Jobs whose runs are equal leave nothing behind.
    let left = dir.path().join("out").read_dir().unwrap().count();
    assert_eq!(left, 0);
}

#[test]
fn random_jobs_of_the_first_seeds_are_the_same_at_one_and_three_workers() {
    are_the_same_at_one_and_three_workers(0);
}

#[test]
fn random_jobs_of_the_second_seeds_are_the_same_at_one_and_three_workers() {
    are_the_same_at_one_and_three_workers(JOBS);
}

#[test]
fn random_jobs_of_the_third_seeds_are_the_same_at_one_and_three_workers() {
    are_the_same_at_one_and_three_workers(2 * JOBS);
}

#[test]
fn random_jobs_of_the_fourth_seeds_are_the_same_at_one_and_three_workers() {
    are_the_same_at_one_and_three_workers(3 * JOBS);
}

#[test]
fn random_jobs_take_the_place_of_a_job_and_need_sizes_to_compare() {
    let dir = tempfile::tempdir().unwrap();
    for args in [
        "verify",
        "verify job.toml --random-jobs 1",
        "verify --random-jobs 1 --chaos",
        "verify --random-jobs 1 --set train.epochs=1",
        "verify --random-jobs 0",
        "verify --random-jobs 1 --workers 2",
    ] {
        run(dir.path(), args.split(' ')).expect(2);
    }
}
