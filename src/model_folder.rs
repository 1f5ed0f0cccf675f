//! The folder of a trained model.

use std::path::Path;

use speech::{
    recipe::{self, Recipe},
    regular_file,
};

use crate::exit::{CommandError, Result};

/// The recipe of the model in a run's `final` folder.
pub(crate) fn recipe(folder: &Path) -> Result<Recipe> {
    let path = folder.join("recipe.json");
    let text = regular_file::read_to_string(&path, recipe::MAX_BYTES).map_err(|error| {
        CommandError::Data(format!(
            "{}: cannot be read: {error}; a model is a run's `final` folder",
            path.display()
        ))
    })?;
    Ok(Recipe::from_json(&text)?)
}
