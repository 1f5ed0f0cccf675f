//! Beyond greedy: what a job's decoder leaves in `final/`, what `evaluate`, `transcribe` and `lm` make of it.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use serde_json::Value;

use crate::fixture::{Ended, Head, json_lines, run, tiny_job, unisono};

const TRAIN: &str = "train tiny.toml --workers 1 --device cpu --out run --set model.bidirectional=false --set features.normalization=global \
    --set train.epochs=12 --set decode.lexicon=train --set decode.order=2";

fn at(dir: &Path, line: &str) -> Ended {
    run(dir, line.split_whitespace())
}

/// With a file's contents on standard input.
fn fed(dir: &Path, line: &str, input: &Path) -> Ended {
    let mut command = unisono();
    command.current_dir(dir).args(line.split_whitespace());
    command.stdin(Stdio::from(File::open(input).unwrap()));
    crate::fixture::Process::start(command).wait()
}

/// The manifest of held-out speech below a run, and the path of its first recording.
fn held_out(run_dir: &Path) -> (PathBuf, PathBuf) {
    let synthetic = run_dir.join("synthetic");
    let mut folders = vec![if synthetic.is_dir() {
        synthetic
    } else {
        run_dir.to_owned()
    }];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().is_some_and(|name| name == "valid.jsonl") {
                let first = &json_lines(&path)[0];
                let wav = first["audio_filepath"].as_str().unwrap();
                let wav = path.parent().unwrap().join(wav);
                return (path, wav);
            }
        }
    }
    panic!("no held-out speech below {}", run_dir.display())
}

/// The 16-bit samples of a plain WAV file, `times` one behind the other, as a file without a header.
fn raw(wav: &Path, times: usize, to: &Path) -> f64 {
    let audio = speech::audio::read(wav).unwrap();
    let mut file = File::create(to).unwrap();
    for _ in 0..times {
        for sample in &audio.samples {
            let bytes = ((sample * 32_768.0) as i16).to_le_bytes();
            file.write_all(&bytes).unwrap();
        }
    }
    audio.seconds() * times as f64
}

#[test]
fn a_model_is_decoded_as_its_job_says_and_otherwise_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    tiny_job(dir, Head::Ctc);
    let trained = at(dir, &format!("{TRAIN} --set decode.hot_words=[\"n€\"]")).expect(0);
    let warned = "warning: the hot word \"n€\" has no effect";
    assert!(trained.stderr.contains(warned), "{trained:?}");
    let model = dir.join("run/final");
    for name in ["decode.json", "lexicon.txt", "lm.arpa"] {
        assert!(model.join(name).is_file(), "{name}");
    }
    let lexicon = fs::read_to_string(model.join("lexicon.txt")).unwrap();
    let (manifest, wav) = held_out(&dir.join("run"));
    let (manifest, wav) = (manifest.display(), wav);

    // Every word is the lexicon's, and greedy decoding stands beside.
    let evaluate = format!("evaluate --model run/final --manifest {manifest} -o json");
    let found = at(dir, &evaluate).expect(0).json();
    assert!(
        found["wer"].is_number() && found["greedy"]["wer"].is_number(),
        "{found}"
    );
    let greedy = at(dir, &format!("{evaluate} --greedy")).expect(0).json();
    assert_eq!(greedy["wer"], found["greedy"]["wer"]);
    assert_eq!(greedy.get("greedy"), None);
    let narrow = at(
        dir,
        &format!("{evaluate} --beam 2 --lm none --lexicon none --word-bonus -1"),
    );
    assert!(narrow.expect(0).json()["greedy"]["cer"].is_number());
    // What can have no effect is named.
    fs::write(dir.join("capitals"), "ONE TWO\nTHREE\n").unwrap();
    at(
        dir,
        "lm train --text capitals --order 2 --out capitals.arpa",
    )
    .expect(0);
    fs::write(dir.join("words"), "one\nZERO\ntwo\n").unwrap();
    let told =
        format!("{evaluate} --lm capitals.arpa --lexicon words --hot-word three --hot-boost 0");
    let told = at(dir, &told).expect(0).stderr;
    for wanted in [
        "3 of the 3 words of the language model (100.0 %) cannot be said by the model",
        "1 of the lexicon's 3 words cannot be said by the model",
        "the hot word \"three\" has no effect: the lexicon lacks \"three\"",
    ] {
        assert!(told.contains(wanted), "{wanted}: {told}");
    }
    let wrong = at(dir, &format!("{evaluate} --beam 0")).expect(2);
    assert!(wrong.stderr.contains("decode.beam is 0"), "{wrong:?}");

    // A file, the same samples without a header, and the same as they come in.
    let transcribe = "transcribe --model run/final";
    let whole = at(dir, &format!("{transcribe} {} -o json", wav.display()))
        .expect(0)
        .json();
    for word in whole[0]["text"]
        .as_str()
        .unwrap()
        .split(' ')
        .filter(|word| !word.is_empty())
    {
        assert!(lexicon.lines().any(|known| known == word), "{word}");
    }
    raw(&wav, 1, &dir.join("one.raw"));
    let piped = fed(
        dir,
        &format!("{transcribe} --raw s16le --rate 8000 -o json -"),
        &dir.join("one.raw"),
    );
    let piped = piped.expect(0).json();
    assert_eq!(piped[0]["segments"], whole[0]["segments"]);
    assert_eq!(piped[0]["file"], "standard input");
    let through = fed(dir, &format!("{transcribe} -o json -"), &wav)
        .expect(0)
        .json();
    assert_eq!(through[0]["segments"], whole[0]["segments"]);

    // Long: cut, and every word within its time.
    let seconds = raw(&wav, 20, &dir.join("long.raw"));
    let long = fed(
        dir,
        &format!("{transcribe} --longest 3 --raw s16le --rate 8000 -o json -"),
        &dir.join("long.raw"),
    );
    let long = long.expect(0).json();
    let segments = long[0]["segments"].as_array().unwrap();
    assert!(
        segments.len() as f64 >= seconds / 3.0,
        "{seconds} s in {}",
        segments.len()
    );
    for segment in segments {
        for word in segment["words"].as_array().unwrap() {
            let time = |value: &Value| value.as_f64().unwrap();
            assert!(
                time(&segment["start"]) <= time(&word["start"])
                    && time(&word["end"]) <= time(&segment["end"])
            );
        }
    }
    let live = fed(
        dir,
        &format!("{transcribe} --stream --raw s16le --rate 8000 -o json -"),
        &dir.join("long.raw"),
    );
    for line in live.expect(0).stdout.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(
            ["partial", "final"].contains(&line["kind"].as_str().unwrap()),
            "{line}"
        );
    }
    let other_rate = fed(
        dir,
        &format!("{transcribe} --stream --raw s16le --rate 16000 -"),
        &dir.join("one.raw"),
    );
    assert!(
        other_rate
            .expect(78)
            .stderr
            .contains("16000 Hz cannot be heard")
    );
    for format in ["srt", "ctm"] {
        at(dir, &format!("{transcribe} {} -o {format}", wav.display())).expect(0);
    }
    at(dir, &format!("{transcribe} --raw s16le -")).expect(2);
}

#[test]
fn a_language_model_is_made_of_text_and_measured() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("text"), "go on\nstop\n\ngo\n").unwrap();
    let made = at(dir, "lm train --text text --order 2 --out lm.arpa -o json")
        .expect(0)
        .json();
    assert_eq!((&made["sentences"], &made["words"]), (&3.into(), &4.into()));
    let scored = at(dir, "lm score lm.arpa text -o json").expect(0).json();
    assert_eq!((&scored["words"], &scored["oov"]), (&4.into(), &0.into()));
    assert!(scored["perplexity"].as_f64().unwrap() > 1.0);
    // As editors and other programs write it: the same sentences.
    fs::write(
        dir.join("marked"),
        "\u{feff}<s> go on </s>\r\n\u{feff}stop\n<S> go </S>\n",
    )
    .unwrap();
    at(dir, "lm train --text marked --order 2 --out marked.arpa").expect(0);
    let model = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
    assert_eq!(model("marked.arpa"), model("lm.arpa"));
    tiny_job(dir, Head::Ctc);
    let job = fs::read_to_string(dir.join("tiny.toml")).unwrap();
    fs::write(dir.join("upper.toml"), job + "[text]\ncase = \"upper\"\n").unwrap();
    at(
        dir,
        "lm train --text text --order 2 --normalize-like upper.toml --out upper.arpa",
    )
    .expect(0);
    assert!(
        model("upper.arpa").contains("\tSTOP"),
        "{}",
        model("upper.arpa")
    );
    let scored = at(
        dir,
        "lm score upper.arpa text --normalize-like upper.toml -o json",
    )
    .expect(0);
    assert_eq!(scored.json()["oov"], 0);
    let unmarked = model("lm.arpa").replace("</s>", "<e>");
    fs::write(dir.join("unmarked.arpa"), unmarked).unwrap();
    let told = at(dir, "lm score unmarked.arpa text").expect(0).stderr;
    assert!(
        told.contains("unmarked.arpa: `</s>` is not among the 1-grams"),
        "{told}"
    );
    fs::write(dir.join("reserved"), "go\n\ngo <unk> on\n").unwrap();
    let told = at(dir, "lm train --text reserved --out none.arpa")
        .expect(78)
        .stderr;
    assert!(told.contains("reserved:3: the word \"<unk>\""), "{told}");
    fs::write(
        dir.join("lm.bin"),
        "mmap lm http://kheafield.com/code format version 5\n\0",
    )
    .unwrap();
    let told = at(dir, "lm score lm.bin text").expect(78).stderr;
    assert!(told.contains("a KenLM binary"), "{told}");
    at(dir, "lm train --text text --order 9 --out lm.arpa").expect(2);
    fs::write(dir.join("bad.arpa"), "\\data\\\nngram 1=x\n").unwrap();
    let bad = at(dir, "lm score bad.arpa text").expect(78);
    assert!(bad.stderr.contains("bad.arpa:2:"), "{bad:?}");
}

#[test]
fn a_model_of_byte_pairs_or_words_is_heard_the_same_by_evaluate_and_transcribe() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    tiny_job(dir, Head::Ctc);
    for units in ["bytepair --set text.size=24", "words"] {
        let folder = units.split(' ').next().unwrap();
        let train = format!(
            "train tiny.toml --workers 1 --device cpu --out {folder} --set text.units={units} --set model.hidden=16 --set train.epochs=24"
        );
        at(dir, &train).expect(0);
        let (manifest, _) = held_out(&dir.join(folder));
        let evaluate = format!(
            "evaluate --model {folder}/final --manifest {} --utterances {folder}.jsonl",
            manifest.display()
        );
        at(dir, &evaluate).expect(0);
        let heard = json_lines(&dir.join(format!("{folder}.jsonl")));
        let recordings = json_lines(&manifest).into_iter().map(|line| {
            let name = line["audio_filepath"].as_str().unwrap();
            manifest.parent().unwrap().join(name).display().to_string()
        });
        let recordings: Vec<String> = recordings.collect();
        let transcribe = format!(
            "transcribe --model {folder}/final -o json {}",
            recordings.join(" ")
        );
        let told = at(dir, &transcribe).expect(0).json();
        let told = told.as_array().unwrap();
        assert_eq!(told.len(), heard.len());
        let mut words = 0;
        for (told, heard) in told.iter().zip(&heard) {
            assert_eq!(told["text"], heard["hypothesis"], "{units}");
            let timed = told["segments"]
                .as_array()
                .into_iter()
                .flatten()
                .flat_map(|it| {
                    let words = it["words"].as_array().unwrap().iter();
                    words.map(|word| word["text"].as_str().unwrap())
                });
            let timed: Vec<&str> = timed.collect();
            assert_eq!(timed.join(" "), told["text"].as_str().unwrap());
            words += timed.len();
        }
        assert!(words > 0, "{units}: nothing is heard");
    }
}

#[test]
fn a_keyword_models_class_is_in_every_form_and_compared_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    tiny_job(dir, Head::Keyword);
    at(dir, "train tiny.toml --workers 1 --device cpu --out run").expect(0);
    let (manifest, wav) = held_out(&dir.join("run"));
    fs::create_dir_all(dir.join("d1")).unwrap();
    fs::create_dir_all(dir.join("d2")).unwrap();
    for folder in ["d1", "d2"] {
        fs::copy(&wav, dir.join(folder).join("a.wav")).unwrap();
    }
    let transcribe = "transcribe --model run/final d1/a.wav";
    let class = at(dir, transcribe).expect(0).stdout;
    let class = class.trim();
    let cue = at(dir, &format!("{transcribe} -o srt")).expect(0).stdout;
    assert!(
        cue.starts_with("1\n00:00:00,000 --> ") && cue.trim_end().ends_with(class),
        "{cue}"
    );
    let lines = at(dir, &format!("{transcribe} d2/a.wav -o ctm"))
        .expect(0)
        .stdout;
    let fields: Vec<Vec<&str>> = lines
        .lines()
        .map(|line| line.split(' ').collect())
        .collect();
    let named: Vec<&str> = fields.iter().map(|line| line[0]).collect();
    assert_eq!(named, ["d1/a", "d2/a"], "{lines}");
    assert!(
        fields
            .iter()
            .all(|line| line.len() == 6 && line[4] == class),
        "{lines}"
    );

    // Files of what was heard count as the models do.
    let manifest = manifest.display();
    let evaluate =
        format!("evaluate --model run/final --manifest {manifest} --utterances heard.jsonl");
    at(dir, &evaluate).expect(0);
    let compare = |sides: &str| {
        at(dir, &format!("compare {sides} -o json"))
            .expect(0)
            .json()
    };
    let files = compare("heard.jsonl heard.jsonl");
    let models = compare(&format!("run/final run/final --manifest {manifest}"));
    for part in ["unit", "test", "difference"] {
        assert_eq!(files[part], models[part], "{part}");
    }
    assert_eq!(
        (&files["unit"], &files["test"]["name"]),
        (&"utterances".into(), &models["test"]["name"])
    );
    let typed = compare("heard.jsonl heard.jsonl --unit characters");
    assert_eq!(typed["unit"], "characters");
}
