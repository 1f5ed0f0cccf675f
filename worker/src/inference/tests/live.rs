//! A listener hears what the same sound gives by itself, however it comes.

use speech::{
    audio::Audio,
    decode::{DecodeConfig, DecoderBundle, Hypothesis, WordSource},
    features::Normalization,
};

use super::*;

/// A model that only looks back, and says something most of the time.
fn listening(decoded: bool) -> Model {
    let mut recipe = recipe(Head::Ctc);
    recipe.features.normalization = Normalization::None;
    recipe.features.deltas = 1;
    recipe.features.stack = 2;
    let spec = recipe.model_spec().unwrap();
    let mut weights = spec.initialize(3);
    let bias = spec.parameter("head.bias").unwrap().range();
    // Against the blank, and the space that comes behind it: of those alone nothing is said.
    weights[bias.start] -= 5.0;
    weights[bias.start + 1] -= 5.0;
    let mut model = Model::from_parts(recipe, &weights, &compute()).unwrap();
    if decoded {
        let config = DecodeConfig {
            order: 2,
            beam: 4,
            lexicon: WordSource::None,
            ..DecodeConfig::default()
        };
        let kept = DecoderBundle::prepare(
            &config,
            &["no", "yes no", "no no"],
            &speech::corpus_roots::CorpusRoots::anywhere(),
        )
        .unwrap();
        model.decode_with(Some(kept)).unwrap();
    }
    model
}

fn sound(seconds: usize) -> Vec<f32> {
    let mut stream = speech::random::Stream::new(4, &[]);
    let loudness = |at: usize| 0.05 + 0.3 * (at as f64 / 4000.0).sin().abs();
    (0..seconds * 16_000)
        .map(|at| (stream.normal() * loudness(at)).clamp(-1.0, 1.0) as f32)
        .collect()
}

fn listen(model: &Model, samples: &[f32], at_once: usize) -> Vec<Utterance> {
    let mut listener = model.listen().unwrap();
    let mut heard = Vec::new();
    for some in samples.chunks(at_once) {
        heard.extend(listener.push(some).unwrap());
    }
    heard.extend(listener.finish().unwrap());
    heard
}

fn offline(model: &Model, samples: &[f32]) -> Vec<Hypothesis> {
    let audio = Audio {
        sample_rate: 16_000,
        samples: samples.to_vec(),
    };
    let features = model.features(&[audio]).remove(0).unwrap();
    let heard = model.recognise(&[&features]).unwrap();
    model.hypotheses(&heard).unwrap().remove(0)
}

#[test]
fn an_utterance_that_was_listened_to_is_that_of_its_samples_by_themselves() {
    let samples = sound(41);
    for decoded in [false, true] {
        let model = listening(decoded);
        let heard = listen(&model, &samples, 777);
        assert!(!heard.is_empty());
        for utterance in &heard {
            let at = |seconds: f64| (seconds * 16_000.0).round() as usize;
            assert!(utterance.end - utterance.start <= 30.1);
            let alone = offline(&model, &samples[at(utterance.start)..at(utterance.end)]);
            let found = &utterance.hypotheses;
            assert_eq!(found[0].text, alone[0].text);
            assert_eq!(found[0].words, alone[0].words);
            assert!((found[0].score - alone[0].score).abs() < 1e-3);
        }
        assert_eq!(listen(&model, &samples, 16_000), heard);
        assert_eq!(listen(&model, &samples, samples.len()), heard);
    }
}

#[test]
fn silence_says_nothing_and_ends_nothing() {
    let model = listening(false);
    let mut listener = model.listen().unwrap();
    assert_eq!(listener.partial(), "");
    assert!(listener.push(&[]).unwrap().is_empty());
    assert_eq!(listener.seconds(), 0.0);
    assert_eq!(listener.finish().unwrap(), None);
}

#[test]
fn a_model_that_waits_for_the_end_cannot_listen_and_says_why() {
    let mut recipe = recipe(Head::Ctc);
    let refused = |recipe: &Recipe| {
        let weights = recipe.model_spec().unwrap().initialize(1);
        let model = Model::from_parts(recipe.clone(), &weights, &compute()).unwrap();
        model.listen().err().unwrap().to_string()
    };
    let message = refused(&recipe);
    assert!(
        message.contains("features.normalization is \"utterance\""),
        "{message}"
    );
    recipe.features.normalization = Normalization::None;
    recipe.model.bidirectional = true;
    let message = refused(&recipe);
    assert!(message.contains("model.bidirectional = false"), "{message}");
}
