//! The decoder of `evaluate` and `transcribe`: the model's decoder bundle, overridden by command-line options.

use std::{path::Path, sync::Arc};

use speech::{
    decode::{DecodeConfig, DecoderBundle, Given, WordSource},
    lexicon::Lexicon,
    lm::NgramModel,
    text::UnitKind,
    tolerance::MaxBad,
};
use worker::inference::Model;

use crate::{
    args,
    exit::{CommandError, Result},
    output,
};

/// Sets the model's decoder. A model that was left with none gets one when anything of it is typed:
/// then without language model and lexicon but those that are named. Words are written as the model
/// writes them; what of them has no effect is told on standard error. No more than `max_bad` words of a
/// lexicon may be of none.
pub(crate) fn set(model: &mut Model, typed: &args::DecodingArgs, max_bad: MaxBad) -> Result<()> {
    let args::DecodingArgs {
        greedy,
        lm,
        lexicon,
        beam,
        lm_weight,
        word_bonus,
        hot_words,
        hot_boost,
    } = typed;
    let is_typed = lm.is_some()
        || lexicon.is_some()
        || beam.is_some()
        || lm_weight.is_some()
        || word_bonus.is_some()
        || !hot_words.is_empty()
        || hot_boost.is_some();
    if model.recipe().vocabulary.kind == UnitKind::Classes {
        if is_typed {
            let told = "this model names classes: there is nothing to search in, so that only --greedy may be said";
            return Err(CommandError::Usage(told.to_owned()).into());
        }
        return Ok(());
    }
    if *greedy {
        model.decode_with(None)?;
        return Ok(());
    }
    if !is_typed {
        return Ok(());
    }
    let mut bundle = model.bundle().cloned().unwrap_or_else(|| DecoderBundle {
        config: DecodeConfig {
            language_model: WordSource::None,
            lexicon: WordSource::None,
            ..DecodeConfig::default()
        },
        language_model: None,
        lexicon: None,
    });
    let is_none = |path: &Path| path == Path::new("none");
    if let Some(path) = lm {
        bundle.language_model = if is_none(path) {
            None
        } else {
            Some(Arc::new(NgramModel::read(path)?))
        };
    }
    if let Some(path) = lexicon {
        bundle.lexicon = if is_none(path) {
            None
        } else {
            Some(Lexicon::read(path)?)
        };
    }
    let config = &mut bundle.config;
    config.beam = beam.unwrap_or(config.beam);
    config.lm_weight = lm_weight.unwrap_or(config.lm_weight);
    config.word_bonus = word_bonus.unwrap_or(config.word_bonus);
    config.hot_boost = hot_boost.unwrap_or(config.hot_boost);
    config.hot_words.extend(hot_words.iter().cloned());
    // The settings were typed, and are not a job's.
    config
        .check()
        .map_err(|error| CommandError::Usage(error.to_string()))?;
    if hot_boost.is_some() && config.hot_words.is_empty() {
        output::message("--hot-boost has no effect: there are no hot words");
    }
    if lm_weight.is_some() && bundle.language_model.is_none() {
        output::message("--lm-weight has no effect: there is no language model");
    }
    let given = Given {
        language_model: lm.is_some(),
        lexicon: lexicon.is_some(),
        // A lexicon that was typed may exclude those of the model.
        hot_words: true,
    };
    let recipe = model.recipe();
    for remark in bundle.fit(given, &recipe.text, &recipe.vocabulary, max_bad)? {
        output::message(&remark);
    }
    model.decode_with(Some(bundle))?;
    Ok(())
}

/// Has the model's decoder give so many hypotheses.
pub(crate) fn widen(model: &mut Model, n_best: usize) -> Result<()> {
    let Some(mut bundle) = model.bundle().cloned() else {
        let told = "greedy decoding has one hypothesis: leave out --n-best, or say --beam";
        return Err(CommandError::Usage(told.to_owned()).into());
    };
    bundle.config.n_best = n_best;
    bundle
        .config
        .check()
        .map_err(|error| CommandError::Usage(error.to_string()))?;
    model.decode_with(Some(bundle))?;
    Ok(())
}
