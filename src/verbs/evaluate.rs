//! `evaluate`: measures a trained model on a manifest.

mod report;

use std::path::PathBuf;

use serde::Serialize;
use speech::{
    left_out::LeftOut,
    manifest::Manifest,
    output_file::OutputFiles,
    score::{
        Score,
        details::{Details, ErrorUnit, Rate, UtteranceRecord},
    },
    unknown_text::UnknownText,
};
use worker::inference::Model;

use crate::{
    args, decoding, device,
    evaluation::{self, Efficiency, Greedy, Measured, features, measure},
    exit::Result,
    output::{self, duration, percent},
};
use report::{Outputs, Shown};

/// Utterances that a report shows.
const MAX_SHOWN_UTTERANCES: usize = 12;
/// Speakers, lengths and mistakes that a terminal is told of.
const MAX_LISTED_ROWS: usize = 5;

#[derive(Debug, Serialize)]
pub(super) struct Evaluation {
    /// With the model's decoder.
    #[serde(flatten)]
    score: Score,
    /// Beside it, what the best label of every frame gives.
    #[serde(skip_serializing_if = "Option::is_none")]
    greedy: Option<Greedy>,
    /// Mean over the utterances that have one.
    loss: Option<f64>,
    #[serde(skip_serializing_if = "LeftOut::is_empty")]
    left_out: LeftOut,
    /// Transcripts that the model cannot say.
    #[serde(skip_serializing_if = "UnknownText::is_empty")]
    unknown_text: UnknownText,
    details: Details,
    #[serde(flatten)]
    efficiency: Efficiency,
}

pub(super) fn run(args: args::Evaluate) -> Result<()> {
    let outputs = args.utterances.iter().chain(&args.html);
    let outputs = OutputFiles::plan(outputs.map(PathBuf::as_path), [args.manifest.as_path()])?;
    let compute = device::compute(args.device)?;
    let max_bad = args.max_bad.unwrap_or_default();
    let manifest = Manifest::read_with(&args.manifest, max_bad)?;
    let mut model = Model::load(&args.model, &compute)?;
    decoding::set(&mut model, &args.decoding, max_bad)?;
    let mut measured = measure(&model, manifest, &args.manifest, max_bad)?;
    let losses: Vec<f64> = measured.losses.iter().copied().flatten().collect();
    let evaluation = Evaluation {
        score: measured.score.clone(),
        greedy: measured.greedy,
        loss: (!losses.is_empty()).then(|| losses.iter().sum::<f64>() / losses.len() as f64),
        left_out: std::mem::take(&mut measured.left_out),
        unknown_text: std::mem::take(&mut measured.unknown),
        details: Details::new(&measured.recognised, measured.unit),
        efficiency: Efficiency::of(&args.model, &model, &measured, &compute),
    };
    let mut texts = Vec::new();
    if args.utterances.is_some() {
        let mut lines = String::new();
        for recognised in measured.recognised.iter().cloned() {
            let unit = Some(measured.unit);
            lines += &serde_json::to_string(&UtteranceRecord { recognised, unit })?;
            lines.push('\n');
        }
        texts.push(lines);
    }
    if args.html.is_some() {
        let names = outputs_of(&model, measured.unit);
        let title = format!("{} on {}", args.model.display(), args.manifest.display());
        let shown = worst(&model, &measured)?;
        let run_dir = args.model.parent();
        texts.push(report::page(&title, &evaluation, &shown, &names, run_dir));
    }
    outputs.write_bytes(&texts)?;
    output::print_beside(&outputs, args.output.format, &evaluation, text)
}

/// The utterances with most errors, of equally bad ones those with the larger loss, heard once more.
fn worst<'a>(model: &Model, measured: &'a Measured) -> Result<Vec<Shown<'a>>> {
    let samples = measured.unit.samples(&measured.recognised);
    let loss = |place: usize| measured.losses[place];
    let mut order: Vec<usize> = (0..samples.len()).collect();
    order.sort_by(|&a, &b| {
        let errors = samples[b].errors.cmp(&samples[a].errors);
        let losses = loss(b).unwrap_or(0.0).total_cmp(&loss(a).unwrap_or(0.0));
        errors.then(losses).then(a.cmp(&b))
    });
    order.truncate(MAX_SHOWN_UTTERANCES);
    let utterances: Vec<_> = order
        .iter()
        .map(|&place| measured.utterances[place].clone())
        .collect();
    let recordings = evaluation::read(&utterances)?;
    let features = features(model, &recordings, &utterances, &measured.speakers)?;
    let heard = model.recognise(&features.iter().collect::<Vec<_>>())?;
    let shown = order.iter().zip(features).zip(heard);
    Ok(shown
        .map(|((&place, features), heard)| Shown {
            recognised: &measured.recognised[place],
            loss: loss(place),
            features,
            log_probs: heard.log_probs,
        })
        .collect())
}

/// What the model's outputs are called.
fn outputs_of(model: &Model, unit: ErrorUnit) -> Outputs {
    let vocabulary = &model.recipe().vocabulary;
    let blank = (unit != ErrorUnit::Utterances).then(|| "blank".to_owned());
    let units = vocabulary.units.iter().map(|unit| match unit.as_str() {
        " " => "space".to_owned(),
        unit => unit.to_owned(),
    });
    Outputs {
        names: blank.into_iter().chain(units).collect(),
        unit,
    }
}

fn text(evaluation: &Evaluation) -> String {
    let Evaluation {
        details,
        efficiency,
        ..
    } = evaluation;
    let mut lines = vec![evaluation.score.to_string()];
    let named = match details.unit {
        ErrorUnit::Utterances => "wrong",
        ErrorUnit::Words | ErrorUnit::Characters => "WER",
    };
    if let Some(greedy) = &evaluation.greedy {
        let shown = |rate: Option<f64>| rate.map_or("undefined".to_owned(), percent);
        let (wer, cer) = (shown(greedy.wer), shown(greedy.cer));
        lines.push(format!("greedily   WER {wer}, CER {cer}"));
    }
    let characters = details.characters.iter().map(|rate| ("CER", rate));
    for (name, rate) in std::iter::once((named, &details.all)).chain(characters) {
        if let Some(interval) = rate.interval {
            let (low, high) = (percent(interval.low), percent(interval.high));
            lines.push(format!("{name} 95 % confidence interval: {low} to {high}"));
        }
    }
    let rates = |title: &str, rates: &[Rate]| {
        let told = rates.iter().take(MAX_LISTED_ROWS).map(|rate| {
            let value = rate.rate.map_or("undefined".to_owned(), percent);
            format!("{} {value}", rate.name)
        });
        format!("{title}: {}", told.collect::<Vec<_>>().join(", "))
    };
    if details.speakers.len() > 1 {
        lines.push(rates("hardest speakers", &details.speakers));
    }
    if details.lengths.len() > 1 {
        lines.push(rates("by length", &details.lengths));
    }
    if details.unit == ErrorUnit::Words && !details.substituted.is_empty() {
        let told = details.substituted.iter().take(MAX_LISTED_ROWS);
        let told: Vec<String> = told
            .map(|it| format!("{} -> {} ({})", it.reference, it.hypothesis, it.count))
            .collect();
        lines.push(format!("commonest mistakes: {}", told.join(", ")));
    }
    lines.push(format!(
        "real-time factor {:.4}: {} of speech in {}, on {}",
        efficiency.real_time_factor,
        duration(efficiency.audio_seconds),
        duration(efficiency.seconds),
        efficiency.compute_class
    ));
    let peak = efficiency.peak_memory_bytes.map_or(String::new(), |peak| {
        format!(", peak memory {}", report::bytes(peak))
    });
    lines.push(format!(
        "{} parameters, {}{peak}",
        efficiency.parameters,
        report::bytes(efficiency.model_bytes)
    ));
    if !evaluation.unknown_text.is_empty() {
        lines.push(evaluation.unknown_text.to_string());
    }
    if !evaluation.left_out.is_empty() {
        lines.push(evaluation.left_out.sentence("utterances"));
    }
    lines.join("\n")
}
