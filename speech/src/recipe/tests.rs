//! Recipes that survive JSON, and those that cannot be.

use super::*;
use crate::random::Stream;

fn recipe() -> Recipe {
    Recipe {
        features: FeaturesConfig {
            stack: 3,
            ..FeaturesConfig::default()
        },
        augment: AugmentConfig {
            freq_masks: 2,
            ..AugmentConfig::default()
        },
        model: ModelConfig {
            head: Head::Ctc,
            dropout: 0.3,
            ..ModelConfig::default()
        },
        text: TextConfig::default(),
        vocabulary: Vocabulary::characters(["YES NO"]).unwrap(),
        stats: None,
        normalize: Normalize::Labels,
        label_smoothing: 0.0,
        class_weights: Vec::new(),
        seed: u64::MAX,
    }
}

fn message(recipe: &Recipe) -> String {
    recipe.validate().unwrap_err().to_string()
}

#[test]
fn what_is_written_is_read_to_the_bit() {
    let mut stream = Stream::new(1, &[]);
    let mut draw = || {
        (0..40)
            .map(|_| stream.normal().exp() * 1e-3)
            .collect::<Vec<f64>>()
    };
    let (mean, variance) = (draw(), draw());
    let mut recipe = recipe();
    recipe.features.normalization = Normalization::Global;
    recipe.stats = Some(GlobalStats {
        mean,
        variance,
        frames: 7,
    });
    let json = recipe.to_json();
    assert!(json.starts_with("{\n  \"format\": 2,\n"));
    assert_eq!(Recipe::from_json(&json).unwrap(), recipe);
    assert_eq!(Recipe::from_json(&json).unwrap().to_json(), json);
    let spec = recipe.model_spec().unwrap();
    assert_eq!((spec.inputs, spec.outputs), (120, 7));
    assert_eq!(recipe.front_end().unwrap().dims(), 120);
}

#[test]
fn parts_that_do_not_fit_are_named() {
    let with = |change: fn(&mut Recipe)| {
        let mut recipe = recipe();
        change(&mut recipe);
        recipe
    };
    let layers = with(|recipe| recipe.model.layers = 0);
    assert_eq!(
        message(&layers),
        "model.layers is 0, but has to be between 1 and 16"
    );
    let layers = with(|recipe| recipe.model.layers = 17);
    assert_eq!(
        message(&layers),
        "model.layers is 17, but has to be between 1 and 16"
    );
    let hidden = with(|recipe| recipe.model.hidden = 9000);
    assert_eq!(
        message(&hidden),
        "model.hidden is 9000, but has to be between 1 and 8192"
    );
    for dropout in [1.0, -0.1, f64::NAN] {
        let mut recipe = recipe();
        recipe.model.dropout = dropout;
        assert!(message(&recipe).starts_with("model.dropout is "));
    }
    let keyword = with(|recipe| recipe.model.head = Head::Keyword);
    assert_eq!(
        message(&keyword),
        "model.head is \"keyword\", which needs a vocabulary of classes, and the recipe's is of characters"
    );
    let classes = with(|recipe| recipe.vocabulary = Vocabulary::classes(["a"]).unwrap());
    assert!(
        message(&classes)
            .starts_with("model.head is \"ctc\", which needs a vocabulary of characters")
    );
    let units = with(|recipe| recipe.text.units = Units::Words);
    assert_eq!(
        message(&units),
        "model.head is \"ctc\", which needs a vocabulary of words, and the recipe's is of characters"
    );
    assert!(message(&with(|recipe| recipe.text.units = Units::Bytepair)).starts_with("text.size "));
    assert!(message(&with(|recipe| recipe.features.stack = 0)).starts_with("features.stack "));
    assert!(
        message(&with(|recipe| recipe.augment.time_fraction = 2.0))
            .starts_with("augment.time_fraction ")
    );
    let narrow = GlobalStats {
        mean: vec![0.0],
        variance: vec![1.0],
        frames: 1,
    };
    let mut stats = with(|recipe| recipe.features.normalization = Normalization::Global);
    assert!(matches!(
        stats.front_end(),
        Err(RecipeError::FrontEnd(FrontEndError::MissingStats))
    ));
    stats.stats = Some(narrow);
    assert!(message(&stats).contains("statistics"));
    for recipe in [layers, keyword, stats] {
        assert!(recipe.model_spec().is_err());
        assert_eq!(
            Recipe::from_json(&recipe.to_json())
                .unwrap_err()
                .to_string(),
            message(&recipe)
        );
    }
}

#[test]
fn what_cannot_be_read_is_named_by_its_field() {
    let json = recipe().to_json();
    let error = |from: &str, to: &str| {
        assert!(json.contains(from), "{from} is in the recipe");
        Recipe::from_json(&json.replace(from, to))
            .unwrap_err()
            .to_string()
    };
    assert!(
        error("\"layers\": 2", "\"layers\": \"2\"")
            .contains("at `model.layers`: invalid type: string \"2\"")
    );
    assert!(
        error("\"layers\"", "\"layer\"")
            .contains("at `model.layer`: unknown field `layer`, expected one of")
    );
    assert!(error("\"seed\"", "\"seeds\"").contains("at `seeds`: unknown field `seeds`"));
    let field = error("\"kind\": \"log-mel\"", "\"kind\": \"fbank\"");
    assert!(
        field.contains("at `features.kind`: unknown variant `fbank`, expected `log-mel` or `mfcc`"),
        "{field}"
    );
    assert!(error("\"format\": 2,", "").contains("missing field `format`"));
    assert!(
        error("\"E\"", "\"X\"")
            .contains("at `vocabulary`: `units` of a vocabulary is out of order")
    );
    assert!(
        Recipe::from_json(&json[..90])
            .unwrap_err()
            .to_string()
            .starts_with("the recipe is not JSON: EOF")
    );
    assert!(Recipe::from_json(&format!("{json}}}")).is_err());
}

#[test]
fn a_recipe_of_another_format_is_refused_before_its_fields_are() {
    let json = recipe()
        .to_json()
        .replace("\"format\": 2", "\"format\": 3")
        .replace("\"seed\"", "\"seeds\"");
    assert!(matches!(
        Recipe::from_json(&json),
        Err(RecipeError::Format { found: 3 })
    ));
    let json = json.replace("\"seeds\"", "\"seed\"");
    assert!(
        serde_json::from_str::<Recipe>(&json)
            .unwrap_err()
            .to_string()
            .contains("`format` is 3")
    );
}

#[test]
fn a_keyword_is_the_class_that_looks_the_same() {
    let with = |classes: &[&str]| Recipe {
        vocabulary: Vocabulary::classes(classes).unwrap(),
        ..recipe()
    };
    let trained = with(&["seven", "turn on"]);
    for (text, class) in [
        ("seven", "seven"),
        (" seven\n", "seven"),
        ("turn  on", "turn on"),
        ("eight ", "eight"),
    ] {
        assert_eq!(trained.reference(text), class);
    }
    // This is a model whose classes nobody wrote in one way.
    let before = with(&["eight ", "seven", "seven "]);
    for (text, class) in [
        ("seven ", "seven "),
        ("seven", "seven"),
        ("eight", "eight "),
        ("\tseven", "seven"),
    ] {
        assert_eq!(before.reference(text), class);
    }
    assert_eq!(recipe().reference(" YES "), " YES ");
}
