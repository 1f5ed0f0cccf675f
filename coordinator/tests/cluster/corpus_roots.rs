//! Submitted jobs name files beneath the coordinator's corpus roots alone, and nothing of a file that its submitter
//! might not read comes back.

use std::{fs, os::unix::fs::symlink, path::Path, process::Command, time::Duration};

use proto::v1::{self, State};
use tonic::Code;

use crate::site::{Live, Site};

/// A job on synthetic strings of digits with a `[decode]` section.
fn strings(decode: &str) -> String {
    format!(
        "name = \"strings\"\n\
         [corpus]\nsynthetic = {{ task = \"digit-strings\", train = 12, valid = 4, speakers = 2, valid_speakers = 1 }}\nmax_bad = 0\n\
         [features]\nsample_rate = 8000\n\
         [model]\nhead = \"ctc\"\nhidden = 8\nlayers = 1\n\
         [train]\nepochs = 1\n\
         [decode]\n{decode}\n"
    )
}

/// What comes back of a job: its refusal, or its error and all of its events.
async fn told(live: &mut Live, job: &str) -> String {
    match live.try_submit(job).await {
        Err(status) => format!("{:?}: {}", status.code(), status.message()),
        Ok(id) => {
            let mut ended = live.status(&id).await;
            while ended.state() != State::Failed {
                assert_eq!(ended.steps, 0, "it is trained:\n{job}");
                tokio::time::sleep(Duration::from_millis(10)).await;
                ended = live.status(&id).await;
            }
            let lines = live.lines(&id, false, false).await;
            let report = live.report(&id).await;
            format!("{}\n{}\n{report}", ended.error, lines.join("\n")).replace(&id, "JOB")
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_is_said_of_whatever_lies_outside_the_roots() {
    let site = Site::new();
    let outside = tempfile::tempdir().unwrap();
    let at = |name: &str| outside.path().join(name);
    fs::write(at("file"), "not for the submitter\n").unwrap();
    fs::create_dir(at("folder")).unwrap();
    let made = Command::new("mkfifo").arg(at("pipe")).status().unwrap();
    assert!(made.success());
    symlink(at("file"), site.path("link")).unwrap();
    symlink(at("none"), site.path("dangling")).unwrap();
    let paths = [
        at("file"),
        at("folder"),
        at("none"),
        at("none/none"),
        at("pipe"),
        at("file/none"),
        "/dev/null".into(),
        "/etc/passwd".into(),
        "/proc/self/environ".into(),
        site.path("link"),
        site.path("dangling"),
        site.path("link/none"),
        site.path("../none"),
        site.path(".."),
    ];
    let jobs: [fn(&Path) -> String; 5] = [
        |path| format!("[corpus]\ntrain = {path:?}\n"),
        |path| {
            let synthetic = "synthetic = { task = \"digits\", train = 8, valid = 2, speakers = 2, valid_speakers = 1 }";
            format!("[corpus]\n{synthetic}\n[train]\ninit = {path:?}\n")
        },
        |path| strings(&format!("lexicon = {path:?}")),
        |path| strings(&format!("language_model = {path:?}")),
        |path| format!("[corpus]\ntrain = {path:?}\nvalid = {path:?}\n"),
    ];
    let mut live = site.start().await;
    for job in jobs {
        let mut answers = Vec::new();
        for path in &paths {
            let answer = told(&mut live, &job(path)).await;
            let place = path.display().to_string();
            assert!(answer.contains(&place), "{answer}");
            answers.push(answer.replace(&place, "PATH"));
        }
        answers.dedup();
        let [answer] = answers.as_slice() else {
            panic!("{answers:#?}");
        };
        assert!(answer.contains("--corpus-root"), "{answer}");
    }
    live.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn audio_outside_the_roots_is_left_out_unseen() {
    let site = Site::new();
    let outside = tempfile::tempdir().unwrap();
    let audio = outside.path().join("a.wav");
    fs::copy(site.path("train0.wav"), &audio).unwrap();
    let missing = outside.path().join("none.wav");
    let mut reasons = Vec::new();
    let mut live = site.start().await;
    for path in [&audio, &missing, Path::new("/dev/null")] {
        let mut manifest = fs::read_to_string(site.path("train.jsonl")).unwrap();
        let line = serde_json::json!({ "audio_filepath": path, "duration": 0.1, "text": "one" });
        manifest.push_str(&line.to_string());
        fs::write(site.path("odd.jsonl"), manifest).unwrap();
        let job = site.job().replace("train.jsonl", "odd.jsonl");
        let job = job.replace("[features]", "max_bad = 0\n[features]");
        let told = told(&mut live, &job).await;
        // The error; the times of events are their own.
        let (error, _) = told.split_once('\n').unwrap();
        reasons.push(error.replace(&path.display().to_string(), "PATH"));
    }
    assert!(reasons[0].contains("--corpus-root"), "{reasons:?}");
    reasons.dedup();
    assert_eq!(reasons.len(), 1, "{reasons:#?}");
    live.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_file_beneath_a_root_is_quoted() {
    const SECRET: &str = "hunter2";
    let site = Site::new();
    let mut live = site.start().await;
    let path = site.path("kept");
    let arpa = |line: &str| {
        format!("\\data\\\nngram 1=3\n\n\\1-grams:\n-1 <s>\n-1 </s>\n{line}\n\n\\end\\\n")
    };
    for (key, text) in [
        ("lexicon", format!("{SECRET}\n")),
        ("lexicon", format!("one\n{SECRET}\n")),
        ("lexicon", format!("one {SECRET}\n")),
        ("language_model", format!("{SECRET}\n")),
        ("language_model", format!("\\data\\\n{SECRET}\n")),
        (
            "language_model",
            format!("\\data\\\nngram 1=3\n\n{SECRET}\n"),
        ),
        ("language_model", arpa(&format!("{SECRET} one"))),
        ("language_model", arpa(&format!("-1 one {SECRET}"))),
        ("language_model", arpa(SECRET)),
    ] {
        fs::write(&path, &text).unwrap();
        let told = told(&mut live, &strings(&format!("{key} = {path:?}"))).await;
        assert!(!told.contains(SECRET), "{text:?}: {told}");
        assert!(told.contains("lexicon") || told.contains("kept"), "{told}");
    }
    // What is only remarked on in a run that goes well.
    for (key, text) in [
        ("lexicon", format!("one\ntwo\n{SECRET}\n")),
        ("language_model", arpa(&format!("-1 {SECRET}"))),
    ] {
        fs::write(&path, &text).unwrap();
        let job = strings(&format!("{key} = {path:?}"));
        let job = job.replace("max_bad = 0", "max_bad = 5");
        let id = live.submit(&job).await;
        while live.status(&id).await.steps == 0 {
            assert_ne!(live.status(&id).await.state(), State::Failed);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let noted = live.lines(&id, false, false).await.join("\n");
        assert!(!noted.contains(SECRET), "{noted}");
        assert!(noted.contains("coordinator's log"), "{noted}");
        live.jobs.cancel(v1::CancelRequest { id }).await.unwrap();
    }
    // A model's recipe, and a file that is none.
    let model = site.path("model");
    fs::create_dir(&model).unwrap();
    let init = "[corpus]\nsynthetic = { task = \"digits\", train = 8, valid = 2, speakers = 2, valid_speakers = 1 }\n";
    let init = format!("{init}[train]\ninit = {model:?}\n");
    for (recipe, weights) in [
        (format!("{{\"{SECRET}\": 1}}"), ""),
        (SECRET.to_owned(), SECRET),
    ] {
        fs::write(model.join("recipe.json"), recipe).unwrap();
        fs::write(model.join("model.safetensors"), weights).unwrap();
        let told = told(&mut live, &init).await;
        assert!(
            told.contains("train.init") && !told.contains(SECRET),
            "{told}"
        );
    }
    live.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_of_one_job_reads_nothing_for_others() {
    let site = Site::new();
    let layout = coordinator::store::Layout::Single {
        run_dir: site.path("run"),
        resume: None,
    };
    let mut live = site.try_start(layout).await.unwrap();
    let mut told = Vec::new();
    for path in ["/etc/passwd", "/none"] {
        let job = format!("[corpus]\ntrain = {path:?}\n");
        let status = live.try_submit(&job).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        told.push(status.message().replace(path, "PATH"));
    }
    assert_eq!(told[0], told[1]);
    live.shutdown().await;
}
