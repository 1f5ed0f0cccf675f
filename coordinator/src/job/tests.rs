//! What a job may say, and what it is told of a mistake.

use super::*;

const SMALL: &str = "[corpus]\ntrain = \"a/train.jsonl\"\nvalid = \"\"\n";

fn parse(text: &str, sets: &[&str]) -> Result<Job, JobError> {
    let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
    Job::parse(text, Path::new("jobs/two words.toml"), &sets)
}

fn message(text: &str, sets: &[&str]) -> String {
    parse(text, sets).unwrap_err().to_string()
}

#[test]
fn a_job_needs_a_corpus_and_nothing_else() {
    let job = parse(SMALL, &[]).unwrap().resolve(Path::new("/jobs"));
    assert_eq!(job.name, "two-words");
    assert_eq!(
        job.corpus.train.as_deref(),
        Some(Path::new("/jobs/a/train.jsonl"))
    );
    assert_eq!(job.corpus.valid, None);
    assert_eq!(job.train, TrainConfig::default());
    assert!(message("[corpus]", &[]).contains("`corpus.train` is missing"));
}

#[test]
fn a_job_written_out_reads_back_the_same() {
    let job = parse(SMALL, &["train.seed=7", "model.hidden=32"]).unwrap();
    let written = job.to_toml().unwrap();
    let read = Job::parse(&written, Path::new("elsewhere.toml"), &[]).unwrap();
    assert_eq!(read, job);
}

#[test]
fn manifests_set_from_outside_are_relative_to_the_working_directory() {
    let job = parse(SMALL, &["corpus.valid=v.jsonl"]).unwrap();
    let job = job.resolve(Path::new("/jobs"));
    let here = std::env::current_dir().unwrap();
    assert_eq!(job.corpus.valid, Some(here.join("v.jsonl")));
    assert_eq!(
        job.corpus.train.as_deref(),
        Some(Path::new("/jobs/a/train.jsonl"))
    );
    let without = parse(SMALL, &["corpus.valid="]).unwrap();
    assert_eq!(without.corpus.valid, None);
}

#[test]
fn every_bad_value_is_named() {
    for (set, named) in [
        ("train.epochs=0", "`train.epochs` is 0"),
        ("train.batch=0", "`train.batch` is 0"),
        ("train.micro_batch=0", "`train.micro_batch` is 0"),
        ("train.keep_checkpoints=0", "`train.keep_checkpoints` is 0"),
        ("model.layers=17", "model.layers is 17"),
        ("model.hidden=0", "model.hidden is 0"),
        ("model.dropout=1.0", "model.dropout is 1"),
        ("train.wire=f16", "`train.wire` cannot be `f16`"),
        ("train.audit=1.5", "`train.audit` is 1.5"),
        ("train.max_norm_ratio=0.5", "`train.max_norm_ratio` is 0.5"),
        ("train.ema=1.0", "`train.ema` is 1"),
        ("train.label_smoothing=1.0", "`train.label_smoothing` is 1"),
        ("select.average=0", "`select.average` is 0"),
        ("select.keep=best", "`select.keep` goes by scores"),
        ("select.patience=3", "`select.patience` goes by scores"),
        ("schedule.kind=plateau", "`schedule.kind` goes by scores"),
        ("schedule.threshold=1.0", "`schedule.threshold` is 1"),
        ("name=-a", "`name` is \"-a\""),
        ("name=a/b", "`name` is \"a/b\""),
        ("features.mel_bins=0", "mel_bins"),
        ("augment.time_fraction=2.0", "time_fraction"),
        ("augment.vtlp=[1.2, 0.8]", "augment.vtlp is [1.2, 0.8]"),
        ("text.units=bytepair", "text.size is missing"),
        ("text.case=title", "`text.case` cannot be `title`"),
        ("augment.vtlp=[0.9]", "invalid length 1"),
        ("augment.noise_kinds=[\"blue\"]", "cannot be `blue`"),
        ("optimizer.learning_rate=-1.0", "learning_rate"),
        ("clip.max_norm=-1.0", "max_norm"),
        (
            "decode.beam=0",
            "`decode` is for models that write transcripts",
        ),
        ("compute_class=mixed", "`compute_class` cannot be `mixed`"),
    ] {
        let message = message(SMALL, &[set]);
        assert!(message.contains(named), "{set}: {message}");
    }
}

#[test]
fn an_unknown_key_is_an_error_that_suggests_the_nearest() {
    let message = message(&format!("{SMALL}[train]\nepoch = 3"), &[]);
    assert!(
        message.contains("two words.toml:5: unknown key `epoch` in [train]")
            && message.contains("did you mean `epochs`?"),
        "{message}"
    );
}

#[test]
fn a_decoders_files_are_found_like_manifests() {
    let text = format!("{SMALL}[model]\nhead = \"ctc\"\n[decode]\nlexicon = \"words.txt\"\n");
    let job = parse(&text, &["decode.language_model=lm.arpa", "decode.beam=8"]).unwrap();
    let decode = job.resolve(Path::new("/jobs")).decode.unwrap();
    let here = std::env::current_dir().unwrap();
    assert_eq!(
        decode.language_model,
        WordSource::File(here.join("lm.arpa"))
    );
    assert_eq!(decode.lexicon, WordSource::File("/jobs/words.txt".into()));
    assert_eq!(decode.beam, 8);
    let message = message(&text, &["decode.beam=0"]);
    assert!(message.contains("decode.beam is 0"), "{message}");
}

#[test]
fn manifests_and_synthetic_speech_exclude_each_other() {
    let both = format!("{SMALL}synthetic = {{ task = \"digits\" }}");
    assert!(message(&both, &[]).contains("`corpus.synthetic` stands beside manifests"));
}

#[test]
fn a_key_of_another_choice_is_refused_with_that_choice() {
    for (set, belongs_to) in [
        ("optimizer.momentum=0.9", "\"sgd\""),
        ("schedule.gamma=0.1", "\"plateau\""),
        ("schedule.step_size=10", "\"step\""),
        ("schedule.patience=9", "\"plateau\""),
        ("schedule.final_fraction=0.1", "\"cosine\""),
        ("clip.max_value=0.0001", "clip.policy = \"value\""),
        ("features.cepstra=5", "\"mfcc\""),
        ("augment.noise_snr_db=[-5,0]", "augment.noise"),
        ("augment.reverb_seconds=[0.2,0.3]", "augment.reverb"),
        ("augment.freq_width=3", "augment.freq_masks"),
        ("select.by=\"loss\"", "select.keep"),
    ] {
        let told = message(SMALL, &[set]);
        let key = set.split_once('=').unwrap().0;
        assert!(
            told.contains(&format!("`{key}`")) && told.contains(belongs_to),
            "{told}"
        );
    }
    let value = ["clip.policy=\"value\"", "clip.max_norm=3.0"];
    assert!(message(SMALL, &value).contains("\"global-norm\""));
    let sgd = ["optimizer.kind=\"sgd\"", "optimizer.beta1=0.8"];
    assert!(message(SMALL, &sgd).contains("\"adamw\""));
    assert!(parse(SMALL, &["clip.policy=\"value\"", "clip.max_value=0.5"]).is_ok());
}

#[test]
fn a_key_without_effect_is_refused_as_it_is_written_and_not_where_a_run_wrote_it() {
    let path = Path::new("job.toml");
    let text = format!("{SMALL}[clip]\nmax_value = 1.0\n");
    // The value is the one that it has when it is left out.
    let job = parse(&text, &[]).unwrap();
    let told = job.check_written(&text, path, &[]).unwrap_err();
    assert!(told.to_string().contains("`clip.max_value`"), "{told}");
    let set = ["clip.max_value=1.0".to_owned()];
    assert!(job.check_written(SMALL, path, &set).is_err());
    assert!(job.check_written(SMALL, path, &[]).is_ok());
    let own = job.to_toml().unwrap();
    assert!(own.contains("max_value"));
    assert_eq!(Job::parse(&own, path, &[]).unwrap(), job);
}

#[test]
fn a_run_is_not_steered_by_a_figure_that_its_model_has_not() {
    for steered in [
        "select.keep=\"best\"",
        "select.patience=2",
        "schedule.kind=\"plateau\"",
    ] {
        let by = ["corpus.valid=v.jsonl", "select.by=\"cer\"", steered];
        let keyword = [&by[..], &["model.head=\"keyword\""]].concat();
        assert!(
            message(SMALL, &keyword).contains("`select.by`"),
            "{steered}"
        );
        let ctc = [&by[..], &["model.head=\"ctc\""]].concat();
        assert!(parse(SMALL, &ctc).is_ok(), "{steered}");
    }
}
