//! `model`: the layers of a model, and what it costs to run them, before or after it is trained.

use std::path::Path;

use coordinator::corpus;
use serde::Serialize;
use speech::{
    features::FeaturesConfig,
    front_end::FrontEnd,
    model::{ModelSpec, Per, Row},
};

use crate::{
    args,
    exit::{CommandError, Result},
    jobs::file,
    model_folder, output,
};

/// A layer, and what it costs.
#[derive(Debug, Serialize)]
struct LayerReport {
    name: String,
    does: String,
    /// Values of a row.
    width: usize,
    /// What a row is of: `frame` or `utterance`.
    per: &'static str,
    /// Rows a second of audio; absent for a layer that computes one an utterance.
    rows_per_second: Option<f64>,
    parameters: usize,
    /// For a row.
    multiply_adds: usize,
}

#[derive(Debug, Serialize)]
struct ModelReport {
    kind: &'static str,
    /// Features of a frame.
    inputs: usize,
    outputs: usize,
    layers: Vec<LayerReport>,
    parameters: usize,
    /// The size of the parameters, as they are kept and computed with.
    bytes: usize,
    frames_per_second: f64,
    /// Seconds from one row of the output to the next, before frames are pooled.
    output_seconds: f64,
    multiply_adds_per_second: f64,
    multiply_adds_per_utterance: usize,
}

pub(super) fn run(args: args::ModelArgs) -> Result<()> {
    let (spec, features) = if args.what.is_dir() {
        of_model(&args.what)?
    } else {
        of_job(&args)?
    };
    let summary = summarise(&spec, &features)?;
    output::print(args.output.format, &summary, text)
}

fn of_model(folder: &Path) -> Result<(ModelSpec, FeaturesConfig)> {
    let recipe = model_folder::recipe(folder)?;
    Ok((recipe.model_spec()?, recipe.features))
}

/// The outputs follow from the training manifest's transcripts, unless they were given.
fn of_job(args: &args::ModelArgs) -> Result<(ModelSpec, FeaturesConfig)> {
    let job = file::read(&args.what, &args.sets)?;
    let outputs = match (args.outputs, &job.corpus.train) {
        (Some(outputs), _) => outputs as usize,
        (None, Some(path)) => {
            let vocabulary = corpus::vocabulary(&job, path).map_err(|error| {
                CommandError::Data(format!(
                    "{error}; without the corpus, say with --outputs how many outputs there are"
                ))
            })?;
            vocabulary.outputs()
        }
        (None, None) => {
            let told =
                "the job makes its corpus itself; say with --outputs how many outputs there are";
            return Err(CommandError::Usage(told.to_owned()).into());
        }
    };
    let inputs = FrontEnd::new(&job.features, None)?.dims();
    Ok((ModelSpec::new(&job.model, inputs, outputs), job.features))
}

fn summarise(spec: &ModelSpec, features: &FeaturesConfig) -> Result<ModelReport> {
    /// Long enough that the ends do not count.
    const SECONDS: u32 = 1000;
    let mut features = features.clone();
    // Statistics are none of a summary's business.
    features.normalization = speech::features::Normalization::None;
    let rate = features.sample_rate;
    let front_end = FrontEnd::new(&features, None)?;
    let frames = front_end.output_frames(u64::from(rate) * u64::from(SECONDS), rate);
    // Whole milliseconds from frame to frame, whatever is lost at the end.
    let frames_per_second = (frames as f64 / f64::from(SECONDS) * 10.0).round() / 10.0;
    let (second, utterance) = spec.multiply_adds(frames_per_second);
    let layer = |row: Row| LayerReport {
        name: row.name,
        does: row.does,
        width: row.width,
        per: match row.per {
            Per::Frame => "frame",
            Per::Utterance => "utterance",
        },
        rows_per_second: (row.per == Per::Frame)
            .then(|| frames_per_second / row.frame_stride as f64),
        parameters: row.parameters,
        multiply_adds: row.multiply_adds,
    };
    Ok(ModelReport {
        kind: spec.config.kind.name(),
        inputs: spec.inputs,
        outputs: spec.outputs,
        layers: spec.summary().into_iter().map(layer).collect(),
        parameters: spec.elements(),
        bytes: 4 * spec.elements(),
        frames_per_second,
        output_seconds: spec.config.frame_stride() as f64 / frames_per_second,
        multiply_adds_per_second: second,
        multiply_adds_per_utterance: utterance,
    })
}

fn text(summary: &ModelReport) -> String {
    let rows = summary.layers.iter().map(|layer| {
        vec![
            layer.name.clone(),
            layer.does.clone(),
            match layer.rows_per_second {
                Some(rows) => format!("{} × {rows:.1}/s", layer.width),
                None => format!("{} an utterance", layer.width),
            },
            thousands(layer.parameters as f64),
            match layer.rows_per_second {
                _ if layer.multiply_adds == 0 => "-".to_owned(),
                Some(rows) => format!("{}/s", short(rows * layer.multiply_adds as f64)),
                None => format!("{} an utterance", short(layer.multiply_adds as f64)),
            },
        ]
    });
    let header = [
        "layer",
        "what it does",
        "output",
        "parameters",
        "multiply-adds",
    ];
    let table = output::table(&header, rows.collect());
    let once = match summary.multiply_adds_per_utterance {
        0 => String::new(),
        some => format!(", and {} once an utterance", short(some as f64)),
    };
    format!(
        "{table}\n\n{} → {} outputs; {} parameters, {} bytes; {} multiply-adds a second of audio \
         ({} frames){once}",
        summary.inputs,
        summary.outputs,
        thousands(summary.parameters as f64),
        thousands(summary.bytes as f64),
        short(summary.multiply_adds_per_second),
        summary.frames_per_second,
    )
}

/// A whole number with its thousands apart.
fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Three digits of a large number.
fn short(number: f64) -> String {
    match number {
        1e9.. => format!("{:.2} G", number / 1e9),
        1e6.. => format!("{:.2} M", number / 1e6),
        1e3.. => format!("{:.1} k", number / 1e3),
        _ => format!("{number:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use speech::model::{ConvConfig, Head, ModelConfig};

    #[test]
    fn a_summary_adds_up_and_counts_frames_after_the_stride() {
        let config = ModelConfig {
            head: Head::Ctc,
            widths: vec![6],
            conv: ConvConfig {
                channels: vec![2],
                ..ConvConfig::default()
            },
            ..ModelConfig::default()
        };
        let features = FeaturesConfig::default();
        let inputs = FrontEnd::new(&features, None).unwrap().dims();
        let summary = summarise(&ModelSpec::new(&config, inputs, 5), &features).unwrap();
        assert_eq!((summary.inputs, summary.frames_per_second), (40, 100.0));
        assert!((summary.output_seconds - 0.02).abs() < 1e-12);
        let bands = 20;
        let lstm = 4 * 6 * (2 * bands + 6);
        let of_row = 2 * bands * 9 + lstm + 6 * 5;
        assert_eq!(summary.multiply_adds_per_second, 50.0 * of_row as f64);
        assert_eq!(summary.multiply_adds_per_utterance, 0);
        let parameters = 2 * 9 + 2 + 4 * 6 * (2 * bands + 6 + 2) + 5 * 6 + 5;
        assert_eq!(
            (summary.parameters, summary.bytes),
            (parameters, 4 * parameters)
        );
        let shown = text(&summary);
        assert!(
            shown.contains("stride 2 × 2") && shown.contains("lstm.0"),
            "{shown}"
        );
        assert!(shown.ends_with("(100 frames)"), "{shown}");
    }

    #[test]
    fn numbers_read_as_people_write_them() {
        assert_eq!(
            [999.0, 1000.0, 1_234_567.0].map(thousands),
            ["999", "1,000", "1,234,567"]
        );
        assert_eq!(
            [12.0, 1234.0, 5.678e6, 1.2e9].map(short),
            ["12", "1.2 k", "5.68 M", "1.20 G"]
        );
    }
}
