//! `compare`: whether one model is better than another on the same utterances, or by chance.

use std::{collections::BTreeMap, path::Path};

use anyhow::Result;
use serde::Serialize;
use speech::{
    manifest::Manifest,
    score::{
        bootstrap::{self, Difference},
        details::{Details, Rate, Recognised, Unit},
        significance::{self, Name, Test},
    },
};
use worker::{compute::Compute, inference::Model};

use super::evaluate::{Efficiency, compute, measure};
use crate::{
    args,
    exit::Failure,
    output::{self, percent},
};

/// What a difference is called significant below.
const SIGNIFICANT: f64 = 0.05;

#[derive(Debug, Serialize)]
struct Comparison {
    unit: Unit,
    first: Side,
    second: Side,
    /// Of the error rates; absent where one of them is undefined.
    difference: Option<Difference>,
    /// Absent for fewer than two utterances.
    test: Option<Test>,
    significant: bool,
}

#[derive(Debug, Serialize)]
struct Side {
    /// As it was typed.
    name: String,
    #[serde(flatten)]
    rate: Rate,
    /// Of a model that was measured here.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    efficiency: Option<Efficiency>,
}

/// What one side said.
struct Heard {
    recognised: Vec<Recognised>,
    /// Absent where it was read from a file.
    unit: Option<Unit>,
    efficiency: Option<Efficiency>,
}

pub fn run(args: args::Compare) -> Result<()> {
    let models = [&args.first, &args.second].map(|path| !path.is_file());
    let compute = match models {
        [false, false] => None,
        _ => Some(compute(args.device)?),
    };
    let hear = |path: &Path| match (&compute, path.is_file()) {
        (Some(compute), false) => model(path, args.manifest.as_deref(), compute),
        _ => read(path),
    };
    let (first, second) = (hear(&args.first)?, hear(&args.second)?);
    let unit = unit([&first, &second])?;
    let second_recognised = in_order(&first.recognised, &second.recognised)?;
    let samples = [&first.recognised, &second_recognised].map(|all| unit.samples(all));
    let test = match unit {
        Unit::Utterances => Some(significance::mcnemar(&samples[0], &samples[1])),
        Unit::Words | Unit::Characters => significance::matched_pairs(&samples[0], &samples[1]),
    };
    let side = |path: &Path, heard: Heard| Side {
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
    };
    output::print(args.output.format, &comparison, text)
}

/// Measures the model in a folder.
fn model(path: &Path, manifest: Option<&Path>, compute: &Compute) -> Result<Heard> {
    let Some(manifest) = manifest else {
        let message = format!(
            "{} is a model: `--manifest` says what to measure it on",
            path.display()
        );
        return Err(Failure::Usage(message).into());
    };
    let model = Model::load(path, compute)?;
    let measured = measure(&model, Manifest::read(manifest)?, manifest)?;
    Ok(Heard {
        efficiency: Some(Efficiency::of(path, &model, &measured, compute)),
        unit: Some(measured.unit),
        recognised: measured.recognised,
    })
}

/// Reads what `evaluate --utterances` wrote.
fn read(path: &Path) -> Result<Heard> {
    let at = |reason: String| Failure::Data(format!("{}: {reason}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| at(error.to_string()))?;
    let lines = text
        .lines()
        .zip(1..)
        .filter(|(line, _)| !line.trim().is_empty());
    let parse = |(line, number): (&str, usize)| {
        serde_json::from_str(line).map_err(|error| at(format!("line {number}: {error}")))
    };
    Ok(Heard {
        recognised: lines.map(parse).collect::<Result<_, Failure>>()?,
        unit: None,
        efficiency: None,
    })
}

/// What errors are counted in: what a model that was measured says, and otherwise words.
fn unit(sides: [&Heard; 2]) -> Result<Unit> {
    match sides.map(|side| side.unit) {
        [Some(one), Some(other)] if one != other => {
            let message = "one model recognises keywords and the other transcribes: their errors cannot be compared";
            Err(Failure::Usage(message.to_owned()).into())
        }
        [Some(unit), _] | [_, Some(unit)] => Ok(unit),
        [None, None] => Ok(Unit::Words),
    }
}

/// The second's utterances in the order of the first's: they have to be the same ones.
fn in_order(first: &[Recognised], second: &[Recognised]) -> Result<Vec<Recognised>> {
    let by_id: BTreeMap<&str, &Recognised> =
        second.iter().map(|one| (one.id.as_str(), one)).collect();
    let refuse = |reason: String| Err(Failure::Data(reason).into());
    if by_id.len() != second.len() || first.len() != second.len() {
        return refuse(format!(
            "{} utterances stand against {} of {} names: both sides need the same ones, each once",
            first.len(),
            second.len(),
            by_id.len()
        ));
    }
    let mut ordered = Vec::with_capacity(first.len());
    for one in first {
        match by_id.get(one.id.as_str()) {
            Some(&other) if other.reference == one.reference => ordered.push(other.clone()),
            Some(_) => {
                return refuse(format!("utterance {}: the references differ", one.id));
            }
            None => return refuse(format!("utterance {} is only on one side", one.id)),
        }
    }
    Ok(ordered)
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
            Name::MatchedPairs => "matched pairs",
            Name::Mcnemar => "McNemar",
        };
        let verdict = match comparison.significant {
            true => "more than chance, at 5 %",
            false => "no more than chance, at 5 %",
        };
        lines.push(format!("p = {:.4} ({name}): {verdict}", test.p_value));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn both_sides_need_the_same_utterances() {
        let (a, b) = (recognised("a", "one"), recognised("b", "two"));
        let ordered = in_order(&[a.clone(), b.clone()], &[b.clone(), a.clone()]).unwrap();
        assert_eq!(ordered, [a.clone(), b.clone()]);
        let refused = |first: &[Recognised], second: &[Recognised]| {
            in_order(first, second).unwrap_err().to_string()
        };
        let pair = [a.clone(), b.clone()];
        assert!(refused(&pair, &pair[..1]).contains("2 utterances stand against 1"));
        assert!(refused(&pair, &[a.clone(), a.clone()]).contains("of 1 names"));
        assert!(
            refused(&pair, &[a.clone(), recognised("c", "x")]).contains("b is only on one side")
        );
        assert!(refused(&pair, &[a, recognised("b", "x")]).contains("b: the references differ"));
    }
}
