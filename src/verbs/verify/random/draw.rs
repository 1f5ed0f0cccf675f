//! A valid job for each seed: kinds of model, heads, features, augmentation, optimizers, schedules, clipping,
//! selection, wires and batches drawn at random. It decides what is worth drawing: small models and few
//! utterances, because what can differ between numbers of workers is the order of things, not their size.

use std::{
    fmt::{Display, Write as _},
    path::Path,
};

use speech::random::Stream;

/// The text of the job of `seed`, on the corpora in the folders `keyword` and `ctc` of `corpora`.
pub(super) fn job(seed: u64, corpora: &Path) -> String {
    let mut draw = Draw {
        stream: Stream::new(seed, &[]),
        text: String::new(),
    };
    draw.job(corpora);
    draw.text
}

struct Draw {
    stream: Stream,
    text: String,
}

/// What the sections of a job have to know of each other.
struct ModelDraw {
    kind: &'static str,
    is_ctc: bool,
    is_recurrent: bool,
}

impl Draw {
    fn job(&mut self, corpora: &Path) {
        let is_ctc = self.pick(&[false, false, true]);
        let kind = self.pick(&["lstm", "lstm", "gru", "rnn", "dnn", "cnn"]);
        let model = ModelDraw {
            kind,
            is_ctc,
            is_recurrent: matches!(kind, "lstm" | "gru" | "rnn"),
        };
        let has_valid = self.often(0.85);
        self.corpus(corpora, &model, has_valid);
        let is_joined = self.features(&model);
        self.model(&model, is_joined);
        self.train(&model);
        self.augment();
        self.optimizer();
        self.schedule(has_valid);
        self.clip();
        self.select(has_valid);
        if model.is_ctc {
            self.text();
        }
    }

    fn corpus(&mut self, corpora: &Path, model: &ModelDraw, has_valid: bool) {
        self.section("corpus");
        let folder = corpora.join(if model.is_ctc { "ctc" } else { "keyword" });
        self.quoted("train", folder.join("train.jsonl").display());
        if has_valid {
            self.quoted("valid", folder.join("valid.jsonl").display());
        }
    }

    /// Returns whether a frame of the features is made of several.
    fn features(&mut self, model: &ModelDraw) -> bool {
        self.section("features");
        self.key("sample_rate", 8000);
        let kind = self.pick(&["log-mel", "log-mel", "mfcc"]);
        self.quoted("kind", kind);
        let bins = self.pick(&[16, 23, 24, 40]);
        self.key("mel_bins", bins);
        if kind == "mfcc" {
            let cepstra = self.pick(&[8, 13]);
            self.key("cepstra", cepstra);
        }
        let is_cnn = model.kind == "cnn";
        let stack = if is_cnn { 1 } else { self.pick(&[1, 2, 3]) };
        self.key("stack", stack);
        let stride = if model.is_ctc { 1 } else { self.pick(&[1, 2]) };
        self.key("stride", stride);
        let deltas = if stack == 1 && !is_cnn {
            self.pick(&[0, 0, 1, 2])
        } else {
            0
        };
        self.key("deltas", deltas);
        let normalization = self.pick(&["utterance", "global", "speaker", "none"]);
        self.quoted("normalization", normalization);
        let range = self.pick(&["0.0", "0.0", "40.0"]);
        self.key("range_db", range);
        stack > 1 || deltas > 0
    }

    fn model(&mut self, model: &ModelDraw, is_joined: bool) {
        self.section("model");
        self.quoted("kind", model.kind);
        self.quoted("head", if model.is_ctc { "ctc" } else { "keyword" });
        if model.kind == "cnn" {
            let channels = self.pick(&[8, 12]);
            self.key("residual.channels", channels);
            let blocks = self.pick(&[1, 2]);
            self.key("residual.blocks", blocks);
            let frames = if model.is_ctc { 1 } else { self.pick(&[2, 4]) };
            self.key("residual.pool", format_args!("[{frames}, 3]"));
            let dilated = self.often(0.5);
            self.key("residual.dilated", dilated);
        } else {
            self.layers(model, is_joined);
        }
        if model.is_recurrent {
            let bidirectional = self.often(0.5);
            self.key("bidirectional", bidirectional);
        }
        if model.kind == "lstm" && self.often(0.3) {
            self.key("projection", 8);
        }
        if model.kind == "rnn" {
            let activation = self.pick(&["tanh", "relu"]);
            self.quoted("activation", activation);
        }
        if model.kind == "dnn" {
            let (left, right) = (self.pick(&[0, 3]), self.pick(&[0, 2]));
            self.key("context_left", left);
            self.key("context_right", right);
            let activation = self.pick(&["relu", "tanh", "sigmoid"]);
            self.quoted("activation", activation);
        }
        if self.often(0.3) {
            let units = self.pick(&[16, 20]);
            self.key("dense", format_args!("[{units}]"));
        }
        let dropout = self.pick(&["0.0", "0.0", "0.2", "0.5"]);
        self.key("dropout", dropout);
        if !model.is_ctc {
            let pooling = self.pick(&["mean", "last"]);
            self.quoted("pooling", if model.is_recurrent { pooling } else { "mean" });
        }
    }

    fn layers(&mut self, model: &ModelDraw, is_joined: bool) {
        if self.often(0.3) {
            let count = self.pick(&[1, 2, 3]);
            let widths: Vec<u32> = (0..count).map(|_| self.pick(&[16, 24, 31])).collect();
            self.key("widths", format_args!("{widths:?}"));
        } else {
            let layers = self.pick(&[1, 2]);
            self.key("layers", layers);
            let hidden = self.pick(&[16, 24, 33, 48]);
            self.key("hidden", hidden);
        }
        let layer_norm = self.often(0.5);
        self.key("layer_norm", layer_norm);
        if !is_joined && self.often(0.35) {
            let count = if model.is_ctc { 1 } else { self.pick(&[1, 2]) };
            let channels: Vec<u32> = (0..count).map(|_| self.pick(&[4, 8])).collect();
            self.key("conv.channels", format_args!("{channels:?}"));
            if model.is_ctc {
                self.key("conv.stride", "[1, 2]");
            }
        }
    }

    fn train(&mut self, model: &ModelDraw) {
        self.section("train");
        let epochs = self.pick(&[2, 3]);
        self.key("epochs", epochs);
        let micro_batch = self.pick(&[1, 2, 3, 4, 5, 7, 8, 16, 64]);
        self.key("micro_batch", micro_batch);
        let batch = if micro_batch == 1 {
            self.pick(&[7, 10])
        } else {
            self.pick(&[7, 10, 16, 23, 32, 500])
        };
        self.key("batch", batch);
        let seed = 1 + self.stream.below(99_999);
        self.key("seed", seed);
        let wire = self.pick(&["f32", "f32", "bf16"]);
        self.quoted("wire", wire);
        let normalize = self.pick(&["utterances", "frames", "labels"]);
        self.quoted("normalize", normalize);
        if self.often(0.35) {
            let ema = self.pick(&["0.9", "0.99", "0.0"]);
            self.key("ema", ema);
        }
        let smoothing = self.pick(&["0.0", "0.0", "0.1"]);
        self.key("label_smoothing", smoothing);
        if !model.is_ctc {
            let balance = self.pick(&["none", "weights"]);
            self.quoted("class_balance", balance);
        }
        let ascending = self.pick(&[0, 0, 1, 2]);
        self.key("ascending_epochs", ascending);
        if self.often(0.3) {
            let ratio = self.pick(&["1.2", "2.0", "20.0"]);
            self.key("max_norm_ratio", ratio);
            self.key("max_quarantined", 1000);
        }
        let audit = self.pick(&["0.0", "0.0", "0.0", "0.3"]);
        self.key("audit", audit);
        let every = self.pick(&[0, 3, 200]);
        self.key("checkpoint_every", every);
    }

    fn augment(&mut self) {
        self.section("augment");
        if !self.often(0.55) {
            return;
        }
        if self.often(0.4) {
            let (masks, width) = (self.pick(&[1, 2]), self.pick(&[3, 6]));
            self.key("freq_masks", masks);
            self.key("freq_width", width);
        }
        if self.often(0.4) {
            let (masks, fraction) = (self.pick(&[1, 2]), self.pick(&["0.1", "0.3"]));
            self.key("time_masks", masks);
            self.key("time_fraction", fraction);
        }
        let speed = self.pick(&["[0.9, 1.0, 1.1]", "[0.8, 1.25]"]);
        for (key, value, share) in [
            ("speed", speed, 0.4),
            ("tempo", "[0.9, 1.1]", 0.3),
            ("vtlp", "[0.9, 1.15]", 0.3),
            ("gain_db", "[-6.0, 6.0]", 0.3),
            ("reverb", "0.5", 0.3),
        ] {
            if self.often(share) {
                self.key(key, value);
            }
        }
        if self.often(0.4) {
            let share = self.pick(&["0.5", "1.0"]);
            self.key("noise", share);
            let kinds = self.pick(&[r#"["white", "pink", "babble"]"#, r#"["babble"]"#]);
            self.key("noise_kinds", kinds);
        }
    }

    fn optimizer(&mut self) {
        self.section("optimizer");
        let kind = self.pick(&["adam", "adamw", "sgd"]);
        self.quoted("kind", kind);
        let rate = self.pick(&["1e-3", "1e-2", "3e-2"]);
        self.key("learning_rate", rate);
        if kind == "sgd" && self.often(0.5) {
            self.key("momentum", "0.9");
            let nesterov = self.often(0.5);
            self.key("nesterov", nesterov);
        }
        let decay = self.pick(&["0.0", "0.01"]);
        self.key("weight_decay", decay);
    }

    fn schedule(&mut self, has_valid: bool) {
        self.section("schedule");
        let kinds = ["constant", "cosine", "step", "exponential", "plateau"];
        let kind = self.pick(if has_valid { &kinds } else { &kinds[..4] });
        self.quoted("kind", kind);
        let warmup = self.pick(&[0, 3]);
        self.key("warmup_steps", warmup);
        match kind {
            "step" | "exponential" => {
                let size = self.pick(&[2, 5]);
                self.key("step_size", size);
                self.key("gamma", "0.7");
            }
            "plateau" => {
                let patience = self.pick(&[0, 1]);
                self.key("patience", patience);
                self.key("gamma", "0.5");
            }
            _ => {}
        }
    }

    fn clip(&mut self) {
        self.section("clip");
        let policy = self.pick(&[
            "global-norm",
            "global-norm",
            "norm",
            "smooth",
            "normalize",
            "value",
            "none",
        ]);
        self.quoted("policy", policy);
        match policy {
            "global-norm" => self.clip_threshold("global"),
            "norm" | "smooth" | "normalize" => {
                let scope = self.pick(&["global", "layer", "tensor", "unit"]);
                self.quoted("scope", scope);
                self.clip_threshold(scope);
                if self.pick(&[false, false, true]) {
                    self.key("exempt", "[\"head.*\"]");
                }
            }
            "value" => {
                let value = self.pick(&["0.001", "0.1"]);
                self.key("max_value", value);
            }
            _ => {}
        }
    }

    fn clip_threshold(&mut self, scope: &str) {
        let thresholds = [
            "fixed",
            "weight-ratio",
            "percentile",
            "median",
            "z-score",
            "moving-average",
        ];
        // Nothing is remembered of single units.
        let thresholds = if scope == "unit" {
            &thresholds[..2]
        } else {
            &thresholds[..]
        };
        let threshold = self.pick(thresholds);
        self.quoted("threshold", threshold);
        match threshold {
            "fixed" => {
                let norm = self.pick(&["0.1", "1.0", "5.0"]);
                self.key("max_norm", norm);
            }
            "weight-ratio" => self.key("clip_factor", "0.05"),
            "percentile" => {
                let percentile = self.pick(&["10", "62.5"]);
                self.key("percentile", percentile);
            }
            "median" => self.key("clipping_update_period", 4),
            _ => self.key("warmup_steps", 3),
        }
    }

    fn select(&mut self, has_valid: bool) {
        self.section("select");
        let average = self.pick(&[1, 1, 2]);
        self.key("average", average);
        if has_valid {
            let keep = self.pick(&["last", "best"]);
            self.quoted("keep", keep);
            let patience = self.pick(&[0, 0, 1]);
            self.key("patience", patience);
            let by = self.pick(&["score", "loss"]);
            // Refused where nothing goes by it.
            if keep == "best" || patience > 0 {
                self.quoted("by", by);
            }
        }
    }

    fn text(&mut self) {
        self.section("text");
        let units = self.pick(&["characters", "characters", "bytepair", "words"]);
        self.quoted("units", units);
        if units == "bytepair" {
            self.key("size", 24);
        }
    }

    fn section(&mut self, name: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "[{name}]");
    }

    fn key(&mut self, key: &str, value: impl Display) {
        let _ = writeln!(self.text, "{key} = {value}");
    }

    fn quoted(&mut self, key: &str, value: impl Display) {
        let value = toml::Value::String(value.to_string());
        self.key(key, value);
    }

    fn pick<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.stream.below(values.len() as u64) as usize]
    }

    fn often(&mut self, share: f64) -> bool {
        self.stream.uniform() < share
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use coordinator::job::Job;

    use super::*;

    #[test]
    fn every_seed_gives_a_valid_job_and_the_same_one_each_time() {
        let folder = Path::new("/a folder/with \"quotes\"");
        let mut texts = BTreeSet::new();
        for seed in 0..3000 {
            let text = job(seed, folder);
            let path = Path::new("job.toml");
            let parsed = Job::parse(&text, path, &[]);
            let parsed = parsed.unwrap_or_else(|error| panic!("seed {seed}: {error}\n{text}"));
            assert!(parsed.corpus.train.unwrap().starts_with(folder));
            assert_eq!(job(seed, folder), text);
            texts.insert(text);
        }
        assert!(texts.len() > 2990, "{} jobs", texts.len());
    }

    #[test]
    fn everything_that_a_job_can_choose_is_drawn_before_long() {
        let drawn: String = (0..200).map(|seed| job(seed, Path::new("/c"))).collect();
        let drawn: BTreeSet<&str> = drawn.lines().collect();
        for line in [
            r#"kind = "lstm""#,
            r#"kind = "gru""#,
            r#"kind = "rnn""#,
            r#"kind = "dnn""#,
            r#"kind = "cnn""#,
            r#"head = "keyword""#,
            r#"head = "ctc""#,
            "bidirectional = true",
            "projection = 8",
            "layer_norm = true",
            "speed = [0.8, 1.25]",
            "reverb = 0.5",
            r#"noise_kinds = ["babble"]"#,
            "freq_masks = 2",
            r#"wire = "bf16""#,
            "audit = 0.3",
            "ema = 0.99",
            r#"class_balance = "weights""#,
            r#"policy = "global-norm""#,
            r#"policy = "value""#,
            r#"policy = "none""#,
            r#"keep = "best""#,
            "average = 2",
            r#"kind = "plateau""#,
            r#"kind = "sgd""#,
            "nesterov = true",
            r#"units = "bytepair""#,
            r#"normalization = "speaker""#,
        ] {
            assert!(drawn.contains(line), "{line}");
        }
    }
}
