//! The documents for readers: their links lead somewhere, the files that they name are there, and their commands
//! run. A block of commands that cannot run here has the HTML comment `not run:` with the reason before it.

use std::{
    collections::BTreeSet,
    fs,
    net::{TcpListener, TcpStream},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::fixture::{DEADLINE, Process, root, run, until};

fn text(document: &str) -> String {
    fs::read_to_string(root().join(document)).unwrap()
}

/// Every Markdown file of the repository, by its path.
fn documents() -> Vec<String> {
    let mut found = Vec::new();
    for folder in ["", "docs", "examples", "tests/fuzz"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let path = path.strip_prefix(root()).unwrap();
                found.push(path.to_str().unwrap().to_owned());
            }
        }
    }
    assert!(found.len() >= 14, "{found:?}");
    found.sort();
    found
}

/// The name by which GitHub links to a heading.
fn anchor(heading: &str) -> String {
    let heading = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = heading
        .chars()
        .filter(|one| one.is_alphanumeric() || " -_".contains(*one));
    kept.map(|one| if one == ' ' { '-' } else { one }).collect()
}

fn anchors(document: &str) -> BTreeSet<String> {
    let mut in_code = false;
    let mut found = BTreeSet::new();
    for line in text(document).lines() {
        in_code ^= line.starts_with("```");
        if !in_code && line.starts_with('#') {
            found.insert(anchor(line));
        }
    }
    found
}

/// What lies between two marks, each time.
fn between<'a>(text: &'a str, begin: &'a str, end: &'a str) -> impl Iterator<Item = &'a str> {
    let parts = text.split(begin).skip(1);
    parts.filter_map(move |part| Some(part.split_once(end)?.0))
}

#[test]
fn links_lead_somewhere() {
    let mut links = 0;
    let mut dead = Vec::new();
    for document in documents() {
        let folder = Path::new(&document).parent().unwrap();
        for link in between(&text(&document), "](", ")") {
            if link.contains("://") {
                continue;
            }
            links += 1;
            let (file, place) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => PathBuf::from(&document),
                file => folder.join(file),
            };
            let there = root().join(&target).exists();
            let known =
                place.is_empty() || there && anchors(target.to_str().unwrap()).contains(place);
            if !there || !known {
                dead.push(format!("{document}: {link}"));
            }
        }
    }
    assert!(links > 50, "{links} links");
    assert!(dead.is_empty(), "dead links:\n{}", dead.join("\n"));
}

#[test]
fn files_that_documents_name_are_there() {
    let mut named = 0;
    let mut missing = Vec::new();
    for document in documents().iter().filter(|name| *name != "CHANGELOG.md") {
        for line in text(document).lines() {
            let code = line.split('`').skip(1).step_by(2);
            for word in code.flat_map(str::split_whitespace) {
                let first = word.split('/').next().unwrap_or_default();
                let ours = [
                    "src",
                    "proto",
                    "coordinator",
                    "worker",
                    "speech",
                    "tests",
                    "deploy",
                    "docs",
                    ".ci",
                ];
                let is_file = [".rs", ".py", ".md", ".toml"]
                    .iter()
                    .any(|end| word.ends_with(end));
                if word.contains('/') && ours.contains(&first) && is_file {
                    named += 1;
                    if !root().join(word).exists() {
                        missing.push(format!("{document}: {word}"));
                    }
                }
            }
        }
    }
    assert!(named > 10, "{named} files");
    assert!(missing.is_empty(), "no such files:\n{}", missing.join("\n"));
}

/// Whether `word` is in the text by itself, not as a part of another one.
fn has_word(text: &str, word: &str) -> bool {
    let is_part = |one: char| one.is_alphanumeric() || one == '_';
    text.match_indices(word).any(|(at, _)| {
        !text[..at].ends_with(is_part) && !text[at + word.len()..].starts_with(is_part)
    })
}

#[test]
fn the_glossary_names_what_is_in_the_code() {
    let mut sources = String::new();
    for path in crate::structure::all_sources() {
        sources.push_str(&fs::read_to_string(path).unwrap());
    }
    let architecture = text("ARCHITECTURE.md");
    let (_, glossary) = architecture.split_once("## Glossary").unwrap();
    let (glossary, _) = glossary.split_once("\n## ").unwrap();
    let rows = glossary.lines().filter(|line| line.starts_with("| "));
    let mut unknown = Vec::new();
    let mut names = 0;
    for row in rows.skip(1) {
        let column = row.split(" | ").nth(1).unwrap_or_default();
        for name in column.split('`').skip(1).step_by(2) {
            names += 1;
            let last = name.rsplit([':', '.']).next().unwrap_or_default();
            if !has_word(&sources, last) {
                unknown.push(name.to_owned());
            }
        }
    }
    assert!(names > 40, "{names} names");
    assert!(
        unknown.is_empty(),
        "no longer in the code: {}",
        unknown.join(", ")
    );
}

/// Blocks of commands, each with the reason why it is not run, if it is not.
fn blocks(document: &str) -> Vec<(Option<String>, String)> {
    let mut found = Vec::new();
    let mut reason = None;
    let mut block: Option<String> = None;
    for line in text(document).lines() {
        match (&mut block, line) {
            (Some(_), "```") => found.push((reason.take(), block.take().unwrap())),
            (Some(block), line) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, "```sh") => block = Some(String::new()),
            (None, line) => {
                let comment = line.strip_prefix("<!-- not run: ");
                let comment = comment.and_then(|rest| rest.strip_suffix(" -->"));
                if comment.is_some() || !line.is_empty() {
                    reason = comment.map(str::to_owned);
                }
            }
        }
    }
    found
}

/// A reader's machine: a folder with the examples (smaller), recordings, trained models, and `unisono` on the path.
struct Machine {
    // Before the folder, so that processes are gone when it is removed.
    services: Vec<Process>,
    port: u16,
    dir: TempDir,
}

/// What is synthesised for a machine: the task, and the example job that its models are trained with.
#[derive(Clone, Copy)]
enum Speech {
    Digits,
    Strings,
}

impl Machine {
    fn new(speech: Speech, epochs: i64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let machine = Self {
            services: Vec::new(),
            port: listener.local_addr().unwrap().port(),
            dir,
        };
        let at = |path: &str| machine.dir.path().join(path);
        for folder in [
            "bin",
            "examples",
            "PATH/TO/fsdd",
            "PATH/TO/an4/etc",
            "PATH/TO/an4/wav",
        ] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        symlink(env!("CARGO_BIN_EXE_unisono"), at("bin/unisono")).unwrap();
        for entry in fs::read_dir(root().join("examples")).unwrap() {
            let path = entry.unwrap().path();
            if path
                .extension()
                .is_some_and(|extension| extension == "toml")
            {
                let job = smaller(&fs::read_to_string(&path).unwrap(), epochs);
                fs::write(at("examples").join(path.file_name().unwrap()), job).unwrap();
            }
        }
        let task = match speech {
            Speech::Digits => "digits",
            Speech::Strings => "digit-strings",
        };
        let made = [
            "--train",
            "100",
            "--valid",
            "20",
            "--speakers",
            "12",
            "--valid-speakers",
            "4",
        ];
        let args = ["corpus", "synthesize", "--out", "made", "--task", task];
        run(machine.dir.path(), args.iter().chain(&made)).expect(0);
        machine.lay_out_corpora();
        machine
    }

    /// Manifests, and the same recordings as the publishers of FSDD, AN4 and LibriSpeech would lay them out.
    fn lay_out_corpora(&self) {
        let at = |path: &str| self.dir.path().join(path);
        let mut lists = (String::new(), String::new());
        let held_out = "msjm,msjr,mskh,msmn,msrb,mtcv,mtje,mtos,mtxj,mwhw";
        let speakers: Vec<&str> = held_out.split(',').chain(["fash", "fbbh"]).collect();
        let chapter = at("PATH/TO/librispeech/dev-clean/84/121123");
        fs::create_dir_all(&chapter).unwrap();
        for set in ["train", "valid"] {
            let manifest = fs::read_to_string(at(&format!("made/{set}.jsonl"))).unwrap();
            let mut written = String::new();
            for (index, line) in manifest.lines().enumerate() {
                let mut line: Value = serde_json::from_str(line).unwrap();
                let audio = at("made").join(line["audio_filepath"].as_str().unwrap());
                let said = line["text"].as_str().unwrap().to_owned();
                line["audio_filepath"] = audio.to_str().unwrap().into();
                written.push_str(&format!("{line}\n"));
                let words = "zero one two three four five six seven eight nine";
                if let Some(digit) = words.split(' ').position(|word| word == said) {
                    let name = format!("PATH/TO/fsdd/{digit}_{set}_{index}.wav");
                    fs::copy(&audio, at(&name)).unwrap();
                }
                let speaker = speakers[index % speakers.len()];
                let name = format!("an4_clstk/{speaker}/{set}{index}");
                let path = at("PATH/TO/an4/wav").join(&name).with_extension("wav");
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::copy(&audio, path).unwrap();
                lists.0.push_str(&format!("{name}\n"));
                lists.1.push_str(&format!(
                    "<s> {} </s> ({set}{index})\n",
                    said.to_uppercase()
                ));
            }
            fs::write(at(&format!("{set}.jsonl")), written).unwrap();
        }
        fs::write(at("PATH/TO/an4/etc/an4_train.fileids"), lists.0).unwrap();
        fs::write(at("PATH/TO/an4/etc/an4_train.transcription"), lists.1).unwrap();
        fs::copy(at("made/wav/valid-000000.wav"), at("recording.wav")).unwrap();
        fs::copy(at("recording.wav"), chapter.join("84-121123-0000.wav")).unwrap();
        fs::write(chapter.join("84-121123.trans.txt"), "84-121123-0000 ONE\n").unwrap();
        fs::write(at("sentences.txt"), "one two three\nfour five\n").unwrap();
    }

    /// Trains the models `RUN` and `OTHER_RUN` of a document with the example `job`.
    fn train_models(&self, job: &str) {
        let dir = self.dir.path();
        let job = format!("examples/{job}");
        for (run_dir, seed) in [("RUN", "train.seed=1"), ("OTHER_RUN", "train.seed=2")] {
            run(dir, ["train", &job, "--out", run_dir, "--set", seed]).expect(0);
        }
        symlink(dir.join(job), dir.join("JOB.toml")).unwrap();
    }

    /// Runs a document's blocks as a reader does: one after the other; a coordinator and a worker stay.
    fn follow(&mut self, document: &str) {
        let mut ran = 0;
        for (reason, block) in blocks(document) {
            if let Some(reason) = reason {
                assert!(
                    reason.len() > 10,
                    "{document}: why is this not run?\n{block}"
                );
                continue;
            }
            ran += 1;
            let here = format!("127.0.0.1:{}", self.port);
            let block = block
                .replace("0.0.0.0:7700", &here)
                .replace("HOST:7700", &here)
                .replace("--host HOST", "--host 127.0.0.1");
            // Ids are the newest job's.
            let block = block.replace(" ID", " \"$(newest)\"");
            let mut command = self.shell(&block);
            let is_coordinator = block.starts_with("unisono coordinator");
            if is_coordinator || block.starts_with("unisono worker --") {
                self.services.push(Process::start(command));
                let listens = || TcpStream::connect(&here).is_ok();
                assert!(
                    until(DEADLINE, listens),
                    "{document}: nobody listens\n{block}"
                );
                continue;
            }
            command.env("UNISONO_COORDINATOR", format!("http://{here}"));
            let ended = Process::start(command).wait();
            assert_eq!(
                ended.code,
                Some(0),
                "{document}:\n{block}\n{}\n{}",
                ended.stdout,
                ended.stderr
            );
        }
        assert!(ran > 0, "{document} has no commands that are run");
    }

    fn shell(&self, block: &str) -> Command {
        // What a document says once is one command: a service takes the shell's place.
        let block = match block.lines().count() {
            1 => format!("exec {block}"),
            _ => block.to_owned(),
        };
        let newest = r#"newest() { unisono jobs -o json | tr ',{' '\n\n' | grep '"id"' | tail -n 1 | cut -d '"' -f 4; }"#;
        let path = std::env::var("PATH").unwrap();
        let dir = self.dir.path();
        let mut command = Command::new("bash");
        command
            .args(["-euo", "pipefail", "-c", &format!("{newest}\n{block}")])
            .current_dir(dir)
            .env("PATH", format!("{}:{path}", dir.join("bin").display()))
            .env("XDG_CACHE_HOME", dir.join("cache"))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

/// An example job on less speech, with fewer units and fewer epochs.
fn smaller(job: &str, epochs: i64) -> String {
    let mut job: toml::Table = job.parse().unwrap();
    let mut set = |section: &str, key: &str, value: toml::Value| {
        let section = job.get_mut(section).and_then(toml::Value::as_table_mut);
        if let Some(old) = section.and_then(|section| section.get_mut(key)) {
            *old = value;
        }
    };
    set("train", "epochs", epochs.into());
    set("model", "hidden", 12.into());
    set("augment", "speed", toml::Value::Array(Vec::new()));
    let corpus = job["corpus"].as_table_mut().unwrap();
    if let Some(synthetic) = corpus
        .get_mut("synthetic")
        .and_then(toml::Value::as_table_mut)
    {
        for (key, value) in [
            ("train", 60),
            ("valid", 20),
            ("speakers", 8),
            ("valid_speakers", 4),
        ] {
            synthetic.insert(key.to_owned(), value.into());
        }
    }
    toml::to_string(&job).unwrap()
}

/// Every key that a run wrote is one that `docs/file-formats.md` explains.
fn assert_explained(run_dir: &Path) {
    let page = text("docs/file-formats.md");
    let explained =
        |key: &str| assert!(page.contains(&format!("`{key}`")), "{key} is not explained");
    let json = |name: &str| -> Value {
        serde_json::from_str(&fs::read_to_string(run_dir.join(name)).unwrap()).unwrap()
    };
    for file in ["metrics.jsonl", "events.jsonl"] {
        for line in fs::read_to_string(run_dir.join(file)).unwrap().lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            line.as_object()
                .unwrap()
                .keys()
                .for_each(|key| explained(key));
            line.get("event")
                .iter()
                .for_each(|event| explained(event.as_str().unwrap()));
        }
    }
    let report = json("report.json");
    for object in [
        &report,
        &report["faults"],
        &report["times"],
        &json("final/recipe.json"),
    ] {
        object
            .as_object()
            .unwrap()
            .keys()
            .for_each(|key| explained(key));
    }
    for entry in fs::read_dir(run_dir).unwrap() {
        let entry = entry.unwrap();
        let slash = if entry.path().is_dir() { "/" } else { "" };
        explained(&format!("{}{slash}", entry.file_name().to_str().unwrap()));
    }
    let checkpoint = fs::read_dir(run_dir.join("checkpoints"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let bytes = fs::read(checkpoint.path()).unwrap();
    let length = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let description = header["__metadata__"]["unisono"].as_str().unwrap();
    let description: Value = serde_json::from_str(description).unwrap();
    description
        .as_object()
        .unwrap()
        .keys()
        .for_each(|key| explained(key));
}

#[test]
fn the_readme_does_what_it_says() {
    let mut machine = Machine::new(Speech::Digits, 2);
    machine.follow("README.md");
    assert_explained(&machine.dir.path().join("runs/digits"));
}

#[test]
fn concepts_corpora_and_benchmarks_do_what_they_say() {
    let mut machine = Machine::new(Speech::Digits, 2);
    for document in [
        "docs/concepts.md",
        "docs/corpora.md",
        "docs/benchmarks.md",
        "examples/README.md",
    ] {
        machine.follow(document);
    }
}

#[test]
fn decoding_does_what_it_says() {
    let mut machine = Machine::new(Speech::Strings, 2);
    machine.train_models("digits-ctc.toml");
    machine.follow("docs/decoding.md");
}

#[test]
fn the_cluster_does_what_it_says() {
    // Long enough that it is still at work when it is cancelled.
    let mut machine = Machine::new(Speech::Digits, 1000);
    machine.follow("docs/cluster.md");
    assert!(machine.dir.path().join("man1/unisono-train.1").is_file());
}

#[test]
fn fault_tolerance_and_verification_do_what_they_say() {
    let mut machine = Machine::new(Speech::Digits, 2);
    for document in ["docs/fault-tolerance.md", "docs/verification.md"] {
        machine.follow(document);
    }
}

#[test]
fn few_commands_are_not_run_and_each_has_its_reason() {
    let source = include_str!("documents.rs");
    let (mut all, mut not_run) = (0, 0);
    for document in documents() {
        let is_followed = source.contains(&format!("\"{document}\""));
        for (reason, block) in blocks(&document) {
            assert!(
                is_followed || reason.is_some(),
                "{document}: nothing runs\n{block}"
            );
            all += 1;
            not_run += usize::from(reason.is_some());
        }
    }
    assert!(all >= 25 && not_run <= 11, "{not_run} of {all} are not run");
}
