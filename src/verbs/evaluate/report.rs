//! An evaluation as a page that needs nothing but itself: rates and how sure they are, who and what was
//! hard, and the worst utterances as they were heard. It decides what is shown, and refuses to measure.

use std::path::Path;

use speech::{
    features::Features,
    score::{
        Confusion, Edit,
        details::{Details, ErrorUnit, Rate, Recognised, Taken},
        word_edits,
    },
};

use super::Evaluation;
use crate::{
    html::{self, HtmlTable, escape, picture},
    output::{duration, percent},
};

/// An utterance that is shown.
pub(super) struct Shown<'a> {
    pub recognised: &'a Recognised,
    pub loss: Option<f64>,
    pub features: Features,
    /// `[frames, outputs]`, or `[outputs]` of a keyword.
    pub log_probs: Vec<f32>,
}

/// What the outputs of a model are called; the blank of CTC as well.
pub(super) struct Outputs {
    pub names: Vec<String>,
    pub unit: ErrorUnit,
}

/// Pixels of a frame.
const FRAME_PIXELS: usize = 4;
/// Rows of posteriors: outputs beyond these are left out.
const MOST_ROWS: usize = 40;
/// A probability from which an output has a row.
const MIN_SHOWN_PROBABILITY: f32 = 0.05;
/// Classes beyond which a confusion matrix is too wide to read.
const MAX_LABEL_CHARACTERS: usize = 60;

/// The page. `run_dir` is the run's, whose curves are shown where they are there.
pub(super) fn page(
    title: &str,
    evaluation: &Evaluation,
    shown: &[Shown],
    outputs: &Outputs,
    run_dir: Option<&Path>,
) -> String {
    let details = &evaluation.details;
    let mut body = overview(evaluation);
    body += &curves(run_dir);
    if !details.speakers.is_empty() {
        body += &rates("By speaker", "speaker", &details.speakers);
    }
    body += &rates("By length", "length", &details.lengths);
    if let Some(confusion) = &evaluation.score.confusion {
        body += &matrix(confusion);
    }
    body += &confusions(details);
    body += &format!("<h2>The worst {} utterances</h2>\n", shown.len());
    for one in shown {
        body += &utterance(one, outputs);
    }
    html::page(title, &body)
}

fn overview(evaluation: &Evaluation) -> String {
    let details = &evaluation.details;
    let mut table = HtmlTable::new(&[
        ("", false),
        ("rate", true),
        ("95 %", true),
        ("errors", true),
        ("of", true),
    ]);
    let name = match details.unit {
        ErrorUnit::Words => "word error rate",
        ErrorUnit::Characters => "character error rate",
        ErrorUnit::Utterances => "utterances wrong",
    };
    let characters = details.characters.iter();
    for (name, rate) in std::iter::once((name, &details.all))
        .chain(characters.map(|it| ("character error rate", it)))
    {
        table.row(&[
            name.to_owned(),
            rate.rate.map_or("undefined".to_owned(), percent),
            interval(rate),
            rate.errors.to_string(),
            rate.reference.to_string(),
        ]);
    }
    let efficiency = &evaluation.efficiency;
    let mut costs = HtmlTable::new(&[("", false), ("", true)]);
    let mut say = |name: &str, value: String| costs.row(&[name.to_owned(), escape(&value)]);
    say("utterances", details.all.utterances.to_string());
    if !evaluation.left_out.is_empty() {
        say("left out", evaluation.left_out.sentence("utterances"));
    }
    if !evaluation.unknown_text.is_empty() {
        say("unknown", evaluation.unknown_text.to_string());
    }
    say("speech", duration(efficiency.audio_seconds));
    say(
        "real-time factor",
        format!("{:.4}", efficiency.real_time_factor),
    );
    say("parameters", efficiency.parameters.to_string());
    say("model", bytes(efficiency.model_bytes));
    if let Some(peak) = efficiency.peak_memory_bytes {
        say("peak memory", bytes(peak));
    }
    if let Some(loss) = evaluation.loss {
        say("mean loss", format!("{loss:.4}"));
    }
    say("computed on", efficiency.compute_class.clone());
    format!(
        "<div class=\"side\">{}{}</div>",
        table.finish(),
        costs.finish()
    )
}

/// The curves of the run that left the model, if its folder still has them.
fn curves(run_dir: Option<&Path>) -> String {
    let chart = run_dir.and_then(|dir| std::fs::read(dir.join("chart.svg")).ok());
    // In an image, whatever the file holds can run nothing and fetch nothing.
    chart.map_or_else(String::new, |chart| {
        let source = picture::data_uri("image/svg+xml", &chart);
        format!(
            "<h2>Training</h2><img class=\"chart\" alt=\"curves of the run\" src=\"{source}\">\n"
        )
    })
}

fn rates(title: &str, of: &str, rates: &[Rate]) -> String {
    let mut table = HtmlTable::new(&[
        (of, false),
        ("utterances", true),
        ("errors", true),
        ("of", true),
        ("rate", true),
        ("95 %", true),
        ("", false),
    ]);
    for rate in rates {
        let width = 150.0 * rate.rate.unwrap_or(0.0).clamp(0.0, 1.0);
        table.row(&[
            escape(&rate.name),
            rate.utterances.to_string(),
            rate.errors.to_string(),
            rate.reference.to_string(),
            rate.rate.map_or("undefined".to_owned(), percent),
            interval(rate),
            format!("<span class=\"bar\" style=\"width:{width:.0}px\"></span>"),
        ]);
    }
    format!("<h2>{title}</h2>\n{}", table.finish())
}

fn interval(rate: &Rate) -> String {
    let shown = rate.interval.map(|interval| {
        let (low, high) = (100.0 * interval.low, 100.0 * interval.high);
        format!("{low:.2}–{high:.2}")
    });
    shown.unwrap_or_default()
}

fn matrix(confusion: &Confusion) -> String {
    if confusion.classes.len() > MAX_LABEL_CHARACTERS {
        return String::new();
    }
    let mut headings = vec![("said", false)];
    headings.extend(confusion.classes.iter().map(|class| (class.as_str(), true)));
    let mut table = HtmlTable::new(&headings);
    for class in &confusion.classes {
        let mut cells = vec![escape(class)];
        let counts = confusion.classes.iter();
        let counts = counts.map(|other| (class == other, confusion.count(class, other)));
        cells.extend(counts.map(|count| match count {
            (_, 0) => String::new(),
            (true, count) => count.to_string(),
            (false, count) => format!("<b style=\"color:#c33\">{count}</b>"),
        }));
        table.row(&cells);
    }
    format!(
        "<h2>Which class was taken for which</h2>\n<section>{}</section>",
        table.finish()
    )
}

fn confusions(details: &Details) -> String {
    let lists = [
        ("Substituted", &details.substituted),
        ("Deleted", &details.deleted),
        ("Inserted", &details.inserted),
    ];
    let list = |(title, taken): (&str, &Vec<Taken>)| {
        if taken.is_empty() {
            return String::new();
        }
        let mut table = HtmlTable::new(&[("said", false), ("recognised", false), ("times", true)]);
        for one in taken {
            table.row(&[
                escape(&one.reference),
                escape(&one.hypothesis),
                one.count.to_string(),
            ]);
        }
        format!("<div><h3>{title}</h3>{}</div>", table.finish())
    };
    let lists: String = lists.into_iter().map(list).collect();
    format!("<h2>The commonest mistakes</h2>\n<div class=\"side\">{lists}</div>\n")
}

fn utterance(shown: &Shown, outputs: &Outputs) -> String {
    let one = shown.recognised;
    let speaker = one
        .speaker
        .as_deref()
        .map_or(String::new(), |it| format!(", {}", escape(it)));
    let loss = shown
        .loss
        .map_or(String::new(), |loss| format!(", loss {loss:.2}"));
    let sample = outputs.unit.sample(one);
    format!(
        "<section><h3>{} <small>{:.2} s{speaker}{loss}, {} of {} wrong</small></h3>\n{}{}{}</section>\n",
        escape(&one.id),
        one.seconds,
        sample.errors,
        sample.reference,
        alignment(one),
        spectrogram(&shown.features),
        posteriors(&shown.log_probs, outputs),
    )
}

/// Reference above hypothesis, word by word.
fn alignment(one: &Recognised) -> String {
    let (mut said, mut heard) = (String::new(), String::new());
    for edit in word_edits(&one.reference, &one.hypothesis) {
        let (class, reference, hypothesis) = match edit {
            Edit::Kept(word) => ("k", word, word),
            Edit::Substituted(reference, hypothesis) => ("s", reference, hypothesis),
            Edit::Deleted(word) => ("d", word, "∅"),
            Edit::Inserted(word) => ("i", "∅", word),
        };
        said += &format!("<td class=\"{class}\">{}</td>", escape(reference));
        heard += &format!("<td class=\"{class}\">{}</td>", escape(hypothesis));
    }
    format!(
        "<table class=\"edits\"><tr><th>said</th>{said}</tr><tr><th>recognised</th>{heard}</tr></table>\n"
    )
}

/// The features as the model hears them, low ones at the bottom, in the range of this utterance.
fn spectrogram(features: &Features) -> String {
    let Features { frames, dims, data } = features;
    let finite = || data.iter().copied().filter(|value| value.is_finite());
    let low = finite().fold(f32::INFINITY, f32::min);
    let high = finite().fold(f32::NEG_INFINITY, f32::max);
    let value = |row: usize, frame: usize| {
        (data[frame * dims + (dims - 1 - row)] - low) / (high - low).max(f32::MIN_POSITIVE)
    };
    let height = if *dims > 100 { 1 } else { 2 };
    let picture = picture::heat(*dims, *frames, [FRAME_PIXELS, height], value, "features");
    let shown = picture.unwrap_or_default();
    format!("<div><small>features, {dims} a frame, {frames} frames</small>{shown}</div>\n")
}

/// How probable each output is over time, those that ever are, in the order of their first moment; a
/// keyword's classes as a list.
fn posteriors(log_probs: &[f32], outputs: &Outputs) -> String {
    let count = outputs.names.len();
    if outputs.unit == ErrorUnit::Utterances {
        let mut classes: Vec<(&str, f32)> = outputs
            .names
            .iter()
            .zip(log_probs)
            .map(|(name, log_prob)| (name.as_str(), log_prob.exp()))
            .collect();
        classes.sort_by(|a, b| b.1.total_cmp(&a.1));
        let mut table = HtmlTable::new(&[("class", false), ("probability", true)]);
        for (name, probability) in classes.into_iter().take(5) {
            table.row(&[escape(name), format!("{probability:.3}")]);
        }
        return table.finish();
    }
    let frames = log_probs.len() / count.max(1);
    let at = |frame: usize, output: usize| log_probs[frame * count + output].exp();
    let first =
        |output: &usize| (0..frames).position(|frame| at(frame, *output) >= MIN_SHOWN_PROBABILITY);
    let mut seen: Vec<usize> = (0..count)
        .filter(|output| first(output).is_some())
        .collect();
    // The blank, which is everywhere, last.
    seen.sort_by_key(|output| (*output == 0, first(output)));
    let all = seen.len();
    if all > MOST_ROWS {
        seen.drain(MOST_ROWS - 1..all - 1);
    }
    let value = |row: usize, frame: usize| at(frame, seen[row]);
    let Some(picture) = picture::heat(seen.len(), frames, [FRAME_PIXELS, 12], value, "posteriors")
    else {
        return String::new();
    };
    let names: Vec<String> = seen
        .iter()
        .map(|&output| escape(&outputs.names[output]))
        .collect();
    let left_out = match all - seen.len() {
        0 => String::new(),
        count => format!(", {count} left out"),
    };
    format!(
        "<small>probabilities of the outputs{left_out}</small>\
         <div class=\"units\"><div>{}</div>{picture}</div>\n",
        names.join("<br>")
    )
}

/// Sizes for people.
pub(super) fn bytes(count: u64) -> String {
    format!("{:.1} MB", count as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outputs(unit: ErrorUnit) -> Outputs {
        let names = ["·", "<b>", "c"].map(str::to_owned).to_vec();
        Outputs { names, unit }
    }

    #[test]
    fn an_utterance_is_shown_with_what_was_said_and_heard_and_nothing_runs() {
        let recognised = Recognised {
            id: "<script>".to_owned(),
            speaker: Some("a&b".to_owned()),
            seconds: 1.5,
            reference: "one <i> three".to_owned(),
            hypothesis: "one two three four".to_owned(),
        };
        let shown = Shown {
            recognised: &recognised,
            loss: Some(2.5),
            features: Features {
                frames: 2,
                dims: 3,
                data: vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0],
            },
            log_probs: vec![-0.1, -2.9, -9.0, -0.1, -9.0, -2.5],
        };
        let markup = utterance(&shown, &outputs(ErrorUnit::Words));
        assert!(
            !markup.contains("<script") && !markup.contains("<i>"),
            "{markup}"
        );
        for part in [
            "&lt;script&gt;",
            "a&amp;b",
            "2 of 3 wrong",
            "<td class=\"s\">&lt;i&gt;</td>",
            "<td class=\"i\">four</td>",
            "&lt;b&gt;<br>c<br>·",
        ] {
            assert!(markup.contains(part), "{part}: {markup}");
        }
        assert_eq!(markup.matches("data:image/png").count(), 2);
        let markup = utterance(&shown, &outputs(ErrorUnit::Utterances));
        assert!(
            markup.contains("1 of 1 wrong") && markup.contains("0.905"),
            "{markup}"
        );
    }

    #[test]
    fn many_outputs_are_cut_down_and_the_blank_stays() {
        let names: Vec<String> = (0..100).map(|output| format!("u{output}")).collect();
        let outputs = Outputs {
            names,
            unit: ErrorUnit::Words,
        };
        let markup = posteriors(&[-1.0; 100], &outputs);
        assert!(
            markup.contains("60 left out") && markup.contains("u39<br>u0<"),
            "{markup}"
        );
        assert_eq!(posteriors(&[], &outputs), "");
    }
}
