//! The runs of a job: where a new one goes, and which one is meant by `--resume`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use coordinator::{
    job::{Job, changes},
    store::{JobState, RunDirectory, StoreError},
};

use crate::{
    args::Resume,
    exit::{CommandError, Context as _, Result},
};

/// Where runs go that are told no place.
const RUNS_FOLDER: &str = "runs";

/// What `train` is to do.
#[derive(Debug, PartialEq)]
pub(crate) enum RunStart {
    /// In a directory that holds nothing yet.
    Fresh(PathBuf),
    /// Go on with the run in this directory.
    GoOn(PathBuf),
    /// Nothing: the run in this directory has come to its end.
    Finished(PathBuf),
}

/// Makes the directory of a run of `name` that is told no place: named after the time too, and numbered
/// where that is taken. No other program gets the same one.
pub(crate) fn fresh(name: &str) -> Result<PathBuf> {
    fresh_in(Path::new(RUNS_FOLDER), name, jiff::Timestamp::now())
}

fn fresh_in(runs: &Path, name: &str, now: jiff::Timestamp) -> Result<PathBuf> {
    let cannot = |path: &Path| format!("cannot make the directory {}", path.display());
    fs::create_dir_all(runs).with_context(|| cannot(runs))?;
    let base = format!("{name}-{}", now.strftime("%Y%m%d-%H%M%S"));
    let mut number = 1_u32;
    loop {
        let path = match number {
            1 => runs.join(&base),
            number => runs.join(format!("{base}-{number}")),
        };
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error).with_context(|| cannot(&path)),
        }
    }
}

/// What is to be done for `job`, in the directory `out` if one is named.
pub(crate) fn find(
    job: &Job,
    out: Option<&Path>,
    resume: Option<Resume>,
    allow_change: bool,
) -> Result<RunStart> {
    match (out, resume) {
        (Some(out), None) => Ok(RunStart::Fresh(out.to_owned())),
        (None, None) => Ok(RunStart::Fresh(fresh(&job.name)?)),
        (Some(out), Some(when)) => in_directory(job, out, when, allow_change),
        (None, Some(when)) => match (newest(job, Path::new(RUNS_FOLDER), allow_change)?, when) {
            (RunSearch::Found(dir, run), when) => Ok(judged(job, dir, &run, when)),
            (RunSearch::Other(_), Resume::Auto) => Ok(RunStart::Fresh(fresh(&job.name)?)),
            (RunSearch::Other(told), Resume::Now) => Err(CommandError::Data(told).into()),
        },
    }
}

fn in_directory(job: &Job, out: &Path, when: Resume, allow_change: bool) -> Result<RunStart> {
    let Some(run) = RunDirectory::look(out)? else {
        return match when {
            Resume::Auto => Ok(RunStart::Fresh(out.to_owned())),
            Resume::Now => Err(StoreError::NoRun {
                dir: out.to_owned(),
            }
            .into()),
        };
    };
    run.check(job, allow_change)
        .map_err(|source| StoreError::Changed {
            dir: out.to_owned(),
            source,
        })?;
    Ok(judged(job, out.to_owned(), &run, when))
}

/// A finished run is an error only where somebody wants to go on with it now; the store says so.
fn judged(job: &Job, dir: PathBuf, run: &RunDirectory, when: Resume) -> RunStart {
    match when {
        Resume::Auto if run.is_over(job) => RunStart::Finished(dir),
        _ => RunStart::GoOn(dir),
    }
}

/// What was found below `runs/`.
enum RunSearch {
    Found(PathBuf, Box<RunDirectory>),
    /// Why there is none, for a person.
    Other(String),
}

/// How well a run fits a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    /// It may go on with the job, but is a run of another one so far.
    Changed,
    /// The same but for the number of epochs.
    Length,
    Same,
}

/// The newest run of `job` in `runs`: one of the very same job before one with other epochs, and that before
/// one that would be changed.
fn newest(job: &Job, runs: &Path, allow_change: bool) -> Result<RunSearch> {
    let none = || {
        RunSearch::Other(format!(
            "there is no run of `{}` in {}/ to resume; name its directory with `--out`",
            job.name,
            runs.display()
        ))
    };
    let entries = match fs::read_dir(runs) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(none()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", runs.display())),
    };
    let mut found: Vec<(Fit, StartTime, PathBuf, RunDirectory)> = Vec::new();
    // Runs that are not meant, or cannot go on with this job: the newest one tells why.
    let mut other: Option<(bool, StartTime, String)> = None;
    for entry in entries {
        let dir = entry
            .with_context(|| format!("cannot read {}", runs.display()))?
            .path();
        // Whatever else lies there, and runs of another version, are no runs to choose from.
        let Ok(Some(run)) = RunDirectory::look(&dir) else {
            continue;
        };
        let begun = StartTime::of(&dir, &run);
        let changes = run.changes(job);
        let named = run.job.name == job.name;
        let refused = changes::check(&changes, allow_change && named).err();
        let why = match (named, refused) {
            (true, None) => {
                found.push((fit(&changes), begun, dir, run));
                continue;
            }
            (true, Some(refused)) => format!("the run in {}: {refused}", dir.display()),
            (false, None) if run.entry.state != JobState::Succeeded => format!(
                "there is no run of `{}` in {}/; that in {} is of the same settings under the name `{}`: go on with it by `--out {}`",
                job.name,
                runs.display(),
                dir.display(),
                run.job.name,
                dir.display()
            ),
            (false, _) => continue,
        };
        let newer = |(before_named, before, _): &(bool, StartTime, String)| {
            (named, &begun) > (*before_named, before)
        };
        if other.as_ref().is_none_or(newer) {
            other = Some((named, begun, why));
        }
    }
    let best = found
        .into_iter()
        .max_by(|one, two| (one.0, &one.1).cmp(&(two.0, &two.1)));
    Ok(match (best, other) {
        (Some((_, _, dir, run)), _) => RunSearch::Found(dir, Box::new(run)),
        (None, Some((_, _, why))) => RunSearch::Other(why),
        (None, None) => none(),
    })
}

fn fit(changes: &[(changes::Change, changes::Effect)]) -> Fit {
    if changes.iter().any(|(_, effect)| effect.ends_promise()) {
        return Fit::Changed;
    }
    if changes.iter().all(|(_, effect)| effect.is_same_job()) {
        Fit::Same
    } else {
        Fit::Length
    }
}

/// When a run began: the second and the number that its directory is named after, or else when its job was
/// submitted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct StartTime {
    second: i64,
    number: u32,
    submitted: jiff::Timestamp,
}

impl StartTime {
    fn of(dir: &Path, run: &RunDirectory) -> Self {
        let submitted = run.entry.submitted_at;
        let file = dir.file_name().unwrap_or_default().to_string_lossy();
        let suffix = file
            .strip_prefix(run.job.name.as_str())
            .and_then(|rest| rest.strip_prefix('-'));
        let (second, number) = suffix.and_then(time).unwrap_or((submitted.as_second(), 1));
        Self {
            second,
            number,
            submitted,
        }
    }
}

/// Second and number of `20261127-051746-2`.
fn time(suffix: &str) -> Option<(i64, u32)> {
    const LENGTH: usize = "20261127-051746".len();
    let (time, number) = suffix.split_at_checked(LENGTH)?;
    let number = match number.strip_prefix('-') {
        Some(number) => number.parse().ok()?,
        None if number.is_empty() => 1,
        None => return None,
    };
    let time = jiff::civil::DateTime::strptime("%Y%m%d-%H%M%S", time).ok()?;
    let time = time.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some((time.timestamp().as_second(), number))
}

#[cfg(test)]
mod tests {
    use coordinator::store::{Layout, Store};

    use super::*;

    fn job(name: &str, sets: &[&str]) -> Job {
        let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
        let text = format!("name = \"{name}\"\n[corpus]\ntrain = \"/x/train.jsonl\"");
        Job::parse(&text, Path::new("job.toml"), &sets).unwrap()
    }

    fn begun(dir: &Path, job: &Job, state: JobState) {
        let layout = Layout::Single {
            run_dir: dir.to_owned(),
            resume: None,
        };
        let mut store = Store::open(layout).unwrap();
        let id = store.add(job).unwrap();
        store.set_state(&id, state, None).unwrap();
    }

    fn chosen(runs: &Path, job: &Job, allow_change: bool) -> String {
        match newest(job, runs, allow_change).unwrap() {
            RunSearch::Found(dir, _) => dir.file_name().unwrap().to_string_lossy().into_owned(),
            RunSearch::Other(why) => why,
        }
    }

    #[test]
    fn the_newest_run_of_this_job_is_taken_and_of_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let runs = dir.path();
        let tiny = job("tiny", &[]);
        for (folder, job, state) in [
            (
                "tiny-20261127-051746",
                job("tiny", &["train.seed=7"]),
                JobState::Cancelled,
            ),
            ("tiny-20261127-051746-2", tiny.clone(), JobState::Cancelled),
            ("tiny-20261127-051746-10", tiny.clone(), JobState::Cancelled),
            (
                "tiny-3x-20261128-051746",
                job("tiny-3x", &[]),
                JobState::Succeeded,
            ),
            (
                "tiny-20261129-000000",
                job("tiny", &["train.epochs=3"]),
                JobState::Succeeded,
            ),
            (
                "tiny-20261130-000000",
                job("tiny", &["optimizer.learning_rate=0.5"]),
                JobState::Failed,
            ),
        ] {
            begun(&runs.join(folder), &job, state);
        }
        fs::create_dir(runs.join("tiny-20271127-000000")).unwrap();
        fs::write(runs.join("tiny-notes"), "mine").unwrap();
        assert_eq!(chosen(runs, &tiny, false), "tiny-20261127-051746-10");
        assert_eq!(chosen(runs, &tiny, true), "tiny-20261127-051746-10");
        // With other epochs than any, that of the same job is the longer one.
        let longer = job("tiny", &["train.epochs=30"]);
        assert_eq!(chosen(runs, &longer, false), "tiny-20261129-000000");
        let seeded = job("tiny", &["train.seed=7"]);
        assert_eq!(chosen(runs, &seeded, false), "tiny-20261127-051746");
        let other = job("tiny", &["clip.max_norm=0.25"]);
        let told = chosen(runs, &other, false);
        assert!(
            told.contains("tiny-20261130-000000") && told.contains("max_norm"),
            "{told}"
        );
        assert_eq!(chosen(runs, &other, true), "tiny-20261130-000000");
    }

    #[test]
    fn a_run_under_another_name_is_named_and_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let runs = dir.path().join("runs");
        let told = chosen(&runs, &job("tiny", &[]), false);
        assert!(told.contains("no run of `tiny`"), "{told}");
        begun(
            &runs.join("tiny-3x-20261128-051746"),
            &job("tiny-3x", &[]),
            JobState::Failed,
        );
        let told = chosen(&runs, &job("tiny", &[]), false);
        assert!(
            told.contains("--out") && told.contains("tiny-3x-20261128-051746"),
            "{told}"
        );
    }

    #[test]
    fn every_new_run_has_a_directory_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let now = jiff::Timestamp::now();
        let made: Vec<PathBuf> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| fresh_in(dir.path(), "tiny", now).unwrap()))
                .collect();
            threads.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let distinct: std::collections::BTreeSet<&PathBuf> = made.iter().collect();
        assert_eq!(distinct.len(), 8);
    }

    #[test]
    fn a_finished_run_is_done_with_auto_and_goes_on_for_more_epochs() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("run");
        let start = |job: &Job, when| find(job, Some(&out), Some(when), false);
        let four = job("tiny", &["train.epochs=4"]);
        assert_eq!(
            start(&four, Resume::Auto).unwrap(),
            RunStart::Fresh(out.clone())
        );
        assert!(start(&four, Resume::Now).is_err());
        begun(&out, &four, JobState::Running);
        // A run without a checkpoint begins anew, whatever the job.
        let other = start(&job("tiny", &["train.seed=9"]), Resume::Auto);
        assert_eq!(other.unwrap(), RunStart::GoOn(out.clone()));
        fs::create_dir(out.join("checkpoints")).unwrap();
        fs::write(out.join("checkpoints/step-00000001.safetensors"), "").unwrap();
        assert_eq!(
            start(&four, Resume::Auto).unwrap(),
            RunStart::GoOn(out.clone())
        );
        let layout = Layout::Single {
            run_dir: out.clone(),
            resume: Some(Default::default()),
        };
        let mut store = Store::open(layout).unwrap();
        let id = store.jobs().iter().next().unwrap().0.to_owned();
        store.set_state(&id, JobState::Succeeded, None).unwrap();
        drop(store);
        assert_eq!(
            start(&four, Resume::Auto).unwrap(),
            RunStart::Finished(out.clone())
        );
        let six = job("tiny", &["train.epochs=6"]);
        assert_eq!(
            start(&six, Resume::Auto).unwrap(),
            RunStart::GoOn(out.clone())
        );
        assert!(start(&job("tiny", &["train.seed=9"]), Resume::Auto).is_err());
    }
}
