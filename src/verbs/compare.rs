//! `compare`: whether one model is better than another on the same utterances, or by chance.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde::Serialize;
use speech::{
    left_out::{LeftOut, Reason},
    manifest::Manifest,
    score::{
        bootstrap::{self, Difference},
        details::{Details, ErrorUnit, Rate, Recognised, UtteranceRecord},
        significance::{self, TestName, TestResult},
    },
    tolerance::MaxBad,
};
use worker::{compute::Compute, inference::Model};

use crate::{
    args, device,
    evaluation::{Efficiency, measure},
    exit::{CommandError, Result},
    output::{self, percent},
};

/// What a difference is called significant below.
const SIGNIFICANT: f64 = 0.05;

#[derive(Debug, Serialize)]
struct Comparison {
    unit: ErrorUnit,
    first: Side,
    second: Side,
    /// The difference of the error rates; absent where one of them is undefined.
    difference: Option<Difference>,
    /// Absent for fewer than two utterances.
    test: Option<TestResult>,
    significant: bool,
    /// Utterances that are on one side alone.
    #[serde(skip_serializing_if = "LeftOut::is_empty")]
    left_out: LeftOut,
}

#[derive(Debug, Serialize)]
struct Side {
    /// As it was typed.
    name: String,
    #[serde(flatten)]
    rate: Rate,
    /// The cost of a model that was measured here.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    efficiency: Option<Efficiency>,
}

/// What one side said.
struct SystemResult {
    recognised: Vec<Recognised>,
    /// Absent where it was read from a file that does not say it.
    unit: Option<ErrorUnit>,
    efficiency: Option<Efficiency>,
}

pub(super) fn run(args: args::Compare) -> Result<()> {
    let models = [&args.first, &args.second].map(|path| !path.is_file());
    let compute = match models {
        [false, false] => None,
        _ => Some(device::compute(args.device)?),
    };
    let max_bad = args.max_bad.unwrap_or_default();
    let hear = |path: &Path| match (&compute, path.is_file()) {
        (Some(compute), false) => model(path, args.manifest.as_deref(), compute, max_bad),
        _ => read(path),
    };
    let (mut first, mut second) = (hear(&args.first)?, hear(&args.second)?);
    let unit = unit([&first, &second], args.unit)?;
    let left_out = meet(&mut first.recognised, &mut second.recognised, max_bad)?;
    let samples = [&first.recognised, &second.recognised].map(|all| unit.samples(all));
    let test = match unit {
        ErrorUnit::Utterances => Some(significance::mcnemar(&samples[0], &samples[1])),
        ErrorUnit::Words | ErrorUnit::Characters => {
            significance::matched_pairs(&samples[0], &samples[1])
        }
    };
    let side = |path: &Path, heard: SystemResult| Side {
        name: path.display().to_string(),
        rate: Details::new(&heard.recognised, unit).all,
        efficiency: heard.efficiency,
    };
    let comparison = Comparison {
        unit,
        difference: bootstrap::difference(&samples[0], &samples[1]),
        significant: test.is_some_and(|test| test.p_value < SIGNIFICANT),
        test,
        first: side(&args.first, first),
        second: side(&args.second, second),
        left_out,
    };
    output::print(args.output.format, &comparison, text)
}

/// Measures the model in a folder.
fn model(
    path: &Path,
    manifest: Option<&Path>,
    compute: &Compute,
    max_bad: MaxBad,
) -> Result<SystemResult> {
    let Some(manifest) = manifest else {
        let message = format!(
            "{} is a model: `--manifest` says what to measure it on",
            path.display()
        );
        return Err(CommandError::Usage(message).into());
    };
    let model = Model::load(path, compute)?;
    let lines = Manifest::read_with(manifest, max_bad)?;
    let measured = measure(&model, lines, manifest, max_bad)?;
    Ok(SystemResult {
        efficiency: Some(Efficiency::of(path, &model, &measured, compute)),
        unit: Some(measured.unit),
        recognised: measured.recognised,
    })
}

/// Reads what `evaluate --utterances` wrote.
fn read(path: &Path) -> Result<SystemResult> {
    let at = |reason: String| CommandError::Data(format!("{}: {reason}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| at(error.to_string()))?;
    let mut heard = SystemResult {
        recognised: Vec::new(),
        unit: None,
        efficiency: None,
    };
    let lines = text.lines().zip(1..);
    for (line, number) in lines.filter(|(line, _)| !line.trim().is_empty()) {
        let UtteranceRecord { recognised, unit } =
            serde_json::from_str(line).map_err(|error| at(format!("line {number}: {error}")))?;
        if !heard.recognised.is_empty() && unit != heard.unit {
            let told = format!("line {number} is of another kind of model than those before it");
            return Err(at(told).into());
        }
        heard.unit = unit;
        heard.recognised.push(recognised);
    }
    Ok(heard)
}

/// What errors are counted in: what was typed, or else what the sides say.
fn unit(sides: [&SystemResult; 2], typed: Option<ErrorUnit>) -> Result<ErrorUnit> {
    if let Some(unit) = typed {
        return Ok(unit);
    }
    match sides.map(|side| side.unit) {
        [Some(one), Some(other)] if one != other => {
            let message = "one model recognises keywords and the other transcribes: say with --unit what their errors are counted in";
            Err(CommandError::Usage(message.to_owned()).into())
        }
        [Some(unit), _] | [_, Some(unit)] => Ok(unit),
        [None, None] => {
            output::message(
                "neither file says what errors are counted in, as older ones do not: words are; --unit says otherwise",
            );
            Ok(ErrorUnit::Words)
        }
    }
}

/// Keeps the utterances that are on both sides, the second's in the order of the first's. Those on one side alone
/// are left out, as many as `max_bad` allows of all.
fn meet(
    first: &mut Vec<Recognised>,
    second: &mut Vec<Recognised>,
    max_bad: MaxBad,
) -> Result<LeftOut> {
    let refuse = |reason: String| Err(CommandError::Data(reason).into());
    let mut by_id = BTreeMap::new();
    for one in second.drain(..) {
        if let Some(twice) = by_id.insert(one.id.clone(), one) {
            return refuse(format!(
                "utterance {:?} stands twice in the second",
                twice.id
            ));
        }
    }
    let names: BTreeSet<&str> = first.iter().map(|one| one.id.as_str()).collect();
    if names.len() != first.len() {
        let told = format!(
            "{} utterances of the first have {} names: each stands once",
            first.len(),
            names.len()
        );
        return refuse(told);
    }
    let only_second: Vec<String> = by_id
        .keys()
        .filter(|id| !names.contains(id.as_str()))
        .cloned()
        .collect();
    let mut left_out = LeftOut::of(first.len() + only_second.len());
    let mut differs = None;
    first.retain(|one| match by_id.remove(&one.id) {
        Some(other) => {
            if other.reference != one.reference {
                differs.get_or_insert_with(|| one.id.clone());
            }
            second.push(other);
            true
        }
        None => {
            left_out.add(&one.id, Reason::OneSide, "it is only in the first");
            false
        }
    });
    if let Some(id) = differs {
        return refuse(format!("utterance {id:?}: the references differ"));
    }
    for id in only_second {
        left_out.add(&id, Reason::OneSide, "it is only in the second");
    }
    if first.is_empty() {
        return refuse("no utterance is on both sides".to_owned());
    }
    match left_out.check(max_bad) {
        Ok(()) => Ok(left_out),
        Err(error) => refuse(format!("utterances to compare: {error}")),
    }
}

fn text(comparison: &Comparison) -> String {
    let mut lines = Vec::new();
    for side in [&comparison.first, &comparison.second] {
        let interval = side.rate.interval.map_or(String::new(), |interval| {
            format!(
                " (95 %: {} to {})",
                percent(interval.low),
                percent(interval.high)
            )
        });
        let costs = side.efficiency.as_ref().map_or(String::new(), |it| {
            let megabytes = it.model_bytes as f64 / 1e6;
            format!(
                ", real-time factor {:.4}, {megabytes:.1} MB",
                it.real_time_factor
            )
        });
        let rate = side.rate.rate.map_or("undefined".to_owned(), percent);
        lines.push(format!("{}: {rate} wrong{interval}{costs}", side.name));
    }
    if let Some(Difference {
        value,
        interval,
        improves,
    }) = comparison.difference
    {
        lines.push(format!(
            "difference {:+.2} points (95 %: {:+.2} to {:+.2}); the second is better in {} of resampled sets",
            100.0 * value,
            100.0 * interval.low,
            100.0 * interval.high,
            percent(improves)
        ));
    }
    if let Some(test) = comparison.test {
        let name = match test.name {
            TestName::MatchedPairs => "matched pairs",
            TestName::Mcnemar => "McNemar",
        };
        let verdict = if comparison.significant {
            "more than chance, at 5 %"
        } else {
            "no more than chance, at 5 %"
        };
        lines.push(format!("p = {:.4} ({name}): {verdict}", test.p_value));
    }
    if !comparison.left_out.is_empty() {
        lines.push(comparison.left_out.sentence("utterances"));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_in_what_the_sides_say_unless_it_is_typed() {
        let side = |unit| SystemResult {
            recognised: Vec::new(),
            unit,
            efficiency: None,
        };
        let of = |first, second, typed| unit([&side(first), &side(second)], typed);
        let (words, whole) = (Some(ErrorUnit::Words), Some(ErrorUnit::Utterances));
        assert_eq!(of(whole, whole, None).unwrap(), ErrorUnit::Utterances);
        assert_eq!(of(None, whole, None).unwrap(), ErrorUnit::Utterances);
        assert_eq!(of(None, None, None).unwrap(), ErrorUnit::Words);
        assert!(of(words, whole, None).is_err());
        assert_eq!(of(words, whole, whole).unwrap(), ErrorUnit::Utterances);
    }

    #[test]
    fn a_file_says_its_unit_in_every_line_or_in_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("heard.jsonl");
        let line = |unit| {
            let recognised = recognised("a", "one");
            serde_json::to_string(&UtteranceRecord { recognised, unit }).unwrap()
        };
        let whole = Some(ErrorUnit::Utterances);
        for unit in [None, whole] {
            std::fs::write(&path, format!("{}\n\n{}\n", line(unit), line(unit))).unwrap();
            let heard = read(&path).unwrap();
            assert_eq!((heard.unit, heard.recognised.len()), (unit, 2));
        }
        std::fs::write(&path, format!("{}\n{}\n", line(None), line(whole))).unwrap();
        let told = read(&path).err().unwrap().to_string();
        assert!(told.contains("line 2 is of another kind"), "{told}");
    }

    fn recognised(id: &str, reference: &str) -> Recognised {
        Recognised {
            id: id.to_owned(),
            speaker: None,
            seconds: 1.0,
            reference: reference.to_owned(),
            hypothesis: String::new(),
        }
    }

    #[test]
    fn utterances_on_one_side_alone_are_left_out_within_a_bound() {
        let [a, b, c, d] = [("a", "one"), ("b", "two"), ("c", "one"), ("d", "two")]
            .map(|(id, reference)| recognised(id, reference));
        let met = |first: &[Recognised], second: &[Recognised], max_bad| {
            let (mut first, mut second) = (first.to_vec(), second.to_vec());
            let left_out = meet(&mut first, &mut second, max_bad);
            left_out.map(|left_out| (first, second, left_out))
        };
        let all = [a.clone(), b.clone(), c.clone()];
        let other = [d.clone(), b.clone(), a.clone()];
        let (first, second, left_out) = met(&all, &other, MaxBad::Default).unwrap();
        assert_eq!(first, [a.clone(), b.clone()]);
        assert_eq!(second, first);
        assert_eq!((left_out.utterances, left_out.of), (2, 4));
        let same = met(&all, &all, MaxBad::Count(0)).unwrap();
        assert!(same.2.is_empty());

        let refused = |first: &[Recognised], second: &[Recognised]| {
            met(first, second, MaxBad::Count(1))
                .unwrap_err()
                .to_string()
        };
        let told = refused(&all, &other);
        assert!(told.contains("2 of 4") && told.contains("\"c\""), "{told}");
        assert!(refused(&all, &[d]).contains("no utterance is on both sides"));
        let twice = [a.clone(), a.clone()];
        assert!(refused(&all, &twice).contains("\"a\" stands twice"));
        assert!(refused(&twice, &all).contains("1 names"));
        let differs = [a, recognised("b", "x"), c];
        assert!(refused(&all, &differs).contains("\"b\": the references differ"));
    }
}
