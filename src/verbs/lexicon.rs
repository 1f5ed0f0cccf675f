//! `lexicon`: checks pronunciations against transcripts.

use speech::{
    escape::escape,
    lexicon::{
        coverage::{Coverage, SpokenTranscript},
        pronunciations::Pronunciations,
    },
    manifest::Manifest,
};

use crate::{
    args,
    exit::{CommandError, Result},
    output, transcript_style,
};

/// Rows of each kind that a terminal is told; all of them are in the JSON.
const SHOWN_ROWS: usize = 20;

pub(super) fn run(verb: args::LexiconCommand) -> Result<()> {
    match verb {
        args::LexiconCommand::Check(args) => check(&args),
    }
}

fn check(args: &args::LexiconCheck) -> Result<()> {
    let style = transcript_style::of(args.normalize_like.as_deref())?;
    let lexicon = Pronunciations::read(&args.lexicon)?;
    let mut transcripts = Vec::new();
    for path in &args.manifests {
        for utterance in Manifest::read(path)?.utterances {
            let text = match &style {
                Some(style) => style.normalize(&utterance.text),
                None => utterance.text,
            };
            transcripts.push((utterance.id, text, utterance.duration));
        }
    }
    let transcripts = transcripts
        .iter()
        .map(|(id, text, seconds)| SpokenTranscript {
            id,
            text,
            seconds: *seconds,
        });
    let found = Coverage::of(&lexicon, transcripts);
    output::print(args.output.format, &found, text)?;
    if found.missing.is_empty() {
        return Ok(());
    }
    let occurrences: u64 = found.missing.iter().map(|one| one.count).sum();
    let mut told = format!(
        "{}: {} words of the transcripts ({occurrences} of {} occurrences) have no pronunciation: add them, or take the \
         utterances out",
        args.lexicon.display(),
        found.missing.len(),
        found.words
    );
    let other_case = found.missing.iter().filter(|one| one.other_case.is_some());
    match other_case.count() {
        0 => {}
        count => {
            told += &format!(
                "; the lexicon has {count} of them in another case: --normalize-like JOB.toml writes transcripts with \
                 the job's `text.case`"
            );
        }
    }
    Err(CommandError::Data(told).into())
}

fn text(found: &Coverage) -> String {
    let mut lines = vec![
        format!(
            "{} words, {} pronunciations, {} phones ({})",
            found.lexicon_words,
            found.pronunciations,
            found.phones.len(),
            found.format.name()
        ),
        format!(
            "{} utterances with {} words, {} of them distinct",
            found.utterances, found.words, found.distinct_words
        ),
    ];
    let mut list = |title: &str, rows: Vec<String>| {
        if rows.is_empty() {
            return;
        }
        lines.push(format!("{title}: {}", rows.len()));
        let more = rows.len().saturating_sub(SHOWN_ROWS);
        let shown = rows.into_iter().take(SHOWN_ROWS);
        lines.extend(shown.map(|row| format!("  {}", escape(&row))));
        if more > 0 {
            lines.push(format!("  and {more} more; `-o json` has all of them"));
        }
    };
    let missing = found.missing.iter().map(|one| {
        let other = one.other_case.as_ref();
        let other = other.map_or(String::new(), |other| format!("; the lexicon has {other}"));
        format!(
            "{} ({}), first in {}{other}",
            one.word, one.count, one.utterance
        )
    });
    list("words without pronunciation", missing.collect());
    list(
        "phones that no word of the transcripts has",
        found.unseen_phones.clone(),
    );
    let rare = found.rare_phones.iter();
    list(
        "phones that stand in one line alone",
        rare.map(|one| format!("{} in line {}", one.phone, one.line))
            .collect(),
    );
    let too_short = found.too_short.iter();
    list(
        "utterances that are too short for three states a phone",
        too_short
            .map(|one| {
                format!(
                    "{}: {} frames of 10 ms, and {} are needed",
                    one.utterance, one.frames, one.needed
                )
            })
            .collect(),
    );
    let homophones = found.homophones.iter();
    list(
        "pronunciations that several words have",
        homophones
            .map(|one| format!("{}: {}", one.phones, one.words.join(", ")))
            .collect(),
    );
    let duplicates = found.duplicates.iter();
    list(
        "lines that say what an earlier one has said",
        duplicates
            .map(|one| {
                format!(
                    "{} in line {}, as in line {}",
                    one.word, one.line, one.first
                )
            })
            .collect(),
    );
    lines.join("\n")
}
