//! A model's folder: `recipe.json`, and `model.safetensors` for the recipe that the seeds were made by.
#![no_main]

mod bounded;

use std::sync::OnceLock;

use bounded::bounded;
use libfuzzer_sys::fuzz_target;
use speech::{model::ModelSpec, recipe::Recipe, weights};

/// The recipe in `seeds/model/recipe.json`.
fn spec() -> &'static ModelSpec {
    static SPEC: OnceLock<ModelSpec> = OnceLock::new();
    SPEC.get_or_init(|| {
        let recipe = Recipe::from_json(include_str!("../seeds/model/recipe.json"));
        recipe.expect("a recipe").model_spec().expect("a model")
    })
}

fuzz_target!(|bytes: &[u8]| {
    spec();
    // A recipe's network is a list of its parameters, however many elements they would have; the vector of
    // weights is made when a file holds as many.
    bounded(bytes, 256, 4 << 20, || {
        if let Ok(recipe) = std::str::from_utf8(bytes)
            .map_err(|_| ())
            .and_then(|text| Recipe::from_json(text).map_err(|_| ()))
        {
            let again = Recipe::from_json(&recipe.to_json()).expect("what was written");
            assert_eq!(again.to_json(), recipe.to_json());
            let _ = recipe.model_spec();
        }
        if let Ok(values) = weights::parse(bytes, spec()) {
            assert_eq!(values.len(), spec().elements());
        }
    });
});
